//! Moves factors between the channels of two layers in a row, so that no channel is much wider than the others.
//!
//! # Why
//! Between two layers with a Relu between, channel c may be divided by any positive factor in the first and multiplied by it
//! in the second: the function stays. So channels that waste the levels of a shared grid can be made as wide as the others
//! (Nagel et al., 2019, Data-Free Quantization, section 4.1). The paper evens weights, for weights with one scale. Weights
//! with a scale per output channel gain nothing from that, but the activation between has one grid still: `ranges =
//! "activations"` evens it against the weights that read it.
//!
//! # Needs
//! With `ranges = "activations"`, the range per channel of what the second layer reads.
//!
//! # Effect
//! For layers with weights W1, W2, bias b1 and channel c between: `W1[c, :]` and `b1[c]` are divided by `t[c]`, `W2[:, c]` is
//! multiplied by it, with `t = sqrt(r1 / r2)`, `r2 = max |W2[:, c]|`, and `r1 = max |W1[c, :]|`, or what was seen of |x[c]|. Where
//! a depthwise layer reads the activation, its scale per channel follows by itself, so with `ranges = "activations"`
//! `t = r1 / m`, `m` the geometric mean of r1. All pairs of a model in turn, until no factor changes by more than 1e-6, at
//! most 50 times. A channel of which r1 or r2 is less than 1e-6 of the widest keeps its factor 1.
//!
//! Layers are Conv, ConvTranspose, in groups as well, and Linear. Between them may stand Relu, LeakyRelu, PRelu, a Clip from 0
//! up, and, between convolutions, MaxPool, AveragePool and GlobalAveragePool.
//!
//! In no built-in recipe: weights have scales per channel there. Beside `int8` it gave (without; `weights`; `activations`) 28.0,
//! 29.3 and 26.8 dB on a face detector with 34 such pairs, 22.0, 19.4 and 21.9 on a voice detector with three, 36.5, 36.7 and
//! 36.5 on a CNN with one.
//!
//! # Promise
//! Exact.
//!
//! # Declines
//! - `other-readers`: the value between is an output of the graph or read elsewhere as well.
//! - `nonlinear-reader`: something else stands between.
//! - `bounded`: a Clip with an upper bound stands between (Relu6): the bound has no factor per channel.
//! - `channel-axis`: one is a convolution and the other is not, or they differ in the number of channels.
//! - `not-constant`: a weight or bias is computed, or no float32 of the size that it should have.
//! - `not-finite`: a weight or bias is infinite, NaN or beyond 1e30.
//! - `no-range`: no calibration run reached it.
//! - `even`: the widest channel is less than `min-spread` times as wide as the median one, or there is nothing to change.
//!
//! # Options
//! - `ranges`: `weights`, as in the paper, or `activations`: what is made even.
//! - `min-spread`: only where the widest channel (its r1) is so many times as wide as the median one. Default 0: everywhere.

use std::collections::BTreeMap;

use onnxq_ir::ops::{Bound, Clip, Conv, ConvTranspose, Linear};
use onnxq_ir::{Graph, OpId, Patch, Tensor, ValueId};
use onnxq_plan::{Carry, ChannelAxis, Fact, Needs, Statistic};
use serde::{Deserialize, Serialize};

use crate::canonicalize::replace::only_reader;
use crate::names::label;
use crate::pass::{Context, Pass, PassError, Promise, View};

/// What a recipe or `--set cross-layer-equalization.KEY=VALUE` can set.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub(crate) struct CrossLayerEqualization {
    /// What is made even.
    pub(crate) ranges: Ranges,
    /// How uneven the channels must be.
    pub(crate) min_spread: f64,
}

/// What is made even.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Ranges {
    /// The weights of the first layer against those of the second.
    #[default]
    Weights,
    /// The activation between against the weights of the second.
    Activations,
}

/// No factor changes by more than this, as a logarithm, when all is even.
const CONVERGED: f64 = 1e-6;
/// Factors that are all nearer to 1, as logarithms, are not worth a change.
const NOTHING_TO_CHANGE: f64 = 1e-3;
const MOST_SWEEPS: usize = 50;
/// A channel below this share of the widest is dead: what makes it even would make noise of it.
const DEAD: f64 = 1e-6;
/// With factors of `1 / DEAD` at most, what is below this stays finite.
const LARGEST: f32 = 1e30;

