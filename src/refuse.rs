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
    if let Some(op) = quantized_operator(&model.graph) {
        return Some(format!("already quantized (it has {op}); give the float model that it was made from"));
    }
    half_value(&model.graph).map(|(name, element)| {
        format!("`{name}` is {element}; such models are not done yet: give the float32 model that it was made from")
    })
}

/// The first operator that computes with codes.
fn quantized_operator(graph: &Graph) -> Option<String> {
    graph.op_ids().find_map(|id| {
        let op = graph.op(id);
        let name = op.op_type();
        let quantized = name.starts_with("QLinear")
            || name.starts_with("QGemm")
            || name.ends_with("Integer")
            || name.contains("NBits")
            || QUANTIZED.contains(&name);
        if quantized { Some(name.to_owned()) } else { op.bodies().find_map(quantized_operator) }
    })
}

const QUANTIZED: &[&str] = &[
    "QuantizeLinear",
    "DequantizeLinear",
    "DynamicQuantizeLinear",
    "DynamicQuantizeLSTM",
    "DynamicQuantizeMatMul",
    "MatMulIntegerToFloat",
    "MatMulBnb4",
    "MatMulFpQ4",
    "QAttention",
    "QEmbedLayerNormalization",
    "QOrderedMatMul",
    "GatherBlockQuantized",
];

/// The first input, output or constant of 16 bits.
fn half_value(graph: &Graph) -> Option<(String, ElementType)> {
    graph.values().find_map(|value| {
        let element = graph.tensor_type(value)?.element;
        matches!(element, ElementType::F16 | ElementType::BF16).then(|| (graph.value(value).name().to_owned(), element))
    })
}
