//! Every kind of bad input: one line that names the thing, exit code 2, and nothing changed on the disk.

use std::fmt::Write as _;

use crate::arrays::{floats, integers, npy, npz};
use crate::models;
use crate::tool::Folder;

/// Runs each command line without and with a file at `out.onnx`; the transcript is that of the first run.
fn transcripts(folder: &Folder, commands: &[&str]) -> String {
    let mut text = String::new();
    for words in commands {
        let before = folder.contents();
        let outcome = folder.run(words);
        let heading = format!("onnxq {words}\n{}{}", outcome.stdout, outcome.stderr);
        assert_eq!(outcome.code, Some(2), "{heading}");
        assert_eq!(outcome.stdout, "", "{heading}");
        let errors: Vec<&str> = outcome.stderr.lines().filter(|line| !line.starts_with("onnxq: note: ")).collect();
        assert_eq!(errors.len(), 1, "one line: {heading}");
        assert!(errors[0].starts_with("onnxq: ") && !errors[0].contains("internal"), "{heading}");
        assert!(!errors[0].ends_with('.') && !errors[0].contains("panicked"), "{heading}");
        assert_eq!(folder.contents(), before, "something was left: {heading}");
        let _ = writeln!(text, "{}", outcome.transcript());

        folder.write("out.onnx", "kept");
        assert_eq!(folder.run(words).code, Some(2), "with an output in place: {heading}");
        assert_eq!(folder.read("out.onnx"), b"kept", "{heading}");
        std::fs::remove_file(folder.path("out.onnx")).expect("just written");
    }
    text
}

#[test]
fn models() {
    let folder = Folder::with("errors-models", &["cnn_bn.onnx"]);
    let sound = folder.read("cnn_bn.onnx");
    folder.write("truncated.onnx", &sound[..sound.len() / 2]);
    folder.write("empty.onnx", "");
    folder.write("random.onnx", (0..4096u32).map(|i| (i.wrapping_mul(2_654_435_761) >> 24) as u8).collect::<Vec<u8>>());
    folder.write("text.onnx", "hello\n".repeat(40));
    folder.write("pointer.onnx", "version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 12345\n");
    folder.write("folder.onnx/within", "");
    models::save(&models::old(), &folder.path("old.onnx"));
    let names = ["truncated", "empty", "random", "text", "pointer", "folder", "missing", "old"];
    let mut commands: Vec<String> = names.iter().map(|name| format!("{name}.onnx out.onnx")).collect();
    commands.push("info truncated.onnx".to_owned());
    commands.push("compare cnn_bn.onnx missing.onnx".to_owned());
    let commands: Vec<&str> = commands.iter().map(String::as_str).collect();
    insta::assert_snapshot!(transcripts(&folder, &commands));
}

#[test]
fn a_model_truncated_anywhere() {
    let folder = Folder::with("errors-truncated", &["cnn_bn.onnx"]);
    let sound = folder.read("cnn_bn.onnx");
    for length in [1, 2, 3, 7, 20, 100, 1000, sound.len() / 3, sound.len() - 100, sound.len() - 3, sound.len() - 1] {
        folder.write("short.onnx", &sound[..length]);
        let outcome = folder.run("short.onnx out.onnx --bits w8");
        assert_eq!(outcome.code, Some(2), "{length} bytes: {}{}", outcome.stdout, outcome.stderr);
        assert_eq!(outcome.stderr.lines().count(), 1, "{length} bytes: {}", outcome.stderr);
        assert!(outcome.stderr.contains("short.onnx"), "{length} bytes: {}", outcome.stderr);
        assert!(!folder.has("out.onnx"), "{length} bytes");
    }
}

const IMAGE: [usize; 4] = [4, 1, 28, 28];

fn pixels(samples: usize) -> Vec<f32> {
    (0..samples * 28 * 28).map(|i| ((i * 37) % 200) as f32 / 100.0 - 1.0).collect()
}

