//! Whole files: the shared models and the onnx package's own, and what is written where.

use std::fs;
use std::path::{Path, PathBuf};

use prost::Message;

use super::super::proto::{GraphProto, ModelProto, TensorProto};
use super::super::{ExternalData, WriteError, WriteOptions, read, to_bytes, write};
use super::{model, node, raw_tensor, sample};

fn onnx_files(folder: &Path, found: &mut Vec<PathBuf>) {
    let Ok(entries) = fs::read_dir(folder) else { return };
    for entry in entries.flatten() {
        let path = entry.path();
        if path.is_dir() {
            onnx_files(&path, found);
        } else if path.extension().is_some_and(|extension| extension == "onnx") {
            found.push(path);
        }
    }
    found.sort();
}

/// Reads and writes every model below a folder, and gives how many there are and which are not equal.
fn check_folder(folder: &Path) -> (usize, Vec<String>) {
    let mut files = Vec::new();
    onnx_files(folder, &mut files);
    let mut bad = Vec::new();
    for file in &files {
        let bytes = fs::read(file).expect("a readable file");
        let written =
            read(file).map_err(|error| error.to_string()).map(|model| to_bytes(&model).expect("a writable model"));
        match written {
            // Official protobuf writes in our order: the very bytes come back, with nothing dropped.
            Ok(written) if written == bytes => {}
            Ok(_) => bad.push(format!("{}: differs", file.display())),
            Err(error) => bad.push(error),
        }
    }
    (files.len(), bad)
}

#[test]
fn shared_models_come_back() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../shared/models");
    if !folder.is_dir() {
        return;
    }
    let (count, bad) = check_folder(&folder);
    assert!(count > 0 && bad.is_empty(), "{} of {count}:\n{}", bad.len(), bad.join("\n"));
}

/// The folder holds the models of the onnx package's backend suite, as its Python code gives them.
#[test]
fn backend_models_come_back() {
    let Some(folder) = std::env::var_os("ONNXQ_BACKEND_MODELS") else { return };
    let (count, bad) = check_folder(Path::new(&folder));
    assert!(count > 0 && bad.is_empty(), "{} of {count}:\n{}", bad.len(), bad.join("\n"));
}

/// Weights of 3 MB, 2 kB and 8 bytes.
fn weighty(seed: u8) -> ModelProto {
    let bytes = |length: usize| (0..length).map(|i| (i % 251) as u8 ^ seed).collect();
    model(GraphProto {
        initializer: vec![
            raw_tensor("middle", 2, &[2000], bytes(2000)),
            raw_tensor("large", 2, &[3_000_000], bytes(3_000_000)),
            raw_tensor("small", 2, &[8], bytes(8)),
        ],
        ..GraphProto::default()
    })
}

fn model_of(proto: &ModelProto) -> onnxq_ir::Model {
    super::read_bytes(proto.encode_to_vec().into(), None).expect("a readable model")
}

fn always(inputs: &[&Path]) -> WriteOptions {
    let inputs = inputs.iter().map(|path| path.to_path_buf()).collect();
    WriteOptions { external_data: ExternalData::Always, inputs }
}

fn names(folder: &Path) -> Vec<String> {
    let entries = fs::read_dir(folder).expect("a folder").flatten();
    let mut names: Vec<String> = entries.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect();
    names.sort();
    names
}

fn entry(tensor: &TensorProto, key: &str) -> Option<String> {
    tensor.external_data.iter().find(|entry| entry.key() == key).map(|entry| entry.value().to_owned())
}

#[test]
fn a_file_has_the_bytes_of_the_model() {
    let temp = tempfile::tempdir().expect("a folder");
    let out = temp.path().join("out.onnx");
    fs::write(&out, "old").expect("a file");
    let written = write(&model_of(&sample()), &out, &WriteOptions::default()).expect("a written model");
    let bytes = fs::read(&out).expect("a file");
    assert_eq!(bytes, sample().encode_to_vec());
    assert_eq!((written.bytes, written.data_bytes, written.data_path), (bytes.len() as u64, 0, None));
    assert_eq!(names(temp.path()), ["out.onnx"]);
}

