//! IR to messages: all but where weights go and how the whole is framed.

use onnxq_ir::{
    Attribute, AttributeValue, Declared, Function, Graph, Model, OpId, OpsetImport, Origin, RECOGNISED, Tensor, ValueId,
};

use super::carried::{CarriedAttribute, CarriedGraph, put, unpack};
use super::proto::attribute_proto::AttributeType;
use super::proto::{
    AttributeProto, FunctionProto, GraphProto, ModelProto, NodeProto, OperatorSetIdProto, StringStringEntryProto,
    TensorProto, ValueInfoProto,
};
use super::{tensor, types};

/// Why a model can't be encoded. Each is a fault of ours.
#[derive(Debug, thiserror::Error)]
pub enum EncodeError {
    /// A recognised operator is left.
    #[error("recognised operator `{op_type}` (node `{node}`) was not expanded before writing")]
    Unexpanded {
        /// The node's name.
        node: String,
        /// The operator type.
        op_type: String,
    },
    /// What was carried is not what the reader packed.
    #[error("what was kept of the file can't be decoded: {0}")]
    Carried(#[from] prost::DecodeError),
}

/// The model's message without its graph.
pub(super) fn model(model: &Model) -> Result<ModelProto, EncodeError> {
    let mut proto: ModelProto = unpack(&model.carried)?;
    if model.ir_version != 0 {
        proto.ir_version = Some(model.ir_version);
    }
    proto.opset_import = model.opsets.iter().map(opset_import).collect::<Result<_, _>>()?;
    proto.functions = model.functions.iter().map(function).collect::<Result<_, _>>()?;
    let is_added = |key: &str| model.metadata.iter().any(|(added, _)| added == key);
    proto.metadata_props.retain(|entry| !is_added(entry.key()));
    let added = model.metadata.iter().cloned();
    proto
        .metadata_props
        .extend(added.map(|(key, value)| StringStringEntryProto { key: Some(key), value: Some(value) }));
    Ok(proto)
}

/// A local function: as it was read, unless it was raised to another version of ONNX's own operators.
fn function(function: &Function) -> Result<FunctionProto, EncodeError> {
    let mut proto: FunctionProto = unpack(&function.encoded)?;
    let body = &function.body;
    let mut is_raised = false;
    for import in proto.opset_import.iter_mut().filter(|import| matches!(import.domain(), "" | "ai.onnx")) {
        is_raised |= import.version() != body.opset();
        import.version = Some(body.opset());
    }
    if is_raised {
        let scope = Scope::of(body);
        let (_, order) = frame(scope)?;
        let constants = body.initializers().iter().map(|&value| constant_node(scope, value));
        proto.node = constants.chain(order.into_iter().map(|op| node(scope, op))).collect::<Result<_, _>>()?;
    }
    Ok(proto)
}

/// A graph and the graphs around it, whose names hold in it.
#[derive(Clone, Copy)]
pub(super) struct Scope<'a> {
    graph: &'a Graph,
    around: Option<&'a Scope<'a>>,
}

impl<'a> Scope<'a> {
    /// A graph that lies in no other.
    pub(super) fn of(graph: &'a Graph) -> Self {
        Self { graph, around: None }
    }

    /// The name of a value where it is defined: a captured one may go by another within the body.
    fn name(self, value: ValueId) -> &'a str {
        let (mut scope, mut value) = (self, value);
        while let (Origin::Captured(outer), Some(around)) = (scope.graph.value(value).origin(), scope.around) {
            (scope, value) = (*around, *outer);
        }
        scope.graph.value(value).name()
    }
}

/// A constant as a node: functions have no initializers.
fn constant_node(scope: Scope<'_>, value: ValueId) -> Result<NodeProto, EncodeError> {
    let tensor = initializer_tensor(scope.graph, value).cloned();
    let value_attribute =
        tensor.map(|tensor| attribute(scope, &Attribute::new("value", AttributeValue::Tensor(tensor))));
    Ok(NodeProto {
        op_type: Some("Constant".to_owned()),
        output: names(scope, &[Some(value)]),
        attribute: value_attribute.into_iter().collect::<Result<_, _>>()?,
        ..NodeProto::default()
    })
}

fn opset_import(import: &OpsetImport) -> Result<OperatorSetIdProto, EncodeError> {
    let mut proto: OperatorSetIdProto = unpack(&import.carried)?;
    put(&mut proto.domain, &import.domain);
    if import.version != 0 {
        proto.version = Some(import.version);
    }
    Ok(proto)
}

/// A graph's message without nodes and initializers, and the order of its nodes.
pub(super) fn frame(scope: Scope<'_>) -> Result<(GraphProto, Vec<OpId>), EncodeError> {
    let graph = scope.graph;
    let carried: CarriedGraph = unpack(graph.carried())?;
    let order = node_order(graph, carried.unsorted_below);
    let mut proto = carried.rest.unwrap_or_default();
    put(&mut proto.name, graph.name());
    let declare = |list: &[Declared]| list.iter().map(|declared| value_info(scope, declared)).collect::<Result<_, _>>();
    proto.input = declare(graph.inputs())?;
    proto.output = declare(graph.outputs())?;
    proto.value_info = declare(graph.value_infos())?;
    for stray in carried.strays {
        let position = proto.value_info.len().min(stray.position as usize);
        proto.value_info.insert(position, stray.info.unwrap_or_default());
    }
    Ok((proto, order))
}

