//! What a grid makes of the elements of an activation.

use onnxq_plan::{Deviation, Quantizer};

/// Signal and error of these elements; a quantizer of weights or biases has none.
pub(crate) fn of(quantizer: &Quantizer, elements: &[f32]) -> Deviation {
    match quantizer {
        Quantizer::Tensor(own) => {
            let signal = elements.iter().map(|&x| f64::from(x) * f64::from(x)).sum();
            Deviation { signal, error: own.squared_error(elements) }
        }
        Quantizer::Log(own) => {
            let mut fake = elements.to_vec();
            own.fake(&mut fake);
            Deviation::between(elements, &fake)
        }
        Quantizer::Channels { .. } | Quantizer::Bias(_) => Deviation::default(),
    }
}
