//! Takes from biases what quantization adds to the mean of each channel.
//!
//! # Why
//! Rounding and clipping do not only add noise: the error of a layer's output has a mean per channel, which is the same for
//! every input and adds up over layers. It costs nothing to take it away (Nagel et al., 2019, Data-Free Quantization, section
//! 4.2; Finkelstein et al., 2019, Fighting Quantization Bias With Bias).
//!
//! # Needs
//! Up to 12 of the samples that ranges were fitted on, to measure means, and the held-out ones, to judge.
//!
//! # Effect
//! With e the mean over positions of what a channel is under the plan less what it is in float, m the mean of e over samples
//! and v the variance of that mean, the bias becomes `b - m / (1 + v / m^2)`: what samples do not agree on, is taken away in
//! part. Means are measured on samples of the fit, since behind a class token there are few values per sample, and a mean
//! that is judged on what made it always looks good. A bias is made where there is none.
//! Layers are corrected from front to back in `sweeps` groups, each measured with those before it corrected: all in one go
//! would correct an error again behind every layer that it goes through. After every group the plan is tried on held-out
//! samples; of all these states that one is kept in which the mean SQNR of the outputs is highest, the output that suffers
//! most never worse than before.
//!
//! In no built-in recipe: beside `int8`, on data that nobody saw, it gave 1.5 dB on a small CNN (36.5 without), 0.9 on a noise
//! suppressor (40.6), 0.1 on a voice detector (22.0) and nothing on an image classifier (23.4) and two vision transformers
//! (40.4, 21.3), for up to three times the time, and more where a run takes seconds; with 4-bit weights 0.0 to 0.3.
//!
//! # Promise
//! Lossy: the float function changes.
//!
//! # Declines
//! - `not-constant`: its bias is computed, or no float32.
//! - `few-samples`: fewer than 4 samples are at hand.
//! - `no-gain`: the outputs are no better on held-out samples.
//!
//! # Options
//! - `sweeps`: in how many groups layers are corrected. Default 8.
//! - `new-biases`: `convolutions` (a Conv without a bias gets one; it costs nothing), `all` (a Linear as well, which
//!   may cost an Add) or `none`.

use std::collections::BTreeMap;

use onnxq_ir::{Graph, Model, OpId, Patch, Tensor, ValueId};
use onnxq_plan::trial::{On, OutputDeviation, worst_db};
use onnxq_plan::{Carry, Elements, OperatorKind, Plan, Site, Trials};
use serde::{Deserialize, Serialize};

use crate::assign::kind::Candidate;
use crate::pass::{Context, Pass, PassError, Promise};

/// What a recipe or `--set bias-correction.KEY=VALUE` can set.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub(crate) struct BiasCorrection {
    /// In how many groups layers are corrected.
    pub(crate) sweeps: std::num::NonZeroUsize,
    /// Who gets a bias that has none.
    pub(crate) new_biases: NewBiases,
}

impl Default for BiasCorrection {
    fn default() -> Self {
        Self { sweeps: const { std::num::NonZeroUsize::new(8).unwrap() }, new_biases: NewBiases::default() }
    }
}

/// Who gets a bias that has none.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum NewBiases {
    /// Nobody.
    None,
    /// Convolutions, transposed or not.
    #[default]
    Convolutions,
    /// Every layer.
    All,
}

impl Pass for BiasCorrection {
    fn promise(&self) -> Promise {
        Promise::Lossy
    }

    fn judges(&self) -> bool {
        true
    }

    fn corrects(&self) -> bool {
        true
    }

