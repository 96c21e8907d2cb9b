//! Taps: each is shown once, whatever it is.

use onnxq_ir::{Attribute, Dim, ElementType, Op, Tensor};
use onnxq_plan::{EngineError, Evaluator, Request, Sample, sweep};

use super::{Sketch, graph_attribute, noise, run, run_plan, run_sample};
use crate::Tract;

#[test]
fn inputs_constants_and_values_are_shown_once() {
    let mut sketch = Sketch::new(17);
    let x = sketch.floats("x", &[2, 2]);
    let w = sketch.constant("w", Tensor::new(vec![2], vec![10.0f32, -20.0]));
    let (_, sum) = sketch.plain("Add", &[x, w], "sum");
    let (_, same) = sketch.plain("Identity", &[sum], "same");
    let (_, relu) = sketch.plain("Relu", &[same], "relu");
    let (_, shape) = sketch.plain("Shape", &[relu], "shape");
    let (_, positive) = sketch.plain("Greater", &[sum, w], "positive");
    sketch.output(relu);
    let model = sketch.model();
    let taps = [x, w, sum, same, relu, shape, positive];
    let seen = run(&model, &taps, vec![(x, Tensor::new(vec![2, 2], vec![1.0f32, 2.0, 3.0, 40.0]))]);
    assert_eq!(seen[0].floats, [1.0, 2.0, 3.0, 40.0]);
    assert_eq!(seen[1].floats, [10.0, -20.0]);
    assert_eq!(seen[2].floats, [11.0, -18.0, 13.0, 20.0]);
    assert_eq!(seen[3].floats, seen[2].floats);
    assert_eq!(seen[4].floats, [11.0, 0.0, 13.0, 20.0]);
    assert_eq!(seen[5].integers, [2, 2]);
    assert_eq!(seen[6].integers, [1, 1, 1, 1]);
    assert!(seen[..5].iter().all(|seen| seen.shape == [2, 2] || seen.value == w));
}

#[test]
fn only_what_taps_need_is_run() {
    let mut sketch = Sketch::new(17);
    let x = sketch.floats("x", &[2]);
    let unused = sketch.floats("unused", &[3]);
    let (_, relu) = sketch.plain("Relu", &[x], "relu");
    let (_, strange) = sketch.op(Op::new("somewhere", "Strange", vec![]), &[relu, unused], "strange");
    sketch.output(strange);
    let model = sketch.model();
    let seen = run(&model, &[relu], vec![(x, Tensor::new(vec![2], vec![-1.0f32, 1.0]))]);
    assert_eq!(seen[0].floats, [0.0, 1.0]);
    assert_eq!(Tract.reachable(&model, &[strange, relu, x]), [relu, x]);
}

/// `if sum(x) > 0 then x * outer + inner else x - outer_computed`.
#[test]
fn bodies_read_what_is_around_them() {
    let mut sketch = Sketch::new(17);
    let x = sketch.floats("x", &[2]);
    let outer = sketch.constant("outer", Tensor::new(vec![2], vec![2.0f32, 3.0]));
    let zero = sketch.constant("zero", Tensor::scalar(0.0f32));
    let keep = Attribute::int("keepdims", 0);
    let (_, total) = sketch.op(Op::new("", "ReduceSum", vec![keep]), &[x], "total");
    let (_, positive) = sketch.plain("Greater", &[total, zero], "positive");
    let (_, negated) = sketch.plain("Neg", &[x], "negated");
    let mut yes = Sketch::new(17);
    let (a, b) = (yes.captured("x_inside", x), yes.captured("outer_inside", outer));
    let inner = yes.constant("inner", Tensor::new(vec![2], vec![0.5f32, 0.25]));
    let (_, product) = yes.plain("Mul", &[a, b], "product");
    let (_, result) = yes.plain("Add", &[product, inner], "yes_result");
    yes.output(result);
    let mut no = Sketch::new(17);
    let (a, b) = (no.captured("x_there", x), no.captured("negated_there", negated));
    let (_, result) = no.plain("Sub", &[a, b], "no_result");
    no.output(result);
    let branches = vec![graph_attribute("then_branch", yes.graph()), graph_attribute("else_branch", no.graph())];
    let (_, y) = sketch.op(Op::new("", "If", branches), &[positive], "y");
    sketch.output(y);
    let model = sketch.model();
    let input = |a: f32, b: f32| vec![(x, Tensor::new(vec![2], vec![a, b]))];
    assert_eq!(run(&model, &[y], input(1.0, 2.0))[0].floats, [2.5, 6.25]);
    assert_eq!(run(&model, &[y], input(1.0, -2.0))[0].floats, [2.0, -4.0]);
}

