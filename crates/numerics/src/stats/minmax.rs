//! Smallest and largest value, of a slice or per channel. NaN and infinite values are counted, and are no part of the
//! range: whether they are an error is for the caller to say.

use serde::{Deserialize, Serialize};

use crate::range::Range;

/// Running range of finite values; counts of all, NaN and infinite values.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub struct MinMax {
    range: Option<Range>,
    count: u64,
    nan: u64,
    infinite: u64,
}

impl MinMax {
    /// Nothing seen.
    pub fn new() -> Self {
        Self::default()
    }

    /// The statistics of one slice.
    pub fn of(values: &[f32]) -> Self {
        let mut minmax = Self::default();
        minmax.observe(values);
        minmax
    }

    /// Takes in values.
    pub fn observe(&mut self, values: &[f32]) {
        // Blocks that a cache holds: where one is not finite throughout, it is read a second time.
        for block in values.chunks(4096) {
            let extremes = Extremes::of(block);
            if extremes.finite() {
                self.count += block.len() as u64;
                self.widen(extremes.range());
            } else {
                for &value in block {
                    self.observe_one(value);
                }
            }
        }
    }

    /// Takes in what another one saw.
    pub fn merge(&mut self, other: &Self) {
        self.count += other.count;
        self.nan += other.nan;
        self.infinite += other.infinite;
        self.widen(other.range);
    }

    /// The range of the finite values; `None` if there were none.
    pub fn range(&self) -> Option<Range> {
        self.range
    }

    /// How many values were seen, of any kind.
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

    fn observe_one(&mut self, value: f32) {
        self.count += 1;
        self.nan += u64::from(value.is_nan());
        self.infinite += u64::from(value.is_infinite());
        self.widen(Range::new(value, value));
    }

    fn widen(&mut self, seen: Option<Range>) {
        self.range = match (self.range, seen) {
            (Some(own), Some(seen)) => Some(own.union(seen)),
            (own, seen) => own.or(seen),
        };
    }
}

/// 0 for finite values, else NaN: a test that packs and needs no branch.
#[expect(clippy::eq_op, reason = "infinity less infinity is NaN")]
#[inline]
fn poison_of(value: f32) -> f32 {
    value - value
}

/// Smallest and largest of a block, with a sum that is NaN unless all values are finite.
struct Extremes {
    low: f32,
    high: f32,
    poison: f32,
}

impl Extremes {
    /// Sixteen lanes with plain comparisons, which compile to packed instructions on every target.
    fn of(block: &[f32]) -> Self {
        const LANES: usize = 16;
        let mut low = [f32::INFINITY; LANES];
        let mut high = [f32::NEG_INFINITY; LANES];
        let mut poison = [0.0; LANES];
        let (chunks, rest) = block.as_chunks::<LANES>();
        for chunk in chunks {
            for lane in 0..LANES {
                let value = chunk[lane];
                low[lane] = if value < low[lane] { value } else { low[lane] };
                high[lane] = if value > high[lane] { value } else { high[lane] };
                poison[lane] += poison_of(value);
            }
        }
        for (lane, &value) in rest.iter().enumerate() {
            low[lane] = low[lane].min(value);
            high[lane] = high[lane].max(value);
            poison[lane] += poison_of(value);
        }
        Self {
            low: low.into_iter().fold(f32::INFINITY, f32::min),
            high: high.into_iter().fold(f32::NEG_INFINITY, f32::max),
            poison: poison.iter().sum(),
        }
    }

    fn finite(&self) -> bool {
        self.poison == 0.0
    }

    fn range(&self) -> Option<Range> {
        Range::new(self.low, self.high)
    }
}

/// A [`MinMax`] per channel.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ChannelMinMax {
    channels: Vec<MinMax>,
}

impl ChannelMinMax {
    /// Nothing seen of so many channels.
    pub fn new(channels: usize) -> Self {
        Self { channels: vec![MinMax::new(); channels] }
    }

    /// Takes in values, where value `i` belongs to channel `(i / inner) % channels`: `inner` is 1 for channels-last
    /// tensors, height times width for NCHW.
    pub fn observe(&mut self, values: &[f32], inner: usize) {
        let channels = self.channels.len();
        if channels == 0 || inner == 0 {
            return;
        }
        if inner == 1 {
            return self.observe_rows(values);
        }
        for block in values.chunks(channels.saturating_mul(inner)) {
            for (run, channel) in block.chunks(inner).zip(&mut self.channels) {
                channel.observe(run);
            }
        }
    }

