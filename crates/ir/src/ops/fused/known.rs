//! Element types and numbers of axes, as far as they follow from what a file says: the optimizers that fuse write no types.

use rustc_hash::FxHashMap;

use crate::graph::Graph;
use crate::op::OpId;
use crate::ops::attributes::constant_tensor;
use crate::ops::{Cast, Reshape, Squeeze, Transpose, Unsqueeze};
use crate::types::ElementType;
use crate::value::ValueId;

/// What is known of the values of a graph.
#[derive(Default)]
pub(crate) struct Known {
    elements: FxHashMap<ValueId, ElementType>,
    ranks: FxHashMap<ValueId, usize>,
    /// How many elements vectors have: those that say a shape are put together from single numbers.
    lengths: FxHashMap<ValueId, usize>,
}

/// Operators whose outputs have as many axes as the one of their inputs that has most.
const BROADCAST: &[&str] =
    &["Add", "Sub", "Mul", "Div", "Pow", "Max", "Min", "Where", "Equal", "Less", "Greater", "And", "Or"];

/// Operators whose outputs have as many axes as their first input.
const LIKE_FIRST: &[&str] = &[
    "Abs",
    "AveragePool",
    "BatchNormalization",
    "BiasGelu",
    "Cast",
    "Ceil",
    "Clip",
    "Concat",
    "Conv",
    "ConvTranspose",
    "Cos",
    "CumSum",
    "Dropout",
    "Elu",
    "Erf",
    "Exp",
    "FastGelu",
    "Floor",
    "FusedConv",
    "Gelu",
    "GlobalAveragePool",
    "HardSigmoid",
    "HardSwish",
    "Identity",
    "InstanceNormalization",
    "LayerNormalization",
    "LeakyRelu",
    "Log",
    "LogSoftmax",
    "MaxPool",
    "Neg",
    "Not",
    "Pad",
    "QuickGelu",
    "Reciprocal",
    "Relu",
    "Resize",
    "Round",
    "Sigmoid",
    "SimplifiedLayerNormalization",
    "Sin",
    "SkipLayerNormalization",
    "SkipSimplifiedLayerNormalization",
    "Slice",
    "Softmax",
    "Softplus",
    "Split",
    "Sqrt",
    "Tanh",
    "Tile",
    "Trilu",
    "Upsample",
];

/// Operators that write truth values, and those that write numbers of elements or places.
const CONDITIONS: &[&str] = &["Equal", "Less", "LessOrEqual", "Greater", "GreaterOrEqual", "Not", "And", "Or", "Xor"];
const COUNTS: &[&str] = &["Shape", "Size", "NonZero", "ArgMax", "ArgMin"];

/// Operators that write another type than they read first.
const OTHERWISE: &[&str] = &["CastLike", "ConstantOfShape", "DynamicQuantizeLinear", "OneHot", "QuantizeLinear"];

impl Known {
    /// What is known of the values of this graph.
    pub(super) fn of(graph: &Graph) -> Self {
        let mut known = Self::default();
        for value in graph.values() {
            if let Some(tensor_type) = graph.tensor_type(value) {
                known.elements.insert(value, tensor_type.element);
                known.ranks.extend(tensor_type.rank().map(|rank| (value, rank)));
                if let Some([length]) = tensor_type.shape.as_deref() {
                    known.lengths.extend(length.known().map(|length| (value, length)));
                }
            }
        }
        for op in graph.topological() {
            let (element, rank) = (known.written(graph, op), known.rank_written(graph, op));
            let length = known.length_written(graph, op);
            // Further outputs are statistics and counts, but for the parts of a Split.
            let outputs = if graph.op(op).is("Split") { graph.outputs_of(op) } else { vec![graph.output(op, 0)] };
            for output in outputs.into_iter().flatten() {
                if let Some(element) = element {
                    known.elements.entry(output).or_insert(element);
                }
                if let Some(rank) = rank {
                    known.ranks.entry(output).or_insert(rank);
                }
                if let Some(length) = length {
                    known.lengths.entry(output).or_insert(length);
                }
            }
        }
        known
    }

    /// The element type of a value; float32 where it is not known.
    pub(crate) fn element(&self, value: ValueId) -> ElementType {
        self.elements.get(&value).copied().unwrap_or(ElementType::F32)
    }