    fn run(&self, cx: &mut Context<'_>) -> Result<(), PassError> {
        let Some(trials) = cx.trials else { return Ok(()) };
        let mut layers = Vec::new();
        for op in cx.ops() {
            match Layer::at(self, cx, op) {
                None => {}
                Some(Ok(layer)) => layers.push(layer),
                Some(Err(reason)) => cx.decline(op, reason),
            }
        }
        let float = means(trials, cx.model, None, &layers)?;
        let seen = |layer: &Layer| float.get(&layer.output).map_or(0, Vec::len);
        let (layers, few): (Vec<Layer>, Vec<Layer>) =
            layers.into_iter().partition(|layer| seen(layer) >= FEWEST_SAMPLES);
        for layer in few {
            let seen = seen(&layer);
            cx.decline(layer.op, format!("few-samples: {seen} samples are at hand, {FEWEST_SAMPLES} are needed"));
        }
        if layers.is_empty() {
            return Ok(());
        }
        let biases = self.search(cx, trials, &layers, &float)?;
        for layer in &layers {
            let Some(bias) = biases.get(&layer.op) else { continue };
            let version = cx.graph().value(layer.output).version();
            let mut patch = Patch::new(cx.graph(), "bias-correction", layer.op);
            set_bias(cx.graph(), &mut patch, layer, bias);
            patch.changed(layer.output);
            cx.apply(patch)?;
            cx.facts.carry(&cx.model.graph, layer.output, version, &Carry::Elements);
        }
        Ok(())
    }
}

/// From fewer samples, how far they agree is a guess.
const FEWEST_SAMPLES: usize = 4;

/// New biases by layer.
type Biases = BTreeMap<OpId, Vec<f32>>;

/// By value, the mean of every channel, sample by sample.
type Means = BTreeMap<ValueId, Vec<Vec<f64>>>;

impl BiasCorrection {
    /// Corrects group after group, and keeps the groups up to the one behind which the outputs are best.
    fn search(
        &self,
        cx: &mut Context<'_>,
        trials: &dyn Trials,
        layers: &[Layer],
        float: &Means,
    ) -> Result<Biases, PassError> {
        let judge = |model: &Model, plan: &Plan| trials.outputs(model, plan, On::All);
        let mut best = Judged::of(&judge(cx.model, cx.plan)?);
        let before = best;
        let (mut kept, mut tried) = (Biases::new(), Biases::new());
        for group in layers.chunks(layers.len().div_ceil(self.sweeps.get())) {
            let model = with_biases(cx.model, layers, &tried)?;
            let planned = means(trials, &model, Some(cx.plan), group)?;
            for layer in group {
                let own = |means: &Means| means.get(&layer.output).cloned().unwrap_or_default();
                tried.extend(layer.corrected(&own(float), &own(&planned)).map(|bias| (layer.op, bias)));
            }
            let judged = Judged::of(&judge(&with_biases(cx.model, layers, &tried)?, cx.plan)?);
            if judged.improves(best) {
                (kept, best) = (tried.clone(), judged);
            }
        }
        for layer in layers.iter().filter(|layer| !kept.contains_key(&layer.op)) {
            cx.decline(layer.op, "no-gain: the outputs are no better on held-out samples");
        }
        if !kept.is_empty() {
            cx.note(format!(
                "biases of {} layers are corrected: {:.1} dB instead of {:.1} dB on held-out samples",
                kept.len(),
                best.worst,
                before.worst
            ));
        }
        Ok(kept)
    }
}

/// How good the outputs are under a plan.
#[derive(Clone, Copy)]
struct Judged {
    /// SQNR in dB of the one that suffers most.
    worst: f64,
    /// Mean of all.
    mean: f64,
}

impl Judged {
    fn of(outputs: &[OutputDeviation]) -> Self {
        let sum: f64 = outputs.iter().map(|output| output.total().sqnr_db()).sum();
        Self { worst: worst_db(outputs), mean: sum / outputs.len().max(1) as f64 }
    }

    fn improves(self, before: Self) -> bool {
        self.worst >= before.worst && self.mean > before.mean
    }
}

