//! A histogram of all finite values, in one pass: bins are `2^e` wide and start at multiples of it, and e follows
//! from the smallest and the largest value alone, so that growing is adding neighbouring bins and loses nothing.

use serde::{Deserialize, Serialize};

use super::StateError;
use super::bins::{self, Bin, Cell};
use super::minmax::MinMax;
use crate::range::Range;

/// Bins for a whole tensor: at 8 bits a step is some thirty bins.
pub const TENSOR_BINS: usize = 8192;

/// Bins for one channel of many.
pub const CHANNEL_BINS: usize = 512;

/// How much finer than the largest magnitude bins may be, as an exponent: indices stay below 2^22, where rounding by
/// a magic constant is exact.
const FINEST: i32 = 21;

/// 1.5 * 2^23, see [`FINEST`].
const MAGIC: f32 = 12_582_912.0;

/// Counts of finite values on a power-of-two grid, with exact smallest and largest value. NaN and infinite values are
/// counted apart. Equal for equal values, however split or merged.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "RawHistogram", into = "RawHistogram")]
pub struct Histogram {
    max_bins: usize,
    range: Option<Range>,
    grid: Grid,
    counts: Vec<u64>,
    count: u64,
    nan: u64,
    infinite: u64,
}

impl Histogram {
    /// Nothing seen; at most `max_bins` bins, where less than 2 count as 2 (the grid has an edge at 0).
    pub fn new(max_bins: usize) -> Self {
        Self {
            max_bins: max_bins.max(2),
            range: None,
            grid: Grid::EMPTY,
            counts: Vec::new(),
            count: 0,
            nan: 0,
            infinite: 0,
        }
    }

    /// Takes in values.
    pub fn observe(&mut self, values: &[f32]) {
        let seen = MinMax::of(values);
        self.nan += seen.nan();
        self.infinite += seen.infinite();
        let Some(range) = seen.range() else { return };
        let range = self.range.map_or(range, |own| own.union(range));
        if self.range != Some(range) {
            self.regrid(range);
        }
        if seen.nan() + seen.infinite() == 0 {
            self.add(values);
        } else {
            let finite: Vec<f32> = values.iter().copied().filter(|v| v.is_finite()).collect();
            self.add(&finite);
        }
    }

    /// Takes in what another one saw. Of two different `max_bins` the smaller one stays.
    pub fn merge(&mut self, other: &Self) {
        self.nan += other.nan;
        self.infinite += other.infinite;
        self.max_bins = self.max_bins.min(other.max_bins);
        let Some(range) = self.range.into_iter().chain(other.range).reduce(Range::union) else { return };
        self.regrid(range);
        self.absorb(other.grid, &other.counts);
        self.count += other.count;
    }

    /// How many finite values were seen.
    pub fn count(&self) -> u64 {
        self.count
    }

    /// How many were NaN.
    pub fn nan(&self) -> u64 {
        self.nan
    }

    /// How many were infinite.
    pub fn infinite(&self) -> u64 {
        self.infinite
    }

    /// Smallest and largest finite value; `None` if there were none.
    pub fn range(&self) -> Option<Range> {
        self.range
    }

