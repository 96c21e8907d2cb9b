//! Integer formats of 2 to 16 bits and their bytes as ONNX lays them out. Knows no scale.

use std::fmt;
use std::ops::RangeInclusive;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// What is wrong with a format or its bytes.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum FormatError {
    /// Not the name of an integer format.
    #[error("`{0}` is no integer format; write `u` or `s` and 2 to 16 bits, as in `u8` or `s4`")]
    Name(String),
    /// Fewer bytes than the codes need.
    #[error("{needed} bytes are needed for {count} codes of `{format}`, but there are {found}; pass the whole tensor")]
    TooShort {
        /// The format of the codes.
        format: IntFormat,
        /// How many codes were asked for.
        count: usize,
        /// How many bytes they take.
        needed: usize,
        /// How many there are.
        found: usize,
    },
    /// Fewer bytes than the 4-bit floats need.
    #[error("{needed} bytes are needed for {count} codes of `e2m1`, but there are {found}; pass the whole tensor")]
    TooShortFloat4 {
        /// How many codes were asked for.
        count: usize,
        /// How many bytes they take.
        needed: usize,
        /// How many there are.
        found: usize,
    },
}

/// Whether codes start at 0 or are two's complement.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Signedness {
    /// Codes `-2^(b-1) ..= 2^(b-1) - 1`.
    Signed,
    /// Codes `0 ..= 2^b - 1`.
    Unsigned,
}

/// An integer format: its number of bits (2 to 16) and its sign. Written `u8`, `s4`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct IntFormat {
    bits: u8,
    signedness: Signedness,
}

impl IntFormat {
    /// uint8.
    pub const U8: Self = Self { bits: 8, signedness: Signedness::Unsigned };
    /// int8.
    pub const S8: Self = Self { bits: 8, signedness: Signedness::Signed };

    /// `None` unless `bits` is 2 to 16.
    pub const fn new(bits: u8, signedness: Signedness) -> Option<Self> {
        if bits >= 2 && bits <= 16 { Some(Self { bits, signedness }) } else { None }
    }

    /// The number of bits, 2 to 16.
    pub const fn bits(self) -> u8 {
        self.bits
    }

    /// Signed or unsigned.
    pub const fn signedness(self) -> Signedness {
        self.signedness
    }

    /// The smallest code.
    pub const fn qmin(self) -> i32 {
        match self.signedness {
            Signedness::Signed => -(1 << (self.bits - 1)),
            Signedness::Unsigned => 0,
        }
    }

    /// The largest code.
    pub const fn qmax(self) -> i32 {
        match self.signedness {
            Signedness::Signed => (1 << (self.bits - 1)) - 1,
            Signedness::Unsigned => (1 << self.bits) - 1,
        }
    }

    /// How many codes there are: `2^bits`.
    pub const fn levels(self) -> usize {
        1 << self.bits
    }

    /// All codes, ascending.
    pub const fn codes(self) -> RangeInclusive<i32> {
        self.qmin()..=self.qmax()
    }

    /// How many bytes `count` codes take, packed as [`pack`] does.
    pub const fn packed_len(self, count: usize) -> usize {
        match self.bits {
            2 => count.div_ceil(4),
            4 => count.div_ceil(2),
            3..=8 => count,
            _ => 2 * count,
        }
    }

    fn code_of(self, pattern: u32) -> i32 {
        let unused = 32 - u32::from(self.bits);
        match self.signedness {
            Signedness::Signed => ((pattern << unused) as i32) >> unused,
            Signedness::Unsigned => ((pattern << unused) >> unused) as i32,
        }
    }
}

impl fmt::Display for IntFormat {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let sign = match self.signedness {
            Signedness::Signed => 's',
            Signedness::Unsigned => 'u',
        };
        write!(f, "{sign}{}", self.bits)
    }
}

impl FromStr for IntFormat {
    type Err = FormatError;

    fn from_str(text: &str) -> Result<Self, FormatError> {
        let error = || FormatError::Name(text.to_owned());
        let (signedness, bits) = if let Some(bits) = text.strip_prefix('s') {
            (Signedness::Signed, bits)
        } else if let Some(bits) = text.strip_prefix('u') {
            (Signedness::Unsigned, bits)
        } else {
            return Err(error());
        };
        if !bits.bytes().all(|b| b.is_ascii_digit()) || bits.starts_with('0') {
            return Err(error());
        }
        bits.parse().ok().and_then(|bits| Self::new(bits, signedness)).ok_or_else(error)
    }
}

impl TryFrom<String> for IntFormat {
    type Error = FormatError;

    fn try_from(text: String) -> Result<Self, FormatError> {
        text.parse()
    }
}

impl From<IntFormat> for String {
    fn from(format: IntFormat) -> Self {
        format.to_string()
    }
}

