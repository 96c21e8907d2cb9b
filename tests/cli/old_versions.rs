//! Models in old operator versions: every operator computes the same after it is raised, whole models are quantized per
//! channel, and what can't be raised stays per tensor.

use onnxq::onnx::{WriteOptions, read, write};
use onnxq_ir::ops::opset::convert;

use crate::models::{save, weights};
use crate::oracle::Oracle;
use crate::tool::Folder;

/// The versions that old ones are raised to: that with a scale per channel, the one from which reductions and Split are
/// others, and the one with packed codes.
const NEW: [i64; 3] = [13, 18, 21];

#[test]
fn raised_operators_compute_the_same() {
    let Some(oracle) = Oracle::find() else { return };
    let folder = Folder::new("old-operators");
    let mut listing = String::new();
    let mut refused = Vec::new();
    for name in oracle.old_operators(&folder.path("")) {
        let [file, data] = ["onnx", "npz"].map(|ending| folder.path(&format!("{name}.{ending}")));
        for to in NEW {
            let mut model = read(&file).expect("a model");
            if let Err(error) = convert(&mut model, to) {
                refused.push(error.to_string());
                continue;
            }
            let raised = folder.path(&format!("{name}-{to}.raised.onnx"));
            write(&model, &raised, &WriteOptions::default()).expect("the model is written");
            let row = [&file, &raised, &data].map(|path| path.to_str().expect("UTF-8"));
            listing += &(row.join("\t") + "\n");
        }
    }
    assert_eq!(refused, [""; 0]);
    folder.write("listing.txt", &listing);
    let answer = oracle.ask(&["same", folder.path("listing.txt").to_str().expect("UTF-8")]);
    assert!(answer["pairs"].as_u64().expect("a number") > 2500);
    assert_eq!(answer["different"].as_array().expect("a list"), &[] as &[serde_json::Value]);
}
