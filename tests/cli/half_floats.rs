//! Models of float16 and bfloat16, whole or in part: what is quantized computes in integers, all else stays what it is.

use std::collections::{BTreeMap, BTreeSet};

use onnxq::lint::kernels::Kernels;
use onnxq::lint::optimized::Taken;
use onnxq::onnx::read;
use onnxq_engine::Tract;
use onnxq_ir::ElementType::{self, BF16, F16, F32};
use onnxq_ir::ops::QuantizeLinear;
use onnxq_ir::{Graph, Model, Tensor};
use onnxq_plan::Evaluator as _;

use crate::arrays::{floats, npz};
use crate::models::{halves, save};
use crate::oracle::Oracle;
use crate::tool::Folder;

/// Two products with bias and activation.
fn products(element: ElementType) -> String {
    let name = element.name();
    format!(
        r#"<ir_version: 8, opset_import: ["" : 17]>
products ({name}[N, 64] x) => ({name}[N, 64] y)
< {}, {}, {}, {} >
{{
  [first] p = MatMul (x, w)
  [first_bias] a = Add (p, b)
  [activation] r = Relu (a)
  [second] q = MatMul (r, v)
  [second_bias] y = Add (q, c)
}}"#,
        halves(element, "w", &[64, 128], 0.3),
        halves(element, "b", &[128], 0.5),
        halves(element, "v", &[128, 64], 0.2),
        halves(element, "c", &[64], 0.5),
    )
}

/// Two convolutions with BatchNormalization, a residual, pools and a classifier.
fn convolutions() -> String {
    let channels = |name: &str, size| halves(F16, name, &[32], size);
    format!(
        r#"<ir_version: 8, opset_import: ["" : 17]>
convolutions (float16[N, 16, 12, 12] x) => (float16[N, 10] y)
< {}, {}, {}, {}, {}, float16[32] var = {{{}}}, {}, {} >
{{
  [stem] c0 = Conv <pads = [1, 1, 1, 1]> (x, w0)
  [norm] n0 = BatchNormalization (c0, gamma, beta, mean, var)
  [relu] r0 = Relu (n0)
  [body] c1 = Conv <pads = [1, 1, 1, 1]> (r0, w1)
  [sum] s = Add (c1, r0)
  [relu_1] r1 = Relu (s)
  [pool] p = MaxPool <kernel_shape = [2, 2], strides = [2, 2]> (r1)
  [mean_pool] g = GlobalAveragePool (p)
  [flat] f = Flatten (g)
  [head] y = Gemm <transB = 1> (f, fc, fb)
}}"#,
        halves(F16, "w0", &[32, 16, 3, 3], 0.2),
        halves(F16, "w1", &[32, 32, 3, 3], 0.1),
        channels("gamma", 0.9),
        channels("beta", 0.3),
        channels("mean", 0.2),
        vec!["15360"; 32].join(", "),
        halves(F16, "fc", &[10, 32], 0.5),
        halves(F16, "fb", &[10], 0.5),
    )
}

/// A float16 body whose LayerNormalization computes in float32 between Casts; the input and the output are float32.
fn island() -> String {
    let ones = vec!["1"; 64].join(", ");
    format!(
        r#"<ir_version: 8, opset_import: ["" : 17]>
island (float[N, 8, 64] x) => (float[N, 8, 64] y)
< {}, {}, {}, {}, float[64] scale = {{{ones}}} >
{{
  [in] h = Cast <to = 10> (x)
  [up] u = MatMul (h, w)
  [up_bias] a = Add (u, b)
  [gate] s = Sigmoid (a)
  [down] d = MatMul (s, v)
  [down_bias] e = Add (d, c)
  [sum] r = Add (e, h)
  [wide] r32 = Cast <to = 1> (r)
  [norm] n = LayerNormalization <axis = -1> (r32, scale)
  [narrow] n16 = Cast <to = 10> (n)
  [last] o = MatMul (n16, w)
  [out] y32 = Cast <to = 1> (o)
  [pick] y = Slice (y32, starts, ends, axes)
}}"#,
        halves(F16, "w", &[64, 128], 0.3),
        halves(F16, "b", &[128], 0.5),
        halves(F16, "v", &[128, 64], 0.2),
        halves(F16, "c", &[64], 0.5),
    )
    .replace("float[64] scale", "int64[1] starts = {0}, int64[1] ends = {64}, int64[1] axes = {2}, float[64] scale")
}

/// Sixteen samples of an input `x`.
fn data(shape: &[usize]) -> Vec<u8> {
    let shape: Vec<usize> = [&[16], shape].concat();
    let count = shape.iter().product();
    let noise: Vec<f32> = (0..count).map(|i: usize| ((i * 7919 % 10007) as f32 - 5003.0) / 3000.0).collect();
    npz(&[("x", floats(&shape, &noise))])
}

/// A model of this file, quantized.
struct Quantized {
    folder: Folder,
    report: serde_json::Value,
    before: Model,
    after: Model,
}

