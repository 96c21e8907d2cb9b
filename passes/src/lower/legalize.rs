//! Makes the plan one that the target can compute: biases get their scale, what can't be kept is dropped.
//!
//! # Why
//! An integer kernel adds the bias to the accumulator, so its scale is the product of the scales of activation and weight:
//! no method chooses it. Where that scale is so small that the bias would not fit into int32, the weight's scale is raised.
//!
//! # Needs
//! Nothing.
//!
//! # Effect
//! The scale of an activation is raised where its range is smaller than the target takes. What only moves codes gets
//! the quantizer of its source. Every bias in the plan gets the scale `s_x * s_w`, or leaves the plan where one of
//! the two is not uniform. The scale of a weight channel is raised where its bias would overflow. Scales that stand
//! in the file in 16 bits are rounded up to such numbers.
//!
//! # Promise
//! Annotate.
//!
//! # Declines
//! - `large-bias`: its bias is infinite, or would make the one scale of its weight more than twice as large; the operator
//!   stays float, since runtimes make int32 of a float bias themselves.
//! - `no-source`: it moves codes of a value that stayed float.
//! - `no-scale`: activation and weight have no uniform quantizers with as many channels, so the bias stays float.
//!
//! # Options
//! None.

use std::collections::BTreeMap;

use onnxq_ir::{ElementType, Graph, OpId, Tensor, ValueId};
use onnxq_numerics::Uniform;
use onnxq_plan::target::HalfFloats;
use onnxq_plan::{Plan, Quantizer, Scheme, Site};
use serde::{Deserialize, Serialize};

use crate::assign::kind::Candidate;
use crate::pass::{Context, Pass, PassError, Promise};

/// What a recipe or `--set legalize.KEY=VALUE` can set: nothing.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub(crate) struct Legalize {}

impl Pass for Legalize {
    fn promise(&self) -> Promise {
        Promise::Annotate
    }

    fn run(&self, cx: &mut Context<'_>) -> Result<(), PassError> {
        widen(cx);
        share(cx);
        want_new_biases(cx);
        for (site, scheme) in cx.plan.unassigned() {
            let (Scheme::Bias, Site::Operand { op, .. }) = (scheme, site) else { continue };
            match bias_scales(cx, op, site) {
                Ok(scales) => {
                    cx.plan.assign(site, Quantizer::Bias(scales));
                    cx.assigned();
                }
                Err(Unfit::NoScale) => {
                    cx.plan.remove(site);
                    cx.decline(op, "no-scale: activation and weight have no uniform quantizers that fit it, so the bias stays float");
                }
                Err(Unfit::TooLarge) => {
                    cx.plan.remove_operands(op);
                    let reason =
                        "large-bias: its bias is infinite, or so large that the weight would lose its resolution";
                    let kind = cx.graph().op(op).op_type().to_owned();
                    cx.decline(op, reason);
                    cx.leave_float(op, &kind, reason);
                }
            }
        }
        if cx.target.half_floats == HalfFloats::Kept {
            round(cx);
        }
        Ok(())
    }
}

/// Rounds scales that will be float16 or bfloat16 up to the next such number, so that the range stays covered.
fn round(cx: &mut Context<'_>) {
    let rounded = |(site, entry): (Site, &onnxq_plan::Entry)| {
        let element = cx.graph().tensor_type(site.value(cx.graph())?)?.element;
        let up = |own: &Uniform| {
            let scale = half_at_least(element, own.scale())?;
            Uniform::new(own.format(), scale, own.zero_point()).ok()
        };
        let quantizer = match entry.quantizer.as_ref()? {
            Quantizer::Tensor(own) => Quantizer::Tensor(up(own)?),
            Quantizer::Channels { axis, channels } => {
                Quantizer::Channels { axis: *axis, channels: channels.iter().map(up).collect::<Option<_>>()? }
            }
            Quantizer::Log(_) | Quantizer::Bias(_) => return None,
        };
        Some((site, quantizer))
    };
    for (site, quantizer) in cx.plan.entries().filter_map(rounded).collect::<Vec<_>>() {
        cx.plan.assign(site, quantizer);
    }
}

