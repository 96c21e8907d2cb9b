//! LayerNorm: `(x - mean) / sqrt(variance + epsilon) * scale + bias`, statistics over `axis` and all axes behind it.
//!
//! Expands to LayerNormalization from opset 17 on, else to ReduceMean, Sub, Pow, ReduceMean, Add, Sqrt, Div, Mul, Add.

use crate::graph::Graph;
use crate::op::{Attribute, Op, OpId, RECOGNISED};
use crate::ops::attributes::{axis_from_front, float_or, int_or, optional_input};
use crate::ops::layer_normalization::LayerNormalization;
use crate::ops::reduce::Reduction;
use crate::value::ValueId;

use super::{node_of, recognised, stand_in};
use crate::ops::expansion::Expansion;

/// A recognised LayerNorm.
#[derive(Clone, Debug, PartialEq)]
pub struct LayerNorm {
    /// The operator.
    pub op: OpId,
    /// The input.
    pub x: ValueId,
    /// What the normalised input is multiplied by.
    pub scale: ValueId,
    /// What is added.
    pub bias: Option<ValueId>,
    /// The output.
    pub output: ValueId,
    /// The first normalised axis.
    pub axis: i64,
    /// Added to the variance.
    pub epsilon: f32,
}

impl LayerNorm {
    /// The slot of the scale.
    pub const SCALE: usize = 1;
    /// The slot of the bias.
    pub const BIAS: usize = 2;

    /// The view; `None` where this is no LayerNorm.
    pub fn at(graph: &Graph, id: OpId) -> Option<Self> {
        let op = recognised(graph, id, "LayerNorm")?;
        Some(Self {
            op: id,
            x: graph.input(id, 0)?,
            scale: graph.input(id, Self::SCALE)?,
            bias: optional_input(graph, id, Self::BIAS),
            output: graph.output(id, 0)?,
            axis: int_or(op, "axis", -1)?,
            epsilon: float_or(op, "epsilon", 1e-5)?,
        })
    }

    /// A LayerNorm over the axes from `axis` on; reads x, scale and, where there is one, bias.
    pub fn op(axis: i64, epsilon: f32) -> Op {
        Op::new(RECOGNISED, "LayerNorm", vec![Attribute::int("axis", axis), Attribute::float("epsilon", epsilon)])
    }

    /// What stands for a LayerNormalization whose statistics nobody reads, with the same inputs.
    pub fn of_node(graph: &Graph, id: OpId) -> Option<Op> {
        let node = LayerNormalization::at(graph, id)?;
        (!node.has_statistics).then(|| stand_in(graph.op(id), "LayerNorm"))
    }
}

pub(super) fn expand(expansion: &mut Expansion<'_>, id: OpId) -> Option<()> {
    let norm = LayerNorm::at(expansion.graph, id)?;
    let mut steps = expansion.of(id)?;
    if steps.newest() >= 17 {
        let node = node_of(steps.op(), "LayerNormalization", &[]);
        let inputs = steps.graph().inputs_of(id);
        steps.finish_with(node, &inputs);
        return Some(());
    }
    let axis = axis_from_end(norm.axis, steps.graph().rank(norm.x))?;
    let mean = steps.reduce(Reduction::Mean, norm.x, axis, "mean");
    let centred = steps.step("Sub", &[norm.x, mean], "centred");
    let two = steps.scalar(2.0);
    let squared = steps.step("Pow", &[centred, two], "squared");
    let variance = steps.reduce(Reduction::Mean, squared, axis, "variance");
    let epsilon = steps.scalar(norm.epsilon.into());
    let shifted = steps.step("Add", &[variance, epsilon], "variance_epsilon");
    let deviation = steps.step("Sqrt", &[shifted], "deviation");
    let normalised = steps.step("Div", &[centred, deviation], "normalised");
    match norm.bias {
        None => steps.finish("Mul", &[normalised, norm.scale]),
        Some(bias) => {
            let scaled = steps.step("Mul", &[normalised, norm.scale], "scaled");
            steps.finish("Add", &[scaled, bias]);
        }
    }
    Some(())
}

