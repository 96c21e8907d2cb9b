//! NumPy's files, written and read by other code than the tool's.

use std::fs::File;
use std::io::{Read as _, Write as _};
use std::path::Path;

use zip::write::SimpleFileOptions;

/// A `.npy` file.
pub(crate) fn npy(descr: &str, shape: &[usize], bytes: &[u8]) -> Vec<u8> {
    let dims: Vec<String> = shape.iter().map(ToString::to_string).collect();
    // One dimension alone has a comma behind it, and more may have.
    let comma = if dims.is_empty() { "" } else { "," };
    let dims = dims.join(", ");
    let mut header = format!("{{'descr': '{descr}', 'fortran_order': False, 'shape': ({dims}{comma}), }}");
    while (header.len() + 11) % 64 != 0 {
        header.push(' ');
    }
    header.push('\n');
    let mut file = b"\x93NUMPY\x01\x00".to_vec();
    file.extend(u16::try_from(header.len()).expect("a short header").to_le_bytes());
    file.extend(header.as_bytes());
    file.extend(bytes);
    file
}

/// A `.npy` file of float32.
pub(crate) fn floats(shape: &[usize], elements: &[f32]) -> Vec<u8> {
    npy("<f4", shape, &elements.iter().flat_map(|x| x.to_le_bytes()).collect::<Vec<u8>>())
}

/// A `.npy` file of int64.
pub(crate) fn integers(shape: &[usize], elements: &[i64]) -> Vec<u8> {
    npy("<i8", shape, &elements.iter().flat_map(|x| x.to_le_bytes()).collect::<Vec<u8>>())
}

/// A `.npz` file of `.npy` files by key.
pub(crate) fn npz(arrays: &[(&str, Vec<u8>)]) -> Vec<u8> {
    let mut archive = zip::ZipWriter::new(std::io::Cursor::new(Vec::new()));
    for (key, array) in arrays {
        archive.start_file(format!("{key}.npy"), SimpleFileOptions::default()).expect("a key");
        archive.write_all(array).expect("an array");
    }
    archive.finish().expect("an archive").into_inner()
}

/// A float32 array of a `.npz` file: its shape and elements.
pub(crate) fn read_floats(path: &Path, key: &str) -> (Vec<usize>, Vec<f32>) {
    let (shape, bytes) = read(path, key, "<f4");
    let elements = bytes.chunks_exact(4).map(|four| f32::from_le_bytes(four.try_into().expect("four bytes")));
    let elements: Vec<f32> = elements.collect();
    assert_eq!(elements.len(), shape.iter().product::<usize>());
    (shape, elements)
}

/// The elements of an int64 array of a `.npz` file.
pub(crate) fn read_integers(path: &Path, key: &str) -> Vec<i64> {
    let (_, bytes) = read(path, key, "<i8");
    bytes.chunks_exact(8).map(|eight| i64::from_le_bytes(eight.try_into().expect("eight bytes"))).collect()
}

/// An array of a `.npz` file, of this type: its shape and bytes.
pub(crate) fn read(path: &Path, key: &str, descr: &str) -> (Vec<usize>, Vec<u8>) {
    let mut archive = zip::ZipArchive::new(File::open(path).expect("the file")).expect("an archive");
    let mut bytes = Vec::new();
    archive.by_name(&format!("{key}.npy")).expect("the key").read_to_end(&mut bytes).expect("an array");
    let end = 10 + usize::from(u16::from_le_bytes([bytes[8], bytes[9]]));
    let header = std::str::from_utf8(&bytes[10..end]).expect("a header");
    assert!(header.contains(&format!("'{descr}'")) && header.contains("False"), "{header}");
    let shape = header.split_once("'shape': (").and_then(|(_, rest)| rest.split_once(')')).expect("a shape").0;
    let shape: Vec<usize> = shape.split(',').filter_map(|n| n.trim().parse().ok()).collect();
    (shape, bytes.split_off(end))
}