/// A layer of the plan whose bias can be corrected.
struct Layer {
    op: OpId,
    output: ValueId,
    channels: ChannelsOn,
    /// The bias, one number where it is the same for all; none where there is none.
    bias: Option<Vec<f32>>,
}

/// Where a layer's output has its channels.
#[derive(Clone, Copy)]
enum ChannelsOn {
    /// Axis 1
    Second,
    /// The last axis.
    Last,
}

const WEIGHT: usize = 1;
const BIAS: usize = 2;

impl Layer {
    /// The layer that `op` is, if its weight is in the plan.
    fn at(options: &BiasCorrection, cx: &Context<'_>, op: OpId) -> Option<Result<Self, String>> {
        let graph = cx.graph();
        let candidate = Candidate::at(graph, op)?;
        let channels = match candidate.kind {
            OperatorKind::Conv | OperatorKind::PatchEmbedding | OperatorKind::ConvTranspose => ChannelsOn::Second,
            OperatorKind::Linear => ChannelsOn::Last,
            _ => return None,
        };
        let (slot, _) = candidate.weight?;
        cx.plan.quantizer(Site::Operand { op, slot })?;
        let output = graph.output(op, 0)?;
        let read = (BIAS < graph.op(op).input_arity()).then(|| graph.input(op, BIAS)).flatten();
        let Some(value) = read else {
            let may = match options.new_biases {
                NewBiases::None => false,
                NewBiases::Convolutions => matches!(channels, ChannelsOn::Second),
                NewBiases::All => true,
            };
            return may.then_some(Ok(Self { op, output, channels, bias: None }));
        };
        let elements = graph.constant(value).and_then(Tensor::floats);
        Some(match elements {
            Some(bias) => Ok(Self { op, output, channels, bias: Some(bias.to_vec()) }),
            None => Err(format!("not-constant: `{}` is computed or of another type", graph.value(value).name())),
        })
    }

    /// The bias less what the plan adds to each channel; none where there is nothing to correct.
    fn corrected(&self, float: &[Vec<f64>], planned: &[Vec<f64>]) -> Option<Vec<f32>> {
        let channels = float.first()?.len();
        let old = |c: usize| match self.bias.as_deref() {
            None => Some(0.0),
            Some(&[one]) => Some(one),
            Some(bias) => bias.get(c).copied(),
        };
        let new = |c: usize| {
            let errors: Vec<f64> =
                float.iter().zip(planned).map(|(a, b)| Some(b.get(c)? - a.get(c)?)).collect::<Option<_>>()?;
            let bias = old(c)?;
            let new = (f64::from(bias) - agreed(&errors)) as f32;
            Some((bias, if new.is_finite() { new } else { bias }))
        };
        let both: Vec<(f32, f32)> = (0..channels).map(new).collect::<Option<_>>()?;
        both.iter().any(|(old, new)| old != new).then(|| both.into_iter().map(|(_, new)| new).collect())
    }
}

/// The mean of an error over samples, less where they disagree.
fn agreed(errors: &[f64]) -> f64 {
    let n = errors.len() as f64;
    let mean = errors.iter().sum::<f64>() / n;
    let variance = errors.iter().map(|e| (e - mean) * (e - mean)).sum::<f64>() / (n - 1.0).max(1.0) / n;
    if mean == 0.0 { 0.0 } else { mean / (1.0 + variance / (mean * mean)) }
}

/// Means of what layers write, on samples that ranges were fitted on.
fn means(trials: &dyn Trials, model: &Model, plan: Option<&Plan>, layers: &[Layer]) -> Result<Means, PassError> {
    let axes: BTreeMap<ValueId, ChannelsOn> = layers.iter().map(|layer| (layer.output, layer.channels)).collect();
    let taps: Vec<ValueId> = axes.keys().copied().collect();
    let mut all = Means::new();
    if taps.is_empty() {
        return Ok(all);
    }
    trials.show_fitted(model, plan, &taps, &mut |shown| {
        let (Elements::F32(elements), Some(&axis)) = (shown.elements, axes.get(&shown.value)) else { return };
        if let Some(means) = channel_means(shown.shape, axis, elements) {
            all.entry(shown.value).or_default().push(means);
        }
    })?;
    Ok(all)
}

