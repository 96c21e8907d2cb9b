//! One graph: which operators fuse, which conversions are left, and what there is to say of those that stay float.

use std::collections::{BTreeMap, HashMap, HashSet};

use onnxq_ir::ElementType;
use onnxq_passes::names::label;

use super::kernels::{Cost, KernelRule, Kernels, Level};
use super::reason::Reason;
use super::rewrites;
use super::select::{Fusion, fuse};
use super::sketch::{DEQUANTIZE, Fixed, NodeIx, QUANTIZE, Sketch, ValueIx};
use super::version::Version;
use super::{Conversions, Finding, Verdict};

/// What is known of one graph.
#[derive(Default)]
pub(super) struct Judged {
    /// By the place of the node.
    pub(super) verdicts: BTreeMap<NodeIx, Verdict>,
    /// With the place of the node.
    pub(super) findings: Vec<(NodeIx, Finding)>,
    /// Kernels, and whether each only moves codes.
    pub(super) kernels: Vec<(String, bool)>,
    pub(super) conversions: Counted,
}

/// The conversions that a graph has when it runs.
#[derive(Clone, Copy, Default)]
pub(super) struct Counted {
    pub(super) running: Conversions,
    pub(super) vectors: usize,
    pub(super) stranded: Conversions,
}

/// Takes a graph through the runtime's rewrites and judges every operator.
pub(super) fn judge(mut sketch: Sketch<'_>, kernels: &Kernels, oldest: Option<Version>) -> Judged {
    let at_load = rewrites::apply(&mut sketch, kernels);
    let mut judge = Judge { sketch, kernels, oldest, computes: HashSet::new(), judged: Judged::default() };
    let nodes = judge.sketch.living();
    let nodes: Vec<NodeIx> = nodes.into_iter().filter(|&node| !judge.is_conversion(node)).collect();
    let mut missing = HashMap::new();
    let mut fused = Vec::new();
    for &node in &nodes {
        match judge.decide(node) {
            Decision::Fused(rule, fusion) => fused.push((node, rule, fusion)),
            Decision::Missing(reason) => drop(missing.insert(node, reason)),
            Decision::Written | Decision::Float => {}
        }
    }
    for (node, rule, fusion) in fused {
        judge.take_in(node, rule, fusion);
    }
    for &node in &at_load.weights {
        judge.say(Level::Note, node, false, Reason::WeightsAtLoad);
    }
    let at_load_since = kernels.quantizes_at_load.since;
    if oldest.is_some_and(|oldest| oldest < at_load_since) {
        for &node in at_load.biases.iter().chain(&at_load.weights) {
            judge.say_older(node, "float constants quantized at load".to_owned(), at_load_since);
        }
    }
    judge.drop_pairs();
    judge.judged.conversions = Counted::of(&judge.sketch);
    for node in nodes {
        if !judge.computes.contains(&node) {
            judge.stays_float(node, missing.remove(&node));
        }
    }
    judge.judged.findings.sort_by_key(|(node, _)| *node);
    judge.judged
}

struct Judge<'g, 'k> {
    sketch: Sketch<'g>,
    kernels: &'k Kernels,
    oldest: Option<Version>,
    /// The operators that compute with codes.
    computes: HashSet<NodeIx>,
    judged: Judged,
}

enum Decision<'k> {
    /// It is an integer kernel as it stands.
    Written,
    /// It fuses.
    Fused(&'k KernelRule, Fusion),
    /// It has rules, and lacks what this says.
    Missing(Missing),
    /// There is no rule.
    Float,
}

/// Why a node does not fuse.
struct Missing {
    reason: Reason,
    is_product: bool,
}

