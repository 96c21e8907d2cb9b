//! Trying plans out on a few samples that are kept in memory.

use std::cell::RefCell;
use std::collections::BTreeMap;

use onnxq_ir::{Graph, Model, Revision, ValueId};

use crate::checkpoint::{Checkpoint, Checkpoints};
use crate::evaluator::{EngineError, Evaluator, Request, Sample, Shown, each_sample};
use crate::float_outputs::{FloatOutputs, Watch};
use crate::plan::{Plan, Quantizer};
use crate::site::Site;
use crate::trial::{Deviation, Grids, Trials};

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
    memory: &'a Memory,
}

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
    outputs: Vec<Deviation>,
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
        memory: &'a Memory,
        threads: usize,
        tried: impl Fn() + 'a,
    ) -> Self {
        Self { evaluator, float, watched, samples, fitted: &[], threads, tried: Box::new(tried), memory }
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

    /// The deviation of every watched value under a plan on the first samples, in their order. On a part of the samples
    /// plans of a part of the operators are tried: those begin where float values were kept.
    fn run_few(&self, model: &Model, plan: &Plan, samples: usize) -> Result<Vec<Vec<Deviation>>, EngineError> {
        let mut checkpoints = self.memory.checkpoints.borrow_mut();
        let known = match checkpoints.take().filter(|known| known.are_of(model, samples)) {
            Some(known) => known,
            None => {
                let watched: Vec<ValueId> = self.watched_in(&model.graph).into_keys().collect();
                Checkpoints::new(self.evaluator, model, &watched, &self.samples[..samples])?
            }
        };
        match checkpoints.insert(known).before(&model.graph, plan) {
            Some(Checkpoint { model, samples, .. }) => self.run_plan(model, plan, samples),
            None => self.run_plan(model, plan, &self.samples[..samples]),
        }
    }

    /// The deviation of every watched value under a plan, in the order of the samples.
    fn run_plan(&self, model: &Model, plan: &Plan, samples: &[Sample]) -> Result<Vec<Vec<Deviation>>, EngineError> {
        let names = self.watched_in(&model.graph);
        let taps: Vec<ValueId> = names.keys().copied().collect();
        let places: BTreeMap<ValueId, usize> = taps.iter().copied().zip(0..).collect();
        let session = self.evaluator.prepare(&Request { model, plan: Some(plan), taps: &taps })?;
        let float = &*self.memory.float.borrow();
        let threads = each_sample(
            samples.iter().cloned().map(Ok),
            self.threads.min(samples.len()),
            || (session.runner(), Vec::new()),
            |(runner, seen), sample| {
                let mut own = vec![Deviation::default(); taps.len()];
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
    fn outputs(&self, model: &Model, plan: &Plan, samples: usize) -> Result<Vec<Deviation>, EngineError> {
        let samples = samples.min(self.samples.len());
        let is_whole = samples == self.samples.len();
        let mut outcomes = self.memory.outcomes.borrow_mut();
        if let Some(known) = outcomes.iter().find(|known| is_whole && known.is_of(model, plan)) {
            return Ok(known.outputs.clone());
        }
        self.know_float()?;
        let mut outputs = vec![Deviation::default(); self.watched_in(&model.graph).len()];
        let seen =
            if is_whole { self.run_plan(model, plan, self.samples)? } else { self.run_few(model, plan, samples)? };
        for own in seen {
            outputs.iter_mut().zip(own).for_each(|(sum, own)| sum.add(own));
        }
        if is_whole {
            let quantizers = plan.quantizers().map(|(site, quantizer)| (site, quantizer.clone())).collect();
            outcomes.truncate(OUTCOMES - 1);
            let revision = model.graph.revision().clone();
            outcomes.insert(0, Outcome { revision, quantizers, outputs: outputs.clone() });
        }
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

    fn samples(&self) -> usize {
        self.samples.len()
    }
}
