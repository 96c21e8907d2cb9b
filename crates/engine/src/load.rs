//! A graph of the IR as tract's inference model: only what is upstream of the values that are asked for, weights as
//! shared constants, declared inner types and output shapes forgotten.
//!
//! Operators go through tract's own proto types, in memory and without weights. Weights are declared as inputs there and
//! turned into constants after parsing: no round trip, one aligned copy.

use std::sync::Arc;

use onnxq_ir::{
    Attribute, AttributeValue, Data, Dim, ElementType, Graph, Model, OpId, Origin, Tensor, TensorType, ValueId,
};
use rustc_hash::FxHashMap;
use tract_onnx::pb;
use tract_onnx::prelude::{DatumType, InferenceFact, InferenceModel};
use tract_onnx::tract_core::internal::{HashMap, OutletId, TDim, TractErrorContext, bail};
use tract_onnx::tract_core::ops::konst::Const;

use crate::guard::{Failure, guarded};
use crate::tensor::{HalfFloats, datum_type, to_tract};

/// The part of a graph that some values need.
pub(crate) struct Upstream {
    ops: Vec<bool>,
    values: Vec<bool>,
}

impl Upstream {
    /// What `targets` need, themselves included.
    pub(crate) fn of(graph: &Graph, targets: &[ValueId]) -> Self {
        let mut upstream = Self { ops: vec![false; graph.id_bound()], values: vec![false; graph.id_bound()] };
        let mut stack: Vec<ValueId> = targets.to_vec();
        while let Some(value) = stack.pop() {
            if std::mem::replace(&mut upstream.values[value.index()], true) {
                continue;
            }
            if let Some((op, _)) = graph.producer(value)
                && !std::mem::replace(&mut upstream.ops[op.index()], true)
            {
                stack.extend(graph.inputs_of(op).into_iter().flatten());
                stack.extend(graph.captures_of(op));
            }
        }
        upstream
    }

    /// Whether an operator is needed.
    pub(crate) fn has_op(&self, op: OpId) -> bool {
        self.ops[op.index()]
    }

    /// Whether a value is needed.
    pub(crate) fn has_value(&self, value: ValueId) -> bool {
        self.values[value.index()]
    }
}

/// What a graph input is when the graph is handed over.
#[derive(Clone, Debug)]
pub(crate) enum Fed {
    /// Data of this shape comes with every run.
    Shape(Vec<usize>),
    /// Data comes, dimensions are as declared: equal names are one symbol.
    Declared,
    /// The input keeps its default.
    Default,
    /// The elements are these, in every run.
    Elements(Tensor),
}

/// A model in tract's hands.
pub(crate) struct Loaded {
    /// The model; its outputs are the values that were asked for, in their order.
    pub model: InferenceModel,
    /// The graph inputs that data must be given for, in the order of the model's inputs.
    pub inputs: Vec<ValueId>,
    /// The dimension names that became symbols, with these.
    pub symbols: Vec<(TDim, String)>,
    /// What tract's names of nodes mean.
    pub names: NodeNames,
    /// Where values are in the model, by tract's names.
    outlets: HashMap<String, OutletId>,
}

impl Loaded {
    /// Where a value of the graph that was handed over is.
    pub(crate) fn outlet(&self, value: ValueId) -> Option<OutletId> {
        self.outlets.get(&value_name("", value)).copied()
    }
}

/// What a value is called in tract. Names of the file are not handed over: tract appends to names, takes some for
/// expressions, and fails where two nodes have one, all of which files may contain.
fn value_name(prefix: &str, value: ValueId) -> String {
    format!("{prefix}v{}", value.index())
}

/// What a node is called in tract.
fn op_name(prefix: &str, op: OpId) -> String {
    format!("{prefix}n{}", op.index())
}

/// The nodes' own names, to tell which one an error of tract's is about.
#[derive(Clone, Debug)]
pub(crate) struct NodeNames(FxHashMap<usize, String>);

impl NodeNames {
    /// The names of a graph's nodes.
    fn of(graph: &Graph, upstream: &Upstream) -> Self {
        let ops = graph.op_ids().filter(|&op| upstream.has_op(op));
        Self(ops.map(|op| (op.index(), crate::support::node_name(graph, op).to_owned())).collect())
    }

