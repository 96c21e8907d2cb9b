//! A histogram of log2 of values of 0 and more, to score logarithmic quantizers: relative resolution everywhere, which
//! equal bins do not have. Knows no quantizer.

use serde::{Deserialize, Serialize};

use super::StateError;
use super::bins::{self, Bin, Cell};
use super::minmax::MinMax;
use crate::range::Range;

/// Octaves `2^LOWEST ..` that have bins.
const OCTAVES: usize = 40;
const LOWEST: i32 = -32;
/// Bins an octave: equal parts of the mantissa, 1/32 to 1/64 of the value wide.
const PARTS_LOG2: u32 = 5;
const BINS: usize = OCTAVES << PARTS_LOG2;
/// Floats of one bin share their bits above these.
const SHIFT: u32 = 23 - PARTS_LOG2;
/// The bin index of `2^LOWEST`, counted from the float 0.
const FIRST: i32 = (LOWEST + 127) << PARTS_LOG2;

/// Counts of values by their logarithm: 40 octaves from 2^-32 to 2^8, 32 bins an octave. Smaller values, negative ones
/// included, count as zeros; larger ones fall into the last bin. NaN and infinite values are counted apart.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "RawLogHistogram", into = "RawLogHistogram")]
pub struct LogHistogram {
    range: Option<Range>,
    zeros: u64,
    counts: Vec<u64>,
    nan: u64,
    infinite: u64,
}

impl Default for LogHistogram {
    fn default() -> Self {
        Self::new()
    }
}

impl LogHistogram {
    /// Nothing seen.
    pub fn new() -> Self {
        Self { range: None, zeros: 0, counts: vec![0; BINS], nan: 0, infinite: 0 }
    }

    /// Takes in values.
    pub fn observe(&mut self, values: &[f32]) {
        let seen = MinMax::of(values);
        self.nan += seen.nan();
        self.infinite += seen.infinite();
        self.widen(seen.range());
        if seen.nan() + seen.infinite() == 0 {
            self.add(values);
        } else {
            let finite: Vec<f32> = values.iter().copied().filter(|v| v.is_finite()).collect();
            self.add(&finite);
        }
    }

    /// Takes in what another one saw.
    pub fn merge(&mut self, other: &Self) {
        self.widen(other.range);
        self.zeros += other.zeros;
        self.nan += other.nan;
        self.infinite += other.infinite;
        for (own, other) in self.counts.iter_mut().zip(&other.counts) {
            *own += other;
        }
    }

    /// How many finite values were seen.
    pub fn count(&self) -> u64 {
        self.zeros + self.counts.iter().sum::<u64>()
    }

    /// How many were below 2^-32.
    pub fn zeros(&self) -> u64 {
        self.zeros
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

    /// All bins but the zeros, ascending, empty ones included.
    pub fn bins(&self) -> impl Iterator<Item = Bin> + Clone + '_ {
        self.counts.iter().enumerate().map(|(index, &count)| {
            let (lower, upper) = (edge(index), edge(index + 1));
            Bin { lower, width: upper - lower, count }
        })
    }

    /// The quantile `p` (0 to 1) in numpy's linear definition, interpolated inside of bins; exact at both ends; 0 if
    /// nothing was seen.
    pub fn quantile(&self, p: f64) -> f32 {
        bins::quantile(&self.cells(), self.count(), self.range.unwrap_or(Range::ZERO), p)
    }

    /// Bins that hold something, cut to the range; the zeros are a point.
    pub(crate) fn cells(&self) -> impl Iterator<Item = Cell> + Clone + '_ {
        let range = self.range.unwrap_or(Range::ZERO);
        let zeros = (self.zeros > 0).then_some(Cell { low: 0.0, high: 0.0, count: self.zeros });
        let above = Bin { lower: edge(BINS), width: f64::INFINITY, count: 0 };
        let cell = move |(index, bin): (usize, Bin)| {
            let mut cell = Cell::within(bin, range);
            if index == BINS - 1 && f64::from(range.max()) > above.lower {
                cell.high = range.max().into();
            }
            cell
        };
        zeros.into_iter().chain(self.bins().enumerate().filter(|(_, bin)| bin.count > 0).map(cell))
    }

    fn widen(&mut self, seen: Option<Range>) {
        self.range = match (self.range, seen) {
            (Some(own), Some(seen)) => Some(own.union(seen)),
            (own, seen) => own.or(seen),
        };
    }

    fn add(&mut self, values: &[f32]) {
        let smallest = edge(0) as f32;
        let counts = self.counts.as_mut_slice();
        for &value in values {
            if value < smallest {
                self.zeros += 1;
            } else {
                let index = (value.to_bits() >> SHIFT) as usize - FIRST as usize;
                counts[index.min(BINS - 1)] += 1;
            }
        }
    }
}

