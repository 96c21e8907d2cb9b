//! Gives every activation the range, of four, that errs least on samples that it was not fitted on.
//!
//! # Why
//! No one rule fits all: nothing clips with `minmax`, but one outlier costs all others their resolution; `percentile`, `mse`
//! and `entropy` clip, each in its way. What a range is worth shows on samples that did not make it.
//!
//! # Needs
//! A histogram of every activation without a quantizer; a histogram over octaves where a logarithmic one is wanted.
//!
//! # Effect
//! Every site without a quantizer gets one. A range of all that was seen is widened by 4 over the number of values
//! seen, in all: behind a class token or a global pool these are few, and what comes next lies outside (an output Q
//! fitted on few samples cost 14 dB on unseen ones). Then the four rules are tried on every fourth calibration
//! sample, which statistics leave out: an activation takes another rule's range where that leaves less than 0.9 of
//! the squared error. If the model's outputs are not better by 1.5 dB for it in simulation, all keep the widest
//! range. Without samples to try on they keep it as well. Weights get the range of their channel.
//!
//! # Promise
//! Annotate.
//!
//! # Declines
//! - `no-range`: an activation was empty in all samples, or always one value; its operator stays float.
//! - `not-finite`: a weight has infinite or NaN elements; its operator stays float.
//!
//! # Options
//! None.

use std::collections::BTreeMap;

use onnxq_ir::ValueId;
use onnxq_numerics::{IntFormat, Range, Symmetry};
use onnxq_plan::trial::{On, worst_db};
use onnxq_plan::{Fact, Grids, Needs, Plan, Quantizer, Scheme, Site, Statistic, Trials};
use serde::{Deserialize, Serialize};

use super::entropy::Entropy;
use super::fit::{self, Search};
use super::mse::Mse;
use super::percentile::Percentile;
use crate::pass::{Context, Pass, PassError, Promise, View};

/// What a recipe or `--set auto.KEY=VALUE` can set: nothing.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub(crate) struct Auto {}

impl Pass for Auto {
    fn promise(&self) -> Promise {
        Promise::Annotate
    }

    fn needs(&self, view: &View<'_>) -> Needs {
        fit::needs(&Widest, view)
    }

    fn judges(&self) -> bool {
        true
    }

    fn run(&self, cx: &mut Context<'_>) -> Result<(), PassError> {
        let rivals = rivals(cx);
        fit::run(&Widest, cx)?;
        match cx.trials {
            Some(trials) if !rivals.is_empty() => choose(cx, trials, &rivals),
            _ => Ok(()),
        }
    }
}

/// All that was seen, and a little more where little was seen.
struct Widest;

/// A range seen in n values is widened by this over n, in all: n values leave 2 / (n + 1) of what is to come outside on
/// average (measured for RepQ behind a class token: 1.6 to 2.8 dB at 8 bits with 32 samples).
const HEADROOM: f64 = 4.0;

impl Search for Widest {
    fn activation(&self, fact: &Fact, _: IntFormat, _: Symmetry) -> Option<Range> {
        let Fact::Histogram(histogram) = fact else { return None };
        let seen = histogram.range().filter(|range| range.min() < range.max())?;
        let (low, high) = (f64::from(seen.min()), f64::from(seen.max()));
        let room = (high - low) * HEADROOM / histogram.count() as f64 / 2.0;
        // What was never on one side of zero, as behind a Relu, is not expected there.
        let low = if low >= 0.0 { low } else { low - room };
        let high = if high <= 0.0 { high } else { high + room };
        Range::new(low as f32, high as f32)
    }
}

/// The rules that compete with the widest range.
const RIVALS: [&str; 3] = ["percentile", "mse", "entropy"];

