//! From a recipe to a result: infers, runs the passes in order, gathers what they need, measures, expands.
//!
//! The driver knows no method: what is done, and in which order, stands in the recipe.

use std::cell::OnceCell;
use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;
use std::time::Instant;

use onnxq_ir::{Model, Revision, Tensor, ValueId};
use onnxq_passes::{Context, Coverage, Outcome, Promise, Settings, View};
use onnxq_plan::{
    Declined, DescribedSite, EngineError, Evaluator, Facts, FloatOutputs, HeldOut, Memory, Needs, Plan, Request,
    Sample, Target, Trials, Watch,
};

use crate::bodies::{Around, Body};
use crate::error::Error;
use crate::measure::{Pair, Quality, Reference, compare};
use crate::outputs::Watched;
use crate::progress::Progress;
use crate::readied::readied;
use crate::recipe::{Recipe, Step};
use crate::samples::Samples;
use crate::seconds::{Seconds, Timed, timed};
use crate::statistics::{Kept, Lacking};

/// Everything that a run depends on.
pub struct Job<'a> {
    /// The recipe.
    pub recipe: &'a Recipe,
    /// The runtime.
    pub target: &'a Target,
    /// Bits, storage, exclusions.
    pub settings: &'a Settings,
    /// The engine.
    pub evaluator: &'a dyn Evaluator,
    /// Calibration samples, opened when they are needed for the first time.
    pub calibration: &'a dyn Fn(&Model) -> Result<Samples, Error>,
    /// Samples to measure on; `None` takes the first of the calibration's.
    pub evaluation: Option<&'a Samples>,
    /// What earlier runs saw, where this one is to take it from there or to add to it.
    pub kept: Option<Kept<'a>>,
    /// Threads for calibration and evaluation.
    pub threads: usize,
    /// Where progress goes.
    pub progress: &'a dyn Progress,
}

/// What a pass did.
#[derive(Clone, Debug)]
pub struct Record {
    /// The pass.
    pub pass: &'static str,
    /// Its promise.
    pub promise: Promise,
    /// What it did and left.
    pub outcome: Outcome,
}

/// What the measurement stands on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum MeasuredOn {
    /// `--eval`
    EvaluationData,
    /// Samples of `--calib` that no range was fitted on.
    HeldOutSamples,
    /// The first samples of `--calib`.
    CalibrationData,
    /// Made-up inputs.
    SynthesizedInputs,
}

/// How good the result is, or why that is not known.
#[derive(Clone, Debug)]
pub enum Measured {
    /// The simulation was compared with the float model.
    Quality {
        /// The figures.
        quality: Quality,
        /// On what.
        on: MeasuredOn,
        /// Outputs that the engine can't reach, with the values that stand in.
        stand_ins: Vec<(String, Vec<String>)>,
    },
    /// Nothing was measured.
    Not(String),
}

/// A run's result.
pub struct Done {
    /// The quantized model, standard operators only.
    pub model: Model,
    /// The plan of the main graph, which was lowered.
    pub plan: Plan,
    /// The bodies with something to quantize, and what became of them.
    pub bodies: Vec<Body>,
    /// The graph and its plan as they were before lowering, which is what the simulation runs: tests compare it with what
    /// a runtime makes of the result. `None` where no pass lowers. Weights are shared.
    pub simulated: Option<(Model, Plan)>,
    /// How much the plan covers, bodies included.
    pub coverage: Coverage,
    /// The plan by the names of the graphs that it was made for, bodies first.
    pub described: Vec<DescribedSite>,
    /// What each pass did.
    pub records: Vec<Record>,
    /// How good the result is.
    pub measured: Measured,
    /// Samples that calibration saw.
    pub samples: usize,
    /// What a person should know.
    pub notes: Vec<String>,
    /// How long it took; stages that are no part of the run have 0.
    pub seconds: Seconds,
}

impl Done {
    /// Whether nothing is quantized, in bodies neither.
    pub fn is_empty(&self) -> bool {
        self.plan.is_empty() && !self.bodies.iter().any(Body::is_quantized)
    }

