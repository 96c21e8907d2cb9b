//! Tensors between the IR and tract. Knows nothing of graphs.
//!
//! tract has no bfloat16, and statistics in float16 are worse than in float32: both are widened when a graph is run. To
//! learn types, float16 is kept as it is.

use std::borrow::Cow;

use onnxq_ir::{Data, Element, ElementType, Tensor};
use onnxq_plan::Elements;
use tract_onnx::prelude::{Datum, DatumType, tract_ndarray};
use tract_onnx::tract_core::internal::TDim;

/// tract's tensors, apart from ours by name.
pub(crate) use tract_onnx::prelude::Tensor as TractTensor;

/// What becomes of float16 and bfloat16.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum HalfFloats {
    /// Computed in float32.
    Widened,
    /// float16 is kept, bfloat16 is refused.
    Kept,
    /// bfloat16 goes by the name of float16, of which there is none: to learn types, not values.
    Renamed,
}

impl HalfFloats {
    /// The element type in which tract computes what the graph calls `element`.
    pub(crate) fn engine_type(self, element: ElementType) -> ElementType {
        match (self, element) {
            (Self::Widened, ElementType::F16 | ElementType::BF16) => ElementType::F32,
            (Self::Renamed, ElementType::BF16) => ElementType::F16,
            _ => element,
        }
    }
}

/// The name in tract of an element type, where it has one.
pub(crate) fn datum_type(element: ElementType) -> Option<DatumType> {
    Some(match element {
        ElementType::F32 => DatumType::F32,
        ElementType::F64 => DatumType::F64,
        ElementType::F16 => DatumType::F16,
        ElementType::U8 => DatumType::U8,
        ElementType::U16 => DatumType::U16,
        ElementType::U32 => DatumType::U32,
        ElementType::U64 => DatumType::U64,
        ElementType::I8 => DatumType::I8,
        ElementType::I16 => DatumType::I16,
        ElementType::I32 => DatumType::I32,
        ElementType::I64 => DatumType::I64,
        ElementType::Bool => DatumType::Bool,
        ElementType::String => DatumType::String,
        _ => return None,
    })
}

/// The ONNX name of a type of tract's. Its symbolic dimensions are ONNX's int64.
pub(crate) fn element_type(datum: DatumType) -> Option<ElementType> {
    Some(match datum {
        DatumType::F32 => ElementType::F32,
        DatumType::F64 => ElementType::F64,
        DatumType::F16 => ElementType::F16,
        DatumType::U8 => ElementType::U8,
        DatumType::U16 => ElementType::U16,
        DatumType::U32 => ElementType::U32,
        DatumType::U64 => ElementType::U64,
        DatumType::I8 => ElementType::I8,
        DatumType::I16 => ElementType::I16,
        DatumType::I32 => ElementType::I32,
        DatumType::I64 | DatumType::TDim => ElementType::I64,
        DatumType::Bool => ElementType::Bool,
        DatumType::String => ElementType::String,
        _ => return None,
    })
}

/// The tensor as tract has it: one copy, aligned. `Err` says what it lacks.
pub(crate) fn to_tract(tensor: &Tensor, halves: HalfFloats) -> Result<TractTensor, String> {
    fn plain<T: Element + Datum + Copy>(tensor: &Tensor) -> Result<TractTensor, String> {
        let view = tensor.view::<T>().ok_or("a tensor's elements are not what its type says")?;
        TractTensor::from_shape(tensor.shape(), &view).map_err(|error| error.to_string())
    }
    let lacking = || format!("tensors of {} are not supported", tensor.element());
    match tensor.element() {
        ElementType::F32 => plain::<f32>(tensor),
        ElementType::F64 => plain::<f64>(tensor),
        ElementType::F16 if halves == HalfFloats::Kept => plain::<half::f16>(tensor),
        ElementType::F16 | ElementType::BF16 if halves == HalfFloats::Widened => {
            let wide = tensor.to_f32().ok_or_else(lacking)?;
            TractTensor::from_shape(tensor.shape(), &wide).map_err(|error| error.to_string())
        }
        ElementType::BF16 if halves == HalfFloats::Renamed => {
            plain::<half::f16>(&as_float16(tensor).ok_or_else(lacking)?)
        }
        ElementType::U8 => plain::<u8>(tensor),
        ElementType::U16 => plain::<u16>(tensor),
        ElementType::U32 => plain::<u32>(tensor),
        ElementType::U64 => plain::<u64>(tensor),
        ElementType::I8 => plain::<i8>(tensor),
        ElementType::I16 => plain::<i16>(tensor),
        ElementType::I32 => plain::<i32>(tensor),
        ElementType::I64 => plain::<i64>(tensor),
        ElementType::Bool => {
            let bits: Vec<bool> = tensor.bytes().iter().map(|&byte| byte != 0).collect();
            TractTensor::from_shape(tensor.shape(), &bits).map_err(|error| error.to_string())
        }
        ElementType::String => {
            let Data::Strings(strings) = tensor.data() else { return Err(lacking()) };
            let texts = strings.iter().map(|bytes| String::from_utf8(bytes.to_vec()));
            let texts: Vec<String> = texts.collect::<Result<_, _>>().map_err(|error| error.to_string())?;
            let array = tract_ndarray::ArrayD::from_shape_vec(tensor.shape(), texts);
            array.map(TractTensor::from).map_err(|error| error.to_string())
        }
        _ => Err(lacking()),
    }
}

