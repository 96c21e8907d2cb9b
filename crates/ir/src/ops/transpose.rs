//! Transpose: 1, 13 (bfloat16), 21 and later (more types).

use crate::graph::Graph;
use crate::op::OpId;
use crate::value::ValueId;

use super::attributes::{ints_opt, standard};

/// A permutation of axes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Transpose {
    /// The operator.
    pub op: OpId,
    /// The input.
    pub x: ValueId,
    /// Axis i of the output is axis `perm[i]` of the input.
    pub perm: Vec<usize>,
}

impl Transpose {
    /// The view; `None` where this is no well-formed Transpose, or reverses axes whose number is unknown.
    pub fn at(graph: &Graph, id: OpId) -> Option<Self> {
        let op = standard(graph, id, "Transpose")?;
        let x = graph.input(id, 0)?;
        let perm = match ints_opt(op, "perm")? {
            Some(perm) => perm.into_iter().map(|axis| usize::try_from(axis).ok()).collect::<Option<Vec<_>>>()?,
            None => (0..graph.rank(x)?).rev().collect(),
        };
        let mut sorted = perm.clone();
        sorted.sort_unstable();
        sorted.into_iter().eq(0..perm.len()).then_some(Self { op: id, x, perm })
    }

    /// Whether every axis stays where it is.
    pub fn is_identity(&self) -> bool {
        self.perm.iter().copied().eq(0..self.perm.len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::op::{Attribute, Op};
    use crate::ops::testing::Scene;

    #[test]
    fn reverses_by_default_and_refuses_what_is_no_permutation() {
        let mut scene = Scene::new(13);
        let x = scene.input_of("x", &[2, 3, 4]);
        let (reversed, _) = scene.op(Op::new("", "Transpose", vec![]), &[x], "a");
        let (wrong, _) = scene.op(Op::new("", "Transpose", vec![Attribute::ints("perm", [0, 0, 1])]), &[x], "b");
        let (same, _) = scene.op(Op::new("", "Transpose", vec![Attribute::ints("perm", [0, 1, 2])]), &[x], "c");
        let graph = scene.finish();
        assert_eq!(Transpose::at(&graph, reversed).map(|view| view.perm), Some(vec![2, 1, 0]));
        assert_eq!(Transpose::at(&graph, wrong), None);
        assert!(Transpose::at(&graph, same).is_some_and(|view| view.is_identity()));
    }
}
