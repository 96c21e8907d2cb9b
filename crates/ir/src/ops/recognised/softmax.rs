//! Softmax over one axis, as ONNX has it from opset 13 on.
//!
//! Expands to Softmax; below 13, where that flattens the input, only the last axis can be written.

use crate::graph::Graph;
use crate::op::{Attribute, Op, OpId, RECOGNISED};
use crate::ops::attributes::{int_or, is_last_axis};
use crate::ops::softmax::SoftmaxNode;
use crate::value::ValueId;

use super::{is_stand_in, node_of, recognised, stand_in};
use crate::ops::expansion::Expansion;

/// A recognised Softmax.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Softmax {
    /// The operator.
    pub op: OpId,
    /// The input.
    pub x: ValueId,
    /// The output.
    pub output: ValueId,
    /// The axis whose elements sum to 1.
    pub axis: i64,
}

impl Softmax {
    /// The view; `None` where this is no Softmax.
    pub fn at(graph: &Graph, id: OpId) -> Option<Self> {
        let op = recognised(graph, id, "Softmax")?;
        Some(Self { op: id, x: graph.input(id, 0)?, output: graph.output(id, 0)?, axis: int_or(op, "axis", -1)? })
    }

    /// A Softmax over this axis; reads x.
    pub fn op(axis: i64) -> Op {
        Op::new(RECOGNISED, "Softmax", vec![Attribute::int("axis", axis)])
    }

    /// What stands for a Softmax of ONNX over one axis, with the same input.
    ///
    /// Below 13 an absent `axis` means 1, which is then the last one: the view's -1.
    pub fn of_node(graph: &Graph, id: OpId) -> Option<Op> {
        SoftmaxNode::at(graph, id)?.axis(graph)?;
        Some(stand_in(graph.op(id), "Softmax"))
    }
}

pub(super) fn expand(expansion: &mut Expansion<'_>, id: OpId) -> Option<()> {
    let softmax = Softmax::at(expansion.graph, id)?;
    let steps = expansion.of(id)?;
    let (op, opset) = (steps.op(), steps.graph().opset());
    let node = if opset >= 13 || is_stand_in(op) {
        node_of(op, "Softmax", &[])
    } else {
        let rank = steps.graph().rank(softmax.x);
        if !is_last_axis(softmax.axis, rank) {
            return None;
        }
        let axis = match rank {
            Some(rank) if opset < 11 => rank as i64 - 1,
            _ => -1,
        };
        let mut node = node_of(op, "Softmax", &["axis"]);
        node.attributes.push(Attribute::int("axis", axis));
        node
    };
    steps.finish_with(node, &[Some(softmax.x)]);
    Some(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ops::expand;
    use crate::ops::testing::Scene;

    fn axis(opset: i64, wanted: i64) -> Option<i64> {
        let mut scene = Scene::new(opset);
        let x = scene.input_of("x", &[2, 3, 4]);
        scene.op(Softmax::op(wanted), &[x], "y");
        let graph = expand(&scene.finish(), opset).ok()?;
        let op = graph.op_ids().next().expect("an operator");
        assert!(graph.op(op).is("Softmax"));
        graph.op(op).int("axis")
    }

    #[test]
    fn old_versions_have_the_last_axis_only() {
        assert_eq!(axis(13, 1), Some(1));
        assert_eq!(axis(11, -1), Some(-1));
        assert_eq!(axis(10, -1), Some(2));
        assert_eq!(axis(10, 1), None);
    }
}
