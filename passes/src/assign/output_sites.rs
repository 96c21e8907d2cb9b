//! Wants the outputs of the graph quantized, where what writes them is computed with codes.
//!
//! # Why
//! A quantized output costs accuracy that nobody asked for, so no method has one. Whoever wants codes at the outputs
//! (`--io quantized`) asks for it.
//!
//! # Needs
//! Nothing.
//!
//! # Effect
//! Every float32 output of the graph that an operator of the plan writes gets a place in the plan, with format and symmetry
//! as the target has them for the activation bits asked for.
//!
//! # Promise
//! Annotate.
//!
//! # Declines
//! - `float-producer`: what writes it is not computed with codes.
//!
//! # Options
//! None.

use onnxq_ir::{Graph, OpId, ValueId};
use onnxq_plan::{Granularity, Scheme, Site};
use serde::{Deserialize, Serialize};

use crate::pass::{Context, Pass, PassError, Promise};

/// What a recipe can set: nothing.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub(crate) struct OutputSites {}

impl Pass for OutputSites {
    fn promise(&self) -> Promise {
        Promise::Annotate
    }

    fn run(&self, cx: &mut Context<'_>) -> Result<(), PassError> {
        let Some(bits) = cx.settings.bits.activation else { return Ok(()) };
        let format = cx.target.activation_format(bits)?;
        let scheme =
            Scheme::Uniform { format, symmetry: cx.target.activations.symmetry, granularity: Granularity::Tensor };
        for (value, op) in float_outputs(cx.graph()) {
            if cx.plan.is_computed(op) {
                if cx.plan.get(Site::Output(value)).is_none() {
                    cx.plan.want(Site::Output(value), scheme);
                }
                cx.assigned();
            } else {
                cx.decline(op, "float-producer: the output that it writes stays float as well");
            }
        }
        Ok(())
    }
}

/// The outputs of the graph that are float32 as far as is known, with what writes them.
fn float_outputs(graph: &Graph) -> Vec<(ValueId, OpId)> {
    let is_float = |value| graph.tensor_type(value).is_none_or(|known| known.element.fits_f32());
    let outputs = graph.outputs().iter().map(|declared| declared.value).filter(|&value| is_float(value));
    outputs.filter_map(|value| Some((value, graph.producer(value)?.0))).collect()
}

#[cfg(test)]
mod tests {
    use crate::testing::{check, check_declined};

    #[test]
    fn linear() {
        check!("output-sites/linear");
    }

    #[test]
    fn float_producer() {
        check_declined!("output-sites/float_producer", "float-producer: the output that it writes stays float as well");
    }
}
