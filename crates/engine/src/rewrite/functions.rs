//! Calls of local functions become the functions' operators.

use onnxq_ir::{Function, Graph, Model, Op, OpId, Patch, ops};

use rustc_hash::FxHashMap;

use super::{applied, take_over, with_bodies};
use crate::guard::Failure;
use crate::support::node_name;

/// Functions may call functions, so deep; a function that calls itself has no end.
const DEEPEST: usize = 64;

/// More operators and values than this come of no function that somebody wrote.
const LARGEST: usize = 10_000_000;

/// The graph with every call inlined, in bodies too; `None` where there is none. A call whose function is written for a
/// version that can't be converted stays.
pub(super) fn inline(graph: &Graph, functions: &[Function]) -> Result<Option<Graph>, Failure> {
    if functions.is_empty() {
        return Ok(None);
    }
    let mut inlined = None;
    for _ in 0..DEEPEST {
        let graph = inlined.as_ref().unwrap_or(graph);
        match inline_once(graph, functions)? {
            None => return Ok(inlined),
            Some(next) if next.id_bound() > LARGEST => {
                return Err(Failure::of("the local functions, inlined, are too large"));
            }
            next => inlined = next,
        }
    }
    Err(Failure::of(format!("local functions call each other more than {DEEPEST} deep")))
}

fn inline_once(graph: &Graph, functions: &[Function]) -> Result<Option<Graph>, Failure> {
    let Some(first) = graph.op_ids().next() else { return Ok(None) };
    let mut patch = Patch::new(graph, "inline", first);
    for id in graph.op_ids() {
        patch.stand_at(graph, id);
        if let Some(function) = called(functions, graph.op(id)) {
            // What can't be copied stays a call, which is refused by its name; copies that nothing reads do no harm.
            let _ = inline_call(&mut patch, graph, id, function);
        } else if let Some(attributes) = with_bodies(graph.op(id), |body| inline_once(body, functions))? {
            patch.set_attributes(id, attributes);
        }
    }
    applied(graph, patch)
}

fn called<'f>(functions: &'f [Function], op: &Op) -> Option<&'f Function> {
    functions.iter().find(|it| it.domain == op.domain() && it.name == op.op_type() && it.overload == op.overload())
}

fn inline_call(patch: &mut Patch, graph: &Graph, id: OpId, function: &Function) -> Option<()> {
    let body = at_version(function.body_for(graph.op(id)), graph.opset())?;
    let mut arguments = graph.inputs_of(id);
    arguments.resize(body.inputs().len(), None);
    let results = patch.splice(graph, &body, &arguments, &FxHashMap::default(), node_name(graph, id))?;
    take_over(patch, graph, id, &results)
}

/// A function's body in the version of the graph that calls it.
fn at_version(body: Graph, version: i64) -> Option<Graph> {
    if body.opset() == version {
        return Some(body);
    }
    let mut model = Model { graph: body, ..Model::default() };
    ops::opset::convert(&mut model, version).ok()?;
    Some(model.graph)
}
