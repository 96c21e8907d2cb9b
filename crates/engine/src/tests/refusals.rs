//! What can't be run is an error that names it, never a wrong result or a panic.

use onnxq_ir::{Attribute, Op, Tensor};
use onnxq_plan::{EngineError, Evaluator, Request, UnsupportedOp};

use super::{Sketch, run_plan};
use crate::Tract;

#[test]
fn all_lacking_operators_are_listed_at_once() {
    let mut sketch = Sketch::new(17);
    let x = sketch.floats("x", &[2, 2]);
    let (_, a) = sketch.op(Op::new("com.microsoft", "QGemm", vec![]), &[x], "a");
    // A foreign operator by the name of one of ONNX's own.
    let (_, b) = sketch.op(Op::new("local", "Relu", vec![]), &[a], "b");
    let (_, c) = sketch.op(Op::new("local", "Relu", vec![]), &[b], "c");
    let coupled = vec![Attribute::int("input_forget", 1), Attribute::int("hidden_size", 2)];
    let (_, d) = sketch.op(Op::new("", "LSTM", coupled), &[c, x, x], "d");
    let (_, e) = sketch.op(Op::new("", "Swish", vec![Attribute::float("alpha", 2.0)]), &[d], "e");
    let (_, f) = sketch.op(Op::new("", "Swish", vec![Attribute::float("alpha", 1.0)]), &[e], "f");
    let (_, g) = sketch.op(Op::new("", "SpaceToDepth", vec![Attribute::string("mode", "CRD")]), &[f], "g");
    let (_, h) = sketch.op(Op::new("", "Cast", vec![Attribute::int("to", 17)]), &[g], "h");
    let (_, dead) = sketch.plain("Loop", &[x], "dead");
    sketch.output(dead);
    let model = sketch.model();
    let request = Request { model: &model, plan: None, taps: &[h] };
    let Err(EngineError::Unsupported { operators, .. }) = Tract.prepare(&request) else { panic!("is refused") };
    let list: Vec<(&str, &str, usize)> = operators
        .iter()
        .map(|UnsupportedOp { op_type, node, count }| (op_type.as_str(), node.as_str(), *count))
        .collect();
    let expected = [
        ("com.microsoft.QGemm", "node/a", 1),
        ("local.Relu", "node/b", 2),
        ("LSTM with input_forget", "node/d", 1),
        ("SpaceToDepth with mode `CRD`", "node/g", 1),
        ("Cast to float8e4m3fn", "node/h", 1),
    ];
    assert_eq!(list, expected);
}

#[test]
fn corners_are_aligned_to_whole_sizes_only() {
    for (scale, is_refused) in [(1.5, false), (1.7, true)] {
        let mut sketch = Sketch::new(17);
        let x = sketch.floats("x", &[1, 1, 2, 12]);
        let none = sketch.constant("none", Tensor::new(vec![0], Vec::<f32>::new()));
        let scales = sketch.constant("scales", Tensor::new(vec![4], vec![1.0f32, 1.0, 1.0, scale]));
        let corners = Attribute::string("coordinate_transformation_mode", "align_corners");
        let (_, y) = sketch.op(Op::new("", "Resize", vec![corners]), &[x, none, scales], "y");
        let model = sketch.model();
        let refused = Tract.prepare(&Request { model: &model, plan: None, taps: &[y] }).is_err();
        assert_eq!(refused, is_refused, "{scale}");
    }
}

#[test]
fn bodies_are_looked_into() {
    let mut body = Sketch::new(17);
    let (_, y) = body.plain("Det", &[], "inside");
    body.output(y);
    let mut sketch = Sketch::new(17);
    let x = sketch.floats("x", &[1]);
    let branch = super::graph_attribute("then_branch", body.graph());
    let (_, y) = sketch.op(Op::new("", "If", vec![branch]), &[x], "y");
    let model = sketch.model();
    let error = Tract.prepare(&Request { model: &model, plan: None, taps: &[y] }).err().expect("is refused");
    assert_eq!(error.to_string(), "tract can't run node `node/inside` (Det)");
    assert_eq!(Tract.reachable(&model, &[x, y]), [x]);
}

