//! What tract lacks and is rewritten: the values are what the operators mean, under the ids that they have in the model.

use onnxq_ir::{
    Attribute, AttributeValue, Carried, Dim, ElementType, Function, Graph, Model, Op, OpId, Tensor, ValueId,
};
use onnxq_numerics::{IntFormat, Uniform};
use onnxq_plan::{EngineError, Evaluator, Quantizer, Request, Sample, Site};

use super::{Sketch, graph_attribute, noise, plan_of, run, run_plan, run_sample};
use crate::Tract;

fn symbol(name: &str) -> Dim {
    Dim::Symbol(name.to_owned())
}

fn function(name: &str, defaults: Vec<Attribute>, body: Graph) -> Function {
    let (domain, overload) = ("own".to_owned(), String::new());
    Function { domain, name: name.to_owned(), overload, defaults, body, encoded: Carried::default() }
}

fn reference(name: &str, of: &str) -> Attribute {
    Attribute::new(name, AttributeValue::Reference { of: of.to_owned(), encoded: Carried::default() })
}

/// `Leaky(x) = LeakyRelu<alpha = slope>(x)` with a default of 0.5.
fn leaky() -> Function {
    let mut body = Sketch::new(17);
    let x = body.floats("x", &[2]);
    let (_, y) = body.op(Op::new("", "LeakyRelu", vec![reference("alpha", "slope")]), &[x], "y");
    body.output(y);
    function("Leaky", vec![Attribute::float("slope", 0.5)], body.graph())
}

#[test]
fn local_functions_are_inlined_with_their_attributes() {
    // Outer(x, low) = Clip(Leaky<slope = 0.25>(x), low), with `low` omitted by the second call.
    let mut body = Sketch::new(17);
    let (x, low) = (body.floats("x", &[2]), body.floats("low", &[]));
    let (_, bent) = body.op(Op::new("own", "Leaky", vec![Attribute::float("slope", 0.25)]), &[x], "bent");
    let (_, y) = body.plain("Clip", &[bent, low], "y");
    body.output(y);
    let outer = function("Outer", vec![], body.graph());

    let mut sketch = Sketch::new(17);
    let x = sketch.floats("x", &[2]);
    let low = sketch.constant("low", Tensor::scalar(-1.5f32));
    let (_, a) = sketch.op(Op::new("own", "Leaky", vec![]), &[x], "a");
    let (_, b) = sketch.op(Op::new("own", "Outer", vec![]), &[x, low], "b");
    let (_, c) = sketch.op(Op::new("own", "Outer", vec![]), &[x], "c");
    sketch.output(c);
    let model = Model { functions: vec![leaky(), outer], ..sketch.model() };
    let seen = run(&model, &[a, b, c], vec![(x, Tensor::new(vec![2], vec![-8.0f32, 4.0]))]);
    assert_eq!(seen[0].floats, [-4.0, 4.0]);
    assert_eq!(seen[1].floats, [-1.5, 4.0]);
    assert_eq!(seen[2].floats, [-2.0, 4.0]);
    assert_eq!(Tract.reachable(&model, &[a, b, c]), [a, b, c]);
    let inferred = Tract.infer(&model).expect("infers");
    assert!(inferred.iter().any(|it| it.value == c && it.tensor_type.to_string() == "float[2]"));
}

#[test]
fn a_function_by_the_name_of_an_operator_is_the_function() {
    let mut body = Sketch::new(17);
    let x = body.floats("x", &[2]);
    let (_, y) = body.plain("Neg", &[x], "y");
    body.output(y);
    let mut sketch = Sketch::new(17);
    let x = sketch.floats("x", &[2]);
    let (_, y) = sketch.op(Op::new("own", "Relu", vec![]), &[x], "y");
    let model = Model { functions: vec![function("Relu", vec![], body.graph())], ..sketch.model() };
    let seen = run(&model, &[y], vec![(x, Tensor::new(vec![2], vec![-8.0f32, 4.0]))]);
    assert_eq!(seen[0].floats, [8.0, -4.0]);
}

#[test]
fn a_function_that_calls_itself_is_an_error() {
    let mut body = Sketch::new(17);
    let x = body.floats("x", &[2]);
    let (_, y) = body.op(Op::new("own", "Endless", vec![]), &[x], "y");
    body.output(y);
    let mut sketch = Sketch::new(17);
    let x = sketch.floats("x", &[2]);
    let (_, y) = sketch.op(Op::new("own", "Endless", vec![]), &[x], "y");
    let model = Model { functions: vec![function("Endless", vec![], body.graph())], ..sketch.model() };
    let error = Tract.prepare(&Request { model: &model, plan: None, taps: &[y] }).err().expect("is refused");
    assert!(error.to_string().contains("call each other"), "{error}");
    assert_eq!(Tract.reachable(&model, &[x, y]), [x]);
}

