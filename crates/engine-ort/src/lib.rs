//! The `Evaluator` of onnxq on ONNX Runtime, whose library is loaded at run time: for models that the built-in engine can't
//! run.
//!
//! The model is encoded in memory, with the values that are asked for as its outputs, and run as it stands, without graph
//! optimizations. A plan is simulated by plain float operators at each site (`simulate`). Values are shown when a run is over, all at
//! once: memory grows with their number. Each thread has a session of its own, of one thread: results are the same bits
//! for any number of threads. `Optimizer` shows what the runtime makes of a file.
//!
//! This is the only crate that knows ort. It knows no files: how a model is encoded it is told.

mod library;
mod optimize;
mod session;
mod simulate;
mod tensor;

use onnxq_ir::{Graph, Model, OpId, Origin, RECOGNISED, ValueId, ValueType};
use onnxq_plan::{EngineError, Evaluator, Inferred, Request, Session};

pub use library::{LoadError, VARIABLE};
pub use optimize::Optimizer;

/// The engine's name in messages.
pub(crate) const NAME: &str = "onnxruntime";

/// Domains whose operators ONNX Runtime has.
const DOMAINS: &[&str] = &["", "ai.onnx", "ai.onnx.ml", "com.microsoft", RECOGNISED];

/// Makes a model's file, in memory; an error says what stands in the way.
pub type Encode = fn(&Model) -> Result<Vec<u8>, String>;

/// The engine. What follows from a graph alone it asks another engine for: ONNX Runtime does not tell.
pub struct Ort<'e> {
    encode: Encode,
    inference: &'e dyn Evaluator,
}

impl<'e> Ort<'e> {
    /// Loads the library that the environment variable [`VARIABLE`] names.
    pub fn load(encode: Encode, inference: &'e dyn Evaluator) -> Result<Self, LoadError> {
        library::load()?;
        Ok(Self { encode, inference })
    }
}

impl Evaluator for Ort<'_> {
    fn name(&self) -> &'static str {
        NAME
    }

    fn infer(&self, model: &Model) -> Result<Vec<Inferred>, EngineError> {
        self.inference.infer(model)
    }

    fn prepare<'a>(&'a self, request: &Request<'a>) -> Result<Box<dyn Session + 'a>, EngineError> {
        Ok(Box::new(session::OrtSession::new(*request, self.encode)?))
    }

    fn reachable(&self, model: &Model, values: &[ValueId]) -> Vec<ValueId> {
        let graph = &model.graph;
        let mut is_dead = vec![false; graph.id_bound()];
        let mut is_sorted = vec![false; graph.id_bound()];
        for op in graph.topological() {
            is_sorted[op.index()] = true;
            let mut reads = graph.inputs_of(op).into_iter().flatten().chain(graph.captures_of(op));
            if !has(model, graph, op) || reads.any(|value| is_dead[value.index()] || is_foreign(graph, value)) {
                graph.outputs_of(op).into_iter().flatten().for_each(|output| is_dead[output.index()] = true);
            }
        }
        let is_alive = |value: &ValueId| {
            graph.try_value(*value).is_some()
                && !is_dead[value.index()]
                && !is_foreign(graph, *value)
                && graph.producer(*value).is_none_or(|(op, _)| is_sorted[op.index()])
        };
        values.iter().copied().filter(is_alive).collect()
    }
}

/// Whether ONNX Runtime can be expected to have an operator, those in its bodies included.
fn has(model: &Model, graph: &Graph, id: OpId) -> bool {
    let op = graph.op(id);
    (DOMAINS.contains(&op.domain()) || model.function(op.domain(), op.op_type(), op.overload()).is_some())
        && op.bodies().all(|body| body.op_ids().all(|inner| has(model, body, inner)))
}

/// Values that are no dense tensors are not looked into.
fn is_foreign(graph: &Graph, value: ValueId) -> bool {
    let value = graph.value(value);
    matches!(value.value_type(), ValueType::Other(_)) || *value.origin() == Origin::Sparse
}