#[test]
fn external_data_comes_back() {
    let temp = tempfile::tempdir().expect("a folder");
    let out = temp.path().join("out.onnx");
    let written = write(&model_of(&weighty(0)), &out, &always(&[])).expect("a written model");
    assert_eq!(names(temp.path()), ["out.onnx", "out.onnx.data"]);
    assert_eq!(written.data_path.as_deref(), Some(&*temp.path().join("out.onnx.data")));
    assert_eq!(written.data_bytes, fs::metadata(temp.path().join("out.onnx.data")).expect("a file").len());
    let bytes = fs::read(&out).expect("a file");
    assert_eq!(written.bytes, bytes.len() as u64);
    let graph = ModelProto::decode(&bytes[..]).expect("a model").graph.unwrap_or_default();
    let offsets: Vec<_> = graph.initializer.iter().map(|tensor| entry(tensor, "offset")).collect();
    assert_eq!(offsets, [Some("0".to_owned()), Some("4096".to_owned()), None]);
    assert!(graph.initializer.iter().all(|tensor| entry(tensor, "location").is_none_or(|at| at == "out.onnx.data")));
    // Written into the model again, it is the first one, but for saying where data lies.
    let mut proto = ModelProto::decode(&to_bytes(&read(&out).expect("a model")).expect("bytes")[..]).expect("a model");
    for tensor in &mut proto.graph.get_or_insert_default().initializer {
        tensor.data_location = None;
    }
    assert_eq!(proto, weighty(0));
}

#[test]
fn a_model_never_has_the_data_of_another() {
    let temp = tempfile::tempdir().expect("a folder");
    let out = temp.path().join("out.onnx");
    let put = |seed: u8, inputs: &[&Path]| {
        write(&model_of(&weighty(seed)), &out, &always(inputs)).expect("a written model");
        assert_eq!(read(&out).expect("a model").graph.initializers().len(), 3);
        (names(temp.path()), fs::read(&out).expect("a file"))
    };
    let first = put(0, &[]);
    assert_eq!(put(0, &[]), first, "the same again gives the same");
    assert_eq!(put(1, &[]).0, ["out.onnx", "out.onnx.1.data"]);
    assert_eq!(put(0, &[]), first);
    // An input in place: its data may serve other models, and stays.
    assert_eq!(put(1, &[&out]).0, ["out.onnx", "out.onnx.1.data", "out.onnx.data"]);
    // So does what an input elsewhere uses.
    let copy = temp.path().join("copy.onnx");
    fs::copy(&out, &copy).expect("a file");
    assert_eq!(put(0, &[&copy]).0[1..], ["out.onnx", "out.onnx.1.data", "out.onnx.data"]);
    assert_eq!(put(1, &[]).0[1..], ["out.onnx", "out.onnx.1.data"]);
    fs::remove_file(copy).expect("a file");
    // A file that is none of ours stays as it is, even an input with the same content.
    let foreign = temp.path().join("out.onnx.data");
    fs::write(&foreign, "foreign").expect("a file");
    assert_eq!(put(1, &[]).0, ["out.onnx", "out.onnx.1.data", "out.onnx.data"]);
    assert_eq!(
        put(1, &[&temp.path().join("out.onnx.1.data")]).0[1..],
        ["out.onnx.1.data", "out.onnx.2.data", "out.onnx.data"]
    );
    assert_eq!(fs::read(&foreign).expect("a file"), b"foreign");
}

#[test]
fn a_recognised_operator_reaches_no_file() {
    let mut proto = sample();
    let mut layer = node("Gelu", &["x"], &["z"]);
    layer.domain = super::text("onnxq");
    proto.graph.get_or_insert_default().node.push(layer);
    let temp = tempfile::tempdir().expect("a folder");
    let out = temp.path().join("out.onnx");
    fs::write(&out, "old").expect("a file");
    let error = write(&model_of(&proto), &out, &WriteOptions::default()).expect_err("a fault");
    assert!(matches!(error, WriteError::Encode(_)), "{error}");
    assert_eq!(fs::read(&out).expect("a file"), b"old");
    assert_eq!(names(temp.path()), ["out.onnx"]);
}
