//! The 4-bit float E2M1 of ONNX. Knows no scale.

use super::int::FormatError;
use super::minifloat::MiniFloat;

const MAGNITUDES: MiniFloat = MiniFloat { mantissa: 1, bias: 1, max_code: 7 };
const SIGN: u8 = 8;

/// E2M1: 0, 0.5, 1, 1.5, 2, 3, 4, 6 and their negatives; no infinity, no NaN.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Float4E2M1;

impl Float4E2M1 {
    /// The largest value.
    pub const MAX: f32 = 6.0;

    /// The 4-bit code of a value: nearest, ties to even, saturated; NaN gives 6, as ONNX's Cast has it.
    pub fn encode(value: f32) -> u8 {
        let negative = value.is_sign_negative() && !value.is_nan();
        MAGNITUDES.encode(value.abs()) | if negative { SIGN } else { 0 }
    }

    /// The value of the low four bits.
    pub fn decode(code: u8) -> f32 {
        let magnitude = MAGNITUDES.decode(code & 7);
        if code & SIGN == 0 { magnitude } else { -magnitude }
    }

    /// Codes, two a byte, the first in the low half; a last lone one beside 0.
    pub fn pack(codes: &[u8]) -> Vec<u8> {
        codes.chunks(2).map(|pair| (pair[0] & 15) | pair.get(1).map_or(0, |high| high << 4)).collect()
    }

    /// The inverse of [`pack`](Self::pack): the first `count` codes.
    pub fn unpack(bytes: &[u8], count: usize) -> Result<Vec<u8>, FormatError> {
        let needed = count.div_ceil(2);
        let bytes = bytes.get(..needed).ok_or(FormatError::TooShortFloat4 { count, needed, found: bytes.len() })?;
        Ok(bytes.iter().flat_map(|byte| [byte & 15, byte >> 4]).take(count).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_the_eight_of_the_standard() {
        let values: Vec<f32> = (0..16).map(Float4E2M1::decode).collect();
        assert_eq!(values[..8], [0.0, 0.5, 1.0, 1.5, 2.0, 3.0, 4.0, 6.0]);
        assert!(values[8..].iter().zip(&values).all(|(low, high)| low.to_bits() == (-high).to_bits()));
        assert!((0..16).all(|code| Float4E2M1::encode(Float4E2M1::decode(code)) == code));
    }

    #[test]
    fn rounds_to_the_nearest_value_with_ties_to_even() {
        for i in -8000..=8000 {
            let value = i as f32 / 1000.0;
            let distance = |code: u8| (Float4E2M1::decode(code) - value).abs();
            let nearest =
                (0..16).min_by(|&a, &b| distance(a).total_cmp(&distance(b)).then((a & 1).cmp(&(b & 1)))).unwrap();
            assert_eq!(Float4E2M1::decode(Float4E2M1::encode(value)), Float4E2M1::decode(nearest), "{value}");
        }
        let ties = [0.25, 0.75, 1.25, 1.75, 2.5, 3.5, 5.0].map(|v| Float4E2M1::decode(Float4E2M1::encode(v)));
        assert_eq!(ties, [0.0, 1.0, 1.0, 2.0, 2.0, 4.0, 4.0]);
    }

    #[test]
    fn special_values_follow_the_cast() {
        assert_eq!([f32::NAN, -f32::NAN, f32::INFINITY].map(Float4E2M1::encode), [7; 3]);
        assert_eq!(Float4E2M1::encode(f32::NEG_INFINITY), 15);
        assert_eq!([0.0, -0.0].map(Float4E2M1::encode), [0, 8]);
    }

    #[test]
    fn pairs_share_a_byte() {
        assert_eq!(Float4E2M1::pack(&[1, 15, 7]), [0xf1, 0x07]);
        let codes: Vec<u8> = (0..15).collect();
        assert_eq!(Float4E2M1::unpack(&Float4E2M1::pack(&codes), 15).unwrap(), codes);
        assert!(Float4E2M1::unpack(&[0], 3).is_err());
    }
}
