//! LayerNormalization: 17.

use crate::graph::Graph;
use crate::op::OpId;
use crate::value::ValueId;

use super::attributes::{float_or, int_or, optional_input, standard};

/// A LayerNormalization node.
#[derive(Clone, Debug, PartialEq)]
pub struct LayerNormalization {
    /// The operator.
    pub op: OpId,
    /// The input.
    pub x: ValueId,
    /// What the normalised input is multiplied by; broadcasts to the normalised axes.
    pub scale: ValueId,
    /// What is added.
    pub bias: Option<ValueId>,
    /// The first normalised axis; all behind it are normalised too.
    pub axis: i64,
    /// Added to the variance.
    pub epsilon: f32,
    /// Whether mean or inverse deviation are outputs too.
    pub has_statistics: bool,
}

impl LayerNormalization {
    /// The view; `None` where this is no well-formed LayerNormalization.
    pub fn at(graph: &Graph, id: OpId) -> Option<Self> {
        let op = standard(graph, id, "LayerNormalization")?;
        Some(Self {
            op: id,
            x: graph.input(id, 0)?,
            scale: graph.input(id, 1)?,
            bias: optional_input(graph, id, 2),
            axis: int_or(op, "axis", -1)?,
            epsilon: float_or(op, "epsilon", 1e-5)?,
            has_statistics: graph.outputs_of(id).iter().skip(1).any(Option::is_some),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::op::Op;
    use crate::ops::testing::Scene;

    #[test]
    fn defaults() {
        let mut scene = Scene::new(17);
        let (x, scale) = (scene.input("x"), scene.input("scale"));
        let (op, _) = scene.op(Op::new("", "LayerNormalization", vec![]), &[x, scale], "y");
        let view = LayerNormalization::at(&scene.finish(), op).expect("a LayerNormalization");
        assert_eq!((view.axis, view.epsilon, view.bias, view.has_statistics), (-1, 1e-5, None, false));
    }
}
