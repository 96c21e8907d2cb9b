//! `TypeProto` to value types and back.

use onnxq_ir::{Dim, ElementType, TensorType, ValueType};

use super::carried::pack;
use super::proto::{TensorShapeProto, TypeProto, tensor_shape_proto, type_proto};
use tensor_shape_proto::Dimension;
use tensor_shape_proto::dimension::Value;

/// The value type that a file declares, as far as the IR has room for it.
pub(super) fn value_type(proto: Option<&TypeProto>) -> ValueType {
    let Some(proto) = proto else { return ValueType::Unknown };
    match &proto.value {
        None => ValueType::Unknown,
        Some(type_proto::Value::TensorType(tensor)) => match ElementType::from_code(tensor.elem_type()) {
            None => ValueType::Unknown,
            Some(element) => ValueType::Tensor(TensorType {
                element,
                shape: tensor.shape.as_ref().map(|shape| shape.dim.iter().map(dim).collect()),
            }),
        },
        Some(_) => ValueType::Other(pack(proto)),
    }
}

/// The declaration of a value type; `None` where nothing is known, or where it can't be declared.
pub(super) fn type_proto(value_type: &ValueType) -> Option<TypeProto> {
    match value_type {
        ValueType::Unknown => None,
        ValueType::Tensor(tensor) => {
            let shape =
                tensor.shape.as_ref().map(|dims| TensorShapeProto { dim: dims.iter().map(dimension).collect() });
            let tensor = type_proto::Tensor { elem_type: Some(tensor.element.code()), shape };
            Some(TypeProto { value: Some(type_proto::Value::TensorType(tensor)), denotation: None })
        }
        ValueType::Other(carried) => super::carried::unpack(carried).ok(),
    }
}

fn dim(proto: &Dimension) -> Dim {
    match &proto.value {
        Some(Value::DimValue(size)) => usize::try_from(*size).map_or(Dim::Unknown, Dim::Known),
        Some(Value::DimParam(name)) if !name.is_empty() => Dim::Symbol(name.clone()),
        Some(Value::DimParam(_)) | None => Dim::Unknown,
    }
}

fn dimension(dim: &Dim) -> Dimension {
    let value = match dim {
        Dim::Known(size) => Some(Value::DimValue(*size as i64)),
        Dim::Symbol(name) => Some(Value::DimParam(name.clone())),
        Dim::Unknown => None,
    };
    Dimension { value, denotation: None }
}
