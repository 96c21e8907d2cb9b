//! From syntax to graphs: gives every name its value, across the graphs around.

use std::collections::BTreeMap;

use super::error::{ParseError, Problem};
use super::syntax::{AttributeSyntax, AttributeValueSyntax, Declaration, GraphSyntax, ModelSyntax, Name, NodeSyntax};
use crate::graph::{Builder, Declared, Graph};
use crate::model::Model;
use crate::op::{Attribute, AttributeValue, Op};
use crate::types::{Carried, TensorType, ValueType};
use crate::value::{Origin, Value, ValueId};

/// The model; `text` is what errors point into.
pub(super) fn model(model: ModelSyntax, text: &str) -> Result<Model, ParseError> {
    let own = model.opsets.iter().find(|import| import.domain.is_empty() || import.domain == "ai.onnx");
    // A file that imports nothing is in version 1 of ONNX's own operators.
    let mut resolver = Resolver { text, opset: own.map_or(1, |import| import.version), scopes: Vec::new() };
    let graph = resolver.graph(model.graph)?;
    Ok(Model {
        ir_version: model.ir_version,
        opsets: model.opsets,
        graph,
        functions: Vec::new(),
        metadata: Vec::new(),
        carried: Carried::default(),
    })
}

struct Resolver<'a> {
    text: &'a str,
    opset: i64,
    /// The graphs around what is being built, the model's first, the innermost last.
    scopes: Vec<Builder>,
}

