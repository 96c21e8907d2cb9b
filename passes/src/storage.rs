//! How codes are stored in the file.

use onnxq_ir::ElementType;
use onnxq_numerics::{IntFormat, Signedness};
use serde::{Deserialize, Serialize};

/// How codes are stored in the file.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Storage {
    /// Up to 8 bits in 8-bit types: every runtime loads them.
    #[default]
    Int8,
    /// 4 and 2 bits in ONNX's own packed types (opset 21 and 25), other widths as `Int8`.
    Native,
    /// Weights as the floats that their codes stand for: a simulation, no smaller than the model.
    Float,
}

impl Storage {
    /// The element type that holds weights of this format.
    pub fn weight_type(self, format: IntFormat) -> ElementType {
        match (self, format.bits()) {
            (Self::Native, 2) => signed(format, ElementType::I2, ElementType::U2),
            (Self::Native, 3..=4) => signed(format, ElementType::I4, ElementType::U4),
            _ => activation_type(format),
        }
    }
}

/// The element type that QuantizeLinear writes for activations of this format.
pub fn activation_type(format: IntFormat) -> ElementType {
    match format.bits() {
        0..=8 => signed(format, ElementType::I8, ElementType::U8),
        _ => signed(format, ElementType::I16, ElementType::U16),
    }
}

fn signed(format: IntFormat, signed: ElementType, unsigned: ElementType) -> ElementType {
    match format.signedness() {
        Signedness::Signed => signed,
        Signedness::Unsigned => unsigned,
    }
}
