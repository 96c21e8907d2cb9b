//! The operator that stands at a site in a simulation: quantizes and dequantizes in place.

use std::sync::Arc;

use onnxq_plan::Quantizer;
use tract_onnx::tract_core::internal::{
    AxesMapping, AxisChangeConsequence, AxisOp, DatumTypeExt, EvalContext, EvalOp, InOut, IntoTValue, IntoTensor, Op,
    OutletId, SpecialOps, StaticName, TValue, TVec, TractResult, TypedFact, TypedModel, TypedNode, TypedOp, args_1,
    as_op, op_as_typed_op, op_out_of_plan, tvec,
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
        self.quantizer.fake(&shape, view.as_slice_mut::<f32>()?)?;
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
