//! Unsqueeze: 1, 11 (negative axes), 13 (axes as input), 21 and later (more types).

use crate::graph::Graph;
use crate::op::OpId;
use crate::value::ValueId;

use super::attributes::{ints_by_version, standard};

/// Inserts axes of size 1.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unsqueeze {
    /// The operator.
    pub op: OpId,
    /// The input.
    pub x: ValueId,
    /// Where they stand in the output.
    pub axes: Vec<i64>,
}

impl Unsqueeze {
    /// The view; `None` where this is no well-formed Unsqueeze, or its axes are no constants.
    pub fn at(graph: &Graph, id: OpId) -> Option<Self> {
        standard(graph, id, "Unsqueeze")?;
        Some(Self { op: id, x: graph.input(id, 0)?, axes: ints_by_version(graph, id, "axes", 1, 13)?? })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::op::{Attribute, Op};
    use crate::ops::testing::Scene;

    #[test]
    fn axes_as_attribute_and_as_input() {
        let mut old = Scene::new(11);
        let x = old.input("x");
        let (op, _) = old.op(Op::new("", "Unsqueeze", vec![Attribute::ints("axes", [-1])]), &[x], "y");
        assert_eq!(Unsqueeze::at(&old.finish(), op).map(|view| view.axes), Some(vec![-1]));

        let mut new = Scene::new(13);
        let x = new.input("x");
        let value = Attribute::new("value_ints", crate::op::AttributeValue::Ints(vec![-1]));
        let (_, axes) = new.op(Op::new("", "Constant", vec![value]), &[], "axes");
        let (op, _) = new.op(Op::new("", "Unsqueeze", vec![]), &[x, axes], "y");
        let (wrong, _) = new.op(Op::new("", "Unsqueeze", vec![]), &[x], "z");
        let graph = new.finish();
        assert_eq!(Unsqueeze::at(&graph, op).map(|view| view.axes), Some(vec![-1]));
        assert_eq!(Unsqueeze::at(&graph, wrong), None);
    }
}
