//! `--save-stats` and `--stats`: what calibration saw serves other trials.

use crate::tool::Folder;

/// Ranges of all samples, and no search, which would need samples of its own.
const PLAIN: &str = "--calibrator minmax --min-sqnr off --min-node-sqnr off";
const MSE: &str = "--calibrator mse --min-sqnr off --min-node-sqnr off";

fn folder(test: &str) -> Folder {
    Folder::with(test, &["cnn_bn.onnx", "deit_fmnist.onnx", "calib.npz", "test.npz"])
}

/// For each method the run that saved and the one that only reads write the same bytes, with and without the data.
#[test]
fn a_run_with_statistics_is_the_run_that_saved_them() {
    let folder = folder("stats");
    for (method, model) in [
        (PLAIN, "cnn_bn.onnx"),
        ("--calibrator percentile --min-sqnr off --min-node-sqnr off", "deit_fmnist.onnx"),
        ("--calibrator entropy --min-sqnr off --min-node-sqnr off", "cnn_bn.onnx"),
        ("--recipe repq --bits w4a4", "deit_fmnist.onnx"),
    ] {
        let saving = format!("{model} a.onnx {method} --calib calib.npz --samples 8 --save-stats seen.stats --json");
        let saved = folder.run(&saving).done().json();
        let alone = folder.run(&format!("{model} b.onnx {method} --stats seen.stats --json")).done().json();
        assert!(folder.read("a.onnx") == folder.read("b.onnx"), "{method}: other bytes");
        assert_eq!((&saved["samples"], &alone["samples"]), (&8.into(), &8.into()), "{method}");
        assert_eq!(alone["quality"]["not_measured"], "no data was given", "{method}");
        let with_data = folder
            .run(&format!("{model} c.onnx {method} --stats seen.stats --calib calib.npz --samples 8 --json"))
            .done();
        assert!(folder.read("a.onnx") == folder.read("c.onnx"), "{method}: other bytes");
        assert_eq!(with_data.json()["quality"], saved["quality"], "{method}");
    }
}

#[test]
fn the_file_is_the_same_whatever_the_threads() {
    let folder = folder("stats-threads");
    for threads in ["1", "2", "5"] {
        let words = format!(
            "deit_fmnist.onnx --dry-run --recipe repq --calib calib.npz --samples 9 --threads {threads} --save-stats {threads}"
        );
        folder.run(&words).done();
    }
    assert!(folder.read("1") == folder.read("2") && folder.read("1") == folder.read("5"));
}

/// Trials that need the same are served; what is missing is observed where there is data, and added to what is saved.
#[test]
fn what_is_missing_is_observed_or_refused() {
    let folder = folder("stats-missing");
    folder
        .run(&format!("cnn_bn.onnx --dry-run {PLAIN} --calib calib.npz --samples 8 --save-stats minmax.stats"))
        .done();
    // Other bits, symmetry and choice of nodes need no other statistics.
    for words in ["--bits w4a8", "--exclude op:Gemm", "--set select-sites.weight-symmetry=affine"] {
        folder.run(&format!("cnn_bn.onnx out.onnx {PLAIN} --stats minmax.stats {words}")).done();
    }
    std::fs::remove_file(folder.path("out.onnx")).expect("written");
    let refused = folder.run(&format!("cnn_bn.onnx out.onnx --stats minmax.stats {MSE}"));
    assert_eq!(refused.code, Some(2));
    assert!(!folder.has("out.onnx"));
    let lacking = folder
        .run(&format!(
            "cnn_bn.onnx a.onnx --stats minmax.stats {MSE} --calib calib.npz --samples 8 --save-stats both.stats"
        ))
        .done();
    assert!(lacking.stdout.contains("`--stats` lacked "), "{}", lacking.stdout);
    folder.run(&format!("cnn_bn.onnx b.onnx --stats both.stats {MSE}")).done();
    assert!(folder.read("a.onnx") == folder.read("b.onnx"));
    folder.run(&format!("cnn_bn.onnx out.onnx {PLAIN} --stats both.stats")).done();
    insta::assert_snapshot!(refused.transcript());
}

#[test]
fn statistics_that_can_not_serve() {
    let folder = folder("stats-refused");
    folder.run("cnn_bn.onnx --dry-run --calib calib.npz --samples 4 --save-stats cnn.stats").done();
    let sound = folder.read("cnn.stats");
    folder.write("short.stats", &sound[..sound.len() / 2]);
    let mut changed = sound.clone();
    changed[sound.len() / 2] ^= 1;
    folder.write("changed.stats", &changed);
    folder.write("text.stats", "hello");
    folder.write("out.onnx", "kept");
    let mut text = String::new();
    for words in [
        "deit_fmnist.onnx out.onnx --stats cnn.stats",
        "cnn_bn.onnx out.onnx --stats short.stats",
        "cnn_bn.onnx out.onnx --stats changed.stats",
        "cnn_bn.onnx out.onnx --stats text.stats",
        "cnn_bn.onnx out.onnx --stats missing.stats",
        "cnn_bn.onnx out.onnx --stats calib.npz",
        "cnn_bn.onnx cnn.stats --stats cnn.stats",
        "cnn_bn.onnx out.onnx --calib calib.npz --save-stats out.onnx",
        "cnn_bn.onnx out.onnx --calib calib.npz --save-stats cnn_bn.onnx",
        "cnn_bn.onnx out.onnx --calib calib.npz --save-stats calib.npz",
        "cnn_bn.onnx out.onnx --calib calib.npz --save-stats missing/new.stats",
    ] {
        let before = folder.contents();
        let outcome = folder.run(words);
        assert_eq!((outcome.code, outcome.stderr.lines().count()), (Some(2), 1), "{words}: {}", outcome.stderr);
        assert!(folder.contents() == before, "{words}: something changed");
        text += &(outcome.transcript() + "\n");
    }
    // Weights alone need no statistics.
    let outcome = folder.run("cnn_bn.onnx w8.onnx --bits w8 --save-stats none.stats").done();
    assert!(!folder.has("none.stats"));
    text += &outcome.transcript();
    insta::assert_snapshot!(text);
}

/// A gate that nothing was measured for is not passed; what was measured and refused is reported all the same.
#[test]
fn the_gate_of_the_output_is_never_passed_unseen() {
    let folder = folder("stats-gate");
    let model = "cnn_bn.onnx out.onnx --calibrator minmax --min-node-sqnr off";
    folder.run(&format!("{model} --min-sqnr 20 --calib calib.npz --samples 8 --save-stats seen.stats")).done();
    std::fs::remove_file(folder.path("out.onnx")).expect("it was written");
    let unseen = folder.run(&format!("{model} --stats seen.stats --min-sqnr 30")).refused();
    assert!(unseen.stderr.contains("--min-sqnr can't be checked"), "{}", unseen.stderr);
    let missed =
        folder.run(&format!("{model} --calib calib.npz --samples 8 --eval test.npz --min-sqnr 59 --json")).refused();
    let report = missed.json();
    let worst = report["quality"]["outputs"][0]["sqnr_db"].as_f64().expect("a number");
    assert!(worst < 59.0 && report["refused"].as_str().expect("a text").contains("59.0 dB of --min-sqnr"), "{report}");
    assert!(!folder.has("out.onnx"));
    let passed = folder.run(&format!("{model} --stats seen.stats --eval test.npz --min-sqnr 20 --json")).done().json();
    assert!(passed["refused"].is_null() && folder.has("out.onnx"), "{passed}");
}
