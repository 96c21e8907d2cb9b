//! What a model has in codes already when it comes: that stays as it is, the rest can be quantized.

use std::collections::BTreeSet;

use onnxq_ir::{Graph, Op, OpId, ValueId};

use super::kind::Candidate;

/// Why an operator stays as it is.
pub(crate) const QUANTIZED: &str = "quantized: it stays as it is, which is quantized already";

/// The values of a graph that stand for codes or become codes.
pub(crate) struct Quantized {
    /// What a DequantizeLinear writes, and what only moves or cuts that.
    dequantized: BTreeSet<ValueId>,
    /// What a QuantizeLinear reads, and what is only moved or cut on the way to it.
    quantized: BTreeSet<ValueId>,
}

impl Quantized {
    /// Looks through the graph.
    pub(crate) fn of(graph: &Graph) -> Self {
        let mut found = Self { dequantized: BTreeSet::new(), quantized: BTreeSet::new() };
        let order = graph.topological();
        for &op in &order {
            let node = graph.op(op);
            let moved = moves(node) && graph.input(op, 0).is_some_and(|x| found.dequantized.contains(&x));
            if moved || node.is("DequantizeLinear") {
                found.dequantized.extend(graph.outputs_of(op).into_iter().flatten());
            }
        }
        for &op in order.iter().rev() {
            let node = graph.op(op);
            let moved = moves(node) && graph.output(op, 0).is_some_and(|y| found.quantized.contains(&y));
            if moved || node.is("QuantizeLinear") || node.is("DynamicQuantizeLinear") {
                found.quantized.extend(graph.input(op, 0));
            }
        }
        found
    }

    /// Whether a value lies on the grid of its codes: quantized once more it would lose again.
    pub(crate) fn is_dequantized(&self, value: ValueId) -> bool {
        self.dequantized.contains(&value)
    }

    /// Whether a value becomes codes.
    pub(crate) fn is_quantized(&self, value: ValueId) -> bool {
        self.quantized.contains(&value)
    }

    /// Whether an operator has what the plan would give it: its weight, or without one an activation, is dequantized.
    pub(crate) fn has(&self, graph: &Graph, candidate: &Candidate) -> bool {
        let is_dequantized = |slot| graph.input(candidate.op, slot).is_some_and(|value| self.is_dequantized(value));
        candidate.weight.is_none() && candidate.activations.iter().any(|&slot| is_dequantized(slot))
    }

    /// Whether one of an operator's inputs behind the first is dequantized, as its weight is.
    pub(crate) fn has_weight_of(&self, graph: &Graph, op: OpId) -> bool {
        graph.inputs_of(op).into_iter().skip(1).flatten().any(|value| self.is_dequantized(value))
    }
}

/// Operators whose output has the codes of their first input.
const MOVES: [&str; 14] = [
    "Clip",
    "DepthToSpace",
    "Expand",
    "Flatten",
    "Gather",
    "Identity",
    "MaxPool",
    "Relu",
    "Reshape",
    "Slice",
    "Split",
    "Squeeze",
    "Transpose",
    "Unsqueeze",
];

fn moves(op: &Op) -> bool {
    MOVES.iter().any(|op_type| op.is(op_type))
}

/// Whether an operator multiplies codes.
pub fn computes_with_codes(op: &Op) -> bool {
    let name = op.op_type();
    name.starts_with("QLinear")
        || name.starts_with("QGemm")
        || name.ends_with("Integer")
        || name.contains("NBits")
        || CODED.contains(&name)
}

const CODED: &[&str] = &[
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
