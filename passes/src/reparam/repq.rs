//! Quantizes what a LayerNorm writes per channel, and makes that per tensor by changing weights.
//!
//! # Why
//! The channels behind a LayerNorm differ widely in range and offset. One grid for all wastes levels; a grid per channel
//! has no integer kernel. RepQ-ViT (Li et al., 2023, section 4.1) calibrates per channel and then moves the differences
//! into the LayerNorm's affine and the weights that read it: the codes stay the same, the grid becomes one.
//!
//! # Needs
//! A histogram per channel, or its range, of what each linear reader of a LayerNorm reads, where all are in the plan.
//!
//! # Effect
//! A channel's range is the best of three percentile ranges, or all that was seen, a little wider where few values
//! were seen (`4 / n` of it). With scale `s[j]` and zero point `z[j]` of channel j, `s` their geometric mean and `z`
//! the median zero point rounded into the codes: `r[j] = s[j] / s`, `m[j] = s (z - z[j])`; gamma and beta become
//! `gamma / r` and `beta / r - m`; row j of every reader's weight is multiplied by `r[j]`, and `sum_j m[j] W[j, :]`
//! of the new weight is added to its bias, which is made where there is none. The readers' activations get the one
//! quantizer `(s, z)`. Readers may stand behind operators that move or average channels (the class token's Gather,
//! the mean before a head). A channel that is always one value, because its gamma is 0, has no scale: it is moved
//! onto 0, so that no grid can clip it.
//!
//! # Promise
//! Exact.
//!
//! # Declines
//! - `nonlinear-reader`: something else reads the channels, or they are an output of the graph.
//! - `not-a-site`: a reader's activation is not in the plan as a uniform quantizer per tensor.
//! - `not-constant`: gamma, beta, a weight or a bias is computed.
//! - `axes`: the LayerNorm does not normalize just the last axis, or its rank is not known.
//! - `no-range`: no calibration run reached it.
//! - `even`: the widest channel is less than `min-spread` times as wide as the median one.
//! - `few-rows`: calibration showed fewer than 16 values of a channel; its readers get one range per tensor.
//!
//! # Options
//! - `range`: `percentile`, as in the paper, or `minmax`.
//! - `min-spread`: only where the widest channel is so many times as wide as the median one. Default 0: everywhere.

use std::collections::BTreeMap;

use onnxq_ir::ops::{LayerNorm, Linear, is_last_axis};
use onnxq_ir::{ElementType, Graph, OpId, Patch, Tensor, ValueId};
use onnxq_numerics::{ChannelHistogram, ChannelMinMax, Histogram, IntFormat, MinMax, Range, Uniform, search};
use onnxq_plan::{Carry, ChannelAxis, Fact, Granularity, Needs, Plan, Quantizer, Scheme, Site, Statistic};
use serde::{Deserialize, Serialize};

use super::channel_readers::{Blocked, Reader, linear_readers};
use crate::names::label;
use crate::pass::{Context, Pass, PassError, Promise, View};

/// What a recipe or `--set repq.KEY=VALUE` can set.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub(crate) struct RepQ {
    /// How a channel's range is found.
    pub(crate) range: ChannelRule,
    /// How uneven the channels must be.
    pub(crate) min_spread: f64,
}

/// How a channel's range is found.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum ChannelRule {
    /// The best of three percentile ranges.
    #[default]
    Percentile,
    /// All that was seen.
    Minmax,
}

impl ChannelRule {
    fn statistic(self) -> Statistic {
        match self {
            Self::Percentile => Statistic::ChannelHistogram(ChannelAxis::LAST),
            Self::Minmax => Statistic::ChannelRange(ChannelAxis::LAST),
        }
    }
}

impl Pass for RepQ {
    fn promise(&self) -> Promise {
        Promise::Exact
    }

    fn needs(&self, view: &View<'_>) -> Needs {
        let mut needs = Needs::none();
        for op in view.graph().op_ids() {
            let Some(norm) = LayerNorm::at(view.graph(), op) else { continue };
            let readers = linear_readers(view.graph(), norm.output).unwrap_or_default();
            if shared_format(view.plan, &readers).is_ok() {
                for reader in &readers {
                    needs.add(reader.x, self.range.statistic());
                }
            }
        }
        needs
    }

