//! Damaged and malicious input: an error each, and neither panic nor absurd allocation.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;

use super::super::{decode_tensor, read};
use super::*;

fn error(bytes: &[u8]) -> String {
    read_bytes(Bytes::copy_from_slice(bytes), None).map(|_| ()).expect_err("an unreadable model").to_string()
}

#[test]
fn what_is_no_model_is_told_apart() {
    assert_eq!(error(b""), "is empty; an ONNX model was expected");
    assert_eq!(error(b"hello, this is text\n"), "is a text file, not an ONNX model");
    assert_eq!(error("größer\n".repeat(99).as_bytes()), "is a text file, not an ONNX model");
    assert!(error(b"version https://git-lfs.github.com/spec/v1\noid sha256:00\n").ends_with("Git LFS: fetch it"));
    assert_eq!(error(&[0xff; 64]), "is not an ONNX model");
    assert_eq!(error(b"PK\x03\x04zip"), "is not an ONNX model");
    assert!(error(&[0x08, 0x0a, 0x3a, 0x02, 0xff, 0xff]).starts_with("is damaged"));
    assert_eq!(error(&[0x08, 0x0a]), "has no graph; it is no ONNX model, or truncated");
    assert!(error(&[0x08, 0x0a, 0x12, 0x02, 0xff, 0xfe]).contains("UTF-8"));
}

#[test]
fn a_cut_anywhere_is_an_error() {
    let bytes = sample().encode_to_vec();
    let whole = bytes.len() - 6;
    for length in 0..bytes.len() {
        let error = error(&bytes[..length]);
        // Between the graph and what follows it, the cut leaves a model without operator sets.
        if length > 2 && length < whole {
            assert!(error.starts_with("is truncated"), "{length}: {error}");
        }
    }
}

#[test]
fn flipped_bytes_never_panic() {
    let bytes = sample().encode_to_vec();
    let mut state = 7u64;
    let mut random = move |below: usize| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) as usize % below
    };
    let mut readable = 0;
    for round in 0..30_000 {
        let mut damaged = bytes.clone();
        for _ in 0..=round % 3 {
            let at = random(damaged.len());
            damaged[at] = random(256) as u8;
        }
        if let Ok(model) = read_bytes(damaged.into(), None) {
            readable += 1;
            to_bytes(&model).expect("what was read can be written");
        }
        let noise: Vec<u8> = (0..random(64)).map(|_| random(256) as u8).collect();
        let _ = read_bytes(noise.clone().into(), None);
        let _ = decode_tensor(&noise);
    }
    assert!(readable > 100, "only {readable} were readable: the test misses what lies behind decoding");
}

#[test]
fn deep_nesting_is_an_error() {
    let mut graph = GraphProto::default();
    for level in 0..40 {
        let body = AttributeProto {
            name: text("body"),
            r#type: Some(5),
            g: Some(Box::new(graph)),
            ..AttributeProto::default()
        };
        let node = NodeProto { attribute: vec![body], ..NodeProto::default() };
        graph = GraphProto { node: vec![node], ..GraphProto::default() };
        let bytes = model(graph.clone()).encode_to_vec();
        match read_bytes(bytes.into(), None) {
            Ok(_) => assert!(level < 33, "level {level}"),
            Err(error) => {
                assert!(level > 30 && error.to_string().contains("nested too deeply"), "level {level}: {error}");
            }
        }
    }
}

#[test]
fn huge_claims_allocate_nothing() {
    let huge = TensorProto { dims: vec![1 << 31, 1 << 31, 4], ..raw_tensor("w", 1, &[], vec![0; 4]) };
    let graph = GraphProto { initializer: vec![huge], ..GraphProto::default() };
    assert!(error(&model(graph).encode_to_vec()).contains("too large"));
    // A length of 2^63 bytes.
    assert!(error(&[0x3a, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x7f]).starts_with("is truncated"));
    let many = NodeProto { output: (0..20_000).map(|i| i.to_string()).collect(), ..NodeProto::default() };
    let graph = GraphProto { node: vec![many], ..GraphProto::default() };
    assert!(error(&model(graph).encode_to_vec()).contains("too many outputs"));
}

fn external(entries: &[(&str, &str)]) -> ModelProto {
    let entries = entries.iter().map(|&(key, value)| StringStringEntryProto { key: text(key), value: text(value) });
    let tensor = TensorProto {
        raw_data: None,
        data_location: Some(1),
        external_data: entries.collect(),
        ..raw_tensor("w", 2, &[4], vec![])
    };
    model(GraphProto { initializer: vec![tensor], ..GraphProto::default() })
}

