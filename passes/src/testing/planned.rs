//! Fixtures of passes that read facts or change the plan.
//!
//! Their comments may say, besides what [`super`] knows:
//! - `first: PASS, PASS`: as there, but with one plan and one set of facts for all;
//! - `options of PASS: KEY = VALUE`: options of one of those;
//! - `target: NAME`: one of the targets that ship, `generic` where nothing is said; `max-opset: N` lowers its limit;
//! - `bits: wXaY`, `storage: NAME`, `include: NODES`, `exclude: NODES`: as on the command line;
//! - `override: { nodes = "NODES", ... }`: as in a recipe;
//! - `samples: N`: how many seeded samples are observed, 4 where nothing is said.
//!
//! An Annotate pass may not change the model; the snapshot is the plan. Of an Exact one the outputs stay. What a Lossy
//! one makes must compute what the simulation of the plan computed before, where it lowers; else the plan's outputs must be
//! nearer to float than before. Numbers in snapshots have four digits: the
//! last ones are the processor's.

use std::fmt::Write as _;
use std::rc::Rc;

use onnxq_engine::Tract;
use onnxq_ir::text::{Weights, print};
use onnxq_ir::{Graph, Model, Tensor, ValueId};
use onnxq_plan::{Bits, EngineError, Facts, HeldOut, Needs, Plan, Quantizer, Request, Sample, Target, Trials};

use super::{Fixture, Out, compare, difference, inputs, said, show, sound};
use crate::pass::{Context, Outcome, Pass, PassError, Promise, Settings, View};
use crate::{PassInfo, Selection, Storage};

/// A fixture with all that a pass works on, before the pass runs.
pub(crate) struct Scene {
    fixture: Fixture,
    pub(crate) plan: Plan,
    pub(crate) facts: Facts,
    target: Target,
    settings: Settings,
    samples: u64,
    /// The model before any pass, which plans are tried against.
    float: Model,
}

impl Scene {
    /// The fixture of this name, after the passes that run first.
    pub(crate) fn load(name: &str) -> Self {
        Self::of(Fixture::load(name))
    }

    fn of(fixture: Fixture) -> Self {
        let text = &fixture.text;
        let one = |key: &str| said(text, key).into_iter().next();
        let mut target = target(one("target").as_deref().unwrap_or("generic"));
        if let Some(limit) = one("max-opset") {
            target.max_opset = limit.parse().expect("a number");
        }
        let bits: Bits = one("bits").as_deref().unwrap_or("w8a8").parse().expect("bits");
        let storage =
            one("storage").map_or(Storage::Int8, |name| toml::Value::String(name).try_into().expect("a storage"));
        let selection = selection(&fixture);
        let samples = one("samples").map_or(4, |count| count.parse().expect("a number"));
        let settings = Settings { bits, storage, selection };
        let first = said(text, "first").join(",");
        let float = fixture.model.clone();
        let (plan, facts) = (Plan::default(), Facts::default());
        let mut scene = Self { fixture, plan, facts, target, settings, samples, float };
        for name in first.split(',').map(str::trim).filter(|name| !name.is_empty()) {
            let info = PassInfo::find(name).unwrap_or_else(|| panic!("no pass `{name}`"));
            let options = said(&scene.fixture.text, &format!("options of {name}")).join("\n");
            scene.step(info, &options).unwrap_or_else(|error| panic!("{name}: {error}"));
        }
        scene
    }

    /// Runs the fixture's pass.
    pub(crate) fn run(&mut self) -> Result<(Promise, Outcome), PassError> {
        let options = self.fixture.options.clone();
        self.step(self.fixture.info, &options)
    }

    /// The fixture's pass.
    fn pass(&self) -> Box<dyn Pass> {
        let options = self.fixture.options.parse().expect("options are TOML");
        self.fixture.info.make(options).unwrap_or_else(|error| panic!("{error}"))
    }

