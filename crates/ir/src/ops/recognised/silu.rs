//! Silu: `x * sigmoid(x)`.
//!
//! Expands to Sigmoid and Mul at every opset: onnxruntime 1.32 has Swish (24) for models of opset 24 only. What was
//! made from a Swish becomes that Swish again.

use crate::graph::Graph;
use crate::op::{Op, OpId, RECOGNISED};
use crate::ops::attributes::{float_or, standard};
use crate::value::ValueId;

use super::{is_stand_in, node_of, recognised, stand_in};
use crate::ops::expansion::Expansion;

/// A recognised Silu.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Silu {
    /// The operator.
    pub op: OpId,
    /// The input.
    pub x: ValueId,
    /// The output.
    pub output: ValueId,
}

impl Silu {
    /// The view; `None` where this is no Silu.
    pub fn at(graph: &Graph, id: OpId) -> Option<Self> {
        recognised(graph, id, "Silu")?;
        Some(Self { op: id, x: graph.input(id, 0)?, output: graph.output(id, 0)? })
    }

    /// A Silu; reads x.
    pub fn op() -> Op {
        Op::new(RECOGNISED, "Silu", vec![])
    }

    /// What stands for a Swish whose alpha is 1, with the same input.
    pub fn of_node(graph: &Graph, id: OpId) -> Option<Op> {
        let node = standard(graph, id, "Swish")?;
        graph.input(id, 0)?;
        (float_or(node, "alpha", 1.0)? == 1.0).then(|| stand_in(node, "Silu"))
    }
}

pub(super) fn expand(expansion: &mut Expansion<'_>, id: OpId) -> Option<()> {
    let silu = Silu::at(expansion.graph, id)?;
    let mut steps = expansion.of(id)?;
    if steps.newest() >= 24 && is_stand_in(steps.op()) {
        let node = node_of(steps.op(), "Swish", &[]);
        steps.finish_with(node, &[Some(silu.x)]);
        return Some(());
    }
    let gate = steps.step("Sigmoid", &[silu.x], "gate");
    steps.finish("Mul", &[silu.x, gate]);
    Some(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ops::expand;
    use crate::ops::testing::{Scene, listing};

    #[test]
    fn is_a_gate_at_every_opset() {
        let mut scene = Scene::new(24);
        let x = scene.input("x");
        scene.op(Silu::op().named("act"), &[x], "y");
        let graph = expand(&scene.finish(), 24).expect("expands");
        assert_eq!(listing(&graph), ["act_gate: y_gate = Sigmoid(x)", "act: y = Mul(x, y_gate)"]);
    }

    #[test]
    fn a_swish_with_another_slope_is_none() {
        let mut scene = Scene::new(24);
        let x = scene.input("x");
        let steep = Op::new("", "Swish", vec![crate::op::Attribute::float("alpha", 1.7)]);
        let (steep, _) = scene.op(steep, &[x], "a");
        let (plain, _) = scene.op(Op::new("", "Swish", vec![]), &[x], "b");
        let graph = scene.finish();
        assert!(Silu::of_node(&graph, steep).is_none() && Silu::of_node(&graph, plain).is_some());
    }
}