    fn run(&self, cx: &mut Context<'_>) -> Result<(), PassError> {
        for op in cx.ops() {
            let Some(norm) = LayerNorm::at(cx.graph(), op) else { continue };
            match NormSite::find(self, cx, &norm) {
                Ok(site) => {
                    let own = site.own_grids();
                    let grid = Grid::towards(site.shared(&own), &own);
                    let before = site.versions(cx.graph());
                    let patch = site.rewrite(cx.graph(), &grid);
                    cx.apply(patch)?;
                    for (value, version) in before {
                        cx.facts.carry(&cx.model.graph, value, version, &grid.carry());
                    }
                    for reader in &site.readers {
                        cx.plan.assign(Site::Operand { op: reader.op, slot: 0 }, Quantizer::Tensor(grid.shared));
                        cx.assigned();
                    }
                }
                Err(reason) => cx.decline(op, reason),
            }
        }
        Ok(())
    }
}

/// From fewer values a channel's range is a guess that clips what comes later (measured: a head behind a class token
/// loses 20 dB with 4 samples, and is better off with one range for all channels).
const FEWEST_ROWS: u64 = 16;

/// A range seen in n values is widened by this over n, in all: n values leave 2 / (n + 1) of what is to come outside on
/// average. Behind a class token n is the number of samples (measured with 32: 1.6 to 2.8 dB more at 8 bits, 0.2 at 4);
/// elsewhere n is in the thousands.
const HEADROOM: f64 = 4.0;

/// A LayerNorm all of whose readers are linear and in the plan: where the change is exact.
struct NormSite {
    op: OpId,
    output: ValueId,
    /// The type of gamma and beta.
    element: ElementType,
    gamma: Vec<f32>,
    beta: Option<Vec<f32>>,
    readers: Vec<Reader>,
    format: IntFormat,
    channels: Vec<Seen>,
}

/// What was seen of one channel.
#[derive(Clone, Copy, Debug)]
struct Seen {
    /// All of it.
    whole: Option<Range>,
    /// The range that the rule finds; none where the channel is always one value.
    fitted: Option<Range>,
    count: u64,
}

/// The grid of one channel.
#[derive(Clone, Copy, Debug)]
enum Own {
    /// `s[j]` above 0, and `z[j]`, which need not be a code.
    Affine { scale: f64, zero_point: f64 },
    /// The channel always has this value (gamma is 0): no scale of its own.
    Constant(f64),
}

/// What turns the per-channel grids into one.
struct Grid {
    /// `r[j]`, a factor above 0.
    ratio: Vec<f64>,
    /// `m[j]`
    shift: Vec<f64>,
    shared: Uniform,
}

impl Grid {
    /// The change under which `shared` gives every value the code that its channel's own grid gives it.
    fn towards(shared: Uniform, own: &[Own]) -> Self {
        let (s, z) = (f64::from(shared.scale()), f64::from(shared.zero_point()));
        let change = |own: &Own| match *own {
            Own::Affine { scale, zero_point } => (scale / s, s * (z - zero_point)),
            // Moved onto 0, which is a level of every grid.
            Own::Constant(value) => (1.0, value),
        };
        let (ratio, shift) = own.iter().map(change).unzip();
        Self { ratio, shift, shared }
    }

    /// What happens to every value: `x / r - m`.
    fn carry(&self) -> Carry {
        Carry::ScaleShift {
            scale: self.ratio.iter().map(|r| (1.0 / r) as f32).collect(),
            shift: self.shift.iter().map(|m| -m as f32).collect(),
        }
    }
}

