//! Quantizes what a LayerNorm writes per channel, and makes that per tensor by changing weights.
//!
//! # Why
//! The channels behind a LayerNorm differ widely in range and offset. One grid for all wastes levels; a grid per channel
//! has no integer kernel. RepQ-ViT (Li et al., 2023, section 4.1) calibrates per channel and then moves the differences
//! into the LayerNorm's affine and the weights that read it: the codes stay the same, the grid becomes one.
//!
//! # Needs
//! A histogram per channel of what each linear reader of a LayerNorm reads.
//!
//! # Effect
//! With scale `s[j]` and zero point `z[j]` of channel j, `s` their geometric mean and `z` the median zero point rounded into
//! the codes: `r[j] = s[j] / s`, `m[j] = s (z - z[j])`; gamma and beta become `gamma / r` and `beta / r - m`; row j of every
//! reader's weight is multiplied by `r[j]`, and `sum_j m[j] W[j, :]` of the new weight is added to its bias, which is made
//! where there is none. The readers' activations get the one quantizer `(s, z)`. Readers may stand behind operators that
//! move or average channels (the class token's Gather, the mean before a head).
//!
//! # Promise
//! Exact.
//!
//! # Declines
//! - `nonlinear-reader`: something else reads the channels, or they are an output of the graph.
//! - `not-a-site`: a reader's activation is not in the plan as a uniform quantizer per tensor.
//! - `not-constant`: gamma, beta, a weight or a bias is computed.
//! - `axes`: the LayerNorm does not normalize just the last axis.
//! - `no-range`: no calibration run reached it.
//!
//! # Options
//! None.

use onnxq_ir::ops::{LayerNorm, Linear, is_last_axis};
use onnxq_ir::{Graph, OpId, Patch, Tensor, ValueId};
use onnxq_numerics::{ChannelHistogram, IntFormat, Uniform, search};
use onnxq_plan::{ChannelAxis, Fact, Granularity, Needs, Quantizer, Scheme, Site, Statistic};
use serde::{Deserialize, Serialize};

use super::channel_readers::{Blocked, Reader, linear_readers};
use crate::names::label;
use crate::pass::{Context, Pass, PassError, Promise, View};

/// What a recipe or `--set repq.KEY=VALUE` can set: nothing.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub(crate) struct RepQ {}

impl Pass for RepQ {
    fn promise(&self) -> Promise {
        Promise::Exact
    }

    fn needs(&self, view: &View<'_>) -> Needs {
        let mut needs = Needs::none();
        for op in view.graph().op_ids() {
            let Some(norm) = LayerNorm::at(view.graph(), op) else { continue };
            for reader in linear_readers(view.graph(), norm.output).unwrap_or_default() {
                needs.add(reader.x, STATISTIC);
            }
        }
        needs
    }

