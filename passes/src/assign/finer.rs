//! Plans in which some operators read and write activations of more bits.

use std::collections::BTreeSet;

use onnxq_ir::{Graph, OpId, Slot, ValueId};
use onnxq_numerics::{IntFormat, Uniform};
use onnxq_plan::{Entry, Plan, Planned, Quantizer, Scheme, Site, Target};

use super::kind::Candidate;
use super::without::own;

/// The plan with all activations that these operators read or write as codes in `format`, over the same ranges.
///
/// What shares a quantizer still does. The bias of an operator whose input becomes finer has no scale any more.
pub(crate) fn finer(graph: &Graph, plan: &Plan, ops: &BTreeSet<OpId>, (target, format): (&Target, IntFormat)) -> Plan {
    let mut fine = plan.clone();
    for value in sharing(plan, touched(graph, plan, ops)) {
        let readers = graph.readers(value).into_iter().filter_map(|reader| match reader.slot {
            Slot::Input(slot) => Some((reader.op, slot)),
            Slot::Capture => None,
        });
        for (op, slot) in readers {
            let site = Site::Operand { op, slot };
            if let Some(entry) = plan.get(site).and_then(|entry| recoded(entry.clone(), format)) {
                fine.insert(site, entry);
            }
            let bias = Candidate::at(graph, op).and_then(|candidate| candidate.bias).filter(|_| slot == 0);
            let bias = bias.map(|slot| Site::Operand { op, slot });
            if let Some(bias) = bias.filter(|&bias| fine.get(bias).is_some()) {
                fine.want(bias, Scheme::Bias);
            }
        }
        // What shares a quantizer keeps saying so, and has the scheme of its source.
        if let Some(entry) = own(plan, value).and_then(|entry| recoded(entry, format)) {
            let site = Site::Output(value);
            let scheme = plan.get(site).map(|known| known.scheme).filter(|known| matches!(known, Scheme::Shared(_)));
            let quantizer = fixed(plan, target, value, format).or(entry.quantizer);
            fine.insert(site, Entry { scheme: scheme.unwrap_or(entry.scheme), quantizer });
        }
    }
    fine
}

/// The quantizer that the runtime sets itself for what the writer of a value writes.
fn fixed(plan: &Plan, target: &Target, value: ValueId, format: IntFormat) -> Option<Quantizer> {
    let writes = |planned: &Planned| planned.ends.iter().any(|end| end.value == value);
    let (_, planned) = plan.operators().find(|(_, planned)| writes(planned))?;
    target.rule(planned.kind)?.fixed(format)
}

/// The values that these operators read or write as activations.
fn touched(graph: &Graph, plan: &Plan, ops: &BTreeSet<OpId>) -> BTreeSet<ValueId> {
    let read = ops.iter().filter_map(|&op| Candidate::at(graph, op));
    let read =
        read.flat_map(|candidate| candidate.activation_values(graph).map(|(_, value)| value).collect::<Vec<_>>());
    let planned = plan.operators().filter(|(op, _)| ops.contains(op));
    read.chain(planned.flat_map(|(_, planned)| planned.ends.iter().map(|end| end.value))).collect()
}

/// These values and all that have one quantizer with one of them.
fn sharing(plan: &Plan, mut values: BTreeSet<ValueId>) -> BTreeSet<ValueId> {
    let ends = || plan.operators().flat_map(|(_, planned)| &planned.ends);
    let pairs: Vec<(ValueId, ValueId)> = ends().filter_map(|end| Some((end.value, end.shared?))).collect();
    loop {
        let before = values.len();
        for &(value, source) in &pairs {
            if values.contains(&value) || values.contains(&source) {
                values.extend([value, source]);
            }
        }
        if values.len() == before {
            return values;
        }
    }
}

/// The same with codes in `format`; none where it is not uniform.
fn recoded(entry: Entry, format: IntFormat) -> Option<Entry> {
    match (entry.scheme, entry.quantizer) {
        (Scheme::Uniform { symmetry, granularity, .. }, Some(Quantizer::Tensor(own))) => Some(Entry {
            scheme: Scheme::Uniform { format, symmetry, granularity },
            quantizer: Some(Quantizer::Tensor(Uniform::fit(own.range(), format, symmetry))),
        }),
        _ => None,
    }
}
