//! Makes one Softmax over one axis of every form in which exporters write it.
//!
//! # Why
//! Below opset 13 a Softmax sees its input as a matrix, which is the same only for the last axis; where an exporter did
//! not know the rank, it took the function apart.
//!
//! # Needs
//! Nothing.
//!
//! # Effect
//! A Softmax node that normalises one axis becomes the recognised one. So does `exp(x - max(x)) / sum(exp(x - max(x)))` with
//! ReduceMax and ReduceSum over the same axis.
//!
//! # Promise
//! Exact.
//!
//! # Declines
//! - `flattened`: the node normalises several axes together, or it is not known that it does not.
//! - `intermediate`: a value inside is an output of the graph or read elsewhere.
//! - `axes`: maximum and sum are not over the same axis, or over several; below opset 13, over another than the last.
//!
//! # Options
//! None.

use onnxq_ir::ops::{Axes, Reduce, Softmax, is_last_axis};
use onnxq_ir::pattern::{Match, Pattern, any, op as pattern_op};
use onnxq_ir::{Graph, OpId};
use serde::{Deserialize, Serialize};

use super::replace::{single_input, stand_in};
use crate::pass::{Context, Pass, PassError, Promise};

/// What a recipe can set: nothing.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub(crate) struct RecogniseSoftmax {}

impl Pass for RecogniseSoftmax {
    fn promise(&self) -> Promise {
        Promise::Exact
    }

    fn run(&self, cx: &mut Context<'_>) -> Result<(), PassError> {
        let pattern = pattern();
        for op in cx.ops() {
            let graph = cx.graph();
            let Some(node) = graph.try_op(op) else { continue };
            let result = if node.is("Softmax") {
                Softmax::of_node(graph, op).map(|softmax| stand_in(graph, RULE, op, softmax)).ok_or("flattened")
            } else if let Some(found) = graph.output(op, 0).and_then(|value| pattern.find(graph, value)) {
                axis(graph, &found).and_then(|axis| single_input(graph, RULE, op, &found, Softmax::op(axis)))
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

const RULE: &str = "recognise-softmax";

fn pattern() -> Pattern {
    let exponential = |max| {
        let shifted = pattern_op("Sub", [any("x"), pattern_op("ReduceMax", [any("x")]).named(max)]);
        pattern_op("Exp", [shifted])
    };
    let sum = pattern_op("ReduceSum", [exponential("maximum of the divisor")]).named("sum");
    pattern_op("Div", [exponential("maximum"), sum])
}

/// The one axis over which maximum and sum are taken.
fn axis(graph: &Graph, found: &Match) -> Result<i64, &'static str> {
    let over = |op: OpId| match Reduce::at(graph, op)? {
        Reduce { axes: Axes::These(axes), keepdims: true, .. } if axes.len() == 1 => Some(axes[0]),
        _ => None,
    };
    let axes: Option<Vec<i64>> =
        ["maximum", "maximum of the divisor", "sum"].iter().filter_map(|name| found.op(name)).map(over).collect();
    let axis = axes.filter(|axes| axes.iter().all(|axis| *axis == axes[0])).ok_or("axes")?[0];
    let writable = graph.opset() >= 13 || is_last_axis(axis, graph.rank(found.value("x")));
    if writable { Ok(axis) } else { Err("axes") }
}

#[cfg(test)]
mod tests {
    use crate::testing::{check, check_declined};

    #[test]
    fn node() {
        check!("recognise-softmax/node");
    }

    #[test]
    fn last_axis_9() {
        check!("recognise-softmax/last_axis_9");
    }

    #[test]
    fn in_pieces() {
        check!("recognise-softmax/in_pieces");
    }

    #[test]
    fn flattened() {
        check_declined!("recognise-softmax/flattened", "flattened");
    }

    #[test]
    fn intermediate() {
        check_declined!("recognise-softmax/intermediate", "intermediate");
    }

    #[test]
    fn axes() {
        check_declined!("recognise-softmax/axes", "axes");
    }
}
