//! Chooses the sites that are to be quantized, and what each is to have.
//!
//! # Why
//! Which operands a method quantizes is part of the method; which operands a runtime computes in integers is part of the
//! runtime. A recipe of the first kind lists operators here, one of the second kind takes the target's.
//!
//! # Needs
//! Nothing.
//!
//! # Effect
//! Every chosen operand and output gets a place in the plan with format, symmetry and granularity as the target has them
//! for the bits asked for. Weights are per output channel where the target can and the model's opset is 13 or newer, or can
//! be raised to that. A bias becomes int32 where the target wants it. Operators of an integer chain (Conv, Add, pools) are quantized on inputs
//! and output where at least two of them follow each other; a Conv alone stays float. Where activations stay float (`wX`),
//! the weight of every chosen operator gets a place, chain or not.
//!
//! # Promise
//! Annotate.
//!
//! # Declines
//! - `excluded`: the user wants it float.
//! - `not-a-site`: neither target nor recipe quantizes this operator.
//! - `no-chain`: a quantized output would stand alone, which costs more than it saves.
//! - `quantized`: it computes with codes already.
//! - `out-of-reach`: its range can't be seen, since the engine lacks an operator in front of it.
//! - `not-float32`: an operand has another type.
//! - `form`: the weight of a product or convolution is computed, on the left or no matrix.
//! - `per-tensor`: the model can't be raised to opset 13, which a scale per channel needs, so the weight has one scale; it
//!   is quantized all the same.
//! - `body`: it lies in a body of If, Loop or Scan, or in a local function.
//!
//! # Options
//! - `sites`: the operators to quantize, each with `op` and optionally `activation-bits`, `weight-bits`, `softmax`
//!   (`uniform`, `log2`, `log-sqrt2`: the quantizer of an operand that a Softmax writes). Empty: the target's.
//! - `weight-symmetry`: `symmetric` or `affine`; the target's where it is left out.
//! - `softmax-levels`: `strict` (at most 2^bits levels) or `paper` (one more).

use std::collections::{BTreeMap, BTreeSet};

use onnxq_ir::ops::Softmax;
use onnxq_ir::{Graph, OpId, ValueId};
use onnxq_numerics::{Base, LevelRule, Symmetry};
use onnxq_plan::target::WeightGranularity;
use onnxq_plan::{BiasForm, Granularity, OperatorKind, Placement, Scheme, Site, Target};
use serde::{Deserialize, Serialize};

use super::kind::Candidate;
use super::quantized::{QUANTIZED, Quantized, computes_with_codes};
use crate::names::node_names;
use crate::pass::{Context, Pass, PassError, Promise};

/// What a recipe or `--set select-sites.KEY=VALUE` can set.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub(crate) struct SelectSites {
    /// The operators to quantize; empty takes the target's.
    pub(crate) sites: Vec<SiteRule>,
    /// Symmetry of weights, where it is not the target's.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) weight_symmetry: Option<Symmetry>,
    /// Levels of a logarithmic quantizer.
    pub(crate) softmax_levels: SoftmaxLevels,
}

/// An operator that a recipe quantizes.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub(crate) struct SiteRule {
    /// The operator.
    pub(crate) op: OperatorKind,
    /// Bits of its activations, where they are not those asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) activation_bits: Option<u8>,
    /// Bits of its weight, where they are not those asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) weight_bits: Option<u8>,
    /// The quantizer of an operand that a Softmax writes.
    #[serde(default)]
    pub(crate) softmax: SoftmaxScheme,
}

/// The quantizer of what a Softmax writes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum SoftmaxScheme {
    /// As any other activation.
    #[default]
    Uniform,
    /// Powers of 2.
    Log2,
    /// Powers of the root of 2.
    LogSqrt2,
}

/// How many levels a logarithmic quantizer has.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum SoftmaxLevels {
    /// At most 2^bits.
    #[default]
    Strict,
    /// 2^bits and zero, as the paper has it.
    Paper,
}

