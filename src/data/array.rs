//! One array where it lies, a .npy file or a member of a .npz archive: found by its header, read row by row through a
//! cursor of its own. Knows nothing of inputs.

use std::fs::File;
use std::io::{self, BufReader, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use flate2::Crc;
use flate2::bufread::DeflateDecoder;
use onnxq_ir::{Element, ElementType, Tensor};
use zip::CompressionMethod;

use super::error::{DataError, Place, Shape, numpy_name};
use super::npy::{NpyError, NpyHeader, read_header};

/// Deflate packs at most 1032 bytes into one; what claims more is damaged or hostile.
const DEFLATE_RATIO: u64 = 1032;
/// Bytes of the buffer between file and reader.
const BUFFER: usize = 64 * 1024;

/// An array in a file, known by its header.
#[derive(Clone, Debug)]
pub(super) struct Array {
    path: PathBuf,
    key: String,
    place: Place,
    /// `Err` is kept until the array is asked for: those that nothing asks for may be anything.
    contents: Result<(Storage, NpyHeader), NpyError>,
}

/// How an array's bytes, header included, lie in the file.
#[derive(Clone, Copy, Debug)]
enum Storage {
    /// They are the file.
    File,
    /// A member of an archive, as it is.
    Stored(Member),
    /// A member of an archive, deflated.
    Deflated(Member),
}

#[derive(Clone, Copy, Debug)]
struct Member {
    start: u64,
    packed: u64,
    size: u64,
    crc: u32,
}

impl Array {
    /// The array of the .npy file at `path`, under the name `key`.
    pub(super) fn in_file(path: &Path, key: &str) -> Result<Self, DataError> {
        let io = |problem| DataError::Io { path: path.to_owned(), problem };
        let mut file = File::open(path).map_err(io)?;
        let have = file.metadata().map_err(io)?.len();
        let header = read_header(&mut BufReader::new(&mut file)).and_then(|header| complete(header, have));
        let contents = header.map(|header| (Storage::File, header));
        Ok(Self { path: path.to_owned(), key: key.to_owned(), place: Place::whole(path), contents })
    }

    /// The arrays of the .npz file at `path` in the archive's order; of their bytes only the headers are read.
    pub(super) fn in_archive(path: &Path) -> Result<Vec<Self>, DataError> {
        let file = File::open(path).map_err(|problem| DataError::Io { path: path.to_owned(), problem })?;
        let damaged =
            |problem: zip::result::ZipError| DataError::Archive { path: path.to_owned(), problem: problem.to_string() };
        let mut archive = zip::ZipArchive::new(BufReader::new(file)).map_err(damaged)?;
        let mut arrays = Vec::new();
        for index in 0..archive.len() {
            let member = archive.by_index_raw(index).map_err(damaged)?;
            if member.is_dir() {
                continue;
            }
            let name = member.name().map_err(damaged)?;
            let key = name.strip_suffix(".npy").unwrap_or(&name).to_owned();
            let contents = storage(&member).and_then(|storage| Ok((storage, member_header(path, storage)?)));
            let place = Place { path: path.to_owned(), key: Some(key.clone()) };
            arrays.push(Self { path: path.to_owned(), key, place, contents });
        }
        Ok(arrays)
    }

    /// The name under which it is matched with an input.
    pub(super) fn key(&self) -> &str {
        &self.key
    }

    /// Where it lies, for messages.
    pub(super) fn place(&self) -> Place {
        self.place.clone()
    }

    /// Type and shape in numpy's words, for messages.
    pub(super) fn description(&self) -> String {
        match &self.contents {
            Ok((_, header)) => format!("{}{}", numpy_name(header.element), Shape(&header.shape)),
            Err(_) => "(unreadable)".to_owned(),
        }
    }

    /// Element type and shape, or why there are none.
    pub(super) fn header(&self) -> Result<&NpyHeader, DataError> {
        self.contents.as_ref().map(|(_, header)| header).map_err(|problem| self.error(problem.clone()))
    }

    /// A cursor at the first element.
    pub(super) fn cursor(&self) -> Result<Cursor, DataError> {
        let (storage, header) = self.contents.as_ref().map_err(|problem| self.error(problem.clone()))?;
        let mut bytes =
            open(&self.path, *storage).map_err(|problem| DataError::Io { path: self.path.clone(), problem })?;
        bytes.read_past(header.data_offset).map_err(|problem| self.failed(problem))?;
        Ok(Cursor { bytes, element: header.element })
    }

    /// The error for a failed read of the elements.
    pub(super) fn failed(&self, problem: io::Error) -> DataError {
        self.error(match problem.kind() {
            io::ErrorKind::UnexpectedEof => NpyError::EndsEarly,
            io::ErrorKind::InvalidData if is_checksum(&problem) => NpyError::Checksum,
            _ => NpyError::Io(Arc::new(problem)),
        })
    }

    /// All elements of an integer or bool array as int64, or `None` for another element type.
    pub(super) fn integers(&self) -> Result<Option<Vec<i64>>, DataError> {
        let header = self.header()?;
        if matches!(header.element, ElementType::F16 | ElementType::F32 | ElementType::F64) {
            return Ok(None);
        }
        let tensor = self.cursor()?.tensor(&header.shape).map_err(|problem| self.failed(problem))?;
        if header.element == ElementType::U64 {
            return Ok(tensor.view::<u64>().map(|labels| labels.iter().map(|&label| label as i64).collect()));
        }
        Ok(tensor.to_i64())
    }

    fn error(&self, problem: NpyError) -> DataError {
        DataError::Array { place: self.place(), problem, names: None }
    }
}

/// Reads an array's elements from the first to the last.
pub(super) struct Cursor {
    bytes: Source,
    element: ElementType,
}

impl Cursor {
    /// The next elements, as many as `shape` takes.
    pub(super) fn tensor(&mut self, shape: &[usize]) -> io::Result<Tensor> {
        let bytes = &mut self.bytes;
        match self.element {
            ElementType::F16 => elements::<half::f16>(bytes, shape),
            ElementType::F32 => elements::<f32>(bytes, shape),
            ElementType::F64 => elements::<f64>(bytes, shape),
            ElementType::I8 => elements::<i8>(bytes, shape),
            ElementType::I16 => elements::<i16>(bytes, shape),
            ElementType::I32 => elements::<i32>(bytes, shape),
            ElementType::I64 => elements::<i64>(bytes, shape),
            ElementType::U8 => elements::<u8>(bytes, shape),
            ElementType::U16 => elements::<u16>(bytes, shape),
            ElementType::U32 => elements::<u32>(bytes, shape),
            ElementType::U64 => elements::<u64>(bytes, shape),
            // Headers have no other types than these and bool.
            other => {
                let bools = read_elements::<u8>(bytes, shape)?;
                Tensor::from_bytes(other, shape.to_vec(), Bytes::from(bools)).map_err(io::Error::other)
            }
        }
    }

    /// Passes over `count` elements.
    pub(super) fn skip(&mut self, count: u64) -> io::Result<()> {
        self.bytes.skip(count * (self.element.bits() / 8) as u64)
    }
}

fn elements<T: Element>(bytes: &mut Source, shape: &[usize]) -> io::Result<Tensor> {
    Ok(Tensor::new(shape.to_vec(), read_elements::<T>(bytes, shape)?))
}

/// Reads straight into the tensor's own memory: nothing is parsed, nothing copied twice.
fn read_elements<T: Element>(bytes: &mut Source, shape: &[usize]) -> io::Result<Vec<T>> {
    let count = shape.iter().product();
    let mut elements = Vec::new();
    elements.try_reserve_exact(count).map_err(|_| io::Error::from(io::ErrorKind::OutOfMemory))?;
    elements.resize(count, T::zeroed());
    bytes.fill(bytemuck::cast_slice_mut(&mut elements))?;
    Ok(elements)
}

/// The bytes of an array from its header on.
struct Source {
    bytes: Plain,
    /// The checksum over what was read, as long as nothing was passed over unread.
    check: Option<Check>,
}

enum Plain {
    Seekable(BufReader<File>),
    Inflated(Box<DeflateDecoder<BufReader<io::Take<File>>>>),
}

struct Check {
    sum: Crc,
    left: u64,
    expected: u32,
}

#[derive(Debug, thiserror::Error)]
#[error("checksum mismatch")]
struct ChecksumMismatch;

impl Source {
    fn fill(&mut self, buffer: &mut [u8]) -> io::Result<()> {
        match &mut self.bytes {
            Plain::Seekable(file) => file.read_exact(buffer)?,
            Plain::Inflated(stream) => stream.read_exact(buffer)?,
        }
        match &mut self.check {
            Some(check) => check.update(buffer),
            None => Ok(()),
        }
    }

    /// Passes over bytes without reading them where that is possible.
    fn skip(&mut self, count: u64) -> io::Result<()> {
        match &mut self.bytes {
            Plain::Seekable(file) if count > 0 => {
                self.check = None;
                file.seek_relative(i64::try_from(count).map_err(io::Error::other)?)
            }
            _ => self.read_past(count),
        }
    }

    fn read_past(&mut self, mut count: u64) -> io::Result<()> {
        let mut scratch = [0; 16 * 1024];
        while count > 0 {
            let step = count.min(scratch.len() as u64);
            self.fill(&mut scratch[..step as usize])?;
            count -= step;
        }
        Ok(())
    }
}

impl Check {
    fn update(&mut self, read: &[u8]) -> io::Result<()> {
        self.sum.update(read);
        self.left = self.left.saturating_sub(read.len() as u64);
        if self.left == 0 && self.sum.sum() != self.expected {
            return Err(io::Error::new(io::ErrorKind::InvalidData, ChecksumMismatch));
        }
        Ok(())
    }
}

fn is_checksum(problem: &io::Error) -> bool {
    problem.get_ref().is_some_and(<dyn std::error::Error + Send + Sync>::is::<ChecksumMismatch>)
}

fn open(path: &Path, storage: Storage) -> io::Result<Source> {
    let mut file = File::open(path)?;
    Ok(match storage {
        Storage::File => Source { bytes: Plain::Seekable(BufReader::with_capacity(BUFFER, file)), check: None },
        Storage::Stored(member) => {
            file.seek(SeekFrom::Start(member.start))?;
            let bytes = Plain::Seekable(BufReader::with_capacity(BUFFER, file));
            Source { bytes, check: Some(member.check()) }
        }
        Storage::Deflated(member) => {
            file.seek(SeekFrom::Start(member.start))?;
            let packed = BufReader::with_capacity(BUFFER, file.take(member.packed));
            let bytes = Plain::Inflated(Box::new(DeflateDecoder::new(packed)));
            Source { bytes, check: Some(member.check()) }
        }
    })
}

impl Member {
    fn check(self) -> Check {
        Check { sum: Crc::new(), left: self.size, expected: self.crc }
    }
}

fn storage<R: Read>(member: &zip::read::ZipFile<'_, R>) -> Result<Storage, NpyError> {
    if member.encrypted() {
        return Err(NpyError::Encrypted);
    }
    let start = member.data_start().ok_or(NpyError::TruncatedHeader)?;
    let (packed, size) = (member.compressed_size(), member.size());
    let found = Member { start, packed, size, crc: member.crc32() };
    match member.compression() {
        CompressionMethod::Stored if packed == size => Ok(Storage::Stored(found)),
        CompressionMethod::Stored => Err(NpyError::Ratio { size, packed }),
        CompressionMethod::Deflated if size > packed.saturating_mul(DEFLATE_RATIO) => {
            Err(NpyError::Ratio { size, packed })
        }
        CompressionMethod::Deflated => Ok(Storage::Deflated(found)),
        other => Err(NpyError::Method(other.to_string())),
    }
}

fn member_header(path: &Path, storage: Storage) -> Result<NpyHeader, NpyError> {
    let (Storage::Stored(member) | Storage::Deflated(member)) = storage else { return Err(NpyError::TruncatedHeader) };
    let in_file = std::fs::metadata(path)?.len().saturating_sub(member.start);
    if member.packed > in_file {
        return Err(NpyError::Truncated { need: member.packed, have: in_file });
    }
    let header = match open(path, storage)?.bytes {
        Plain::Seekable(mut file) => read_header(&mut file),
        Plain::Inflated(mut stream) => read_header(&mut stream),
    }?;
    complete(header, member.size)
}

/// The header, if as many bytes are there as it needs.
fn complete(header: NpyHeader, have: u64) -> Result<NpyHeader, NpyError> {
    let need = header.data_offset + header.data_len();
    if need > have { Err(NpyError::Truncated { need, have }) } else { Ok(header) }
}

#[cfg(test)]
mod tests {
    use super::super::sample_files::{npy, npz, npz_stored, write};
    use super::*;

    fn ramp(n: usize) -> Vec<f32> {
        (0..n).map(|x| x as f32 * 0.5 - 7.0).collect()
    }

    #[test]
    fn every_storage_gives_the_same_rows() {
        let dir = tempfile::tempdir().unwrap();
        let bytes = npy("<f4", &[50, 3000], bytemuck::cast_slice(&ramp(150_000)));
        let file = write(&dir, "x.npy", &bytes);
        let deflated = write(&dir, "d.npz", &npz(&[("x", &bytes)]));
        let stored = write(&dir, "s.npz", &npz_stored(&[("x", &bytes)]));
        let arrays = [
            Array::in_file(&file, "x").unwrap(),
            Array::in_archive(&deflated).unwrap().remove(0),
            Array::in_archive(&stored).unwrap().remove(0),
        ];
        for array in arrays {
            assert_eq!(array.key(), "x");
            assert_eq!(array.header().unwrap().shape, [50, 3000]);
            let mut cursor = array.cursor().unwrap();
            let first = cursor.tensor(&[3000]).unwrap();
            assert_eq!(&*first.view::<f32>().unwrap(), &ramp(3000)[..]);
            cursor.skip(3000 * 47).unwrap();
            let late = cursor.tensor(&[2, 3000]).unwrap();
            assert_eq!(&*late.view::<f32>().unwrap(), &ramp(150_000)[48 * 3000..]);
            assert!(cursor.tensor(&[3000]).is_err());
        }
    }

    #[test]
    fn a_flipped_bit_is_found_by_the_checksum() {
        let dir = tempfile::tempdir().unwrap();
        let bytes = npy("<f4", &[10], bytemuck::cast_slice(&ramp(10)));
        let mut stored = npz_stored(&[("x", &bytes)]);
        let at = stored.windows(4).position(|w| w == (-3.5f32).to_le_bytes()).unwrap();
        stored[at] ^= 1;
        let array = Array::in_archive(&write(&dir, "s.npz", &stored)).unwrap().remove(0);
        let problem = array.cursor().unwrap().tensor(&[10]).unwrap_err();
        assert!(array.failed(problem).to_string().contains("checksum"));
    }

    #[test]
    fn truncated_and_garbage_files_are_errors() {
        let dir = tempfile::tempdir().unwrap();
        let bytes = npy("<f4", &[1000], bytemuck::cast_slice(&ramp(1000)));
        let short = write(&dir, "x.npy", &bytes[..bytes.len() - 1]);
        let message = Array::in_file(&short, "x").unwrap().header().unwrap_err().to_string();
        assert!(message.contains("x.npy`: is truncated"), "{message}");
        let archive = npz(&[("x", &bytes)]);
        for end in (0..archive.len()).step_by(7) {
            assert!(Array::in_archive(&write(&dir, "t.npz", &archive[..end])).is_err());
        }
        assert!(Array::in_archive(&write(&dir, "g.npz", b"garbage")).is_err());
        assert!(Array::in_file(&write(&dir, "g.npy", b"garbage"), "x").unwrap().header().is_err());
    }

    #[test]
    fn no_changed_byte_of_an_archive_panics() {
        let dir = tempfile::tempdir().unwrap();
        let archive = npz(&[("x", &npy("<f4", &[3, 2], bytemuck::cast_slice(&ramp(6))))]);
        for at in 0..archive.len() {
            for flip in [1, 0x80, 0xff] {
                let mut changed = archive.clone();
                changed[at] ^= flip;
                let Ok(arrays) = Array::in_archive(&write(&dir, "c.npz", &changed)) else { continue };
                for array in arrays {
                    let Ok(header) = array.header() else { continue };
                    if let Ok(mut cursor) = array.cursor() {
                        let _ = cursor.tensor(&header.shape);
                    }
                }
            }
        }
    }

    #[test]
    fn labels_are_read_as_int64() {
        let dir = tempfile::tempdir().unwrap();
        let labels = write(&dir, "l.npy", &npy("|u1", &[3], &[3, 0, 255]));
        assert_eq!(Array::in_file(&labels, "l").unwrap().integers().unwrap(), Some(vec![3, 0, 255]));
        let floats = write(&dir, "f.npy", &npy("<f4", &[1], &[0; 4]));
        assert_eq!(Array::in_file(&floats, "f").unwrap().integers().unwrap(), None);
    }
}
