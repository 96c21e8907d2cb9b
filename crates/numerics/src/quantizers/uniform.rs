//! The uniform quantizer of ONNX's QuantizeLinear and DequantizeLinear, one scale and zero point for a slice.
//! Does not know where its range comes from.

use std::ops::RangeInclusive;

use serde::{Deserialize, Serialize};

use super::QuantizerError;
use crate::formats::IntFormat;
use crate::range::Range;

/// 1.5 * 2^23: adding it to a float of magnitude below 2^22 rounds that to an integer, half to even, in its low bits.
const MAGIC: f32 = 12_582_912.0;

/// Whether the zero point is free or sits in the middle of the codes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Symmetry {
    /// Scale and zero point follow both ends of the range.
    Affine,
    /// The zero point is 0 (unsigned formats: the middle code), the scale follows the largest magnitude.
    Symmetric,
}

/// `x -> (clip(rne(x / scale) + zero_point, qmin, qmax) - zero_point) * scale`, every step as the operator text of
/// ONNX defines it for float32. The scale is finite and above 0, the zero point a code of the format.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "RawUniform")]
pub struct Uniform {
    format: IntFormat,
    scale: f32,
    zero_point: i32,
}

impl Uniform {
    /// A quantizer from its parameters.
    pub fn new(format: IntFormat, scale: f32, zero_point: i32) -> Result<Self, QuantizerError> {
        if !(scale.is_finite() && scale > 0.0) {
            return Err(QuantizerError::Scale(scale));
        }
        if !format.codes().contains(&zero_point) {
            return Err(QuantizerError::ZeroPoint { zero_point, format });
        }
        Ok(Self { format, scale, zero_point })
    }

    /// The quantizer that spends its codes on `range`.
    ///
    /// Affine: the range is extended to hold 0, `s = (hi - lo) / (2^b - 1)`, `z = clip(rne(qmin - lo / s))`.
    /// Symmetric: `s = absmax / (2^(b-1) - 1)`, `z` = 0 for signed formats, `2^(b-1)` for unsigned ones.
    /// A range that is only 0 gives scale 1 (every code then is exact); any other scale is at least the smallest
    /// normal float, since runtimes may flush subnormal numbers.
    pub fn fit(range: Range, format: IntFormat, symmetry: Symmetry) -> Self {
        let range = range.with_zero();
        match symmetry {
            Symmetry::Affine => {
                let (low, high) = (f64::from(range.min()), f64::from(range.max()));
                let scale = floored((high - low) / (format.levels() - 1) as f64);
                let zero_point = (f64::from(format.qmin()) - low / f64::from(scale)).round_ties_even();
                Self { format, scale, zero_point: (zero_point as i32).clamp(format.qmin(), format.qmax()) }
            }
            Symmetry::Symmetric => {
                let half = format.levels() / 2;
                let scale = floored(f64::from(range.absmax()) / (half - 1) as f64);
                Self { format, scale, zero_point: format.qmin() + half as i32 }
            }
        }
    }

    /// The format of the codes.
    pub fn format(&self) -> IntFormat {
        self.format
    }

    /// The distance of two levels.
    pub fn scale(&self) -> f32 {
        self.scale
    }

    /// The code of the value 0.
    pub fn zero_point(&self) -> i32 {
        self.zero_point
    }

    /// All codes, ascending.
    pub fn codes(&self) -> RangeInclusive<i32> {
        self.format.codes()
    }

    /// The value of every code, ascending: at most `2^bits` numbers.
    pub fn levels(&self) -> Vec<f32> {
        self.codes().map(|code| self.decode(code)).collect()
    }

    /// The values between which nothing is clipped by more than half a step: the smallest and the largest level.
    pub fn range(&self) -> Range {
        let level = |code| f64::from(self.decode(code));
        Range::between(level(self.format.qmin()), level(self.format.qmax()))
    }

    /// Replaces each value by its level: quantizes and dequantizes. Infinite values saturate; NaN, which ONNX leaves
    /// undefined, stays NaN so that a simulation shows it. Zeros come out as `+0.0`.
    pub fn fake(&self, values: &mut [f32]) {
        let kernel = Kernel::of(self);
        for value in values {
            *value = kernel.fake(*value);
        }
    }

    /// [`fake`](Self::fake) from one slice into another; of slices of different length the common beginning is used.
    pub fn fake_into(&self, values: &[f32], out: &mut [f32]) {
        let kernel = Kernel::of(self);
        for (out, &value) in out.iter_mut().zip(values) {
            *out = kernel.fake(value);
        }
    }

