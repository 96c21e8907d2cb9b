//! A model: a graph, its local functions, and the versions that it is written in.

use crate::graph::Graph;
use crate::op::{Attribute, AttributeValue, Op};
use crate::types::Carried;
use crate::value::{Origin, ValueId};

/// One imported operator set.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OpsetImport {
    /// The domain as written; ONNX's own is empty or `ai.onnx`.
    pub domain: String,
    /// The version.
    pub version: i64,
    /// What the reader keeps for the writer.
    pub carried: Carried,
}

/// A local function. Its definition is kept as read and is what is written, unless the body has another version.
#[derive(Clone, Debug)]
pub struct Function {
    /// The domain that calls name.
    pub domain: String,
    /// The operator type that calls name.
    pub name: String,
    /// The overload that calls name; mostly empty.
    pub overload: String,
    /// What attributes are where a call does not say it.
    pub defaults: Vec<Attribute>,
    /// The body. Attributes that refer to the call's are [`AttributeValue::Reference`].
    pub body: Graph,
    /// The encoded definition, as it will be written.
    pub encoded: Carried,
}

impl Function {
    /// The body as a call has it: an attribute that refers to the call's has the call's value, or else the default's, and is
    /// absent where neither is there.
    pub fn body_for(&self, call: &Op) -> Graph {
        let mut body = self.body.clone();
        self.settle_references(&mut body, call);
        body
    }

    fn settle_references(&self, graph: &mut Graph, call: &Op) {
        for id in graph.op_ids().collect::<Vec<_>>() {
            let op = graph.op_mut(id);
            op.attributes.retain_mut(|attribute| {
                let AttributeValue::Reference { of, .. } = &attribute.value else { return true };
                let said = call.attributes().iter().chain(&self.defaults).find(|candidate| candidate.name == *of);
                said.map(|said| attribute.value = said.value.clone()).is_some()
            });
            for body in op.bodies_mut() {
                self.settle_references(body, call);
            }
        }
    }
}

/// A model.
#[derive(Clone, Debug, Default)]
pub struct Model {
    /// The version of the file format.
    pub ir_version: i64,
    /// The operator sets, in file order.
    pub opsets: Vec<OpsetImport>,
    /// The main graph.
    pub graph: Graph,
    /// The local functions, in file order.
    pub functions: Vec<Function>,
    /// Metadata that passes add, by key; what the file has is carried, and gives way where the key is the same.
    pub metadata: Vec<(String, String)>,
    /// What the reader keeps for the writer (producer, documentation, metadata and the like).
    pub carried: Carried,
}

impl Model {
    /// The local function that an operator of this domain, type and overload calls.
    pub fn function(&self, domain: &str, name: &str, overload: &str) -> Option<&Function> {
        self.functions.iter().find(|f| f.domain == domain && f.name == name && f.overload == overload)
    }

    /// Makes constants of inputs with a default, where nobody means to override them: before version 4 of the format every
    /// initializer had to be an input too, and some exporters still list all of them, which shows in the weights.
    pub fn settle_defaults(&mut self) {
        if self.ir_version < 4 || lists_weights(&self.graph) {
            self.graph.settle_defaults();
            self.ir_version = self.ir_version.max(4);
        }
    }

    /// Moves the model to a newer version of ONNX's own operators. Operators are not converted.
    pub fn set_opset(&mut self, version: i64) {
        for import in &mut self.opsets {
            if import.domain.is_empty() || import.domain == "ai.onnx" {
                import.version = version;
            }
        }
        self.graph.set_opset(version);
    }
}

/// Whether the weight of a product or convolution is an input with a default.
fn lists_weights(graph: &Graph) -> bool {
    const WEIGHTED: [&str; 4] = ["Conv", "ConvTranspose", "Gemm", "MatMul"];
    let is_default = |value: ValueId| matches!(graph.value(value).origin(), Origin::Input(Some(_)));
    graph
        .op_ids()
        .any(|id| WEIGHTED.iter().any(|op_type| graph.op(id).is(op_type)) && graph.input(id, 1).is_some_and(is_default))
}