    /// All bins, ascending, empty ones included.
    pub fn bins(&self) -> impl Iterator<Item = Bin> + Clone + '_ {
        let grid = self.grid;
        (grid.first..).zip(&self.counts).map(move |(index, &count)| Bin {
            lower: grid.edge(index),
            width: grid.width(),
            count,
        })
    }

    /// The quantile `p` (0 to 1) in numpy's linear definition, interpolated inside of bins; exact at both ends; 0 if
    /// nothing was seen.
    pub fn quantile(&self, p: f64) -> f32 {
        bins::quantile(&self.cells(), self.count, self.range.unwrap_or(Range::ZERO), p)
    }

    /// Bins that hold something, cut to the range.
    pub(crate) fn cells(&self) -> impl Iterator<Item = Cell> + Clone + '_ {
        let range = self.range.unwrap_or(Range::ZERO);
        self.bins().filter(|bin| bin.count > 0).map(move |bin| Cell::within(bin, range))
    }

    /// Moves the counts to the grid of a range that holds the present one.
    fn regrid(&mut self, range: Range) {
        self.range = Some(range);
        let grid = Grid::of(range, self.max_bins);
        if grid != self.grid {
            let old = std::mem::replace(&mut self.grid, grid);
            let counts = std::mem::replace(&mut self.counts, vec![0; grid.len]);
            self.absorb(old, &counts);
        }
    }

    /// Adds counts of a grid that is at least as fine, and covered by the present one.
    fn absorb(&mut self, grid: Grid, counts: &[u64]) {
        for (index, &count) in (grid.first..).zip(counts) {
            self.counts[self.grid.place(grid.edge(index))] += count;
        }
    }

    /// Counts finite values that the grid covers.
    fn add(&mut self, values: &[f32]) {
        const BLOCK: usize = 64;
        self.count += values.len() as u64;
        let Some(scale) = self.grid.f32_scale() else {
            for &value in values {
                self.counts[self.grid.place(value.into())] += 1;
            }
            return;
        };
        let first = self.grid.first as i32;
        let mut indices = [0u32; BLOCK];
        for block in values.chunks(BLOCK) {
            // Two loops: the first one has packed instructions.
            for (index, &value) in indices.iter_mut().zip(block) {
                *index = floor(value * scale).wrapping_sub(first) as u32;
            }
            for &index in &indices[..block.len()] {
                if let Some(count) = self.counts.get_mut(index as usize) {
                    *count += 1;
                }
            }
        }
    }
}

/// The floor of a number of magnitude at most 2^22, without the function call that baseline targets make of it.
#[inline]
fn floor(value: f32) -> i32 {
    let shifted = value + MAGIC;
    let nearest = shifted - MAGIC;
    let index = shifted.to_bits() as i32 - MAGIC.to_bits() as i32;
    index - i32::from(nearest > value)
}

/// Bins `[i 2^e, (i + 1) 2^e)` for `len` indices i from `first`.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Grid {
    exponent: i32,
    first: i64,
    len: usize,
}

impl Grid {
    const EMPTY: Self = Self { exponent: 0, first: 0, len: 0 };

    /// The finest grid that covers a range with at most `max_bins` bins. Wider ranges never get finer grids: the bound
    /// on fineness follows the largest magnitude, and if a range fits, so does any part of it.
    fn of(range: Range, max_bins: usize) -> Self {
        let (min, max) = (f64::from(range.min()), f64::from(range.max()));
        // Below 2^-126 the inverse of the width would overflow.
        let finest = (exponent(range.absmax().into()) - FINEST).max(-126);
        let guess = exponent((max - min) / max_bins as f64) - 1;
        let mut grid = Self::covering(min, max, finest.max(guess));
        while grid.len > max_bins {
            grid = Self::covering(min, max, grid.exponent + 1);
        }
        grid
    }

    fn covering(min: f64, max: f64, exponent: i32) -> Self {
        let grid = Self { exponent, first: 0, len: 0 };
        let (first, last) = (grid.index(min), grid.index(max));
        Self { exponent, first, len: (last - first + 1) as usize }
    }

    fn width(self) -> f64 {
        power_of_two(self.exponent)
    }

    fn edge(self, index: i64) -> f64 {
        // Indices have fewer than 23 bits: exact.
        index as f64 * self.width()
    }

    fn index(self, value: f64) -> i64 {
        (value * power_of_two(-self.exponent)).floor() as i64
    }

    /// The position of a value's bin among the counts.
    fn place(self, value: f64) -> usize {
        (self.index(value) - self.first) as usize
    }