    /// The code of each value; NaN gets the zero point.
    pub fn encode(&self, values: &[f32]) -> Vec<i32> {
        let kernel = Kernel::of(self);
        values.iter().map(|&value| kernel.step(value) + self.zero_point).collect()
    }

    /// The code of one value, as [`encode`](Self::encode).
    pub fn code(&self, value: f32) -> i32 {
        Kernel::of(self).step(value) + self.zero_point
    }

    /// The value of a code: `(code - zero_point) * scale`.
    pub fn decode(&self, code: i32) -> f32 {
        (i64::from(code) - i64::from(self.zero_point)) as f32 * self.scale
    }

    /// The sum of squared errors over a slice, in a fixed order that does not depend on the machine. Non-finite
    /// values make it non-finite.
    pub fn squared_error(&self, values: &[f32]) -> f64 {
        const LANES: usize = 8;
        let kernel = Kernel::of(self);
        let squared = |value: f32| {
            let error = f64::from(value - kernel.fake(value));
            error * error
        };
        let mut lanes = [0.0; LANES];
        let chunks = values.chunks_exact(LANES);
        let rest: f64 = chunks.remainder().iter().map(|&value| squared(value)).sum();
        for chunk in chunks {
            for (lane, &value) in lanes.iter_mut().zip(chunk) {
                *lane += squared(value);
            }
        }
        lanes.iter().sum::<f64>() + rest
    }
}

fn floored(scale: f64) -> f32 {
    if scale == 0.0 { 1.0 } else { (scale as f32).max(f32::MIN_POSITIVE) }
}

/// The loop body, with the clip moved before the rounding: its bounds are integers, so both orders give the same
/// code, and after it the magic constant is exact.
#[derive(Clone, Copy)]
struct Kernel {
    scale: f32,
    low: f32,
    high: f32,
}

impl Kernel {
    fn of(quantizer: &Uniform) -> Self {
        let step = |code: i32| (code - quantizer.zero_point) as f32;
        Self { scale: quantizer.scale, low: step(quantizer.format.qmin()), high: step(quantizer.format.qmax()) }
    }

    /// `x / s`, clipped; NaN passes, because no comparison with it holds.
    #[inline]
    fn clipped(self, value: f32) -> f32 {
        let steps = value / self.scale;
        let steps = if self.low > steps { self.low } else { steps };
        if self.high < steps { self.high } else { steps }
    }

    #[inline]
    fn fake(self, value: f32) -> f32 {
        (self.clipped(value) + MAGIC - MAGIC) * self.scale
    }

    /// The code less the zero point.
    #[inline]
    fn step(self, value: f32) -> i32 {
        let steps = self.clipped(value);
        let steps = if steps.is_nan() { 0.0 } else { steps };
        (steps + MAGIC).to_bits() as i32 - MAGIC.to_bits() as i32
    }
}

#[derive(Deserialize)]
struct RawUniform {
    format: IntFormat,
    scale: f32,
    zero_point: i32,
}

impl TryFrom<RawUniform> for Uniform {
    type Error = QuantizerError;