/// A folder with a model and much bad data for it.
fn bad_data(test: &str) -> Folder {
    let folder = Folder::with(test, &["cnn_bn.onnx"]);
    let sound = npz(&[("image", floats(&IMAGE, &pixels(4)))]);
    folder.write("truncated.npz", &sound[..sound.len() / 2]);
    folder.write("garbage.npz", [b"PK\x03\x04".as_slice(), &[7; 500]].concat());
    folder.write("data.bin", "123");
    folder.write("empty/readme.txt", "");
    folder.write("wrong_key.npz", npz(&[("img", floats(&IMAGE, &pixels(4)))]));
    folder.write("wrong_shape.npz", npz(&[("image", floats(&[4, 1, 14, 56], &pixels(4)))]));
    folder.write("wrong_rank.npz", npz(&[("image", floats(&[4, 784], &pixels(4)))]));
    let doubles: Vec<u8> = pixels(4).iter().flat_map(|&x| f64::from(x).to_le_bytes()).collect();
    folder.write("wrong_type.npz", npz(&[("image", npy("<f8", &IMAGE, &doubles))]));
    folder.write("objects.npy", npy("|O", &[1], b"\x80\x04."));
    for (name, value) in [("nan", f32::NAN), ("infinite", f32::INFINITY)] {
        let mut image = pixels(4);
        image[2 * 784 + 5] = value;
        folder.write(&format!("{name}.npz"), npz(&[("image", floats(&IMAGE, &image))]));
    }
    folder.write("no_samples.npz", npz(&[("image", floats(&[0, 1, 28, 28], &[]))]));
    folder.write("labels.npz", npz(&[("image", floats(&IMAGE, &pixels(4))), ("label", integers(&[3], &[0, 1, 2]))]));
    folder.write("mixed/a.npz", &sound);
    folder.write("mixed/b.npy", floats(&[1, 28, 28], &pixels(1)));
    folder.write("good.npz", sound);
    folder
}

#[test]
fn calibration_data() {
    let folder = bad_data("errors-data");
    let data = [
        "missing.npz",
        "truncated.npz",
        "garbage.npz",
        "data.bin",
        "empty",
        "mixed",
        "wrong_key.npz",
        "wrong_shape.npz",
        "wrong_rank.npz",
        "wrong_type.npz",
        "objects.npy",
        "nan.npz",
        "infinite.npz",
        "no_samples.npz",
        "labels.npz",
    ];
    let commands: Vec<String> = data.iter().map(|data| format!("cnn_bn.onnx out.onnx --calib {data}")).collect();
    let commands: Vec<&str> = commands.iter().map(String::as_str).collect();
    insta::assert_snapshot!(transcripts(&folder, &commands));
}

/// `--eval` and `compare` say the same of the same data.
#[test]
fn evaluation_data() {
    let folder = bad_data("errors-eval");
    for data in ["missing.npz", "garbage.npz", "wrong_key.npz", "nan.npz", "no_samples.npz"] {
        let as_calibration = folder.run(&format!("cnn_bn.onnx out.onnx --calib {data}"));
        for words in [
            format!("cnn_bn.onnx out.onnx --calib good.npz --eval {data}"),
            format!("compare cnn_bn.onnx cnn_bn.onnx --calib {data}"),
        ] {
            let outcome = folder.run(&words);
            assert_eq!((outcome.code, outcome.stderr), (Some(2), as_calibration.stderr.clone()), "{words}");
        }
        assert!(!folder.has("out.onnx"), "{data}");
    }
}

#[test]
fn data_for_other_inputs() {
    let folder = Folder::new("errors-inputs");
    models::save(&models::two_inputs(), &folder.path("two.onnx"));
    models::save(&models::product("2"), &folder.path("pairs.onnx"));
    models::save(&models::secretive(), &folder.path("secretive.onnx"));
    let rows = |n: usize| floats(&[n, 64], &vec![0.5; n * 64]);
    folder.write("lone.npy", rows(3));
    folder.write("lacks_z.npz", npz(&[("x", rows(3)), ("other", rows(3))]));
    folder.write("counts.npz", npz(&[("x", rows(3)), ("z", rows(4))]));
    folder.write("three.npz", npz(&[("x", rows(3))]));
    let commands = [
        "two.onnx out.onnx --calib lone.npy",
        "two.onnx out.onnx --calib lacks_z.npz",
        "two.onnx out.onnx --calib counts.npz",
        "pairs.onnx out.onnx --calib three.npz",
        "two.onnx out.onnx --input-shape y=1,64",
        "two.onnx out.onnx --input-shape x=1,65",
        "two.onnx out.onnx --input-shape x=1,64,1",
        "two.onnx out.onnx --input-shape x=1,64 --input-shape z=2,64",
        "two.onnx out.onnx --input-shape x",
        "two.onnx out.onnx --input-shape x=1,nought",
        "two.onnx out.onnx --input-shape x=0,64",
        "secretive.onnx out.onnx",
    ];
    insta::assert_snapshot!(transcripts(&folder, &commands));
}

