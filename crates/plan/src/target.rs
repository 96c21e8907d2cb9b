//! What a runtime computes in few bits, and where Q/DQ must stand for it. Data: the rules are read from TOML.

use onnxq_numerics::{IntFormat, Signedness, Symmetry, Uniform};
use serde::{Deserialize, Serialize};

use crate::plan::Quantizer;

/// A runtime.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Target {
    /// The name, as `--target` takes it.
    pub name: String,
    /// One line for people.
    pub description: String,
    /// The newest version of ONNX's operators that the runtime loads.
    pub max_opset: i64,
    /// The rules by which `onnxq lint` predicts the runtime's kernels, where there are some.
    pub kernels: Option<String>,
    /// What becomes of float16 and bfloat16 around codes.
    #[serde(default)]
    pub half_floats: HalfFloats,
    /// What activations may be; they stay float where there is no width.
    pub activations: TypeRule,
    /// What weights may be.
    pub weights: WeightRule,
    /// The form of a bias.
    pub bias: BiasForm,
    /// Operators of whose weights the runtime makes codes itself, per tensor, where they stay float between a DQ and a Q.
    #[serde(default)]
    pub quantizes_at_load: Vec<OperatorKind>,
    /// The operators that are computed in integers.
    #[serde(rename = "operator", default)]
    pub operators: Vec<OperatorRule>,
}

/// What becomes of float16 and bfloat16 around codes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum HalfFloats {
    /// Operators of the plan compute in float32 between Casts, and scales are float32.
    #[default]
    Widened,
    /// Scales have the type of what they scale, which came with opset 19. Biases stay float: their scales are too small for
    /// float16.
    Kept,
}

/// What a kind of tensor may be.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct TypeRule {
    /// Whether codes are signed.
    pub signedness: CodeSign,
    /// The widths that have a type or fit into one.
    pub bits: Vec<u8>,
    /// Whether the zero point is fixed.
    pub symmetry: Symmetry,
    /// The least distance of the largest and the least value that a scale may stand for; a smaller scale is raised to it.
    #[serde(default)]
    pub least_range: Option<f32>,
}

/// What weights may be.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct WeightRule {
    /// Whether codes are signed.
    pub signedness: CodeSign,
    /// The widths that have a type or fit into one.
    pub bits: Vec<u8>,
    /// The width that codes of more bits are cut to where activations are codes too, since sums of products of wider ones
    /// saturate (onnxruntime's `reduce_range`).
    #[serde(default)]
    pub reduced_to: Option<u8>,
    /// The widths of packed types (2, 4) that the runtime loads, for `--storage native`.
    pub packed: Vec<u8>,
    /// The same where activations stay float, which asks less of kernels.
    pub packed_weight_only: Vec<u8>,
    /// Whether the zero point is fixed.
    pub symmetry: Symmetry,
    /// One scale for the tensor, or one per output channel.
    pub granularity: WeightGranularity,
}

/// How many weights share a scale.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum WeightGranularity {
    /// All of a tensor.
    Tensor,
    /// Those of one output channel.
    Channel,
}

/// Whether codes are signed, as a target file says it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum CodeSign {
    /// Two's complement.
    Signed,
    /// From 0 up.
    Unsigned,
}

impl From<CodeSign> for Signedness {
    fn from(sign: CodeSign) -> Self {
        match sign {
            CodeSign::Signed => Self::Signed,
            CodeSign::Unsigned => Self::Unsigned,
        }
    }
}

/// The form of a bias.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum BiasForm {
    /// int32 codes whose scale is that of the product.
    Int32,
    /// The same, but float where the runtime keeps the Add apart: behind a MatMul of more than two dimensions that are not
    /// all known. Adding floats there saves making floats of codes at every run.
    Int32WhereJoined,
    /// float32.
    Float,
}

/// An operator that is computed in integers.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct OperatorRule {
    /// The operator.
    pub op: OperatorKind,
    /// Where Q/DQ stand.
    pub placement: Placement,
    /// Activations behind the operator that a quantized output swallows.
    #[serde(default)]
    pub absorbs: Vec<String>,
    /// How many of its weights share a scale, where that is not as for others.
    #[serde(default)]
    pub weight_granularity: Option<WeightGranularity>,
    /// The least that a product sums over or gives out per row; a smaller one stays float.
    #[serde(default)]
    pub least_size: Option<usize>,
    /// What it must do to be faster in codes than in float; none where it always is.
    #[serde(default)]
    pub least_work: Option<LeastWork>,
    /// Scales of the output that the runtime sets itself, by width.
    #[serde(default)]
    pub fixed: Vec<FixedScale>,
}

