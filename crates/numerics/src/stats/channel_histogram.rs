//! A histogram per channel. Does not know what a channel means.

use serde::{Deserialize, Serialize};

use super::histogram::Histogram;
use crate::range::Range;

/// A [`Histogram`] per channel.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ChannelHistogram {
    channels: Vec<Histogram>,
}

impl ChannelHistogram {
    /// Nothing seen of so many channels, with at most `max_bins` bins each.
    pub fn new(channels: usize, max_bins: usize) -> Self {
        Self { channels: vec![Histogram::new(max_bins); channels] }
    }

    /// Takes in values, where value `i` belongs to channel `(i / inner) % channels`.
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

    /// The histogram of each channel.
    pub fn channels(&self) -> &[Histogram] {
        &self.channels
    }

    /// The range of each channel.
    pub fn ranges(&self) -> Vec<Option<Range>> {
        self.channels.iter().map(Histogram::range).collect()
    }

    /// Channels-last: transposes sixteen channels at a time, a cache line of each row.
    fn observe_rows(&mut self, values: &[f32]) {
        const GROUP: usize = 16;
        let channels = self.channels.len();
        let rows = values.len().div_ceil(channels);
        let mut columns = vec![Vec::with_capacity(rows); GROUP.min(channels)];
        for (group, histograms) in self.channels.chunks_mut(GROUP).enumerate() {
            let start = group * GROUP;
            columns.iter_mut().for_each(Vec::clear);
            for row in values.chunks(channels) {
                let end = (start + histograms.len()).min(row.len());
                for (column, &value) in columns.iter_mut().zip(row.get(start..end).unwrap_or_default()) {
                    column.push(value);
                }
            }
            for (histogram, column) in histograms.iter_mut().zip(&columns) {
                histogram.observe(column);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::test_data::{any_floats, normal};

    #[test]
    fn channels_are_those_of_the_index_formula() {
        for values in [normal(3, 3 * 4 * 5 * 7), any_floats(4, 3 * 4 * 5 * 7), normal(5, 61)] {
            for (channels, inner) in [(1, 1), (4, 1), (35, 1), (16, 1), (100, 1), (4, 35), (3, 2), (7, 60)] {
                let mut observer = ChannelHistogram::new(channels, 32);
                observer.observe(&values, inner);
                for (c, found) in observer.channels().iter().enumerate() {
                    let own: Vec<f32> =
                        (0..values.len()).filter(|i| i / inner % channels == c).map(|i| values[i]).collect();
                    let mut wanted = Histogram::new(32);
                    wanted.observe(&own);
                    assert_eq!(*found, wanted);
                }
            }
        }
        ChannelHistogram::new(0, 8).observe(&[1.0], 1);
        ChannelHistogram::new(1, 8).observe(&[1.0], 0);
    }

    #[test]
    fn samples_merge_to_the_whole() {
        let values = normal(9, 6 * 20);
        let mut whole = ChannelHistogram::new(6, 32);
        whole.observe(&values, 1);
        let (mut left, mut right) = (ChannelHistogram::new(6, 32), ChannelHistogram::new(6, 32));
        left.observe(&values[..42], 1);
        right.observe(&values[42..], 1);
        right.merge(&left);
        assert_eq!(right, whole);
        assert_eq!(right.ranges(), whole.ranges());
    }
}
