//! Small graphs, each with an input whose meaning is in how it is read.

use std::collections::BTreeMap;

use onnxq_ir::{
    Attribute, AttributeValue, Builder, Carried, Declared, Dim, ElementType, Graph, Op, Origin, Tensor, TensorType,
    Value, ValueId, ValueType,
};

use super::{SynthesisError, parse_input_shape, specs};
use crate::data::{SynthKind, SynthSpec, synthesize};

/// A graph in the making.
struct Model {
    builder: Builder,
    count: usize,
}

impl Model {
    fn new() -> Self {
        Self { builder: Builder::new("test", 17), count: 0 }
    }

    fn input(&mut self, name: &str, element: ElementType, dims: &[Dim]) -> ValueId {
        self.declare(name, ValueType::Tensor(TensorType { element, shape: Some(dims.to_vec()) }))
    }

    fn declare(&mut self, name: &str, value_type: ValueType) -> ValueId {
        let value = self.builder.add_value(Value::new(name, value_type.clone(), Origin::Input(None)));
        self.builder.declare_input(Declared { value, value_type, carried: Carried::default() });
        value
    }

    fn constant(&mut self, tensor: Tensor) -> ValueId {
        self.count += 1;
        self.builder.add_value(Value::new(format!("c{}", self.count), ValueType::Unknown, Origin::Constant(tensor)))
    }

    fn floats(&mut self, shape: &[usize], elements: &[f32]) -> ValueId {
        self.constant(Tensor::new(shape.to_vec(), elements.to_vec()))
    }

    fn weight(&mut self, shape: &[usize]) -> ValueId {
        let count = shape.iter().product();
        self.constant(Tensor::new(shape.to_vec(), vec![0.5f32; count]))
    }

    fn op(&mut self, op_type: &str, inputs: &[ValueId]) -> ValueId {
        self.op_with(op_type, vec![], inputs)
    }

    fn op_with(&mut self, op_type: &str, attributes: Vec<Attribute>, inputs: &[ValueId]) -> ValueId {
        self.count += 1;
        let output =
            self.builder.add_value(Value::new(format!("v{}", self.count), ValueType::Unknown, Origin::Produced));
        let inputs: Vec<Option<ValueId>> = inputs.iter().copied().map(Some).collect();
        self.builder.add_op(Op::new("", op_type, attributes), &inputs, &[Some(output)]);
        output
    }

    fn cast(&mut self, x: ValueId, to: ElementType) -> ValueId {
        self.op_with("Cast", vec![Attribute::int("to", i64::from(to.code()))], &[x])
    }

    fn conv(&mut self, x: ValueId, channels: usize) -> ValueId {
        let weight = self.weight(&[8, channels, 3, 3]);
        self.op("Conv", &[x, weight])
    }

    fn batch_norm(&mut self, x: ValueId, mean: &[f32], variance: &[f32]) -> ValueId {
        let scale = self.floats(&[mean.len()], &vec![1.0; mean.len()]);
        let mean = self.floats(&[mean.len()], mean);
        let variance = self.floats(&[variance.len()], variance);
        self.op("BatchNormalization", &[x, scale, scale, mean, variance])
    }

    fn specs(self, shapes: &[(&str, &[usize])]) -> Result<Vec<SynthSpec>, SynthesisError> {
        let shapes: BTreeMap<String, Vec<usize>> =
            shapes.iter().map(|(name, shape)| ((*name).to_owned(), shape.to_vec())).collect();
        let graph: Graph = self.builder.finish();
        let specs = specs(&graph, &shapes)?;
        assert!(specs.iter().all(|(value, spec)| graph.value(*value).name() == spec.name));
        let specs: Vec<SynthSpec> = specs.into_iter().map(|(_, spec)| spec).collect();
        assert_eq!(synthesize(&specs, 1).expect("every description can be drawn")[0].inputs.len(), specs.len());
        Ok(specs)
    }

