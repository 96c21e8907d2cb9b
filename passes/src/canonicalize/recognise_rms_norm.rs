//! Makes one RmsNorm of every form in which exporters write it.
//!
//! # Why
//! RMSNormalization exists from opset 23 on only; before, it is six operators. Passes that change its factor see one
//! operator with a scale.
//!
//! # Needs
//! Nothing.
//!
//! # Effect
//! RMSNormalization becomes RmsNorm with the same inputs. So does `x / sqrt(mean(x^2) + epsilon)`: the mean by ReduceMean over
//! the last axes, the square by Pow or Mul, the quotient by Div or by Mul with Reciprocal, 1 / or Pow; a Mul with a
//! constant of the normalised shape behind it is taken along, in either order of operands. Where there is none, a scale
//! of ones is made. Runs behind recognise-layer-norm, whose inner part has the same form.
//!
//! # Promise
//! Exact.
//!
//! # Declines
//! - `intermediate`: a value inside is an output of the graph or read elsewhere.
//! - `axes`: the mean is not over the last axes.
//! - `unknown-shape`: the sizes of the normalised axes are not known.
//!
//! # Options
//! None.

use onnxq_ir::ops::RmsNorm;
use onnxq_ir::pattern::{Match, Pattern, any, constant, one_of, op, scalar};
use onnxq_ir::{Graph, OpId, Patch, ValueId};
use serde::{Deserialize, Serialize};

use super::affine::{Affine, Summand, trailing_sizes};
use super::recognise_layer_norm::{common_axis, epsilon, quotient};
use super::replace::{stand_in, take_over};
use crate::pass::{Context, Pass, PassError, Promise};

/// What a recipe can set: nothing.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub(crate) struct RecogniseRmsNorm {}

impl Pass for RecogniseRmsNorm {
    fn promise(&self) -> Promise {
        Promise::Exact
    }

    fn run(&self, cx: &mut Context<'_>) -> Result<(), PassError> {
        let pattern = pattern();
        for op in cx.ops() {
            let graph = cx.graph();
            if graph.try_op(op).is_none() {
                continue;
            }
            let result = if let Some(norm) = RmsNorm::of_node(graph, op) {
                Ok(stand_in(graph, RULE, op, norm))
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

const RULE: &str = "recognise-rms-norm";

/// The normalised value, without factor.
fn pattern() -> Pattern {
    let square = one_of([op("Pow", [any("x"), scalar(2.0)]), op("Mul", [any("x"), any("x")])]);
    let mean = op("ReduceMean", [square]).named("mean");
    quotient(any("x"), op("Add", [mean, constant("epsilon")]))
}

/// An RmsNorm in pieces.
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
        let axis = common_axis(graph, x, found.op("mean").into_iter()).ok_or("axes")?;
        let epsilon = epsilon(graph, found, x).ok_or("axes")?;
        if !found.is_closed(graph) {
            return Err("intermediate");
        }
        let normalised = graph.output(normaliser, 0).ok_or("intermediate")?;
        let sizes = trailing_sizes(graph, &[x, normalised], axis).ok_or("unknown-shape")?;
        let affine = Affine::behind(graph, normaliser, &sizes, Summand::Unwanted).ok_or("intermediate")?;
        Ok(Self { x, axis, epsilon, affine, ops: found.ops() })
    }

    fn rewrite(&self, graph: &Graph) -> Patch {
        let last = self.affine.last;
        let mut patch = Patch::new(graph, RULE, last);
        let name = graph.output(last, 0).map_or("", |value| graph.value(value).name());
        let scale = self.affine.scale.value(graph, &mut patch, name);
        let norm = RmsNorm::op(self.axis, self.epsilon).named(graph.op(last).name());
        let gone: Vec<OpId> = self.affine.ops.iter().chain(&self.ops).copied().collect();
        take_over(&mut patch, graph, last, norm, &[Some(self.x), Some(scale)], &gone);
        patch
    }
}

#[cfg(test)]
mod tests {
    use crate::testing::{check, check_declined};

    #[test]
    fn node() {
        check!("recognise-rms-norm/node");
    }

    #[test]
    fn classic() {
        check!("recognise-rms-norm/classic");
    }

    #[test]
    fn dynamo() {
        check!("recognise-rms-norm/dynamo");
    }

    #[test]
    fn intermediate() {
        check_declined!("recognise-rms-norm/intermediate", "intermediate");
    }

    #[test]
    fn axes() {
        check_declined!("recognise-rms-norm/axes", "axes");
    }

    #[test]
    fn unknown_shape() {
        check_declined!("recognise-rms-norm/unknown_shape", "unknown-shape");
    }
}
