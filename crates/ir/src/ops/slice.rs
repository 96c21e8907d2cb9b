//! Slice: 1 (attributes, no steps), 10 (inputs, steps), 11 (negative axes), 13 (bfloat16).

use crate::graph::Graph;
use crate::op::OpId;
use crate::value::ValueId;

use super::attributes::{constant_ints, ints_opt, optional_input, standard};

/// The part of one axis that is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Range {
    /// The axis; negative ones count from the end.
    pub axis: i64,
    /// The first index; negative ones count from the end.
    pub start: i64,
    /// The first index that is left out; negative ones count from the end, larger ones than the size mean the end.
    pub end: i64,
    /// From one index to the next; never 0.
    pub step: i64,
}

impl Range {
    /// Whether the whole axis is kept as it is, whatever its size.
    pub fn is_whole(&self) -> bool {
        self.start == 0 && self.step == 1 && self.end >= i64::from(i32::MAX)
    }

    /// Whether the whole axis of this size is kept as it is.
    pub fn is_whole_of(&self, size: usize) -> bool {
        let size = size as i64;
        (self.start == 0 || self.start <= -size) && self.step == 1 && self.end >= size
    }
}

/// A part of a tensor, where constants say which.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Slice {
    /// The operator.
    pub op: OpId,
    /// The input.
    pub x: ValueId,
    /// What is kept, axis by axis; axes that are not listed are whole.
    pub ranges: Vec<Range>,
}

impl Slice {
    /// The view; `None` where this is no well-formed Slice, or a bound is no constant.
    pub fn at(graph: &Graph, id: OpId) -> Option<Self> {
        let op = standard(graph, id, "Slice")?;
        let given = |slot: usize, name: &str| {
            if graph.opset() < 10 {
                return ints_opt(op, name);
            }
            match optional_input(graph, id, slot) {
                None => Some(None),
                Some(value) => constant_ints(graph, value).map(Some),
            }
        };
        let (starts, ends) = (given(1, "starts")??, given(2, "ends")??);
        let axes = given(3, "axes")?.unwrap_or_else(|| (0..starts.len() as i64).collect());
        let steps = given(4, "steps")?.unwrap_or_else(|| vec![1; starts.len()]);
        let counts = [ends.len(), axes.len(), steps.len()];
        if counts.iter().any(|&count| count != starts.len()) || steps.contains(&0) {
            return None;
        }
        let ranges = (0..starts.len())
            .map(|i| Range { axis: axes[i], start: starts[i], end: ends[i], step: steps[i] })
            .collect();
        Some(Self { op: id, x: graph.input(id, 0)?, ranges })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::op::{Attribute, Op};
    use crate::ops::testing::Scene;
    use crate::tensor::Tensor;

    #[test]
    fn attributes_and_inputs_say_the_same() {
        let mut old = Scene::new(9);
        let x = old.input("x");
        let attributes =
            vec![Attribute::ints("starts", [1]), Attribute::ints("ends", [3]), Attribute::ints("axes", [2])];
        let (op, _) = old.op(Op::new("", "Slice", attributes), &[x], "y");
        let old = Slice::at(&old.finish(), op).expect("a Slice").ranges;

        let mut new = Scene::new(13);
        let x = new.input("x");
        let [start, end, axis] = [("start", 1i64), ("end", 3), ("axis", 2)]
            .map(|(name, n)| new.constant(name, Tensor::new(vec![1], vec![n])));
        let (op, _) = new.op(Op::new("", "Slice", vec![]), &[x, start, end, axis], "y");
        let (open, _) = new.op(Op::new("", "Slice", vec![]), &[x, start, x, axis], "z");
        let graph = new.finish();
        assert_eq!(Slice::at(&graph, op).expect("a Slice").ranges, old);
        assert_eq!(Slice::at(&graph, open), None);
    }

    #[test]
    fn a_whole_axis_is_known_as_such() {
        let range = |start, end, step| Range { axis: 0, start, end, step };
        assert!(range(0, i64::MAX, 1).is_whole());
        assert!(!range(0, 5, 1).is_whole() && range(0, 5, 1).is_whole_of(5) && range(-5, 9, 1).is_whole_of(5));
        assert!(!range(0, i64::MAX, 2).is_whole() && !range(0, 4, 1).is_whole_of(5) && !range(-4, 5, 1).is_whole_of(5));
    }
}
