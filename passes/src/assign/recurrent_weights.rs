//! Stores the weights of LSTM, GRU and RNN in codes, for the size.
//!
//! # Why
//! No runtime computes these in integers by Q/DQ, but their weights are often most of a file: 7.7 of the 10.8 MB of a speech
//! enhancer (NSNet2). A runtime that dequantizes constants when it loads a model pays nothing for that; onnxruntime pays at
//! every run, and more for weights that it can't pack beforehand. So it is the target's matter.
//!
//! # Needs
//! Nothing.
//!
//! # Effect
//! Where the target has a rule for the operator, its input weights W and recurrent weights R get a place in the plan, with
//! symmetry and format as the target has them for the bits asked for, one scale for each row of each gate (axis 1, over both
//! directions), or one in all where the model can't be raised to opset 13. Each scale is that of the largest element. Nothing
//! of it counts as computed in integers.
//!
//! # Promise
//! Annotate.
//!
//! # Declines
//! - Where `--exclude`, `--include` or an override of the recipe leaves it float, as `select-sites` does.
//! - `not-a-site`: the target has no rule for it.
//! - `computed`: a weight is no finite constant of floats.
//!
//! # Options
//! None.

use onnxq_ir::{Graph, OpId, Tensor};
use onnxq_plan::{Activations, Granularity, OperatorKind, Placement, Planned, Scheme, Site};
use serde::{Deserialize, Serialize};

use super::fit::fit_weight;
use super::minmax::MinMax;
use crate::pass::{Context, Pass, PassError, Promise};

/// What a recipe or `--set recurrent-weights.KEY=VALUE` can set: nothing.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub(crate) struct RecurrentWeights {}

/// The slots of W `[directions, gates * hidden, input]` and R `[directions, gates * hidden, hidden]`.
const WEIGHTS: [usize; 2] = [1, 2];
/// Their axis of gates and hidden units.
const ROWS: usize = 1;

impl Pass for RecurrentWeights {
    fn promise(&self) -> Promise {
        Promise::Annotate
    }

    fn run(&self, cx: &mut Context<'_>) -> Result<(), PassError> {
        let settings = cx.settings;
        let selected = settings.selection.on(cx.graph());
        for (op, kind) in recurrent(cx.graph()) {
            let reason = selected.leaves_float(op).or_else(|| why_not(cx, op, kind));
            if let Some(reason) = reason {
                cx.decline(op, reason);
                cx.leave_float(op, kind.name(), reason);
                continue;
            }
            let format = cx.target.weight_format(selected.own(op).bits(settings.bits))?;
            let symmetry = cx.target.weights.symmetry;
            let granularity = if cx.channel_scales().is_ok() { Granularity::Axis(ROWS) } else { Granularity::Tensor };
            for slot in WEIGHTS {
                let Some(value) = cx.graph().input(op, slot) else { continue };
                let quantizer = fit_weight(&MinMax {}, cx.graph(), value, format, symmetry, granularity)?;
                let site = Site::Operand { op, slot };
                cx.plan.want(site, Scheme::Uniform { format, symmetry, granularity });
                cx.plan.assign(site, quantizer);
                cx.assigned();
            }
            cx.plan.note_operator(
                op,
                Planned { kind, placement: Placement::Inputs, activations: Activations::Floats, ends: Vec::new() },
            );
        }
        Ok(())
    }
}

/// The recurrent operators of a graph, producers first.
fn recurrent(graph: &Graph) -> Vec<(OpId, OperatorKind)> {
    const KINDS: [(&str, OperatorKind); 3] =
        [("LSTM", OperatorKind::Lstm), ("GRU", OperatorKind::Gru), ("RNN", OperatorKind::Rnn)];
    let kind = |op: &OpId| KINDS.iter().find(|(name, _)| graph.op(*op).is(name)).map(|(_, kind)| *kind);
    graph.topological().into_iter().filter_map(|op| Some((op, kind(&op)?))).collect()
}

/// Why the weights of an operator stay as they are, if so.
fn why_not(cx: &Context<'_>, op: OpId, kind: OperatorKind) -> Option<&'static str> {
    if cx.target.rule(kind).is_none() {
        return Some("not-a-site: float by the rules of target or recipe");
    }
    let is_constant = |tensor: &Tensor| {
        let finite = |elements: &[f32]| elements.iter().all(|x| x.is_finite());
        tensor.element().fits_f32()
            && tensor.shape().len() == 3
            && tensor.to_f32().is_some_and(|elements| finite(&elements))
    };
    let constant = |slot| cx.graph().input(op, slot).and_then(|value| cx.graph().constant(value));
    let are_constant = WEIGHTS.into_iter().all(|slot| constant(slot).is_some_and(is_constant));
    (!are_constant).then_some("computed: a weight is no finite constant of floats")
}

#[cfg(test)]
mod tests {
    use crate::testing::{check, check_declined};

    #[test]
    fn lstm_and_gru() {
        check!("recurrent-weights/lstm_and_gru");
    }

    #[test]
    fn not_a_site() {
        check_declined!("recurrent-weights/not_a_site", "not-a-site: float by the rules of target or recipe");
    }

    #[test]
    fn computed() {
        check_declined!("recurrent-weights/computed", "computed: a weight is no finite constant of floats");
    }
}
