//! Operators into which onnxruntime's optimizers fuse several of ONNX's, taken apart again.
//!
//! A file that was optimized before it came here has its products, norms and activations under names of the domain
//! `com.microsoft`, where no pass looks for them, and which other runtimes don't load. What is written in their place is what
//! they were made of, so that a runtime which fuses does so again with what is left float. Operators of that domain that
//! stand for nothing of ONNX's stay, and so do those in a form that can't be told, with the reason.

mod activation;
mod attention;
mod conv;
mod embed_layer_normalization;
mod gelu;
mod gemm;
mod known;
mod mat_mul;
mod skip_layer_normalization;

use crate::graph::Graph;
use crate::op::{Op, OpId};
use crate::patch::PatchError;
use crate::value::ValueId;

use super::expansion::{Expansion, Steps};
use known::Known;

/// What becomes of one operator.
type Outcome = Result<(), &'static str>;

/// Why an operator stays that has not what it must have.
const MALFORMED: &str = "its inputs or attributes are not what it needs";

/// A fused operator that stays as it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Kept {
    /// The operator's type.
    pub op_type: String,
    /// The node's name.
    pub name: String,
    /// Why.
    pub reason: &'static str,
}

/// Whether an operator is a fused one that may have weights.
pub fn has_weights(op: &Op) -> bool {
    const WEIGHTED: [&str; 5] = ["Attention", "FusedConv", "FusedGemm", "FusedMatMul", "TransposeMatMul"];
    WEIGHTED.iter().any(|op_type| is_microsoft(op, op_type))
}

/// Takes the fused operators of a graph and its bodies apart; returns those of the graph itself that stay.
pub fn unfuse(graph: &mut Graph) -> Result<Vec<Kept>, PatchError> {
    let has_some = |body: &Graph| body.has_op(&|op| rule(op).is_some());
    graph.change_bodies(has_some, |body| unfuse(body).map(drop))?;
    let mut kept = Vec::new();
    let fused: Vec<(OpId, Rule)> =
        graph.topological().into_iter().filter_map(|id| Some((id, rule(graph.op(id))?))).collect();
    let Some(&(first, _)) = fused.first() else { return Ok(kept) };
    let expansion = Expansion::new(graph, "unfuse", graph.opset(), first);
    let mut unfusing = Unfusing { graph, known: Known::of(graph), expansion };
    for (id, rule) in fused {
        if let Err(reason) = rule(&mut unfusing, id) {
            let op = graph.op(id);
            kept.push(Kept { op_type: op.op_type().to_owned(), name: op.name().to_owned(), reason });
        }
    }
    let patch = unfusing.expansion.into_patch();
    if !patch.is_empty() {
        patch.apply(graph)?;
    }
    Ok(kept)
}

/// The fused operators of one graph, on the way to what they were made of.
struct Unfusing<'g> {
    graph: &'g Graph,
    known: Known,
    expansion: Expansion<'g>,
}

impl<'g> Unfusing<'g> {
    /// Begins with an operator, which computes in the type of this value.
    fn steps(&mut self, id: OpId, like: ValueId) -> Result<Steps<'_, 'g>, &'static str> {
        self.expansion.of_element(id, self.known.element(like)).ok_or(MALFORMED)
    }

    /// The value in a slot that must have one.
    fn input(&self, id: OpId, slot: usize) -> Result<ValueId, &'static str> {
        self.graph.input(id, slot).ok_or(MALFORMED)
    }
}

/// Takes one operator apart; on an error nothing is in the patch.
type Rule = fn(&mut Unfusing<'_>, OpId) -> Outcome;

/// How an operator is taken apart, where it is a fused one.
fn rule(op: &Op) -> Option<Rule> {
    if op.is("SimplifiedLayerNormalization") {
        return Some(skip_layer_normalization::simplified);
    }
    if op.domain() == LAID_OUT {
        return Some(|_, _| Err("it is laid out for one kind of processor; start from the file as it was before"));
    }
    if op.domain() != MICROSOFT {
        return None;
    }
    Some(match op.op_type() {
        "Attention" => attention::unfuse,
        "BiasGelu" => gelu::bias,
        "EmbedLayerNormalization" => embed_layer_normalization::unfuse,
        "FastGelu" => gelu::fast,
        "FusedConv" => conv::unfuse,
        "FusedGemm" => gemm::unfuse,
        "FusedMatMul" | "TransposeMatMul" => mat_mul::unfuse,
        "Gelu" => gelu::exact,
        "QuickGelu" => gelu::quick,
        "SimplifiedLayerNormalization" => skip_layer_normalization::simplified,
        "SkipLayerNormalization" => skip_layer_normalization::layer_norm,
        "SkipSimplifiedLayerNormalization" => skip_layer_normalization::rms_norm,
        _ => return None,
    })
}

const MICROSOFT: &str = "com.microsoft";
/// What the optimizer writes at its highest level: channels in blocks that the processor's vectors hold.
const LAID_OUT: &str = "com.microsoft.nchwc";

fn is_microsoft(op: &Op, op_type: &str) -> bool {
    op.domain() == MICROSOFT && op.op_type() == op_type
}

/// Whether an output has a reader, in the graph or outside.
fn is_read(graph: &Graph, id: OpId, slot: usize) -> bool {
    graph.output(id, slot).is_some_and(|value| graph.reader_count(value) > 0 || graph.is_output(value))
}

/// ONNX's operator of this type with the attributes of a fused one, but those named in `own`.
fn without(op: &Op, op_type: &str, own: &[&str]) -> Op {
    let kept = op.attributes().iter().filter(|attribute| !own.contains(&attribute.name.as_str()));
    Op::new("", op_type, kept.cloned().collect())
}
