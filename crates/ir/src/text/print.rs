//! From graphs to text, one initializer and one operator per line.

use std::fmt::{self, Display};

use super::constant::{Float, Written, is_writable, separated};
use super::quote::{Id, Quoted, Word, is_identifier, is_plain};
use crate::graph::{Declared, Graph};
use crate::model::{Function, Model};
use crate::op::{Attribute, AttributeValue, Op, OpId};
use crate::tensor::Tensor;
use crate::types::{Dim, TensorType, ValueType};
use crate::value::{Origin, ValueId};

/// What is printed of constants.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Weights {
    /// Every element: the text can be read again.
    Full,
    /// A hash in place of more than 16 elements, for people and snapshots.
    Hash,
}

/// Constants up to this many elements are printed in full everywhere.
const SMALL: usize = 16;

/// The text of a model. The same model gives the same text, whatever became of the order of its ids.
pub fn print(model: &Model, weights: Weights) -> String {
    ModelText { model, weights }.to_string()
}

/// The text of a graph alone. Of a body, what it captures is named as the body names it.
pub fn print_graph(graph: &Graph, weights: Weights) -> String {
    format!("{}\n", GraphText { graph, around: None, weights, indent: 0 })
}

struct ModelText<'a> {
    model: &'a Model,
    weights: Weights,
}

impl Display for ModelText<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { model, weights } = *self;
        write!(f, "<ir_version: {}, opset_import: [", model.ir_version)?;
        separated(f, &model.opsets, |import, f| write!(f, "{} : {}", Quoted(&import.domain), import.version))?;
        writeln!(f, "]>\n{}", GraphText { graph: &model.graph, around: None, weights, indent: 0 })?;
        model.functions.iter().try_for_each(|function| write_function(f, function, weights))
    }
}

/// A local function, as a comment: its definition can't be read from text.
fn write_function(f: &mut fmt::Formatter<'_>, function: &Function, weights: Weights) -> fmt::Result {
    let Function { domain, name, overload, body, .. } = function;
    write!(f, "# local function {}", Operator { domain, op_type: name, overload })?;
    let body = GraphText { graph: body, around: None, weights, indent: 0 }.to_string();
    body.split('\n').try_for_each(|line| write!(f, "\n# {line}"))?;
    f.write_str("\n")
}

/// A graph without a line break at its end; the first line is not indented.
struct GraphText<'a> {
    graph: &'a Graph,
    around: Option<&'a GraphText<'a>>,
    weights: Weights,
    indent: usize,
}

impl Display for GraphText<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let graph = self.graph;
        write!(f, "{} (", Id(graph.name()))?;
        separated(f, graph.inputs(), |input, f| f.write_str(&self.declared(input)))?;
        f.write_str(") => (")?;
        separated(f, graph.outputs(), |output, f| f.write_str(&self.declared(output)))?;
        f.write_str(")")?;
        let block = self.block();
        if block.is_empty() {
            f.write_str(" {")?;
        } else {
            let (margin, entries) = (self.margin(), block.join(",\n"));
            write!(f, "\n{margin}<\n{entries}\n{margin}>\n{margin}{{")?;
        }
        self.notes(f)?;
        for op in self.ops() {
            write!(f, "\n{}  ", self.margin())?;
            self.op(f, op)?;
        }
        write!(f, "\n{}}}", self.margin())
    }
}

