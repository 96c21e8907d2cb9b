//! What lies in bodies of If, Loop and Scan. Each is quantized as a model of its own, whose inputs are what it is given and
//! what it captures; its samples are the runs that the model around it makes of it in float ([`runs`]). Then it takes its
//! place again.
//!
//! A body is done before the graph around it, and judged by the outputs of that graph: errors of a state that is handed on
//! add up over iterations. Where they lose more than the recipe allows, the body is done again with a stricter limit, and
//! at last left float.

mod owner;
mod runs;

use std::collections::BTreeMap;
use std::rc::Rc;

use onnxq_ir::{Graph, Model, OpId, Tensor, ValueId};
use onnxq_passes::Coverage;
use onnxq_plan::trial::{On, worst_db};
use onnxq_plan::{Declined, HeldOut, Plan, Sample, Trials};

use crate::driver::{Done, Job, Measured};
use crate::error::Error;
use crate::outputs::{Watched, has_weights};
use crate::samples::Samples;

use owner::Owner;

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

    /// What a person should know of it, where it is quantized.
    pub(crate) fn notes(&self) -> impl Iterator<Item = String> + '_ {
        let notes = self.done().filter(|done| !done.is_empty()).into_iter().flat_map(|done| &done.notes);
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

    /// Quantizes the bodies at these places of an operator, as far as the outputs can bear it.
    fn owner(&self, model: &mut Model, op: OpId, places: &[usize], limits: Option<Limits>) -> Result<Vec<Body>, Error> {
        let owner = Owner::new(self, op, places);
        let needs_runs = self.job.settings.bits.activation.is_some();
        let mut lost = 0.0;
        for stricter in if limits.is_some() { &STRICTER[..] } else { &STRICTER[..1] } {
            let bodies = owner.quantized(limits.map(|limits| limits.own + stricter))?;
            if !bodies.iter().any(Body::is_quantized) {
                return Ok(bodies);
            }
            let mut candidate = model.clone();
            if let Err(reason) = owner.put_back(&mut candidate, &bodies) {
                return Ok(owner.all_float(&reason));
            }
            let is_compromise = bodies.iter().any(|body| body.is_compromise(limits.map(|limits| limits.own)));
            match self.judge(&candidate) {
                Ok(Some(db)) if limits.is_some_and(|limits| db < limits.outputs) && !is_compromise => lost = db,
                Err(Error::Engine { source, .. }) if needs_runs => {
                    return Ok(owner.all_float(&format!("body: with codes in their body, {source}")));
                }
                Err(error) if needs_runs => return Err(error),
                Ok(_) | Err(_) => {
                    *model = candidate;
                    return Ok(bodies);
                }
            }
        }
        Ok(owner.all_float(&format!("lossy-body: in codes, their body leaves the outputs {lost:.1} dB")))
    }

    /// The SQNR that bodies in codes leave the outputs; `None` where nothing says.
    fn judge(&self, candidate: &Model) -> Result<Option<f64>, Error> {
        if self.least.is_none() {
            return Ok(None);
        }
        let Job { evaluator, threads, .. } = *self.job;
        let watched = Watched::new(evaluator, self.float, candidate);
        let names = watched.judged(&self.float.graph, &candidate.graph);
        let held_out: Vec<Sample> = (self.samples)()?.1.stream()?.collect::<Result<_, _>>()?;
        if names.is_empty() || held_out.is_empty() {
            return Ok(None);
        }
        let bar = self.job.progress.start_open("trying bodies");
        let trials = HeldOut::new(evaluator, self.float, names, &held_out, Rc::default(), threads, || bar.advance());
        Ok(Some(worst_db(&trials.outputs(candidate, &Plan::default(), On::All)?)))
    }
}

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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_share_the_error() {
        let first = Limits::of(20.0, 2, 1);
        assert!((first.own - 23.01).abs() < 0.01 && (first.outputs - 23.01).abs() < 0.01);
        let last = Limits::of(20.0, 2, 2);
        assert!((last.own - 23.01).abs() < 0.01 && (last.outputs - 20.0).abs() < 0.01);
    }
}
