//! Operators of `com.microsoft` that onnxruntime's optimizers write: each computes the same taken apart, and a model that was
//! optimized before is quantized as the model that it was made of.

use onnxq::onnx::{WriteOptions, read, write};
use onnxq_ir::ops::{expand, fused};

use crate::arrays::{floats, npy, npz};
use crate::models::{save, weights};
use crate::oracle::Oracle;
use crate::tool::{Folder, shipped};

#[test]
fn operators_taken_apart_compute_the_same() {
    let Some(oracle) = Oracle::find() else { return };
    let folder = Folder::new("fused-operators");
    let mut listing = String::new();
    let mut kept = Vec::new();
    for name in oracle.written_by("fused_operators.py", &folder.path("")) {
        let [file, data, apart] = ["onnx", "npz", "apart.onnx"].map(|ending| folder.path(&format!("{name}.{ending}")));
        let mut model = read(&file).expect("a model");
        kept.extend(fused::unfuse(&mut model.graph).expect("a patch that fits"));
        model.graph = expand(&model.graph, model.graph.opset()).expect("expands");
        let domains: Vec<&str> = model.graph.op_ids().map(|op| model.graph.op(op).domain()).collect();
        assert!(domains.iter().all(|domain| domain.is_empty()), "{name}: {domains:?}");
        write(&model, &apart, &WriteOptions::default()).expect("the model is written");
        let row = [&file, &apart, &data].map(|path| path.to_str().expect("UTF-8"));
        listing += &(row.join("\t") + "\n");
    }
    assert_eq!(kept, []);
    folder.write("listing.txt", &listing);
    let answer = oracle.ask(&["same", folder.path("listing.txt").to_str().expect("UTF-8")]);
    assert!(answer["pairs"].as_u64().expect("a number") > 150);
    assert_eq!(answer["different"].as_array().expect("a list"), &[] as &[serde_json::Value]);
}

#[test]
fn an_optimized_model_is_quantized_as_the_model_it_was_made_of() {
    let Some(oracle) = Oracle::find() else { return };
    for (name, fused) in [("deit_fmnist", "BiasGelu"), ("cnn_bn", "FusedConv")] {
        let folder = Folder::new(&format!("optimized-{name}"));
        let float = shipped().join(format!("{name}.onnx"));
        let [optimized, float] =
            [&folder.path("optimized.onnx"), &float].map(|path| path.to_str().expect("UTF-8").to_owned());
        oracle.ask(&["optimize", &float, &optimized]);
        let before = read(optimized.as_ref()).expect("a model");
        assert!(before.graph.op_ids().any(|op| before.graph.op(op).op_type() == fused), "{name} has a {fused}");
        let calib = shipped().join("calib.npz");
        let words = format!("--calib {} --samples 64 --json", calib.display());
        let [plain, report] =
            [&float, &optimized].map(|model| folder.run(&format!("{model} q.onnx {words}")).done().json());
        assert_eq!(report["quantized"], plain["quantized"], "{name}");
        let [plain, sqnr] = [plain, report].map(|report| report["quality"]["sqnr_db"].as_f64().expect("a number"));
        assert!((plain - sqnr).abs() < 1.0, "{name}: {sqnr} dB, and {plain} dB of the model as it was");
        oracle.check(&[&folder.path("q.onnx")]);
    }
}

#[test]
fn what_stays_fused_says_why() {
    let folder = Folder::new("stays-fused");
    let text = format!(
        r#"<ir_version: 8, opset_import: ["" : 17, "com.microsoft" : 1, "com.microsoft.nchwc" : 1]>
stays (float[1, 64] x) => (float[1, 64] y, float z)
< {}, float[1] one = {{1}} >
{{
  m = MatMul (x, w)
  [turned] z = com.microsoft.FusedMatMul <transB = 1> (m, any)
  any = Strange (m)
  [blocks] y = com.microsoft.nchwc.Conv (m, one)
}}"#,
        weights("w", 64, 64)
    );
    save(&text, &folder.path("in.onnx"));
    let x: Vec<f32> = (0..16 * 64).map(|i| ((i * 7919 % 1009) as f32 - 504.0) / 300.0).collect();
    folder.write("x.npz", npz(&[("x", floats(&[16, 64], &x))]));
    let said = folder.run("in.onnx out.onnx --calib x.npz").done().stdout;
    for reason in [
        "1 FusedMatMul: stays fused, since it transposes a value of which the number of axes is not known",
        "1 Conv: stays fused, since it is laid out for one kind of processor; start from the file as it was before",
    ] {
        assert!(said.contains(reason), "{reason}\n{said}");
    }
}

