//! Bodies that are left to tract: an If whose condition is computed, a Scan.
//!
//! None of our own operators can be put there: QuantizeLinear and DequantizeLinear are spelled in plain arithmetic, since
//! tract's multiply by the reciprocal of the scale and wrap for large values. What a Scan stacks is read by nobody else in
//! its body: tract would let readers see it with the new axis.

use onnxq_ir::ops::Control;
use onnxq_ir::{Attribute, Graph, Op, OpId, Output, Patch, Tensor, ValueId};

use super::{applied, plain, take_over, with_bodies};
use crate::guard::Failure;
use crate::marked::Marked;
use crate::quantize::{Codec, Spelling};

/// `Round` came then.
const ROUND: i64 = 11;

/// Brings all bodies of the graph into a form that tract takes.
pub(crate) fn adapt_bodies(marked: &mut Marked<'_>) -> Result<(), Failure> {
    if let Some(adapted) = in_bodies(&marked.graph)? {
        marked.graph = std::borrow::Cow::Owned(adapted);
    }
    Ok(())
}

fn in_bodies(graph: &Graph) -> Result<Option<Graph>, Failure> {
    let Some(first) = graph.op_ids().next() else { return Ok(None) };
    let mut patch = Patch::new(graph, "bodies", first);
    for id in graph.op_ids() {
        let states = match Control::at(graph, id) {
            Some(Control::Scan { state, .. }) => state.len(),
            _ => usize::MAX,
        };
        let body = |body: &Graph| {
            let mut changed = in_bodies(body)?;
            changed = spelled(changed.as_ref().unwrap_or(body))?.or(changed);
            changed = alone(changed.as_ref().unwrap_or(body), states)?.or(changed);
            Ok(changed)
        };
        if let Some(attributes) = with_bodies(graph.op(id), body)? {
            patch.set_attributes(id, attributes);
        }
    }
    applied(graph, patch)
}

/// A body whose outputs, the first ones aside, have no readers in it.
fn alone(graph: &Graph, states: usize) -> Result<Option<Graph>, Failure> {
    let Some(first) = graph.op_ids().next() else { return Ok(None) };
    let mut patch = Patch::new(graph, "stacked", first);
    let stacked = graph.outputs().iter().skip(states).map(|declared| declared.value);
    for value in stacked.filter(|&value| graph.reader_count(value) > 0) {
        let Some((producer, slot)) = graph.producer(value) else { continue };
        patch.stand_at(graph, producer);
        let source = patch.produced(graph, graph.value(value).name());
        patch.produce(producer, slot, source);
        patch.redirect(graph, value, source);
        patch.op(graph, Op::new("", "Identity", vec![]), &[Some(source)], &[Output::Take(value)]);
    }
    applied(graph, patch)
}

/// A body with its own codecs spelled.
fn spelled(graph: &Graph) -> Result<Option<Graph>, Failure> {
    let Some(first) = graph.op_ids().next() else { return Ok(None) };
    let mut patch = Patch::new(graph, "codecs", first);
    for id in graph.op_ids().filter(|_| graph.opset() >= ROUND) {
        patch.stand_at(graph, id);
        _ = one(&mut patch, graph, id);
    }
    applied(graph, patch)
}

/// `None` where the operator is no codec, or has a scale per slice of something computed.
fn one(patch: &mut Patch, graph: &Graph, id: OpId) -> Option<()> {
    let codec = Codec::find(graph, id)?;
    let x = graph.input(id, 0)?;
    if let Some(floats) = graph.constant(x).and_then(|codes| codec.floats(codes)) {
        let result = patch.constant(graph, graph.value(x).name(), floats);
        return take_over(patch, graph, id, &[Some(result)]);
    }
    let Spelling { scale, zero_point, codes } = codec.spelling()?;
    let scalar = |patch: &mut Patch, x: f32| patch.constant(graph, "codec", Tensor::scalar(x));
    let binary = |patch: &mut Patch, kind: &str, x: ValueId, y: f32| {
        let y = scalar(patch, y);
        plain(patch, graph, kind, &[x, y])
    };
    let cast = |patch: &mut Patch, x: ValueId, code: i32| {
        patch.value(graph, Op::new("", "Cast", vec![Attribute::int("to", code.into())]), &[x], "codec")
    };
    let result = if let Some((element, low, high)) = codes {
        let steps = binary(patch, "Div", x, scale);
        let steps = binary(patch, "Max", steps, (low - zero_point) as f32);
        let steps = binary(patch, "Min", steps, (high - zero_point) as f32);
        let steps = plain(patch, graph, "Round", &[steps]);
        let code = binary(patch, "Add", steps, zero_point as f32);
        cast(patch, code, element.code())
    } else {
        let code = cast(patch, x, onnxq_ir::ElementType::F32.code());
        let steps = binary(patch, "Sub", code, zero_point as f32);
        binary(patch, "Mul", steps, scale)
    };
    take_over(patch, graph, id, &[Some(result)])
}
