//! An interval of finite values: what observers measure, searches choose and quantizers are fitted to.
//! Knows neither bits nor codes.

use serde::{Deserialize, Serialize};

/// A closed interval `[min, max]` of finite values, `min <= max`. Zeros are stored as `+0.0`, so that equal
/// ranges have equal bits.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "RawRange")]
pub struct Range {
    min: f32,
    max: f32,
}

impl Range {
    /// The point 0: what a search answers when nothing was seen.
    pub const ZERO: Self = Self { min: 0.0, max: 0.0 };

    /// `None` unless both ends are finite and in order.
    pub fn new(min: f32, max: f32) -> Option<Self> {
        // Adding +0.0 turns -0.0 into +0.0 and changes nothing else.
        (min.is_finite() && max.is_finite() && min <= max).then_some(Self { min: min + 0.0, max: max + 0.0 })
    }

    /// The range between two values in either order; the ends are saturated to finite values, NaN becomes 0.
    pub(crate) fn between(a: f64, b: f64) -> Self {
        let finite = |v: f64| if v.is_nan() { 0.0 } else { v.clamp(f64::from(f32::MIN), f64::from(f32::MAX)) as f32 };
        let (a, b) = (finite(a), finite(b));
        Self { min: a.min(b) + 0.0, max: a.max(b) + 0.0 }
    }

    /// The lower end.
    pub fn min(self) -> f32 {
        self.min
    }

    /// The upper end.
    pub fn max(self) -> f32 {
        self.max
    }

    /// The smallest range that holds this one and 0: what an affine quantizer needs, whose zero point is a code.
    #[must_use]
    pub fn with_zero(self) -> Self {
        Self { min: self.min.min(0.0), max: self.max.max(0.0) }
    }

    /// The largest magnitude in the range.
    pub fn absmax(self) -> f32 {
        self.min.abs().max(self.max.abs())
    }

    /// The smallest range that holds both.
    #[must_use]
    pub fn union(self, other: Self) -> Self {
        Self { min: self.min.min(other.min), max: self.max.max(other.max) }
    }

    /// The range with each end multiplied by its own factor.
    #[must_use]
    pub(crate) fn scaled(self, low: f64, high: f64) -> Self {
        Self::between(f64::from(self.min) * low, f64::from(self.max) * high)
    }
}

#[derive(Deserialize)]
struct RawRange {
    min: f32,
    max: f32,
}

impl TryFrom<RawRange> for Range {
    type Error = &'static str;

    fn try_from(raw: RawRange) -> Result<Self, Self::Error> {
        Self::new(raw.min, raw.max).ok_or("a range needs finite ends with `min` not above `max`")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_finite_ordered_ends_make_a_range() {
        assert!(Range::new(1.0, 0.0).is_none());
        assert!(Range::new(f32::NAN, 0.0).is_none());
        assert!(Range::new(0.0, f32::INFINITY).is_none());
        assert_eq!(Range::new(-0.0, -0.0).map(|r| r.min().to_bits()), Some(0));
    }

    #[test]
    fn union_and_zero_widen() {
        let range = Range::new(1.0, 2.0).unwrap();
        assert_eq!(range.with_zero(), Range::new(0.0, 2.0).unwrap());
        assert_eq!(range.union(Range::new(-3.0, 1.5).unwrap()), Range::new(-3.0, 2.0).unwrap());
        assert_eq!(Range::new(-3.0, 2.0).unwrap().absmax(), 3.0);
    }

    #[test]
    fn between_orders_and_saturates() {
        assert_eq!(Range::between(2.0, -1.0), Range::new(-1.0, 2.0).unwrap());
        assert_eq!(Range::between(f64::NAN, 1e300).max(), f32::MAX);
    }
}
