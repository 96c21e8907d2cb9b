//! Which operators follow each other in integers.
//!
//! An operator whose kernel must write codes (`chain`, `chain-shared`) pays only where the next one reads codes: alone it
//! costs a QuantizeLinear and a DequantizeLinear of its whole output.

use std::collections::BTreeSet;

use onnxq_ir::{Graph, OpId, ValueId};
use onnxq_plan::{Activations, End, Placement, Planned, Target};

use super::kind::Candidate;
use super::residual;

/// A candidate with its rule.
pub(crate) struct Chosen {
    pub(crate) candidate: Candidate,
    pub(crate) placement: Placement,
    pub(crate) activations: Activations,
    /// Activations behind the operator that a quantized output swallows.
    pub(crate) absorbs: Vec<String>,
}

/// Operators that are to be computed with codes, and those of them that can't join others.
pub(crate) struct Chain {
    pub(crate) kept: Vec<Link>,
    pub(crate) left: Vec<(Candidate, &'static str)>,
}

/// Why an operator stays float whose kernel is well: its codes would change the operator in front of it.
pub(crate) const AT_LOAD: &str = "at-load: what it reads comes of a float operator between codes, of whose weights the \
                                  runtime would make codes of its own";

pub(crate) const NO_CHAIN: &str = "no-chain: its output joins no integer chain";

/// An operator that is to be computed with codes if it finds others.
pub(crate) struct Link {
    pub(crate) candidate: Candidate,
    pub(crate) planned: Planned,
}

impl Chain {
    /// Drops operators that would stand alone, until none does.
    pub(crate) fn among(graph: &Graph, chosen: Vec<Chosen>, target: &Target) -> Self {
        let mut left = Vec::new();
        let mut links = Vec::new();
        for Chosen { candidate, placement, activations, absorbs } in chosen {
            match ends(graph, &candidate, placement, &absorbs) {
                Some(ends) => {
                    let planned = Planned { kind: candidate.kind, placement, activations, ends };
                    links.push(Link { candidate, planned });
                }
                None => left.push((candidate, NO_CHAIN)),
            }
        }
        let swallowed = swallowed(graph, &links);
        links.retain(|link| !swallowed.contains(&link.candidate.op));
        let mut chain = Self::of(graph, links, target);
        left.append(&mut chain.left);
        Self { left, ..chain }
    }

    /// The same of operators whose outputs are known.
    pub(crate) fn of(graph: &Graph, mut links: Vec<Link>, target: &Target) -> Self {
        let mut left = Vec::new();
        loop {
            let joints = Joints::of(graph, &links);
            let (stay, alone): (Vec<Link>, Vec<Link>) = links.into_iter().partition(|link| joints.hold(graph, link));
            links = stay;
            if !alone.is_empty() {
                left.extend(alone.into_iter().map(|link| (link.candidate, NO_CHAIN)));
                continue;
            }
            let changes = |link: &Link| joints.change(graph, link, target);
            let (stay, behind): (Vec<Link>, Vec<Link>) = links.into_iter().partition(|link| !changes(link));
            if behind.is_empty() {
                return Self { kept: stay, left };
            }
            left.extend(behind.into_iter().map(|link| (link.candidate, AT_LOAD)));
            links = stay;
        }
    }

    /// The values that are quantized where they are written.
    pub(crate) fn written(&self) -> BTreeSet<ValueId> {
        self.kept.iter().flat_map(|link| &link.planned.ends).map(|end| end.value).collect()
    }
}

/// Activations that another operator's quantized output swallows: they need nothing of their own.
fn swallowed(graph: &Graph, links: &[Link]) -> BTreeSet<OpId> {
    let of = |link: &Link| {
        let writers = link.planned.ends.iter().filter_map(|end| graph.producer(end.value)).map(|(op, _)| op);
        writers.filter(|&op| op != link.candidate.op).collect::<Vec<_>>()
    };
    links.iter().flat_map(of).collect()
}

/// Where links could meet.
struct Joints {
    /// Convolutions that are computed in integers.
    convolutions: BTreeSet<OpId>,
    computed: BTreeSet<OpId>,
    written: BTreeSet<ValueId>,
    read: BTreeSet<ValueId>,
}

impl Joints {
    fn of(graph: &Graph, links: &[Link]) -> Self {
        let is_convolution = |link: &&Link| residual::is_convolution(link.candidate.kind);
        Self {
            convolutions: links.iter().filter(is_convolution).map(|link| link.candidate.op).collect(),
            computed: links.iter().map(|link| link.candidate.op).collect(),
            written: links.iter().flat_map(|link| &link.planned.ends).map(|end| end.value).collect(),
            read: links
                .iter()
                .flat_map(|link| link.candidate.activation_values(graph).map(|(_, value)| value))
                .collect(),
        }
    }

