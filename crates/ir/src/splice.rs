//! Copying a body into the graph around it: what inlines a function, dissolves an If and unrolls a Loop.

use rustc_hash::FxHashMap;

use crate::graph::Graph;
use crate::op::Op;
use crate::patch::{Output, Patch};
use crate::types::ValueType;
use crate::value::{Origin, ValueId};

impl Patch {
    /// Adds copies of a body's operators to `graph`, where the patch stands. `arguments` stand for the body's inputs; an
    /// omitted one is omitted wherever it is read. What the body captures, it reads directly. A value of the body that is in
    /// `takes` is written into that value of `graph`; new names begin with `prefix`.
    ///
    /// Returns the values that stand for the body's outputs: they may be arguments or captured values. `None` where the
    /// body holds what can't be copied: a sparse initializer, or a body of its own that captures an omitted argument.
    pub fn splice(
        &mut self,
        graph: &Graph,
        body: &Graph,
        arguments: &[Option<ValueId>],
        takes: &FxHashMap<ValueId, ValueId>,
        prefix: &str,
    ) -> Option<Vec<Option<ValueId>>> {
        let mut copies: FxHashMap<ValueId, Option<ValueId>> = FxHashMap::default();
        for (declared, argument) in body.inputs().iter().zip(arguments) {
            copies.insert(declared.value, *argument);
        }
        for value in body.values() {
            match body.value(value).origin() {
                Origin::Captured(outer) => _ = copies.insert(value, Some(*outer)),
                Origin::Input(Some(_)) if copies.get(&value).copied().flatten().is_some() => {}
                Origin::Constant(tensor) | Origin::Input(Some(tensor)) => {
                    let name = format!("{prefix}/{}", body.value(value).name());
                    copies.insert(value, Some(self.constant(graph, &name, tensor.clone())));
                }
                Origin::Sparse => return None,
                Origin::Input(None) | Origin::Produced => {}
            }
        }
        for id in body.topological() {
            let source = body.op(id);
            let mut op: Op = source.clone();
            for inner in op.bodies_mut() {
                inner.recapture(|outer| copies.get(&outer).copied().flatten())?;
            }
            let name = if source.name().is_empty() { source.op_type() } else { source.name() };
            let op = op.named(self.node_name(graph, &format!("{prefix}/{name}")));
            let read = |value: ValueId| copies.get(&value).copied().flatten();
            let inputs: Vec<Option<ValueId>> =
                body.inputs_of(id).into_iter().map(|value| value.and_then(read)).collect();
            let written = body.outputs_of(id);
            let outputs: Vec<Output> = written
                .iter()
                .map(|value| match value {
                    None => Output::Omitted,
                    Some(value) => takes.get(value).map_or_else(
                        || Output::New(format!("{prefix}/{}", body.value(*value).name())),
                        |&taken| Output::Take(taken),
                    ),
                })
                .collect();
            let (_, new) = self.op(graph, op, &inputs, &outputs);
            for (value, copy) in written.into_iter().zip(new) {
                let (Some(value), Some(copy)) = (value, copy) else { continue };
                if let ValueType::Tensor(tensor_type) = body.value(value).value_type()
                    && !takes.contains_key(&value)
                {
                    self.set_type(copy, tensor_type.clone());
                }
                copies.insert(value, Some(copy));
            }
        }
        Some(body.outputs().iter().map(|declared| copies.get(&declared.value).copied().flatten()).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::op::{Attribute, AttributeValue, Op};
    use crate::ops::testing::{Scene, listing};
    use crate::tensor::Tensor;
    use crate::verify::verify;

    /// A body with a constant, an omitted argument and a body of its own that captures an argument.
    #[test]
    fn a_body_is_copied_with_all_it_reads() {
        let mut innermost = Scene::new(17);
        let captured = innermost.captured("a", 0);
        innermost.op(Op::new("", "Neg", vec![]).named("inside"), &[captured], "negated");
        let mut body = Scene::new(17);
        let (a, b) = (body.input("a"), body.input("b"));
        assert_eq!(a.index(), 0);
        let bound = body.constant("bound", Tensor::new(vec![], vec![2.0f32]));
        let (_, clipped) =
            body.op_with(Op::new("", "Clip", vec![]).named("clip"), &[Some(a), Some(b), Some(bound)], &["clipped"]);
        let branch = Attribute::new("then_branch", AttributeValue::Graph(Box::new(innermost.finish())));
        body.op(Op::new("", "If", vec![branch]).named("branch"), &[clipped[0]], "result");
        let body = body.finish();

        let mut outer = Scene::new(17);
        let x = outer.input("x");
        let (call, y) = outer.op(Op::new("d", "F", vec![]).named("call"), &[x], "y");
        let mut graph = outer.finish();
        let mut patch = Patch::new(&graph, "inline", call);
        let results = patch
            .splice(&graph, &body, &[Some(x), None], &FxHashMap::default(), "call")
            .expect("nothing is in the way");
        patch.remove(call);
        patch.op(&graph, Op::new("", "Identity", vec![]), &[results[0]], &[Output::Take(y)]);
        patch.apply(&mut graph).expect("applies");
        assert_eq!(verify(&graph), []);
        let expected = [
            "call/clip: call/clipped = Clip(x, , call/bound)",
            "call/branch: call/result = If(call/clipped)",
            ": y = Identity(call/result)",
        ];
        assert_eq!(listing(&graph), expected);
        let branch = graph.op_ids().find(|&op| graph.op(op).is("If")).expect("is there");
        assert_eq!(graph.captures_of(branch), [x]);
    }

    #[test]
    fn a_body_inside_cannot_capture_an_omitted_argument() {
        let mut innermost = Scene::new(17);
        let captured = innermost.captured("a", 0);
        innermost.op(Op::new("", "Neg", vec![]), &[captured], "negated");
        let mut body = Scene::new(17);
        let a = body.input("a");
        let branch = Attribute::new("then_branch", AttributeValue::Graph(Box::new(innermost.finish())));
        body.op(Op::new("", "If", vec![branch]), &[a], "result");
        let mut outer = Scene::new(17);
        let x = outer.input("x");
        let (call, _) = outer.op(Op::new("d", "F", vec![]), &[x], "y");
        let graph = outer.finish();
        assert!(
            Patch::new(&graph, "inline", call)
                .splice(&graph, &body.finish(), &[None], &FxHashMap::default(), "call")
                .is_none()
        );
    }
}
