//! Raises the model's operator version where a form of the plan needs it, and no further.
//!
//! # Why
//! Per-channel QuantizeLinear came with opset 13, Clip on integers with 12, scales of 16 bits with 19, 16-bit and
//! packed 4-bit codes with 21, packed 2-bit codes with 25. A model that needs none of these keeps its version, so
//! that whatever read it reads the result.
//!
//! # Needs
//! Nothing.
//!
//! # Effect
//! Operators whose meaning or form changed up to the needed version are converted, in local functions too; the file
//! format version is raised where the operators ask for it, and to 4, from which on initializers need not be inputs.
//!
//! # Promise
//! Exact.
//!
//! # Declines
//! Nothing; an operator that can't be converted is an error that names it, and so is a version that the target does not
//! load.
//!
//! # Options
//! None.

use onnxq_ir::{Applied, ElementType};
use onnxq_numerics::Uniform;
use onnxq_plan::{Entry, Quantizer, Site};
use serde::{Deserialize, Serialize};

use super::carrier::weight_carrier;
use super::insert_qdq::embedding_at;
use super::widen::scale_type;
use crate::pass::{CHANNEL_SCALES, Context, Pass, PassError, Promise};
use crate::storage::Carrier;

/// What a recipe or `--set opset.KEY=VALUE` can set: nothing.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub(crate) struct Opset {}

impl Pass for Opset {
    fn promise(&self) -> Promise {
        Promise::Exact
    }

    fn run(&self, cx: &mut Context<'_>) -> Result<(), PassError> {
        raise_operators(cx)?;
        raise_file(cx);
        Ok(())
    }
}

/// Raises the operator version to what the plan needs.
fn raise_operators(cx: &mut Context<'_>) -> Result<(), PassError> {
    let needs = cx.plan.entries().filter_map(|(site, entry)| need(cx, site, entry));
    let Some((opset, form)) = needs.max_by_key(|(opset, _)| *opset) else { return Ok(()) };
    let before = cx.graph().opset();
    if before >= opset {
        return Ok(());
    }
    let refuse = |reason: String| PassError::Opset { form, need: opset, reason };
    if opset > cx.target.max_opset {
        return Err(refuse(format!("target `{}` loads no opset above {}", cx.target.name, cx.target.max_opset)));
    }
    onnxq_ir::ops::opset::convert(cx.model, opset).map_err(|error| refuse(error.to_string()))?;
    cx.record(Applied { rule: "opset", text: format!("opset {before} to {opset}, for {form}\n") });
    Ok(())
}

/// Before version 4 of the file format initializers had to be inputs too, and those that come with the codes are not.
fn raise_file(cx: &mut Context<'_>) {
    const INITIALIZERS_ALONE: i64 = 4;
    let before = cx.model.ir_version;
    if before < INITIALIZERS_ALONE && !cx.plan.is_empty() {
        cx.model.ir_version = INITIALIZERS_ALONE;
        cx.record(Applied { rule: "opset", text: format!("IR {before} to {INITIALIZERS_ALONE}\n") });
    }
}

/// The operator version that a site's form needs, and the form.
fn need(cx: &Context<'_>, site: Site, entry: &Entry) -> Option<(i64, &'static str)> {
    let (opset, form) = need_of_codes(cx, site, entry)?;
    let scaled = site.value(cx.graph()).filter(|_| embedding_at(cx, site).is_none());
    let is_half = scaled.is_some_and(|value| scale_type(cx, value).is_half());
    Some(if is_half && opset < HALF_SCALES { (HALF_SCALES, "a scale of 16 bits") } else { (opset, form) })
}

/// The first operator version whose QuantizeLinear and DequantizeLinear have scales of float16 and bfloat16.
const HALF_SCALES: i64 = 19;

/// The same, whatever type its scales have.
fn need_of_codes(cx: &Context<'_>, site: Site, entry: &Entry) -> Option<(i64, &'static str)> {
    let constant = site.value(cx.graph()).is_some_and(|value| cx.graph().constant(value).is_some());
    let carrier = |own: &Uniform| weight_carrier(cx, own, &site.uses(cx.graph()));
    match entry.quantizer.as_ref()? {
        Quantizer::Channels { channels, .. } => {
            let (opset, form) = weight_need(carrier(channels.first()?))?;
            Some(if opset < CHANNEL_SCALES { (CHANNEL_SCALES, "a scale per channel") } else { (opset, form) })
        }
        Quantizer::Tensor(own) if constant => weight_need(carrier(own)),
        Quantizer::Tensor(own) => Some(match own.format().bits() {
            8 => (10, "QuantizeLinear"),
            0..8 => (12, "Clip on codes"),
            _ => (21, "a 16-bit activation"),
        }),
        Quantizer::Log(_) => Some((11, "a logarithmic quantizer")),
        Quantizer::Bias(scales) if scales.len() > 1 => Some((CHANNEL_SCALES, "a bias with a scale per channel")),
        Quantizer::Bias(_) => Some((10, "DequantizeLinear")),
    }
}

fn weight_need(carrier: Carrier) -> Option<(i64, &'static str)> {
    match carrier {
        Carrier::Floats => None,
        Carrier::Codes(ElementType::I2 | ElementType::U2) => Some((25, "2-bit storage")),
        Carrier::Codes(ElementType::I4 | ElementType::U4) => Some((21, "4-bit storage")),
        Carrier::Codes(_) => Some((10, "DequantizeLinear")),
    }
}

#[cfg(test)]
mod tests {
    use crate::testing::{check, check_refused};

    #[test]
    fn codes_of_four_bits() {
        check!("opset/codes_of_four_bits");
    }

    #[test]
    fn float16_scales() {
        check!("opset/float16_scales");
    }

    #[test]
    fn eight_bits() {
        check!("opset/eight_bits");
    }

    #[test]
    fn packed_weights() {
        check!("opset/packed_weights");
    }

    #[test]
    fn logarithms() {
        check!("opset/logarithms");
    }

    #[test]
    fn old_file() {
        check!("opset/old_file");
    }

    #[test]
    fn unknown_operator() {
        check_refused!(
            "opset/unknown_operator",
            "Clip on codes needs opset 12, and the model can't be raised to it: operator `ConstantFill` at node `odd` can't be moved from opset 10 to 12: it is not known whether newer versions mean the same"
        );
    }

    #[test]
    fn target_limit() {
        check_refused!(
            "opset/target_limit",
            "4-bit storage needs opset 21, and the model can't be raised to it: target `generic` loads no opset above 20"
        );
    }
}
