//! What a pass is, and what it works on.
//!
//! A pass is a struct whose fields are its options. The driver asks it what it needs to know, gathers that in one run
//! over the data together with what later passes need, and runs it.

use std::cell::OnceCell;
use std::collections::{BTreeMap, BTreeSet};

use onnxq_ir::{Applied, Graph, Model, OpId, Patch, PatchError, Tensor, ValueId};
use onnxq_plan::target::NoSuchWidth;
use onnxq_plan::{Bits, Declined, EngineError, Facts, Needs, Plan, Target, Trials};

use crate::select::Selection;
use crate::storage::Storage;

/// What a pass does to the model's function.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Promise {
    /// The float outputs stay equal up to rounding.
    Exact,
    /// The function changes; the cost is measured.
    Lossy,
    /// Only the plan changes.
    Annotate,
}

impl std::fmt::Display for Promise {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Exact => "Exact",
            Self::Lossy => "Lossy",
            Self::Annotate => "Annotate",
        })
    }
}

/// The first operator version whose QuantizeLinear and DequantizeLinear have an axis.
pub(crate) const CHANNEL_SCALES: i64 = 13;

/// Why a pass can't go on.
#[derive(Debug, thiserror::Error)]
pub enum PassError {
    /// A patch was refused: our own fault.
    #[error(transparent)]
    Patch(#[from] PatchError),
    /// The target has no type for the bits asked for.
    #[error(transparent)]
    Width(#[from] NoSuchWidth),
    /// A plan could not be tried out.
    #[error(transparent)]
    Trial(#[from] EngineError),
    /// The model can't be raised to the operator version that a form needs.
    #[error("{form} needs opset {need}, and the model can't be raised to it: {reason}")]
    Opset {
        /// What needs it.
        form: &'static str,
        /// The version.
        need: i64,
        /// Why not.
        reason: String,
    },
    /// Something that a pass relies on does not hold: our own fault.
    #[error("pass `{pass}`: {what}")]
    Broken {
        /// The pass.
        pass: &'static str,
        /// What does not hold.
        what: String,
    },
}

/// What the user asked for that is no pass's own option.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Bits of weights and activations.
    pub bits: Bits,
    /// How codes are stored.
    pub storage: Storage,
    /// Which nodes are quantized, which stay float, which have bits of their own.
    pub selection: Selection,
}

/// What a pass reads when it says what it needs.
#[derive(Clone, Copy)]
pub struct View<'a> {
    /// The model.
    pub model: &'a Model,
    /// The plan so far.
    pub plan: &'a Plan,
    /// What the user asked for.
    pub settings: &'a Settings,
    /// The runtime.
    pub target: &'a Target,
}

impl<'a> View<'a> {
    /// The main graph.
    pub fn graph(&self) -> &'a Graph {
        &self.model.graph
    }
}

/// What a pass works on.
pub struct Context<'a> {
    /// The model; changed by [`Context::apply`].
    pub model: &'a mut Model,
    /// The plan.
    pub plan: &'a mut Plan,
    /// What was observed.
    pub facts: &'a mut Facts,
    /// Values of the main graph that are the same for every input, as inference found them.
    pub constants: &'a BTreeMap<ValueId, Tensor>,
    /// The runtime.
    pub target: &'a Target,
    /// What the user asked for.
    pub settings: &'a Settings,
    /// Samples to try plans out on, where there are any.
    pub trials: Option<&'a dyn Trials>,
    /// Values that the engine can't compute.
    out_of_reach: BTreeSet<ValueId>,
    /// Whether weights may have a scale per channel, once asked.
    channel_scales: OnceCell<Result<(), String>>,
    outcome: Outcome,
}

/// What a pass did and what it left.
#[derive(Clone, Debug, Default)]
pub struct Outcome {
    /// The patches, in order.
    pub applied: Vec<Applied>,
    /// Sites that got a quantizer, or a place in the plan.
    pub assigned: usize,
    /// What was looked at and left, with the reason.
    pub declined: Vec<Declined>,
    /// What a person should know of it, one line each.
    pub notes: Vec<String>,
}

impl<'a> Context<'a> {
    /// A context for one pass.
    pub fn new(
        model: &'a mut Model,
        plan: &'a mut Plan,
        facts: &'a mut Facts,
        constants: &'a BTreeMap<ValueId, Tensor>,
        target: &'a Target,
        settings: &'a Settings,
    ) -> Self {
        Self {
            model,
            plan,
            facts,
            constants,
            target,
            settings,
            trials: None,
            out_of_reach: BTreeSet::new(),
            channel_scales: OnceCell::new(),
            outcome: Outcome::default(),
        }
    }

