//! Models on which other quantizers write files that don't load, ruin the output or do nothing without a word: each comes
//! out right. Every model is made here.

use std::path::Path;

use crate::arrays::{floats, integers, npz};
use crate::models::{half, save, weights, within_a_branch};
use crate::oracle::Oracle;
use crate::tool::Folder;

/// 16 rows of text after each other: `-10000` above the diagonal.
fn mask(masked: &str) -> String {
    let row = |i: usize| (0..16).map(|j| if j > i { masked } else { "0" }).collect::<Vec<_>>().join(", ");
    format!("float[16, 16] mask = {{{}}}", (0..16).map(row).collect::<Vec<_>>().join(", "))
}

/// Self-attention whose scores are masked.
fn attention(masked: &str) -> String {
    format!(
        r#"<ir_version: 8, opset_import: ["" : 17]>
attention (float[N, 16, 64] x) => (float[N, 16, 64] y)
< {}, {}, {}, {}, {}, float scale = {{0.01}} >
{{
  q = MatMul (x, wq)
  k = MatMul (x, wk)
  v = MatMul (x, wv)
  t = Transpose <perm = [0, 2, 1]> (k)
  s = MatMul (q, t)
  c = Mul (s, scale)
  m = Add (c, mask)
  p = Softmax <axis = -1> (m)
  o = MatMul (p, v)
  y = MatMul (o, wo)
}}"#,
        weights("wq", 64, 64),
        weights("wk", 64, 64),
        weights("wv", 64, 64),
        weights("wo", 64, 64),
        mask(masked)
    )
}

/// A diffusion model's time: phases up to thousands, whose sine must not be quantized before it is taken.
fn time_embedding() -> String {
    let frequencies: Vec<String> = (0..32).map(|i| format!("{}", 10f64.powf(-f64::from(i) / 8.0))).collect();
    format!(
        r#"<ir_version: 8, opset_import: ["" : 17]>
time (float[N, 1] t) => (float[N, 64] y)
< float[1, 32] f = {{{}}}, {} >
{{
  a = Mul (t, f)
  s = Sin (a)
  c = Cos (a)
  e = Concat <axis = 1> (s, c)
  y = MatMul (e, w)
}}"#,
        frequencies.join(", "),
        weights("w", 64, 64)
    )
}

fn einsum() -> String {
    format!(
        r#"<ir_version: 8, opset_import: ["" : 17]>
einsum (float[N, 16, 64] x) => (float[N, 16, 64] y)
< {}, {} >
{{
  h = Einsum <equation = "bij,jk->bik"> (x, w1)
  y = Einsum <equation = "bij,kj->bik"> (h, w2)
}}"#,
        weights("w1", 64, 64),
        weights("w2", 64, 64)
    )
}

/// Two products in this operator version.
fn products(opset: i64) -> String {
    format!(
        r#"<ir_version: 8, opset_import: ["" : {opset}]>
products (float[N, 64] x) => (float[N, 64] y)
< {}, {} >
{{ p = MatMul (x, w1) h = Relu (p) q = MatMul (h, w2) y = Softmax <axis = 1> (q) }}"#,
        weights("w1", 64, 64),
        weights("w2", 64, 64)
    )
}

/// One table for words in and words out.
fn tied_table() -> String {
    format!(
        r#"<ir_version: 8, opset_import: ["" : 17]>
tied (int64[N, 16] ids) => (float[N, 16, 96] y)
< {} >
{{
  e = Gather (table, ids)
  t = Transpose <perm = [1, 0]> (table)
  y = MatMul (e, t)
}}"#,
        weights("table", 96, 64)
    )
}

fn transposed_weight() -> String {
    format!(
        r#"<ir_version: 8, opset_import: ["" : 17]>
transposed (float[N, 64] x) => (float[N, 64] y)
< {} >
{{ t = Transpose <perm = [1, 0]> (w) y = MatMul (x, t) }}"#,
        weights("w", 64, 64)
    )
}

/// A bias that is beyond int32 in units of the product of both scales.
fn large_bias() -> String {
    let bias: Vec<&str> = (0..64).map(|i| if i == 5 { "300000000" } else { "0.5" }).collect();
    format!(
        r#"<ir_version: 8, opset_import: ["" : 17]>
large (float[N, 64] x) => (float[N, 63] z)
< {}, float[64] b = {{{}}}, int64[1] start = {{0}}, int64[1] end = {{5}}, int64[1] rest = {{6}}, int64[1] all = {{64}}, int64[1] one = {{1}} >
{{
  y = Gemm (x, w, b)
  front = Slice (y, start, end, one)
  back = Slice (y, rest, all, one)
  z = Concat <axis = 1> (front, back)
}}"#,
        weights("w", 64, 64),
        bias.join(", ")
    )
}

fn noise(count: usize) -> Vec<f32> {
    (0..count).map(|i| ((i * 7919 % 10007) as f32 - 5003.0) / 3000.0).collect()
}

