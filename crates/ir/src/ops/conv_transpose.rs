//! ConvTranspose: 1, 11 (default strides and dilations are stated), 22 (bfloat16).

use crate::graph::Graph;
use crate::op::OpId;
use crate::value::ValueId;

use super::attributes::{int_or, ints_opt, optional_input, standard};
use super::window::Window;

/// A transposed convolution.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConvTranspose {
    /// The operator.
    pub op: OpId,
    /// Input `[N, C, ...]`.
    pub x: ValueId,
    /// Weight `[C, M / group, ...]`.
    pub weight: ValueId,
    /// Bias `[M]`.
    pub bias: Option<ValueId>,
    /// Strides, dilations, padding.
    pub window: Window,
    /// Into how many independent parts the channels fall.
    pub group: i64,
    /// Rows added at the end of each spatial axis.
    pub output_padding: Option<Vec<i64>>,
    /// The output's spatial shape, where it decides the padding.
    pub output_shape: Option<Vec<i64>>,
}

impl ConvTranspose {
    /// The slot of the weight.
    pub const WEIGHT: usize = 1;
    /// The slot of the bias.
    pub const BIAS: usize = 2;

    /// The view; `None` where this is no well-formed ConvTranspose.
    pub fn at(graph: &Graph, id: OpId) -> Option<Self> {
        let op = standard(graph, id, "ConvTranspose")?;
        let weight = graph.input(id, Self::WEIGHT)?;
        Some(Self {
            op: id,
            x: graph.input(id, 0)?,
            weight,
            bias: optional_input(graph, id, Self::BIAS),
            window: Window::at(graph, id, weight)?,
            group: int_or(op, "group", 1).filter(|&group| group > 0)?,
            output_padding: ints_opt(op, "output_padding")?,
            output_shape: ints_opt(op, "output_shape")?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::op::{Attribute, Op};
    use crate::ops::testing::Scene;
    use crate::tensor::Tensor;

    #[test]
    fn reads_group_and_output_padding() {
        let mut scene = Scene::new(17);
        let x = scene.input("x");
        let w = scene.constant("w", Tensor::new(vec![4, 1, 2], vec![0f32; 8]));
        let attributes = vec![Attribute::int("group", 2), Attribute::ints("output_padding", [1])];
        let (op, _) = scene.op(Op::new("", "ConvTranspose", attributes), &[x, w], "y");
        let view = ConvTranspose::at(&scene.finish(), op).expect("a ConvTranspose");
        assert_eq!((view.group, view.output_padding, view.output_shape), (2, Some(vec![1]), None));
    }
}
