//! Why a file can't be read: what, where, and what to do.

use std::io;
use std::path::{Path, PathBuf};

use onnxq_ir::TensorError;

/// Why a model can't be read.
#[derive(Debug, thiserror::Error)]
#[error("{}{problem}", shown(.file.as_deref()))]
pub struct ReadError {
    /// The file, where there is one.
    pub file: Option<PathBuf>,
    /// What is wrong with it.
    #[source]
    pub problem: Box<ReadProblem>,
}

fn shown(file: Option<&Path>) -> String {
    file.map_or_else(String::new, |file| format!("{}: ", file.display()))
}

/// What is wrong with a model.
#[derive(Debug, thiserror::Error)]
pub enum ReadProblem {
    /// The file can't be opened.
    #[error("can't be opened: {0}")]
    Open(io::Error),
    /// A folder, device or pipe.
    #[error("is a folder or no regular file; give the path of an ONNX model")]
    NoFile,
    /// A file without bytes.
    #[error("is empty; an ONNX model was expected")]
    Empty,
    /// A file of text.
    #[error("is a text file, not an ONNX model{0}")]
    Text(&'static str),
    /// Bytes that don't begin as a model does.
    #[error("is not an ONNX model")]
    NotOnnx,
    /// The file ends within a field.
    #[error("is truncated: {missing} bytes are missing at least; copy or download it again")]
    Truncated {
        /// Bytes that the last field claims beyond the end.
        missing: u64,
    },
    /// Bytes that are no protobuf, or of another structure than ONNX's.
    #[error("is damaged, or not an ONNX model: {0}")]
    Damaged(String),
    /// Messages within messages.
    #[error("has graphs nested too deeply; 33 levels are supported")]
    TooDeep,
    /// More than a model in earnest has, and more than memory may hold.
    #[error("has {what}; that is more than is supported ({limit})")]
    TooMuch {
        /// What there is too much of.
        what: &'static str,
        /// How much would be fine.
        limit: u64,
    },
    /// A field of a newer format, which would be lost.
    #[error(
        "has field {number} in a `{message}`, which this version does not know and would lose; update onnxq, or save the model with an older ONNX"
    )]
    UnknownField {
        /// The message's name in ONNX.
        message: &'static str,
        /// The field's number.
        number: u32,
    },
    /// A model without a graph.
    #[error("has no graph; it is no ONNX model, or truncated")]
    NoGraph,
    /// A model without operator sets.
    #[error("imports no operator set; it is truncated, or no ONNX model")]
    NoOpset,
    /// A declaration without a name.
    #[error("graph `{graph}`: {what} {index} has no name")]
    Unnamed {
        /// The graph's name.
        graph: String,
        /// What is declared.
        what: &'static str,
        /// Its place in the list.
        index: usize,
    },
    /// Two definitions of one value.
    #[error("graph `{graph}`: value `{value}` is defined twice, the second time by {by}")]
    Duplicate {
        /// The graph's name.
        graph: String,
        /// The value's name.
        value: String,
        /// The second definition.
        by: String,
    },
    /// A value that is read but never defined.
    #[error("{reader} reads `{value}`, which nothing defines")]
    Undefined {
        /// The reader.
        reader: String,
        /// The value's name.
        value: String,
    },
    /// An attribute that says neither its type nor leaves no doubt about it.
    #[error("{node}: attribute `{attribute}` does not say which type it has")]
    Untyped {
        /// The node.
        node: String,
        /// The attribute's name.
        attribute: String,
    },
    /// A tensor that can't be read.
    #[error("{place}: {problem}")]
    Tensor {
        /// Where the tensor is.
        place: String,
        /// What is wrong with it.
        #[source]
        problem: TensorProblem,
    },
}

/// What is wrong with a tensor.
#[derive(Debug, thiserror::Error)]
pub enum TensorProblem {
    /// No element type, or one of a newer ONNX.
    #[error("unknown element type {0}")]
    ElementType(i32),
    /// A dimension below zero.
    #[error("dimension {0} is negative")]
    Dimension(i64),
    /// Part of a tensor.
    #[error("tensors in segments are not supported; store it whole")]
    Segment,
    /// Shape and data don't agree.
    #[error(transparent)]
    Data(#[from] TensorError),
    /// Too few or too many elements in the field of its type.
    #[error("needs {need} entries in `{field}`, not {have}")]
    Entries {
        /// The field.
        field: &'static str,
        /// Entries that shape and element type ask for.
        need: usize,
        /// Entries that are there.
        have: usize,
    },
    /// An entry that is no element.
    #[error("entry {entry} of `{field}` is no {element}")]
    Entry {
        /// The field.
        field: &'static str,
        /// The entry.
        entry: i128,
        /// The element type.
        element: &'static str,
    },
    /// Strings as raw data.
    #[error("strings can't be stored as raw or external data")]
    RawStrings,
    /// External data and data in the model.
    #[error("has its data both in the model and outside")]
    Both,
    /// External data that can't be had.
    #[error("external data: {0}")]
    External(#[from] ExternalProblem),
    /// Bytes that are no protobuf.
    #[error("is damaged, or no tensor: {0}")]
    Damaged(String),
}

/// What is wrong with external data.
#[derive(Debug, thiserror::Error)]
pub enum ExternalProblem {
    /// No file is named.
    #[error("no location is given")]
    NoLocation,
    /// There is no folder to look in.
    #[error("`{0}` lies in another file, but the model has no folder")]
    NoFolder(String),
    /// A path that leads elsewhere.
    #[error("`{0}` is not below the model's folder; put the data beside the model")]
    Outside(String),
    /// The file can't be opened.
    #[error("`{location}` can't be opened: {source}; put the data beside the model")]
    Open {
        /// The file as named by the model.
        location: String,
        /// Why.
        source: io::Error,
    },
    /// A folder, device or pipe.
    #[error("`{0}` is no regular file")]
    NoFile(String),
    /// Offset or length that is no number.
    #[error("{key} `{value}` is no number of bytes")]
    Number {
        /// `offset` or `length`.
        key: &'static str,
        /// What is there.
        value: String,
    },
    /// A length that is not the tensor's.
    #[error("length is {have} bytes, but type and shape need {need}")]
    Length {
        /// Bytes that type and shape ask for.
        need: usize,
        /// Bytes that the entry says.
        have: u64,
    },
    /// A region that is not in the file.
    #[error("`{location}` has {have} bytes, but {need} are needed; it is truncated, or belongs to another model")]
    Short {
        /// The file as named by the model.
        location: String,
        /// End of the tensor in the file.
        need: u64,
        /// Length of the file.
        have: u64,
    },
}