/// `if CONDITION then x without its first axis else -x`, then Exp.
fn branches(sketch: &mut Sketch, x: ValueId, condition: ValueId) -> (ValueId, (OpId, ValueId)) {
    let mut yes = Sketch::new(17);
    let inside = yes.captured("x_yes", x);
    let axis = yes.constant("axis", Tensor::new(vec![1], vec![0i64]));
    let (_, squeezed) = yes.plain("Squeeze", &[inside, axis], "squeezed");
    yes.output(squeezed);
    let mut no = Sketch::new(17);
    let inside = no.captured("x_no", x);
    let (_, negated) = no.plain("Neg", &[inside], "negated");
    no.output(negated);
    let both = vec![graph_attribute("then_branch", yes.graph()), graph_attribute("else_branch", no.graph())];
    let (_, y) = sketch.op(Op::new("", "If", both), &[condition], "y");
    (y, sketch.plain("Abs", &[y], "z"))
}

#[test]
fn an_if_on_a_shape_is_its_branch() {
    let mut sketch = Sketch::new(17);
    let x = sketch.input("x", ElementType::F32, vec![symbol("N"), Dim::Known(2)]);
    let (_, shape) = sketch.plain("Shape", &[x], "shape");
    let (zero, one) = (sketch.constant("zero", Tensor::scalar(0i64)), sketch.constant("one", Tensor::scalar(1i64)));
    let (_, batch) = sketch.plain("Gather", &[shape, zero], "batch");
    let (_, is_one) = sketch.plain("Equal", &[batch, one], "is_one");
    let (y, (reader, z)) = branches(&mut sketch, x, is_one);
    let model = sketch.model();
    let data = |rows: usize| vec![(x, Tensor::new(vec![rows, 2], noise(1, 2 * rows)))];
    let single = run(&model, &[y, z], data(1));
    assert_eq!((single[0].shape.as_slice(), &single[0].floats), (&[2][..], &noise(1, 2)));
    let twice = run(&model, &[y, z], data(2));
    let negated: Vec<f32> = noise(1, 4).iter().map(|x| -x).collect();
    assert_eq!((twice[0].shape.as_slice(), &twice[0].floats), (&[2, 2][..], &negated));
    // A plan sees what is behind the branch.
    let q = Uniform::new(IntFormat::S8, 0.5, 0).unwrap();
    let plan = plan_of([(Site::Operand { op: reader, slot: 0 }, Quantizer::Tensor(q))]);
    let seen = run_plan(&model, Some(&plan), &[z], data(1)).expect("runs");
    let mut expected = noise(1, 2);
    q.fake(&mut expected);
    assert_eq!(seen[0].floats, expected.iter().map(|x| x.abs()).collect::<Vec<_>>());
}

#[test]
fn an_if_in_a_model_of_float16_is_its_branch() {
    let mut sketch = Sketch::new(17);
    let x = sketch.input("x", ElementType::F16, vec![symbol("T"), Dim::Known(1), Dim::Known(2)]);
    let weights = |shape: [usize; 3]| {
        Tensor::new(shape.to_vec(), noise(2, 16).into_iter().map(half::f16::from_f32).collect::<Vec<_>>())
    };
    let (w, r) = (sketch.constant("w", weights([1, 8, 2])), sketch.constant("r", weights([1, 8, 2])));
    let (_, hidden) = sketch.op(Op::new("", "LSTM", vec![Attribute::int("hidden_size", 2)]), &[x, w, r], "hidden");
    let axes = sketch.constant("axes", Tensor::new(vec![2], vec![1i64, 2]));
    let (_, rows) = sketch.plain("Squeeze", &[hidden, axes], "rows");
    let (_, shape) = sketch.plain("Shape", &[rows], "shape");
    let (zero, one) = (sketch.constant("zero", Tensor::scalar(0i64)), sketch.constant("one", Tensor::scalar(1i64)));
    let (_, length) = sketch.plain("Gather", &[shape, zero], "length");
    let (_, is_one) = sketch.plain("Equal", &[length, one], "is_one");
    let (y, _) = branches(&mut sketch, rows, is_one);
    let model = sketch.model();
    let data = |steps: usize| {
        let halves = noise(1, 2 * steps).into_iter().map(half::f16::from_f32).collect::<Vec<_>>();
        vec![(x, Tensor::new(vec![steps, 1, 2], halves))]
    };
    assert_eq!(run(&model, &[y], data(1))[0].shape, [2]);
    assert_eq!(run(&model, &[y], data(3))[0].shape, [3, 2]);
}

