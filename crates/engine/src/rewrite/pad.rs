//! Pad with negative amounts: tract only adds.

use onnxq_ir::{Attribute, Graph, Op, OpId, Output, Patch, ops};

use super::{Cut, integers, slice, take_over};

/// What is cut off is cut off by a Slice, before the rest is added.
pub(super) fn rewrite(patch: &mut Patch, graph: &Graph, id: OpId) -> Option<()> {
    let pad = ops::Pad::at(graph, id)?;
    let is_negative = pad.amounts.iter().any(|&(before, behind)| before < 0 || behind < 0);
    if !is_negative || graph.opset() < 10 {
        return None;
    }
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
