//! What the first readers of an input tell about it.
//!
//! The input is followed through what only moves, selects or casts its elements, and through arithmetic with constants,
//! into bodies too, to what gives it a meaning. Local functions and what Loop and Scan carry are not looked into.

use std::collections::{BTreeSet, VecDeque};

use onnxq_ir::ops::{
    BatchNormalization, Cast, Gather, Squeeze, Transpose, Unsqueeze, axis_from_front, constant_tensor,
};
use onnxq_ir::{Dim, ElementType, Graph, OpId, Origin, Slot, Tensor, TensorType, Use, ValueId};

use super::affine::Affine;

/// What was found.
#[derive(Default)]
pub(super) struct Evidence {
    /// Rows of tables that it picks: from the first number up to, not with, the second.
    pub(super) rows: Option<(i64, i64)>,
    /// Constants that it is compared with.
    pub(super) compared: BTreeSet<i64>,
    /// The layout that spatial operators read.
    pub(super) spatial: Option<Spatial>,
    /// The axis that a recurrent operator takes for the batch.
    pub(super) batch_axis: Option<usize>,
    /// Its distribution.
    pub(super) statistics: Option<Statistics>,
    /// 1 leaves a score as it is, 0 makes it very small.
    hides_scores: bool,
    /// A condition chooses by it.
    selects: bool,
}

/// Axes of the input as spatial operators read them.
pub(super) struct Spatial {
    pub(super) channel_axis: Option<usize>,
    pub(super) sides: [usize; 2],
}

/// Mean and standard deviation for each entry of an axis, or one for all.
pub(super) struct Statistics {
    pub(super) mean: Vec<f32>,
    pub(super) std: Vec<f32>,
    pub(super) axis: usize,
}

impl Evidence {
    /// Whether it picks rows of a table.
    pub(super) fn is_table(&self) -> bool {
        self.rows.is_some()
    }

    /// Whether it is used as a mask.
    pub(super) fn is_mask(&self) -> bool {
        self.hides_scores || (self.selects && self.compared.iter().all(|number| [0, 1].contains(number)))
    }

    /// Every table must have the row.
    fn add_rows(&mut self, low: i64, high: i64) {
        let (known_low, known_high) = self.rows.unwrap_or((low, high));
        self.rows = Some((low.max(known_low), high.min(known_high)));
    }
}

/// Reads the graph forward from an input of this rank.
pub(super) fn evidence(graph: &Graph, input: ValueId, rank: usize) -> Evidence {
    let start = Trail {
        scope: vec![graph],
        value: input,
        axes: Some((0..rank).map(Some).collect()),
        affine: Some(Affine::identity()),
        is_normalisation: true,
        channels_are_whole: true,
        is_truth: false,
    };
    let mut walk = Walk { found: Evidence::default(), seen: BTreeSet::new(), queue: VecDeque::new() };
    walk.push(start);
    while let Some(trail) = walk.queue.pop_front() {
        for reader in trail.graph().readers(trail.value) {
            walk.read(&trail, reader);
        }
    }
    walk.found
}

/// Operators that look at neighbours in `[N, C, H, W]`.
const SPATIAL: [&str; 14] = [
    "AveragePool",
    "BatchNormalization",
    "Conv",
    "ConvInteger",
    "ConvTranspose",
    "DepthToSpace",
    "GlobalAveragePool",
    "GlobalMaxPool",
    "InstanceNormalization",
    "LRN",
    "LpPool",
    "MaxPool",
    "QLinearConv",
    "SpaceToDepth",
];
const COMPARISONS: [&str; 5] = ["Equal", "Greater", "GreaterOrEqual", "Less", "LessOrEqual"];
/// A comparison with more constants than this is no choice between values.
const MAX_COMPARED: usize = 4096;
/// Steps from a constant to where it is read: casts, captures.
const MAX_STEPS: usize = 16;

/// A value that the input became.
#[derive(Clone)]
struct Trail<'g> {
    /// The graph that the value is of, last, and those around it.
    scope: Vec<&'g Graph>,
    value: ValueId,
    /// For each axis of the value which of the input it is, if one; `None` once that is lost.
    axes: Option<Vec<Option<usize>>>,
    /// The value as a function of the input, while it is that.
    affine: Option<Affine>,
    /// Whether arithmetic so far had no other reader: what normalises an input stands between it and everything else.
    is_normalisation: bool,
    /// Whether the channels are still all there and in order.
    channels_are_whole: bool,
    /// Whether it is a truth value by now.
    is_truth: bool,
}

