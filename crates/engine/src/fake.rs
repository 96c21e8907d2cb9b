//! The operator that stands at a site in a simulation: quantizes and dequantizes in place, with the kernels of
//! `onnxq-numerics`.

use std::sync::Arc;

use onnxq_numerics::fake_channels;
use onnxq_plan::Quantizer;
use tract_onnx::tract_core::internal::{
    AxesMapping, AxisChangeConsequence, AxisOp, DatumTypeExt, EvalContext, EvalOp, InOut, IntoTValue, IntoTensor, Op,
    OutletId, SpecialOps, StaticName, TValue, TVec, TractResult, TypedFact, TypedModel, TypedNode, TypedOp, args_1,
    as_op, ensure, op_as_typed_op, op_out_of_plan, tvec,
};
use tract_onnx::tract_hir::infer::{InferenceResult, Solver, TensorProxy, check_input_arity, check_output_arity};
use tract_onnx::tract_hir::internal::Expansion;

/// Replaces float32 values by their levels under one quantizer.
#[derive(Clone, Debug)]
pub(crate) struct Fake {
    quantizer: Arc<Quantizer>,
}

impl Fake {
    /// The operator for a quantizer.
    pub(crate) fn new(quantizer: Arc<Quantizer>) -> Self {
        Self { quantizer }
    }

    /// Whether each element is quantized alone, wherever it stands.
    fn is_elementwise(&self) -> bool {
        match &*self.quantizer {
            Quantizer::Tensor(_) | Quantizer::Log(_) => true,
            Quantizer::Channels { .. } => false,
            Quantizer::Bias(scales) => scales.len() == 1,
        }
    }
}

/// Equal quantizers on one value give equal values: tract may merge such operators.
impl PartialEq for Fake {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.quantizer, &other.quantizer) || self.quantizer == other.quantizer
    }
}

impl Eq for Fake {}

impl Op for Fake {
    fn name(&self) -> StaticName {
        "OnnxqFake".into()
    }

    op_as_typed_op!();
}

impl EvalOp for Fake {
    op_out_of_plan!();

    fn eval(&self, _ctx: &EvalContext, inputs: TVec<TValue>) -> TractResult<TVec<TValue>> {
        let input = args_1!(inputs);
        // Copies only where somebody else holds the tensor.
        let mut tensor = input.into_tensor();
        let shape: TVec<usize> = tensor.shape().into();
        let mut view = tensor.try_as_plain_ram_mut()?;
        quantize(&self.quantizer, &shape, view.as_slice_mut::<f32>()?)?;
        Ok(tvec!(tensor.into_tvalue()))
    }
}

impl TypedOp for Fake {
    as_op!();

    fn output_facts(&self, inputs: &[&TypedFact]) -> TractResult<TVec<TypedFact>> {
        Ok(tvec!(inputs[0].datum_type.fact(inputs[0].shape.clone())))
    }

    fn axes_mapping(&self, inputs: &[&TypedFact], outputs: &[&TypedFact]) -> TractResult<AxesMapping> {
        AxesMapping::natural(inputs, outputs)
    }

    fn change_axes(
        &self,
        model: &TypedModel,
        node: &TypedNode,
        _io: InOut,
        change: &AxisOp,
    ) -> TractResult<Option<AxisChangeConsequence>> {
        // Transpositions may pass where no axis matters: they then melt into a product, as they do without a plan.
        Ok(self.is_elementwise().then(|| AxisChangeConsequence::new(model, node, None, change)))
    }
}

impl Expansion for Fake {
    fn name(&self) -> StaticName {
        "OnnxqFake".into()
    }

    fn rules<'r, 'p: 'r, 's: 'r>(
        &'s self,
        s: &mut Solver<'r>,
        inputs: &'p [TensorProxy],
        outputs: &'p [TensorProxy],
    ) -> InferenceResult {
        check_input_arity(inputs, 1)?;
        check_output_arity(outputs, 1)?;
        s.equals(&inputs[0].datum_type, &outputs[0].datum_type)?;
        s.equals(&inputs[0].shape, &outputs[0].shape)
    }

    fn wire(&self, prefix: &str, model: &mut TypedModel, inputs: &[OutletId]) -> TractResult<TVec<OutletId>> {
        model.wire_node(prefix, self.clone(), inputs)
    }
}

/// Replaces the elements of a tensor of this shape by their levels.
pub(crate) fn quantize(quantizer: &Quantizer, shape: &[usize], values: &mut [f32]) -> TractResult<()> {
    match quantizer {
        Quantizer::Tensor(uniform) => uniform.fake(values),
        Quantizer::Log(log) => log.fake(values),
        Quantizer::Channels { axis, channels } => {
            let size = shape.get(*axis).copied();
            ensure!(
                size == Some(channels.len()),
                "a quantizer of {} channels on axis {axis} does not fit shape {shape:?}",
                channels.len()
            );
            fake_channels(values, channels, shape[axis + 1..].iter().product());
        }
        Quantizer::Bias(scales) => {
            ensure!(
                scales.len() == 1 || shape.last() == Some(&scales.len()),
                "a bias quantizer of {} scales does not fit shape {shape:?}",
                scales.len()
            );
            for (value, scale) in values.iter_mut().zip(scales.iter().cycle()) {
                *value = bias_level(*value, *scale);
            }
        }
    }
    Ok(())
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
        quantize(&Quantizer::Channels { axis: 1, channels: channels.clone() }, &[2, 2, 2], &mut values).unwrap();
        assert_eq!(values, [0.5, 1.0, 0.0, 1.0, -0.5, 63.5, -1.0, 127.0]);
        assert!(quantize(&Quantizer::Channels { axis: 0, channels }, &[3, 1], &mut [0.0; 3]).is_err());
    }

    #[test]
    fn a_bias_saturates_at_int32() {
        let mut values = [0.26, 0.25, -0.75, 1e12, f32::NEG_INFINITY];
        quantize(&Quantizer::Bias(vec![0.5]), &[5], &mut values).unwrap();
        assert_eq!(values, [0.5, 0.0, -1.0, 1_073_741_824.0, -1_073_741_824.0]);
        let mut values = [0.26, 0.26];
        quantize(&Quantizer::Bias(vec![0.5, 0.25]), &[2], &mut values).unwrap();
        assert_eq!(values, [0.5, 0.25]);
        assert!(quantize(&Quantizer::Bias(vec![1.0, 2.0, 3.0]), &[2], &mut values).is_err());
    }
}
