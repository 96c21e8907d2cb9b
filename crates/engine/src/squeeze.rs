//! Squeeze without axes: tract demands them below version 13, and takes a size that it does not know for other than 1.

use onnxq_ir::{Graph, OpId, Output, Patch};
use tract_onnx::tract_core::internal::{
    AxisOp, OutletId, SpecialOps, StaticName, TDim, TVec, TractResult, TypedModel, bail,
};
use tract_onnx::tract_hir::infer::{InferenceResult, Solver, TensorProxy, check_input_arity, check_output_arity};
use tract_onnx::tract_hir::internal::Expansion;

use crate::guard::Failure;
use crate::marked::{Marked, Marker};

/// Removes every axis of size 1; all sizes must be known.
#[derive(Clone, Debug)]
pub(crate) struct SqueezeAll;

/// Puts markers in the place of all Squeeze operators without axes.
pub(crate) fn replace_squeezes(marked: &mut Marked<'_>) -> Result<(), Failure> {
    let graph = &marked.graph;
    let squeezes: Vec<OpId> = graph.op_ids().filter(|&id| has_no_axes(graph, id)).collect();
    let Some(&first) = squeezes.first() else { return Ok(()) };
    let mut patch = Patch::new(graph, "squeezes", first);
    let mut markers = Vec::new();
    for id in squeezes {
        let (Some(x), Some(y)) = (graph.input(id, 0), graph.output(id, 0)) else { continue };
        patch.stand_at(graph, id);
        patch.remove(id);
        patch.op(graph, Marker::Squeeze.op().named(graph.op(id).name()), &[Some(x)], &[Output::Take(y)]);
        markers.push((y, Marker::Squeeze));
    }
    let mut copy = graph.clone().into_owned();
    patch.apply(&mut copy).map_err(|error| Failure::of(error.to_string()))?;
    marked.graph = std::borrow::Cow::Owned(copy);
    marked.markers.extend(markers);
    Ok(())
}

fn has_no_axes(graph: &Graph, id: OpId) -> bool {
    let op = graph.op(id);
    op.is("Squeeze")
        && graph.input(id, 1).is_none()
        && !op.attributes().iter().any(|attribute| attribute.name == "axes")
}

/// The axes of size 1, last first.
fn ones(shape: &[TDim]) -> TractResult<Vec<usize>> {
    if let Some(open) = shape.iter().find(|dim| dim.to_i64().is_err()) {
        bail!("Squeeze without axes where a size, {open}, is not known");
    }
    Ok((0..shape.len()).rev().filter(|&axis| shape[axis] == 1.into()).collect())
}

impl Expansion for SqueezeAll {
    fn name(&self) -> StaticName {
        "OnnxqSqueeze".into()
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
        s.given(&inputs[0].shape, move |s, shape| {
            let ones = ones(&shape)?;
            let kept = (0..shape.len()).filter(|axis| !ones.contains(axis));
            let kept: TVec<TDim> = kept.map(|axis| shape[axis].clone()).collect();
            s.equals(&outputs[0].shape, kept)
        })
    }

    fn wire(&self, prefix: &str, model: &mut TypedModel, inputs: &[OutletId]) -> TractResult<TVec<OutletId>> {
        let mut outlets: TVec<OutletId> = inputs.into();
        let shape: TVec<TDim> = model.outlet_fact(inputs[0])?.shape.iter().cloned().collect();
        for axis in ones(&shape)? {
            outlets = model.wire_node(format!("{prefix}.axis{axis}"), AxisOp::Rm(axis), &outlets)?;
        }
        Ok(outlets)
    }
}
