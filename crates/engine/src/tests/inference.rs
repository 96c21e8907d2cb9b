//! Types and constants that hold for every input.

use onnxq_ir::{Attribute, Dim, ElementType, Model, Op, Tensor, ValueId};
use onnxq_plan::{Evaluator, Inferred};

use super::Sketch;
use crate::Tract;

fn infer(model: &Model) -> impl Fn(ValueId) -> Option<Inferred> + use<> {
    let all = Tract.infer(model).expect("infers");
    move |value| all.iter().find(|it| it.value == value).cloned()
}

fn symbol(name: &str) -> Dim {
    Dim::Symbol(name.to_owned())
}

/// The scale of attention as exporters write it: `1 / sqrt(size of the last axis)`.
#[test]
fn a_chain_from_a_known_size_is_constant() {
    let mut sketch = Sketch::new(17);
    let x = sketch.input("x", ElementType::F32, vec![symbol("N"), Dim::Known(3), Dim::Known(64)]);
    let (_, shape) = sketch.plain("Shape", &[x], "shape");
    let ends = [-1i64, i64::MAX].map(|at| Tensor::new(vec![1], vec![at]));
    let [start, end] = ends;
    let (start, end) = (sketch.constant("start", start), sketch.constant("end", end));
    let (_, last) = sketch.plain("Slice", &[shape, start, end], "last");
    let to_float = || Op::new("", "Cast", vec![Attribute::int("to", 1)]);
    let (_, size) = sketch.op(to_float(), &[last], "size");
    let (_, root) = sketch.plain("Sqrt", &[size], "root");
    let one = sketch.constant("one", Tensor::new(vec![1], vec![1.0f32]));
    let (_, scale) = sketch.plain("Div", &[one, root], "scale");
    let (_, scaled) = sketch.plain("Mul", &[x, scale], "scaled");
    let zero = sketch.constant("zero", Tensor::new(vec![1], vec![0i64]));
    let one_end = sketch.constant("one_end", Tensor::new(vec![1], vec![1i64]));
    let (_, batch) = sketch.plain("Slice", &[shape, zero, one_end], "batch");
    let (_, batch_size) = sketch.op(to_float(), &[batch], "batch_size");
    let (_, mean) = sketch.plain("Div", &[scaled, batch_size], "mean");
    let find = infer(&sketch.model());
    let constant = |value| find(value).expect("typed").constant;
    assert_eq!(constant(last).unwrap().to_i64().unwrap(), [64]);
    assert_eq!(constant(root).unwrap().to_f32().unwrap()[..], [8.0]);
    assert_eq!(constant(scale).unwrap().to_f32().unwrap()[..], [0.125]);
    // The batch size is not known: nothing that depends on it is constant.
    assert!([shape, batch, batch_size, scaled, mean].into_iter().all(|value| constant(value).is_none()));
    assert_eq!(find(shape).unwrap().tensor_type.to_string(), "int64[3]");
    assert_eq!(find(mean).unwrap().tensor_type.to_string(), "float[N, 3, 64]");
}

/// Whether an open size is 1 is not known; whether 64 is 1 is.
#[test]
fn open_sizes_may_be_any_number() {
    let mut sketch = Sketch::new(17);
    let x = sketch.input("x", ElementType::F32, vec![Dim::Unknown, Dim::Known(64)]);
    let (_, shape) = sketch.plain("Shape", &[x], "shape");
    let one = sketch.constant("one", Tensor::scalar(1i64));
    let minus_one = sketch.constant("minus_one", Tensor::scalar(-1i64));
    let (_, is_inferred) = sketch.plain("Equal", &[shape, minus_one], "is_inferred");
    let [open, known] = [("open", 0i64), ("known", 1)].map(|(name, axis)| {
        let axis = sketch.constant(&format!("{name}_axis"), Tensor::scalar(axis));
        let (_, size) = sketch.plain("Gather", &[shape, axis], &format!("{name}_size"));
        sketch.plain("Equal", &[size, one], name).1
    });
    let find = infer(&sketch.model());
    assert!(find(open).is_none_or(|it| it.constant.is_none()));
    assert_eq!(find(is_inferred).expect("typed").constant.and_then(|it| it.to_i64()), Some(vec![0, 0]));
    assert_eq!(find(known).expect("typed").constant.and_then(|it| it.to_i64()), Some(vec![0]));
}