    /// Runs a pass after what it needs was observed.
    pub(crate) fn step(&mut self, info: &PassInfo, options: &str) -> Result<(Promise, Outcome), PassError> {
        let options = options.parse().expect("options are TOML");
        let pass = info.make(options).unwrap_or_else(|error| panic!("{error}"));
        self.gather(&*pass);
        let (float, model) = (self.float.clone(), &self.fixture.model);
        let tried: Vec<Sample> = (TRIED..TRIED + 4).map(|seed| sample(model, seed)).collect();
        let outputs = float.graph.outputs().iter().map(|output| float.graph.value(output.value).name().to_owned());
        let fitted: Vec<Sample> = (0..self.samples).map(|seed| sample(model, seed)).collect();
        let held_out =
            HeldOut::new(&Tract, &float, outputs.collect(), &tried, Rc::default(), 1, || ()).with_fitted(&fitted);
        let trials = pass.judges().then_some(&held_out as &dyn Trials);
        let mut cx = self.context().with_trials(trials);
        pass.run(&mut cx)?;
        let outcome = cx.finish();
        sound(&self.fixture.model);
        Ok((pass.promise(), outcome))
    }

    /// A context for code that is called without its pass.
    pub(crate) fn context(&mut self) -> Context<'_> {
        let Self { fixture, plan, facts, target, settings, .. } = self;
        Context::new(&mut fixture.model, plan, facts, &fixture.known, target, settings)
    }

    /// Observes what a pass needs and nobody knows yet.
    pub(crate) fn gather(&mut self, pass: &dyn Pass) {
        let model = &self.fixture.model;
        let view = View { model, plan: &self.plan, settings: &self.settings, target: &self.target };
        let needs = pass.needs(&view).unmet(&self.facts, &model.graph);
        if !needs.is_empty() {
            self.observe(&needs);
        }
    }

    /// Observes these statistics.
    pub(crate) fn observe(&mut self, needs: &Needs) {
        let model = &self.fixture.model;
        let samples = (0..self.samples).map(|seed| Ok::<_, EngineError>(sample(model, seed)));
        self.facts
            .observe(&Tract, model, needs, samples, 1, || {})
            .unwrap_or_else(|error| panic!("{}: {error}", self.fixture.info.name));
    }

    /// The model as text, numbers in full.
    pub(crate) fn printed(&self) -> String {
        print(&self.fixture.model, Weights::Hash)
    }

    /// The metadata that passes added.
    pub(crate) fn metadata(&self) -> &[(String, String)] {
        &self.fixture.model.metadata
    }

    /// The graph as it is now.
    pub(crate) fn graph(&self) -> &Graph {
        &self.fixture.model.graph
    }

    /// The inputs of a sample.
    pub(crate) fn inputs(&self, seed: u64) -> Vec<(String, Tensor)> {
        inputs(&self.fixture.model, seed)
    }

    /// The elements of a value on these inputs, without the plan.
    pub(crate) fn value(&self, value: ValueId, inputs: &[(String, Tensor)]) -> Vec<f64> {
        let request = Request { model: &self.fixture.model, plan: None, taps: &[value] };
        show(&request, inputs).remove(0).elements
    }

    /// The outputs on these inputs, with the plan simulated.
    pub(crate) fn simulated(&self, inputs: &[(String, Tensor)]) -> Vec<Vec<f64>> {
        let taps: Vec<ValueId> = self.fixture.model.graph.outputs().iter().map(|output| output.value).collect();
        let request = Request { model: &self.fixture.model, plan: Some(&self.plan), taps: &taps };
        show(&request, inputs).into_iter().map(|out| out.elements).collect()
    }

    fn text(&self) -> String {
        print(&self.fixture.model, Weights::Hash)
    }

    /// The plan, and below it the scales of which there are several.
    fn described(&self) -> String {
        let graph = self.graph();
        let mut text = String::new();
        for site in self.plan.describe(graph) {
            writeln!(text, "{site}").expect("a string");
        }
        for (site, entry) in self.plan.entries() {
            let value = site.value(graph).map_or("(gone)", |value| graph.value(value).name());
            match &entry.quantizer {
                Some(Quantizer::Channels { channels, .. }) => {
                    let parameters = channels.iter().map(|own| format!(" {:?} at {}", own.scale(), own.zero_point()));
                    writeln!(text, "`{value}` scales{}", parameters.collect::<String>()).expect("a string");
                }
                Some(Quantizer::Bias(scales)) => writeln!(text, "`{value}` scales {scales:?}").expect("a string"),
                _ => {}
            }
        }
        text
    }
}

