//! Quantizers: a step function from values to codes and from codes to levels, each in one file.
//! Knows no tensor axes beyond "every so many values another channel".

mod channels;
mod log;
mod uniform;

pub use channels::{encode_channels, fake_channels, fit_channels};
pub use log::{Base, LevelRule, Log};
pub use uniform::{Symmetry, Uniform};

/// Why parameters make no quantizer.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum QuantizerError {
    /// The scale is zero, negative, infinite or NaN.
    #[error("scale `{0}` must be finite and above 0")]
    Scale(f32),
    /// The zero point is no code of the format.
    #[error("zero point `{zero_point}` must be a code of `{format}`, that is {} to {}", format.qmin(), format.qmax())]
    ZeroPoint {
        /// The zero point that was asked for.
        zero_point: i32,
        /// The format of the codes.
        format: crate::IntFormat,
    },
    /// A logarithmic quantizer takes 2 to 8 bits.
    #[error("a logarithmic quantizer takes 2 to 8 bits, not `{0}`")]
    LogBits(u8),
}
