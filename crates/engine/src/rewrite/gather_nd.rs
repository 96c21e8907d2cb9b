//! GatherND: tract takes no negative indices.

use onnxq_ir::{Attribute, Graph, Op, OpId, Patch, Tensor, ops};

use super::{integers, plain};
use crate::support::int;

/// Negative indices count from the end: the sizes of the axes that they are for are added to them. Indices that are
/// constant and not negative are left.
pub(super) fn rewrite(patch: &mut Patch, graph: &Graph, id: OpId) -> Option<()> {
    let op = graph.op(id);
    if !op.is("GatherND") {
        return None;
    }
    let (data, indices) = (graph.input(id, 0)?, graph.input(id, 1)?);
    let constant = ops::constant_ints(graph, indices);
    if constant.is_some_and(|indices| indices.iter().all(|&index| index >= 0)) {
        return None;
    }
    let depth = graph.tensor_type(indices)?.shape?.last()?.known()? as i64;
    let first = int(op, "batch_dims").unwrap_or(0);
    let shape = plain(patch, graph, "Shape", &[data]);
    let axes = integers(patch, graph, (first..first + depth).collect::<Vec<_>>());
    let sizes = patch.value(graph, Op::new("", "Gather", vec![Attribute::int("axis", 0)]), &[shape, axes], "sizes");
    let zero = patch.constant(graph, "zero", Tensor::new(vec![], vec![0i64]));
    let is_negative = plain(patch, graph, "Less", &[indices, zero]);
    let from_front = plain(patch, graph, "Add", &[indices, sizes]);
    let indices = plain(patch, graph, "Where", &[is_negative, from_front, indices]);
    patch.set_input(id, 1, Some(indices));
    Some(())
}
