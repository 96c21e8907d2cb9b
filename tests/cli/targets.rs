//! What is written for each target keeps the rules of that runtime, and computes what the simulation computed.

use onnxq::onnx::{WriteOptions, read, write};
use onnxq::samples::Samples;
use onnxq_engine::Tract;
use onnxq_ir::ops::{Direction, QuantizeLinear};
use onnxq_ir::{ElementType, Graph, OpId, Tensor, ValueId};
use onnxq_plan::Evaluator as _;

use crate::arrays::{floats, npz, read_floats};
use crate::oracle::Oracle;
use crate::simulation::{Distance, inputs, options, quantize_for, simulate};
use crate::tool::{Folder, shipped, tell};

const MODELS: [&str; 2] = ["deit_fmnist", "cnn_bn"];

/// All that is computed stays in codes: the search for what the output can't bear is a matter of its own.
const ALL: &str = "--min-sqnr off --min-node-sqnr off";

/// The graph that is written for a target.
struct Written {
    model: String,
    graph: Graph,
}

impl Written {
    fn new(folder: &Folder, model: &str, options: &str) -> Self {
        let out = folder.path("out.onnx");
        folder.run(&format!("{model}.onnx out.onnx --calib calib.npz --samples 16 --quiet {ALL} {options}")).done();
        let mut written = read(&out).expect("a sound model");
        for known in Tract.infer(&written).expect("it loads") {
            written.graph.set_type(known.value, known.tensor_type);
        }
        Self { model: model.to_owned(), graph: written.graph }
    }

    fn ops(&self, op_type: &str) -> Vec<OpId> {
        self.graph.op_ids().filter(|&op| self.graph.op(op).is(op_type)).collect()
    }

    fn conversions(&self, direction: Direction) -> Vec<QuantizeLinear> {
        let all = self.graph.op_ids().filter_map(|op| QuantizeLinear::at(&self.graph, op));
        all.filter(|it| it.direction == direction).collect()
    }

    /// What turns activations into codes.
    fn quantizers(&self) -> Vec<QuantizeLinear> {
        self.conversions(Direction::Quantize)
    }

    /// What stands for constants in codes.
    fn constants(&self) -> Vec<QuantizeLinear> {
        let all = self.conversions(Direction::Dequantize);
        all.into_iter().filter(|it| self.graph.constant(it.x).is_some()).collect()
    }

    fn tensor(&self, value: ValueId) -> &Tensor {
        self.graph.constant(value).expect("a constant")
    }

    fn zero_point(&self, it: &QuantizeLinear) -> &Tensor {
        self.tensor(it.zero_point.expect("every zero point is written"))
    }

    /// The DequantizeLinear that writes what an operator reads.
    fn dequantizer(&self, op: OpId, slot: usize) -> Option<QuantizeLinear> {
        let (writer, _) = self.graph.producer(self.graph.input(op, slot)?)?;
        QuantizeLinear::at(&self.graph, writer).filter(|it| it.direction == Direction::Dequantize)
    }

    /// Whether all that reads a value turns it into codes.
    fn is_quantized(&self, value: ValueId) -> bool {
        let readers = self.graph.readers(value);
        let quantizes = |op| QuantizeLinear::at(&self.graph, op).is_some_and(|it| it.direction == Direction::Quantize);
        !readers.is_empty() && readers.iter().all(|reader| quantizes(reader.op))
    }

    /// Whether any reader of what an operator writes turns it into codes.
    fn has_quantized_output(&self, op: OpId) -> bool {
        let output = self.graph.output(op, 0).expect("an output");
        self.graph.readers(output).iter().any(|reader| self.graph.op(reader.op).is("QuantizeLinear"))
    }

    /// Products and convolutions with a weight, float or in codes.
    fn weighted(&self) -> Vec<OpId> {
        let all = ["Conv", "ConvTranspose", "Gemm", "MatMul"].map(|op_type| self.ops(op_type)).concat();
        let is_weighted = |&op: &OpId| self.weight(op).is_some();
        all.into_iter().filter(is_weighted).collect()
    }

