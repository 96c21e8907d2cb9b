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

#[cfg(test)]
mod tests {
    use ElementType as E;

    use super::*;

    fn format(bits: u8, signedness: Signedness) -> IntFormat {
        IntFormat::new(bits, signedness).expect("a format")
    }

    #[test]
    fn packed_types_hold_two_to_four_bits_and_others_lie_in_bytes() {
        let stored = |storage: Storage| -> Vec<ElementType> {
            [2, 3, 4, 5, 8].map(|bits| storage.weight_type(format(bits, Signedness::Signed))).to_vec()
        };
        assert_eq!(stored(Storage::Native), [E::I2, E::I4, E::I4, E::I8, E::I8]);
        assert_eq!(stored(Storage::Int8), [E::I8; 5]);
        assert_eq!(Storage::Native.weight_type(format(4, Signedness::Unsigned)), E::U4);
    }

    #[test]
    fn activations_lie_in_eight_or_sixteen_bits() {
        for (bits, signedness, element) in [
            (2, Signedness::Unsigned, E::U8),
            (8, Signedness::Signed, E::I8),
            (16, Signedness::Unsigned, E::U16),
            (16, Signedness::Signed, E::I16),
        ] {
            assert_eq!(activation_type(format(bits, signedness)), element);
        }
    }
}
