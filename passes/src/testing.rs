//! Runs one pass on a fixture and checks what every pass owes.
//!
//! A fixture is `testdata/passes/<pass>/<case>.onnxtxt`, a plain model in ONNX's textual syntax. Comments on its top may say:
//! - `first: PASS, PASS`: passes that run before, so that the fixture can be what an exporter writes;
//! - `options: KEY = VALUE`: options of the pass;
//! - `known: NAME TYPE`: a value that inference is made to take for a constant of zeros, such as `y int64[2]`.
//!
//! [`check!`] verifies before and after, runs both models on seeded inputs and compares outputs against the promise, runs
//! the pass again, after which nothing may change, and snapshots the difference of the texts beside the fixture.
//! [`check_declined!`] demands that nothing changes and that the reason is given, [`check_refused!`] that the pass fails.
//!
//! Passes of other families than `canonicalize` have a plan and facts besides; see [`planned`] for what their comments say.

pub(crate) mod planned;

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::PathBuf;

use onnxq_engine::Tract;
use onnxq_ir::text::{Weights, header_comments, parse, print};
use onnxq_ir::{Dim, ElementType, Model, Tensor, TensorType, ValueId, verify};
use onnxq_numerics::Symmetry;
use onnxq_plan::target::{BiasForm, CodeSign, HalfFloats, TypeRule, WeightGranularity, WeightRule};
use onnxq_plan::{Bits, Elements, Evaluator, Facts, Plan, Request, Sample, Target};

use crate::pass::{Context, Outcome, Promise, Settings};
use crate::{PassInfo, Selection, Storage};

/// Checks a fixture on which the pass fires, or has nothing to do.
macro_rules! check {
    ($fixture:literal) => {{
        let diff = $crate::testing::fires($fixture);
        let (folder, case) = $fixture.split_once('/').expect("a folder and a case");
        let mut settings = insta::Settings::clone_current();
        settings.set_prepend_module_to_snapshot(false);
        settings.set_omit_expression(true);
        settings.set_input_file(concat!("testdata/passes/", $fixture, ".onnxtxt"));
        settings.set_snapshot_path(format!("{}/../testdata/passes/{folder}", env!("CARGO_MANIFEST_DIR")));
        settings.bind(|| insta::assert_snapshot!(case, diff));
    }};
}

/// Checks a fixture that the pass leaves as it is, for this reason.
macro_rules! check_declined {
    ($fixture:literal, $reason:literal) => {
        $crate::testing::declines($fixture, $reason)
    };
}

/// Checks a fixture on which the pass fails with this message.
macro_rules! check_refused {
    ($fixture:literal, $message:literal) => {
        $crate::testing::planned::refuses($fixture, $message)
    };
}

pub(crate) use {check, check_declined, check_refused};

/// A fixture, ready for its pass.
struct Fixture {
    model: Model,
    known: BTreeMap<ValueId, Tensor>,
    info: &'static PassInfo,
    options: String,
    text: String,
}

impl Fixture {
    fn load(name: &str) -> Self {
        let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join(format!("../testdata/passes/{name}.onnxtxt"));
        let text = std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        let model = parse(&text).unwrap_or_else(|error| panic!("{name}: {error}"));
        let folder = name.split('/').next().expect("a folder");
        let info = PassInfo::find(folder).unwrap_or_else(|| panic!("no pass `{folder}`"));
        let options = said(&text, "options").join("\n");
        let mut fixture = Self { model, known: BTreeMap::new(), info, options, text };
        fixture.prepare();
        fixture
    }

