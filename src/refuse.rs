//! Models that are not done yet: refused, never done wrong.

use onnxq_ir::ops::opset;
use onnxq_ir::{ElementType, Graph, Model};

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
    half_value(&model.graph).map(|(name, element)| {
        format!("`{name}` is {element}; such models are not done yet: give the float32 model that it was made from")
    })
}

/// The first input, output or constant of 16 bits.
fn half_value(graph: &Graph) -> Option<(String, ElementType)> {
    graph.values().find_map(|value| {
        let element = graph.tensor_type(value)?.element;
        matches!(element, ElementType::F16 | ElementType::BF16).then(|| (graph.value(value).name().to_owned(), element))
    })
}
