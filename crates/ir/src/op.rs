//! Operators and their attributes.
//!
//! Attributes are read in `ops/` (typed views), by the file reader and writer, and nowhere else.

use std::fmt;

use bytes::Bytes;
use petgraph::stable_graph::NodeIndex;

use crate::graph::Graph;
use crate::tensor::Tensor;
use crate::types::Carried;

/// The identity of an operator within its graph. Never reused, not even after the operator is gone.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct OpId(pub(crate) NodeIndex<u32>);

impl OpId {
    /// The id as a number, dense from 0 over operators and values together.
    pub fn index(self) -> usize {
        self.0.index()
    }
}

impl fmt::Debug for OpId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "op{}", self.0.index())
    }
}

/// The value of an attribute.
#[derive(Clone, Debug)]
pub enum AttributeValue {
    /// INT
    Int(i64),
    /// FLOAT
    Float(f32),
    /// STRING
    String(Bytes),
    /// TENSOR
    Tensor(Tensor),
    /// GRAPH
    Graph(Box<Graph>),
    /// INTS
    Ints(Vec<i64>),
    /// FLOATS
    Floats(Vec<f32>),
    /// STRINGS
    Strings(Vec<Bytes>),
    /// TENSORS
    Tensors(Vec<Tensor>),
    /// GRAPHS
    Graphs(Vec<Graph>),
    /// In a local function: what the call's attribute of this name says.
    Reference {
        /// The name of the call's attribute.
        of: String,
        /// The encoded `AttributeProto`.
        encoded: Carried,
    },
    /// Anything else (a sparse tensor, a type): the encoded `AttributeProto`.
    Opaque(Carried),
}

/// A named attribute of an operator.
#[derive(Clone, Debug)]
pub struct Attribute {
    /// The name.
    pub name: String,
    /// The value.
    pub value: AttributeValue,
    /// What the reader keeps for the writer.
    pub carried: Carried,
}

impl Attribute {
    /// An attribute as a pass makes it.
    pub fn new(name: impl Into<String>, value: AttributeValue) -> Self {
        Self { name: name.into(), value, carried: Carried::default() }
    }

    /// An INT attribute.
    pub fn int(name: &str, value: i64) -> Self {
        Self::new(name, AttributeValue::Int(value))
    }

    /// A FLOAT attribute.
    pub fn float(name: &str, value: f32) -> Self {
        Self::new(name, AttributeValue::Float(value))
    }

    /// An INTS attribute.
    pub fn ints(name: &str, value: impl Into<Vec<i64>>) -> Self {
        Self::new(name, AttributeValue::Ints(value.into()))
    }

    /// A STRING attribute.
    pub fn string(name: &str, value: &str) -> Self {
        Self::new(name, AttributeValue::String(Bytes::copy_from_slice(value.as_bytes())))
    }
}

/// The domain of recognised operators. They never reach a file: the writer expands them.
pub const RECOGNISED: &str = "onnxq";

/// An operator of a graph. Its inputs and outputs are the graph's edges.
#[derive(Clone, Debug)]
#[expect(clippy::struct_field_names, reason = "`op_type` is ONNX's own name")]
pub struct Op {
    pub(crate) domain: String,
    pub(crate) op_type: String,
    pub(crate) overload: String,
    pub(crate) name: String,
    pub(crate) attributes: Vec<Attribute>,
    /// Slots as written, omitted ones included.
    pub(crate) input_arity: usize,
    pub(crate) output_arity: usize,
    pub(crate) order: u64,
    pub(crate) carried: Carried,
}

impl Op {
    /// An operator without inputs and outputs yet.
    pub fn new(domain: impl Into<String>, op_type: impl Into<String>, attributes: Vec<Attribute>) -> Self {
        Self {
            domain: domain.into(),
            op_type: op_type.into(),
            overload: String::new(),
            name: String::new(),
            attributes,
            input_arity: 0,
            output_arity: 0,
            order: 0,
            carried: Carried::default(),
        }
    }

