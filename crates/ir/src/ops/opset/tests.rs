//! Conversions one by one, and what is refused.

use super::*;
use crate::model::OpsetImport;
use crate::ops::testing::{Scene, listing};
use crate::ops::{Axes, Bound, Clip, Parts, Reduce, Split};
use crate::types::{Carried, ElementType};

fn model(graph: Graph) -> Model {
    let import = OpsetImport { domain: String::new(), version: graph.opset(), carried: Carried::default() };
    Model { ir_version: 5, opsets: vec![import], graph, ..Model::default() }
}

#[test]
fn tables_are_sorted_and_apart() {
    assert!(table::UNCHANGED.is_sorted());
    assert!(table::BREAKS.iter().all(|(op_type, ..)| table::UNCHANGED.binary_search(op_type).is_err()));
}

#[test]
fn attributes_become_inputs() {
    let mut scene = Scene::new(10);
    let x = scene.input("x");
    let (clip, c) = scene.op(Op::new("", "Clip", vec![Attribute::float("max", 6.0)]), &[x], "c");
    let mean = vec![Attribute::ints("axes", [-1]), Attribute::int("keepdims", 0)];
    let (mean, m) = scene.op(Op::new("", "ReduceMean", mean), &[c], "m");
    let (split, _) = scene.op_with(Op::new("", "Split", vec![Attribute::int("axis", 1)]), &[Some(m)], &["a", "b"]);
    let mut model = model(scene.finish());
    convert(&mut model, 21).expect("converts");
    assert_eq!((model.opsets[0].version, model.ir_version, model.graph.opset()), (21, 10, 21));
    let graph = &model.graph;
    let view = Clip::at(graph, clip).expect("a Clip");
    assert_eq!((view.min, view.max), (Bound::Open, Bound::At(6.0)));
    let view = Reduce::at(graph, mean).expect("a ReduceMean");
    assert_eq!((view.axes, view.keepdims), (Axes::These(vec![-1]), false));
    assert_eq!(Split::at(graph, split).map(|view| view.parts), Some(Parts::Equal(2)));
    assert_eq!(graph.op(split).int("num_outputs"), Some(2));
}

#[test]
fn what_means_something_else_is_named_and_nothing_is_changed() {
    let mut scene = Scene::new(12);
    let x = scene.input_of("x", &[2, 3, 4]);
    let mode = Attribute::string("coordinate_transformation_mode", "tf_half_pixel_for_nn");
    let (_, a) = scene.op(Op::new("", "Resize", vec![mode]).named("gone"), &[x, x, x], "a");
    let (_, b) = scene.op(Op::new("", "NoSuchOperator", vec![]).named("odd"), &[a], "b");
    scene.op(Op::new("com.example", "Own", vec![]), &[b], "c");
    let mut model = model(scene.finish());
    let before = listing(&model.graph);
    let ConvertError::Unsupported(refused) = convert(&mut model, 21).expect_err("refused") else { panic!("refused") };
    assert_eq!(refused.iter().map(|it| it.name.as_str()).collect::<Vec<_>>(), ["gone", "odd"]);
    assert_eq!((listing(&model.graph), model.graph.opset()), (before, 12));
}

#[test]
fn a_softmax_over_the_last_axis_says_so() {
    let mut scene = Scene::new(10);
    let x = scene.input_of("x", &[2, 3]);
    let (softmax, _) = scene.op(Op::new("", "Softmax", vec![]), &[x], "y");
    let mut model = model(scene.finish());
    convert(&mut model, 13).expect("converts");
    assert_eq!(model.graph.op(softmax).int("axis"), Some(-1));
}

#[test]
fn a_softmax_over_several_axes_gets_a_matrix() {
    let mut scene = Scene::new(9);
    let x = scene.input("x");
    let (_, y) = scene.op(Op::new("", "Softmax", vec![]).named("s"), &[x], "y");
    scene.op(Op::new("", "Relu", vec![]).named("r"), &[y], "z");
    let mut model = model(scene.finish());
    convert(&mut model, 13).expect("converts");
    assert_eq!(
        listing(&model.graph),
        [
            ": y_matrix = Flatten(x)",
            "s: y_flat = Softmax(y_matrix)",
            ": y_shape = Shape(x)",
            ": y = Reshape(y_flat, y_shape)",
            "r: z = Relu(y)"
        ]
    );
}

#[test]
fn a_softmax_in_front_of_axes_of_size_1_needs_none() {
    let mut scene = Scene::new(9);
    let x = scene.input_of("x", &[2, 3, 1, 1]);
    let (softmax, _) = scene.op(Op::new("", "Softmax", vec![]), &[x], "y");
    let mut model = model(scene.finish());
    convert(&mut model, 13).expect("converts");
    assert_eq!((model.graph.op_ids().count(), model.graph.op(softmax).int("axis")), (1, Some(1)));
}

