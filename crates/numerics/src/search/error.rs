//! The error that a quantizer makes on what a histogram holds, integrated over each bin as if values were spread
//! evenly in it, so that it is right even where a bin is as wide as a step. Knows no search.

use crate::quantizers::{Log, Uniform};
use crate::range::Range;
use crate::stats::{Cell, Histogram, LogHistogram};

/// The mean squared error of a uniform quantizer; 0 if nothing was seen.
pub fn error(histogram: &Histogram, quantizer: &Uniform) -> f64 {
    let cells: Vec<Cell> = histogram.cells().collect();
    uniform_error(&cells, quantizer)
}

/// The mean squared error of a logarithmic quantizer; 0 if nothing was seen.
pub fn log_error(histogram: &LogHistogram, quantizer: &Log) -> f64 {
    let thresholds: Vec<f64> = quantizer.thresholds().into_iter().rev().collect();
    let levels: Vec<f64> = quantizer.levels().into_iter().rev().map(f64::from).collect();
    mean(histogram.cells(), |cell| stepped_error(cell, &thresholds, &levels))
}

pub(super) fn uniform_error(cells: &[Cell], quantizer: &Uniform) -> f64 {
    let steps = Steps::of(quantizer);
    mean(cells.iter().copied(), |cell| steps.error(cell))
}

/// The same where it is less than `bound`; where it is not, infinity, most often without a look at all cells.
pub(super) fn uniform_error_below(cells: &[Cell], quantizer: &Uniform, bound: f64) -> f64 {
    const BLOCK: usize = 256;
    let steps = Steps::of(quantizer);
    let count = cells.iter().map(|cell| cell.count).sum::<u64>() as f64;
    if count == 0.0 {
        return 0.0;
    }
    // What is clipped at the upper end errs most, and would come last.
    let clipped = cells.iter().rev().take_while(|cell| cell.low > steps.high * steps.scale);
    let least: f64 = clipped.map(|cell| cell.count as f64 * steps.error(cell)).sum();
    if least * (1.0 - ROUNDING) / count >= bound {
        return f64::INFINITY;
    }
    let mut sum = 0.0;
    for block in cells.chunks(BLOCK) {
        for cell in block {
            sum += cell.count as f64 * steps.error(cell);
        }
        // No cell takes anything away.
        if sum / count >= bound {
            return f64::INFINITY;
        }
    }
    sum / count
}

/// More than sums over a histogram's cells in another order differ.
const ROUNDING: f64 = 1e-9;

/// The mean squared error of as many levels as `levels` from one end of the range to the other, wherever 0 lies: the
/// zero point `round(-min / s)` need not be a code.
pub(super) fn free_error(cells: &[Cell], range: Range, levels: usize) -> f64 {
    let last = (levels - 1) as f64;
    let scale = (f64::from(range.max()) - f64::from(range.min())) / last;
    let low = (f64::from(range.min()) / scale).round_ties_even();
    let steps = Steps { scale, inverse: 1.0 / scale, low, high: low + last };
    mean(cells.iter().copied(), |cell| steps.error(cell))
}

fn mean(cells: impl Iterator<Item = Cell>, error: impl Fn(&Cell) -> f64) -> f64 {
    let (mut sum, mut count) = (0.0, 0);
    for cell in cells {
        sum += cell.count as f64 * error(&cell);
        count += cell.count;
    }
    if count == 0 { 0.0 } else { sum / count as f64 }
}

/// The mean of `t^2` for t even over `[a, b]`.
fn mean_square(a: f64, b: f64) -> f64 {
    (a * a + a * b + b * b) / 3.0
}

/// A uniform quantizer in real numbers: levels at `k scale` for integers k from `low` to `high`.
struct Steps {
    scale: f64,
    inverse: f64,
    low: f64,
    high: f64,
}

impl Steps {
    fn of(quantizer: &Uniform) -> Self {
        let scale = f64::from(quantizer.scale());
        let step = |code: i32| f64::from(code - quantizer.zero_point());
        let format = quantizer.format();
        Self { scale, inverse: 1.0 / scale, low: step(format.qmin()), high: step(format.qmax()) }
    }

