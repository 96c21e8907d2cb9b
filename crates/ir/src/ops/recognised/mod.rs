//! Recognised operators: what passes see instead of the many forms that exporters write.
//!
//! They are ordinary operators in the domain [`RECOGNISED`]. Each file here has the typed view, the constructor, and
//! the one expansion into ONNX's own operators, which the writer and the engine both use. An operator that was made
//! from a single node of ONNX keeps that node's attributes and expands to an equal node.

mod gelu;
mod layer_norm;
mod linear;
mod rms_norm;
mod silu;
mod softmax;

pub use gelu::{Approximation, Gelu};
pub use layer_norm::LayerNorm;
pub use linear::{AddedBias, BiasOrder, Form, Linear};
pub use rms_norm::RmsNorm;
pub use silu::Silu;
pub use softmax::Softmax;

use crate::graph::Graph;
use crate::op::{Attribute, Op, OpId, RECOGNISED};
use crate::ops::expansion::{Expansion, Malformed};

/// Marks that the operator stands for one node of ONNX; the value is the node's domain as written.
const STANDARD: &str = "standard";

/// The recognised operator of this type.
fn recognised<'g>(graph: &'g Graph, id: OpId, op_type: &str) -> Option<&'g Op> {
    graph.try_op(id).filter(|op| op.is_recognised(op_type))
}

/// A recognised operator that stands for one node of ONNX: name, attributes and what rides along are kept.
fn stand_in(node: &Op, op_type: &str) -> Op {
    let mut attributes = vec![Attribute::string(STANDARD, node.domain())];
    attributes.extend(node.attributes().iter().cloned());
    Op::new(RECOGNISED, op_type, attributes).named(node.name()).with_carried(node.carried().clone())
}

/// Whether the operator stands for one node of ONNX.
fn is_stand_in(op: &Op) -> bool {
    op.attribute(STANDARD).is_some()
}

/// ONNX's node of this type with the recognised operator's attributes, but those named in `own`.
fn node_of(op: &Op, op_type: &str, own: &[&str]) -> Op {
    let attributes = op
        .attributes()
        .iter()
        .filter(|attribute| attribute.name != STANDARD && !own.contains(&attribute.name.as_str()))
        .cloned()
        .collect();
    Op::new(op.text(STANDARD).unwrap_or(""), op_type, attributes).named(op.name()).with_carried(op.carried().clone())
}

/// Adds what the operator stands for to the patch of `expansion`, and removes it.
pub(super) fn expand(expansion: &mut Expansion<'_>, id: OpId) -> Result<(), Malformed> {
    match expansion.graph.op(id).op_type() {
        "LayerNorm" => layer_norm::expand(expansion, id),
        "RmsNorm" => rms_norm::expand(expansion, id),
        "Gelu" => gelu::expand(expansion, id),
        "Silu" => silu::expand(expansion, id),
        "Softmax" => softmax::expand(expansion, id),
        "Linear" => linear::expand(expansion, id),
        _ => None,
    }
    .ok_or_else(|| Malformed::new(expansion.graph, id))
}
