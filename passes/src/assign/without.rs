//! Plans made of a part of a plan's operators.

use std::collections::{BTreeMap, BTreeSet};

use onnxq_ir::{Graph, OpId, ValueId};
use onnxq_plan::{Activations, Entry, Plan, Scheme, Site};

use super::chain::{Chain, Link};
use super::kind::Candidate;
use super::select_sites::leave_op;
use crate::pass::Context;

/// The plan without these operators, and the operators that are then gone too, with the reasons.
pub(crate) fn without(cx: &Context<'_>, gone: &BTreeSet<OpId>) -> (Plan, Vec<(OpId, &'static str)>) {
    let (graph, plan) = (cx.graph(), &*cx.plan);
    let links = links(graph, plan, |op| !gone.contains(&op));
    let chain = Chain::of(graph, links, cx.target);
    let mut rest = assemble(graph, plan, &chain.kept);
    rest.left_float.clone_from(&plan.left_float);
    (rest, chain.left.into_iter().map(|(candidate, reason)| (candidate.op, reason)).collect())
}

/// Takes operators out of the plan and says why.
pub(crate) fn leave(cx: &mut Context<'_>, reasons: &BTreeMap<OpId, String>) {
    if reasons.is_empty() {
        return;
    }
    let gone: BTreeSet<OpId> = reasons.keys().copied().collect();
    let (plan, others) = without(cx, &gone);
    *cx.plan = plan;
    let reasons = reasons.iter().map(|(&op, reason)| (op, reason.clone()));
    for (op, reason) in reasons.chain(others.into_iter().map(|(op, reason)| (op, reason.to_owned()))) {
        leave_op(cx, op, &reason);
    }
}

/// A plan of these operators only, chain or not: for trials.
pub(crate) fn alone(graph: &Graph, plan: &Plan, ops: &BTreeSet<OpId>) -> Plan {
    assemble(graph, plan, &links(graph, plan, |op| ops.contains(&op)))
}

fn links(graph: &Graph, plan: &Plan, wanted: impl Fn(OpId) -> bool) -> Vec<Link> {
    let of = plan.operators().filter(|(op, _)| wanted(*op));
    of.filter_map(|(op, planned)| Some(Link { candidate: Candidate::at(graph, op)?, planned: planned.clone() }))
        .collect()
}

/// The entries of these operators. What another operator quantized where it wrote it, its readers now quantize themselves.
fn assemble(graph: &Graph, plan: &Plan, links: &[Link]) -> Plan {
    let mut part = Plan::default();
    let written: BTreeSet<ValueId> = links.iter().flat_map(|link| &link.planned.ends).map(|end| end.value).collect();
    for Link { candidate, planned } in links {
        let op = candidate.op;
        part.note_operator(op, planned.clone());
        for (site, entry) in plan.operands(op) {
            part.insert(site, entry.clone());
        }
        for (slot, value) in candidate.activation_values(graph) {
            let site = Site::Operand { op, slot };
            if planned.activations == Activations::Codes
                && !written.contains(&value)
                && plan.get(site).is_none()
                && let Some(entry) = own(plan, value)
            {
                part.insert(site, entry);
            }
        }
        for end in &planned.ends {
            if let Some(mut entry) = plan.get(Site::Output(end.value)).cloned() {
                if end.shared.is_some_and(|source| !written.contains(&source)) {
                    entry = own(plan, end.value).unwrap_or(entry);
                }
                part.insert(Site::Output(end.value), entry);
            }
        }
    }
    part
}

/// The entry of a value as it is written, with a scheme of its own.
pub(crate) fn own(plan: &Plan, value: ValueId) -> Option<Entry> {
    let entry = plan.get(Site::Output(value))?;
    let mut first = entry;
    while let Scheme::Shared(source) = first.scheme {
        first = plan.get(Site::Output(source))?;
    }
    let quantizer = entry.quantizer.clone().or_else(|| first.quantizer.clone());
    Some(Entry { scheme: first.scheme, quantizer })
}
