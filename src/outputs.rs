//! Which values of two forms of a model are compared: the float outputs, or what stands in for those out of reach.
//!
//! Behind a selection at the end (NonMaxSuppression, the indices of TopK, NonZero) a small difference lets other rows stand
//! in the same place, which says nothing of how near they are: what is selected from stands in.

use std::collections::BTreeSet;

use onnxq_ir::ops::fused;
use onnxq_ir::{Graph, Model, Op, OpId, ValueId};
use onnxq_plan::Evaluator;

use crate::measure::Pair;

/// The values to compare.
pub(crate) struct Watched {
    pub(crate) pairs: Vec<Pair>,
    /// Outputs that the engine can't reach or that are selected, with the values that stand in.
    pub(crate) stand_ins: Vec<(String, Vec<String>)>,
}

impl Watched {
    /// The float outputs of `reference` that the engine reaches, and the last float values before those that it doesn't.
    pub(crate) fn new(evaluator: &dyn Evaluator, reference: &Model, other: &Model) -> Self {
        let graph = &reference.graph;
        let all: Vec<ValueId> = graph.values().collect();
        let selected = selected(graph);
        let reachable = evaluator.reachable(reference, &all).into_iter().filter(|value| !selected.contains(value));
        let reachable: BTreeSet<ValueId> = reachable.collect();
        let mut watched = Self { pairs: Vec::new(), stand_ins: Vec::new() };
        let mut chosen = BTreeSet::new();
        for declared in graph.outputs() {
            let value = declared.value;
            if reachable.contains(&value) {
                if is_float(graph, value) {
                    chosen.insert(value);
                }
                continue;
            }
            let last = last_reachable(graph, value, &reachable);
            let names = last.iter().map(|&value| graph.value(value).name().to_owned()).collect();
            watched.stand_ins.push((graph.value(value).name().to_owned(), names));
            chosen.extend(last);
        }
        // Where all outputs are integers, what they are made of stands in.
        if chosen.is_empty() && watched.stand_ins.is_empty() {
            for declared in graph.outputs() {
                let last = last_reachable(graph, declared.value, &reachable);
                let names = last.iter().map(|&value| graph.value(value).name().to_owned()).collect();
                watched.stand_ins.push((graph.value(declared.value).name().to_owned(), names));
                chosen.extend(last);
            }
        }
        for value in chosen {
            let name = graph.value(value).name();
            if let Some(other) = other.graph.find_value(name) {
                watched.pairs.push(Pair { name: name.to_owned(), reference: value, other });
            }
        }
        watched
    }

    /// The names of the values by which plans are judged: the pairs', but the parts of what a Concat writes, each for itself.
    /// Boxes of 0 to 640 and scores of 0 to 1 in one output would hide what becomes of the scores.
    pub(crate) fn judged(&self, reference: &Graph, other: &Graph) -> Vec<String> {
        let parts = |value: ValueId| -> Option<Vec<String>> {
            let (op, _) = reference.producer(value).filter(|(op, _)| reference.op(*op).is("Concat"))?;
            let parts =
                reference.inputs_of(op).into_iter().flatten().filter(|&part| reference.constant(part).is_none());
            let name = |part| Some(reference.value(part).name()).filter(|name| other.find_value(name).is_some());
            parts.map(|part| name(part).map(str::to_owned)).collect()
        };
        let of = |pair: &Pair| parts(pair.reference).unwrap_or_else(|| vec![pair.name.clone()]);
        let names: BTreeSet<String> = self.pairs.iter().flat_map(of).collect();
        names.into_iter().collect()
    }
}

/// What depends on a selection from which no product or convolution reads.
fn selected(graph: &Graph) -> BTreeSet<ValueId> {
    let order = graph.topological();
    let reads = |op: OpId| graph.inputs_of(op).into_iter().flatten().chain(graph.captures_of(op));
    let mut inner: BTreeSet<ValueId> = BTreeSet::new();
    for &op in order.iter().rev() {
        let is_read = graph.outputs_of(op).into_iter().flatten().any(|value| inner.contains(&value));
        if is_read || has_weights(graph.op(op)) {
            inner.extend(reads(op));
        }
    }
    let mut selected = BTreeSet::new();
    for &op in &order {
        let outputs = graph.outputs_of(op);
        if reads(op).any(|value| selected.contains(&value)) {
            selected.extend(outputs.into_iter().flatten());
        } else {
            let first = usize::from(graph.op(op).is("TopK"));
            let chosen = outputs.into_iter().skip(first).flatten().filter(|value| !inner.contains(value));
            selected.extend(chosen.filter(|_| selects(graph.op(op))));
        }
    }
    selected
}

fn selects(op: &Op) -> bool {
    ["NonMaxSuppression", "NonZero", "TopK"].iter().any(|op_type| op.is(op_type))
}

/// Whether an operator is a product or convolution, or may have some in it.
pub(crate) fn has_weights(op: &Op) -> bool {
    const WEIGHTED: [&str; 7] = ["Conv", "ConvTranspose", "Gemm", "MatMul", "LSTM", "GRU", "RNN"];
    let is_weighted = op.is_recognised("Linear") || WEIGHTED.iter().any(|op_type| op.is(op_type));
    is_weighted || fused::has_weights(op) || op.bodies().next().is_some()
}

/// The last float values before `output` that the engine reaches.
fn last_reachable(graph: &Graph, output: ValueId, reachable: &BTreeSet<ValueId>) -> BTreeSet<ValueId> {
    let mut found = BTreeSet::new();
    let mut seen = BTreeSet::new();
    let mut queue = vec![output];
    while let Some(value) = queue.pop() {
        if !seen.insert(value) {
            continue;
        }
        match graph.producer(value) {
            Some(_) if reachable.contains(&value) && is_float(graph, value) => {
                found.insert(value);
            }
            Some((op, _)) => {
                queue.extend(graph.inputs_of(op).into_iter().flatten());
                queue.extend(graph.captures_of(op));
            }
            None => {}
        }
    }
    found
}

/// A value of unknown type is taken for float: that it is none shows when it is run.
pub(crate) fn is_float(graph: &Graph, value: ValueId) -> bool {
    graph.tensor_type(value).is_none_or(|known| known.element.is_float())
}

#[cfg(test)]
mod tests {
    use onnxq_engine::Tract;
    use onnxq_ir::text::parse;

    use super::*;

    fn judged(text: &str) -> Vec<String> {
        let model = parse(text).expect("a model");
        Watched::new(&Tract, &model, &model).judged(&model.graph, &model.graph)
    }

    #[test]
    fn parts_of_one_output_are_judged_each_for_itself() {
        let head = r#"<ir_version: 8, opset_import: ["" : 17]>
head (float[2, 3] x) => (float[2, 7] y, float[2, 3] z)
< float[2, 1] one = {1, 1} >
{ boxes = Mul (x, x) z = Sigmoid (x) y = Concat <axis = 1> (boxes, z, one) }"#;
        assert_eq!(judged(head), ["boxes", "z"]);
    }

    #[test]
    fn other_outputs_are_judged_as_they_are() {
        let plain = r#"<ir_version: 8, opset_import: ["" : 17]>
plain (float[2, 3] x) => (float[2, 3] y) { h = Mul (x, x) y = Sigmoid (h) }"#;
        assert_eq!(judged(plain), ["y"]);
    }
}