    /// How many operators of each kind are quantized, in bodies too.
    pub fn operator_counts(&self) -> BTreeMap<String, usize> {
        let own = self.plan.operator_counts().into_iter().map(|(kind, count)| (kind.to_owned(), count));
        let inner = self.bodies.iter().filter_map(Body::done).flat_map(Done::operator_counts);
        let mut counts = BTreeMap::new();
        own.chain(inner).for_each(|(kind, count)| *counts.entry(kind).or_insert(0) += count);
        counts
    }

    /// What stays float, in bodies too.
    pub fn left_float(&self) -> Vec<Declined> {
        let inner = self.bodies.iter().flat_map(Body::left_float);
        self.plan.left_float.iter().cloned().chain(inner).collect()
    }
}

/// Samples to measure on where no evaluation data is given.
const MEASURED_SAMPLES: usize = 8;

/// Samples that plans are tried out on, at most. They are kept in memory.
const TRIED_SAMPLES: usize = MEASURED_SAMPLES;

/// Further held-out samples that are run once for a pass that judges, to find those that a plan ruins.
const LOOKED_THROUGH: usize = 64;

/// Samples among which those are that ranges were fitted on and a pass sees again. They are kept in memory.
const SEEN_AGAIN: usize = 16;

/// Runs the recipe.
pub fn run(model: Model, job: &Job<'_>) -> Result<Done, Error> {
    let steps = job.recipe.steps()?;
    let (model, kept) = if job.recipe.is_none() { (model, Vec::new()) } else { readied(model)? };
    let mut run = Run::start(model, job);
    run.plan.left_float.extend(kept);
    run.judged = steps.iter().any(|step| step.pass.judges());
    run.corrected = steps.iter().any(|step| step.pass.corrects());
    run.quantize_bodies()?;
    for (i, step) in steps.iter().enumerate() {
        run.gather(&steps[i..])?;
        if step.pass.lowers() {
            let start = Instant::now();
            run.measured = run.measure()?;
            run.seconds.measurement += start.elapsed().as_secs_f64();
            run.coverage = Coverage::of(&run.model.graph, &run.plan, &run.facts);
            run.described = run.plan.describe(&run.model.graph);
            run.simulated.get_or_insert_with(|| (run.model.clone(), run.plan.clone()));
        }
        if step.info.family != "canonicalize" && run.float.is_none() {
            run.float = Some(run.model.clone());
        }
        run.step(step)?;
    }
    let opset = run.model.graph.opset();
    run.model.graph =
        onnxq_ir::ops::expand(&run.model.graph, opset).map_err(|error| Error::Broken(error.to_string()))?;
    verify(&run.model)?;
    let samples = run.samples_used();
    let inner = run.bodies.iter().filter_map(Body::done).flat_map(|done| done.described.iter().cloned());
    Ok(Done {
        model: run.model,
        plan: run.plan,
        simulated: run.simulated,
        coverage: run.bodies.iter().map(Body::coverage).fold(run.coverage, Coverage::and),
        described: inner.chain(run.described).collect(),
        bodies: run.bodies,
        records: run.records,
        measured: run.measured,
        samples,
        notes: run.notes,
        seconds: run.seconds,
    })
}

struct Run<'a> {
    job: &'a Job<'a>,
    model: Model,
    /// The model as it was before any method touched it: what the result is compared with.
    float: Option<Model>,
    bodies: Vec<Body>,
    plan: Plan,
    simulated: Option<(Model, Plan)>,
    coverage: Coverage,
    described: Vec<DescribedSite>,
    facts: Facts,
    constants: BTreeMap<ValueId, Tensor>,
    records: Vec<Record>,
    measured: Measured,
    samples: OnceCell<Samples>,
    /// Whether a pass tries plans out.
    judged: bool,
    /// Whether a pass looks again at what ranges were fitted on.
    corrected: bool,
    /// What plans are tried out on, once statistics were gathered.
    held_out: Vec<Sample>,
    /// What such a pass looks at.
    fitted: Vec<Sample>,
    /// What trials found out.
    memory: Rc<Memory>,
    /// What the model, in one state, makes of samples that the result is measured on.
    kept_outputs: Option<(Revision, FloatOutputs)>,
    notes: Vec<String>,
    seconds: Seconds,
}

