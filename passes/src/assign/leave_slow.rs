//! Leaves operators float that codes make slower.
//!
//! # Why
//! A product in integers is faster than in float, but its operands must become codes first and its output float again, where
//! its neighbours are float. A depthwise convolution, or one of few channels, gains less than that costs: between float
//! activations (HardSwish, SiLU) it makes the model slower, and its grids cost accuracy.
//!
//! # Needs
//! Elements of what operators with a least of work read and write.
//!
//! # Effect
//! Where the target's rule has a `least-work`, an operator leaves the plan if its multiply-accumulates are fewer than those
//! that the Q and DQ around it stand for: `per-call` for each, and `per-element`. Where it reads from, or writes to, others in
//! integers, elements count the other way round, since Q or DQ would stand there if it left. So one between two others stays
//! whatever its size, but for a `narrow` one, whose multiply-accumulates count as a cost. Repeated until none leaves. Where
//! sizes are not known, it stays.
//!
//! # Promise
//! Annotate.
//!
//! # Declines
//! - `slower`: it does too little for what surrounds it.
//! - `no-chain`: what it stood beside has left.
//! - `at-load`: it reads what a float operator between codes writes, of whose weights the runtime would make codes itself.
//!
//! # Options
//! None.

use std::collections::{BTreeMap, BTreeSet};

use onnxq_ir::{Graph, OpId, ValueId};
use onnxq_plan::target::LeastWork;
use onnxq_plan::{Activations, Needs, Plan, Planned, Statistic, Target};
use serde::{Deserialize, Serialize};

use super::kind::Candidate;
use super::without::leave;
use crate::pass::{Context, Pass, PassError, Promise, View};

/// What a recipe can set: nothing.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub(crate) struct LeaveSlow {}

impl Pass for LeaveSlow {
    fn promise(&self) -> Promise {
        Promise::Annotate
    }

    fn needs(&self, view: &View<'_>) -> Needs {
        let mut needs = Needs::none();
        for Ruled { candidate, .. } in ruled(view.graph(), view.plan, view.target) {
            let read = candidate.activation_values(view.graph()).map(|(_, value)| value);
            for value in read.chain(view.graph().output(candidate.op, 0)) {
                needs.add(value, Statistic::Elements);
            }
        }
        needs
    }

    fn run(&self, cx: &mut Context<'_>) -> Result<(), PassError> {
        loop {
            let ends = Ends::of(cx.graph(), cx.plan);
            let all = ruled(cx.graph(), cx.plan, cx.target);
            let slow = all.iter().filter(|it| it.is_slow(cx, &ends) == Some(true));
            let slow: BTreeMap<OpId, String> = slow.map(|it| (it.candidate.op, SLOWER.to_owned())).collect();
            if slow.is_empty() {
                return Ok(());
            }
            leave(cx, &slow);
        }
    }
}

const SLOWER: &str = "slower: it does too little for the Q and DQ that codes there need";

/// An operator of the plan whose activations become codes, with what the target asks of it.
struct Ruled<'p> {
    candidate: Candidate,
    planned: &'p Planned,
    least: LeastWork,
}

fn ruled<'p>(graph: &Graph, plan: &'p Plan, target: &Target) -> Vec<Ruled<'p>> {
    let reading_codes = plan.operators().filter(|(_, planned)| planned.activations == Activations::Codes);
    let of = |(op, planned): (OpId, &'p Planned)| {
        let least = target.rule(planned.kind)?.least_work?;
        Some(Ruled { candidate: Candidate::at(graph, op)?, planned, least })
    };
    reading_codes.filter_map(of).collect()
}

/// The values at which operators in integers meet.
struct Ends {
    written: BTreeSet<ValueId>,
    read: BTreeSet<ValueId>,
}

impl Ends {
    fn of(graph: &Graph, plan: &Plan) -> Self {
        let candidates = plan.operators().filter_map(|(op, _)| Candidate::at(graph, op));
        Self {
            written: plan.operators().flat_map(|(_, planned)| &planned.ends).map(|end| end.value).collect(),
            read: candidates
                .flat_map(|it| it.activation_values(graph).map(|(_, value)| value).collect::<Vec<_>>())
                .collect(),
        }
    }
}

impl Ruled<'_> {
    /// Whether the operator is slower in codes than in float; `None` where sizes are not known.
    fn is_slow(&self, cx: &Context<'_>, ends: &Ends) -> Option<bool> {
        let (graph, op) = (cx.graph(), self.candidate.op);
        let mut least = 0;
        for (_, value) in self.candidate.activation_values(graph) {
            least += if ends.written.contains(&value) { -self.saved(cx, value)? } else { self.cost(cx, value)? };
        }
        let output = graph.output(op, 0)?;
        let is_read = self.planned.ends.iter().any(|end| ends.read.contains(&end.value));
        least += if is_read { -self.saved(cx, output)? } else { self.cost(cx, output)? };
        if self.candidate.product_size(graph).is_some_and(|size| size < self.least.size) {
            return Some(least >= 0);
        }
        let macs = i64::try_from(self.candidate.macs(graph, cx.facts)?).ok()?;
        let is_narrow = self.least.narrow.is_some_and(|most| self.candidate.is_narrow(graph, most));
        Some(if is_narrow { -macs } else { macs } < least)
    }

    /// The multiply-accumulates that a Q or DQ of this value stands for.
    fn cost(&self, cx: &Context<'_>, value: ValueId) -> Option<i64> {
        Some(i64::try_from(self.least.per_call).ok()? + self.saved(cx, value)?)
    }

    /// The multiply-accumulates that a Q or DQ stands for that a neighbour would need. Not those of the call: small ones
    /// that stand together would keep each other.
    fn saved(&self, cx: &Context<'_>, value: ValueId) -> Option<i64> {
        i64::try_from(self.least.per_element * cx.facts.elements(cx.graph(), value)?).ok()
    }
}

#[cfg(test)]
mod tests {
    use crate::testing::check;

    #[test]
    fn between_floats() {
        check!("leave-slow/between_floats");
    }

    #[test]
    fn between_codes() {
        check!("leave-slow/between_codes");
    }

    #[test]
    fn narrow() {
        check!("leave-slow/narrow");
    }

    #[test]
    fn enough_work() {
        check!("leave-slow/enough_work");
    }

    #[test]
    fn weight_only() {
        check!("leave-slow/weight_only");
    }

    #[test]
    fn together() {
        check!("leave-slow/together");
    }
}
