//! Element types, dimensions and value types, as ONNX defines them.

use std::fmt;

/// Fields of the file that no pass reads, encoded, riding along so that an untouched entity is written as it was read.
///
/// Only the reader and the writer know what the bytes mean.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Carried(Option<bytes::Bytes>);

impl Carried {
    /// Wraps encoded bytes; empty bytes are the same as nothing.
    pub fn new(bytes: bytes::Bytes) -> Self {
        Self((!bytes.is_empty()).then_some(bytes))
    }

    /// The encoded bytes, if there are any.
    pub fn bytes(&self) -> Option<&bytes::Bytes> {
        self.0.as_ref()
    }
}

impl fmt::Debug for Carried {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            None => f.write_str("Carried(none)"),
            Some(bytes) => write!(f, "Carried({} bytes)", bytes.len()),
        }
    }
}

macro_rules! element_types {
    ($($variant:ident = $code:literal, $name:literal, $bits:literal;)*) => {
        /// The element type of a tensor: `TensorProto.DataType`, without UNDEFINED.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
        #[expect(missing_docs, reason = "the variants are ONNX's own names")]
        pub enum ElementType { $($variant = $code,)* }

        impl ElementType {
    /// Whether elements are floating-point numbers of 16 bits or more, as weights and activations are.
    pub fn is_float(self) -> bool {
        matches!(self, Self::F16 | Self::BF16 | Self::F32 | Self::F64)
    }

    /// Whether elements are floating-point numbers of 16 bits.
    pub fn is_half(self) -> bool {
        matches!(self, Self::F16 | Self::BF16)
    }

    /// Whether elements are floating-point numbers of which float32 holds every one.
    pub fn fits_f32(self) -> bool {
        self == Self::F32 || self.is_half()
    }

            /// All element types, in the order of their codes.
            pub const ALL: &[Self] = &[$(Self::$variant,)*];

            /// The type with this `TensorProto.DataType` number.
            pub fn from_code(code: i32) -> Option<Self> {
                match code { $($code => Some(Self::$variant),)* _ => None }
            }

            /// The type's name in ONNX's textual syntax, such as `float` or `int64`.
            pub fn name(self) -> &'static str {
                match self { $(Self::$variant => $name,)* }
            }

            /// The type with this name in ONNX's textual syntax.
            pub fn from_name(name: &str) -> Option<Self> {
                match name { $($name => Some(Self::$variant),)* _ => None }
            }

            /// Bits of one element as raw data packs it; 0 for strings.
            pub fn bits(self) -> usize {
                match self { $(Self::$variant => $bits,)* }
            }
        }
    };
}

element_types! {
    F32 = 1, "float", 32;
    U8 = 2, "uint8", 8;
    I8 = 3, "int8", 8;
    U16 = 4, "uint16", 16;
    I16 = 5, "int16", 16;
    I32 = 6, "int32", 32;
    I64 = 7, "int64", 64;
    String = 8, "string", 0;
    Bool = 9, "bool", 8;
    F16 = 10, "float16", 16;
    F64 = 11, "double", 64;
    U32 = 12, "uint32", 32;
    U64 = 13, "uint64", 64;
    C64 = 14, "complex64", 64;
    C128 = 15, "complex128", 128;
    BF16 = 16, "bfloat16", 16;
    F8E4M3FN = 17, "float8e4m3fn", 8;
    F8E4M3FNUZ = 18, "float8e4m3fnuz", 8;
    F8E5M2 = 19, "float8e5m2", 8;
    F8E5M2FNUZ = 20, "float8e5m2fnuz", 8;
    U4 = 21, "uint4", 4;
    I4 = 22, "int4", 4;
    F4E2M1 = 23, "float4e2m1", 4;
    F8E8M0 = 24, "float8e8m0", 8;
    U2 = 25, "uint2", 2;
    I2 = 26, "int2", 2;
    F6E2M3 = 27, "float6e2m3", 6;
    F6E3M2 = 28, "float6e3m2", 6;
}

impl ElementType {
    /// The `TensorProto.DataType` number.
    pub fn code(self) -> i32 {
        self as i32
    }

    /// Bytes of `count` elements as raw data packs them, or `None` where that overflows.
    pub fn packed_len(self, count: usize) -> Option<usize> {
        Some(count.checked_mul(self.bits())?.div_ceil(8))
    }
}

impl fmt::Display for ElementType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// One dimension of a shape, as far as it is known.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Dim {
    /// A fixed size.
    Known(usize),
    /// A size with a name; equal names are equal sizes.
    Symbol(String),
    /// Nothing is known.
    Unknown,
}

impl Dim {
    /// The size where it is fixed.
    pub fn known(&self) -> Option<usize> {
        match self {
            Self::Known(n) => Some(*n),
            Self::Symbol(_) | Self::Unknown => None,
        }
    }
}

impl fmt::Display for Dim {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Known(n) => write!(f, "{n}"),
            Self::Symbol(name) => f.write_str(name),
            Self::Unknown => f.write_str("?"),
        }
    }
}

/// Element type and shape of a tensor value, as far as known.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TensorType {
    /// The element type.
    pub element: ElementType,
    /// The dimensions; `None` where not even the rank is known.
    pub shape: Option<Vec<Dim>>,
}

impl TensorType {
    /// A type with every dimension fixed.
    pub fn fixed(element: ElementType, shape: &[usize]) -> Self {
        Self { element, shape: Some(shape.iter().map(|&n| Dim::Known(n)).collect()) }
    }

    /// The number of dimensions, where known.
    pub fn rank(&self) -> Option<usize> {
        self.shape.as_ref().map(Vec::len)
    }

    /// The shape where every dimension is fixed.
    pub fn fixed_shape(&self) -> Option<Vec<usize>> {
        self.shape.as_ref()?.iter().map(Dim::known).collect()
    }
}

impl fmt::Display for TensorType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.element)?;
        match &self.shape {
            None => f.write_str("[]"),
            Some(dims) if dims.is_empty() => Ok(()),
            Some(dims) => {
                f.write_str("[")?;
                for (i, dim) in dims.iter().enumerate() {
                    write!(f, "{}{dim}", if i == 0 { "" } else { ", " })?;
                }
                f.write_str("]")
            }
        }
    }
}

/// The type of a value.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum ValueType {
    /// The file says nothing.
    #[default]
    Unknown,
    /// A dense tensor.
    Tensor(TensorType),
    /// A sequence, map, optional, sparse tensor or opaque type, which nothing here looks into: the encoded `TypeProto`.
    Other(Carried),
}

impl ValueType {
    /// The tensor type, if this is one.
    pub fn tensor(&self) -> Option<&TensorType> {
        match self {
            Self::Tensor(tensor) => Some(tensor),
            Self::Unknown | Self::Other(_) => None,
        }
    }
}
