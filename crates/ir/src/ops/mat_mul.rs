//! MatMul: 1, 9 (integers), 13 (bfloat16). No attributes; the meaning is NumPy's `matmul`.

use crate::graph::Graph;
use crate::op::OpId;
use crate::value::ValueId;

use super::attributes::standard;

/// A matrix product, broadcast over leading axes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MatMul {
    /// The operator.
    pub op: OpId,
    /// `[..., M, K]`
    pub a: ValueId,
    /// `[..., K, N]`
    pub b: ValueId,
}

impl MatMul {
    /// The slot of `b`.
    pub const B: usize = 1;

    /// The view; `None` where this is no well-formed MatMul.
    pub fn at(graph: &Graph, id: OpId) -> Option<Self> {
        standard(graph, id, "MatMul")?;
        Some(Self { op: id, a: graph.input(id, 0)?, b: graph.input(id, Self::B)? })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::op::Op;
    use crate::ops::testing::Scene;

    #[test]
    fn other_domains_are_not_onnx() {
        let mut scene = Scene::new(13);
        let (a, b) = (scene.input("a"), scene.input("b"));
        let (own, _) = scene.op(Op::new("ai.onnx", "MatMul", vec![]), &[a, b], "y");
        let (foreign, _) = scene.op(Op::new("com.example", "MatMul", vec![]), &[a, b], "z");
        let graph = scene.finish();
        assert_eq!(MatMul::at(&graph, own).map(|view| view.b), Some(b));
        assert_eq!(MatMul::at(&graph, foreign), None);
    }
}