impl<'g> Trail<'g> {
    fn graph(&self) -> &'g Graph {
        self.scope[self.scope.len() - 1]
    }

    fn axis(&self, axis: usize) -> Option<usize> {
        *self.axes.as_ref()?.get(axis)?
    }
}

struct Walk<'g> {
    found: Evidence,
    /// Values met, by the address of their graph.
    seen: BTreeSet<(usize, ValueId)>,
    queue: VecDeque<Trail<'g>>,
}

impl<'g> Walk<'g> {
    fn push(&mut self, trail: Trail<'g>) {
        if self.seen.insert((std::ptr::from_ref(trail.graph()).addr(), trail.value)) {
            self.queue.push_back(trail);
        }
    }

    /// Goes on behind an operator.
    fn follow(&mut self, trail: &Trail<'g>, op: OpId) {
        for value in trail.graph().outputs_of(op).into_iter().flatten() {
            self.push(Trail { value, ..trail.clone() });
        }
    }

    fn read(&mut self, trail: &Trail<'g>, reader: Use) {
        let op = trail.graph().op(reader.op);
        let Slot::Input(slot) = reader.slot else { return self.enter_bodies(trail, reader.op) };
        if !op.is(op.op_type()) {
            return;
        }
        match (op.op_type(), slot) {
            ("Cast", 0) => self.cast(trail, reader.op),
            ("Gather" | "GatherElements" | "GatherND" | "OneHot", _) => self.table(trail, reader.op, slot),
            ("Add" | "Sub" | "Mul" | "Div", 0 | 1) => self.arithmetic(trail, reader.op, slot),
            ("Transpose" | "Unsqueeze" | "Squeeze" | "Reshape" | "Flatten", 0) => self.rearranged(trail, reader.op),
            ("Where", 0) => self.found.selects = true,
            ("Where", _) | ("Identity" | "CastLike" | "Dropout" | "Clip" | "Pad" | "Resize" | "Upsample", 0) => {
                self.follow(trail, reader.op);
            }
            ("Slice" | "Split" | "Expand" | "Tile", 0) | ("Concat", _) => {
                self.follow(&Trail { channels_are_whole: false, ..trail.clone() }, reader.op);
            }
            ("And" | "Or" | "Xor" | "Not", _) => self.follow_truth(trail, reader.op),
            (comparison, 0 | 1) if COMPARISONS.contains(&comparison) => self.comparison(trail, reader.op, slot),
            (spatial, 0) if SPATIAL.contains(&spatial) => self.spatial(trail, reader.op),
            ("MatMul" | "Gemm", 0 | 1) => self.normalised(trail),
            // Sequences are [length, batch, size] there, states [directions, batch, size].
            ("LSTM" | "GRU" | "RNN", 0 | 5 | 6) => self.found.batch_axis = self.found.batch_axis.or(trail.axis(1)),
            _ => {}
        }
    }

    fn follow_truth(&mut self, trail: &Trail<'g>, op: OpId) {
        self.follow(&Trail { is_truth: true, affine: None, ..trail.clone() }, op);
    }

    fn enter_bodies(&mut self, trail: &Trail<'g>, owner: OpId) {
        for body in trail.graph().op(owner).bodies() {
            let captured = |&value: &ValueId| *body.value(value).origin() == Origin::Captured(trail.value);
            for value in body.values().filter(captured) {
                let mut scope = trail.scope.clone();
                scope.push(body);
                self.push(Trail { scope, value, ..trail.clone() });
            }
        }
    }

    fn cast(&mut self, trail: &Trail<'g>, op: OpId) {
        let Some(cast) = Cast::at(trail.graph(), op) else { return };
        // A number that is 0 or 1 stays what it is, so the arithmetic goes on.
        let is_truth = trail.is_truth || cast.to == ElementType::Bool;
        self.follow(&Trail { is_truth, ..trail.clone() }, op);
    }

