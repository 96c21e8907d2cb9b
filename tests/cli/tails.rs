//! Only what lies in front of a quantizable operator must run and be understood.

use crate::arrays::{floats, npz};
use crate::models::{save, weights};
use crate::tool::Folder;

/// A product, and behind it whatever `tail` says.
fn with_tail(imports: &str, outputs: &str, constants: &str, tail: &str) -> String {
    format!(
        r#"<ir_version: 8, opset_import: ["" : 17{imports}]>
tail (float[1, 64] x) => ({outputs})
< {}{constants} >
{{ [mm] m = MatMul (x, w) {tail} }}"#,
        weights("w", 64, 64)
    )
}

/// What stands behind the product, and what quality is measured on.
const TAILS: [(&str, &str, &str, &str, &str, &str); 6] = [
    ("foreign", r#", "my" : 1"#, "float[1, 64] y", "", "[odd] y = my.Strange (m)", "m"),
    ("unknown", "", "float[1, 64] y", "", "[odd] y = Bizarre (m)", "m"),
    (
        "labels",
        r#", "ai.onnx.ml" : 2"#,
        "string[1] y",
        "",
        r#"a = ArgMax <axis = 1, keepdims = 0> (m) y = ai.onnx.ml.LabelEncoder <keys_int64s = [0, 1], values_strings = ["a", "b"]> (a)"#,
        "m",
    ),
    (
        "boxes",
        "",
        "int64[K, 3] y",
        ", int64[3] b = {1, 16, 4}, int64[3] c = {1, 4, 16}, int64 k = {3}, float t = {0.5}",
        "p = Reshape (m, b) q = Softmax (m) s = Reshape (q, c) y = NonMaxSuppression (p, s, k, t)",
        "p, s",
    ),
    (
        "selected",
        "",
        "float[1, 3] y",
        ", int64[1] k = {3}",
        "v, i = TopK (m, k) y = GatherElements <axis = 1> (m, i)",
        "m",
    ),
    (
        "loop",
        r#", "my" : 1"#,
        "float[1, 64] y",
        ", int64 n = {2}, bool c = {1}",
        "y = Loop (n, c, m) <body = b (int64 i, bool on, float[1, 64] a) => (bool still, float[1, 64] z) { still = Identity (on) z = my.Strange (a) }>",
        "m",
    ),
];

#[test]
fn what_stands_behind_causes_no_refusal() {
    let folder = Folder::new("tails");
    let x: Vec<f32> = (0..16 * 64).map(|i| ((i * 7919 % 1009) as f32 - 504.0) / 300.0).collect();
    folder.write("x.npz", npz(&[("x", floats(&[16, 64], &x))]));
    for (name, imports, outputs, constants, tail, measured) in TAILS {
        save(&with_tail(imports, outputs, constants, tail), &folder.path(&format!("{name}.onnx")));
        let report = folder.run(&format!("{name}.onnx {name}.q.onnx --calib x.npz --json")).done().json();
        assert_eq!(report["quantized"]["Linear"], 1, "{name}: {report}");
        let outputs = report["quality"]["outputs"].as_array().unwrap_or_else(|| panic!("{name}: {report}"));
        let names: Vec<&str> = outputs.iter().map(|output| output["name"].as_str().expect("a name")).collect();
        assert_eq!(names.join(", "), measured, "{name}");
        assert!(report["quality"]["sqnr_db"].as_f64().expect("a number") > 25.0, "{name}: {report}");
    }
}

/// What is behind an operator that the engine lacks stays float, what is in front does not.
#[test]
fn an_operator_that_does_not_run_stops_only_what_is_behind_it() {
    let folder = Folder::new("out-of-reach");
    let x: Vec<f32> = (0..16 * 64).map(|i| ((i * 7919 % 1009) as f32 - 504.0) / 300.0).collect();
    folder.write("x.npz", npz(&[("x", floats(&[16, 64], &x))]));
    let tail = "[odd] k = my.Strange (m) [mm2] y = MatMul (k, v)";
    let second = format!(", {}", weights("v", 64, 64));
    save(&with_tail(r#", "my" : 1"#, "float[1, 64] y", &second, tail), &folder.path("custom.onnx"));
    let outcome = folder.run("custom.onnx custom.q.onnx --calib x.npz").done();
    assert!(outcome.stdout.contains("quantized  1 Linear\n"), "{}", outcome.stdout);
    assert!(
        outcome.stdout.contains("left float 1 Linear: the engine can't run an operator in front of it"),
        "{}",
        outcome.stdout
    );
}

/// No data file holds strings.
#[test]
fn an_input_of_strings_needs_no_data() {
    let folder = Folder::new("strings");
    let x: Vec<f32> = (0..16 * 64).map(|i| ((i * 7919 % 1009) as f32 - 504.0) / 300.0).collect();
    folder.write("x.npz", npz(&[("x", floats(&[16, 64], &x))]));
    let text = with_tail("", "float[1, 64] m, string[K] u", "", "u = StringNormalizer (t)");
    save(&text.replace("(float[1, 64] x)", "(float[1, 64] x, string[K] t)"), &folder.path("text.onnx"));
    folder.run("text.onnx text.q.onnx --calib x.npz").done();
    folder.run("text.onnx text.q.onnx").done();
}
