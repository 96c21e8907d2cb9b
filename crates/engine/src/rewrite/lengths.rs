//! LSTM, GRU and RNN with the lengths of their sequences as an input, which tract takes as constants alone: where what is fed
//! decides that they are as long as all the steps there are, nothing is lost without them.

use onnxq_ir::{Graph, Model, OpId, Patch, ValueId};

use super::applied;
use super::dissolve::elements;
use crate::guard::Failure;
use crate::infer::typed_as;
use crate::load::Fed;
use crate::marked::Marked;
use crate::support::int;
use crate::tensor::HalfFloats;

/// The slot of the lengths.
const LENGTHS: usize = 4;

/// A cell with computed lengths: the operator, its input, the lengths.
type Cell = (OpId, ValueId, ValueId);

/// Takes the lengths away where they are those of all steps, and says whether there were such. Types do not depend on them,
/// so that they go as well where nothing but types is asked for.
pub(crate) fn settle(marked: &mut Marked<'_>, model: &Model, fed: &dyn Fn(ValueId) -> Fed) -> Result<bool, Failure> {
    let cells: Vec<Cell> = measured_cells(&marked.graph).collect();
    let mut any = false;
    // Those in front first: nothing behind one is known while it has lengths.
    for (cell, x, lengths) in cells {
        let is_typed = marked.graph.inputs().iter().any(|input| matches!(fed(input.value), Fed::Declared));
        if !is_typed && !are_all_steps(marked, model, (cell, x, lengths), fed) {
            continue;
        }
        let mut patch = Patch::new(&marked.graph, "lengths", cell);
        patch.set_input(cell, LENGTHS, None);
        if let Some(settled) = applied(&marked.graph, patch)? {
            marked.graph = std::borrow::Cow::Owned(settled);
            any = true;
        }
    }
    Ok(any)
}

/// The lengths that cells read, where they are computed.
pub(super) fn lengths(graph: &Graph) -> impl Iterator<Item = ValueId> + '_ {
    measured_cells(graph).map(|(_, _, lengths)| lengths)
}

fn measured_cells(graph: &Graph) -> impl Iterator<Item = Cell> + '_ {
    graph.topological().into_iter().filter_map(|id| {
        let op = graph.op(id);
        let is_cell = ["LSTM", "GRU", "RNN"].into_iter().any(|op_type| op.is(op_type));
        let lengths = is_cell.then(|| graph.input(id, LENGTHS)).flatten()?;
        graph.constant(lengths).is_none().then_some((id, graph.input(id, 0)?, lengths))
    })
}

/// Whether each sequence is as long as the input has steps.
fn are_all_steps(marked: &Marked<'_>, model: &Model, (cell, x, lengths): Cell, fed: &dyn Fn(ValueId) -> Fed) -> bool {
    let of_x = || typed_as(model, marked, &[x], fed, HalfFloats::Widened).ok()?.pop()??.tensor_type.shape;
    let time = usize::from(int(marked.graph.op(cell), "layout") == Some(1));
    let steps = of_x().and_then(|shape| shape.get(time)?.known());
    let known = elements(marked, model, &[lengths], fed).ok().and_then(|mut found| found.pop()?);
    let Some((steps, lengths)) = steps.zip(known.and_then(|tensor| tensor.to_i64())) else { return false };
    lengths.into_iter().all(|length| usize::try_from(length) == Ok(steps))
}
