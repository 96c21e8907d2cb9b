//! Dropout: 7 and 10 (inference only), 12 (ratio and training_mode as inputs), 13, 22 (more types).

use crate::graph::Graph;
use crate::op::OpId;
use crate::value::ValueId;

use super::attributes::{constant_tensor, optional_input, standard};

/// A Dropout that lets its input pass.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Dropout {
    /// The operator.
    pub op: OpId,
    /// The input.
    pub x: ValueId,
    /// Whether the mask is an output too.
    pub has_mask: bool,
}

impl Dropout {
    /// The view; `None` where this is no well-formed Dropout, or one that may drop something.
    pub fn at(graph: &Graph, id: OpId) -> Option<Self> {
        standard(graph, id, "Dropout")?;
        if let Some(training) = optional_input(graph, id, 2)
            && constant_tensor(graph, training)?.to_i64()?.first() != Some(&0)
        {
            return None;
        }
        Some(Self { op: id, x: graph.input(id, 0)?, has_mask: graph.output(id, 1).is_some() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::op::Op;
    use crate::ops::testing::Scene;
    use crate::tensor::Tensor;
    use crate::types::ElementType;

    #[test]
    fn one_that_may_drop_is_no_view() {
        let mut scene = Scene::new(13);
        let x = scene.input("x");
        let ratio = scene.constant("ratio", Tensor::scalar(0.5f32));
        let flag = |bit| Tensor::from_bytes(ElementType::Bool, vec![], vec![bit].into()).expect("one byte");
        let (off, on) = (scene.constant("off", flag(0)), scene.constant("on", flag(1)));
        let (plain, _) = scene.op(Op::new("", "Dropout", vec![]), &[x, ratio], "a");
        let (passes, _) = scene.op(Op::new("", "Dropout", vec![]), &[x, ratio, off], "b");
        let (drops, _) = scene.op(Op::new("", "Dropout", vec![]), &[x, ratio, on], "c");
        let (may, _) = scene.op(Op::new("", "Dropout", vec![]), &[x, ratio, x], "d");
        let graph = scene.finish();
        assert!(Dropout::at(&graph, plain).is_some() && Dropout::at(&graph, passes).is_some());
        assert!(Dropout::at(&graph, drops).is_none() && Dropout::at(&graph, may).is_none());
    }
}
