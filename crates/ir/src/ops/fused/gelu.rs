//! Gelu and what is near it: BiasGelu (`gelu(a + b)`, by erf), FastGelu (by tanh, with or without a bias), Gelu (by erf) and
//! QuickGelu (`x sigmoid(alpha x)`).

use crate::op::{Op, OpId};
use crate::ops::attributes::{float_or, optional_input};
use crate::ops::{Approximation, Gelu, Silu};

use super::{MALFORMED, Outcome, Unfusing};

/// What QuickGelu takes where it does not say.
const QUICK: f32 = 1.702;

pub(super) fn bias(at: &mut Unfusing<'_>, id: OpId) -> Outcome {
    at.input(id, 1)?;
    gelu(at, id, Approximation::None)
}

pub(super) fn fast(at: &mut Unfusing<'_>, id: OpId) -> Outcome {
    gelu(at, id, Approximation::Tanh)
}

pub(super) fn exact(at: &mut Unfusing<'_>, id: OpId) -> Outcome {
    gelu(at, id, Approximation::None)
}

/// Of the input, and of a bias where there is one.
fn gelu(at: &mut Unfusing<'_>, id: OpId, approximation: Approximation) -> Outcome {
    let graph = at.graph;
    let x = at.input(id, 0)?;
    let mut steps = at.steps(id, x)?;
    let sum = match optional_input(graph, id, 1) {
        None => x,
        Some(bias) => steps.step("Add", &[x, bias], "sum"),
    };
    steps.finish_as(Gelu::op(approximation), &[sum]);
    Ok(())
}

pub(super) fn quick(at: &mut Unfusing<'_>, id: OpId) -> Outcome {
    let graph = at.graph;
    let x = at.input(id, 0)?;
    let alpha = float_or(graph.op(id), "alpha", QUICK).ok_or(MALFORMED)?;
    let mut steps = at.steps(id, x)?;
    if alpha == 1.0 {
        steps.finish_as(Silu::op(), &[x]);
        return Ok(());
    }
    let factor = steps.scalar(alpha.into());
    let scaled = steps.step("Mul", &[x, factor], "scaled");
    let gate = steps.step_with(Op::new("", "Sigmoid", vec![]), &[scaled], "gate");
    steps.finish("Mul", &[x, gate]);
    Ok(())
}
