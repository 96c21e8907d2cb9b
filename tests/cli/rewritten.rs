//! What tract lacks and the engine rewrites is what onnxruntime computes.

use std::path::Path;

use onnxq::onnx::read;
use onnxq_engine::Tract;
use onnxq_ir::{Tensor, ValueId};
use onnxq_plan::{Elements, Evaluator as _, Request, Sample};

use crate::arrays::{floats, npz, read_floats};
use crate::oracle::Oracle;
use crate::tool::Folder;

/// A model with an input `x` and an output `y`, in the syntax of onnx: name, shape of `x`, text.
type Case = (&'static str, &'static [usize], &'static str);

const CASES: &[Case] = &[
    (
        "functions",
        &[2, 3],
        r#"<ir_version: 8, opset_import: ["" : 17, "own" : 1]>
functions (float[N, 3] x) => (float[N, 3] y) {
  a = own.Bent <slope = 0.3> (x)
  s = own.Soft (a)
  y = own.Both (s, x)
}
<domain: "own", opset_import: ["" : 17]>
Soft <slope: float = 0.4> (a) => (b) { b = LeakyRelu <alpha: float = @slope> (a) }
<domain: "own", opset_import: ["" : 17]>
Bent <slope> (a) => (b) { b = LeakyRelu <alpha: float = @slope> (a) }
<domain: "own", opset_import: ["" : 17, "own" : 1]>
Both (a, b) => (c) {
  p = own.Bent <slope = 0.7> (a)
  c = Add (p, b)
}"#,
    ),
    (
        "branches",
        &[1, 3],
        r#"<ir_version: 8, opset_import: ["" : 17]>
branches (float[N, 3] x) => (float y) <int64 one = {1}, int64 first = {0}> {
  s = Shape (x)
  n = Gather (s, first)
  c = Equal (n, one)
  z = If (c) <
    then_branch = g () => (float[M] t) <int64[1] axis = {0}> { t = Squeeze (x, axis) },
    else_branch = h () => (float[N, 3] e) { e = Neg (x) }
  >
  y = Exp (z)
}"#,
    ),
    (
        "loops",
        &[2, 3],
        r#"<ir_version: 8, opset_import: ["" : 17]>
loops (float[N, 3] x) => (float[K, N, 3] y) <int64 columns = {1}> {
  s = Shape (x)
  n = Gather (s, columns)
  last, layers = Loop (n, , x) <body = b (int64 i, bool go, float[N, 3] state) => (bool on, float[N, 3] next, float[N, 3] layer) {
    on = Identity (go)
    f = Cast <to = 1> (i)
    p = Mul (state, f)
    next = Add (p, x)
    layer = Sigmoid (next)
  }>
  y = Add (layers, last)
}"#,
    ),
    (
        "backward_lstm",
        &[4, 2, 3],
        r#"<ir_version: 8, opset_import: ["" : 17]>
backward (float[T, N, 3] x) => (float y)
<float[1, 8, 3] w = {0.1, -0.2, 0.3, 0.4, 0.5, -0.6, 0.7, 0.8, 0.9, -0.1, 0.2, 0.3, 0.4, 0.5, -0.6, 0.7, 0.8, 0.9, 0.1, 0.2, 0.3, -0.4, 0.5, 0.6},
 float[1, 8, 2] r = {0.1, 0.2, -0.3, 0.4, 0.5, 0.6, -0.7, 0.8, 0.9, 0.1, 0.2, -0.3, 0.4, 0.5, 0.6, 0.7}> {
  a, h, c = LSTM <hidden_size = 2, direction = "reverse"> (x, w, r)
  p = Mul (a, h)
  y = Add (p, c)
}"#,
    ),
    (
        "squeeze",
        &[1, 1, 3],
        r#"<ir_version: 8, opset_import: ["" : 11]>
squeeze (float[N, 1, 3] x) => (float y) { s = Squeeze (x) y = Exp (s) }"#,
    ),
    (
        "cropping",
        &[3, 4],
        r#"<ir_version: 8, opset_import: ["" : 17]>
cropping (float[N, 4] x) => (float y) <int64[4] pads = {-1, 2, 0, -1}> { p = Pad <mode = "reflect"> (x, pads) y = Exp (p) }"#,
    ),
    (
        "numbers",
        &[2, 3],
        r#"<ir_version: 8, opset_import: ["" : 17]>
numbers (float[N, 3] x) => (float[N, 2] y)
<double two = {2.0}, double[3, 2] w = {0.5, 1.0, -1.0, 0.25, 2.0, 3.0}, double[2] b = {1.0, -1.0}> {
  p = Pow (x, two)
  d = Cast <to = 11> (p)
  g = Gemm <alpha = 0.5, beta = 2.0> (d, w, b)
  y = Cast <to = 1> (g)
}"#,
    ),
];

#[test]
fn rewritten_operators_are_those_of_onnxruntime() {
    let Some(oracle) = Oracle::find() else { return };
    let folder = Folder::new("rewritten");
    let path = |name: String| folder.path(&name).to_str().expect("UTF-8").to_owned();
    let mut words = vec!["parse".to_owned(), "--out".to_owned(), path("models".to_owned())];
    for (name, _, text) in CASES {
        folder.write(&format!("{name}.txt"), text);
        words.push(path(format!("{name}.txt")));
    }
    oracle.ask(&words.iter().map(String::as_str).collect::<Vec<_>>());
    for (i, (name, shape, _)) in CASES.iter().enumerate() {
        let count = shape.iter().product();
        let data: Vec<f32> = (0..count).map(|at| ((at * 37 % 11) as f32 - 5.0) / 4.0).collect();
        folder.write("in.npz", npz(&[("x", floats(shape, &data))]));
        let model = path(format!("models/{i}.onnx"));
        let (given, asked) = (path("in.npz".to_owned()), path("out.npz".to_owned()));
        oracle.ask(&["run", &model, &given, &asked, "--opt", "none", "--whole"]);
        let (expected_shape, expected) = read_floats(Path::new(&asked), "y");
        let (found_shape, found) = run(Path::new(&model), shape, data);
        assert_eq!(found_shape, expected_shape, "{name}");
        let is_near = |(a, b): (&f32, &f32)| (a - b).abs() <= 1e-5 * b.abs().max(1.0);
        assert!(found.iter().zip(&expected).all(is_near), "{name}: {found:?} instead of {expected:?}");
    }
}

/// The output `y` as the engine computes it.
fn run(model: &Path, shape: &[usize], data: Vec<f32>) -> (Vec<usize>, Vec<f32>) {
    let model = read(model).expect("a sound model");
    let find = |name: &str| model.graph.find_value(name).expect("is there");
    let taps: [ValueId; 1] = [find("y")];
    let session = Tract.prepare(&Request { model: &model, plan: None, taps: &taps }).expect("prepares");
    let sample = Sample { index: 0, inputs: vec![(find("x"), Tensor::new(shape.to_vec(), data))] };
    let mut found = None;
    let mut see = |shown: &onnxq_plan::Shown<'_>| {
        if let Elements::F32(elements) = shown.elements {
            found = Some((shown.shape.to_vec(), elements.to_vec()));
        }
    };
    session.runner().run(&sample, &mut see).expect("runs");
    found.expect("`y` is shown")
}