    /// The kind of the only input.
    fn kind(self) -> SynthKind {
        let mut specs = self.specs(&[]).expect("specs");
        assert_eq!(specs.len(), 1);
        specs.remove(0).kind
    }

    fn shapes(self, given: &[(&str, &[usize])]) -> Vec<Vec<usize>> {
        self.specs(given).expect("specs").into_iter().map(|spec| spec.shape).collect()
    }
}

fn symbol(name: &str) -> Dim {
    Dim::Symbol(name.to_owned())
}

fn fixed(sizes: &[usize]) -> Vec<Dim> {
    sizes.iter().map(|&size| Dim::Known(size)).collect()
}

const NORMAL: fn() -> SynthKind = || SynthKind::Gaussian { mean: vec![0.0], std: vec![1.0], axis: 0 };

#[test]
fn images_are_smooth_and_get_the_usual_size() {
    let mut model = Model::new();
    let x = model.input("image", ElementType::F32, &[symbol("N"), Dim::Known(3), symbol("h"), Dim::Unknown]);
    model.op("Shape", &[x]);
    let y = model.conv(x, 3);
    // What follows the Conv says nothing of the input.
    model.batch_norm(y, &[5.0; 8], &[9.0; 8]);
    let specs = model.specs(&[]).expect("specs");
    assert_eq!(specs[0].shape, [1, 3, 224, 224]);
    assert_eq!(specs[0].kind, SynthKind::Natural { channel_axis: Some(1) });
}

#[test]
fn axes_are_followed_through_a_transpose() {
    let mut model = Model::new();
    let dims = [symbol("N"), symbol("H"), symbol("W"), Dim::Known(5)];
    let x = model.input("image", ElementType::F32, &dims);
    let x = model.op_with("Transpose", vec![Attribute::ints("perm", [0, 3, 1, 2])], &[x]);
    let x = model.op("Identity", &[x]);
    model.conv(x, 5);
    let specs = model.specs(&[]).expect("specs");
    assert_eq!(specs[0].shape, [1, 224, 224, 5]);
    assert_eq!(specs[0].kind, SynthKind::Natural { channel_axis: Some(3) });
}

#[test]
fn an_image_without_a_batch_axis_has_no_batch() {
    let mut model = Model::new();
    let x = model.input("image", ElementType::F32, &[symbol("H"), symbol("W")]);
    let axes = model.constant(Tensor::new(vec![2], vec![0i64, 1]));
    let x = model.op("Unsqueeze", &[x, axes]);
    model.conv(x, 1);
    assert_eq!(model.shapes(&[]), [[224, 224]]);
}

#[test]
fn the_number_of_channels_suggests_an_image() {
    let image = |dims: &[usize]| {
        let mut model = Model::new();
        let x = model.input("x", ElementType::F32, &fixed(dims));
        let shape = model.constant(Tensor::new(vec![2], vec![1i64, -1]));
        model.op("Reshape", &[x, shape]);
        model.kind()
    };
    assert_eq!(image(&[1, 3, 8, 8]), SynthKind::Natural { channel_axis: Some(1) });
    assert_eq!(image(&[1, 8, 8, 4]), SynthKind::Natural { channel_axis: Some(3) });
    assert_eq!(image(&[1, 12, 7, 64]), NORMAL());
}

#[test]
fn bytes_are_an_image_only_where_they_are_read_as_one() {
    let mut model = Model::new();
    let x = model.input("x", ElementType::U8, &fixed(&[1, 3, 8, 8]));
    let x = model.cast(x, ElementType::F32);
    let most = model.floats(&[], &[255.0]);
    let x = model.op("Div", &[x, most]);
    model.conv(x, 3);
    assert_eq!(model.kind(), SynthKind::Natural { channel_axis: Some(1) });

    let mut model = Model::new();
    let x = model.input("x", ElementType::U8, &fixed(&[1, 7]));
    model.cast(x, ElementType::F32);
    assert_eq!(model.kind(), SynthKind::Constant(0.0));
}