impl<'k> Judge<'_, 'k> {
    fn is_conversion(&self, node: NodeIx) -> bool {
        matches!(self.sketch.nodes[node].kind.as_str(), QUANTIZE | DEQUANTIZE)
    }

    fn decide(&mut self, node: NodeIx) -> Decision<'k> {
        let kind = self.sketch.nodes[node].kind.clone();
        if self.kernels.written(&kind).is_some() {
            self.written(node, &kind);
            return Decision::Written;
        }
        let mut missing = None;
        let kernels = self.kernels;
        for rule in kernels.rules(&kind) {
            match fuse(&self.sketch, node, rule) {
                Ok(fusion) => return Decision::Fused(rule, fusion),
                // Of several rules the one counts that the node is nearest to: not the one whose operands it lacks.
                Err(reason) => {
                    let is_far = matches!(reason, Reason::FloatOperand { slot: 0 } | Reason::NotWeightOnly);
                    if missing.is_none() || (!is_far && self.sketch.dequantizer(node, 0).is_none()) {
                        missing = Some(Missing { reason, is_product: rule.is_product });
                    }
                }
            }
        }
        missing.map_or(Decision::Float, Decision::Missing)
    }

    /// An operator of a file that names integer kernels itself.
    fn written(&mut self, node: NodeIx, kind: &str) {
        let rule = self.kernels.written(kind).expect("just found");
        let kernel = match kind {
            "MatMulInteger" => dynamic_product(&self.sketch, node),
            _ => kind.strip_prefix("com.microsoft.").unwrap_or(kind),
        };
        self.computes(node, kernel.to_owned(), false);
        if let Some(cost) = &rule.slow {
            self.say(Level::Warning, node, false, Reason::SlowKernel { cost: cost.clone() });
        }
        if let Some(cost) = &rule.costs {
            self.say(Level::Note, node, false, Reason::CostlyKernel { cost: cost.clone() });
        }
        let weights = rule.weights.and_then(|slot| self.sketch.input(node, slot));
        self.weigh_weights(node, weights, rule.unsigned_weights.as_ref());
    }

    /// Says so where constant weights are unsigned.
    fn weigh_weights(&mut self, node: NodeIx, weights: Option<ValueIx>, cost: Option<&Cost>) {
        let Some((weights, cost)) = weights.map(|weights| &self.sketch.values[weights]).zip(cost) else { return };
        if weights.fixed != Fixed::No && weights.element == Some(ElementType::U8) {
            let reason = Reason::UnsignedWeights { cost: cost.text.clone() };
            self.say(cost.level, node, false, reason);
        }
    }

    /// Lets a kernel take the place of a node and of the conversions around it.
    fn take_in(&mut self, node: NodeIx, rule: &KernelRule, fusion: Fusion) {
        for (slot, dequantizer) in fusion.dequantizers {
            let codes = self.sketch.input(dequantizer, 0).expect("a DequantizeLinear reads codes");
            self.sketch.set_input(node, slot, codes);
            self.sketch.remove(dequantizer);
        }
        for quantizer in fusion.quantizers {
            let y = self.sketch.input(quantizer, 0);
            let slot = self.sketch.nodes[node].outputs.iter().position(|output| *output == y).unwrap_or(0);
            let codes = self.sketch.output(quantizer).expect("a QuantizeLinear writes codes");
            self.sketch.remove(quantizer);
            self.sketch.set_output(node, slot, codes);
        }
        if rule.is_product {
            self.weigh_weights(node, self.sketch.input(node, 1), rule.unsigned_weights.as_ref());
        }
        if let Some(cost) = &rule.costs {
            self.say(Level::Note, node, false, Reason::CostlyKernel { cost: cost.clone() });
        }
        if let Some(since) = rule.since.filter(|&since| self.oldest.is_some_and(|oldest| oldest < since)) {
            self.say_older(node, format!("the kernel {}", fusion.kernel), since);
        }
        self.computes(node, fusion.kernel, rule.same_grid);
    }

    fn computes(&mut self, node: NodeIx, kernel: String, moves: bool) {
        if let Some((name, operator)) = self.named(node) {
            self.judged.verdicts.insert(node, Verdict { node: name, operator, kernel: Ok(kernel.clone()) });
        }
        self.judged.kernels.push((kernel, moves));
        self.computes.insert(node);
    }

    /// DequantizeLinear and QuantizeLinear with one grid, one behind the other, are nothing.
    fn drop_pairs(&mut self) {
        for quantizer in self.sketch.of_kind(QUANTIZE) {
            let Some(x) = self.sketch.input(quantizer, 0) else { continue };
            let Some(dequantizer) = self.sketch.written_by(x, DEQUANTIZE) else { continue };
            let is_alone = self.sketch.only_reader(x) == Some(quantizer);
            if is_alone && self.sketch.share_grid(dequantizer, quantizer) {
                let from = self.sketch.input(dequantizer, 0).expect("a DequantizeLinear reads codes");
                let to = self.sketch.output(quantizer).expect("a QuantizeLinear writes codes");
                self.sketch.remove(quantizer);
                self.sketch.remove(dequantizer);
                for (reader, slot) in self.sketch.values[to].readers.clone() {
                    if let Some(slot) = slot {
                        self.sketch.set_input(reader, slot, from);
                    }
                }
            }
        }
    }

    /// What there is to say of a node that stays float.
    fn stays_float(&mut self, node: NodeIx, missing: Option<Missing>) {
        let slots = 0..self.sketch.nodes[node].inputs.len();
        let in_front: Vec<NodeIx> = slots.filter_map(|slot| self.sketch.dequantizer(node, slot)).collect();
        let behind = self.sketch.output(node).is_some_and(|y| !self.sketch.quantizers(y).is_empty());
        if in_front.is_empty() && !behind {
            return;
        }
        let is_wasted = in_front.iter().any(|&dequantizer| is_stranded(&self.sketch, dequantizer));
        let has_rule = missing.is_some();
        let is_gap = has_rule && behind && !in_front.is_empty();
        let Missing { reason, is_product } = missing.unwrap_or(Missing { reason: Reason::NoKernel, is_product: false });
        if is_wasted || is_gap {
            let level = if is_product && is_wasted { Level::Warning } else { Level::Note };
            self.say(level, node, true, reason.clone());
        }
        if let Some((name, operator)) = self.named(node) {
            self.judged.verdicts.insert(node, Verdict { node: name, operator, kernel: Err(reason) });
        }
    }

    /// A node's name and operator as the file has them; none for what a rewrite added.
    fn named(&self, node: NodeIx) -> Option<(String, String)> {
        let op = self.sketch.nodes[node].at?;
        Some((label(self.sketch.graph, op), self.sketch.graph.op(op).op_type().to_owned()))
    }

    fn say(&mut self, level: Level, node: NodeIx, is_float: bool, reason: Reason) {
        if let Some((name, operator)) = self.named(node) {
            self.judged.findings.push((node, Finding { level, node: Some(name), operator, is_float, reason }));
        }
    }

    fn say_older(&mut self, node: NodeIx, what: String, since: Version) {
        self.say(Level::Warning, node, false, Reason::Older { what, since: since.to_string() });
    }
}

