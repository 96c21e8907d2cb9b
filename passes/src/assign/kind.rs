//! What kind of quantizable operator an operator is.

use onnxq_ir::ops::{Conv, Form, Gather, Linear};
use onnxq_ir::{ElementType, Graph, OpId, Origin, Tensor, ValueId};
use onnxq_plan::target::{HalfFloats, Narrow};
use onnxq_plan::{BiasForm, Facts, OperatorKind, Target};

/// An operator that rules and recipes can speak of, with its operands.
#[derive(Clone, Debug)]
pub(crate) struct Candidate {
    pub(crate) op: OpId,
    pub(crate) kind: OperatorKind,
    /// Input slots of activations.
    pub(crate) activations: Vec<usize>,
    /// Input slot of the constant weight, and the axis of its output channels.
    pub(crate) weight: Option<(usize, usize)>,
    /// Input slot of the constant bias.
    pub(crate) bias: Option<usize>,
}

impl Candidate {
    /// The candidate that `op` is, if it is one.
    pub(crate) fn at(graph: &Graph, op: OpId) -> Option<Self> {
        if let Some(linear) = Linear::at(graph, op) {
            let axis = linear.output_axis();
            let bias = linear.bias.map(|_| 2);
            return Some(Self { op, kind: OperatorKind::Linear, activations: vec![0], weight: Some((1, axis)), bias });
        }
        if is_embedding(graph, op) {
            return Some(Self {
                op,
                kind: OperatorKind::Embedding,
                activations: vec![],
                weight: Some((0, 0)),
                bias: None,
            });
        }
        let node = graph.op(op);
        let is = |name: &str| node.is(name) || node.is_recognised(name);
        let kind = KINDS.iter().find(|(name, _)| is(name))?.1;
        let constant = |slot| graph.input(op, slot).is_some_and(|value| graph.constant(value).is_some());
        match kind {
            OperatorKind::Conv | OperatorKind::ConvTranspose => {
                let axis = usize::from(kind == OperatorKind::ConvTranspose);
                let kind = if is_patch_embedding(graph, op) { OperatorKind::PatchEmbedding } else { kind };
                let bias = (node.input_arity() > 2 && constant(2)).then_some(2);
                constant(1).then_some(Self { op, kind, activations: vec![0], weight: Some((1, axis)), bias })
            }
            OperatorKind::MatMul if constant(0) || constant(1) => None,
            OperatorKind::MatMul | OperatorKind::Add | OperatorKind::Mul | OperatorKind::Sub | OperatorKind::Div => {
                Some(Self { op, kind, activations: vec![0, 1], weight: None, bias: None })
            }
            OperatorKind::LayerNorm | OperatorKind::RmsNorm | OperatorKind::InstanceNorm => {
                let bias = (node.input_arity() > 2).then_some(2);
                let is_constant = constant(1) && bias.is_none_or(constant);
                is_constant.then_some(Self { op, kind, activations: vec![0], weight: Some((1, 0)), bias })
            }
            OperatorKind::Concat => {
                Some(Self { op, kind, activations: (0..node.input_arity()).collect(), weight: None, bias: None })
            }
            _ => Some(Self { op, kind, activations: vec![0], weight: None, bias: None }),
        }
    }

    /// The same, where these kinds have a rule: an embedding is a Gather as any other where only those have one.
    pub(crate) fn among(self, has_rule: impl Fn(OperatorKind) -> bool) -> Self {
        let is_gather = self.kind == OperatorKind::Embedding && !has_rule(self.kind) && has_rule(OperatorKind::Gather);
        if !is_gather {
            return self;
        }
        Self { kind: OperatorKind::Gather, activations: vec![0], weight: None, ..self }
    }

    /// The types of what would be quantized, as far as they are known.
    pub(crate) fn elements_read<'a>(&'a self, graph: &'a Graph) -> impl Iterator<Item = Option<ElementType>> + 'a {
        let values = self.operands().filter_map(|slot| graph.input(self.op, slot));
        values.map(|value| graph.tensor_type(value).map(|known| known.element))
    }