#[test]
fn half_floats_are_computed_in_float32() {
    let mut sketch = Sketch::new(17);
    let x = sketch.input("x", ElementType::F16, vec![Dim::Known(2)]);
    let bf16 = [1.5f32, -2.0].map(half::bf16::from_f32).to_vec();
    let w = sketch.constant("w", Tensor::new(vec![2], bf16));
    let (_, wide) = sketch.op(Op::new("", "Cast", vec![Attribute::int("to", 10)]), &[w], "wide");
    let (_, y) = sketch.plain("Mul", &[x, wide], "y");
    let model = sketch.model();
    let halves = [0.1f32, 70.0].map(half::f16::from_f32).to_vec();
    let seen = run(&model, &[x, y], vec![(x, Tensor::new(vec![2], halves))]);
    let tenth = half::f16::from_f32(0.1).to_f32();
    assert_eq!(seen[0].floats, [tenth, 70.0]);
    assert_eq!(seen[1].floats, [tenth * 1.5, -140.0]);
}

#[test]
fn defaults_hold_unless_data_comes() {
    let mut sketch = Sketch::new(17);
    let x = sketch.floats("x", &[1]);
    let default = Some(Tensor::new(vec![1], vec![5.0f32]));
    let shift = sketch.input_or("shift", ElementType::F32, vec![Dim::Known(1)], default);
    let (_, y) = sketch.plain("Add", &[x, shift], "y");
    let model = sketch.model();
    let one = Tensor::new(vec![1], vec![1.0f32]);
    let taps = [shift, y];
    let seen = run(&model, &taps, vec![(x, one.clone())]);
    assert_eq!((&seen[0].floats[..], &seen[1].floats[..]), (&[5.0f32][..], &[6.0f32][..]));
    let seen = run(&model, &taps, vec![(x, one.clone()), (shift, one.clone())]);
    assert_eq!((&seen[0].floats[..], &seen[1].floats[..]), (&[1.0f32][..], &[2.0f32][..]));
    let missing = run_plan(&model, None, &taps, vec![(shift, one)]).unwrap_err();
    assert!(missing.to_string().contains("input `x` is missing"), "{missing}");
}

#[test]
fn each_set_of_shapes_has_a_plan() {
    let mut sketch = Sketch::new(17);
    let x = sketch.input("x", ElementType::F32, vec![Dim::Symbol("N".into()), Dim::Unknown]);
    let (_, y) = sketch.op(Op::new("", "Transpose", vec![Attribute::ints("perm", vec![1, 0])]), &[x], "y");
    let model = sketch.model();
    let request = Request { model: &model, plan: None, taps: &[y] };
    let session = Tract.prepare(&request).expect("prepares");
    let mut runner = session.runner();
    for index in 0..20 {
        let shape = vec![1 + index % 7, 2 + index % 3];
        let data = noise(index as u64, shape.iter().product());
        let inputs = vec![(x, Tensor::new(shape.clone(), data.clone()))];
        let seen = run_sample(runner.as_mut(), &[y], &Sample { index, inputs }).expect("runs");
        assert_eq!(seen[0].shape, [shape[1], shape[0]]);
        for (at, value) in data.iter().enumerate() {
            assert_eq!(seen[0].floats[at % shape[1] * shape[0] + at / shape[1]], *value);
        }
    }
}

#[test]
fn sizes_that_only_data_tells_are_resolved() {
    let mut sketch = Sketch::new(17);
    let x = sketch.floats("x", &[4]);
    let (_, where_) = sketch.plain("NonZero", &[x], "where");
    let (_, as_floats) = sketch.op(Op::new("", "Cast", vec![Attribute::int("to", 1)]), &[where_], "floats");
    let (_, y) = sketch.plain("Neg", &[as_floats], "y");
    let model = sketch.model();
    let request = Request { model: &model, plan: None, taps: &[where_, y] };
    let session = Tract.prepare(&request).expect("prepares");
    let mut runner = session.runner();
    for data in [vec![0.0f32, 1.0, 0.0, 2.0], vec![1.0, 1.0, 0.0, 2.0], vec![0.0; 4]] {
        let expected: Vec<i64> = (0..4).filter(|&at| data[at] != 0.0).map(|at| at as i64).collect();
        let sample = Sample { index: 0, inputs: vec![(x, Tensor::new(vec![4], data))] };
        let seen = run_sample(runner.as_mut(), &[where_, y], &sample).expect("runs");
        assert_eq!(seen[0].integers, expected);
        assert_eq!(seen[1].floats, expected.iter().map(|&at| -(at as f32)).collect::<Vec<_>>());
    }
}

