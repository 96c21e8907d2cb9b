//! How much of a model a plan computes and stores in codes.

use std::collections::BTreeSet;

use onnxq_ir::{Graph, OpId, ValueId, ops};
use onnxq_plan::{Facts, Plan, Site};
use serde::Serialize;

use crate::assign::kind::Candidate;

/// Sums over the main graph, for one sample.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Coverage {
    /// Multiply-accumulates of all products and convolutions, dimensions that are not known taken for 1.
    pub macs: u64,
    /// Those whose operands are all codes.
    pub integer_macs: u64,
    /// Elements of all float constants that operators read.
    pub weights: u64,
    /// Those that are stored as codes.
    pub integer_weights: u64,
}

impl Coverage {
    /// What a plan covers of a graph that is not lowered yet.
    pub fn of(graph: &Graph, plan: &Plan, facts: &Facts) -> Self {
        let mut coverage = Self::default();
        for op in graph.op_ids() {
            let Some(candidate) = Candidate::at(graph, op).filter(|candidate| candidate.kind.has_macs()) else {
                continue;
            };
            let macs = candidate.macs(graph, facts).unwrap_or(0);
            coverage.macs += macs;
            if candidate.operands().all(|slot| is_code(graph, plan, op, slot)) {
                coverage.integer_macs += macs;
            }
        }
        let coded: BTreeSet<ValueId> = plan.entries().filter_map(|(site, _)| site.value(graph)).collect();
        for value in graph.values() {
            let Some(tensor) = ops::constant_tensor(graph, value).filter(|tensor| tensor.element().is_float()) else {
                continue;
            };
            if graph.reader_count(value) == 0 {
                continue;
            }
            let elements = tensor.shape().iter().product::<usize>() as u64;
            coverage.weights += elements;
            coverage.integer_weights += if coded.contains(&value) { elements } else { 0 };
        }
        coverage
    }

    /// Both together.
    #[must_use]
    pub fn and(self, other: Self) -> Self {
        Self {
            macs: self.macs + other.macs,
            integer_macs: self.integer_macs + other.integer_macs,
            weights: self.weights + other.weights,
            integer_weights: self.integer_weights + other.integer_weights,
        }
    }

    /// The same for what is run so often for one sample.
    #[must_use]
    pub fn times(self, runs: f64) -> Self {
        let times = |macs: u64| (macs as f64 * runs).round() as u64;
        Self { macs: times(self.macs), integer_macs: times(self.integer_macs), ..self }
    }
}

fn is_code(graph: &Graph, plan: &Plan, op: OpId, slot: usize) -> bool {
    let written = graph.input(op, slot).map(Site::Output);
    plan.get(Site::Operand { op, slot }).is_some() || written.is_some_and(|site| plan.get(site).is_some())
}
