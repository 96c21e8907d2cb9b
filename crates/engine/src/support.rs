//! What tract has, and what it has but computes wrong: asked before a graph is handed over.
//!
//! tract ignores domains, knows no local functions, and says only late what it lacks, one operator at a time. So every
//! operator is looked up here, and all that are refused are reported at once. Figures: the onnx package's own operator
//! tests, run with tract 0.23.9.

use std::collections::BTreeMap;

use onnxq_ir::{Attribute, AttributeValue, ElementType, Graph, Op, OpId, Origin, RECOGNISED, ValueId, ValueType};
use onnxq_plan::UnsupportedOp;

use crate::marked::DOMAIN as MARKERS;
use crate::rewrite::is_decided;

/// Operators of ONNX's own domain that tract has and computes right.
///
/// Left out although tract has them: random operators (no two runs agree), and QuantizeLinear and DequantizeLinear,
/// which multiply by the reciprocal and wrap: see `quantize.rs`, which replaces them.
const ONNX: &[&str] = &[
    "Abs",
    "Acos",
    "Acosh",
    "Add",
    "And",
    "ArgMax",
    "ArgMin",
    "Asin",
    "Asinh",
    "Atan",
    "Atanh",
    "Attention",
    "AveragePool",
    "BatchNormalization",
    "BitShift",
    "BitwiseAnd",
    "BitwiseNot",
    "BitwiseOr",
    "BitwiseXor",
    "BlackmanWindow",
    "Cast",
    "CastLike",
    "Ceil",
    "Celu",
    "Clip",
    "Compress",
    "Concat",
    "Constant",
    "ConstantOfShape",
    "Conv",
    "ConvInteger",
    "ConvTranspose",
    "Cos",
    "Cosh",
    "CumSum",
    "DFT",
    "DepthToSpace",
    "DequantizeLinear",
    "Div",
    "Dropout",
    "DynamicQuantizeLinear",
    "Einsum",
    "Elu",
    "Equal",
    "Erf",
    "Exp",
    "Expand",
    "EyeLike",
    "Flatten",
    "Floor",
    "GRU",
    "Gather",
    "GatherElements",
    "GatherND",
    "Gelu",
    "Gemm",
    "GlobalAveragePool",
    "GlobalLpPool",
    "GlobalMaxPool",
    "Greater",
    "GreaterOrEqual",
    "GridSample",
    "GroupNormalization",
    "HammingWindow",
    "HannWindow",
    "HardSigmoid",
    "HardSwish",
    "Hardmax",
    "Identity",
    "If",
    "InstanceNormalization",
    "IsInf",
    "IsNaN",
    "LRN",
    "LSTM",
    "LayerNormalization",
    "LeakyRelu",
    "Less",
    "LessOrEqual",
    "Log",
    "LogSoftmax",
    "LpNormalization",
    "MatMul",
    "MatMulInteger",
    "Max",
    "MaxPool",
    "Mean",
    "MeanVarianceNormalization",
    "MelWeightMatrix",
    "Min",
    "Mish",
    "Mod",
    "Mul",
    "Neg",
    "NonMaxSuppression",
    "NonZero",
    "Not",
    "OneHot",
    "Or",
    "PRelu",
    "Pad",
    "Pow",
    "QLinearConv",
    "QLinearMatMul",
    "QuantizeLinear",
    "RMSNormalization",
    "RNN",
    "Range",
    "Reciprocal",
    "ReduceL1",
    "ReduceL2",
    "ReduceLogSum",
    "ReduceLogSumExp",
    "ReduceMax",
    "ReduceMean",
    "ReduceMin",
    "ReduceProd",
    "ReduceSum",
    "ReduceSumSquare",
    "Relu",
    "Reshape",
    "Resize",
    "RotaryEmbedding",
    "Round",
    "STFT",
    "Scan",
    "Scatter",
    "ScatterElements",
    "ScatterND",
    "Selu",
    "Shape",
    "Shrink",
    "Sigmoid",
    "Sign",
    "Sin",
    "Sinh",
    "Size",
    "Slice",
    "Softmax",
    "Softplus",
    "Softsign",
    "SpaceToDepth",
    "Split",
    "Sqrt",
    "Squeeze",
    "Sub",
    "Sum",
    "Swish",
    "Tan",
    "Tanh",
    "ThresholdedRelu",
    "Tile",
    "TopK",
    "Transpose",
    "Trilu",
    "Unsqueeze",
    "Where",
    "Xor",
];

/// Operators of the domain `com.microsoft` that tract has.
const MICROSOFT: &[&str] = &[
    "BiasGelu",
    "FastGelu",
    "Gelu",
    "GroupQueryAttention",
    "MatMulNBits",
    "MultiHeadAttention",
    "QuickGelu",
    "RotaryEmbedding",
    "SimplifiedLayerNormalization",
    "SkipLayerNormalization",
    "SkipSimplifiedLayerNormalization",
];

