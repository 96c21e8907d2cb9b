//! What lies in bodies of If, Loop and Scan. Each is quantized as a model of its own, whose inputs are what it is given and
//! what it captures; its samples are the runs that the model around it makes of it in float ([`runs`]). Then it takes its
//! place again.
//!
//! A body is done before the graph around it, and judged by the outputs of that graph: errors of a state that is handed on
//! add up over iterations. Where they lose more than the recipe allows, the body is done again with a stricter limit, and
//! at last left float.

mod runs;

use std::cell::OnceCell;
use std::collections::BTreeMap;

use onnxq_ir::ops::Control;
use onnxq_ir::ops::opset::convert;
use onnxq_ir::{AttributeValue, Graph, Model, OpId, Opened, Patch, Tensor, ValueId};
use onnxq_passes::names::label;
use onnxq_passes::{Coverage, Selection, Settings};
use onnxq_plan::trial::{On, worst_db};
use onnxq_plan::{Declined, EngineError, Evaluator, Facts, HeldOut, Inferred, Plan, Request, Sample, Session, Trials};

use crate::driver::{self, Done, Job, Measured};
use crate::error::Error;
use crate::outputs::{Watched, has_weights};
use crate::recipe::Recipe;
use crate::samples::Samples;

use runs::Runs;

/// A body with something to quantize.
pub struct Body {
    /// The node that it belongs to.
    pub node: String,
    /// Its attribute, such as `then_branch`.
    pub name: String,
    /// How often one sample runs it, on average; unknown where nothing had to be run.
    pub runs: Option<f64>,
    /// What became of it.
    pub fate: Fate,
}

/// What became of a body.
pub enum Fate {
    /// It was done as a model of its own.
    Done(Box<Done>),
    /// It is as it was.
    Float {
        /// Its products and convolutions, with the reason.
        left: Vec<Declined>,
        /// What it holds.
        coverage: Coverage,
    },
}

impl Body {
    /// Whether something in it is quantized.
    pub fn is_quantized(&self) -> bool {
        self.done().is_some_and(|done| !done.is_empty())
    }

    /// Whether its own outputs are below the limit: then that is the best there is, as for any model.
    fn is_compromise(&self, limit: Option<f64>) -> bool {
        let measured = self.done().map(|done| &done.measured);
        let Some(Measured::Quality { quality, .. }) = measured else { return false };
        limit.is_some_and(|limit| quality.outputs.iter().any(|output| output.sqnr_db < limit))
    }

    /// What a person should know of it.
    pub(crate) fn notes(&self) -> impl Iterator<Item = String> + '_ {
        let notes = self.done().into_iter().flat_map(|done| &done.notes);
        notes.map(|note| format!("in `{}` {}: {note}", self.node, self.name))
    }

    /// The result, where it was done.
    pub fn done(&self) -> Option<&Done> {
        match &self.fate {
            Fate::Done(done) => Some(done),
            Fate::Float { .. } => None,
        }
    }

    /// What in it stays float.
    pub fn left_float(&self) -> Vec<Declined> {
        match &self.fate {
            Fate::Done(done) => done.left_float(),
            Fate::Float { left, .. } => left.clone(),
        }
    }

    /// How much of it is in codes, for one sample of the model around it.
    pub fn coverage(&self) -> Coverage {
        let own = match &self.fate {
            Fate::Done(done) => done.coverage,
            Fate::Float { coverage, .. } => *coverage,
        };
        own.times(self.runs.unwrap_or(1.0))
    }
}

/// The model around bodies, and what is known of it.
pub(crate) struct Around<'a> {
    pub(crate) job: &'a Job<'a>,
    /// The float model.
    pub(crate) float: &'a Model,
    /// Values that are the same for every input.
    pub(crate) known: &'a BTreeMap<ValueId, Tensor>,
    /// What ranges are fitted on, and what bodies are judged on.
    pub(crate) samples: &'a dyn Fn() -> Result<(Samples, Samples), Error>,
    /// The least SQNR that the outputs must keep, in dB, where the recipe judges.
    pub(crate) least: Option<f64>,
}

