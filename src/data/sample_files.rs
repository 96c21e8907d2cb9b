//! Small data files for the tests beside it, written byte by byte rather than by the code under test.

use std::io::{Cursor, Write};
use std::path::PathBuf;

use zip::CompressionMethod;
use zip::write::SimpleFileOptions;

/// A .npy file of version 1.
pub(super) fn npy(descr: &str, shape: &[usize], data: &[u8]) -> Vec<u8> {
    let sizes = shape.iter().map(|n| format!("{n},")).collect::<Vec<_>>().join(" ");
    let text = format!("{{'descr': '{descr}', 'fortran_order': False, 'shape': ({sizes}), }}\n");
    let mut bytes = b"\x93NUMPY\x01\x00".to_vec();
    bytes.extend((text.len() as u16).to_le_bytes());
    bytes.extend(text.as_bytes());
    bytes.extend(data);
    bytes
}

/// A float32 .npy file with the elements 0, 1, 2 ...
pub(super) fn ramp_npy(shape: &[usize]) -> Vec<u8> {
    let ramp: Vec<f32> = (0..shape.iter().product()).map(|x: usize| x as f32).collect();
    npy("<f4", shape, bytemuck::cast_slice(&ramp))
}

/// An int64 .npy file of rank 1.
pub(super) fn integers_npy(elements: &[i64]) -> Vec<u8> {
    npy("<i8", &[elements.len()], bytemuck::cast_slice(elements))
}

/// A deflated .npz file of these arrays.
pub(super) fn npz<B: AsRef<[u8]>>(arrays: &[(&str, B)]) -> Vec<u8> {
    archive(arrays, CompressionMethod::Deflated)
}

/// A .npz file whose arrays are stored as they are.
pub(super) fn npz_stored<B: AsRef<[u8]>>(arrays: &[(&str, B)]) -> Vec<u8> {
    archive(arrays, CompressionMethod::Stored)
}

fn archive<B: AsRef<[u8]>>(arrays: &[(&str, B)], method: CompressionMethod) -> Vec<u8> {
    let mut zip = zip::ZipWriter::new(Cursor::new(Vec::new()));
    for (key, bytes) in arrays {
        zip.start_file(format!("{key}.npy"), SimpleFileOptions::default().compression_method(method)).unwrap();
        zip.write_all(bytes.as_ref()).unwrap();
    }
    zip.finish().unwrap().into_inner()
}

/// Writes a file into the folder, whose subfolders are made.
pub(super) fn write(dir: &tempfile::TempDir, name: &str, bytes: &[u8]) -> PathBuf {
    let path = dir.path().join(name);
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    std::fs::write(&path, bytes).unwrap();
    path
}