    /// The constant, or the codes, in slot 1.
    fn weight(&self, op: OpId) -> Option<&Tensor> {
        let value = self.graph.input(op, 1)?;
        let codes = self.dequantizer(op, 1).and_then(|it| self.graph.constant(it.x));
        self.graph.constant(value).or(codes)
    }

    fn name(&self, op: OpId) -> &str {
        self.graph.op(op).name()
    }
}

/// Runs a check on what is written of each model.
fn each(target: &str, check: impl Fn(&Written)) {
    let folder = Folder::with(target, &["deit_fmnist.onnx", "cnn_bn.onnx", "calib.npz"]);
    for model in MODELS {
        let written = Written::new(&folder, model, &format!("--target {target}"));
        tell(&format!("{target}, {model}: {} quantizers", written.quantizers().len()));
        check(&written);
    }
}

/// Weights are s8 with zero points of 0 and a scale per channel; biases are int32 or float.
fn check_weights(written: &Written, bias: ElementType) {
    for it in written.constants() {
        let codes = written.tensor(it.x);
        if codes.element() == ElementType::I32 {
            assert_eq!(bias, ElementType::I32, "a bias is float");
            continue;
        }
        assert_eq!(codes.element(), ElementType::I8);
        assert!(written.zero_point(&it).bytes().iter().all(|&code| code == 0));
        let scales = written.tensor(it.scale).shape();
        assert_eq!(scales, [codes.shape()[usize::try_from(it.axis).expect("from the front")]]);
    }
    for op in written.weighted().into_iter().filter(|&op| written.dequantizer(op, 1).is_some()) {
        let bias = if bias == ElementType::I32 {
            written.dequantizer(op, 2).map(|it| it.x)
        } else {
            written.graph.input(op, 2)
        };
        assert!(bias.is_none_or(|bias| written.graph.constant(bias).is_some()), "{}", written.name(op));
    }
}

/// Activations have this type and, where they are symmetric, this zero point.
fn check_activations(written: &Written, element: ElementType, symmetric: Option<u8>) {
    let quantizers = written.quantizers();
    assert!(!quantizers.is_empty());
    for it in quantizers {
        let zero_point = written.zero_point(&it);
        assert_eq!((zero_point.element(), zero_point.rank()), (element, 0));
        assert!(symmetric.is_none_or(|code| zero_point.bytes() == [code]));
        assert_eq!(written.tensor(it.scale).rank(), 0);
        let codes = written.graph.output(it.op, 0).expect("codes");
        let readers = written.graph.readers(codes);
        assert!(readers.iter().all(|reader| written.graph.op(reader.op).is("DequantizeLinear")), "a Q without DQ");
    }
}

/// The weights of all operators that have one are codes, but for those of which this is said.
fn check_coverage(written: &Written, is_float: impl Fn(OpId) -> bool) {
    for op in written.weighted() {
        assert_eq!(written.dequantizer(op, 1).is_none(), is_float(op), "{}", written.name(op));
        assert_eq!(written.dequantizer(op, 0).is_none(), is_float(op), "{}", written.name(op));
    }
}

/// The patches of the transformer.
fn is_patches(written: &Written, op: OpId) -> bool {
    written.graph.op(op).is("Conv") && written.weight(op).is_some_and(|weight| weight.shape()[2..] == [4, 4])
}

#[test]
fn without_vnni() {
    each("ort-cpu-novnni", |written| {
        check_activations(written, ElementType::U8, None);
        check_weights(written, ElementType::I32);
        for it in written.constants() {
            let codes = written.tensor(it.x);
            let largest = codes.bytes().iter().map(|code| code.cast_signed().unsigned_abs()).max();
            assert!(codes.element() != ElementType::I8 || largest == Some(63), "{largest:?}");
        }
    });
}