impl Pass for CrossLayerEqualization {
    fn promise(&self) -> Promise {
        Promise::Exact
    }

    fn needs(&self, view: &View<'_>) -> Needs {
        let mut needs = Needs::none();
        if self.ranges == Ranges::Activations {
            let layers = view.graph().op_ids().filter_map(|op| Layer::at(view.graph(), op));
            for pair in layers.filter_map(|layer| Pair::from(view.graph(), &layer).ok()) {
                needs.add(pair.read(), Statistic::ChannelRange(pair.axis));
            }
        }
        needs
    }

    fn run(&self, cx: &mut Context<'_>) -> Result<(), PassError> {
        let mut model = Equalized::default();
        for op in cx.ops() {
            let Some(layer) = Layer::at(cx.graph(), op) else { continue };
            // The last one of a model.
            if cx.graph().reader_count(layer.output) == 0 {
                continue;
            }
            if let Err(reason) = model.add(self, cx, &layer) {
                cx.decline(op, reason);
            }
        }
        model.equalize();
        let (changed, same) = model.pairs.into_iter().partition::<Vec<_>, _>(Pair::changes);
        for pair in &same {
            cx.decline(pair.first, "even: there is nothing to change");
        }
        let Some(anchor) = changed.first().map(|pair| pair.first) else { return Ok(()) };
        let before: Vec<u32> = changed.iter().map(|pair| cx.graph().value(pair.read()).version()).collect();
        let mut patch = Patch::new(cx.graph(), "cross-layer-equalization", anchor);
        for scaled in model.layers.values() {
            scaled.rewrite(cx.graph(), &mut patch, &changed);
        }
        changed.iter().flat_map(|pair| &pair.between).for_each(|&value| patch.changed(value));
        cx.apply(patch)?;
        for (pair, version) in changed.iter().zip(before) {
            cx.facts.carry(&cx.model.graph, pair.read(), version, &pair.carry());
        }
        Ok(())
    }
}

/// Which axis of a weight comes first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum First {
    /// `[outputs, inputs / group, ...]`
    Output,
    /// `[inputs, outputs / group, ...]`
    Input,
}

/// A layer with a weight.
#[derive(Clone, Copy, Debug)]
struct Layer {
    op: OpId,
    weight: ValueId,
    bias: Option<ValueId>,
    output: ValueId,
    first: First,
    group: usize,
    form: Form,
}

/// Where a layer has its channels.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Form {
    /// On axis 1.
    Convolution,
    /// On the last axis.
    Linear,
}

/// Slots of weight and bias, the same in all layers.
const WEIGHT: usize = Conv::WEIGHT;
const BIAS: usize = Conv::BIAS;

impl Layer {
    fn at(graph: &Graph, op: OpId) -> Option<Self> {
        let output = graph.output(op, 0)?;
        if let Some(conv) = Conv::at(graph, op) {
            let Conv { weight, bias, group, .. } = conv;
            let (first, form, group) = (First::Output, Form::Convolution, group as usize);
            return Some(Self { op, weight, bias, output, first, group, form });
        }
        if let Some(conv) = ConvTranspose::at(graph, op) {
            let ConvTranspose { weight, bias, group, .. } = conv;
            let (first, form, group) = (First::Input, Form::Convolution, group as usize);
            return Some(Self { op, weight, bias, output, first, group, form });
        }
        let Linear { weight, bias, trans_b, .. } = Linear::at(graph, op)?;
        let first = if trans_b { First::Output } else { First::Input };
        Some(Self { op, weight, bias, output, first, group: 1, form: Form::Linear })
    }

