//! A runtime's own optimized graph, to set beside a prediction: which kernels it took, by node and by count.

use std::collections::BTreeMap;

use onnxq_ir::{Graph, Model};
use serde::Serialize;

use super::judge::Counted;
use super::kernels::Kernels;
use super::sketch::Sketch;
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
    /// DequantizeLinear among them of constants with one dimension, as [`Lint::vectors`] has it.
    pub vectors: usize,
    /// Conversions that run for nothing, as [`Lint::stranded`] has it.
    pub stranded: Conversions,
}

/// A point in which prediction and runtime differ.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(untagged)]
pub enum Difference {
    /// How often a kernel is taken.
    Count {
        /// The kernel.
        kernel: String,
        /// How often it was predicted.
        predicted: usize,
        /// How often the runtime took it.
        taken: usize,
    },
    /// What a node becomes.
    Node {
        /// The node.
        node: String,
        /// The kernel that was predicted; none is float.
        predicted: Option<String>,
        /// The kernel that the runtime took; none is float.
        taken: Option<String>,
    },
}

impl std::fmt::Display for Difference {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Count { kernel, predicted, taken } => write!(f, "{taken} {kernel} where {predicted} were predicted"),
            Self::Node { node, predicted, taken } => {
                let float = |kernel: &Option<String>| kernel.clone().unwrap_or_else(|| "float".to_owned());
                write!(f, "`{node}` is {}, predicted {}", float(taken), float(predicted))
            }
        }
    }
}

/// What a fusion of the runtime's appends to the name of the node that it starts from.
const JOINED: &str = "/MatMulAddFusion";

impl Taken {
    /// What the runtime took, from the model that it wrote.
    pub fn of(optimized: &Model, kernels: &Kernels) -> Self {
        let mut taken = Self::default();
        taken.add(&optimized.graph, None, kernels);
        taken
    }

    fn add(&mut self, graph: &Graph, around: Option<&Sketch<'_>>, kernels: &Kernels) {
        let sketch = Sketch::of(graph, around);
        let counted = Counted::of(&sketch);
        self.vectors += counted.vectors;
        self.stranded += counted.stranded;
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
            op.bodies().for_each(|body| self.add(body, Some(&sketch), kernels));
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
                found.push(Difference::Count { kernel: name.clone(), predicted, taken });
            }
        }
        for verdict in &lint.verdicts {
            // A kernel made of several nodes has a name of the runtime's own.
            let predicted = match &verdict.kernel {
                Ok(kernel) if *kernel == verdict.operator || kernel.starts_with("Dynamic") => continue,
                Ok(kernel) if verdict.operator == "MatMulInteger" && kernel != "MatMulInteger" => continue,
                kernel => kernel.as_ref().ok(),
            };
            let taken = self.nodes.get(&verdict.node);
            if predicted != taken {
                let (predicted, taken) = (predicted.cloned(), taken.cloned());
                found.push(Difference::Node { node: verdict.node.clone(), predicted, taken });
            }
        }
        found
    }
}