impl Pass for SelectSites {
    fn promise(&self) -> Promise {
        Promise::Annotate
    }

    fn run(&self, cx: &mut Context<'_>) -> Result<(), PassError> {
        let candidates: Vec<Candidate> = cx.ops().into_iter().filter_map(|op| Candidate::at(cx.graph(), op)).collect();
        let rules = self.rules(cx.target);
        let quantized = Quantized::of(cx.graph());
        let (chosen, left) = choose(cx, &candidates, &rules, &quantized);
        let chain = Chain::among(cx.graph(), chosen);
        for (candidate, reason) in left.into_iter().chain(chain.left) {
            leave(cx, &candidate, reason);
        }
        let mut ends: BTreeSet<ValueId> = chain.ends.values().copied().collect();
        // What came as codes is not quantized again.
        ends.extend(cx.graph().values().filter(|&value| quantized.is_dequantized(value)));
        for candidate in &chain.kept {
            let rule = &rules[&candidate.kind];
            self.want_operands(cx, candidate, rule, &ends)?;
            cx.plan.note_operator(candidate.op, candidate.kind);
            if let (Some(&end), Some(bits)) = (chain.ends.get(&candidate.op), cx.settings.bits.activation) {
                let scheme = activation_scheme(cx.target, rule.activation_bits.unwrap_or(bits))?;
                cx.plan.want(Site::Output(end), scheme);
                cx.assigned();
            }
        }
        note_forms(cx, &quantized);
        note_bodies(cx);
        Ok(())
    }
}

/// What is done with an operator.
struct Rule {
    placement: Placement,
    absorbs: Vec<String>,
    activation_bits: Option<u8>,
    weight_bits: Option<u8>,
    softmax: SoftmaxScheme,
}

impl SelectSites {
    fn rules(&self, target: &Target) -> BTreeMap<OperatorKind, Rule> {
        if self.sites.is_empty() {
            let of = |rule: &onnxq_plan::target::OperatorRule| Rule {
                placement: rule.placement,
                absorbs: rule.absorbs.clone(),
                activation_bits: None,
                weight_bits: None,
                softmax: SoftmaxScheme::Uniform,
            };
            return target.operators.iter().map(|rule| (rule.op, of(rule))).collect();
        }
        let of = |rule: &SiteRule| Rule {
            placement: Placement::Inputs,
            absorbs: Vec::new(),
            activation_bits: rule.activation_bits,
            weight_bits: rule.weight_bits,
            softmax: rule.softmax,
        };
        self.sites.iter().map(|rule| (rule.op, of(rule))).collect()
    }

    fn want_operands(
        &self,
        cx: &mut Context<'_>,
        candidate: &Candidate,
        rule: &Rule,
        ends: &BTreeSet<ValueId>,
    ) -> Result<(), PassError> {
        let bits = cx.settings.bits;
        let mut uniform = true;
        if let Some(bits) = bits.activation {
            let bits = rule.activation_bits.map_or(bits, |own| own.max(bits));
            let operands: Vec<(usize, ValueId)> = candidate.activation_values(cx.graph()).collect();
            for (slot, value) in operands {
                if ends.contains(&value) {
                    continue;
                }
                let scheme = match log_base(cx.graph(), value, rule.softmax) {
                    None => activation_scheme(cx.target, bits)?,
                    Some(base) => {
                        uniform = false;
                        Scheme::Log { bits, base, rule: self.softmax_levels.into() }
                    }
                };
                cx.plan.want(Site::Operand { op: candidate.op, slot }, scheme);
                cx.assigned();
            }
        }
        if let Some((slot, axis)) = candidate.weight {
            let format = cx.target.weight_format(rule.weight_bits.unwrap_or(bits.weight))?;
            let granularity = match cx.target.weights.granularity {
                WeightGranularity::Channel => weight_granularity(cx, candidate.op, axis),
                WeightGranularity::Tensor => Granularity::Tensor,
            };
            let symmetry = self.weight_symmetry.unwrap_or(cx.target.weights.symmetry);
            cx.plan.want(Site::Operand { op: candidate.op, slot }, Scheme::Uniform { format, symmetry, granularity });
            cx.assigned();
        }
        if let Some(slot) = candidate.bias
            && uniform
            && bits.activation.is_some()
            && cx.target.bias == BiasForm::Int32
        {
            cx.plan.want(Site::Operand { op: candidate.op, slot }, Scheme::Bias);
            cx.assigned();
        }
        Ok(())
    }
}