    /// Its weight, and the number of its output and input channels.
    fn numbers(&self, graph: &Graph) -> Result<Scaled, String> {
        let name = |value| graph.value(value).name();
        let elements = |value| graph.constant(value).and_then(|tensor| Some((tensor.shape(), tensor.view::<f32>()?)));
        let not_constant = |value| format!("not-constant: `{}` is computed or of another type or size", name(value));
        let (shape, weight) = elements(self.weight).ok_or_else(|| not_constant(self.weight))?;
        let fits = shape.len() >= 2 && (shape.len() == 2) == (self.form == Form::Linear) && !weight.is_empty();
        if !fits || !shape[0].is_multiple_of(self.group) {
            return Err(not_constant(self.weight));
        }
        let (outputs, inputs) = match self.first {
            First::Output => (shape[0], shape[1] * self.group),
            First::Input => (shape[1] * self.group, shape[0]),
        };
        let mut all = vec![(self.weight, weight)];
        if let Some(bias) = self.bias {
            let (_, bias_elements) = elements(bias)
                .filter(|(_, own)| own.len() == outputs || (self.form == Form::Linear && own.len() == 1))
                .ok_or_else(|| not_constant(bias))?;
            all.push((bias, bias_elements));
        }
        let is_tame = |x: &f32| x.abs() <= LARGEST;
        if let Some((value, _)) = all.iter().find(|(_, elements)| !elements.iter().all(is_tame)) {
            return Err(format!("not-finite: `{}` has elements that are infinite, NaN or beyond 1e30", name(*value)));
        }
        let (rows, inner) = (shape[0], shape[2..].iter().product::<usize>());
        let peak = |filter: &[f32]| filter.iter().fold(0f64, |most, &w| most.max(f64::from(w).abs()));
        let peaks = all[0].1.chunks(inner.max(1)).map(peak).collect();
        Ok(Scaled {
            layer: *self,
            rows,
            columns: shape[1],
            inner,
            peaks,
            by_output: vec![1.0; outputs],
            by_input: vec![1.0; inputs],
        })
    }
}

/// A layer and the factors that it has got so far.
struct Scaled {
    layer: Layer,
    /// The first two dimensions of the weight, and the number of elements behind.
    rows: usize,
    columns: usize,
    inner: usize,
    /// The largest absolute element of each filter, row by row.
    peaks: Vec<f64>,
    by_output: Vec<f64>,
    by_input: Vec<f64>,
}

impl Scaled {
    /// Output and input channel of a filter.
    fn place(&self, filter: usize) -> (usize, usize) {
        let (row, column) = (filter / self.columns, filter % self.columns);
        let other = row / (self.rows / self.layer.group) * self.columns + column;
        match self.layer.first {
            First::Output => (row, other),
            First::Input => (other, row),
        }
    }

    /// The largest element of each channel with the factors so far.
    fn largest(&self, channels: usize, of: impl Fn((usize, usize)) -> usize) -> Vec<f64> {
        let mut largest = vec![0f64; channels];
        for (filter, peak) in self.peaks.iter().enumerate() {
            let (output, input) = self.place(filter);
            let own = &mut largest[of((output, input))];
            *own = own.max(peak * self.by_output[output] * self.by_input[input]);
        }
        largest
    }

    fn largest_by_output(&self) -> Vec<f64> {
        self.largest(self.by_output.len(), |(output, _)| output)
    }

    fn largest_by_input(&self) -> Vec<f64> {
        self.largest(self.by_input.len(), |(_, input)| input)
    }

    /// Whether every output channel, which has a scale of its own, reads one input channel only.
    fn is_depthwise(&self) -> bool {
        self.layer.group > 1 && self.layer.group == self.by_input.len()
    }

    /// Writes what the pairs make of weight and bias.
    fn rewrite(&self, graph: &Graph, patch: &mut Patch, pairs: &[Pair]) {
        let op = self.layer.op;
        let front = pairs.iter().find(|pair| pair.first == op);
        let back = pairs.iter().find(|pair| pair.second == op);
        if front.is_none() && back.is_none() {
            return;
        }
        let divisor = |output: usize| front.map_or(1.0, |pair| pair.factors[output]);
        let factor = |input: usize| back.map_or(1.0, |pair| pair.factors[input]);
        let tensor = graph.constant(self.layer.weight).expect("a constant weight");
        let old = tensor.view::<f32>().expect("a float weight");
        let scaled = old.iter().enumerate().map(|(i, &w)| {
            let (output, input) = self.place(i / self.inner);
            (f64::from(w) * factor(input) / divisor(output)) as f32
        });
        let weight = Tensor::new(tensor.shape().to_vec(), scaled.collect::<Vec<f32>>());
        patch.set_constant_for(graph, op, WEIGHT, weight);
        if let (Some(bias), Some(pair)) = (self.layer.bias, front) {
            let old = graph.constant(bias).and_then(Tensor::view::<f32>).expect("a float bias");
            let own = |output: usize| f64::from(old[if old.len() == 1 { 0 } else { output }]);
            let bias: Vec<f32> = pair.factors.iter().enumerate().map(|(o, t)| (own(o) / t) as f32).collect();
            patch.set_constant_for(graph, op, BIAS, Tensor::new(vec![bias.len()], bias));
        }
    }
}