    /// What the operator writes.
    pub(crate) fn written<'a>(&self, graph: &'a Graph) -> impl Iterator<Item = ValueId> + use<'a> {
        graph.outputs_of(self.op).into_iter().flatten()
    }

    /// Whether all that is read as an activation is constant, or one of two operands of an element-wise operator is.
    pub(crate) fn reads_constant(&self, graph: &Graph) -> bool {
        let mut constants = self.activation_values(graph).map(|(_, value)| graph.constant(value).is_some());
        match self.kind {
            OperatorKind::Add | OperatorKind::Mul | OperatorKind::Sub | OperatorKind::Div => constants.any(|it| it),
            _ => !self.activations.is_empty() && constants.all(|it| it),
        }
    }

    /// Whether every activation is known to be a float, and not only not known to be something else.
    pub(crate) fn is_surely_float(&self, graph: &Graph) -> bool {
        let is_float = |value| {
            let known = graph.constant(value).map(onnxq_ir::Tensor::element);
            let known = known.or_else(|| graph.tensor_type(value).map(|known| known.element));
            known.is_some_and(ElementType::fits_f32)
        };
        self.activation_values(graph).all(|(_, value)| is_float(value))
    }

    /// Whether codes of its weight make the file smaller.
    pub(crate) fn stores_weight(&self) -> bool {
        let is_norm = matches!(self.kind, OperatorKind::LayerNorm | OperatorKind::RmsNorm | OperatorKind::InstanceNorm);
        self.weight.is_some() && !is_norm
    }

    /// The smaller of what a product with a weight sums over and what it gives out; none for others.
    pub(crate) fn least_size(&self, graph: &Graph) -> Option<usize> {
        let (slot, _) = self.weight.filter(|_| self.kind == OperatorKind::Linear)?;
        graph.constant(graph.input(self.op, slot)?)?.shape().iter().min().copied()
    }

    /// The smaller of what one output element of a convolution sums over and how many channels come of the same sums.
    pub(crate) fn product_size(&self, graph: &Graph) -> Option<usize> {
        let (slot, _) = self.weight?;
        let shape = graph.constant(graph.input(self.op, slot)?)?.shape();
        let group = Conv::at(graph, self.op)?.group as usize;
        let (&outputs, summed) = shape.split_first()?;
        Some((outputs / group).min(summed.iter().product()))
    }

    /// Whether the operator is a convolution over several positions, as narrow as this.
    pub(crate) fn is_narrow(&self, graph: &Graph, most: Narrow) -> bool {
        let shape = || Some(graph.constant(graph.input(self.op, self.weight?.0)?)?.shape().to_vec());
        let Some((conv, shape)) = Conv::at(graph, self.op).zip(shape()) else { return false };
        let [outputs, inputs, kernel @ ..] = &shape[..] else { return false };
        let positions: usize = kernel.iter().product();
        positions > 1 && inputs.saturating_mul(positions) <= most.sums && outputs / conv.group as usize <= most.outputs
    }

    /// Whether the operator is one node of the file with all its operands: a Linear of a MatMul is none for a kernel of Gemm.
    pub(crate) fn is_one_node(&self, graph: &Graph) -> bool {
        Linear::at(graph, self.op).is_none_or(|linear| linear.form == Form::Gemm)
    }

    /// Whether a constant bias becomes int32 codes on a target.
    pub(crate) fn has_integer_bias(&self, graph: &Graph, target: &Target) -> bool {
        let is_half = || self.elements_read(graph).flatten().any(ElementType::is_half);
        if target.half_floats == HalfFloats::Kept && is_half() {
            return false;
        }
        match target.bias {
            BiasForm::Float => false,
            BiasForm::Int32 => true,
            BiasForm::Int32WhereJoined => !self.adds_bias_apart(graph),
        }
    }

    /// Whether the bias is that of an Add behind a MatMul of more than two dimensions, of which some are not known.
    fn adds_bias_apart(&self, graph: &Graph) -> bool {
        let Some(linear) = Linear::at(graph, self.op) else { return false };
        let shape = graph.tensor_type(linear.x).and_then(|known| known.shape);
        matches!(linear.form, Form::MatMul(Some(_)))
            && shape.is_some_and(|shape| shape.len() > 2 && shape.iter().any(|dim| dim.known().is_none()))
    }

    /// Input slots of all operands that a product or convolution multiplies.
    pub(crate) fn operands(&self) -> impl Iterator<Item = usize> + '_ {
        self.activations.iter().copied().chain(self.weight.map(|(slot, _)| slot))
    }

    /// The value by whose elements the operator's multiply-accumulates are counted, where it has any.
    pub(crate) fn counted(&self, graph: &Graph) -> Option<ValueId> {
        match self.kind {
            OperatorKind::Linear | OperatorKind::MatMul | OperatorKind::Conv | OperatorKind::PatchEmbedding => {
                graph.output(self.op, 0)
            }
            OperatorKind::ConvTranspose => graph.input(self.op, 0),
            _ => None,
        }
    }

    /// Elements that the operator writes for one sample; `None` where a shape is not known.
    pub(crate) fn elements(&self, graph: &Graph, facts: &Facts) -> Option<u64> {
        let output = graph.output(self.op, 0)?;
        facts.elements(graph, output).or_else(|| known_elements(graph, output))
    }

    /// Multiply-accumulates for one sample; `None` where a shape is not known.
    pub(crate) fn macs(&self, graph: &Graph, facts: &Facts) -> Option<u64> {
        let Some(counted) = self.counted(graph) else { return Some(0) };
        let elements = facts.elements(graph, counted).or_else(|| known_elements(graph, counted))?;
        let each = match self.weight {
            Some((slot, axis)) => {
                let shape = graph.constant(graph.input(self.op, slot)?)?.shape().to_vec();
                // A transposed convolution spreads every input element over its whole filter.
                let shared = if self.kind == OperatorKind::ConvTranspose { 0 } else { axis };
                shape.iter().product::<usize>() / shape.get(shared)?.max(&1)
            }
            None => {
                let left = graph.tensor_type(graph.input(self.op, 0)?)?.shape?;
                left.last()?.known()?
            }
        };
        Some(elements * each as u64)
    }

    /// The values that the operator reads as activations.
    pub(crate) fn activation_values<'a>(&'a self, graph: &'a Graph) -> impl Iterator<Item = (usize, ValueId)> + 'a {
        self.activations.iter().filter_map(|&slot| Some((slot, graph.input(self.op, slot)?)))
    }
}