    /// The same failure in the file's names.
    pub(crate) fn translate(&self, failure: &Failure) -> Failure {
        let found = failure.node.as_deref().and_then(|name| self.find(name));
        let pieces: Vec<&str> =
            failure.reason.split('"').map(|piece| self.find(piece).map_or(piece, |(_, name)| name)).collect();
        Failure { op: found.map(|(op, _)| op), node: found.map(|(_, name)| name.to_owned()), reason: pieces.join("\"") }
    }

    /// The node that a name of tract's means, inner nodes being their owner: its id's number and its own name.
    fn find(&self, name: &str) -> Option<(usize, &str)> {
        let digits = name.strip_prefix('n')?;
        let end = digits.find(|c: char| !c.is_ascii_digit()).unwrap_or(digits.len());
        let op: usize = digits[..end].parse().ok()?;
        Some((op, self.0.get(&op)?))
    }
}

/// Hands over the part of the model's graph that `targets` need.
pub(crate) fn load(
    model: &Model,
    graph: &Graph,
    targets: &[ValueId],
    halves: HalfFloats,
    fed: impl Fn(ValueId) -> Fed,
) -> Result<Loaded, Failure> {
    let upstream = Upstream::of(graph, targets);
    let mut constants: Vec<(ValueId, Tensor)> = Vec::new();
    let mut inputs: Vec<(ValueId, &TensorType, Fed)> = Vec::new();
    for value in graph.values().filter(|&value| upstream.has_value(value)) {
        match graph.value(value).origin() {
            Origin::Constant(tensor) => constants.push((value, tensor.clone())),
            Origin::Sparse => return Err(at(graph, value, "sparse initializers are not supported")),
            Origin::Captured(_) => return Err(at(graph, value, "the graph captures a value from outside")),
            Origin::Input(_) | Origin::Produced => {}
        }
    }
    for declared in graph.inputs().iter().filter(|declared| upstream.has_value(declared.value)) {
        let value = declared.value;
        let fed = fed(value);
        match (&fed, graph.value(value).origin()) {
            (Fed::Elements(tensor), _) | (Fed::Default, Origin::Input(Some(tensor))) => {
                constants.push((value, tensor.clone()));
                continue;
            }
            _ => {}
        }
        match graph.value(value).value_type().tensor().or(declared.value_type.tensor()) {
            Some(tensor_type) => inputs.push((value, tensor_type, fed)),
            None => return Err(at(graph, value, "the input is no dense tensor")),
        }
    }
    let sources = inputs.iter().map(|(value, _, _)| *value).chain(constants.iter().map(|(value, _)| *value));
    let proto = skeleton(model, graph, &upstream, sources, halves)?;
    let names = NodeNames::of(graph, &upstream);
    let parsed = guarded(|| {
        let parsed = tract_onnx::onnx().with_ignore_value_info(true).parse(&proto, None)?;
        if let Some(name) = parsed.unresolved_inputs.first() {
            bail!("value `{name}` comes from nowhere");
        }
        Ok(parsed)
    });
    drop(proto);
    let parsed = parsed.map_err(|failure| names.translate(&failure))?;
    let (model, outlets) = (parsed.model, parsed.outlets_by_name);
    let mut loaded = Loaded { model, inputs: Vec::new(), symbols: Vec::new(), names, outlets };
    for (value, tensor) in constants {
        let tensor = to_tract(&tensor, halves).map_err(|reason| at(graph, value, &reason))?;
        set_constant(&mut loaded, value, tensor)?;
    }
    set_inputs(&mut loaded, graph, &inputs, halves)?;
    guarded(|| {
        let outputs: Option<Vec<OutletId>> = targets.iter().map(|&value| loaded.outlet(value)).collect();
        let outputs = outputs.context("a value that is asked for was not handed over")?;
        loaded.model.select_output_outlets(&outputs)
    })?;
    Ok(loaded)
}

fn at(graph: &Graph, value: ValueId, reason: &str) -> Failure {
    Failure { op: None, node: Some(graph.value(value).name().to_owned()), reason: reason.to_owned() }
}

/// Turns the source of a value into a constant.
fn set_constant(loaded: &mut Loaded, value: ValueId, tensor: tract_onnx::prelude::Tensor) -> Result<(), Failure> {
    let tensor = Arc::new(tensor);
    guarded(|| {
        let outlet = loaded.outlet(value).context("a constant was not handed over")?;
        let mut fact = InferenceFact::dt_shape(tensor.datum_type(), tensor.shape());
        fact.value = Arc::clone(&tensor).into();
        loaded.model.nodes_mut()[outlet.node].op = Box::new(Const::new(tensor)?);
        loaded.model.set_outlet_fact(outlet, fact)
    })
}

