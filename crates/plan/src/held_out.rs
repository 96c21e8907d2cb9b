//! Trying plans out on a few samples that are kept in memory.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;
use std::sync::OnceLock;

use onnxq_ir::{Graph, Model, ValueId};

use crate::evaluator::{EngineError, Evaluator, Request, Sample, Session, Shown, each_sample, sweep};
use crate::plan::Plan;
use crate::trial::{Deviation, On, OutputDeviation, Trials, ruined_samples};

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
    /// The float outputs, computed at first use.
    reference: OnceLock<Reference>,
}

/// Opens a pass over samples that are not kept in memory, always the same in the same order.
pub type MoreSamples<'a> =
    dyn Fn() -> Result<Box<dyn Iterator<Item = Result<Sample, EngineError>> + Send + 'a>, EngineError> + 'a;

/// Of samples that a plan ruins, so many are kept in memory.
const RUINED_SAMPLES: usize = 2;

/// Elements of the watched values by name, sample by sample.
type Reference = Vec<BTreeMap<String, Vec<f32>>>;

impl<'a> HeldOut<'a> {
    /// Samples for a model as it was before any method touched it, and the values whose deviation counts, by name.
    pub fn new(
        evaluator: &'a dyn Evaluator,
        float: &'a Model,
        watched: Vec<String>,
        samples: &'a [Sample],
        threads: usize,
        tried: impl Fn() + 'a,
    ) -> Self {
        let (samples, tried) = (Cow::Borrowed(samples), Rc::new(tried));
        let reference = OnceLock::new();
        Self { evaluator, float, watched, samples, more: None, fitted: &[], threads, tried, reference }
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

    fn reference(&self) -> Result<&Reference, EngineError> {
        if let Some(known) = self.reference.get() {
            return Ok(known);
        }
        let names = self.watched_in(&self.float.graph);
        let taps: Vec<ValueId> = names.keys().copied().collect();
        let session = self.evaluator.prepare(&Request { model: self.float, plan: None, taps: &taps })?;
        let mut kept: Reference = vec![BTreeMap::new(); self.samples.len()];
        for (position, name, elements) in self.outputs_of(&*session)? {
            kept[position].insert(names[&name].to_owned(), elements);
        }
        Ok(self.reference.get_or_init(|| kept))
    }

    /// Position of the sample, value and elements of every tapped float value.
    fn outputs_of(&self, session: &dyn Session) -> Result<Vec<(usize, ValueId, Vec<f32>)>, EngineError> {
        let all: Vec<usize> = (0..self.samples.len()).collect();
        let seen = sweep(
            session,
            self.numbered(&all),
            self.threads.min(all.len()),
            Vec::new,
            |all: &mut Vec<_>, position, shown| {
                if let Some(elements) = shown.elements.floats() {
                    all.push((position, shown.value, elements.into_owned()));
                }
            },
            || (),
        )?;
        Ok(seen.into_iter().flatten().collect())
    }

    /// The samples in these places, numbered by them.
    fn numbered<'s>(&'s self, places: &'s [usize]) -> impl Iterator<Item = Result<Sample, EngineError>> + Send + 's {
        let samples: &[Sample] = &self.samples;
        places.iter().map(|&index| Ok(Sample { index, inputs: samples[index].inputs.clone() }))
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

    fn places(&self, on: On<'_>) -> Vec<usize> {
        match on {
            On::All => (0..self.samples.len()).collect(),
            On::Places(places) => places.iter().copied().filter(|&place| place < self.samples.len()).collect(),
        }
    }
}

impl Trials for HeldOut<'_> {
    fn outputs(&self, model: &Model, plan: &Plan, on: On<'_>) -> Result<Vec<OutputDeviation>, EngineError> {
        let samples = self.places(on);
        let reference = self.reference()?;
        let names = self.watched_in(&model.graph);
        let taps: Vec<ValueId> = names.keys().copied().collect();
        let places: BTreeMap<ValueId, usize> = taps.iter().copied().zip(0..).collect();
        let session = self.evaluator.prepare(&Request { model, plan: Some(plan), taps: &taps })?;
        let threads = each_sample(
            self.numbered(&samples),
            self.threads.min(samples.len()),
            || (session.runner(), Vec::new()),
            |(runner, seen), sample| {
                let mut own = vec![Deviation::default(); taps.len()];
                runner.run(sample, &mut |shown| {
                    let (Some(&place), Some(elements)) = (places.get(&shown.value), shown.elements.floats()) else {
                        return;
                    };
                    if let Some(float) = reference[sample.index].get(names[&shown.value]) {
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
        let of = |place: usize| OutputDeviation::new(seen.iter().map(|(_, own)| own[place]).collect());
        Ok((0..taps.len()).map(of).collect())
    }

    fn show(&self, model: &Model, taps: &[ValueId], see: &mut dyn FnMut(&Shown<'_>)) -> Result<(), EngineError> {
        let session = self.evaluator.prepare(&Request { model, plan: None, taps })?;
        let mut runner = session.runner();
        for sample in self.samples.iter() {
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
            reference: OnceLock::new(),
        })))
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
}