#[test]
fn arm() {
    each("ort-arm", |written| {
        check_activations(written, ElementType::I8, None);
        check_weights(written, ElementType::I32);
        assert!(
            written.ops("Conv").into_iter().all(|op| is_patches(written, op) || written.dequantizer(op, 0).is_some())
        );
    });
}

#[test]
fn tensorrt() {
    each("tensorrt", |written| {
        assert!(written.graph.opset() <= 25);
        check_activations(written, ElementType::I8, Some(0));
        check_weights(written, ElementType::F32);
        let is_small =
            |op| written.weight(op).is_some_and(|w| w.rank() == 2 && w.shape().iter().any(|&size| size < 16));
        check_coverage(written, |op| is_small(op) || is_patches(written, op));
        // Pairs stand in front of products, convolutions and residual additions, and of nothing else.
        for it in written.conversions(Direction::Dequantize) {
            let output = written.graph.output(it.op, 0).expect("an output");
            for reader in written.graph.readers(output) {
                let op = written.graph.op(reader.op);
                assert!(
                    ["Conv", "ConvTranspose", "Gemm", "MatMul", "Add"].iter().any(|name| op.is(name)),
                    "{}",
                    op.name()
                );
            }
        }
        let sides = |add: OpId| [0, 1].map(|slot| written.dequantizer(add, slot).is_some());
        let mut residual = 0;
        for add in written.ops("Add") {
            let straight = [0, 1].map(|slot| {
                let writer = written.graph.input(add, slot).and_then(|value| written.graph.producer(value));
                writer.is_some_and(|(op, _)| written.graph.op(op).is("Conv"))
            });
            match sides(add) {
                [true, true] => panic!("both sides of `{}` are codes", written.name(add)),
                [false, false] => assert_eq!(straight, [false, false], "{}", written.name(add)),
                [first, _] => {
                    assert!(straight[usize::from(first)], "{}", written.name(add));
                    residual += 1;
                }
            }
        }
        assert_eq!(residual > 0, written.model == "cnn_bn", "the CNN has residual additions");
    });
}

#[test]
fn openvino() {
    each("openvino", |written| {
        check_activations(written, ElementType::U8, None);
        check_weights(written, ElementType::F32);
        check_coverage(written, |_| false);
        assert!(written.ops("DynamicQuantizeLinear").is_empty());
        for op in written.ops("MatMul") {
            assert_eq!(written.weight(op).is_some(), written.dequantizer(op, 0).is_some(), "{}", written.name(op));
        }
        for conv in written.ops("Conv").into_iter().filter(|&conv| written.has_quantized_output(conv)) {
            assert!(!is_patches(written, conv), "the patches have a quantized output");
        }
    });
}

#[test]
fn float_activations() {
    for target in ["ort-cuda", "tract"] {
        each_weight_only(target);
    }
}

fn each_weight_only(target: &str) {
    each(target, |written| {
        assert!(written.quantizers().is_empty());
        check_weights(written, ElementType::F32);
        assert!(written.weighted().into_iter().all(|op| written.dequantizer(op, 1).is_some()));
    });
    let folder = Folder::with(&format!("{target}-bits"), &["cnn_bn.onnx"]);
    let said = folder.run(&format!("cnn_bn.onnx out.onnx --target {target}")).done().stderr;
    let expected = format!("activations stay float on target `{target}`: only weights are quantized (w8)");
    assert_eq!(said.matches(&expected).count(), 1, "{said}");
    let asked = folder.run(&format!("cnn_bn.onnx out.onnx --target {target} --bits w8a8"));
    assert_eq!(asked.code, Some(2));
    assert!(asked.stderr.contains("has no 8-bit activations"), "{}", asked.stderr);
    assert_eq!(asked.stderr.trim_end().lines().count(), 1, "{}", asked.stderr);
}

