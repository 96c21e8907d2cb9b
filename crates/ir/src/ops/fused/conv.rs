//! FusedConv: Conv, then the sum with a fourth input where there is one, then an activation with `activation_params`.

use crate::op::{AttributeValue, Op, OpId};
use crate::ops::attributes::optional_input;

use super::activation::Activation;
use super::{MALFORMED, Outcome, Unfusing, without};

pub(super) fn unfuse(at: &mut Unfusing<'_>, id: OpId) -> Outcome {
    let (graph, op) = (at.graph, at.graph.op(id));
    let params: &[f32] = match op.attribute("activation_params") {
        None => &[],
        Some(AttributeValue::Floats(params)) => params,
        Some(_) => return Err(MALFORMED),
    };
    let activation = Activation::read(op, |_, place| params.get(place).copied())?;
    let x = at.input(id, 0)?;
    let weight = at.input(id, 1)?;
    let inputs: Vec<_> = [x, weight].into_iter().chain(optional_input(graph, id, 2)).collect();
    let mut steps = at.steps(id, weight)?;
    let conv = without(op, "Conv", &["activation", "activation_params"]);
    match optional_input(graph, id, 3) {
        None => activation.finish(steps, conv, &inputs),
        Some(added) => {
            let result = steps.step_with(conv, &inputs, "conv");
            activation.finish(steps, Op::new("", "Add", vec![]), &[result, added]);
        }
    }
    Ok(())
}
