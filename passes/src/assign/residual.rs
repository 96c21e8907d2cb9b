//! Which branch of a residual addition has codes (placement `residual`).
//!
//! The kernel of a convolution can add a second input in codes to what it sums up. So the operand that comes straight from the
//! convolution stays without a quantizer, and the other one, the residual, gets it.

use std::collections::BTreeMap;

use onnxq_ir::{Graph, OpId};
use onnxq_plan::OperatorKind;

/// An operand of an addition that comes straight from another operator and goes nowhere else.
pub(crate) struct Branch {
    /// The input slot.
    pub(crate) slot: usize,
    /// The operator that writes it.
    pub(crate) writer: OpId,
}

pub(crate) fn is_convolution(kind: OperatorKind) -> bool {
    matches!(kind, OperatorKind::Conv | OperatorKind::PatchEmbedding | OperatorKind::ConvTranspose)
}

/// The branches of an addition that a convolution writes, which may add the other one.
pub(crate) fn branches(graph: &Graph, add: OpId) -> impl Iterator<Item = Branch> + '_ {
    (0..2).filter_map(move |slot| {
        let value =
            graph.input(add, slot).filter(|&value| graph.reader_count(value) == 1 && !graph.is_output(value))?;
        let (writer, _) = graph.producer(value)?;
        let is_convolution = graph.op(writer).is("Conv") || graph.op(writer).is("ConvTranspose");
        is_convolution.then_some(Branch { slot, writer })
    })
}

/// How many operators lie on the longest way from an input of the graph to each operator.
pub(crate) fn depths(graph: &Graph) -> BTreeMap<OpId, usize> {
    let mut depths: BTreeMap<OpId, usize> = BTreeMap::new();
    for op in graph.topological() {
        let before = (0..graph.op(op).input_arity()).filter_map(|slot| graph.producer(graph.input(op, slot)?));
        let depth = before.filter_map(|(writer, _)| depths.get(&writer)).max().map_or(0, |depth| depth + 1);
        depths.insert(op, depth);
    }
    depths
}

/// The slot of the residual operand; none where no convolution could add it.
pub(crate) fn slot(graph: &Graph, add: OpId, depths: &BTreeMap<OpId, usize>) -> Option<usize> {
    let deepest =
        branches(graph, add).max_by_key(|branch| (depths.get(&branch.writer), std::cmp::Reverse(branch.slot)));
    deepest.map(|branch| 1 - branch.slot)
}
