//! `TensorProto` to tensors and back. Raw and external data stay slices of the file's map.

use onnxq_ir::tensor::element_count;
use onnxq_ir::{Data, ElementType, Tensor, TensorError};

use super::carried::{CarriedTensor, Form, pack, unless_empty, unpack};
use super::error::TensorProblem;
use super::external::Folder;
use super::proto::TensorProto;
use super::proto::tensor_proto::DataLocation;

/// The repeated field that holds the elements of a type.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Field {
    Float,
    Double,
    Int32,
    Int64,
    Uint64,
    String,
}

impl Field {
    fn of(element: ElementType) -> Self {
        match element {
            ElementType::F32 | ElementType::C64 => Self::Float,
            ElementType::F64 | ElementType::C128 => Self::Double,
            ElementType::I64 => Self::Int64,
            ElementType::U32 | ElementType::U64 => Self::Uint64,
            ElementType::String => Self::String,
            _ => Self::Int32,
        }
    }

    fn name(self) -> &'static str {
        match self {
            Self::Float => "float_data",
            Self::Double => "double_data",
            Self::Int32 => "int32_data",
            Self::Int64 => "int64_data",
            Self::Uint64 => "uint64_data",
            Self::String => "string_data",
        }
    }
}

/// Reads a tensor. Its name, where the message still has one, is carried.
pub(super) fn read(mut proto: TensorProto, folder: &mut Folder) -> Result<Tensor, TensorProblem> {
    let element = ElementType::from_code(proto.data_type()).ok_or(TensorProblem::ElementType(proto.data_type()))?;
    let shape = shape(&proto.dims)?;
    let count = count(element, &shape)?;
    if proto.segment.is_some() {
        return Err(TensorProblem::Segment);
    }
    if proto.data_location() == DataLocation::External {
        return read_external(proto, element, shape, folder);
    }
    if element == ElementType::String {
        return read_strings(proto, shape);
    }
    let untyped = entries(&proto, Field::of(element)) == 0;
    if let Some(raw) = proto.raw_data.clone().filter(|raw| !raw.is_empty() || untyped) {
        let tensor = Tensor::from_bytes(element, shape, raw)?;
        if !has_typed(&proto) {
            clear(&mut proto);
            proto.raw_data = None;
            return Ok(carrying(tensor, proto, Form::Raw));
        }
        return Ok(carrying(tensor, proto, Form::Whole));
    }
    let packed = pack_typed(&proto, element, count)?;
    let tensor = Tensor::from_bytes(element, shape, packed.into())?;
    let mut rebuilt = TensorProto::default();
    unpack_typed(&mut rebuilt, &tensor);
    // Floats come back as they were; integers may have been stored in an unusual way.
    if rebuilt.int32_data != proto.int32_data || proto.raw_data.is_some() {
        return Ok(carrying(tensor, proto, Form::Whole));
    }
    clear(&mut proto);
    clear_typed(&mut proto, Field::of(element));
    Ok(carrying(tensor, proto, Form::Typed))
}

/// The message of a tensor with its data in it. An untouched tensor gives an equal message.
pub(super) fn write(tensor: &Tensor) -> Result<TensorProto, prost::DecodeError> {
    let carried: CarriedTensor = unpack(tensor.carried())?;
    let form = carried.form();
    let mut proto = carried.rest.unwrap_or_default();
    if form == Form::Whole {
        return Ok(proto);
    }
    head(&mut proto, tensor);
    match tensor.data() {
        Data::Strings(strings) => proto.string_data = strings.to_vec(),
        Data::Packed(bytes) if form == Form::Raw => proto.raw_data = Some(bytes.clone()),
        Data::Packed(_) => unpack_typed(&mut proto, tensor),
    }
    Ok(proto)
}

/// The message of a tensor whose data lies elsewhere; where is for the caller to add.
pub(super) fn write_external(tensor: &Tensor) -> Result<TensorProto, prost::DecodeError> {
    let carried: CarriedTensor = unpack(tensor.carried())?;
    let form = carried.form();
    let mut proto = carried.rest.unwrap_or_default();
    if form == Form::Whole {
        proto.raw_data = None;
        for field in [Field::Float, Field::Double, Field::Int32, Field::Int64, Field::Uint64, Field::String] {
            clear_typed(&mut proto, field);
        }
    }
    head(&mut proto, tensor);
    proto.data_location = Some(DataLocation::External.into());
    Ok(proto)
}

