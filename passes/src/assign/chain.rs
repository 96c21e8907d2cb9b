//! Which operators follow each other in integers.
//!
//! An operator whose kernel must write codes (`chain`, `chain-shared`) pays only where the next one reads codes: alone it
//! costs a QuantizeLinear and a DequantizeLinear of its whole output.

use std::collections::BTreeSet;

use onnxq_ir::{Graph, ValueId};
use onnxq_plan::{End, Placement, Planned};

use super::kind::Candidate;

/// A candidate with its rule.
pub(crate) struct Chosen {
    pub(crate) candidate: Candidate,
    pub(crate) placement: Placement,
    /// Activations behind the operator that a quantized output swallows.
    pub(crate) absorbs: Vec<String>,
}

/// Operators that are to be computed with codes, and those of them that can't join others.
pub(crate) struct Chain {
    pub(crate) kept: Vec<Link>,
    pub(crate) left: Vec<(Candidate, &'static str)>,
}

pub(crate) const NO_CHAIN: &str = "no-chain: its output joins no integer chain";

/// An operator that is to be computed with codes if it finds others.
pub(crate) struct Link {
    pub(crate) candidate: Candidate,
    pub(crate) planned: Planned,
}

impl Chain {
    /// Drops operators that would stand alone, until none does.
    pub(crate) fn among(graph: &Graph, chosen: Vec<Chosen>) -> Self {
        let mut left = Vec::new();
        let mut links = Vec::new();
        for Chosen { candidate, placement, absorbs } in chosen {
            match ends(graph, &candidate, placement, &absorbs) {
                Some(ends) => {
                    let planned = Planned { kind: candidate.kind, placement, ends };
                    links.push(Link { candidate, planned });
                }
                None => left.push((candidate, NO_CHAIN)),
            }
        }
        let mut chain = Self::of(graph, links);
        left.append(&mut chain.left);
        Self { left, ..chain }
    }

    /// The same of operators whose outputs are known.
    pub(crate) fn of(graph: &Graph, mut links: Vec<Link>) -> Self {
        let mut left = Vec::new();
        loop {
            let joints = Joints::of(graph, &links);
            let (stay, go): (Vec<Link>, Vec<Link>) = links.into_iter().partition(|link| joints.hold(graph, link));
            links = stay;
            if go.is_empty() {
                return Self { kept: links, left };
            }
            left.extend(go.into_iter().map(|link| (link.candidate, NO_CHAIN)));
        }
    }

    /// The values that are quantized where they are written.
    pub(crate) fn written(&self) -> BTreeSet<ValueId> {
        self.kept.iter().flat_map(|link| &link.planned.ends).map(|end| end.value).collect()
    }
}

/// Where links could meet.
struct Joints {
    written: BTreeSet<ValueId>,
    read: BTreeSet<ValueId>,
}

impl Joints {
    fn of(graph: &Graph, links: &[Link]) -> Self {
        Self {
            written: links.iter().flat_map(|link| &link.planned.ends).map(|end| end.value).collect(),
            read: links
                .iter()
                .flat_map(|link| link.candidate.activation_values(graph).map(|(_, value)| value))
                .collect(),
        }
    }

    /// Whether a link follows or precedes another, as its kind asks.
    fn hold(&self, graph: &Graph, link: &Link) -> bool {
        let mut inputs = link.candidate.activation_values(graph).map(|(_, value)| self.written.contains(&value));
        let is_read = link.planned.ends.iter().any(|end| self.read.contains(&end.value));
        match link.planned.placement {
            Placement::Inputs | Placement::Always | Placement::Float => true,
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
    if placement == Placement::Inputs {
        return Some(Vec::new());
    }
    let shared = (placement == Placement::ChainShared).then(|| graph.input(candidate.op, 0)).flatten();
    let values: Vec<ValueId> = graph.outputs_of(candidate.op).into_iter().flatten().collect();
    let end = |value| Some(End { value: end(graph, value, absorbs)?, shared });
    values.into_iter().map(end).collect::<Option<Vec<End>>>().filter(|ends| !ends.is_empty())
}

/// The value itself, or what the one activation that reads it makes of it.
fn end(graph: &Graph, value: ValueId, absorbs: &[String]) -> Option<ValueId> {
    if graph.is_output(value) {
        return None;
    }
    let readers = graph.readers(value);
    if let [reader] = readers.as_slice()
        && absorbs.iter().any(|name| graph.op(reader.op).is(name))
    {
        return graph.output(reader.op, 0).filter(|&absorbed| !graph.is_output(absorbed));
    }
    Some(value)
}
