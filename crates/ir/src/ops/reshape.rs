//! Reshape: 5 (shape as input), 13, 14 (allowzero), 19 and later (more types).

use crate::graph::Graph;
use crate::op::OpId;
use crate::value::ValueId;

use super::attributes::{constant_ints, flag_or, standard};

/// One entry of the target shape.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Target {
    /// This size.
    Size(usize),
    /// The size of the input's axis in the same place.
    Copied,
    /// What is left over.
    Inferred,
}

/// A change of shape to one that is known.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reshape {
    /// The operator.
    pub op: OpId,
    /// The input.
    pub x: ValueId,
    /// The shape that is asked for.
    pub target: Vec<Target>,
}

impl Reshape {
    /// The view; `None` where this is no well-formed Reshape, or its shape is no constant.
    pub fn at(graph: &Graph, id: OpId) -> Option<Self> {
        let op = standard(graph, id, "Reshape")?;
        let zero_is_size = flag_or(op, "allowzero", 0)?;
        let target = constant_ints(graph, graph.input(id, 1)?)?
            .into_iter()
            .map(|size| match size {
                -1 => Some(Target::Inferred),
                0 if !zero_is_size => Some(Target::Copied),
                _ => usize::try_from(size).ok().map(Target::Size),
            })
            .collect::<Option<Vec<_>>>()?;
        let inferred = target.iter().filter(|&&entry| entry == Target::Inferred).count();
        (inferred <= 1).then_some(Self { op: id, x: graph.input(id, 0)?, target })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::op::{Attribute, Op};
    use crate::ops::testing::Scene;
    use crate::tensor::Tensor;

    #[test]
    fn zero_means_what_allowzero_says() {
        let mut scene = Scene::new(14);
        let x = scene.input("x");
        let shape = scene.constant("shape", Tensor::new(vec![3], vec![0i64, -1, 4]));
        let (copied, _) = scene.op(Op::new("", "Reshape", vec![]), &[x, shape], "a");
        let (empty, _) = scene.op(Op::new("", "Reshape", vec![Attribute::int("allowzero", 1)]), &[x, shape], "b");
        let graph = scene.finish();
        let target = |op| Reshape::at(&graph, op).expect("a Reshape").target;
        assert_eq!(target(copied), [Target::Copied, Target::Inferred, Target::Size(4)]);
        assert_eq!(target(empty), [Target::Size(0), Target::Inferred, Target::Size(4)]);
    }
}
