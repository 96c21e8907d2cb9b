//! Constant tensors: element type, shape and bytes that are a slice of a shared map or an owned buffer.

use std::borrow::Cow;
use std::hash::Hasher;

use bytes::Bytes;

use crate::types::{Carried, ElementType};

/// Why a tensor can't be built.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum TensorError {
    /// The shape's product does not fit into memory.
    #[error("shape {0:?} is too large")]
    TooLarge(Vec<usize>),
    /// The data has another length than shape and element type ask for.
    #[error("{element} tensor of shape {shape:?} needs {need} bytes, not {have}")]
    Length {
        /// The element type.
        element: ElementType,
        /// The shape.
        shape: Vec<usize>,
        /// Bytes that shape and element type ask for.
        need: usize,
        /// Bytes that are there.
        have: usize,
    },
}

/// The elements of a tensor.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Data {
    /// Little-endian elements in row-major order, packed as ONNX's `raw_data` packs them.
    Packed(Bytes),
    /// The elements of a string tensor.
    Strings(std::sync::Arc<[Bytes]>),
}

/// A constant tensor. Cloning shares the bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tensor {
    element: ElementType,
    shape: Vec<usize>,
    data: Data,
    carried: Carried,
}

/// A plain number type that is the memory form of an [`ElementType`].
pub trait Element: bytemuck::Pod + Send + Sync {
    /// The element type with this memory form.
    const TYPE: ElementType;
}

macro_rules! elements {
    ($($rust:ty => $variant:ident),*) => { $(impl Element for $rust { const TYPE: ElementType = ElementType::$variant; })* };
}
elements!(f32 => F32, u8 => U8, i8 => I8, u16 => U16, i16 => I16, i32 => I32, i64 => I64, f64 => F64, u32 => U32, u64 => U64, half::f16 => F16, half::bf16 => BF16);

impl Tensor {
    /// A tensor over packed little-endian bytes.
    pub fn from_bytes(element: ElementType, shape: Vec<usize>, bytes: Bytes) -> Result<Self, TensorError> {
        let need = element_count(&shape)
            .and_then(|count| element.packed_len(count))
            .ok_or_else(|| TensorError::TooLarge(shape.clone()))?;
        if need != bytes.len() {
            return Err(TensorError::Length { element, shape, need, have: bytes.len() });
        }
        Ok(Self { element, shape, data: Data::Packed(bytes), carried: Carried::default() })
    }

    /// A tensor that owns `elements`, in row-major order.
    ///
    /// # Panics
    /// Where the number of elements is not the shape's product.
    pub fn new<T: Element>(shape: Vec<usize>, elements: Vec<T>) -> Self {
        assert_eq!(element_count(&shape), Some(elements.len()), "elements of a tensor of shape {shape:?}");
        let bytes = Bytes::from_owner(PodVec(elements));
        Self { element: T::TYPE, shape, data: Data::Packed(bytes), carried: Carried::default() }
    }

    /// A tensor of rank 0.
    pub fn scalar<T: Element>(element: T) -> Self {
        Self::new(vec![], vec![element])
    }

    /// A string tensor.
    pub fn strings(shape: Vec<usize>, elements: Vec<Bytes>) -> Result<Self, TensorError> {
        let need = element_count(&shape).ok_or_else(|| TensorError::TooLarge(shape.clone()))?;
        if need != elements.len() {
            return Err(TensorError::Length { element: ElementType::String, shape, need, have: elements.len() });
        }
        Ok(Self {
            element: ElementType::String,
            shape,
            data: Data::Strings(elements.into()),
            carried: Carried::default(),
        })
    }

    /// The same tensor with what the reader wants kept for the writer.
    #[must_use]
    pub fn with_carried(mut self, carried: Carried) -> Self {
        self.carried = carried;
        self
    }

    /// The same elements under another shape with as many elements.
    pub fn reshaped(&self, shape: Vec<usize>) -> Result<Self, TensorError> {
        let need = element_count(&shape).ok_or_else(|| TensorError::TooLarge(shape.clone()))?;
        if need != self.len() {
            return Err(TensorError::Length { element: self.element, shape, need, have: self.len() });
        }
        Ok(Self { element: self.element, shape, data: self.data.clone(), carried: Carried::default() })
    }

