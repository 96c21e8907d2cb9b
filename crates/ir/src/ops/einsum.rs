//! Einsum: 12, and later (more types).

use crate::graph::Graph;
use crate::op::OpId;
use crate::value::ValueId;

use super::attributes::standard;

/// A sum of products over labelled axes, where every axis has a label of one letter.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Einsum {
    /// The operator.
    pub op: OpId,
    /// What is multiplied.
    pub operands: Vec<ValueId>,
    /// The labels of each operand's axes.
    pub labels: Vec<Vec<char>>,
    /// The labels of the output's axes.
    pub output: Vec<char>,
}

impl Einsum {
    /// The view; `None` where this is no well-formed Einsum, or its equation has an ellipsis.
    pub fn at(graph: &Graph, id: OpId) -> Option<Self> {
        let op = standard(graph, id, "Einsum")?;
        let equation: String = op.text("equation")?.chars().filter(|c| !c.is_whitespace()).collect();
        let (left, right) = match equation.split_once("->") {
            Some((left, right)) => (left, right.to_owned()),
            None => (equation.as_str(), implied(&equation)),
        };
        let labels: Vec<Vec<char>> = left.split(',').map(|part| part.chars().collect()).collect();
        let operands: Vec<ValueId> = graph.inputs_of(id).into_iter().collect::<Option<_>>()?;
        let are_letters = labels.iter().flatten().copied().chain(right.chars()).all(|c| c.is_ascii_alphabetic());
        (are_letters && labels.len() == operands.len()).then(|| Self {
            op: id,
            operands,
            labels,
            output: right.chars().collect(),
        })
    }
}

/// Without an output, every label that stands once is one, in the order of the alphabet.
fn implied(equation: &str) -> String {
    let mut once: Vec<char> = equation.chars().filter(|&c| c != ',' && equation.matches(c).count() == 1).collect();
    once.sort_unstable();
    once.into_iter().collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::op::{Attribute, Op};
    use crate::ops::testing::Scene;

    #[test]
    fn equations_with_and_without_an_output() {
        let mut scene = Scene::new(13);
        let (x, w) = (scene.input("x"), scene.input("w"));
        let mut einsum = |equation: &str, name: &str| {
            scene.op(Op::new("", "Einsum", vec![Attribute::string("equation", equation)]), &[x, w], name).0
        };
        let ids =
            [einsum("bij, jk -> bik", "a"), einsum("ij,jk", "b"), einsum("...j,jk->...k", "c"), einsum("ij->i", "d")];
        let graph = scene.finish();
        let views = ids.map(|id| Einsum::at(&graph, id).map(|it| (it.labels, it.output)));
        let letters = |text: &str| text.chars().collect::<Vec<_>>();
        assert_eq!(views[0], Some((vec![letters("bij"), letters("jk")], letters("bik"))));
        assert_eq!(views[1], Some((vec![letters("ij"), letters("jk")], letters("ik"))));
        assert_eq!(views[2..], [None, None]);
    }
}