fn head(proto: &mut TensorProto, tensor: &Tensor) {
    proto.dims = tensor.shape().iter().map(|&n| n as i64).collect();
    proto.data_type = Some(tensor.element().code());
}

fn shape(dims: &[i64]) -> Result<Vec<usize>, TensorProblem> {
    dims.iter().map(|&n| usize::try_from(n).map_err(|_| TensorProblem::Dimension(n))).collect()
}

fn count(element: ElementType, shape: &[usize]) -> Result<usize, TensorProblem> {
    element_count(shape)
        .filter(|&count| element.packed_len(count).is_some() && isize::try_from(count).is_ok())
        .ok_or_else(|| TensorError::TooLarge(shape.to_vec()).into())
}

fn read_external(
    mut proto: TensorProto,
    element: ElementType,
    shape: Vec<usize>,
    folder: &mut Folder,
) -> Result<Tensor, TensorProblem> {
    if element == ElementType::String {
        return Err(TensorProblem::RawStrings);
    }
    if has_typed(&proto) || !proto.raw_data().is_empty() {
        return Err(TensorProblem::Both);
    }
    let need = element.packed_len(count(element, &shape)?).unwrap_or(usize::MAX);
    let tensor = Tensor::from_bytes(element, shape, folder.slice(&proto.external_data, need)?)?;
    // Where the data lies is for the writer to say anew; written into the model it stands there as it does once the
    // onnx package has loaded it.
    clear(&mut proto);
    proto.raw_data = None;
    proto.external_data.clear();
    proto.data_location = Some(DataLocation::Default.into());
    Ok(carrying(tensor, proto, Form::Raw))
}

fn read_strings(mut proto: TensorProto, shape: Vec<usize>) -> Result<Tensor, TensorProblem> {
    if !proto.raw_data().is_empty() {
        return Err(TensorProblem::RawStrings);
    }
    let tensor = Tensor::strings(shape, std::mem::take(&mut proto.string_data))?;
    clear(&mut proto);
    Ok(carrying(tensor, proto, Form::Raw))
}

fn carrying(tensor: Tensor, rest: TensorProto, form: Form) -> Tensor {
    tensor.with_carried(pack(&CarriedTensor { rest: unless_empty(rest), form: form.into() }))
}

/// Removes what every tensor of the IR knows.
fn clear(proto: &mut TensorProto) {
    proto.dims.clear();
    proto.data_type = None;
}

fn clear_typed(proto: &mut TensorProto, field: Field) {
    match field {
        Field::Float => proto.float_data.clear(),
        Field::Double => proto.double_data.clear(),
        Field::Int32 => proto.int32_data.clear(),
        Field::Int64 => proto.int64_data.clear(),
        Field::Uint64 => proto.uint64_data.clear(),
        Field::String => proto.string_data.clear(),
    }
}

fn entries(proto: &TensorProto, field: Field) -> usize {
    match field {
        Field::Float => proto.float_data.len(),
        Field::Double => proto.double_data.len(),
        Field::Int32 => proto.int32_data.len(),
        Field::Int64 => proto.int64_data.len(),
        Field::Uint64 => proto.uint64_data.len(),
        Field::String => proto.string_data.len(),
    }
}

fn has_typed(proto: &TensorProto) -> bool {
    [Field::Float, Field::Double, Field::Int32, Field::Int64, Field::Uint64, Field::String]
        .into_iter()
        .any(|field| entries(proto, field) > 0)
}

fn is_six_bit(element: ElementType) -> bool {
    matches!(element, ElementType::F6E2M3 | ElementType::F6E3M2)
}

/// Entries of the typed field for `count` elements: two for a complex number, one for a byte of packed ones, else one each.
fn entries_for(element: ElementType, count: usize) -> Option<usize> {
    match element {
        ElementType::C64 | ElementType::C128 => count.checked_mul(2),
        _ if is_six_bit(element) => Some(count),
        _ if element.bits() < 8 => element.packed_len(count),
        _ => Some(count),
    }
}

