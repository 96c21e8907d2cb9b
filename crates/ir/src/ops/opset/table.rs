//! What changed between versions of ONNX's own operators, from opset 7 to 28 (as the package onnx 1.23.2 defines them).

use crate::graph::Graph;
use crate::op::OpId;

use super::Change;
use super::rules;

/// What a node needs when the version is crossed at which its operator changed.
pub(super) type Rule = fn(&Graph, OpId) -> Result<Vec<Change>, &'static str>;

/// Operators, versions at which meaning or signature changed incompatibly, and what to do.
pub(super) const BREAKS: &[(&str, i64, Rule)] = &[
    ("BatchNormalization", 9, rules::batch_normalization_9),
    ("BatchNormalization", 14, rules::batch_normalization),
    ("Clip", 11, rules::clip),
    ("ConvTranspose", 11, rules::conv_transpose),
    ("DFT", 20, rules::refuse),
    ("Dropout", 10, rules::dropout_10),
    ("Dropout", 12, rules::dropout),
    ("GridSample", 20, rules::grid_sample),
    ("GroupNormalization", 21, rules::refuse),
    ("Hardmax", 13, rules::softmax),
    ("LogSoftmax", 13, rules::softmax),
    ("OneHot", 11, rules::one_hot),
    ("Pad", 11, rules::pad),
    ("ReduceL1", 18, rules::axes),
    ("ReduceL2", 18, rules::axes),
    ("ReduceLogSum", 18, rules::axes),
    ("ReduceLogSum", 28, rules::float_only),
    ("ReduceLogSumExp", 18, rules::axes),
    ("ReduceLogSumExp", 28, rules::float_only),
    ("ReduceMax", 18, rules::axes),
    ("ReduceMean", 18, rules::axes),
    ("ReduceMin", 18, rules::axes),
    ("ReduceProd", 18, rules::axes),
    ("ReduceSum", 13, rules::axes),
    ("ReduceSumSquare", 18, rules::axes),
    ("Resize", 11, rules::resize_11),
    ("Resize", 13, rules::resize_13),
    ("RoiAlign", 16, rules::roi_align),
    ("Scan", 9, rules::scan),
    ("Scatter", 11, rules::scatter),
    ("Slice", 10, rules::slice),
    ("Softmax", 13, rules::softmax),
    ("Split", 13, rules::split_13),
    ("Split", 18, rules::split_18),
    ("Squeeze", 13, rules::axes),
    ("TopK", 10, rules::top_k),
    ("Unsqueeze", 13, rules::axes),
    ("Upsample", 9, rules::upsample_9),
    ("Upsample", 10, rules::upsample_10),
];

/// Operators whose newer versions, if there are any, only add to the old ones. Sorted.
#[rustfmt::skip]
pub(super) const UNCHANGED: &[&str] = &[
    "Abs", "Acos", "Acosh", "Add", "AffineGrid", "And", "ArgMax", "ArgMin", "Asin", "Asinh", "Atan", "Atanh",
    "Attention", "AveragePool", "Bernoulli", "BitCast", "BitShift", "BitwiseAnd", "BitwiseNot", "BitwiseOr",
    "BitwiseXor", "BlackmanWindow", "Cast", "CastLike", "CausalConvWithState", "Ceil", "Celu", "CenterCropPad",
    "Col2Im", "Compress", "Concat", "ConcatFromSequence", "Constant", "ConstantOfShape", "Conv", "ConvInteger", "Cos",
    "Cosh", "CumProd", "CumSum", "DeformConv", "DepthToSpace", "DequantizeLinear", "Det", "Div",
    "DynamicQuantizeLinear", "Einsum", "Elu", "Equal", "Erf", "Exp", "Expand", "EyeLike", "Flatten", "Floor", "GRU",
    "Gather", "GatherElements", "GatherND", "Gelu", "Gemm", "GlobalAveragePool", "GlobalLpPool", "GlobalMaxPool",
    "Greater", "GreaterOrEqual", "HammingWindow", "HannWindow", "HardSigmoid", "HardSwish", "Identity", "If",
    "ImageDecoder", "InstanceNormalization", "IsInf", "IsNaN", "LRN", "LSTM", "LayerNormalization", "LeakyRelu",
    "Less", "LessOrEqual", "LinearAttention", "Log", "Loop", "LpNormalization", "LpPool", "MatMul", "MatMulInteger",
    "Max", "MaxPool", "MaxRoiPool", "MaxUnpool", "Mean", "MeanVarianceNormalization", "MelWeightMatrix", "Min",
    "Mish", "Mod", "Mul", "Multinomial", "Neg", "NegativeLogLikelihoodLoss", "NonMaxSuppression", "NonZero", "Not",
    "Optional", "OptionalGetElement", "OptionalHasElement", "Or", "PRelu", "Pow", "QLinearConv", "QLinearMatMul",
    "QuantizeLinear", "RMSNormalization", "RNN", "RandomNormal", "RandomNormalLike", "RandomUniform",
    "RandomUniformLike", "Range", "Reciprocal", "RegexFullMatch", "Relu", "Reshape", "ReverseSequence",
    "RotaryEmbedding", "Round", "STFT", "ScatterElements", "ScatterND", "Selu", "SequenceAt",
    "SequenceConstruct", "SequenceEmpty", "SequenceErase", "SequenceInsert", "SequenceLength", "SequenceMap", "Shape",
    "Shrink", "Sigmoid", "Sign", "Sin", "Sinh", "Size", "SoftmaxCrossEntropyLoss", "Softplus", "Softsign",
    "SpaceToDepth", "SplitToSequence", "Sqrt", "StringConcat", "StringNormalizer", "StringSplit", "Sub", "Sum",
    "SwiGLU", "Swish", "Tan", "Tanh", "TensorScatter", "TfIdfVectorizer", "ThresholdedRelu", "Tile",
    "Transpose", "Trilu", "Unique", "Where", "Xor",
];