    /// The same elements with axis i being axis `perm[i]` of this one; `None` where `perm` is no permutation of the axes, or
    /// elements are no whole bytes.
    pub fn transposed(&self, perm: &[usize]) -> Option<Self> {
        let mut sorted = perm.to_vec();
        sorted.sort_unstable();
        let Data::Packed(bytes) = &self.data else { return None };
        let size = self.element.bits() / 8;
        if !sorted.into_iter().eq(0..self.rank()) || !self.element.bits().is_multiple_of(8) {
            return None;
        }
        let mut strides = vec![size; self.rank()];
        for axis in (1..self.rank()).rev() {
            strides[axis - 1] = strides[axis] * self.shape[axis];
        }
        let shape: Vec<usize> = perm.iter().map(|&axis| self.shape[axis]).collect();
        let strides: Vec<usize> = perm.iter().map(|&axis| strides[axis]).collect();
        let mut turned = Vec::with_capacity(bytes.len());
        let mut at = vec![0; shape.len()];
        for _ in 0..self.len() {
            let start: usize = at.iter().zip(&strides).map(|(i, stride)| i * stride).sum();
            turned.extend_from_slice(&bytes[start..start + size]);
            for axis in (0..shape.len()).rev() {
                at[axis] += 1;
                if at[axis] < shape[axis] {
                    break;
                }
                at[axis] = 0;
            }
        }
        Self::from_bytes(self.element, shape, turned.into()).ok()
    }

    /// The element type.
    pub fn element(&self) -> ElementType {
        self.element
    }

    /// The dimensions.
    pub fn shape(&self) -> &[usize] {
        &self.shape
    }

    /// The number of dimensions.
    pub fn rank(&self) -> usize {
        self.shape.len()
    }

    /// The number of elements.
    pub fn len(&self) -> usize {
        self.shape.iter().product()
    }

    /// Whether there are no elements.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The elements as stored.
    pub fn data(&self) -> &Data {
        &self.data
    }

    /// What the reader keeps for the writer.
    pub fn carried(&self) -> &Carried {
        &self.carried
    }

    /// The packed little-endian bytes; empty for strings.
    pub fn bytes(&self) -> &[u8] {
        match &self.data {
            Data::Packed(bytes) => bytes,
            Data::Strings(_) => &[],
        }
    }

    /// Bytes of the elements, strings included.
    pub fn byte_len(&self) -> usize {
        match &self.data {
            Data::Packed(bytes) => bytes.len(),
            Data::Strings(strings) => strings.iter().map(Bytes::len).sum(),
        }
    }