    /// Whether the codes that a link reads make the runtime quantize the weights of the float operator that writes them, which
    /// stands between a DQ and a Q then, if nobody else reads what it writes.
    fn change(&self, graph: &Graph, link: &Link, target: &Target) -> bool {
        let all_compute = |value| graph.readers(value).iter().all(|reader| self.computed.contains(&reader.op));
        let is_between_codes = |value: ValueId| {
            !graph.is_output(value) && all_compute(value) && self.float_writer(graph, value, target).is_some()
        };
        link.planned.activations == Activations::Codes
            && link.candidate.activation_values(graph).any(|(_, value)| is_between_codes(value))
    }

    /// The float operator, with an activation that its output would swallow, that makes this value of codes, where the target's
    /// runtime would quantize its weights.
    fn float_writer(&self, graph: &Graph, value: ValueId, target: &Target) -> Option<Candidate> {
        let (mut op, _) = graph.producer(value)?;
        let absorbed = || target.operators.iter().flat_map(|rule| &rule.absorbs);
        if absorbed().any(|name| graph.op(op).is(name)) {
            let inner =
                graph.input(op, 0).filter(|&inner| graph.reader_count(inner) == 1 && !graph.is_output(inner))?;
            (op, _) = graph.producer(inner)?;
        }
        let writer = Candidate::at(graph, op).filter(|it| target.quantizes_at_load.contains(&it.kind))?;
        let reads_codes = graph.input(op, 0).is_some_and(|x| self.written.contains(&x));
        let is_float = !self.computed.contains(&op) && writer.weight.is_some() && writer.is_one_node(graph);
        (is_float && reads_codes).then_some(writer)
    }

    /// Whether a link follows or precedes another, as its kind asks.
    fn hold(&self, graph: &Graph, link: &Link) -> bool {
        let mut inputs = link.candidate.activation_values(graph).map(|(_, value)| self.written.contains(&value));
        let is_read = link.planned.ends.iter().any(|end| self.read.contains(&end.value));
        match link.planned.placement {
            Placement::Inputs | Placement::Always | Placement::Whole | Placement::WholeShared | Placement::Float => {
                true
            }
            Placement::Residual => {
                residual::branches(graph, link.candidate.op).any(|branch| self.convolutions.contains(&branch.writer))
            }
            // Moving codes is no gain in itself.
            Placement::ChainShared => is_read && inputs.all(|is_end| is_end),
            // A Q on one float operand costs no more than one behind a float result.
            Placement::Chain if link.candidate.weight.is_none() => {
                let inputs: Vec<bool> = inputs.collect();
                inputs.iter().all(|&is_end| is_end) || (is_read && inputs.contains(&true))
            }
            Placement::Chain => is_read || inputs.any(|is_end| is_end),
        }
    }
}

/// What is quantized behind an operator; none where an output of the graph would be.
fn ends(graph: &Graph, candidate: &Candidate, placement: Placement, absorbs: &[String]) -> Option<Vec<End>> {
    if matches!(placement, Placement::Inputs | Placement::Residual) {
        return Some(Vec::new());
    }
    let shared = placement.is_shared().then(|| graph.input(candidate.op, 0)).flatten();
    let values: Vec<ValueId> = graph.outputs_of(candidate.op).into_iter().flatten().collect();
    let end = |value| {
        let value = if placement.is_whole() { absorbed(graph, value, absorbs) } else { end(graph, value, absorbs)? };
        Some(End { value, shared })
    };
    values.into_iter().map(end).collect::<Option<Vec<End>>>().filter(|ends| !ends.is_empty())
}

/// The value itself, or what the one activation that reads it makes of it; none where that is an output of the graph.
fn end(graph: &Graph, value: ValueId, absorbs: &[String]) -> Option<ValueId> {
    (!graph.is_output(value)).then(|| absorbed(graph, value, absorbs)).filter(|&value| !graph.is_output(value))
}

/// The value itself, or what the one activation that reads it makes of it.
fn absorbed(graph: &Graph, value: ValueId, absorbs: &[String]) -> ValueId {
    let readers = graph.readers(value);
    let [reader] = readers.as_slice() else { return value };
    let is_absorbed = !graph.is_output(value) && absorbs.iter().any(|name| graph.op(reader.op).is(name));
    is_absorbed.then(|| graph.output(reader.op, 0)).flatten().unwrap_or(value)
}