#[test]
fn lengths_of_all_steps_are_none() {
    let mut sketch = Sketch::new(17);
    let x = sketch.input("x", ElementType::F32, vec![symbol("T"), symbol("N"), Dim::Known(2)]);
    let given = sketch.input("lengths", ElementType::I64, vec![symbol("N")]);
    let weights = |shape: [usize; 3]| Tensor::new(shape.to_vec(), noise(2, shape.iter().product()));
    let (w, r) = (sketch.constant("w", weights([1, 6, 2])), sketch.constant("r", weights([1, 6, 2])));
    let to = Attribute::int("to", ElementType::I32.code().into());
    let (_, lengths) = sketch.op(Op::new("", "Cast", vec![to]), &[given], "cast");
    let bias = sketch.constant("b", Tensor::new(vec![1, 12], vec![0f32; 12]));
    let cell = || Op::new("", "GRU", vec![Attribute::int("hidden_size", 2)]);
    let (_, measured) = sketch.op(cell(), &[x, w, r, bias, lengths], "measured");
    let (_, plain) = sketch.op(cell(), &[x, w, r, bias], "plain");
    let model = sketch.model();
    let inferred = Tract.infer(&model).expect("types do not depend on lengths");
    assert!(inferred.iter().any(|it| it.value == measured && it.tensor_type.rank() == Some(4)));
    let data = |steps: usize, length: i64| {
        vec![(x, Tensor::new(vec![steps, 1, 2], noise(3, 2 * steps))), (given, Tensor::new(vec![1], vec![length]))]
    };
    for steps in [3, 5] {
        let seen = run(&model, &[measured, plain], data(steps, steps as i64));
        assert_eq!(seen[0].floats, seen[1].floats);
        assert_eq!(seen[0].floats.len(), 2 * steps);
    }
    let taps = [measured];
    let session = Tract.prepare(&Request { model: &model, plan: None, taps: &taps }).expect("prepares");
    let sample = Sample { index: 0, inputs: data(3, 2) };
    let refused = run_sample(session.runner().as_mut(), &taps, &sample).map(drop);
    let message = refused.expect_err("a shorter sequence is refused").to_string();
    assert!(message.contains("seq_len"), "{message}");
}

#[test]
fn an_if_on_an_input_of_one_number_is_the_branch_of_each_sample() {
    let mut sketch = Sketch::new(17);
    let x = sketch.floats("x", &[1, 2]);
    let rate = sketch.input("rate", ElementType::I64, vec![]);
    let wanted = sketch.constant("wanted", Tensor::scalar(16000i64));
    let (_, is_wanted) = sketch.plain("Equal", &[rate, wanted], "is_wanted");
    let (y, _) = branches(&mut sketch, x, is_wanted);
    let model = sketch.model();
    let taps = [y, rate];
    let session = Tract.prepare(&Request { model: &model, plan: None, taps: &taps }).expect("prepares");
    let mut runner = session.runner();
    for (index, rate_now) in [16000i64, 8000, 16000].into_iter().enumerate() {
        let inputs = vec![(x, Tensor::new(vec![1, 2], vec![1.0f32, -2.0])), (rate, Tensor::scalar(rate_now))];
        let seen = run_sample(runner.as_mut(), &taps, &Sample { index, inputs }).expect("runs");
        let expected: (&[usize], &[f32]) =
            if rate_now == 16000 { (&[2], &[1.0, -2.0]) } else { (&[1, 2], &[-1.0, 2.0]) };
        assert_eq!((seen[0].shape.as_slice(), seen[0].floats.as_slice()), expected);
        assert_eq!(seen[1].integers, [rate_now]);
    }
}

