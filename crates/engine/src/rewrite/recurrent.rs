//! LSTM, GRU and RNN: tract has forward and bidirectional ones, whose batch it must know where they begin with zeros.

use onnxq_ir::{Attribute, Graph, Op, OpId, Output, Patch, Tensor, ValueId};

use super::{Cut, integers, plain, slice};
use crate::support::{int, text};

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
    if !is_backward && missing.is_empty() {
        return None;
    }
    let x = graph.input(id, 0)?;
    let time = i64::from(int(op, "layout") == Some(1));
    if !missing.is_empty() {
        let zeros = zeros(patch, graph, id, x)?;
        inputs.resize(inputs.len().max(states.len() + INITIAL_H), None);
        for slot in missing {
            inputs[slot] = Some(zeros);
        }
    }
    let mut outputs: Vec<Output> =
        graph.outputs_of(id).into_iter().map(|value| value.map_or(Output::Omitted, Output::Take)).collect();
    let mut forward = op.clone();
    patch.remove(id);
    if is_backward {
        inputs[0] = slice(patch, graph, x, &[Cut::backwards(time)], Output::New("reversed".to_owned()));
        let kept = op.attributes().iter().filter(|attribute| attribute.name != "direction").cloned();
        forward = Op::new("", op.op_type(), kept.collect()).named(op.name());
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

/// The zeros that a cell begins with, in the type of its input.
fn zeros(patch: &mut Patch, graph: &Graph, id: OpId, x: ValueId) -> Option<ValueId> {
    let op = graph.op(id);
    let hidden = int(op, "hidden_size").or_else(|| {
        let recurrence = graph.tensor_type(graph.input(id, 2)?)?.shape?;
        recurrence.last()?.known().map(|size| size as i64)
    })?;
    let directions = if text(op, "direction") == Some("bidirectional") { 2 } else { 1 };
    let is_batch_first = int(op, "layout") == Some(1);
    let shape = plain(patch, graph, "Shape", &[x]);
    let axis = integers(patch, graph, [i64::from(!is_batch_first)]);
    let batch = patch.value(graph, Op::new("", "Gather", vec![Attribute::int("axis", 0)]), &[shape, axis], "batch");
    let directions = integers(patch, graph, [directions]);
    let hidden = integers(patch, graph, [hidden]);
    let sizes = if is_batch_first { [batch, directions, hidden] } else { [directions, batch, hidden] };
    let sizes = patch.value(graph, Op::new("", "Concat", vec![Attribute::int("axis", 0)]), &sizes, "sizes");
    let zero = patch.constant(graph, "zero", Tensor::new(vec![], vec![0.0f32]));
    let zero = plain(patch, graph, "CastLike", &[zero, x]);
    Some(plain(patch, graph, "Expand", &[zero, sizes]))
}