#[test]
fn batch_norm_statistics_are_the_inputs_own() {
    let mut model = Model::new();
    let x = model.input("x", ElementType::F32, &fixed(&[1, 2, 50]));
    model.batch_norm(x, &[1.0, -4.0], &[9.0, 0.25]);
    model.op("Relu", &[x]);
    let expected = SynthKind::Gaussian { mean: vec![1.0, -4.0], std: vec![3.0, 0.5], axis: 1 };
    assert_eq!(model.kind(), expected);
}

#[test]
fn arithmetic_before_batch_norm_is_undone() {
    let mut model = Model::new();
    let x = model.input("x", ElementType::F32, &fixed(&[1, 40, 3]));
    // (2 - x) / [1, 2, 4] by channel, then channels to the front.
    let two = model.floats(&[], &[2.0]);
    let x = model.op("Sub", &[two, x]);
    let by = model.floats(&[3], &[1.0, 2.0, 4.0]);
    let x = model.op("Div", &[x, by]);
    let x = model.op_with("Transpose", vec![Attribute::ints("perm", [0, 2, 1])], &[x]);
    model.batch_norm(x, &[1.0, 0.0, -1.0], &[1.0, 4.0, 1.0]);
    let kind = model.kind();
    let SynthKind::Gaussian { mean, std, axis } = kind else { panic!("{kind:?}") };
    // Brute force: forward from the answer.
    let forward = |channel: usize, x: f32| (2.0 - x) / [1.0, 2.0, 4.0][channel];
    for channel in 0..3 {
        assert_eq!(forward(channel, mean[channel]), [1.0, 0.0, -1.0][channel]);
        let spread = forward(channel, mean[channel]) - forward(channel, mean[channel] + std[channel]);
        assert_eq!(spread, [1.0, 2.0, 1.0][channel]);
    }
    assert_eq!(axis, 2);
}

#[test]
fn normalisation_in_the_graph_tells_the_range() {
    let normalised = |has_other_reader: &dyn Fn(&mut Model, ValueId)| {
        let mut model = Model::new();
        let x = model.input("x", ElementType::F32, &fixed(&[1, 3, 8, 8]));
        has_other_reader(&mut model, x);
        let mean = model.floats(&[1, 3, 1, 1], &[100.0, 110.0, 120.0]);
        let x = model.op("Sub", &[x, mean]);
        let scale = model.floats(&[1], &[0.25]);
        let x = model.op("Mul", &[x, scale]);
        model.conv(x, 3);
        model.kind()
    };
    let expected = SynthKind::Gaussian { mean: vec![100.0, 110.0, 120.0], std: vec![4.0; 3], axis: 1 };
    assert_eq!(normalised(&|_, _| {}), expected);
    // Shapes are not read for their elements, but another reader of the elements says that this is a residual of sorts.
    let shape = |model: &mut Model, x| {
        model.op("Shape", &[x]);
    };
    assert_eq!(normalised(&shape), expected);
    let relu = |model: &mut Model, x| {
        model.op("Relu", &[x]);
    };
    assert_eq!(normalised(&relu), SynthKind::Natural { channel_axis: Some(1) });
}

#[test]
fn indices_stay_in_the_smallest_table() {
    let mut model = Model::new();
    let ids = model.input("ids", ElementType::I64, &[symbol("batch"), symbol("seq")]);
    let words = model.weight(&[512, 4]);
    model.op("Gather", &[words, ids]);
    let narrow = model.cast(ids, ElementType::I32);
    let axis = model.constant(Tensor::new(vec![1], vec![1i64]));
    let wide = model.op("Unsqueeze", &[narrow, axis]);
    let fewer = model.weight(&[4, 100]);
    model.op_with("Gather", vec![Attribute::int("axis", -1)], &[fewer, wide]);
    // Comparing for padding does not make it a choice.
    let padding = model.constant(Tensor::scalar(1i64));
    model.op("Equal", &[ids, padding]);
    let specs = model.specs(&[]).expect("specs");
    assert_eq!(specs[0].kind, SynthKind::Uniform { low: 0, high: 100 });
    assert_eq!(specs[0].shape, [1, 32]);
}