/// States types and dimensions of the inputs that stay inputs.
fn set_inputs(
    loaded: &mut Loaded,
    graph: &Graph,
    inputs: &[(ValueId, &TensorType, Fed)],
    halves: HalfFloats,
) -> Result<(), Failure> {
    let mut outlets = Vec::new();
    let mut facts: Vec<InferenceFact> = Vec::new();
    for (value, tensor_type, fed) in inputs {
        let element = halves.engine_type(tensor_type.element);
        let Some(datum) = datum_type(element) else {
            return Err(at(graph, *value, &format!("inputs of {element} are not supported")));
        };
        let fact = match (fed, &tensor_type.shape) {
            (Fed::Shape(shape), _) => InferenceFact::dt_shape(datum, shape.as_slice()),
            (_, Some(dims)) => {
                let dims: Vec<TDim> = dims.iter().map(|dim| symbolic(loaded, dim)).collect();
                InferenceFact::dt_shape(datum, dims.as_slice())
            }
            (_, None) => InferenceFact::dt(datum),
        };
        facts.push(fact);
        outlets.extend(loaded.outlet(*value));
        loaded.inputs.push(*value);
    }
    guarded(|| {
        loaded.model.set_input_outlets(&outlets)?;
        for (outlet, fact) in outlets.iter().zip(facts) {
            loaded.model.set_outlet_fact(*outlet, fact)?;
        }
        Ok(())
    })
}

/// A dimension as tract has it. Symbols get names of our own: a name in a file may be an expression, or be taken by
/// tract. A size that nothing is known of is a symbol that occurs once.
fn symbolic(loaded: &mut Loaded, dim: &Dim) -> TDim {
    match dim {
        Dim::Known(size) => TDim::Val(*size as i64),
        Dim::Unknown => size(loaded, "onnxq_unknown"),
        Dim::Symbol(name) => {
            if let Some((symbol, _)) = loaded.symbols.iter().find(|(_, known)| known == name) {
                return symbol.clone();
            }
            let symbol = size(loaded, "onnxq_dim");
            loaded.symbols.push((symbol.clone(), name.clone()));
            symbol
        }
    }
}

/// A new symbol for a size, which tract is told is none below 0: it is compared with -1 where shapes are expanded.
fn size(loaded: &mut Loaded, prefix: &str) -> TDim {
    let symbols = &loaded.model.symbols;
    let symbol = symbols.new_with_prefix(prefix);
    // Without that less is known.
    _ = symbols.add_assertion(format!("{symbol} >= 0"));
    symbol.into()
}

/// The model's operators as tract's proto, `sources` declared as inputs.
fn skeleton(
    model: &Model,
    graph: &Graph,
    upstream: &Upstream,
    sources: impl Iterator<Item = ValueId>,
    halves: HalfFloats,
) -> Result<pb::ModelProto, Failure> {
    let names = Names { graph, prefix: String::new(), around: None };
    let node: Vec<pb::NodeProto> = graph
        .topological()
        .into_iter()
        .filter(|&op| upstream.has_op(op))
        .map(|op| node(&names, op, halves))
        .collect::<Result<_, _>>()?;
    // Types are stated after parsing; the proto needs some.
    let input = sources.map(|value| value_info(value_name("", value), DatumType::F32, None)).collect();
    let mut opset_import: Vec<pb::OperatorSetIdProto> = model
        .opsets
        .iter()
        .filter(|import| !matches!(import.domain.as_str(), "" | "ai.onnx"))
        .map(|import| pb::OperatorSetIdProto { domain: import.domain.clone(), version: import.version })
        .collect();
    opset_import.push(pb::OperatorSetIdProto { domain: String::new(), version: graph.opset() });
    Ok(pb::ModelProto {
        ir_version: model.ir_version,
        opset_import,
        graph: Some(pb::GraphProto { node, input, name: graph.name().to_owned(), ..Default::default() }),
        ..Default::default()
    })
}

/// Names of values and nodes in a body: what it captures goes by the outer graph's name.
struct Names<'a> {
    graph: &'a Graph,
    prefix: String,
    around: Option<&'a Names<'a>>,
}

impl<'a> Names<'a> {
    fn of(&self, value: ValueId) -> String {
        match (self.graph.value(value).origin(), self.around) {
            (Origin::Captured(outer), Some(around)) => around.of(*outer),
            _ => value_name(&self.prefix, value),
        }
    }