#[test]
fn images() {
    let folder = Folder::with("errors-images", &["cnn_bn.onnx"]);
    models::save(&models::product("N"), &folder.path("product.onnx"));
    for part in ["small", "labelled", "unlabelled"] {
        folder.write(&format!("{part}/readme.txt"), "");
        image::GrayImage::from_pixel(20, 10, image::Luma([7]))
            .save(folder.path(&format!("{part}/a.png")))
            .expect("a PNG");
    }
    std::fs::copy(folder.path("small/a.png"), folder.path("unlabelled/b.png")).expect("a copy");
    folder.write("labelled/labels.csv", "file,label\na.png,cat\n");
    folder.write("unlabelled/labels.csv", "file,label\nb.png,1\n");
    folder.write("broken/a.png", b"\x89PNG\r\n\x1a\n12345");
    folder.write("unknown_key.toml", "mean = [0.5]\nsharpen = 2\n");
    folder.write("fits.toml", "resize = 28\ncrop = 28\nmean = [0.5]\nstd = [0.5]\n");
    folder.write("too_small.toml", "mean = [0.5]\nstd = [0.5]\n");
    let commands = [
        "cnn_bn.onnx out.onnx --calib small",
        "cnn_bn.onnx out.onnx --calib small --preprocess nonesuch",
        "cnn_bn.onnx out.onnx --calib small --preprocess missing.toml",
        "cnn_bn.onnx out.onnx --calib small --preprocess unknown_key.toml",
        "cnn_bn.onnx out.onnx --calib small --preprocess too_small.toml",
        "cnn_bn.onnx out.onnx --calib broken --preprocess fits.toml",
        "cnn_bn.onnx out.onnx --calib labelled --preprocess fits.toml",
        "cnn_bn.onnx out.onnx --calib unlabelled --preprocess fits.toml",
        "product.onnx out.onnx --calib small --preprocess fits.toml",
    ];
    insta::assert_snapshot!(transcripts(&folder, &commands));
}

#[test]
fn recipes_and_targets() {
    let folder = bad_data("errors-definitions");
    let recipe = |rest: &str| format!("name = \"mine\"\ndescription = \"a trial\"\nbits = \"w8a8\"\n{rest}");
    folder.write("unknown_key.toml", recipe("bogus = 1\n"));
    folder.write("unknown_pass.toml", recipe("[[stage]]\npass = \"minimax\"\n"));
    folder.write("unknown_option.toml", recipe("[[stage]]\npass = \"minmax\"\noptions.sharp = 1\n"));
    folder.write("bad_bits.toml", recipe("").replace("w8a8", "w1a8"));
    folder.write("override.toml", recipe("[[override]]\nnodes = \"/fc/Gem\"\nweight-bits = 4\n"));
    folder.write("override_bits.toml", recipe("[[override]]\nnodes = \"/fc/Gemm\"\nweight-bits = \"flaot\"\n"));
    folder.write("override_key.toml", recipe("[[override]]\nnodes = \"/fc/Gemm\"\nweights = 4\n"));
    folder.write("override_empty.toml", recipe("[[override]]\nnodes = \"/fc/Gemm\"\n"));
    folder.write("syntax.toml", "name = \"mine\n");
    folder.write("binary.toml", [0xff, 0xfe, 0, 1]);
    let target = folder.run("targets ort-cpu").done().stdout;
    folder.write("target_key.toml", target.replace("bias =", "bogus = 1\nbias ="));
    folder.write("target_value.toml", target.replace("\"int32-where-joined\"", "\"int31\""));
    let commands = [
        "cnn_bn.onnx out.onnx --recipe nonesuch",
        "cnn_bn.onnx out.onnx --recipe missing.toml",
        "cnn_bn.onnx out.onnx --recipe unknown_key.toml",
        "cnn_bn.onnx out.onnx --recipe unknown_pass.toml",
        "cnn_bn.onnx out.onnx --recipe unknown_option.toml",
        "cnn_bn.onnx out.onnx --recipe bad_bits.toml",
        "cnn_bn.onnx out.onnx --recipe override.toml",
        "cnn_bn.onnx out.onnx --recipe override_bits.toml",
        "cnn_bn.onnx out.onnx --recipe override_key.toml",
        "cnn_bn.onnx out.onnx --recipe override_empty.toml",
        "cnn_bn.onnx out.onnx --recipe syntax.toml",
        "cnn_bn.onnx out.onnx --recipe binary.toml",
        "cnn_bn.onnx out.onnx --target nonesuch",
        "cnn_bn.onnx out.onnx --target missing.toml",
        "cnn_bn.onnx out.onnx --target target_key.toml",
        "cnn_bn.onnx out.onnx --target target_value.toml",
        "recipes nonesuch",
        "targets nonesuch",
        "passes nonesuch",
    ];
    insta::assert_snapshot!(transcripts(&folder, &commands));
}

