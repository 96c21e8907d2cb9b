//! Conv: 1, 11 (default strides and dilations are stated), 22 (bfloat16).

use crate::graph::Graph;
use crate::op::OpId;
use crate::value::ValueId;

use super::attributes::{int_or, optional_input, standard};
use super::window::Window;

/// A convolution.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Conv {
    /// The operator.
    pub op: OpId,
    /// Input `[N, C, ...]`.
    pub x: ValueId,
    /// Weight `[M, C / group, ...]`.
    pub weight: ValueId,
    /// Bias `[M]`.
    pub bias: Option<ValueId>,
    /// Strides, dilations, padding.
    pub window: Window,
    /// Into how many independent parts the channels fall.
    pub group: i64,
}

impl Conv {
    /// The slot of the weight.
    pub const WEIGHT: usize = 1;
    /// The slot of the bias.
    pub const BIAS: usize = 2;

    /// The view; `None` where this is no well-formed Conv.
    pub fn at(graph: &Graph, id: OpId) -> Option<Self> {
        let op = standard(graph, id, "Conv")?;
        let weight = graph.input(id, Self::WEIGHT)?;
        Some(Self {
            op: id,
            x: graph.input(id, 0)?,
            weight,
            bias: optional_input(graph, id, Self::BIAS),
            window: Window::at(graph, id, weight)?,
            group: int_or(op, "group", 1).filter(|&group| group > 0)?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::op::{Attribute, Op};
    use crate::ops::testing::Scene;
    use crate::ops::window::Padding;
    use crate::tensor::Tensor;

    #[test]
    fn defaults_come_from_the_weights_rank() {
        let mut scene = Scene::new(17);
        let x = scene.input("x");
        let w = scene.constant("w", Tensor::new(vec![4, 3, 2, 2], vec![0f32; 48]));
        let (op, _) = scene.op(Op::new("", "Conv", vec![]), &[x, w], "y");
        let conv = Conv::at(&scene.finish(), op).expect("a Conv");
        assert_eq!(conv.window.strides, [1, 1]);
        assert!(conv.window.padding.is_none());
        assert_eq!((conv.group, conv.bias), (1, None));
    }

    #[test]
    fn automatic_padding_is_told_from_explicit() {
        let mut scene = Scene::new(17);
        let x = scene.input("x");
        let w = scene.constant("w", Tensor::new(vec![4, 3, 2], vec![0f32; 24]));
        let same = vec![Attribute::string("auto_pad", "SAME_LOWER"), Attribute::int("group", 1)];
        let (same, _) = scene.op(Op::new("", "Conv", same), &[x, w], "a");
        let wrong = vec![Attribute::ints("pads", [1, 1, 1])];
        let (wrong, _) = scene.op(Op::new("", "Conv", wrong), &[x, w], "b");
        let graph = scene.finish();
        assert_eq!(Conv::at(&graph, same).expect("a Conv").window.padding, Padding::SameLower);
        assert_eq!(Conv::at(&graph, wrong), None);
    }
}