/// A pick of rows of a matrix, each long enough that a scale of its own is no loss.
fn is_embedding(graph: &Graph, op: OpId) -> bool {
    const SHORTEST_ROW: usize = 16;
    let Some(gather) = Gather::at(graph, op).filter(|gather| gather.axis == 0) else { return false };
    let is_table =
        |table: &Tensor| table.element().fits_f32() && matches!(table.shape(), &[_, width] if width >= SHORTEST_ROW);
    graph.constant(gather.data).is_some_and(is_table) && graph.constant(gather.indices).is_none()
}

/// A convolution of a graph's input by filters that do not overlap.
fn is_patch_embedding(graph: &Graph, op: OpId) -> bool {
    let Some(conv) = Conv::at(graph, op) else { return false };
    let Some(weight) = graph.constant(conv.weight).filter(|weight| weight.shape().len() > 2) else { return false };
    let kernel = &weight.shape()[2..];
    is_input(graph, conv.x)
        && conv.window.padding.is_none()
        && kernel.iter().all(|&size| size > 1)
        && kernel.iter().map(|&size| size as i64).eq(conv.window.strides.iter().copied())
}

/// Whether a value is an input of the graph, or one in another type.
fn is_input(graph: &Graph, value: ValueId) -> bool {
    let cast = graph.producer(value).filter(|(op, _)| graph.op(*op).is("Cast"));
    let source = cast.and_then(|(op, _)| graph.input(op, 0)).unwrap_or(value);
    matches!(graph.value(source).origin(), Origin::Input(_))
}

/// Elements as far as dimensions are known; one for those that are not, such as a batch.
fn known_elements(graph: &Graph, value: ValueId) -> Option<u64> {
    let shape = graph.tensor_type(value)?.shape?;
    Some(shape.iter().map(|dim| dim.known().map_or(1, |dim| dim.max(1) as u64)).product())
}

const KINDS: &[(&str, OperatorKind)] = &[
    ("Conv", OperatorKind::Conv),
    ("ConvTranspose", OperatorKind::ConvTranspose),
    ("MatMul", OperatorKind::MatMul),
    ("Add", OperatorKind::Add),
    ("Mul", OperatorKind::Mul),
    ("Concat", OperatorKind::Concat),
    ("Sigmoid", OperatorKind::Sigmoid),
    ("LeakyRelu", OperatorKind::LeakyRelu),
    ("MaxPool", OperatorKind::MaxPool),
    ("AveragePool", OperatorKind::AveragePool),
    ("GlobalAveragePool", OperatorKind::GlobalAveragePool),
    ("Resize", OperatorKind::Resize),
    ("Reshape", OperatorKind::Reshape),
    ("Transpose", OperatorKind::Transpose),
    ("Flatten", OperatorKind::Flatten),
    ("Squeeze", OperatorKind::Squeeze),
    ("Unsqueeze", OperatorKind::Unsqueeze),
    ("Slice", OperatorKind::Slice),
    ("Split", OperatorKind::Split),
    ("Sub", OperatorKind::Sub),
    ("Div", OperatorKind::Div),
    ("Relu", OperatorKind::Relu),
    ("Clip", OperatorKind::Clip),
    ("Tanh", OperatorKind::Tanh),
    ("HardSigmoid", OperatorKind::HardSigmoid),
    ("HardSwish", OperatorKind::HardSwish),
    ("Elu", OperatorKind::Elu),
    ("Sqrt", OperatorKind::Sqrt),
    ("Softmax", OperatorKind::Softmax),
    ("Gelu", OperatorKind::Gelu),
    ("Silu", OperatorKind::Silu),
    ("LayerNorm", OperatorKind::LayerNorm),
    ("LayerNormalization", OperatorKind::LayerNorm),
    ("RmsNorm", OperatorKind::RmsNorm),
    ("RMSNormalization", OperatorKind::RmsNorm),
    ("InstanceNormalization", OperatorKind::InstanceNorm),
    ("GlobalMaxPool", OperatorKind::GlobalMaxPool),
    ("ReduceMean", OperatorKind::ReduceMean),
    ("Gather", OperatorKind::Gather),
    ("Pad", OperatorKind::Pad),
    ("Expand", OperatorKind::Expand),
    ("Tile", OperatorKind::Tile),
    ("DepthToSpace", OperatorKind::DepthToSpace),
    ("SpaceToDepth", OperatorKind::SpaceToDepth),
];