#[test]
fn an_offset_moves_the_range_of_indices() {
    let mut model = Model::new();
    let ids = model.input("position_ids", ElementType::I64, &fixed(&[1, 8]));
    let two = model.constant(Tensor::scalar(2i64));
    let moved = model.op("Add", &[two, ids]);
    let table = model.weight(&[10, 4]);
    model.op("Gather", &[table, moved]);
    let kind = model.kind();
    let SynthKind::Uniform { low, high } = kind else { panic!("{kind:?}") };
    let rows: Vec<i64> = (low..high).map(|index| index + 2).collect();
    assert_eq!(rows, (0..10).collect::<Vec<i64>>());
}

#[test]
fn a_table_without_a_known_size_gets_index_0() {
    let mut model = Model::new();
    let ids = model.input("ids", ElementType::I64, &fixed(&[1, 8]));
    let table = model.input("table", ElementType::F32, &[Dim::Unknown, Dim::Known(4)]);
    model.op("Gather", &[table, ids]);
    assert_eq!(model.specs(&[]).expect("specs")[0].kind, SynthKind::Constant(0.0));
}

#[test]
fn compared_integers_are_one_of_the_constants() {
    let mut model = Model::new();
    let rate = model.input("sr", ElementType::I64, &[]);
    for number in [16000i64, 8000, 16000] {
        let number = model.constant(Tensor::scalar(number));
        let number = model.op("Identity", &[number]);
        model.op("Equal", &[number, rate]);
    }
    assert_eq!(model.kind(), SynthKind::OneOf(vec![8000, 16000]));
}

#[test]
fn bodies_are_looked_into() {
    let mut model = Model::new();
    let rate = model.input("sr", ElementType::I64, &[]);
    let condition = model.input("condition", ElementType::Bool, &[]);
    let mut body = Builder::new("then", 17);
    let inner = body.add_value(Value::new("sr", ValueType::Unknown, Origin::Captured(rate)));
    let number = Tensor::scalar(7i64);
    let number = body.add_value(Value::new("seven", ValueType::Unknown, Origin::Constant(number)));
    let is_seven = body.add_value(Value::new("is_seven", ValueType::Unknown, Origin::Produced));
    body.add_op(Op::new("", "Equal", vec![]), &[Some(inner), Some(number)], &[Some(is_seven)]);
    let body = Attribute::new("then_branch", AttributeValue::Graph(Box::new(body.finish())));
    model.op_with("If", vec![body], &[condition]);
    let specs = model.specs(&[]).expect("specs");
    assert_eq!(specs[0].kind, SynthKind::OneOf(vec![7]));
    assert_eq!(specs[1].kind, SynthKind::Constant(1.0));
}

