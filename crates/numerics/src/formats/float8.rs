//! The four 8-bit floats of ONNX. Knows no scale.

use serde::{Deserialize, Serialize};

use super::minifloat::MiniFloat;

/// An 8-bit float: exponent bits, mantissa bits, and which special values it lacks (FN: no infinity, UZ: no -0).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Float8 {
    /// Largest 448; NaN is `S.1111.111`.
    E4M3Fn,
    /// Largest 240; NaN is what would be -0.
    E4M3FnUz,
    /// Largest 57344; infinities and NaN as in IEEE 754.
    E5M2,
    /// Largest 57344; NaN is what would be -0.
    E5M2FnUz,
}

const SIGN: u8 = 0x80;

impl Float8 {
    /// All four.
    pub const ALL: [Self; 4] = [Self::E4M3Fn, Self::E4M3FnUz, Self::E5M2, Self::E5M2FnUz];

    /// The byte of a value, as ONNX's Cast with `saturate = 1` (onnx 1.23) defines it: nearest, ties to even;
    /// everything beyond the largest value, infinities included, becomes that; NaN stays NaN, and where there is no
    /// -0 it becomes 0.
    pub fn encode(self, value: f32) -> u8 {
        let sign = if value.is_sign_negative() { SIGN } else { 0 };
        if value.is_nan() {
            return if self.has_negative_zero() { sign | 0x7f } else { SIGN };
        }
        let code = self.magnitudes().encode(value.abs());
        if code == 0 && !self.has_negative_zero() { 0 } else { sign | code }
    }

    /// The value of a byte.
    pub fn decode(self, byte: u8) -> f32 {
        let code = byte & !SIGN;
        let magnitude = match self {
            Self::E4M3FnUz | Self::E5M2FnUz if byte == SIGN => f32::NAN,
            Self::E4M3Fn if code == 0x7f => f32::NAN,
            Self::E5M2 if code > 0x7c => f32::NAN,
            Self::E5M2 if code == 0x7c => f32::INFINITY,
            _ => self.magnitudes().decode(code),
        };
        if byte & SIGN == 0 { magnitude } else { -magnitude }
    }

    /// The largest finite value.
    pub fn max(self) -> f32 {
        self.decode(self.magnitudes().max_code)
    }

    fn has_negative_zero(self) -> bool {
        matches!(self, Self::E4M3Fn | Self::E5M2)
    }

    fn magnitudes(self) -> MiniFloat {
        let (mantissa, bias, max_code) = match self {
            Self::E4M3Fn => (3, 7, 0x7e),
            Self::E4M3FnUz => (3, 8, 0x7f),
            Self::E5M2 => (2, 15, 0x7b),
            Self::E5M2FnUz => (2, 16, 0x7f),
        };
        MiniFloat { mantissa, bias, max_code }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::test_data::any_floats;

    /// Nearest of all finite values, ties to the even code: no arithmetic on bits.
    fn nearest(kind: Float8, value: f32) -> u8 {
        // Far beyond the largest value all distances round to the same.
        let value = value.clamp(-kind.max(), kind.max());
        let distance = |byte: u8| (f64::from(kind.decode(byte)) - f64::from(value)).abs();
        let same_sign = |byte: u8| kind.decode(byte) == 0.0 || (kind.decode(byte) < 0.0) == (value < 0.0);
        let candidates = (0..=255u8).filter(|&byte| kind.decode(byte).is_finite() && same_sign(byte));
        candidates.min_by(|&a, &b| distance(a).total_cmp(&distance(b)).then((a & 1).cmp(&(b & 1)))).unwrap()
    }

    #[test]
    fn largest_and_smallest_are_those_of_the_standard() {
        assert_eq!(Float8::ALL.map(Float8::max), [448.0, 240.0, 57344.0, 57344.0]);
        let smallest = Float8::ALL.map(|kind| kind.decode(1));
        assert_eq!(smallest, [-9, -10, -16, -17].map(|e| 2f32.powi(e)));
        assert_eq!(Float8::E5M2.decode(0xfc), f32::NEG_INFINITY);
    }

    #[test]
    fn every_byte_survives() {
        for kind in Float8::ALL {
            for byte in 0..=255u8 {
                let value = kind.decode(byte);
                if value.is_finite() {
                    assert_eq!(kind.encode(value), byte, "{kind:?}");
                } else if value.is_nan() {
                    assert!(kind.decode(kind.encode(value)).is_nan());
                }
            }
        }
    }

    #[test]
    fn rounds_to_the_nearest_value_with_ties_to_even() {
        for kind in Float8::ALL {
            let finite: Vec<f32> = (0..=255u8).map(|b| kind.decode(b)).filter(|v| v.is_finite()).collect();
            let ends = finite.iter().flat_map(|&v| [v, v.next_up(), v.next_down()]);
            let ascending = (0..0x7f).map(|code| (kind.decode(code), kind.decode(code + 1)));
            let ties = ascending
                .filter(|(_, above)| above.is_finite())
                .map(|(below, above)| f32::midpoint(below, above))
                .flat_map(|tie| [tie, tie.next_up(), tie.next_down(), -tie, -tie.next_up()]);
            let values = ends.chain(ties).chain(any_floats(11, 2_000)).filter(|v| v.is_finite());
            for value in values {
                let (found, wanted) = (kind.decode(kind.encode(value)), kind.decode(nearest(kind, value)));
                assert_eq!(found, wanted, "{kind:?} of {value}");
            }
        }
    }

    #[test]
    fn special_values_follow_the_saturating_cast() {
        for kind in Float8::ALL {
            assert_eq!(kind.decode(kind.encode(f32::INFINITY)), kind.max());
            assert_eq!(kind.decode(kind.encode(f32::NEG_INFINITY)), -kind.max());
            assert_eq!(kind.decode(kind.encode(f32::MAX)), kind.max());
            assert!(kind.decode(kind.encode(f32::NAN)).is_nan());
        }
        let minus_zero = Float8::ALL.map(|kind| kind.encode(-0.0));
        assert_eq!(minus_zero, [0x80, 0, 0x80, 0]);
        assert_eq!(Float8::ALL.map(|kind| kind.encode(-1e-30)), [0x80, 0, 0x80, 0]);
    }
}
