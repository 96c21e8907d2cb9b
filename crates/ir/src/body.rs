//! A body of If, Loop or Scan as a graph of its own, and back in its place.

use crate::graph::{Declared, Graph};
use crate::op::{Op, OpId};
use crate::tensor::Tensor;
use crate::types::{Carried, ValueType};
use crate::value::{Origin, ValueId};

/// A body as a graph of its own: what it reads of the graph around it is an input behind its own ones, or a constant where
/// its elements are known. Values and operators keep their ids.
#[derive(Clone, Debug)]
pub struct Opened {
    /// The graph.
    pub graph: Graph,
    captures: Vec<Capture>,
}

/// A value of a body that stands for one of the graph around it.
#[derive(Clone, Copy, Debug)]
struct Capture {
    inner: ValueId,
    outer: ValueId,
    /// The inner value's version when the body was opened.
    version: u32,
}

impl Opened {
    /// The body with this place among those of `owner`, if there is one. `known` gives the elements of values around it.
    pub fn body(graph: &Graph, owner: OpId, place: usize, known: impl Fn(ValueId) -> Option<Tensor>) -> Option<Self> {
        let mut body = graph.op(owner).bodies().nth(place)?.clone();
        body.reserve_names(graph.names());
        let captured = |inner: ValueId| match body.value(inner).origin {
            Origin::Captured(outer) => Some(Capture { inner, outer, version: body.value(inner).version }),
            _ => None,
        };
        let captures: Vec<Capture> = body.values().filter_map(captured).collect();
        for Capture { inner, outer, .. } in &captures {
            body.open_capture(*inner, graph.tensor_type(*outer).map(ValueType::Tensor), known(*outer));
        }
        Some(Self { graph: body, captures })
    }

    /// The inputs that stand for values of the graph around, each with that value.
    pub fn captured_inputs(&self) -> impl Iterator<Item = (ValueId, ValueId)> + '_ {
        let is_input = |capture: &&Capture| matches!(self.graph.value(capture.inner).origin, Origin::Input(_));
        self.captures.iter().filter(is_input).map(|capture| (capture.inner, capture.outer))
    }

    /// The constants that stand for values of the graph around in a later state of the graph too.
    pub fn shared_constants<'g>(&'g self, later: &'g Graph) -> impl Iterator<Item = &'g Tensor> {
        self.captures.iter().filter_map(|capture| {
            let is_same = later.try_value(capture.inner).is_some_and(|value| value.version == capture.version);
            later.constant(capture.inner).filter(|_| is_same)
        })
    }

    /// A later state of the graph as a body again: it reads what stands for values of the graph around from there, but for
    /// constants that became others.
    pub fn close(&self, mut graph: Graph) -> Graph {
        for &Capture { inner, outer, version } in &self.captures {
            let Some(value) = graph.try_value(inner) else { continue };
            match &value.origin {
                Origin::Constant(_) if value.version != version => graph.rename(inner),
                _ => graph.close_capture(inner, outer),
            }
        }
        graph
    }
}

impl Graph {
    /// Whether the graph, or one that its operators own, has such an operator.
    pub(crate) fn has_op(&self, is_one: &dyn Fn(&Op) -> bool) -> bool {
        self.op_ids().map(|id| self.op(id)).any(|op| is_one(op) || op.bodies().any(|body| body.has_op(is_one)))
    }

    /// Changes the graphs that operators own and that are wanted. Names made in a body are kept away from those around it, and
    /// those around from what is made next; the others are not touched, since that takes a copy of all names.
    pub(crate) fn change_bodies<E>(
        &mut self,
        wanted: impl Fn(&Graph) -> bool,
        mut change: impl FnMut(&mut Graph) -> Result<(), E>,
    ) -> Result<(), E> {
        let owners: Vec<OpId> = self.op_ids().filter(|&id| self.op(id).bodies().any(&wanted)).collect();
        for owner in owners {
            let outer = self.names();
            let mut inner = Vec::new();
            for body in self.op_mut(owner).bodies_mut().filter(|body| wanted(body)) {
                body.reserve_names(outer.iter().cloned());
                change(body)?;
                inner.extend(body.names());
            }
            self.reserve_names(inner);
        }
        Ok(())
    }

    /// Makes an input of a captured value, or a constant.
    fn open_capture(&mut self, inner: ValueId, value_type: Option<ValueType>, known: Option<Tensor>) {
        if let Some(value_type) = value_type {
            self.value_mut(inner).value_type = value_type;
        }
        if let Some(tensor) = known {
            self.value_mut(inner).origin = Origin::Constant(tensor);
            self.add_initializer(inner);
            return;
        }
        self.value_mut(inner).origin = Origin::Input(None);
        let value_type = self.value(inner).value_type.clone();
        self.declare_input(Declared { value: inner, value_type, carried: Carried::default() });
    }