/// The elements rounded to float16, as far as it has them.
pub(crate) fn as_float16(tensor: &Tensor) -> Option<Tensor> {
    Tensor::of_floats(ElementType::F16, tensor.shape().to_vec(), tensor.floats()?.into_owned())
}

/// A tensor of tract's as the IR has it; `None` where its type has no name in ONNX, or where it speaks of dimensions
/// that are not known.
pub(crate) fn from_tract(tensor: &TractTensor) -> Option<Tensor> {
    fn plain<T: Element + Datum + Copy>(tensor: &TractTensor) -> Option<Tensor> {
        let elements = tensor.as_plain_ram()?.as_slice::<T>().ok()?.to_vec();
        Some(Tensor::new(tensor.shape().to_vec(), elements))
    }
    match tensor.datum_type() {
        DatumType::F32 => plain::<f32>(tensor),
        DatumType::F64 => plain::<f64>(tensor),
        DatumType::F16 => plain::<half::f16>(tensor),
        DatumType::U8 => plain::<u8>(tensor),
        DatumType::U16 => plain::<u16>(tensor),
        DatumType::U32 => plain::<u32>(tensor),
        DatumType::U64 => plain::<u64>(tensor),
        DatumType::I8 => plain::<i8>(tensor),
        DatumType::I16 => plain::<i16>(tensor),
        DatumType::I32 => plain::<i32>(tensor),
        DatumType::I64 => plain::<i64>(tensor),
        DatumType::TDim => Some(Tensor::new(tensor.shape().to_vec(), known_dims(tensor)?)),
        DatumType::Bool => {
            let view = tensor.as_plain_ram()?;
            let bytes: Vec<u8> = view.as_slice::<bool>().ok()?.iter().map(|&bit| u8::from(bit)).collect();
            Tensor::from_bytes(ElementType::Bool, tensor.shape().to_vec(), bytes.into()).ok()
        }
        _ => None,
    }
}

/// The numbers of a tensor of dimensions, where all are numbers.
fn known_dims(tensor: &TractTensor) -> Option<Vec<i64>> {
    let view = tensor.as_plain_ram()?;
    view.as_slice::<TDim>().ok()?.iter().map(|dim| dim.to_i64().ok()).collect()
}

/// Calls `see` with the elements of a tensor of tract's.
pub(crate) fn show_tract(tensor: &TractTensor, see: &mut dyn FnMut(&[usize], Elements<'_>)) {
    fn slice<T: Datum>(tensor: &TractTensor) -> Option<&[T]> {
        tensor.as_plain_ram().and_then(|view| view.as_slice::<T>().ok())
    }
    let shape = tensor.shape();
    let datum = tensor.datum_type();
    let shown = match datum {
        DatumType::F32 => slice(tensor).map(|x| see(shape, Elements::F32(x))),
        DatumType::F64 => slice(tensor).map(|x| see(shape, Elements::F64(x))),
        DatumType::I64 => slice(tensor).map(|x| see(shape, Elements::I64(x))),
        DatumType::I32 => slice(tensor).map(|x| see(shape, Elements::I32(x))),
        DatumType::Bool => slice(tensor).map(|x| see(shape, Elements::Bool(x))),
        DatumType::TDim => known_dims(tensor).map(|x| see(shape, Elements::I64(&x))),
        _ => None,
    };
    if shown.is_none() {
        see(shape, Elements::Other(element_type(datum).unwrap_or(ElementType::String)));
    }
}

/// Calls `see` with the elements of a tensor of the IR.
pub(crate) fn show(tensor: &Tensor, see: &mut dyn FnMut(&[usize], Elements<'_>)) {
    fn slice<T: Element>(tensor: &Tensor) -> Cow<'_, [T]> {
        tensor.view::<T>().unwrap_or_default()
    }
    let shape = tensor.shape();
    match tensor.element() {
        ElementType::F32 => see(shape, Elements::F32(&slice(tensor))),
        ElementType::F16 | ElementType::BF16 => see(shape, Elements::F32(&tensor.to_f32().unwrap_or_default())),
        ElementType::F64 => see(shape, Elements::F64(&slice(tensor))),
        ElementType::I64 => see(shape, Elements::I64(&slice(tensor))),
        ElementType::I32 => see(shape, Elements::I32(&slice(tensor))),
        ElementType::Bool => see(shape, Elements::Bool(&tensor.bytes().iter().map(|&x| x != 0).collect::<Vec<_>>())),
        other => see(shape, Elements::Other(other)),
    }
}