impl NormSite {
    fn find(options: &RepQ, cx: &Context<'_>, norm: &LayerNorm) -> Result<Self, String> {
        let graph = cx.graph();
        if !is_last_axis(norm.axis, graph.rank(norm.x)) {
            return Err("axes: it does not normalize just the last axis".into());
        }
        let constant = |value: ValueId| {
            let tensor = graph.constant(value).and_then(Tensor::floats);
            tensor
                .map(std::borrow::Cow::into_owned)
                .ok_or_else(|| format!("not-constant: `{}` is computed", graph.value(value).name()))
        };
        let gamma = constant(norm.scale)?;
        let beta = norm.bias.map(constant).transpose()?;
        let readers = linear_readers(graph, norm.output).map_err(|blocked| match blocked {
            Blocked::Output => "nonlinear-reader: it is an output of the graph".to_owned(),
            Blocked::Shape => "axes: its rank is not known".to_owned(),
            Blocked::Reader(op) => {
                format!("nonlinear-reader: `{}` ({}) reads it", label(graph, op), graph.op(op).op_type())
            }
        })?;
        let format = shared_format(cx.plan, &readers)?;
        for reader in &readers {
            let linear = Linear::at(graph, reader.op).expect("a linear reader");
            constant(linear.weight)?;
            linear.bias.map(constant).transpose()?;
        }
        let channels = observed(options.range, cx, &readers, format).filter(|channels| channels.len() == gamma.len());
        let channels = channels.ok_or("no-range: no calibration run reached it")?;
        let spread = spread(&channels);
        if spread < options.min_spread {
            return Err(format!(
                "even: the widest channel is {spread:.1} times as wide as the median one, less than {}",
                options.min_spread
            ));
        }
        let rows = channels.iter().map(|channel| channel.count).min().unwrap_or(0);
        if rows < FEWEST_ROWS {
            return Err(format!(
                "few-rows: calibration showed {rows} values of each channel, {FEWEST_ROWS} are needed"
            ));
        }
        let element = graph.constant(norm.scale).map_or(ElementType::F32, Tensor::element);
        Ok(Self { op: norm.op, output: norm.output, element, gamma, beta, readers, format, channels })
    }

    /// What the search finds for each channel.
    fn own_grids(&self) -> Vec<Own> {
        let steps = (self.format.levels() - 1) as f64;
        let qmin = f64::from(self.format.qmin());
        let own = |channel: &Seen| match channel.fitted {
            Some(range) => {
                let (low, high) = (f64::from(range.min()), f64::from(range.max()));
                let room = (high - low) * HEADROOM / channel.count as f64 / 2.0;
                let (low, high) = (low - room, high + room);
                let scale = (high - low) / steps;
                Own::Affine { scale, zero_point: (qmin - low / scale).round_ties_even() }
            }
            None => Own::Constant(channel.whole.map_or(0.0, |range| range.min().into())),
        };
        self.channels.iter().map(own).collect()
    }

    /// The grid that all channels get: which one is free, these keep gamma and beta near their size.
    fn shared(&self, own: &[Own]) -> Uniform {
        let affine = |own: &Own| match *own {
            Own::Affine { scale, zero_point } => Some((scale, zero_point)),
            Own::Constant(_) => None,
        };
        let (scales, zero_points): (Vec<f64>, Vec<f64>) = own.iter().filter_map(affine).unzip();
        let mean = scales.iter().map(|scale| scale.ln()).sum::<f64>() / scales.len().max(1) as f64;
        let (qmin, qmax) = (f64::from(self.format.qmin()), f64::from(self.format.qmax()));
        let zero_point = median(zero_points).unwrap_or(qmin).clamp(qmin, qmax);
        Uniform::new(self.format, mean.exp() as f32, zero_point as i32).expect("a mean of positive scales and a code")
    }

    fn rewrite(&self, graph: &Graph, grid: &Grid) -> Patch {
        let mut patch = Patch::new(graph, "repq", self.op);
        let element = self.element;
        let gamma = zip(&self.gamma, &grid.ratio, |gamma, r| gamma / r);
        patch.set_constant_for(graph, self.op, LayerNorm::SCALE, vector(element, gamma));
        let beta = self.beta.clone().unwrap_or_else(|| vec![0.0; self.gamma.len()]);
        let beta: Vec<f32> = beta
            .iter()
            .zip(grid.ratio.iter().zip(&grid.shift))
            .map(|(&beta, (r, m))| (f64::from(beta) / r - m) as f32)
            .collect();
        if self.beta.is_some() {
            patch.set_constant_for(graph, self.op, LayerNorm::BIAS, vector(element, beta));
        } else {
            let hint = format!("{}_beta", graph.value(self.output).name());
            let beta = patch.constant(graph, &hint, vector(element, beta));
            patch.set_input(self.op, LayerNorm::BIAS, Some(beta));
        }
        for reader in &self.readers {
            repair(graph, &mut patch, reader.op, grid);
        }
        self.versions(graph).into_iter().for_each(|(value, _)| patch.changed(value));
        patch
    }

