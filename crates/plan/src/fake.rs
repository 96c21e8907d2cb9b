//! What quantizing and dequantizing makes of values, with the kernels of `onnxq-numerics`.

use onnxq_numerics::fake_channels;

use crate::plan::Quantizer;

/// A quantizer does not fit the tensor that it is for.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a {what} does not fit shape {shape:?}")]
pub struct Misfit {
    /// The quantizer.
    pub what: String,
    /// The tensor's dimensions.
    pub shape: Vec<usize>,
}

impl Quantizer {
    /// Replaces the elements of a tensor of this shape by their levels.
    pub fn fake(&self, shape: &[usize], values: &mut [f32]) -> Result<(), Misfit> {
        let misfit = |what: String| Misfit { what, shape: shape.to_vec() };
        match self {
            Self::Tensor(uniform) => uniform.fake(values),
            Self::Log(log) => log.fake(values),
            Self::Channels { axis, channels } => {
                if shape.get(*axis) != Some(&channels.len()) {
                    return Err(misfit(format!("quantizer of {} channels on axis {axis}", channels.len())));
                }
                fake_channels(values, channels, shape[axis + 1..].iter().product());
            }
            Self::Bias(scales) => {
                if scales.len() != 1 && shape.last() != Some(&scales.len()) {
                    return Err(misfit(format!("bias quantizer of {} scales", scales.len())));
                }
                for (value, scale) in values.iter_mut().zip(scales.iter().cycle()) {
                    *value = bias_level(*value, *scale);
                }
            }
        }
        Ok(())
    }
}

/// The level of a bias: the int32 code `rne(b / s)`, saturated, times `s`, each step in float32 as QuantizeLinear and
/// DequantizeLinear define it.
fn bias_level(bias: f32, scale: f32) -> f32 {
    (bias / scale).round_ties_even() as i32 as f32 * scale
}

#[cfg(test)]
mod tests {
    use onnxq_numerics::{IntFormat, Uniform};

    use super::*;

    #[test]
    fn channels_lie_along_their_axis() {
        let channels: Vec<Uniform> =
            [0.5, 1.0].into_iter().map(|scale| Uniform::new(IntFormat::S8, scale, 0).unwrap()).collect();
        let mut values = vec![0.3, 1.2, 0.3, 1.2, -0.7, 200.0, -0.7, 200.0];
        Quantizer::Channels { axis: 1, channels: channels.clone() }.fake(&[2, 2, 2], &mut values).unwrap();
        assert_eq!(values, [0.5, 1.0, 0.0, 1.0, -0.5, 63.5, -1.0, 127.0]);
        assert!(Quantizer::Channels { axis: 0, channels }.fake(&[3, 1], &mut [0.0; 3]).is_err());
    }

    #[test]
    fn a_bias_saturates_at_int32() {
        let mut values = [0.26, 0.25, -0.75, 1e12, f32::NEG_INFINITY];
        Quantizer::Bias(vec![0.5]).fake(&[5], &mut values).unwrap();
        assert_eq!(values, [0.5, 0.0, -1.0, 1_073_741_824.0, -1_073_741_824.0]);
        let mut values = [0.26, 0.26];
        Quantizer::Bias(vec![0.5, 0.25]).fake(&[2], &mut values).unwrap();
        assert_eq!(values, [0.5, 0.25]);
        assert!(Quantizer::Bias(vec![1.0, 2.0, 3.0]).fake(&[2], &mut values).is_err());
    }
}
