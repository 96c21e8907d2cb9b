//! Plans in simulation, against the quantizers themselves.

use onnxq_ir::{Attribute, Model, Op, OpId, Tensor, ValueId, ops};
use onnxq_numerics::{Base, IntFormat, LevelRule, Log, Uniform};
use onnxq_plan::{Quantizer, Site};

use super::{Sketch, graph_attribute, noise, plan_of, run, run_plan};

fn uniform(scale: f32, zero_point: i32) -> Uniform {
    Uniform::new(IntFormat::U8, scale, zero_point).unwrap()
}

fn faked(quantizer: Uniform, values: &[f32]) -> Vec<f32> {
    let mut values = values.to_vec();
    quantizer.fake(&mut values);
    values
}

fn negated(values: &[f32]) -> Vec<f32> {
    values.iter().map(|x| -x).collect()
}

/// relu -> (neg, abs), all tapped; relu is an output too.
struct Fork {
    model: Model,
    x: ValueId,
    relu: ValueId,
    neg: (OpId, ValueId),
    abs: (OpId, ValueId),
}

fn fork() -> Fork {
    let mut sketch = Sketch::new(17);
    let x = sketch.floats("x", &[100]);
    let (_, relu) = sketch.plain("Relu", &[x], "relu");
    let neg = sketch.plain("Neg", &[relu], "neg");
    let abs = sketch.plain("Abs", &[relu], "abs");
    sketch.output(relu);
    sketch.output(neg.1);
    Fork { model: sketch.model(), x, relu, neg, abs }
}

#[test]
fn an_operand_is_quantized_for_its_reader_alone() {
    let fork = fork();
    let data = noise(3, 100);
    let positive: Vec<f32> = data.iter().map(|x| x.max(0.0)).collect();
    let q = uniform(0.013, 7);
    let plan = plan_of([(Site::Operand { op: fork.neg.0, slot: 0 }, Quantizer::Tensor(q))]);
    let taps = [fork.relu, fork.neg.1, fork.abs.1];
    let inputs = vec![(fork.x, Tensor::new(vec![100], data))];
    let seen = run_plan(&fork.model, Some(&plan), &taps, inputs.clone()).unwrap();
    assert_eq!(seen[0].floats, positive);
    assert_eq!(seen[1].floats, negated(&faked(q, &positive)));
    assert_eq!(seen[2].floats, positive);
    // Without the plan the same request is float.
    assert_eq!(run(&fork.model, &taps, inputs)[1].floats, negated(&positive));
}

#[test]
fn an_output_is_quantized_for_all_and_as_a_graph_output() {
    let fork = fork();
    let data = noise(4, 100);
    let positive: Vec<f32> = data.iter().map(|x| x.max(0.0)).collect();
    let (q, finer) = (uniform(0.11, 0), uniform(0.07, 3));
    let plan = plan_of([
        (Site::Output(fork.relu), Quantizer::Tensor(q)),
        (Site::Operand { op: fork.abs.0, slot: 0 }, Quantizer::Tensor(finer)),
    ]);
    let taps = [fork.relu, fork.neg.1, fork.abs.1];
    let seen = run_plan(&fork.model, Some(&plan), &taps, vec![(fork.x, Tensor::new(vec![100], data))]).unwrap();
    let once = faked(q, &positive);
    assert_eq!(seen[0].floats, once);
    assert_eq!(seen[1].floats, negated(&once));
    assert_eq!(seen[2].floats, faked(finer, &once));
}

#[test]
fn graph_inputs_and_bodies_see_quantized_values() {
    let mut sketch = Sketch::new(17);
    let x = sketch.floats("x", &[4]);
    let yes = sketch.input("yes", onnxq_ir::ElementType::Bool, vec![]);
    let branch = |result: &str, op_type: &str| {
        let mut body = Sketch::new(17);
        let inside = body.captured(&format!("x_{result}"), x);
        let (_, y) = body.plain(op_type, &[inside], result);
        body.output(y);
        body.graph()
    };
    let branches =
        vec![graph_attribute("then_branch", branch("a", "Neg")), graph_attribute("else_branch", branch("b", "Abs"))];
    let (_, y) = sketch.op(Op::new("", "If", branches), &[yes], "y");
    sketch.output(y);
    let model = sketch.model();
    let q = uniform(0.5, 100);
    let plan = plan_of([(Site::Output(x), Quantizer::Tensor(q))]);
    let data = vec![0.3f32, -0.8, 1.1, 200.0];
    let flag = Tensor::from_bytes(onnxq_ir::ElementType::Bool, vec![], vec![1u8].into()).unwrap();
    let inputs = vec![(x, Tensor::new(vec![4], data.clone())), (yes, flag)];
    let seen = run_plan(&model, Some(&plan), &[x, y], inputs).unwrap();
    assert_eq!(seen[0].floats, faked(q, &data));
    assert_eq!(seen[1].floats, negated(&faked(q, &data)));
}

