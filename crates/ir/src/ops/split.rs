//! Split: 2 (sizes as attribute), 11 (negative axes), 13 (sizes as input), 18 (`num_outputs`).

use crate::graph::Graph;
use crate::op::OpId;
use crate::value::ValueId;

use super::attributes::{int_or, ints_by_version, standard};

/// How large the parts are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Parts {
    /// These sizes.
    Sizes(Vec<i64>),
    /// As many of equal size, the last one smaller where that does not work out.
    Equal(usize),
}

/// Cuts a tensor along an axis.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Split {
    /// The operator.
    pub op: OpId,
    /// The input.
    pub x: ValueId,
    /// Along which axis.
    pub axis: i64,
    /// Into which parts.
    pub parts: Parts,
}

impl Split {
    /// The view; `None` where this is no well-formed Split, or its sizes are no constants.
    pub fn at(graph: &Graph, id: OpId) -> Option<Self> {
        let op = standard(graph, id, "Split")?;
        let parts = match ints_by_version(graph, id, "split", 1, 13)? {
            Some(sizes) if sizes.len() == op.output_arity() => Parts::Sizes(sizes),
            Some(_) => return None,
            None => Parts::Equal(op.output_arity()),
        };
        Some(Self { op: id, x: graph.input(id, 0)?, axis: int_or(op, "axis", 0)?, parts })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::op::{Attribute, Op};
    use crate::ops::testing::Scene;
    use crate::tensor::Tensor;

    #[test]
    fn sizes_as_attribute_as_input_or_equal() {
        let mut old = Scene::new(11);
        let x = old.input("x");
        let (op, _) =
            old.op_with(Op::new("", "Split", vec![Attribute::ints("split", [1, 2])]), &[Some(x)], &["a", "b"]);
        assert_eq!(Split::at(&old.finish(), op).map(|view| view.parts), Some(Parts::Sizes(vec![1, 2])));

        let mut new = Scene::new(13);
        let x = new.input("x");
        let sizes = new.constant("sizes", Tensor::new(vec![2], vec![1i64, 2]));
        let (op, _) = new.op_with(Op::new("", "Split", vec![]), &[Some(x), Some(sizes)], &["a", "b"]);
        let (equal, _) = new.op_with(Op::new("", "Split", vec![]), &[Some(x)], &["c", "d", "e"]);
        let graph = new.finish();
        assert_eq!(Split::at(&graph, op).map(|view| view.parts), Some(Parts::Sizes(vec![1, 2])));
        assert_eq!(Split::at(&graph, equal).map(|view| view.parts), Some(Parts::Equal(3)));
    }
}