/// Operators that compute with floats, which a runtime for whole graphs must get codes for.
const COMPUTES: [&str; 20] = [
    "Conv",
    "Gemm",
    "MatMul",
    "Add",
    "Sub",
    "Mul",
    "Div",
    "Softmax",
    "LayerNormalization",
    "Gelu",
    "Concat",
    "MaxPool",
    "GlobalAveragePool",
    "Relu",
    "Reshape",
    "Transpose",
    "Flatten",
    "Slice",
    "Gather",
    "ReduceMean",
];

#[test]
fn qnn() {
    each("qnn", |written| {
        check_activations(written, ElementType::U8, None);
        check_whole(written);
    });
}

#[test]
fn qnn_with_16_bits() {
    let folder = Folder::with("qnn-16", &["deit_fmnist.onnx", "calib.npz"]);
    let written = Written::new(&folder, "deit_fmnist", "--target qnn --bits w8a16");
    assert_eq!(written.graph.opset(), 21);
    check_activations(&written, ElementType::U16, None);
    check_whole(&written);
}

fn check_whole(written: &Written) {
    let graph = &written.graph;
    for input in graph.inputs() {
        assert!(written.is_quantized(input.value), "an input is float");
    }
    for output in graph.outputs() {
        let (writer, _) = graph.producer(output.value).expect("a writer");
        assert!(graph.op(writer).is("DequantizeLinear"), "an output is float");
    }
    let is_activation = |op: OpId| graph.op(op).is("Relu") || graph.op(op).is("Clip");
    // A GELU is one operator, with nothing quantized inside.
    let inside = inside_gelu(written);
    let mut checked = 0;
    for op in COMPUTES.iter().flat_map(|name| written.ops(name)) {
        let known = graph.tensor_type(graph.input(op, 0).expect("an input")).expect("its type is known");
        if inside.contains(&op) || known.element != ElementType::F32 {
            continue;
        }
        let output = graph.output(op, 0).expect("an output");
        let is_absorbed = graph.readers(output).iter().all(|reader| is_activation(reader.op));
        let swallows = is_activation(op) && written.dequantizer(op, 0).is_none();
        assert!(is_absorbed || written.is_quantized(output), "`{}` writes floats", written.name(op));
        assert!(swallows || written.dequantizer(op, 0).is_some(), "`{}` reads floats", written.name(op));
        let binary = ["Add", "Sub", "Mul", "Div", "MatMul", "Conv", "Gemm", "LayerNormalization"];
        if binary.iter().any(|name| graph.op(op).is(name)) {
            assert!(written.dequantizer(op, 1).is_some(), "`{}` reads floats on the right", written.name(op));
        }
        if ["Conv", "Gemm", "LayerNormalization"].iter().any(|name| graph.op(op).is(name))
            && graph.input(op, 2).is_some()
        {
            let bias = written.dequantizer(op, 2).expect("a bias in codes");
            assert_eq!(written.tensor(bias.x).element(), ElementType::I32);
        }
        check_granularity(written, op);
        check_moved(written, op, output);
        checked += 1;
    }
    assert!(checked > 20, "{checked}");
}

/// A scale per channel for convolutions, one for all else.
fn check_granularity(written: &Written, op: OpId) {
    let Some(weight) = written.dequantizer(op, 1).filter(|it| written.graph.constant(it.x).is_some()) else { return };
    let rank = usize::from(written.graph.op(op).is("Conv"));
    assert_eq!(written.tensor(weight.scale).rank(), rank, "{}", written.name(op));
}

/// What only moves codes has one quantizer on both sides.
fn check_moved(written: &Written, op: OpId, output: ValueId) {
    let moves = ["Reshape", "Transpose", "Flatten", "Slice", "Gather", "MaxPool"];
    if !moves.iter().any(|name| written.graph.op(op).is(name)) {
        return;
    }
    let before = written.dequantizer(op, 0).expect("checked");
    for reader in written.graph.readers(output) {
        let behind = QuantizeLinear::at(&written.graph, reader.op).expect("checked");
        assert_eq!(written.tensor(before.scale), written.tensor(behind.scale), "{}", written.name(op));
        assert_eq!(written.zero_point(&before), written.zero_point(&behind), "{}", written.name(op));
    }
}

