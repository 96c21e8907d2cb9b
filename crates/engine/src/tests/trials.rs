//! Trials of plans on the engine: what they ask it for, and that a short way gives what the long one gives.

use std::collections::BTreeMap;
use std::rc::Rc;
use std::sync::Mutex;

use onnxq_ir::{Model, Op, OpId, Tensor, ValueId, ops};
use onnxq_numerics::{IntFormat, Uniform};
use onnxq_plan::trial::{On, OutputDeviation, worst_samples};
use onnxq_plan::{
    Deviation, EngineError, Evaluator, Grids, HeldOut, Inferred, Memory, Plan, Quantizer, Request, Sample, Session,
    Site, Trials,
};

use super::{Sketch, noise, plan_of, run, run_plan};
use crate::Tract;

/// tract, with a list of what was prepared: the number of graph inputs, and whether there was a plan.
#[derive(Default)]
struct Listed(Mutex<Vec<(usize, bool)>>);

impl Listed {
    fn take(&self) -> Vec<(usize, bool)> {
        std::mem::take(&mut self.0.lock().unwrap())
    }
}

impl Evaluator for Listed {
    fn name(&self) -> &'static str {
        Tract.name()
    }

    fn infer(&self, model: &Model) -> Result<Vec<Inferred>, EngineError> {
        Tract.infer(model)
    }

    fn prepare<'a>(&'a self, request: &Request<'a>) -> Result<Box<dyn Session + 'a>, EngineError> {
        self.0.lock().unwrap().push((request.model.graph.inputs().len(), request.plan.is_some()));
        TRACT.prepare(request)
    }

    fn reachable(&self, model: &Model, values: &[ValueId]) -> Vec<ValueId> {
        Tract.reachable(model, values)
    }
}

/// tract, with a list of the values that were asked for.
#[derive(Default)]
struct Taps(Mutex<Vec<Vec<ValueId>>>);

impl Evaluator for Taps {
    fn name(&self) -> &'static str {
        Tract.name()
    }

    fn infer(&self, model: &Model) -> Result<Vec<Inferred>, EngineError> {
        Tract.infer(model)
    }

    fn prepare<'a>(&'a self, request: &Request<'a>) -> Result<Box<dyn Session + 'a>, EngineError> {
        self.0.lock().unwrap().push(request.taps.to_vec());
        TRACT.prepare(request)
    }

    fn reachable(&self, model: &Model, values: &[ValueId]) -> Vec<ValueId> {
        Tract.reachable(model, values)
    }
}

static TRACT: Tract = Tract;

const SIZE: usize = 50;

/// 40 operators in a row, recognised ones among them, every other of which also reads the input.
struct Row {
    model: Model,
    input: ValueId,
    ops: Vec<OpId>,
    samples: Vec<Sample>,
}

fn row() -> Row {
    let mut sketch = Sketch::new(17);
    let input = sketch.floats("x", &[SIZE]);
    let (mut last, mut ops) = (input, Vec::new());
    for i in 0..20 {
        let function = if i % 2 == 0 { Op::new("", "Sin", vec![]) } else { ops::Silu::op() };
        let (function, value) = sketch.op(function, &[last], &format!("function{i}"));
        let (sum, value) = sketch.plain("Add", &[value, input], &format!("sum{i}"));
        ops.extend([function, sum]);
        last = value;
    }
    sketch.output(last);
    let mut model = sketch.model();
    for known in Tract.infer(&model).unwrap() {
        model.graph.set_type(known.value, known.tensor_type);
    }
    let sample = |i: usize| Sample { index: 3 + 4 * i, inputs: vec![(input, data(i))] };
    Row { model, input, ops, samples: (0..4).map(sample).collect() }
}

fn data(sample: usize) -> Tensor {
    Tensor::new(vec![SIZE], noise(sample as u64 + 1, SIZE))
}

fn coarse(scale: f32) -> Quantizer {
    Quantizer::Tensor(Uniform::new(IntFormat::U8, scale, 100).unwrap())
}

impl Row {
    fn plan(&self, op: usize) -> Plan {
        plan_of([(Site::Operand { op: self.ops[op], slot: 0 }, coarse(0.1))])
    }

    fn output(&self) -> ValueId {
        self.model.graph.outputs()[0].value
    }

    fn trials<'a>(&'a self, engine: &'a Listed, memory: &Rc<Memory>) -> HeldOut<'a> {
        let name = self.model.graph.value(self.output()).name().to_owned();
        HeldOut::new(engine, &self.model, vec![name], &self.samples, Rc::clone(memory), 2, || ())
    }