    fn constant(&self, value: ValueId) -> Option<&'a Tensor> {
        match (self.graph.value(value).origin(), self.around) {
            (Origin::Captured(outer), Some(around)) => around.constant(*outer),
            (Origin::Constant(tensor), _) => Some(tensor),
            _ => None,
        }
    }
}

fn node(names: &Names<'_>, id: OpId, halves: HalfFloats) -> Result<pb::NodeProto, Failure> {
    let op = names.graph.op(id);
    // In a body the owner is to blame: ids there are others.
    let blame = names.around.is_none().then_some(id.index());
    let failed = |reason: String| Failure {
        op: blame,
        node: Some(crate::support::node_name(names.graph, id).to_owned()),
        reason,
    };
    if op.is("Loop") {
        return Err(failed("how often it runs does not follow from the shapes of the inputs".to_owned()));
    }
    let list = |slots: Vec<Option<ValueId>>| {
        let mut slots: Vec<String> =
            slots.into_iter().map(|value| value.map_or_else(String::new, |value| names.of(value))).collect();
        // tract takes an empty name at the end for an operand.
        while slots.last().is_some_and(String::is_empty) {
            slots.pop();
        }
        slots
    };
    let implied = implied(names.graph, id);
    let attribute =
        op.attributes().iter().chain(&implied).map(|attribute| attribute_proto(names, id, attribute, halves));
    Ok(pb::NodeProto {
        input: list(names.graph.inputs_of(id)),
        output: list(names.graph.outputs_of(id)),
        name: op_name(&names.prefix, id),
        op_type: op.op_type().to_owned(),
        domain: op.domain().to_owned(),
        attribute: attribute.collect::<Result<_, String>>().map_err(failed)?,
        ..Default::default()
    })
}

/// What goes without saying in ONNX, and must be said to tract.
fn implied(graph: &Graph, id: OpId) -> Option<Attribute> {
    let op = graph.op(id);
    // A missing value would be a float64.
    if op.is("ConstantOfShape") && op.attributes().is_empty() {
        return Some(Attribute::new("value", AttributeValue::Tensor(Tensor::new(vec![1], vec![0.0f32]))));
    }
    // The default of version 11 would hold. Computed factors are taken for those of a larger size.
    if op.is("Resize") && graph.opset() < 11 {
        let mode = onnxq_ir::ops::nearest_below_11(graph, id).unwrap_or("floor");
        return Some(Attribute::string("nearest_mode", mode));
    }
    None
}

fn attribute_proto(
    names: &Names<'_>,
    id: OpId,
    attribute: &Attribute,
    halves: HalfFloats,
) -> Result<pb::AttributeProto, String> {
    use pb::attribute_proto::AttributeType as Kind;
    let mut proto = pb::AttributeProto { name: attribute.name.clone(), ..Default::default() };
    let kind = match &attribute.value {
        AttributeValue::Int(value) => {
            // Attributes that name an element type follow the widening.
            let element = ElementType::from_code(i32::try_from(*value).unwrap_or(0));
            proto.i = match (attribute.name.as_str(), element) {
                ("to" | "dtype", Some(element)) => halves.engine_type(element).code().into(),
                _ => *value,
            };
            Kind::Int
        }
        AttributeValue::Float(value) => {
            proto.f = *value;
            Kind::Float
        }
        AttributeValue::String(value) => {
            proto.s = value.to_vec();
            Kind::String
        }
        AttributeValue::Tensor(value) => {
            proto.t = Some(tensor_proto("", value, halves)?);
            Kind::Tensor
        }
        AttributeValue::Graph(value) => {
            proto.g = Some(body(names, id, value, halves)?);
            Kind::Graph
        }
        AttributeValue::Ints(value) => {
            proto.ints.clone_from(value);
            Kind::Ints
        }
        AttributeValue::Floats(value) => {
            proto.floats.clone_from(value);
            Kind::Floats
        }
        AttributeValue::Strings(value) => {
            proto.strings = value.iter().map(|text| text.to_vec()).collect();
            Kind::Strings
        }
        AttributeValue::Tensors(value) => {
            proto.tensors = value.iter().map(|it| tensor_proto("", it, halves)).collect::<Result<_, _>>()?;
            Kind::Tensors
        }
        AttributeValue::Graphs(value) => {
            proto.graphs = value.iter().map(|it| body(names, id, it, halves)).collect::<Result<_, _>>()?;
            Kind::Graphs
        }
        AttributeValue::Reference { .. } | AttributeValue::Opaque(_) => {
            return Err(format!("attribute `{}` is of a kind not supported", attribute.name));
        }
    };
    proto.r#type = kind as i32;
    Ok(proto)
}