    /// The same operator with this node name.
    #[must_use]
    pub fn named(mut self, name: impl Into<String>) -> Self {
        self.name = name.into();
        self
    }

    /// The same operator with this overload.
    #[must_use]
    pub fn overloaded(mut self, overload: impl Into<String>) -> Self {
        self.overload = overload.into();
        self
    }

    /// The same operator with what the reader wants kept for the writer.
    #[must_use]
    pub fn with_carried(mut self, carried: Carried) -> Self {
        self.carried = carried;
        self
    }

    /// The domain; empty for ONNX's own (a file's `ai.onnx` is kept as written).
    pub fn domain(&self) -> &str {
        &self.domain
    }

    /// The operator type, such as `MatMul`.
    pub fn op_type(&self) -> &str {
        &self.op_type
    }

    /// Which overload of a local function is called; mostly empty.
    pub fn overload(&self) -> &str {
        &self.overload
    }

    /// The node's name; may be empty.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The attributes in file order.
    pub fn attributes(&self) -> &[Attribute] {
        &self.attributes
    }

    /// What the reader keeps for the writer.
    pub fn carried(&self) -> &Carried {
        &self.carried
    }

    /// Input slots as written, omitted ones included.
    pub fn input_arity(&self) -> usize {
        self.input_arity
    }

    /// Output slots as written, omitted ones included.
    pub fn output_arity(&self) -> usize {
        self.output_arity
    }

    /// A key that orders operators as the file has them; new ones share that of the operator they stand at.
    pub fn order_key(&self) -> u64 {
        self.order
    }

    /// Whether this is ONNX's own operator of that type.
    pub fn is(&self, op_type: &str) -> bool {
        self.op_type == op_type && (self.domain.is_empty() || self.domain == "ai.onnx")
    }

    /// Whether this is the recognised operator of that type.
    pub fn is_recognised(&self, op_type: &str) -> bool {
        self.op_type == op_type && self.domain == RECOGNISED
    }

    /// The graphs that the operator owns (If, Loop and Scan bodies).
    pub fn bodies(&self) -> impl Iterator<Item = &Graph> {
        self.attributes.iter().flat_map(|attribute| match &attribute.value {
            AttributeValue::Graph(graph) => std::slice::from_ref(&**graph),
            AttributeValue::Graphs(graphs) => graphs.as_slice(),
            _ => &[],
        })
    }

    pub(crate) fn bodies_mut(&mut self) -> impl Iterator<Item = &mut Graph> {
        self.attributes.iter_mut().flat_map(|attribute| match &mut attribute.value {
            AttributeValue::Graph(graph) => std::slice::from_mut(&mut **graph),
            AttributeValue::Graphs(graphs) => graphs.as_mut_slice(),
            _ => &mut [],
        })
    }

    pub(crate) fn attribute(&self, name: &str) -> Option<&AttributeValue> {
        self.attributes.iter().find(|attribute| attribute.name == name).map(|attribute| &attribute.value)
    }

    pub(crate) fn int(&self, name: &str) -> Option<i64> {
        match self.attribute(name)? {
            AttributeValue::Int(value) => Some(*value),
            _ => None,
        }
    }

    pub(crate) fn float(&self, name: &str) -> Option<f32> {
        match self.attribute(name)? {
            AttributeValue::Float(value) => Some(*value),
            _ => None,
        }
    }

    pub(crate) fn ints(&self, name: &str) -> Option<&[i64]> {
        match self.attribute(name)? {
            AttributeValue::Ints(value) => Some(value),
            _ => None,
        }
    }

    pub(crate) fn text(&self, name: &str) -> Option<&str> {
        match self.attribute(name)? {
            AttributeValue::String(value) => std::str::from_utf8(value).ok(),
            _ => None,
        }
    }

    pub(crate) fn tensor(&self, name: &str) -> Option<&Tensor> {
        match self.attribute(name)? {
            AttributeValue::Tensor(value) => Some(value),
            _ => None,
        }
    }
}
