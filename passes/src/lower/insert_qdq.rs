//! Turns the plan into nodes: QuantizeLinear and DequantizeLinear, codes of weights and biases.
//!
//! # Why
//! The plan lies over a float graph until here, so that methods compose and can be simulated. Runtimes read standard
//! operators.
//!
//! # Needs
//! Nothing.
//!
//! # Effect
//! Sites of one value with equal quantizers share one pair of nodes. An operand's pair concerns its reader only; an
//! output's concerns every reader, and an output of the graph itself. Weights and biases become codes behind a
//! DequantizeLinear; below 8 bits activations have a Clip on the codes between the pair. Every zero point is written. From an
//! embedding table rows of codes are picked, which a Cast and a Mul by the row's scale make floats. Where the graph has
//! float16 or bfloat16, operators of the plan compute in float32 between Casts, or, on targets that ask for it, scales are of
//! that type; what stays float keeps its type, and constants that the file held in 16 bits behind a Cast are held so. A MatMul
//! of matrices that is summed with something computed becomes a Gemm where the runtime would make one of both.
//!
//! # Promise
//! Lossy: this is where precision goes.
//!
//! # Declines
//! Nothing.
//!
//! # Options
//! None.

use std::collections::{BTreeMap, BTreeSet};

use onnxq_ir::ops::Linear;
use onnxq_ir::{OpId, Patch, ValueId};
use onnxq_plan::target::BiasForm;
use onnxq_plan::{OperatorKind, Quantizer, Site};
use serde::{Deserialize, Serialize};

use super::carrier::weight_carrier;
use super::narrow::narrow;
use super::widen::{scale_type, widen};
use super::{bias, embedding, log, uniform};
use crate::canonicalize::replace::only_reader;
use crate::pass::{Context, Pass, PassError, Promise};
use crate::storage::{Carrier, Storage};

/// What a recipe or `--set insert-qdq.KEY=VALUE` can set: nothing.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub(crate) struct InsertQdq {}

impl Pass for InsertQdq {
    fn promise(&self) -> Promise {
        Promise::Lossy
    }

    fn lowers(&self) -> bool {
        true
    }

    fn run(&self, cx: &mut Context<'_>) -> Result<(), PassError> {
        let stored: BTreeSet<OpId> = cx.plan.entries().filter_map(|(site, _)| embedding_at(cx, site)).collect();
        widen(cx, &stored)?;
        let mut by_value: BTreeMap<ValueId, Vec<Group>> = BTreeMap::new();
        let mut tables: Vec<(OpId, Quantizer)> = Vec::new();
        for (site, entry) in cx.plan.entries() {
            let value = site.value(cx.graph()).ok_or_else(|| broken(format!("{site:?} reads nothing")))?;
            let quantizer = entry.quantizer.clone().ok_or_else(|| broken(format!("{site:?} has no quantizer")))?;
            if let Some(op) = embedding_at(cx, site) {
                tables.push((op, quantizer));
                continue;
            }
            let groups = by_value.entry(value).or_default();
            match groups.iter_mut().find(|group| group.quantizer == quantizer) {
                Some(group) => group.sites.push(site),
                None => groups.push(Group { quantizer, sites: vec![site] }),
            }
        }
        // What reads codes can be seen only before the first patch.
        let groups =
            by_value.into_iter().flat_map(|(value, groups)| groups.into_iter().map(move |group| (value, group)));
        let groups: Vec<(ValueId, Carrier, Group)> =
            groups.map(|(value, group)| (value, group.carrier(cx), group)).collect();
        for (value, carrier, group) in groups {
            let patch = group.lower(cx, value, carrier)?;
            cx.apply(patch)?;
        }
        // Last, for what reads a picked row is a site of its own.
        for (op, quantizer) in tables {
            let Quantizer::Channels { channels, .. } = &quantizer else {
                return Err(broken("a table has no scale per row".to_owned()));
            };
            let mut patch = Patch::new(cx.graph(), "insert-qdq", op);
            embedding::rows(cx.graph(), &mut patch, op, channels)
                .ok_or_else(|| broken("a table is no matrix".to_owned()))?;
            cx.apply(patch)?;
        }
        keep_apart(cx)?;
        narrow(cx)
    }
}

/// Makes a Gemm of a MatMul of matrices whose only reader adds something computed, where the runtime would join the two: what
/// it then has is a Gemm with a float summand, for which there is no integer kernel. Two products that are summed, as in an
/// unrolled LSTM, took 2.5 times float's time.
fn keep_apart(cx: &mut Context<'_>) -> Result<(), PassError> {
    if cx.target.bias != BiasForm::Int32WhereJoined {
        return Ok(());
    }
    let products: Vec<OpId> =
        cx.plan.operators().filter(|(_, it)| it.kind == OperatorKind::Linear).map(|it| it.0).collect();
    for op in products {
        let graph = cx.graph();
        let is_summand = |value: ValueId| only_reader(graph, value).is_some_and(|reader| graph.op(reader).is("Add"));
        if graph.output(op, 0).is_some_and(is_summand)
            && let Some(attributes) = Linear::as_gemm(graph, op)
        {
            let mut patch = Patch::new(graph, "insert-qdq", op);
            patch.set_attributes(op, attributes);
            cx.apply(patch)?;
        }
    }
    Ok(())
}

/// The Gather whose table is stored as codes at a site.
pub(super) fn embedding_at(cx: &Context<'_>, site: Site) -> Option<OpId> {
    let Site::Operand { op, .. } = site else { return None };
    if cx.settings.storage == Storage::Float {
        return None;
    }
    cx.plan.operators().find(|(own, _)| *own == op).filter(|(_, it)| it.kind == OperatorKind::Embedding).map(|_| op)
}