#[test]
fn constants_are_baked_per_use() {
    let mut sketch = Sketch::new(17);
    let x = sketch.floats("x", &[3, 2]);
    let weights = noise(8, 6);
    let w = sketch.constant("w", Tensor::new(vec![3, 2], weights.clone()));
    let (by_channel, a) = sketch.plain("Mul", &[x, w], "a");
    let (_, b) = sketch.plain("Mul", &[x, w], "b");
    let (whole, c) = sketch.plain("Mul", &[x, w], "c");
    let (twice, d) = sketch.plain("Mul", &[w, w], "d");
    let model = sketch.model();
    let channels: Vec<Uniform> = [0.1, 0.2, 0.3].into_iter().map(|scale| uniform(scale, 128)).collect();
    let q = uniform(0.25, 128);
    let plan = plan_of([
        (Site::Operand { op: by_channel, slot: 1 }, Quantizer::Channels { axis: 0, channels: channels.clone() }),
        (Site::Operand { op: whole, slot: 1 }, Quantizer::Tensor(q)),
        (Site::Operand { op: twice, slot: 1 }, Quantizer::Tensor(q)),
    ]);
    let ones = Tensor::new(vec![3, 2], vec![1.0f32; 6]);
    let seen = run_plan(&model, Some(&plan), &[w, a, b, c, d], vec![(x, ones)]).unwrap();
    let rows: Vec<f32> = (0..3).flat_map(|row| faked(channels[row], &weights[row * 2..row * 2 + 2])).collect();
    let coarse = faked(q, &weights);
    assert_eq!(seen[0].floats, weights);
    assert_eq!(seen[1].floats, rows);
    assert_eq!(seen[2].floats, weights);
    assert_eq!(seen[3].floats, coarse);
    let products: Vec<f32> = weights.iter().zip(&coarse).map(|(a, b)| a * b).collect();
    assert_eq!(seen[4].floats, products);
}

#[test]
fn a_constant_quantized_for_all_is_tapped_as_its_readers_see_it() {
    let mut sketch = Sketch::new(17);
    let w = sketch.constant("w", Tensor::new(vec![2], vec![0.3f32, 0.9]));
    let (neg, a) = sketch.plain("Neg", &[w], "a");
    let (_, b) = sketch.plain("Abs", &[w], "b");
    let model = sketch.model();
    let (q, coarser) = (uniform(0.25, 0), uniform(0.6, 0));
    let plan = plan_of([
        (Site::Output(w), Quantizer::Tensor(q)),
        (Site::Operand { op: neg, slot: 0 }, Quantizer::Tensor(coarser)),
    ]);
    let seen = run_plan(&model, Some(&plan), &[w, a, b], vec![]).unwrap();
    assert_eq!(seen[0].floats, [0.25, 1.0]);
    assert_eq!(seen[1].floats, negated(&faked(coarser, &[0.25, 1.0])));
    assert_eq!(seen[2].floats, [0.25, 1.0]);
}

#[test]
fn a_bias_is_baked_as_int32_codes() {
    let mut sketch = Sketch::new(17);
    let x = sketch.floats("x", &[3]);
    let b = sketch.constant("b", Tensor::new(vec![3], vec![0.126f32, -0.3, 5.0]));
    let (add, y) = sketch.plain("Add", &[x, b], "y");
    let model = sketch.model();
    let plan = plan_of([(Site::Operand { op: add, slot: 1 }, Quantizer::Bias(vec![0.25, 0.125, 1e-3]))]);
    let zeros = Tensor::new(vec![3], vec![0.0f32; 3]);
    let seen = run_plan(&model, Some(&plan), &[y], vec![(x, zeros)]).unwrap();
    assert_eq!(seen[0].floats, [0.25, -0.25, 5000.0 * 1e-3]);
}

