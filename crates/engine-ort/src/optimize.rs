//! What ONNX Runtime makes of a file before it runs it: its optimized graph, as a file.

use std::path::Path;

use onnxq_plan::EngineError;
use ort::logging::LogLevel;
use ort::session::Session;
use ort::session::builder::GraphOptimizationLevel;

use crate::library::{self, LoadError};
use crate::session::refusal;

/// ONNX Runtime's graph optimizer.
#[derive(Debug)]
pub struct Optimizer(());

impl Optimizer {
    /// Loads the library that the environment variable [`crate::VARIABLE`] names.
    pub fn load() -> Result<Self, LoadError> {
        library::load()?;
        Ok(Self(()))
    }

    /// Loads a model as ONNX Runtime would to run it on a CPU, and writes the graph that it would run; large weights lie
    /// beside it in `WEIGHTS`. Left out is what depends on the machine: layouts for its vectors and caches.
    pub fn optimize(&self, model: &Path, optimized: &Path) -> Result<(), EngineError> {
        let build = || -> ort::Result<Session> {
            Session::builder()?
                .with_optimization_level(GraphOptimizationLevel::Level2)?
                .with_optimized_model_path(optimized)?
                // One file holds 2 GB at most.
                .with_config_entry("session.optimized_model_external_initializers_file_name", "WEIGHTS")?
                .with_config_entry("session.optimized_model_external_initializers_min_size_in_bytes", "4096")?
                .with_intra_threads(1)?
                .with_inter_threads(1)?
                .with_log_level(LogLevel::Fatal)?
                .commit_from_file(model)
        };
        build().map_err(|error| refusal(None, &error.to_string()))?;
        if optimized.is_file() { Ok(()) } else { Err(refusal(None, "no optimized graph was written")) }
    }
}
