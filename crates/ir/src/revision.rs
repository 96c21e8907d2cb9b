//! Tells whether a graph is still what it was, without a look at it.

use std::sync::Arc;

/// The state that a graph is in. A copy of a graph is in the state of its original, until one of the two is edited; no
/// state comes back.
#[derive(Clone, Debug, Default)]
pub struct Revision(Arc<()>);

impl Revision {
    /// Ends this state. Where nobody else knows it, it can't be missed.
    pub(crate) fn end(&mut self) {
        if Arc::get_mut(&mut self.0).is_none() {
            *self = Self::default();
        }
    }
}

impl PartialEq for Revision {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }
}

impl Eq for Revision {}

#[cfg(test)]
mod tests {
    use crate::patch::{Output, Patch};
    use crate::text::parse;
    use crate::{ElementType, Graph, Op, TensorType};

    fn graph() -> Graph {
        let text = "<ir_version: 8, opset_import: [\"\" : 17]> g (float[2] x) => (float[2] y) { y = Relu (x) }";
        parse(text).expect("a model").graph
    }

    #[test]
    fn a_copy_is_in_the_same_state_until_one_is_edited() {
        let mut graph = graph();
        let (copy, known) = (graph.clone(), graph.revision().clone());
        assert_eq!(graph.revision(), copy.revision());
        let x = graph.find_value("x").expect("x");
        let mut patch = Patch::new(&graph, "test", graph.op_ids().next().expect("an operator"));
        patch.op(&graph, Op::new("", "Abs", vec![]), &[Some(x)], &[Output::New("z".to_owned())]);
        patch.apply(&mut graph).expect("applies");
        assert_ne!(graph.revision(), copy.revision());
        assert_eq!(copy.revision(), &known);
    }

    #[test]
    fn a_type_makes_a_difference() {
        let (mut one, mut other) = (graph(), graph());
        assert_ne!(one.revision(), other.revision(), "equal graphs that were made apart");
        other.clone_from(&one);
        for graph in [&mut one, &mut other] {
            let x = graph.find_value("x").expect("x");
            graph.set_type(x, TensorType::fixed(ElementType::F32, &[2]));
        }
        assert_ne!(one.revision(), other.revision(), "equal edits of two copies");
    }
}