/// How much stricter than the outputs a body is judged, in dB, one after the other.
const STRICTER: [f64; 3] = [0.0, 8.0, 16.0];

/// The least SQNR in dB while bodies are done one after the other.
#[derive(Clone, Copy)]
struct Limits {
    /// Of a body's own outputs.
    own: f64,
    /// Of the outputs of the graph around, with the bodies so far.
    outputs: f64,
}

impl Limits {
    /// Each of `parts` may take an equal share of the error, and `done` of them have.
    fn of(least: f64, parts: usize, done: usize) -> Self {
        let share = |parts: usize, of: usize| 10.0 * (parts as f64 / of as f64).log10();
        Self { own: least + share(parts, 1), outputs: least + share(parts, done) }
    }
}

impl Around<'_> {
    /// The model with what lies in bodies quantized, and what became of each that holds something to quantize.
    pub(crate) fn quantized(&self) -> Result<(Model, Vec<Body>), Error> {
        let graph = &self.float.graph;
        let mut model = self.float.clone();
        let mut bodies = Vec::new();
        let owners: Vec<(OpId, Vec<usize>)> = graph
            .topological()
            .into_iter()
            .map(|op| (op, places(graph, op)))
            .filter(|(_, it)| !it.is_empty())
            .collect();
        let is_around = graph.op_ids().any(|op| graph.op(op).bodies().next().is_none() && has_weights(graph.op(op)));
        let parts = owners.len() + usize::from(is_around);
        for (done, (owner, places)) in owners.into_iter().enumerate() {
            let limits = self.least.map(|least| Limits::of(least, parts, done + 1));
            bodies.extend(self.owner(&mut model, owner, &places, limits)?);
        }
        Ok((model, bodies))
    }

    /// Quantizes the bodies at these places of an operator, as far as its outputs can bear it.
    fn owner(
        &self,
        model: &mut Model,
        owner: OpId,
        places: &[usize],
        limits: Option<Limits>,
    ) -> Result<Vec<Body>, Error> {
        let opened = self.opened(owner);
        let runs = OnceCell::new();
        let mut lost = 0.0;
        for stricter in if limits.is_some() { &STRICTER[..] } else { &STRICTER[..1] } {
            let limit = limits.map(|limits| limits.own + stricter);
            let bodies: Vec<Body> =
                places.iter().map(|&place| self.body(owner, place, &opened, limit, &runs)).collect::<Result<_, _>>()?;
            if !bodies.iter().any(Body::is_quantized) {
                return Ok(bodies);
            }
            let is_compromise = bodies.iter().any(|body| body.is_compromise(limits.map(|limits| limits.own)));
            let mut candidate = model.clone();
            if let Err(reason) = put_back(&mut candidate, owner, places, &opened, &bodies) {
                return Ok(self.all_float(owner, places, &opened, &runs, &reason));
            }
            match self.judge(&candidate) {
                Err(Error::Engine { source, .. }) => {
                    let reason = format!("body: with codes in their body, {source}");
                    return Ok(self.all_float(owner, places, &opened, &runs, &reason));
                }
                Err(error) => return Err(error),
                Ok(Some(db)) if limits.is_some_and(|limits| db < limits.outputs) && !is_compromise => lost = db,
                Ok(_) => {
                    *model = candidate;
                    return Ok(bodies);
                }
            }
        }
        let reason = format!("lossy-body: in codes, their body leaves the outputs {lost:.1} dB");
        Ok(self.all_float(owner, places, &opened, &runs, &reason))
    }

    /// All bodies of an operator as graphs of their own.
    fn opened(&self, owner: OpId) -> Vec<Opened> {
        let graph = &self.float.graph;
        let known = |value: ValueId| graph.constant(value).or_else(|| self.known.get(&value)).cloned();
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
        (0..).map_while(body).collect()
    }

    /// One body, quantized as a model of its own.
    fn body(
        &self,
        owner: OpId,
        place: usize,
        opened: &[Opened],
        limit: Option<f64>,
        runs: &OnceCell<Result<Runs, String>>,
    ) -> Result<Body, Error> {
        let job = self.job;
        let recipe = recipe_for_bodies(job.recipe, limit)?;
        let selection: Selection = job.settings.selection.within(&self.float.graph, owner, place);
        let settings = Settings { selection, ..job.settings.clone() };
        let gather = || self.runs(owner, opened);
        let unseen = Unseen(job.evaluator);
        let calibration = |_: &Model| match runs.get_or_init(gather) {
            Ok(runs) => runs.samples(place).ok_or_else(|| Error::Refused(NOT_RUN.to_owned())),
            Err(reason) => Err(Error::Refused(reason.clone())),
        };
        let inner = Job { recipe: &recipe, settings: &settings, calibration: &calibration, evaluation: None, ..*job };
        let model = || model_of(self.float, &opened[place].graph);
        let mut result = driver::run(model(), &inner);
        // Weights alone need no run.
        if matches!(result, Err(Error::Refused(_))) && job.settings.bits.activation.is_none() {
            result = driver::run(model(), &Job { evaluator: &unseen, ..inner });
        }
        let fate = match result {
            Ok(done) => Fate::Done(Box::new(done)),
            Err(error @ Error::Broken(_)) => return Err(error),
            Err(Error::Refused(reason)) => self.float_fate(owner, place, &opened[place], &reason),
            Err(error) => self.float_fate(owner, place, &opened[place], &format!("body: in a body, {error}")),
        };
        Ok(self.told(owner, place, runs, fate))
    }

    /// What an operator gives its bodies.
    fn runs(&self, owner: OpId, opened: &[Opened]) -> Result<Runs, String> {
        let out_of_reach = |error: Error| format!("body: nothing is known of what their body is given: {error}");
        let (fitted, _) = (self.samples)().map_err(out_of_reach)?;
        let bar = self.job.progress.start("running bodies", fitted.len());
        Runs::gather(self, owner, opened, &fitted, &|| bar.advance()).map_err(out_of_reach)
    }

    fn told(&self, owner: OpId, place: usize, runs: &OnceCell<Result<Runs, String>>, fate: Fate) -> Body {
        let graph = &self.float.graph;
        let attributes = graph.op(owner).attributes().iter();
        let mut names = attributes.filter(|it| matches!(it.value, AttributeValue::Graph(_))).map(|it| it.name.clone());
        Body {
            node: label(graph, owner),
            name: names.nth(place).unwrap_or_default(),
            runs: runs.get().and_then(|runs| runs.as_ref().ok()).map(|runs| runs.per_sample(place)),
            fate,
        }
    }

    fn all_float(
        &self,
        owner: OpId,
        places: &[usize],
        opened: &[Opened],
        runs: &OnceCell<Result<Runs, String>>,
        reason: &str,
    ) -> Vec<Body> {
        let float =
            |&place: &usize| self.told(owner, place, runs, self.float_fate(owner, place, &opened[place], reason));
        places.iter().map(float).collect()
    }

    fn float_fate(&self, owner: OpId, place: usize, opened: &Opened, reason: &str) -> Fate {
        let none = |graph: &Graph| Coverage::of(graph, &Plan::default(), &Facts::default());
        // What the body captures the graph around it counts.
        let own = self.float.graph.op(owner).bodies().nth(place).map(none).unwrap_or_default();
        let mut left = Vec::new();
        each_weighted(&opened.graph, &mut |graph, op| {
            let op_type = graph.op(op).op_type().to_owned();
            left.push(Declined { site: label(graph, op), op_type, reason: reason.to_owned() });
        });
        Fate::Float { left, coverage: Coverage { weights: own.weights, ..none(&opened.graph) } }
    }

    /// The SQNR that bodies in codes leave the outputs; `None` where nothing says.
    fn judge(&self, candidate: &Model) -> Result<Option<f64>, Error> {
        if self.least.is_none() {
            return Ok(None);
        }
        let Job { evaluator, threads, .. } = *self.job;
        let watched = Watched::new(evaluator, self.float, candidate);
        let names: Vec<String> = watched.pairs.into_iter().map(|pair| pair.name).collect();
        let held_out: Vec<Sample> = (self.samples)()?.1.stream()?.collect::<Result<_, _>>()?;
        if names.is_empty() || held_out.is_empty() {
            return Ok(None);
        }
        let bar = self.job.progress.start_open("trying bodies");
        let trials = HeldOut::new(evaluator, self.float, names, &held_out, threads, || bar.advance());
        Ok(Some(worst_db(&trials.outputs(candidate, &Plan::default(), On::All)?)))
    }
}

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

