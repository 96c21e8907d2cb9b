//! What the float model makes of a few samples, kept for whoever compares with it.

use std::collections::BTreeMap;

use onnxq_ir::ValueId;

use crate::evaluator::Shown;

/// Elements of values of the float model by name, by the number of the sample.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct FloatOutputs(BTreeMap<usize, BTreeMap<String, Vec<f32>>>);

impl FloatOutputs {
    /// The elements of a value in a sample, where they were kept.
    pub fn get(&self, sample: usize, name: &str) -> Option<&[f32]> {
        self.0.get(&sample)?.get(name).map(Vec::as_slice)
    }

    /// Whether these values of these samples were all kept.
    pub fn cover(&self, mut samples: impl Iterator<Item = usize>, names: &[&str]) -> bool {
        samples.all(|sample| names.iter().all(|name| self.get(sample, name).is_some()))
    }

    /// Takes in what was kept elsewhere.
    pub fn merge(&mut self, other: Self) {
        for (sample, values) in other.0 {
            self.0.entry(sample).or_default().extend(values);
        }
    }
}

/// Of which values and samples elements are kept.
#[derive(Clone, Debug, Default)]
pub struct Watch {
    /// The values, with the names under which they are kept.
    pub values: BTreeMap<ValueId, String>,
    /// Samples from this number on are not kept.
    pub samples: usize,
}

impl Watch {
    /// Keeps what is shown, if it is watched and float.
    pub(crate) fn see(&self, sample: usize, shown: &Shown<'_>, kept: &mut FloatOutputs) {
        if sample >= self.samples {
            return;
        }
        if let (Some(name), Some(elements)) = (self.values.get(&shown.value), shown.elements.floats()) {
            kept.0.entry(sample).or_default().insert(name.clone(), elements.into_owned());
        }
    }
}
