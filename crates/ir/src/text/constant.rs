//! The elements of constants, from numbers to bytes and back.
//!
//! Floats below 32 bits are written as their bit pattern, and 4-bit and 2-bit types as packed bytes, as ONNX's syntax
//! has them. For the latter, one number per element is read as well.

use std::fmt::{self, Display};
use std::ops::RangeInclusive;

use bytes::Bytes;

use super::error::Problem;
use super::quote::Quoted;
use crate::tensor::{Data, Tensor, element_count};
use crate::types::ElementType;

/// An integer.
pub(super) fn int(literal: &str) -> Result<i64, Problem> {
    literal.parse().map_err(|_| out_of_range(literal, "int64"))
}

/// A float32.
pub(super) fn float(literal: &str) -> Result<f32, Problem> {
    literal
        .parse()
        .ok()
        .filter(|value: &f32| !value.is_infinite() || is_infinity(literal))
        .ok_or_else(|| out_of_range(literal, "float"))
}

fn double(literal: &str) -> Result<f64, Problem> {
    literal
        .parse()
        .ok()
        .filter(|value: &f64| !value.is_infinite() || is_infinity(literal))
        .ok_or_else(|| out_of_range(literal, "double"))
}

fn is_infinity(literal: &str) -> bool {
    literal.contains(['i', 'I'])
}

fn out_of_range(literal: &str, of: &'static str) -> Problem {
    Problem::Range { literal: literal.to_owned(), of }
}

/// A string tensor.
pub(super) fn strings(shape: Vec<usize>, elements: Vec<Bytes>) -> Result<Tensor, Problem> {
    check_count(&shape, 1, elements.len())?;
    Ok(Tensor::strings(shape, elements)?)
}

/// Checks how many numbers there are; a shape that is too large is left to [`Tensor`].
fn check_count(shape: &[usize], numbers_per_element: usize, have: usize) -> Result<(), Problem> {
    match element_count(shape).and_then(|count| count.checked_mul(numbers_per_element)) {
        Some(need) if need != have => Err(Problem::Count { need, have }),
        _ => Ok(()),
    }
}

/// Collects the elements of a tensor of numbers.
#[derive(Debug)]
pub(super) struct Elements {
    element: ElementType,
    /// Little-endian elements; of types below 8 bits, one number per byte.
    bytes: Vec<u8>,
    count: usize,
    /// The first number that can be a packed byte only.
    packed: Option<String>,
}

impl Elements {
    pub(super) fn new(element: ElementType) -> Self {
        Self { element, bytes: Vec::new(), count: 0, packed: None }
    }

    /// Adds the next number: an element, half of a complex one, or packed elements.
    pub(super) fn push(&mut self, literal: &str) -> Result<(), Problem> {
        use ElementType as E;
        self.count += 1;
        match self.element {
            E::F32 | E::C64 => self.bytes.extend(float(literal)?.to_le_bytes()),
            E::F64 | E::C128 => self.bytes.extend(double(literal)?.to_le_bytes()),
            E::I64 => self.bytes.extend(int(literal)?.to_le_bytes()),
            E::U64 => {
                let value: u64 = literal.parse().map_err(|_| out_of_range(literal, "uint64"))?;
                self.bytes.extend(value.to_le_bytes());
            }
            element => {
                let value: i64 = literal.parse().map_err(|_| out_of_range(literal, element.name()))?;
                if !range(element).contains(&value) {
                    if !(has_packed_form(element) && (0..=255).contains(&value)) {
                        return Err(out_of_range(literal, element.name()));
                    }
                    self.packed.get_or_insert_with(|| literal.to_owned());
                }
                self.bytes.extend(&value.to_le_bytes()[..element.bits().div_ceil(8)]);
            }
        }
        Ok(())
    }

    /// The tensor, where there are as many numbers as the shape asks for.
    pub(super) fn finish(self, shape: Vec<usize>) -> Result<Tensor, Problem> {
        let is_complex = matches!(self.element, ElementType::C64 | ElementType::C128);
        let numbers_per_element = if is_complex { 2 } else { 1 };
        let packed_len = element_count(&shape).and_then(|count| self.element.packed_len(count));
        let may_be_packed = has_packed_form(self.element) && packed_len == Some(self.count);
        let bytes = match check_count(&shape, numbers_per_element, self.count) {
            Ok(()) if self.packed.is_none() => pack(self.element, self.bytes),
            _ if may_be_packed => self.bytes,
            Ok(()) => return Err(out_of_range(&self.packed.unwrap_or_default(), self.element.name())),
            Err(problem) => return Err(problem),
        };
        Ok(Tensor::from_bytes(self.element, shape, bytes.into())?)
    }
}

/// Whether the syntax has several elements of this type in a number.
fn has_packed_form(element: ElementType) -> bool {
    matches!(element.bits(), 2 | 4)
}

