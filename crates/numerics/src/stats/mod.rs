//! Streaming observers: what is known of values that were shown once and are gone. Each is a monoid (`new`,
//! `observe`, `merge`) whose state does not depend on how the values were split or in which order parts were merged.
//! Knows no quantizer.

mod bins;
mod channel_histogram;
mod histogram;
mod log_histogram;
mod minmax;
mod moments;

pub use bins::Bin;
pub(crate) use bins::Cell;
pub use channel_histogram::ChannelHistogram;
pub use histogram::{CHANNEL_BINS, Histogram, TENSOR_BINS};
pub use log_histogram::LogHistogram;
pub use minmax::{ChannelMinMax, MinMax};
pub use moments::{ChannelMoments, Moments};

/// Why a stored observer can't be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum StateError {
    /// A stored histogram's counts do not fit its range.
    #[error("a stored histogram has {found} bins where its range needs {needed}; observe again")]
    Bins {
        /// How many the range needs.
        needed: usize,
        /// How many there are.
        found: usize,
    },
    /// A stored observer has a field out of bounds.
    #[error("a stored observer is damaged in `{0}`; observe again")]
    Damaged(&'static str),
}