    /// The same, with samples to try plans out on.
    #[must_use]
    pub fn with_trials(mut self, trials: Option<&'a dyn Trials>) -> Self {
        self.trials = trials;
        self
    }

    /// The same context, where the engine can't compute these values.
    #[must_use]
    pub fn without(mut self, out_of_reach: BTreeSet<ValueId>) -> Self {
        self.out_of_reach = out_of_reach;
        self
    }

    /// Whether the engine can't compute a value, so that nothing is known of its range.
    pub fn is_out_of_reach(&self, value: ValueId) -> bool {
        self.out_of_reach.contains(&value)
    }

    /// The main graph.
    pub fn graph(&self) -> &Graph {
        &self.model.graph
    }

    /// The operators of the main graph, producers first.
    pub fn ops(&self) -> Vec<OpId> {
        self.model.graph.topological()
    }

    /// Applies a patch to the main graph and records it. An empty one is nothing.
    pub fn apply(&mut self, patch: Patch) -> Result<(), PassError> {
        if !patch.is_empty() {
            self.channel_scales.take();
            self.outcome.applied.push(patch.apply(&mut self.model.graph)?);
        }
        Ok(())
    }

    /// Whether the model has, or can be raised to, the operator version in which a scale per channel came; `Err` says why not.
    pub fn channel_scales(&self) -> Result<(), &str> {
        let outcome = self.channel_scales.get_or_init(|| {
            if self.graph().opset() >= CHANNEL_SCALES {
                return Ok(());
            }
            if self.target.max_opset < CHANNEL_SCALES {
                return Err(format!("target `{}` loads no opset above {}", self.target.name, self.target.max_opset));
            }
            onnxq_ir::ops::opset::convert(&mut self.model.clone(), CHANNEL_SCALES).map_err(|error| error.to_string())
        });
        outcome.as_ref().copied().map_err(String::as_str)
    }

    /// Records a change of the whole model that is no patch, such as another opset.
    pub fn record(&mut self, change: Applied) {
        self.outcome.applied.push(change);
    }

    /// Records that a site got a place in the plan or a quantizer.
    pub fn assigned(&mut self) {
        self.outcome.assigned += 1;
    }

    /// Records that an operator was looked at and left as it was.
    pub fn decline(&mut self, op: OpId, reason: impl Into<String>) {
        let node = self.model.graph.op(op);
        let declined = Declined {
            site: crate::names::label(&self.model.graph, op),
            op_type: node.op_type().to_owned(),
            reason: reason.into(),
        };
        self.outcome.declined.push(declined);
    }

    /// Says something that belongs into the summary.
    pub fn note(&mut self, text: impl Into<String>) {
        self.outcome.notes.push(text.into());
    }

    /// Records that a value was looked at and left as it was.
    pub fn decline_value(&mut self, value: ValueId, reason: impl Into<String>) {
        let site = self.model.graph.value(value).name().to_owned();
        self.outcome.declined.push(Declined { site, op_type: String::new(), reason: reason.into() });
    }

    /// Records in the plan that an operator stays float, for the summary.
    pub fn leave_float(&mut self, op: OpId, kind: &str, reason: &str) {
        self.plan.left_float.push(Declined {
            site: crate::names::label(&self.model.graph, op),
            op_type: kind.to_owned(),
            reason: reason.to_owned(),
        });
    }

    /// What the pass did and left.
    pub fn finish(self) -> Outcome {
        self.outcome
    }
}

/// A pass. Its fields are its options.
pub trait Pass {
    /// What it does to the model's function.
    fn promise(&self) -> Promise;

    /// The facts that it needs, as far as the plan and the model say now.
    fn needs(&self, view: &View<'_>) -> Needs {
        let _ = view;
        Needs::none()
    }

    /// Whether the pass turns the plan into nodes: what comes before it can be simulated, what comes after can't.
    fn lowers(&self) -> bool {
        false
    }

    /// Whether the pass tries plans out: a quarter of the samples is then left out of all statistics, for it to judge on.
    fn judges(&self) -> bool {
        false
    }

    /// Whether a pass that judges also looks again at samples that ranges were fitted on: a few are kept for it.
    fn corrects(&self) -> bool {
        false
    }

    /// Does its work. Everything that it looked at and left is recorded with the reason.
    fn run(&self, cx: &mut Context<'_>) -> Result<(), PassError>;
}
