//! FusedGemm: Gemm, then an activation whose attributes are called `activation_alpha`, `activation_beta`, `activation_gamma`.

use crate::op::OpId;
use crate::ops::attributes::optional_input;

use super::activation::Activation;
use super::{Outcome, Unfusing, without};

pub(super) fn unfuse(at: &mut Unfusing<'_>, id: OpId) -> Outcome {
    let (graph, op) = (at.graph, at.graph.op(id));
    let activation = Activation::read(op, |name, _| op.float(&format!("activation_{name}")))?;
    let a = at.input(id, 0)?;
    let b = at.input(id, 1)?;
    let mut steps = at.steps(id, b)?;
    // Below 11 there must be something to add.
    let c = optional_input(graph, id, 2).or_else(|| (graph.opset() < 11).then(|| steps.scalar(0.0)));
    let inputs: Vec<_> = [a, b].into_iter().chain(c).collect();
    let own = ["activation", "activation_alpha", "activation_beta", "activation_gamma"];
    activation.finish(steps, without(op, "Gemm", &own), &inputs);
    Ok(())
}