/// The least number of a type of 16 bits that is no smaller than this one, which is above 0; none for other types, or
/// where it would be infinite.
fn half_at_least(element: ElementType, number: f32) -> Option<f32> {
    let up = match element {
        ElementType::F16 => {
            let near = half::f16::from_f32(number);
            let up = if near.to_f32() < number { half::f16::from_bits(near.to_bits() + 1) } else { near };
            up.to_f32()
        }
        ElementType::BF16 => {
            let near = half::bf16::from_f32(number);
            let up = if near.to_f32() < number { half::bf16::from_bits(near.to_bits() + 1) } else { near };
            up.to_f32()
        }
        _ => return None,
    };
    up.is_finite().then_some(up)
}

/// Raises scales of activations that stand for a smaller range than the target takes.
fn widen(cx: &mut Context<'_>) {
    let Some(least) = cx.target.activations.least_range else { return };
    let narrow = |(site, entry): (Site, &onnxq_plan::Entry)| {
        let Some(Quantizer::Tensor(own)) = &entry.quantizer else { return None };
        let scale = least / (own.format().levels() - 1) as f32;
        let wide = (own.scale() < scale).then(|| Uniform::new(own.format(), scale, own.zero_point()).ok()).flatten()?;
        let value = site.value(cx.graph())?;
        cx.graph().constant(value).is_none().then_some((site, wide))
    };
    for (site, wide) in cx.plan.entries().filter_map(narrow).collect::<Vec<_>>() {
        cx.plan.assign(site, Quantizer::Tensor(wide));
        cx.assigned();
    }
}

/// Gives outputs of operators that only move codes the quantizer of what they move.
fn share(cx: &mut Context<'_>) {
    let sites: BTreeMap<ValueId, ValueId> = cx
        .plan
        .unassigned()
        .into_iter()
        .filter_map(|(site, scheme)| match (site, scheme) {
            (Site::Output(value), Scheme::Shared(source)) => Some((value, source)),
            _ => None,
        })
        .collect();
    // Sources first.
    for op in cx.ops() {
        for value in cx.graph().outputs_of(op).into_iter().flatten() {
            let Some(&source) = sites.get(&value) else { continue };
            let site = Site::Output(value);
            let read = cx.plan.quantizer(Site::Operand { op, slot: 0 });
            if let Some(quantizer) = cx.plan.quantizer(Site::Output(source)).or(read).cloned() {
                cx.plan.assign(site, quantizer);
                cx.assigned();
            } else {
                cx.plan.remove(site);
                cx.plan.remove_operands(op);
                cx.decline(op, "no-source: what it moves is float");
            }
        }
    }
}

/// Why a bias can't be int32.
enum Unfit {
    /// Its scale is no product of two.
    NoScale,
    /// It does not fit, and a float one would be made int32 by the runtime all the same.
    TooLarge,
}

/// Puts biases into the plan that a method has made.
fn want_new_biases(cx: &mut Context<'_>) {
    for op in cx.ops() {
        let candidate = Candidate::at(cx.graph(), op);
        let candidate = candidate.filter(|candidate| candidate.has_integer_bias(cx.graph(), cx.target));
        let Some(slot) = candidate.and_then(|candidate| candidate.bias) else { continue };
        let site = Site::Operand { op, slot };
        let weight = cx.plan.quantizer(Site::Operand { op, slot: 1 });
        let is_uniform = matches!(weight, Some(Quantizer::Tensor(_) | Quantizer::Channels { .. }));
        if is_uniform && cx.plan.get(site).is_none() && activation_scale(cx.graph(), cx.plan, op).is_some() {
            cx.plan.want(site, Scheme::Bias);
        }
    }
}