    /// The inverse of the width, if multiplying by it in f32 keeps the bin of every value. For widths above 1 small
    /// negative values would underflow to -0 and move one bin up.
    fn f32_scale(self) -> Option<f32> {
        (self.exponent <= 0).then(|| power_of_two(-self.exponent) as f32)
    }
}

/// The exponent of the largest power of two that is not above a value of at least 0; the lowest of f64 for 0.
fn exponent(value: f64) -> i32 {
    (value.to_bits() >> 52) as i32 - 1023
}

/// `2^e` for the normal exponents of f64.
fn power_of_two(exponent: i32) -> f64 {
    f64::from_bits(((exponent + 1023) as u64) << 52)
}

#[derive(Serialize, Deserialize)]
struct RawHistogram {
    max_bins: usize,
    range: Option<Range>,
    counts: Vec<u64>,
    nan: u64,
    infinite: u64,
}

impl From<Histogram> for RawHistogram {
    fn from(histogram: Histogram) -> Self {
        let Histogram { max_bins, range, counts, nan, infinite, .. } = histogram;
        Self { max_bins, range, counts, nan, infinite }
    }
}

impl TryFrom<RawHistogram> for Histogram {
    type Error = StateError;

    fn try_from(raw: RawHistogram) -> Result<Self, StateError> {
        let max_bins = raw.max_bins.max(2);
        let grid = raw.range.map_or(Grid::EMPTY, |range| Grid::of(range, max_bins));
        if grid.len != raw.counts.len() {
            return Err(StateError::Bins { needed: grid.len, found: raw.counts.len() });
        }
        let sum = raw.counts.iter().try_fold(0u64, |sum, &count| sum.checked_add(count));
        let count = sum.ok_or(StateError::Damaged("counts"))?;
        if (count == 0) != raw.range.is_none() {
            return Err(StateError::Damaged("counts"));
        }
        let RawHistogram { range, counts, nan, infinite, .. } = raw;
        Ok(Self { max_bins, range, grid, counts, count, nan, infinite })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rows;
    use crate::test_data::{any_floats, below, normal, uniform};

    fn of(values: &[f32], max_bins: usize) -> Histogram {
        let mut histogram = Histogram::new(max_bins);
        histogram.observe(values);
        histogram
    }

    fn samples() -> Vec<Vec<f32>> {
        let wide: Vec<f32> = normal(1, 500).iter().map(|v| v.powi(31)).collect();
        let large_with_tiny: Vec<f32> = normal(2, 300).iter().flat_map(|v| [v * 1e6, v * 1e-38, -1e-45]).collect();
        vec![
            vec![],
            vec![0.0; 9],
            vec![3.25; 5],
            vec![-1.0, f32::NAN, f32::INFINITY, 2.0],
            vec![1e-45, -1e-45, 0.0, 3e-45],
            vec![f32::MAX, f32::MIN, 0.0, -1e-45],
            normal(3, 3000),
            uniform(4, 3000),
            normal(5, 200).iter().map(|v| v + 1000.0).collect(),
            normal(6, 200).iter().map(|v| v - 1000.0).collect(),
            any_floats(7, 3000),
            wide,
            large_with_tiny,
        ]
    }

    #[test]
    fn any_split_and_order_gives_the_same_state() {
        let mut state = 11;
        for values in samples() {
            for max_bins in [2, 3, 64, 512, 8192] {
                let whole = of(&values, max_bins);
                for _ in 0..8 {
                    let mut cuts = [0, 1, 2].map(|_| below(&mut state, values.len() + 1));
                    cuts.sort_unstable();
                    let parts =
                        [&values[..cuts[0]], &values[cuts[0]..cuts[1]], &values[cuts[1]..cuts[2]], &values[cuts[2]..]];
                    let mut streamed = Histogram::new(max_bins);
                    for part in parts {
                        streamed.observe(part);
                    }
                    assert_eq!(streamed, whole);
                    let mut merged = Histogram::new(max_bins);
                    let start = below(&mut state, 4);
                    (0..4).for_each(|i| merged.merge(&of(parts[(start + i) % 4], max_bins)));
                    assert_eq!(merged, whole);
                }
                let mut one_by_one = Histogram::new(max_bins);
                values.iter().rev().for_each(|&value| one_by_one.observe(&[value]));
                assert_eq!(one_by_one, whole);
            }
        }
    }

    #[test]
    fn each_bin_counts_the_values_between_its_edges() {
        for values in samples() {
            for max_bins in [2, 37, 8192] {
                let histogram = of(&values, max_bins);
                let finite: Vec<f64> = values.iter().filter(|v| v.is_finite()).map(|&v| v.into()).collect();
                assert!(histogram.bins().count() <= max_bins);
                assert_eq!(histogram.count(), finite.len() as u64);
                assert_eq!(histogram.nan(), values.iter().filter(|v| v.is_nan()).count() as u64);
                assert_eq!(histogram.infinite(), values.iter().filter(|v| v.is_infinite()).count() as u64);
                for bin in histogram.bins().filter(|bin| bin.count > 0) {
                    let inside = finite.iter().filter(|&&v| v >= bin.lower && v < bin.lower + bin.width).count();
                    assert_eq!(bin.count, inside as u64);
                }
                assert_eq!(histogram.bins().map(|bin| bin.count).sum::<u64>(), finite.len() as u64);
            }
        }
    }

    #[test]
    fn grid_is_the_finest_that_fits() {
        for values in [normal(3, 3000), uniform(4, 3000), vec![f32::MAX, f32::MIN]] {
            let histogram = of(&values, 512);
            let finer = histogram.grid.width() / 2.0;
            let range = histogram.range().unwrap();
            let bins = (f64::from(range.max()) / finer).floor() - (f64::from(range.min()) / finer).floor() + 1.0;
            assert!(bins > 512.0);
        }
    }

    #[test]
    fn quantiles_are_numpys_within_a_bin() {
        for values in samples() {
            let histogram = of(&values, TENSOR_BINS);
            let width = histogram.bins().next().map_or(0.0, |bin| bin.width);
            for p in [0.0, 1e-5, 1e-3, 0.1, 0.5, 0.77, 0.999, 0.99999, 1.0] {
                let (found, exact) = (histogram.quantile(p), rows::quantile(&values, p));
                // Both ranks may lie a bin off.
                assert!(f64::from((found - exact).abs()) <= width * 1.001, "{found} for {exact} at {p}");
            }
            assert_eq!(histogram.quantile(0.0), rows::quantile(&values, 0.0));
            assert_eq!(histogram.quantile(1.0), rows::quantile(&values, 1.0));
        }
    }

    #[test]
    fn merging_different_sizes_keeps_the_smaller() {
        let values = normal(8, 1000);
        let (coarse, fine) = (of(&values[..400], 32), of(&values[400..], 8192));
        let (mut a, mut b) = (coarse.clone(), fine.clone());
        a.merge(&fine);
        b.merge(&coarse);
        assert_eq!(a, b);
        assert_eq!(a, of(&values, 32));
    }

    #[test]
    fn state_survives_storage_and_damage_is_found() {
        for values in samples() {
            let histogram = of(&values, 64);
            let text = serde_json::to_string(&histogram).unwrap();
            assert_eq!(serde_json::from_str::<Histogram>(&text).unwrap(), histogram);
        }
        for bad in [
            r#"{"max_bins":8,"range":{"min":0.0,"max":1.0},"counts":[1],"nan":0,"infinite":0}"#,
            r#"{"max_bins":8,"range":null,"counts":[1],"nan":0,"infinite":0}"#,
            r#"{"max_bins":8,"range":{"min":2.0,"max":1.0},"counts":[],"nan":0,"infinite":0}"#,
        ] {
            assert!(serde_json::from_str::<Histogram>(bad).is_err());
        }
    }
}