impl GraphText<'_> {
    fn margin(&self) -> String {
        " ".repeat(self.indent)
    }

    /// A type, if there is one to be written, and a name.
    fn declared(&self, declared: &Declared) -> String {
        let name = self.name(declared.value);
        match declared.value_type.tensor() {
            Some(tensor_type) => format!("{} {}", Type(tensor_type), Id(&name)),
            None => Id(&name).to_string(),
        }
    }

    /// Initializers and `value_info`, a line for each.
    fn block(&self) -> Vec<String> {
        let margin = self.margin();
        let initializers = self.graph.initializers().iter().filter_map(|&value| {
            let (Origin::Constant(tensor) | Origin::Input(Some(tensor))) = self.graph.value(value).origin() else {
                return None;
            };
            let tensor_type = TensorType::fixed(tensor.element(), tensor.shape());
            let elements = Elements { tensor, weights: self.weights };
            Some(format!("{margin}  {} {} = {elements}", Type(&tensor_type), Id(&self.name(value))))
        });
        let infos = self.graph.value_infos().iter().map(|info| format!("{margin}  {}", self.declared(info)));
        initializers.chain(infos).collect()
    }

    /// Comments in place of what the syntax can't say.
    fn notes(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let graph = self.graph;
        for value in graph.values().filter(|&value| *graph.value(value).origin() == Origin::Sparse) {
            write!(f, "\n{}  # sparse initializer {}", self.margin(), Comment(&self.name(value)))?;
        }
        for declared in graph.inputs().iter().chain(graph.outputs()).chain(graph.value_infos()) {
            if let ValueType::Other(_) = declared.value_type {
                write!(f, "\n{}  # {} is no tensor", self.margin(), Comment(&self.name(declared.value)))?;
            }
        }
        Ok(())
    }

    /// Producers before readers; what lies on a cycle comes last.
    fn ops(&self) -> Vec<OpId> {
        let mut ops = self.graph.topological();
        let mut is_listed = vec![false; self.graph.id_bound()];
        for op in &ops {
            is_listed[op.index()] = true;
        }
        ops.extend(self.graph.op_ids().filter(|op| !is_listed[op.index()]));
        ops
    }

    fn op(&self, f: &mut fmt::Formatter<'_>, id: OpId) -> fmt::Result {
        let op = self.graph.op(id);
        if !op.name().is_empty() {
            write!(f, "[{}] ", Id(op.name()))?;
        }
        let outputs = self.graph.outputs_of(id);
        self.slots(f, &outputs)?;
        let equals = if outputs.is_empty() { "=" } else { " =" };
        let operator = Operator { domain: op.domain(), op_type: op.op_type(), overload: op.overload() };
        write!(f, "{equals} {operator}")?;
        // Bodies are long: inputs come before them.
        let has_body = op.bodies().next().is_some();
        if !has_body {
            self.attributes(f, op)?;
        }
        f.write_str(" (")?;
        self.slots(f, &self.graph.inputs_of(id))?;
        f.write_str(")")?;
        if has_body {
            self.long_attributes(f, op)?;
        }
        note_unwritable(f, op)
    }

    fn slots(&self, f: &mut fmt::Formatter<'_>, values: &[Option<ValueId>]) -> fmt::Result {
        separated(f, values, |value, f| match value {
            Some(value) => Id(&self.name(*value)).fmt(f),
            None => Quoted("").fmt(f),
        })
    }

    /// The name of a value where it is defined: a captured one may go by another within the body.
    fn name(&self, value: ValueId) -> String {
        let (mut text, mut value) = (self, value);
        while let (Origin::Captured(outer), Some(around)) = (text.graph.value(value).origin(), text.around) {
            (text, value) = (around, *outer);
        }
        match text.graph.value(value).name() {
            "" => format!("%{}", value.index()),
            name => name.to_owned(),
        }
    }

    fn attributes(&self, f: &mut fmt::Formatter<'_>, op: &Op) -> fmt::Result {
        let writable: Vec<_> = op.attributes().iter().filter(|attribute| is_attribute_writable(attribute)).collect();
        if writable.is_empty() {
            return Ok(());
        }
        f.write_str(" <")?;
        separated(f, writable, |attribute, f| self.attribute(f, attribute))?;
        f.write_str(">")
    }

    /// The attributes of an operator with bodies, a line for each.
    fn long_attributes(&self, f: &mut fmt::Formatter<'_>, op: &Op) -> fmt::Result {
        let margin = self.margin();
        f.write_str(" <")?;
        let mut comma = "";
        for attribute in op.attributes().iter().filter(|attribute| is_attribute_writable(attribute)) {
            write!(f, "{comma}\n{margin}    ")?;
            self.attribute(f, attribute)?;
            comma = ",";
        }
        write!(f, "\n{margin}  >")
    }

    fn attribute(&self, f: &mut fmt::Formatter<'_>, attribute: &Attribute) -> fmt::Result {
        let value = &attribute.value;
        write!(f, "{}{} = ", Word(&attribute.name), annotation(value))?;
        match value {
            AttributeValue::Int(int) => int.fmt(f),
            AttributeValue::Float(float) => Float(*float).fmt(f),
            AttributeValue::String(string) => write_string(string, f),
            AttributeValue::Tensor(tensor) => self.tensor(tensor, f),
            AttributeValue::Graph(graph) => self.body(graph, f),
            AttributeValue::Ints(ints) => listed(f, ints, Display::fmt),
            AttributeValue::Floats(floats) => listed(f, floats, |&float, f| Float(float).fmt(f)),
            AttributeValue::Strings(strings) => listed(f, strings, |string, f| write_string(string, f)),
            AttributeValue::Tensors(tensors) => listed(f, tensors, |tensor, f| self.tensor(tensor, f)),
            AttributeValue::Graphs(graphs) => listed(f, graphs, |graph, f| self.body(graph, f)),
            AttributeValue::Reference { .. } | AttributeValue::Opaque(_) => Ok(()),
        }
    }

    fn tensor(&self, tensor: &Tensor, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let tensor_type = TensorType::fixed(tensor.element(), tensor.shape());
        write!(f, "{} {}", Type(&tensor_type), Elements { tensor, weights: self.weights })
    }

    fn body(&self, graph: &Graph, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        GraphText { graph, around: Some(self), weights: self.weights, indent: self.indent + 4 }.fmt(f)
    }
}

