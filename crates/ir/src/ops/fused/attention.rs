//! Attention: products with one matrix for queries, keys and values, `softmax(scale q k' + mask) v` for each head, heads
//! side by side again.
//!
//! The mask says which keys count: by row (`[B, T]`), by query and row (`[B, S, T]`), or as the number of keys from the left
//! (`[B]`). Scores of others get `mask_filter_value` added.

use std::ops::Range;

use crate::graph::Graph;
use crate::op::{Attribute, Op, OpId};
use crate::ops::Softmax;
use crate::ops::attributes::{constant_tensor, flag_or, float_or, int_or, ints_opt, optional_input};
use crate::ops::expansion::Steps;
use crate::tensor::Tensor;
use crate::types::{Dim, ElementType};
use crate::value::ValueId;

use super::embed_layer_normalization::COUNT;
use super::{MALFORMED, Outcome, Unfusing, is_read};

const WEIGHT: usize = 1;
const BIAS: usize = 2;
const MASK: usize = 3;
const PAST: usize = 4;
const ADDED: usize = 5;
/// The output with keys and values for the next step.
const PRESENT: usize = 1;

/// What onnxruntime adds to the scores of keys that don't count where the file does not say.
const FILTER: f32 = -10_000.0;

/// The first version that can count positions, with Range.
const COUNTS: i64 = 11;
const UNCOUNTED: &str = "positions can't be counted below opset 11";

/// Which keys count.
enum Mask {
    /// `[B, T]`
    Keys(ValueId),
    /// `[B, S, T]`
    Pairs(ValueId),
    /// `[B]`
    Lengths(ValueId),
}

/// The operator as it can be taken apart.
struct Attention {
    x: ValueId,
    /// Of queries, keys, values.
    parts: [Part; 3],
    mask: Option<Mask>,
    added: Option<ValueId>,
    is_causal: bool,
    heads: usize,
    scale: f32,
    filter: f32,
    element: ElementType,
}

/// What makes queries, keys or values.
struct Part {
    /// `[width, heads * size]`
    weight: Tensor,
    bias: Option<Tensor>,
}

impl Part {
    fn width(&self) -> usize {
        self.weight.shape()[1]
    }
}

impl Attention {
    fn read(at: &Unfusing<'_>, id: OpId) -> Result<Self, &'static str> {
        let (graph, op) = (at.graph, at.graph.op(id));
        let x = at.input(id, 0)?;
        if optional_input(graph, id, PAST).is_some() || is_read(graph, id, PRESENT) {
            return Err("it has past keys and values");
        }
        if flag_or(op, "do_rotary", 0).ok_or(MALFORMED)? {
            return Err("it rotates queries and keys");
        }
        let heads = int_or(op, "num_heads", 0).and_then(|heads| usize::try_from(heads).ok()).ok_or(MALFORMED)?;
        let parts = parts(graph, id)?;
        let (query, element) = (parts[0].width(), parts[0].weight.element());
        let fits = heads > 0 && query == parts[1].width() && parts.iter().all(|part| part.width() % heads == 0);
        if !fits {
            return Err(MALFORMED);
        }
        let is_causal = flag_or(op, "unidirectional", 0).ok_or(MALFORMED)?;
        if is_causal && graph.opset() < COUNTS {
            return Err(UNCOUNTED);
        }
        // 0 is as good as nothing said.
        let scale = float_or(op, "scale", 0.0).ok_or(MALFORMED)?;
        Ok(Self {
            x,
            parts,
            mask: mask(at, id)?,
            added: optional_input(graph, id, ADDED),
            is_causal,
            heads,
            scale: if scale == 0.0 { ((query / heads) as f32).sqrt().recip() } else { scale },
            filter: filter(float_or(op, "mask_filter_value", FILTER).ok_or(MALFORMED)?, element),
            element,
        })
    }
}

/// The weight and the bias, taken to pieces.
fn parts(graph: &Graph, id: OpId) -> Result<[Part; 3], &'static str> {
    let weight = graph.input(id, WEIGHT).and_then(|value| constant_tensor(graph, value));
    let weight = weight.filter(|tensor| tensor.rank() == 2 && tensor.element().is_float());
    let weight = weight.ok_or("its weight is computed")?;
    let bias = match optional_input(graph, id, BIAS) {
        None => None,
        Some(bias) => Some(constant_tensor(graph, bias).ok_or("its bias is computed")?),
    };
    let widths = widths(graph.op(id), weight.shape()[1]).ok_or(MALFORMED)?;
    let fits_bias = |bias: &Tensor| bias.shape() == &weight.shape()[1..] && bias.element() == weight.element();
    if !bias.as_ref().is_none_or(fits_bias) || Some(weight.shape()[1]) != total(widths) {
        return Err(MALFORMED);
    }
    let mut first = 0;
    let parts = widths.map(|width| {
        let own = first..first + width;
        first += width;
        let bias = bias.as_ref().map(|bias| columns(bias, own.clone()));
        Part { weight: columns(&weight, own), bias }
    });
    Ok(parts)
}

