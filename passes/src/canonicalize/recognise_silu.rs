//! Makes one Silu of `x sigmoid(x)`.
//!
//! # Why
//! Exporters write Sigmoid and Mul, or Swish from opset 24 on.
//!
//! # Needs
//! Nothing.
//!
//! # Effect
//! Mul of x and its Sigmoid, in either order, becomes Silu; so does a Swish with alpha 1.
//!
//! # Promise
//! Exact.
//!
//! # Declines
//! - `intermediate`: the gate is an output of the graph or read elsewhere.
//! - `slope`: the Swish has another alpha.
//!
//! # Options
//! None.

use onnxq_ir::ops::Silu;
use onnxq_ir::pattern::{any, op as pattern_op};
use serde::{Deserialize, Serialize};

use super::replace::{single_input, stand_in};
use crate::pass::{Context, Pass, PassError, Promise};

/// What a recipe can set: nothing.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub(crate) struct RecogniseSilu {}

impl Pass for RecogniseSilu {
    fn promise(&self) -> Promise {
        Promise::Exact
    }

    fn run(&self, cx: &mut Context<'_>) -> Result<(), PassError> {
        let pattern = pattern_op("Mul", [any("x"), pattern_op("Sigmoid", [any("x")])]);
        for op in cx.ops() {
            let graph = cx.graph();
            let Some(node) = graph.try_op(op) else { continue };
            let result = if node.is("Swish") {
                Silu::of_node(graph, op).map(|silu| stand_in(graph, RULE, op, silu)).ok_or("slope")
            } else if let Some(found) = graph.output(op, 0).and_then(|value| pattern.find(graph, value)) {
                single_input(graph, RULE, op, &found, Silu::op())
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

const RULE: &str = "recognise-silu";

#[cfg(test)]
mod tests {
    use crate::testing::{check, check_declined};

    #[test]
    fn gate() {
        check!("recognise-silu/gate");
    }

    #[test]
    fn other_gate() {
        check!("recognise-silu/other_gate");
    }

    #[test]
    fn intermediate() {
        check_declined!("recognise-silu/intermediate", "intermediate");
    }

    #[test]
    fn slope() {
        check_declined!("recognise-silu/slope", "slope");
    }
}
