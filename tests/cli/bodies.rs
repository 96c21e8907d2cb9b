//! What lies in bodies of If, Loop and Scan is quantized, and onnxruntime computes it in integers. Every model is made here.

use std::collections::BTreeMap;
use std::path::Path;

use onnxq_ir::{Graph, Origin};
use serde_json::Value;

use crate::arrays::{floats, npy, npz};
use crate::models::{save, weights};
use crate::oracle::Oracle;
use crate::tool::Folder;

fn model(name: &str, inputs: &str, shape: &str, initializers: &[String], nodes: &str) -> String {
    format!(
        r#"<ir_version: 8, opset_import: ["" : 17]>
{name} ({inputs}float[{shape}] x) => (float[{shape}] y)
< {} >
{{ {nodes} }}"#,
        initializers.join(", ")
    )
}

/// Two products, of which each sample runs one; they read their weights from around.
fn branches() -> String {
    let nodes = "
  [choice] y = If (c) <
    then_branch = t () => (float[N, 64] p) { [first] p = MatMul (x, w1) },
    else_branch = e () => (float[N, 64] q) { r = Relu (x) [second] q = MatMul (r, w2) }
  >";
    model("branches", "bool[1] c, ", "N, 64", &[weights("w1", 64, 64), weights("w2", 64, 64)], nodes)
}

/// Which branch it is depends on what the model computes.
fn computed_condition() -> String {
    let nodes = "
  sum = ReduceSum <keepdims = 0> (x)
  c = Greater (sum, zero)
  [choice] y = If (c) <
    then_branch = t () => (float[1, 64] p) { [first] p = MatMul (x, w1) },
    else_branch = e () => (float[1, 64] q) { [second] q = MatMul (x, w2) }
  >";
    let zero = "float zero = {0}".to_owned();
    model("computed", "", "1, 64", &[weights("w1", 64, 64), weights("w2", 64, 64), zero], nodes)
}

/// A recurrent net of four steps whose weight lies outside; a branch in it reads the state.
fn looped(step: &str) -> String {
    let nodes = format!(
        "
  [loop] y, all = Loop (four, , x) <
    body = b (int64 i, bool go, float[N, 64] h) => (bool on, float[N, 64] next, float[N, 64] out) {{
      on = Identity (go)
      {step}
      s = Mul (p, small)
      u = Add (s, x)
      next = Tanh (u)
      out = Identity (p)
    }}
  >"
    );
    let constants = ["int64 four = {4}", "int64 two = {2}", "float small = {0.3}"].map(str::to_owned);
    let weights = [weights("w1", 64, 64), weights("w2", 64, 64)];
    model("looped", "", "N, 64", &[constants.as_slice(), &weights].concat(), &nodes)
}

const PRODUCT: &str = "[product] p = MatMul (h, w1)";
const CHOICE: &str = "early = Less (i, two)
      [choice] p = If (early) <
        then_branch = t () => (float[N, 64] a) { [first] a = MatMul (h, w1) },
        else_branch = e () => (float[N, 64] b) { [second] b = MatMul (h, w2) }
      >";

/// The same over slices of the input, from the last to the first.
fn scanned() -> String {
    let nodes = "
  flat = Squeeze (x, first)
  [scan] last, ys = Scan <num_scan_inputs = 1, scan_input_directions = [1],
    body = b (float[1, 64] h, float[64] slice) => (float[1, 64] next, float[1, 64] out) {
      [product] p = MatMul (h, w1)
      s = Mul (p, small)
      u = Add (s, slice)
      next = Tanh (u)
      out = Identity (p)
    }
  > (h0, flat)
  turned = Transpose <perm = [1, 0, 2]> (ys)
  y = Relu (turned)";
    let constants = ["int64[1] first = {0}", "float small = {0.3}"].map(str::to_owned);
    let zeros = vec!["0"; 64].join(", ");
    let state = format!("float[1, 64] h0 = {{{zeros}}}");
    model("scanned", "", "1, 6, 64", &[constants.as_slice(), &[weights("w1", 64, 64), state]].concat(), nodes)
}

fn noise(count: usize) -> Vec<f32> {
    (0..count).map(|i| ((i * 7919 % 10007) as f32 - 5003.0) / 3000.0).collect()
}

/// 32 samples of this many elements in the last axes, with a condition that holds for every `period`-th.
fn data(shape: &[usize], period: usize) -> Vec<u8> {
    let shape: Vec<usize> = std::iter::once(32).chain(shape.iter().copied()).collect();
    let holds: Vec<u8> = (0..32).map(|i| u8::from(i / 4 % period == 0)).collect();
    npz(&[("x", floats(&shape, &noise(shape.iter().product()))), ("c", npy("|b1", &[32], &holds))])
}