/// The first seed of the samples that plans are tried on; none of these is observed.
const TRIED: u64 = 1000;

fn sample(model: &Model, seed: u64) -> Sample {
    let inputs = inputs(model, seed).into_iter();
    let inputs = inputs.map(|(name, tensor)| (model.graph.find_value(&name).expect("an input"), tensor)).collect();
    Sample { index: seed as usize, inputs }
}

macro_rules! targets {
    ($($name:literal),*) => {
        &[$(($name, include_str!(concat!("../../../src/target/targets/", $name, ".toml")))),*]
    };
}

/// The targets that ship: name and text.
const TARGETS: &[(&str, &str)] =
    targets!["generic", "ort-cpu", "ort-cpu-novnni", "ort-arm", "ort-cuda", "tensorrt", "openvino", "qnn", "tract"];

fn target(name: &str) -> Target {
    let named = |name: &str| TARGETS.iter().find(|(known, _)| *known == name).map(|(_, text)| *text);
    let text = named(name).unwrap_or_else(|| panic!("no target `{name}`"));
    onnxq_plan::read_target(text, named).unwrap_or_else(|error| panic!("{name}: {error}"))
}

fn selection(fixture: &Fixture) -> Selection {
    let mut selection = Selection::new(&fixture.model.graph);
    let found = |outcome: Result<(), crate::NoSuchNodes>| outcome.unwrap_or_else(|error| panic!("{error}"));
    for nodes in said(&fixture.text, "include") {
        found(selection.include(&nodes));
    }
    for nodes in said(&fixture.text, "exclude") {
        found(selection.exclude(&nodes));
    }
    for table in said(&fixture.text, "override") {
        let table: toml::Table = format!("own = {table}").parse().expect("TOML");
        found(selection.set(&table["own"].clone().try_into().expect("an override")));
    }
    selection
}

/// Checks a fixture; returns what its snapshot shows.
pub(super) fn fires(fixture: Fixture) -> String {
    let mut scene = Scene::of(fixture);
    let name = scene.fixture.info.name;
    let (model, plan, text) = (scene.fixture.model.clone(), scene.plan.clone(), scene.text());
    let lowers = scene.pass().lowers();
    let (promise, outcome) = scene.run().unwrap_or_else(|error| panic!("{name}: {error}"));
    let after = scene.text();
    assert_eq!(!outcome.applied.is_empty(), after != text, "{name}: what the patches say and what the text says");
    let mut shown = difference(&text, &after);
    for declined in &scene.plan.left_float {
        writeln!(shown, "float: {} `{}`: {}", declined.op_type, declined.site, declined.reason).expect("a string");
    }
    for declined in outcome.declined.iter().filter(|declined| !scene.plan.left_float.contains(declined)) {
        writeln!(shown, "declined {} `{}`: {}", declined.op_type, declined.site, declined.reason).expect("a string");
    }
    match promise {
        Promise::Annotate => assert_eq!(after, text, "{name}: an Annotate pass leaves the model"),
        Promise::Exact => compare(name, &model, &scene.fixture.model),
        Promise::Lossy if !lowers => compare_error(&model, &scene),
        Promise::Lossy => compare_simulation(&Request { model: &model, plan: Some(&plan), taps: &[] }, &scene),
    }
    if promise == Promise::Lossy && !lowers {
        shown.push_str(&scene.described());
    }
    if promise != Promise::Lossy {
        let described = scene.described();
        scene.run().unwrap_or_else(|error| panic!("{name}: {error}"));
        assert_eq!(scene.text(), after, "{name}: the second run changes the model");
        assert_eq!(scene.described(), described, "{name}: the second run changes the plan");
        shown.push_str(&described);
    }
    rounded(&shown)
}

