//! ONNX bytes to a model.
//!
//! Weights stay slices of the file's map. What the IR owns is moved out of each message; what is left is carried.
//! Knows no operator: whether the graph makes sense is for the verifier.

mod attribute;

use std::collections::{HashMap, HashSet};
use std::path::Path;

use bytes::Bytes;
use onnxq_ir::{
    Builder, Declared, Function, Graph, Model, Op, OpsetImport, Origin, Tensor, TensorType, Value, ValueId, ValueType,
};
use prost::Message;

use super::carried::{CarriedGraph, StrayInfo, pack, take, unless_empty};
use super::error::{ReadError, ReadProblem, TensorProblem};
use super::external::Folder;
use super::map::map_file;
use super::proto::{FunctionProto, GraphProto, ModelProto, NodeProto, OperatorSetIdProto, TensorProto, ValueInfoProto};
use super::{scan, tensor, types};

/// Reads the model in the file `path`, and its external data in the file's folder.
///
/// # Errors
/// Where the file can't be read, is no whole ONNX model, has fields that this version does not know (they would be
/// lost), or defines or reads its values inconsistently.
pub fn read(path: &Path) -> Result<Model, ReadError> {
    let model = open(path).and_then(|bytes| model(bytes, Folder::of(path)));
    model.map_err(|problem| ReadError { file: Some(path.to_path_buf()), problem: Box::new(problem) })
}

/// Reads a model from bytes; external data is looked for in `folder`.
///
/// # Errors
/// As [`read`].
pub fn read_bytes(bytes: Bytes, folder: Option<&Path>) -> Result<Model, ReadError> {
    let folder = folder.map(Folder::at).unwrap_or_default();
    model(bytes, folder).map_err(|problem| ReadError { file: None, problem: Box::new(problem) })
}

/// Reads a lone tensor (`test_data_set_*/input_0.pb`) and its name, which may be empty.
///
/// # Errors
/// Where the bytes are no whole tensor with its data in it.
pub fn decode_tensor(bytes: &[u8]) -> Result<(String, Tensor), TensorProblem> {
    scan::scan_tensor(bytes).map_err(|problem| TensorProblem::Damaged(problem.to_string()))?;
    let mut proto = TensorProto::decode(bytes).map_err(|error| TensorProblem::Damaged(reason(&error)))?;
    let name = take(&mut proto.name);
    Ok((name, tensor::read(proto, &mut Folder::default())?))
}

fn open(path: &Path) -> Result<Bytes, ReadProblem> {
    if !path.metadata().map_err(ReadProblem::Open)?.is_file() {
        return Err(ReadProblem::NoFile);
    }
    map_file(path).map_err(ReadProblem::Open)
}

fn model(bytes: Bytes, folder: Folder) -> Result<Model, ReadProblem> {
    scan::scan_model(&bytes)?;
    let mut proto = ModelProto::decode(bytes).map_err(|error| match reason(&error) {
        text if text.contains("recursion") => ReadProblem::TooDeep,
        text => ReadProblem::Damaged(text),
    })?;
    let graph = proto.graph.take().ok_or(ReadProblem::NoGraph)?;
    let opsets: Vec<OpsetImport> = std::mem::take(&mut proto.opset_import).into_iter().map(opset_import).collect();
    if opsets.is_empty() && proto.ir_version() >= 3 {
        return Err(ReadProblem::NoOpset);
    }
    let opset = own_opset(opsets.iter().map(|import| (import.domain.as_str(), import.version)));
    let mut reader = Reader { folder, scopes: Vec::new() };
    let graph = reader.graph(graph, opset.unwrap_or(1))?;
    let functions = std::mem::take(&mut proto.functions);
    let functions = functions.into_iter().map(|function| reader.function(function, opset)).collect::<Result<_, _>>()?;
    // A version 0 that is there is told from a missing one by what is carried.
    let ir_version = proto.ir_version.take_if(|version| *version != 0).unwrap_or(0);
    Ok(Model { ir_version, opsets, graph, functions, metadata: Vec::new(), carried: pack(&proto) })
}

