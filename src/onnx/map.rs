//! Files as memory maps. The one module of the project with `unsafe`.
#![expect(unsafe_code, reason = "a map's bytes may change under us; see `map_file`")]

use std::fs::File;
use std::io;
use std::path::Path;

use bytes::Bytes;
use memmap2::Mmap;

/// Maps a regular file for reading. The map lives as long as any slice of it.
///
/// Pages are read when they are touched, and the kernel may drop them at any time: a mapped file is no memory of ours.
/// Whoever shortens the file while it is mapped ends the process (SIGBUS), as with every program that maps its input;
/// replacing it by renaming another over it, as `output` does, is harmless.
///
/// # Errors
/// Where the file can't be opened or mapped. That `path` is a regular file is for the caller to check.
pub(super) fn map_file(path: &Path) -> io::Result<Bytes> {
    let file = File::open(path)?;
    if file.metadata()?.len() == 0 {
        return Ok(Bytes::new());
    }
    // SAFETY: the map is private and read-only, and nothing here writes to an input or shortens it. Bytes that another
    // process changes meanwhile are read as plain integers and floats, for which every bit pattern is valid, and text is
    // copied when it is checked to be UTF-8.
    let map = unsafe { Mmap::map(&file)? };
    Ok(Bytes::from_owner(map))
}
