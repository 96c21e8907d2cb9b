//! Models in old operator versions: every operator computes the same after it is raised, whole models are quantized per
//! channel, and what can't be raised stays per tensor.

use onnxq::onnx::{WriteOptions, read, write};
use onnxq_ir::ElementType;
use onnxq_ir::ops::opset::convert;

use crate::arrays::{floats, npz};
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
    for name in oracle.written_by("old_operators.py", &folder.path("")) {
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

/// A Softmax over a middle axis, a Clip and a Squeeze with attributes, between two products.
fn middle_softmax() -> String {
    format!(
        r#"<ir_version: 4, opset_import: ["" : 9]>
middle (float[N, 4, 64] x) => (float[N, 4, 64] y)
< {}, {} >
{{
  p = MatMul (x, w)
  s = Softmax <axis = 1> (p)
  c = Clip <max = 0.5> (s)
  u = Unsqueeze <axes = [1]> (c)
  q = Squeeze <axes = [1]> (u)
  y = MatMul (q, v)
}}"#,
        weights("w", 64, 64),
        weights("v", 64, 64)
    )
}

/// A network of convolutions that grows its image, the weights among the inputs.
fn growing(ir: i64) -> String {
    let kernel = |name: &str| weights(name, 8, 72).replace("float[8, 72]", "float[8, 8, 3, 3]");
    format!(
        r#"<ir_version: {ir}, opset_import: ["" : 7]>
growing (float[N, 8, 6, 6] x, float[8, 8, 3, 3] a, float[8, 8, 3, 3] b, float[8] one, float[8] zero) => (float[N, 8, 12, 9] y)
< {}, {}, float[8] one = {{1, 2, 1, 2, 1, 2, 1, 2}}, float[8] zero = {{0, 1, 0, 1, 0, 1, 0, 1}} >
{{
  c = Conv <pads = [1, 1, 1, 1]> (x, a)
  n = BatchNormalization <spatial = 1> (c, one, zero, zero, one)
  r = Relu (n)
  u = Upsample <mode = "nearest", scales = [1.0, 1.0, 2.0, 1.5]> (r)
  y = Conv <pads = [1, 1, 1, 1]> (u, b)
}}"#,
        kernel("a"),
        kernel("b")
    )
}

#[test]
fn old_models_are_quantized_per_channel() {
    let Some(oracle) = Oracle::find() else { return };
    let folder = Folder::new("old-models");
    let elements = |count: i32| -> Vec<f32> { (0..count).map(|i| (i * 7919 % 1009 - 504) as f32 / 300.0).collect() };
    folder.write("middle.npz", npz(&[("x", floats(&[16, 4, 64], &elements(16 * 4 * 64)))]));
    folder.write("growing.npz", npz(&[("x", floats(&[16, 8, 6, 6], &elements(16 * 8 * 36)))]));
    for (name, data, text, options) in [
        ("middle", "middle", middle_softmax(), ""),
        ("growing-3", "growing", growing(3), "--target generic"),
        ("growing-4", "growing", growing(4), "--target generic"),
    ] {
        save(&text, &folder.path(&format!("{name}.onnx")));
        let words = format!(
            "{name}.onnx {name}.q.onnx --calib {data}.npz --eval {data}.npz --json --allow-noop {options} \
             --calibrator minmax --min-sqnr off --min-node-sqnr off"
        );
        let report = folder.run(&words).done().json();
        let model = read(&folder.path(&format!("{name}.q.onnx"))).expect("a model");
        assert_eq!(model.graph.opset(), 13, "{report}");
        let channels = if data == "middle" { 64 } else { 8 };
        let mut constants = model.graph.values().filter_map(|value| model.graph.constant(value));
        assert!(constants.any(|tensor| tensor.element() == ElementType::I8 && tensor.shape() == [channels]), "{name}");
        let [float, quantized, data] =
            [format!("{name}.onnx"), format!("{name}.q.onnx"), format!("{data}.npz")].map(|file| folder.path(&file));
        oracle.check(&[&quantized]);
        let words = [quantized.to_str(), data.to_str(), float.to_str()].map(|path| path.expect("UTF-8"));
        let answer = oracle.ask(&["top1", words[0], words[1], "--against", words[2]]);
        let [sqnr, simulated] = [&answer["against"]["mean_sqnr_db"], &report["quality"]["sqnr_db"]]
            .map(|number| number.as_f64().unwrap_or_else(|| panic!("{number} in {report}")));
        assert!(sqnr > 25.0 && (sqnr - simulated).abs() < 1.5, "{name}: {sqnr} dB, simulated {simulated} dB");
    }
}

/// Calls of local functions: a layer, and a form of the output that changed at 13.
fn called() -> String {
    format!(
        r#"<ir_version: 8, opset_import: ["" : 12, "my" : 1]>
called (float[N, 64] x) => (float[1, N, 64] y)
<float[64, 64] w = {{{0}}}, float[64, 64] v = {{{0}}}>
{{ p = my.Layer (x, w) q = my.Layer (p, v) y = my.Thick (q) }}
<domain: "my", opset_import: ["" : 12]>
Layer (a, b) => (c) {{ m = MatMul (a, b) c = Clip (m) }}
<domain: "my", opset_import: ["" : 12]>
Thick (a) => (b) {{ b = Unsqueeze <axes = [0]> (a) }}"#,
        (0..64 * 64).map(|i| format!("{}", f64::from(i * 37 % 101 - 50) / 320.0)).collect::<Vec<_>>().join(", ")
    )
}

/// Functions are opened where there is something to quantize; others stay, in the model's new version.
#[test]
fn local_functions_are_inlined_or_raised() {
    let Some(oracle) = Oracle::find() else { return };
    let folder = Folder::new("functions");
    folder.write("called.txt", called());
    let [text, out] = ["called.txt", "models"].map(|name| folder.path(name).to_str().expect("UTF-8").to_owned());
    oracle.ask(&["parse", &text, "--out", &out]);
    let x: Vec<f32> = (0..16 * 64).map(|i| ((i * 7919 % 1009) as f32 - 504.0) / 300.0).collect();
    folder.write("x.npz", npz(&[("x", floats(&[16, 64], &x))]));
    let report = folder.run("models/0.onnx q.onnx --calib x.npz --json").done().json();
    assert_eq!(report["quantized"]["Linear"], 2, "{report}");
    let model = read(&folder.path("q.onnx")).expect("a model");
    let functions: Vec<_> = model.functions.iter().map(|it| (it.name.as_str(), it.body.opset())).collect();
    assert_eq!((model.graph.opset(), functions), (13, vec![("Thick", 13)]));
    let [quantized, float, data] =
        ["q.onnx", "models/0.onnx", "x.npz"].map(|name| folder.path(name).to_str().expect("UTF-8").to_owned());
    oracle.check(&[&folder.path("q.onnx")]);
    let answer = oracle.ask(&["top1", &quantized, &data, "--against", &float]);
    let sqnr = answer["against"]["mean_sqnr_db"].as_f64().expect("a number");
    assert!(sqnr > 30.0, "{sqnr} dB");
}