fn total(widths: [usize; 3]) -> Option<usize> {
    widths.into_iter().try_fold(0usize, usize::checked_add)
}

/// Columns for queries, keys and values: a third for each where nothing is said.
fn widths(op: &Op, columns: usize) -> Option<[usize; 3]> {
    match ints_opt(op, "qkv_hidden_sizes")? {
        None => Some([columns / 3; 3]),
        Some(sizes) => {
            let sizes: Option<Vec<usize>> = sizes.into_iter().map(|size| usize::try_from(size).ok()).collect();
            sizes?.try_into().ok()
        }
    }
}

/// The value that is added, where the type holds it.
fn filter(wanted: f32, element: ElementType) -> f32 {
    if element == ElementType::F16 { wanted.max(half::f16::MIN.to_f32()) } else { wanted }
}

/// What the mask is, told by its number of axes.
fn mask(at: &Unfusing<'_>, id: OpId) -> Result<Option<Mask>, &'static str> {
    let graph = at.graph;
    let Some(mask) = optional_input(graph, id, MASK) else { return Ok(None) };
    let counts = |op: OpId| super::is_microsoft(graph.op(op), "EmbedLayerNormalization");
    if graph.producer(mask).is_some_and(|(op, slot)| counts(op) && slot == COUNT) {
        return lengths(graph, mask).map(Some);
    }
    match at.known.rank(mask) {
        Some(1) if has_one_per_row(graph, id, mask) => lengths(graph, mask).map(Some),
        Some(2) => Ok(Some(Mask::Keys(mask))),
        Some(3) => Ok(Some(Mask::Pairs(mask))),
        Some(_) => Err("its mask has another form"),
        None => Err("the number of axes of its mask is not known"),
    }
}

fn lengths(graph: &Graph, mask: ValueId) -> Result<Mask, &'static str> {
    if graph.opset() < COUNTS { Err(UNCOUNTED) } else { Ok(Mask::Lengths(mask)) }
}

/// Whether a mask of one axis has as many elements as there are rows: one with twice as many has ends and beginnings.
fn has_one_per_row(graph: &Graph, id: OpId, mask: ValueId) -> bool {
    let first = |value: ValueId| -> Option<Dim> { graph.tensor_type(value)?.shape?.first().cloned() };
    let rows = graph.input(id, 0).and_then(first);
    rows.is_some() && rows == first(mask)
}

pub(super) fn unfuse(at: &mut Unfusing<'_>, id: OpId) -> Outcome {
    let attention = Attention::read(at, id)?;
    let weight = at.input(id, WEIGHT)?;
    let mut steps = at.steps(id, weight)?;
    let width = attention.parts[2].width() as i64;
    let mut masks = Vec::new();
    if let Some(mask) = &attention.mask {
        masks.push((filtered(&mut steps, &attention, mask), "masked"));
    }
    if attention.is_causal {
        masks.push((causal(&mut steps, &attention), "causal"));
    }
    masks.extend(attention.added.map(|added| (added, "biased")));
    let scale = steps.scalar(attention.scale.into());
    let [query, key, value] = heads(&mut steps, attention);
    let scores = steps.step("MatMul", &[query, key], "scores");
    let mut scores = steps.step("Mul", &[scores, scale], "scaled");
    for (mask, part) in masks {
        scores = steps.step("Add", &[scores, mask], part);
    }
    let weights = steps.step_with(Softmax::op(-1), &[scores], "weights");
    let context = steps.step("MatMul", &[weights, value], "context");
    let context = transposed(&mut steps, context, [0, 2, 1, 3], "tokens");
    let shape = steps.integers("shape", &[0, 0, width]);
    steps.finish("Reshape", &[context, shape]);
    Ok(())
}

