//! The range whose quantized distribution diverges least from what was seen (Kullback-Leibler), after the calibrator
//! of TensorRT (Migacz 2017). Knows no values.

use super::{SHRINK_STEPS, shrunken};
use crate::formats::IntFormat;
use crate::quantizers::{Symmetry, Uniform};
use crate::range::Range;
use crate::stats::{Bin, Histogram};

/// The range of least divergence among those shrunken at both ends by 1, 2^(-1/20) .. 1/32.
///
/// For each: P is the histogram inside of the range, what lies outside added to its outermost bins. Q is the same
/// bins without what lies outside, each count replaced by the mean of the non-empty bins that share its code. Both are
/// normalised, and KL(P | Q) is summed over the bins of P; a bin that Q lacks counts as one thousandth of a value.
/// Ranges with fewer bins than codes are not tried: there Q is P. Of equal ones the widest.
pub fn entropy(histogram: &Histogram, format: IntFormat, symmetry: Symmetry) -> Range {
    let full = histogram.range().unwrap_or(Range::ZERO).with_zero();
    let bins: Vec<Bin> = histogram.bins().collect();
    let mut best = (full, f64::INFINITY);
    for step in 0..SHRINK_STEPS {
        let range = full.scaled(shrunken(step.into()), shrunken(step.into()));
        let quantizer = Uniform::fit(range, format, symmetry);
        let inside = inside(&bins, range);
        if inside.len() <= format.levels() {
            break;
        }
        let divergence = divergence(&bins, inside, &quantizer);
        if divergence < best.1 {
            best = (range, divergence);
        }
    }
    best.0
}

/// The bins whose middle is in the range.
fn inside(bins: &[Bin], range: Range) -> std::ops::Range<usize> {
    let middle = |bin: &Bin| bin.lower + bin.width / 2.0;
    let start = bins.partition_point(|bin| middle(bin) < f64::from(range.min()));
    let end = bins.partition_point(|bin| middle(bin) <= f64::from(range.max()));
    start..end.max(start)
}

fn divergence(bins: &[Bin], inside: std::ops::Range<usize>, quantizer: &Uniform) -> f64 {
    /// What a bin that Q lacks is taken to hold.
    const TRACE: f64 = 1e-3;
    let sum = |bins: &[Bin]| bins.iter().map(|bin| bin.count).sum::<u64>();
    let (below, above) = (sum(&bins[..inside.start]), sum(&bins[inside.end..]));
    let kept = &bins[inside];
    let (total, kept_total) = ((below + above + sum(kept)) as f64, sum(kept) as f64);
    let code = |bin: &Bin| quantizer.code((bin.lower + bin.width / 2.0) as f32);
    let last = kept.len() - 1;
    let mut divergence = 0.0;
    let mut index = 0;
    for group in kept.chunk_by(|a, b| code(a) == code(b)) {
        let filled = group.iter().filter(|bin| bin.count > 0).count();
        let share = sum(group) as f64 / filled.max(1) as f64;
        for bin in group {
            let outside = if index == 0 { below } else { 0 } + if index == last { above } else { 0 };
            let p = (bin.count + outside) as f64 / total;
            let q = if bin.count > 0 { share } else { TRACE } / kept_total.max(TRACE);
            if p > 0.0 {
                divergence += p * (p / q).ln();
            }
            index += 1;
        }
    }
    divergence
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::TENSOR_BINS;
    use crate::test_data::{normal, uniform};

    fn histogram(values: &[f32]) -> Histogram {
        let mut histogram = Histogram::new(TENSOR_BINS);
        histogram.observe(values);
        histogram
    }

    #[test]
    fn cuts_outliers_and_keeps_the_bulk() {
        let mut values = normal(1, 100_000);
        values.extend([60.0, -55.0]);
        for symmetry in [Symmetry::Affine, Symmetry::Symmetric] {
            let range = entropy(&histogram(&values), IntFormat::S8, symmetry);
            assert!(range.max() < 6.0 && range.max() > 2.5, "{range:?}");
        }
    }

    #[test]
    fn a_flat_distribution_is_kept_whole() {
        let values = uniform(2, 200_000);
        let range = entropy(&histogram(&values), IntFormat::U8, Symmetry::Affine);
        assert!(range.max() > 0.97, "{range:?}");
    }

    #[test]
    fn too_few_bins_give_the_whole_range() {
        let mut coarse = Histogram::new(64);
        coarse.observe(&normal(3, 1000));
        assert_eq!(entropy(&coarse, IntFormat::U8, Symmetry::Affine), coarse.range().unwrap().with_zero());
    }

    /// Four codes over eight bins, one value beyond: by hand.
    #[test]
    fn divergence_of_a_small_case() {
        let counts = [4, 0, 2, 2, 1, 3, 0, 0, 1];
        let bins: Vec<Bin> =
            counts.iter().enumerate().map(|(i, &count)| Bin { lower: i as f64, width: 1.0, count }).collect();
        let quantizer = Uniform::new(IntFormat::new(2, crate::Signedness::Unsigned).unwrap(), 2.0, 0).unwrap();
        // Middles 0.5, 1.5 .. 7.5 have codes 0 1 1 2 2 3 3 3: means of non-empty bins 4 | 2 | 1.5 1.5 | 3.
        let p = [4.0, 2.0, 2.0, 1.0, 3.0, 1.0].map(|count: f64| count / 13.0);
        let q = [4.0, 2.0, 1.5, 1.5, 3.0, 1e-3].map(|count: f64| count / 12.0);
        let wanted: f64 = p.iter().zip(q).map(|(p, q)| p * (p / q).ln()).sum();
        assert!((divergence(&bins, 0..8, &quantizer) - wanted).abs() < 1e-12);
    }
}