    /// Reads as an index, or as what is picked from.
    fn table(&mut self, trail: &Trail<'g>, op: OpId, slot: usize) {
        let graph = trail.graph();
        let is_one_hot = graph.op(op).is("OneHot");
        let is_index = slot == usize::from(!is_one_hot);
        if !is_index {
            if slot == 0 {
                let axes = picked_axes(trail, op);
                self.follow(&Trail { axes, channels_are_whole: false, ..trail.clone() }, op);
            }
            return;
        }
        let rows = if is_one_hot { depth(trail, op) } else { rows(trail, op) };
        let offset = trail.affine.as_ref().and_then(Affine::offset);
        if let (Some(rows), Some(offset), false) = (rows, offset, trail.is_truth) {
            self.found.add_rows(offset.saturating_neg(), rows.saturating_sub(offset));
        }
    }

    fn arithmetic(&mut self, trail: &Trail<'g>, op: OpId, slot: usize) {
        let graph = trail.graph();
        let other = graph.input(op, 1 - slot).and_then(|value| constant(&trail.scope, value));
        let Some(other) = other else { return };
        let mut next = trail.clone();
        if let Some(axes) = &mut next.axes {
            // A constant of a higher rank adds axes in front.
            axes.splice(0..0, vec![None; other.rank().saturating_sub(axes.len())]);
        }
        next.is_normalisation &= reads(graph, trail.value) == 1;
        next.affine = trail.affine.as_ref().and_then(|affine| {
            let layout = next.axes.as_deref().filter(|_| trail.channels_are_whole);
            affine.then(graph.op(op).op_type(), slot, &other, layout)
        });
        self.found.hides_scores |= next.affine.as_ref().is_some_and(Affine::hides_zero);
        self.follow(&next, op);
    }

    fn rearranged(&mut self, trail: &Trail<'g>, op: OpId) {
        let axes = trail.axes.as_ref().and_then(|axes| rearranged_axes(trail.graph(), op, axes));
        self.follow(&Trail { axes, ..trail.clone() }, op);
    }

    fn comparison(&mut self, trail: &Trail<'g>, op: OpId, slot: usize) {
        let other = trail.graph().input(op, 1 - slot).and_then(|value| constant(&trail.scope, value));
        let other = other.filter(|other| !trail.is_truth && other.len() <= MAX_COMPARED);
        if let (Some(affine), Some(numbers)) = (&trail.affine, other.as_ref().and_then(super::affine::numbers)) {
            self.found.compared.extend(numbers.into_iter().filter_map(|number| affine.integer_before(number)));
        }
        self.follow_truth(trail, op);
    }

    fn spatial(&mut self, trail: &Trail<'g>, op: OpId) {
        let is_plane = trail.axes.as_ref().is_some_and(|axes| axes.len() == 4);
        if let (true, None, Some(height), Some(width)) = (is_plane, &self.found.spatial, trail.axis(2), trail.axis(3)) {
            self.found.spatial = Some(Spatial { channel_axis: trail.axis(1), sides: [height, width] });
        }
        match BatchNormalization::at(trail.graph(), op) {
            Some(norm) => self.batch_normalised(trail, &norm),
            None if trail.graph().op(op).is("Conv") => self.normalised(trail),
            None => {}
        }
    }

    fn batch_normalised(&mut self, trail: &Trail<'g>, norm: &BatchNormalization) {
        let numbers = |value| constant(&trail.scope, value).as_ref().and_then(super::affine::numbers);
        let (Some(mean), Some(variance)) = (numbers(norm.mean), numbers(norm.variance)) else { return };
        let (Some(affine), Some(axis), true) = (&trail.affine, trail.axis(1), trail.channels_are_whole) else { return };
        let std: Vec<f64> = variance.into_iter().map(|variance| variance.max(0.0).sqrt()).collect();
        self.know(affine.distribution_before(&mean, &std, axis));
    }

    /// Read by what wants mean 0 and variance 1: arithmetic in between is there to bring that about.
    fn normalised(&mut self, trail: &Trail<'g>) {
        let Some(affine) = trail.affine.as_ref().filter(|affine| !affine.is_identity()) else { return };
        if trail.is_normalisation {
            self.know(affine.distribution_before(&[0.0], &[1.0], affine.axis()));
        }
    }

