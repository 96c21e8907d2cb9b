//! Reading and writing with nothing between gives an equal message, for every model that the onnx package has.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use onnxq::onnx::{WriteOptions, read, write};

use crate::oracle::Oracle;
use crate::tool::Folder;

fn models_below(folder: &Path, found: &mut Vec<PathBuf>) {
    let mut entries: Vec<PathBuf> =
        std::fs::read_dir(folder).expect("a folder").map(|entry| entry.expect("an entry").path()).collect();
    entries.sort();
    for entry in entries {
        if entry.is_dir() {
            models_below(&entry, found);
        } else if entry.extension().is_some_and(|extension| extension == "onnx") {
            found.push(entry);
        }
    }
}

#[test]
fn every_backend_model_comes_back_equal() {
    let Some(oracle) = Oracle::find() else { return };
    let folder = Folder::new("round-trip");
    let counts = oracle.ask(&["backend", folder.path("suite").to_str().expect("UTF-8")]);
    assert_eq!((&counts["node"], &counts["shipped"]), (&1884.into(), &149.into()));
    let mut models = Vec::new();
    models_below(&folder.path("suite"), &mut models);
    assert_eq!(models.len(), 1884 + 149);
    std::fs::create_dir(folder.path("out")).expect("a folder");
    let mut pairs = String::new();
    for (i, path) in models.iter().enumerate() {
        let out = folder.path("out").join(format!("{i}.onnx"));
        // The process is started for some only; all go through what it does.
        if i % 250 == 0 {
            folder.run(&format!("{} {} --recipe none --quiet", path.display(), out.display())).done();
        } else {
            let model = read(path).unwrap_or_else(|error| panic!("{error}"));
            write(&model, &out, &WriteOptions::default()).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        }
        let _ = writeln!(pairs, "{}\t{}", path.display(), out.display());
    }
    folder.write("pairs.txt", pairs);
    let result = oracle.ask(&["equal", folder.path("pairs.txt").to_str().expect("UTF-8")]);
    assert_eq!(result["pairs"], models.len());
    assert_eq!(result["different"], serde_json::json!([]));
}