/// The version of ONNX's own operators; before IR version 3 files could leave it out, which meant 1.
fn own_opset<'a>(imports: impl IntoIterator<Item = (&'a str, i64)>) -> Option<i64> {
    imports.into_iter().find(|(domain, _)| domain.is_empty() || *domain == "ai.onnx").map(|(_, version)| version)
}

fn opset_import(mut proto: OperatorSetIdProto) -> OpsetImport {
    let domain = take(&mut proto.domain);
    let version = proto.version.take_if(|version| *version != 0).unwrap_or(0);
    OpsetImport { domain, version, carried: pack(&proto) }
}

/// What prost says, without the chain of messages that it went through.
fn reason(error: &prost::DecodeError) -> String {
    let text = error.to_string();
    text.rsplit(": ").next().unwrap_or_default().to_owned()
}

/// A node, as messages call it.
fn node_label(node: &NodeProto) -> String {
    let op_type = node.op_type();
    match (node.name(), node.output.iter().find(|output| !output.is_empty())) {
        ("", Some(output)) => format!("the node of output `{output}` ({op_type})"),
        (name, _) => format!("node `{name}` ({op_type})"),
    }
}

/// Outputs of one node; adding the next takes time in proportion to those that are there.
const MAX_OUTPUTS: usize = 10_000;

/// A graph that is being read.
struct Scope {
    name: String,
    opset: i64,
    builder: Builder,
    /// Outputs of nodes that are not read yet.
    pending: HashSet<ValueId>,
    /// Whether a pending value was read: the file has a reader before its producer.
    unsorted: bool,
}

struct Reader {
    folder: Folder,
    /// The graphs that are being read, outermost first.
    scopes: Vec<Scope>,
}

impl Reader {
    fn function(&mut self, mut proto: FunctionProto, opset: Option<i64>) -> Result<Function, ReadProblem> {
        let encoded = pack(&proto);
        let own = own_opset(proto.opset_import.iter().map(|import| (import.domain(), import.version())));
        let (domain, name) = (proto.domain().to_owned(), proto.name().to_owned());
        let overload = proto.overload().to_owned();
        let defaults = std::mem::take(&mut proto.attribute_proto);
        let declare = |name: String| ValueInfoProto { name: Some(name), ..ValueInfoProto::default() };
        let body = GraphProto {
            name: Some(name.clone()),
            node: proto.node,
            input: proto.input.into_iter().map(declare).collect(),
            output: proto.output.into_iter().map(declare).collect(),
            value_info: proto.value_info,
            ..GraphProto::default()
        };
        let body = self.graph(body, own.or(opset).unwrap_or(1))?;
        let defaults = self.defaults(defaults, &name)?;
        Ok(Function { domain, name, overload, defaults, body, encoded })
    }

    fn graph(&mut self, mut proto: GraphProto, opset: i64) -> Result<Graph, ReadProblem> {
        let name = take(&mut proto.name);
        let builder = Builder::new(name.clone(), opset);
        self.scopes.push(Scope { name, opset, builder, pending: HashSet::new(), unsorted: false });

        let types = declared_types(&proto);
        let inputs = std::mem::take(&mut proto.input);
        let nodes = std::mem::take(&mut proto.node);
        self.initializers(std::mem::take(&mut proto.initializer), &inputs, &types)?;
        let inputs = self.inputs(inputs)?;
        self.sparse_initializers(&proto)?;
        self.node_outputs(&nodes, &types)?;
        let mut last = 0;
        for node in nodes {
            last = self.node(node)?;
        }
        let outputs = self.outputs(std::mem::take(&mut proto.output))?;
        let (infos, strays) = self.value_infos(std::mem::take(&mut proto.value_info));

        let Some(Scope { mut builder, unsorted, .. }) = self.scopes.pop() else {
            unreachable!("the scope pushed above")
        };
        for declared in inputs {
            builder.declare_input(declared);
        }
        for declared in outputs {
            builder.declare_output(declared);
        }
        for declared in infos {
            builder.declare_value_info(declared);
        }
        let unsorted_below = if unsorted { last as u64 + 1 } else { 0 };
        builder.carry(pack(&CarriedGraph { rest: unless_empty(proto), unsorted_below, strays }));
        Ok(builder.finish())
    }

