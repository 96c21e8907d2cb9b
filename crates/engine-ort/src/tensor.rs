//! Tensors between the IR and ONNX Runtime. Knows nothing of graphs.

use onnxq_ir::{Data, Element, ElementType, Tensor};
use onnxq_plan::Elements;
use ort::session::SessionInputValue;
use ort::value::DynValue;
use ort::value::{PrimitiveTensorElementType, TensorElementType};

/// A tensor as ONNX Runtime has it: one copy. `Err` says what it lacks.
pub(crate) fn to_ort(tensor: &Tensor) -> Result<SessionInputValue<'static>, String> {
    fn plain<T>(tensor: &Tensor) -> Result<SessionInputValue<'static>, String>
    where
        T: Element + PrimitiveTensorElementType + Clone + std::fmt::Debug + 'static,
    {
        let elements = tensor.view::<T>().ok_or("a tensor's elements are not what its type says")?.into_owned();
        let value = ort::value::Tensor::from_array((tensor.shape().to_vec(), elements));
        value.map(Into::into).map_err(|error| error.to_string())
    }
    let lacking = || format!("inputs of {} are not supported", tensor.element());
    match tensor.element() {
        ElementType::F32 => plain::<f32>(tensor),
        ElementType::F64 => plain::<f64>(tensor),
        ElementType::F16 => plain::<half::f16>(tensor),
        ElementType::BF16 => plain::<half::bf16>(tensor),
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
            let value = ort::value::Tensor::from_array((tensor.shape().to_vec(), bits));
            value.map(Into::into).map_err(|error| error.to_string())
        }
        ElementType::String => {
            let Data::Strings(strings) = tensor.data() else { return Err(lacking()) };
            let texts = strings.iter().map(|bytes| String::from_utf8(bytes.to_vec()));
            let texts: Vec<String> = texts.collect::<Result<_, _>>().map_err(|error| error.to_string())?;
            let value = ort::value::Tensor::from_string_array((tensor.shape().to_vec(), texts.as_slice()));
            value.map(Into::into).map_err(|error| error.to_string())
        }
        _ => Err(lacking()),
    }
}

/// Calls `see` with the elements of a value of ONNX Runtime's. `Err` where it is no tensor.
pub(crate) fn show_ort(value: &DynValue, see: &mut dyn FnMut(&[usize], Elements<'_>)) -> Result<(), String> {
    fn slice<T: PrimitiveTensorElementType>(value: &DynValue) -> Result<(Vec<usize>, &[T]), String> {
        let (shape, elements) = value.try_extract_tensor::<T>().map_err(|error| error.to_string())?;
        Ok((shape.iter().map(|&size| size as usize).collect(), elements))
    }
    let Some(element) = value.dtype().tensor_type() else { return Err("it is no tensor".to_owned()) };
    match element {
        TensorElementType::Float32 => slice(value).map(|(shape, x)| see(&shape, Elements::F32(x))),
        TensorElementType::Float64 => slice(value).map(|(shape, x)| see(&shape, Elements::F64(x))),
        TensorElementType::Int64 => slice(value).map(|(shape, x)| see(&shape, Elements::I64(x))),
        TensorElementType::Int32 => slice(value).map(|(shape, x)| see(&shape, Elements::I32(x))),
        TensorElementType::Bool => slice(value).map(|(shape, x)| see(&shape, Elements::Bool(x))),
        TensorElementType::Float16 => slice::<half::f16>(value).map(|(shape, x)| {
            see(&shape, Elements::F32(&x.iter().map(|x| x.to_f32()).collect::<Vec<_>>()));
        }),
        TensorElementType::Bfloat16 => slice::<half::bf16>(value).map(|(shape, x)| {
            see(&shape, Elements::F32(&x.iter().map(|x| x.to_f32()).collect::<Vec<_>>()));
        }),
        other => {
            let shape = value.shape().iter().map(|&size| size as usize).collect::<Vec<_>>();
            see(&shape, Elements::Other(element_type(other)));
            Ok(())
        }
    }
}

/// The ONNX name of a type that no observer looks into.
fn element_type(element: TensorElementType) -> ElementType {
    match element {
        TensorElementType::Uint8 => ElementType::U8,
        TensorElementType::Int8 => ElementType::I8,
        TensorElementType::Uint16 => ElementType::U16,
        TensorElementType::Int16 => ElementType::I16,
        TensorElementType::Uint32 => ElementType::U32,
        TensorElementType::Uint64 => ElementType::U64,
        TensorElementType::Bool => ElementType::Bool,
        _ => ElementType::String,
    }
}

/// Calls `see` with the elements of a tensor of the IR.
pub(crate) fn show(tensor: &Tensor, see: &mut dyn FnMut(&[usize], Elements<'_>)) {
    let shape = tensor.shape();
    match tensor.element() {
        ElementType::F32 | ElementType::F16 | ElementType::BF16 => {
            see(shape, Elements::F32(&tensor.to_f32().unwrap_or_default()));
        }
        ElementType::F64 => see(shape, Elements::F64(&tensor.view::<f64>().unwrap_or_default())),
        ElementType::I64 => see(shape, Elements::I64(&tensor.view::<i64>().unwrap_or_default())),
        ElementType::I32 => see(shape, Elements::I32(&tensor.view::<i32>().unwrap_or_default())),
        ElementType::Bool => see(shape, Elements::Bool(&tensor.bytes().iter().map(|&x| x != 0).collect::<Vec<_>>())),
        other => see(shape, Elements::Other(other)),
    }
}