#[test]
fn external_data_stays_in_the_folder() {
    let temp = tempfile::tempdir().expect("a folder");
    let folder = temp.path().join("model");
    fs::create_dir_all(folder.join("sub")).expect("a folder");
    fs::write(folder.join("data"), (0..100).collect::<Vec<u8>>()).expect("a file");
    fs::write(folder.join("sub/data"), [9; 4]).expect("a file");
    fs::write(temp.path().join("secret"), [1; 100]).expect("a file");
    symlink("../secret", folder.join("out")).expect("a link");
    symlink("..", folder.join("up")).expect("a link");
    symlink("data", folder.join("in")).expect("a link");
    let file = folder.join("m.onnx");
    let attempt = |entries: &[(&str, &str)]| {
        fs::write(&file, external(entries).encode_to_vec()).expect("a file");
        read(&file)
            .map_err(|error| error.to_string())
            .map(|model| model.graph.constant(model.graph.initializers()[0]).expect("a constant").bytes().to_vec())
    };
    assert_eq!(attempt(&[("location", "data"), ("offset", "96"), ("length", "4")]), Ok(vec![96, 97, 98, 99]));
    assert_eq!(attempt(&[("location", "./in")]), Ok(vec![0, 1, 2, 3]));
    assert_eq!(attempt(&[("location", "sub/data"), ("checksum", "00")]), Ok(vec![9; 4]));
    let secret = temp.path().join("secret");
    for location in ["../secret", "out", "up/secret", "sub/../data", secret.to_str().expect("a path")] {
        let error = attempt(&[("location", location)]).expect_err(location);
        assert!(error.ends_with("is not below the model's folder; put the data beside the model"), "{error}");
    }
    let fails = |entries: &[(&str, &str)], message: &str| {
        let error = attempt(entries).expect_err(message);
        assert!(error.contains(message), "{error}");
    };
    fails(&[], "no location");
    fails(&[("location", "gone")], "`gone` can't be opened");
    fails(&[("location", "sub")], "`sub` is no regular file");
    fails(&[("location", "data"), ("offset", "-1")], "offset `-1` is no number");
    fails(&[("location", "data"), ("length", "5")], "length is 5 bytes, but type and shape need 4");
    fails(&[("location", "data"), ("offset", "97")], "`data` has 100 bytes, but 101 are needed");
    fails(&[("location", "data"), ("offset", "18446744073709551615")], "are needed");
    let error = error(&external(&[("location", "data")]).encode_to_vec());
    assert!(error.ends_with("the model has no folder"), "{error}");
}

#[test]
fn a_linked_model_finds_data_beside_the_linked_file() {
    let temp = tempfile::tempdir().expect("a folder");
    let (blobs, shown) = (temp.path().join("blobs"), temp.path().join("shown"));
    fs::create_dir(&blobs).and_then(|()| fs::create_dir(&shown)).expect("folders");
    fs::write(blobs.join("a"), external(&[("location", "m.data")]).encode_to_vec()).expect("a file");
    fs::write(blobs.join("b"), [5; 4]).expect("a file");
    symlink("../blobs/a", shown.join("m.onnx")).expect("a link");
    symlink("../blobs/b", shown.join("m.data")).expect("a link");
    assert!(read(&shown.join("m.onnx")).is_ok());
}

#[test]
fn what_is_no_file_is_refused() {
    let problem = |path: &Path| read(path).map(|_| ()).expect_err("an unreadable file").to_string();
    let temp = tempfile::tempdir().expect("a folder");
    assert!(problem(temp.path()).ends_with("is a folder or no regular file; give the path of an ONNX model"));
    assert!(problem(Path::new("/dev/null")).contains("no regular file"));
    assert!(problem(&temp.path().join("gone")).contains("can't be opened"));
    fs::write(temp.path().join("empty"), []).expect("a file");
    assert!(problem(&temp.path().join("empty")).ends_with("empty: is empty; an ONNX model was expected"));
}

#[test]
fn lone_tensors_are_read() {
    let (name, tensor) =
        decode_tensor(&raw_tensor("in", 1, &[1], vec![0, 0, 0x80, 0x3f]).encode_to_vec()).expect("a tensor");
    assert_eq!((name.as_str(), tensor.scalar_f32()), ("in", Some(1.0)));
    assert!(decode_tensor(b"nonsense").is_err());
    assert!(decode_tensor(b"").is_err());
}