    fn scope(&mut self) -> &mut Scope {
        self.scopes.last_mut().expect("values are read within a graph")
    }

    fn duplicate(&mut self, value: &str, by: impl Into<String>) -> ReadProblem {
        ReadProblem::Duplicate { graph: self.scope().name.clone(), value: value.to_owned(), by: by.into() }
    }

    fn initializers(
        &mut self,
        initializers: Vec<TensorProto>,
        inputs: &[ValueInfoProto],
        types: &HashMap<String, ValueType>,
    ) -> Result<(), ReadProblem> {
        let inputs: HashSet<&str> = inputs.iter().map(ValueInfoProto::name).collect();
        for mut proto in initializers {
            let name = take(&mut proto.name);
            let tensor = tensor::read(proto, &mut self.folder)
                .map_err(|problem| ReadProblem::Tensor { place: format!("initializer `{name}`"), problem })?;
            if !name.is_empty() && self.scope().builder.find_value(&name).is_some() {
                return Err(self.duplicate(&name, "an initializer"));
            }
            let own = ValueType::Tensor(TensorType::fixed(tensor.element(), tensor.shape()));
            let value_type =
                types.get(&name).filter(|declared| **declared != ValueType::Unknown).cloned().unwrap_or(own);
            let is_input = !name.is_empty() && inputs.contains(name.as_str());
            let origin = if is_input { Origin::Input(Some(tensor)) } else { Origin::Constant(tensor) };
            self.scope().builder.add_value(Value::new(name, value_type, origin));
        }
        Ok(())
    }