    /// The number of axes of a value, where it is known.
    pub(super) fn rank(&self, value: ValueId) -> Option<usize> {
        self.ranks.get(&value).copied()
    }

    /// The type of what an operator writes.
    fn written(&self, graph: &Graph, id: OpId) -> Option<ElementType> {
        let op = graph.op(id);
        let is = |op_types: &[&str]| op_types.iter().any(|op_type| op.is(op_type));
        if is(CONDITIONS) {
            return Some(ElementType::Bool);
        }
        if is(COUNTS) {
            return Some(ElementType::I64);
        }
        if let Some(cast) = Cast::at(graph, id) {
            return Some(cast.to);
        }
        if is(OTHERWISE) {
            return None;
        }
        let first = graph.input(id, 0);
        // A condition has no say in what is chosen, nor ids in what is looked up; what was codes has the scale's type.
        let slot = match op.op_type() {
            "Where" | "DequantizeLinear" => 1,
            "EmbedLayerNormalization" => 2,
            _ => 0,
        };
        let Some(read) = graph.input(id, slot).or(first) else {
            let output = graph.output(id, 0)?;
            return constant_tensor(graph, output).map(|tensor| tensor.element());
        };
        self.elements.get(&read).copied()
    }

    /// The number of axes of what an operator writes.
    fn rank_written(&self, graph: &Graph, id: OpId) -> Option<usize> {
        let op = graph.op(id);
        let rank = |slot: usize| graph.input(id, slot).and_then(|value| self.rank(value));
        if let Some(reshape) = Reshape::at(graph, id) {
            return Some(reshape.target.len());
        }
        if op.is("Reshape") {
            return self.length(graph, id, 1);
        }
        if let Some(transpose) = Transpose::at(graph, id) {
            return Some(transpose.perm.len());
        }
        if let Some(squeeze) = Squeeze::at(graph, id) {
            return rank(0)?.checked_sub(squeeze.axes?.len());
        }
        if let Some(unsqueeze) = Unsqueeze::at(graph, id) {
            return Some(rank(0)? + unsqueeze.axes.len());
        }
        match op.op_type() {
            "Gather" => (rank(0)? + rank(1)?).checked_sub(1),
            "EmbedLayerNormalization" => Some(rank(0)? + 1),
            // A vector is no axis of the product.
            "MatMul" | "FusedMatMul" => {
                let (a, b) = (rank(0)?, rank(1)?);
                Some(a.max(2).max(b) - usize::from(a == 1) - usize::from(b == 1))
            }
            "Gemm" | "FusedGemm" => Some(2),
            "Expand" => Some(rank(0)?.max(self.length(graph, id, 1)?)),
            "ConstantOfShape" => self.length(graph, id, 0),
            "Shape" => Some(1),
            op_type if BROADCAST.contains(&op_type) => {
                let ranks: Option<Vec<usize>> = (0..op.input_arity()).map(rank).collect();
                ranks?.into_iter().max()
            }
            op_type if LIKE_FIRST.contains(&op_type) => rank(0),
            "Constant" => constant_tensor(graph, graph.output(id, 0)?).map(|tensor| tensor.rank()),
            _ => None,
        }
    }

    fn length(&self, graph: &Graph, id: OpId, slot: usize) -> Option<usize> {
        self.lengths.get(&graph.input(id, slot)?).copied()
    }

    /// The number of elements of a vector that an operator writes.
    fn length_written(&self, graph: &Graph, id: OpId) -> Option<usize> {
        let op = graph.op(id);
        match op.op_type() {
            "Concat" => (0..op.input_arity()).map(|slot| self.length(graph, id, slot)).sum(),
            "Shape" if op.attributes().is_empty() => graph.input(id, 0).and_then(|value| self.rank(value)),
            "Cast" | "Identity" => self.length(graph, id, 0),
            "Unsqueeze" => (graph.input(id, 0).and_then(|value| self.rank(value)) == Some(0)).then_some(1),
            "Constant" => match constant_tensor(graph, graph.output(id, 0)?)?.shape() {
                [length] => Some(*length),
                _ => None,
            },
            _ => None,
        }
    }
}