/// The scales of a bias, one or one per output channel; raises scales of the weight where they are too small for it.
fn bias_scales(cx: &mut Context<'_>, op: OpId, bias: Site) -> Result<Vec<f32>, Unfit> {
    let activation = activation_scale(cx.graph(), cx.plan, op).ok_or(Unfit::NoScale)?;
    let weight = Site::Operand { op, slot: 1 };
    let values = bias.value(cx.graph()).and_then(|value| cx.graph().constant(value)).and_then(Tensor::to_f32);
    let values = values.ok_or(Unfit::NoScale)?.into_owned();
    let quantizer = cx.plan.quantizer(weight).ok_or(Unfit::NoScale)?.clone();
    if values.iter().any(|b| !b.is_finite()) {
        return Err(Unfit::TooLarge);
    }
    let raised = match quantizer {
        Quantizer::Tensor(own) => {
            let largest = values.iter().fold(0.0f32, |largest, b| largest.max(b.abs()));
            let raised = raise(own, activation, largest);
            // All channels would pay for the one.
            if raised.scale() > 2.0 * own.scale() {
                return Err(Unfit::TooLarge);
            }
            Quantizer::Tensor(raised)
        }
        Quantizer::Channels { axis, channels } => {
            if values.len() != channels.len() && values.len() != 1 {
                return Err(Unfit::NoScale);
            }
            let bias_of = |c: usize| values[if values.len() == 1 { 0 } else { c }].abs();
            let channels =
                channels.into_iter().enumerate().map(|(c, own)| raise(own, activation, bias_of(c))).collect();
            Quantizer::Channels { axis, channels }
        }
        Quantizer::Log(_) | Quantizer::Bias(_) => return Err(Unfit::NoScale),
    };
    let scales: Vec<f32> = match &raised {
        Quantizer::Tensor(own) => vec![activation * own.scale()],
        Quantizer::Channels { channels, .. } => channels.iter().map(|own| activation * own.scale()).collect(),
        Quantizer::Log(_) | Quantizer::Bias(_) => return Err(Unfit::NoScale),
    };
    // One bias for all channels has no scale of its own per channel.
    if scales.len() > 1 && values.len() == 1 {
        return Err(Unfit::NoScale);
    }
    cx.plan.assign(weight, raised);
    Ok(scales)
}

fn activation_scale(graph: &Graph, plan: &Plan, op: OpId) -> Option<f32> {
    let x = graph.input(op, 0)?;
    let planned = plan.quantizer(Site::Operand { op, slot: 0 }).or_else(|| plan.quantizer(Site::Output(x)));
    match planned {
        Some(Quantizer::Tensor(own)) => Some(own.scale()),
        Some(_) => None,
        None => scale_as_read(graph, x),
    }
}

/// The one scale of a value that came quantized.
fn scale_as_read(graph: &Graph, value: ValueId) -> Option<f32> {
    let (op, _) = graph.producer(value).filter(|(op, _)| graph.op(*op).is("DequantizeLinear"))?;
    let scale = graph.constant(graph.input(op, 1)?)?.to_f32()?;
    (scale.len() == 1).then(|| scale[0])
}

/// The quantizer with a scale under which a bias of this size fits into int32.
fn raise(own: Uniform, activation: f32, bias: f32) -> Uniform {
    // Half of int32 is left for the sum that it is added to: 33,000 products of 8 bits.
    const LARGEST_CODE: f32 = 1_073_741_824.0;
    let least = bias / LARGEST_CODE / activation;
    if own.scale() >= least || !least.is_finite() {
        return own;
    }
    Uniform::new(own.format(), least, own.zero_point()).unwrap_or(own)
}

#[cfg(test)]
mod tests {
    use crate::testing::{check, check_declined};

    #[test]
    fn bias() {
        check!("legalize/bias");
    }

    #[test]
    fn float16_scales() {
        check!("legalize/float16_scales");
    }

    #[test]
    fn large_bias() {
        check!("legalize/large_bias");
    }

    #[test]
    fn partly_quantized() {
        check!("legalize/partly_quantized");
    }

    #[test]
    fn per_tensor() {
        check!("legalize/per_tensor");
    }

    #[test]
    fn narrow() {
        check!("legalize/narrow");
    }

    #[test]
    fn moved_input() {
        check!("legalize/moved_input");
    }

    #[test]
    fn huge_bias() {
        check_declined!(
            "legalize/huge_bias",
            "large-bias: its bias is infinite, or so large that the weight would lose its resolution"
        );
    }

    #[test]
    fn no_scale() {
        check_declined!(
            "legalize/no_scale",
            "no-scale: activation and weight have no uniform quantizers that fit it, so the bias stays float"
        );
    }
}
