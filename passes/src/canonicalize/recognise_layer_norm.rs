//! Makes one LayerNorm of every form in which exporters write it.
//!
//! # Why
//! LayerNormalization exists from opset 17 on only; before, and where an exporter takes it apart, it is up to nine
//! operators. Passes that change its factor and summand see one operator with a scale and a bias.
//!
//! # Needs
//! Nothing.
//!
//! # Effect
//! LayerNormalization becomes LayerNorm with the same inputs. So does `(x - mean) / sqrt(mean((x - mean)^2) + epsilon)`: the
//! mean by ReduceMean over the last axes, the square by Pow or Mul, the quotient by Div or by Mul with Reciprocal, 1 / or
//! Pow; a Mul and an Add with constants of the normalised shape behind it are taken along, in either order of operands.
//! Where there is no factor, a scale of ones is made.
//!
//! # Promise
//! Exact.
//!
//! # Declines
//! - `intermediate`: a value inside is an output of the graph or read elsewhere.
//! - `axes`: the means are not over the last axes, or not over the same ones.
//! - `unknown-shape`: the sizes of the normalised axes are not known.
//! - `statistics`: the mean or the deviation is an output of the node that is read.
//!
//! # Options
//! None.

use onnxq_ir::ops::{LayerNorm, Reduce, Reduction};
use onnxq_ir::pattern::{Match, Pattern, any, constant, one_of, op, scalar};
use onnxq_ir::{Graph, OpId, Patch, ValueId};
use serde::{Deserialize, Serialize};

use super::affine::{Affine, Summand, trailing_sizes};
use super::replace::{keeps_rank, stand_in, take_over};
use crate::pass::{Context, Pass, PassError, Promise};

/// What a recipe can set: nothing.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub(crate) struct RecogniseLayerNorm {}

impl Pass for RecogniseLayerNorm {
    fn promise(&self) -> Promise {
        Promise::Exact
    }

    fn run(&self, cx: &mut Context<'_>) -> Result<(), PassError> {
        let pattern = pattern();
        for op in cx.ops() {
            let graph = cx.graph();
            let Some(node) = graph.try_op(op) else { continue };
            let result = if node.is("LayerNormalization") {
                LayerNorm::of_node(graph, op).map(|norm| stand_in(graph, RULE, op, norm)).ok_or("statistics")
            } else if let Some(found) = graph.output(op, 0).and_then(|value| pattern.find(graph, value)) {
                Site::find(graph, op, &found).map(|site| site.rewrite(graph))
            } else {
                continue;
            };
            match result {
                Ok(patch) => cx.apply(patch)?,
                Err(reason) => cx.decline(op, reason),
            }
        }
        Ok(())
    }
}

const RULE: &str = "recognise-layer-norm";

/// The normalised value, without factor and summand.
fn pattern() -> Pattern {
    let centred = |mean| op("Sub", [any("x"), op("ReduceMean", [any("x")]).named(mean)]);
    let square = one_of([
        op("Pow", [centred("mean"), scalar(2.0)]),
        op("Mul", [centred("mean"), centred("mean of the other factor")]),
    ]);
    let variance = op("ReduceMean", [square]).named("variance");
    quotient(centred("mean of the dividend"), op("Add", [variance, constant("epsilon")]))
}

/// `dividend / sqrt(square)`, in all ways to write it.
pub(super) fn quotient(dividend: Pattern, square: Pattern) -> Pattern {
    let root = one_of([op("Sqrt", [square.clone()]), op("Pow", [square.clone(), scalar(0.5)])]);
    let inverse = one_of([
        op("Reciprocal", [root.clone()]),
        op("Div", [scalar(1.0), root.clone()]),
        op("Pow", [square, scalar(-0.5)]),
    ]);
    one_of([op("Div", [dividend.clone(), root]), op("Mul", [dividend, inverse])])
}

