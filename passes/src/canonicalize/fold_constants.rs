//! Makes initializers of values that are the same for every input.
//!
//! # Why
//! Exporters compute sizes, scales and masks step by step from constants and from shapes that are fixed. Folded, amounts of
//! a Pad or factors of a product are known, and the forms that other passes look for appear.
//!
//! # Needs
//! Nothing from data. Which values are constant, inference found before.
//!
//! # Effect
//! An operator whose outputs are all known is removed; its outputs become initializers of the same names. So does every
//! Constant node, and a Cast of float16 or bfloat16 to float32, which `insert-qdq` takes back where it makes no codes of it.
//!
//! # Promise
//! Exact.
//!
//! # Declines
//! - `output`: the value is an output of the graph, which an operator should write.
//! - `size`: the initializer would make the file more than 16 MB larger than what it is computed from.
//! - `codes`: the value stands for codes of a model that came quantized, which are smaller.
//! - `random`: the value comes from a random operator.
//! - `type`: inference and the file disagree about the element type.
//!
//! # Options
//! None.

use std::collections::{BTreeMap, BTreeSet};

use onnxq_ir::ops::{Cast, Constant, Transpose, constant_tensor};
use onnxq_ir::{ElementType, Graph, OpId, Patch, Tensor, ValueId};
use serde::{Deserialize, Serialize};

use crate::pass::{Context, Pass, PassError, Promise};

/// By how many bytes one operator's outputs may outgrow its inputs.
const MAX_GROWTH: usize = 16 << 20;

/// What a recipe can set: nothing.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub(crate) struct FoldConstants {}

impl Pass for FoldConstants {
    fn promise(&self) -> Promise {
        Promise::Exact
    }

    fn run(&self, cx: &mut Context<'_>) -> Result<(), PassError> {
        let ops = cx.ops();
        let Some(&anchor) = ops.first() else { return Ok(()) };
        let mut patch = Patch::new(cx.graph(), "fold-constants", anchor);
        let (mut random, mut codes) = (BTreeSet::new(), BTreeSet::new());
        let mut folded: Folded = BTreeMap::new();
        let mut declined = Vec::new();
        for op in ops {
            if is_random(cx.graph(), op, &random) {
                random.extend(cx.graph().outputs_of(op).into_iter().flatten());
            }
            if is_dequantized(cx.graph(), op, &codes) {
                codes.extend(cx.graph().outputs_of(op).into_iter().flatten());
            }
            let Some(tensors) = known_outputs(cx, op, &folded) else { continue };
            if tensors.iter().any(|(value, _)| codes.contains(value)) {
                declined.push((op, "codes"));
            } else if let Some(reason) = refusal(cx.graph(), op, &tensors, &random, &folded) {
                declined.push((op, reason));
            } else {
                if let Some(element) = stored_type(cx, op) {
                    cx.plan.stored.extend(tensors.iter().map(|(value, _)| (*value, element)));
                }
                folded.extend(tensors.iter().cloned());
                fold(&mut patch, op, tensors);
            }
        }
        for (op, reason) in declined {
            cx.decline(op, reason);
        }
        cx.apply(patch)
    }
}

/// What has become an initializer so far.
type Folded = BTreeMap<ValueId, Tensor>;

fn fold(patch: &mut Patch, op: OpId, tensors: Vec<(ValueId, Tensor)>) {
    patch.remove(op);
    for (value, tensor) in tensors {
        patch.set_constant(value, tensor);
    }
}

/// What an operator writes, if all of that is known; outputs that nobody looks at do not count.
fn known_outputs(cx: &Context<'_>, op: OpId, folded: &Folded) -> Option<Vec<(ValueId, Tensor)>> {
    let graph = cx.graph();
    if graph.op(op).is("Identity") {
        // Another name for its input: drop-identity does without a second copy.
        return None;
    }
    let looked_at = |value: &ValueId| graph.is_output(*value) || graph.reader_count(*value) > 0;
    let outputs: Vec<ValueId> = graph.outputs_of(op).into_iter().flatten().filter(looked_at).collect();
    if outputs.is_empty() {
        return None;
    }
    let own = Constant::at(graph, op).map(|constant| constant.tensor).or_else(|| wide_constant(graph, op));
    let known = |value: ValueId| {
        let inferred = || cx.constants.get(&value).cloned();
        own.clone().or_else(inferred).or_else(|| moved(graph, op, value, folded))
    };
    outputs.into_iter().map(|value| Some((value, known(value)?))).collect()
}

/// A known tensor under another shape or with its axes in another order. Inference finds no large ones behind a Cast.
fn moved(graph: &Graph, op: OpId, output: ValueId, folded: &Folded) -> Option<Tensor> {
    const RESHAPES: [&str; 4] = ["Reshape", "Flatten", "Squeeze", "Unsqueeze"];
    let x = graph.input(op, 0)?;
    let tensor = folded.get(&x).or_else(|| graph.constant(x))?;
    if graph.op(op).is("Transpose") {
        let reversed = || (0..tensor.rank()).rev().collect();
        let perm = Transpose::at(graph, op).map_or_else(reversed, |transpose| transpose.perm);
        return tensor.transposed(&perm);
    }
    let shape = graph.tensor_type(output)?.fixed_shape()?;
    RESHAPES.iter().any(|name| graph.op(op).is(name)).then(|| tensor.reshaped(shape).ok()).flatten()
}