    fn prepare(&mut self) {
        sound(&self.model);
        let printed = print(&self.model, Weights::Full);
        let again = parse(&printed).unwrap_or_else(|error| panic!("the print can't be read: {error}\n{printed}"));
        assert_eq!(print(&again, Weights::Full), printed, "the print of a print");
        // What the engine can't load has no inferred types, as in the driver.
        for inferred in Tract.infer(&self.model).unwrap_or_default() {
            self.model.graph.set_type(inferred.value, inferred.tensor_type);
            self.known.extend(inferred.constant.map(|tensor| (inferred.value, tensor)));
        }
        for claim in said(&self.text, "known") {
            let (name, kind) = claim.split_once(' ').expect("a name and a type");
            let value = self.model.graph.find_value(name).expect("a value");
            self.known.insert(value, zeros(kind));
        }
        if self.info.family != "canonicalize" {
            return;
        }
        for name in said(&self.text, "first").iter().flat_map(|names| names.split(',')) {
            let info = PassInfo::find(name.trim()).unwrap_or_else(|| panic!("no pass `{name}`"));
            run(&mut self.model, &self.known, info, "");
        }
    }

    fn run(&mut self) -> (Promise, Outcome) {
        run(&mut self.model, &self.known, self.info, &self.options)
    }
}

/// What the header says under a key.
fn said(text: &str, key: &str) -> Vec<String> {
    header_comments(text)
        .iter()
        .filter_map(|line| line.strip_prefix(key)?.strip_prefix(':'))
        .map(|rest| rest.trim().to_owned())
        .collect()
}

/// `int64[2, 3]`, all zeros.
fn zeros(kind: &str) -> Tensor {
    let (element, shape) = kind.trim_end_matches(']').split_once('[').unwrap_or((kind, ""));
    let element = ElementType::from_name(element).expect("an element type");
    let shape: Vec<usize> =
        shape.split(',').filter(|n| !n.trim().is_empty()).map(|n| n.trim().parse().expect("a size")).collect();
    let len = element.packed_len(shape.iter().product()).expect("a small tensor");
    Tensor::from_bytes(element, shape, vec![0; len].into()).expect("as many bytes as it needs")
}

fn sound(model: &Model) {
    assert_eq!(verify(&model.graph), []);
}

fn run(model: &mut Model, known: &BTreeMap<ValueId, Tensor>, info: &PassInfo, options: &str) -> (Promise, Outcome) {
    let options = options.parse().expect("options are TOML");
    let pass = info.make(options).unwrap_or_else(|error| panic!("{error}"));
    let (mut plan, mut facts) = (Plan::default(), Facts::default());
    let (target, settings) = (target(), settings());
    let mut cx = Context::new(model, &mut plan, &mut facts, known, &target, &settings);
    pass.run(&mut cx).unwrap_or_else(|error| panic!("{}: {error}", info.name));
    let outcome = cx.finish();
    sound(model);
    (pass.promise(), outcome)
}

fn target() -> Target {
    Target {
        name: "test".to_owned(),
        description: String::new(),
        max_opset: 28,
        kernels: None,
        half_floats: HalfFloats::Widened,
        activations: TypeRule {
            signedness: CodeSign::Unsigned,
            bits: vec![4, 8],
            symmetry: Symmetry::Affine,
            least_range: None,
        },
        weights: WeightRule {
            signedness: CodeSign::Signed,
            bits: vec![4, 8],
            reduced_to: None,
            packed: vec![2, 4],
            packed_weight_only: vec![2, 4],
            symmetry: Symmetry::Symmetric,
            granularity: WeightGranularity::Channel,
        },
        bias: BiasForm::Int32,
        quantizes_at_load: Vec::new(),
        operators: Vec::new(),
    }
}

fn settings() -> Settings {
    Settings { bits: Bits { weight: 8, activation: Some(8) }, storage: Storage::Int8, selection: Selection::default() }
}

/// Checks a fixture; returns the difference of the texts.
pub(crate) fn fires(name: &str) -> String {
    let mut fixture = Fixture::load(name);
    if fixture.info.family != "canonicalize" {
        return planned::fires(fixture);
    }
    let (before, text) = (fixture.model.clone(), print(&fixture.model, Weights::Hash));
    let (promise, outcome) = fixture.run();
    let after = print(&fixture.model, Weights::Hash);
    let changed = !outcome.applied.is_empty();
    assert_eq!(changed, after != text, "{name}: what the patches say and what the text says");
    if promise == Promise::Exact {
        compare(name, &before, &fixture.model);
    }
    fixture.run();
    assert_eq!(print(&fixture.model, Weights::Hash), after, "{name}: the second run changes something");
    let mut shown = difference(&text, &after);
    for declined in &outcome.declined {
        writeln!(shown, "declined {} `{}`: {}", declined.op_type, declined.site, declined.reason).expect("a string");
    }
    shown
}

