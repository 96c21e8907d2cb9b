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
    /// What became of these elements. Where there are more or fewer of them, that is as bad as it gets.
    pub fn between(float: &[f32], other: &[f32]) -> Self {
        let signal = float.iter().map(|&a| f64::from(a) * f64::from(a)).sum();
        if float.len() != other.len() {
            return Self { signal, error: f64::INFINITY };
        }
        let error = float.iter().zip(other).map(|(&a, &b)| (f64::from(a) - f64::from(b)).powi(2)).sum();
        Self { signal, error }
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

/// Runs plans on a few samples: on those held out, where nothing else is said. Samples are always the same, and so are results, whatever the number of threads.
pub trait Trials {
    /// Deviation of every float output of the model under a plan from the model as it was before any method touched it.
    ///
    /// Sites without a quantizer are float. Only the first `samples` samples are run.
    fn outputs(&self, model: &Model, plan: &Plan, samples: usize) -> Result<Vec<Deviation>, EngineError>;

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

    /// How many samples there are.
    fn samples(&self) -> usize;
}

/// The SQNR of the output that suffers most, in dB: what a plan is judged by.
pub fn worst_db(outputs: &[Deviation]) -> f64 {
    outputs.iter().map(|output| output.sqnr_db()).fold(60.0, f64::min)
}