/// How many operators of each type a graph has, and each body by the name of its graph.
fn count(graph: &Graph, counts: &mut BTreeMap<String, BTreeMap<String, usize>>) {
    let mut own = BTreeMap::new();
    for op in graph.op_ids() {
        *own.entry(graph.op(op).op_type().to_owned()).or_insert(0) += 1;
        graph.op(op).bodies().for_each(|body| count(body, counts));
    }
    counts.insert(graph.name().to_owned(), own);
}

/// Quantizes a model and sees that onnxruntime takes it, keeps its outputs and has this many integer products in each
/// graph. Returns the report.
fn quantized(name: &str, text: &str, data: &[u8], products: &[(&str, usize)], least: f64) -> Option<Value> {
    let oracle = Oracle::find()?;
    let folder = Folder::new(&format!("bodies-{name}"));
    if text.contains("<domain:") {
        // Local functions in text are read by onnx alone.
        folder.write("float.txt", text);
        let [text, parsed] = ["float.txt", "parsed"].map(|file| folder.path(file).to_str().expect("UTF-8").to_owned());
        oracle.ask(&["parse", &text, "--out", &parsed]);
        std::fs::copy(folder.path("parsed/0.onnx"), folder.path("float.onnx")).expect("a copy");
    } else {
        save(text, &folder.path("float.onnx"));
    }
    folder.write("data.npz", data);
    let report = folder.run("float.onnx out.onnx --calib data.npz --json").done().json();
    let path = |file: &str| folder.path(file).to_str().expect("UTF-8").to_owned();
    oracle.check(&[Path::new(&path("out.onnx"))]);
    for optimization in ["none", "all"] {
        let words =
            ["top1", &path("out.onnx"), &path("data.npz"), "--against", &path("float.onnx"), "--opt", optimization];
        let sqnr = oracle.ask(&words)["against"]["mean_sqnr_db"].as_f64().expect("a number");
        assert!(sqnr >= least, "{name}, optimization {optimization}: {sqnr} dB");
        assert!(sqnr < 60.0, "{name}: nothing changed");
        let promised = report["quality"]["sqnr_db"].as_f64().expect("a number");
        assert!((sqnr - promised).abs() < 3.0, "{name}, optimization {optimization}: {sqnr} dB, {promised} promised");
    }
    oracle.ask(&["optimize", &path("out.onnx"), &path("optimized.onnx")]);
    let optimized = onnxq::onnx::read(&folder.path("optimized.onnx")).expect("a model");
    let mut counts = BTreeMap::new();
    count(&optimized.graph, &mut counts);
    for (graph, products) in products {
        let found = counts.get(*graph).and_then(|own| own.get("MatMulIntegerToFloat")).copied().unwrap_or(0);
        assert_eq!(found, *products, "{name}: integer products in `{graph}`: {counts:#?}");
    }
    Some(report)
}

fn body<'r>(report: &'r Value, name: &str) -> &'r Value {
    let bodies = report["bodies"].as_array().expect("a list");
    bodies.iter().find(|body| body["body"] == name).unwrap_or_else(|| panic!("no body `{name}`: {bodies:#?}"))
}