/// The constant of 16 bits that a Cast makes float32 of.
fn half_constant(graph: &Graph, op: OpId) -> Option<Tensor> {
    let cast = Cast::at(graph, op).filter(|cast| cast.to == ElementType::F32)?;
    constant_tensor(graph, cast.x).filter(|tensor| tensor.element().is_half())
}

/// What that Cast writes.
fn wide_constant(graph: &Graph, op: OpId) -> Option<Tensor> {
    let half = half_constant(graph, op)?;
    Some(Tensor::new(half.shape().to_vec(), half.floats()?.into_owned()))
}

/// The type of 16 bits in which the file holds what an operator writes as float32, where it does.
fn stored_type(cx: &Context<'_>, op: OpId) -> Option<ElementType> {
    let half = half_constant(cx.graph(), op).map(|half| half.element());
    let moved = || {
        let moves = MOVES.iter().any(|name| cx.graph().op(op).is(name));
        cx.graph().input(op, 0).filter(|_| moves).and_then(|value| cx.plan.stored.get(&value).copied())
    };
    half.or_else(moved)
}

/// Operators that only move elements of their first input.
const MOVES: [&str; 8] = ["Identity", "Transpose", "Reshape", "Flatten", "Squeeze", "Unsqueeze", "Slice", "Split"];

fn refusal(
    graph: &Graph,
    op: OpId,
    tensors: &[(ValueId, Tensor)],
    random: &BTreeSet<ValueId>,
    folded: &Folded,
) -> Option<&'static str> {
    let disagrees = |(value, tensor): &(ValueId, Tensor)| {
        graph.value(*value).value_type().tensor().is_some_and(|known| known.element != tensor.element())
    };
    if tensors.iter().any(|(value, _)| random.contains(value)) {
        Some("random")
    } else if tensors.iter().any(|(value, _)| graph.is_output(*value)) {
        Some("output")
    } else if tensors.iter().any(disagrees) {
        Some("type")
    } else if growth(graph, op, tensors, folded) > MAX_GROWTH {
        Some("size")
    } else {
        None
    }
}

/// Bytes that the file gains: constant inputs that nobody else reads are lost.
fn growth(graph: &Graph, op: OpId, tensors: &[(ValueId, Tensor)], folded: &Folded) -> usize {
    // What stays float32 of 16 bits is written back as that.
    if Constant::at(graph, op).is_some() || half_constant(graph, op).is_some() {
        return 0;
    }
    let gained: usize = tensors.iter().map(|(_, tensor)| tensor.byte_len()).sum();
    let lost: usize = graph
        .inputs_of(op)
        .into_iter()
        .flatten()
        .filter(|&value| graph.reader_count(value) == 1)
        .filter_map(|value| folded.get(&value).or_else(|| graph.constant(value)).map(Tensor::byte_len))
        .sum();
    gained.saturating_sub(lost)
}

const RANDOM: [&str; 6] =
    ["RandomNormal", "RandomNormalLike", "RandomUniform", "RandomUniformLike", "Multinomial", "Bernoulli"];

/// Whether the operator, one in its bodies, or one that it reads from is random.
fn is_random(graph: &Graph, op: OpId, random: &BTreeSet<ValueId>) -> bool {
    let reads = graph.inputs_of(op).into_iter().flatten().chain(graph.captures_of(op)).any(|v| random.contains(&v));
    reads || draws(graph, op)
}

/// Whether the operator makes floats of codes, or reads such floats.
fn is_dequantized(graph: &Graph, op: OpId, codes: &BTreeSet<ValueId>) -> bool {
    graph.op(op).is("DequantizeLinear") || graph.inputs_of(op).into_iter().flatten().any(|value| codes.contains(&value))
}

fn draws(graph: &Graph, op: OpId) -> bool {
    RANDOM.iter().any(|op_type| graph.op(op).is(op_type))
        || graph.op(op).bodies().any(|body| body.op_ids().any(|op| draws(body, op)))
}

#[cfg(test)]
mod tests {
    use crate::testing::{check, check_declined};

    #[test]
    fn bfloat16() {
        check!("fold-constants/bfloat16");
    }

    #[test]
    fn constant_nodes() {
        check!("fold-constants/constant_nodes");
    }

    #[test]
    fn shape_of_a_fixed_input() {
        check!("fold-constants/shape_of_a_fixed_input");
    }

    #[test]
    fn tied_by_identity() {
        check!("fold-constants/tied_by_identity");
    }

    #[test]
    fn output() {
        check_declined!("fold-constants/output", "output");
    }

    #[test]
    fn size() {
        check_declined!("fold-constants/size", "size");
    }

    #[test]
    fn random() {
        check_declined!("fold-constants/random", "random");
    }

    #[test]
    fn codes() {
        check_declined!("fold-constants/codes", "codes");
    }

    #[test]
    fn type_() {
        check_declined!("fold-constants/type", "type");
    }
}