/// Operators of the domain `ai.onnx.ml` that tract has.
const ML: &[&str] = &[
    "ArrayFeatureExtractor",
    "CategoryMapper",
    "LinearClassifier",
    "LinearRegressor",
    "Normalizer",
    "TreeEnsembleClassifier",
];

/// Recognised operators, all of whose expansions tract has.
const EXPANDED: &[&str] = &["Gelu", "LayerNorm", "Linear", "RmsNorm", "Silu", "Softmax"];

/// The operators of `graph`, its bodies included, among those that `wanted` says, that can't be run.
pub(crate) fn refused(graph: &Graph, wanted: impl Fn(OpId) -> bool) -> Vec<UnsupportedOp> {
    let mut found: BTreeMap<String, (u64, UnsupportedOp)> = BTreeMap::new();
    for id in graph.topological().into_iter().filter(|&id| wanted(id)) {
        collect(graph, id, graph.op(id).order_key(), &mut found);
    }
    let mut operators: Vec<(u64, UnsupportedOp)> = found.into_values().collect();
    operators.sort_by_key(|(order, _)| *order);
    operators.into_iter().map(|(_, op)| op).collect()
}

fn collect(graph: &Graph, id: OpId, order: u64, found: &mut BTreeMap<String, (u64, UnsupportedOp)>) {
    let op = graph.op(id);
    if let Some(op_type) = lacking(graph, id) {
        let entry = found.entry(op_type.clone()).or_insert_with(|| {
            let unsupported = UnsupportedOp { op_type, node: node_name(graph, id).to_owned(), count: 0 };
            (order, unsupported)
        });
        entry.1.count += 1;
    }
    for body in op.bodies() {
        for inner in body.topological() {
            collect(body, inner, order, found);
        }
    }
}

/// The values among `values` that depend on nothing that can't be run.
pub(crate) fn reachable(graph: &Graph, values: &[ValueId], also_refused: &[OpId]) -> Vec<ValueId> {
    let mut dead = vec![false; graph.id_bound()];
    let order = graph.topological();
    let mut sorted = vec![false; graph.id_bound()];
    for &id in &order {
        sorted[id.index()] = true;
        let reads = graph.inputs_of(id).into_iter().flatten().chain(graph.captures_of(id));
        let cut = also_refused.contains(&id)
            || !runs(graph, id)
            || reads.into_iter().any(|value| dead[value.index()] || is_foreign(graph, value));
        if cut {
            for output in graph.outputs_of(id).into_iter().flatten() {
                dead[output.index()] = true;
            }
        }
    }
    let alive = |value: ValueId| {
        graph.try_value(value).is_some()
            && !dead[value.index()]
            && !is_foreign(graph, value)
            && graph.producer(value).is_none_or(|(op, _)| sorted[op.index()])
    };
    values.iter().copied().filter(|&value| alive(value)).collect()
}

/// Whether an operator and all in its bodies can be run.
fn runs(graph: &Graph, id: OpId) -> bool {
    lacking(graph, id).is_none() && graph.op(id).bodies().all(|body| body.op_ids().all(|inner| runs(body, inner)))
}

/// Values that are no dense tensors can't be handed over, and no sample has strings.
fn is_foreign(graph: &Graph, value: ValueId) -> bool {
    let value = graph.value(value);
    let is_text = value.value_type().tensor().is_some_and(|known| known.element == ElementType::String);
    matches!(value.value_type(), ValueType::Other(_))
        || *value.origin() == Origin::Sparse
        || (is_text && matches!(value.origin(), Origin::Input(_)))
}

/// The node's name, or else its first output's.
pub(crate) fn node_name(graph: &Graph, id: OpId) -> &str {
    match graph.op(id).name() {
        "" => graph.outputs_of(id).into_iter().flatten().next().map_or("", |value| graph.value(value).name()),
        name => name,
    }
}

/// What is refused about an operator: its type, with the form that is, or `None` where it can be run.
fn lacking(graph: &Graph, id: OpId) -> Option<String> {
    let op = graph.op(id);
    if !is_known(graph, id) {
        return Some(match op.domain() {
            "" | "ai.onnx" => op.op_type().to_owned(),
            domain => format!("{domain}.{}", op.op_type()),
        });
    }
    wrong_form(graph, id).map(|form| format!("{} {form}", op.op_type()))
}

/// Whether tract has an operator, in some form, or it is a loop that can be dissolved.
pub(crate) fn is_known(graph: &Graph, id: OpId) -> bool {
    let op = graph.op(id);
    match op.domain() {
        "" | "ai.onnx" if op.op_type() == "Loop" => is_decided(graph, id),
        "" | "ai.onnx" => ONNX.contains(&op.op_type()),
        "com.microsoft" => MICROSOFT.contains(&op.op_type()),
        "ai.onnx.ml" => ML.contains(&op.op_type()),
        RECOGNISED => EXPANDED.contains(&op.op_type()),
        MARKERS => true,
        _ => false,
    }
}

