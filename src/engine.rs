//! Which engine runs models: tract, which is built in, or ONNX Runtime, whose library is loaded at run time where this was
//! built with the feature `ort`.

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
    Err(Error::Option("--engine ort: this build has no onnxruntime engine; build with `--features ort`".to_owned()))
}