#[test]
fn threads_and_runs_give_the_same_bits() {
    let mut sketch = Sketch::new(17);
    let x = sketch.floats("x", &[1, 33]);
    let w = sketch.constant("w", Tensor::new(vec![33, 65], noise(1, 33 * 65)));
    let (_, product) = sketch.plain("MatMul", &[x, w], "product");
    let (_, y) = sketch.op(Op::new("", "Softmax", vec![Attribute::int("axis", -1)]), &[product], "y");
    let model = sketch.model();
    let taps = [product, y];
    let all = |threads: usize| {
        let request = Request { model: &model, plan: None, taps: &taps };
        let session = Tract.prepare(&request).expect("prepares");
        let samples = (0..16).map(|index| {
            let inputs = vec![(x, Tensor::new(vec![1, 33], noise(100 + index as u64, 33)))];
            Ok::<_, EngineError>(Sample { index, inputs })
        });
        let kept = sweep(
            session.as_ref(),
            samples,
            threads,
            Vec::new,
            |kept: &mut Vec<(usize, usize, Vec<u32>)>, index, shown| {
                if let onnxq_plan::Elements::F32(x) = shown.elements {
                    kept.push((index, shown.value.index(), x.iter().map(|x| x.to_bits()).collect()));
                }
            },
            || {},
        );
        let mut kept: Vec<_> = kept.expect("runs").into_iter().flatten().collect();
        kept.sort();
        assert_eq!(kept.len(), 32);
        kept
    };
    let one = all(1);
    assert!(one == all(1) && one == all(2) && one == all(3));
}

/// A running sum over the rows of `x`: what a recurrent operator keeps must not reach the next sample.
#[test]
fn samples_do_not_see_each_other() {
    let text = r#"<ir_version: 8, opset_import: ["" : 17]>
        running_sum (float[3, 2] x) => (float[2] last, float[3, 2] sums)
        <float[2] zero = {0, 0}>
        {
            last, sums = Scan <num_scan_inputs = 1, body = step (float[2] before, float[2] row)
                => (float[2] after, float[2] seen) { after = Add (before, row)  seen = Identity (after) }> (zero, x)
        }"#;
    let model = onnxq_ir::text::parse(text).expect("a model");
    let [x, sums] = ["x", "sums"].map(|name| model.graph.find_value(name).expect("a value"));
    let taps = [sums];
    let session = Tract.prepare(&Request { model: &model, plan: None, taps: &taps }).expect("prepares");
    let mut runner = session.runner();
    for index in 0..3 {
        let inputs = vec![(x, Tensor::new(vec![3, 2], vec![1.0f32, 2.0, 3.0, 4.0, 5.0, 6.0]))];
        let seen = run_sample(runner.as_mut(), &taps, &Sample { index, inputs }).expect("runs");
        assert_eq!(seen[0].floats, [1.0, 2.0, 4.0, 6.0, 9.0, 12.0], "sample {index}");
    }
}

/// A model of so many nodes is run in pieces; values pass from each to later ones, and taps are in all of them.
#[test]
fn a_large_model_runs_in_pieces() {
    const NODES: usize = 1800;
    let mut sketch = Sketch::new(17);
    let x = sketch.floats("x", &[2]);
    let one = sketch.constant("one", Tensor::new(vec![2], vec![1.0f32, 2.0]));
    let mut sums = vec![x];
    for i in 0..NODES {
        // Every second one is no sum with a constant, which tract would add up.
        let other = if i % 2 == 0 { one } else { x };
        let (_, next) = sketch.plain("Add", &[sums[i], other], &format!("sum{i}"));
        sums.push(next);
    }
    let (_, far) = sketch.plain("Sub", &[sums[NODES], sums[1]], "far");
    sketch.output(far);
    let model = sketch.model();
    let taps = [sums[1], sums[600], sums[NODES], far];
    let seen = run(&model, &taps, vec![(x, Tensor::new(vec![2], vec![1.0f32, -3.0]))]);
    let sum = |i: usize| [1.0, -3.0].map(|x: f32| x * (1 + i / 2) as f32).into_iter().zip([1.0, 2.0]);
    let sum = |i: usize| sum(i).map(|(x, one): (f32, f32)| x + one * i.div_ceil(2) as f32).collect::<Vec<f32>>();
    let far: Vec<f32> = sum(NODES).iter().zip(sum(1)).map(|(a, b)| a - b).collect();
    let expected = [sum(1), sum(600), sum(NODES), far];
    assert!(seen.iter().zip(expected).all(|(seen, expected)| seen.floats == expected), "{seen:?}");
}