/// The mean of each channel; none where there are no elements.
fn channel_means(shape: &[usize], axis: ChannelsOn, elements: &[f32]) -> Option<Vec<f64>> {
    let axis = match axis {
        ChannelsOn::Second => 1,
        ChannelsOn::Last => shape.len().checked_sub(1)?,
    };
    let channels = *shape.get(axis)?;
    let inner: usize = shape[axis + 1..].iter().product();
    if elements.is_empty() {
        return None;
    }
    let mut sums = vec![0f64; channels];
    for (i, row) in elements.chunks(inner).enumerate() {
        sums[i % channels] += row.iter().map(|&x| f64::from(x)).sum::<f64>();
    }
    let count = (elements.len() / channels) as f64;
    Some(sums.into_iter().map(|sum| sum / count).collect())
}

/// The model with these biases.
fn with_biases(model: &Model, layers: &[Layer], biases: &Biases) -> Result<Model, PassError> {
    let mut model = model.clone();
    for layer in layers {
        let Some(bias) = biases.get(&layer.op) else { continue };
        let mut patch = Patch::new(&model.graph, "bias-correction", layer.op);
        set_bias(&model.graph, &mut patch, layer, bias);
        patch.apply(&mut model.graph)?;
    }
    Ok(model)
}

fn set_bias(graph: &Graph, patch: &mut Patch, layer: &Layer, bias: &[f32]) {
    let weight = graph.input(layer.op, WEIGHT).and_then(|value| graph.constant(value)).expect("a layer has a weight");
    let tensor = weight.with_floats(vec![bias.len()], bias.to_vec()).expect("a weight of floats");
    if layer.bias.is_some() {
        patch.set_constant_for(graph, layer.op, BIAS, tensor);
    } else {
        let bias = patch.constant(graph, &format!("{}_bias", graph.value(layer.output).name()), tensor);
        patch.set_input(layer.op, BIAS, Some(bias));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{check, check_declined};

    #[test]
    fn conv() {
        check!("bias-correction/conv");
    }

    #[test]
    fn without_bias() {
        check!("bias-correction/without_bias");
    }

    #[test]
    fn linear() {
        check!("bias-correction/linear");
    }

    #[test]
    fn not_constant() {
        check_declined!("bias-correction/not_constant", "not-constant: `b` is computed or of another type");
    }

    #[test]
    fn few_samples() {
        check_declined!("bias-correction/few_samples", "few-samples: 3 samples are at hand, 4 are needed");
    }

    #[test]
    fn no_gain() {
        check_declined!("bias-correction/no_gain", "no-gain: the outputs are no better on held-out samples");
    }

    #[test]
    fn what_samples_agree_on_is_taken_away() {
        assert_eq!(agreed(&[0.5, 0.5, 0.5, 0.5]), 0.5);
        assert_eq!(agreed(&[1.0, -1.0, 1.0, -1.0]), 0.0);
        let half = agreed(&[0.0, 1.0]);
        assert!((half - 0.25).abs() < 1e-12, "a mean that is as large as its own error counts half: {half}");
    }

    #[test]
    fn means_are_those_of_channels() {
        let elements = [1.0, 2.0, 10.0, 20.0, 3.0, 4.0, 30.0, 40.0];
        assert_eq!(channel_means(&[2, 2, 2], ChannelsOn::Second, &elements), Some(vec![2.5, 25.0]));
        assert_eq!(channel_means(&[2, 2, 2], ChannelsOn::Last, &elements), Some(vec![11.0, 16.5]));
        assert_eq!(channel_means(&[0, 2], ChannelsOn::Last, &[]), None);
    }
}