/// The lower edge of a bin.
fn edge(index: usize) -> f64 {
    f32::from_bits((index as u32 + FIRST as u32) << SHIFT).into()
}

#[derive(Serialize, Deserialize)]
struct RawLogHistogram {
    range: Option<Range>,
    zeros: u64,
    counts: Vec<u64>,
    nan: u64,
    infinite: u64,
}

impl From<LogHistogram> for RawLogHistogram {
    fn from(histogram: LogHistogram) -> Self {
        let LogHistogram { range, zeros, counts, nan, infinite } = histogram;
        Self { range, zeros, counts, nan, infinite }
    }
}

impl TryFrom<RawLogHistogram> for LogHistogram {
    type Error = StateError;

    fn try_from(raw: RawLogHistogram) -> Result<Self, StateError> {
        let RawLogHistogram { range, zeros, counts, nan, infinite } = raw;
        if counts.len() != BINS {
            return Err(StateError::Bins { needed: BINS, found: counts.len() });
        }
        let count = counts.iter().try_fold(zeros, |sum, &count| sum.checked_add(count));
        if count.is_none_or(|count| (count == 0) != range.is_none()) {
            return Err(StateError::Damaged("counts"));
        }
        Ok(Self { range, zeros, counts, nan, infinite })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rows;
    use crate::test_data::{any_floats, below, uniform};

    fn of(values: &[f32]) -> LogHistogram {
        let mut histogram = LogHistogram::new();
        histogram.observe(values);
        histogram
    }

    fn samples() -> Vec<Vec<f32>> {
        let rows: Vec<f32> = uniform(1, 4000).into_iter().map(|u| (u * 50.0 - 45.0).exp2()).collect();
        vec![
            vec![],
            vec![0.0, 1.0, -1.0, 256.0, 255.9, 1e9, f32::NAN, f32::INFINITY],
            uniform(2, 3000),
            any_floats(3, 2000),
            rows,
        ]
    }

    #[test]
    fn each_bin_counts_the_values_between_its_edges() {
        for values in samples() {
            let histogram = of(&values);
            let finite: Vec<f64> = values.iter().filter(|v| v.is_finite()).map(|&v| v.into()).collect();
            assert_eq!(histogram.count(), finite.len() as u64);
            assert_eq!(histogram.zeros(), finite.iter().filter(|&&v| v < 2f64.powi(-32)).count() as u64);
            for (index, bin) in histogram.bins().enumerate() {
                let last = index == BINS - 1;
                let inside = finite.iter().filter(|&&v| v >= bin.lower && (last || v < bin.lower + bin.width)).count();
                assert_eq!(bin.count, inside as u64);
                assert!(bin.width / bin.lower <= 1.0 / 32.0);
            }
        }
        assert_eq!(LogHistogram::new().bins().next().map(|bin| bin.lower), Some(2f64.powi(-32)));
        assert_eq!(LogHistogram::new().bins().last().map(|bin| bin.lower + bin.width), Some(256.0));
    }

    #[test]
    fn any_split_gives_the_same_state() {
        let mut state = 5;
        for values in samples() {
            let (a, b) = values.split_at(below(&mut state, values.len() + 1));
            let mut merged = of(b);
            merged.merge(&of(a));
            assert_eq!(merged, of(&values));
            let text = serde_json::to_string(&merged).unwrap();
            assert_eq!(serde_json::from_str::<LogHistogram>(&text).unwrap(), merged);
        }
    }

    #[test]
    fn quantiles_are_numpys_within_a_bin() {
        for values in samples().into_iter().filter(|values| values.iter().all(|&v| (0.0..256.0).contains(&v))) {
            let histogram = of(&values);
            for p in [0.0, 0.1, 0.5, 0.999, 0.99999, 1.0] {
                let (found, exact) = (histogram.quantile(p), rows::quantile(&values, p));
                assert!((found - exact).abs() <= exact / 16.0 + 1e-9, "{found} for {exact} at {p}");
            }
        }
    }
}
