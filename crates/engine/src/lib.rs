//! The `Evaluator` of onnxq on tract: runs graphs, with or without a plan, and shows any of their values.
//!
//! This is the only crate that knows tract. What it takes care of: tract ignores domains and computes a few operators
//! wrong (`support`), its quantization operators differ from ONNX's (`quantize`, `simulate`), and it panics on some
//! graphs (`guard`).
//!
//! Results are the same bits in every run and for any number of threads, on one kind of processor: kernels are chosen by
//! the instruction set. The environment variables `TRACT_CPU_ISA`, `TRACT_X86_KIND` and others that begin with `TRACT_`
//! change that choice; who needs reproducible bits must not set them.

mod fake;
mod guard;
mod infer;
mod load;
mod marked;
mod quantize;
mod rewrite;
mod session;
mod simulate;
mod split;
mod squeeze;
mod support;
mod tensor;
#[cfg(test)]
mod tests;

use onnxq_ir::{Model, ValueId};
use onnxq_plan::{EngineError, Evaluator, Inferred, Request, Session};

use crate::guard::Failure;
use crate::load::Upstream;

/// The engine's name in messages.
pub(crate) const NAME: &str = "tract";

fn refusal(failure: Failure) -> EngineError {
    EngineError::Prepare { engine: NAME, node: failure.node, reason: failure.reason }
}

/// The engine.
#[derive(Clone, Copy, Debug, Default)]
pub struct Tract;

impl Evaluator for Tract {
    fn name(&self) -> &'static str {
        NAME
    }

    fn infer(&self, model: &Model) -> Result<Vec<Inferred>, EngineError> {
        infer::infer(model)
    }

    fn prepare<'a>(&'a self, request: &Request<'a>) -> Result<Box<dyn Session + 'a>, EngineError> {
        let Model { graph, functions, .. } = request.model;
        let standard = rewrite::standard(graph, functions).map_err(refusal)?;
        let graph = standard.as_ref().unwrap_or(graph);
        let upstream = Upstream::of(graph, request.taps);
        let operators = support::refused(graph, |op| upstream.has_op(op));
        if operators.is_empty() {
            Ok(Box::new(session::TractSession::new(*request, rewrite::deciding_inputs(graph))))
        } else {
            Err(EngineError::Unsupported { engine: NAME, operators })
        }
    }

    fn reachable(&self, model: &Model, values: &[ValueId]) -> Vec<ValueId> {
        let Model { graph, functions, .. } = model;
        let standard = rewrite::standard(graph, functions).ok().flatten();
        support::reachable(standard.as_ref().unwrap_or(graph), values, &[])
    }
}