/// A comment at the operator's end in place of the attributes that the syntax can't say.
fn note_unwritable(f: &mut fmt::Formatter<'_>, op: &Op) -> fmt::Result {
    let mut comment = "  # without";
    for attribute in op.attributes().iter().filter(|attribute| !is_attribute_writable(attribute)) {
        write!(f, "{comment} {}", Comment(&attribute.name))?;
        comment = ",";
    }
    Ok(())
}

fn is_attribute_writable(attribute: &Attribute) -> bool {
    match &attribute.value {
        AttributeValue::Reference { .. } | AttributeValue::Opaque(_) => false,
        AttributeValue::String(string) => std::str::from_utf8(string).is_ok(),
        AttributeValue::Strings(strings) => strings.iter().all(|string| std::str::from_utf8(string).is_ok()),
        _ => true,
    }
}

/// The type of an attribute where its value doesn't show it.
fn annotation(value: &AttributeValue) -> &'static str {
    match value {
        AttributeValue::Ints(ints) if ints.is_empty() => ": ints",
        AttributeValue::Floats(floats) if floats.is_empty() => ": floats",
        AttributeValue::Strings(strings) if strings.is_empty() => ": strings",
        AttributeValue::Tensors(_) => ": tensors",
        AttributeValue::Graphs(_) => ": graphs",
        AttributeValue::Graph(graph) if !is_plain(graph.name()) => ": graph",
        _ => "",
    }
}

fn write_string(string: &[u8], f: &mut fmt::Formatter<'_>) -> fmt::Result {
    Quoted(&String::from_utf8_lossy(string)).fmt(f)
}

fn listed<'a, T: 'a>(
    f: &mut fmt::Formatter<'_>,
    items: &'a [T],
    write: impl Fn(&'a T, &mut fmt::Formatter<'_>) -> fmt::Result,
) -> fmt::Result {
    f.write_str("[")?;
    separated(f, items, write)?;
    f.write_str("]")
}

struct Operator<'a> {
    domain: &'a str,
    op_type: &'a str,
    overload: &'a str,
}

impl Display for Operator<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.domain {
            "" => {}
            domain if domain.split('.').all(is_identifier) => write!(f, "{domain}.")?,
            domain => write!(f, "{}.", Quoted(domain))?,
        }
        Word(self.op_type).fmt(f)?;
        if self.overload.is_empty() { Ok(()) } else { write!(f, ":{}", Word(self.overload)) }
    }
}

struct Type<'a>(&'a TensorType);

impl Display for Type<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0.element.name())?;
        match &self.0.shape {
            None => f.write_str("[]"),
            Some(dims) if dims.is_empty() => Ok(()),
            Some(dims) => listed(f, dims, |dim, f| match dim {
                Dim::Known(size) => size.fmt(f),
                Dim::Symbol(name) => Id(name).fmt(f),
                Dim::Unknown => f.write_str("?"),
            }),
        }
    }
}

/// The elements of a constant, or their hash.
struct Elements<'a> {
    tensor: &'a Tensor,
    weights: Weights,
}

impl Display for Elements<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let is_full = self.weights == Weights::Full || self.tensor.len() <= SMALL;
        if is_full && is_writable(self.tensor) {
            write!(f, "{{{}}}", Written(self.tensor))
        } else {
            write!(f, "#{:016x}", self.tensor.content_hash())
        }
    }
}

/// A name within a comment, where a line break would end it.
struct Comment<'a>(&'a str);

impl Display for Comment<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if is_identifier(self.0) { f.write_str(self.0) } else { write!(f, "{:?}", self.0) }
    }
}