/// The elements of a typed field as raw data packs them.
fn pack_typed(proto: &TensorProto, element: ElementType, count: usize) -> Result<Vec<u8>, TensorProblem> {
    let field = Field::of(element);
    let need = entries_for(element, count).unwrap_or(usize::MAX);
    let have = entries(proto, field);
    if need != have {
        return Err(TensorProblem::Entries { field: field.name(), need, have });
    }
    Ok(match field {
        Field::Float => proto.float_data.iter().flat_map(|x| x.to_le_bytes()).collect(),
        Field::Double => proto.double_data.iter().flat_map(|x| x.to_le_bytes()).collect(),
        Field::Int64 => proto.int64_data.iter().flat_map(|x| x.to_le_bytes()).collect(),
        Field::Uint64 if element == ElementType::U64 => {
            proto.uint64_data.iter().flat_map(|x| x.to_le_bytes()).collect()
        }
        Field::Uint64 => narrowed(proto.uint64_data.iter().map(|&x| i128::from(x)), element, 4, 32)?,
        Field::Int32 | Field::String => pack_int32(&proto.int32_data, element)?,
    })
}

fn pack_int32(entries: &[i32], element: ElementType) -> Result<Vec<u8>, TensorProblem> {
    let wide = entries.iter().map(|&x| i128::from(x));
    match element.bits() {
        6 => {
            let codes = narrowed(wide, element, 1, 6)?;
            Ok(codes.chunks(4).flat_map(pack_six).collect())
        }
        bits @ (8 | 16 | 32) => narrowed(wide, element, bits / 8, bits as u32),
        _ => narrowed(wide, element, 1, 8),
    }
}

/// The low `bytes` bytes of each entry, which must fit into `bits` bits, with or without sign.
fn narrowed(
    entries: impl Iterator<Item = i128>,
    element: ElementType,
    bytes: usize,
    bits: u32,
) -> Result<Vec<u8>, TensorProblem> {
    let range = -(1i128 << (bits - 1))..1i128 << bits;
    let mut packed = Vec::with_capacity(entries.size_hint().0.saturating_mul(bytes));
    for entry in entries {
        if !range.contains(&entry) {
            return Err(TensorProblem::Entry { field: Field::of(element).name(), entry, element: element.name() });
        }
        packed.extend_from_slice(&entry.to_le_bytes()[..bytes]);
    }
    Ok(packed)
}

/// Up to four 6-bit codes as a stream of bits, the first in the lowest ones.
fn pack_six(codes: &[u8]) -> impl Iterator<Item = u8> + use<> {
    let word = codes.iter().enumerate().fold(0u32, |word, (i, &code)| word | u32::from(code & 0x3f) << (6 * i));
    word.to_le_bytes().into_iter().take((codes.len() * 6).div_ceil(8))
}

/// Puts the elements into the field of their type.
fn unpack_typed(proto: &mut TensorProto, tensor: &Tensor) {
    let bytes = tensor.bytes();
    let element = tensor.element();
    match Field::of(element) {
        Field::Float => proto.float_data = chunks(bytes).map(f32::from_le_bytes).collect(),
        Field::Double => proto.double_data = chunks(bytes).map(f64::from_le_bytes).collect(),
        Field::Int64 => proto.int64_data = chunks(bytes).map(i64::from_le_bytes).collect(),
        Field::Uint64 if element == ElementType::U64 => {
            proto.uint64_data = chunks(bytes).map(u64::from_le_bytes).collect();
        }
        Field::Uint64 => proto.uint64_data = chunks(bytes).map(|x| u32::from_le_bytes(x).into()).collect(),
        Field::Int32 | Field::String => proto.int32_data = unpack_int32(bytes, element, tensor.len()),
    }
}

fn unpack_int32(bytes: &[u8], element: ElementType, count: usize) -> Vec<i32> {
    match element {
        ElementType::I32 => chunks(bytes).map(i32::from_le_bytes).collect(),
        ElementType::I16 => chunks(bytes).map(|x| i16::from_le_bytes(x).into()).collect(),
        ElementType::I8 => bytes.iter().map(|&x| x.cast_signed().into()).collect(),
        _ if element.bits() == 16 => chunks(bytes).map(|x| u16::from_le_bytes(x).into()).collect(),
        _ if is_six_bit(element) => bytes.chunks(3).flat_map(unpack_six).take(count).collect(),
        _ => bytes.iter().map(|&x| x.into()).collect(),
    }
}

fn unpack_six(bytes: &[u8]) -> impl Iterator<Item = i32> + use<> {
    let word = bytes.iter().enumerate().fold(0u32, |word, (i, &byte)| word | u32::from(byte) << (8 * i));
    (0..4).map(move |i| (word >> (6 * i) & 0x3f) as i32)
}

fn chunks<const N: usize>(bytes: &[u8]) -> impl Iterator<Item = [u8; N]> + '_ {
    bytes.as_chunks::<N>().0.iter().copied()
}
