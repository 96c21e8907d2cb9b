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
//! Every chosen operand and output gets a place in the plan with format, symmetry and granularity as the target has
//! them for the bits asked for. Weights are per output channel where the target can and the model's opset is 13 or
//! newer, or can be raised to that. A bias becomes int32 where the target wants it. Operators of an integer chain
//! (Add, Sigmoid, Concat, pools, what only moves codes) are quantized on inputs and output where they follow each
//! other or a Conv. Where activations stay float (`wX`), the weight of every chosen product and convolution gets a
//! place, chain or not. Where the target takes whole graphs, every operator with a rule is quantized on all sides,
//! constants and outputs of the graph too; scales that the runtime sets itself are set here.
//!
//! # Promise
//! Annotate.
//!
//! # Declines
//! - `excluded`: `--exclude` names it.
//! - `not-included`: there are `--include`, and none names it.
//! - `float-by-recipe`: an override of the recipe leaves it float.
//! - `not-a-site`: neither target nor recipe quantizes this operator.
//! - `no-chain`: a quantized output would stand alone, which costs more than it saves, or be an output of the graph.
//! - `at-load`: it reads what a float operator between codes writes, of whose weights the runtime would make codes itself.
//! - `quantized`: it computes with codes already.
//! - `out-of-reach`: its range can't be seen, since the engine lacks an operator in front of it.
//! - `not-float`: an operand is neither float32, float16 nor bfloat16.
//! - `unknown-type`: the model has values of 16 bits, and of an operand or output it is not known.
//! - `small`: a product sums over, or gives out, less than the target's least.
//! - `form`: the weight of a product or convolution is computed, on the left or no matrix.
//! - `per-tensor`: the model can't be raised to opset 13, which a scale per channel needs, so the weight has one scale; it
//!   is quantized all the same.
//! - `function`: it lies in a local function that can't be inlined.
//!
//! # Options
//! - `sites`: the operators to quantize, each with `op` and optionally `activation-bits`, `weight-bits`, `softmax`
//!   (`uniform`, `log2`, `log-sqrt2`: the quantizer of an operand that a Softmax writes). Empty: the target's.
//! - `weight-symmetry`: `symmetric` or `affine`; the target's where it is left out.
//! - `softmax-levels`: `strict` (at most 2^bits levels) or `paper` (one more).

use std::collections::{BTreeMap, BTreeSet};

use onnxq_ir::ops::Softmax;
use onnxq_ir::{ElementType, Graph, OpId, ValueId};
use onnxq_numerics::{Base, LevelRule, Symmetry};
use onnxq_plan::target::{FixedScale, WeightGranularity};
use onnxq_plan::{Activations, Bits, Granularity, OperatorKind, Placement, Quantizer, Scheme, Site, Target};
use serde::{Deserialize, Serialize};

use super::chain::{Chain, Chosen, Link};
use super::kind::Candidate;
use super::quantized::{QUANTIZED, Quantized, computes_with_codes};
use super::residual;
use crate::overrides::Override;
use crate::pass::{Context, Pass, PassError, Promise};
use crate::select::{FLOAT_BY_RECIPE, Selected};

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
        let has_rule = |kind| rule_of(&rules, kind).is_some();
        let candidates: Vec<Candidate> = candidates.into_iter().map(|it| it.among(has_rule)).collect();
        let settings = cx.settings;
        let selected = settings.selection.on(cx.graph());
        let quantized = Quantized::of(cx.graph());
        let (chosen, left) = choose(cx, &selected, &candidates, &rules, &quantized);
        let chain = Chain::among(cx.graph(), chosen, cx.target);
        for (candidate, reason) in left.iter().chain(&chain.left) {
            leave(cx, candidate, reason);
        }
        let mut written = chain.written();
        // What came as codes is not quantized again.
        written.extend(cx.graph().values().filter(|&value| quantized.is_dequantized(value)));
        for Link { candidate, planned } in &chain.kept {
            let own = selected.own(candidate.op);
            let rule = rule_of(&rules, candidate.kind).expect("what was chosen has a rule");
            self.want_operands(cx, candidate, (rule, &own), &written)?;
            cx.plan.note_operator(candidate.op, planned.clone());
            for end in &planned.ends {
                let scheme = match (end.shared, own.bits(settings.bits).activation) {
                    (_, None) => continue,
                    (Some(source), _) => Scheme::Shared(source),
                    (None, Some(bits)) => {
                        let bits = rule.activation_bits.filter(|_| own.activation_bits.is_none()).unwrap_or(bits);
                        activation_scheme(cx.target, bits, &own)?
                    }
                };
                let site = Site::Output(end.value);
                cx.plan.want(site, scheme);
                if let Some(quantizer) = rule.fixed(scheme) {
                    cx.plan.assign(site, quantizer);
                }
                cx.assigned();
            }
        }
        note_forms(cx, &quantized);
        note_functions(cx);
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
    weight_granularity: WeightGranularity,
    least_size: Option<usize>,
    fixed: Vec<FixedScale>,
}

