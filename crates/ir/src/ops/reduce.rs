//! ReduceMean, ReduceSum, ReduceMax, ReduceMin: 1, 11 (negative axes), 13 (ReduceSum: axes as input), 18 (the others too).

use crate::graph::Graph;
use crate::op::OpId;
use crate::value::ValueId;

use super::attributes::{axis_from_front, flag_or, ints_by_version, is_last_axis, standard};

/// How the elements are joined.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reduction {
    /// Their mean.
    Mean,
    /// Their sum.
    Sum,
    /// The largest.
    Max,
    /// The smallest.
    Min,
}

impl Reduction {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Mean, Self::Sum, Self::Max, Self::Min];

    /// The operator's type.
    pub fn op_type(self) -> &'static str {
        match self {
            Self::Mean => "ReduceMean",
            Self::Sum => "ReduceSum",
            Self::Max => "ReduceMax",
            Self::Min => "ReduceMin",
        }
    }

    /// From which opset on the axes are an input.
    pub fn axes_are_input_since(self) -> i64 {
        if self == Self::Sum { 13 } else { 18 }
    }
}

/// Joins the elements along axes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reduce {
    /// The operator.
    pub op: OpId,
    /// How.
    pub reduction: Reduction,
    /// The input.
    pub x: ValueId,
    /// Along which axes.
    pub axes: Axes,
    /// Whether the axes stay, with size 1.
    pub keepdims: bool,
}

/// What is reduced.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Axes {
    /// These.
    These(Vec<i64>),
    /// All.
    All,
    /// None: the input passes as it is.
    None,
}

impl Axes {
    /// Whether just the last axis is meant.
    pub fn are_last(&self, rank: Option<usize>) -> bool {
        self.trailing(rank) == Some(-1) || (*self == Self::All && rank == Some(1))
    }

    /// The first axis, counted from the end, where all from there on are meant and no others; needs no rank for
    /// negative axes.
    pub fn trailing(&self, rank: Option<usize>) -> Option<i64> {
        let Self::These(axes) = self else { return None };
        if let [axis] = axes[..] {
            return is_last_axis(axis, rank).then_some(-1);
        }
        let mut axes = axes
            .iter()
            .map(|&axis| match rank {
                Some(rank) => axis_from_front(axis, rank).map(|axis| axis as i64 - rank as i64),
                None => (axis < 0).then_some(axis),
            })
            .collect::<Option<Vec<i64>>>()?;
        axes.sort_unstable();
        let count = axes.len() as i64;
        (count > 0 && axes.iter().copied().eq(-count..0)).then_some(-count)
    }
}

impl Reduce {
    /// The view; `None` where this is no well-formed one of the four, or its axes are no constants.
    pub fn at(graph: &Graph, id: OpId) -> Option<Self> {
        let reduction = Reduction::ALL.into_iter().find(|it| standard(graph, id, it.op_type()).is_some())?;
        let op = graph.op(id);
        let axes = ints_by_version(graph, id, "axes", 1, reduction.axes_are_input_since())?;
        let empty_passes = flag_or(op, "noop_with_empty_axes", 0)?;
        let axes = match axes.filter(|axes| !axes.is_empty()) {
            Some(axes) => Axes::These(axes),
            None if empty_passes => Axes::None,
            None => Axes::All,
        };
        let keepdims = flag_or(op, "keepdims", 1)?;
        Some(Self { op: id, reduction, x: graph.input(id, 0)?, axes, keepdims })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::op::{Attribute, Op};
    use crate::ops::testing::Scene;
    use crate::tensor::Tensor;

    #[test]
    fn axes_move_to_an_input_at_13_for_the_sum_and_at_18_for_the_rest() {
        for (opset, op_type, as_input) in
            [(13, "ReduceSum", true), (12, "ReduceSum", false), (17, "ReduceMean", false), (18, "ReduceMean", true)]
        {
            let mut scene = Scene::new(opset);
            let x = scene.input("x");
            let axes = scene.constant("axes", Tensor::new(vec![1], vec![-1i64]));
            let (op, _) = if as_input {
                scene.op(Op::new("", op_type, vec![]), &[x, axes], "y")
            } else {
                scene.op(Op::new("", op_type, vec![Attribute::ints("axes", [-1])]), &[x], "y")
            };
            let view = Reduce::at(&scene.finish(), op).expect("a reduction");
            assert_eq!((view.axes, view.keepdims), (Axes::These(vec![-1]), true), "{op_type} {opset}");
        }
    }

    #[test]
    fn no_axes_mean_all_unless_said_otherwise() {
        let mut scene = Scene::new(18);
        let x = scene.input("x");
        let (all, _) = scene.op(Op::new("", "ReduceMax", vec![Attribute::int("keepdims", 0)]), &[x], "a");
        let noop = vec![Attribute::int("noop_with_empty_axes", 1)];
        let (none, _) = scene.op(Op::new("", "ReduceMin", noop), &[x], "b");
        let graph = scene.finish();
        assert_eq!(Reduce::at(&graph, all).map(|view| (view.axes, view.keepdims)), Some((Axes::All, false)));
        assert_eq!(Reduce::at(&graph, none).map(|view| view.axes), Some(Axes::None));
    }

    #[test]
    fn trailing_axes() {
        let these = |axes: &[i64]| Axes::These(axes.to_vec());
        assert_eq!(these(&[-1]).trailing(None), Some(-1));
        assert_eq!(these(&[2]).trailing(Some(3)), Some(-1));
        assert_eq!(these(&[2]).trailing(None), None);
        assert_eq!(these(&[-1, -2]).trailing(None), Some(-2));
        assert_eq!(these(&[1, -1]).trailing(Some(3)), Some(-2));
        assert_eq!(these(&[0, 2]).trailing(Some(3)), None);
        assert!(these(&[1]).are_last(Some(2)) && !these(&[1]).are_last(Some(3)) && Axes::All.are_last(Some(1)));
    }
}
