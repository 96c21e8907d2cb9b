//! Gelu: `x * Phi(x)`, exactly (by erf) or by tanh.
//!
//! Expands to Gelu from opset 20 on, else to Div, Erf, Add, Mul, Mul, or the form with Tanh.

use crate::graph::Graph;
use crate::op::{Attribute, Op, OpId, RECOGNISED};
use crate::ops::attributes::{standard, text_or};
use crate::value::ValueId;

use super::{node_of, recognised, stand_in};
use crate::ops::expansion::{Expansion, Steps};

/// How the normal distribution is computed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Approximation {
    /// By erf, exactly.
    None,
    /// By `tanh(sqrt(2 / pi) * (x + 0.044715 x^3))`.
    Tanh,
}

impl Approximation {
    fn name(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Tanh => "tanh",
        }
    }

    fn read(op: &Op) -> Option<Self> {
        match text_or(op, "approximate", "none")? {
            "none" => Some(Self::None),
            "tanh" => Some(Self::Tanh),
            _ => None,
        }
    }
}

/// A recognised Gelu.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Gelu {
    /// The operator.
    pub op: OpId,
    /// The input.
    pub x: ValueId,
    /// The output.
    pub output: ValueId,
    /// How it is computed.
    pub approximation: Approximation,
}

impl Gelu {
    /// The view; `None` where this is no Gelu.
    pub fn at(graph: &Graph, id: OpId) -> Option<Self> {
        let approximation = Approximation::read(recognised(graph, id, "Gelu")?)?;
        Some(Self { op: id, x: graph.input(id, 0)?, output: graph.output(id, 0)?, approximation })
    }

    /// A Gelu; reads x.
    pub fn op(approximation: Approximation) -> Op {
        Op::new(RECOGNISED, "Gelu", vec![Attribute::string("approximate", approximation.name())])
    }

    /// What stands for a Gelu of ONNX, with the same input.
    pub fn of_node(graph: &Graph, id: OpId) -> Option<Op> {
        let node = standard(graph, id, "Gelu")?;
        graph.input(id, 0)?;
        Approximation::read(node).map(|_| stand_in(node, "Gelu"))
    }
}

pub(super) fn expand(expansion: &mut Expansion<'_>, id: OpId) -> Option<()> {
    let gelu = Gelu::at(expansion.graph, id)?;
    let mut steps = expansion.of(id)?;
    if steps.newest() >= 20 {
        let node = node_of(steps.op(), "Gelu", &[]);
        steps.finish_with(node, &[Some(gelu.x)]);
        return Some(());
    }
    let inner = match gelu.approximation {
        Approximation::None => {
            let root = steps.scalar(std::f64::consts::SQRT_2);
            let scaled = steps.step("Div", &[gelu.x, root], "scaled");
            steps.step("Erf", &[scaled], "erf")
        }
        Approximation::Tanh => tanh(&mut steps, gelu.x),
    };
    let one = steps.scalar(1.0);
    let shifted = steps.step("Add", &[inner, one], "plus_one");
    let product = steps.step("Mul", &[gelu.x, shifted], "product");
    let half = steps.scalar(0.5);
    steps.finish("Mul", &[product, half]);
    Some(())
}

fn tanh(steps: &mut Steps<'_, '_>, x: ValueId) -> ValueId {
    let square = steps.step("Mul", &[x, x], "square");
    let cube = steps.step("Mul", &[x, square], "cube");
    let factor = steps.scalar(0.044_715);
    let bent = steps.step("Mul", &[factor, cube], "bent");
    let sum = steps.step("Add", &[x, bent], "sum");
    let root = steps.scalar((2.0 / std::f64::consts::PI).sqrt());
    let scaled = steps.step("Mul", &[root, sum], "scaled");
    steps.step("Tanh", &[scaled], "tanh")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ops::expand;
    use crate::ops::testing::{Scene, listing};

    fn graph(opset: i64, approximation: Approximation) -> Graph {
        let mut scene = Scene::new(opset);
        let x = scene.input("x");
        scene.op(Gelu::op(approximation), &[x], "y");
        scene.finish()
    }

    #[test]
    fn by_erf() {
        let graph = expand(&graph(17, Approximation::None), 17).expect("expands");
        assert_eq!(
            listing(&graph),
            [
                ": y_scaled = Div(x, scalar)",
                ": y_erf = Erf(y_scaled)",
                ": y_plus_one = Add(y_erf, scalar_1)",
                ": y_product = Mul(x, y_plus_one)",
                ": y = Mul(y_product, scalar_2)",
            ]
        );
    }

    #[test]
    fn by_tanh_and_as_one_node() {
        assert_eq!(listing(&expand(&graph(19, Approximation::Tanh), 19).expect("expands")).len(), 9);
        let one = expand(&graph(20, Approximation::Tanh), 20).expect("expands");
        assert_eq!(listing(&one), [": y = Gelu(x)"]);
        let op = one.op_ids().next().expect("an operator");
        assert_eq!(one.op(op).text("approximate"), Some("tanh"));
    }

    #[test]
    fn scalars_are_shared() {
        let mut scene = Scene::new(17);
        let x = scene.input("x");
        let (_, y) = scene.op(Gelu::op(Approximation::None), &[x], "y");
        scene.op(Gelu::op(Approximation::None), &[y], "z");
        let graph = expand(&scene.finish(), 17).expect("expands");
        assert_eq!(graph.initializers().len(), 3);
    }
}