/// File order for a graph as it was read; producers before readers otherwise.
fn node_order(graph: &Graph, unsorted_below: u64) -> Vec<OpId> {
    let mut file: Vec<OpId> = graph.op_ids().collect();
    file.sort_unstable_by_key(|&op| (graph.op(op).order_key(), op));
    let is_as_read = file.iter().all(|op| (op.index() as u64) < unsorted_below);
    if is_as_read {
        return file;
    }
    let sorted = graph.topological();
    // What lies on a cycle has no order; leaving it out is not the writer's to decide.
    if sorted.len() == file.len() { sorted } else { file }
}

/// The message of one node.
pub(super) fn node(scope: Scope<'_>, id: OpId) -> Result<NodeProto, EncodeError> {
    let graph = scope.graph;
    let op = graph.op(id);
    if op.domain() == RECOGNISED {
        return Err(EncodeError::Unexpanded { node: op.name().to_owned(), op_type: op.op_type().to_owned() });
    }
    let mut proto: NodeProto = unpack(op.carried())?;
    put(&mut proto.name, op.name());
    put(&mut proto.op_type, op.op_type());
    put(&mut proto.domain, op.domain());
    put(&mut proto.overload, op.overload());
    proto.input = names(scope, &graph.inputs_of(id));
    proto.output = names(scope, &graph.outputs_of(id));
    proto.attribute = op.attributes().iter().map(|it| attribute(scope, it)).collect::<Result<_, _>>()?;
    Ok(proto)
}

fn names(scope: Scope<'_>, values: &[Option<ValueId>]) -> Vec<String> {
    values.iter().map(|value| value.map_or_else(String::new, |value| scope.name(value).to_owned())).collect()
}

fn attribute(scope: Scope<'_>, attribute: &Attribute) -> Result<AttributeProto, EncodeError> {
    if let AttributeValue::Opaque(encoded) | AttributeValue::Reference { encoded, .. } = &attribute.value {
        return Ok(unpack(encoded)?);
    }
    let carried: CarriedAttribute = unpack(&attribute.carried)?;
    let mut proto = carried.rest.unwrap_or_default();
    put(&mut proto.name, &attribute.name);
    let tensors = |tensors: &[Tensor]| tensors.iter().map(tensor::write).collect::<Result<_, _>>();
    let kind = match &attribute.value {
        AttributeValue::Float(value) => {
            proto.f = unless_absent(*value, carried.value_absent && value.to_bits() == 0);
            AttributeType::Float
        }
        AttributeValue::Int(value) => {
            proto.i = unless_absent(*value, carried.value_absent && *value == 0);
            AttributeType::Int
        }
        AttributeValue::String(value) => {
            proto.s = unless_absent(value.clone(), carried.value_absent && value.is_empty());
            AttributeType::String
        }
        AttributeValue::Tensor(value) => {
            proto.t = Some(Box::new(tensor::write(value)?));
            AttributeType::Tensor
        }
        AttributeValue::Graph(value) => {
            proto.g = Some(Box::new(body(scope, value)?));
            AttributeType::Graph
        }
        AttributeValue::Floats(values) => {
            proto.floats.clone_from(values);
            AttributeType::Floats
        }
        AttributeValue::Ints(values) => {
            proto.ints.clone_from(values);
            AttributeType::Ints
        }
        AttributeValue::Strings(values) => {
            proto.strings.clone_from(values);
            AttributeType::Strings
        }
        AttributeValue::Tensors(values) => {
            proto.tensors = tensors(values)?;
            AttributeType::Tensors
        }
        AttributeValue::Graphs(values) => {
            proto.graphs = values.iter().map(|value| body(scope, value)).collect::<Result<_, _>>()?;
            AttributeType::Graphs
        }
        AttributeValue::Reference { .. } | AttributeValue::Opaque(_) => unreachable!("handled above"),
    };
    proto.r#type = unless_absent(kind.into(), carried.type_absent);
    Ok(proto)
}

fn unless_absent<T>(value: T, is_absent: bool) -> Option<T> {
    (!is_absent).then_some(value)
}

/// A nested graph, whole.
fn body(around: Scope<'_>, graph: &Graph) -> Result<GraphProto, EncodeError> {
    let scope = Scope { graph, around: Some(&around) };
    let (mut proto, order) = frame(scope)?;
    proto.node = order.into_iter().map(|op| node(scope, op)).collect::<Result<_, _>>()?;
    for &value in graph.initializers() {
        if let Some(tensor) = initializer_tensor(graph, value) {
            proto.initializer.push(named(graph, value, tensor::write(tensor)?));
        }
    }
    Ok(proto)
}

/// The tensor of an initializer.
pub(super) fn initializer_tensor(graph: &Graph, value: ValueId) -> Option<&Tensor> {
    match graph.value(value).origin() {
        Origin::Constant(tensor) | Origin::Input(Some(tensor)) => Some(tensor),
        Origin::Input(None) | Origin::Produced | Origin::Captured(_) | Origin::Sparse => None,
    }
}

/// The message of an initializer, under its value's name.
pub(super) fn named(graph: &Graph, value: ValueId, mut proto: TensorProto) -> TensorProto {
    put(&mut proto.name, graph.value(value).name());
    proto
}

fn value_info(scope: Scope<'_>, declared: &Declared) -> Result<ValueInfoProto, EncodeError> {
    let mut proto: ValueInfoProto = unpack(&declared.carried)?;
    put(&mut proto.name, scope.name(declared.value));
    // A carried type says more than the IR does; it counts as long as it says the same.
    if proto.r#type.is_none() || types::value_type(proto.r#type.as_ref()) != declared.value_type {
        proto.r#type = types::type_proto(&declared.value_type);
    }
    Ok(proto)
}