/// Two layers in a row.
struct Pair {
    first: OpId,
    second: OpId,
    /// The values between, from what the first writes to what the second reads.
    between: Vec<ValueId>,
    axis: ChannelAxis,
    /// The largest absolute value seen of each channel, where that is made even.
    seen: Option<Vec<f64>>,
    /// Which channels are neither dead in front nor behind.
    alive: Vec<bool>,
    /// `t`
    factors: Vec<f64>,
}

impl Pair {
    /// The layer that alone reads what this one writes.
    fn from(graph: &Graph, layer: &Layer) -> Result<Self, String> {
        let mut between = vec![layer.output];
        loop {
            let value = *between.last().expect("never empty");
            let reader = only_reader(graph, value).ok_or_else(|| {
                let name = graph.value(value).name();
                format!("other-readers: `{name}` is an output or read elsewhere as well")
            })?;
            let nonlinear =
                || format!("nonlinear-reader: `{}` ({}) reads it", label(graph, reader), graph.op(reader).op_type());
            if graph.input(reader, 0) != Some(value) {
                return Err(nonlinear());
            }
            if let Some(second) = Layer::at(graph, reader) {
                if second.form != layer.form {
                    return Err(format!("channel-axis: `{}` sums over another axis", label(graph, reader)));
                }
                let rank = graph.constant(second.weight).map_or(0, Tensor::rank);
                let axis = if layer.form == Form::Linear { ChannelAxis::LAST } else { ChannelAxis(rank.max(2) - 1) };
                let (seen, alive, factors) = (None, Vec::new(), Vec::new());
                return Ok(Self { first: layer.op, second: reader, between, axis, seen, alive, factors });
            }
            match lets_pass(graph, reader, layer.form) {
                Passage::Factors => between.push(graph.output(reader, 0).ok_or_else(nonlinear)?),
                Passage::Bounded => return Err(format!("bounded: `{}` has an upper bound", label(graph, reader))),
                Passage::Nothing => return Err(nonlinear()),
            }
        }
    }

    /// What the second layer reads.
    fn read(&self) -> ValueId {
        *self.between.last().expect("never empty")
    }

    fn changes(&self) -> bool {
        self.factors.iter().any(|t| t.ln().abs() > NOTHING_TO_CHANGE)
    }

    fn carry(&self) -> Carry {
        let scale: Vec<f32> = self.factors.iter().map(|t| (1.0 / t) as f32).collect();
        Carry::ScaleShift { shift: vec![0.0; scale.len()], scale }
    }

    /// What was seen of each channel of the activation between.
    fn observed(&self, cx: &Context<'_>, channels: usize) -> Result<Vec<f64>, String> {
        let name = || cx.graph().value(self.read()).name();
        let fact = cx.facts.get(cx.graph(), self.read(), Statistic::ChannelRange(self.axis));
        let Some(Fact::ChannelRange(Some(own))) = fact else {
            return Err(format!("no-range: no calibration run reached `{}`", name()));
        };
        let widest = |range: &Option<onnxq_numerics::Range>| {
            range.map_or(0.0, |range| f64::from(range.min().abs().max(range.max().abs())))
        };
        let seen: Vec<f64> = own.ranges().iter().map(widest).collect();
        if seen.len() == channels { Ok(seen) } else { Err(format!("no-range: `{}` has other channels", name())) }
    }
}

/// What becomes of a positive factor per channel.
enum Passage {
    /// It stands behind the operator as it stood in front.
    Factors,
    /// It would, but for an upper bound.
    Bounded,
    /// It is lost.
    Nothing,
}

