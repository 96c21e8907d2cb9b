//! Range searches over histograms: smallest and largest, quantiles, least squared error. Knows no values.

use super::error::{free_error, uniform_error, uniform_error_below};
use super::{REPQ_QUANTILES, SHRINK_STEPS, shrunken};
use crate::formats::IntFormat;
use crate::quantizers::{Symmetry, Uniform};
use crate::range::Range;
use crate::stats::{Cell, Histogram};

/// All that was seen; [`Range::ZERO`] if nothing was.
pub fn minmax(histogram: &Histogram) -> Range {
    histogram.range().unwrap_or(Range::ZERO)
}

/// From the quantile `1 - p` to the quantile `p`.
pub fn percentile(histogram: &Histogram, p: f64) -> Range {
    Range::between(histogram.quantile(1.0 - p).into(), histogram.quantile(p).into())
}

/// The range of least mean squared error among shrunken ones (OMSE): first both ends by one factor 1,
/// 2^(-1/20) .. 1/32, refined to a quarter of that step; then, for an affine quantizer of data with both signs, the
/// upper and the lower end by themselves. Of equal ones the first.
pub fn mse(histogram: &Histogram, format: IntFormat, symmetry: Symmetry) -> Range {
    let cells: Vec<Cell> = histogram.cells().collect();
    let error = |range, bound| uniform_error_below(&cells, &Uniform::fit(range, format, symmetry), bound);
    shrink(minmax(histogram), symmetry, error)
}

/// RepQ-ViT's search (section 4 there, and its code): of the ranges between the quantiles 1 - p and p for
/// [`REPQ_QUANTILES`], the first of least mean squared error.
pub fn repq(histogram: &Histogram, format: IntFormat, symmetry: Symmetry) -> Range {
    let cells: Vec<Cell> = histogram.cells().collect();
    let candidates = REPQ_QUANTILES.map(|p| percentile(histogram, p));
    first_best(candidates, |range| uniform_error(&cells, &Uniform::fit(range, format, symmetry)))
}

/// [`repq`] for affine levels that need not contain 0: what a channel is given whose offset is taken away afterwards
/// (RepQ-ViT, section 4.1). None where nothing was seen or all values are equal.
pub fn repq_free(histogram: &Histogram, levels: usize) -> Option<Range> {
    let full = histogram.range().filter(|range| range.min() < range.max())?;
    let cells: Vec<Cell> = histogram.cells().collect();
    let candidates = REPQ_QUANTILES.map(|p| percentile(histogram, p)).map(|range| {
        // Percentiles of a channel that is nearly always one value may coincide.
        if range.min() < range.max() { range } else { full }
    });
    Some(first_best(candidates, |range| free_error(&cells, range, levels)))
}

/// The first candidate of least error; candidates whose error is NaN are passed over.
pub(super) fn first_best<const N: usize>(candidates: [Range; N], error: impl Fn(Range) -> f64) -> Range {
    let mut best = (candidates[0], f64::INFINITY);
    for candidate in candidates {
        let error = error(candidate);
        if error < best.1 {
            best = (candidate, error);
        }
    }
    best.0
}

/// The shrinking of [`mse`], for any error function. It also gets the least error so far: of one that is no less it need
/// not tell how large it is.
pub(super) fn shrink(full: Range, symmetry: Symmetry, error: impl Fn(Range, f64) -> f64) -> Range {
    let full = full.with_zero();
    let joint = best_factor(|factor, least| error(full.scaled(factor, factor), least));
    if symmetry == Symmetry::Symmetric || full.min() == 0.0 || full.max() == 0.0 {
        return full.scaled(joint, joint);
    }
    // Each end starts from 1 again and so may keep what the other one made it lose.
    let upper = best_factor(|factor, least| error(full.scaled(joint, factor), least));
    let lower = best_factor(|factor, least| error(full.scaled(factor, upper), least));
    full.scaled(lower, upper)
}