impl Quantized {
    fn new(test: &str, text: &str, shape: &[usize], options: &str) -> Self {
        let folder = Folder::new(&format!("half-{test}"));
        save(text, &folder.path("in.onnx"));
        folder.write("x.npz", data(shape));
        let report = folder.run(&format!("in.onnx out.onnx --calib x.npz --json {options}")).done().json();
        let [before, after] = ["in.onnx", "out.onnx"].map(|name| read(&folder.path(name)).expect("a model"));
        Self { folder, report, before, after }
    }

    /// Inputs and outputs have the types they had, and what reads them is none the wiser.
    fn keeps_types(&self) -> &Self {
        let types = |graph: &Graph| -> Vec<_> {
            let all = graph.inputs().iter().chain(graph.outputs());
            all.map(|it| (graph.value(it.value).name().to_owned(), it.value_type.clone())).collect()
        };
        assert_eq!(types(&self.before.graph), types(&self.after.graph));
        self
    }

    /// Checker and runtime take the file, and what it computes is at least this near to the float model in the runtime.
    fn is_near(&self, oracle: &Oracle, least: f64) -> &Self {
        oracle.check(&[&self.folder.path("out.onnx")]);
        self.computes(oracle, &["none", "all"], least)
    }

    /// What the file computes is at least this near to the float model.
    fn computes(&self, oracle: &Oracle, optimizations: &[&str], least: f64) -> &Self {
        let [float, quantized, data] = ["in.onnx", "out.onnx", "x.npz"].map(|name| self.path(name));
        for optimization in optimizations {
            let answer = oracle.ask(&["top1", &quantized, &data, "--against", &float, "--opt", optimization]);
            let sqnr = answer["against"]["mean_sqnr_db"].as_f64().expect("a number");
            assert!(sqnr >= least, "optimization {optimization}: {sqnr} dB, at least {least} are asked for");
        }
        self
    }

    /// The file has at most so many hundredths of the bytes it had.
    fn is_smaller(&self, percent: f64) -> &Self {
        let size = |when: &str| self.report["sizes"][when].as_f64().expect("a size");
        let now = 100.0 * size("after") / size("before");
        assert!(now <= percent, "{now} %");
        self
    }

    /// The runtime's graph has these integer kernels, as predicted.
    fn runs(&self, oracle: &Oracle, kernels: &[(&str, usize)]) -> &Self {
        oracle.ask(&["optimize", &self.path("out.onnx"), &self.path("opt.onnx")]);
        let optimized = read(&self.folder.path("opt.onnx")).expect("a model");
        let rules = Kernels::of(&onnxq::target::load("ort-cpu").expect("a target")).expect("its kernels");
        let taken = Taken::of(&optimized, &rules);
        let wanted: BTreeMap<String, usize> =
            kernels.iter().map(|(name, count)| ((*name).to_owned(), *count)).collect();
        assert_eq!(taken.kernels, wanted);
        assert_eq!(taken.stranded.total(), 0, "{:?}", taken.running);
        assert_eq!(self.report["lint"]["kernels"], serde_json::to_value(wanted).expect("JSON"), "as predicted");
        self
    }

    /// The types of scales, each once.
    fn scales(&self) -> Vec<ElementType> {
        let graph = &self.after.graph;
        let scale = |op| graph.constant(QuantizeLinear::at(graph, op)?.scale);
        let types: BTreeSet<ElementType> = graph.op_ids().filter_map(scale).map(Tensor::element).collect();
        types.into_iter().collect()
    }

    fn path(&self, name: &str) -> String {
        self.folder.path(name).to_str().expect("UTF-8").to_owned()
    }

    /// The types of what operators of this kind write, as they were inferred.
    fn written_by(&self, op_type: &str) -> Vec<ElementType> {
        let mut graph = self.after.graph.clone();
        for known in Tract.infer(&self.after).expect("it loads") {
            graph.set_type(known.value, known.tensor_type);
        }
        let ops = graph.op_ids().filter(|&op| graph.op(op).is(op_type));
        ops.filter_map(|op| Some(graph.tensor_type(graph.output(op, 0)?)?.element)).collect()
    }
}

#[test]
fn products_of_float16() {
    let Some(oracle) = Oracle::find() else { return };
    let quantized = Quantized::new("products", &products(F16), &[64], "");
    quantized.keeps_types().is_smaller(65.0).is_near(&oracle, 30.0).runs(&oracle, &[("QGemm", 2)]);
    assert_eq!(quantized.written_by("Relu"), [F16], "what stays float keeps its type");
    assert_eq!(quantized.written_by("MatMul"), [F32; 2]);
}

#[test]
fn a_chain_of_float16_has_no_cast_within() {
    let Some(oracle) = Oracle::find() else { return };
    let quantized = Quantized::new("chain", &convolutions(), &[16, 12, 12], "");
    let kernels = [("QGemm", 1), ("QLinearAdd", 1), ("QLinearConv", 2), ("QLinearGlobalAveragePool", 1)];
    quantized.keeps_types().is_smaller(65.0).is_near(&oracle, 25.0).runs(&oracle, &kernels);
    assert_eq!(quantized.written_by("Cast"), [F32, F16], "one in front, one behind");
}

