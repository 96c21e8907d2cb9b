//! Makes one Gelu of every form in which exporters write it.
//!
//! # Why
//! Gelu exists from opset 20 on only; before, it is five operators by erf or up to nine by tanh.
//!
//! # Needs
//! Nothing.
//!
//! # Effect
//! A Gelu node becomes the recognised one. So does the product of x, 0.5 and `1 + erf(x / sqrt(2))` in any order, and the
//! product of x, 0.5 and `1 + tanh(sqrt(2 / pi) (x + 0.044715 x^3))`, the cube by Pow or Mul, also with x in front of
//! `1 + 0.044715 x^2`.
//!
//! # Promise
//! Exact.
//!
//! # Declines
//! - `intermediate`: a value inside is an output of the graph or read elsewhere.
//!
//! # Options
//! None.

use onnxq_ir::ops::{Approximation, Gelu};
use onnxq_ir::pattern::{Pattern, any, one_of, op, scalar};
use serde::{Deserialize, Serialize};

use super::replace::{keeps_rank, single_input, stand_in};
use crate::pass::{Context, Pass, PassError, Promise};

/// What a recipe can set: nothing.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub(crate) struct RecogniseGelu {}

impl Pass for RecogniseGelu {
    fn promise(&self) -> Promise {
        Promise::Exact
    }

    fn run(&self, cx: &mut Context<'_>) -> Result<(), PassError> {
        let patterns = [(by_erf(), Approximation::None), (by_tanh(), Approximation::Tanh)];
        for op in cx.ops() {
            let graph = cx.graph();
            if graph.try_op(op).is_none() {
                continue;
            }
            if let Some(gelu) = Gelu::of_node(graph, op) {
                let patch = stand_in(graph, RULE, op, gelu);
                cx.apply(patch)?;
                continue;
            }
            let Some(value) = graph.output(op, 0) else { continue };
            let found = patterns.iter().find_map(|(pattern, kind)| Some((pattern.find(graph, value)?, *kind)));
            let Some((found, kind)) = found.filter(|(found, _)| keeps_rank(graph, found, found.value("x"))) else {
                continue;
            };
            match single_input(graph, RULE, op, &found, Gelu::op(kind)) {
                Ok(patch) => cx.apply(patch)?,
                Err(reason) => cx.decline(op, reason),
            }
        }
        Ok(())
    }
}

const RULE: &str = "recognise-gelu";

/// `0.5 x (1 + inner)`, the factors in any order.
fn half_x_times_one_plus(inner: Pattern) -> Pattern {
    let one_plus = op("Add", [inner, scalar(1.0)]);
    let (x, half) = (any("x"), scalar(0.5));
    let product = |a: &Pattern, b: &Pattern| op("Mul", [a.clone(), b.clone()]);
    one_of([
        product(&product(&x, &one_plus), &half),
        product(&product(&x, &half), &one_plus),
        product(&product(&one_plus, &half), &x),
    ])
}

fn by_erf() -> Pattern {
    let scaled = one_of([
        op("Div", [any("x"), scalar(std::f32::consts::SQRT_2)]),
        op("Mul", [any("x"), scalar(std::f32::consts::FRAC_1_SQRT_2)]),
    ]);
    half_x_times_one_plus(op("Erf", [scaled]))
}

fn by_tanh() -> Pattern {
    const BEND: f32 = 0.044_715;
    let root = || scalar(0.797_884_6);
    let x = || any("x");
    let cube = one_of([op("Pow", [x(), scalar(3.0)]), op("Mul", [x(), op("Mul", [x(), x()])])]);
    let bent =
        one_of([op("Mul", [scalar(BEND), cube]), op("Mul", [op("Mul", [op("Mul", [scalar(BEND), x()]), x()]), x()])]);
    let square = one_of([
        op("Mul", [op("Mul", [scalar(BEND), x()]), x()]),
        op("Mul", [scalar(BEND), op("Mul", [x(), x()])]),
        op("Mul", [scalar(BEND), op("Pow", [x(), scalar(2.0)])]),
    ]);
    let one_plus_square = op("Add", [square, scalar(1.0)]);
    half_x_times_one_plus(op(
        "Tanh",
        [one_of([
            op("Mul", [root(), op("Add", [x(), bent])]),
            op("Mul", [op("Mul", [x(), root()]), one_plus_square.clone()]),
            op("Mul", [root(), op("Mul", [x(), one_plus_square])]),
        ])],
    ))
}

#[cfg(test)]
mod tests {
    use crate::testing::{check, check_declined};

    #[test]
    fn node() {
        check!("recognise-gelu/node");
    }

    #[test]
    fn classic_erf() {
        check!("recognise-gelu/classic_erf");
    }

    #[test]
    fn half_first() {
        check!("recognise-gelu/half_first");
    }

    #[test]
    fn classic_tanh() {
        check!("recognise-gelu/classic_tanh");
    }

    #[test]
    fn tanh_by_pow() {
        check!("recognise-gelu/tanh_by_pow");
    }

    #[test]
    fn fast_tanh() {
        check!("recognise-gelu/fast_tanh");
    }

    #[test]
    fn other_numbers() {
        check!("recognise-gelu/other_numbers");
    }

    #[test]
    fn intermediate() {
        check_declined!("recognise-gelu/intermediate", "intermediate");
    }
}
