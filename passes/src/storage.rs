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
    /// 4 and 2 bits in ONNX's own packed types (opset 21 and 25) where the target loads them, other widths as `Int8`.
    Native,
    /// Weights as the floats that their codes stand for: a simulation, no smaller than the model.
    Float,
}

/// What stands in the file for a weight.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Carrier {
    /// Codes of this element type, and a node that dequantizes them.
    Codes(ElementType),
    /// The floats that the codes stand for.
    Floats,
}

impl Storage {
    /// What holds weights of this format, where the runtime loads packed types of these widths.
    pub fn weight_carrier(self, format: IntFormat, packed: &[u8]) -> Carrier {
        let narrowest = [2, 4].into_iter().find(|width| format.bits() <= *width && packed.contains(width));
        match (self, narrowest) {
            (Self::Float, _) => Carrier::Floats,
            (Self::Native, Some(2)) => Carrier::Codes(signed(format, ElementType::I2, ElementType::U2)),
            (Self::Native, Some(_)) => Carrier::Codes(signed(format, ElementType::I4, ElementType::U4)),
            (Self::Native, None) | (Self::Int8, _) => Carrier::Codes(activation_type(format)),
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
        let stored = |storage: Storage, packed: &[u8]| -> Vec<Carrier> {
            [2, 3, 4, 5, 8].map(|bits| storage.weight_carrier(format(bits, Signedness::Signed), packed)).to_vec()
        };
        let codes = |elements: [ElementType; 5]| elements.map(Carrier::Codes).to_vec();
        assert_eq!(stored(Storage::Native, &[2, 4]), codes([E::I2, E::I4, E::I4, E::I8, E::I8]));
        assert_eq!(stored(Storage::Native, &[4]), codes([E::I4, E::I4, E::I4, E::I8, E::I8]));
        assert_eq!(stored(Storage::Native, &[]), codes([E::I8; 5]));
        assert_eq!(stored(Storage::Int8, &[2, 4]), codes([E::I8; 5]));
        assert_eq!(stored(Storage::Float, &[2, 4]), [Carrier::Floats; 5]);
        let unsigned = Storage::Native.weight_carrier(format(4, Signedness::Unsigned), &[4]);
        assert_eq!(unsigned, Carrier::Codes(E::U4));
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