/// What a product must do to be faster in codes, in multiply-accumulates.
#[derive(Clone, Copy, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct LeastWork {
    /// For each Q or DQ that it needs.
    pub per_call: u64,
    /// For each element of these; those of a Q or DQ that neighbours would need if it were float count the other way round.
    pub per_element: u64,
    /// The least that a product sums over and gives out for its multiply-accumulates to count at all: those of a depthwise
    /// convolution, which gives out one channel of each, do not.
    pub size: usize,
    /// Convolutions whose multiply-accumulates cost as much in codes as those of others save.
    #[serde(default)]
    pub narrow: Option<Narrow>,
}

/// A convolution over several positions that sums over so little, and gives out so little, that gathering its inputs and
/// scaling its outputs takes longer than multiplying.
#[derive(Clone, Copy, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Narrow {
    /// The most that an output element sums over.
    pub sums: usize,
    /// The most channels that it gives out.
    pub outputs: usize,
}

/// A scale that the runtime sets itself.
#[derive(Clone, Copy, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct FixedScale {
    /// The width of the codes for which it holds.
    pub bits: u8,
    /// The distance of two levels.
    pub scale: f32,
    /// The code of the value 0.
    pub zero_point: i32,
}

impl FixedScale {
    /// The quantizer that is set for codes of this format, if one is.
    pub fn of(fixed: &[Self], format: IntFormat) -> Option<Quantizer> {
        let own = fixed.iter().find(|own| own.bits == format.bits())?;
        Uniform::new(format, own.scale, own.zero_point).ok().map(Quantizer::Tensor)
    }
}

impl OperatorRule {
    /// The quantizer that the runtime sets itself for codes of this format.
    pub fn fixed(&self, format: IntFormat) -> Option<Quantizer> {
        FixedScale::of(&self.fixed, format)
    }
}

/// Where Q/DQ stand for an operator.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Placement {
    /// On its inputs; the output is float.
    Inputs,
    /// On its inputs and its output, and only where it joins others of this placement: alone it stays float.
    Chain,
    /// As `chain`, for an operator that only moves or picks codes: its outputs have its input's scale and zero point.
    ChainShared,
    /// On its inputs and its output, also where it stands alone.
    Always,
    /// On the one input of an addition that does not come straight from a convolution computed in integers, so that the
    /// kernel of the convolution adds it; where both come from one, on that with fewer operators before it.
    Residual,
    /// On its inputs, constants too, and its output, be it an output of the graph: the runtime takes whole graphs.
    Whole,
    /// As `whole`, for an operator that only moves or picks codes: its outputs have its input's scale and zero point.
    WholeShared,
    /// Nowhere: it stays float, though the rule of a more general kind would not leave it so.
    Float,
}

impl Placement {
    /// Whether outputs of the graph and constants that are no weights are quantized as well.
    pub fn is_whole(self) -> bool {
        matches!(self, Self::Whole | Self::WholeShared)
    }

    /// Whether outputs have the quantizer of the first input.
    pub fn is_shared(self) -> bool {
        matches!(self, Self::ChainShared | Self::WholeShared)
    }
}