/// 32 samples for every input that a model here may have.
fn data(name: &str) -> Vec<u8> {
    match name {
        "time" => npz(&[("t", floats(&[32, 1], &(0..32).map(|i| (i * 31 % 32) as f32 * 30.0).collect::<Vec<_>>()))]),
        "tied" => npz(&[("ids", integers(&[32, 16], &(0..32 * 16).map(|i| i * 37 % 96).collect::<Vec<_>>()))]),
        "attention" | "einsum" => npz(&[("x", floats(&[32, 16, 64], &noise(32 * 16 * 64)))]),
        "branch" => {
            npz(&[("x", floats(&[32, 64], &noise(32 * 64))), ("c", crate::arrays::npy("|b1", &[32], &[1; 32]))])
        }
        _ => npz(&[("x", floats(&[32, 64], &noise(32 * 64)))]),
    }
}

/// Name, kind of data, model, and the least SQNR in dB in onnxruntime, optimized or not.
fn cases() -> Vec<(&'static str, &'static str, String, f64)> {
    vec![
        ("mask_-1e4", "attention", attention("-10000"), 25.0),
        ("mask_lowest", "attention", attention("-3.4e38"), 25.0),
        ("mask_infinite", "attention", attention("-inf"), 25.0),
        ("time_embedding", "time", time_embedding(), 25.0),
        ("einsum", "einsum", einsum(), 25.0),
        ("opset_7", "product", products(7), 25.0),
        ("opset_9", "product", products(9), 25.0),
        ("opset_11", "product", products(11), 25.0),
        ("opset_12", "product", products(12), 25.0),
        ("opset_24", "product", products(24), 25.0),
        ("tied_table", "tied", tied_table(), 25.0),
        ("transposed_weight", "product", transposed_weight(), 25.0),
        ("large_bias", "product", large_bias(), 25.0),
        ("half", "half", half(), 25.0),
        ("branch", "branch", within_a_branch(), 25.0),
    ]
}

#[test]
fn every_model_is_right() {
    let Some(oracle) = Oracle::find() else { return };
    let folder = Folder::new("defects");
    let mut failures = Vec::new();
    for (name, kind, text, least) in cases() {
        save(&text, &folder.path(&format!("{name}.onnx")));
        folder.write(&format!("{kind}.npz"), data(kind));
        let done = folder.run(&format!("{name}.onnx {name}.q.onnx --calib {kind}.npz --quiet"));
        if done.code != Some(0) {
            failures.push(format!("{name}: exit {:?}, {}", done.code, done.stderr));
            continue;
        }
        failures.extend(judge(&oracle, &folder, name, kind, least));
    }
    assert!(failures.is_empty(), "{failures:#?}");
}

/// What is wrong with the file that came of a model.
fn judge(oracle: &Oracle, folder: &Folder, name: &str, kind: &str, least: f64) -> Vec<String> {
    let [float, quantized, data] = [format!("{name}.onnx"), format!("{name}.q.onnx"), format!("{kind}.npz")]
        .map(|file| folder.path(&file).to_str().expect("UTF-8").to_owned());
    oracle.check(&[Path::new(&quantized)]);
    let mut wrong = Vec::new();
    let size = |path: &str| std::fs::metadata(path).expect("a file").len();
    // Of 16 bits half is left, and small models have more to say besides.
    let tenths = if kind == "half" { 6 } else { 5 };
    if size(&quantized) * 10 > size(&float) * tenths {
        wrong.push(format!("{name}: {} bytes became {}", size(&float), size(&quantized)));
    }
    for optimization in ["none", "all"] {
        let answer = oracle.ask(&["top1", &quantized, &data, "--against", &float, "--opt", optimization]);
        let sqnr = answer["against"]["mean_sqnr_db"].as_f64().expect("a number");
        if sqnr < least {
            wrong.push(format!("{name}, optimization {optimization}: {sqnr} dB"));
        }
    }
    wrong
}

/// On a target that takes whole graphs, masks and phases stay float by rules of their own, before any plan is tried out.
#[test]
fn masks_and_phases_have_no_grid_where_whole_graphs_are_codes() {
    let Some(oracle) = Oracle::find() else { return };
    let folder = Folder::new("sensitive");
    let mut failures = Vec::new();
    for (name, kind, text, reason) in [
        ("finite", "attention", attention("-10000"), "masked-scores"),
        ("infinite", "attention", attention("-inf"), "masked-scores"),
        ("time", "time", time_embedding(), "phase"),
    ] {
        save(&text, &folder.path(&format!("{name}.onnx")));
        folder.write(&format!("{kind}.npz"), data(kind));
        let options = "--target qnn --min-sqnr off --min-node-sqnr off -v";
        let done = folder.run(&format!("{name}.onnx {name}.q.onnx --calib {kind}.npz {options}")).done();
        if !done.stdout.contains(reason) && !done.stderr.contains(reason) {
            failures.push(format!("{name}: `{reason}` is not said: {}", done.stdout));
        }
        failures.extend(judge(&oracle, &folder, name, kind, 20.0));
    }
    assert!(failures.is_empty(), "{failures:#?}");
}

/// A second run on the result finds nothing to do.
#[test]
fn an_output_is_not_quantized_twice() {
    let folder = Folder::new("twice");
    save(&products(17), &folder.path("float.onnx"));
    folder.write("x.npz", data("product"));
    folder.run("float.onnx once.onnx --calib x.npz --quiet").done();
    let done = folder.run("once.onnx twice.onnx --calib x.npz --quiet");
    assert!(done.code == Some(1) && done.stderr.contains("quantized already"), "{}", done.stderr);
    assert!(!folder.path("twice.onnx").exists());
}