    /// The elements, without a copy where they lie aligned, or `None` where they have another type than `T`.
    ///
    /// Elements are little-endian, as is every machine that this builds for.
    pub fn view<T: Element>(&self) -> Option<Cow<'_, [T]>> {
        if T::TYPE != self.element {
            return None;
        }
        let Data::Packed(bytes) = &self.data else { return None };
        Some(match bytemuck::try_cast_slice(bytes) {
            Ok(slice) => Cow::Borrowed(slice),
            Err(_) => Cow::Owned(bytemuck::pod_collect_to_vec(bytes)),
        })
    }

    /// The elements as float32, for float32, float16, bfloat16 and float64 tensors.
    pub fn to_f32(&self) -> Option<Cow<'_, [f32]>> {
        match self.element {
            ElementType::F32 => self.view::<f32>(),
            ElementType::F16 => Some(self.view::<half::f16>()?.iter().map(|x| x.to_f32()).collect()),
            ElementType::BF16 => Some(self.view::<half::bf16>()?.iter().map(|x| x.to_f32()).collect()),
            ElementType::F64 => Some(self.view::<f64>()?.iter().map(|&x| x as f32).collect()),
            _ => None,
        }
    }

    /// The elements as float32, for types of which float32 holds every element: float32, float16 and bfloat16.
    pub fn floats(&self) -> Option<Cow<'_, [f32]>> {
        if self.element.fits_f32() { self.to_f32() } else { None }
    }

    /// A tensor of the same type with other elements, rounded to the nearest; `None` where it is none of [`Tensor::floats`].
    ///
    /// # Panics
    /// Where the number of elements is not that of the shape.
    pub fn with_floats(&self, shape: Vec<usize>, elements: Vec<f32>) -> Option<Self> {
        Self::of_floats(self.element, shape, elements)
    }

    /// A tensor of float32, float16 or bfloat16, each element rounded to the nearest; `None` for another type.
    ///
    /// # Panics
    /// Where the number of elements is not that of the shape.
    pub fn of_floats(element: ElementType, shape: Vec<usize>, elements: Vec<f32>) -> Option<Self> {
        Some(match element {
            ElementType::F32 => Self::new(shape, elements),
            ElementType::F16 => Self::new(shape, elements.into_iter().map(half::f16::from_f32).collect::<Vec<_>>()),
            ElementType::BF16 => Self::new(shape, elements.into_iter().map(half::bf16::from_f32).collect::<Vec<_>>()),
            _ => return None,
        })
    }

    /// The elements as int64, for tensors of integers up to 64 bits and bool.
    pub fn to_i64(&self) -> Option<Vec<i64>> {
        match self.element {
            ElementType::I64 => Some(self.view::<i64>()?.into_owned()),
            ElementType::I32 => Some(self.view::<i32>()?.iter().map(|&x| x.into()).collect()),
            ElementType::I16 => Some(self.view::<i16>()?.iter().map(|&x| x.into()).collect()),
            ElementType::I8 => Some(self.view::<i8>()?.iter().map(|&x| x.into()).collect()),
            ElementType::U32 => Some(self.view::<u32>()?.iter().map(|&x| x.into()).collect()),
            ElementType::U16 => Some(self.view::<u16>()?.iter().map(|&x| x.into()).collect()),
            ElementType::U8 => Some(self.view::<u8>()?.iter().map(|&x| x.into()).collect()),
            ElementType::Bool => Some(self.bytes().iter().map(|&x| x.into()).collect()),
            _ => None,
        }
    }

    /// The only element as float32, where there is just one and it is a float.
    pub fn scalar_f32(&self) -> Option<f32> {
        if self.len() == 1 { self.to_f32().map(|x| x[0]) } else { None }
    }

    /// A 64-bit hash of type, shape and elements, the same on every machine and in every run (FNV-1a).
    pub fn content_hash(&self) -> u64 {
        let mut hash = Fnv1a(0xcbf2_9ce4_8422_2325);
        hash.write(&self.element.code().to_le_bytes());
        for &n in &self.shape {
            hash.write(&(n as u64).to_le_bytes());
        }
        match &self.data {
            Data::Packed(bytes) => hash.write(bytes),
            Data::Strings(strings) => strings.iter().for_each(|s| {
                hash.write(&(s.len() as u64).to_le_bytes());
                hash.write(s);
            }),
        }
        hash.finish()
    }
}

/// The product of a shape, or `None` where it overflows.
pub fn element_count(shape: &[usize]) -> Option<usize> {
    shape.iter().try_fold(1usize, |count, &n| count.checked_mul(n))
}

/// Lets `Bytes` own a vector of numbers without a copy.
struct PodVec<T>(Vec<T>);

impl<T: bytemuck::Pod> AsRef<[u8]> for PodVec<T> {
    fn as_ref(&self) -> &[u8] {
        bytemuck::cast_slice(&self.0)
    }
}

struct Fnv1a(u64);

impl Hasher for Fnv1a {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        for &byte in bytes {
            self.0 = (self.0 ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn axes_change_places() {
        let tensor = Tensor::new(vec![2, 3, 2], (0..12u16).collect());
        let turned = tensor.transposed(&[2, 0, 1]).expect("a permutation");
        assert_eq!(turned.shape(), [2, 2, 3]);
        assert_eq!(turned.view::<u16>().unwrap()[..], [0, 2, 4, 6, 8, 10, 1, 3, 5, 7, 9, 11]);
        assert_eq!(turned.transposed(&[1, 2, 0]), Some(tensor.clone()));
        assert_eq!(tensor.transposed(&[0, 0, 1]), None);
        assert_eq!(Tensor::scalar(1.5f32).transposed(&[]), Some(Tensor::scalar(1.5f32)));
    }

    #[test]
    fn floats_are_rounded_to_the_nearest_of_their_type() {
        let halves = Tensor::of_floats(ElementType::F16, vec![3], vec![0.1, 1e-8, 1e6]).expect("floats");
        assert_eq!(halves.floats().unwrap()[..], [0.099_975_586, 0.0, f32::INFINITY]);
        let brain = halves.with_floats(vec![1], vec![1.0]).expect("floats");
        assert_eq!(brain.element(), ElementType::F16);
        assert_eq!(Tensor::of_floats(ElementType::F64, vec![1], vec![1.0]), None);
        assert_eq!(Tensor::scalar(1.5f64).floats(), None);
    }
}
