//! Trying plans out on a few samples that are kept in memory.

use std::borrow::Cow;
use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;

use onnxq_ir::{Graph, Model, OpId, Revision, ValueId};

use crate::checkpoint::{Checkpoint, Checkpoints};
use crate::evaluator::{EngineError, Evaluator, Request, Sample, Shown, each_sample};
use crate::float_outputs::{FloatOutputs, Watch};
use crate::plan::{Plan, Quantizer};
use crate::site::Site;
use crate::trial::{Deviation, Grids, On, OutputDeviation, Trials, ruined_samples};

/// Samples to judge plans on, and what the float model makes of them.
pub struct HeldOut<'a> {
    evaluator: &'a dyn Evaluator,
    /// The model before any method touched it.
    float: &'a Model,
    /// The values whose deviation counts, by name: the float outputs, or what stands in for them.
    watched: Vec<String>,
    samples: Cow<'a, [Sample]>,
    /// More that were held out and are not kept in memory.
    more: Option<&'a MoreSamples<'a>>,
    /// Some of those that ranges were fitted on.
    fitted: &'a [Sample],
    threads: usize,
    /// Called after every plan.
    tried: Rc<dyn Fn() + 'a>,
    memory: Rc<Memory>,
}

/// Opens a pass over samples that are not kept in memory, always the same in the same order.
pub type MoreSamples<'a> =
    dyn Fn() -> Result<Box<dyn Iterator<Item = Result<Sample, EngineError>> + Send + 'a>, EngineError> + 'a;

/// Of samples that a plan ruins, so many are kept in memory.
const RUINED_SAMPLES: usize = 2;

/// What trials on the same samples found out, so that no pass asks again what another one did.
#[derive(Default)]
pub struct Memory {
    float: RefCell<FloatOutputs>,
    grids: RefCell<KnownGrids>,
    /// The last ones on all samples.
    outcomes: RefCell<Vec<Outcome>>,
    checkpoints: RefCell<Option<Checkpoints>>,
}

impl Memory {
    /// Gives away what the float model makes of the samples, as far as somebody asked.
    pub fn take_float_outputs(&self) -> FloatOutputs {
        self.float.take()
    }
}

/// What grids make of the values of a model in one state.
#[derive(Default)]
struct KnownGrids {
    revision: Option<Revision>,
    by_value: BTreeMap<ValueId, Vec<(Quantizer, Deviation)>>,
}

impl KnownGrids {
    /// Forgets what is known of another state.
    fn stay_with(&mut self, revision: &Revision) {
        if self.revision.as_ref() != Some(revision) {
            *self = Self { revision: Some(revision.clone()), by_value: BTreeMap::new() };
        }
    }

    fn get(&self, value: ValueId, quantizer: &Quantizer) -> Option<Deviation> {
        let known = self.by_value.get(&value)?.iter().find(|(known, _)| known == quantizer)?;
        Some(known.1)
    }
}

/// A plan, and what came of it.
struct Outcome {
    revision: Revision,
    quantizers: Vec<(Site, Quantizer)>,
    outputs: Vec<OutputDeviation>,
}

impl Outcome {
    fn is_of(&self, model: &Model, plan: &Plan) -> bool {
        self.revision == *model.graph.revision()
            && plan.quantizers().eq(self.quantizers.iter().map(|(site, quantizer)| (*site, quantizer)))
    }
}

/// How many outcomes are remembered: a pass that begins where another one ended finds it among these.
const OUTCOMES: usize = 4;

impl<'a> HeldOut<'a> {
    /// Samples for a model as it was before any method touched it, and the values whose deviation counts, by name. The
    /// memory is for these samples and this model.
    pub fn new(
        evaluator: &'a dyn Evaluator,
        float: &'a Model,
        watched: Vec<String>,
        samples: &'a [Sample],
        memory: Rc<Memory>,
        threads: usize,
        tried: impl Fn() + 'a,
    ) -> Self {
        let (samples, tried) = (Cow::Borrowed(samples), Rc::new(tried));
        Self { evaluator, float, watched, samples, more: None, fitted: &[], threads, tried, memory }
    }

    /// The same, with more samples among which those are looked for that a plan ruins.
    #[must_use]
    pub fn with_more(mut self, more: &'a MoreSamples<'a>) -> Self {
        self.more = Some(more);
        self
    }

    /// The same, with some samples that ranges were fitted on.
    #[must_use]
    pub fn with_fitted(mut self, fitted: &'a [Sample]) -> Self {
        self.fitted = fitted;
        self
    }

    /// The watched values that a graph has.
    fn watched_in(&self, graph: &Graph) -> BTreeMap<ValueId, &str> {
        self.watched.iter().filter_map(|name| Some((graph.find_value(name)?, name.as_str()))).collect()
    }

