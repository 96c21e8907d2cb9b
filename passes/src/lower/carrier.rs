//! What holds the codes of a weight, by what its readers do with it.

use onnxq_ir::{Graph, OpId, Use};
use onnxq_numerics::Uniform;
use onnxq_plan::{Plan, Site};

use crate::pass::Context;
use crate::storage::Carrier;

/// What holds a weight's codes, where these read it. Kernels that compute with codes take fewer packed types than those that
/// make floats of a weight first; one such reader decides for all.
pub(crate) fn weight_carrier(cx: &Context<'_>, own: &Uniform, readers: &[Use]) -> Carrier {
    let computes = readers.iter().any(|reader| reads_codes(cx.graph(), cx.plan, reader.op));
    let packed = if computes { &cx.target.weights.packed } else { &cx.target.weights.packed_weight_only };
    cx.settings.storage.weight_carrier(own.format(), packed)
}

/// Whether an operator reads an activation that is quantized.
fn reads_codes(graph: &Graph, plan: &Plan, op: OpId) -> bool {
    graph.inputs_of(op).into_iter().enumerate().any(|(slot, value)| {
        value.filter(|&value| graph.constant(value).is_none()).is_some_and(|value| {
            plan.get(Site::Operand { op, slot }).is_some() || plan.get(Site::Output(value)).is_some()
        })
    })
}
