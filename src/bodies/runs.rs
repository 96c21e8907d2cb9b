//! What an If, Loop or Scan gives its bodies, run by run, in float.
//!
//! The engine runs the graph around up to the operator; what the operator does with its bodies is done here, step by step,
//! since no engine shows the values of a body.

use std::collections::{BTreeMap, BTreeSet};

use onnxq_ir::ops::{Control, Scanned};
use onnxq_ir::{Dim, ElementType, Graph, OpId, Opened, Tensor, TensorType, ValueId};
use onnxq_plan::{Request, Runner, Sample, truths};

use crate::bodies::{Around, model_of};
use crate::error::Error;
use crate::samples::Samples;

/// Runs of one body that are kept, at most, and their bytes.
const KEPT: usize = 128;
const KEPT_BYTES: usize = 256 << 20;

/// Iterations of one Loop or Scan that are looked at.
const LONGEST: usize = 1024;

/// Samples of the model around that a Loop or Scan is followed on, each for many runs of its body.
const FOLLOWED: usize = 32;

/// What a body is given in one run.
type Given = Vec<(ValueId, Tensor)>;

/// What the bodies of one operator are given.
pub(super) struct Runs {
    each: Vec<Thinned>,
    samples: usize,
}

/// Every so many of what was offered, so that not too much is kept.
struct Thinned {
    seen: usize,
    every: usize,
    bytes: usize,
    kept: Vec<Given>,
}

impl Thinned {
    fn new() -> Self {
        Self { seen: 0, every: 1, bytes: 0, kept: Vec::new() }
    }

    fn offer(&mut self, given: Given) {
        let is_due = self.seen.is_multiple_of(self.every);
        self.seen += 1;
        if !is_due {
            return;
        }
        self.bytes += bytes(&given);
        self.kept.push(given);
        while self.kept.len() > 1 && (self.kept.len() > KEPT || self.bytes > KEPT_BYTES) {
            self.every *= 2;
            let mut position = 0;
            self.kept.retain(|_| {
                position += 1;
                position % 2 == 1
            });
            self.bytes = self.kept.iter().map(bytes).sum();
        }
    }
}

fn bytes(given: &Given) -> usize {
    given.iter().map(|(_, tensor)| tensor.byte_len()).sum()
}

impl Runs {
    /// The runs of a body as samples of it, where there are any.
    pub(super) fn samples(&self, place: usize) -> Option<Samples> {
        let kept = &self.each[place].kept;
        (!kept.is_empty()).then(|| Samples::gathered(kept.clone()))
    }

    /// The type of an input of a body, as one run has it.
    pub(super) fn seen(&self, place: usize, input: ValueId) -> Option<TensorType> {
        let (_, tensor) = self.each[place].kept.first()?.iter().find(|(value, _)| *value == input)?;
        Some(TensorType { element: tensor.element(), shape: Some(vec![Dim::Unknown; tensor.rank()]) })
    }

    /// How often one sample of the model around runs the body, on average.
    pub(super) fn per_sample(&self, place: usize) -> f64 {
        self.each[place].seen as f64 / self.samples.max(1) as f64
    }

    /// Runs the model around over the samples, and the operator's bodies as it would.
    pub(super) fn gather(
        around: &Around<'_>,
        owner: OpId,
        opened: &[Opened],
        samples: &Samples,
        advance: &dyn Fn(),
    ) -> Result<Self, Error> {
        let Around { float, known, .. } = around;
        let evaluator = around.job.evaluator;
        let control = Control::at(&float.graph, owner)
            .ok_or_else(|| Error::Refused(format!("no such {} is known", float.graph.op(owner).op_type())))?;
        let is_stepped = !matches!(control, Control::If { .. });
        let samples = if is_stepped { &samples.first(FOLLOWED) } else { samples };
        let taps = taps(&float.graph, owner, |value| known.contains_key(&value));
        let session = evaluator.prepare(&Request { model: float, plan: None, taps: &taps })?;
        let body = opened.first().filter(|_| is_stepped).map(|opened| model_of(float, &opened.graph));
        let outputs = body.as_ref().map(|body| handed_on(&control, &body.graph)).unwrap_or_default();
        let distinct: Vec<ValueId> = outputs.iter().copied().collect::<BTreeSet<_>>().into_iter().collect();
        let step = |model| evaluator.prepare(&Request { model, plan: None, taps: &distinct });
        let step = body.as_ref().map(step).transpose()?;
        let mut stepper = step.as_ref().map(|session| session.runner());
        let mut runs = Self { each: opened.iter().map(|_| Thinned::new()).collect(), samples: samples.len() };
        let mut runner = session.runner();
        for sample in samples.stream()? {
            let sample = sample?;
            let values = shown(&mut *runner, &sample, &taps)?;
            let stepper = stepper.as_deref_mut();
            let turn =
                Turn { around, values, opened, outputs: &outputs, runs: &mut runs, stepper, sample: sample.index };
            turn.take(&control)?;
            advance();
        }
        Ok(runs)
    }
}