/// An axis counted from the end; one that is not yet needs the rank.
pub(super) fn axis_from_end(axis: i64, rank: Option<usize>) -> Option<i64> {
    if axis < 0 {
        return Some(axis);
    }
    let rank = rank?;
    Some(axis_from_front(axis, rank)? as i64 - rank as i64)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ops::expand;
    use crate::ops::testing::{Scene, listing};

    fn scene(opset: i64, shape: &[usize]) -> Graph {
        let mut scene = Scene::new(opset);
        let x = scene.input_of("x", shape);
        let (scale, bias) = (scene.input("scale"), scene.input("bias"));
        scene.op(LayerNorm::op(-1, 1e-6).named("norm"), &[x, scale, bias], "y");
        scene.finish()
    }

    #[test]
    fn is_one_node_where_there_is_one() {
        let graph = expand(&scene(17, &[2, 4]), 17).expect("expands");
        assert_eq!(listing(&graph), ["norm: y = LayerNormalization(x, scale, bias)"]);
        let op = graph.op_ids().next().expect("an operator");
        let view = LayerNormalization::at(&graph, op).expect("a LayerNormalization");
        assert_eq!((view.axis, view.epsilon), (-1, 1e-6));
    }

    #[test]
    fn is_nine_operators_before() {
        let graph = expand(&scene(13, &[2, 4]), 13).expect("expands");
        assert_eq!(
            listing(&graph),
            [
                "norm_mean: y_mean = ReduceMean(x)",
                "norm_centred: y_centred = Sub(x, y_mean)",
                "norm_squared: y_squared = Pow(y_centred, scalar)",
                "norm_variance: y_variance = ReduceMean(y_squared)",
                "norm_variance_epsilon: y_variance_epsilon = Add(y_variance, scalar_1)",
                "norm_deviation: y_deviation = Sqrt(y_variance_epsilon)",
                "norm_normalised: y_normalised = Div(y_centred, y_deviation)",
                "norm_scaled: y_scaled = Mul(y_normalised, scale)",
                "norm: y = Add(y_scaled, bias)",
            ]
        );
    }

    #[test]
    fn axes_follow_the_graphs_version_even_where_newer_operators_are_not_wanted() {
        let graph = expand(&scene(18, &[2, 4]), 16).expect("expands");
        assert_eq!(listing(&graph)[0], "norm_mean: y_mean = ReduceMean(x, axes)");
        let graph = expand(&scene(10, &[2, 3, 4]), 10).expect("expands");
        let mean = graph.topological()[0];
        assert_eq!(graph.op(mean).ints("axes"), Some(&[2][..]));
    }

    #[test]
    fn a_node_comes_back_as_it_was() {
        let mut scene = Scene::new(17);
        let (x, scale) = (scene.input("x"), scene.input("scale"));
        let attributes = vec![Attribute::int("stash_type", 1), Attribute::float("epsilon", 1e-3)];
        let node = Op::new("ai.onnx", "LayerNormalization", attributes).named("n");
        let (id, y) = scene.op(node, &[x, scale], "y");
        let mut graph = scene.finish();
        let before = format!("{:?}", graph.op(id));
        let inputs = graph.inputs_of(id);
        let mut patch = crate::patch::Patch::new(&graph, "test", id);
        let stand_in = LayerNorm::of_node(&graph, id).expect("a LayerNormalization");
        let (own, _) = patch.op(&graph, stand_in, &inputs, &[crate::patch::Output::Take(y)]);
        patch.remove(id);
        patch.apply(&mut graph).expect("applies");
        assert_eq!(LayerNorm::at(&graph, own).map(|view| (view.axis, view.epsilon)), Some((-1, 1e-3)));
        let graph = expand(&graph, 17).expect("expands");
        let after = graph.op_ids().next().expect("an operator");
        assert_eq!(format!("{:?}", graph.op(after)), before);
    }
}