/// The first factor of least error: all steps, then quarters of a step around the best one.
fn best_factor(error: impl Fn(f64, f64) -> f64) -> f64 {
    let mut best = (0.0, f64::INFINITY);
    let mut consider = |step: f64| {
        let error = error(shrunken(step), best.1);
        if error < best.1 {
            best = (step, error);
        }
        best.0
    };
    let mut coarse = 0.0;
    for step in 0..SHRINK_STEPS {
        coarse = consider(step.into());
    }
    let mut fine = coarse;
    for quarter in [-3.0, -2.0, -1.0, 1.0, 2.0, 3.0] {
        fine = consider((coarse + quarter / 4.0).max(0.0));
    }
    shrunken(fine)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::search::{error, rows};
    use crate::test_data::normal;
    use crate::{Signedness, TENSOR_BINS};

    fn histogram(values: &[f32]) -> Histogram {
        let mut histogram = Histogram::new(TENSOR_BINS);
        histogram.observe(values);
        histogram
    }

    fn samples() -> Vec<Vec<f32>> {
        let outliers = normal(1, 40_000).into_iter().chain([30.0, -11.0, 12.0]).collect();
        let gelu = normal(2, 40_000).iter().map(|v| v / (1.0 + (-1.7 * v).exp())).collect();
        vec![normal(3, 40_000), outliers, gelu]
    }

    fn format(bits: u8) -> IntFormat {
        IntFormat::new(bits, Signedness::Unsigned).unwrap()
    }

    #[test]
    fn searches_on_histograms_are_those_on_values() {
        for values in samples() {
            let histogram = histogram(&values);
            let width = (minmax(&histogram).max() - minmax(&histogram).min()) / 2048.0;
            assert_eq!(minmax(&histogram), rows::minmax(&values));
            let close = |a: Range, b: Range| (a.min() - b.min()).abs() < width && (a.max() - b.max()).abs() < width;
            assert!(close(percentile(&histogram, 0.999), rows::percentile(&values, 0.999)));
            for symmetry in [Symmetry::Affine, Symmetry::Symmetric] {
                for bits in [4, 8] {
                    let format = format(bits);
                    assert!(close(repq(&histogram, format, symmetry), rows::repq(&values, format, symmetry)));
                    let squared = |range| Uniform::fit(range, format, symmetry).squared_error(&values);
                    let (found, exact) = (mse(&histogram, format, symmetry), rows::mse(&values, format, symmetry));
                    assert!(squared(found) < squared(exact) * 1.01);
                }
            }
        }
    }

    #[test]
    fn mse_is_no_worse_than_any_other_search() {
        for values in samples() {
            let histogram = histogram(&values);
            for bits in [3, 4, 6, 8] {
                for symmetry in [Symmetry::Affine, Symmetry::Symmetric] {
                    let score = |range| error(&histogram, &Uniform::fit(range, format(bits), symmetry));
                    let found = score(mse(&histogram, format(bits), symmetry));
                    assert!(found <= score(minmax(&histogram)));
                    assert!(found <= 1.02 * score(repq(&histogram, format(bits), symmetry)));
                }
            }
        }
    }

    #[test]
    fn first_of_equal_candidates_wins() {
        let candidates = [1.0, 2.0, 3.0].map(|max| Range::new(0.0, max).unwrap());
        assert_eq!(first_best(candidates, |_| 1.0), candidates[0]);
        assert_eq!(first_best(candidates, |range| f64::from(-range.max())), candidates[2]);
        assert_eq!(first_best(candidates, |_| f64::NAN), candidates[0]);
    }

    #[test]
    fn nothing_seen_gives_the_point_zero() {
        let none = Histogram::new(8);
        let ranges = [
            minmax(&none),
            percentile(&none, 0.99),
            mse(&none, IntFormat::U8, Symmetry::Affine),
            repq(&none, IntFormat::U8, Symmetry::Affine),
            crate::search::entropy(&none, IntFormat::U8, Symmetry::Affine),
        ];
        assert_eq!(ranges, [Range::ZERO; 5]);
    }
}
