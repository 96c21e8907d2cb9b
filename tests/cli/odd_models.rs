//! Legal models that are unlike what exporters write: onnxruntime loads what becomes of them, and it is near the float model.

use std::path::Path;

use crate::arrays::{floats, npz};
use crate::models::{save, weights};
use crate::oracle::Oracle;
use crate::tool::Folder;

/// One weight and one bias, read by two products of different inputs.
fn tied() -> String {
    format!(
        r#"<ir_version: 8, opset_import: ["" : 17]>
tied (float[N, 64] x) => (float[N, 64] y)
< {}, {} >
{{ p = MatMul (x, w) a = Add (p, b) h = Relu (a) q = MatMul (h, w) y = Add (q, b) }}"#,
        weights("w", 64, 64),
        weights("b", 1, 64).replace("float[1, 64]", "float[64]")
    )
}

/// A node that has the name that a new one would get.
fn taken_name() -> String {
    format!(
        r#"<ir_version: 8, opset_import: ["" : 17]>
taken (float[N, 64] x) => (float[N, 64] y)
< {} >
{{ [w_DequantizeLinear] h = Relu (x) y = MatMul (h, w) }}"#,
        weights("w", 64, 64)
    )
}

/// Before version 4 of the format every initializer was an input too.
fn old_file() -> String {
    format!(
        r#"<ir_version: 3, opset_import: ["" : 11]>
old (float[N, 64] x, float[64, 64] w) => (float[N, 64] y)
< {} >
{{ p = MatMul (x, w) y = Relu (p) }}"#,
        weights("w", 64, 64)
    )
}

/// One element of the bias is beyond any grid.
fn masked() -> String {
    format!(
        r#"<ir_version: 8, opset_import: ["" : 17]>
masked (float[N, 64] x) => (float[N, 64] y)
< {}, {}, {} >
{{ p = MatMul (x, w) a = Add (p, b) s = Softmax <axis = -1> (a) y = MatMul (s, v) }}"#,
        weights("w", 64, 64),
        weights("v", 64, 64),
        weights("b", 1, 64).replace("float[1, 64]", "float[64]").replacen("-0.78125", "-inf", 1)
    )
}

/// A weight as the left operand, a transposed one, and factors.
fn gemm() -> String {
    format!(
        r#"<ir_version: 8, opset_import: ["" : 13]>
gemm (float[N, 64] x) => (float[N, 64] y)
< {}, {} >
{{ y = Gemm <alpha = 0.5, beta = 2.0, transB = 1> (x, w, b) }}"#,
        weights("w", 64, 64),
        weights("b", 1, 64).replace("float[1, 64]", "float[64]")
    )
}

#[test]
fn they_load_and_compute_the_same() {
    let Some(oracle) = Oracle::find() else { return };
    let folder = Folder::new("odd-models");
    let x: Vec<f32> = (0..32 * 64).map(|i| ((i * 7919 % 1009) as f32 - 504.0) / 300.0).collect();
    folder.write("x.npz", crate::arrays::npz(&[("x", crate::arrays::floats(&[32, 64], &x))]));
    for (name, text) in
        [("tied", tied()), ("taken", taken_name()), ("old", old_file()), ("masked", masked()), ("gemm", gemm())]
    {
        save(&text, &folder.path(&format!("{name}.onnx")));
        folder.run(&format!("{name}.onnx {name}.q.onnx --calib x.npz --quiet")).done();
        let [float, quantized, data] =
            [format!("{name}.onnx"), format!("{name}.q.onnx"), "x.npz".to_owned()].map(|file| folder.path(&file));
        oracle.check(&[Path::new(&quantized)]);
        for optimization in ["none", "all"] {
            let words = [quantized.to_str(), data.to_str(), float.to_str()].map(|path| path.expect("UTF-8"));
            let answer = oracle.ask(&["top1", words[0], words[1], "--against", words[2], "--opt", optimization]);
            let sqnr = answer["against"]["mean_sqnr_db"].as_f64().expect("a number");
            assert!(sqnr > 25.0, "{name}, optimization {optimization}: {sqnr} dB");
        }
    }
}

/// The logarithm of what is below 0 is NaN: that says nothing of the codes, and is counted.
#[test]
fn what_is_no_number_in_float_is_left_out() {
    let folder = Folder::new("odd-nan");
    let text = format!(
        r#"<ir_version: 8, opset_import: ["" : 17]>
logs (float[1, 64] x) => (float[1, 64] y)
< {}, {} >
{{ p = MatMul (x, w) l = Log (p) q = MatMul (x, v) y = Add (q, l) }}"#,
        weights("w", 64, 64),
        weights("v", 64, 64)
    );
    save(&text, &folder.path("in.onnx"));
    let x: Vec<f32> = (0..16 * 64).map(|i| ((i * 7919 % 1009) as f32 - 504.0) / 300.0).collect();
    folder.write("x.npz", npz(&[("x", floats(&[16, 64], &x))]));
    let report = folder.run("in.onnx out.onnx --calib x.npz --json").done().json();
    let output = &report["quality"]["outputs"][0];
    assert!(output["not_finite"].as_u64() > Some(10), "{output}");
    assert!(output["sqnr_db"].as_f64() > Some(20.0), "{output}");
    let itself = folder.run("compare in.onnx in.onnx --calib x.npz").done().stdout;
    assert!(itself.contains("NaN or infinite in float and left out") && itself.contains("60.0 dB"), "{itself}");
}
