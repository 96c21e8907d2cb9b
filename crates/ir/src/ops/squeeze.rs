//! Squeeze: 1, 11 (negative axes), 13 (axes as input), 21 and later (more types).

use crate::graph::Graph;
use crate::op::OpId;
use crate::value::ValueId;

use super::attributes::{ints_by_version, standard};

/// Removes axes of size 1.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Squeeze {
    /// The operator.
    pub op: OpId,
    /// The input.
    pub x: ValueId,
    /// Which axes of the input; `None` means all of size 1.
    pub axes: Option<Vec<i64>>,
}

impl Squeeze {
    /// The view; `None` where this is no well-formed Squeeze, or its axes are no constants.
    pub fn at(graph: &Graph, id: OpId) -> Option<Self> {
        standard(graph, id, "Squeeze")?;
        Some(Self { op: id, x: graph.input(id, 0)?, axes: ints_by_version(graph, id, "axes", 1, 13)? })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::op::{Attribute, Op};
    use crate::ops::testing::Scene;

    #[test]
    fn axes_that_are_computed_are_no_view() {
        let mut scene = Scene::new(13);
        let (x, axes) = (scene.input("x"), scene.input("axes"));
        let (open, _) = scene.op(Op::new("", "Squeeze", vec![]), &[x, axes], "a");
        let (all, _) = scene.op(Op::new("", "Squeeze", vec![]), &[x], "b");
        let graph = scene.finish();
        assert_eq!(Squeeze::at(&graph, open), None);
        assert_eq!(Squeeze::at(&graph, all).map(|view| view.axes), Some(None));
    }

    #[test]
    fn axes_are_an_attribute_below_13() {
        let mut scene = Scene::new(11);
        let x = scene.input("x");
        let (op, _) = scene.op(Op::new("", "Squeeze", vec![Attribute::ints("axes", [0, 2])]), &[x], "y");
        assert_eq!(Squeeze::at(&scene.finish(), op).map(|view| view.axes), Some(Some(vec![0, 2])));
    }
}
