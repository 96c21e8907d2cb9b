//! Trying plans out: how far the model's outputs are from float under a plan, on samples that no range was fitted on.

use std::collections::BTreeMap;

use onnxq_ir::{Model, ValueId};

use crate::evaluator::{EngineError, Shown};
use crate::plan::{Plan, Quantizer};

/// Grids that values may get.
pub type Grids<'a> = BTreeMap<ValueId, Vec<&'a Quantizer>>;

/// Sums over the elements of a value and what became of them.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Deviation {
    /// Sum of squares of the float value.
    pub signal: f64,
    /// Sum of squared differences to it.
    pub error: f64,
}

impl Deviation {
    /// What became of these elements. Where there are more or fewer of them, that is as bad as it gets. What is NaN or infinite
    /// in the float model does not count: nothing can be near it.
    pub fn between(float: &[f32], other: &[f32]) -> Self {
        let finite = |a: f32| if a.is_finite() { f64::from(a) } else { 0.0 };
        let signal = float.iter().map(|&a| finite(a) * finite(a)).sum();
        if float.len() != other.len() {
            return Self { signal, error: f64::INFINITY };
        }
        let error = |(&a, &b): (&f32, &f32)| if a.is_finite() { (f64::from(a) - f64::from(b)).powi(2) } else { 0.0 };
        Self { signal, error: float.iter().zip(other).map(error).sum() }
    }

    /// What each of these grids makes of the elements of an activation; quantizers of weights and biases make none.
    pub fn of_grids(grids: &[&Quantizer], elements: &[f32]) -> Vec<Self> {
        let signal = elements.iter().map(|&x| f64::from(x) * f64::from(x)).sum();
        let of = |grid: &&Quantizer| match grid {
            Quantizer::Tensor(own) => Self { signal, error: own.squared_error(elements) },
            Quantizer::Log(own) => {
                let mut fake = elements.to_vec();
                own.fake(&mut fake);
                Self::between(elements, &fake)
            }
            Quantizer::Channels { .. } | Quantizer::Bias(_) => Self::default(),
        };
        grids.iter().map(of).collect()
    }

    /// Adds what was seen elsewhere.
    pub fn add(&mut self, other: Self) {
        self.signal += other.signal;
        self.error += other.error;
    }

    /// 10 log10(signal / error), from 0 to 60 dB; 60 where there is no error, 0 where there is NaN.
    pub fn sqnr_db(self) -> f64 {
        if self.error == 0.0 {
            return 60.0;
        }
        let db = 10.0 * (self.signal / self.error).log10();
        if db.is_nan() { 0.0 } else { db.clamp(0.0, 60.0) }
    }
}

/// What became of one output under a plan: its deviation in every sample that was run, in their order.
#[derive(Clone, Debug, PartialEq)]
pub struct OutputDeviation {
    samples: Vec<Deviation>,
}

/// A single sample may be so many dB worse than what is asked of all together. In ordinary models the worst of 32 is 1 to
/// 9 dB below them; in a UNet whose input needs more than 8 bits at the last time steps, 25.
pub const HARDER: f64 = 10.0;

impl OutputDeviation {
    /// The deviations in samples.
    pub fn new(samples: Vec<Deviation>) -> Self {
        Self { samples }
    }

    /// All samples as one.
    pub fn total(&self) -> Deviation {
        let mut total = Deviation::default();
        self.samples.iter().for_each(|&sample| total.add(sample));
        total
    }

    /// SQNR in dB that the output is judged by: that of all samples together, the error taken one standard error higher than
    /// seen, since plans are picked by it and other samples will not be as lucky; or that of the worst sample with 10 dB
    /// added, where that is less.
    pub fn judged_db(&self) -> f64 {
        let total = self.total();
        let cautious = Deviation { error: total.error + self.standard_error(), ..total };
        cautious.sqnr_db().min(self.worst_sample_db() + HARDER)
    }

    /// SQNR in dB of the worst sample, 60 where there is none.
    pub fn worst_sample_db(&self) -> f64 {
        self.each_db().into_iter().fold(60.0, f64::min)
    }

    /// The standard error of the sum of the samples' errors.
    fn standard_error(&self) -> f64 {
        let count = self.samples.len() as f64;
        if count < 2.0 {
            return 0.0;
        }
        let mean = self.total().error / count;
        let squares: f64 = self.samples.iter().map(|sample| (sample.error - mean).powi(2)).sum();
        (squares / (count - 1.0) * count).sqrt()
    }

    /// SQNR in dB of every sample. A sample whose signal is small by nature, such as an empty picture, is measured by the
    /// others' signal.
    fn each_db(&self) -> Vec<f64> {
        let mean = self.total().signal / self.samples.len().max(1) as f64;
        self.samples.iter().map(|it| Deviation { signal: it.signal.max(mean), ..*it }.sqnr_db()).collect()
    }
}