    fn try_from(raw: RawUniform) -> Result<Self, QuantizerError> {
        Self::new(raw.format, raw.scale, raw.zero_point)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Signedness::{self, Signed, Unsigned};
    use crate::test_data::{any_floats, normal};

    fn format(bits: u8, signedness: Signedness) -> IntFormat {
        IntFormat::new(bits, signedness).unwrap()
    }

    /// The operator text, word for word.
    fn naive_code(quantizer: &Uniform, value: f32) -> i32 {
        let steps = (value / quantizer.scale()).round_ties_even() as i64;
        let code = steps.saturating_add(quantizer.zero_point().into());
        code.clamp(quantizer.format().qmin().into(), quantizer.format().qmax().into()) as i32
    }

    fn naive(quantizer: &Uniform, value: f32) -> f32 {
        (naive_code(quantizer, value) - quantizer.zero_point()) as f32 * quantizer.scale()
    }

    #[test]
    fn kernel_is_the_operator_bit_for_bit() {
        let specials = [0.0, -0.0, f32::INFINITY, f32::NEG_INFINITY, f32::MAX, f32::MIN, f32::MIN_POSITIVE, 1e-45];
        let ties = (-1000..1000).map(|i| i as f32 * 0.5);
        let values: Vec<f32> = specials
            .into_iter()
            .chain(ties.clone())
            .chain(ties.map(|v| v * 0.1))
            .chain(any_floats(7, 20_000))
            .chain(normal(8, 20_000))
            .filter(|v| !v.is_nan())
            .collect();
        for bits in [2, 3, 4, 7, 8, 16] {
            for signedness in [Signed, Unsigned] {
                let format = format(bits, signedness);
                for scale in [1.0, 0.1, 0.0473, 1.0 / 3.0, f32::MIN_POSITIVE, 1e30, 1e-30] {
                    for zero_point in [format.qmin(), format.qmax(), format.qmin() / 2 + format.qmax() / 2 + 1] {
                        let quantizer = Uniform::new(format, scale, zero_point).unwrap();
                        let mut fake = values.clone();
                        quantizer.fake(&mut fake);
                        let codes = quantizer.encode(&values);
                        for ((&value, fake), code) in values.iter().zip(fake).zip(codes) {
                            assert_eq!(fake.to_bits(), naive(&quantizer, value).to_bits(), "{quantizer:?} at {value}");
                            assert_eq!(code, naive_code(&quantizer, value));
                            assert_eq!(quantizer.decode(code).to_bits(), fake.to_bits());
                        }
                    }
                }
            }
        }
    }

    #[test]
    fn rounds_half_to_even_before_the_zero_point() {
        let values = [0.5, 1.5, 2.5, -0.5, -1.5];
        let code = |z| Uniform::new(IntFormat::S8, 1.0, z).unwrap().encode(&values);
        assert_eq!(code(0), [0, 2, 2, 0, -2]);
        assert_eq!(code(1), [1, 3, 3, 1, -1]);
    }

    #[test]
    fn nan_stays_visible_and_encodes_as_zero() {
        let quantizer = Uniform::new(IntFormat::U8, 0.1, 7).unwrap();
        let mut values = [f32::NAN, -f32::NAN];
        quantizer.fake(&mut values);
        assert!(values.iter().all(|v| v.is_nan()));
        assert_eq!(quantizer.encode(&values), [0, 0].map(|_| 7));
    }

    #[test]
    fn affine_fit_spends_all_codes_and_keeps_zero() {
        let cases = [(-1.0, 3.0), (0.5, 3.0), (-4.0, -0.1), (-1e-3, 100.0), (f32::MIN, f32::MAX), (0.0, 1e-44)];
        for bits in 2..=16 {
            for signedness in [Signed, Unsigned] {
                for (min, max) in cases {
                    let range = Range::new(min, max).unwrap();
                    let q = Uniform::fit(range, format(bits, signedness), Symmetry::Affine);
                    let wanted = range.with_zero();
                    let slack = q.scale() * 0.5001;
                    assert!(q.range().min() <= wanted.min() + slack && q.range().max() >= wanted.max() - slack);
                    assert!(q.levels().contains(&0.0));
                    assert!(q.scale() >= f32::MIN_POSITIVE);
                }
            }
        }
    }

    #[test]
    fn symmetric_fit_reaches_absmax_exactly_in_the_middle_format() {
        let range = Range::new(-2.0, 1.0).unwrap();
        let s8 = Uniform::fit(range, IntFormat::S8, Symmetry::Symmetric);
        assert_eq!((s8.zero_point(), s8.scale()), (0, 2.0 / 127.0));
        let u8 = Uniform::fit(range, IntFormat::U8, Symmetry::Symmetric);
        assert_eq!((u8.zero_point(), u8.scale()), (128, 2.0 / 127.0));
    }

    #[test]
    fn all_zero_range_has_scale_one() {
        for symmetry in [Symmetry::Affine, Symmetry::Symmetric] {
            assert_eq!(Uniform::fit(Range::ZERO, IntFormat::U8, symmetry).scale(), 1.0);
        }
    }

    #[test]
    fn bad_parameters_are_refused() {
        for scale in [0.0, -1.0, f32::NAN, f32::INFINITY] {
            assert!(matches!(Uniform::new(IntFormat::U8, scale, 0), Err(QuantizerError::Scale(_))));
        }
        let error = Uniform::new(IntFormat::U8, 1.0, -1).unwrap_err();
        assert_eq!(error.to_string(), "zero point `-1` must be a code of `u8`, that is 0 to 255");
    }

    #[test]
    fn squared_error_is_the_plain_sum() {
        let values = normal(3, 1003);
        let q = Uniform::fit(Range::new(-3.0, 3.0).unwrap(), format(4, Signed), Symmetry::Affine);
        let plain: f64 = values.iter().map(|&v| f64::from(v - naive(&q, v)).powi(2)).sum();
        assert!((q.squared_error(&values) / plain - 1.0).abs() < 1e-12);
    }
}
