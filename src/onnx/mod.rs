//! ONNX files: bytes to IR and back, losslessly.
//!
//! The only place that knows protobuf. What the IR has no room for rides along in [`onnxq_ir::Carried`], so that reading
//! and writing with nothing between gives an equal message. Knows nothing of quantization.

mod carried;
mod data_file;
mod encode;
mod error;
mod external;
mod fingerprint;
mod layout;
mod map;
pub mod output;
mod placement;
#[expect(unreachable_pub, clippy::enum_variant_names, clippy::trivially_copy_pass_by_ref, reason = "generated code")]
#[rustfmt::skip]
mod proto;
mod read;
mod scan;
mod tensor;
mod types;
mod write;

#[cfg(test)]
mod tests;

pub use data_file::data_files;
pub use encode::EncodeError;
pub use error::{ExternalProblem, ReadError, ReadProblem, TensorProblem};
pub use fingerprint::{Fingerprint, fingerprint};
pub use read::{decode_tensor, read, read_bytes};
pub use write::{ExternalData, WriteError, WriteOptions, Written, encoded_len, to_bytes, write};
