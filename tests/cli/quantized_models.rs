//! Models that come quantized, in part or whole: what is quantized stays as it is, the rest is quantized, once.

use onnxq::onnx::read;
use onnxq_ir::Graph;

use crate::oracle::Oracle;
use crate::tool::{Folder, shipped};

fn count(graph: &Graph, op_type: &str) -> usize {
    graph.op_ids().filter(|&op| graph.op(op).is(op_type)).count()
}

/// Quantized without some layers, then again: each product is quantized once, as if it had been done at once.
#[test]
fn the_rest_is_quantized_and_nothing_twice() {
    let folder = Folder::with("extended", &["deit_fmnist.onnx", "calib.npz", "test.npz"]);
    let options = "--calib calib.npz --samples 32 --json";
    let whole = folder.run(&format!("deit_fmnist.onnx whole.onnx {options}")).done().json();
    let part = folder.run(&format!("deit_fmnist.onnx part.onnx {options} --exclude re:blocks.[12]/")).done().json();
    let rest = folder.run(&format!("part.onnx rest.onnx {options}")).done().json();
    let [all, some, others] =
        [&whole, &part, &rest].map(|report| report["quantized"]["Linear"].as_u64().expect("a number"));
    assert!(some > 0 && others > 0 && some + others == all, "{some} and {others} are not {all}");
    let [whole, rest] = ["whole.onnx", "rest.onnx"].map(|name| read(&folder.path(name)).expect("a model").graph);
    assert_eq!(count(&whole, "QuantizeLinear"), count(&rest, "QuantizeLinear"));
    assert_eq!(count(&whole, "DequantizeLinear"), count(&rest, "DequantizeLinear"));
    let Some(oracle) = Oracle::find() else { return };
    oracle.check(&[&folder.path("rest.onnx")]);
    let float = shipped().join("deit_fmnist.onnx");
    let [rest, data, float] = [&folder.path("rest.onnx"), &folder.path("test.npz"), &float]
        .map(|path| path.to_str().expect("UTF-8").to_owned());
    let answer = oracle.ask(&["top1", &rest, &data, "--against", &float, "--whole"]);
    let sqnr = answer["against"]["mean_sqnr_db"].as_f64().expect("a number");
    assert!(sqnr > 30.0, "{sqnr} dB");
}

#[test]
fn what_is_quantized_already_is_refused() {
    let folder = Folder::with("requantized", &["deit_fmnist.onnx", "cnn_bn.onnx", "calib.npz"]);
    for (model, options) in [("deit_fmnist", ""), ("cnn_bn", "--target generic"), ("deit_fmnist", "--bits w8")] {
        folder.run(&format!("{model}.onnx once.onnx --calib calib.npz --samples 8 --quiet {options}")).done();
        let outcome = folder.run(&format!("once.onnx twice.onnx --calib calib.npz --samples 8 {options}")).refused();
        assert!(outcome.stderr.contains("it stays as it is, which is quantized already"), "{}", outcome.stderr);
        assert!(!folder.has("twice.onnx"));
    }
}