    /// The values whose channels change, with their versions.
    fn versions(&self, graph: &Graph) -> BTreeMap<ValueId, u32> {
        let values = self.readers.iter().map(|reader| reader.x).chain([self.output]);
        values.map(|value| (value, graph.value(value).version())).collect()
    }
}

/// Gives a linear reader the weight and bias that undo the change of its activation.
fn repair(graph: &Graph, patch: &mut Patch, op: OpId, grid: &Grid) {
    let linear = Linear::at(graph, op).expect("a linear reader");
    let tensor = graph.constant(linear.weight).expect("a constant weight");
    let old = tensor.floats().expect("a float weight");
    let shape = tensor.shape().to_vec();
    let outputs = if linear.trans_b { shape[0] } else { shape[1] };
    let channels = grid.ratio.len();
    // `(input channel, output channel)` of element i.
    let place = |i: usize| if linear.trans_b { (i % channels, i / channels) } else { (i / outputs, i % outputs) };
    let mut weight = Vec::with_capacity(old.len());
    let mut moved = vec![0.0f64; outputs];
    for (i, &w) in old.iter().enumerate() {
        let (input, output) = place(i);
        let scaled = f64::from(w) * grid.ratio[input];
        weight.push(scaled as f32);
        moved[output] += grid.shift[input] * scaled;
    }
    patch.set_constant_for(graph, op, Linear::WEIGHT, tensor.with_floats(shape, weight).expect("a float weight"));
    match linear.bias {
        Some(bias) => {
            let old = graph.constant(bias).expect("a constant bias");
            let values = old.floats().expect("a float bias");
            let bias: Vec<f32> = moved
                .iter()
                .enumerate()
                .map(|(i, m)| (f64::from(values[if values.len() == 1 { 0 } else { i }]) + m) as f32)
                .collect();
            patch.set_constant_for(graph, op, Linear::BIAS, vector(tensor.element(), bias));
        }
        None => {
            let bias = vector(tensor.element(), moved.iter().map(|&m| m as f32).collect());
            let hint = format!("{}_bias", graph.value(linear.output).name());
            let bias = patch.constant(graph, &hint, bias);
            patch.set_input(op, Linear::BIAS, Some(bias));
        }
    }
}

/// The one activation format that all readers are to have.
fn shared_format(plan: &Plan, readers: &[Reader]) -> Result<IntFormat, String> {
    let mut formats = readers.iter().map(|reader| match plan.get(Site::Operand { op: reader.op, slot: 0 }) {
        Some(entry) if entry.quantizer.is_none() => match entry.scheme {
            Scheme::Uniform { format, granularity: Granularity::Tensor, .. } => Some(format),
            _ => None,
        },
        _ => None,
    });
    let refuse = || "not-a-site: a reader's activation is not in the plan".to_owned();
    let first = formats.next().ok_or_else(|| "nonlinear-reader: nobody reads it".to_owned())?.ok_or_else(refuse)?;
    if formats.all(|other| other == Some(first)) { Ok(first) } else { Err(refuse()) }
}

