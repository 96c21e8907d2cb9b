//! EmbedLayerNormalization: LayerNorm of the sum of word, position and segment embeddings, as BERT has it.
//!
//! Without ids, positions count from 0. The second output is the number of ones in each row of the mask; the third is the sum.

use crate::op::{Op, OpId};
use crate::ops::LayerNorm;
use crate::ops::attributes::{float_or, optional_input};
use crate::ops::expansion::Steps;
use crate::ops::reduce::Reduction;
use crate::tensor::Tensor;
use crate::types::ElementType;
use crate::value::ValueId;

use super::skip_layer_normalization::finish_norm;
use super::{MALFORMED, Outcome, Unfusing, is_read};

/// Where the tables, the norm's scale and bias, the mask and the position ids stand.
const WORDS: usize = 2;
const POSITIONS: usize = 3;
const SEGMENTS: usize = 4;
const GAMMA: usize = 5;
const BETA: usize = 6;
const MASK: usize = 7;
const POSITION_IDS: usize = 8;
/// The output with the number of ones in the mask.
pub(super) const COUNT: usize = 1;

pub(super) fn unfuse(at: &mut Unfusing<'_>, id: OpId) -> Outcome {
    let graph = at.graph;
    let epsilon = float_or(graph.op(id), "epsilon", 1e-12).ok_or(MALFORMED)?;
    let needed = |slot: usize| graph.input(id, slot).ok_or(MALFORMED);
    let (ids, words, positions) = (needed(0)?, needed(WORDS)?, needed(POSITIONS)?);
    let (gamma, beta) = (needed(GAMMA)?, needed(BETA)?);
    let segments = optional_input(graph, id, 1).zip(optional_input(graph, id, SEGMENTS));
    let (mask, count) = (optional_input(graph, id, MASK), graph.output(id, COUNT));
    if is_read(graph, id, COUNT) && mask.is_none() {
        return Err("it counts a mask that it does not have");
    }
    let mut steps = at.steps(id, words)?;
    let word = steps.step("Gather", &[words, ids], "words");
    let position = match optional_input(graph, id, POSITION_IDS) {
        Some(position_ids) => steps.step("Gather", &[positions, position_ids], "positions"),
        None => first_rows(&mut steps, positions, ids),
    };
    let mut sum = steps.step("Add", &[word, position], "word_and_position");
    if let Some((segment_ids, table)) = segments {
        let segment = steps.step("Gather", &[table, segment_ids], "segments");
        sum = steps.step("Add", &[sum, segment], "embeddings");
    }
    if let Some(output) = graph.output(id, 2) {
        steps.write(output, Op::new("", "Identity", vec![]), &[sum]);
    }
    if let Some((count, mask)) = count.zip(mask) {
        let one = steps.constant(Tensor::scalar(1i32), "one");
        let is_one = steps.step("Equal", &[mask, one], "is_one");
        let each = steps.cast(is_one, ElementType::I32, "each");
        let ones = steps.reduce(Reduction::Sum, each, -1, "ones");
        let flat = steps.integers("shape", &[-1]);
        steps.write(count, Op::new("", "Reshape", vec![]), &[ones, flat]);
    }
    finish_norm(steps, LayerNorm::op(-1, epsilon), &[sum, gamma, beta]);
    Ok(())
}

/// As many rows of a table as `ids`, `[B, S]`, has columns.
fn first_rows(steps: &mut Steps<'_, '_>, table: ValueId, ids: ValueId) -> ValueId {
    let shape = steps.step("Shape", &[ids], "shape");
    let [zero, one, two] = [0, 1, 2].map(|number| steps.integers("index", &[number]));
    let length = steps.step("Slice", &[shape, one, two], "length");
    steps.step("Slice", &[table, zero, length, zero], "positions")
}