/// A body that adds the number of the iteration and `step`, and gives what it has twice: as state and as a layer.
fn adding(step: ValueId) -> Graph {
    let mut body = Sketch::new(17);
    let number = body.input("number", ElementType::I64, vec![]);
    let holds = body.input("holds", ElementType::Bool, vec![]);
    let state = body.floats("state", &[2]);
    let step = body.captured("step_inside", step);
    let (_, goes_on) = body.plain("Identity", &[holds], "goes_on");
    let (_, number) = body.op(Op::new("", "Cast", vec![Attribute::int("to", 1)]), &[number], "number_float");
    let (_, more) = body.plain("Add", &[state, number], "more");
    let (_, next) = body.plain("Add", &[more, step], "next");
    let (_, layer) = body.plain("Neg", &[next], "layer");
    for value in [goes_on, next, layer] {
        body.output(value);
    }
    body.graph()
}

/// A Loop over `adding`, with `trips` iterations, and the outputs for state and layers.
fn looped(sketch: &mut Sketch, trips: ValueId, x: ValueId) -> (ValueId, ValueId) {
    let step = sketch.constant("step", Tensor::new(vec![2], vec![10.0f32, 100.0]));
    let body = graph_attribute("body", adding(step));
    let last = sketch.builder.add_value(produced("last"));
    let layers = sketch.builder.add_value(produced("layers"));
    let op = Op::new("", "Loop", vec![body]).named("loop");
    sketch.builder.add_op(op, &[Some(trips), None, Some(x)], &[Some(last), Some(layers)]);
    (last, layers)
}

fn produced(name: &str) -> onnxq_ir::Value {
    onnxq_ir::Value::new(name, onnxq_ir::ValueType::Unknown, onnxq_ir::Origin::Produced)
}

#[test]
fn a_loop_of_known_length_is_unrolled() {
    let mut sketch = Sketch::new(17);
    let x = sketch.floats("x", &[2]);
    let trips = sketch.constant("trips", Tensor::scalar(3i64));
    let (last, layers) = looped(&mut sketch, trips, x);
    let model = sketch.model();
    assert_eq!(Tract.reachable(&model, &[last, layers]), [last, layers]);
    let seen = run(&model, &[last, layers], vec![(x, Tensor::new(vec![2], vec![1.0f32, 2.0]))]);
    assert_eq!(seen[0].floats, [34.0, 305.0]);
    assert_eq!(seen[1].shape, [3, 2]);
    assert_eq!(seen[1].floats, [-11.0, -102.0, -22.0, -203.0, -34.0, -305.0]);
}

#[test]
fn a_loop_over_a_size_is_as_long_as_each_sample_says() {
    let mut sketch = Sketch::new(17);
    let x = sketch.floats("x", &[2]);
    let other = sketch.input("other", ElementType::F32, vec![symbol("T")]);
    let (_, trips) = sketch.plain("Size", &[other], "trips");
    let (last, _) = looped(&mut sketch, trips, x);
    let model = sketch.model();
    for (length, expected) in [(0, 1.0), (1, 11.0), (2, 22.0)] {
        let zeros = Tensor::new(vec![length], vec![0.0f32; length]);
        let inputs = vec![(x, Tensor::new(vec![2], vec![1.0f32, 2.0])), (other, zeros)];
        assert_eq!(run(&model, &[last], inputs)[0].floats[0], expected);
    }
}

#[test]
fn a_loop_whose_length_is_in_the_data_is_refused() {
    let mut sketch = Sketch::new(17);
    let x = sketch.floats("x", &[2]);
    let keep = Attribute::int("keepdims", 0);
    let (_, sum) = sketch.op(Op::new("", "ReduceSum", vec![keep]), &[x], "sum");
    let (_, trips) = sketch.op(Op::new("", "Cast", vec![Attribute::int("to", 7)]), &[sum], "trips");
    let (last, _) = looped(&mut sketch, trips, x);
    let (_, relu) = sketch.plain("Relu", &[x], "relu");
    let model = sketch.model();
    assert_eq!(Tract.reachable(&model, &[last, relu]), [relu]);
    let error = Tract.prepare(&Request { model: &model, plan: None, taps: &[last] }).err().expect("is refused");
    assert!(matches!(error, EngineError::Unsupported { .. }), "{error}");
    assert!(Tract.infer(&model).expect("infers").iter().any(|it| it.value == relu));
}