/// The bytes of `codes` as ONNX's `raw_data` holds them: 2- and 4-bit codes packed, the first in the lowest bits,
/// unused bits 0; 8 bits one byte; 16 bits little-endian. Widths that ONNX has no type for take one sign- or
/// zero-extended byte a code, above 8 bits two. Codes outside of the format saturate.
pub fn pack(codes: &[i32], format: IntFormat) -> Vec<u8> {
    let saturated = |code: i32| code.clamp(format.qmin(), format.qmax());
    match format.bits {
        2 | 4 => pack_below_bytes(codes, format, saturated),
        3..=8 => codes.iter().map(|&code| saturated(code) as u8).collect(),
        _ => codes.iter().flat_map(|&code| (saturated(code) as u16).to_le_bytes()).collect(),
    }
}

fn pack_below_bytes(codes: &[i32], format: IntFormat, saturated: impl Fn(i32) -> i32) -> Vec<u8> {
    let bits = usize::from(format.bits);
    let mask = format.levels() as u32 - 1;
    let byte = |group: &[i32]| {
        group.iter().enumerate().fold(0, |byte, (i, &code)| byte | (saturated(code) as u32 & mask) << (i * bits))
    };
    codes.chunks(8 / bits).map(|group| byte(group) as u8).collect()
}

/// The inverse of [`pack`]: the first `count` codes of `bytes`.
pub fn unpack(bytes: &[u8], count: usize, format: IntFormat) -> Result<Vec<i32>, FormatError> {
    let needed = format.packed_len(count);
    let bytes = bytes.get(..needed).ok_or(FormatError::TooShort { format, count, needed, found: bytes.len() })?;
    let bits = usize::from(format.bits);
    Ok(match format.bits {
        2 | 4 => (0..count)
            .map(|i| {
                let per_byte = 8 / bits;
                format.code_of(u32::from(bytes[i / per_byte]) >> (i % per_byte * bits))
            })
            .collect(),
        3..=8 => bytes.iter().map(|&byte| format.code_of(byte.into())).collect(),
        _ => bytes.chunks_exact(2).map(|pair| format.code_of(u16::from_le_bytes([pair[0], pair[1]]).into())).collect(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn all() -> impl Iterator<Item = IntFormat> {
        (2..=16).flat_map(|bits| {
            [Signedness::Signed, Signedness::Unsigned].into_iter().filter_map(move |s| IntFormat::new(bits, s))
        })
    }

    #[test]
    fn bounds_are_those_of_the_type() {
        assert!(IntFormat::new(1, Signedness::Signed).is_none());
        assert!(IntFormat::new(17, Signedness::Signed).is_none());
        for format in all() {
            assert_eq!((format.qmax() - format.qmin() + 1) as usize, format.levels());
        }
        assert_eq!((IntFormat::S8.qmin(), IntFormat::S8.qmax()), (-128, 127));
        assert_eq!((IntFormat::U8.qmin(), IntFormat::U8.qmax()), (0, 255));
    }

    #[test]
    fn names_are_read_as_written() {
        for format in all() {
            assert_eq!(format.to_string().parse(), Ok(format));
        }
        for bad in ["", "u", "8", "i8", "u1", "u17", "s08", "u+8", "U8", "s-4", "u999"] {
            assert_eq!(bad.parse::<IntFormat>(), Err(FormatError::Name(bad.to_owned())));
        }
    }

    #[test]
    fn every_code_survives_packing_at_every_length() {
        for format in all() {
            let codes: Vec<i32> = format.codes().chain(format.codes().rev()).collect();
            for count in (0..codes.len().min(9)).chain([codes.len()]) {
                let bytes = pack(&codes[..count], format);
                assert_eq!(bytes.len(), format.packed_len(count));
                assert_eq!(unpack(&bytes, count, format).unwrap(), codes[..count]);
            }
        }
    }

    #[test]
    fn first_code_lies_in_the_lowest_bits() {
        let s4 = IntFormat::new(4, Signedness::Signed).unwrap();
        let u2 = IntFormat::new(2, Signedness::Unsigned).unwrap();
        assert_eq!(pack(&[1, -1, 7], s4), [0xf1, 0x07]);
        assert_eq!(pack(&[0, 1, 2, 3, 3], u2), [0b1110_0100, 0b11]);
        assert_eq!(pack(&[-2], IntFormat::new(16, Signedness::Signed).unwrap()), [0xfe, 0xff]);
        assert_eq!(pack(&[300, -5], IntFormat::U8), [255, 0]);
    }

    #[test]
    fn missing_bytes_are_an_error() {
        let error = unpack(&[0], 3, IntFormat::new(4, Signedness::Unsigned).unwrap()).unwrap_err();
        assert_eq!(error.to_string(), "2 bytes are needed for 3 codes of `u4`, but there are 1; pass the whole tensor");
    }
}