fn lets_pass(graph: &Graph, op: OpId, form: Form) -> Passage {
    let node = graph.op(op);
    if let Some(clip) = Clip::at(graph, op) {
        return match (clip.min, clip.max) {
            (Bound::At(0.0) | Bound::Open, Bound::Open) => Passage::Factors,
            (Bound::At(0.0) | Bound::Open, _) => Passage::Bounded,
            _ => Passage::Nothing,
        };
    }
    let pointwise = ["Relu", "LeakyRelu", "PRelu"];
    let pools = ["MaxPool", "AveragePool", "GlobalAveragePool"];
    let is_one_of = |names: &[&str]| names.iter().any(|name| node.is(name));
    if is_one_of(&pointwise) || (form == Form::Convolution && is_one_of(&pools)) {
        Passage::Factors
    } else {
        Passage::Nothing
    }
}

/// All pairs of a model.
#[derive(Default)]
struct Equalized {
    layers: BTreeMap<OpId, Scaled>,
    pairs: Vec<Pair>,
}

impl Equalized {
    /// Takes up the pair whose first layer this is.
    fn add(&mut self, options: &CrossLayerEqualization, cx: &Context<'_>, layer: &Layer) -> Result<(), String> {
        let graph = cx.graph();
        let mut pair = Pair::from(graph, layer)?;
        let first = layer.numbers(graph)?;
        let second = Layer::at(graph, pair.second).expect("a layer").numbers(graph)?;
        let channels = first.by_output.len();
        if second.by_input.len() != channels {
            return Err(format!("channel-axis: `{}` has another number of channels", label(graph, pair.second)));
        }
        if options.ranges == Ranges::Activations {
            pair.seen = Some(pair.observed(cx, channels)?);
        }
        let front = pair.seen.clone().unwrap_or_else(|| first.largest_by_output());
        let spread = spread(&front);
        if spread < options.min_spread {
            return Err(format!(
                "even: the widest channel is {spread:.1} times as wide as the median one, less than {}",
                options.min_spread
            ));
        }
        let back = second.largest_by_input();
        let alive = |r: &[f64]| {
            let least = DEAD * r.iter().fold(0f64, |most, &x| most.max(x));
            r.iter().map(|&x| x > 0.0 && x >= least).collect::<Vec<bool>>()
        };
        pair.alive = alive(&front).iter().zip(alive(&back)).map(|(&a, b)| a && b).collect();
        pair.factors = vec![1.0; channels];
        self.layers.entry(pair.first).or_insert(first);
        self.layers.entry(pair.second).or_insert(second);
        self.pairs.push(pair);
        Ok(())
    }

    /// Finds the factors of all pairs.
    fn equalize(&mut self) {
        for _ in 0..MOST_SWEEPS {
            let mut change = 0f64;
            for pair in &mut self.pairs {
                let steps = steps(pair, &self.layers[&pair.first], &self.layers[&pair.second]);
                for (c, step) in steps.into_iter().enumerate().filter(|(c, _)| pair.alive[*c]) {
                    pair.factors[c] *= step;
                    self.layers.get_mut(&pair.first).expect("taken up").by_output[c] /= step;
                    self.layers.get_mut(&pair.second).expect("taken up").by_input[c] *= step;
                    change = change.max(step.ln().abs());
                }
            }
            if change < CONVERGED {
                break;
            }
        }
    }
}

/// What the factors of a pair are to be multiplied by, as things stand.
fn steps(pair: &Pair, first: &Scaled, second: &Scaled) -> Vec<f64> {
    let front: Vec<f64> = match &pair.seen {
        Some(seen) => seen.iter().zip(&pair.factors).map(|(seen, t)| seen / t).collect(),
        None => first.largest_by_output(),
    };
    if pair.seen.is_some() && second.is_depthwise() {
        let logs: Vec<f64> = front.iter().zip(&pair.alive).filter(|(_, alive)| **alive).map(|(r, _)| r.ln()).collect();
        let mean = (logs.iter().sum::<f64>() / logs.len().max(1) as f64).exp();
        return front.iter().map(|r| r / mean).collect();
    }
    front.iter().zip(second.largest_by_input()).map(|(r1, r2)| (r1 / r2).sqrt()).collect()
}