/// A backward GRU is a forward one over the reversed sequence.
#[test]
fn a_backward_cell_sees_the_sequence_from_its_end() {
    let (length, batch, width, hidden) = (4, 2, 3, 5);
    let cell = |direction: &str| {
        let mut sketch = Sketch::new(17);
        let x = sketch.input("x", ElementType::F32, vec![Dim::Known(length), symbol("N"), Dim::Known(width)]);
        let w = sketch.constant("w", Tensor::new(vec![1, 3 * hidden, width], noise(2, 3 * hidden * width)));
        let r = sketch.constant("r", Tensor::new(vec![1, 3 * hidden, hidden], noise(3, 3 * hidden * hidden)));
        let (y, y_h) = (sketch.builder.add_value(produced("y")), sketch.builder.add_value(produced("y_h")));
        let attributes = vec![Attribute::string("direction", direction), Attribute::int("hidden_size", hidden as i64)];
        let inputs = [x, w, r].map(Some);
        sketch.builder.add_op(Op::new("", "GRU", attributes), &inputs, &[Some(y), Some(y_h)]);
        (sketch.model(), x, [y, y_h])
    };
    let step = batch * width;
    let data = noise(4, length * step);
    let reversed: Vec<f32> = data.chunks(step).rev().flatten().copied().collect();
    let shape = vec![length, batch, width];
    let (model, x, taps) = cell("forward");
    let forward = run(&model, &taps, vec![(x, Tensor::new(shape.clone(), reversed))]);
    let (model, x, taps) = cell("reverse");
    let backward = run(&model, &taps, vec![(x, Tensor::new(shape, data))]);
    let turned: Vec<f32> = forward[0].floats.chunks(batch * hidden).rev().flatten().copied().collect();
    assert_eq!(backward[0].shape, [length, 1, batch, hidden]);
    assert_eq!(backward[0].floats, turned);
    assert_eq!(backward[1].floats, forward[1].floats);
    // The batch need not be known for the types.
    let inferred = Tract.infer(&model).expect("infers");
    let found = inferred.iter().find(|it| it.value == taps[0]).map(|it| it.tensor_type.to_string());
    assert_eq!(found.as_deref(), Some("float[4, 1, N, 5]"));
}

#[test]
fn a_cell_that_tract_would_compute_wrong_is_refused() {
    for attribute in [
        Attribute::float("clip", 1.0),
        Attribute::new("activations", AttributeValue::Strings(vec!["Relu".into(), "Tanh".into()])),
    ] {
        let mut sketch = Sketch::new(17);
        let x = sketch.floats("x", &[1, 1, 1]);
        let name = attribute.name.clone();
        let (_, y) = sketch.op(Op::new("", "GRU", vec![attribute, Attribute::int("hidden_size", 1)]), &[x, x, x], "y");
        let model = sketch.model();
        let error = Tract.prepare(&Request { model: &model, plan: None, taps: &[y] }).err().expect("is refused");
        assert!(error.to_string().contains(&format!("GRU with {name}")), "{error}");
    }
}

#[test]
fn a_squeeze_without_axes_waits_for_sizes() {
    let mut sketch = Sketch::new(11);
    let x = sketch.input("x", ElementType::F32, vec![symbol("N"), Dim::Known(1), Dim::Known(2)]);
    let (_, y) = sketch.plain("Squeeze", &[x], "y");
    let (_, fixed) = sketch.plain("Relu", &[x], "fixed");
    let model = sketch.model();
    for (rows, expected) in [(1, vec![2]), (3, vec![3, 2])] {
        let data = Tensor::new(vec![rows, 1, 2], noise(5, 2 * rows));
        assert_eq!(run(&model, &[y], vec![(x, data)])[0].shape, expected);
    }
    // Whether N is 1 is not known.
    let inferred = Tract.infer(&model).expect("infers");
    assert!(inferred.iter().all(|it| it.value != y) && inferred.iter().any(|it| it.value == fixed));
}

#[test]
fn negative_amounts_of_a_pad_cut_off() {
    let mut sketch = Sketch::new(17);
    let x = sketch.floats("x", &[2, 3]);
    let amounts = sketch.constant("amounts", Tensor::new(vec![4], vec![-1i64, 1, 0, -2]));
    let (_, y) = sketch.plain("Pad", &[x, amounts], "y");
    let model = sketch.model();
    let seen = run(&model, &[y], vec![(x, Tensor::new(vec![2, 3], vec![1.0f32, 2.0, 3.0, 4.0, 5.0, 6.0]))]);
    assert_eq!((seen[0].shape.as_slice(), seen[0].floats.as_slice()), (&[1, 2][..], &[0.0, 4.0][..]));
}