impl Rule {
    /// The quantizer that the runtime sets itself for an output of this scheme.
    fn fixed(&self, scheme: Scheme) -> Option<Quantizer> {
        let Scheme::Uniform { format, .. } = scheme else { return None };
        FixedScale::of(&self.fixed, format)
    }
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
                weight_granularity: rule.weight_granularity.unwrap_or(target.weights.granularity),
                least_size: rule.least_size,
                fixed: rule.fixed.clone(),
            };
            return target.operators.iter().map(|rule| (rule.op, of(rule))).collect();
        }
        let granularity = |kind| {
            let own = target.rule(kind).and_then(|rule| rule.weight_granularity);
            own.unwrap_or(target.weights.granularity)
        };
        let of = |rule: &SiteRule| Rule {
            placement: Placement::Inputs,
            absorbs: Vec::new(),
            activation_bits: rule.activation_bits,
            weight_bits: rule.weight_bits,
            softmax: rule.softmax,
            weight_granularity: granularity(rule.op),
            least_size: None,
            fixed: Vec::new(),
        };
        self.sites.iter().map(|rule| (rule.op, of(rule))).collect()
    }

    fn want_operands(
        &self,
        cx: &mut Context<'_>,
        candidate: &Candidate,
        (rule, own): (&Rule, &Override),
        written: &BTreeSet<ValueId>,
    ) -> Result<(), PassError> {
        let bits = own.bits(cx.settings.bits);
        let mut uniform = true;
        if let Some(bits) = bits.activation {
            let ruled = rule.activation_bits.filter(|_| own.activation_bits.is_none());
            let bits = ruled.map_or(bits, |least| least.max(bits));
            let operands: Vec<(usize, ValueId)> = candidate.activation_values(cx.graph()).collect();
            for (slot, value) in operands {
                if written.contains(&value) {
                    continue;
                }
                let scheme = match log_base(cx.graph(), value, rule.softmax) {
                    None => activation_scheme(cx.target, bits, own)?,
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
            let weight = own.weight().or(rule.weight_bits).unwrap_or(bits.weight);
            let format = cx.target.weight_format(Bits { weight, ..bits })?;
            let granularity = match rule.weight_granularity {
                // Its rows are scaled once they are picked, which no kernel sees.
                _ if candidate.kind == OperatorKind::Embedding => Granularity::Axis(axis),
                WeightGranularity::Channel => weight_granularity(cx, candidate.op, axis),
                WeightGranularity::Tensor => Granularity::Tensor,
            };
            let symmetry = match candidate.kind {
                OperatorKind::Embedding => Symmetry::Symmetric,
                _ => own.weight_symmetry.or(self.weight_symmetry).unwrap_or(cx.target.weights.symmetry),
            };
            cx.plan.want(Site::Operand { op: candidate.op, slot }, Scheme::Uniform { format, symmetry, granularity });
            cx.assigned();
        }
        if let Some(slot) = candidate.bias
            && uniform
            && bits.activation.is_some()
            && candidate.has_integer_bias(cx.graph(), cx.target)
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

fn activation_scheme(target: &Target, bits: u8, own: &Override) -> Result<Scheme, PassError> {
    let format = target.activation_format(bits)?;
    let symmetry = own.activation_symmetry.unwrap_or(target.activations.symmetry);
    Ok(Scheme::Uniform { format, symmetry, granularity: Granularity::Tensor })
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

/// The rule for a kind, or for the more general one.
fn rule_of(rules: &BTreeMap<OperatorKind, Rule>, kind: OperatorKind) -> Option<&Rule> {
    rules.get(&kind).or_else(|| rules.get(&kind.general()))
}

/// The rule, unless it says that the operator stays float. Where activations are float anyway, that is no reason to store
/// its weight so.
fn chosen_rule<'r>(
    rules: &'r BTreeMap<OperatorKind, Rule>,
    candidate: &Candidate,
    bits: onnxq_plan::Bits,
) -> Option<&'r Rule> {
    let weight_only = bits.activation.is_none() && candidate.stores_weight();
    rule_of(rules, candidate.kind).filter(|rule| weight_only || rule.placement != Placement::Float)
}

/// Splits the candidates into those with a rule and those that stay float, with the reason.
fn choose(
    cx: &Context<'_>,
    selected: &Selected<'_>,
    candidates: &[Candidate],
    rules: &BTreeMap<OperatorKind, Rule>,
    quantized: &Quantized,
) -> (Vec<Chosen>, Vec<(Candidate, &'static str)>) {
    let mut chosen = Vec::new();
    let mut left = Vec::new();
    let depths = residual::depths(cx.graph());
    let types = Types::of(cx.graph());
    for candidate in candidates {
        let bits = selected.own(candidate.op).bits(cx.settings.bits);
        let weight_only = bits.activation.is_none();
        match (chosen_rule(rules, candidate, bits), selected.leaves_float(candidate.op)) {
            _ if quantized.has(cx.graph(), candidate) => left.push((candidate.clone(), QUANTIZED)),
            (Some(_), _) if candidate.weight.is_none() && writes_codes(cx.graph(), candidate, quantized) => {
                left.push((candidate.clone(), QUANTIZED));
            }
            _ if let Some(reason) = types.unfit(cx.graph(), candidate) => left.push((candidate.clone(), reason)),
            (None, _) => left.push((candidate.clone(), "not-a-site: float by the rules of target or recipe")),
            (Some(_), None) if !weight_only && is_out_of_reach(cx, candidate) => {
                left.push((candidate.clone(), OUT_OF_REACH));
            }
            (Some(_), Some(reason)) => left.push((candidate.clone(), reason)),
            (Some(rule), None) if is_small(cx.graph(), candidate, rule) => left.push((candidate.clone(), SMALL)),
            (Some(rule), None) if !reads_codes(cx.graph(), candidate, rule) => {
                left.push((candidate.clone(), "not-a-site: it reads constants, or what is not known to be float"));
            }
            (Some(_), None) if weight_only && !candidate.stores_weight() => {
                let by_bits = cx.settings.bits.activation.is_none();
                left.push((candidate.clone(), if by_bits { FLOAT_BY_BITS } else { FLOAT_BY_RECIPE }));
            }
            (Some(rule), None) => chosen.push(Chosen {
                candidate: reader(cx.graph(), candidate, rule.placement, &depths),
                // Where activations stay float there is no chain to join, and where the output becomes codes it is joined.
                placement: if weight_only || writes_codes(cx.graph(), candidate, quantized) {
                    Placement::Inputs
                } else {
                    rule.placement
                },
                activations: if weight_only { Activations::Floats } else { Activations::Codes },
                absorbs: rule.absorbs.clone(),
            }),
        }
    }
    (chosen, left)
}

/// What is taken of values whose type is not known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Types {
    /// They are float32 as all others.
    Assumed,
    /// They may be float16 or bfloat16, which some values are.
    Mixed,
}

impl Types {
    fn of(graph: &Graph) -> Self {
        let is_half = |value| graph.tensor_type(value).is_some_and(|known| known.element.is_half());
        if graph.values().any(is_half) { Self::Mixed } else { Self::Assumed }
    }

    /// Why the operands of a candidate can't be quantized, by their types.
    fn unfit(self, graph: &Graph, candidate: &Candidate) -> Option<&'static str> {
        let is_unfit = |element: ElementType| !element.fits_f32();
        if candidate.elements_read(graph).flatten().any(is_unfit) {
            return Some("not-float: an operand is neither float32, float16 nor bfloat16");
        }
        let written = candidate.written(graph).map(|value| graph.tensor_type(value).map(|known| known.element));
        let is_unknown = self == Self::Mixed && candidate.elements_read(graph).chain(written).any(|it| it.is_none());
        is_unknown.then_some("unknown-type: some values are float16 or bfloat16, and it is not known which of its own")
    }
}

const SMALL: &str = "small: it sums over, or gives out, less than the target computes in integers";

fn is_small(graph: &Graph, candidate: &Candidate, rule: &Rule) -> bool {
    rule.least_size.is_some_and(|least| candidate.least_size(graph).is_some_and(|size| size < least))
}

/// Whether what an operator reads can be codes: constants that are no weights only where the whole graph is in codes, and
/// there only what is sure to be float.
fn reads_codes(graph: &Graph, candidate: &Candidate, rule: &Rule) -> bool {
    if rule.placement.is_whole() { candidate.is_surely_float(graph) } else { !candidate.reads_constant(graph) }
}

/// The candidate with the operands that its placement quantizes.
fn reader(graph: &Graph, candidate: &Candidate, placement: Placement, depths: &BTreeMap<OpId, usize>) -> Candidate {
    let mut candidate = candidate.clone();
    if placement == Placement::Residual {
        candidate.activations = residual::slot(graph, candidate.op, depths).into_iter().collect();
    }
    candidate
}

const FLOAT_BY_BITS: &str = "not-a-site: activations stay float by --bits";
const OUT_OF_REACH: &str = "out-of-reach: the engine can't run an operator in front of it; `--engine ort` (a build \
                            with the feature `ort`) may, and weight-only (`--bits w8`) needs no run";

fn is_out_of_reach(cx: &Context<'_>, candidate: &Candidate) -> bool {
    candidate.activation_values(cx.graph()).any(|(_, value)| cx.is_out_of_reach(value))
}

/// Whether the output becomes codes.
fn writes_codes(graph: &Graph, candidate: &Candidate, quantized: &Quantized) -> bool {
    graph.output(candidate.op, 0).is_some_and(|value| quantized.is_quantized(value))
}

/// Says that an operator of the plan stays float after all.
pub(crate) fn leave_op(cx: &mut Context<'_>, op: OpId, reason: &str) {
    let Some(candidate) = Candidate::at(cx.graph(), op) else { return };
    cx.decline(op, reason);
    cx.leave_float(op, candidate.kind.name(), reason);
}

/// Element-wise operators outside chains are no news to anybody.
fn leave(cx: &mut Context<'_>, candidate: &Candidate, reason: &str) {
    if candidate.stores_weight() || candidate.kind == OperatorKind::MatMul {
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

/// Says what lies in local functions and stays float.
fn note_functions(cx: &mut Context<'_>) {
    let quantizable = |graph: &Graph| graph.op_ids().filter(|&op| is_weighted(graph, op)).count();
    let is_left = |&op: &OpId| {
        let node = cx.graph().op(op);
        let function = cx.model.function(node.domain(), node.op_type(), node.overload());
        function.is_some_and(|function| quantizable(&function.body) > 0)
    };
    let reason = "function: its local function can't be inlined";
    for op in cx.ops().into_iter().filter(is_left).collect::<Vec<_>>() {
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
    fn open_batch() {
        check!("select-sites/open_batch");
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
    fn embedding() {
        check!("select-sites/embedding");
    }

    #[test]
    fn embedding_whole() {
        check!("select-sites/embedding_whole");
    }

    #[test]
    fn embedding_stored() {
        check!("select-sites/embedding_stored");
    }

    #[test]
    fn chain() {
        check!("select-sites/chain");
    }

    #[test]
    fn at_load() {
        check!("select-sites/at_load");
    }

    #[test]
    fn excluded() {
        check_declined!("select-sites/excluded", "excluded: by --exclude");
    }

    #[test]
    fn selection() {
        check!("select-sites/selection");
    }

    #[test]
    fn float_by_recipe() {
        check_declined!("select-sites/float_by_recipe", "float-by-recipe: by an override of the recipe");
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
    fn not_float() {
        check_declined!("select-sites/not_float", "not-float: an operand is neither float32, float16 nor bfloat16");
    }

    #[test]
    fn unknown_type() {
        check_declined!(
            "select-sites/unknown_type",
            "unknown-type: some values are float16 or bfloat16, and it is not known which of its own"
        );
    }

    #[test]
    fn form() {
        check_declined!("select-sites/form", "form: its weight is computed, on the left or no matrix");
    }

    #[test]
    fn residual() {
        check!("select-sites/residual");
    }

    #[test]
    fn residual_alone() {
        check!("select-sites/residual_alone");
    }

    #[test]
    fn reduced() {
        check!("select-sites/reduced");
    }

    #[test]
    fn whole() {
        check!("select-sites/whole");
    }

    #[test]
    fn fixed_scales() {
        check!("select-sites/fixed_scales");
    }

    #[test]
    fn float_activations() {
        check!("select-sites/float_activations");
    }

    #[test]
    fn small() {
        check_declined!(
            "select-sites/small",
            "small: it sums over, or gives out, less than the target computes in integers"
        );
    }

    #[test]
    fn no_activations() {
        check_refused!(
            "select-sites/no_activations",
            "target `ort-cuda` has no 8-bit activations; activations stay float there: leave their bits out, such as `--bits w8`"
        );
    }

    #[test]
    fn no_such_width() {
        check_refused!(
            "select-sites/no_such_width",
            "target `ort-cpu` has no 16-bit activations; it has 2, 3, 4, 5, 6, 7, 8"
        );
    }
}