/// The numbers that stand for one element of a type of less than 64 bits; bit patterns for floats.
fn range(element: ElementType) -> RangeInclusive<i64> {
    use ElementType as E;
    match element {
        E::Bool => 0..=1,
        E::I2 | E::I4 | E::I8 | E::I16 | E::I32 => {
            let half = 1 << (element.bits() - 1);
            -half..=half - 1
        }
        _ => 0..=(1 << element.bits()) - 1,
    }
}

/// Packs elements of less than 8 bits, one in each byte, the first in the lowest bits; others are packed already.
fn pack(element: ElementType, elements: Vec<u8>) -> Vec<u8> {
    let bits = element.bits();
    if bits >= 8 {
        return elements;
    }
    let mut packed = vec![0; (elements.len() * bits).div_ceil(8)];
    for (i, &byte) in elements.iter().enumerate() {
        let [low, high] = (u16::from(byte & ((1 << bits) - 1)) << (i * bits % 8)).to_le_bytes();
        packed[i * bits / 8] |= low;
        if high != 0 {
            packed[i * bits / 8 + 1] |= high;
        }
    }
    packed
}

/// Whether the syntax can hold every element: its strings are UTF-8.
pub(super) fn is_writable(tensor: &Tensor) -> bool {
    match tensor.data() {
        Data::Packed(_) => true,
        Data::Strings(strings) => strings.iter().all(|string| std::str::from_utf8(string).is_ok()),
    }
}

/// The elements of a tensor with commas between.
pub(super) struct Written<'a>(pub(super) &'a Tensor);

impl Display for Written<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        use ElementType as E;
        match self.0.element() {
            E::F32 | E::C64 => self.numbers(f, |bytes, f| Float(f32::from_le_bytes(bytes)).fmt(f)),
            E::F64 | E::C128 => self.numbers(f, |bytes, f| Double(f64::from_le_bytes(bytes)).fmt(f)),
            E::I8 => self.numbers(f, |bytes, f| i8::from_le_bytes(bytes).fmt(f)),
            E::I16 => self.numbers(f, |bytes, f| i16::from_le_bytes(bytes).fmt(f)),
            E::I32 => self.numbers(f, |bytes, f| i32::from_le_bytes(bytes).fmt(f)),
            E::I64 => self.numbers(f, |bytes, f| i64::from_le_bytes(bytes).fmt(f)),
            E::U16 | E::F16 | E::BF16 => self.numbers(f, |bytes, f| u16::from_le_bytes(bytes).fmt(f)),
            E::U32 => self.numbers(f, |bytes, f| u32::from_le_bytes(bytes).fmt(f)),
            E::U64 => self.numbers(f, |bytes, f| u64::from_le_bytes(bytes).fmt(f)),
            E::F6E2M3 | E::F6E3M2 => separated(f, 0..self.0.len(), |i, f| six_bits(self.0.bytes(), i).fmt(f)),
            E::String => match self.0.data() {
                Data::Strings(strings) => {
                    separated(f, strings.iter(), |string, f| Quoted(&String::from_utf8_lossy(string)).fmt(f))
                }
                Data::Packed(_) => Ok(()),
            },
            _ => self.numbers(f, |[byte], f| byte.fmt(f)),
        }
    }
}

impl Written<'_> {
    fn numbers<const N: usize>(
        &self,
        f: &mut fmt::Formatter<'_>,
        write: impl Fn([u8; N], &mut fmt::Formatter<'_>) -> fmt::Result,
    ) -> fmt::Result {
        separated(f, self.0.bytes().as_chunks::<N>().0.iter(), |&bytes, f| write(bytes, f))
    }
}

fn six_bits(packed: &[u8], index: usize) -> u8 {
    let bit = index * 6;
    let low = packed[bit / 8];
    let high = packed.get(bit / 8 + 1).copied().unwrap_or(0);
    (u16::from_le_bytes([low, high]) >> (bit % 8)) as u8 & 63
}

/// Writes items with commas between.
pub(super) fn separated<T>(
    f: &mut fmt::Formatter<'_>,
    items: impl IntoIterator<Item = T>,
    write: impl Fn(T, &mut fmt::Formatter<'_>) -> fmt::Result,
) -> fmt::Result {
    for (i, item) in items.into_iter().enumerate() {
        if i > 0 {
            f.write_str(", ")?;
        }
        write(item, f)?;
    }
    Ok(())
}

/// A float32 with the fewest digits that are read back as the same, always recognisable as a float.
pub(super) struct Float(pub(super) f32);

impl Display for Float {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            x if x.is_nan() => f.write_str(if x.is_sign_negative() { "-nan" } else { "nan" }),
            x => write!(f, "{x:?}"),
        }
    }
}

struct Double(f64);

impl Display for Double {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            x if x.is_nan() => f.write_str(if x.is_sign_negative() { "-nan" } else { "nan" }),
            x => write!(f, "{x:?}"),
        }
    }
}