impl From<SoftmaxLevels> for LevelRule {
    fn from(levels: SoftmaxLevels) -> Self {
        match levels {
            SoftmaxLevels::Strict => Self::Strict,
            SoftmaxLevels::Paper => Self::Paper,
        }
    }
}

/// A scale per channel, or one where the model can't be raised to the version that has them.
fn weight_granularity(cx: &mut Context<'_>, op: OpId, axis: usize) -> Granularity {
    match cx.channel_scales() {
        Ok(()) => Granularity::Axis(axis),
        Err(reason) => {
            let reason =
                format!("per-tensor: its weight has one scale, since one per channel needs opset 13: {reason}");
            cx.decline(op, reason);
            Granularity::Tensor
        }
    }
}

fn activation_scheme(target: &Target, bits: u8) -> Result<Scheme, PassError> {
    let format = target.activation_format(bits)?;
    Ok(Scheme::Uniform { format, symmetry: target.activations.symmetry, granularity: Granularity::Tensor })
}

/// The base, where the value is what a Softmax writes and the rule wants a logarithmic quantizer for that.
fn log_base(graph: &Graph, value: ValueId, scheme: SoftmaxScheme) -> Option<Base> {
    let base = match scheme {
        SoftmaxScheme::Uniform => return None,
        SoftmaxScheme::Log2 => Base::Two,
        SoftmaxScheme::LogSqrt2 => Base::SqrtTwo,
    };
    let (producer, _) = graph.producer(value)?;
    Softmax::at(graph, producer).map(|_| base)
}

/// A candidate with a rule.
struct Chosen {
    candidate: Candidate,
    placement: Placement,
    absorbs: Vec<String>,
}

