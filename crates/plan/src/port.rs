//! Inputs and outputs of a graph that are codes.

use std::fmt;

use serde::Serialize;

/// A float input or output of which codes were wanted.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Port {
    /// The name.
    pub name: String,
    /// Which of both it is.
    pub direction: Direction,
    /// What it has become.
    #[serde(flatten)]
    pub form: PortForm,
}

/// Into the graph or out of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Direction {
    /// An input.
    Input,
    /// An output.
    Output,
}

/// What an input or output is.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(untagged)]
pub enum PortForm {
    /// Codes.
    Codes(Codes),
    /// Float, for this reason.
    Float {
        /// The reason.
        float: String,
    },
}

/// What codes mean: `(code - zero_point) * scale`.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Codes {
    /// The type, as ONNX calls it.
    #[serde(rename = "type")]
    pub element: &'static str,
    /// The scale.
    pub scale: f32,
    /// The zero point.
    pub zero_point: i32,
}

impl fmt::Display for Port {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.form {
            PortForm::Codes(Codes { element, scale, zero_point }) => {
                write!(f, "`{}` {element}, scale {scale:e}, zero point {zero_point}", self.name)
            }
            PortForm::Float { float } => write!(f, "`{}` float: {float}", self.name),
        }
    }
}