    /// Makes a captured value of an input or constant; nothing where nobody needs it any more.
    fn close_capture(&mut self, inner: ValueId, outer: ValueId) {
        self.undeclare(inner);
        if self.reader_count(inner) == 0 && !self.is_output(inner) {
            self.remove_value(inner);
        } else {
            self.value_mut(inner).origin = Origin::Captured(outer);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::op::{Attribute, AttributeValue, Op};
    use crate::ops::testing::{Scene, listing};
    use crate::patch::Patch;
    use crate::verify::verify;

    fn scalar(x: f32) -> Tensor {
        Tensor::new(vec![], vec![x])
    }

    /// An If whose branch computes `x * w + b` of the graph around.
    fn branch() -> (Graph, OpId) {
        let mut outer = Scene::new(17);
        let (x, w) = (outer.input("x"), outer.constant("w", scalar(2.0)));
        let b = outer.constant("b", scalar(3.0));
        let mut body = Scene::new(17);
        let inner = [("x", x), ("w", w), ("b", b)].map(|(name, outer)| body.captured(name, outer.index()));
        let (_, product) = body.op(Op::new("", "Mul", vec![]), &[inner[0], inner[1]], "product");
        body.op(Op::new("", "Add", vec![]), &[product, inner[2]], "sum");
        let body = Attribute::new("then_branch", AttributeValue::Graph(Box::new(body.finish())));
        let (owner, _) = outer.op(Op::new("", "If", vec![body]), &[x], "y");
        (outer.finish(), owner)
    }

    fn open(graph: &Graph, owner: OpId) -> Opened {
        Opened::body(graph, owner, 0, |value| graph.constant(value).cloned()).expect("a body")
    }

    #[test]
    fn what_a_body_captures_is_an_input_or_a_constant() {
        let (graph, owner) = branch();
        let opened = open(&graph, owner);
        assert_eq!(verify(&opened.graph), []);
        let inputs: Vec<&str> =
            opened.graph.inputs().iter().map(|input| opened.graph.value(input.value).name()).collect();
        assert_eq!(inputs, ["x"]);
        assert_eq!(opened.captured_inputs().map(|(_, outer)| graph.value(outer).name()).collect::<Vec<_>>(), ["x"]);
        let w = opened.graph.find_value("w").expect("is there");
        assert_eq!(opened.graph.constant(w).and_then(Tensor::scalar_f32), Some(2.0));
    }

    #[test]
    fn a_body_comes_back_with_the_constants_that_changed() {
        let (mut graph, owner) = branch();
        let opened = open(&graph, owner);
        let mut changed = opened.graph.clone();
        let w = changed.find_value("w").expect("is there");
        let mut edit = Patch::new(&changed, "test", changed.op_ids().next().expect("an operator"));
        edit.set_constant(w, scalar(5.0));
        edit.apply(&mut changed).expect("applies");
        let shared: Vec<f32> = opened.shared_constants(&changed).filter_map(Tensor::scalar_f32).collect();
        assert_eq!(shared, [3.0]);
        let mut patch = Patch::new(&graph, "bodies", owner);
        patch.set_body(owner, 0, opened.close(changed));
        patch.apply(&mut graph).expect("applies");
        assert_eq!(verify(&graph), []);
        let body = graph.op(owner).bodies().next().expect("a body");
        assert_eq!(listing(body), [": product = Mul(x, w_1)", ": sum = Add(product, b)"]);
        let captured: Vec<&str> = graph.captures_of(owner).into_iter().map(|value| graph.value(value).name()).collect();
        assert_eq!(captured, ["x", "b"]);
        assert!(graph.find_value("w").is_none(), "nobody reads it any more");
        assert!(graph.is_taken("w_1"));
        assert!(body.inputs().is_empty());
    }

    #[test]
    fn a_body_that_nobody_changed_comes_back_as_it_was() {
        let (graph, owner) = branch();
        let opened = open(&graph, owner);
        let closed = opened.close(opened.graph.clone());
        let body = graph.op(owner).bodies().next().expect("a body");
        assert_eq!(listing(&closed), listing(body));
        let origins = |graph: &Graph| graph.values().map(|value| graph.value(value).origin.clone()).collect::<Vec<_>>();
        assert_eq!(origins(&closed), origins(body));
        assert_eq!(closed.initializers(), body.initializers());
    }
}
