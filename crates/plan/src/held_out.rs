//! Trying plans out on a few samples that are kept in memory.

use std::collections::BTreeMap;
use std::sync::OnceLock;

use onnxq_ir::{Graph, Model, ValueId};

use crate::evaluator::{EngineError, Evaluator, Request, Sample, Session, Shown, each_sample, sweep};
use crate::plan::Plan;
use crate::trial::{Deviation, Trials};

/// Samples to judge plans on, and what the float model makes of them.
pub struct HeldOut<'a> {
    evaluator: &'a dyn Evaluator,
    /// The model before any method touched it.
    float: &'a Model,
    /// The values whose deviation counts, by name: the float outputs, or what stands in for them.
    watched: Vec<String>,
    samples: &'a [Sample],
    /// Some of those that ranges were fitted on.
    fitted: &'a [Sample],
    threads: usize,
    /// Called after every plan.
    tried: Box<dyn Fn() + 'a>,
    /// The float outputs, computed at first use.
    reference: OnceLock<Reference>,
}

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
        let (fitted, tried) = (&[], Box::new(tried));
        Self { evaluator, float, watched, samples, fitted, threads, tried, reference: OnceLock::new() }
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
        for (position, name, elements) in self.outputs_of(&*session, self.samples.len())? {
            kept[position].insert(names[&name].to_owned(), elements);
        }
        Ok(self.reference.get_or_init(|| kept))
    }

    /// Position of the sample, value and elements of every tapped float value.
    fn outputs_of(
        &self,
        session: &dyn Session,
        samples: usize,
    ) -> Result<Vec<(usize, ValueId, Vec<f32>)>, EngineError> {
        let seen = sweep(
            session,
            self.numbered(samples),
            self.threads.min(samples),
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

    /// The first samples, numbered from 0.
    fn numbered(&self, samples: usize) -> impl Iterator<Item = Result<Sample, EngineError>> + Send + '_ {
        let numbered = self.samples.iter().take(samples).enumerate();
        numbered.map(|(index, sample)| Ok(Sample { index, inputs: sample.inputs.clone() }))
    }
}

impl Trials for HeldOut<'_> {
    fn outputs(&self, model: &Model, plan: &Plan, samples: usize) -> Result<Vec<Deviation>, EngineError> {
        let samples = samples.min(self.samples.len());
        let reference = self.reference()?;
        let names = self.watched_in(&model.graph);
        let taps: Vec<ValueId> = names.keys().copied().collect();
        let places: BTreeMap<ValueId, usize> = taps.iter().copied().zip(0..).collect();
        let session = self.evaluator.prepare(&Request { model, plan: Some(plan), taps: &taps })?;
        let threads = each_sample(
            self.numbered(samples),
            self.threads.min(samples),
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
        let mut sums = vec![Deviation::default(); taps.len()];
        for (_, own) in seen {
            sums.iter_mut().zip(own).for_each(|(sum, own)| sum.add(own));
        }
        Ok(sums)
    }

    fn show(&self, model: &Model, taps: &[ValueId], see: &mut dyn FnMut(&Shown<'_>)) -> Result<(), EngineError> {
        let session = self.evaluator.prepare(&Request { model, plan: None, taps })?;
        let mut runner = session.runner();
        for sample in self.samples {
            runner.run(sample, see)?;
        }
        Ok(())
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

    fn samples(&self) -> usize {
        self.samples.len()
    }
}
