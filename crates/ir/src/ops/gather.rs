//! Gather: 1, 11 (negative indices), 13 (bfloat16).

use crate::graph::Graph;
use crate::op::OpId;
use crate::value::ValueId;

use super::attributes::{int_or, standard};

/// Picks slices along an axis.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Gather {
    /// The operator.
    pub op: OpId,
    /// What is picked from.
    pub data: ValueId,
    /// Which slices.
    pub indices: ValueId,
    /// Along which axis.
    pub axis: i64,
}

impl Gather {
    /// The view; `None` where this is no well-formed Gather.
    pub fn at(graph: &Graph, id: OpId) -> Option<Self> {
        let op = standard(graph, id, "Gather")?;
        Some(Self { op: id, data: graph.input(id, 0)?, indices: graph.input(id, 1)?, axis: int_or(op, "axis", 0)? })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::op::{Attribute, Op};
    use crate::ops::testing::Scene;

    #[test]
    fn axis_defaults_to_the_first() {
        let mut scene = Scene::new(13);
        let (x, i) = (scene.input("x"), scene.input("i"));
        let (first, _) = scene.op(Op::new("", "Gather", vec![]), &[x, i], "a");
        let (second, _) = scene.op(Op::new("", "Gather", vec![Attribute::int("axis", 1)]), &[x, i], "b");
        let graph = scene.finish();
        assert_eq!(Gather::at(&graph, first).map(|view| view.axis), Some(0));
        assert_eq!(Gather::at(&graph, second).map(|view| (view.data, view.indices, view.axis)), Some((x, i, 1)));
    }
}