/// Checks a fixture that must stay as it is.
pub(crate) fn declines(name: &str, reason: &str) {
    let mut fixture = Fixture::load(name);
    if fixture.info.family != "canonicalize" {
        planned::declines(fixture, reason);
        return;
    }
    let text = print(&fixture.model, Weights::Full);
    let (_, outcome) = fixture.run();
    assert_eq!(print(&fixture.model, Weights::Full), text, "{name}: the pass changes something");
    let reasons: Vec<&str> = outcome.declined.iter().map(|declined| declined.reason.as_str()).collect();
    assert_eq!(reasons, [reason], "{name}");
}

/// Runs both models on the same inputs and demands equal outputs, up to rounding.
fn compare(name: &str, before: &Model, after: &Model) {
    let length = accumulation_length(before);
    for seed in 0..3 {
        let inputs = inputs(before, seed);
        let (expected, got) = (outputs(before, &inputs), outputs(after, &inputs));
        assert_eq!(expected.len(), got.len(), "{name}: as many outputs");
        for (expected, got) in expected.iter().zip(&got) {
            if let Err(error) = agree(expected, got, length) {
                panic!("{name}, inputs {seed}: {error}");
            }
        }
    }
}

/// The most elements that one output of a small model can sum over: those of its largest constant or input.
fn accumulation_length(model: &Model) -> usize {
    let graph = &model.graph;
    let constants = graph.values().filter_map(|value| graph.constant(value)).map(Tensor::len);
    let inputs = graph.inputs().iter().filter_map(|input| Some(fixed(input.value_type.tensor()?).iter().product()));
    constants.chain(inputs).max().unwrap_or(1).clamp(1, 256)
}

/// An output: shape and elements.
#[derive(Clone, Debug, PartialEq)]
struct Out {
    shape: Vec<usize>,
    elements: Vec<f64>,
    exact: bool,
}

/// Each step rounds by at most half an epsilon of what it makes; a factor of 16 in all for steps in a row and cancellation.
fn agree(expected: &Out, got: &Out, length: usize) -> Result<(), String> {
    if (&expected.shape, expected.exact) != (&got.shape, got.exact) {
        return Err(format!("shape {:?} became {:?}", expected.shape, got.shape));
    }
    let largest = expected.elements.iter().fold(0f64, |max, x| max.max(x.abs()));
    let tolerance = if expected.exact { 0.0 } else { 8.0 * f64::from(f32::EPSILON) * length as f64 * largest };
    for (i, (a, b)) in expected.elements.iter().zip(&got.elements).enumerate() {
        if !(a == b || (a - b).abs() <= tolerance || (a.is_nan() && b.is_nan())) {
            return Err(format!("element {i}: {a} became {b}, tolerance {tolerance:e}"));
        }
    }
    Ok(())
}

fn outputs(model: &Model, inputs: &[(String, Tensor)]) -> Vec<Out> {
    let taps: Vec<ValueId> = model.graph.outputs().iter().map(|output| output.value).collect();
    show(&Request { model, plan: None, taps: &taps }, inputs)
}

/// What the taps of a request are on these inputs.
fn show(request: &Request<'_>, inputs: &[(String, Tensor)]) -> Vec<Out> {
    let (graph, taps) = (&request.model.graph, request.taps);
    let session = Tract.prepare(request).unwrap_or_else(|error| panic!("{error}"));
    let inputs = inputs
        .iter()
        .map(|(name, tensor)| (graph.find_value(name).expect("the input stays"), tensor.clone()))
        .collect();
    let mut shown = BTreeMap::new();
    session
        .runner()
        .run(&Sample { index: 0, inputs }, &mut |value| {
            let (elements, exact) = match value.elements {
                Elements::F32(elements) => (elements.iter().map(|&x| x.into()).collect(), false),
                Elements::F64(elements) => (elements.to_vec(), false),
                Elements::I64(elements) => (elements.iter().map(|&x| x as f64).collect(), true),
                Elements::I32(elements) => (elements.iter().map(|&x| x.into()).collect(), true),
                Elements::Bool(elements) => (elements.iter().map(|&x| f64::from(u8::from(x))).collect(), true),
                Elements::Other(_) => (Vec::new(), true),
            };
            shown.insert(value.value, Out { shape: value.shape.to_vec(), elements, exact });
        })
        .unwrap_or_else(|error| panic!("{error}"));
    taps.iter().map(|value| shown[value].clone()).collect()
}

