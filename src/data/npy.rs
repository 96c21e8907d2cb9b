//! The header of a .npy array, versions 1 to 3 (numpy's format description, NEP 1). Knows nothing of where the bytes lie.

use std::io::{self, Read};
use std::sync::Arc;

use onnxq_ir::ElementType;

/// Bytes of header text accepted; numpy's own are a hundred or so, hostile ones claim gigabytes.
const HEADER_BUDGET: usize = 64 * 1024;
/// Axes accepted, numpy's own limit.
const MAX_RANK: usize = 64;
const MAGIC: &[u8] = b"\x93NUMPY";

/// Element type and shape of an array, and where its elements begin.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct NpyHeader {
    /// The element type.
    pub(super) element: ElementType,
    /// The shape, in row-major order; its bytes are known to fit into 63 bits.
    pub(super) shape: Vec<usize>,
    /// Bytes before the first element.
    pub(super) data_offset: u64,
}

impl NpyHeader {
    /// Bytes of all elements.
    pub(super) fn data_len(&self) -> u64 {
        // `parse` has checked that this does not overflow.
        (self.shape.iter().product::<usize>() * self.element.bits() / 8) as u64
    }
}

/// What is wrong with an array.
#[derive(Clone, Debug, thiserror::Error)]
pub enum NpyError {
    /// The file does not begin as .npy files do.
    #[error("is no .npy data (it does not begin with `\\x93NUMPY`); write it with `numpy.save`")]
    Magic,
    /// A version of the format that is not known.
    #[error("is .npy data of version {0}.{1}; versions 1 to 3 are read, write it anew with `numpy.save`")]
    Version(u8, u8),
    /// The header text is longer than anything numpy writes.
    #[error("claims a header of {0} bytes, which no numpy writes; the file is damaged")]
    HeaderTooLong(usize),
    /// The header text is not what numpy writes.
    #[error("its header is malformed: {0}; the file is damaged")]
    Malformed(&'static str),
    /// A type of elements that is not taken.
    #[error("elements of type `{0}` are not taken; convert it with `.astype` to a float, integer or bool type")]
    UnsupportedType(String),
    /// Big-endian elements.
    #[error("elements are big-endian (`{0}`); convert it with `.astype(\"<{tail}\")`", tail = .0.trim_start_matches('>'))]
    BigEndian(String),
    /// Column-major order.
    #[error("elements are in Fortran order; convert it with `numpy.ascontiguousarray` before saving")]
    FortranOrder,
    /// A shape whose bytes can't be counted.
    #[error("shape {0:?} is too large")]
    TooLarge(Vec<usize>),
    /// The data end too early.
    #[error("is truncated: {need} bytes are needed, {have} are there")]
    Truncated {
        /// Bytes that header and elements take.
        need: u64,
        /// Bytes there are.
        have: u64,
    },
    /// The data end within the header.
    #[error("is truncated within its header")]
    TruncatedHeader,
    /// The elements end before the last one.
    #[error("ends before its last element; the file is damaged")]
    EndsEarly,
    /// The archive says that it is packed in a way that is not read.
    #[error("is packed with {0}; only stored and deflated members are read, write it with `numpy.savez_compressed`")]
    Method(String),
    /// The archive's member is encrypted.
    #[error("is encrypted; write the archive without a password")]
    Encrypted,
    /// The claimed size can't come out of so few packed bytes.
    #[error("claims {size} bytes out of {packed} packed ones, which deflate can't do; the file is damaged")]
    Ratio {
        /// Bytes claimed.
        size: u64,
        /// Bytes packed.
        packed: u64,
    },
    /// The checksum is wrong.
    #[error("its checksum is wrong; the file is damaged")]
    Checksum,
    /// Reading or inflating failed.
    #[error("can't be read: {0}")]
    Io(Arc<io::Error>),
}

impl From<io::Error> for NpyError {
    fn from(error: io::Error) -> Self {
        if error.kind() == io::ErrorKind::UnexpectedEof { Self::TruncatedHeader } else { Self::Io(Arc::new(error)) }
    }
}

/// Reads the header, which leaves `reader` at the first element.
pub(super) fn read_header(reader: &mut impl Read) -> Result<NpyHeader, NpyError> {
    let mut magic = [0; 6];
    if let Err(error) = reader.read_exact(&mut magic) {
        return Err(if error.kind() == io::ErrorKind::UnexpectedEof { NpyError::Magic } else { error.into() });
    }
    if magic != MAGIC {
        return Err(NpyError::Magic);
    }
    let mut version = [0; 2];
    reader.read_exact(&mut version)?;
    let (len, prefix) = match version[0] {
        1 => {
            let mut len = [0; 2];
            reader.read_exact(&mut len)?;
            (usize::from(u16::from_le_bytes(len)), 10)
        }
        2 | 3 => {
            let mut len = [0; 4];
            reader.read_exact(&mut len)?;
            (u32::from_le_bytes(len) as usize, 12)
        }
        _ => return Err(NpyError::Version(version[0], version[1])),
    };
    if len > HEADER_BUDGET {
        return Err(NpyError::HeaderTooLong(len));
    }
    let mut text = vec![0; len];
    reader.read_exact(&mut text)?;
    let text = std::str::from_utf8(&text).map_err(|_| NpyError::Malformed("it is no text"))?;
    let (element, shape) = parse(text)?;
    Ok(NpyHeader { element, shape, data_offset: (prefix + len) as u64 })
}

/// Parses the Python dict that the header is.
fn parse(text: &str) -> Result<(ElementType, Vec<usize>), NpyError> {
    let mut words = Words(text);
    let (mut descr, mut fortran, mut shape) = (None, None, None);
    words.expect('{')?;
    while !words.take('}') {
        let key = words.string()?;
        words.expect(':')?;
        match key {
            "descr" => descr = Some(words.descr()?),
            "fortran_order" => fortran = Some(words.boolean()?),
            "shape" => shape = Some(words.tuple()?),
            _ => return Err(NpyError::Malformed("it has an unknown key")),
        }
        if !words.take(',') {
            words.expect('}')?;
            break;
        }
    }
    let element = element_type(descr.ok_or(NpyError::Malformed("`descr` is missing"))?)?;
    let shape = shape.ok_or(NpyError::Malformed("`shape` is missing"))?;
    let fortran = fortran.ok_or(NpyError::Malformed("`fortran_order` is missing"))?;
    if fortran && shape.len() > 1 {
        return Err(NpyError::FortranOrder);
    }
    // Axes of 0 hide an overflow of the others, so each counts as 1 at least.
    let count = shape.iter().try_fold(1usize, |count, &n| count.checked_mul(n.max(1)));
    let len = count.and_then(|count| count.checked_mul(element.bits() / 8));
    if len.is_none_or(|len| i64::try_from(len).is_err()) {
        return Err(NpyError::TooLarge(shape));
    }
    Ok((element, shape))
}

fn element_type(descr: &str) -> Result<ElementType, NpyError> {
    let kind = descr.trim_start_matches(['<', '|', '=']);
    let element = match kind.trim_start_matches('>') {
        "f2" => ElementType::F16,
        "f4" => ElementType::F32,
        "f8" => ElementType::F64,
        "i1" => ElementType::I8,
        "i2" => ElementType::I16,
        "i4" => ElementType::I32,
        "i8" => ElementType::I64,
        "u1" => ElementType::U8,
        "u2" => ElementType::U16,
        "u4" => ElementType::U32,
        "u8" => ElementType::U64,
        "b1" => ElementType::Bool,
        _ => return Err(NpyError::UnsupportedType(descr.escape_debug().take(40).collect())),
    };
    if kind.starts_with('>') && element.bits() > 8 {
        return Err(NpyError::BigEndian(descr.to_owned()));
    }
    Ok(element)
}

/// The rest of a header's text.
struct Words<'a>(&'a str);

