//! Raises the version of ONNX's own operators where a form of storage needs a newer one.
//!
//! The table knows, per operator, at which versions meaning or signature changed so that an old node is no longer the
//! same; versions that only add types, attributes or inputs with the old meaning as default are none of these. Simple
//! changes are made, others refuse, and so does every operator that the table does not know. Other domains and
//! recognised operators do not depend on this version. Versions are crossed one by one, since a node may change at several
//! of them (Upsample became Resize, which became another). Local functions are raised along.

mod rules;
mod table;

use crate::graph::Graph;
use crate::model::Model;
use crate::op::{Attribute, AttributeValue, Op, OpId, RECOGNISED};
use crate::patch::{Output, Patch, PatchError};
use crate::tensor::Tensor;
use crate::value::ValueId;

/// The oldest version that can be raised, and the newest that one can raise to.
pub const RANGE: std::ops::RangeInclusive<i64> = 7..=28;

/// A node that can't be moved to a newer version.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("operator `{op_type}` at node `{name}` can't be moved from opset {from} to {to}: {reason}")]
pub struct Unsupported {
    /// The operator's type.
    pub op_type: String,
    /// The node's name.
    pub name: String,
    /// The version that the model has.
    pub from: i64,
    /// The version asked for.
    pub to: i64,
    /// Why not.
    pub reason: &'static str,
}