/// A body. Its constants, and outer constants that it captures, are written into it: tract asks for constants in many
/// places where it would get a value from outside.
fn body(around: &Names<'_>, owner: OpId, graph: &Graph, halves: HalfFloats) -> Result<pb::GraphProto, String> {
    let prefix = op_name(&around.prefix, owner) + "_";
    let names = Names { graph, prefix, around: Some(around) };
    let node = graph.topological().into_iter().map(|op| node(&names, op, halves).map_err(|failure| failure.reason));
    let node = node.collect::<Result<_, String>>()?;
    let mut initializer = Vec::new();
    for value in graph.values() {
        if let Some(tensor) = names.constant(value) {
            initializer.push(tensor_proto(&names.of(value), tensor, halves)?);
        } else if let Origin::Input(Some(tensor)) = graph.value(value).origin() {
            initializer.push(tensor_proto(&names.of(value), tensor, halves)?);
        }
    }
    let declared = |list: &[onnxq_ir::Declared]| {
        let infos = list.iter().map(|declared| {
            let tensor_type = declared.value_type.tensor();
            let datum = tensor_type.and_then(|it| datum_type(halves.engine_type(it.element)));
            let dims = tensor_type.and_then(|it| it.shape.as_deref());
            value_info(names.of(declared.value), datum.unwrap_or(DatumType::F32), dims)
        });
        infos.collect()
    };
    let (input, output) = (declared(graph.inputs()), declared(graph.outputs()));
    Ok(pb::GraphProto { node, input, output, initializer, name: graph.name().to_owned(), ..Default::default() })
}

fn value_info(name: String, datum: DatumType, dims: Option<&[Dim]>) -> pb::ValueInfoProto {
    use pb::tensor_shape_proto::{Dimension, dimension::Value};
    let elem_type = crate::tensor::element_type(datum).map_or(1, ElementType::code);
    let dimension = |dim: &Dim| Dimension {
        value: match dim {
            Dim::Known(size) => Some(Value::DimValue(*size as i64)),
            Dim::Symbol(_) | Dim::Unknown => None,
        },
        ..Default::default()
    };
    let shape = dims.map(|dims| pb::TensorShapeProto { dim: dims.iter().map(dimension).collect() });
    let tensor = pb::type_proto::Tensor { elem_type, shape };
    pb::ValueInfoProto {
        name,
        r#type: Some(pb::TypeProto { value: Some(pb::type_proto::Value::TensorType(tensor)), ..Default::default() }),
        ..Default::default()
    }
}

/// A tensor as tract's proto has it.
fn tensor_proto(name: &str, tensor: &Tensor, halves: HalfFloats) -> Result<pb::TensorProto, String> {
    let element = halves.engine_type(tensor.element());
    if datum_type(element).is_none() {
        return Err(format!("tensors of {element} are not supported"));
    }
    let mut proto = pb::TensorProto {
        name: name.to_owned(),
        dims: tensor.shape().iter().map(|&size| size as i64).collect(),
        data_type: element.code(),
        ..Default::default()
    };
    match tensor.data() {
        Data::Strings(strings) => proto.string_data = strings.iter().map(|text| text.to_vec()).collect(),
        Data::Packed(_) if element == ElementType::F16 && tensor.element() == ElementType::BF16 => {
            let renamed = crate::tensor::as_float16(tensor);
            proto.raw_data = renamed.map(|renamed| renamed.bytes().to_vec()).unwrap_or_default();
        }
        Data::Packed(_) if element != tensor.element() => {
            let wide = tensor.to_f32().unwrap_or_default();
            proto.raw_data = wide.iter().flat_map(|x| x.to_le_bytes()).collect();
        }
        Data::Packed(bytes) => proto.raw_data = bytes.to_vec(),
    }
    Ok(proto)
}

/// Whether tract's simplifications must be left out: on a Scan with captured constants they do not end (0.23.9).
pub(crate) fn has_scan(graph: &Graph) -> bool {
    graph.op_ids().any(|op| graph.op(op).is("Scan"))
}