    /// The nearest reader's word stands.
    fn know(&mut self, distribution: Option<Statistics>) {
        if self.found.statistics.is_none() {
            self.found.statistics = distribution;
        }
    }
}

/// How often a value is read, for its elements.
fn reads(graph: &Graph, value: ValueId) -> usize {
    let is_shape = |reader: &Use| graph.op(reader.op).is("Shape") || graph.op(reader.op).is("Size");
    graph.readers(value).iter().filter(|reader| !is_shape(reader)).count()
}

/// The axes behind a Gather: a list of indices leaves them where they are, a single one takes one away.
fn picked_axes(trail: &Trail<'_>, op: OpId) -> Option<Vec<Option<usize>>> {
    let gather = Gather::at(trail.graph(), op)?;
    let mut axes = trail.axes.clone()?;
    match constant(&trail.scope, gather.indices)?.rank() {
        0 => drop(axes.remove(axis_from_front(gather.axis, axes.len())?)),
        1 => {}
        _ => return None,
    }
    Some(axes)
}

fn rearranged_axes(graph: &Graph, op: OpId, axes: &[Option<usize>]) -> Option<Vec<Option<usize>>> {
    if let Some(transpose) = Transpose::at(graph, op) {
        return transpose.perm.iter().map(|&axis| axes.get(axis).copied()).collect();
    }
    if let Some(unsqueeze) = Unsqueeze::at(graph, op) {
        let rank = axes.len() + unsqueeze.axes.len();
        let new = places(&unsqueeze.axes, rank)?;
        let mut old = axes.iter();
        return (0..rank).map(|axis| if new.contains(&axis) { Some(None) } else { old.next().copied() }).collect();
    }
    let removed = places(&Squeeze::at(graph, op)?.axes?, axes.len())?;
    Some((0..axes.len()).filter(|axis| !removed.contains(axis)).map(|axis| axes[axis]).collect())
}

fn places(axes: &[i64], rank: usize) -> Option<BTreeSet<usize>> {
    axes.iter().map(|&axis| axis_from_front(axis, rank)).collect()
}

/// Rows of the table that a Gather, GatherElements or GatherND picks from.
fn rows(trail: &Trail<'_>, op: OpId) -> Option<i64> {
    let graph = trail.graph();
    let sizes: Option<Vec<usize>> = match Gather::at(graph, op) {
        Some(gather) => {
            let dims = tensor_type(&trail.scope, gather.data)?.shape?;
            Some(vec![dims.get(axis_from_front(gather.axis, dims.len())?)?.known()?])
        }
        // Whatever axes they pick along, an index below the smallest is one of all.
        None => tensor_type(&trail.scope, graph.input(op, 0)?)?.shape?.iter().map(Dim::known).collect(),
    };
    sizes?.into_iter().min().and_then(|rows| i64::try_from(rows).ok())
}

/// Classes of a OneHot.
fn depth(trail: &Trail<'_>, op: OpId) -> Option<i64> {
    let depth = constant(&trail.scope, trail.graph().input(op, 1)?)?;
    super::affine::numbers(&depth)?.first().map(|&depth| depth as i64)
}

fn tensor_type(scope: &[&Graph], value: ValueId) -> Option<TensorType> {
    if let Some(tensor) = constant(scope, value) {
        return Some(TensorType::fixed(tensor.element(), tensor.shape()));
    }
    scope.last()?.tensor_type(value)
}

/// A constant, of a graph around too, behind casts at most.
fn constant(scope: &[&Graph], value: ValueId) -> Option<Tensor> {
    let (mut scope, mut value) = (scope, value);
    for _ in 0..MAX_STEPS {
        let (&graph, outer) = scope.split_last()?;
        if let Some(tensor) = constant_tensor(graph, value) {
            return Some(tensor);
        }
        if let Origin::Captured(captured) = *graph.value(value).origin() {
            (scope, value) = (outer, captured);
            continue;
        }
        let (op, _) = graph.producer(value)?;
        let keeps_elements = ["Identity", "Cast", "CastLike"].iter().any(|op_type| graph.op(op).is(op_type));
        value = graph.input(op, 0).filter(|_| keeps_elements)?;
    }
    None
}
