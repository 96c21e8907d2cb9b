//! BatchNormalization: 7 (is_test gone), 9 (spatial gone), 14 (training_mode), 15 (own types for scale and statistics).

use crate::graph::Graph;
use crate::op::OpId;
use crate::value::ValueId;

use super::attributes::{flag_or, float_or, int_or, standard};

/// A normalisation of channels (axis 1) by statistics that are inputs: inference only.
#[derive(Clone, Debug, PartialEq)]
pub struct BatchNormalization {
    /// The operator.
    pub op: OpId,
    /// Input `[N, C, ...]`.
    pub x: ValueId,
    /// What is multiplied, `[C]`.
    pub scale: ValueId,
    /// What is added, `[C]`.
    pub bias: ValueId,
    /// The mean, `[C]`.
    pub mean: ValueId,
    /// The variance, `[C]`.
    pub variance: ValueId,
    /// Added to the variance.
    pub epsilon: f32,
}

impl BatchNormalization {
    /// The view; `None` where this is no well-formed BatchNormalization, or one that trains.
    pub fn at(graph: &Graph, id: OpId) -> Option<Self> {
        let op = standard(graph, id, "BatchNormalization")?;
        let trains = flag_or(op, "training_mode", 0)? || graph.outputs_of(id).iter().skip(1).any(Option::is_some);
        let spatial = int_or(op, "spatial", 1)? == 1;
        if trains || !spatial {
            return None;
        }
        let input = |slot| graph.input(id, slot);
        Some(Self {
            op: id,
            x: input(0)?,
            scale: input(1)?,
            bias: input(2)?,
            mean: input(3)?,
            variance: input(4)?,
            epsilon: float_or(op, "epsilon", 1e-5)?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::op::{Attribute, Op};
    use crate::ops::testing::Scene;

    #[test]
    fn one_that_trains_is_no_view() {
        let mut scene = Scene::new(15);
        let inputs = ["x", "s", "b", "m", "v"].map(|name| scene.input(name));
        let (op, _) = scene.op(Op::new("", "BatchNormalization", vec![]), &inputs, "y");
        let training = vec![Attribute::int("training_mode", 1)];
        let (trains, _) = scene.op(Op::new("", "BatchNormalization", training), &inputs, "z");
        let graph = scene.finish();
        assert_eq!(BatchNormalization::at(&graph, op).map(|view| view.epsilon), Some(1e-5));
        assert_eq!(BatchNormalization::at(&graph, trains), None);
    }
}
