//! A walk over the wire format before decoding.
//!
//! Tells a damaged file from one of another kind, finds fields that decoding would drop in silence, and bounds what
//! decoding will allocate. Skips over weights without touching them. The order of fields, and how numbers are
//! encoded, is the writer's affair and does not matter.

use super::error::ReadProblem;

/// A message of ONNX: its name and all its fields; those that are messages lead on.
pub(super) struct Schema {
    pub(super) name: &'static str,
    pub(super) fields: &'static [(u32, Kind)],
}

/// What a field holds, as far as the walk cares.
#[derive(Clone, Copy)]
pub(super) enum Kind {
    /// A number or bytes.
    Plain,
    /// Numbers of variable length, which grow up to eightfold in memory.
    Varints,
    /// A message.
    Message(&'static Schema),
}

use Kind::{Message, Plain, Varints};

macro_rules! schemas {
    ($($constant:ident = $name:literal: $($number:literal $kind:expr),*;)*) => {
        $(static $constant: Schema = Schema { name: $name, fields: &[$(($number, $kind)),*] };)*
        #[cfg(test)]
        pub(super) static ALL: &[&Schema] = &[$(&$constant),*];
    };
}

schemas! {
    ATTRIBUTE = "AttributeProto":
        1 Plain, 21 Plain, 13 Plain, 20 Plain, 2 Plain, 3 Plain, 4 Plain, 5 Message(&TENSOR), 6 Message(&GRAPH),
        22 Message(&SPARSE_TENSOR), 14 Message(&TYPE), 7 Plain, 8 Varints, 9 Plain, 10 Message(&TENSOR),
        11 Message(&GRAPH), 23 Message(&SPARSE_TENSOR), 15 Message(&TYPE);
    VALUE_INFO = "ValueInfoProto": 1 Plain, 2 Message(&TYPE), 3 Plain, 4 Message(&ENTRY);
    NODE = "NodeProto":
        1 Plain, 2 Plain, 3 Plain, 4 Plain, 7 Plain, 8 Plain, 5 Message(&ATTRIBUTE), 6 Plain, 9 Message(&ENTRY),
        10 Message(&NODE_DEVICE);
    INT_INT_LIST = "IntIntListEntryProto": 1 Plain, 2 Varints;
    NODE_DEVICE = "NodeDeviceConfigurationProto": 1 Plain, 2 Message(&SHARDING), 3 Plain;
    SHARDING = "ShardingSpecProto": 1 Plain, 2 Varints, 3 Message(&INT_INT_LIST), 4 Message(&SHARDED_DIM);
    SHARDED_DIM = "ShardedDimProto": 1 Plain, 2 Message(&SIMPLE_SHARDED_DIM);
    SIMPLE_SHARDED_DIM = "SimpleShardedDimProto": 1 Plain, 2 Plain, 3 Plain;
    TRAINING = "TrainingInfoProto": 1 Message(&GRAPH), 2 Message(&GRAPH), 3 Message(&ENTRY), 4 Message(&ENTRY);
    MODEL = "ModelProto":
        1 Plain, 8 Message(&OPSET), 2 Plain, 3 Plain, 4 Plain, 5 Plain, 6 Plain, 7 Message(&GRAPH), 14 Message(&ENTRY),
        20 Message(&TRAINING), 25 Message(&FUNCTION), 26 Message(&DEVICE);
    DEVICE = "DeviceConfigurationProto": 1 Plain, 2 Plain, 3 Plain;
    ENTRY = "StringStringEntryProto": 1 Plain, 2 Plain;
    ANNOTATION = "TensorAnnotation": 1 Plain, 2 Message(&ENTRY);
    GRAPH = "GraphProto":
        1 Message(&NODE), 2 Plain, 5 Message(&TENSOR), 15 Message(&SPARSE_TENSOR), 10 Plain, 11 Message(&VALUE_INFO),
        12 Message(&VALUE_INFO), 13 Message(&VALUE_INFO), 14 Message(&ANNOTATION), 16 Message(&ENTRY);
    TENSOR = "TensorProto":
        1 Varints, 2 Plain, 3 Message(&SEGMENT), 4 Plain, 5 Varints, 6 Plain, 7 Varints, 8 Plain, 12 Plain, 9 Plain,
        13 Message(&ENTRY), 14 Plain, 10 Plain, 11 Varints, 16 Message(&ENTRY);
    SEGMENT = "Segment": 1 Plain, 2 Plain;
    SPARSE_TENSOR = "SparseTensorProto": 1 Message(&TENSOR), 2 Message(&TENSOR), 3 Varints;
    SHAPE = "TensorShapeProto": 1 Message(&DIMENSION);
    DIMENSION = "Dimension": 1 Plain, 2 Plain, 3 Plain;
    TYPE = "TypeProto":
        1 Message(&TENSOR_TYPE), 4 Message(&SEQUENCE), 5 Message(&MAP), 9 Message(&OPTIONAL), 8 Message(&SPARSE_TYPE),
        7 Message(&OPAQUE), 6 Plain;
    TENSOR_TYPE = "Tensor": 1 Plain, 2 Message(&SHAPE);
    SEQUENCE = "Sequence": 1 Message(&TYPE);
    MAP = "Map": 1 Plain, 2 Message(&TYPE);
    OPTIONAL = "Optional": 1 Message(&TYPE);
    SPARSE_TYPE = "SparseTensor": 1 Plain, 2 Message(&SHAPE);
    OPAQUE = "Opaque": 1 Plain, 2 Plain;
    OPSET = "OperatorSetIdProto": 1 Plain, 2 Plain;
    FUNCTION = "FunctionProto":
        1 Plain, 4 Plain, 5 Plain, 6 Plain, 11 Message(&ATTRIBUTE), 7 Message(&NODE), 8 Plain, 9 Message(&OPSET),
        10 Plain, 13 Plain, 12 Message(&VALUE_INFO), 14 Message(&ENTRY);
}

/// Messages within messages that decoding allows.
const MAX_DEPTH: usize = 100;
/// Fields outside weights. Each costs up to 400 bytes once decoded; a graph of 100,000 nodes has two million.
const MAX_FIELDS: u64 = 8_000_000;
/// Bytes of one number of variable length.
const MAX_VARINT: usize = 10;
/// Bytes of all numbers of variable length.
const MAX_VARINTS: u64 = 512 << 20;

/// Walks over a model.
pub(super) fn scan_model(bytes: &[u8]) -> Result<(), ReadProblem> {
    if bytes.is_empty() {
        return Err(ReadProblem::Empty);
    }
    walk(&MODEL, bytes).map_err(|problem| match problem {
        _ if looks_like_text(bytes) => ReadProblem::Text(hint(bytes)),
        _ if !begins_like_model(bytes) => ReadProblem::NotOnnx,
        problem => problem,
    })
}

/// Walks over a lone tensor.
pub(super) fn scan_tensor(bytes: &[u8]) -> Result<(), ReadProblem> {
    walk(&TENSOR, bytes)
}

fn walk(schema: &'static Schema, bytes: &[u8]) -> Result<(), ReadProblem> {
    let mut walk = Walk::default();
    walk.message(schema, bytes, 0)?;
    // Damage comes first: garbage is full of unknown fields.
    walk.unknown.map_or(Ok(()), |(message, number)| Err(ReadProblem::UnknownField { message, number }))
}

fn begins_like_model(bytes: &[u8]) -> bool {
    let Some(key) = varint(&mut &*bytes) else { return false };
    let expected = match key >> 3 {
        1 | 5 => 0,
        number if MODEL.fields.iter().any(|&(known, _)| u64::from(known) == number) => 2,
        _ => return false,
    };
    key & 7 == expected
}

fn looks_like_text(bytes: &[u8]) -> bool {
    let start = &bytes[..bytes.len().min(256)];
    // A character may be cut at the end of the sample.
    let valid = match std::str::from_utf8(start) {
        Ok(text) => text,
        Err(error) if error.valid_up_to() + 4 > start.len() => {
            std::str::from_utf8(&start[..error.valid_up_to()]).unwrap_or_default()
        }
        Err(_) => return false,
    };
    !valid.is_empty() && valid.chars().all(|c| !c.is_control() || matches!(c, '\n' | '\r' | '\t'))
}

fn hint(bytes: &[u8]) -> &'static str {
    if bytes.starts_with(b"version https://git-lfs") { "; it stands for one in Git LFS: fetch it" } else { "" }
}

