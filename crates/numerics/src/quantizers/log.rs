//! Logarithmic quantizers for values of 0 and more, such as attention probabilities: log2 and log-sqrt-2 (RepQ-ViT,
//! section 3.3). Does not know where its scale comes from, nor how a graph spells it.

use serde::{Deserialize, Serialize};

use super::QuantizerError;

/// The ratio of neighbouring levels.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Base {
    /// Levels halve: log2.
    Two,
    /// Every second level halves: log-sqrt-2.
    SqrtTwo,
}

impl Base {
    /// Levels an octave: the k in `2^(-c/k)`.
    pub const fn per_octave(self) -> u8 {
        match self {
            Self::Two => 1,
            Self::SqrtTwo => 2,
        }
    }
}

/// How zero is represented.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LevelRule {
    /// `2^b` levels: `2^b - 1` powers, and zero as the last code.
    Strict,
    /// `2^b + 1` levels: `2^b` powers and zero, as published implementations do it.
    Paper,
}

/// `x -> table[clip(rne(-k log2(max(x, 1e-30) / s)), 0, n - 1)]` for a table of n levels, `table[c] = s 2^(-c/k)`
/// and 0 at its end.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "RawLog")]
pub struct Log {
    bits: u8,
    base: Base,
    scale: f32,
    rule: LevelRule,
}

impl Log {
    /// What smaller values count as, so that their logarithm exists.
    pub const FLOOR: f32 = 1e-30;

    /// A quantizer of 2 to 8 bits whose largest level is `scale`, finite and above 0.
    pub fn new(bits: u8, base: Base, scale: f32, rule: LevelRule) -> Result<Self, QuantizerError> {
        if !(2..=8).contains(&bits) {
            return Err(QuantizerError::LogBits(bits));
        }
        if !(scale.is_finite() && scale > 0.0) {
            return Err(QuantizerError::Scale(scale));
        }
        Ok(Self { bits, base, scale, rule })
    }

    /// The number of bits.
    pub fn bits(&self) -> u8 {
        self.bits
    }

    /// The ratio of neighbouring levels.
    pub fn base(&self) -> Base {
        self.base
    }

    /// The largest level.
    pub fn scale(&self) -> f32 {
        self.scale
    }

    /// How zero is represented.
    pub fn rule(&self) -> LevelRule {
        self.rule
    }

    /// The largest code, which stands for zero.
    pub fn zero_code(&self) -> i32 {
        let levels = 1 << self.bits;
        match self.rule {
            LevelRule::Strict => levels - 1,
            LevelRule::Paper => levels,
        }
    }

    /// The value of every code, by code: descending powers, then 0.
    pub fn levels(&self) -> Vec<f32> {
        let powers = (0..self.zero_code()).map(|code| self.power(f64::from(code)) as f32);
        powers.chain([0.0]).collect()
    }

    /// Where codes change, in f64, descending: a value below `thresholds()[c]` has a code above c.
    pub fn thresholds(&self) -> Vec<f64> {
        (0..self.zero_code()).map(|code| self.power(f64::from(code) + 0.5)).collect()
    }

    /// The factor that turns `ln x` into a code, before the offset: `-k / ln 2`.
    pub fn log_factor(&self) -> f32 {
        (-f64::from(self.base.per_octave()) / std::f64::consts::LN_2) as f32
    }

    /// The offset that turns the scaled logarithm into a code: `k log2 s`.
    pub fn log_offset(&self) -> f32 {
        (f64::from(self.base.per_octave()) * f64::from(self.scale).log2()) as f32
    }

    /// Replaces each value by its level. Values below 0 count as 0, values above the scale get the scale; NaN stays.
    pub fn fake(&self, values: &mut [f32]) {
        let cells = self.cells();
        for value in values {
            let bits = floored(*value);
            let cell = &cells[(bits >> CELL_SHIFT) as usize & (CELLS - 1)];
            *value = if bits < cell.threshold { cell.below } else { cell.above };
        }
    }