impl<'a> Run<'a> {
    fn start(mut model: Model, job: &'a Job<'a>) -> Self {
        let mut constants = BTreeMap::new();
        let mut notes = Vec::new();
        let mut seconds = Seconds::default();
        if !job.recipe.is_none() {
            match timed(&mut seconds.inference, || job.evaluator.infer(&model)) {
                Ok(inferred) => {
                    for known in inferred {
                        model.graph.set_type(known.value, known.tensor_type);
                        if let Some(tensor) = known.constant {
                            constants.insert(known.value, tensor);
                        }
                    }
                }
                Err(error) => notes.push(format!("shapes are not known: {error}")),
            }
        }
        Self {
            job,
            model,
            float: None,
            bodies: Vec::new(),
            plan: Plan::default(),
            simulated: None,
            coverage: Coverage::default(),
            described: Vec::new(),
            facts: Facts::default(),
            constants,
            records: Vec::new(),
            measured: Measured::Not("nothing was quantized".to_owned()),
            samples: OnceCell::new(),
            judged: false,
            corrected: false,
            held_out: Vec::new(),
            fitted: Vec::new(),
            memory: Rc::default(),
            kept_outputs: None,
            notes,
            seconds,
        }
    }

    /// Quantizes what lies in bodies; the model as it was is what the result is compared with.
    fn quantize_bodies(&mut self) -> Result<(), Error> {
        if self.job.recipe.is_none() {
            return Ok(());
        }
        let samples = || match self.job.kept {
            Some(Kept { lacking: Lacking::Refuse, .. }) => Err(Error::Option("give --calib too".to_owned())),
            _ => Ok(self.samples()?.split(TRIED_SAMPLES)),
        };
        let has_samples = !matches!(self.job.kept, Some(Kept { lacking: Lacking::Refuse, .. }));
        let least = self.job.recipe.min_sqnr().filter(|_| self.judged && has_samples);
        let (float, known) = (&self.model, &self.constants);
        let (model, bodies) = Around { job: self.job, float, known, samples: &samples, least }.quantized()?;
        if bodies.iter().any(Body::is_quantized) {
            self.float = Some(std::mem::replace(&mut self.model, model));
        }
        self.notes.extend(bodies.iter().flat_map(Body::notes));
        self.bodies = bodies;
        Ok(())
    }

    /// Gathers what this pass and those after it need, all in one run over the data.
    fn gather(&mut self, steps: &[Step]) -> Result<(), Error> {
        let view = View { model: &self.model, plan: &self.plan, settings: self.job.settings, target: self.job.target };
        let reachable = self.reachable();
        let mut now = steps[0].pass.needs(&view).within(&reachable).unmet(&self.facts, &self.model.graph);
        if now.is_empty() {
            return Ok(());
        }
        let mut needs = Needs::none();
        for step in steps {
            needs.extend(step.pass.needs(&view));
        }
        let mut needs = needs.within(&reachable).unmet(&self.facts, &self.model.graph);
        self.hold_out()?;
        if let Some(kept) = self.job.kept {
            kept.recall(&self.model, &needs, &mut self.facts)?;
            now = now.unmet(&self.facts, &self.model.graph);
            needs = needs.unmet(&self.facts, &self.model.graph);
            if now.is_empty() {
                return Ok(());
            }
            self.notes.extend(kept.check(&self.model, &now, &needs)?);
        }
        let all = self.samples()?;
        let samples = if self.judged { all.split(TRIED_SAMPLES).0 } else { all };
        let start = Instant::now();
        self.observe(&needs, &samples)?;
        self.seconds.observation += start.elapsed().as_secs_f64();
        self.job.kept.map_or(Ok(()), |kept| kept.record(&self.model, &needs, &self.facts))
    }

    /// Runs the model over samples. Where the result will be measured on the first of these, their outputs are kept.
    fn observe(&mut self, needs: &Needs, samples: &Samples) -> Result<(), Error> {
        let job = self.job;
        let watch = if self.judged || job.evaluation.is_some() {
            Watch::default()
        } else {
            let pairs = Watched::new(job.evaluator, &self.model, &self.model).pairs;
            let values = pairs.into_iter().map(|pair| (pair.reference, pair.name)).collect();
            Watch { values, samples: MEASURED_SAMPLES }
        };
        let bar = job.progress.start("calibrating", samples.len());
        let threads = job.threads.min(samples.len());
        let stream = samples.stream()?;
        let outputs =
            self.facts.observe_and_keep(job.evaluator, &self.model, (needs, &watch), stream, threads, || {
                bar.advance();
            })?;
        self.kept_outputs = Some((self.model.graph.revision().clone(), outputs));
        Ok(())
    }

