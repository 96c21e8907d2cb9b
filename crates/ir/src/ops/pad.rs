//! Pad: 2 (attributes), 11 (inputs), 13, 18 (axes), 19 (mode wrap), 21 and later (more types).

use crate::graph::Graph;
use crate::op::OpId;
use crate::value::ValueId;

use super::attributes::{constant_ints, constant_tensor, float_or, ints_opt, optional_input, standard, text_or};

/// What is put around the input.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Filling {
    /// This number (0 where the file says nothing).
    Constant(f64),
    /// A number that is computed.
    Computed,
    /// The input, mirrored.
    Reflect,
    /// The border's elements.
    Edge,
    /// The input, repeated.
    Wrap,
}

/// Puts elements around the input, where constants say how many.
#[derive(Clone, Debug, PartialEq)]
pub struct Pad {
    /// The operator.
    pub op: OpId,
    /// The input.
    pub x: ValueId,
    /// Elements before and behind; negative ones are cut off.
    pub amounts: Vec<(i64, i64)>,
    /// Which axes they belong to; `None`: all, in order.
    pub axes: Option<Vec<i64>>,
    /// What is put there.
    pub filling: Filling,
}

impl Pad {
    /// The view; `None` where this is no well-formed Pad, or its amounts are no constants.
    pub fn at(graph: &Graph, id: OpId) -> Option<Self> {
        let op = standard(graph, id, "Pad")?;
        let pads = if graph.opset() < 11 { ints_opt(op, "pads")?? } else { constant_ints(graph, graph.input(id, 1)?)? };
        let axes = match optional_input(graph, id, 3) {
            Some(axes) => Some(constant_ints(graph, axes)?),
            None => None,
        };
        if pads.len() % 2 != 0 || axes.as_ref().is_some_and(|axes| 2 * axes.len() != pads.len()) {
            return None;
        }
        let (before, behind) = pads.split_at(pads.len() / 2);
        let filling = match text_or(op, "mode", "constant")? {
            "constant" => constant_filling(graph, id)?,
            "reflect" => Filling::Reflect,
            "edge" => Filling::Edge,
            "wrap" => Filling::Wrap,
            _ => return None,
        };
        let amounts = before.iter().copied().zip(behind.iter().copied()).collect();
        Some(Self { op: id, x: graph.input(id, 0)?, amounts, axes, filling })
    }

    /// Whether nothing is put anywhere.
    pub fn is_identity(&self) -> bool {
        self.amounts.iter().all(|&amount| amount == (0, 0))
    }
}

fn constant_filling(graph: &Graph, id: OpId) -> Option<Filling> {
    if graph.opset() < 11 {
        return Some(Filling::Constant(float_or(graph.op(id), "value", 0.0)?.into()));
    }
    let Some(value) = optional_input(graph, id, 2) else { return Some(Filling::Constant(0.0)) };
    let Some(tensor) = constant_tensor(graph, value) else { return Some(Filling::Computed) };
    let number = match tensor.scalar_f32() {
        Some(number) => number.into(),
        None => *tensor.to_i64()?.first()? as f64,
    };
    Some(Filling::Constant(number))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::op::{Attribute, Op};
    use crate::ops::testing::Scene;
    use crate::tensor::Tensor;

    #[test]
    fn attributes_and_inputs_say_the_same() {
        let mut old = Scene::new(10);
        let x = old.input("x");
        let attributes = vec![Attribute::ints("pads", [0, 1, 0, 2]), Attribute::float("value", 3.0)];
        let (op, _) = old.op(Op::new("", "Pad", attributes), &[x], "y");
        let old = Pad::at(&old.finish(), op).expect("a Pad");

        let mut new = Scene::new(13);
        let x = new.input("x");
        let pads = new.constant("pads", Tensor::new(vec![4], vec![0i64, 1, 0, 2]));
        let three = new.constant("three", Tensor::scalar(3f32));
        let (op, _) = new.op(Op::new("", "Pad", vec![]), &[x, pads, three], "y");
        let new = Pad::at(&new.finish(), op).expect("a Pad");
        assert_eq!((old.amounts, old.filling), (new.amounts.clone(), new.filling));
        assert_eq!((new.amounts, new.filling), (vec![(0, 0), (1, 2)], Filling::Constant(3.0)));
    }

    #[test]
    fn zero_amounts_are_identity() {
        let mut scene = Scene::new(18);
        let x = scene.input("x");
        let pads = scene.constant("pads", Tensor::new(vec![2], vec![0i64, 0]));
        let axes = scene.constant("axes", Tensor::new(vec![1], vec![1i64]));
        let reflect = Op::new("", "Pad", vec![Attribute::string("mode", "reflect")]);
        let (op, _) = scene.op_with(reflect, &[Some(x), Some(pads), None, Some(axes)], &["y"]);
        let (open, _) = scene.op(Op::new("", "Pad", vec![]), &[x, x], "z");
        let graph = scene.finish();
        let view = Pad::at(&graph, op).expect("a Pad");
        assert!(view.is_identity() && view.filling == Filling::Reflect && view.axes == Some(vec![1]));
        assert_eq!(Pad::at(&graph, open), None);
    }
}