    /// The watched values of the float model, where they are not all known.
    fn unknown_outputs(&self) -> Watch {
        let names: Vec<&str> = self.watched.iter().map(String::as_str).collect();
        if self.memory.float.borrow().cover(self.samples.iter().map(|sample| sample.index), &names) {
            return Watch::default();
        }
        let values = self.watched_in(&self.float.graph);
        Watch {
            values: values.into_iter().map(|(value, name)| (value, name.to_owned())).collect(),
            samples: usize::MAX,
        }
    }

    /// Shows the float model to grids and to those who compare with it.
    fn run_float(&self, model: &Model, grids: &Grids<'_>, watch: &Watch) -> Result<Vec<Seen>, EngineError> {
        let mut taps: Vec<ValueId> = grids.keys().chain(watch.values.keys()).copied().collect();
        taps.sort_unstable();
        taps.dedup();
        let session = self.evaluator.prepare(&Request { model, plan: None, taps: &taps })?;
        let threads = each_sample(
            self.samples.iter().cloned().map(Ok),
            self.threads.min(self.samples.len()),
            || (session.runner(), Vec::new()),
            |(runner, all), sample| {
                let mut seen = Seen { sample: sample.index, ..Seen::default() };
                runner.run(sample, &mut |shown| seen.see(shown, grids, watch))?;
                all.push(seen);
                Ok::<(), EngineError>(())
            },
            |(_, all)| all,
        )?;
        let mut all: Vec<Seen> = threads.into_iter().flatten().collect();
        all.sort_by_key(|seen| seen.sample);
        Ok(all)
    }

    /// Makes sure that the float outputs are known.
    fn know_float(&self) -> Result<(), EngineError> {
        let watch = self.unknown_outputs();
        if watch.values.is_empty() {
            return Ok(());
        }
        let seen = self.run_float(self.float, &Grids::new(), &watch)?;
        self.remember(seen, &Grids::new());
        Ok(())
    }

    fn remember(&self, seen: Vec<Seen>, grids: &Grids<'_>) {
        let mut known = self.memory.grids.borrow_mut();
        let mut sums: BTreeMap<ValueId, Vec<Deviation>> = BTreeMap::new();
        for Seen { grids, outputs, .. } in seen {
            self.memory.float.borrow_mut().merge(outputs);
            for (value, own) in grids {
                let sums = sums.entry(value).or_insert_with(|| vec![Deviation::default(); own.len()]);
                sums.iter_mut().zip(own).for_each(|(sum, own)| sum.add(own));
            }
        }
        for (value, sums) in sums {
            let quantizers = grids[&value].iter().map(|&quantizer| quantizer.clone());
            known.by_value.entry(value).or_default().extend(quantizers.zip(sums));
        }
    }

    /// The deviation of every watched value under a plan on these of the samples, in the order of all. On a part of the
    /// samples plans of a part of the operators are tried: those begin where float values were kept, and compute no output
    /// that the plan does not touch.
    fn run_few(&self, model: &Model, plan: &Plan, samples: &[Sample]) -> Result<Vec<Vec<Deviation>>, EngineError> {
        let mut checkpoints = self.memory.checkpoints.borrow_mut();
        let known = match checkpoints.take().filter(|known| known.are_of(model, samples)) {
            Some(known) => known,
            None => {
                let watched: Vec<ValueId> = self.watched_in(&model.graph).into_keys().collect();
                Checkpoints::new(self.evaluator, model, &watched, samples)?
            }
        };
        let touched = touched(&model.graph, plan);
        let taps: Vec<ValueId> =
            self.watched_in(&model.graph).into_keys().filter(|value| touched.contains(value)).collect();
        match checkpoints.insert(known).before(&model.graph, plan) {
            Some(Checkpoint { model, samples, .. }) => self.run_plan(model, plan, samples, &taps),
            None => self.run_plan(model, plan, samples, &taps),
        }
    }

    /// Deviations of the outputs under a plan that was not tried before.
    fn run(&self, model: &Model, plan: &Plan, on: On<'_>) -> Result<Vec<OutputDeviation>, EngineError> {
        self.know_float()?;
        let seen = match on {
            On::All => {
                let taps: Vec<ValueId> = self.watched_in(&model.graph).into_keys().collect();
                self.run_plan(model, plan, &self.samples, &taps)?
            }
            On::Places(places) => {
                let samples: Vec<Sample> =
                    places.iter().filter_map(|&place| self.samples.get(place)).cloned().collect();
                self.run_few(model, plan, &samples)?
            }
        };
        let of = |place: usize| OutputDeviation::new(seen.iter().map(|own| own[place]).collect());
        Ok((0..self.watched_in(&model.graph).len()).map(of).collect())
    }

