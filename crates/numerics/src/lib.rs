//! Number formats, quantizers, statistics and range searches of onnxq.
//!
//! Slices in, slices out: nothing here knows of graphs, tensors' shapes or files. Data flows one way: observers
//! ([`stats`]) -> [`Histogram`], [`Range`] -> searches ([`search`]) -> [`Range`] -> [`Uniform::fit`] -> codes
//! ([`formats`]).

pub mod formats;
pub mod quantizers;
mod range;
pub mod search;
pub mod stats;
#[cfg(test)]
mod test_data;

pub use formats::{Float4E2M1, Float8, FormatError, IntFormat, Signedness, pack, unpack};
pub use quantizers::{
    Base, LevelRule, Log, QuantizerError, Symmetry, Uniform, encode_channels, fake_channels, fit_channels,
};
pub use range::Range;
pub use search::rows;
pub use stats::{
    Bin, CHANNEL_BINS, ChannelHistogram, ChannelMinMax, ChannelMoments, Histogram, LogHistogram, MinMax, Moments,
    StateError, TENSOR_BINS,
};