#[test]
fn a_pad_that_wraps_repeats_the_input() {
    let mut sketch = Sketch::new(19);
    let x = sketch.floats("x", &[2, 3]);
    let amounts = sketch.constant("amounts", Tensor::new(vec![4], vec![1i64, 0, 0, 2]));
    let wrap = vec![Attribute::string("mode", "wrap")];
    let (_, y) = sketch.op(Op::new("", "Pad", wrap), &[x, amounts], "y");
    let model = sketch.model();
    let seen = run(&model, &[y], vec![(x, Tensor::new(vec![2, 3], vec![1.0f32, 2.0, 3.0, 4.0, 5.0, 6.0]))]);
    assert_eq!(seen[0].shape, [3, 5]);
    let rows = [[4.0, 5.0, 6.0, 4.0, 5.0], [1.0, 2.0, 3.0, 1.0, 2.0], [4.0, 5.0, 6.0, 4.0, 5.0]];
    assert_eq!(seen[0].floats, rows.concat());
}

#[test]
fn negative_indices_count_from_the_end() {
    let mut sketch = Sketch::new(17);
    let x = sketch.floats("x", &[2, 3]);
    let indices = sketch.constant("indices", Tensor::new(vec![2, 2], vec![-1i64, 0, 1, -1]));
    let (_, y) = sketch.plain("GatherND", &[x, indices], "y");
    let model = sketch.model();
    let seen = run(&model, &[y], vec![(x, Tensor::new(vec![2, 3], vec![1.0f32, 2.0, 3.0, 4.0, 5.0, 6.0]))]);
    assert_eq!(seen[0].floats, [4.0, 6.0]);
}

#[test]
fn numbers_of_two_types_meet() {
    let mut sketch = Sketch::new(17);
    let x = sketch.floats("x", &[1, 2]);
    let two = sketch.constant("two", Tensor::scalar(2.0f64));
    let (_, square) = sketch.plain("Pow", &[x, two], "square");
    let (_, wide) = sketch.op(Op::new("", "Cast", vec![Attribute::int("to", 11)]), &[square], "wide");
    let w = sketch.constant("w", Tensor::new(vec![1, 2], vec![1.0f64, 0.5]));
    let c = sketch.constant("c", Tensor::new(vec![1], vec![4.0f64]));
    let factors = vec![Attribute::float("alpha", 2.0), Attribute::float("beta", 0.25), Attribute::int("transB", 1)];
    let (_, y) = sketch.op(Op::new("", "Gemm", factors), &[wide, w, c], "y");
    let (_, bent) = sketch.op(Op::new("", "Swish", vec![Attribute::float("alpha", 0.0)]), &[x], "bent");
    let model = sketch.model();
    let seen = run(&model, &[y, bent], vec![(x, Tensor::new(vec![1, 2], vec![3.0f32, -2.0]))]);
    assert_eq!(seen[0].floats, [23.0]);
    assert_eq!(seen[1].floats, [1.5, -1.0]);
}

/// Codes in the body of a Scan: large values saturate, a weight has scales per column, and what is stacked is read again.
#[test]
fn codes_in_a_scan_are_those_of_onnx() {
    let text = "<ir_version: 8, opset_import: [\"\" : 17]>
        g (float[3, 2] rows, float[2] start) => (float[2] last, float[3, 2] all) {
            last, all = Scan <num_scan_inputs = 1, body = step (float[2] before, float[2] row)
                => (float[2] after, float[2] out)
                <float s = {0.5}, uint8 z = {10}, int8[2, 2] codes = {1, 2, 3, -4}, float[2] scales = {0.5, 0.25},
                 int8[2] zeros = {0, 0}> {
                q = QuantizeLinear (row, s, z)
                d = DequantizeLinear (q, s, z)
                w = DequantizeLinear <axis = 1> (codes, scales, zeros)
                out = MatMul (d, w)
                after = Add (before, out)
            }> (start, rows)
        }";
    let model = onnxq_ir::text::parse(text).expect("a model");
    let value = |name: &str| model.graph.find_value(name).expect("a value");
    let given =
        [("rows", vec![3, 2], vec![1.25f32, -0.75, 1000.0, -1000.0, 0.1, 0.0]), ("start", vec![2], vec![1.0, 1.0])];
    let given = given.map(|(name, shape, elements)| (value(name), Tensor::new(shape, elements)));
    let seen = run(&model, &[value("last"), value("all")], given.into());
    // d: [1, -1] (halves go to even steps), [122.5, -5], [0, 0]; w: [[0.5, 0.5], [1.5, -1]].
    assert_eq!(seen[1].floats, [-1.0, 1.5, 53.75, 66.25, 0.0, 0.0]);
    assert_eq!(seen[0].floats, [53.75, 68.75]);
}