#[test]
fn logarithmic_quantizers_are_simulated() {
    let mut sketch = Sketch::new(17);
    let x = sketch.floats("x", &[2, 8]);
    let softmax = Op::new("", "Softmax", vec![Attribute::int("axis", -1)]);
    let (_, p) = sketch.op(softmax, &[x], "p");
    let (neg, y) = sketch.plain("Neg", &[p], "y");
    let model = sketch.model();
    let log = Log::new(4, Base::SqrtTwo, 0.7, LevelRule::Strict).unwrap();
    let plan = plan_of([(Site::Operand { op: neg, slot: 0 }, Quantizer::Log(log))]);
    let data = Tensor::new(vec![2, 8], noise(11, 16));
    let seen = run_plan(&model, Some(&plan), &[p, y], vec![(x, data)]).unwrap();
    let mut expected = seen[0].floats.clone();
    log.fake(&mut expected);
    assert_eq!(seen[1].floats, negated(&expected));
}

/// Sites speak of recognised operators; every operator of the expansion sees the quantized operand.
#[test]
fn recognised_operators_are_expanded_behind_their_sites() {
    let mut sketch = Sketch::new(13);
    let x = sketch.floats("x", &[40]);
    let (silu, y) = sketch.op(ops::Silu::op(), &[x], "y");
    let model = sketch.model();
    let q = uniform(0.3, 100);
    let data = noise(12, 40);
    let plan = plan_of([(Site::Operand { op: silu, slot: 0 }, Quantizer::Tensor(q))]);
    let inputs = |data: &[f32]| vec![(x, Tensor::new(vec![40], data.to_vec()))];
    let simulated = run_plan(&model, Some(&plan), &[y], inputs(&data)).unwrap();
    let direct = run(&model, &[y], inputs(&faked(q, &data)));
    assert_eq!(simulated[0].floats, direct[0].floats);
    for (value, x) in direct[0].floats.iter().zip(faked(q, &data)) {
        let silu = f64::from(x) / (1.0 + (-f64::from(x)).exp());
        assert!((f64::from(*value) - silu).abs() < 1e-6);
    }
}

#[test]
fn a_quantizer_that_does_not_fit_is_an_error() {
    let fork = fork();
    let channels = vec![uniform(0.1, 0); 3];
    let quantizer = Quantizer::Channels { axis: 0, channels };
    let plan = plan_of([(Site::Operand { op: fork.neg.0, slot: 0 }, quantizer)]);
    let inputs = vec![(fork.x, Tensor::new(vec![100], vec![0.0f32; 100]))];
    let error = run_plan(&fork.model, Some(&plan), &[fork.neg.1], inputs).unwrap_err();
    assert!(error.to_string().contains("3 channels"), "{error}");
}

/// A transposition that tract melts into a product stays where it is in meaning.
#[test]
fn quantizers_commute_with_transpositions_only_where_no_axis_matters() {
    let mut sketch = Sketch::new(17);
    let a = sketch.floats("a", &[1, 5, 2, 8]);
    let b = sketch.floats("b", &[1, 6, 2, 8]);
    let transposed = |perm: [i64; 4]| Op::new("", "Transpose", vec![Attribute::ints("perm", perm.to_vec())]);
    let (_, left) = sketch.op(transposed([0, 2, 1, 3]), &[a], "left");
    let (_, right) = sketch.op(transposed([0, 2, 3, 1]), &[b], "right");
    let (product, scores) = sketch.plain("MatMul", &[left, right], "scores");
    let model = sketch.model();
    let (a_data, b_data) = (noise(21, 80), noise(22, 96));
    let rows: Vec<Uniform> = (0..5).map(|row| uniform(0.1 + 0.05 * row as f32, 128)).collect();
    let q = uniform(0.07, 120);
    let plan = plan_of([
        (Site::Operand { op: product, slot: 0 }, Quantizer::Channels { axis: 2, channels: rows.clone() }),
        (Site::Operand { op: product, slot: 1 }, Quantizer::Tensor(q)),
    ]);
    let inputs =
        vec![(a, Tensor::new(vec![1, 5, 2, 8], a_data.clone())), (b, Tensor::new(vec![1, 6, 2, 8], b_data.clone()))];
    let seen = run_plan(&model, Some(&plan), &[scores], inputs).unwrap();
    assert_eq!(seen[0].shape, [1, 2, 5, 6]);
    let b_fake = faked(q, &b_data);
    for (at, score) in seen[0].floats.iter().enumerate() {
        let (head, row, column) = (at / 30, at / 6 % 5, at % 6);
        let x = faked(rows[row], &a_data[(row * 2 + head) * 8..][..8]);
        let y = &b_fake[(column * 2 + head) * 8..][..8];
        let expected: f64 = x.iter().zip(y).map(|(x, y)| f64::from(*x) * f64::from(*y)).sum();
        assert!((f64::from(*score) - expected).abs() < 1e-4, "{score} {expected}");
    }
}