impl Resolver<'_> {
    fn graph(&mut self, graph: GraphSyntax) -> Result<Graph, ParseError> {
        let mut scope = Builder::new(graph.name, self.opset);
        let (initializers, infos): (Vec<_>, Vec<_>) =
            graph.block.into_iter().partition(|entry| entry.elements.is_some());
        let inputs = self.define_constants(&mut scope, graph.inputs, initializers)?;
        self.define_inputs(&mut scope, inputs)?;
        self.define_outputs(&mut scope, &graph.nodes)?;
        self.scopes.push(scope);
        for info in infos {
            let declared = self.declared(info)?;
            self.innermost().declare_value_info(declared);
        }
        for output in graph.outputs {
            let declared = self.declared(output)?;
            self.innermost().declare_output(declared);
        }
        for node in graph.nodes {
            self.node(node)?;
        }
        Ok(self.scopes.pop().unwrap_or_default().finish())
    }

    /// Adds initializers and defaults in the order of the text; returns the inputs.
    fn define_constants(
        &self,
        scope: &mut Builder,
        mut inputs: Vec<Declaration>,
        initializers: Vec<Declaration>,
    ) -> Result<Vec<Declaration>, ParseError> {
        let mut input_types: BTreeMap<String, ValueType> = BTreeMap::new();
        for input in &inputs {
            if input_types.insert(input.name.text.clone(), input.value_type.clone()).is_some() {
                return Err(self.twice(&input.name));
            }
        }
        let defaults = inputs.iter_mut().filter_map(|input| Some((copy(&input.name), input.elements.take()?)));
        let rest = initializers.into_iter().filter_map(|entry| Some((entry.name, entry.elements?)));
        for (name, tensor) in defaults.chain(rest) {
            self.check_new(scope, &name)?;
            let value = if let Some(value_type) = input_types.get(&name.text) {
                Value::new(name.text, value_type.clone(), Origin::Input(Some(tensor)))
            } else {
                let tensor_type = TensorType::fixed(tensor.element(), tensor.shape());
                Value::new(name.text, ValueType::Tensor(tensor_type), Origin::Constant(tensor))
            };
            scope.add_value(value);
        }
        Ok(inputs)
    }

    fn define_inputs(&self, scope: &mut Builder, inputs: Vec<Declaration>) -> Result<(), ParseError> {
        for Declaration { name, value_type, .. } in inputs {
            let value = if let Some(with_default) = scope.find_value(&name.text) {
                with_default
            } else {
                self.check_new(scope, &name)?;
                scope.add_value(Value::new(name.text, value_type.clone(), Origin::Input(None)))
            };
            scope.declare_input(Declared { value, value_type, carried: Carried::default() });
        }
        Ok(())
    }

    fn define_outputs(&self, scope: &mut Builder, nodes: &[NodeSyntax]) -> Result<(), ParseError> {
        for output in nodes.iter().flat_map(|node| &node.outputs).filter(|output| !output.text.is_empty()) {
            self.check_new(scope, output)?;
            scope.add_value(Value::new(output.text.clone(), ValueType::Unknown, Origin::Produced));
        }
        Ok(())
    }

    fn check_new(&self, scope: &Builder, name: &Name) -> Result<(), ParseError> {
        if name.text.is_empty() {
            let problem =
                Problem::Expected { expected: "the name of a value".to_owned(), found: "an empty one".to_owned() };
            return Err(problem.at(self.text, name.at));
        }
        if scope.find_value(&name.text).is_some() { Err(self.twice(name)) } else { Ok(()) }
    }

    fn twice(&self, name: &Name) -> ParseError {
        Problem::Twice(name.text.clone()).at(self.text, name.at)
    }

    /// A declaration of a value that the graph has; the value learns its type unless it knows it.
    fn declared(&mut self, declaration: Declaration) -> Result<Declared, ParseError> {
        let Declaration { name, value_type, .. } = declaration;
        let value = self.resolve(&name)?;
        let scope = self.innermost();
        if *scope.value(value).value_type() == ValueType::Unknown {
            scope.set_value_type(value, value_type.clone());
        }
        Ok(Declared { value, value_type, carried: Carried::default() })
    }

    fn node(&mut self, node: NodeSyntax) -> Result<(), ParseError> {
        let attributes =
            node.attributes.into_iter().map(|attribute| self.attribute(attribute)).collect::<Result<_, _>>()?;
        let inputs = self.slots(&node.inputs)?;
        let outputs = self.slots(&node.outputs)?;
        let op = Op::new(node.domain, node.op_type, attributes).named(node.label).overloaded(node.overload);
        self.innermost().add_op(op, &inputs, &outputs);
        Ok(())
    }

    fn attribute(&mut self, attribute: AttributeSyntax) -> Result<Attribute, ParseError> {
        let value = match attribute.value {
            AttributeValueSyntax::Plain(value) => value,
            AttributeValueSyntax::Graph(graph) => AttributeValue::Graph(Box::new(self.graph(graph)?)),
            AttributeValueSyntax::Graphs(graphs) => {
                AttributeValue::Graphs(graphs.into_iter().map(|graph| self.graph(graph)).collect::<Result<_, _>>()?)
            }
        };
        Ok(Attribute::new(attribute.name, value))
    }

    fn slots(&mut self, names: &[Name]) -> Result<Vec<Option<ValueId>>, ParseError> {
        names.iter().map(|name| if name.text.is_empty() { Ok(None) } else { self.resolve(name).map(Some) }).collect()
    }

    /// The value with this name in the innermost graph, captured from a graph around where it isn't its own.
    fn resolve(&mut self, name: &Name) -> Result<ValueId, ParseError> {
        let found =
            self.scopes.iter().enumerate().rev().find_map(|(i, scope)| Some((i, scope.find_value(&name.text)?)));
        let Some((owner, mut value)) = found else {
            return Err(Problem::Undefined(name.text.clone()).at(self.text, name.at));
        };
        let value_type = self.scopes[owner].value(value).value_type().clone();
        for scope in &mut self.scopes[owner + 1..] {
            value = scope.add_value(Value::new(name.text.clone(), value_type.clone(), Origin::Captured(value)));
        }
        Ok(value)
    }

    fn innermost(&mut self) -> &mut Builder {
        self.scopes.last_mut().expect("a graph is being built")
    }
}

fn copy(name: &Name) -> Name {
    Name { text: name.text.clone(), at: name.at }
}