#[test]
fn options() {
    let folder = bad_data("errors-options");
    models::save(&models::product("N"), &folder.path("product.onnx"));
    let commands = [
        "cnn_bn.onnx out.onnx --calib good.npz --bits w1",
        "cnn_bn.onnx out.onnx --calib good.npz --bits w9a8",
        "cnn_bn.onnx out.onnx --calib good.npz --bits w8a9",
        "cnn_bn.onnx out.onnx --calib good.npz --bits w8a1",
        "cnn_bn.onnx out.onnx --calib good.npz --bits a8",
        "cnn_bn.onnx out.onnx --calib good.npz --bits w8a16",
        "cnn_bn.onnx out.onnx --calib good.npz --set nonesuch.key=1",
        "cnn_bn.onnx out.onnx --calib good.npz --set minmax.nonesuch=1",
        "cnn_bn.onnx out.onnx --calib good.npz --set select-sites.sites=3",
        "cnn_bn.onnx out.onnx --calib good.npz --set minmax",
        "cnn_bn.onnx out.onnx --calib good.npz --calibrator percentile --set percentile.percentile=high",
        "cnn_bn.onnx out.onnx --calib good.npz --calibrator percentile --set percentile.percentile=200",
        "cnn_bn.onnx out.onnx --calib good.npz --calibrator nonesuch",
        "cnn_bn.onnx out.onnx --calib good.npz --recipe repq --calibrator mse",
        "cnn_bn.onnx out.onnx --recipe none --calibrator mse",
        "cnn_bn.onnx out.onnx --calib good.npz --exclude /fc/Gem",
        "cnn_bn.onnx out.onnx --calib good.npz --exclude re:nonesuch",
        "cnn_bn.onnx out.onnx --calib good.npz --exclude re:(",
        "cnn_bn.onnx out.onnx --calib good.npz --include /fc/Gem",
        "cnn_bn.onnx out.onnx --calib good.npz --include op:conv",
        "cnn_bn.onnx out.onnx --calib good.npz --include op:LSTM",
        "cnn_bn.onnx out.onnx --calib good.npz --exclude op:Linear",
        "cnn_bn.onnx out.onnx --calib good.npz --exclude /stem/Con..logits",
        "cnn_bn.onnx out.onnx --calib good.npz --exclude logits../stem/Conv",
        "cnn_bn.onnx out.onnx --calib good.npz --input-shape pixels=1,1,28,28",
        "cnn_bn.onnx out.onnx --calib good.npz --storage packed",
        "cnn_bn.onnx out.onnx --calib good.npz --io codes",
        "cnn_bn.onnx out.onnx --recipe none --io quantized",
        "cnn_bn.onnx out.onnx --calib good.npz --samples 0",
        "cnn_bn.onnx out.onnx --calib good.npz --threads none",
        "cnn_bn.onnx out.onnx --calib good.npz --seed -1",
        "cnn_bn.onnx out.onnx --calib good.npz --calib good.npz",
        "cnn_bn.onnx out.onnx --calib",
        "cnn_bn.onnx out.onnx --sample 3",
        "cnn_bn.onnx out.onnx extra",
        "cnn_bn.onnx",
        "info",
        "compare cnn_bn.onnx",
        "compare cnn_bn.onnx product.onnx",
    ];
    insta::assert_snapshot!(transcripts(&folder, &commands));
}

#[test]
fn outputs() {
    let folder = bad_data("errors-outputs");
    folder.write("folder/within", "");
    std::os::unix::fs::symlink("nowhere", folder.path("dead_link.onnx")).expect("a link");
    let commands = [
        "cnn_bn.onnx missing/out.onnx --calib good.npz",
        "cnn_bn.onnx folder --calib good.npz",
        "cnn_bn.onnx folder/ --calib good.npz",
        "cnn_bn.onnx new/ --calib good.npz",
        "cnn_bn.onnx /dev/null --calib good.npz",
        "cnn_bn.onnx dead_link.onnx --calib good.npz",
        "cnn_bn.onnx good.npz --calib good.npz",
    ];
    insta::assert_snapshot!(transcripts(&folder, &commands));
}
