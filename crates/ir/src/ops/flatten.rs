//! Flatten: 1, 9 (all types), 11 (negative axis), 13 and later (more types).

use crate::graph::Graph;
use crate::op::OpId;
use crate::value::ValueId;

use super::attributes::{int_or, standard};

/// Makes a matrix: the axes before `axis` become rows, the others columns.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Flatten {
    /// The operator.
    pub op: OpId,
    /// The input.
    pub x: ValueId,
    /// The first axis of the columns; from 0 to the rank, negative ones count from the end.
    pub axis: i64,
}

impl Flatten {
    /// The view; `None` where this is no well-formed Flatten.
    pub fn at(graph: &Graph, id: OpId) -> Option<Self> {
        let op = standard(graph, id, "Flatten")?;
        Some(Self { op: id, x: graph.input(id, 0)?, axis: int_or(op, "axis", 1)? })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::op::Op;
    use crate::ops::testing::Scene;

    #[test]
    fn axis_defaults_to_one() {
        let mut scene = Scene::new(13);
        let x = scene.input("x");
        let (op, _) = scene.op(Op::new("", "Flatten", vec![]), &[x], "y");
        assert_eq!(Flatten::at(&scene.finish(), op), Some(Flatten { op, x, axis: 1 }));
    }
}