const NOT_RUN: &str = "not-run: they lie in a body that no sample ran";

/// The places of the bodies of an operator that hold something to quantize.
fn places(graph: &Graph, owner: OpId) -> Vec<usize> {
    let holds = |body: &Graph| {
        let mut any = false;
        each_weighted(body, &mut |_, _| any = true);
        any
    };
    graph.op(owner).bodies().enumerate().filter(|(_, body)| holds(body)).map(|(place, _)| place).collect()
}

/// Every product, convolution and recurrent operator of a graph and of the bodies in it.
fn each_weighted(graph: &Graph, see: &mut dyn FnMut(&Graph, OpId)) {
    for op in graph.topological() {
        match graph.op(op).bodies().next() {
            None if has_weights(graph.op(op)) => see(graph, op),
            None => {}
            Some(_) => graph.op(op).bodies().for_each(|body| each_weighted(body, see)),
        }
    }
}

/// The recipe as it is for bodies: with this limit, and floats in and out.
fn recipe_for_bodies(recipe: &Recipe, limit: Option<f64>) -> Result<Recipe, Error> {
    let mut recipe = recipe.clone();
    recipe.stages.retain(|stage| !matches!(stage.pass.as_str(), "output-sites" | "quantize-io"));
    if let Some(limit) = limit.filter(|_| recipe.has_pass("give-back")) {
        recipe.set(&format!("give-back.min-sqnr={limit}"))?;
    }
    Ok(recipe)
}