/// The forms of operators that tract has, but computes wrong or refuses.
fn wrong_form(graph: &Graph, id: OpId) -> Option<String> {
    let op = graph.op(id);
    let reads = |slot: usize| slot < op.input_arity() && graph.input(id, slot).is_some();
    match op.op_type() {
        "LSTM" | "GRU" | "RNN" => wrong_cell(op),
        "Resize" if rounds_aligned_size(graph, id) => {
            Some("with corners aligned to a size that is no whole number".to_owned())
        }
        "Swish" if float(op, "alpha").is_some_and(|alpha| alpha != 1.0) => Some("with alpha other than 1".to_owned()),
        "SpaceToDepth" if text(op, "mode") == Some("CRD") => Some("with mode `CRD`".to_owned()),
        "Attention" if reads(4) || reads(5) || reads(6) => Some("with past keys and values".to_owned()),
        "Attention" => ["softcap", "qk_matmul_output_mode", "left_window_size", "right_window_size"]
            .into_iter()
            .find(|name| op.attributes().iter().any(|attribute| attribute.name == *name && !is_zero(attribute)))
            .map(|name| format!("with {name}")),
        "Dropout" | "BatchNormalization" if int(op, "training_mode").unwrap_or(0) != 0 => {
            Some("in training mode".to_owned())
        }
        "Dropout" => {
            let training = graph.input(id, 2).filter(|_| op.input_arity() > 2);
            let off = training.is_none_or(|value| {
                graph.constant(value).and_then(onnxq_ir::Tensor::to_i64).is_some_and(|flag| flag == [0])
            });
            (!off).then(|| "in training mode".to_owned())
        }
        "QuantizeLinear" | "DequantizeLinear" => crate::quantize::unsupported_form(graph, id),
        "Constant" if op.attributes().iter().any(|attribute| attribute.name == "sparse_value") => {
            Some("with a sparse value".to_owned())
        }
        "Cast" => {
            let to = int(op, "to").and_then(|code| ElementType::from_code(i32::try_from(code).ok()?));
            let lacking =
                to.filter(|&element| element != ElementType::BF16 && crate::tensor::datum_type(element).is_none())?;
            Some(format!("to {lacking}"))
        }
        _ => None,
    }
}

/// Whether a Resize aligns corners to sizes that its scales do not make whole: tract rounds them before it aligns.
fn rounds_aligned_size(graph: &Graph, id: OpId) -> bool {
    if text(graph.op(id), "coordinate_transformation_mode") != Some("align_corners") {
        return false;
    }
    let constant = |slot| onnxq_ir::ops::constant_tensor(graph, graph.input(id, slot)?);
    let dims = graph.input(id, 0).and_then(|x| graph.tensor_type(x)?.shape);
    let (Some(scales), Some(dims)) = (constant(2), dims) else { return false };
    let sizes = scales.to_f32().unwrap_or_default();
    let mut sizes = sizes.iter().zip(&dims).filter_map(|(scale, dim)| Some(scale * dim.known()? as f32));
    sizes.any(|size| size.fract() != 0.0)
}

/// tract takes every direction but `bidirectional` for `forward`, and ignores what else a cell may say.
fn wrong_cell(op: &Op) -> Option<String> {
    if text(op, "direction") == Some("reverse") {
        return Some("with direction `reverse`".to_owned());
    }
    let standard: &[&str] = match op.op_type() {
        "LSTM" => &["Sigmoid", "Tanh", "Tanh"],
        "GRU" => &["Sigmoid", "Tanh"],
        _ => &["Tanh"],
    };
    if let Some(AttributeValue::Strings(named)) = find(op, "activations")
        && named.iter().zip(standard.iter().cycle()).any(|(name, usual)| !name.eq_ignore_ascii_case(usual.as_bytes()))
    {
        return Some("with activations of its own".to_owned());
    }
    let is_said = |name: &str| op.attributes().iter().any(|attribute| attribute.name == name && !is_zero(attribute));
    ["clip", "input_forget"].into_iter().find(|name| is_said(name)).map(|name| format!("with {name}"))
}

fn is_zero(attribute: &Attribute) -> bool {
    match attribute.value {
        AttributeValue::Int(value) => value == 0,
        AttributeValue::Float(value) => value == 0.0,
        _ => false,
    }
}

fn find<'a>(op: &'a Op, name: &str) -> Option<&'a AttributeValue> {
    op.attributes().iter().find(|attribute| attribute.name == name).map(|attribute| &attribute.value)
}

/// An INT attribute.
pub(crate) fn int(op: &Op, name: &str) -> Option<i64> {
    match find(op, name)? {
        AttributeValue::Int(value) => Some(*value),
        _ => None,
    }
}

/// A FLOAT attribute.
pub(crate) fn float(op: &Op, name: &str) -> Option<f32> {
    match find(op, name)? {
        AttributeValue::Float(value) => Some(*value),
        _ => None,
    }
}

/// A STRING attribute.
pub(crate) fn text<'a>(op: &'a Op, name: &str) -> Option<&'a str> {
    match find(op, name)? {
        AttributeValue::String(value) => std::str::from_utf8(value).ok(),
        _ => None,
    }
}