    fn inputs(&mut self, inputs: Vec<ValueInfoProto>) -> Result<Vec<Declared>, ReadProblem> {
        let mut seen = HashSet::new();
        let mut declared = Vec::new();
        for (index, proto) in inputs.into_iter().enumerate() {
            let name = self.declared_name("input", index, &proto)?;
            if !seen.insert(name.clone()) {
                return Err(self.duplicate(&name, "a graph input"));
            }
            let builder = &mut self.scope().builder;
            let value = builder.find_value(&name).unwrap_or_else(|| {
                builder.add_value(Value::new(name, types::value_type(proto.r#type.as_ref()), Origin::Input(None)))
            });
            declared.push(declare(value, proto));
        }
        Ok(declared)
    }

    /// Sparse initializers are carried; here they become values that nodes can read.
    fn sparse_initializers(&mut self, proto: &GraphProto) -> Result<(), ReadProblem> {
        for sparse in &proto.sparse_initializer {
            let name = sparse.values.as_ref().map_or("", TensorProto::name);
            let builder = &mut self.scope().builder;
            match builder.find_value(name).map(|value| builder.value(value).origin()) {
                Some(Origin::Input(None)) => {}
                Some(_) => return Err(self.duplicate(name, "a sparse initializer")),
                None if name.is_empty() => {}
                None => _ = builder.add_value(Value::new(name, ValueType::Unknown, Origin::Sparse)),
            }
        }
        Ok(())
    }

    /// Makes the outputs of all nodes known before any node is read: files need not be in topological order.
    fn node_outputs(&mut self, nodes: &[NodeProto], types: &HashMap<String, ValueType>) -> Result<(), ReadProblem> {
        for node in nodes {
            if node.output.len() > MAX_OUTPUTS {
                return Err(ReadProblem::TooMuch { what: "a node with too many outputs", limit: MAX_OUTPUTS as u64 });
            }
            for name in node.output.iter().filter(|name| !name.is_empty()) {
                if self.scope().builder.find_value(name).is_some() {
                    return Err(self.duplicate(name, node_label(node)));
                }
                let value_type = types.get(name).cloned().unwrap_or_default();
                let scope = self.scope();
                let value = scope.builder.add_value(Value::new(name, value_type, Origin::Produced));
                scope.pending.insert(value);
            }
        }
        Ok(())
    }

    /// Adds a node, and gives the index of its operator.
    fn node(&mut self, mut proto: NodeProto) -> Result<usize, ReadProblem> {
        let label = node_label(&proto);
        let level = self.scopes.len() - 1;
        let mut inputs = Vec::with_capacity(proto.input.len());
        for name in std::mem::take(&mut proto.input) {
            inputs.push(match name.as_str() {
                "" => None,
                name => Some(self.resolve(level, name).ok_or_else(|| undefined(&label, name))?),
            });
        }
        let mut attributes = Vec::with_capacity(proto.attribute.len());
        for attribute in std::mem::take(&mut proto.attribute) {
            attributes.push(self.attribute(attribute, &label)?);
        }
        let scope = &mut self.scopes[level];
        let outputs = std::mem::take(&mut proto.output);
        let outputs: Vec<_> = outputs.iter().map(|name| scope.builder.find_value(name)).collect();
        for output in outputs.iter().flatten() {
            scope.pending.remove(output);
        }
        let op = Op::new(take(&mut proto.domain), take(&mut proto.op_type), attributes)
            .named(take(&mut proto.name))
            .overloaded(take(&mut proto.overload))
            .with_carried(pack(&proto));
        Ok(scope.builder.add_op(op, &inputs, &outputs).index())
    }

    /// The value that a graph knows by a name. A value of a graph around it is captured, through each graph between.
    fn resolve(&mut self, level: usize, name: &str) -> Option<ValueId> {
        let scope = &mut self.scopes[level];
        if let Some(value) = scope.builder.find_value(name) {
            scope.unsorted |= scope.pending.contains(&value);
            return Some(value);
        }
        let around = level.checked_sub(1)?;
        let outer = self.resolve(around, name)?;
        let value_type = self.scopes[around].builder.value(outer).value_type().clone();
        Some(self.scopes[level].builder.add_value(Value::new(name, value_type, Origin::Captured(outer))))
    }

    fn outputs(&mut self, outputs: Vec<ValueInfoProto>) -> Result<Vec<Declared>, ReadProblem> {
        let level = self.scopes.len() - 1;
        let mut declared = Vec::with_capacity(outputs.len());
        for (index, proto) in outputs.into_iter().enumerate() {
            let name = self.declared_name("output", index, &proto)?;
            let value = self
                .resolve(level, &name)
                .ok_or_else(|| undefined(&format!("the output list of graph `{}`", self.scopes[level].name), &name))?;
            declared.push(declare(value, proto));
        }
        Ok(declared)
    }

    fn value_infos(&mut self, infos: Vec<ValueInfoProto>) -> (Vec<Declared>, Vec<StrayInfo>) {
        let (mut known, mut strays) = (Vec::new(), Vec::new());
        for (position, proto) in infos.into_iter().enumerate() {
            match self.scope().builder.find_value(proto.name()) {
                Some(value) => known.push(declare(value, proto)),
                None => strays.push(StrayInfo { position: position as u64, info: Some(proto) }),
            }
        }
        (known, strays)
    }

    fn declared_name(
        &mut self,
        what: &'static str,
        index: usize,
        proto: &ValueInfoProto,
    ) -> Result<String, ReadProblem> {
        match proto.name() {
            "" => Err(ReadProblem::Unnamed { graph: self.scope().name.clone(), what, index }),
            name => Ok(name.to_owned()),
        }
    }
}

fn undefined(reader: &str, value: &str) -> ReadProblem {
    ReadProblem::Undefined { reader: reader.to_owned(), value: value.to_owned() }
}

/// What inputs, outputs and `value_info` say of values, by name; the first to say something counts.
fn declared_types(proto: &GraphProto) -> HashMap<String, ValueType> {
    let mut known = HashMap::new();
    for info in proto.input.iter().chain(&proto.output).chain(&proto.value_info) {
        if info.r#type.is_some() && !known.contains_key(info.name()) {
            known.insert(info.name().to_owned(), types::value_type(info.r#type.as_ref()));
        }
    }
    known
}

/// A declaration; what its type says beyond the IR is carried with it.
fn declare(value: ValueId, mut proto: ValueInfoProto) -> Declared {
    take(&mut proto.name);
    let value_type = types::value_type(proto.r#type.as_ref());
    proto.r#type.take_if(|original| types::type_proto(&value_type).as_ref() == Some(original));
    Declared { value, value_type, carried: pack(&proto) }
}