/// Queries `[B, heads, S, size]`, keys `[B, heads, size, T]`, values `[B, heads, T, size]`.
fn heads(steps: &mut Steps<'_, '_>, attention: Attention) -> [ValueId; 3] {
    let [query, key, value] = attention.parts;
    [(query, "query", [0, 2, 1, 3]), (key, "key", [0, 2, 3, 1]), (value, "value", [0, 2, 1, 3])].map(
        |(part, name, perm)| {
            let size = (part.width() / attention.heads) as i64;
            let weight = steps.constant(part.weight, &format!("{name}_weight"));
            let mut linear = steps.step("MatMul", &[attention.x, weight], name);
            if let Some(bias) = part.bias {
                let bias = steps.constant(bias, &format!("{name}_bias"));
                linear = steps.step("Add", &[linear, bias], &format!("{name}_biased"));
            }
            let shape = steps.integers("shape", &[0, 0, attention.heads as i64, size]);
            let split = steps.step("Reshape", &[linear, shape], &format!("{name}_heads"));
            transposed(steps, split, perm, &format!("{name}_by_head"))
        },
    )
}

fn transposed(steps: &mut Steps<'_, '_>, x: ValueId, perm: [i64; 4], part: &str) -> ValueId {
    steps.step_with(Op::new("", "Transpose", vec![Attribute::ints("perm", perm)]), &[x], part)
}

/// Some of the columns of a matrix, or elements of a vector, of floats.
fn columns(tensor: &Tensor, own: Range<usize>) -> Tensor {
    let (&all, rows) = tensor.shape().split_last().expect("an axis");
    let size = tensor.element().packed_len(1).expect("the size of a float");
    let bytes: Vec<u8> = if all == 0 {
        Vec::new()
    } else {
        let rows = tensor.bytes().chunks_exact(all * size);
        rows.flat_map(|row| row[own.start * size..own.end * size].iter().copied()).collect()
    };
    let shape = rows.iter().copied().chain([own.len()]).collect();
    Tensor::from_bytes(tensor.element(), shape, bytes.into()).expect("as many bytes as it needs")
}

/// What is added to the scores for the mask: 0 where a key counts.
fn filtered(steps: &mut Steps<'_, '_>, attention: &Attention, mask: &Mask) -> ValueId {
    let counts = match *mask {
        Mask::Keys(mask) => {
            let counts = positive(steps, mask);
            unsqueezed(steps, counts, &[1, 2], "counts_by_head")
        }
        Mask::Pairs(mask) => {
            let counts = positive(steps, mask);
            unsqueezed(steps, counts, &[1], "counts_by_head")
        }
        Mask::Lengths(mask) => {
            let positions = positions(steps, attention.x);
            let lengths = steps.cast(mask, ElementType::I64, "lengths");
            let shape = steps.integers("shape", &[-1, 1, 1, 1]);
            let lengths = steps.step("Reshape", &[lengths, shape], "lengths_by_head");
            steps.step("Less", &[positions, lengths], "counts")
        }
    };
    let (zero, filter) = (steps.scalar(0.0), steps.scalar(attention.filter.into()));
    steps.step("Where", &[counts, zero, filter], "mask")
}

/// Where a mask is above 0.
fn positive(steps: &mut Steps<'_, '_>, mask: ValueId) -> ValueId {
    let numbers = steps.cast(mask, ElementType::I64, "numbers");
    let zero = steps.integer(0);
    steps.step("Greater", &[numbers, zero], "counts")
}

/// What is added to the scores so that no query sees a later key.
fn causal(steps: &mut Steps<'_, '_>, attention: &Attention) -> ValueId {
    let keys = positions(steps, attention.x);
    let shape = steps.integers("shape", &[-1, 1]);
    let queries = steps.step("Reshape", &[keys, shape], "query_positions");
    let is_later = steps.step("Less", &[queries, keys], "later");
    let zero = steps.scalar(0.0);
    let lowest = steps.scalar(filter(f32::MIN, attention.element).into());
    steps.step("Where", &[is_later, lowest, zero], "later_mask")
}

/// `[0, 1, ..., S - 1]` for x of `[B, S, width]`.
fn positions(steps: &mut Steps<'_, '_>, x: ValueId) -> ValueId {
    let shape = steps.step("Shape", &[x], "shape");
    let one = steps.integer(1);
    let length = steps.step("Gather", &[shape, one], "length");
    let (zero, one) = (steps.integer(0), steps.integer(1));
    steps.step("Range", &[zero, length, one], "positions")
}

fn unsqueezed(steps: &mut Steps<'_, '_>, x: ValueId, axes: &[i64], part: &str) -> ValueId {
    if steps.graph().opset() < 13 {
        let axes = vec![Attribute::ints("axes", axes)];
        return steps.step_with(Op::new("", "Unsqueeze", axes), &[x], part);
    }
    let axes = steps.integers("axes", axes);
    steps.step("Unsqueeze", &[x, axes], part)
}