#[derive(Default)]
struct Walk {
    fields: u64,
    varints: u64,
    /// The first field that is not in the schema.
    unknown: Option<(&'static str, u32)>,
}

impl Walk {
    fn message(&mut self, schema: &'static Schema, bytes: &[u8], depth: usize) -> Result<(), ReadProblem> {
        if depth > MAX_DEPTH {
            return Err(ReadProblem::TooDeep);
        }
        let damaged = || ReadProblem::Damaged(format!("a `{}` is malformed", schema.name));
        let cut = |missing: u64| if depth == 0 { ReadProblem::Truncated { missing } } else { damaged() };
        let mut rest = bytes;
        while !rest.is_empty() {
            self.count_field()?;
            let number =
                |rest: &mut &[u8]| varint(rest).ok_or_else(|| if rest.len() < MAX_VARINT { cut(1) } else { damaged() });
            let key = number(&mut rest)?;
            let skipped = match key & 7 {
                0 => number(&mut rest).map(|_| 0)?,
                1 => 8,
                2 => number(&mut rest)?,
                5 => 4,
                _ => return Err(damaged()),
            };
            let number = u32::try_from(key >> 3).ok().filter(|&number| number > 0).ok_or_else(damaged)?;
            if skipped > rest.len() as u64 {
                return Err(cut(skipped - rest.len() as u64));
            }
            let (content, behind) = rest.split_at(skipped as usize);
            rest = behind;
            match schema.fields.iter().find(|&&(known, _)| known == number) {
                None => self.unknown = self.unknown.or(Some((schema.name, number))),
                Some((_, Message(inner))) if key & 7 == 2 => self.message(inner, content, depth + 1)?,
                Some((_, Varints)) => self.count_varints(content.len())?,
                Some(_) => {}
            }
        }
        Ok(())
    }

    fn count_field(&mut self) -> Result<(), ReadProblem> {
        self.fields += 1;
        if self.fields > MAX_FIELDS {
            return Err(ReadProblem::TooMuch { what: "too many fields", limit: MAX_FIELDS });
        }
        Ok(())
    }

    fn count_varints(&mut self, bytes: usize) -> Result<(), ReadProblem> {
        self.varints += bytes as u64;
        if self.varints > MAX_VARINTS {
            let what = "too many bytes of integers outside `raw_data`";
            return Err(ReadProblem::TooMuch { what, limit: MAX_VARINTS });
        }
        Ok(())
    }
}

/// Reads a number of variable length; `None` where it does not end, in which case nothing is consumed.
fn varint(bytes: &mut &[u8]) -> Option<u64> {
    let mut value = 0u64;
    for (i, &byte) in bytes.iter().enumerate().take(MAX_VARINT) {
        value |= u64::from(byte & 0x7f).checked_shl(7 * i as u32).unwrap_or(0);
        if byte < 0x80 {
            *bytes = &bytes[i + 1..];
            return Some(value);
        }
    }
    None
}
