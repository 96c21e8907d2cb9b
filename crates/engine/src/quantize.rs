//! QuantizeLinear and DequantizeLinear with ONNX's own semantics, in place of tract's.
use onnxq_ir::{Graph, OpId};

/// What can't be computed about such an operator.
pub(crate) fn unsupported_form(_graph: &Graph, _id: OpId) -> Option<String> {
    Some(String::new())
}