/// The values that decide what bodies are given.
fn taps(graph: &Graph, owner: OpId, is_known: impl Fn(ValueId) -> bool) -> Vec<ValueId> {
    let mut taps: Vec<ValueId> = graph.inputs_of(owner).into_iter().flatten().chain(graph.captures_of(owner)).collect();
    taps.sort_unstable();
    taps.dedup();
    taps.retain(|&value| !is_known(value) && graph.constant(value).is_none());
    taps
}

/// The outputs of a body that its next run is given.
fn handed_on(control: &Control, body: &Graph) -> Vec<ValueId> {
    let count = match control {
        Control::If { .. } => 0,
        Control::Loop { state, .. } => 1 + state.len(),
        Control::Scan { state, .. } => state.len(),
    };
    body.outputs().iter().take(count).map(|declared| declared.value).collect()
}

/// What a run shows of these values.
fn shown(runner: &mut dyn Runner, sample: &Sample, taps: &[ValueId]) -> Result<BTreeMap<ValueId, Tensor>, Error> {
    let mut values = BTreeMap::new();
    runner.run(sample, &mut |shown| {
        if let Some(tensor) = shown.tensor() {
            values.insert(shown.value, tensor);
        }
    })?;
    // What is of a type that is not shown can't be handed over, but for what the sample gives.
    for &tap in taps.iter().filter(|tap| !values.contains_key(tap)).collect::<Vec<_>>() {
        let tensor =
            sample.given(tap).ok_or_else(|| Error::Refused("a value of such a type is not shown".to_owned()))?;
        values.insert(tap, tensor.clone());
    }
    Ok(values)
}

/// One sample's turn at the operator.
struct Turn<'a, 's> {
    around: &'a Around<'a>,
    values: BTreeMap<ValueId, Tensor>,
    opened: &'a [Opened],
    /// What the body hands on to its next run.
    outputs: &'a [ValueId],
    runs: &'a mut Runs,
    /// Runs the only body, where it is run step by step.
    stepper: Option<&'a mut (dyn Runner + 's)>,
    sample: usize,
}

impl Turn<'_, '_> {
    fn take(mut self, control: &Control) -> Result<(), Error> {
        match control {
            Control::If { condition, holds, fails } => self.branch(*condition, *holds, *fails),
            Control::Loop { trips, condition, state } => self.loops(*trips, *condition, state),
            Control::Scan { state, scanned } => self.scans(state, scanned),
        }
    }

    fn value(&self, value: ValueId) -> Result<&Tensor, Error> {
        let Around { float, known, .. } = self.around;
        let found = self.values.get(&value).or_else(|| known.get(&value)).or_else(|| float.graph.constant(value));
        found.ok_or_else(|| Error::Broken("what an operator with bodies reads was not seen".to_owned()))
    }

    /// What a body captures, behind what it is given as `own`.
    fn given(&self, place: usize, own: Vec<Tensor>) -> Result<Given, Error> {
        let opened = &self.opened[place];
        let inputs = opened.graph.inputs().iter().map(|declared| declared.value);
        let mut given: Given = inputs.zip(own).collect();
        for (inner, outer) in opened.captured_inputs() {
            given.push((inner, self.value(outer)?.clone()));
        }
        Ok(given)
    }

    fn branch(&mut self, condition: ValueId, holds: usize, fails: usize) -> Result<(), Error> {
        let place = if is_true(self.value(condition)?) { holds } else { fails };
        let given = self.given(place, Vec::new())?;
        self.runs.each[place].offer(given);
        Ok(())
    }

    fn loops(&mut self, trips: Option<ValueId>, condition: Option<ValueId>, state: &[ValueId]) -> Result<(), Error> {
        let trips = trips.map(|value| self.value(value)).transpose()?.and_then(first_integer);
        let trips = trips.map_or(LONGEST, |trips| usize::try_from(trips).unwrap_or(0).min(LONGEST));
        let mut goes_on = condition.map(|value| self.value(value)).transpose()?.is_none_or(is_true);
        let mut state: Vec<Tensor> = self.all(state)?;
        for iteration in 0..trips {
            if !goes_on {
                break;
            }
            let number = Tensor::scalar(i64::try_from(iteration).unwrap_or(i64::MAX));
            let own = [number, truths(vec![], &[true])].into_iter().chain(state).collect();
            let mut results = self.step(own)?;
            goes_on = is_true(&results.remove(0));
            state = results;
        }
        Ok(())
    }

