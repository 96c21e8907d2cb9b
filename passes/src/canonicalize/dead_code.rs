//! Removes operators and initializers that no output needs.
//!
//! # Why
//! Exporters leave operators behind, and folding leaves more: what only they read would be written, counted and run.
//!
//! # Needs
//! Nothing.
//!
//! # Effect
//! Every operator from which no way leads to an output of the graph is removed; so is every initializer that nobody
//! reads. What the bodies of a needed operator read is needed. Inputs of the graph stay, with their defaults.
//!
//! # Promise
//! Exact.
//!
//! # Declines
//! Nothing.
//!
//! # Options
//! None.

use std::collections::BTreeSet;

use onnxq_ir::{Graph, OpId, Origin, Patch, ValueId};
use serde::{Deserialize, Serialize};

use crate::pass::{Context, Pass, PassError, Promise};

/// What a recipe can set: nothing.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub(crate) struct DeadCode {}

impl Pass for DeadCode {
    fn promise(&self) -> Promise {
        Promise::Exact
    }

    fn run(&self, cx: &mut Context<'_>) -> Result<(), PassError> {
        let graph = cx.graph();
        let Some(anchor) = graph.op_ids().next() else { return Ok(()) };
        let needed = needed(graph);
        let mut patch = Patch::new(graph, "dead-code", anchor);
        for op in graph.topological().into_iter().rev().filter(|op| !needed.contains(op)) {
            patch.remove(op);
        }
        for value in unread(graph) {
            patch.forget(value);
        }
        cx.apply(patch)
    }
}

/// The operators from which a way leads to an output.
fn needed(graph: &Graph) -> BTreeSet<OpId> {
    let mut needed = BTreeSet::new();
    let mut open: Vec<ValueId> = graph.outputs().iter().map(|output| output.value).collect();
    while let Some(value) = open.pop() {
        let Some((op, _)) = graph.producer(value) else { continue };
        if needed.insert(op) {
            open.extend(graph.inputs_of(op).into_iter().flatten());
            open.extend(graph.captures_of(op));
        }
    }
    needed
}

/// Initializers that nobody reads as it is; those that only removed operators read go with these.
fn unread(graph: &Graph) -> Vec<ValueId> {
    graph
        .initializers()
        .iter()
        .copied()
        .filter(|&value| matches!(graph.value(value).origin(), Origin::Constant(_)))
        .filter(|&value| graph.reader_count(value) == 0 && !graph.is_output(value))
        .collect()
}

#[cfg(test)]
mod tests {
    use crate::testing::check;

    #[test]
    fn unused() {
        check!("dead-code/unused");
    }

    #[test]
    fn read_by_a_body() {
        check!("dead-code/read_by_a_body");
    }
}
