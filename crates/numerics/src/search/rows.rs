//! Range searches over the values themselves, exact: for rows of weights. Values that are not finite are passed over.
//! Knows no histogram.

use super::REPQ_QUANTILES;
use super::ranges::{first_best, shrink};
use crate::formats::IntFormat;
use crate::quantizers::{Symmetry, Uniform};
use crate::range::Range;
use crate::stats::MinMax;

/// From the smallest to the largest value; [`Range::ZERO`] of no values.
pub fn minmax(row: &[f32]) -> Range {
    MinMax::of(row).range().unwrap_or(Range::ZERO)
}

/// The quantile `p` (0 to 1), linear between ranks as numpy's default; 0 of no values.
pub fn quantile(row: &[f32], p: f64) -> f32 {
    Sorted::of(row).quantile(p)
}

/// From the quantile `1 - p` to the quantile `p`.
pub fn percentile(row: &[f32], p: f64) -> Range {
    Sorted::of(row).percentile(p)
}

/// RepQ-ViT's search: of the ranges between the quantiles 1 - p and p for [`REPQ_QUANTILES`], the first of least
/// squared error.
pub fn repq(row: &[f32], format: IntFormat, symmetry: Symmetry) -> Range {
    let sorted = Sorted::of(row);
    let candidates = REPQ_QUANTILES.map(|p| sorted.percentile(p));
    let finite = finite(row);
    first_best(candidates, |range| Uniform::fit(range, format, symmetry).squared_error(&finite))
}

/// The range of least squared error among shrunken ones, as [`mse`](super::mse) on a histogram.
pub fn mse(row: &[f32], format: IntFormat, symmetry: Symmetry) -> Range {
    let finite = finite(row);
    shrink(minmax(row), symmetry, |range, _| Uniform::fit(range, format, symmetry).squared_error(&finite))
}

fn finite(row: &[f32]) -> std::borrow::Cow<'_, [f32]> {
    let seen = MinMax::of(row);
    if seen.nan() + seen.infinite() == 0 {
        row.into()
    } else {
        row.iter().copied().filter(|value| value.is_finite()).collect()
    }
}

/// Finite values in ascending order.
struct Sorted(Vec<i32>);

impl Sorted {
    /// As integers of the same order, which sort faster than floats.
    fn of(row: &[f32]) -> Self {
        let mut keys: Vec<i32> =
            row.iter().filter(|value| value.is_finite()).map(|value| key(value.to_bits())).collect();
        keys.sort_unstable();
        Self(keys)
    }

    fn at(&self, rank: usize) -> f64 {
        f32::from_bits(key(self.0[rank] as u32) as u32).into()
    }

    fn quantile(&self, p: f64) -> f32 {
        let Some(last) = self.0.len().checked_sub(1) else { return 0.0 };
        let position = p.clamp(0.0, 1.0) * last as f64;
        let below = position as usize;
        let (low, high) = (self.at(below), self.at((below + 1).min(last)));
        (low + (high - low) * position.fract()) as f32
    }

    fn percentile(&self, p: f64) -> Range {
        Range::between(self.quantile(1.0 - p).into(), self.quantile(p).into())
    }
}

/// Float bits to an integer of the same order, and back: negative floats descend with their bits.
fn key(bits: u32) -> i32 {
    let bits = bits as i32;
    bits ^ (((bits >> 31) as u32) >> 1) as i32
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Signedness;
    use crate::search::{SHRINK_STEPS, shrunken};
    use crate::test_data::{any_floats, normal};

    #[test]
    fn quantiles_are_numpys() {
        let row = [3.0, -1.0, 2.0, f32::NAN, 10.0];
        assert_eq!([0.0, 0.25, 0.5, 0.9, 1.0].map(|p| quantile(&row, p)), [-1.0, 1.25, 2.5, 7.9, 10.0]);
        assert_eq!(quantile(&[], 0.5), 0.0);
        assert_eq!(quantile(&[7.0], 0.3), 7.0);
        assert_eq!(quantile(&[f32::MAX, f32::MIN], 0.5), 0.0);
    }

    #[test]
    fn keys_sort_as_floats_do() {
        let values: Vec<f32> = any_floats(1, 5000).into_iter().filter(|v| v.is_finite()).collect();
        let mut wanted = values.clone();
        wanted.sort_by(f32::total_cmp);
        let sorted = Sorted::of(&values);
        assert!((0..wanted.len()).all(|i| sorted.at(i) == f64::from(wanted[i])));
    }

    #[test]
    fn repq_takes_the_best_of_three() {
        let mut row = normal(2, 5000);
        row.extend([40.0, -3.0]);
        for bits in [3, 4, 8] {
            let format = IntFormat::new(bits, Signedness::Signed).unwrap();
            let score = |range| Uniform::fit(range, format, Symmetry::Affine).squared_error(&row);
            let found = score(repq(&row, format, Symmetry::Affine));
            for p in REPQ_QUANTILES {
                assert!(found <= score(percentile(&row, p)));
            }
        }
    }

    #[test]
    fn symmetric_mse_is_no_worse_than_any_shrunken_range() {
        let row = normal(3, 700);
        let format = IntFormat::new(4, Signedness::Signed).unwrap();
        let full = minmax(&row);
        let score = |range| Uniform::fit(range, format, Symmetry::Symmetric).squared_error(&row);
        let best = (0..SHRINK_STEPS)
            .map(|step| {
                let factor = shrunken(step.into());
                score(Range::between(f64::from(full.min()) * factor, f64::from(full.max()) * factor))
            })
            .fold(f64::INFINITY, f64::min);
        assert!(score(mse(&row, format, Symmetry::Symmetric)) <= best);
    }

    #[test]
    fn values_that_are_not_finite_are_passed_over() {
        let row = normal(4, 100);
        let mut damaged = row.clone();
        damaged.extend([f32::NAN, f32::INFINITY, f32::NEG_INFINITY]);
        let format = IntFormat::new(4, Signedness::Signed).unwrap();
        for symmetry in [Symmetry::Affine, Symmetry::Symmetric] {
            assert_eq!(repq(&damaged, format, symmetry), repq(&row, format, symmetry));
            assert_eq!(mse(&damaged, format, symmetry), mse(&row, format, symmetry));
        }
        assert_eq!(minmax(&[f32::NAN]), Range::ZERO);
        assert_eq!(mse(&[], format, Symmetry::Affine), Range::ZERO);
    }
}
