//! Models that are not done yet: refused, never done wrong.

use onnxq_ir::Model;
use onnxq_ir::ops::opset;

/// Why a model can't be quantized yet, or nothing.
pub fn reason(model: &Model) -> Option<String> {
    let opset = model.graph.opset();
    let (oldest, newest) = (opset::RANGE.start(), opset::RANGE.end());
    if opset < *oldest {
        return Some(format!(
            "opset {opset} is older than {oldest}, which is not done yet: convert it first, for example with onnx.version_converter"
        ));
    }
    if opset > *newest {
        return Some(format!("opset {opset} is newer than {newest}, the newest known here"));
    }
    if let Some(defect) = onnxq_ir::verify(&model.graph).first() {
        return Some(format!("is malformed: {defect}"));
    }
    None
}