/// What the readers read, per channel, all together.
fn observed(rule: ChannelRule, cx: &Context<'_>, readers: &[Reader], format: IntFormat) -> Option<Vec<Seen>> {
    let mut values: Vec<ValueId> = readers.iter().map(|reader| reader.x).collect();
    values.sort_unstable();
    values.dedup();
    let facts = values.into_iter().map(|value| cx.facts.get(cx.graph(), value, rule.statistic()));
    let facts: Vec<&Fact> = facts.collect::<Option<_>>()?;
    match rule {
        ChannelRule::Percentile => {
            let own = |fact: &&Fact| match fact {
                Fact::ChannelHistogram(Some(own)) => Some(own.clone()),
                _ => None,
            };
            let all: Vec<ChannelHistogram> = facts.iter().map(own).collect::<Option<_>>()?;
            let merged = merge(all, ChannelHistogram::merge)?;
            let seen = |channel: &Histogram| Seen {
                whole: channel.range(),
                fitted: search::repq_free(channel, format.levels()),
                count: channel.count(),
            };
            Some(merged.channels().iter().map(seen).collect())
        }
        ChannelRule::Minmax => {
            let own = |fact: &&Fact| match fact {
                Fact::ChannelRange(Some(own)) => Some(own.clone()),
                _ => None,
            };
            let all: Vec<ChannelMinMax> = facts.iter().map(own).collect::<Option<_>>()?;
            let merged = merge(all, ChannelMinMax::merge)?;
            let seen = |channel: &MinMax| Seen {
                whole: channel.range(),
                fitted: channel.range().filter(|range| range.min() < range.max()),
                count: channel.count(),
            };
            Some(merged.channels().iter().map(seen).collect())
        }
    }
}

fn merge<T>(all: Vec<T>, with: impl Fn(&mut T, &T)) -> Option<T> {
    all.into_iter().reduce(|mut merged, own| {
        with(&mut merged, &own);
        merged
    })
}

/// The width of the widest channel divided by that of the median one.
fn spread(channels: &[Seen]) -> f64 {
    let widths = channels.iter().filter_map(|channel| channel.whole);
    let mut widths: Vec<f64> = widths.map(|range| f64::from(range.max()) - f64::from(range.min())).collect();
    widths.sort_by(f64::total_cmp);
    match (widths.last(), widths.get(widths.len() / 2)) {
        (Some(widest), Some(&middle)) if middle > 0.0 => widest / middle,
        _ => 0.0,
    }
}

fn vector(element: ElementType, elements: Vec<f32>) -> Tensor {
    Tensor::of_floats(element, vec![elements.len()], elements).expect("a type of floats")
}

fn zip(a: &[f32], b: &[f64], f: impl Fn(f64, f64) -> f64) -> Vec<f32> {
    a.iter().zip(b).map(|(&a, &b)| f(f64::from(a), b) as f32).collect()
}

