//! SkipLayerNormalization: LayerNorm of `input + skip + bias`; SkipSimplifiedLayerNormalization: RmsNorm of it;
//! SimplifiedLayerNormalization: RmsNorm, which onnxruntime keeps among ONNX's own operators.
//!
//! The fourth output of the first two is the sum; the second and third are statistics that only training reads.

use crate::op::{Attribute, Op, OpId};
use crate::ops::attributes::{float_or, int_or, optional_input};
use crate::ops::expansion::Steps;
use crate::ops::{LayerNorm, RmsNorm};
use crate::types::ElementType;
use crate::value::ValueId;

use super::{MALFORMED, Outcome, Unfusing, is_read};

/// What onnxruntime adds to the variance where the file does not say.
const EPSILON: f32 = 1e-12;

pub(super) fn layer_norm(at: &mut Unfusing<'_>, id: OpId) -> Outcome {
    let (graph, op) = (at.graph, at.graph.op(id));
    let epsilon = float_or(op, "epsilon", EPSILON).ok_or(MALFORMED)?;
    let gamma = at.input(id, 2)?;
    let scale_and_bias: Vec<ValueId> = [gamma].into_iter().chain(optional_input(graph, id, 3)).collect();
    norm_of_sum(at, id, 4, LayerNorm::op(-1, epsilon), &scale_and_bias)
}

pub(super) fn rms_norm(at: &mut Unfusing<'_>, id: OpId) -> Outcome {
    let epsilon = float_or(at.graph.op(id), "epsilon", EPSILON).ok_or(MALFORMED)?;
    let gamma = at.input(id, 2)?;
    norm_of_sum(at, id, 3, RmsNorm::op(-1, epsilon), &[gamma])
}

/// `norm` of the sum of the first two inputs and of the one in the slot `bias`, where there is one.
fn norm_of_sum(at: &mut Unfusing<'_>, id: OpId, bias: usize, norm: Op, scale_and_bias: &[ValueId]) -> Outcome {
    let graph = at.graph;
    let input = at.input(id, 0)?;
    let skip = at.input(id, 1)?;
    if is_read(graph, id, 1) || is_read(graph, id, 2) {
        return Err("its statistics are read");
    }
    let (bias, sum) = (optional_input(graph, id, bias), graph.output(id, 3));
    let mut steps = at.steps(id, input)?;
    // The bias is that of the product in front.
    let biased = bias.map_or(input, |bias| steps.step("Add", &[input, bias], "biased"));
    let sum = match sum {
        None => steps.step("Add", &[biased, skip], "sum"),
        Some(sum) => {
            steps.write(sum, Op::new("", "Add", vec![]), &[biased, skip]);
            sum
        }
    };
    let inputs: Vec<ValueId> = [sum].into_iter().chain(scale_and_bias.iter().copied()).collect();
    finish_norm(steps, norm, &inputs);
    Ok(())
}

/// Ends with a norm of these inputs. Of 16 bits it is computed in float32, as the fused operator does: an epsilon of 1e-12
/// is 0 in float16, and squares leave its range.
pub(super) fn finish_norm(mut steps: Steps<'_, '_>, norm: Op, inputs: &[ValueId]) {
    let element = steps.element();
    if !element.is_half() {
        steps.finish_as(norm, inputs);
        return;
    }
    let wide: Vec<ValueId> = inputs.iter().map(|&input| steps.cast(input, ElementType::F32, "float32")).collect();
    let normalised = steps.step_with(norm, &wide, "normalised");
    let back = Attribute::int("to", element.code().into());
    steps.finish_as(Op::new("", "Cast", vec![back]), &[normalised]);
}

pub(super) fn simplified(at: &mut Unfusing<'_>, id: OpId) -> Outcome {
    let (graph, op) = (at.graph, at.graph.op(id));
    let axis = int_or(op, "axis", -1).ok_or(MALFORMED)?;
    let epsilon = float_or(op, "epsilon", 1e-5).ok_or(MALFORMED)?;
    let x = at.input(id, 0)?;
    let scale = at.input(id, 1)?;
    if is_read(graph, id, 1) {
        return Err("its statistics are read");
    }
    finish_norm(at.steps(id, x)?, RmsNorm::op(axis, epsilon), &[x, scale]);
    Ok(())
}