impl<'a> Words<'a> {
    fn take(&mut self, c: char) -> bool {
        self.0 = self.0.trim_start();
        match self.0.strip_prefix(c) {
            Some(rest) => {
                self.0 = rest;
                true
            }
            None => false,
        }
    }

    fn expect(&mut self, c: char) -> Result<(), NpyError> {
        if self.take(c) { Ok(()) } else { Err(NpyError::Malformed("it is no Python dict as numpy writes it")) }
    }

    fn string(&mut self) -> Result<&'a str, NpyError> {
        let quote = if self.take('"') { '"' } else { '\'' };
        if quote == '\'' {
            self.expect('\'')?;
        }
        let (word, rest) = self.0.split_once(quote).ok_or(NpyError::Malformed("a string does not end"))?;
        self.0 = rest;
        Ok(word)
    }

    fn descr(&mut self) -> Result<&'a str, NpyError> {
        if self.take('[') {
            return Err(NpyError::UnsupportedType("a record of fields".to_owned()));
        }
        self.string()
    }

    fn boolean(&mut self) -> Result<bool, NpyError> {
        self.0 = self.0.trim_start();
        for (word, value) in [("True", true), ("False", false)] {
            if let Some(rest) = self.0.strip_prefix(word) {
                self.0 = rest;
                return Ok(value);
            }
        }
        Err(NpyError::Malformed("`fortran_order` is neither True nor False"))
    }

    fn tuple(&mut self) -> Result<Vec<usize>, NpyError> {
        let mut shape = Vec::new();
        self.expect('(')?;
        while !self.take(')') {
            shape.push(self.number()?);
            if shape.len() > MAX_RANK {
                return Err(NpyError::Malformed("it has more than 64 axes"));
            }
            if !self.take(',') {
                self.expect(')')?;
                break;
            }
        }
        Ok(shape)
    }

    fn number(&mut self) -> Result<usize, NpyError> {
        self.0 = self.0.trim_start();
        let end = self.0.find(|c: char| !c.is_ascii_digit()).unwrap_or(self.0.len());
        let (digits, rest) = self.0.split_at(end);
        // Python 2 wrote long integers as `256L`.
        self.0 = rest.strip_prefix('L').unwrap_or(rest);
        digits.parse().map_err(|_| NpyError::Malformed("`shape` is no tuple of sizes"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn header(version: u8, text: &str) -> Vec<u8> {
        let mut bytes = MAGIC.to_vec();
        bytes.extend([version, 0]);
        if version == 1 {
            bytes.extend((text.len() as u16).to_le_bytes());
        } else {
            bytes.extend((text.len() as u32).to_le_bytes());
        }
        bytes.extend(text.as_bytes());
        bytes
    }

    fn read(version: u8, text: &str) -> Result<NpyHeader, NpyError> {
        read_header(&mut header(version, text).as_slice())
    }

    #[test]
    fn reads_the_versions_and_types() {
        let text = "{'descr': '<f4', 'fortran_order': False, 'shape': (256, 1, 28, 28), }          \n";
        for (version, offset) in [(1, 10), (2, 12), (3, 12)] {
            let header = read(version, text).unwrap();
            assert_eq!(header.element, ElementType::F32);
            assert_eq!(header.shape, [256, 1, 28, 28]);
            assert_eq!(header.data_offset, offset + text.len() as u64);
            assert_eq!(header.data_len(), 256 * 784 * 4);
        }
        let types = "f2 F16 f4 F32 f8 F64 i1 I8 i2 I16 i4 I32 i8 I64 u1 U8 u2 U16 u4 U32 u8 U64 b1 Bool";
        for pair in types.split(' ').collect::<Vec<_>>().chunks(2) {
            let header =
                read(1, &format!("{{'descr': '|{}', 'fortran_order': False, 'shape': (3,)}}", pair[0])).unwrap();
            assert_eq!(format!("{:?}", header.element), pair[1]);
        }
        assert!(read(1, "{'shape': (), 'descr': '<i8', 'fortran_order': True}").unwrap().shape.is_empty());
        assert_eq!(read(1, "{'shape': (7L,), 'descr': '<i8', 'fortran_order': True}").unwrap().shape, [7]);
    }

    #[test]
    fn refuses_with_a_reason() {
        let with = |descr: &str, fortran: &str, shape: &str| {
            read(1, &format!("{{'descr': {descr}, 'fortran_order': {fortran}, 'shape': {shape}}}"))
                .unwrap_err()
                .to_string()
        };
        assert!(with("'>f4'", "False", "(2,)").contains("astype(\"<f4\")"));
        assert!(with("'<U5'", "False", "(2,)").contains("`<U5`"));
        assert!(with("[('a', '<f4')]", "False", "(2,)").contains("record"));
        assert!(with("'<f4'", "True", "(2, 3)").contains("Fortran"));
        assert!(with("'<f4'", "False", "(4294967296, 4294967296)").contains("too large"));
        assert!(with("'<f4'", "False", "(0, 4294967296, 4294967296)").contains("too large"));
        assert!(with("'<f4'", "False", "(99999999999999999999,)").contains("shape"));
        assert!(with("'<f4'", "False", "(-1,)").contains("shape"));
        assert!(with("'<f4'", "maybe", "(1,)").contains("fortran_order"));
        assert!(with("'<f4'", "False", &format!("({})", "1,".repeat(65))).contains("axes"));
        assert!(matches!(read(4, "{}"), Err(NpyError::Version(4, 0))));
        assert!(matches!(read_header(&mut &b"PK\x03\x04aaaaaa"[..]), Err(NpyError::Magic)));
        assert!(matches!(read_header(&mut &b""[..]), Err(NpyError::Magic)));
        let long = [MAGIC, &[2, 0, 255, 255, 255, 255]].concat();
        assert!(matches!(read_header(&mut long.as_slice()), Err(NpyError::HeaderTooLong(_))));
    }

    #[test]
    fn no_prefix_and_no_changed_byte_panics() {
        let whole = header(1, "{'descr': '<f4', 'fortran_order': False, 'shape': (2, 3), }\n");
        for end in 0..whole.len() {
            assert!(read_header(&mut &whole[..end]).is_err());
        }
        for at in 0..whole.len() {
            for byte in 0..=255 {
                let mut changed = whole.clone();
                changed[at] = byte;
                let _ = read_header(&mut changed.as_slice());
            }
        }
    }
}