/// A body's graph as a model like the one around it.
fn model_of(around: &Model, graph: &Graph) -> Model {
    Model {
        ir_version: around.ir_version,
        opsets: around.opsets.clone(),
        graph: graph.clone(),
        functions: around.functions.clone(),
        ..Model::default()
    }
}

/// Puts the bodies that were done in their places; the model takes over what versions they need.
fn put_back(
    model: &mut Model,
    owner: OpId,
    places: &[usize],
    opened: &[Opened],
    bodies: &[Body],
) -> Result<(), String> {
    let done = || places.iter().zip(bodies).filter_map(|(&place, body)| Some((place, body.done()?)));
    let opset = done().map(|(_, done)| done.model.graph.opset()).fold(model.graph.opset(), i64::max);
    let raised = |model: &mut Model| convert(model, opset).map_err(|error| format!("body: {error}"));
    raised(model)?;
    let mut patch = Patch::new(&model.graph, "bodies", owner);
    for (place, done) in done().filter(|(_, done)| !done.is_empty()) {
        let mut inner = done.model.clone();
        raised(&mut inner)?;
        patch.set_body(owner, place, opened[place].close(inner.graph));
        model.ir_version = model.ir_version.max(inner.ir_version);
        for import in inner.opsets {
            if !model.opsets.iter().any(|known| known.domain == import.domain) {
                model.opsets.push(import);
            }
        }
    }
    patch.apply(&mut model.graph).map(drop).map_err(|error| format!("body: {error}"))
}