    /// The code of each value; NaN gets the code of zero.
    pub fn encode(&self, values: &[f32]) -> Vec<i32> {
        let cells = self.cells();
        let code = |value: f32| {
            let bits = floored(value);
            let cell = &cells[(bits >> CELL_SHIFT) as usize & (CELLS - 1)];
            cell.code - i32::from(bits >= cell.threshold)
        };
        values.iter().map(|&value| if value.is_nan() { self.zero_code() } else { code(value) }).collect()
    }

    fn power(self, code: f64) -> f64 {
        f64::from(self.scale) * (-code / f64::from(self.base.per_octave())).exp2()
    }

    /// A quarter octave holds at most one threshold, for thresholds lie half an octave or more apart (and a quarter
    /// of the mantissa spans at most 0.33 octaves). Subnormal cells span more, but lie below the floor.
    fn cells(self) -> Box<[Cell]> {
        let levels = self.levels();
        let ascending: Vec<u32> = self.thresholds().iter().rev().map(|&t| ceil_bits(t)).collect();
        let mut passed = 0;
        let cell = |index: usize| {
            let (start, end) = ((index as u32) << CELL_SHIFT, (index as u32 + 1) << CELL_SHIFT);
            while ascending.get(passed).is_some_and(|&t| t <= start) {
                passed += 1;
            }
            let code = ascending.len() - passed;
            match ascending.get(passed) {
                _ if start > INFINITY_BITS => Cell::flat(f32::NAN, code),
                _ if start == INFINITY_BITS => {
                    Cell { threshold: start + 1, below: self.scale, above: f32::NAN, code: 0 }
                }
                Some(&threshold) if threshold < end => {
                    Cell { threshold, below: levels[code], above: levels[code - 1], code: code as i32 }
                }
                _ => Cell::flat(levels[code], code),
            }
        };
        (0..CELLS).map(cell).collect()
    }
}

/// Cells are a sign-less exponent and the two highest bits of the mantissa.
const CELL_SHIFT: u32 = 21;
const CELLS: usize = 1 << (31 - CELL_SHIFT);
const INFINITY_BITS: u32 = 0x7f80_0000;

/// What the quantizer does on the floats between two neighbouring quarters of an octave.
#[derive(Clone, Copy)]
struct Cell {
    threshold: u32,
    below: f32,
    above: f32,
    /// The code below the threshold; above it is one less.
    code: i32,
}

impl Cell {
    fn flat(level: f32, code: usize) -> Self {
        Self { threshold: u32::MAX, below: level, above: level, code: code as i32 }
    }
}

/// The bits of `max(x, FLOOR)`, sign removed; NaN passes.
#[inline]
fn floored(value: f32) -> u32 {
    let value = if value < Log::FLOOR { Log::FLOOR } else { value };
    value.to_bits() & 0x7fff_ffff
}

/// The bits of the smallest float that is not below `threshold`.
fn ceil_bits(threshold: f64) -> u32 {
    let near = threshold as f32;
    if f64::from(near) < threshold { near.next_up().to_bits() } else { near.to_bits() }
}

#[derive(Deserialize)]
struct RawLog {
    bits: u8,
    base: Base,
    scale: f32,
    rule: LevelRule,
}

impl TryFrom<RawLog> for Log {
    type Error = QuantizerError;