/// tract has no bfloat16: its types are learnt under another name, its constants in float32.
#[test]
fn bfloat16_is_a_type() {
    let mut sketch = Sketch::new(17);
    let x = sketch.input("x", ElementType::BF16, vec![symbol("N"), Dim::Known(2)]);
    let number = half::bf16::from_f32(1e30);
    let w = sketch.constant("w", Tensor::new(vec![2], vec![number; 2]));
    let (_, y) = sketch.plain("Mul", &[x, w], "y");
    let to_float = || Op::new("", "Cast", vec![Attribute::int("to", 1)]);
    let (_, wide) = sketch.op(to_float(), &[y], "wide");
    let (_, known) = sketch.op(to_float(), &[w], "known");
    let (_, turned) = sketch.plain("Neg", &[w], "turned");
    let find = infer(&sketch.model());
    assert_eq!(find(y).unwrap().tensor_type.to_string(), "bfloat16[N, 2]");
    assert_eq!(find(wide).unwrap().tensor_type.to_string(), "float[N, 2]");
    assert!(find(y).unwrap().constant.is_none());
    // Beyond the range of float16.
    assert_eq!(find(known).unwrap().constant, Some(Tensor::new(vec![2], vec![number.to_f32(); 2])));
    assert_eq!(find(turned).unwrap().constant, Some(Tensor::new(vec![2], vec![-number; 2])));
}

/// tract takes the wider type of both.
#[test]
fn a_power_has_the_type_of_its_base() {
    let mut sketch = Sketch::new(17);
    let x = sketch.input("x", ElementType::F16, vec![Dim::Known(2)]);
    let two = sketch.constant("two", Tensor::scalar(2.0f32));
    let (_, y) = sketch.plain("Pow", &[x, two], "y");
    assert_eq!(infer(&sketch.model())(y).expect("typed").tensor_type.to_string(), "float16[2]");
}

#[test]
fn equal_names_are_equal_sizes_and_unknown_ones_are_not() {
    let mut sketch = Sketch::new(17);
    let a = sketch.input("a", ElementType::F32, vec![symbol("batch size"), Dim::Known(2)]);
    let b = sketch.input("b", ElementType::F32, vec![symbol("batch size"), Dim::Known(3)]);
    let c = sketch.input("c", ElementType::F32, vec![Dim::Unknown, Dim::Known(3)]);
    let d = sketch.input("d", ElementType::F32, vec![Dim::Unknown, Dim::Known(3)]);
    let along = |axis| Op::new("", "Concat", vec![Attribute::int("axis", axis)]);
    let (_, wide) = sketch.op(along(1), &[a, b], "wide");
    let (_, long) = sketch.op(along(0), &[c, d], "long");
    let (_, long_shape) = sketch.plain("Shape", &[long], "long_shape");
    let find = infer(&sketch.model());
    assert_eq!(find(wide).unwrap().tensor_type.to_string(), "float[batch size, 5]");
    assert_eq!(find(long).unwrap().tensor_type.to_string(), "float[?, 3]");
    assert!(find(long_shape).unwrap().constant.is_none());
}

#[test]
fn defaults_of_inputs_are_not_constants() {
    let mut sketch = Sketch::new(17);
    let default = Some(Tensor::new(vec![1], vec![5.0f32]));
    let x = sketch.input_or("x", ElementType::F32, vec![Dim::Known(1)], default);
    let w = sketch.constant("w", Tensor::new(vec![1], vec![5.0f32]));
    let (_, free) = sketch.plain("Neg", &[x], "free");
    let (_, fixed) = sketch.plain("Neg", &[w], "fixed");
    let find = infer(&sketch.model());
    assert!(find(free).unwrap().constant.is_none());
    assert_eq!(find(fixed).unwrap().constant.unwrap().to_f32().unwrap()[..], [-5.0]);
}

#[test]
fn what_cannot_be_typed_is_left_out() {
    let mut sketch = Sketch::new(17);
    let x = sketch.floats("x", &[2, 3]);
    let (_, relu) = sketch.plain("Relu", &[x], "relu");
    let (_, foreign) = sketch.op(Op::new("local", "Strange", vec![]), &[relu], "foreign");
    let (_, after) = sketch.plain("Relu", &[foreign], "after");
    // Known to tract, but the shapes don't fit.
    let (_, misfit) = sketch.plain("MatMul", &[relu, x], "misfit");
    let (_, after_misfit) = sketch.plain("Relu", &[misfit], "after_misfit");
    let (_, fine) = sketch.plain("Neg", &[relu], "fine");
    let find = infer(&sketch.model());
    assert_eq!(find(fine).unwrap().tensor_type.to_string(), "float[2, 3]");
    assert!([foreign, after, misfit, after_misfit].into_iter().all(|value| find(value).is_none()));
}
