//! What must hold of any bytes that are taken for a model: they are refused, or written back and read again.

use bytes::Bytes;
use onnxq_ir::text::{Weights, print};
use onnxq_ir::verify;

use super::onnx::{decode_tensor, read_bytes, to_bytes};

/// Nothing panics, and what could be read and written once is then written alike for ever.
pub(crate) fn check(bytes: &[u8]) {
    // Refusing is fine, panicking is not.
    let _ = decode_tensor(bytes);
    let Ok(model) = read_bytes(Bytes::copy_from_slice(bytes), None) else { return };
    let _ = verify(&model.graph);
    let _ = print(&model, Weights::Hash);
    let Ok(once) = to_bytes(&model) else { return };
    let again = read_bytes(once.clone().into(), None).expect("our own file is read");
    let twice = to_bytes(&again).expect("what was written once is written again");
    assert!(once == twice, "written as {once:?}, then as {twice:?}");
}