/// The operators that rules and recipes speak of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Deserialize, Serialize)]
pub enum OperatorKind {
    /// MatMul or Gemm with a constant weight.
    Linear,
    /// Gather of rows of a constant matrix by computed indices. Saves size only.
    Embedding,
    /// MatMul of two activations.
    MatMul,
    /// Conv with a constant weight.
    Conv,
    /// Conv of a graph's input by filters that do not overlap: the patches of a transformer. Where a target or recipe has no
    /// rule for it, that for Conv holds.
    PatchEmbedding,
    /// ConvTranspose with a constant weight.
    ConvTranspose,
    /// Addition of two activations.
    Add,
    /// Multiplication of two activations.
    Mul,
    /// Concatenation.
    Concat,
    /// Sigmoid.
    Sigmoid,
    /// LeakyRelu.
    LeakyRelu,
    /// MaxPool.
    MaxPool,
    /// AveragePool.
    AveragePool,
    /// GlobalAveragePool.
    GlobalAveragePool,
    /// Resize.
    Resize,
    /// Reshape.
    Reshape,
    /// Transpose.
    Transpose,
    /// Flatten.
    Flatten,
    /// Squeeze.
    Squeeze,
    /// Unsqueeze.
    Unsqueeze,
    /// Slice.
    Slice,
    /// Split.
    Split,
    /// Subtraction of two activations.
    Sub,
    /// Division of two activations.
    Div,
    /// Relu.
    Relu,
    /// Clip.
    Clip,
    /// Tanh.
    Tanh,
    /// HardSigmoid.
    HardSigmoid,
    /// HardSwish.
    HardSwish,
    /// Elu.
    Elu,
    /// Square root.
    Sqrt,
    /// Softmax over one axis.
    Softmax,
    /// GELU, in whatever form it was written.
    Gelu,
    /// SiLU, in whatever form it was written.
    Silu,
    /// Layer normalization by constant scale and bias, in whatever form it was written.
    LayerNorm,
    /// Root mean square normalization by a constant scale, in whatever form it was written.
    RmsNorm,
    /// Instance normalization by constant scale and bias.
    InstanceNorm,
    /// GlobalMaxPool.
    GlobalMaxPool,
    /// ReduceMean.
    ReduceMean,
    /// Gather from an activation.
    Gather,
    /// Pad.
    Pad,
    /// Expand.
    Expand,
    /// Tile.
    Tile,
    /// DepthToSpace.
    DepthToSpace,
    /// SpaceToDepth.
    SpaceToDepth,
    /// LSTM: its weights alone, which saves size only.
    #[serde(rename = "LSTM")]
    Lstm,
    /// GRU: its weights alone, which saves size only.
    #[serde(rename = "GRU")]
    Gru,
    /// RNN: its weights alone, which saves size only.
    #[serde(rename = "RNN")]
    Rnn,
}

impl OperatorKind {
    /// Whether its work is multiply-accumulates.
    pub fn has_macs(self) -> bool {
        matches!(self, Self::Linear | Self::MatMul | Self::Conv | Self::PatchEmbedding | Self::ConvTranspose)
    }

    /// The kind whose rule holds where this one has none.
    #[must_use]
    pub fn general(self) -> Self {
        match self {
            Self::PatchEmbedding => Self::Conv,
            kind => kind,
        }
    }

    /// The name that rules, recipes and summaries use.
    pub fn name(self) -> &'static str {
        match self {
            Self::Linear => "Linear",
            Self::Embedding => "Embedding",
            Self::MatMul => "MatMul",
            Self::Conv => "Conv",
            Self::PatchEmbedding => "PatchEmbedding",
            Self::ConvTranspose => "ConvTranspose",
            Self::Add => "Add",
            Self::Mul => "Mul",
            Self::Concat => "Concat",
            Self::Sigmoid => "Sigmoid",
            Self::LeakyRelu => "LeakyRelu",
            Self::MaxPool => "MaxPool",
            Self::AveragePool => "AveragePool",
            Self::GlobalAveragePool => "GlobalAveragePool",
            Self::Resize => "Resize",
            Self::Reshape => "Reshape",
            Self::Transpose => "Transpose",
            Self::Flatten => "Flatten",
            Self::Squeeze => "Squeeze",
            Self::Unsqueeze => "Unsqueeze",
            Self::Slice => "Slice",
            Self::Split => "Split",
            Self::Sub => "Sub",
            Self::Div => "Div",
            Self::Relu => "Relu",
            Self::Clip => "Clip",
            Self::Tanh => "Tanh",
            Self::HardSigmoid => "HardSigmoid",
            Self::HardSwish => "HardSwish",
            Self::Elu => "Elu",
            Self::Sqrt => "Sqrt",
            Self::Softmax => "Softmax",
            Self::Gelu => "Gelu",
            Self::Silu => "Silu",
            Self::LayerNorm => "LayerNorm",
            Self::RmsNorm => "RmsNorm",
            Self::InstanceNorm => "InstanceNorm",
            Self::GlobalMaxPool => "GlobalMaxPool",
            Self::ReduceMean => "ReduceMean",
            Self::Gather => "Gather",
            Self::Pad => "Pad",
            Self::Expand => "Expand",
            Self::Tile => "Tile",
            Self::DepthToSpace => "DepthToSpace",
            Self::SpaceToDepth => "SpaceToDepth",
            Self::Lstm => "LSTM",
            Self::Gru => "GRU",
            Self::Rnn => "RNN",
        }
    }
}

