//! Trying plans out on a few samples that are kept in memory.

use std::collections::BTreeMap;
use std::sync::OnceLock;

use onnxq_ir::{Model, ValueId};
use onnxq_plan::{
    Deviation, Elements, EngineError, Evaluator, Plan, Request, Sample, Session, Shown, Trials, each_sample, sweep,
};

use crate::outputs::Watched;
use crate::progress::Bar;

/// At most so many samples are kept.
pub(crate) const MOST_SAMPLES: usize = 8;

/// Samples to judge plans on, and what the float model makes of them.
pub(crate) struct HeldOut<'a> {
    evaluator: &'a dyn Evaluator,
    /// The model before any method touched it.
    float: &'a Model,
    samples: &'a [Sample],
    threads: usize,
    bar: Bar,
    /// The float outputs, computed at first use.
    reference: OnceLock<Reference>,
}

/// Elements of the watched values by name, sample by sample.
type Reference = Vec<BTreeMap<String, Vec<f32>>>;

impl<'a> HeldOut<'a> {
    pub(crate) fn new(
        evaluator: &'a dyn Evaluator,
        float: &'a Model,
        samples: &'a [Sample],
        threads: usize,
        bar: Bar,
    ) -> Self {
        Self { evaluator, float, samples, threads, bar, reference: OnceLock::new() }
    }

    fn reference(&self, watched: &Watched) -> Result<&Reference, EngineError> {
        if let Some(known) = self.reference.get() {
            return Ok(known);
        }
        let names: BTreeMap<ValueId, &str> =
            watched.pairs.iter().map(|pair| (pair.reference, pair.name.as_str())).collect();
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
                if let Some(elements) = floats(shown.elements) {
                    all.push((position, shown.value, elements));
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
        let watched = Watched::new(self.evaluator, self.float, model);
        let reference = self.reference(&watched)?;
        let places: BTreeMap<ValueId, usize> =
            watched.pairs.iter().enumerate().map(|(i, pair)| (pair.other, i)).collect();
        let taps: Vec<ValueId> = places.keys().copied().collect();
        let session = self.evaluator.prepare(&Request { model, plan: Some(plan), taps: &taps })?;
        let threads = each_sample(
            self.numbered(samples),
            self.threads.min(samples),
            || (session.runner(), Vec::new()),
            |(runner, seen), sample| {
                let mut own = vec![Deviation::default(); watched.pairs.len()];
                runner.run(sample, &mut |shown| {
                    let (Some(&place), Some(elements)) = (places.get(&shown.value), floats(shown.elements)) else { return };
                    if let Some(float) = reference[sample.index].get(&watched.pairs[place].name) {
                        own[place] = deviation(float, &elements);
                    }
                })?;
                seen.push((sample.index, own));
                Ok::<(), EngineError>(())
            },
            |(_, seen)| seen,
        )?;
        let mut seen: Vec<(usize, Vec<Deviation>)> = threads.into_iter().flatten().collect();
        seen.sort_by_key(|(index, _)| *index);
        self.bar.advance();
        let mut sums = vec![Deviation::default(); watched.pairs.len()];
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

    fn samples(&self) -> usize {
        self.samples.len()
    }
}

/// Where shapes differ, the plan changed what must not change: as bad as it gets.
fn deviation(float: &[f32], other: &[f32]) -> Deviation {
    let signal = float.iter().map(|&a| f64::from(a) * f64::from(a)).sum();
    if float.len() != other.len() {
        return Deviation { signal, error: f64::INFINITY };
    }
    let error = float.iter().zip(other).map(|(&a, &b)| (f64::from(a) - f64::from(b)).powi(2)).sum();
    Deviation { signal, error }
}

fn floats(elements: Elements<'_>) -> Option<Vec<f32>> {
    match elements {
        Elements::F32(elements) => Some(elements.to_vec()),
        Elements::F64(elements) => Some(elements.iter().map(|&x| x as f32).collect()),
        Elements::I64(_) | Elements::I32(_) | Elements::Other(_) => None,
    }
}