    /// The deviation of the output in the first samples, run from the beginning.
    fn deviation(&self, plan: &Plan, samples: usize) -> OutputDeviation {
        let of = |sample: usize| {
            let (taps, inputs) = ([self.output()], vec![(self.input, data(sample))]);
            let float = run(&self.model, &taps, inputs.clone());
            let planned = run_plan(&self.model, Some(plan), &taps, inputs).unwrap();
            Deviation::between(&float[0].floats, &planned[0].floats)
        };
        OutputDeviation::new((0..samples).map(of).collect())
    }
}

#[test]
fn a_plan_of_late_operators_is_tried_from_the_middle() {
    let (row, engine, memory) = (row(), Listed::default(), Rc::<Memory>::default());
    let trials = row.trials(&engine, &memory);
    for op in [0, 1, 4, 9, 17, 30, 39] {
        let plan = row.plan(op);
        engine.take();
        let found = trials.outputs(&row.model, &plan, On::Places(&[0, 1])).unwrap();
        assert_eq!(found, [row.deviation(&plan, 2)], "operator {op}");
        assert!(found[0].total().error > 0.0, "operator {op}");
        let prepared = engine.take();
        // A value that crosses the cut is an input more.
        let inputs = if op < 9 { 1 } else { 2 };
        assert_eq!(prepared.last(), Some(&(inputs, true)), "operator {op}");
        assert!(op == 0 || prepared.len() == 1, "operator {op}: float values are known: {prepared:?}");
    }
}

/// Of two outputs one is computed again, and the other is what it was in float.
#[test]
fn what_a_plan_does_not_touch_is_not_run() {
    let mut sketch = Sketch::new(17);
    let input = sketch.floats("x", &[SIZE]);
    let (near, a) = sketch.plain("Sin", &[input], "a");
    let (_, b) = sketch.plain("Cos", &[input], "b");
    sketch.output(a);
    sketch.output(b);
    let model = sketch.model();
    let samples: Vec<Sample> = (0..2).map(|i| Sample { index: i, inputs: vec![(input, data(i))] }).collect();
    let (engine, memory) = (Taps::default(), Rc::<Memory>::default());
    let trials = HeldOut::new(&engine, &model, vec!["a".to_owned(), "b".to_owned()], &samples, memory, 1, || ());
    let plan = plan_of([(Site::Operand { op: near, slot: 0 }, coarse(0.1))]);
    let found = trials.outputs(&model, &plan, On::Places(&[0, 1])).unwrap();
    let [changed, same] = [&found[0], &found[1]].map(OutputDeviation::total);
    assert!(changed.error > 0.0 && changed.signal > 1.0, "{changed:?}");
    assert!(same.error == 0.0 && same.signal > 1.0, "{same:?}");
    assert_eq!(*engine.0.lock().unwrap(), [vec![a, b], vec![a]], "the float model, then what is touched");
    let none = trials.outputs(&model, &Plan::default(), On::Places(&[0, 1])).unwrap();
    assert_eq!(none.iter().map(|output| output.total().error).sum::<f64>(), 0.0);
    assert_eq!(engine.0.lock().unwrap().len(), 2, "nothing is run for a plan of nothing");
    // A model may be another one than the float model without a plan.
    trials.outputs(&model, &Plan::default(), On::All).unwrap();
    assert_eq!(engine.0.lock().unwrap()[2], [a, b]);
}

#[test]
fn checkpoints_are_those_of_the_model_in_its_present_state() {
    let (row, engine, memory) = (row(), Listed::default(), Rc::<Memory>::default());
    let trials = row.trials(&engine, &memory);
    let plan = row.plan(39);
    let before = trials.outputs(&row.model, &plan, On::Places(&[0, 1])).unwrap();
    let mut other = row.model.clone();
    let mut patch = onnxq_ir::Patch::new(&other.graph, "test", row.ops[1]);
    patch.set_input(row.ops[1], 1, other.graph.output(row.ops[0], 0));
    patch.apply(&mut other.graph).unwrap();
    let after = trials.outputs(&other, &plan, On::Places(&[0, 1])).unwrap();
    assert!(after[0].total().error > 2.0 * before[0].total().error, "{before:?}, {after:?}");
}