/// A tensor for each input of the model: floats around 0, integers 0 and 1.
fn inputs(model: &Model, seed: u64) -> Vec<(String, Tensor)> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ 0x2545_f491_4f6c_dd1d;
    let mut next = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 40) as f32 / (1u64 << 23) as f32 - 1.0
    };
    let graph = &model.graph;
    graph
        .inputs()
        .iter()
        .filter_map(|input| {
            let kind = input.value_type.tensor()?;
            let shape = fixed(kind);
            let count = shape.iter().product();
            let tensor = match kind.element {
                ElementType::F32 => Tensor::new(shape, (0..count).map(|_| 3.0 * next()).collect::<Vec<f32>>()),
                half if half.is_half() => {
                    let floats = (0..count).map(|_| 3.0 * next()).collect();
                    Tensor::of_floats(half, shape, floats).expect("a type of floats")
                }
                ElementType::I64 => Tensor::new(shape, (0..count).map(|_| i64::from(next() > 0.0)).collect()),
                other => zeros(&format!("{}{shape:?}", other.name())),
            };
            Some((graph.value(input.value).name().to_owned(), tensor))
        })
        .collect()
}

/// Free sizes become 2.
fn fixed(kind: &TensorType) -> Vec<usize> {
    kind.shape.iter().flatten().map(|dim| Dim::known(dim).unwrap_or(2)).collect()
}

/// The lines that went and came, in order.
pub(crate) fn difference(before: &str, after: &str) -> String {
    let (a, b): (Vec<&str>, Vec<&str>) = (before.lines().collect(), after.lines().collect());
    // longest[i][j]: how many lines a[i..] and b[j..] have in common.
    let mut longest = vec![vec![0usize; b.len() + 1]; a.len() + 1];
    for i in (0..a.len()).rev() {
        for j in (0..b.len()).rev() {
            longest[i][j] =
                if a[i] == b[j] { longest[i + 1][j + 1] + 1 } else { longest[i + 1][j].max(longest[i][j + 1]) };
        }
    }
    let (mut i, mut j, mut lines) = (0, 0, String::new());
    while i < a.len() || j < b.len() {
        if i < a.len() && j < b.len() && a[i] == b[j] {
            (i, j) = (i + 1, j + 1);
        } else if j == b.len() || (i < a.len() && longest[i + 1][j] >= longest[i][j + 1]) {
            writeln!(lines, "-{}", a[i]).expect("a string");
            i += 1;
        } else {
            writeln!(lines, "+{}", b[j]).expect("a string");
            j += 1;
        }
    }
    lines
}

#[test]
fn a_planted_error_of_a_thousandth_is_seen() {
    let expected = Out { shape: vec![2], elements: vec![1.0, -2.0], exact: false };
    let mut got = expected.clone();
    assert_eq!(agree(&expected, &got, 256), Ok(()));
    got.elements[1] *= 1.001;
    assert!(agree(&expected, &got, 256).is_err());
}

#[test]
fn a_difference_shows_what_went_and_what_came() {
    assert_eq!(difference("a\nb\nc\n", "a\nx\nc\nd\n"), "-b\n+x\n+d\n");
}

#[test]
fn every_fixture_names_a_pass() {
    let root = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../testdata/passes");
    let Ok(folders) = std::fs::read_dir(root) else { return };
    for folder in folders.flatten() {
        let name = folder.file_name().to_string_lossy().into_owned();
        assert!(PassInfo::find(&name).is_some(), "testdata/passes/{name} belongs to no pass");
    }
}