    fn scans(&mut self, state: &[ValueId], scanned: &[Scanned]) -> Result<(), Error> {
        let mut state: Vec<Tensor> = self.all(state)?;
        let slices = scanned.iter().map(|scanned| {
            let slices = slices(self.value(scanned.value)?, scanned.axis);
            let mut slices = slices.ok_or_else(|| Error::Refused("such a Scan is not known".to_owned()))?;
            if scanned.is_reversed {
                slices.reverse();
            }
            Ok(slices.into_iter())
        });
        let mut slices = slices.collect::<Result<Vec<_>, Error>>()?;
        for _ in 0..LONGEST {
            let Some(slice) = slices.iter_mut().map(Iterator::next).collect::<Option<Vec<Tensor>>>() else { break };
            if slice.is_empty() {
                break;
            }
            let own = state.into_iter().chain(slice).collect();
            state = self.step(own)?;
        }
        Ok(())
    }

    fn all(&self, values: &[ValueId]) -> Result<Vec<Tensor>, Error> {
        values.iter().map(|&value| self.value(value).cloned()).collect()
    }

    /// Runs the only body once; returns what it hands on.
    fn step(&mut self, own: Vec<Tensor>) -> Result<Vec<Tensor>, Error> {
        let sample = Sample { index: self.sample, inputs: self.given(0, own)? };
        self.runs.each[0].offer(sample.inputs.clone());
        let runner = self.stepper.as_deref_mut();
        let runner =
            runner.ok_or_else(|| Error::Broken("an operator is stepped through without its body".to_owned()))?;
        let values = shown(runner, &sample, self.outputs)?;
        Ok(self.outputs.iter().map(|output| values[output].clone()).collect())
    }
}

fn is_true(tensor: &Tensor) -> bool {
    first_integer(tensor).is_some_and(|element| element != 0)
}

fn first_integer(tensor: &Tensor) -> Option<i64> {
    tensor.to_i64()?.first().copied()
}

/// The slices of a tensor along an axis, which they lack.
fn slices(tensor: &Tensor, axis: i64) -> Option<Vec<Tensor>> {
    let axis = if axis < 0 { axis + i64::try_from(tensor.rank()).ok()? } else { axis };
    let axis = usize::try_from(axis).ok().filter(|&axis| axis < tensor.rank())?;
    if tensor.element() == ElementType::String || !tensor.element().bits().is_multiple_of(8) {
        return None;
    }
    let shape = tensor.shape();
    let run = shape[axis + 1..].iter().product::<usize>() * tensor.element().bits() / 8;
    let rest: Vec<usize> = shape.iter().enumerate().filter(|(i, _)| *i != axis).map(|(_, &size)| size).collect();
    let slice = |i: usize| {
        let rows = tensor.bytes().chunks_exact((run * shape[axis]).max(1));
        let bytes: Vec<u8> = rows.flat_map(|row| row[i * run..(i + 1) * run].iter().copied()).collect();
        Tensor::from_bytes(tensor.element(), rest.clone(), bytes.into()).ok()
    };
    (0..shape[axis]).map(slice).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slices_lack_their_axis() {
        let tensor = Tensor::new(vec![2, 3], vec![0i32, 1, 2, 3, 4, 5]);
        let elements = |axis| -> Vec<Vec<i64>> {
            slices(&tensor, axis).expect("an axis").iter().map(|slice| slice.to_i64().expect("integers")).collect()
        };
        assert_eq!(elements(0), [[0, 1, 2], [3, 4, 5]]);
        assert_eq!(elements(-1), [[0, 3], [1, 4], [2, 5]]);
        assert_eq!(slices(&tensor, 1).expect("an axis")[0].shape(), [2]);
        assert!(slices(&tensor, 2).is_none());
    }

    #[test]
    fn what_is_thinned_is_spread_evenly() {
        let mut thinned = Thinned::new();
        for i in 0..1000 {
            thinned.offer(vec![]);
            assert_eq!(thinned.seen, i + 1);
        }
        assert_eq!((thinned.every, thinned.kept.len()), (8, 125));
    }
}
