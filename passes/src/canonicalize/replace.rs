//! Puts a recognised operator in the place of the operators that it stands for.

use onnxq_ir::pattern::Match;
use onnxq_ir::{Graph, Op, OpId, Output, Patch, Slot, ValueId};

/// Lets `op` write what `at` writes; `gone`, `at` included, are removed.
pub(super) fn take_over(
    patch: &mut Patch,
    graph: &Graph,
    at: OpId,
    op: Op,
    inputs: &[Option<ValueId>],
    gone: &[OpId],
) -> OpId {
    let outputs: Vec<Output> =
        graph.outputs_of(at).into_iter().map(|output| output.map_or(Output::Omitted, Output::Take)).collect();
    let (id, _) = patch.op(graph, op, inputs, &outputs);
    for &op in gone {
        patch.remove(op);
    }
    id
}

/// The patch in which `op` stands in for a single node, with its inputs.
pub(super) fn stand_in(graph: &Graph, rule: &'static str, node: OpId, op: Op) -> Patch {
    let mut patch = Patch::new(graph, rule, node);
    take_over(&mut patch, graph, node, op, &graph.inputs_of(node), &[node]);
    patch
}

/// The operator that reads a value, if that is all that becomes of it.
pub(crate) fn only_reader(graph: &Graph, value: ValueId) -> Option<OpId> {
    match graph.readers(value)[..] {
        [reader] if !graph.is_output(value) && matches!(reader.slot, Slot::Input(_)) => Some(reader.op),
        _ => None,
    }
}

/// Whether no constant among the operands of the matched operators has more axes than `x`, which would add some.
pub(super) fn keeps_rank(graph: &Graph, found: &Match, x: ValueId) -> bool {
    let limit = graph.rank(x).unwrap_or(1);
    found.ops().iter().flat_map(|&op| graph.inputs_of(op)).flatten().all(|value| {
        // Axes of reductions and the like are no operands.
        graph.constant(value).is_none_or(|tensor| tensor.to_f32().is_none() || tensor.rank() <= limit)
    })
}

/// The patch in which `op`, which reads the value captured as `x` alone, stands for all that was matched at `at`.
pub(super) fn single_input(
    graph: &Graph,
    rule: &'static str,
    at: OpId,
    found: &Match,
    op: Op,
) -> Result<Patch, &'static str> {
    if !found.is_closed(graph) {
        return Err("intermediate");
    }
    let mut patch = Patch::new(graph, rule, at);
    let op = op.named(graph.op(at).name());
    take_over(&mut patch, graph, at, op, &[Some(found.value("x"))], &found.ops());
    Ok(patch)
}