    /// The values that the engine can compute.
    fn reachable(&self) -> BTreeSet<ValueId> {
        let all: Vec<ValueId> = self.model.graph.values().collect();
        self.job.evaluator.reachable(&self.model, &all).into_iter().collect()
    }

    /// All samples that calibration could take from, where it saw any.
    fn samples_used(&self) -> usize {
        let seen = self.facts.samples();
        let are_seen_whole = self.held_out.is_empty() && self.bodies.is_empty();
        if are_seen_whole { seen } else { self.samples.get().map_or(seen, Samples::len) }
    }

    /// Keeps the samples that plans are tried out on, if a pass does so.
    fn hold_out(&mut self) -> Result<(), Error> {
        if !self.judged || !self.held_out.is_empty() {
            return Ok(());
        }
        if let Some(Kept { lacking: Lacking::Refuse, .. }) = self.job.kept {
            self.notes.push("no plan was tried out, for which samples are needed: give --calib too".to_owned());
            self.judged = false;
            return Ok(());
        }
        let (fitted, held_out) = self.samples()?.split(TRIED_SAMPLES);
        self.held_out = held_out.stream()?.collect::<Result<_, _>>()?;
        if self.corrected {
            self.fitted = fitted.first(SEEN_AGAIN).stream()?.collect::<Result<_, _>>()?;
        }
        Ok(())
    }

    /// The calibration samples, opened at first use.
    fn samples(&self) -> Result<Samples, Error> {
        if let Some(samples) = self.samples.get() {
            return Ok(samples.clone());
        }
        let opened = (self.job.calibration)(&self.model)?;
        Ok(self.samples.get_or_init(|| opened).clone())
    }

    fn step(&mut self, step: &Step) -> Result<(), Error> {
        let further = self.samples.get().and_then(|samples| samples.further(TRIED_SAMPLES, LOOKED_THROUGH));
        let more = further.map(|samples| move || as_engine_samples(&samples));
        let float = self.float.as_ref().filter(|_| !self.held_out.is_empty() && step.pass.judges());
        let held_out = float.map(|float| {
            let bar = self.job.progress.start_open("trying plans");
            let watched = Watched::new(self.job.evaluator, float, &self.model);
            let names = watched.judged(&float.graph, &self.model.graph);
            let (threads, memory) = (self.job.threads, Rc::clone(&self.memory));
            let trials =
                HeldOut::new(self.job.evaluator, float, names, &self.held_out, memory, threads, move || bar.advance())
                    .with_fitted(&self.fitted);
            Timed::new(match &more {
                Some(more) => trials.with_more(more),
                None => trials,
            })
        });
        let reachable = self.reachable();
        let out_of_reach = self.model.graph.values().filter(|value| !reachable.contains(value)).collect();
        let mut cx = Context::new(
            &mut self.model,
            &mut self.plan,
            &mut self.facts,
            &self.constants,
            self.job.target,
            self.job.settings,
        )
        .with_trials(held_out.as_ref().map(|held_out| held_out as &dyn Trials))
        .without(out_of_reach);
        let start = Instant::now();
        step.pass.run(&mut cx)?;
        let outcome = cx.finish();
        let tried = held_out.as_ref().map_or(0.0, Timed::seconds);
        self.seconds.trials += tried;
        self.seconds.passes += start.elapsed().as_secs_f64() - tried;
        self.notes.extend(outcome.notes.iter().cloned());
        self.records.push(Record { pass: step.info.name, promise: step.pass.promise(), outcome });
        Ok(())
    }