    /// Deviations of the outputs in samples that are seen once, float and planned.
    fn look_through(
        &self,
        model: &Model,
        plan: &Plan,
        samples: impl Iterator<Item = Result<Sample, EngineError>> + Send,
    ) -> Result<Vec<OutputDeviation>, EngineError> {
        let (float, planned) = (self.watched_in(&self.float.graph), self.watched_in(&model.graph));
        let taps = |names: &BTreeMap<ValueId, &str>| names.keys().copied().collect::<Vec<_>>();
        let (float_taps, planned_taps) = (taps(&float), taps(&planned));
        let reference = self.evaluator.prepare(&Request { model: self.float, plan: None, taps: &float_taps })?;
        let session = self.evaluator.prepare(&Request { model, plan: Some(plan), taps: &planned_taps })?;
        let threads = each_sample(
            samples,
            self.threads,
            || (reference.runner(), session.runner(), Vec::new()),
            |(reference, planned_runner, seen), sample| {
                let mut known: BTreeMap<&str, Vec<f32>> = BTreeMap::new();
                reference.run(sample, &mut |shown| {
                    known.extend(shown.elements.floats().map(|elements| (float[&shown.value], elements.into_owned())));
                })?;
                let mut own: BTreeMap<&str, Deviation> = BTreeMap::new();
                planned_runner.run(sample, &mut |shown| {
                    let name = planned[&shown.value];
                    if let (Some(float), Some(elements)) = (known.get(name), shown.elements.floats()) {
                        own.insert(name, Deviation::between(float, &elements));
                    }
                })?;
                seen.push((sample.index, own));
                Ok::<(), EngineError>(())
            },
            |(_, _, seen)| seen,
        )?;
        let seen: BTreeMap<usize, BTreeMap<&str, Deviation>> = threads.into_iter().flatten().collect();
        let of = |name: &&str| {
            OutputDeviation::new(seen.values().map(|own| own.get(name).copied().unwrap_or_default()).collect())
        };
        Ok(planned.values().map(of).collect())
    }

    /// The deviation of every watched value under a plan, in the order of the samples. Those that are not among `taps` are
    /// taken to be what they are in the float model.
    fn run_plan(
        &self,
        model: &Model,
        plan: &Plan,
        samples: &[Sample],
        taps: &[ValueId],
    ) -> Result<Vec<Vec<Deviation>>, EngineError> {
        let names = self.watched_in(&model.graph);
        let places: BTreeMap<ValueId, usize> = names.keys().copied().zip(0..).collect();
        let float = &*self.memory.float.borrow();
        let as_float = |sample: &Sample| -> Vec<Deviation> {
            let of = |name: &&str| float.get(sample.index, name).map(|kept| Deviation::between(kept, kept));
            names.values().map(|name| of(name).unwrap_or_default()).collect()
        };
        if taps.is_empty() {
            (self.tried)();
            return Ok(samples.iter().map(as_float).collect());
        }
        let session = self.evaluator.prepare(&Request { model, plan: Some(plan), taps })?;
        let threads = each_sample(
            samples.iter().cloned().map(Ok),
            self.threads.min(samples.len()),
            || (session.runner(), Vec::new()),
            |(runner, seen), sample| {
                let mut own = as_float(sample);
                for tap in taps {
                    own[places[tap]] = Deviation::default();
                }
                runner.run(sample, &mut |shown| {
                    let (Some(&place), Some(elements)) = (places.get(&shown.value), shown.elements.floats()) else {
                        return;
                    };
                    if let Some(float) = float.get(sample.index, names[&shown.value]) {
                        own[place] = Deviation::between(float, &elements);
                    }
                })?;
                seen.push((sample.index, own));
                Ok::<(), EngineError>(())
            },
            |(_, seen)| seen,
        )?;
        let mut seen: Vec<(usize, Vec<Deviation>)> = threads.into_iter().flatten().collect();
        seen.sort_by_key(|(index, _)| *index);
        (self.tried)();
        Ok(seen.into_iter().map(|(_, own)| own).collect())
    }
}

/// The values that are not what they are in float under a plan.
fn touched(graph: &Graph, plan: &Plan) -> BTreeSet<ValueId> {
    let mut touched: BTreeSet<ValueId> = BTreeSet::new();
    let mut reading: BTreeSet<OpId> = BTreeSet::new();
    for (site, _) in plan.quantizers() {
        match site {
            Site::Operand { op, .. } => _ = reading.insert(op),
            Site::Output(value) => _ = touched.insert(value),
        }
    }
    for op in graph.topological() {
        let mut read = graph.inputs_of(op).into_iter().flatten().chain(graph.captures_of(op));
        if reading.contains(&op) || read.any(|value| touched.contains(&value)) {
            touched.extend(graph.outputs_of(op).into_iter().flatten());
        }
    }
    touched
}