#[test]
fn a_plan_that_was_tried_on_all_samples_is_known() {
    let (row, engine, memory) = (row(), Listed::default(), Rc::<Memory>::default());
    let (plan, other) = (row.plan(3), row.plan(4));
    let first = row.trials(&engine, &memory).outputs(&row.model, &plan, On::All).unwrap();
    assert_eq!(first, [row.deviation(&plan, 4)]);
    assert_eq!(engine.take(), [(1, false), (1, true)]);
    // Another pass, the same memory.
    assert_eq!(row.trials(&engine, &memory).outputs(&row.model, &plan, On::All).unwrap(), first);
    assert_eq!(engine.take(), []);
    let second = row.trials(&engine, &memory).outputs(&row.model, &other, On::All).unwrap();
    assert_ne!(second, first);
    assert_eq!(engine.take(), [(1, true)], "float outputs are known");
    let float = memory.take_float_outputs();
    assert!(float.cover(row.samples.iter().map(|sample| sample.index), &["sum19"]));
}

#[test]
fn grids_are_asked_for_once_and_bring_the_float_outputs() {
    let (row, engine, memory) = (row(), Listed::default(), Rc::<Memory>::default());
    let value = row.model.graph.find_value("function5").unwrap();
    let (fine, coarse) = (coarse(0.01), coarse(0.1));
    let grids: Grids<'_> = BTreeMap::from([(value, vec![&coarse, &fine])]);
    let found = row.trials(&engine, &memory).grids(&row.model, &grids).unwrap();
    assert_eq!(engine.take(), [(1, false)]);
    let mut plain = vec![Deviation::default(); 2];
    for sample in 0..4 {
        let seen = run(&row.model, &[value], vec![(row.input, data(sample))]);
        let own = Deviation::of_grids(&[&coarse, &fine], &seen[0].floats);
        plain.iter_mut().zip(own).for_each(|(sum, own)| sum.add(own));
    }
    assert_eq!(found[&value], plain);
    let again: Grids<'_> = BTreeMap::from([(value, vec![&fine])]);
    assert_eq!(row.trials(&engine, &memory).grids(&row.model, &again).unwrap()[&value], plain[1..]);
    row.trials(&engine, &memory).outputs(&row.model, &row.plan(3), On::All).unwrap();
    assert_eq!(engine.take(), [(1, true)], "neither grids nor float outputs are asked for again");
}

/// Samples of which those in these places are negative, and all others positive.
fn signed(row: &Row, count: usize, negative: &[usize]) -> Vec<Sample> {
    let sample = |i: usize| {
        let sign = if negative.contains(&i) { -1.0 } else { 1.0 };
        let elements: Vec<f32> = noise(i as u64 + 1, SIZE).into_iter().map(|x| sign * (x.abs() + 0.1)).collect();
        Sample { index: 100 + i, inputs: vec![(row.input, Tensor::new(vec![SIZE], elements))] }
    };
    (0..count).map(sample).collect()
}

/// A grid of numbers from 0 up clips a negative sample to nothing, which hides among twenty that it holds.
#[test]
fn a_sample_that_a_plan_ruins_is_found_among_more_and_tried() {
    let (row, engine) = (row(), Listed::default());
    let name = row.model.graph.value(row.output()).name().to_owned();
    let grid = Quantizer::Tensor(Uniform::new(IntFormat::U8, 0.02, 0).unwrap());
    let plan = plan_of([(Site::Operand { op: row.ops[39], slot: 1 }, grid)]);
    let kept = signed(&row, 2, &[]);
    for negative in [&[][..], &[13], &[4, 13]] {
        let all = signed(&row, 40, negative);
        let more = || Ok(Box::new(all.iter().cloned().map(Ok)) as Box<dyn Iterator<Item = _> + Send>);
        let trials = HeldOut::new(&engine, &row.model, vec![name.clone()], &kept, Rc::default(), 2, || ());
        let trials = trials.with_more(&more);
        let alone = trials.outputs(&row.model, &plan, On::All).unwrap();
        assert!(alone[0].judged_db() > 30.0, "{alone:?}");
        let ruined = trials.with_ruined(&row.model, &plan).unwrap();
        assert_eq!(ruined.is_some(), !negative.is_empty(), "{negative:?}");
        let Some(ruined) = ruined else { continue };
        let outputs = ruined.outputs(&row.model, &plan, On::All).unwrap();
        let mut worst = worst_samples(&outputs, negative.len());
        worst.sort_unstable();
        assert_eq!(worst, (2..2 + negative.len()).collect::<Vec<_>>(), "behind those that were kept");
        assert!(outputs[0].judged_db() < 20.0, "{outputs:?}");
        assert!(ruined.with_ruined(&row.model, &plan).unwrap().is_none(), "there are no more");
    }
}
