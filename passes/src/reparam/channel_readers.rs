//! Who reads the channels of a value, through operators that only move or average them.
//!
//! A change of every channel by a factor and an offset passes through these operators unchanged (vit.md 4.0's table):
//! Reshape, Transpose, Squeeze, Unsqueeze, Flatten, Slice, Gather, Split, Concat of such values and ReduceMean, as long as
//! the channels stay one whole axis. Shape and Size read no value.

use std::collections::BTreeMap;

use onnxq_ir::ops::{Axes, Concat, Gather, Linear, Reduce, Reduction, Slice, Split, Transpose, axis_from_front};
use onnxq_ir::{Graph, OpId, Slot, ValueId};

/// A linear operator that reads the channels, as its activation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Reader {
    pub(crate) op: OpId,
    /// What it reads: the value itself, or what the operators between made of it.
    pub(crate) x: ValueId,
}

/// Why the channels can't be followed to linear readers only.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Blocked {
    /// An operator does something else with them.
    Reader(OpId),
    /// They leave the graph.
    Output,
    /// It is not known which axis the last one is.
    Shape,
}

/// Follows the last axis of `value` to all its readers.
pub(crate) fn linear_readers(graph: &Graph, value: ValueId) -> Result<Vec<Reader>, Blocked> {
    // The axis of the channels in each value that carries them.
    let mut carriers: BTreeMap<ValueId, usize> = BTreeMap::new();
    let last = graph.rank(value).and_then(|rank| rank.checked_sub(1));
    carriers.insert(value, last.ok_or(Blocked::Shape)?);
    let mut readers = Vec::new();
    for op in downstream(graph, value) {
        let read: Vec<ValueId> =
            graph.inputs_of(op).into_iter().flatten().filter(|input| carriers.contains_key(input)).collect();
        if read.is_empty() && !graph.captures_of(op).iter().any(|captured| carriers.contains_key(captured)) {
            continue;
        }
        if ["Shape", "Size"].iter().any(|name| graph.op(op).is(name)) {
            continue;
        }
        if let Some(linear) = Linear::at(graph, op)
            && read == [linear.x]
            && graph.rank(linear.x) == Some(carriers[&linear.x] + 1)
        {
            readers.push(Reader { op, x: linear.x });
            continue;
        }
        let axis = carry(graph, op, &carriers).ok_or(Blocked::Reader(op))?;
        for output in graph.outputs_of(op).into_iter().flatten() {
            carriers.insert(output, axis);
        }
    }
    if carriers.keys().any(|&carrier| graph.is_output(carrier)) {
        return Err(Blocked::Output);
    }
    Ok(readers)
}

/// The operators that `value` reaches through carriers or otherwise, producers first.
fn downstream(graph: &Graph, value: ValueId) -> Vec<OpId> {
    let mut found: std::collections::BTreeSet<(u64, OpId)> = std::collections::BTreeSet::new();
    let mut queue = vec![value];
    while let Some(next) = queue.pop() {
        for reader in graph.readers(next) {
            let fresh = found.insert((graph.op(reader.op).order_key(), reader.op));
            let moves = MOVERS.iter().any(|name| graph.op(reader.op).is(name));
            if fresh && moves && reader.slot != Slot::Capture {
                queue.extend(graph.outputs_of(reader.op).into_iter().flatten());
            }
        }
    }
    let position: BTreeMap<OpId, usize> = graph.topological().into_iter().zip(0..).collect();
    let mut ops: Vec<OpId> = found.into_iter().map(|(_, op)| op).collect();
    ops.sort_by_key(|op| position[op]);
    ops
}

const MOVERS: &[&str] = &[
    "Reshape",
    "Transpose",
    "Squeeze",
    "Unsqueeze",
    "Flatten",
    "Slice",
    "Gather",
    "Split",
    "Concat",
    "ReduceMean",
    "Identity",
];

/// Where the channels are in the outputs of `op`, if it only moves or averages them.
fn carry(graph: &Graph, op: OpId, carriers: &BTreeMap<ValueId, usize>) -> Option<usize> {
    let node = graph.op(op);
    let data = graph.input(op, 0)?;
    let axis = *carriers.get(&data)?;
    let rank = graph.rank(data)?;
    let output = graph.output(op, 0)?;
    if node.is("Identity") {
        return Some(axis);
    }
    if let Some(transpose) = Transpose::at(graph, op) {
        return transpose.perm.iter().position(|&from| from == axis);
    }
    if let Some(concat) = Concat::at(graph, op) {
        let alike = concat.parts.iter().all(|part| carriers.get(part) == Some(&axis));
        return (alike && axis_from_front(concat.axis, rank)? != axis).then_some(axis);
    }
    if let Some(slice) = Slice::at(graph, op) {
        let cut = slice.ranges.iter().any(|range| axis_from_front(range.axis, rank) == Some(axis));
        return (!cut).then_some(axis);
    }
    if let Some(split) = Split::at(graph, op) {
        return (axis_from_front(split.axis, rank)? != axis).then_some(axis);
    }
    if let Some(gather) = Gather::at(graph, op) {
        let picked = axis_from_front(gather.axis, rank)?;
        let indices = graph.rank(gather.indices)?;
        return match picked.cmp(&axis) {
            std::cmp::Ordering::Less => Some(axis + indices - 1),
            std::cmp::Ordering::Equal => None,
            std::cmp::Ordering::Greater => Some(axis),
        };
    }
    if let Some(reduce) = Reduce::at(graph, op).filter(|reduce| reduce.reduction == Reduction::Mean) {
        return averaged(&reduce, axis, rank);
    }
    if ["Reshape", "Squeeze", "Unsqueeze", "Flatten"].iter().any(|name| node.is(name)) {
        return regrouped(graph, data, axis, output);
    }
    None
}

/// Where the channels are behind a mean over other axes.
fn averaged(reduce: &Reduce, axis: usize, rank: usize) -> Option<usize> {
    let axes = match &reduce.axes {
        Axes::These(axes) => axes.iter().map(|&reduced| axis_from_front(reduced, rank)).collect::<Option<Vec<_>>>()?,
        Axes::All => return None,
        Axes::None => vec![],
    };
    let gone = if reduce.keepdims { 0 } else { axes.iter().filter(|&&reduced| reduced < axis).count() };
    (!axes.contains(&axis)).then(|| axis - gone)
}

/// The channels after a change of shape that keeps the order of elements: the last axis stays the last if its size does.
fn regrouped(graph: &Graph, data: ValueId, axis: usize, output: ValueId) -> Option<usize> {
    let before = graph.tensor_type(data)?.shape?;
    let after = graph.tensor_type(output)?.shape?;
    let last = after.len().checked_sub(1)?;
    (axis + 1 == before.len() && before[axis].known().is_some() && before[axis] == after[last]).then_some(last)
}
