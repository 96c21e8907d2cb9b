//! Which engine runs models: tract, which is built in, or ONNX Runtime, whose library is loaded at run time where this was
//! built with the feature `ort`.

use std::path::Path;

use onnxq_engine::Tract;
use onnxq_plan::Evaluator;

use crate::error::Error;

/// An engine as users name it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum Engine {
    /// Built in.
    #[default]
    Tract,
    /// ONNX Runtime, from the library that ORT_DYLIB_PATH names
    Ort,
}

impl Engine {
    /// The engine, ready to run.
    ///
    /// # Errors
    /// Where this build or this machine has no ONNX Runtime.
    pub fn load(self) -> Result<Box<dyn Evaluator>, Error> {
        match self {
            Self::Tract => Ok(Box::new(Tract)),
            Self::Ort => ort(),
        }
    }
}

#[cfg(feature = "ort")]
fn ort() -> Result<Box<dyn Evaluator>, Error> {
    let encode = |model: &onnxq_ir::Model| crate::onnx::to_bytes(model).map_err(|error| error.to_string());
    match onnxq_engine_ort::Ort::load(encode, &Tract) {
        Ok(engine) => Ok(Box::new(engine)),
        Err(error) => Err(Error::Option(format!("--engine ort: {error}"))),
    }
}

#[cfg(not(feature = "ort"))]
fn ort() -> Result<Box<dyn Evaluator>, Error> {
    Err(lacking("--engine ort"))
}

/// What an option can't do in a build without the feature `ort`.
#[cfg(not(feature = "ort"))]
fn lacking(option: &str) -> Error {
    Error::Option(format!("{option}: this build has no onnxruntime engine; build with `--features ort`"))
}

/// The runtime that says what it makes of a file, for `--check-target`.
pub struct Runtime {
    #[cfg(feature = "ort")]
    optimizer: onnxq_engine_ort::Optimizer,
}

#[cfg(feature = "ort")]
impl Runtime {
    /// ONNX Runtime.
    ///
    /// # Errors
    /// Where this build or this machine has none.
    pub fn load() -> Result<Self, Error> {
        let optimizer = onnxq_engine_ort::Optimizer::load();
        let optimizer = optimizer.map_err(|error| Error::Option(format!("--check-target: {error}")))?;
        Ok(Self { optimizer })
    }

    /// Writes the graph that the runtime would run to `optimized`, weights beside it.
    ///
    /// # Errors
    /// Where the runtime does not load the model.
    pub fn optimize(&self, model: &Path, optimized: &Path) -> Result<(), Error> {
        self.optimizer
            .optimize(model, optimized)
            .map_err(|source| Error::Engine { source, advice: "so it can't be run as it is".to_owned() })
    }
}

#[cfg(not(feature = "ort"))]
impl Runtime {
    /// ONNX Runtime, which this build lacks.
    ///
    /// # Errors
    /// Always.
    pub fn load() -> Result<Self, Error> {
        Err(lacking("--check-target"))
    }

    /// Never called: there is no such runtime.
    ///
    /// # Errors
    /// Always.
    pub fn optimize(&self, _model: &Path, _optimized: &Path) -> Result<(), Error> {
        Err(lacking("--check-target"))
    }
}
