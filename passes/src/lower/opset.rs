//! Raises the model's operator version where a form of the plan needs it, and no further.
//!
//! # Why
//! Per-channel QuantizeLinear came with opset 13, Clip on integers with 12, 16-bit and packed 4-bit codes with 21, packed
//! 2-bit codes with 25. A model that needs none of these keeps its version, so that whatever read it reads the result.
//!
//! # Needs
//! Nothing.
//!
//! # Effect
//! Operators whose meaning or form changed up to the needed version are converted; the file format version is raised where
//! the operators ask for it.
//!
//! # Promise
//! Exact.
//!
//! # Declines
//! Nothing; an operator that can't be converted is an error that names it.
//!
//! # Options
//! None.

use onnxq_plan::{Entry, Quantizer, Site};
use serde::{Deserialize, Serialize};

use crate::pass::{Context, Pass, PassError, Promise};
use crate::storage::Storage;

/// What a recipe or `--set opset.KEY=VALUE` can set: nothing.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub(crate) struct Opset {}

impl Pass for Opset {
    fn promise(&self) -> Promise {
        Promise::Exact
    }

    fn run(&self, cx: &mut Context<'_>) -> Result<(), PassError> {
        let needed = cx
            .plan
            .entries()
            .filter_map(|(site, entry)| need(cx, site, entry))
            .max_by_key(|(opset, _)| *opset);
        let Some((opset, form)) = needed else { return Ok(()) };
        if cx.graph().opset() >= opset {
            return Ok(());
        }
        onnxq_ir::ops::opset::convert(cx.model, opset)
            .map_err(|error| PassError::Opset { form, need: opset, reason: error.to_string() })
    }
}

/// The operator version that a site's form needs, and the form.
fn need(cx: &Context<'_>, site: Site, entry: &Entry) -> Option<(i64, &'static str)> {
    let constant = site.value(cx.graph()).is_some_and(|value| cx.graph().constant(value).is_some());
    match entry.quantizer.as_ref()? {
        Quantizer::Channels { .. } if cx.settings.storage == Storage::Float => None,
        Quantizer::Channels { channels, .. } => {
            let (opset, form) = weight_need(cx.settings.storage, channels.first()?.format().bits());
            Some((opset.max(13), form))
        }
        Quantizer::Tensor(own) if constant => Some(weight_need(cx.settings.storage, own.format().bits())),
        Quantizer::Tensor(own) => Some(match own.format().bits() {
            8 => (10, "QuantizeLinear"),
            0..8 => (12, "Clip on codes"),
            _ => (21, "a 16-bit activation"),
        }),
        Quantizer::Log(_) => Some((11, "a logarithmic quantizer")),
        Quantizer::Bias(scales) if scales.len() > 1 => Some((13, "a bias with a scale per channel")),
        Quantizer::Bias(_) => Some((10, "DequantizeLinear")),
    }
}

fn weight_need(storage: Storage, bits: u8) -> (i64, &'static str) {
    match (storage, bits) {
        (Storage::Native, 2) => (25, "2-bit storage"),
        (Storage::Native, 3..=4) => (21, "4-bit storage"),
        _ => (10, "DequantizeLinear"),
    }
}