/// A LayerNorm in pieces.
struct Site {
    x: ValueId,
    axis: i64,
    epsilon: f32,
    affine: Affine,
    ops: Vec<OpId>,
}

impl Site {
    fn find(graph: &Graph, normaliser: OpId, found: &Match) -> Result<Self, &'static str> {
        let x = found.value("x");
        let means = ["mean", "mean of the other factor", "mean of the dividend", "variance"];
        let axis = common_axis(graph, x, means.iter().filter_map(|name| found.op(name))).ok_or("axes")?;
        let epsilon = epsilon(graph, found, x).ok_or("axes")?;
        if !found.is_closed(graph) {
            return Err("intermediate");
        }
        let normalised = graph.output(normaliser, 0).ok_or("intermediate")?;
        let sizes = trailing_sizes(graph, &[x, normalised], axis).ok_or("unknown-shape")?;
        let affine = Affine::behind(graph, normaliser, &sizes, Summand::Wanted).ok_or("intermediate")?;
        Ok(Self { x, axis, epsilon, affine, ops: found.ops() })
    }

    fn rewrite(&self, graph: &Graph) -> Patch {
        let last = self.affine.last;
        let mut patch = Patch::new(graph, RULE, last);
        let name = graph.output(last, 0).map_or("", |value| graph.value(value).name());
        let scale = self.affine.scale.value(graph, &mut patch, name);
        let mut inputs = vec![Some(self.x), Some(scale)];
        inputs.extend(self.affine.bias.as_ref().map(|bias| Some(bias.value(graph, &mut patch, name))));
        let norm = LayerNorm::op(self.axis, self.epsilon).named(graph.op(last).name());
        let gone: Vec<OpId> = self.affine.ops.iter().chain(&self.ops).copied().collect();
        take_over(&mut patch, graph, last, norm, &inputs, &gone);
        patch
    }
}

/// The first of the last axes over which all these means are taken, counted from the end.
pub(super) fn common_axis(graph: &Graph, x: ValueId, means: impl Iterator<Item = OpId>) -> Option<i64> {
    let rank = graph.rank(x);
    let axes: Vec<i64> = means
        .map(|mean| {
            let view = Reduce::at(graph, mean).filter(|it| it.reduction == Reduction::Mean && it.keepdims)?;
            view.axes.trailing(rank)
        })
        .collect::<Option<_>>()?;
    let first = *axes.first()?;
    axes.iter().all(|&axis| axis == first).then_some(first)
}

/// The number that is added under the root.
pub(super) fn epsilon(graph: &Graph, found: &Match, x: ValueId) -> Option<f32> {
    let epsilon = graph.constant(found.value("epsilon"))?.scalar_f32()?;
    keeps_rank(graph, found, x).then_some(epsilon)
}

#[cfg(test)]
mod tests {
    use crate::testing::{check, check_declined};

    #[test]
    fn node() {
        check!("recognise-layer-norm/node");
    }

    #[test]
    fn classic_13() {
        check!("recognise-layer-norm/classic_13");
    }

    #[test]
    fn input_axes_18() {
        check!("recognise-layer-norm/input_axes_18");
    }

    #[test]
    fn by_products() {
        check!("recognise-layer-norm/by_products");
    }

    #[test]
    fn two_axes() {
        check!("recognise-layer-norm/two_axes");
    }

    #[test]
    fn without_affine() {
        check!("recognise-layer-norm/without_affine");
    }

    #[test]
    fn other_factor() {
        check!("recognise-layer-norm/other_factor");
    }

    #[test]
    fn intermediate() {
        check_declined!("recognise-layer-norm/intermediate", "intermediate");
    }

    #[test]
    fn axes() {
        check_declined!("recognise-layer-norm/axes", "axes");
    }

    #[test]
    fn unknown_shape() {
        check_declined!("recognise-layer-norm/unknown_shape", "unknown-shape");
    }

    #[test]
    fn statistics() {
        check_declined!("recognise-layer-norm/statistics", "statistics");
    }
}
