//! Attributes of nodes, bodies among them.

use onnxq_ir::{Attribute, AttributeValue, Graph, Tensor};

use super::Reader;
use crate::onnx::carried::{CarriedAttribute, pack, take, unless_empty};
use crate::onnx::error::ReadProblem;
use crate::onnx::proto::attribute_proto::AttributeType;
use crate::onnx::proto::{AttributeProto, GraphProto, TensorProto};
use crate::onnx::tensor;

impl Reader {
    pub(super) fn attribute(&mut self, mut proto: AttributeProto, node: &str) -> Result<Attribute, ReadProblem> {
        let stated = proto.r#type.take();
        let kind = stated.map_or_else(|| only_kind(&proto), |code| AttributeType::try_from(code).ok());
        let is_reference = !proto.ref_attr_name().is_empty();
        let value = match kind {
            Some(kind) if !is_reference => self.attribute_value(kind, &mut proto, node)?,
            _ => None,
        };
        let Some((value, value_absent)) = value else {
            proto.r#type = stated;
            return opaque(&proto, node);
        };
        let name = take(&mut proto.name);
        let carried = CarriedAttribute { rest: unless_empty(proto), type_absent: stated.is_none(), value_absent };
        Ok(Attribute { name, value, carried: pack(&carried) })
    }

    /// The defaults of a function's attributes. One with a body is left out: what a body reads is nothing to a default.
    pub(super) fn defaults(&mut self, protos: Vec<AttributeProto>, name: &str) -> Result<Vec<Attribute>, ReadProblem> {
        let label = format!("local function `{name}`");
        let plain = protos.into_iter().filter(|proto| proto.g.is_none() && proto.graphs.is_empty());
        plain.map(|proto| self.attribute(proto, &label)).collect()
    }

    /// Moves the value out of the message, and says whether it was absent; `None` for what the IR does not look into.
    fn attribute_value(
        &mut self,
        kind: AttributeType,
        proto: &mut AttributeProto,
        node: &str,
    ) -> Result<Option<(AttributeValue, bool)>, ReadProblem> {
        let place = format!("{node}: attribute `{}`", proto.name());
        let value = match kind {
            AttributeType::Float => return Ok(Some(scalar(proto.f.take(), AttributeValue::Float))),
            AttributeType::Int => return Ok(Some(scalar(proto.i.take(), AttributeValue::Int))),
            AttributeType::String => return Ok(Some(scalar(proto.s.take(), AttributeValue::String))),
            AttributeType::Tensor => match proto.t.take() {
                Some(tensor) => AttributeValue::Tensor(self.tensor(*tensor, &place)?),
                None => return Ok(None),
            },
            AttributeType::Graph => match proto.g.take() {
                Some(graph) => AttributeValue::Graph(Box::new(self.body(*graph)?)),
                None => return Ok(None),
            },
            AttributeType::Floats => AttributeValue::Floats(std::mem::take(&mut proto.floats)),
            AttributeType::Ints => AttributeValue::Ints(std::mem::take(&mut proto.ints)),
            AttributeType::Strings => AttributeValue::Strings(std::mem::take(&mut proto.strings)),
            AttributeType::Tensors => {
                let tensors = std::mem::take(&mut proto.tensors).into_iter();
                AttributeValue::Tensors(tensors.map(|tensor| self.tensor(tensor, &place)).collect::<Result<_, _>>()?)
            }
            AttributeType::Graphs => {
                let graphs = std::mem::take(&mut proto.graphs).into_iter();
                AttributeValue::Graphs(graphs.map(|graph| self.body(graph)).collect::<Result<_, _>>()?)
            }
            AttributeType::Undefined
            | AttributeType::SparseTensor
            | AttributeType::SparseTensors
            | AttributeType::TypeProto
            | AttributeType::TypeProtos => return Ok(None),
        };
        Ok(Some((value, false)))
    }

    fn tensor(&mut self, proto: TensorProto, place: &str) -> Result<Tensor, ReadProblem> {
        tensor::read(proto, &mut self.folder)
            .map_err(|problem| ReadProblem::Tensor { place: place.to_owned(), problem })
    }

    fn body(&mut self, proto: GraphProto) -> Result<Graph, ReadProblem> {
        let opset = self.scope().opset;
        self.graph(proto, opset)
    }
}

/// A value that may be left out where it is zero or empty, and whether it was.
fn scalar<T: Default>(value: Option<T>, wrap: impl Fn(T) -> AttributeValue) -> (AttributeValue, bool) {
    let absent = value.is_none();
    (wrap(value.unwrap_or_default()), absent)
}

/// The type of an attribute that does not say it (IR version 1), where just one field has something in it.
fn only_kind(proto: &AttributeProto) -> Option<AttributeType> {
    let mut present = [
        (proto.f.is_some(), AttributeType::Float),
        (proto.i.is_some(), AttributeType::Int),
        (proto.s.is_some(), AttributeType::String),
        (proto.t.is_some(), AttributeType::Tensor),
        (proto.g.is_some(), AttributeType::Graph),
        (!proto.floats.is_empty(), AttributeType::Floats),
        (!proto.ints.is_empty(), AttributeType::Ints),
        (!proto.strings.is_empty(), AttributeType::Strings),
        (!proto.tensors.is_empty(), AttributeType::Tensors),
        (!proto.graphs.is_empty(), AttributeType::Graphs),
    ]
    .into_iter()
    .filter_map(|(is_there, kind)| is_there.then_some(kind));
    present.next().filter(|_| present.next().is_none())
}

/// An attribute as it stands. One with a body would hide what the body captures.
fn opaque(proto: &AttributeProto, node: &str) -> Result<Attribute, ReadProblem> {
    let name = proto.name().to_owned();
    if proto.g.is_some() || !proto.graphs.is_empty() {
        return Err(ReadProblem::Untyped { node: node.to_owned(), attribute: name });
    }
    let encoded = pack(proto);
    let value = match proto.ref_attr_name() {
        "" => AttributeValue::Opaque(encoded),
        of => AttributeValue::Reference { of: of.to_owned(), encoded },
    };
    Ok(Attribute::new(name, value))
}