/// What one sample showed in float.
#[derive(Default)]
struct Seen {
    sample: usize,
    grids: BTreeMap<ValueId, Vec<Deviation>>,
    outputs: FloatOutputs,
}

impl Seen {
    fn see(&mut self, shown: &Shown<'_>, grids: &Grids<'_>, watch: &Watch) {
        watch.see(self.sample, shown, &mut self.outputs);
        if let (crate::Elements::F32(elements), Some(quantizers)) = (shown.elements, grids.get(&shown.value)) {
            self.grids.insert(shown.value, Deviation::of_grids(quantizers, elements));
        }
    }
}

impl Trials for HeldOut<'_> {
    fn outputs(&self, model: &Model, plan: &Plan, on: On<'_>) -> Result<Vec<OutputDeviation>, EngineError> {
        if let On::Places(_) = on {
            return self.run(model, plan, on);
        }
        let known =
            |outcomes: &Vec<Outcome>| outcomes.iter().find(|it| it.is_of(model, plan)).map(|it| it.outputs.clone());
        if let Some(outputs) = known(&self.memory.outcomes.borrow()) {
            return Ok(outputs);
        }
        let outputs = self.run(model, plan, on)?;
        let quantizers = plan.quantizers().map(|(site, quantizer)| (site, quantizer.clone())).collect();
        let revision = model.graph.revision().clone();
        let mut outcomes = self.memory.outcomes.borrow_mut();
        outcomes.truncate(OUTCOMES - 1);
        outcomes.insert(0, Outcome { revision, quantizers, outputs: outputs.clone() });
        Ok(outputs)
    }

    fn grids(&self, model: &Model, grids: &Grids<'_>) -> Result<BTreeMap<ValueId, Vec<Deviation>>, EngineError> {
        self.memory.grids.borrow_mut().stay_with(model.graph.revision());
        let unknown: Grids<'_> = {
            let known = self.memory.grids.borrow();
            let unknown = |value: ValueId, quantizer: &Quantizer| known.get(value, quantizer).is_none();
            let of = grids.iter().map(|(&value, own)| {
                (value, own.iter().copied().filter(|quantizer| unknown(value, quantizer)).collect::<Vec<_>>())
            });
            of.filter(|(_, own)| !own.is_empty()).collect()
        };
        if !unknown.is_empty() {
            let is_float = model.graph.revision() == self.float.graph.revision();
            let watch = if is_float { self.unknown_outputs() } else { Watch::default() };
            let seen = self.run_float(model, &unknown, &watch)?;
            self.remember(seen, &unknown);
        }
        let known = self.memory.grids.borrow();
        let of = |(&value, own): (&ValueId, &Vec<&Quantizer>)| {
            Some((value, own.iter().map(|quantizer| known.get(value, quantizer)).collect::<Option<Vec<_>>>()?))
        };
        Ok(grids.iter().filter_map(of).collect())
    }

    fn show_fitted(
        &self,
        model: &Model,
        plan: Option<&Plan>,
        taps: &[ValueId],
        see: &mut dyn FnMut(&Shown<'_>),
    ) -> Result<(), EngineError> {
        let session = self.evaluator.prepare(&Request { model, plan, taps })?;
        let mut runner = session.runner();
        for sample in self.fitted {
            runner.run(sample, see)?;
        }
        Ok(())
    }

    fn with_ruined(&self, model: &Model, plan: &Plan) -> Result<Option<Box<dyn Trials + '_>>, EngineError> {
        let Some(more) = self.more else { return Ok(None) };
        let outputs = self.look_through(model, plan, more()?)?;
        let places: BTreeSet<usize> = ruined_samples(&outputs, RUINED_SAMPLES).into_iter().collect();
        if places.is_empty() {
            return Ok(None);
        }
        let ruined = more()?.enumerate().filter(|(place, _)| places.contains(place)).map(|(_, sample)| sample);
        let mut samples = self.samples.to_vec();
        samples.extend(ruined.collect::<Result<Vec<_>, _>>()?);
        Ok(Some(Box::new(Self {
            evaluator: self.evaluator,
            float: self.float,
            watched: self.watched.clone(),
            samples: Cow::Owned(samples),
            more: None,
            fitted: self.fitted,
            threads: self.threads,
            tried: Rc::clone(&self.tried),
            memory: Rc::default(),
        })))
    }
}