/// What each rule would give the activations, by value.
fn rivals(cx: &Context<'_>) -> BTreeMap<ValueId, Vec<Quantizer>> {
    let mut rivals: BTreeMap<ValueId, Vec<Quantizer>> = BTreeMap::new();
    for (site, scheme) in cx.plan.unassigned() {
        let (Some(value), Scheme::Uniform { format, symmetry, .. }) = (site.value(cx.graph()), scheme) else {
            continue;
        };
        let Some(fact) = cx.facts.get(cx.graph(), value, Statistic::Histogram) else { continue };
        let ranges = [
            Percentile::default().activation(fact, format, symmetry),
            Mse::default().activation(fact, format, symmetry),
            Entropy::default().activation(fact, format, symmetry),
        ];
        let quantizers = ranges.into_iter().flatten();
        let quantizers =
            quantizers.map(|range| Quantizer::Tensor(onnxq_numerics::Uniform::fit(range, format, symmetry)));
        rivals.entry(value).or_insert_with(|| quantizers.collect());
    }
    rivals
}

/// Less than this share of the widest range's error makes another the better one.
const CLEARLY_LESS: f64 = 0.9;

/// By so many dB the outputs must be better: a range that clips what a few samples lack can ruin others (a Softmax over a
/// middle axis: 1 dB more on 4 held-out samples, 18 dB less on all).
const CLEARLY_MORE: f64 = 1.5;

fn choose(
    cx: &mut Context<'_>,
    trials: &dyn Trials,
    rivals: &BTreeMap<ValueId, Vec<Quantizer>>,
) -> Result<(), PassError> {
    let (mixed, counts) = mixed(cx, trials, rivals)?;
    if counts.is_empty() {
        return Ok(());
    }
    let widest = worst_db(&trials.outputs(cx.model, cx.plan, On::All)?);
    let other = worst_db(&trials.outputs(cx.model, &mixed, On::All)?);
    if other < widest + CLEARLY_MORE {
        return Ok(());
    }
    *cx.plan = mixed;
    let counts: Vec<String> = counts.iter().map(|(rule, count)| format!("{count} by {rule}")).collect();
    cx.note(format!(
        "ranges: {}, others by all that was seen, with which alone the output has {widest:.1} dB instead of {other:.1}",
        counts.join(", ")
    ));
    Ok(())
}

/// The plan with the range for every activation that errs least, and how many took which.
fn mixed(
    cx: &Context<'_>,
    trials: &dyn Trials,
    rivals: &BTreeMap<ValueId, Vec<Quantizer>>,
) -> Result<(Plan, BTreeMap<&'static str, usize>), PassError> {
    let sites: Vec<(Site, ValueId)> = cx
        .plan
        .entries()
        .filter_map(|(site, entry)| Some((site, site.value(cx.graph()).filter(|_| entry.quantizer.is_some())?)))
        .filter(|(_, value)| rivals.contains_key(value))
        .collect();
    let mut grids = Grids::new();
    for &(site, value) in &sites {
        let Some(own) = cx.plan.quantizer(site) else { continue };
        grids.insert(value, std::iter::once(own).chain(&rivals[&value]).collect());
    }
    let sums = trials.grids(cx.model, &grids)?;
    let mut plan = cx.plan.clone();
    let mut counts = BTreeMap::new();
    let mut counted = std::collections::BTreeSet::new();
    for (site, value) in sites {
        let Some(sums) = sums.get(&value) else { continue };
        let best = (1..sums.len()).min_by(|&a, &b| sums[a].error.total_cmp(&sums[b].error));
        if let Some(best) = best.filter(|&best| sums[best].error < CLEARLY_LESS * sums[0].error) {
            plan.assign(site, rivals[&value][best - 1].clone());
            if counted.insert(value) {
                *counts.entry(RIVALS[best - 1]).or_insert(0) += 1;
            }
        }
    }
    Ok((plan, counts))
}

#[cfg(test)]
mod tests {
    use crate::testing::{check, check_declined};

    #[test]
    fn linear_and_softmax() {
        check!("auto/linear_and_softmax");
    }

    #[test]
    fn heavy_tail() {
        check!("auto/heavy_tail");
    }

    #[test]
    fn no_range() {
        check_declined!("auto/no_range", "no-range: `z` was always 0 in calibration");
    }

    #[test]
    fn not_finite() {
        check_declined!("auto/not_finite", "not-finite: `w` has infinite or NaN elements");
    }
}