    fn try_from(raw: RawLog) -> Result<Self, QuantizerError> {
        Self::new(raw.bits, raw.base, raw.scale, raw.rule)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::test_data::{any_floats, uniform};

    fn all() -> impl Iterator<Item = Log> {
        [2, 3, 4, 6, 8].into_iter().flat_map(|bits| {
            [Base::Two, Base::SqrtTwo].into_iter().flat_map(move |base| {
                [LevelRule::Strict, LevelRule::Paper].into_iter().flat_map(move |rule| {
                    [1.0, 0.731, 1e-3, 37.5].map(|scale| Log::new(bits, base, scale, rule).unwrap())
                })
            })
        })
    }

    fn values() -> Vec<f32> {
        let logs = uniform(5, 30_000).into_iter().map(|u| (u * 45.0 - 42.0).exp2());
        [0.0, -0.0, -1.0, 1.0, f32::INFINITY, f32::NEG_INFINITY, 1e-30, 1e-31, 1e-45, f32::MAX]
            .into_iter()
            .chain(any_floats(6, 10_000))
            .chain(logs)
            .chain(uniform(9, 5_000))
            .filter(|v| !v.is_nan())
            .collect()
    }

    #[test]
    fn published_vectors() {
        let x = [0.0, 1e-4, 0.003, 0.01, 0.02, 0.05, 0.1, 0.15, 0.25, 0.4, 0.6, 0.75, 1.0];
        let codes = |bits, base| Log::new(bits, base, 1.0, LevelRule::Strict).unwrap().encode(&x);
        assert_eq!(codes(4, Base::Two), [15, 13, 8, 7, 6, 4, 3, 3, 2, 1, 1, 0, 0]);
        assert_eq!(codes(4, Base::SqrtTwo), [15, 15, 15, 13, 11, 9, 7, 5, 4, 3, 1, 1, 0]);
        assert_eq!(codes(3, Base::SqrtTwo), [7, 7, 7, 7, 7, 7, 7, 5, 4, 3, 1, 1, 0]);
    }

    #[test]
    fn codes_are_the_f64_formula_and_fake_is_the_table() {
        let values = values();
        for log in all() {
            let levels = log.levels();
            let k = f64::from(log.base().per_octave());
            let mut fake = values.clone();
            log.fake(&mut fake);
            for ((&x, fake), code) in values.iter().zip(fake).zip(log.encode(&values)) {
                let exact = -k * (f64::from(x.max(Log::FLOOR)) / f64::from(log.scale())).log2();
                let reference = exact.round_ties_even().clamp(0.0, log.zero_code().into()) as i32;
                assert!(code == reference || ((exact - exact.floor()) - 0.5).abs() < 1e-9, "{log:?} at {x}");
                assert_eq!(fake.to_bits(), levels[code as usize].to_bits());
            }
        }
    }

    /// The operators that the graph will hold, in f32, may differ only where rounding decides.
    #[test]
    fn codes_are_those_of_the_f32_operators() {
        let values = values();
        for log in all() {
            let (factor, offset) = (log.log_factor(), log.log_offset());
            for (&x, code) in values.iter().zip(log.encode(&values)) {
                let steps = x.max(Log::FLOOR).ln() * factor + offset;
                let emitted = steps.round_ties_even().clamp(0.0, log.zero_code() as f32) as i32;
                if emitted != code {
                    let distance = (steps - steps.floor() - 0.5).abs();
                    assert!(distance < 2e-6 * steps.abs().max(offset.abs()).max(1.0) && (emitted - code).abs() == 1);
                }
            }
        }
    }

    #[test]
    fn strict_has_at_most_two_to_the_bits_levels() {
        for log in all() {
            let extra = usize::from(log.rule() == LevelRule::Paper);
            assert_eq!(log.levels().len(), (1 << log.bits()) + extra);
            assert_eq!(log.levels().last(), Some(&0.0));
            assert_eq!(log.thresholds().len() + 1, log.levels().len());
        }
    }

    #[test]
    fn nan_stays_visible() {
        let log = Log::new(4, Base::SqrtTwo, 1.0, LevelRule::Strict).unwrap();
        let mut values = [f32::NAN, -f32::NAN, f32::from_bits(0x7f80_0001), f32::from_bits(0xff80_0001)];
        assert_eq!(log.encode(&values), [15; 4]);
        log.fake(&mut values);
        assert!(values.iter().all(|v| v.is_nan()));
    }

    #[test]
    fn bad_parameters_are_refused() {
        assert!(Log::new(1, Base::Two, 1.0, LevelRule::Strict).is_err());
        assert!(Log::new(9, Base::Two, 1.0, LevelRule::Strict).is_err());
        assert!(Log::new(4, Base::Two, 0.0, LevelRule::Strict).is_err());
        assert!(Log::new(4, Base::Two, f32::NAN, LevelRule::Strict).is_err());
    }
}
