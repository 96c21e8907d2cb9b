//! What can go wrong, with what to do about it, and the exit code that says whose fault it is.

use onnxq_passes::PassError;
use onnxq_plan::EngineError;

use crate::data::DataError;
use crate::onnx::{ReadError, WriteError};

/// Everything that ends a run without a result.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The model can't be read.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// The result can't be written.
    #[error(transparent)]
    Write(#[from] WriteError),
    /// Calibration or evaluation data is not usable.
    #[error(transparent)]
    Data(#[from] DataError),
    /// The engine can't run the model.
    #[error("{source}; {advice}")]
    Engine {
        /// What the engine says.
        source: EngineError,
        /// What still works.
        advice: String,
    },
    /// The engine can't run a model that is known by a name.
    #[error("{model}: {error}")]
    Model {
        /// The model's path.
        model: String,
        /// What went wrong.
        error: Box<Error>,
    },
    /// A recipe, target, preprocessing or file of statistics is unknown or malformed.
    #[error("{kind} `{name}`: {reason}")]
    Definition {
        /// `recipe`, `target` and the like.
        kind: &'static str,
        /// Its name or path.
        name: String,
        /// What is wrong, and what there is.
        reason: String,
    },
    /// An option does not fit.
    #[error("{0}")]
    Option(String),
    /// The model is of a kind that is not done yet.
    #[error("{model}: {reason}")]
    NotYet {
        /// The model's path.
        model: String,
        /// What it is, and what to do.
        reason: String,
    },
    /// The result was refused.
    #[error("{0}")]
    Refused(String),
    /// A pass can't go on.
    #[error(transparent)]
    Pass(#[from] PassError),
    /// Our own fault.
    #[error("internal error: {0}; please report it with the model and the command")]
    Broken(String),
}

impl From<EngineError> for Error {
    fn from(source: EngineError) -> Self {
        Self::Engine {
            source,
            advice: "weight-only quantization (`--bits w8`) needs no run and still works".to_owned(),
        }
    }
}

/// What is wrong with TOML text, in one line.
pub(crate) fn toml_problem(text: &str, error: &toml::de::Error) -> String {
    let message = error.message().trim().replace('\n', ", ");
    match error.span().and_then(|span| text.get(..span.start)) {
        Some(before) => format!("line {}: {message}", before.matches('\n').count() + 1),
        None => message,
    }
}

impl Error {
    /// The same, where it is about a definition, with the name that the user gave.
    pub(crate) fn in_definition(self, given: &str) -> Self {
        match self {
            Self::Definition { kind, reason, .. } => Self::Definition { kind, name: given.to_owned(), reason },
            other => other,
        }
    }

    /// The same, where it is the engine's, with the model that it is about.
    pub(crate) fn in_model(self, path: &str) -> Self {
        match self {
            Self::Engine { .. } => Self::Model { model: path.to_owned(), error: Box::new(self) },
            other => other,
        }
    }

    /// 1 refused, 2 input, data, option, engine or disk, 70 our own fault.
    pub fn exit_code(&self) -> u8 {
        match self {
            Self::Refused(_) => 1,
            Self::Pass(PassError::Width(_) | PassError::Opset { .. }) => 2,
            Self::Broken(_) | Self::Pass(_) => 70,
            _ => 2,
        }
    }
}