    fn run(&self, cx: &mut Context<'_>) -> Result<(), PassError> {
        for op in cx.ops() {
            let Some(norm) = LayerNorm::at(cx.graph(), op) else { continue };
            match NormSite::find(cx, &norm) {
                Ok(site) => {
                    let grid = site.grid();
                    let patch = site.rewrite(cx.graph(), &grid);
                    cx.apply(patch)?;
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

const STATISTIC: Statistic = Statistic::ChannelHistogram(ChannelAxis::LAST);

/// A LayerNorm all of whose readers are linear and in the plan: where the change is exact.
struct NormSite {
    op: OpId,
    output: ValueId,
    gamma: Vec<f32>,
    beta: Option<Vec<f32>>,
    readers: Vec<Reader>,
    format: IntFormat,
    channels: ChannelHistogram,
}

/// The per-channel grids, and the one that replaces them.
struct Grid {
    /// `r[j]`, a factor above 0.
    ratio: Vec<f64>,
    /// `m[j]`
    shift: Vec<f64>,
    shared: Uniform,
}

impl NormSite {
    fn find(cx: &Context<'_>, norm: &LayerNorm) -> Result<Self, String> {
        let graph = cx.graph();
        if !is_last_axis(norm.axis, graph.rank(norm.x)) {
            return Err("axes: it does not normalize just the last axis".into());
        }
        let constant = |value: ValueId| {
            let tensor = graph.constant(value).and_then(Tensor::to_f32);
            tensor.map(std::borrow::Cow::into_owned).ok_or_else(|| format!("not-constant: `{}` is computed", graph.value(value).name()))
        };
        let gamma = constant(norm.scale)?;
        let beta = norm.bias.map(constant).transpose()?;
        let readers = linear_readers(graph, norm.output).map_err(|blocked| match blocked {
            Blocked::Output => "nonlinear-reader: it is an output of the graph".to_owned(),
            Blocked::Reader(op) => {
                format!("nonlinear-reader: `{}` ({}) reads it", label(graph, op), graph.op(op).op_type())
            }
        })?;
        let format = shared_format(cx, &readers)?;
        for reader in &readers {
            let linear = Linear::at(graph, reader.op).expect("a linear reader");
            constant(linear.weight)?;
            linear.bias.map(constant).transpose()?;
        }
        let channels = observed(cx, &readers, gamma.len()).ok_or("no-range: no calibration run reached it")?;
        Ok(Self { op: norm.op, output: norm.output, gamma, beta, readers, format, channels })
    }

    /// The affine grid of each channel, and the shared one.
    fn grid(&self) -> Grid {
        let steps = (self.format.levels() - 1) as f64;
        let ranges: Vec<Option<(f64, f64)>> = self
            .channels
            .channels()
            .iter()
            .map(|channel| {
                let range = search::repq_free(channel, self.format.levels())?;
                // A constant channel has no scale of its own: its search finds none.
                Some((f64::from(range.min()), f64::from(range.max())))
            })
            .collect();
        let scales: Vec<f64> = ranges.iter().flatten().map(|(low, high)| (high - low) / steps).collect();
        let shared_scale = if scales.is_empty() {
            1.0
        } else {
            (scales.iter().map(|s| s.ln()).sum::<f64>() / scales.len() as f64).exp()
        };
        let qmin = f64::from(self.format.qmin());
        let zero_points: Vec<Option<f64>> = ranges
            .iter()
            .map(|range| range.map(|(low, high)| (qmin - low * steps / (high - low)).round_ties_even()))
            .collect();
        let zero_point = median(zero_points.iter().flatten().copied())
            .unwrap_or(qmin)
            .clamp(qmin, f64::from(self.format.qmax()));
        let scale = shared_scale as f32;
        let ratio = ranges
            .iter()
            .map(|range| range.map_or(1.0, |(low, high)| (high - low) / steps / f64::from(scale)))
            .collect();
        let shift = zero_points.iter().map(|own| own.map_or(0.0, |own| f64::from(scale) * (zero_point - own))).collect();
        let shared = Uniform::new(self.format, scale, zero_point as i32).expect("a mean of positive scales and a code");
        Grid { ratio, shift, shared }
    }

    fn rewrite(&self, graph: &Graph, grid: &Grid) -> Patch {
        let mut patch = Patch::new(graph, "repq", self.op);
        let gamma = zip(&self.gamma, &grid.ratio, |gamma, r| gamma / r);
        patch.set_constant_for(graph, self.op, LayerNorm::SCALE, vector(gamma));
        let beta = self.beta.clone().unwrap_or_else(|| vec![0.0; self.gamma.len()]);
        let beta: Vec<f32> = beta
            .iter()
            .zip(grid.ratio.iter().zip(&grid.shift))
            .map(|(&beta, (r, m))| (f64::from(beta) / r - m) as f32)
            .collect();
        if self.beta.is_some() {
            patch.set_constant_for(graph, self.op, LayerNorm::BIAS, vector(beta));
        } else {
            let hint = format!("{}_beta", graph.value(self.output).name());
            let beta = patch.constant(graph, &hint, vector(beta));
            patch.set_input(self.op, LayerNorm::BIAS, Some(beta));
        }
        for reader in &self.readers {
            repair(graph, &mut patch, reader.op, grid);
        }
        let mut carriers: Vec<ValueId> = self.readers.iter().map(|reader| reader.x).collect();
        carriers.push(self.output);
        carriers.sort_unstable();
        carriers.dedup();
        carriers.into_iter().for_each(|value| patch.changed(value));
        patch
    }
}

/// Gives a linear reader the weight and bias that undo the change of its activation.
fn repair(graph: &Graph, patch: &mut Patch, op: OpId, grid: &Grid) {
    let linear = Linear::at(graph, op).expect("a linear reader");
    let tensor = graph.constant(linear.weight).expect("a constant weight");
    let old = tensor.to_f32().expect("a float weight");
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
    patch.set_constant_for(graph, op, Linear::WEIGHT, Tensor::new(shape, weight));
    match linear.bias {
        Some(bias) => {
            let old = graph.constant(bias).expect("a constant bias");
            let values = old.to_f32().expect("a float bias");
            let bias: Vec<f32> = moved
                .iter()
                .enumerate()
                .map(|(i, m)| (f64::from(values[if values.len() == 1 { 0 } else { i }]) + m) as f32)
                .collect();
            patch.set_constant_for(graph, op, Linear::BIAS, vector(bias));
        }
        None => {
            let bias = vector(moved.iter().map(|&m| m as f32).collect());
            let hint = format!("{}_bias", graph.value(linear.output).name());
            let bias = patch.constant(graph, &hint, bias);
            patch.set_input(op, Linear::BIAS, Some(bias));
        }
    }
}

/// The one activation format that all readers are to have.
fn shared_format(cx: &Context<'_>, readers: &[Reader]) -> Result<IntFormat, String> {
    let mut formats = readers.iter().map(|reader| match cx.plan.get(Site::Operand { op: reader.op, slot: 0 }) {
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
fn observed(cx: &Context<'_>, readers: &[Reader], channels: usize) -> Option<ChannelHistogram> {
    let mut values: Vec<ValueId> = readers.iter().map(|reader| reader.x).collect();
    values.sort_unstable();
    values.dedup();
    let mut merged: Option<ChannelHistogram> = None;
    for value in values {
        let Fact::ChannelHistogram(Some(own)) = cx.facts.get(cx.graph(), value, STATISTIC)? else { return None };
        match &mut merged {
            Some(merged) => merged.merge(own),
            None => merged = Some(own.clone()),
        }
    }
    merged.filter(|merged| merged.channels().len() == channels)
}

fn vector(elements: Vec<f32>) -> Tensor {
    Tensor::new(vec![elements.len()], elements)
}

fn zip(a: &[f32], b: &[f64], f: impl Fn(f64, f64) -> f64) -> Vec<f32> {
    a.iter().zip(b).map(|(&a, &b)| f(f64::from(a), b) as f32).collect()
}

/// The lower median.
fn median(numbers: impl Iterator<Item = f64>) -> Option<f64> {
    let mut numbers: Vec<f64> = numbers.collect();
    numbers.sort_by(f64::total_cmp);
    (!numbers.is_empty()).then(|| numbers[(numbers.len() - 1) / 2])
}