/// A width that a target has no type for.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("target `{target}` has no {bits}-bit {what}; {}", widths(.has, .what))]
pub struct NoSuchWidth {
    /// The target.
    pub target: String,
    /// `weights` or `activations`.
    pub what: &'static str,
    /// The width asked for.
    pub bits: u8,
    /// The widths that there are.
    pub has: Vec<u8>,
}

fn widths(has: &[u8], what: &str) -> String {
    if has.is_empty() {
        return format!("{what} stay float there: leave their bits out, such as `--bits w8`");
    }
    format!("it has {}", has.iter().map(u8::to_string).collect::<Vec<_>>().join(", "))
}

impl Target {
    /// These bits, with float activations where the target has no codes for them.
    #[must_use]
    pub fn usual(&self, bits: Bits) -> Bits {
        Bits { activation: bits.activation.filter(|_| !self.activations.bits.is_empty()), ..bits }
    }

    /// The code format of activations of this width.
    pub fn activation_format(&self, bits: u8) -> Result<IntFormat, NoSuchWidth> {
        self.format("activations", &self.activations.bits, self.activations.signedness, bits)
    }

    /// The code format of weights where weights and activations are to have these widths.
    pub fn weight_format(&self, bits: Bits) -> Result<IntFormat, NoSuchWidth> {
        let format = self.format("weights", &self.weights.bits, self.weights.signedness, bits.weight)?;
        match self.weights.reduced_to.filter(|&width| bits.activation.is_some() && width < bits.weight) {
            Some(width) => self.format("weights", &self.weights.bits, self.weights.signedness, width),
            None => Ok(format),
        }
    }

    fn format(&self, what: &'static str, has: &[u8], sign: CodeSign, bits: u8) -> Result<IntFormat, NoSuchWidth> {
        let refuse = || NoSuchWidth { target: self.name.clone(), what, bits, has: has.to_vec() };
        if !has.contains(&bits) {
            return Err(refuse());
        }
        IntFormat::new(bits, sign.into()).ok_or_else(refuse)
    }

    /// The rule for an operator, if the runtime computes it in integers.
    pub fn rule(&self, kind: OperatorKind) -> Option<&OperatorRule> {
        let rule = |kind| self.operators.iter().find(|rule: &&OperatorRule| rule.op == kind);
        rule(kind).or_else(|| rule(kind.general())).filter(|rule| rule.placement != Placement::Float)
    }
}

/// Bits of weights and activations: `w4a4`, or `w8` for float activations.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bits {
    /// Bits of a weight, 2 to 8.
    pub weight: u8,
    /// Bits of an activation, 2 to 8 or 16; `None` leaves activations float.
    pub activation: Option<u8>,
}

/// Why a text is no pair of widths.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is no width: give wX or wXaY with X from 2 to 8 and Y from 2 to 8 or 16, such as w8a8, w4a8 or w4")]
pub struct NoBits(pub String);

impl std::str::FromStr for Bits {
    type Err = NoBits;

    fn from_str(text: &str) -> Result<Self, NoBits> {
        let refuse = || NoBits(text.to_owned());
        let rest = text.strip_prefix('w').ok_or_else(refuse)?;
        let (weight, activation) = match rest.split_once('a') {
            Some((weight, activation)) => (weight, Some(activation)),
            None => (rest, None),
        };
        let width = |digits: &str| {
            (!digits.starts_with('0') && digits.bytes().all(|b| b.is_ascii_digit()))
                .then(|| digits.parse::<u8>().ok())
                .flatten()
                .ok_or_else(refuse)
        };
        let weight = width(weight)?;
        let activation = activation.map(width).transpose()?;
        let fits = |bits: u8| (2..=8).contains(&bits);
        if !fits(weight) || activation.is_some_and(|bits| !fits(bits) && bits != 16) {
            return Err(refuse());
        }
        Ok(Self { weight, activation })
    }
}

impl std::fmt::Display for Bits {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.activation {
            Some(activation) => write!(f, "w{}a{activation}", self.weight),
            None => write!(f, "w{}", self.weight),
        }
    }
}
