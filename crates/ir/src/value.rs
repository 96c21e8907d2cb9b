//! Values: the tensors that flow between operators.

use std::fmt;

use petgraph::stable_graph::NodeIndex;

use crate::tensor::Tensor;
use crate::types::ValueType;

/// The identity of a value within its graph. Never reused, not even after the value is gone.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ValueId(pub(crate) NodeIndex<u32>);

impl ValueId {
    /// The id as a number, dense from 0 over operators and values together.
    pub fn index(self) -> usize {
        self.0.index()
    }
}

impl fmt::Debug for ValueId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "v{}", self.0.index())
    }
}

/// Where a value comes from.
#[derive(Clone, Debug, PartialEq)]
pub enum Origin {
    /// An input of the graph, with the default that an initializer of the same name gives it.
    Input(Option<Tensor>),
    /// An initializer.
    Constant(Tensor),
    /// The output of an operator.
    Produced,
    /// A value of the enclosing graph.
    Captured(ValueId),
    /// A sparse initializer, which nothing here looks into.
    Sparse,
}

impl Origin {
    /// The elements that an initializer or a default gives.
    pub fn tensor(&self) -> Option<&Tensor> {
        match self {
            Self::Constant(tensor) | Self::Input(Some(tensor)) => Some(tensor),
            _ => None,
        }
    }
}

/// A value of a graph.
#[derive(Clone, Debug)]
#[expect(clippy::struct_field_names, reason = "`type` alone is a keyword")]
pub struct Value {
    pub(crate) name: String,
    pub(crate) value_type: ValueType,
    pub(crate) origin: Origin,
    pub(crate) version: u32,
}

impl Value {
    /// A value named `name`.
    pub fn new(name: impl Into<String>, value_type: ValueType, origin: Origin) -> Self {
        Self { name: name.into(), value_type, origin, version: 0 }
    }

    /// The name, unique within the graph and the graphs around it.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The type as far as known: what the file declares, or what inference found.
    pub fn value_type(&self) -> &ValueType {
        &self.value_type
    }

    /// Where the value comes from.
    pub fn origin(&self) -> &Origin {
        &self.origin
    }

    /// Rises whenever a rewrite changes what the value is; facts are kept by value and version.
    pub fn version(&self) -> u32 {
        self.version
    }
}