#[test]
fn panics_of_the_engine_become_errors() {
    let mut sketch = Sketch::new(17);
    let x = sketch.floats("x", &[2, 2]);
    let (_, y) = sketch.op(Op::new("", "Transpose", vec![Attribute::ints("perm", vec![7, 9])]), &[x], "y");
    let model = sketch.model();
    let data = Tensor::new(vec![2, 2], vec![0.0f32; 4]);
    let error = run_plan(&model, None, &[y], vec![(x, data)]).unwrap_err();
    assert!(matches!(error, EngineError::Prepare { .. }), "{error}");
}

#[test]
fn errors_name_the_node() {
    let mut sketch = Sketch::new(17);
    let x = sketch.floats("x", &[2, 3]);
    let (_, y) = sketch.plain("MatMul", &[x, x], "y");
    let model = sketch.model();
    let data = Tensor::new(vec![2, 3], vec![0.0f32; 6]);
    let error = run_plan(&model, None, &[y], vec![(x, data)]).unwrap_err();
    assert!(matches!(&error, EngineError::Prepare { node: Some(node), .. } if node == "node/y"), "{error}");
}

#[test]
fn out_of_range_indices_fail_on_their_sample() {
    let mut sketch = Sketch::new(17);
    let table = sketch.constant("table", Tensor::new(vec![2, 1], vec![1.0f32, 2.0]));
    let index = sketch.input("index", onnxq_ir::ElementType::I64, vec![onnxq_ir::Dim::Known(1)]);
    let (_, y) = sketch.plain("Gather", &[table, index], "y");
    let model = sketch.model();
    let at = |row: i64| run_plan(&model, None, &[y], vec![(index, Tensor::new(vec![1], vec![row]))]);
    assert_eq!(at(1).expect("in range")[0].floats, [2.0]);
    let error = at(5).unwrap_err();
    assert!(matches!(error, EngineError::Run { sample: 0, .. }), "{error}");
    assert!(error.to_string().contains("node/y"), "{error}");
}

/// Names that tract would stumble over: two nodes of one name, names that it makes itself, names like ours.
#[test]
fn names_do_not_matter() {
    let mut sketch = Sketch::new(17);
    let x = sketch.floats("n2", &[2]);
    let (_, a) = sketch.op(Op::new("", "Neg", vec![]), &[x], "v0");
    let (_, b) = sketch.op(Op::new("", "Mean", vec![]), &[x, a, x], "x.scale");
    let (_, c) = sketch.op(Op::new("", "Gelu", vec![]), &[b], "x");
    let graph = sketch.model().graph;
    let mut twins = onnxq_ir::Builder::new("twins", 20);
    let ids: Vec<_> = graph.values().map(|id| twins.add_value(graph.value(id).clone())).collect();
    let place = |value| graph.values().position(|id| id == value).map(|at| ids[at]);
    for op in graph.topological() {
        let inputs: Vec<_> = graph.inputs_of(op).into_iter().flatten().map(place).collect();
        let outputs: Vec<_> = graph.outputs_of(op).into_iter().flatten().map(place).collect();
        twins.add_op(graph.op(op).clone().named("same"), &inputs, &outputs);
    }
    twins.declare_input(onnxq_ir::Declared {
        value: place(x).unwrap(),
        value_type: graph.value(x).value_type().clone(),
        carried: onnxq_ir::Carried::default(),
    });
    let model = onnxq_ir::Model { graph: twins.finish(), ..onnxq_ir::Model::default() };
    let taps = [place(a).unwrap(), place(b).unwrap(), place(c).unwrap()];
    let data = Tensor::new(vec![2], vec![3.0f32, 6.0]);
    let seen = run_plan(&model, None, &taps, vec![(place(x).unwrap(), data)]).unwrap();
    assert_eq!(seen[1].floats, [1.0, 2.0]);
}