/// Sites of one value that share a quantizer.
struct Group {
    quantizer: Quantizer,
    sites: Vec<Site>,
}

impl Group {
    /// What would hold the codes of a weight.
    fn carrier(&self, cx: &Context<'_>) -> Carrier {
        let uses: Vec<_> = self.sites.iter().flat_map(|site| site.uses(cx.graph())).collect();
        let own = match &self.quantizer {
            Quantizer::Tensor(own) => Some(own),
            Quantizer::Channels { channels, .. } => channels.first(),
            Quantizer::Log(_) | Quantizer::Bias(_) => None,
        };
        own.map_or(Carrier::Floats, |own| weight_carrier(cx, own, &uses))
    }

    fn lower(&self, cx: &Context<'_>, value: ValueId, carrier: Carrier) -> Result<Patch, PassError> {
        let graph = cx.graph();
        let uses: Vec<_> = self.sites.iter().flat_map(|site| site.uses(graph)).collect();
        let first: Option<OpId> = uses.iter().map(|reader| reader.op).min_by_key(|&op| (graph.op(op).order_key(), op));
        let is_written = self.sites.iter().any(|site| matches!(site, Site::Output(_)));
        let anchor = graph
            .producer(value)
            .filter(|_| is_written)
            .map(|(op, _)| op)
            .or(first)
            .ok_or_else(|| broken(format!("nobody reads `{}`", graph.value(value).name())))?;
        let mut patch = Patch::new(graph, "insert-qdq", anchor);
        let scales = scale_type(cx, value);
        let is_constant = graph.constant(value).is_some();
        let lowered = match &self.quantizer {
            Quantizer::Tensor(own) if is_constant => {
                uniform::constant(graph, &mut patch, value, None, (std::slice::from_ref(own), scales), carrier)
            }
            Quantizer::Tensor(own) if is_written && graph.is_output(value) => {
                uniform::output(graph, &mut patch, value, (own, scales))
            }
            Quantizer::Tensor(own) => Some(uniform::activation(graph, &mut patch, value, (own, scales))),
            Quantizer::Channels { axis, channels } => {
                uniform::constant(graph, &mut patch, value, Some(*axis), (channels, scales), carrier)
            }
            Quantizer::Log(own) => Some(log::activation(graph, &mut patch, value, *own)),
            Quantizer::Bias(scales) => bias::constant(graph, &mut patch, value, scales),
        };
        let lowered = lowered.ok_or_else(|| broken(format!("`{}` is no float constant", graph.value(value).name())))?;
        for reader in uses {
            patch.redirect_use(reader, value, lowered);
        }
        Ok(patch)
    }
}

fn broken(what: String) -> PassError {
    PassError::Broken { pass: "insert-qdq", what }
}

#[cfg(test)]
mod tests {
    use crate::testing::check;

    #[test]
    fn int8() {
        check!("insert-qdq/int8");
    }

    #[test]
    fn summed_products() {
        check!("insert-qdq/summed_products");
    }

    #[test]
    fn four_bits() {
        check!("insert-qdq/four_bits");
    }

    #[test]
    fn log_sqrt2() {
        check!("insert-qdq/log_sqrt2");
    }

    #[test]
    fn log2_paper() {
        check!("insert-qdq/log2_paper");
    }

    #[test]
    fn native() {
        check!("insert-qdq/native");
    }

    #[test]
    fn native_by_override() {
        check!("insert-qdq/native_by_override");
    }

    #[test]
    fn two_bits() {
        check!("insert-qdq/two_bits");
    }

    #[test]
    fn float_storage() {
        check!("insert-qdq/float_storage");
    }

    #[test]
    fn weights_only() {
        check!("insert-qdq/weights_only");
    }

    #[test]
    fn sixteen_bits() {
        check!("insert-qdq/sixteen_bits");
    }

    #[test]
    fn affine_weight() {
        check!("insert-qdq/affine_weight");
    }

    #[test]
    fn per_tensor() {
        check!("insert-qdq/per_tensor");
    }

    #[test]
    fn gemm() {
        check!("insert-qdq/gemm");
    }

    #[test]
    fn three_readers() {
        check!("insert-qdq/three_readers");
    }

    #[test]
    fn tied_weight() {
        check!("insert-qdq/tied_weight");
    }

    #[test]
    fn tied_bias() {
        check!("insert-qdq/tied_bias");
    }

    #[test]
    fn embedding() {
        check!("insert-qdq/embedding");
    }

    #[test]
    fn residual() {
        check!("insert-qdq/residual");
    }

    #[test]
    fn reduced() {
        check!("insert-qdq/reduced");
    }

    #[test]
    fn signed() {
        check!("insert-qdq/signed");
    }

    #[test]
    fn whole() {
        check!("insert-qdq/whole");
    }

    #[test]
    fn inputs() {
        check!("insert-qdq/inputs");
    }

    #[test]
    fn recurrent() {
        check!("insert-qdq/recurrent");
    }

    #[test]
    fn chain() {
        check!("insert-qdq/chain");
    }

    #[test]
    fn float16() {
        check!("insert-qdq/float16");
    }

    #[test]
    fn float16_chain() {
        check!("insert-qdq/float16_chain");
    }

    #[test]
    fn float16_kept() {
        check!("insert-qdq/float16_kept");
    }

    #[test]
    fn stored_in_half() {
        check!("insert-qdq/stored_in_half");
    }

    #[test]
    fn float16_table() {
        check!("insert-qdq/float16_table");
    }
}