/// Splits the candidates into those with a rule and those that stay float, with the reason.
fn choose(
    cx: &Context<'_>,
    candidates: &[Candidate],
    rules: &BTreeMap<OperatorKind, Rule>,
    quantized: &Quantized,
) -> (Vec<Chosen>, Vec<(Candidate, &'static str)>) {
    let weight_only = cx.settings.bits.activation.is_none();
    let mut chosen = Vec::new();
    let mut left = Vec::new();
    for candidate in candidates {
        match rules.get(&candidate.kind) {
            _ if quantized.has(cx.graph(), candidate) => left.push((candidate.clone(), QUANTIZED)),
            Some(_) if candidate.weight.is_none() && writes_codes(cx.graph(), candidate, quantized) => {
                left.push((candidate.clone(), QUANTIZED));
            }
            _ if !candidate.is_float32(cx.graph()) => {
                left.push((candidate.clone(), "not-float32: an operand is no float32"));
            }
            None => left.push((candidate.clone(), "not-a-site: float by the rules of target or recipe")),
            Some(_) if !weight_only && is_out_of_reach(cx, candidate) => left.push((candidate.clone(), OUT_OF_REACH)),
            Some(_) if is_excluded(cx, candidate.op) => left.push((candidate.clone(), "excluded: by --exclude")),
            Some(_) if weight_only && candidate.weight.is_none() => {
                left.push((candidate.clone(), "not-a-site: activations stay float by --bits"));
            }
            Some(rule) => chosen.push(Chosen {
                candidate: candidate.clone(),
                // Where activations stay float there is no chain to join, and where the output becomes codes it is joined.
                placement: if weight_only || writes_codes(cx.graph(), candidate, quantized) {
                    Placement::Inputs
                } else {
                    rule.placement
                },
                absorbs: rule.absorbs.clone(),
            }),
        }
    }
    (chosen, left)
}

const OUT_OF_REACH: &str =
    "out-of-reach: the engine can't run an operator in front of it; weight-only (`--bits w8`) needs no run";

fn is_out_of_reach(cx: &Context<'_>, candidate: &Candidate) -> bool {
    candidate.activation_values(cx.graph()).any(|(_, value)| cx.is_out_of_reach(value))
}

/// Whether the output becomes codes.
fn writes_codes(graph: &Graph, candidate: &Candidate, quantized: &Quantized) -> bool {
    graph.output(candidate.op, 0).is_some_and(|value| quantized.is_quantized(value))
}

fn is_excluded(cx: &Context<'_>, op: OpId) -> bool {
    node_names(cx.graph(), op).iter().any(|name| cx.settings.exclude.matches(name))
}

/// Operators whose output is quantized because they follow each other.
struct Chain {
    kept: Vec<Candidate>,
    /// The value that is quantized behind each operator of a chain: its output, or what an absorbed activation makes of it.
    ends: BTreeMap<OpId, ValueId>,
    left: Vec<(Candidate, &'static str)>,
}

impl Chain {
    /// Drops chain operators that would stand alone, until none does.
    fn among(graph: &Graph, chosen: Vec<Chosen>) -> Self {
        let mut chain = Self { kept: Vec::new(), ends: BTreeMap::new(), left: Vec::new() };
        let mut links: Vec<Candidate> = Vec::new();
        for Chosen { candidate, placement, absorbs } in chosen {
            match placement {
                Placement::Inputs => chain.kept.push(candidate),
                Placement::Chain | Placement::ChainShared => match end(graph, candidate.op, &absorbs) {
                    Some(value) => {
                        chain.ends.insert(candidate.op, value);
                        links.push(candidate);
                    }
                    None => chain.left.push((candidate, NO_CHAIN)),
                },
            }
        }
        loop {
            let ends: BTreeSet<ValueId> = chain.ends.values().copied().collect();
            let read: BTreeSet<ValueId> =
                links.iter().flat_map(|link| link.activation_values(graph).map(|(_, value)| value)).collect();
            let (stay, go): (Vec<Candidate>, Vec<Candidate>) = links.into_iter().partition(|link| {
                let mut inputs = link.activation_values(graph).map(|(_, value)| ends.contains(&value));
                if link.weight.is_some() {
                    inputs.any(|is_end| is_end) || read.contains(&chain.ends[&link.op])
                } else {
                    inputs.all(|is_end| is_end)
                }
            });
            links = stay;
            if go.is_empty() {
                break;
            }
            for link in go {
                chain.ends.remove(&link.op);
                chain.left.push((link, NO_CHAIN));
            }
        }
        chain.kept.extend(links);
        chain
    }
}

const NO_CHAIN: &str = "no-chain: its output joins no integer chain";

/// The value behind an operator and the activations that a quantized output swallows; none where the graph's output would
/// be quantized.
fn end(graph: &Graph, op: OpId, absorbs: &[String]) -> Option<ValueId> {
    let value = graph.output(op, 0)?;
    let readers = graph.readers(value);
    if let [reader] = readers.as_slice()
        && !graph.is_output(value)
        && absorbs.iter().any(|name| graph.op(reader.op).is(name))
    {
        let absorbed = graph.output(reader.op, 0)?;
        return (!graph.is_output(absorbed)).then_some(absorbed);
    }
    (!graph.is_output(value)).then_some(value)
}

/// Element-wise operators outside chains are no news to anybody.
fn leave(cx: &mut Context<'_>, candidate: &Candidate, reason: &str) {
    let counted = candidate.weight.is_some() || candidate.kind == OperatorKind::MatMul;
    if counted {
        cx.decline(candidate.op, reason);
        cx.leave_float(candidate.op, candidate.kind.name(), reason);
    }
}

/// Operators with weights, of which every one must be found in the plan or among those left float.
const WEIGHTED: [&str; 4] = ["MatMul", "Gemm", "Conv", "ConvTranspose"];

fn is_weighted(graph: &Graph, op: OpId) -> bool {
    WEIGHTED.iter().any(|name| graph.op(op).is(name))
}

/// Says which products and convolutions have a form that no rule speaks of, and which came quantized.
fn note_forms(cx: &mut Context<'_>, quantized: &Quantized) {
    for op in cx.ops() {
        if Candidate::at(cx.graph(), op).is_some() {
            continue;
        }
        let is_weighted = is_weighted(cx.graph(), op);
        let has_codes = is_weighted && quantized.has_weight_of(cx.graph(), op);
        let reason = if has_codes || computes_with_codes(cx.graph().op(op)) {
            QUANTIZED
        } else if is_weighted {
            "form: its weight is computed, on the left or no matrix"
        } else {
            continue;
        };
        let op_type = cx.graph().op(op).op_type().to_owned();
        cx.decline(op, reason);
        cx.leave_float(op, &op_type, reason);
    }
}

/// Says what lies in bodies and local functions and stays float.
fn note_bodies(cx: &mut Context<'_>) {
    let quantizable = |graph: &Graph| graph.op_ids().filter(|&op| is_weighted(graph, op)).count();
    let mut notes: Vec<(OpId, &'static str)> = Vec::new();
    for op in cx.ops() {
        let node = cx.graph().op(op);
        if node.bodies().map(quantizable).sum::<usize>() > 0 {
            notes.push((op, "body: what lies in a body of If, Loop or Scan is not quantized yet"));
        }
        let function = cx.model.function(node.domain(), node.op_type(), node.overload());
        if function.is_some_and(|function| quantizable(&function.body) > 0) {
            notes.push((op, "body: its local function can't be inlined"));
        }
    }
    for (op, reason) in notes {
        let op_type = cx.graph().op(op).op_type().to_owned();
        cx.decline(op, reason);
        cx.leave_float(op, &op_type, reason);
    }
}

#[cfg(test)]
mod tests {
    use crate::testing::{check, check_declined, check_refused};

    #[test]
    fn attention() {
        check!("select-sites/attention");
    }

    #[test]
    fn log_softmax() {
        check!("select-sites/log_softmax");
    }

    #[test]
    fn int32_bias() {
        check!("select-sites/int32_bias");
    }

    #[test]
    fn weights_only() {
        check!("select-sites/weights_only");
    }

    #[test]
    fn opset_12() {
        check!("select-sites/opset_12");
    }

    #[test]
    fn partly_quantized() {
        check!("select-sites/partly_quantized");
    }

    #[test]
    fn quantized() {
        check_declined!("select-sites/quantized", "quantized: it stays as it is, which is quantized already");
    }

    #[test]
    fn per_tensor() {
        check!("select-sites/per_tensor");
    }

    #[test]
    fn chain() {
        check!("select-sites/chain");
    }

    #[test]
    fn excluded() {
        check_declined!("select-sites/excluded", "excluded: by --exclude");
    }

    #[test]
    fn not_a_site() {
        check_declined!("select-sites/not_a_site", "not-a-site: float by the rules of target or recipe");
    }

    #[test]
    fn no_chain() {
        check_declined!("select-sites/no_chain", "no-chain: its output joins no integer chain");
    }

    #[test]
    fn not_float32() {
        check_declined!("select-sites/not_float32", "not-float32: an operand is no float32");
    }

    #[test]
    fn form() {
        check_declined!("select-sites/form", "form: its weight is computed, on the left or no matrix");
    }

    #[test]
    fn body() {
        check_declined!("select-sites/body", "body: what lies in a body of If, Loop or Scan is not quantized yet");
    }

    #[test]
    fn no_such_width() {
        check_refused!(
            "select-sites/no_such_width",
            "target `ort-cpu` has no 16-bit activations; it has 2, 3, 4, 5, 6, 7, 8"
        );
    }
}
