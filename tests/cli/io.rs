//! `--io quantized`: the model takes and gives codes.

use crate::arrays::{floats, npy, npz, read, read_floats};
use crate::models;
use crate::oracle::Oracle;
use crate::tool::Folder;

const SAMPLES: usize = 16;

/// Images around 0, the same in every run.
fn images() -> Vec<f32> {
    (0..SAMPLES * 28 * 28).map(|i| ((i * 7919) % 401) as f32 / 200.0 - 1.0).collect()
}

/// Scale and zero point of an input or output.
fn port(report: &serde_json::Value, name: &str) -> (f32, i32) {
    let ports = report["io"].as_array().expect("a list");
    let port = ports.iter().find(|port| port["name"] == name).unwrap_or_else(|| panic!("no `{name}`: {ports:?}"));
    assert_eq!(port["type"], "uint8", "{port}");
    let (scale, zero_point) = (port["scale"].as_f64(), port["zero_point"].as_i64());
    (scale.expect("a number") as f32, zero_point.expect("a number") as i32)
}

/// QuantizeLinear, as ONNX defines it.
fn encode(values: &[f32], (scale, zero_point): (f32, i32)) -> Vec<u8> {
    values.iter().map(|x| ((x / scale).round_ties_even() as i32 + zero_point).clamp(0, 255) as u8).collect()
}

/// In onnxruntime it gives the codes of what the model with floats gives.
#[test]
fn codes_mean_what_floats_were() {
    let Some(oracle) = Oracle::find() else { return };
    let folder = Folder::with("io", &["cnn_bn.onnx", "deit_fmnist.onnx"]);
    let (shape, images) = ([SAMPLES, 1, 28, 28], images());
    folder.write("float.npz", npz(&[("image", floats(&shape, &images))]));
    let path = |name: &str| folder.path(name).to_str().expect("UTF-8").to_owned();
    for (model, recipe) in [("deit_fmnist.onnx", "repq"), ("cnn_bn.onnx", "int8")] {
        // One plan for both: a search sees other outputs where these are codes.
        let search = if recipe == "int8" { "--calibrator minmax --min-sqnr off --min-node-sqnr off" } else { "" };
        let words = format!("{model} out.onnx --recipe {recipe} --calib float.npz --json {search}");
        folder.run(&words.replace("out.onnx", "float.onnx")).done();
        let report = folder.run(&format!("{words} --io quantized")).done().json();
        oracle.check(&[&folder.path("out.onnx")]);
        let info = folder.run("info out.onnx").done().stdout;
        assert!(info.contains("`image` uint8[N, 1, 28, 28]") && info.contains("`logits` uint8[N, 10]"), "{info}");
        let codes = encode(&images, port(&report, "image"));
        folder.write("codes.npz", npz(&[("image", npy("|u1", &shape, &codes))]));
        for (model, data, out) in [("float.onnx", "float.npz", "f.npz"), ("out.onnx", "codes.npz", "q.npz")] {
            oracle.ask(&["run", &path(model), &path(data), &path(out), "--opt", "none"]);
        }
        let wanted = encode(&read_floats(&folder.path("f.npz"), "logits").1, port(&report, "logits"));
        let (shape, found) = read(&folder.path("q.npz"), "logits", "|u1");
        assert_eq!(shape, [SAMPLES, 10]);
        assert_eq!(found, wanted, "{model}");
        let spread = found.iter().max().expect("codes") - found.iter().min().expect("codes");
        assert!(spread > 200, "the codes tell something: {spread}");
    }
}

#[test]
fn what_stays_float_says_why() {
    let folder = Folder::with("io-float", &["cnn_bn.onnx", "deit_fmnist.onnx", "calib.npz"]);
    let summary = |words: &str| {
        let outcome = folder.run(&format!("{words} --calib calib.npz --samples 4 --io quantized")).done();
        let lines = outcome.stdout.lines().skip_while(|line| !line.starts_with("  io "));
        lines.take_while(|line| !line.starts_with("  quality")).fold(String::new(), |text, line| text + line + "\n")
    };
    let mut text = summary("cnn_bn.onnx out.onnx --exclude /stem/Conv");
    text += &summary("cnn_bn.onnx out.onnx --exclude op:Gemm");
    text += &summary("deit_fmnist.onnx out.onnx");
    // Scales are the processor's in their last digits.
    let digits = regex::Regex::new(r"scale \S+").expect("a pattern");
    insta::assert_snapshot!(digits.replace_all(&text, "scale [number],"));
    // Metadata that is there gives way to what has the same key, and all else stays.
    folder.run("cnn_bn.onnx a.onnx --calib calib.npz --samples 4 --io quantized").done();
    let metadata = folder.read("a.onnx");
    let has = |text: &str| metadata.windows(text.len()).any(|window| window == text.as_bytes());
    for key in ["onnxq.image.scale", "onnxq.image.zero_point", "onnxq.logits.scale", "onnxq.logits.zero_point"] {
        assert!(has(key), "{key}");
    }
}

#[test]
fn the_printed_recipe_has_the_stages() {
    let folder = Folder::with("io-recipe", &["cnn_bn.onnx", "calib.npz"]);
    let printed = folder.run("--recipe int8 --io quantized --print-recipe").done().stdout;
    folder.write("own.toml", &printed);
    folder.run("cnn_bn.onnx a.onnx --calib calib.npz --samples 4 --io quantized").done();
    folder.run("cnn_bn.onnx b.onnx --calib calib.npz --samples 4 --recipe own.toml").done();
    assert!(folder.read("a.onnx") == folder.read("b.onnx"));
    // Weights alone: nothing becomes codes, and the summary says so.
    models::save(&models::product("N"), &folder.path("product.onnx"));
    let outcome = folder.run("product.onnx out.onnx --bits w8 --io quantized").done();
    assert!(outcome.stdout.contains("float: no-codes: it is not quantized"), "{}", outcome.stdout);
}
