//! RmsNorm: `x / sqrt(mean(x^2) + epsilon) * scale`, the mean over `axis` and all axes behind it.
//!
//! Expands to RMSNormalization from opset 23 on, else to Pow, ReduceMean, Add, Sqrt, Div, Mul.

use crate::graph::Graph;
use crate::op::{Attribute, Op, OpId, RECOGNISED};
use crate::ops::attributes::{float_or, int_or, standard};
use crate::ops::reduce::Reduction;
use crate::value::ValueId;

use super::layer_norm::axis_from_end;
use super::{node_of, recognised, stand_in};
use crate::ops::expansion::Expansion;

/// A recognised RmsNorm.
#[derive(Clone, Debug, PartialEq)]
pub struct RmsNorm {
    /// The operator.
    pub op: OpId,
    /// The input.
    pub x: ValueId,
    /// What the normalised input is multiplied by.
    pub scale: ValueId,
    /// The output.
    pub output: ValueId,
    /// The first normalised axis.
    pub axis: i64,
    /// Added to the mean square.
    pub epsilon: f32,
}

impl RmsNorm {
    /// The slot of the scale.
    pub const SCALE: usize = 1;

    /// The view; `None` where this is no RmsNorm.
    pub fn at(graph: &Graph, id: OpId) -> Option<Self> {
        let op = recognised(graph, id, "RmsNorm")?;
        Some(Self {
            op: id,
            x: graph.input(id, 0)?,
            scale: graph.input(id, Self::SCALE)?,
            output: graph.output(id, 0)?,
            axis: int_or(op, "axis", -1)?,
            epsilon: float_or(op, "epsilon", 1e-5)?,
        })
    }

    /// An RmsNorm over the axes from `axis` on; reads x and scale.
    pub fn op(axis: i64, epsilon: f32) -> Op {
        Op::new(RECOGNISED, "RmsNorm", vec![Attribute::int("axis", axis), Attribute::float("epsilon", epsilon)])
    }

    /// What stands for an RMSNormalization, with the same inputs.
    pub fn of_node(graph: &Graph, id: OpId) -> Option<Op> {
        let node = standard(graph, id, "RMSNormalization")?;
        let sound = graph.input(id, 0).is_some()
            && graph.input(id, 1).is_some()
            && int_or(node, "axis", -1).is_some()
            && float_or(node, "epsilon", 1e-5).is_some();
        sound.then(|| stand_in(node, "RmsNorm"))
    }
}

pub(super) fn expand(expansion: &mut Expansion<'_>, id: OpId) -> Option<()> {
    let norm = RmsNorm::at(expansion.graph, id)?;
    let mut steps = expansion.of(id)?;
    if steps.newest() >= 23 {
        let node = node_of(steps.op(), "RMSNormalization", &[]);
        steps.finish_with(node, &[Some(norm.x), Some(norm.scale)]);
        return Some(());
    }
    let axis = axis_from_end(norm.axis, steps.graph().rank(norm.x))?;
    let two = steps.scalar(2.0);
    let squared = steps.step("Pow", &[norm.x, two], "squared");
    let mean = steps.reduce(Reduction::Mean, squared, axis, "mean_square");
    let epsilon = steps.scalar(norm.epsilon.into());
    let shifted = steps.step("Add", &[mean, epsilon], "mean_square_epsilon");
    let root = steps.step("Sqrt", &[shifted], "rms");
    let normalised = steps.step("Div", &[norm.x, root], "normalised");
    steps.finish("Mul", &[normalised, norm.scale]);
    Some(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ops::expand;
    use crate::ops::testing::{Scene, listing};

    #[test]
    fn is_one_node_from_23_on() {
        for (opset, count) in [(22, 6), (23, 1)] {
            let mut scene = Scene::new(opset);
            let (x, scale) = (scene.input("x"), scene.input("scale"));
            scene.op(RmsNorm::op(-1, 1e-6).named("norm"), &[x, scale], "y");
            let graph = expand(&scene.finish(), opset).expect("expands");
            let listing = listing(&graph);
            assert_eq!(listing.len(), count);
            let last =
                if count == 1 { "norm: y = RMSNormalization(x, scale)" } else { "norm: y = Mul(y_normalised, scale)" };
            assert_eq!(listing[count - 1], last);
        }
    }
}
