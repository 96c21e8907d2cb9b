//! Softmax as the file has it: 1, 11 (negative axes), 13 (one axis instead of a flattened matrix; default -1 instead of 1).
//!
//! Below 13 the input is seen as a matrix: all axes from `axis` on are normalised together.

use crate::graph::Graph;
use crate::op::OpId;
use crate::value::ValueId;

use super::attributes::{int_or, is_last_axis, standard};

/// What is normalised together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Normalised {
    /// This axis.
    Axis(i64),
    /// This axis and all behind it.
    From(i64),
}

/// A Softmax node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SoftmaxNode {
    /// The operator.
    pub op: OpId,
    /// The input.
    pub x: ValueId,
    /// What is normalised together.
    pub normalised: Normalised,
}

impl SoftmaxNode {
    /// The view; `None` where this is no well-formed Softmax.
    pub fn at(graph: &Graph, id: OpId) -> Option<Self> {
        let op = standard(graph, id, "Softmax")?;
        let normalised = if graph.opset() < 13 {
            Normalised::From(int_or(op, "axis", 1)?)
        } else {
            Normalised::Axis(int_or(op, "axis", -1)?)
        };
        Some(Self { op: id, x: graph.input(id, 0)?, normalised })
    }

    /// The one axis that is normalised, if that is provable.
    pub fn axis(&self, graph: &Graph) -> Option<i64> {
        match self.normalised {
            Normalised::Axis(axis) => Some(axis),
            Normalised::From(axis) => is_last_axis(axis, graph.rank(self.x)).then_some(axis),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::op::{Attribute, Op};
    use crate::ops::testing::Scene;

    fn axis(opset: i64, shape: Option<&[usize]>, attributes: Vec<Attribute>) -> Option<i64> {
        let mut scene = Scene::new(opset);
        let x = match shape {
            Some(shape) => scene.input_of("x", shape),
            None => scene.input("x"),
        };
        let (op, _) = scene.op(Op::new("", "Softmax", attributes), &[x], "y");
        let graph = scene.finish();
        SoftmaxNode::at(&graph, op).expect("a Softmax").axis(&graph)
    }

    #[test]
    fn old_softmax_is_one_axis_only_where_that_is_the_last() {
        assert_eq!(axis(12, Some(&[2, 3]), vec![]), Some(1));
        assert_eq!(axis(12, Some(&[2, 3, 4]), vec![]), None);
        assert_eq!(axis(12, None, vec![]), None);
        assert_eq!(axis(11, None, vec![Attribute::int("axis", -1)]), Some(-1));
        assert_eq!(axis(9, Some(&[2, 3, 4]), vec![Attribute::int("axis", 2)]), Some(2));
        assert_eq!(axis(13, Some(&[2, 3, 4]), vec![]), Some(-1));
        assert_eq!(axis(13, None, vec![Attribute::int("axis", 1)]), Some(1));
    }
}
