//! What tract lacks, written in what it has: on the engine's own copy of the graph, before tract sees it.
//!
//! Values keep their ids, so that what is asked for in the original is found in the copy.

mod dissolve;
mod functions;
mod gather_nd;
mod left;
mod lengths;
mod numbers;
mod pad;
mod recurrent;

use onnxq_ir::{Attribute, AttributeValue, Function, Graph, Op, OpId, Output, Patch, Tensor, ValueId};

use crate::guard::Failure;

pub(crate) use dissolve::{deciding_inputs, dissolve, is_decided};
pub(crate) use left::adapt_bodies;
pub(crate) use lengths::settle;

/// Writes one operator in others; `None` where it is none that the rule is for, or is well as it is.
type Rule = fn(&mut Patch, &Graph, OpId) -> Option<()>;

/// The first that applies, applies.
const RULES: &[Rule] = &[
    recurrent::rewrite,
    pad::rewrite,
    gather_nd::rewrite,
    numbers::power,
    numbers::gemm_of_doubles,
    numbers::equal_sizes,
    numbers::swish,
];

/// A graph with calls of local functions inlined, and what tract lacks written in what it has, in bodies too.
/// `None` where nothing has to change.
pub(crate) fn standard(graph: &Graph, functions: &[Function]) -> Result<Option<Graph>, Failure> {
    let inlined = functions::inline(graph, functions)?;
    let rewritten = rewrite(inlined.as_ref().unwrap_or(graph))?;
    Ok(rewritten.or(inlined))
}

fn rewrite(graph: &Graph) -> Result<Option<Graph>, Failure> {
    let Some(first) = graph.op_ids().next() else { return Ok(None) };
    let mut patch = Patch::new(graph, "engine", first);
    for id in graph.op_ids() {
        patch.stand_at(graph, id);
        match with_bodies(graph.op(id), rewrite)? {
            Some(attributes) => patch.set_attributes(id, attributes),
            None => _ = RULES.iter().find_map(|rule| rule(&mut patch, graph, id)),
        }
    }
    applied(graph, patch)
}

/// The graph as the patch makes it; `None` where it does nothing.
fn applied(graph: &Graph, patch: Patch) -> Result<Option<Graph>, Failure> {
    if patch.is_empty() {
        return Ok(None);
    }
    let mut copy = graph.clone();
    patch.apply(&mut copy).map_err(|error| Failure::of(error.to_string()))?;
    Ok(Some(copy))
}

/// An operator's attributes with every body as `change` makes it; `None` where it changes none.
fn with_bodies(
    op: &Op,
    change: impl Fn(&Graph) -> Result<Option<Graph>, Failure>,
) -> Result<Option<Vec<Attribute>>, Failure> {
    if op.bodies().next().is_none() {
        return Ok(None);
    }
    let mut attributes = op.attributes().to_vec();
    let mut any = false;
    for attribute in &mut attributes {
        let bodies: &mut [Graph] = match &mut attribute.value {
            AttributeValue::Graph(body) => std::slice::from_mut(&mut **body),
            AttributeValue::Graphs(bodies) => bodies,
            _ => &mut [],
        };
        for body in bodies {
            if let Some(new) = change(body)? {
                *body = new;
                any = true;
            }
        }
    }
    Ok(any.then_some(attributes))
}

/// Puts `results` in the place of what an operator writes; `None`, with nothing done, where one that it writes has none.
fn take_over(patch: &mut Patch, graph: &Graph, id: OpId, results: &[Option<ValueId>]) -> Option<()> {
    let outputs = graph.outputs_of(id);
    let result = |slot: usize| results.get(slot).copied().flatten();
    if outputs.iter().enumerate().any(|(slot, value)| value.is_some() && result(slot).is_none()) {
        return None;
    }
    patch.remove(id);
    for (slot, value) in outputs.into_iter().enumerate() {
        if let Some(value) = value {
            patch.op(graph, Op::new("", "Identity", vec![]), &[result(slot)], &[Output::Take(value)]);
        }
    }
    Some(())
}

/// An operator of ONNX's own without attributes, with one new output.
fn plain(patch: &mut Patch, graph: &Graph, op_type: &str, inputs: &[ValueId]) -> ValueId {
    patch.value(graph, Op::new("", op_type, vec![]), inputs, op_type)
}

/// A constant of integers in one dimension.
fn integers(patch: &mut Patch, graph: &Graph, elements: impl Into<Vec<i64>>) -> ValueId {
    let elements = elements.into();
    patch.constant(graph, "integers", Tensor::new(vec![elements.len()], elements))
}

/// What a Slice takes of one axis.
struct Cut {
    axis: i64,
    start: i64,
    end: i64,
    step: i64,
}

impl Cut {
    /// All of an axis, backwards.
    fn backwards(axis: i64) -> Self {
        Self { axis, start: -1, end: i64::MIN, step: -1 }
    }
}

/// A Slice as it is from version 10 on.
fn slice(patch: &mut Patch, graph: &Graph, x: ValueId, cuts: &[Cut], output: Output) -> Option<ValueId> {
    let of = |field: fn(&Cut) -> i64| cuts.iter().map(field).collect::<Vec<_>>();
    let starts = integers(patch, graph, of(|cut| cut.start));
    let ends = integers(patch, graph, of(|cut| cut.end));
    let axes = integers(patch, graph, of(|cut| cut.axis));
    let steps = integers(patch, graph, of(|cut| cut.step));
    let inputs = [x, starts, ends, axes, steps].map(Some);
    let (_, outputs) = patch.op(graph, Op::new("", "Slice", vec![]), &inputs, &[output]);
    outputs[0]
}
