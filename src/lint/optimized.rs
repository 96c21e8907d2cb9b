//! A runtime's own optimized graph, to set beside a prediction: which kernels it took, by node and by count.

use std::collections::BTreeMap;

use onnxq_ir::{Graph, Model};

use super::kernels::Kernels;
use super::{Conversions, Lint};

/// The integer kernels of an optimized graph.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Taken {
    /// How many of each kernel that computes.
    pub kernels: BTreeMap<String, usize>,
    /// The kernel by the node's name.
    pub nodes: BTreeMap<String, String>,
    /// Conversions that run.
    pub running: Conversions,
}

/// A point in which prediction and runtime differ.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Difference {
    /// A kernel, or a node.
    pub what: String,
    /// What was predicted.
    pub predicted: String,
    /// What the runtime did.
    pub taken: String,
}

/// What a fusion of the runtime's appends to the name of the node that it starts from.
const JOINED: &str = "/MatMulAddFusion";

impl Taken {
    /// What the runtime took, from the model that it wrote.
    pub fn of(optimized: &Model, kernels: &Kernels) -> Self {
        let mut taken = Self::default();
        taken.add(&optimized.graph, kernels);
        taken
    }

    fn add(&mut self, graph: &Graph, kernels: &Kernels) {
        for id in graph.op_ids() {
            let op = graph.op(id);
            let domain = if op.domain() == "ai.onnx" { "" } else { op.domain() };
            let full = if domain.is_empty() { op.op_type().to_owned() } else { format!("{domain}.{}", op.op_type()) };
            match op.op_type() {
                "QuantizeLinear" => self.running.quantize += 1,
                "DequantizeLinear" => self.running.dequantize += 1,
                kernel if kernels.written(&full).is_some() => {
                    *self.kernels.entry(kernel.to_owned()).or_insert(0) += 1;
                    let name = op.name().strip_suffix(JOINED).unwrap_or(op.name());
                    self.nodes.insert(name.to_owned(), kernel.to_owned());
                }
                _ => {}
            }
            op.bodies().for_each(|body| self.add(body, kernels));
        }
    }

    /// Where a prediction is not what the runtime did: counts of kernels, then operators by name.
    pub fn differences(&self, lint: &Lint) -> Vec<Difference> {
        let mut found = Vec::new();
        let mut names: Vec<&String> = self.kernels.keys().chain(lint.kernels.keys()).collect();
        names.sort();
        names.dedup();
        for name in names {
            let count = |counts: &BTreeMap<String, usize>| counts.get(name).copied().unwrap_or(0);
            let (predicted, taken) = (count(&lint.kernels), count(&self.kernels));
            if predicted != taken {
                let (predicted, taken) = (predicted.to_string(), taken.to_string());
                found.push(Difference { what: name.clone(), predicted, taken });
            }
        }
        for verdict in &lint.verdicts {
            // A kernel made of several nodes has a name of the runtime's own.
            let predicted = match &verdict.kernel {
                Ok(kernel) if *kernel == verdict.operator || kernel.starts_with("Dynamic") => continue,
                Ok(kernel) if verdict.operator == "MatMulInteger" && kernel != "MatMulInteger" => continue,
                Ok(kernel) => kernel.as_str(),
                Err(_) => "float",
            };
            let taken = self.nodes.get(&verdict.node).map_or("float", String::as_str);
            if predicted != taken {
                let (what, predicted, taken) = (verdict.node.clone(), predicted.to_owned(), taken.to_owned());
                found.push(Difference { what, predicted, taken });
            }
        }
        found
    }
}
