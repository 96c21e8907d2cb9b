//! QuantizeLinear and DequantizeLinear, against their formulas.

use onnxq_ir::{Attribute, ElementType, Op, Tensor};
use onnxq_numerics::{IntFormat, Signedness, Uniform, pack};
use onnxq_plan::Evaluator;

use super::{Sketch, noise, run, run_plan};
use crate::Tract;

fn quantize(attributes: Vec<Attribute>) -> Op {
    Op::new("", "QuantizeLinear", attributes)
}

fn dequantize(attributes: Vec<Attribute>) -> Op {
    Op::new("", "DequantizeLinear", attributes)
}

#[test]
fn a_round_trip_is_the_uniform_quantizer() {
    let scale = 0.0235f32;
    let ties = (-200..200).map(|k| (k as f32 + 0.5) * scale);
    let odd = [1e9, -1e9, f32::INFINITY, f32::NEG_INFINITY, f32::MAX, 1e-40];
    let data: Vec<f32> = noise(1, 500).into_iter().chain(ties).chain(odd).collect();
    let count = data.len();
    let zero_points = [
        (Tensor::scalar(131u8), IntFormat::U8, 131),
        (Tensor::scalar(-7i8), IntFormat::S8, -7),
        (Tensor::scalar(40_000u16), IntFormat::new(16, Signedness::Unsigned).unwrap(), 40_000),
        (Tensor::scalar(-3i16), IntFormat::new(16, Signedness::Signed).unwrap(), -3),
    ];
    for (tensor, format, zero_point) in zero_points {
        let mut sketch = Sketch::new(21);
        let x = sketch.floats("x", &[count]);
        let s = sketch.constant("s", Tensor::scalar(scale));
        let z = sketch.constant("z", tensor);
        let (_, codes) = sketch.op(quantize(vec![]), &[x, s, z], "codes");
        let (_, y) = sketch.op(dequantize(vec![]), &[codes, s, z], "y");
        let model = sketch.model();
        let seen = run(&model, &[y], vec![(x, Tensor::new(vec![count], data.clone()))]);
        let mut expected = data.clone();
        Uniform::new(format, scale, zero_point).unwrap().fake(&mut expected);
        assert_eq!(seen[0].floats, expected, "{format}");
    }
}

/// Computed in float32 from the scale as it is rounded; the type stays that of the scale.
#[test]
fn scales_of_float16_are_taken_as_they_are() {
    let scale = half::f16::from_f32(0.0235);
    let data = noise(5, 300);
    let mut sketch = Sketch::new(19);
    let x = sketch.input("x", ElementType::F16, vec![onnxq_ir::Dim::Known(300)]);
    let s = sketch.constant("s", Tensor::scalar(scale));
    let z = sketch.constant("z", Tensor::scalar(131u8));
    let (_, codes) = sketch.op(quantize(vec![]), &[x, s, z], "codes");
    let (_, y) = sketch.op(dequantize(vec![]), &[codes, s, z], "y");
    let model = sketch.model();
    let halves: Vec<half::f16> = data.iter().map(|&x| half::f16::from_f32(x)).collect();
    let mut expected: Vec<f32> = halves.iter().map(|x| x.to_f32()).collect();
    let seen = run(&model, &[y], vec![(x, Tensor::new(vec![300], halves))]);
    Uniform::new(IntFormat::U8, scale.to_f32(), 131).unwrap().fake(&mut expected);
    assert_eq!(seen[0].floats, expected);
    let inferred = Tract.infer(&model).unwrap();
    let known = inferred.iter().find(|known| known.value == y).unwrap();
    assert_eq!(known.tensor_type.element, ElementType::F16);
}