    fn nearest(&self, value: f64) -> f64 {
        /// 1.5 * 2^52: rounds as it is added and taken away.
        const MAGIC: f64 = 6_755_399_441_055_744.0;
        (value * self.inverse).clamp(self.low, self.high) + MAGIC - MAGIC
    }

    /// The mean squared error over one cell.
    fn error(&self, cell: &Cell) -> f64 {
        let (first, last) = (self.nearest(cell.low), self.nearest(cell.high));
        let (below, above) = (cell.low - first * self.scale, cell.high - last * self.scale);
        if first >= last {
            return mean_square(below, above);
        }
        let half = self.scale / 2.0;
        let between = (last - first - 1.0) * self.scale;
        let sum = (half - below) * mean_square(below, half)
            + between * self.scale * self.scale / 12.0
            + (above + half) * mean_square(-half, above);
        sum / (cell.high - cell.low)
    }
}

/// The mean squared error over one cell of any ascending step function: `levels[i]` below `thresholds[i]`.
fn stepped_error(cell: &Cell, thresholds: &[f64], levels: &[f64]) -> f64 {
    let mut index = thresholds.partition_point(|&threshold| threshold <= cell.low);
    if cell.low == cell.high {
        return (cell.low - levels[index]).powi(2);
    }
    let (mut start, mut sum) = (cell.low, 0.0);
    while start < cell.high {
        let end = thresholds.get(index).map_or(cell.high, |&threshold| threshold.min(cell.high));
        sum += (end - start) * mean_square(start - levels[index], end - levels[index]);
        start = end;
        index += 1;
    }
    sum / (cell.high - cell.low)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::test_data::{normal, uniform};
    use crate::{Base, IntFormat, LevelRule, Signedness, Symmetry, TENSOR_BINS};

    fn histogram(values: &[f32], bins: usize) -> Histogram {
        let mut histogram = Histogram::new(bins);
        histogram.observe(values);
        histogram
    }

    #[test]
    fn free_levels_are_those_of_shifted_values() {
        // All values far from 0: levels that need not contain 0 do as well as on the values moved to 0.
        let values: Vec<f32> = uniform(7, 50_000).iter().map(|v| v + 100.0).collect();
        let moved: Vec<f32> = values.iter().map(|v| v - 99.0).collect();
        let format = IntFormat::new(4, Signedness::Unsigned).unwrap();
        let (here, there) = (histogram(&values, TENSOR_BINS), histogram(&moved, TENSOR_BINS));
        let cells: Vec<Cell> = here.cells().collect();
        let free = free_error(&cells, here.range().unwrap(), format.levels());
        let range = there.range().unwrap();
        let step = f64::from(range.max() - range.min()) / 15.0;
        assert!((free / (step * step / 12.0) - 1.0).abs() < 0.1, "{free} for {}", step * step / 12.0);
        assert!(free < error(&there, &Uniform::fit(range, format, Symmetry::Affine)));
    }

    #[test]
    fn a_bound_hides_what_is_not_below_it_and_nothing_else() {
        let values = normal(3, 20_000);
        let histogram = histogram(&values, TENSOR_BINS);
        let cells: Vec<Cell> = histogram.cells().collect();
        let full = histogram.range().unwrap();
        for factors in [(1.0, 1.0), (0.7, 0.7), (1.0, 0.2), (0.2, 1.0), (0.05, 0.05)] {
            let range = full.scaled(factors.0, factors.1);
            let quantizer = Uniform::fit(range, IntFormat::U8, Symmetry::Affine);
            let error = uniform_error(&cells, &quantizer);
            for bound in [error * 0.5, error, f64::INFINITY, error * (1.0 + 1e-12), error * 2.0] {
                let found = uniform_error_below(&cells, &quantizer, bound);
                assert_eq!(found, if error < bound { error } else { f64::INFINITY }, "{factors:?}, {bound}");
            }
        }
        assert_eq!(uniform_error_below(&[], &Uniform::fit(full, IntFormat::U8, Symmetry::Affine), 0.0), 0.0);
    }

    #[test]
    fn is_the_error_of_the_values() {
        let values = normal(1, 200_000);
        let spread: Vec<f32> = values.iter().map(|v| v * v * v).collect();
        for values in [values, spread] {
            for (bits, bins, tolerance) in
                [(3, TENSOR_BINS, 0.01), (4, TENSOR_BINS, 0.01), (8, TENSOR_BINS, 0.02), (8, 512, 0.1)]
            {
                let format = IntFormat::new(bits, Signedness::Unsigned).unwrap();
                for high in [0.5, 2.0, 4.0] {
                    let quantizer = Uniform::fit(Range::new(-high, high * 0.8).unwrap(), format, Symmetry::Affine);
                    let exact = quantizer.squared_error(&values) / values.len() as f64;
                    let found = error(&histogram(&values, bins), &quantizer);
                    assert!((found / exact - 1.0).abs() < tolerance, "{bits} bits: {found} for {exact}");
                }
            }
        }
    }

    /// Against Simpson-like sums over many points of each cell.
    #[test]
    fn integrates_each_cell_exactly() {
        let quantizer = Uniform::new(IntFormat::new(3, Signedness::Signed).unwrap(), 0.5, 1).unwrap();
        let log = Log::new(3, Base::SqrtTwo, 1.0, LevelRule::Strict).unwrap();
        let thresholds: Vec<f64> = log.thresholds().into_iter().rev().collect();
        let levels: Vec<f64> = log.levels().into_iter().rev().map(f64::from).collect();
        for (low, high) in [(-5.0, 5.0), (-0.1, 0.1), (0.3, 0.3), (0.2, 0.9), (2.0, 7.0), (0.01, 0.02), (0.0, 2.0)] {
            let cell = Cell { low, high, count: 1 };
            let points = 200_000;
            let sampled = |level: &dyn Fn(f32) -> f32| {
                (0..points)
                    .map(|i| {
                        let x = low + (high - low) * (f64::from(i) + 0.5) / f64::from(points);
                        (x - f64::from(level(x as f32))).powi(2)
                    })
                    .sum::<f64>()
                    / f64::from(points)
            };
            let wanted = sampled(&|x| quantizer.decode(quantizer.code(x)));
            assert!((Steps::of(&quantizer).error(&cell) - wanted).abs() < 1e-4 * wanted.max(1e-3));
            if low >= 0.0 {
                let wanted = sampled(&|x| {
                    let mut x = [x];
                    log.fake(&mut x);
                    x[0]
                });
                assert!((stepped_error(&cell, &thresholds, &levels) - wanted).abs() < 1e-4 * wanted.max(1e-3));
            }
        }
    }

    #[test]
    fn log_error_is_the_error_of_the_values() {
        let values: Vec<f32> = uniform(2, 100_000).into_iter().map(|u| (-12.0 * u).exp()).chain([0.0; 500]).collect();
        let mut histogram = LogHistogram::new();
        histogram.observe(&values);
        for (bits, base) in [(3, Base::Two), (4, Base::SqrtTwo), (6, Base::SqrtTwo)] {
            let log = Log::new(bits, base, 0.9, LevelRule::Strict).unwrap();
            let mut fake = values.clone();
            log.fake(&mut fake);
            let exact = values.iter().zip(&fake).map(|(x, y)| f64::from(x - y).powi(2)).sum::<f64>();
            let found = log_error(&histogram, &log);
            assert!((found * values.len() as f64 / exact - 1.0).abs() < 0.01);
        }
    }

    #[test]
    fn nothing_seen_is_no_error() {
        let quantizer = Uniform::new(IntFormat::U8, 1.0, 0).unwrap();
        assert_eq!(error(&Histogram::new(8), &quantizer), 0.0);
        assert_eq!(error(&histogram(&[3.0; 4], 8), &quantizer), 0.0);
        assert_eq!(error(&histogram(&[3.25; 4], 8), &quantizer), 0.0625);
    }
}
