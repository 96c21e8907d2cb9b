//! How far one model is from another on the same samples: SQNR, cosine, top-1 agreement, top-1 on labels.
//!
//! Sums are kept per sample and added in the order of the samples, so that the figures do not depend on threads.

use std::borrow::Cow;
use std::collections::BTreeMap;

use onnxq_ir::{Graph, ValueId};
use onnxq_plan::{Deviation, EngineError, FloatOutputs, Runner, Sample, Session, each_sample};
use serde::Serialize;

use crate::samples::Labels;

/// How far an output is from its reference, over all samples.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct OutputQuality {
    /// The output's name.
    pub name: String,
    /// 10 log10 of signal over error, both summed over all samples, clipped to 0..60.
    pub sqnr_db: f64,
    /// Cosine between reference and output, all samples as one vector.
    pub cosine: f64,
    /// Share of rows along the last axis whose largest element is at the same place; for 2 or 3 dimensions.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub agreement: Option<f64>,
    /// Elements that are NaN or infinite in the reference: they are left out.
    #[serde(skip_serializing_if = "is_zero")]
    pub not_finite: usize,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde's signature")]
fn is_zero(count: &usize) -> bool {
    *count == 0
}

/// Top-1 on labels.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Top1 {
    /// Share of samples that the reference gets right.
    pub reference: f64,
    /// Share of samples that the other gets right.
    pub quantized: f64,
    /// Standard error of the difference, sample by sample.
    pub standard_error: f64,
    /// Samples with a label.
    pub samples: usize,
}

/// How far a model is from its reference.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Quality {
    /// Samples that were run.
    pub samples: usize,
    /// Mean of the outputs' SQNR.
    pub sqnr_db: f64,
    /// Every float output.
    pub outputs: Vec<OutputQuality>,
    /// Top-1, where there are labels and one float output of two dimensions.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub top1: Option<Top1>,
}

impl Quality {
    /// The SQNR of the output that suffers most, in dB; 0 where there is none.
    pub fn worst_db(&self) -> f64 {
        self.outputs.iter().map(|output| output.sqnr_db).min_by(f64::total_cmp).unwrap_or(0.0)
    }
}

/// Two values to be compared, one of each model.
#[derive(Clone, Debug)]
pub struct Pair {
    /// The name to report.
    pub name: String,
    /// The value in the reference.
    pub reference: ValueId,
    /// The value in the other model.
    pub other: ValueId,
}

/// The float outputs of the reference that the other graph has too, by name.
pub fn output_pairs(reference: &Graph, other: &Graph) -> Vec<Pair> {
    let outputs = reference.outputs().iter().map(|declared| declared.value);
    outputs
        .filter(|&value| crate::outputs::is_float(reference, value))
        .filter_map(|value| {
            let name = reference.value(value).name();
            let other = other.find_value(name).filter(|&other_value| other.is_output(other_value))?;
            Some(Pair { name: name.to_owned(), reference: value, other })
        })
        .collect()
}

/// Sums over one sample of one output.
#[derive(Clone, Debug, Default)]
struct Sums {
    signal: f64,
    error: f64,
    product: f64,
    other: f64,
    finite: usize,
    not_finite: usize,
    rows: usize,
    agreeing: usize,
    /// Whether reference and other get the label right, row by row.
    right: Vec<(bool, bool)>,
}

/// Where the values of the reference come from.
#[derive(Clone, Copy)]
pub enum Reference<'a> {
    /// It is run beside the other model.
    Run(&'a dyn Session),
    /// It was run before.
    Kept(&'a FloatOutputs),
}

/// One thread's state: both models and what it saw.
struct Bench<'a> {
    reference: Running<'a>,
    other: Box<dyn Runner + 'a>,
    seen: Vec<(usize, Vec<Option<Sums>>)>,
}

/// The reference in one thread.
enum Running<'a> {
    Runner(Box<dyn Runner + 'a>),
    Kept(&'a FloatOutputs),
}

impl<'a> Running<'a> {
    fn of(reference: Reference<'a>) -> Self {
        match reference {
            Reference::Run(session) => Self::Runner(session.runner()),
            Reference::Kept(outputs) => Self::Kept(outputs),
        }
    }

    /// The elements of a sample's values, those of pairs at least.
    fn elements(&mut self, pairs: &[Pair], sample: &Sample) -> Result<BTreeMap<ValueId, Cow<'a, [f32]>>, EngineError> {
        let mut known = BTreeMap::new();
        match self {
            Self::Runner(runner) => runner.run(sample, &mut |shown| {
                if let Some(elements) = shown.elements.floats() {
                    known.insert(shown.value, Cow::Owned(elements.into_owned()));
                }
            })?,
            Self::Kept(outputs) => {
                let of = |pair: &Pair| Some((pair.reference, Cow::Borrowed(outputs.get(sample.index, &pair.name)?)));
                known.extend(pairs.iter().filter_map(of));
            }
        }
        Ok(known)
    }
}

