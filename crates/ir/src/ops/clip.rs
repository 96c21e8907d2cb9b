//! Clip: 6 (attributes), 11 (inputs), 12 (integers), 13 (bfloat16).

use crate::graph::Graph;
use crate::op::OpId;
use crate::value::ValueId;

use super::attributes::{constant_tensor, float_or, optional_input, standard};

/// A bound.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Bound {
    /// There is none.
    Open,
    /// This number.
    At(f32),
    /// A number that is computed, or no float.
    Computed(ValueId),
}

/// Limits every element.
#[derive(Clone, Debug, PartialEq)]
pub struct Clip {
    /// The operator.
    pub op: OpId,
    /// The input.
    pub x: ValueId,
    /// The lower bound.
    pub min: Bound,
    /// The upper bound.
    pub max: Bound,
}

impl Clip {
    /// The view; `None` where this is no well-formed Clip.
    pub fn at(graph: &Graph, id: OpId) -> Option<Self> {
        let op = standard(graph, id, "Clip")?;
        let bound = |name: &str, slot: usize, open: f32| {
            if graph.opset() < 11 {
                let at = float_or(op, name, open)?;
                return Some(if at == open { Bound::Open } else { Bound::At(at) });
            }
            let Some(value) = optional_input(graph, id, slot) else { return Some(Bound::Open) };
            let number = constant_tensor(graph, value).and_then(|tensor| tensor.scalar_f32());
            Some(number.map_or(Bound::Computed(value), Bound::At))
        };
        Some(Self { op: id, x: graph.input(id, 0)?, min: bound("min", 1, f32::MIN)?, max: bound("max", 2, f32::MAX)? })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::op::{Attribute, Op};
    use crate::ops::testing::Scene;
    use crate::tensor::Tensor;

    #[test]
    fn bounds_as_attributes_as_inputs_or_open() {
        let mut old = Scene::new(10);
        let x = old.input("x");
        let (op, _) = old.op(Op::new("", "Clip", vec![Attribute::float("max", 6.0)]), &[x], "y");
        let view = Clip::at(&old.finish(), op).expect("a Clip");
        assert_eq!((view.min, view.max), (Bound::Open, Bound::At(6.0)));

        let mut new = Scene::new(13);
        let x = new.input("x");
        let six = new.constant("six", Tensor::scalar(6f32));
        let low = new.input("low");
        let (op, _) = new.op_with(Op::new("", "Clip", vec![]), &[Some(x), None, Some(six)], &["y"]);
        let (computed, _) = new.op(Op::new("", "Clip", vec![]), &[x, low], "z");
        let graph = new.finish();
        let view = Clip::at(&graph, op).expect("a Clip");
        assert_eq!((view.min, view.max), (Bound::Open, Bound::At(6.0)));
        assert_eq!(Clip::at(&graph, computed).map(|view| view.min), Some(Bound::Computed(low)));
    }
}
