//! Float values in the middle of a model, kept so that a trial that changes only what comes later begins there.

use std::collections::{BTreeMap, BTreeSet};

use onnxq_ir::{ElementType, Graph, Model, Revision, Tensor, ValueId};

use crate::evaluator::{Elements, EngineError, Evaluator, Request, Sample, Shown};
use crate::plan::Plan;
use crate::site::Site;

/// How many places there are to begin at, evenly over the model's operators.
const PLACES: usize = 8;

/// In how many places around each of these is looked for the one that few elements cross.
const NEIGHBOURS: usize = 8;

/// Elements of one sample that may cross a place: more take more memory than a few runs are worth.
const MOST_ELEMENTS: usize = 1 << 20;

/// A model in one state, cut at several places.
pub(crate) struct Checkpoints {
    revision: Revision,
    /// The numbers of the samples that have their values at the cuts.
    samples: Vec<usize>,
    /// Where each operator stands.
    positions: BTreeMap<usize, usize>,
    cuts: Vec<Checkpoint>,
}

/// The rest of a model behind a cut.
pub(crate) struct Checkpoint {
    /// Operators from this position on are behind it.
    position: usize,
    /// The model with what crosses the cut as inputs.
    pub model: Model,
    /// The samples with these inputs.
    pub samples: Vec<Sample>,
}

impl Checkpoints {
    /// Runs the model in float over the samples and keeps what crosses the cuts on the way to the targets.
    pub(crate) fn new(
        evaluator: &dyn Evaluator,
        model: &Model,
        targets: &[ValueId],
        samples: &[Sample],
    ) -> Result<Self, EngineError> {
        let graph = &model.graph;
        let order = graph.topological();
        let positions: BTreeMap<usize, usize> = order.iter().enumerate().map(|(at, op)| (op.index(), at)).collect();
        let floats = graph.values().filter_map(|value| Some((value, float_elements(graph, value)?))).collect();
        let crossings = Crossings { graph, positions: &positions, targets, floats };
        let mut places = crossings.best_places();
        let taps: BTreeSet<ValueId> = places.iter().flat_map(|(_, crossing)| crossing).copied().collect();
        let taps: Vec<ValueId> = taps.into_iter().collect();
        let mut kept: Vec<BTreeMap<ValueId, Tensor>> = Vec::new();
        if !taps.is_empty() {
            let session = evaluator.prepare(&Request { model, plan: None, taps: &taps })?;
            let mut runner = session.runner();
            for sample in samples {
                let mut own = BTreeMap::new();
                runner.run(sample, &mut |shown| own.extend(tensor(shown).map(|tensor| (shown.value, tensor))))?;
                kept.push(own);
            }
        }
        // What is not what its type promised can't be an input.
        places.retain(|(_, crossing)| kept.iter().all(|own| crossing.iter().all(|value| own.contains_key(value))));
        let cut = |(position, crossing): (usize, Vec<ValueId>)| {
            let mut model = model.clone();
            model.graph.cut(&crossing);
            let with = |(sample, own): (&Sample, &BTreeMap<ValueId, Tensor>)| {
                let crossing = crossing.iter().map(|value| (*value, own[value].clone()));
                Sample { index: sample.index, inputs: sample.inputs.iter().cloned().chain(crossing).collect() }
            };
            Checkpoint { position, model, samples: samples.iter().zip(&kept).map(with).collect() }
        };
        let cuts = places.into_iter().map(cut).collect();
        let samples = samples.iter().map(|sample| sample.index).collect();
        Ok(Self { revision: graph.revision().clone(), samples, positions, cuts })
    }

    /// Whether they are those of a model in this state and of these samples.
    pub(crate) fn are_of(&self, model: &Model, samples: &[Sample]) -> bool {
        let numbers = samples.iter().map(|sample| sample.index);
        self.revision == *model.graph.revision() && numbers.eq(self.samples.iter().copied())
    }

    /// The last one that has all of a plan behind it.
    pub(crate) fn before(&self, graph: &Graph, plan: &Plan) -> Option<&Checkpoint> {
        let first = plan.quantizers().map(|(site, _)| self.first_changed(graph, site)).min()?;
        self.cuts.iter().rev().find(|cut| cut.position <= first)
    }

    /// The position of the first operator that reads something else than in float.
    fn first_changed(&self, graph: &Graph, site: Site) -> usize {
        let position = |op: onnxq_ir::OpId| self.positions.get(&op.index()).copied().unwrap_or(0);
        match site {
            Site::Operand { op, .. } => position(op),
            Site::Output(value) => graph.producer(value).map_or(0, |(op, _)| position(op) + 1),
        }
    }
}

/// A float32 value as a tensor of its own.
fn tensor(shown: &Shown<'_>) -> Option<Tensor> {
    match shown.elements {
        Elements::F32(elements) if elements.len() <= MOST_ELEMENTS => {
            Some(Tensor::new(shown.shape.to_vec(), elements.to_vec()))
        }
        _ => None,
    }
}

/// What crosses which place on the way to the targets.
struct Crossings<'a> {
    graph: &'a Graph,
    positions: &'a BTreeMap<usize, usize>,
    targets: &'a [ValueId],
    /// The float32 values with their elements.
    floats: BTreeMap<ValueId, usize>,
}

impl Crossings<'_> {
    /// Places to cut at, in order, with what crosses them.
    fn best_places(&self) -> Vec<(usize, Vec<ValueId>)> {
        let count = self.positions.len();
        let mut places = Vec::new();
        for place in 1..PLACES {
            let (middle, reach) = (count * place / PLACES, count / PLACES / 2);
            let near = (0..NEIGHBOURS).map(|step| middle + reach - 2 * reach * step / NEIGHBOURS);
            let near: BTreeSet<usize> = near.filter(|&at| at > 0 && at < count).collect();
            // Of equal ones the last: more lies before it.
            let best =
                near.into_iter().rev().filter_map(|at| Some((self.at(at)?, at))).min_by_key(|((size, _), _)| *size);
            places.extend(best.map(|((_, crossing), at)| (at, crossing)));
        }
        places.dedup_by_key(|(at, _)| *at);
        places
    }

    /// How many elements cross a place, as far as that is known, and the values; none where it is no place to begin at.
    fn at(&self, position: usize) -> Option<(usize, Vec<ValueId>)> {
        let mut crossing = BTreeSet::new();
        let mut seen = BTreeSet::new();
        let mut stack = self.targets.to_vec();
        let mut size = 0;
        while let Some(value) = stack.pop() {
            let Some((op, _)) = self.graph.producer(value).filter(|_| seen.insert(value)) else { continue };
            // What shapes are computed of has to stay known: only float values are cut.
            let is_before = self.positions.get(&op.index()).is_some_and(|&at| at < position);
            match self.floats.get(&value).filter(|_| is_before) {
                Some(elements) => {
                    crossing.insert(value);
                    size += elements;
                }
                None => stack.extend(self.graph.inputs_of(op).into_iter().flatten().chain(self.graph.captures_of(op))),
            }
        }
        (size <= MOST_ELEMENTS && !crossing.is_empty()).then(|| (size, crossing.into_iter().collect()))
    }
}

/// The elements of a float32 value, sizes that are not known being 1.
fn float_elements(graph: &Graph, value: ValueId) -> Option<usize> {
    let known = graph.tensor_type(value).filter(|known| known.element == ElementType::F32)?;
    Some(known.shape.iter().flatten().map(|dim| dim.known().unwrap_or(1)).product())
}