impl Counted {
    /// Counts them.
    pub(super) fn of(sketch: &Sketch<'_>) -> Self {
        let mut counted = Self::default();
        for quantizer in sketch.of_kind(QUANTIZE) {
            let Some(codes) = sketch.output(quantizer) else { continue };
            let value = &sketch.values[codes];
            counted.running.quantize += 1;
            let is_back = |(node, _): &(NodeIx, Option<usize>)| sketch.nodes[*node].kind == DEQUANTIZE;
            if !value.is_output && value.readers.iter().all(is_back) {
                counted.stranded.quantize += 1;
            }
        }
        for dequantizer in sketch.of_kind(DEQUANTIZE) {
            counted.running.dequantize += 1;
            counted.vectors += usize::from(is_vector(sketch, dequantizer));
            counted.stranded.dequantize += usize::from(is_stranded(sketch, dequantizer));
        }
        counted
    }
}

/// Whether a DequantizeLinear reads a constant with one dimension at most, such as a bias.
fn is_vector(sketch: &Sketch<'_>, dequantizer: NodeIx) -> bool {
    let codes = sketch.input(dequantizer, 0).map(|codes| &sketch.values[codes]);
    codes.is_some_and(|codes| codes.fixed != Fixed::No && codes.shape.as_ref().is_some_and(|shape| shape.len() <= 1))
}

/// Whether a DequantizeLinear undoes what a QuantizeLinear just did, or makes floats of constant codes at every run.
fn is_stranded(sketch: &Sketch<'_>, dequantizer: NodeIx) -> bool {
    let Some(codes) = sketch.input(dequantizer, 0) else { return false };
    let is_constant = sketch.values[codes].fixed != Fixed::No && !is_vector(sketch, dequantizer);
    is_constant || sketch.written_by(codes, QUANTIZE).is_some()
}

/// What becomes of a MatMulInteger: with a Cast and a Mul by the product of both scales behind it, it gives floats; where it
/// is also the only reader of a DynamicQuantizeLinear and has constant weights, it quantizes its input itself.
fn dynamic_product(sketch: &Sketch<'_>, node: NodeIx) -> &'static str {
    let next = |node: NodeIx, kind: &str| {
        sketch.only_reader(sketch.output(node)?).filter(|&reader| sketch.nodes[reader].kind == kind)
    };
    let Some(cast) = next(node, "Cast") else { return "MatMulInteger" };
    let Some(product) = next(cast, "Mul") else { return "MatMulInteger" };
    let other =
        sketch.nodes[product].inputs.iter().flatten().copied().find(|&value| Some(value) != sketch.output(cast));
    let Some(scales) = other.and_then(|value| sketch.written_by(value, "Mul")) else { return "MatMulInteger" };
    let is_fixed = |value: Option<ValueIx>| value.is_some_and(|value| sketch.values[value].fixed != Fixed::No);
    let source = sketch.input(node, 0).and_then(|x| sketch.written_by(x, "DynamicQuantizeLinear"));
    let reads = |source: NodeIx| {
        let outputs = sketch.nodes[source].outputs.iter().flatten();
        outputs.map(|&value| sketch.values[value].readers.len()).sum::<usize>()
    };
    let is_alone = source.is_some_and(|source| reads(source) == 3);
    if is_alone && is_fixed(sketch.input(node, 1)) && is_fixed(sketch.input(scales, 1)) {
        "DynamicQuantizeMatMul"
    } else {
        "MatMulIntegerToFloat"
    }
}