/// Positions are counted from the data: nothing about them is constant where the number of steps is open.
#[test]
fn causal_attention_over_an_open_number_of_steps() {
    let Some(oracle) = Oracle::find() else { return };
    let folder = Folder::new("causal");
    let text = format!(
        r#"<ir_version: 8, opset_import: ["" : 17, "com.microsoft" : 1]>
causal (float[N, S, 64] x) => (float[N, S, 64] y)
< {}, {} >
{{ [attention] y = com.microsoft.Attention <num_heads = 2, unidirectional = 1> (x, w, b) }}"#,
        weights("w", 64, 192),
        weights("b", 1, 192).replace("float[1, 192]", "float[192]")
    );
    save(&text, &folder.path("in.onnx"));
    let noise = |steps: usize| -> Vec<u8> {
        let elements = (0..16 * steps * 64).map(|i| ((i * 7919 % 10007) as f32 - 5003.0) / 9000.0);
        npz(&[("x", floats(&[16, steps, 64], &elements.collect::<Vec<f32>>()))])
    };
    folder.write("x.npz", noise(8));
    folder.write("longer.npz", noise(13));
    for options in ["", "--bits w8"] {
        let report = folder.run(&format!("in.onnx out.onnx --calib x.npz --json {options}")).done().json();
        assert_eq!(report["quantized"]["Linear"], 3, "{report:#}");
        let path = |file: &str| folder.path(file).to_str().expect("UTF-8").to_owned();
        for data in ["x.npz", "longer.npz"] {
            let answer = oracle.ask(&["top1", &path("out.onnx"), &path(data), "--against", &path("in.onnx")]);
            let sqnr = answer["against"]["mean_sqnr_db"].as_f64().expect("a number");
            assert!(sqnr > 25.0, "{options} on {data}: {sqnr} dB");
        }
    }
}

/// One that stays in a body with something to quantize is told of once.
#[test]
fn what_stays_fused_in_a_body_is_told_once() {
    let folder = Folder::new("stays-in-body");
    let text = format!(
        r#"<ir_version: 8, opset_import: ["" : 17, "com.microsoft" : 1]>
branch (float[1, 64] x, bool[1] c) => (float[1, 64] y)
< {} >
{{
  y = If (c) <
    then_branch = t () => (float[1, 64] p) {{
      p = MatMul (x, w)
      [turned] z = com.microsoft.FusedMatMul <transB = 1> (any, any)
      any = Strange (p)
    }},
    else_branch = e () => (float[1, 64] q) {{ q = MatMul (x, w) }}
  >
}}"#,
        weights("w", 64, 64)
    );
    save(&text, &folder.path("in.onnx"));
    let x: Vec<f32> = (0..16 * 64).map(|i| ((i * 7919 % 1009) as f32 - 504.0) / 300.0).collect();
    let conditions: Vec<u8> = (0..16).map(|i| i / 2 % 2).collect();
    let data = npz(&[("x", floats(&[16, 64], &x)), ("c", npy("|b1", &[16], &conditions))]);
    folder.write("data.npz", data);
    let report = folder.run("in.onnx out.onnx --calib data.npz --json --allow-noop").done().json();
    let left = report["left_float"].as_array().expect("a list");
    let fused: Vec<_> = left.iter().filter_map(|group| group["operators"]["FusedMatMul"].as_u64()).collect();
    assert_eq!(fused, [1], "{report:#}");
}