/// Runs the models over the samples and compares the pairs.
///
/// The inputs of a sample are named by the reference's values; `translate` gives those of the other model.
pub fn compare<E, I>(
    (reference, other): (Reference<'_>, &dyn Session),
    pairs: &[Pair],
    samples: I,
    labels: Option<Labels<'_>>,
    threads: usize,
    translate: &(dyn Fn(&Sample) -> Sample + Sync),
    done: impl Fn() + Sync,
) -> Result<Quality, E>
where
    E: From<EngineError> + Send,
    I: Iterator<Item = Result<Sample, E>> + Send,
{
    let threads = each_sample(
        samples,
        threads,
        || Bench { reference: Running::of(reference), other: other.runner(), seen: Vec::new() },
        |bench, sample| {
            let own = labels.map_or(&[][..], |labels| labels.of(sample.index));
            let sums = one_sample(bench, pairs, sample, translate, own)?;
            bench.seen.push((sample.index, sums));
            done();
            Ok(())
        },
        |bench| bench.seen,
    )?;
    let mut seen: Vec<(usize, Vec<Option<Sums>>)> = threads.into_iter().flatten().collect();
    seen.sort_by_key(|(index, _)| *index);
    Ok(summarize(pairs, &seen))
}

fn one_sample(
    bench: &mut Bench<'_>,
    pairs: &[Pair],
    sample: &Sample,
    translate: &(dyn Fn(&Sample) -> Sample + Sync),
    labels: &[i64],
) -> Result<Vec<Option<Sums>>, EngineError> {
    let kept = bench.reference.elements(pairs, sample)?;
    let mut sums: Vec<Option<Sums>> = vec![None; pairs.len()];
    bench.other.run(&translate(sample), &mut |shown| {
        let Some(elements) = shown.elements.floats() else { return };
        for (pair, slot) in pairs.iter().zip(&mut sums).filter(|(pair, _)| pair.other == shown.value) {
            if let Some(reference) = kept.get(&pair.reference).filter(|kept| kept.len() == elements.len()) {
                *slot = Some(add_up(reference, &elements, shown.shape, labels));
            }
        }
    })?;
    Ok(sums)
}

fn add_up(reference: &[f32], other: &[f32], shape: &[usize], labels: &[i64]) -> Sums {
    let mut sums = Sums::default();
    sums.finite = reference.iter().filter(|a| a.is_finite()).count();
    sums.not_finite = reference.len() - sums.finite;
    for (&a, &b) in reference.iter().zip(other).filter(|(a, _)| a.is_finite()) {
        let (a, b) = (f64::from(a), f64::from(b));
        sums.signal += a * a;
        sums.error += (a - b) * (a - b);
        sums.product += a * b;
        sums.other += b * b;
    }
    let classes = shape.last().copied().unwrap_or(0);
    if (2..=3).contains(&shape.len()) && classes > 1 {
        for (a, b) in reference.chunks(classes).zip(other.chunks(classes)) {
            sums.rows += 1;
            let is_number = !b.iter().any(|x| x.is_nan());
            sums.agreeing += usize::from(is_number && largest(a) == largest(b));
        }
        if shape.len() == 2 && shape[0] == labels.len() {
            let rows = reference.chunks(classes).zip(other.chunks(classes));
            let right = |row: &[f32], label: i64| largest(row) as i64 == label;
            sums.right = rows.zip(labels).map(|((a, b), &label)| (right(a, label), right(b, label))).collect();
        }
    }
    sums
}

/// The place of the first largest element.
fn largest(row: &[f32]) -> usize {
    (1..row.len()).fold(0, |best, i| if row[i] > row[best] { i } else { best })
}

fn summarize(pairs: &[Pair], seen: &[(usize, Vec<Option<Sums>>)]) -> Quality {
    let mut outputs = Vec::new();
    for (i, pair) in pairs.iter().enumerate() {
        let mut total = Sums::default();
        let mut any = false;
        for sums in seen.iter().filter_map(|(_, sums)| sums[i].as_ref()) {
            any = true;
            total.signal += sums.signal;
            total.error += sums.error;
            total.product += sums.product;
            total.other += sums.other;
            total.finite += sums.finite;
            total.not_finite += sums.not_finite;
            total.rows += sums.rows;
            total.agreeing += sums.agreeing;
        }
        if any {
            // Where there is nothing to be near to, nothing is known to be near.
            let is_known = total.finite > 0 || total.not_finite == 0;
            let deviation = Deviation { signal: total.signal, error: total.error };
            outputs.push(OutputQuality {
                name: pair.name.clone(),
                sqnr_db: if is_known { deviation.sqnr_db() } else { 0.0 },
                not_finite: total.not_finite,
                cosine: cosine(&total),
                agreement: (total.rows > 0).then(|| total.agreeing as f64 / total.rows as f64),
            });
        }
    }
    let mean = outputs.iter().map(|output| output.sqnr_db).sum::<f64>() / outputs.len().max(1) as f64;
    let right: Vec<(bool, bool)> = match pairs {
        [_] => seen.iter().filter_map(|(_, sums)| sums[0].as_ref()).flat_map(|sums| sums.right.clone()).collect(),
        _ => Vec::new(),
    };
    Quality { samples: seen.len(), sqnr_db: mean, outputs, top1: top1(&right) }
}

fn cosine(sums: &Sums) -> f64 {
    let norms = (sums.signal * sums.other).sqrt();
    if norms > 0.0 { sums.product / norms } else { f64::from(u8::from(sums.error == 0.0)) }
}

fn top1(right: &[(bool, bool)]) -> Option<Top1> {
    if right.is_empty() {
        return None;
    }
    let n = right.len() as f64;
    let share = |of: fn(&(bool, bool)) -> bool| right.iter().filter(|pair| of(pair)).count() as f64 / n;
    let difference = |pair: &(bool, bool)| f64::from(u8::from(pair.1)) - f64::from(u8::from(pair.0));
    let mean = right.iter().map(difference).sum::<f64>() / n;
    let variance = right.iter().map(|pair| (difference(pair) - mean).powi(2)).sum::<f64>() / (n - 1.0).max(1.0);
    Some(Top1 {
        reference: share(|pair| pair.0),
        quantized: share(|pair| pair.1),
        standard_error: (variance / n).sqrt(),
        samples: right.len(),
    })
}
