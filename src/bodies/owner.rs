//! The bodies of one operator on their way into codes and back to their places.

use std::cell::OnceCell;

use onnxq_ir::ops::opset::convert;
use onnxq_ir::ops::{Control, constant_tensor};
use onnxq_ir::{AttributeValue, Graph, Model, OpId, Opened, Patch, Tensor, ValueId};
use onnxq_passes::names::label;
use onnxq_passes::{Coverage, Settings};
use onnxq_plan::{Declined, EngineError, Evaluator, Facts, Inferred, Plan, Request, Session};

use super::runs::Runs;
use super::{Around, Body, Fate, each_weighted, model_of};
use crate::driver::{self, Job};
use crate::error::Error;
use crate::recipe::Recipe;
use crate::samples::Samples;

/// An operator with bodies that hold something to quantize.
pub(super) struct Owner<'a> {
    around: &'a Around<'a>,
    op: OpId,
    /// The places of those bodies among the operator's.
    places: &'a [usize],
    /// All of its bodies as graphs of their own.
    opened: Vec<Opened>,
    /// What it gives them, once asked; or why that is not known.
    runs: OnceCell<Result<Runs, String>>,
}

impl<'a> Owner<'a> {
    pub(super) fn new(around: &'a Around<'a>, op: OpId, places: &'a [usize]) -> Self {
        Self { around, op, places, opened: opened(around, op), runs: OnceCell::new() }
    }

    /// Every body, quantized as a model of its own whose outputs keep this SQNR.
    pub(super) fn quantized(&self, limit: Option<f64>) -> Result<Vec<Body>, Error> {
        let recipe = recipe_for_bodies(self.around.job.recipe, limit)?;
        self.places.iter().map(|&place| Ok(self.told(place, self.fate(place, &recipe)?))).collect()
    }

    fn fate(&self, place: usize, recipe: &Recipe) -> Result<Fate, Error> {
        let Around { job, float, .. } = self.around;
        let selection = job.settings.selection.within(&float.graph, self.op, place);
        let settings = Settings { selection, ..job.settings.clone() };
        let calibration = |_: &Model| self.samples(place);
        let inner = Job { recipe, settings: &settings, calibration: &calibration, evaluation: None, ..**job };
        let graph = self.typed(place);
        let mut result = driver::run(model_of(float, &graph), &inner);
        // Weights alone need no run.
        if matches!(result, Err(Error::Refused(_))) && job.settings.bits.activation.is_none() {
            let evaluator = &Unseen(job.evaluator);
            result = driver::run(model_of(float, &graph), &Job { evaluator, ..inner });
        }
        match result {
            Ok(mut done) => {
                // What the body captures the graph around it counts.
                let shared = self.opened[place].shared_constants(&done.model.graph);
                let shared: usize = shared.filter(|it| it.element().is_float()).map(Tensor::len).sum();
                done.coverage.weights = done.coverage.weights.saturating_sub(shared as u64);
                Ok(Fate::Done(Box::new(done)))
            }
            Err(error @ Error::Broken(_)) => Err(error),
            Err(Error::Refused(reason)) => Ok(self.float(place, &reason)),
            Err(error) => Ok(self.float(place, &format!("body: in a body, {error}"))),
        }
    }

    /// The runs of a body as samples of it.
    fn samples(&self, place: usize) -> Result<Samples, Error> {
        match self.runs() {
            Ok(runs) => runs.samples(place).ok_or_else(|| Error::Refused(NOT_RUN.to_owned())),
            Err(reason) => Err(Error::Refused(reason.clone())),
        }
    }

    fn runs(&self) -> &Result<Runs, String> {
        self.runs.get_or_init(|| {
            let unknown = |error: Error| format!("body: nothing is known of what their body is given: {error}");
            let (fitted, _) = (self.around.samples)().map_err(unknown)?;
            let bar = self.around.job.progress.start("running bodies", fitted.len());
            Runs::gather(self.around, self.op, &self.opened, &fitted, &|| bar.advance()).map_err(unknown)
        })
    }

    /// A body's graph; inputs of a type that does not follow from the graph around have what one run gives them.
    fn typed(&self, place: usize) -> Graph {
        let mut graph = self.opened[place].graph.clone();
        let inputs: Vec<ValueId> = graph.inputs().iter().map(|declared| declared.value).collect();
        for input in inputs.into_iter().filter(|&input| self.opened[place].graph.tensor_type(input).is_none()) {
            if let Some(seen) = self.runs().as_ref().ok().and_then(|runs| runs.seen(place, input)) {
                graph.set_type(input, seen);
            }
        }
        graph
    }

