//! The same command gives the same bytes, however often it runs and on however many threads.

use crate::tool::Folder;

/// A recipe with the passes that no built-in one has.
const CORRECTED: &str = r#"
name = "corrected"
description = "what the channels of weights and the means of errors allow"
bits = "w4a4"
stage = [
    { pass = "fold-batchnorm" },
    { pass = "linear-form" },
    { pass = "cross-layer-equalization", options.ranges = "activations" },
    { pass = "select-sites" },
    { pass = "auto" },
    { pass = "bias-correction" },
    { pass = "legalize" },
    { pass = "opset" },
    { pass = "insert-qdq" },
]
"#;

#[test]
fn a_recipe_of_ones_own_moves_factors_and_corrects_biases() {
    let folder = Folder::with("corrected", &["cnn_bn.onnx", "calib.npz"]);
    folder.write("corrected.toml", CORRECTED);
    let report =
        folder.run("cnn_bn.onnx out.onnx --calib calib.npz --samples 24 --recipe corrected.toml -v").done().stdout;
    for text in ["cross-layer-equalization Exact    1 rewrites", "biases of ", "on held-out samples"] {
        assert!(report.contains(text), "{text}: {report}");
    }
}

#[test]
fn same_bytes() {
    let folder = Folder::with("determinism", &["cnn_bn.onnx", "deit_fmnist.onnx", "calib.npz"]);
    folder.write("corrected.toml", CORRECTED);
    for (model, options) in [
        ("deit_fmnist", ""),
        ("cnn_bn", ""),
        ("deit_fmnist", "--recipe repq --bits w4a4"),
        ("cnn_bn", "--recipe repq"),
        ("deit_fmnist", "--calibrator percentile"),
        ("deit_fmnist", "--calibrator mse"),
        ("deit_fmnist", "--calibrator entropy"),
        ("cnn_bn", "--calibrator mse --bits w4a4 --seed 3"),
        ("cnn_bn", "--target generic --bits w4a8 --storage native"),
        ("cnn_bn", "--recipe corrected.toml"),
    ] {
        let words = format!("{model}.onnx out.onnx --calib calib.npz --samples 24 {options}");
        let mut runs = ["--threads 2", "--threads 2", "--threads 1", "--threads 5"].iter().map(|threads| {
            let mut report = folder.run(&format!("{words} {threads} --json")).done().json();
            // Times are the one thing that may differ.
            let seconds = report.as_object_mut().expect("an object").remove("seconds").expect("seconds");
            assert!(seconds["observation"].as_f64().expect("a number") > 0.0, "{words}: {seconds}");
            (folder.read("out.onnx"), report)
        });
        let (bytes, report) = runs.next().expect("four runs");
        for (other_bytes, other_report) in runs {
            assert!(other_bytes == bytes, "{words}: other bytes");
            assert_eq!(other_report, report, "{words}");
        }
    }
}
