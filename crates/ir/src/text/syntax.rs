//! What a text says, before names are resolved.

use crate::model::OpsetImport;
use crate::op::AttributeValue;
use crate::tensor::Tensor;
use crate::types::ValueType;

/// A name and where it stands, in bytes from the start of the text.
#[derive(Debug)]
pub(super) struct Name {
    pub(super) text: String,
    pub(super) at: usize,
}

/// A model. Local functions can't be read.
#[derive(Debug)]
pub(super) struct ModelSyntax {
    pub(super) ir_version: i64,
    pub(super) opsets: Vec<OpsetImport>,
    pub(super) graph: GraphSyntax,
}

/// A graph: the model's or a body.
#[derive(Debug)]
pub(super) struct GraphSyntax {
    pub(super) name: String,
    pub(super) inputs: Vec<Declaration>,
    pub(super) outputs: Vec<Declaration>,
    /// The initializers and `value_info` between head and nodes.
    pub(super) block: Vec<Declaration>,
    pub(super) nodes: Vec<NodeSyntax>,
}

/// A value with its type, and with its elements if it is an initializer or an input's default.
#[derive(Debug)]
pub(super) struct Declaration {
    pub(super) name: Name,
    pub(super) value_type: ValueType,
    pub(super) elements: Option<Tensor>,
}

/// An operator.
#[derive(Debug)]
pub(super) struct NodeSyntax {
    pub(super) label: String,
    pub(super) domain: String,
    pub(super) op_type: String,
    pub(super) overload: String,
    pub(super) attributes: Vec<AttributeSyntax>,
    /// Names of the inputs; an omitted one is empty.
    pub(super) inputs: Vec<Name>,
    /// Names of the outputs; an omitted one is empty.
    pub(super) outputs: Vec<Name>,
}

/// An attribute.
#[derive(Debug)]
pub(super) struct AttributeSyntax {
    pub(super) name: String,
    pub(super) value: AttributeValueSyntax,
}

/// The value of an attribute.
#[derive(Debug)]
pub(super) enum AttributeValueSyntax {
    /// One without names to resolve.
    Plain(AttributeValue),
    Graph(GraphSyntax),
    Graphs(Vec<GraphSyntax>),
}