#[test]
fn several_changes_of_one_operator_follow_each_other() {
    let mut scene = Scene::new(7);
    let x = scene.input("x");
    let scales = Attribute::new("scales", AttributeValue::Floats(vec![1.0, 1.0, 1.5, 2.0]));
    scene.op(Op::new("", "Upsample", vec![scales]).named("up"), &[x], "y");
    let mut model = model(scene.finish());
    convert(&mut model, 13).expect("converts");
    assert_eq!(listing(&model.graph), ["up: y = Resize(x, y_input1_1, y_input1)"]);
    let op = model.graph.op(model.graph.topological()[0]);
    assert_eq!(op.text("nearest_mode"), Some("floor"));
}

#[test]
fn negative_indices_of_an_old_one_hot_stay_off() {
    let mut scene = Scene::new(10);
    let [i, depth, values] = ["i", "depth", "values"].map(|name| scene.input(name));
    scene.op(Op::new("", "OneHot", vec![]).named("h"), &[i, depth, values], "y");
    let mut model = model(scene.finish());
    let ConvertError::Unsupported(refused) = convert(&mut model, 11).expect_err("no type") else { panic!("refused") };
    assert_eq!(refused[0].name, "h");
    let i = model.graph.find_value("i").expect("the indices");
    model.graph.set_type(i, crate::types::TensorType::fixed(ElementType::I64, &[2]));
    convert(&mut model, 11).expect("converts");
    assert!(listing(&model.graph).contains(&"h: y = OneHot(i_in_range, depth, values)".to_owned()));
}

#[test]
fn local_functions_are_raised_along() {
    let mut inner = Scene::new(12);
    let x = inner.input("x");
    inner.op(Op::new("", "Squeeze", vec![Attribute::ints("axes", [0])]), &[x], "s");
    let body = inner.finish();
    let (domain, name, overload) = ("my".to_owned(), "Thin".to_owned(), String::new());
    let function =
        crate::model::Function { domain, name, overload, body, defaults: Vec::new(), encoded: Carried::default() };
    let mut outer = Scene::new(12);
    let x = outer.input("x");
    outer.op(Op::new("my", "Thin", vec![]), &[x], "y");
    let mut model = Model { functions: vec![function], ..model(outer.finish()) };
    convert(&mut model, 13).expect("converts");
    let body = &model.functions[0].body;
    assert_eq!((body.opset(), listing(body)), (13, vec![": s = Squeeze(x, s_input1)".to_owned()]));
}

#[test]
fn bodies_are_converted_too() {
    let mut inner = Scene::new(11);
    let x = inner.input("inner");
    inner.op(Op::new("", "Squeeze", vec![Attribute::ints("axes", [0])]), &[x], "s");
    let body = Attribute::new("body", AttributeValue::Graph(Box::new(inner.finish())));
    let mut outer = Scene::new(11);
    let x = outer.input("x");
    let (owner, _) = outer.op(Op::new("", "Loop", vec![body]), &[x], "y");
    let mut model = model(outer.finish());
    convert(&mut model, 13).expect("converts");
    let body = model.graph.op(owner).bodies().next().expect("a body");
    assert_eq!((body.opset(), listing(body)), (13, vec![": s = Squeeze(inner, s_input1)".to_owned()]));
}

#[test]
fn scatter_and_resize_change_shape() {
    let mut scene = Scene::new(10);
    let (x, i) = (scene.input("x"), scene.input("i"));
    let (_, s) = scene.op(Op::new("", "Scatter", vec![Attribute::int("axis", 1)]).named("s"), &[x, i, x], "s");
    let scales = scene.constant("scales", Tensor::new(vec![4], vec![1f32, 1.0, 2.0, 2.0]));
    scene.op(Op::new("", "Resize", vec![]).named("r"), &[s, scales], "y");
    let mut model = model(scene.finish());
    convert(&mut model, 13).expect("converts");
    assert_eq!(listing(&model.graph), ["s: s = ScatterElements(x, i, x)", "r: y = Resize(s, y_input1, scales)"]);
}

#[test]
fn only_upwards_and_within_what_is_known() {
    let mut scene = Scene::new(17);
    scene.input("x");
    let mut model = model(scene.finish());
    assert!(convert(&mut model, 17).is_ok());
    assert!(matches!(convert(&mut model, 13), Err(ConvertError::Range { .. })));
    assert!(matches!(convert(&mut model, 29), Err(ConvertError::Range { .. })));
}
