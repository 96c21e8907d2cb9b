//! Concat: 4 (axis is required), 11 (negative axes), 13 (bfloat16).

use crate::graph::Graph;
use crate::op::OpId;
use crate::value::ValueId;

use super::attributes::standard;

/// Puts tensors behind one another.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Concat {
    /// The operator.
    pub op: OpId,
    /// The parts; at least one.
    pub parts: Vec<ValueId>,
    /// Along which axis.
    pub axis: i64,
}

impl Concat {
    /// The view; `None` where this is no well-formed Concat.
    pub fn at(graph: &Graph, id: OpId) -> Option<Self> {
        let op = standard(graph, id, "Concat")?;
        let parts = graph.inputs_of(id).into_iter().collect::<Option<Vec<_>>>()?;
        (!parts.is_empty()).then_some(Self { op: id, parts, axis: op.int("axis")? })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::op::{Attribute, Op};
    use crate::ops::testing::Scene;

    #[test]
    fn needs_an_axis() {
        let mut scene = Scene::new(13);
        let x = scene.input("x");
        let (op, _) = scene.op(Op::new("", "Concat", vec![Attribute::int("axis", -1)]), &[x, x], "a");
        let (wrong, _) = scene.op(Op::new("", "Concat", vec![]), &[x], "b");
        let graph = scene.finish();
        assert_eq!(Concat::at(&graph, op), Some(Concat { op, parts: vec![x, x], axis: -1 }));
        assert_eq!(Concat::at(&graph, wrong), None);
    }
}
