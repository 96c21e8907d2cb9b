//! Cast: 6 (type as number), 9, 13, 19 (saturate), 21 to 28 (more types, round_mode).

use crate::graph::Graph;
use crate::op::OpId;
use crate::types::ElementType;
use crate::value::ValueId;

use super::attributes::standard;

/// A change of element type.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cast {
    /// The operator.
    pub op: OpId,
    /// The input.
    pub x: ValueId,
    /// The type of the output.
    pub to: ElementType,
}

impl Cast {
    /// The view; `None` where this is no well-formed Cast.
    pub fn at(graph: &Graph, id: OpId) -> Option<Self> {
        let op = standard(graph, id, "Cast")?;
        let to = i32::try_from(op.int("to")?).ok().and_then(ElementType::from_code)?;
        Some(Self { op: id, x: graph.input(id, 0)?, to })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::op::{Attribute, Op};
    use crate::ops::testing::Scene;

    #[test]
    fn an_unknown_type_is_no_view() {
        let mut scene = Scene::new(13);
        let x = scene.input("x");
        let (op, _) = scene.op(Op::new("", "Cast", vec![Attribute::int("to", 7)]), &[x], "a");
        let (wrong, _) = scene.op(Op::new("", "Cast", vec![Attribute::int("to", 99)]), &[x], "b");
        let graph = scene.finish();
        assert_eq!(Cast::at(&graph, op).map(|view| view.to), Some(ElementType::I64));
        assert_eq!(Cast::at(&graph, wrong), None);
    }
}