    /// Compares the float model with the simulated plan.
    fn measure(&mut self) -> Result<Measured, Error> {
        if self.plan.is_empty() && !self.bodies.iter().any(Body::is_quantized) {
            return Ok(Measured::Not("nothing was quantized".to_owned()));
        }
        if self.job.evaluation.is_none() && self.samples.get().is_none() && self.job.settings.bits.activation.is_some()
        {
            match self.job.kept {
                _ if self.facts.samples() == 0 => {
                    return Ok(Measured::Not("the recipe needed no data".to_owned()));
                }
                Some(Kept { lacking: Lacking::Refuse, .. }) => {
                    return Ok(Measured::Not("no data was given".to_owned()));
                }
                _ => {}
            }
        }
        let float = self.float.clone().unwrap_or_else(|| self.model.clone());
        match self.measure_against(&float) {
            Ok(measured) => Ok(measured),
            // The plan needs no run, so that it can't be run is no reason to refuse it.
            Err(Error::Engine { source, .. }) if self.facts.samples() == 0 => Ok(Measured::Not(source.to_string())),
            Err(error @ (Error::Option(_) | Error::Data(_)))
                if self.facts.samples() == 0 && self.job.evaluation.is_none() =>
            {
                Ok(Measured::Not(error.to_string()))
            }
            Err(error) => Err(error),
        }
    }

    fn measure_against(&mut self, float: &Model) -> Result<Measured, Error> {
        let watched = Watched::new(self.job.evaluator, float, &self.model);
        if watched.pairs.is_empty() {
            return Ok(Measured::Not("the engine reaches no float output".to_owned()));
        }
        let (samples, on) = match self.job.evaluation {
            Some(samples) => (samples.clone(), MeasuredOn::EvaluationData),
            None => {
                let samples = self.samples()?;
                let measured =
                    if self.judged { samples.split(MEASURED_SAMPLES).1 } else { samples.first(MEASURED_SAMPLES) };
                let on = match (samples.is_synthesized(), measured.is_held_out()) {
                    (true, _) => MeasuredOn::SynthesizedInputs,
                    (false, true) => MeasuredOn::HeldOutSamples,
                    (false, false) => MeasuredOn::CalibrationData,
                };
                (measured, on)
            }
        };
        let (reference, other): (Vec<ValueId>, Vec<ValueId>) =
            watched.pairs.iter().map(|pair| (pair.reference, pair.other)).unzip();
        let evaluator = self.job.evaluator;
        let kept = self.take_outputs(float, &watched.pairs, &samples);
        let float_session = match kept {
            Some(_) => None,
            None => Some(evaluator.prepare(&Request { model: float, plan: None, taps: &reference })?),
        };
        let reference = match (&kept, &float_session) {
            (Some(outputs), _) => Reference::Kept(outputs),
            (None, session) => Reference::Run(&**session.as_ref().expect("just prepared")),
        };
        let request = Request { model: &self.model, plan: Some(&self.plan), taps: &other };
        let session = evaluator.prepare(&request)?;
        let bar = self.job.progress.start("measuring", samples.len());
        let quality = compare(
            (reference, &*session),
            &watched.pairs,
            samples.stream()?,
            samples.labels(),
            self.job.threads.min(samples.len()),
            &Clone::clone,
            || bar.advance(),
        )?;
        Ok(Measured::Quality { quality, on, stand_ins: watched.stand_ins })
    }

    /// What the float model makes of these samples, where that was seen before.
    fn take_outputs(&mut self, float: &Model, pairs: &[Pair], samples: &Samples) -> Option<FloatOutputs> {
        if self.job.evaluation.is_some() {
            return None;
        }
        let observed = self.kept_outputs.take().filter(|(revision, _)| revision == float.graph.revision());
        let mut outputs = observed.map_or_else(FloatOutputs::default, |(_, outputs)| outputs);
        outputs.merge(self.memory.take_float_outputs());
        let names: Vec<&str> = pairs.iter().map(|pair| pair.name.as_str()).collect();
        outputs.cover(samples.numbers(), &names).then_some(outputs)
    }
}

/// A pass over samples, as trials take it. Data that could be read once and now can't are told as a failed run.
fn as_engine_samples(
    samples: &Samples,
) -> Result<Box<dyn Iterator<Item = Result<Sample, EngineError>> + Send>, EngineError> {
    let failed = |sample: usize, error: &Error| EngineError::Run {
        engine: "the data's reader",
        sample,
        reason: error.to_string(),
    };
    let stream = samples.stream().map_err(|error| failed(0, &error))?;
    Ok(Box::new(stream.enumerate().map(move |(place, sample)| sample.map_err(|error| failed(place, &error)))))
}

fn verify(model: &Model) -> Result<(), Error> {
    let defects = onnxq_ir::verify(&model.graph);
    match defects.first() {
        None => Ok(()),
        Some(defect) => Err(Error::Broken(format!("the result breaks an invariant: {defect}"))),
    }
}