/// The samples of a trial.
#[derive(Clone, Copy, Debug)]
pub enum On<'a> {
    /// All.
    All,
    /// Those in these places, counted from 0.
    Places(&'a [usize]),
}

/// Runs plans on a few samples: on those held out, where nothing else is said. Samples are always the same, and so are
/// results, whatever the number of threads.
pub trait Trials {
    /// Deviation of every float output of the model under a plan from the model as it was before any method touched it.
    ///
    /// Sites without a quantizer are float.
    fn outputs(&self, model: &Model, plan: &Plan, on: On<'_>) -> Result<Vec<OutputDeviation>, EngineError>;

    /// What grids make of values of the float model, in the order in which they are given; nothing of values that are no
    /// float32.
    fn grids(&self, model: &Model, grids: &Grids<'_>) -> Result<BTreeMap<ValueId, Vec<Deviation>>, EngineError>;

    /// Shows values of the model under a plan, or in float, on a few samples that ranges were fitted on, sample after sample.
    /// Where none are kept, nothing is shown.
    fn show_fitted(
        &self,
        model: &Model,
        plan: Option<&Plan>,
        taps: &[ValueId],
        see: &mut dyn FnMut(&Shown<'_>),
    ) -> Result<(), EngineError>;

    /// Trials on these samples and on those, of more that were held out, that this plan ruins. None where it ruins no others.
    fn with_ruined(&self, model: &Model, plan: &Plan) -> Result<Option<Box<dyn Trials + '_>>, EngineError>;
}

/// The SQNR of the output that suffers most, in dB: what a plan is judged by.
pub fn worst_db(outputs: &[OutputDeviation]) -> f64 {
    outputs.iter().map(OutputDeviation::judged_db).fold(60.0, f64::min)
}

/// The places of those samples that are judged worse than all together, the worst first; at most `count`.
pub fn ruined_samples(outputs: &[OutputDeviation], count: usize) -> Vec<usize> {
    let is_ruined = |place: &usize| {
        outputs
            .iter()
            .any(|output| output.each_db().get(*place).is_some_and(|db| db + HARDER < output.total().sqnr_db()))
    };
    let mut places = worst_samples(outputs, usize::MAX);
    places.retain(is_ruined);
    places.truncate(count);
    places
}

/// The places of the `count` samples in which an output suffers most, the worst first.
pub fn worst_samples(outputs: &[OutputDeviation], count: usize) -> Vec<usize> {
    let each: Vec<Vec<f64>> = outputs.iter().map(OutputDeviation::each_db).collect();
    let samples = each.iter().map(Vec::len).max().unwrap_or(0);
    let db = |place: usize| each.iter().filter_map(|db| db.get(place)).copied().fold(60.0, f64::min);
    let mut places: Vec<usize> = (0..samples).collect();
    places.sort_by(|&a, &b| db(a).total_cmp(&db(b)));
    places.truncate(count);
    places
}

#[cfg(test)]
mod tests {
    use super::*;

    fn output(samples: &[(f64, f64)]) -> OutputDeviation {
        OutputDeviation::new(samples.iter().map(|&(signal, error)| Deviation { signal, error }).collect())
    }

    #[test]
    fn samples_of_one_kind_are_judged_together() {
        let even = output(&[(1.0, 2e-3); 3]);
        assert!((even.judged_db() - 10.0 * 500f64.log10()).abs() < 1e-9);
    }

    #[test]
    fn the_error_is_taken_one_standard_error_higher() {
        let uneven = output(&[(1.0, 1e-3), (1.0, 2e-3), (1.0, 3e-3)]);
        let expected = 3.0 / (6e-3 + 1e-3 * 3f64.sqrt());
        assert!((uneven.judged_db() - 10.0 * expected.log10()).abs() < 1e-9);
    }

    #[test]
    fn a_sample_that_is_ruined_counts_for_all() {
        let few = output(&[[(1.0, 1e-4); 99].as_slice(), &[(1.0, 0.5)]].concat());
        assert!(few.total().sqnr_db() > 22.0);
        assert!((few.judged_db() - 10.0 - 10.0 * 2f64.log10()).abs() < 1e-9);
        assert_eq!(worst_samples(&[few], 2), [99, 0]);
    }

    #[test]
    fn a_sample_with_little_signal_is_measured_by_the_others() {
        // 3 dB of its own, but no worse in absolute terms.
        let empty = output(&[(1.0, 1e-4), (2e-4, 1e-4), (1.0, 1e-4)]);
        assert!(empty.judged_db() > 35.0);
    }

    #[test]
    fn nothing_is_perfect() {
        assert_eq!(worst_db(&[]), 60.0);
        assert!(worst_samples(&[], 2).is_empty());
    }
}