    fn told(&self, place: usize, fate: Fate) -> Body {
        let graph = &self.around.float.graph;
        let attributes = graph.op(self.op).attributes().iter();
        let mut names = attributes.filter(|it| matches!(it.value, AttributeValue::Graph(_))).map(|it| it.name.clone());
        Body {
            node: label(graph, self.op),
            name: names.nth(place).unwrap_or_default(),
            runs: self.runs.get().and_then(|runs| runs.as_ref().ok()).map(|runs| runs.per_sample(place)),
            fate,
        }
    }

    /// All bodies as they were, for this reason.
    pub(super) fn all_float(&self, reason: &str) -> Vec<Body> {
        self.places.iter().map(|&place| self.told(place, self.float(place, reason))).collect()
    }

    fn float(&self, place: usize, reason: &str) -> Fate {
        let none = |graph: &Graph| Coverage::of(graph, &Plan::default(), &Facts::default());
        let graph = &self.opened[place].graph;
        // What the body captures the graph around it counts.
        let own = self.around.float.graph.op(self.op).bodies().nth(place).map(none).unwrap_or_default();
        let mut left = Vec::new();
        each_weighted(graph, &mut |graph, op| {
            let op_type = graph.op(op).op_type().to_owned();
            left.push(Declined { site: label(graph, op), op_type, reason: reason.to_owned() });
        });
        Fate::Float { left, coverage: Coverage { weights: own.weights, ..none(graph) } }
    }

    /// Puts the bodies that were done in their places; the model takes over what versions they need. `Err` says why they
    /// don't fit.
    pub(super) fn put_back(&self, model: &mut Model, bodies: &[Body]) -> Result<(), String> {
        let done = || self.places.iter().zip(bodies).filter_map(|(&place, body)| Some((place, body.done()?)));
        let opset = done().map(|(_, done)| done.model.graph.opset()).fold(model.graph.opset(), i64::max);
        let raised = |model: &mut Model| convert(model, opset).map_err(|error| format!("body: {error}"));
        raised(model)?;
        let mut patch = Patch::new(&model.graph, "bodies", self.op);
        for (place, done) in done().filter(|(_, done)| !done.is_empty()) {
            let mut inner = done.model.clone();
            raised(&mut inner)?;
            patch.set_body(self.op, place, self.opened[place].close(inner.graph));
            model.ir_version = model.ir_version.max(inner.ir_version);
            for import in inner.opsets {
                if !model.opsets.iter().any(|known| known.domain == import.domain) {
                    model.opsets.push(import);
                }
            }
        }
        patch.apply(&mut model.graph).map(drop).map_err(|error| format!("body: {error}"))
    }
}

/// All bodies of an operator as graphs of their own.
fn opened(around: &Around<'_>, owner: OpId) -> Vec<Opened> {
    let graph = &around.float.graph;
    let known = |value: ValueId| constant_tensor(graph, value).or_else(|| around.known.get(&value).cloned());
    let types = Control::at(graph, owner).map_or_else(Vec::new, |control| control.input_types(graph));
    let body = |place| {
        let mut opened = Opened::body(graph, owner, place, known)?;
        let inputs: Vec<ValueId> = opened.graph.inputs().iter().map(|declared| declared.value).collect();
        for (input, found) in inputs.into_iter().zip(&types) {
            let is_open = opened.graph.tensor_type(input).is_none_or(|declared| declared.shape.is_none());
            if let Some(found) = found.as_ref().filter(|_| is_open) {
                opened.graph.set_type(input, found.clone());
            }
        }
        Some(opened)
    };
    (0..graph.op(owner).bodies().count()).map_while(body).collect()
}

/// The recipe as it is for bodies: with this limit, and floats in and out.
fn recipe_for_bodies(recipe: &Recipe, limit: Option<f64>) -> Result<Recipe, Error> {
    let mut recipe = recipe.clone();
    recipe.stages.retain(|stage| !matches!(stage.pass.as_str(), "output-sites" | "quantize-io"));
    if let Some(limit) = limit {
        recipe.set(&format!("give-back.min-sqnr={}", limit.min(HIGHEST)))?;
    }
    Ok(recipe)
}

/// No output is asked for more than this, in dB.
const HIGHEST: f64 = 60.0;

const NOT_RUN: &str = "not-run: they lie in a body that no sample ran";

/// An engine that runs nothing, for bodies of whose runs nothing is known.
struct Unseen<'a>(&'a dyn Evaluator);

impl Evaluator for Unseen<'_> {
    fn name(&self) -> &'static str {
        self.0.name()
    }

    fn infer(&self, model: &Model) -> Result<Vec<Inferred>, EngineError> {
        self.0.infer(model)
    }

    fn prepare<'a>(&'a self, request: &Request<'a>) -> Result<Box<dyn Session + 'a>, EngineError> {
        self.0.prepare(request)
    }

    fn reachable(&self, _: &Model, _: &[ValueId]) -> Vec<ValueId> {
        Vec::new()
    }
}