/// Checks a fixture that must stay as it is.
pub(super) fn declines(fixture: Fixture, reason: &str) {
    let mut scene = Scene::of(fixture);
    let text = print(&scene.fixture.model, Weights::Full);
    let (_, outcome) = scene.run().unwrap_or_else(|error| panic!("{error}"));
    let reasons: Vec<&str> = outcome.declined.iter().map(|declined| declined.reason.as_str()).collect();
    assert_eq!(reasons, [reason]);
    assert_eq!(print(&scene.fixture.model, Weights::Full), text, "the pass changes something");
}

/// Checks a fixture on which the pass fails; the model stays as it was.
pub(crate) fn refuses(name: &str, message: &str) {
    let mut scene = Scene::load(name);
    let text = print(&scene.fixture.model, Weights::Full);
    let error = scene.run().err().unwrap_or_else(|| panic!("{name}: the pass does not fail"));
    assert_eq!(error.to_string(), message, "{name}");
    assert_eq!(print(&scene.fixture.model, Weights::Full), text, "{name}: the pass changes something");
}

/// Under the plan, the outputs on fresh samples are nearer to float than before.
fn compare_error(before: &Model, after: &Scene) {
    let error = |model: &Model| {
        let taps: Vec<ValueId> = model.graph.outputs().iter().map(|output| output.value).collect();
        let float: Vec<ValueId> = after.float.graph.outputs().iter().map(|output| output.value).collect();
        (FRESH..FRESH + 8)
            .flat_map(|seed| {
                let inputs = inputs(before, seed);
                let expected = show(&Request { model: &after.float, plan: None, taps: &float }, &inputs);
                let got = show(&Request { model, plan: Some(&after.plan), taps: &taps }, &inputs);
                expected.into_iter().zip(got).flat_map(|(a, b)| a.elements.into_iter().zip(b.elements))
            })
            .map(|(a, b)| (a - b) * (a - b))
            .sum::<f64>()
    };
    let (old, new) = (error(before), error(&after.fixture.model));
    assert!(new < old, "the squared error of the outputs was {old}, now it is {new}");
}

/// The first seed of samples that no pass has seen.
const FRESH: u64 = 2000;

/// The emitted graph computes what the plan computed on the graph before, and that is not what the float graph computes.
fn compare_simulation(before: &Request<'_>, after: &Scene) {
    let taps: Vec<ValueId> = before.model.graph.outputs().iter().map(|output| output.value).collect();
    let emitted: Vec<ValueId> = after.fixture.model.graph.outputs().iter().map(|output| output.value).collect();
    let mut differs = false;
    for seed in 0..3 {
        let inputs = inputs(before.model, seed);
        let expected = show(&Request { taps: &taps, ..*before }, &inputs);
        let float = show(&Request { taps: &taps, plan: None, ..*before }, &inputs);
        let got = show(&Request { model: &after.fixture.model, plan: None, taps: &emitted }, &inputs);
        for (i, (expected, got)) in expected.iter().zip(&got).enumerate() {
            assert!(close(expected, got), "output {i}, inputs {seed}: {expected:?} became {got:?}");
            differs |= !close(&float[i], got);
        }
    }
    assert!(differs, "nothing is quantized");
}

fn close(a: &Out, b: &Out) -> bool {
    let largest = a.elements.iter().fold(0f64, |max, x| max.max(x.abs()));
    a.shape == b.shape && a.elements.iter().zip(&b.elements).all(|(a, b)| (a - b).abs() <= 1e-5 * largest)
}

/// The text with four digits for every number that has a fraction or an exponent.
pub(crate) fn rounded(text: &str) -> String {
    let number = regex::Regex::new(r"\b\d+(?:\.\d+(?:e-?\d+)?|e-?\d+)\b").expect("a pattern");
    number
        .replace_all(text, |found: &regex::Captures<'_>| {
            let short = format!("{:.3e}", found[0].parse::<f64>().expect("a number"));
            let short: f64 = short.parse().expect("a number");
            if short != 0.0 && short.abs() < 1e-3 { format!("{short:e}") } else { short.to_string() }
        })
        .into_owned()
}

#[test]
fn numbers_are_rounded_and_names_are_not() {
    assert_eq!(
        rounded("scale 1.2345678e-3, u8, {0.1234567, -12.0}, v_1.w"),
        "scale 0.001235, u8, {0.1235, -12}, v_1.w"
    );
}