#[test]
fn islands_of_float32_stay() {
    let Some(oracle) = Oracle::find() else { return };
    let quantized = Quantized::new("island", &island(), &[8, 64], "");
    quantized.keeps_types().is_smaller(65.0).is_near(&oracle, 25.0).runs(&oracle, &[("MatMulIntegerToFloat", 3)]);
    assert_eq!(quantized.written_by("LayerNormalization"), [F32]);
    assert_eq!(quantized.written_by("Sigmoid"), [F16]);
}

/// float32 but for what the file holds: weights behind a Cast, one of them transposed, and a table that stays float.
fn stored(element: ElementType) -> String {
    format!(
        r#"<ir_version: 8, opset_import: ["" : 17]>
stored (float[N, 64] x) => (float[N, 64] y)
< {}, {}, {}, {} >
{{
  w32 = Cast <to = 1> (w)
  b32 = Cast <to = 1> (b)
  v32 = Cast <to = 1> (v)
  vt = Transpose <perm = [1, 0]> (v32)
  t32 = Cast <to = 1> (table)
  [first] p = MatMul (x, w32)
  [first_bias] a = Add (p, b32)
  [factor] f = Mul (a, t32)
  [second] y = MatMul (f, vt)
}}"#,
        halves(element, "w", &[64, 128], 0.3),
        halves(element, "b", &[128], 0.5),
        halves(element, "v", &[64, 128], 0.2),
        halves(element, "table", &[1, 128], 2.0),
    )
}

#[test]
fn weights_held_in_16_bits_are_weights() {
    let Some(oracle) = Oracle::find() else { return };
    for element in [F16, BF16] {
        let quantized = Quantized::new(&format!("stored-{}", element.name()), &stored(element), &[64], "");
        quantized.keeps_types().is_smaller(65.0).is_near(&oracle, 30.0);
        quantized.runs(&oracle, &[("MatMulIntegerToFloat", 1), ("QGemm", 1)]);
        let held = quantized.after.graph.values().filter_map(|value| quantized.after.graph.constant(value));
        assert_eq!(held.filter(|tensor| tensor.element() == element).count(), 1, "the table is held as it was");
        // What is left float is held as it was too.
        let excluded = "--exclude second --exclude first --allow-noop";
        let float = Quantized::new(&format!("stored-float-{}", element.name()), &stored(element), &[64], excluded);
        float.is_smaller(104.0).is_near(&oracle, 60.0);
    }
}

#[test]
fn weights_alone() {
    let Some(oracle) = Oracle::find() else { return };
    for (bits, percent, least) in [("w8", 60.0, 35.0), ("w4 --storage native", 40.0, 10.0)] {
        let quantized = Quantized::new("weights", &products(F16), &[64], &format!("--bits {bits}"));
        quantized.keeps_types().is_smaller(percent).is_near(&oracle, least).runs(&oracle, &[("MatMulNBits", 2)]);
    }
}

#[test]
fn bfloat16_is_computed_by_onnx_alone() {
    let Some(oracle) = Oracle::find() else { return };
    for target in ["ort-cpu", "tensorrt"] {
        let text = products(BF16).replace("17]", "22]").replace("ir_version: 8", "ir_version: 10");
        let quantized = Quantized::new(&format!("brain-{target}"), &text, &[64], &format!("--target {target}"));
        quantized.keeps_types().is_smaller(65.0).computes(&oracle, &["reference"], 25.0);
        assert_eq!(quantized.written_by("Relu"), [BF16]);
    }
}

#[test]
fn every_target_takes_float16() {
    let Some(oracle) = Oracle::find() else { return };
    for target in ["generic", "ort-cpu-novnni", "ort-arm", "ort-cuda", "tensorrt", "openvino", "qnn", "tract"] {
        let options = format!("--target {target} --calibrator minmax --min-sqnr off --min-node-sqnr off");
        let quantized = Quantized::new(&format!("for-{target}"), &convolutions(), &[16, 12, 12], &options);
        quantized.keeps_types().is_near(&oracle, 25.0);
        let is_kept = matches!(target, "ort-cuda" | "tensorrt");
        assert_eq!(quantized.scales(), [if is_kept { F16 } else { F32 }], "{target}");
    }
}

#[test]
fn inputs_and_outputs_of_float16_become_codes() {
    let Some(oracle) = Oracle::find() else { return };
    let quantized = Quantized::new("codes", &convolutions(), &[16, 12, 12], "--io quantized");
    oracle.check(&[&quantized.folder.path("out.onnx")]);
    let graph = &quantized.after.graph;
    let types = graph.inputs().iter().chain(graph.outputs()).filter_map(|it| Some(it.value_type.tensor()?.element));
    assert_eq!(types.collect::<Vec<_>>(), [ElementType::U8; 2]);
    assert_eq!(quantized.written_by("Cast"), []);
}
