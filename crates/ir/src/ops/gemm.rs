//! Gemm: 7 (C broadcasts), 9 (integers), 11 (C may be omitted), 13 (bfloat16). `alpha * A' B' + beta * C`.

use crate::graph::Graph;
use crate::op::{Attribute, OpId};
use crate::value::ValueId;

use super::attributes::{flag_or, float_or, optional_input, standard};

/// A general matrix product.
#[derive(Clone, Debug, PartialEq)]
pub struct Gemm {
    /// The operator.
    pub op: OpId,
    /// `[M, K]`, or `[K, M]` where `trans_a`.
    pub a: ValueId,
    /// `[K, N]`, or `[N, K]` where `trans_b`.
    pub b: ValueId,
    /// What is added: broadcasts to `[M, N]`.
    pub c: Option<ValueId>,
    /// Factor of the product.
    pub alpha: f32,
    /// Factor of `c`.
    pub beta: f32,
    /// Whether `a` is transposed first.
    pub trans_a: bool,
    /// Whether `b` is transposed first.
    pub trans_b: bool,
}

impl Gemm {
    /// The slot of `b`.
    pub const B: usize = 1;
    /// The slot of `c`.
    pub const C: usize = 2;

    /// The view; `None` where this is no well-formed Gemm.
    pub fn at(graph: &Graph, id: OpId) -> Option<Self> {
        let op = standard(graph, id, "Gemm")?;
        Some(Self {
            op: id,
            a: graph.input(id, 0)?,
            b: graph.input(id, Self::B)?,
            c: optional_input(graph, id, Self::C),
            alpha: float_or(op, "alpha", 1.0)?,
            beta: float_or(op, "beta", 1.0)?,
            trans_a: flag_or(op, "transA", 0)?,
            trans_b: flag_or(op, "transB", 0)?,
        })
    }

    /// The node's attributes, but with beta 1.
    pub fn attributes_with_beta_one(&self, graph: &Graph) -> Vec<Attribute> {
        graph.op(self.op).attributes().iter().filter(|attribute| attribute.name != "beta").cloned().collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::op::{AttributeValue, Op};
    use crate::ops::testing::Scene;
    use crate::types::Carried;

    #[test]
    fn factors_and_transposition_are_read() {
        let mut scene = Scene::new(13);
        let (a, b) = (scene.input("a"), scene.input("b"));
        let attributes = vec![Attribute::float("beta", 0.5), Attribute::int("transB", 1)];
        let (op, _) = scene.op(Op::new("", "Gemm", attributes), &[a, b], "y");
        let gemm = Gemm::at(&scene.finish(), op).expect("a Gemm");
        assert_eq!((gemm.alpha, gemm.beta, gemm.trans_a, gemm.trans_b, gemm.c), (1.0, 0.5, false, true, None));
    }

    #[test]
    fn a_reference_to_a_functions_attribute_is_not_the_default() {
        let mut scene = Scene::new(13);
        let (a, b) = (scene.input("a"), scene.input("b"));
        let attributes = vec![Attribute::new("alpha", AttributeValue::Opaque(Carried::default()))];
        let (op, _) = scene.op(Op::new("", "Gemm", attributes), &[a, b], "y");
        assert_eq!(Gemm::at(&scene.finish(), op), None);
    }
}
