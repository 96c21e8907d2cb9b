//! Reading attributes and attribute-like inputs for the typed views. The only other readers are those of files and texts.
//!
//! Every reader tells an attribute that is absent (the default holds) from one that is there but of another kind or a
//! reference to a function's attribute (the view does not exist).

use crate::graph::Graph;
use crate::op::{Op, OpId};
use crate::tensor::Tensor;
use crate::value::ValueId;

/// ONNX's own operator of this type.
pub(super) fn standard<'g>(graph: &'g Graph, id: OpId, op_type: &str) -> Option<&'g Op> {
    graph.try_op(id).filter(|op| op.is(op_type))
}

/// An INT, or the default; `None` where the attribute is something else.
pub(super) fn int_or(op: &Op, name: &str, default: i64) -> Option<i64> {
    if op.attribute(name).is_none() { Some(default) } else { op.int(name) }
}

/// An INT that is 0 or 1.
pub(super) fn flag_or(op: &Op, name: &str, default: i64) -> Option<bool> {
    int_or(op, name, default).map(|value| value != 0)
}

/// A FLOAT, or the default.
pub(super) fn float_or(op: &Op, name: &str, default: f32) -> Option<f32> {
    if op.attribute(name).is_none() { Some(default) } else { op.float(name) }
}

/// A STRING, or the default.
pub(super) fn text_or<'o>(op: &'o Op, name: &str, default: &'o str) -> Option<&'o str> {
    if op.attribute(name).is_none() { Some(default) } else { op.text(name) }
}

/// INTS where there are some: `Some(None)` is an absent attribute.
#[expect(clippy::option_option, reason = "outside: whether the operator is well-formed; inside: whether it says so")]
pub(super) fn ints_opt(op: &Op, name: &str) -> Option<Option<Vec<i64>>> {
    if op.attribute(name).is_none() { Some(None) } else { op.ints(name).map(|ints| Some(ints.to_vec())) }
}

/// Integers that are an attribute below `since` and a constant input in `slot` from there on.
#[expect(clippy::option_option, reason = "outside: whether the operator is well-formed; inside: whether it says so")]
pub(super) fn ints_by_version(
    graph: &Graph,
    id: OpId,
    name: &str,
    slot: usize,
    since: i64,
) -> Option<Option<Vec<i64>>> {
    if graph.opset() < since {
        return ints_opt(graph.op(id), name);
    }
    match optional_input(graph, id, slot) {
        None => Some(None),
        Some(value) => constant_ints(graph, value).map(Some),
    }
}

/// The value in a slot that may be omitted or beyond what was written.
pub(super) fn optional_input(graph: &Graph, id: OpId, slot: usize) -> Option<ValueId> {
    graph.input(id, slot)
}

/// The tensor of an initializer or of a `Constant` operator's output.
pub fn constant_tensor(graph: &Graph, value: ValueId) -> Option<Tensor> {
    if let Some(tensor) = graph.constant(value) {
        return Some(tensor.clone());
    }
    let (op, 0) = graph.producer(value)? else { return None };
    super::Constant::at(graph, op).map(|constant| constant.tensor)
}

/// The integers of a constant.
pub fn constant_ints(graph: &Graph, value: ValueId) -> Option<Vec<i64>> {
    constant_tensor(graph, value)?.to_i64()
}

/// An axis counted from the front, where it is one of `rank`.
pub fn axis_from_front(axis: i64, rank: usize) -> Option<usize> {
    let rank = i64::try_from(rank).ok()?;
    let axis = if axis < 0 { axis + rank } else { axis };
    (0..rank).contains(&axis).then_some(axis as usize)
}

/// Whether an axis is the last one, as far as the rank lets one say.
pub fn is_last_axis(axis: i64, rank: Option<usize>) -> bool {
    axis == -1 || rank.is_some_and(|rank| rank > 0 && axis_from_front(axis, rank) == Some(rank - 1))
}
