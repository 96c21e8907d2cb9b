//! Pad with negative amounts, and Pad that repeats the input: tract has neither.

use onnxq_ir::{Attribute, Graph, Op, OpId, Output, Patch, ops, ops::Filling, ops::axis_from_front};

use super::{Cut, integers, slice, take_over};

/// Rewrites both.
pub(super) fn rewrite(patch: &mut Patch, graph: &Graph, id: OpId) -> Option<()> {
    let pad = ops::Pad::at(graph, id)?;
    let is_negative = pad.amounts.iter().any(|&(before, behind)| before < 0 || behind < 0);
    match (is_negative, pad.filling) {
        (true, _) if graph.opset() >= 10 => crop(patch, graph, id, &pad),
        (false, Filling::Wrap) => wrap(patch, graph, id, &pad),
        _ => None,
    }
}

/// The last elements of an axis in front of it, and the first ones behind, where there are as many.
fn wrap(patch: &mut Patch, graph: &Graph, id: OpId, pad: &ops::Pad) -> Option<()> {
    let dims = graph.tensor_type(pad.x)?.shape?;
    let mut value = pad.x;
    for (at, &(before, behind)) in pad.amounts.iter().enumerate() {
        let axis = axis_from_front(pad.axes.as_ref().map_or(at as i64, |axes| axes[at]), dims.len())?;
        let size = dims[axis].known()? as i64;
        (before <= size && behind <= size).then_some(())?;
        let axis = axis as i64;
        let mut pieces = vec![value];
        if before > 0 {
            let last = Cut { axis, start: -before, end: i64::MAX, step: 1 };
            pieces.insert(0, slice(patch, graph, value, &[last], Output::New("last".to_owned()))?);
        }
        if behind > 0 {
            let first = Cut { axis, start: 0, end: behind, step: 1 };
            pieces.push(slice(patch, graph, value, &[first], Output::New("first".to_owned()))?);
        }
        if pieces.len() > 1 {
            let join = Op::new("", "Concat", vec![Attribute::int("axis", axis)]);
            value = patch.value(graph, join, &pieces, "wrapped");
        }
    }
    take_over(patch, graph, id, &[Some(value)])
}

/// What is cut off is cut off by a Slice, before the rest is added.
fn crop(patch: &mut Patch, graph: &Graph, id: OpId, pad: &ops::Pad) -> Option<()> {
    let axes = pad.axes.clone().unwrap_or_else(|| (0..pad.amounts.len() as i64).collect());
    let cut = |(&axis, &(before, behind)): (&i64, &(i64, i64))| Cut {
        axis,
        start: (-before).max(0),
        end: if behind < 0 { behind } else { i64::MAX },
        step: 1,
    };
    let cuts: Vec<Cut> = axes.iter().zip(&pad.amounts).map(cut).collect();
    let rest = slice(patch, graph, pad.x, &cuts, Output::New("cropped".to_owned()));
    let added: Vec<i64> = pad
        .amounts
        .iter()
        .map(|amounts| amounts.0.max(0))
        .chain(pad.amounts.iter().map(|amounts| amounts.1.max(0)))
        .collect();
    let op = graph.op(id);
    let mut inputs = graph.inputs_of(id);
    inputs[0] = rest;
    let mut attributes = op.attributes().to_vec();
    if graph.opset() < 11 {
        attributes.retain(|attribute| attribute.name != "pads");
        attributes.push(Attribute::ints("pads", added));
    } else {
        inputs[1] = Some(integers(patch, graph, added));
    }
    let padding = Op::new("", "Pad", attributes).named(op.name());
    let (_, padded) = patch.op(graph, padding, &inputs, &[Output::New("padded".to_owned())]);
    take_over(patch, graph, id, &padded)
}