/// The lower median.
fn median(mut numbers: Vec<f64>) -> Option<f64> {
    numbers.sort_by(f64::total_cmp);
    (!numbers.is_empty()).then(|| numbers[(numbers.len() - 1) / 2])
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::PassInfo;
    use crate::testing::planned::Scene;
    use crate::testing::{check, check_declined};

    #[test]
    fn linear() {
        check!("repq/linear");
    }

    #[test]
    fn without_bias() {
        check!("repq/without_bias");
    }

    #[test]
    fn without_beta() {
        check!("repq/without_beta");
    }

    #[test]
    fn gemm() {
        check!("repq/gemm");
    }

    #[test]
    fn three_readers() {
        check!("repq/three_readers");
    }

    #[test]
    fn class_token() {
        check!("repq/class_token");
    }

    #[test]
    fn roll() {
        check!("repq/roll");
    }

    #[test]
    fn mean() {
        check!("repq/mean");
    }

    #[test]
    fn windows() {
        check!("repq/windows");
    }

    #[test]
    fn shape_reader() {
        check!("repq/shape_reader");
    }

    #[test]
    fn gamma_zero() {
        check!("repq/gamma_zero");
    }

    #[test]
    fn tied_weight() {
        check!("repq/tied_weight");
    }

    #[test]
    fn classic_13() {
        check!("repq/classic_13");
    }

    #[test]
    fn split() {
        check!("repq/split");
    }

    #[test]
    fn gelu_reader() {
        check_declined!("repq/gelu_reader", "nonlinear-reader: `gelu` (Gelu) reads it");
    }

    #[test]
    fn residual_reader() {
        check_declined!("repq/residual_reader", "nonlinear-reader: `residual` (Add) reads it");
    }

    #[test]
    fn output() {
        check_declined!("repq/output", "nonlinear-reader: it is an output of the graph");
    }

    #[test]
    fn sliced_channels() {
        check_declined!("repq/sliced_channels", "nonlinear-reader: `half` (Slice) reads it");
    }

    #[test]
    fn moved_channels() {
        check_declined!("repq/moved_channels", "nonlinear-reader: `fc` (Linear) reads it");
    }

    #[test]
    fn product_of_two() {
        check_declined!("repq/product_of_two", "nonlinear-reader: `square` (MatMul) reads it");
    }

    #[test]
    fn not_a_site() {
        check_declined!("repq/not_a_site", "not-a-site: a reader's activation is not in the plan");
    }

    #[test]
    fn weights_only() {
        check_declined!("repq/weights_only", "not-a-site: a reader's activation is not in the plan");
    }

    #[test]
    fn not_constant() {
        check_declined!("repq/not_constant", "not-constant: `g` is computed");
    }

    #[test]
    fn axes() {
        check_declined!("repq/axes", "axes: it does not normalize just the last axis");
    }

    #[test]
    fn few_rows() {
        check_declined!("repq/few_rows", "few-rows: calibration showed 8 values of each channel, 16 are needed");
    }

    #[test]
    fn no_range() {
        check_declined!("repq/no_range", "no-range: no calibration run reached it");
    }

    /// Per-channel codes before, and shared codes after, are the same but on rounding ties.
    fn codes_stay(name: &str) {
        let mut scene = Scene::load(name);
        scene.gather(&RepQ::default());
        let sites: Vec<NormSite> = {
            let cx = scene.context();
            let norms = cx.ops().into_iter().filter_map(|op| LayerNorm::at(cx.graph(), op));
            norms.map(|norm| NormSite::find(&RepQ::default(), &cx, &norm).expect("a site")).collect()
        };
        let inputs: Vec<_> = (0..4).map(|seed| scene.inputs(seed)).collect();
        let readers: Vec<(&NormSite, Reader)> =
            sites.iter().flat_map(|site| site.readers.iter().map(move |reader| (site, *reader))).collect();
        let see = |scene: &Scene| -> Vec<Vec<f64>> {
            let values = |(_, reader): &(&NormSite, Reader)| {
                inputs.iter().flat_map(|inputs| scene.value(reader.x, inputs)).collect::<Vec<f64>>()
            };
            readers.iter().map(values).collect()
        };
        let before = see(&scene);
        scene.run().expect("runs");
        let after = see(&scene);
        for (i, (site, reader)) in readers.iter().enumerate() {
            let Some(Quantizer::Tensor(shared)) = scene.plan.quantizer(Site::Operand { op: reader.op, slot: 0 }) else {
                panic!("{name}: a reader has no quantizer per tensor")
            };
            let own = site.own_grids();
            let (mut ties, codes) = (0, shared.codes());
            for (j, (x, y)) in before[i].iter().zip(&after[i]).enumerate() {
                let code = shared.code(*y as f32);
                match own[j % own.len()] {
                    Own::Constant(value) => assert_eq!((*x, code), (value, shared.zero_point()), "{name}: {x}"),
                    Own::Affine { scale, zero_point } => {
                        let steps = x / scale;
                        let expected = (steps.round_ties_even() + zero_point)
                            .clamp(f64::from(*codes.start()), f64::from(*codes.end()));
                        if (steps - steps.floor() - 0.5).abs() < 1e-4 {
                            ties += 1;
                        } else {
                            assert_eq!(f64::from(code), expected, "{name}: element {j}, {x} became {y}");
                        }
                    }
                }
            }
            assert!(ties * 20 < before[i].len(), "{name}: {ties} ties");
        }
    }

    #[test]
    fn codes_are_those_of_the_channels_own_grids() {
        for name in [
            "linear",
            "gemm",
            "three_readers",
            "class_token",
            "roll",
            "mean",
            "windows",
            "gamma_zero",
            "tied_weight",
            "split",
        ] {
            codes_stay(&format!("repq/{name}"));
        }
    }

    /// The outputs that the simulation gives with this scale and zero point for all channels, or with those of the pass.
    fn simulate(shared: Option<(f32, Option<i32>)>, weights: Option<&str>) -> Vec<f64> {
        let mut scene = Scene::load("repq/three_readers");
        scene.gather(&RepQ::default());
        let mut cx = scene.context();
        let norm = cx.ops().into_iter().find_map(|op| LayerNorm::at(cx.graph(), op)).expect("a norm");
        let site = NormSite::find(&RepQ::default(), &cx, &norm).expect("a site");
        let own = site.own_grids();
        let mut grid = site.shared(&own);
        if let Some((scale, zero_point)) = shared {
            grid = Uniform::new(site.format, scale, zero_point.unwrap_or(grid.zero_point())).expect("a quantizer");
        }
        let patch = site.rewrite(cx.graph(), &Grid::towards(grid, &own));
        cx.apply(patch).expect("applies");
        for reader in &site.readers {
            cx.plan.assign(Site::Operand { op: reader.op, slot: 0 }, Quantizer::Tensor(grid));
        }
        if let Some(pass) = weights {
            scene.step(PassInfo::find(pass).expect("a pass"), "").expect("runs");
        }
        let inputs = scene.inputs(7);
        scene.simulated(&inputs).concat()
    }

    fn assert_close(a: &[f64], b: &[f64]) {
        let largest = a.iter().fold(0f64, |max, y| max.max(y.abs()));
        for (y, z) in a.iter().zip(b) {
            assert!((y - z).abs() <= 1e-5 * largest, "{y} became {z}");
        }
    }

    /// Weights have scales per column, so they follow the factor.
    #[test]
    fn the_shared_scale_is_a_matter_of_taste() {
        let chosen = simulate(None, Some("minmax"));
        for scale in [1.0, 0.01, 30.0] {
            assert_close(&chosen, &simulate(Some((scale, None)), Some("minmax")));
        }
    }

    /// Not so behind quantized weights: their error is multiplied by code minus zero point.
    #[test]
    fn the_shared_zero_point_is_a_matter_of_taste_before_float_weights() {
        let chosen = simulate(None, None);
        for (scale, zero_point) in [(1.0, 0), (0.01, 8), (0.3, 15)] {
            assert_close(&chosen, &simulate(Some((scale, Some(zero_point))), None));
        }
    }

    #[test]
    fn a_constant_channel_is_exact_in_the_simulation() {
        let mut scene = Scene::load("repq/gamma_zero");
        let inputs = scene.inputs(0);
        scene.run().expect("runs");
        let norm = scene.graph().op_ids().find_map(|op| LayerNorm::at(scene.graph(), op)).expect("a norm");
        let values = scene.value(norm.output, &inputs);
        assert!(values.iter().skip(1).step_by(4).all(|&value| value == 0.0), "{values:?}");
    }

    #[test]
    fn channel_ranges_follow_the_change() {
        let mut scene = Scene::load("repq/linear");
        let norm = scene.graph().op_ids().find_map(|op| LayerNorm::at(scene.graph(), op)).expect("a norm");
        let statistic = Statistic::ChannelRange(ChannelAxis::LAST);
        let mut needs = Needs::none();
        needs.add(norm.output, statistic);
        scene.observe(&needs);
        scene.run().expect("runs");
        let Some(Fact::ChannelRange(Some(carried))) = scene.facts.get(scene.graph(), norm.output, statistic).cloned()
        else {
            panic!("no fact is carried over")
        };
        scene.facts = onnxq_plan::Facts::default();
        scene.observe(&needs);
        let Some(Fact::ChannelRange(Some(fresh))) = scene.facts.get(scene.graph(), norm.output, statistic) else {
            panic!("nothing is observed")
        };
        for (a, b) in carried.ranges().iter().zip(fresh.ranges()) {
            let (a, b) = (a.expect("seen"), b.expect("seen"));
            let tolerance = 1e-5 * (b.max() - b.min());
            assert!((a.min() - b.min()).abs() <= tolerance && (a.max() - b.max()).abs() <= tolerance, "{a:?}, {b:?}");
        }
    }
}
