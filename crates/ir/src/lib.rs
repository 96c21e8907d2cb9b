//! The graph of an ONNX model and the means to change it. Knows nothing of quantization, of files or of engines.

mod body;
pub mod graph;
pub mod inline;
pub mod model;
pub mod op;
pub mod ops;
pub mod patch;
pub mod pattern;
mod splice;
pub mod tensor;
pub mod text;
pub mod types;
pub mod value;
pub mod verify;

pub use body::Opened;
pub use graph::{Builder, Declared, Graph, Slot, Use};
pub use model::{Function, Model, OpsetImport};
pub use op::{Attribute, AttributeValue, Op, OpId, RECOGNISED};
pub use patch::{Applied, Output, Patch, PatchError};
pub use tensor::{Data, Element, Tensor, TensorError};
pub use types::{Carried, Dim, ElementType, TensorType, ValueType};
pub use value::{Origin, Value, ValueId};
pub use verify::{Defect, verify};