/// The largest of these divided by the median one.
fn spread(widths: &[f64]) -> f64 {
    let mut widths = widths.to_vec();
    widths.sort_by(f64::total_cmp);
    match (widths.last(), widths.get(widths.len() / 2)) {
        (Some(widest), Some(&middle)) if middle > 0.0 => widest / middle,
        _ => 0.0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::planned::Scene;
    use crate::testing::{check, check_declined};

    #[test]
    fn conv() {
        check!("cross-layer-equalization/conv");
    }

    #[test]
    fn depthwise() {
        check!("cross-layer-equalization/depthwise");
    }

    #[test]
    fn groups() {
        check!("cross-layer-equalization/groups");
    }

    #[test]
    fn linear() {
        check!("cross-layer-equalization/linear");
    }

    #[test]
    fn activations() {
        check!("cross-layer-equalization/activations");
    }

    #[test]
    fn dead_channel() {
        check!("cross-layer-equalization/dead_channel");
    }

    #[test]
    fn tied_weight() {
        check!("cross-layer-equalization/tied_weight");
    }

    #[test]
    fn other_readers() {
        check_declined!(
            "cross-layer-equalization/other_readers",
            "other-readers: `b` is an output or read elsewhere as well"
        );
    }

    #[test]
    fn nonlinear_reader() {
        check_declined!("cross-layer-equalization/nonlinear_reader", "nonlinear-reader: `gate` (Sigmoid) reads it");
    }

    #[test]
    fn bounded() {
        check_declined!("cross-layer-equalization/bounded", "bounded: `relu6` has an upper bound");
    }

    #[test]
    fn channel_axis() {
        check_declined!("cross-layer-equalization/channel_axis", "channel-axis: `two` sums over another axis");
    }

    #[test]
    fn not_constant() {
        check_declined!(
            "cross-layer-equalization/not_constant",
            "not-constant: `b1_` is computed or of another type or size"
        );
    }

    #[test]
    fn not_finite() {
        check_declined!(
            "cross-layer-equalization/not_finite",
            "not-finite: `w1` has elements that are infinite, NaN or beyond 1e30"
        );
    }

    #[test]
    fn no_range() {
        check_declined!("cross-layer-equalization/no_range", "no-range: no calibration run reached `b`");
    }

    #[test]
    fn even() {
        check_declined!(
            "cross-layer-equalization/even",
            "even: the widest channel is 1.0 times as wide as the median one, less than 8"
        );
    }

    #[test]
    fn equal() {
        check_declined!("cross-layer-equalization/equal", "even: there is nothing to change");
    }

    /// The largest absolute weights of every channel, in front and behind, pair by pair.
    fn ranges(scene: &Scene) -> Vec<(Vec<f64>, Vec<f64>)> {
        let graph = scene.graph();
        let layers = graph.topological().into_iter().filter_map(|op| Layer::at(graph, op));
        let pairs = layers.filter_map(|layer| Some((layer, Pair::from(graph, &layer).ok()?)));
        let numbers = |layer: &Layer| layer.numbers(graph).expect("constants");
        let ranges = |(layer, pair): (Layer, Pair)| {
            let second = Layer::at(graph, pair.second).expect("a layer");
            (numbers(&layer).largest_by_output(), numbers(&second).largest_by_input())
        };
        pairs.map(ranges).collect()
    }

    #[test]
    fn both_sides_of_every_pair_become_equal() {
        for name in ["conv", "depthwise", "groups", "linear", "tied_weight"] {
            let mut scene = Scene::load(&format!("cross-layer-equalization/{name}"));
            scene.run().expect("runs");
            for (front, back) in ranges(&scene) {
                for (r1, r2) in front.iter().zip(&back) {
                    assert!((r1 / r2 - 1.0).abs() < 1e-5, "{name}: {front:?} and {back:?}");
                }
            }
        }
    }

    #[test]
    fn what_a_depthwise_layer_reads_becomes_even() {
        let mut scene = Scene::load("cross-layer-equalization/activations");
        scene.run().expect("runs");
        let graph = scene.graph();
        let first = graph.topological().into_iter().find_map(|op| Layer::at(graph, op)).expect("a layer");
        let read = Pair::from(graph, &first).expect("a pair").read();
        let mut widest = [0f64; 2];
        for seed in 0..4 {
            let elements = scene.value(read, &scene.inputs(seed));
            let half = elements.len() / 2;
            for (widest, channel) in widest.iter_mut().zip(elements.chunks(half)) {
                *widest = channel.iter().fold(*widest, |most, x| most.max(x.abs()));
            }
        }
        assert!((widest[0] / widest[1] - 1.0).abs() < 1e-4, "{widest:?}");
    }
}