#[test]
fn masks_by_name_and_by_use() {
    let named = {
        let mut model = Model::new();
        let x = model.input("attention_mask", ElementType::I64, &fixed(&[1, 8]));
        let zero = model.constant(Tensor::scalar(0i64));
        model.op("Equal", &[x, zero]);
        model.kind()
    };
    assert_eq!(named, SynthKind::Constant(1.0));
    let mut model = Model::new();
    model.input("masked_image", ElementType::F32, &fixed(&[1, 3, 8, 8]));
    assert_eq!(model.kind(), SynthKind::Natural { channel_axis: Some(1) });

    let added = |one: f32, low: f32| {
        let mut model = Model::new();
        let x = model.input("x", ElementType::I64, &fixed(&[1, 8]));
        let axes = model.constant(Tensor::new(vec![2], vec![1i64, 2]));
        let x = model.op("Unsqueeze", &[x, axes]);
        let x = model.cast(x, ElementType::F32);
        let one = model.floats(&[], &[one]);
        let x = model.op("Sub", &[one, x]);
        let low = model.floats(&[], &[low]);
        model.op("Mul", &[x, low]);
        model.kind()
    };
    assert_eq!(added(1.0, -10000.0), SynthKind::Constant(1.0));
    assert_eq!(added(1.0, f32::MIN), SynthKind::Constant(1.0));
    // Neither hides what it is added to.
    assert_eq!(added(1.0, -2.0), SynthKind::Constant(0.0));
    assert_eq!(added(2.0, -10000.0), SynthKind::Constant(0.0));

    let chosen = |number: i64| {
        let mut model = Model::new();
        let x = model.input("x", ElementType::I32, &fixed(&[1, 8]));
        let number = model.constant(Tensor::scalar(number));
        let hit = model.op("Equal", &[x, number]);
        let hit = model.op("Not", &[hit]);
        let scores = model.weight(&[1, 8]);
        model.op("Where", &[hit, scores, scores]);
        model.kind()
    };
    assert_eq!(chosen(0), SynthKind::Constant(1.0));
    assert_eq!(chosen(5), SynthKind::OneOf(vec![5]));
}

#[test]
fn times_and_other_integers_are_0() {
    let mut model = Model::new();
    let t = model.input("timestep", ElementType::I64, &[symbol("batch")]);
    let t = model.cast(t, ElementType::F32);
    let frequencies = model.floats(&[1, 4], &[1.0, 0.5, 0.25, 0.125]);
    let t = model.op("Mul", &[t, frequencies]);
    model.op("Sin", &[t]);
    assert_eq!(model.kind(), SynthKind::Constant(0.0));
}

#[test]
fn equal_names_are_equal_and_the_users_sizes_win() {
    let model = || {
        let mut model = Model::new();
        model.input("state", ElementType::F32, &[Dim::Known(2), symbol("b"), Dim::Known(64)]);
        model.input("x", ElementType::F32, &[symbol("b"), symbol("past")]);
        model.input("y", ElementType::F32, &[symbol("batch_size"), symbol("past + 1"), symbol("past+step")]);
        model.input("z", ElementType::F32, &[symbol("seq_len"), Dim::Unknown]);
        model
    };
    let shapes: [&[usize]; 4] = [&[2, 1, 64], &[1, 32], &[1, 33, 64], &[32, 32]];
    assert_eq!(model().shapes(&[]), shapes);
    let shapes: [&[usize]; 4] = [&[2, 3, 64], &[3, 10], &[1, 11, 42], &[32, 32]];
    assert_eq!(model().shapes(&[("x", &[3, 10])]), shapes);
    let error = model().specs(&[("x", &[3, 10]), ("state", &[2, 1, 64])]).expect_err("b is 1 and 3");
    assert_eq!(
        error.to_string(),
        "`--input-shape`: dimension `b` can't be both 1 and 3; inputs: `state` float[2, b, 64], `x` float[b, past], \
         `y` float[batch_size, past + 1, past+step], `z` float[seq_len, ?]"
    );
}

#[test]
fn a_recurrent_operator_says_which_axis_is_the_batch() {
    let mut model = Model::new();
    let x = model.input("x", ElementType::F32, &[Dim::Unknown, Dim::Unknown, Dim::Known(4)]);
    let state = model.input("state", ElementType::F32, &[Dim::Known(2), Dim::Unknown, Dim::Known(8)]);
    let first = model.constant(Tensor::scalar(0i64));
    let h = model.op("Gather", &[state, first]);
    let axes = model.constant(Tensor::new(vec![1], vec![0i64]));
    let h = model.op("Unsqueeze", &[h, axes]);
    let (w, r) = (model.weight(&[1, 24, 4]), model.weight(&[1, 24, 8]));
    let lengths = model.input("lengths", ElementType::I32, &[symbol("N")]);
    let bias = model.weight(&[1, 48]);
    model.op("GRU", &[x, w, r, bias, lengths, h]);
    let shapes: [&[usize]; 3] = [&[32, 1, 4], &[2, 1, 8], &[1]];
    assert_eq!(model.shapes(&[]), shapes);
}

