//! Replays the fuzzers' corpora: what they found, or start from, goes through the same checks on every test run.
//!
//! A file that a check fails on is named before it panics. New files are added by copying them to `fuzz/corpus/TARGET/`.

use std::path::{Path, PathBuf};

use onnxq::{data, onnx};

#[path = "../fuzz/checks/npz.rs"]
mod npz;
#[path = "../fuzz/checks/read.rs"]
mod read;
#[path = "../fuzz/checks/text.rs"]
mod text;

#[test]
fn models() {
    replay("read", read::check);
}

#[test]
fn texts() {
    replay("text", text::check);
}

#[test]
fn archives() {
    replay("npz", npz::check);
}

fn replay(target: &str, check: fn(&[u8])) {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus").join(target);
    let entries = folder.read_dir().unwrap_or_else(|error| panic!("{}: {error}", folder.display()));
    let mut files: Vec<PathBuf> = entries.map(|entry| entry.expect("an entry of the folder").path()).collect();
    files.sort();
    assert!(!files.is_empty(), "{} is empty", folder.display());
    for file in files {
        let bytes = std::fs::read(&file).unwrap_or_else(|error| panic!("{}: {error}", file.display()));
        let outcome = std::panic::catch_unwind(|| check(&bytes));
        assert!(outcome.is_ok(), "{} fails", file.display());
    }
}