    /// Takes in what another one saw; of different numbers of channels the common ones.
    pub fn merge(&mut self, other: &Self) {
        for (own, other) in self.channels.iter_mut().zip(&other.channels) {
            own.merge(other);
        }
    }

    /// The statistics of each channel.
    pub fn channels(&self) -> &[MinMax] {
        &self.channels
    }

    /// The range of each channel.
    pub fn ranges(&self) -> Vec<Option<Range>> {
        self.channels.iter().map(MinMax::range).collect()
    }

    /// What would have been seen had every value `x` of channel `c` been `x * scale[c] + shift[c]`, with scales above 0.
    pub fn scale_shift(&mut self, scale: &[f32], shift: &[f32]) {
        for (channel, (scale, shift)) in self.channels.iter_mut().zip(scale.iter().zip(shift)) {
            channel.range =
                channel.range.and_then(|range| Range::new(range.min() * scale + shift, range.max() * scale + shift));
        }
    }

    /// Channels-last: one lane a channel, row after row.
    fn observe_rows(&mut self, values: &[f32]) {
        let channels = self.channels.len();
        let mut low = vec![f32::INFINITY; channels];
        let mut high = vec![f32::NEG_INFINITY; channels];
        let mut poison = vec![0.0; channels];
        for row in values.chunks(channels) {
            for (((&value, low), high), poison) in row.iter().zip(&mut low).zip(&mut high).zip(&mut poison) {
                *low = if value < *low { value } else { *low };
                *high = if value > *high { value } else { *high };
                *poison += poison_of(value);
            }
        }
        for (index, channel) in self.channels.iter_mut().enumerate() {
            let own = values.iter().skip(index).step_by(channels);
            if poison[index] == 0.0 {
                channel.count += own.len() as u64;
                channel.widen(Range::new(low[index], high[index]));
            } else {
                for &value in own {
                    channel.observe_one(value);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::test_data::{any_floats, below, normal};

    fn naive(values: &[f32]) -> MinMax {
        let finite = || values.iter().copied().filter(|v| v.is_finite());
        MinMax {
            range: Range::new(finite().fold(f32::INFINITY, f32::min), finite().fold(f32::NEG_INFINITY, f32::max)),
            count: values.len() as u64,
            nan: values.iter().filter(|v| v.is_nan()).count() as u64,
            infinite: values.iter().filter(|v| v.is_infinite()).count() as u64,
        }
    }

    fn samples() -> Vec<Vec<f32>> {
        let mut samples: Vec<Vec<f32>> = (0..70).map(|n| normal(n as u64, n)).collect();
        samples.extend([normal(1, 10_000), any_floats(2, 10_000), vec![f32::NAN; 20], vec![f32::INFINITY, 1.0]]);
        samples
    }

    #[test]
    fn equals_a_plain_fold() {
        for values in samples() {
            assert_eq!(MinMax::of(&values), naive(&values));
        }
    }

    #[test]
    fn any_split_and_order_gives_the_same_state() {
        let mut state = 1;
        for values in samples() {
            let whole = MinMax::of(&values);
            for _ in 0..5 {
                let (a, b) = values.split_at(below(&mut state, values.len() + 1));
                let (mut left, mut right) = (MinMax::of(a), MinMax::of(b));
                let first = left;
                left.merge(&right);
                right.merge(&first);
                assert_eq!((left, right), (whole, whole));
            }
        }
    }

    #[test]
    fn channels_are_those_of_the_index_formula() {
        for values in [normal(3, 3 * 4 * 5 * 7), any_floats(4, 3 * 4 * 5 * 7), normal(5, 61)] {
            for (channels, inner) in [(1, 1), (4, 1), (4, 35), (3, 2), (7, 60)] {
                let mut observer = ChannelMinMax::new(channels);
                observer.observe(&values, inner);
                for (c, found) in observer.channels().iter().enumerate() {
                    let own: Vec<f32> =
                        (0..values.len()).filter(|i| i / inner % channels == c).map(|i| values[i]).collect();
                    assert_eq!(*found, naive(&own));
                }
                let mut twice = observer.clone();
                twice.merge(&observer);
                assert_eq!(twice.ranges(), observer.ranges());
            }
        }
        ChannelMinMax::new(0).observe(&[1.0], 1);
        ChannelMinMax::new(1).observe(&[1.0], 0);
    }
}
