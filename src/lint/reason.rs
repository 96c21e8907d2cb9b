//! Why an operator gets no integer kernel, or a poor one, in words: what happens, why, and what to change.

use onnxq_ir::ElementType;

/// What is to be said of an operator.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Reason {
    /// The runtime has no integer kernel for it.
    NoKernel,
    /// An operand is computed in float.
    FloatOperand {
        /// Which one.
        slot: usize,
    },
    /// A constant operand is float.
    FloatConstant {
        /// Which one.
        slot: usize,
    },
    /// The bias is float.
    FloatBias,
    /// The weight is dequantized and transposed after that.
    BehindTranspose,
    /// No QuantizeLinear reads the output.
    OutputFloat,
    /// Others read the output beside its QuantizeLinear, or it is an output of the graph.
    OutputShared,
    /// An activation stands behind it that its QuantizeLinear does not make needless.
    ActivationKept {
        /// Relu or Clip.
        op: String,
    },
    /// An activation stands behind it and no QuantizeLinear behind that.
    ActivationInFloat {
        /// Relu or Clip.
        op: String,
    },
    /// Activations are int8, and their QuantizeLinear is read by several.
    SignedActivations,
    /// A type has no kernel.
    Width {
        /// The operand.
        slot: usize,
        /// Its type.
        element: ElementType,
    },
    /// Scales are float16 or bfloat16.
    HalfScales {
        /// The operand.
        slot: usize,
        /// Their type.
        element: ElementType,
    },
    /// The types of operands and output do not go together.
    TypesDiffer {
        /// Which they are.
        types: String,
    },
    /// The operator is too old a version.
    Opset {
        /// The oldest opset with a kernel.
        min: i64,
    },
    /// A zero point is not written.
    NoZeroPoint {
        /// The operand.
        slot: usize,
    },
    /// Input and output have different scales or zero points.
    GridsDiffer,
    /// alpha or beta is not 1.
    Factors,
    /// Activations are quantized too.
    NotWeightOnly,
    /// Weights in codes have a form that no kernel takes.
    WeightForm {
        /// What about it.
        what: &'static str,
    },
    /// Its weights are unsigned.
    UnsignedWeights {
        /// What that costs.
        cost: String,
    },
    /// Its kernel is slower than float.
    SlowKernel {
        /// What was measured.
        cost: String,
    },
    /// Float is faster than its kernel.
    CostlyKernel {
        /// What was measured.
        cost: String,
    },
    /// Its weights are quantized when the model is loaded.
    WeightsAtLoad,
    /// It has more conversions than computations.
    Conversions {
        /// QuantizeLinear and DequantizeLinear that run.
        conversions: usize,
        /// Integer kernels.
        kernels: usize,
    },
    /// Local functions are not looked into.
    Functions {
        /// How many there are.
        count: usize,
    },
    /// An older release does not load or compute it.
    Older {
        /// What.
        what: String,
        /// The first release that does.
        since: String,
    },
}