/// The operators between what a GELU reads and what it writes: those around an Erf.
fn inside_gelu(written: &Written) -> Vec<OpId> {
    let graph = &written.graph;
    let mut inside = Vec::new();
    for erf in written.ops("Erf") {
        let mut at = graph.producer(graph.input(erf, 0).expect("an input")).map(|(op, _)| op);
        while let Some(op) = at.filter(|&op| !graph.op(op).is("DequantizeLinear")) {
            inside.push(op);
            at = graph.producer(graph.input(op, 0).expect("an input")).map(|(op, _)| op);
        }
        let mut next = Some(erf);
        while let Some(op) = next.filter(|&op| !graph.op(op).is("QuantizeLinear")) {
            inside.push(op);
            next = graph.readers(graph.output(op, 0).expect("an output")).first().map(|reader| reader.op);
        }
    }
    inside
}

/// OpenVINO computes what the simulation computes, in integers.
#[test]
fn openvino_agrees_with_the_simulation() {
    let Some(oracle) = Oracle::find().filter(|oracle| oracle.has("openvino")) else { return };
    let folder = Folder::new("openvino-runs");
    for (model, least) in [("deit_fmnist", 30.0), ("cnn_bn", 30.0)] {
        let path = shipped().join(model).with_extension("onnx");
        let done = quantize_for("openvino", &path, &shipped().join("calib.npz"), ("int8", "w8a8"), None);
        write(&done.model, &folder.path("out.onnx"), &WriteOptions::default()).expect("written");
        let samples = Samples::open(&done.model.graph, &options(shipped().join("test.npz"), 200)).expect("sound data");
        let (shape, elements) = inputs(&done.model, &samples);
        folder.write("data.npz", npz(&[("image", floats(&shape, &elements))]));
        let paths = ["out.onnx", "data.npz", "there.npz"].map(|name| folder.path(name).display().to_string());
        let answer = oracle.ask(&["openvino", &paths[0], &paths[1], &paths[2]]);
        let there = read_floats(&folder.path("there.npz"), "logits").1;
        let simulated = simulate(&done, &["logits"], &samples).remove(0);
        let distance = Distance::between(&there, &simulated, samples.len());
        tell(&format!(
            "{model}: OpenVINO and simulation {:.1} dB apart; computed {}",
            distance.sqnr_db, answer["computed"]
        ));
        assert!(distance.sqnr_db >= least, "{model}: {} dB", distance.sqnr_db);
        let integer = |kind: &str| answer["computed"][kind]["u8"].as_u64().unwrap_or(0);
        let planned: usize = done.plan.operator_counts().values().sum();
        assert_eq!(integer("FullyConnected") + integer("Convolution"), planned as u64, "{model}");
    }
}

/// Our own engine on the written file gives the quality that the summary promises, whatever the target.
#[test]
fn written_files_have_the_quality_of_the_summary() {
    let folder = Folder::with("tract-runs", &["deit_fmnist.onnx", "cnn_bn.onnx", "calib.npz", "test.npz"]);
    let targets = folder.run("targets").done().stdout;
    for target in targets.lines().filter_map(|line| line.split_whitespace().next()) {
        for model in MODELS {
            let words = format!(
                "{model}.onnx out.onnx --calib calib.npz --samples 16 --eval test.npz --json {ALL} --target {target}"
            );
            let promised = folder.run(&words).done().json()["quality"]["sqnr_db"].as_f64().expect("a number");
            let compared = folder.run(&format!("compare {model}.onnx out.onnx --calib test.npz --json")).done().json();
            let found = compared["sqnr_db"].as_f64().expect("a number");
            tell(&format!("{target}, {model}: {promised:.2} dB promised, {found:.2} dB found"));
            assert!((promised - found).abs() < 0.3, "{target}, {model}: {promised} promised, {found} found");
        }
    }
}