/// The branches lie in a local function, and one of them calls another.
fn in_functions() -> String {
    let body = "z = If (c) <
    then_branch = t () => (float[N, 64] p) { p = own.Product (a, w) },
    else_branch = e () => (float[N, 64] q) { r = Relu (a) [second] q = MatMul (r, v) }
  >";
    let main = model(
        "functions",
        "bool[1] c, ",
        "N, 64",
        &[weights("w1", 64, 64), weights("w2", 64, 64)],
        "[choice] y = own.Choice (c, x, w1, w2)",
    );
    format!(
        r#"{}
<domain: "own", opset_import: ["" : 17, "own" : 1]>
Choice (c, a, w, v) => (z) {{ {body} }}
<domain: "own", opset_import: ["" : 17]>
Product (a, b) => (c) {{ [first] c = MatMul (a, b) }}"#,
        main.replace(r#"["" : 17]"#, r#"["" : 17, "own" : 1]"#)
    )
}

#[test]
fn branches_in_a_local_function() {
    let products = [("t", 1), ("e", 1)];
    let Some(report) = quantized("functions", &in_functions(), &data(&[64], 2), &products, 25.0) else { return };
    assert_eq!(report["quantized"]["Linear"], 2);
    assert_eq!(report["coverage"]["integer_macs"], report["coverage"]["macs"]);
}

#[test]
fn both_branches_of_an_if() {
    let products = [("t", 1), ("e", 1)];
    let Some(report) = quantized("branches", &branches(), &data(&[64], 2), &products, 25.0) else { return };
    assert_eq!(report["quantized"]["Linear"], 2);
    assert_eq!(report["coverage"]["integer_macs"], report["coverage"]["macs"]);
    assert_eq!(report["samples"], 32);
    assert_eq!(body(&report, "then_branch")["runs_per_sample"], 0.5);
    let sizes = &report["sizes"];
    assert!(sizes["after"].as_f64() < sizes["before"].as_f64().map(|before| 0.4 * before), "{sizes}");
}

#[test]
fn a_branch_that_no_sample_ran_stays_float() {
    let products = [("t", 1), ("e", 0)];
    let Some(report) = quantized("one-branch", &branches(), &data(&[64], 1), &products, 25.0) else { return };
    assert_eq!(report["left_float"][0]["reason"], "not-run");
    assert_eq!(report["left_float"][0]["nodes"][0], "second");
    assert_eq!(report["coverage"]["weights"], 2 * 64 * 64);
    assert_eq!(report["coverage"]["integer_weights"], 64 * 64);
    assert_eq!(body(&report, "else_branch")["runs_per_sample"], 0.0);
}

/// Codes of a weight that both branches read lie in each; the graph around has its own.
#[test]
fn one_weight_for_all() {
    let text = branches()
        .replace("w2)", "w1)")
        .replace("[choice]", "z = MatMul (x, w1) [choice]")
        .replace("Relu (x)", "Relu (z)");
    let products = [("branches", 1), ("t", 1), ("e", 1)];
    let Some(report) = quantized("tied", &text, &data(&[64], 2), &products, 20.0) else { return };
    assert_eq!(report["quantized"]["Linear"], 3);
}

/// Scales per channel came with opset 13: the graph around is raised along, and bodies that stay float.
#[test]
fn an_old_model_is_raised_whole() {
    let text = branches().replace(" : 17]", " : 11]").replace("Relu (x)", "Softmax <axis = 1> (x)");
    for (name, period, second) in [("old", 2, 1), ("old-not-run", 1, 0)] {
        let products = [("t", 1), ("e", second)];
        quantized(name, &text, &data(&[64], period), &products, 20.0);
    }
}

/// Where an output can't bear codes in a body, it stays float, with that reason.
#[test]
fn a_body_that_loses_too_much_stays_float() {
    let folder = Folder::new("bodies-lossy");
    // A chaotic map: what is lost in the first step is all in the fourth.
    let text = looped(PRODUCT).replace("Tanh (u)", "Sin (u)").replace("small = {0.3}", "small = {3}");
    save(&text, &folder.path("float.onnx"));
    folder.write("data.npz", data(&[64], 1));
    let error = folder.run("float.onnx out.onnx --calib data.npz --quiet").refused().stderr;
    assert!(error.contains("leaves the outputs"), "{error}");
}

#[test]
fn a_condition_that_is_computed() {
    let products = [("t", 1), ("e", 1)];
    quantized("computed", &computed_condition(), &data(&[64], 1), &products, 25.0);
}

#[test]
fn a_loop_that_hands_on_a_state() {
    let products = [("b", 1)];
    let Some(report) = quantized("loop", &looped(PRODUCT), &data(&[64], 1), &products, 20.0) else { return };
    assert_eq!(body(&report, "body")["runs_per_sample"], 4.0);
    // Four runs of the one product.
    assert_eq!(report["coverage"]["macs"], 4 * 64 * 64);
    // The weight, and a factor outside that the body reads.
    assert_eq!(report["coverage"]["weights"], 64 * 64 + 1);
}

/// Where the engine can't run the whole, since nobody knows how often a body runs, the body is still run.
#[test]
fn a_loop_whose_end_is_computed() {
    let text =
        looped(PRODUCT).replace("on = Identity (go)", "most = ReduceMax <keepdims = 0> (h) on = Greater (most, bound)");
    let text = text.replace("float small = {0.3}", "float small = {0.3}, float bound = {0.5}");
    let Some(oracle) = Oracle::find() else { return };
    let folder = Folder::new("bodies-while");
    save(&text, &folder.path("float.onnx"));
    folder.write("data.npz", data(&[64], 1));
    let report = folder.run("float.onnx out.onnx --calib data.npz --json").done().json();
    assert_eq!(report["quality"]["not_measured"], "the engine reaches no float output");
    assert!(body(&report, "body")["sqnr_db"].as_f64().is_some_and(|db| db > 20.0), "{report}");
    assert_eq!(report["quantized"]["Linear"], 1);
    let words = ["out.onnx", "data.npz", "float.onnx"].map(|file| folder.path(file).display().to_string());
    let sqnr = oracle.ask(&["top1", &words[0], &words[1], "--against", &words[2]])["against"]["mean_sqnr_db"].take();
    assert!(sqnr.as_f64().is_some_and(|db| (20.0..60.0).contains(&db)), "{sqnr}");
}

#[test]
fn an_if_in_a_loop() {
    let products = [("t", 1), ("e", 1)];
    let Some(report) = quantized("nested", &looped(CHOICE), &data(&[64], 1), &products, 20.0) else { return };
    assert_eq!(report["quantized"]["Linear"], 2);
    assert_eq!(report["coverage"]["integer_macs"], 4 * 64 * 64);
}

#[test]
fn a_scan_over_slices() {
    let products = [("b", 1)];
    let Some(report) = quantized("scan", &scanned(), &data(&[6, 64], 1), &products, 20.0) else { return };
    assert_eq!(body(&report, "body")["runs_per_sample"], 6.0);
}

/// Nodes in bodies are named like any others, and their owner stands for all of them.
#[test]
fn nodes_in_bodies_can_be_chosen() {
    let folder = Folder::new("bodies-chosen");
    save(&branches(), &folder.path("float.onnx"));
    folder.write("data.npz", data(&[64], 2));
    let left = |words: &str| -> Vec<String> {
        let report = folder.run(&format!("float.onnx out.onnx --calib data.npz --json {words}")).done().json();
        let groups = report["left_float"].as_array().expect("a list");
        let nodes = groups.iter().flat_map(|group| group["nodes"].as_array().expect("a list"));
        nodes.map(|node| node.as_str().expect("a name").to_owned()).collect()
    };
    assert_eq!(left("--exclude second"), ["second"]);
    assert_eq!(left("--include second"), ["first"]);
    assert_eq!(left("--include r..q"), ["first"]);
    assert_eq!(left("--include choice"), [""; 0]);
    folder.run("float.onnx none.onnx --calib data.npz --exclude choice").refused();
    let plan = folder.run("float.onnx none.onnx --calib data.npz --dry-run").done().stdout;
    assert!(plan.contains("Linear `first` input 1 `w1`: s8 symmetric per channel"), "{plan}");
    let summary = folder.run("float.onnx some.onnx --calib data.npz --exclude second").done().stdout;
    let lines = [
        "  bodies     `choice` then_branch, run 0.5 times a sample: 1 Linear quantized, ",
        "             `choice` else_branch, run 0.5 times a sample: nothing quantized\n",
        "  left float 1 Linear: by --exclude\n",
    ];
    assert!(lines.iter().all(|line| summary.contains(line)), "{summary}");
    let error = folder.run("float.onnx none.onnx --calib data.npz --exclude secnd").stderr;
    assert!(error.contains("`second`"), "{error}");
}

/// Weights need no data, so that a branch that nothing runs has codes as well.
#[test]
fn weights_alone() {
    let folder = Folder::new("bodies-weights");
    save(&branches(), &folder.path("float.onnx"));
    let report = folder.run("float.onnx out.onnx --bits w8 --json").done().json();
    assert_eq!(report["quantized"]["Linear"], 2);
    let written = onnxq::onnx::read(&folder.path("out.onnx")).expect("a model");
    assert!(written.graph.initializers().is_empty(), "nobody reads the float weights any more");
    for body in written.graph.op_ids().flat_map(|op| written.graph.op(op).bodies()) {
        assert!(body.op_ids().any(|op| body.op(op).op_type() == "DequantizeLinear"));
        let is_captured = |value| matches!(body.value(value).origin(), Origin::Captured(_));
        assert_eq!(body.values().filter(|&value| is_captured(value)).count(), 1, "only the input");
    }
}

/// Statistics of a former run serve bodies too.
#[test]
fn statistics_alone_serve_bodies() {
    let folder = Folder::new("bodies-statistics");
    let text =
        branches().replace("[choice]", "z = MatMul (x, w1) [choice]").replace("MatMul (x, w1) }", "MatMul (z, w1) }");
    save(&text, &folder.path("float.onnx"));
    folder.write("data.npz", data(&[64], 2));
    let words = "float.onnx out.onnx --calib data.npz --save-stats s.json --json";
    assert_eq!(folder.run(words).done().json()["quantized"]["Linear"], 3);
    folder.run("float.onnx again.onnx --stats s.json --quiet").done();
    assert!(folder.read("again.onnx") == folder.read("out.onnx"), "the same result");
}