impl Reason {
    /// The short name, as `--json` has it.
    pub fn name(&self) -> &'static str {
        match self {
            Self::NoKernel => "no-kernel",
            Self::FloatOperand { .. } => "float-operand",
            Self::FloatConstant { .. } => "float-constant",
            Self::FloatBias => "float-bias",
            Self::BehindTranspose => "weight-behind-transpose",
            Self::OutputFloat => "output-not-quantized",
            Self::OutputShared => "output-shared",
            Self::ActivationKept { .. } => "activation-kept",
            Self::ActivationInFloat { .. } => "activation-in-float",
            Self::SignedActivations => "signed-activations",
            Self::Width { .. } => "width",
            Self::HalfScales { .. } => "half-scales",
            Self::TypesDiffer { .. } => "types-differ",
            Self::Opset { .. } => "opset",
            Self::NoZeroPoint { .. } => "no-zero-point",
            Self::GridsDiffer => "grids-differ",
            Self::Factors => "factors",
            Self::NotWeightOnly => "not-weight-only",
            Self::WeightForm { .. } => "weight-form",
            Self::UnsignedWeights { .. } => "unsigned-weights",
            Self::SlowKernel { .. } => "slow-kernel",
            Self::CostlyKernel { .. } => "costly-kernel",
            Self::WeightsAtLoad => "weights-at-load",
            Self::Conversions { .. } => "conversions",
            Self::Functions { .. } => "functions",
            Self::Older { .. } => "older-release",
        }
    }

    /// Why it is so.
    pub fn why(&self) -> String {
        match self {
            Self::NoKernel => "the runtime has no integer kernel for it".to_owned(),
            Self::FloatOperand { slot } => format!("input {slot} is computed in float"),
            Self::FloatConstant { slot } => format!("input {slot} is a float constant"),
            Self::FloatBias => "its bias is float".to_owned(),
            Self::BehindTranspose => "its weight is dequantized first and transposed after that".to_owned(),
            Self::OutputFloat => "no QuantizeLinear reads its output".to_owned(),
            Self::OutputShared => "its output is read by others beside the QuantizeLinear, or is the graph's".to_owned(),
            Self::ActivationKept { op } => format!("the range of the QuantizeLinear behind its {op} goes beyond the {op}'s"),
            Self::ActivationInFloat { op } => format!("a {op} alone reads its output, and no QuantizeLinear reads the {op}"),
            Self::SignedActivations => {
                "activations are int8 and their QuantizeLinear has several readers: only with one do they become uint8, which \
                 the kernel takes"
                    .to_owned()
            }
            Self::Width { slot, element } => format!("input {slot} is {element}, for which there is no kernel"),
            Self::HalfScales { slot, element } => {
                format!("the scales of input {slot} are {element}, for which the runtime puts Casts between")
            }
            Self::TypesDiffer { types } => format!("the types of its codes do not go together: {types}"),
            Self::Opset { min } => format!("its kernel takes codes from opset {min} on"),
            Self::NoZeroPoint { slot } => format!("the DequantizeLinear of input {slot} has no zero point"),
            Self::GridsDiffer => "scale or zero point differ in front and behind, or a zero point is missing".to_owned(),
            Self::Factors => "alpha or beta is not 1".to_owned(),
            Self::NotWeightOnly => "its activations are quantized too".to_owned(),
            Self::WeightForm { what } => format!("only its weight is in codes, and {what}"),
            Self::UnsignedWeights { cost } => format!("its weights are uint8: {cost}"),
            Self::SlowKernel { cost } | Self::CostlyKernel { cost } => cost.clone(),
            Self::WeightsAtLoad => {
                "its weights are float: the runtime quantizes them when it loads the model, per tensor, which is not what \
                 the file says"
                    .to_owned()
            }
            Self::Conversions { conversions, kernels } => {
                format!("{conversions} QuantizeLinear and DequantizeLinear run for {kernels} integer kernels")
            }
            Self::Functions { count } => format!("what lies in its {count} local functions is not looked at"),
            Self::Older { what, since } => format!("{what}: from {since} on"),
        }
    }

    /// What to change.
    pub fn change(&self) -> &'static str {
        match self {
            Self::NoKernel => "take the QuantizeLinear and DequantizeLinear around it out",
            Self::FloatOperand { .. } => "quantize that input as well, or leave the operator float",
            Self::FloatConstant { .. } => {
                "store that constant as codes with a DequantizeLinear, or leave the operator float"
            }
            Self::FloatBias => "store the bias as int32 codes with a DequantizeLinear of scale s_x * s_w, axis 0",
            Self::BehindTranspose => "store the codes transposed, so that the DequantizeLinear stands right in front",
            Self::OutputFloat => "put QuantizeLinear and DequantizeLinear behind it, or leave it float",
            Self::OutputShared => "let all readers read behind the pair",
            Self::ActivationKept { .. } => {
                "give the QuantizeLinear the activation's range (zero point at its lower end)"
            }
            Self::ActivationInFloat { .. } => {
                "put QuantizeLinear and DequantizeLinear behind the activation, or leave it float"
            }
            Self::SignedActivations => "quantize activations as uint8",
            Self::Width { .. } => "use uint8 activations and int8 weights",
            Self::HalfScales { .. } => {
                "compute it in float32: Casts in front of QuantizeLinear and behind the operator"
            }
            Self::Opset { .. } => "raise the model's opset",
            Self::TypesDiffer { .. } => {
                "use uint8 for activations and constants that meet them, int8 for weights of products, int32 for their bias"
            }
            Self::NoZeroPoint { .. } => "write the zero point, also where it is 0",
            Self::GridsDiffer => "give both the same scale and zero point, written out",
            Self::Factors => "multiply alpha and beta into the weights and the bias",
            Self::NotWeightOnly => "leave the activations float, or quantize all operands",
            Self::WeightForm { .. } => {
                "store the weight [K, N] of its own, with one scale per column or per block of 16, 32, 64 ... rows"
            }
            Self::UnsignedWeights { .. } => "store the weights as int8, symmetric",
            Self::SlowKernel { .. } => "quantize statically, from calibration data",
            Self::CostlyKernel { .. } => "leave it float",
            Self::WeightsAtLoad => "store the weights as int8 codes with a DequantizeLinear",
            Self::Conversions { .. } => "quantize the inputs of products only, or whole chains without a gap",
            Self::Functions { .. } => "inline them first, for example with onnx.inliner",
            Self::Older { .. } => "write an older form, or ask for the newer release",
        }
    }
}
