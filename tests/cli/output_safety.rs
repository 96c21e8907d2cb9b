//! An output is whole or not there, whatever ends the run.

use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::process::ExitStatusExt as _;
use std::process::Command;
use std::time::Duration;

use crate::tool::Folder;

const RUN: &str = "deit_fmnist.onnx out.onnx --recipe repq --calib calib.npz --samples 48 --threads 1 --external-data";

/// Ends a run with a signal at moments spread over all of it; whether the end came by the signal is told.
fn interrupted(folder: &Folder, signal: &str, whole: &[u8]) -> (usize, usize) {
    let started = std::time::Instant::now();
    folder.run(RUN).done();
    let duration = started.elapsed();
    let mut killed = 0;
    let mut strays = 0;
    for eighth in 0..=8 {
        let _ = std::fs::remove_file(folder.path("out.onnx"));
        let mut child = folder.start(RUN);
        std::thread::sleep(duration.mul_f64(f64::from(eighth) / 8.0).max(Duration::from_millis(2)));
        Command::new("kill").args([signal, &child.id().to_string()]).status().expect("kill runs");
        let status = child.wait().expect("the run ends");
        if folder.has("out.onnx") {
            assert!(folder.read("out.onnx") == whole, "half an output after {eighth} eighths");
        }
        if status.signal().is_some() {
            killed += 1;
        }
        strays += folder.strays().len();
    }
    (killed, strays)
}

#[test]
fn signals_leave_no_stray_file() {
    let folder = Folder::with("signals", &["deit_fmnist.onnx", "calib.npz"]);
    folder.run(RUN).done();
    let whole = folder.read("out.onnx");
    for signal in ["-TERM", "-INT"] {
        let (killed, strays) = interrupted(&folder, signal, &whole);
        assert!(killed > 2, "{signal} ended {killed} runs only");
        assert_eq!(strays, 0, "{signal}: {:?}", folder.strays());
    }
}

#[test]
fn after_a_kill_the_next_run_cleans_up() {
    let folder = Folder::with("kill", &["deit_fmnist.onnx", "calib.npz"]);
    folder.run(RUN).done();
    let whole = folder.read("out.onnx");
    let (killed, _) = interrupted(&folder, "-KILL", &whole);
    assert!(killed > 2, "{killed} runs were killed only");
    // Whether one of those was caught while it wrote or not: this is what it would have left.
    folder.write(".onnxq-4194305-0.tmp", "half a model");
    let at_work = std::fs::File::create(folder.path(".onnxq-4194306-0.tmp")).expect("a file");
    at_work.lock().expect("a lock");
    folder.run(RUN).done();
    assert!(folder.read("out.onnx") == whole);
    assert_eq!(folder.strays(), [".onnxq-4194306-0.tmp"], "what another run is writing stays, all else goes");
}

#[test]
fn a_failed_run_keeps_what_is_there() {
    let folder = Folder::with("failed", &["cnn_bn.onnx", "calib.npz"]);
    folder.run("cnn_bn.onnx out.onnx --calib calib.npz --samples 4").done();
    std::fs::copy(folder.path("out.onnx"), folder.path("again.onnx")).expect("a copy");
    let before = folder.contents();
    assert_eq!(folder.run("cnn_bn.onnx out.onnx --calib missing.npz").code, Some(2));
    folder.run("again.onnx out.onnx --calib calib.npz").refused();
    folder.run("cnn_bn.onnx out.onnx --calib calib.npz --exclude re:.").refused();
    assert!(folder.contents() == before, "a failed run changed the folder");
}

/// What the float model was can't be made again from codes.
#[test]
fn the_input_is_never_replaced() {
    let folder = Folder::with("in-place", &["cnn_bn.onnx", "calib.npz"]);
    std::os::unix::fs::symlink("cnn_bn.onnx", folder.path("link.onnx")).expect("a link");
    let before = folder.contents();
    for words in ["cnn_bn.onnx cnn_bn.onnx --calib calib.npz", "cnn_bn.onnx ./link.onnx --bits w8"] {
        let outcome = folder.run(words);
        assert_eq!(outcome.code, Some(2), "{words}");
        let told = "cnn_bn.onnx` is the model and OUT at once; give OUT another name\n";
        assert!(outcome.stderr.ends_with(told), "{words}: {}", outcome.stderr);
        assert!(folder.contents() == before, "{words}: something changed");
    }
}

/// What the model's tensors lie in is no place for the output, not even where a link leads there.
#[test]
fn the_weights_of_the_input_stay() {
    let folder = Folder::with("weights-stay", &["cnn_bn.onnx", "calib.npz"]);
    folder.run("cnn_bn.onnx apart.onnx --recipe none --external-data").done();
    std::os::unix::fs::symlink("apart.onnx.data", folder.path("link.onnx")).expect("a link");
    let before = folder.contents();
    for (words, file, name) in [
        ("apart.onnx apart.onnx.data --calib calib.npz", "apart.onnx.data", "OUT"),
        ("apart.onnx ./link.onnx --bits w8", "./apart.onnx.data", "OUT"),
        ("apart.onnx out.onnx --calib calib.npz --save-stats apart.onnx.data", "apart.onnx.data", "--save-stats"),
    ] {
        let outcome = folder.run(words);
        let file = file.trim_start_matches("./");
        let told = format!("{file}` is the weights of the model and {name} at once; give {name} another name\n");
        assert_eq!(outcome.code, Some(2), "{words}");
        assert!(outcome.stderr.ends_with(&told), "{words}: {}", outcome.stderr);
        assert!(folder.contents() == before, "{words}: something changed");
    }
}

/// A file made in place of a link, and one with the usual rights.
#[test]
fn links_and_rights() {
    let folder = Folder::with("rights", &["cnn_bn.onnx", "calib.npz"]);
    folder.write("usual", "");
    folder.write("real/out.onnx", "old");
    std::os::unix::fs::symlink("real/out.onnx", folder.path("link.onnx")).expect("a link");
    folder.run("cnn_bn.onnx link.onnx --calib calib.npz --samples 4").done();
    assert!(folder.path("link.onnx").is_symlink(), "the link stays");
    assert!(folder.read("real/out.onnx").len() > 1000);
    folder.run("cnn_bn.onnx out.onnx --calib calib.npz --samples 4").done();
    let mode = |name: &str| folder.path(name).metadata().expect("a file").permissions().mode();
    assert_eq!(mode("out.onnx"), mode("usual"), "the mode is by umask");
}
