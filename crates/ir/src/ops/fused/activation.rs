//! Activations that onnxruntime fuses into the operator in front of them.

use crate::op::{Attribute, Op};
use crate::ops::attributes::text_or;
use crate::ops::expansion::Steps;
use crate::value::ValueId;

use super::MALFORMED;

/// What is computed of a fused operator's result.
pub(super) enum Activation {
    /// Nothing.
    None,
    /// An operator of one input.
    One(Op),
    /// Clip to these bounds, which are inputs since opset 11.
    Clip([f32; 2]),
}

/// Activations of one input, with the names of their numbers in the order in which FusedConv lists them.
const ONE: &[(&str, &[&str])] = &[
    ("Elu", &["alpha"]),
    ("HardSigmoid", &["alpha", "beta"]),
    ("LeakyRelu", &["alpha"]),
    ("Relu", &[]),
    ("Selu", &["alpha", "gamma"]),
    ("Sigmoid", &[]),
    ("Softplus", &[]),
    ("Softsign", &[]),
    ("Tanh", &[]),
    ("ThresholdedRelu", &["alpha"]),
];

impl Activation {
    /// The activation that an operator names; `number` gives the one called so, which is that at this place of a list.
    pub(super) fn read(op: &Op, number: impl Fn(&str, usize) -> Option<f32>) -> Result<Self, &'static str> {
        let name = text_or(op, "activation", "").ok_or(MALFORMED)?;
        match name {
            "" => return Ok(Self::None),
            "Clip" => {
                let (min, max) = number("min", 0).zip(number("max", 1)).ok_or(MALFORMED)?;
                return Ok(Self::Clip([min, max]));
            }
            _ => {}
        }
        let (op_type, numbers) = ONE.iter().find(|(known, _)| *known == name).ok_or("its activation is not known")?;
        let attributes =
            numbers.iter().enumerate().filter_map(|(i, &name)| Some(Attribute::float(name, number(name, i)?)));
        Ok(Self::One(Op::new("", *op_type, attributes.collect())))
    }

    /// Ends with the activation of what `op` makes of its inputs.
    pub(super) fn finish(self, mut steps: Steps<'_, '_>, op: Op, inputs: &[ValueId]) {
        match self {
            Self::None => steps.finish_as(op, inputs),
            Self::One(activation) => {
                let sum = steps.step_with(op, inputs, "linear");
                steps.finish_as(activation, &[sum]);
            }
            Self::Clip([min, max]) => {
                let sum = steps.step_with(op, inputs, "linear");
                if steps.graph().opset() < 11 {
                    let bounds = vec![Attribute::float("min", min), Attribute::float("max", max)];
                    steps.finish_as(Op::new("", "Clip", bounds), &[sum]);
                } else {
                    let [min, max] = [min, max].map(|bound| steps.scalar(bound.into()));
                    steps.finish("Clip", &[sum, min, max]);
                }
            }
        }
    }
}
