//! LSTM, GRU and RNN: tract has forward and bidirectional ones, whose batch it must know where they begin with zeros.

use onnxq_ir::{Attribute, Graph, Op, OpId, Origin, Output, Patch, Tensor, ValueId};

use super::{Cut, integers, plain, slice};
use crate::support::{int, node_name, text};

/// The slots of the states that a cell begins with.
const INITIAL_H: usize = 5;
const INITIAL_C: usize = 6;

/// A backward cell runs forward over the reversed sequence, and what it writes per step is reversed again. A cell that
/// begins with zeros is given them.
pub(super) fn rewrite(patch: &mut Patch, graph: &Graph, id: OpId) -> Option<()> {
    let op = graph.op(id);
    let states: &[usize] = match op.op_type() {
        "LSTM" => &[INITIAL_H, INITIAL_C],
        "GRU" | "RNN" => &[INITIAL_H],
        _ => return None,
    };
    let is_backward = text(op, "direction") == Some("reverse");
    let mut inputs = graph.inputs_of(id);
    let missing: Vec<usize> =
        states.iter().copied().filter(|&slot| inputs.get(slot).is_none_or(Option::is_none)).collect();
    let may_be_one = missing.is_empty() && states.len() == 2 && !states.iter().all(|&slot| is_data(graph, id, slot));
    if !is_backward && missing.is_empty() && !may_be_one {
        return None;
    }
    let x = graph.input(id, 0)?;
    let time = i64::from(int(op, "layout") == Some(1));
    if !missing.is_empty() {
        inputs.resize(inputs.len().max(states.len() + INITIAL_H), None);
        for slot in missing {
            inputs[slot] = Some(zeros(patch, graph, id, slot)?);
        }
    }
    if let Some(cell) = may_be_one.then(|| inputs[INITIAL_C]).flatten() {
        let zeros = zeros(patch, graph, id, INITIAL_C)?;
        inputs[INITIAL_C] = Some(plain(patch, graph, "Add", &[cell, zeros]));
    }
    let mut outputs: Vec<Output> =
        graph.outputs_of(id).into_iter().map(|value| value.map_or(Output::Omitted, Output::Take)).collect();
    let mut forward = op.clone();
    patch.remove(id);
    if is_backward {
        inputs[0] = slice(patch, graph, x, &[Cut::backwards(time)], Output::New("reversed".to_owned()));
        let kept = op.attributes().iter().filter(|attribute| attribute.name != "direction").cloned();
        forward = Op::new("", op.op_type(), kept.collect()).named(node_name(graph, id));
        if let Some(Output::Take(_)) = outputs.first() {
            outputs[0] = Output::New("forward".to_owned());
        }
    }
    let (_, written) = patch.op(graph, forward, &inputs, &outputs);
    if let (true, Some(y), Some(&Some(steps))) = (is_backward, graph.output(id, 0), written.first()) {
        slice(patch, graph, steps, &[Cut::backwards(time)], Output::Take(y));
    }
    Some(())
}

/// Whether data is given for a state with every run.
fn is_data(graph: &Graph, id: OpId, slot: usize) -> bool {
    graph.input(id, slot).is_some_and(|value| *graph.value(value).origin() == Origin::Input(None))
}

/// The zeros that a cell begins with, in the type of its input and for as many sequences as that has.
///
/// They are computed, as `x < -inf` and `x > inf`, so that the two states of an LSTM are never one value, or equal
/// constants, of which tract makes one: it then fails where several sequences run at once and the last cell state is read
/// (0.23.9). To a given cell state that may be the other one as well, such zeros are added.
fn zeros(patch: &mut Patch, graph: &Graph, id: OpId, slot: usize) -> Option<ValueId> {
    let (op, x) = (graph.op(id), graph.input(id, 0)?);
    let hidden = int(op, "hidden_size").or_else(|| {
        let recurrence = graph.tensor_type(graph.input(id, 2)?)?.shape?;
        recurrence.last()?.known().map(|size| size as i64)
    })?;
    let directions = if text(op, "direction") == Some("bidirectional") { 2 } else { 1 };
    let is_batch_first = int(op, "layout") == Some(1);
    let mut one_each = x;
    for axis in [i64::from(is_batch_first), 2] {
        let first = integers(patch, graph, [0]);
        let gather = Op::new("", "Gather", vec![Attribute::int("axis", axis)]);
        one_each = patch.value(graph, gather, &[one_each, first], "one_each");
    }
    let (op_type, bound) = if slot == INITIAL_H { ("Less", f32::NEG_INFINITY) } else { ("Greater", f32::INFINITY) };
    let bound = patch.constant(graph, "bound", Tensor::new(vec![], vec![bound]));
    let bound = plain(patch, graph, "CastLike", &[bound, x]);
    let never = plain(patch, graph, op_type, &[one_each, bound]);
    let zero = plain(patch, graph, "CastLike", &[never, x]);
    let sizes = if is_batch_first { [1, directions, hidden] } else { [directions, 1, hidden] };
    let sizes = integers(patch, graph, sizes);
    Some(plain(patch, graph, "Expand", &[zero, sizes]))
}