/// int8 on one side, uint8 on the other, a table operator between: tract alone gets this wrong or fails.
#[test]
fn mixed_chains_and_clips_on_codes_run() {
    let mut sketch = Sketch::new(17);
    let x = sketch.floats("x", &[50]);
    let s = sketch.constant("s", Tensor::scalar(0.05f32));
    let signed = sketch.constant("signed", Tensor::scalar(3i8));
    let unsigned = sketch.constant("unsigned", Tensor::scalar(8u8));
    let (low, high) = (sketch.constant("low", Tensor::scalar(0u8)), sketch.constant("high", Tensor::scalar(15u8)));
    let (_, a) = sketch.op(quantize(vec![]), &[x, s, signed], "a");
    let (_, b) = sketch.op(dequantize(vec![]), &[a, s, signed], "b");
    let (_, c) = sketch.plain("Tanh", &[b], "c");
    let (_, d) = sketch.op(quantize(vec![]), &[c, s, unsigned], "d");
    let (_, e) = sketch.plain("Clip", &[d, low, high], "e");
    let (_, f) = sketch.op(dequantize(vec![]), &[e, s, unsigned], "f");
    let model = sketch.model();
    let data = noise(2, 50);
    let seen = run(&model, &[b, c, f], vec![(x, Tensor::new(vec![50], data.clone()))]);
    let mut expected = data;
    Uniform::new(IntFormat::S8, 0.05, 3).unwrap().fake(&mut expected);
    assert_eq!(seen[0].floats, expected);
    let four = IntFormat::new(4, Signedness::Unsigned).unwrap();
    let mut clipped = seen[1].floats.clone();
    Uniform::new(four, 0.05, 8).unwrap().fake(&mut clipped);
    assert_eq!(seen[2].floats, clipped);
}

#[test]
fn weights_of_all_types_and_layouts_are_dequantized() {
    let codes: Vec<i32> = vec![-8, 7, 3, -1, 0, 5, -6, 2, 1, -3, 4, -5];
    let four = IntFormat::new(4, Signedness::Signed).unwrap();
    let packed = Tensor::from_bytes(ElementType::I4, vec![3, 4], pack(&codes, four).into()).unwrap();
    let bytes = Tensor::new(vec![3, 4], codes.iter().map(|&code| code as i8).collect());
    let wide = Tensor::new(vec![3, 4], codes.clone());
    let scales: Vec<f32> = vec![0.1, 0.2, 0.3, 0.4];
    let check = |weights: &Tensor, attributes: Vec<Attribute>, shape: Vec<usize>, scale_of: &dyn Fn(usize) -> usize| {
        let count = shape.iter().product();
        let all: Vec<f32> = scales.iter().cycle().take(count).copied().collect();
        let mut sketch = Sketch::new(21);
        let w = sketch.constant("w", weights.clone());
        let s = sketch.constant("s", Tensor::new(shape, all.clone()));
        let (_, y) = sketch.op(dequantize(attributes), &[w, s], "y");
        let model = sketch.model();
        let expected: Vec<f32> = codes.iter().enumerate().map(|(at, &code)| code as f32 * all[scale_of(at)]).collect();
        let seen = run_plan(&model, None, &[y], vec![]).expect("runs");
        assert_eq!(seen[0].floats, expected);
    };
    for weights in [&packed, &bytes, &wide] {
        check(weights, vec![], vec![], &|_| 0);
        check(weights, vec![Attribute::int("axis", -1)], vec![4], &|at| at % 4);
        check(weights, vec![Attribute::int("axis", 0)], vec![3], &|at| at / 4);
        let blocks = vec![Attribute::int("axis", 1), Attribute::int("block_size", 3)];
        check(weights, blocks, vec![3, 2], &|at| at / 4 * 2 + at % 4 / 3);
    }
}

#[test]
fn forms_that_cannot_be_computed_are_refused() {
    let mut sketch = Sketch::new(21);
    let x = sketch.floats("x", &[2]);
    let s = sketch.floats("s", &[]);
    let fixed = sketch.constant("fixed", Tensor::scalar(1.0f32));
    let (_, computed) = sketch.op(quantize(vec![]), &[x, s], "computed");
    let (_, float8) = sketch.op(quantize(vec![Attribute::int("output_dtype", 17)]), &[x, fixed], "float8");
    let (_, fine) = sketch.op(quantize(vec![Attribute::int("output_dtype", 21)]), &[x, fixed], "fine");
    let model = sketch.model();
    assert_eq!(Tract.reachable(&model, &[computed, float8, fine]), [fine]);
    let error = run_plan(&model, None, &[computed, float8], vec![]).unwrap_err().to_string();
    assert!(error.contains("QuantizeLinear with a computed scale"), "{error}");
    assert!(error.contains("QuantizeLinear to float8e4m3fn"), "{error}");
    // A byte that holds smaller codes is not what the value is.
    let inferred = Tract.infer(&model).expect("infers");
    assert!(inferred.iter().all(|it| it.value != fine));
}