/// Why a model stays at its version.
#[derive(Debug, thiserror::Error)]
pub enum ConvertError {
    /// Nodes can't be moved; all of them.
    #[error("{}", .0.iter().map(ToString::to_string).collect::<Vec<_>>().join("; "))]
    Unsupported(Vec<Unsupported>),
    /// The versions are not in [`RANGE`], or the new one is the older.
    #[error("can't move a model from opset {from} to {to}")]
    Range {
        /// The version that the model has.
        from: i64,
        /// The version asked for.
        to: i64,
    },
    /// The patch was refused.
    #[error(transparent)]
    Patch(#[from] PatchError),
}

/// The IR version that a model with this version of ONNX's own operators needs at least.
pub fn ir_version(opset: i64) -> i64 {
    match opset {
        ..=8 => 3,
        9 => 4,
        10 => 5,
        11 => 6,
        12..=14 => 7,
        15..=18 => 8,
        19..=20 => 9,
        21..=22 => 10,
        23 => 11,
        24 => 12,
        25..=27 => 13,
        _ => 14,
    }
}

/// Moves a model to a newer version of ONNX's own operators, and its IR version along where that is too old.
///
/// On an error the model is as it was.
pub fn convert(model: &mut Model, to: i64) -> Result<(), ConvertError> {
    let from = model.graph.opset();
    if from == to {
        return Ok(());
    }
    if from > to || !RANGE.contains(&from) || !RANGE.contains(&to) {
        return Err(ConvertError::Range { from, to });
    }
    let graph = raised(&model.graph, to)?;
    let bodies = model.functions.iter().map(|function| raised(&function.body, to));
    let bodies: Vec<Graph> = bodies.collect::<Result<_, _>>()?;
    model.graph = graph;
    for (function, body) in model.functions.iter_mut().zip(bodies) {
        function.body = body;
    }
    model.set_opset(to);
    model.ir_version = model.ir_version.max(ir_version(to));
    Ok(())
}

/// The graph in a newer version; as it is where it has that or a newer one.
pub(crate) fn raised(graph: &Graph, to: i64) -> Result<Graph, ConvertError> {
    let from = graph.opset();
    let mut raised = graph.clone();
    for version in from + 1..=to {
        let refused = refusals(&raised, version);
        if !refused.is_empty() {
            return Err(ConvertError::Unsupported(
                refused.into_iter().map(|it| Unsupported { from, to, ..it }).collect(),
            ));
        }
        step(&mut raised, version)?;
        raised.set_opset(version);
    }
    Ok(raised)
}

/// Every node of the graph and its bodies that can't be moved to the next version.
fn refusals(graph: &Graph, to: i64) -> Vec<Unsupported> {
    let mut refused = Vec::new();
    for id in graph.topological() {
        let op = graph.op(id);
        if let Err(reason) = changes(graph, id, to) {
            let (op_type, name) = (op.op_type().to_owned(), op.name().to_owned());
            refused.push(Unsupported { op_type, name, from: graph.opset(), to, reason });
        }
        refused.extend(op.bodies().flat_map(|body| refusals(body, to)));
    }
    refused
}

/// One change to a node.
enum Change {
    /// Takes the attribute away.
    Drop(&'static str),
    /// Sets the attribute.
    Set(Attribute),
    /// Gives the slot a constant.
    Input(usize, Tensor),
    /// Moves what a slot reads to another one, and leaves the first empty.
    Move { from: usize, to: usize },
    /// Makes it an operator of this type.
    Rename(&'static str),
    /// Lets it see its input as a matrix, flattened in front of this axis, and gives its output the input's shape.
    Flatten { axis: i64 },
    /// Lets a slot read what this makes of the node.
    Compute(usize, fn(&Graph, OpId, &mut Patch) -> Option<ValueId>),
}

/// What must change at a node where `to` is the version behind its own; nothing for most.
fn changes(graph: &Graph, id: OpId, to: i64) -> Result<Vec<Change>, &'static str> {
    let op = graph.op(id);
    if op.domain() == RECOGNISED || !op.is(op.op_type()) {
        return Ok(Vec::new());
    }
    if table::UNCHANGED.binary_search(&op.op_type()).is_ok() {
        return Ok(Vec::new());
    }
    let mut known = false;
    let mut changes = Vec::new();
    for (op_type, since, rule) in table::BREAKS {
        if *op_type == op.op_type() {
            known = true;
            if *since == to {
                changes.extend(rule(graph, id)?);
            }
        }
    }
    if known { Ok(changes) } else { Err("it is not known whether newer versions mean the same") }
}

/// Converts a graph and its bodies to the next version.
fn step(graph: &mut Graph, to: i64) -> Result<(), PatchError> {
    graph.change_bodies(|_| true, |body| step(body, to))?;
    let Some(first) = graph.op_ids().next() else { return Ok(()) };
    let mut patch = Patch::new(graph, "opset", first);
    for id in graph.topological() {
        apply(graph, id, changes(graph, id, to).unwrap_or_default(), &mut patch);
    }
    if !patch.is_empty() {
        patch.apply(graph)?;
    }
    Ok(())
}

fn apply(graph: &Graph, id: OpId, changes: Vec<Change>, patch: &mut Patch) {
    if changes.is_empty() {
        return;
    }
    let op = graph.op(id);
    let mut attributes = op.attributes().to_vec();
    let mut op_type = op.op_type();
    patch.stand_at(graph, id);
    for change in changes {
        match change {
            Change::Drop(name) => attributes.retain(|attribute| attribute.name != name),
            Change::Set(attribute) => {
                attributes.retain(|known| known.name != attribute.name);
                attributes.push(attribute);
            }
            Change::Input(slot, tensor) => {
                let output = graph.output(id, 0).map_or("", |value| graph.value(value).name());
                let constant = patch.constant(graph, &format!("{output}_input{slot}"), tensor);
                patch.set_input(id, slot, Some(constant));
            }
            Change::Move { from, to } => {
                patch.set_input(id, to, graph.input(id, from));
                patch.set_input(id, from, None);
            }
            Change::Rename(new) => op_type = new,
            Change::Flatten { axis } => flatten(graph, id, axis, patch),
            Change::Compute(slot, make) => {
                let made = make(graph, id, patch);
                patch.set_input(id, slot, made);
            }
        }
    }
    if op_type == op.op_type() {
        patch.set_attributes(id, attributes);
    } else {
        let renamed = Op::new(op.domain(), op_type, attributes).named(op.name()).with_carried(op.carried().clone());
        let outputs: Vec<Output> =
            graph.outputs_of(id).into_iter().map(|output| output.map_or(Output::Omitted, Output::Take)).collect();
        patch.op(graph, renamed, &graph.inputs_of(id), &outputs);
        patch.remove(id);
    }
}

/// Puts a Flatten in front of a node of one input, and a Reshape to that input's shape behind it.
fn flatten(graph: &Graph, id: OpId, axis: i64, patch: &mut Patch) {
    let (Some(x), Some(y)) = (graph.input(id, 0), graph.output(id, 0)) else { return };
    let name = |end: &str| format!("{}_{end}", graph.value(y).name());
    let matrix = patch.value(graph, Op::new("", "Flatten", vec![Attribute::int("axis", axis)]), &[x], &name("matrix"));
    let shape = patch.value(graph, Op::new("", "Shape", vec![]), &[x], &name("shape"));
    let flat = patch.produced(graph, &name("flat"));
    patch.set_input(id, 0, Some(matrix));
    patch.produce(id, 0, flat);
    patch.op(graph, Op::new("", "Reshape", vec![]), &[Some(flat), Some(shape)], &[Output::Take(y)]);
}

/// Whether the node has this attribute.
fn has(op: &Op, name: &str) -> bool {
    op.attribute(name).is_some()
}

/// The value of an INTS attribute as a constant.
fn ints_tensor(op: &Op, name: &str) -> Result<Option<Tensor>, &'static str> {
    match op.attribute(name) {
        None => Ok(None),
        Some(AttributeValue::Ints(ints)) => Ok(Some(Tensor::new(vec![ints.len()], ints.clone()))),
        Some(_) => Err("an attribute is no list of integers"),
    }
}

#[cfg(test)]
mod tests;
