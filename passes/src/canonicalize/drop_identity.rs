//! Removes operators that let their input pass as it is.
//!
//! # Why
//! A value under two names hides from every other pass that both are one. Exporters tie equal weights by Identity, pad by
//! amounts that turn out to be zero, and leave Dropout in.
//!
//! # Needs
//! Nothing.
//!
//! # Effect
//! These are removed, and their readers read the input: Identity, Dropout outside training, Pad by nothing, Cast to the
//! same type, Reshape, Expand and Flatten to the same shape, Transpose and Slice that change nothing, Concat of one.
//! Where the value is an output of the graph, its name is kept and the input's producer writes it.
//!
//! # Promise
//! Exact.
//!
//! # Declines
//! - `output`: the value is an output of the graph, and the input is an input, a constant or an output of the graph.
//! - `mask`: the mask of a Dropout is read.
//!
//! # Options
//! None.

use onnxq_ir::ops::{Cast, Concat, Dropout, Flatten, Pad, Reshape, Slice, Target, Transpose, axis_from_front};
use onnxq_ir::{Dim, Graph, OpId, Patch, TensorType, ValueId};
use serde::{Deserialize, Serialize};

use crate::pass::{Context, Pass, PassError, Promise};

/// What a recipe can set: nothing.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub(crate) struct DropIdentity {}

impl Pass for DropIdentity {
    fn promise(&self) -> Promise {
        Promise::Exact
    }

    fn run(&self, cx: &mut Context<'_>) -> Result<(), PassError> {
        for op in cx.ops() {
            let Some(x) = passed(cx.graph(), op) else { continue };
            match bypass(cx.graph(), op, x) {
                Ok(patch) => cx.apply(patch)?,
                Err(reason) => cx.decline(op, reason),
            }
        }
        Ok(())
    }
}

/// The input that an operator lets pass, if it does no more than that.
fn passed(graph: &Graph, op: OpId) -> Option<ValueId> {
    let x = graph.input(op, 0)?;
    let passes = graph.op(op).is("Identity")
        || Dropout::at(graph, op).is_some()
        || Pad::at(graph, op).is_some_and(|pad| pad.is_identity())
        || Cast::at(graph, op).is_some_and(|cast| graph.tensor_type(x).is_some_and(|it| it.element == cast.to))
        || Transpose::at(graph, op).is_some_and(|transpose| transpose.is_identity())
        || Concat::at(graph, op).is_some_and(|concat| concat.parts.len() == 1)
        || Slice::at(graph, op).is_some_and(|slice| is_whole(graph, &slice))
        || keeps_shape(graph, op);
    passes.then_some(x)
}

fn is_whole(graph: &Graph, slice: &Slice) -> bool {
    let shape = graph.tensor_type(slice.x).and_then(|it| it.shape);
    let size = |axis| {
        let shape = shape.as_ref()?;
        shape[axis_from_front(axis, shape.len())?].known()
    };
    slice.ranges.iter().all(|range| range.is_whole() || size(range.axis).is_some_and(|size| range.is_whole_of(size)))
}

/// Whether this is a Reshape, Expand or Flatten whose output has the input's shape.
fn keeps_shape(graph: &Graph, op: OpId) -> bool {
    let Some(x) = graph.input(op, 0) else { return false };
    if let Some(reshape) = Reshape::at(graph, op) {
        return keeps(graph.tensor_type(x).as_ref(), &reshape.target);
    }
    if Flatten::at(graph, op).is_some_and(|flatten| flatten.axis == 1) && graph.rank(x) == Some(2) {
        return true;
    }
    let moves = ["Reshape", "Expand", "Flatten"].iter().any(|op_type| graph.op(op).is(op_type));
    let (before, after) = (graph.tensor_type(x), graph.output(op, 0).and_then(|y| graph.tensor_type(y)));
    moves
        && match (before.and_then(|it| it.shape), after.and_then(|it| it.shape)) {
            (Some(before), Some(after)) => before == after && !before.contains(&Dim::Unknown),
            _ => false,
        }
}

/// Whether the shape asked for is the one that is there; one axis that is left over is then the same too.
fn keeps(before: Option<&TensorType>, target: &[Target]) -> bool {
    let Some(shape) = before.and_then(|it| it.shape.as_ref()) else { return false };
    let inferred_is_sound = !shape.contains(&Dim::Known(0)) || !target.contains(&Target::Inferred);
    shape.len() == target.len()
        && inferred_is_sound
        && shape.iter().zip(target).all(|(dim, entry)| match entry {
            Target::Copied | Target::Inferred => true,
            Target::Size(size) => dim.known() == Some(*size),
        })
}

fn bypass(graph: &Graph, op: OpId, x: ValueId) -> Result<Patch, &'static str> {
    let is_looked_at = |value: ValueId| graph.is_output(value) || graph.reader_count(value) > 0;
    if graph.outputs_of(op).into_iter().skip(1).flatten().any(is_looked_at) {
        return Err("mask");
    }
    let mut patch = Patch::new(graph, "drop-identity", op);
    let Some(y) = graph.output(op, 0) else { return Ok(patch) };
    if graph.is_output(y) {
        let (producer, slot) = graph.producer(x).filter(|_| !graph.is_output(x)).ok_or("output")?;
        for reader in graph.readers(x).into_iter().filter(|reader| reader.op != op) {
            patch.redirect_use(reader, x, y);
        }
        patch.remove(op);
        patch.produce(producer, slot, y);
    } else {
        patch.redirect(graph, y, x);
        patch.remove(op);
    }
    Ok(patch)
}

#[cfg(test)]
mod tests {
    use crate::testing::{check, check_declined};

    #[test]
    fn chain() {
        check!("drop-identity/chain");
    }

    #[test]
    fn no_ops() {
        check!("drop-identity/no_ops");
    }

    #[test]
    fn not_quite() {
        check!("drop-identity/not_quite");
    }

    #[test]
    fn before_an_output() {
        check!("drop-identity/before_an_output");
    }

    #[test]
    fn old_pad_and_slice() {
        check!("drop-identity/old_pad_and_slice");
    }

    #[test]
    fn output() {
        check_declined!("drop-identity/output", "output");
    }

    #[test]
    fn mask() {
        check_declined!("drop-identity/mask", "mask");
    }
}