#[test]
fn shapes_that_do_not_fit_are_refused() {
    let message = |shapes: &[(&str, &[usize])]| {
        let mut model = Model::new();
        model.input("x", ElementType::F32, &[symbol("N"), Dim::Known(3)]);
        model.specs(shapes).expect_err("refused").to_string()
    };
    assert_eq!(message(&[("X", &[1, 3])]), "`--input-shape`: no input `X` needs data; those that do: `x` float[N, 3]");
    assert_eq!(message(&[("x", &[1, 3, 1])]), "`--input-shape`: `x` has 2 dimensions, not 3; inputs: `x` float[N, 3]");
    assert_eq!(message(&[("x", &[1, 4])]), "`--input-shape`: dimension 1 of `x` is 3, not 4; inputs: `x` float[N, 3]");
}

#[test]
fn an_unknown_rank_needs_the_user() {
    let model = || {
        let mut model = Model::new();
        let x = model.declare("x", ValueType::Tensor(TensorType { element: ElementType::F32, shape: None }));
        model.conv(x, 3);
        model
    };
    let message = model().specs(&[]).expect_err("no rank").to_string();
    assert!(message.contains("input `x`") && message.contains("--input-shape x="), "{message}");
    let specs = model().specs(&[("x", &[2, 3, 8, 8])]).expect("specs");
    assert_eq!((&*specs[0].shape, &specs[0].kind), (&[2, 3, 8, 8][..], &SynthKind::Natural { channel_axis: Some(1) }));

    let mut model = Model::new();
    model.declare("s", ValueType::Other(Carried::default()));
    assert_eq!(model.specs(&[]).expect_err("no tensor"), SynthesisError::NotTensor { input: "s".to_owned() });
}

#[test]
fn inputs_with_defaults_are_left_alone() {
    let mut model = Model::new();
    let value_type = ValueType::Tensor(TensorType::fixed(ElementType::F32, &[]));
    let origin = Origin::Input(Some(Tensor::scalar(1f32)));
    let value = model.builder.add_value(Value::new("x", value_type.clone(), origin));
    model.builder.declare_input(Declared { value, value_type, carried: Carried::default() });
    assert_eq!(model.specs(&[]), Ok(vec![]));
}

#[test]
fn input_shapes_are_read() {
    let ok = |name: &str, shape: &[usize]| Ok((name.to_owned(), shape.to_vec()));
    assert_eq!(parse_input_shape("x=1,3,640,640"), ok("x", &[1, 3, 640, 640]));
    assert_eq!(parse_input_shape("x:1x3x640x640"), ok("x", &[1, 3, 640, 640]));
    assert_eq!(parse_input_shape("x=1x3"), ok("x", &[1, 3]));
    assert_eq!(parse_input_shape("input:0=1,3"), ok("input:0", &[1, 3]));
    assert_eq!(parse_input_shape("a=b:2"), ok("a=b", &[2]));
    assert_eq!(parse_input_shape("x= 1, 3 "), ok("x", &[1, 3]));
    assert_eq!(parse_input_shape("x="), ok("x", &[]));
    for wrong in ["", "x", "=1", "x=1,,3", "x=1,3x4", "x=-1,3", "x=0,3", "x=1,N", "input:0", "x=99999999999999999999"] {
        let message = parse_input_shape(wrong).expect_err(wrong).to_string();
        assert!(message.contains(&format!("`--input-shape {wrong}`")), "{message}");
    }
}
