//! Puts the bodies of local functions in the place of their calls, where somebody must look into them.
//!
//! A call stays where the function imports a domain that the model does not, can't be brought to the model's operator version,
//! or has attributes that nobody reads; and so does every call that nobody needs.

use rustc_hash::{FxHashMap, FxHashSet};

use crate::graph::Graph;
use crate::model::{Function, Model, OpsetImport};
use crate::op::{AttributeValue, Op, OpId};
use crate::ops::opset;
use crate::patch::{Output, Patch, PatchError};
use crate::value::ValueId;

/// Inlines the calls in the main graph and its bodies that contain an operator for which `matters` holds, or that lie in front
/// of one. Returns how many there were. Functions that nobody calls any more are gone.
pub fn inline(model: &mut Model, matters: fn(&Op) -> bool) -> Result<usize, PatchError> {
    if model.functions.is_empty() {
        return Ok(0);
    }
    let library = Library { functions: &model.functions, opsets: &model.opsets, matters };
    let inlined = library.inline(&mut model.graph)?;
    if inlined > 0 {
        let called = called(model);
        model.functions.retain(|function| called.contains(&key(function)));
    }
    Ok(inlined)
}

/// The functions of a model, and what they must contain.
#[derive(Clone, Copy)]
struct Library<'m> {
    functions: &'m [Function],
    opsets: &'m [OpsetImport],
    matters: fn(&Op) -> bool,
}

impl<'m> Library<'m> {
    /// Inlines in a graph, in bodies first; returns how many calls there were.
    fn inline(self, graph: &mut Graph) -> Result<usize, PatchError> {
        let mut inlined = 0;
        loop {
            let before = inlined;
            let has_calls = |body: &Graph| body.has_op(&|op| self.called(op).is_some());
            graph.change_bodies(has_calls, |body| self.inline(body).map(|count| inlined += count))?;
            for (call, body) in self.calls(graph) {
                if let Some(patch) = patch(graph, call, &body) {
                    patch.apply(graph)?;
                    inlined += 1;
                }
            }
            if inlined == before {
                return Ok(inlined);
            }
        }
    }

    /// The calls of a graph to inline, with the bodies as they will stand.
    fn calls(self, graph: &Graph) -> Vec<(OpId, Graph)> {
        let mut needed: FxHashSet<ValueId> = FxHashSet::default();
        let mut found = Vec::new();
        for id in graph.topological().into_iter().rev() {
            let op = graph.op(id);
            let holds = self.holds(op, &mut Vec::new());
            if holds || graph.outputs_of(id).into_iter().flatten().any(|value| needed.contains(&value)) {
                needed.extend(graph.inputs_of(id).into_iter().flatten().chain(graph.captures_of(id)));
                found.extend(self.called(op).and_then(|function| Some((id, self.body(function, op, graph.opset())?))));
            }
        }
        found.reverse();
        found
    }

    /// The function that an operator calls.
    fn called(self, op: &Op) -> Option<&'m Function> {
        let is_called =
            |it: &&Function| it.domain == op.domain() && it.name == op.op_type() && it.overload == op.overload();
        self.functions.iter().find(is_called)
    }

    /// Whether an operator matters, or one in its bodies or in the function that it calls.
    fn holds(self, op: &Op, around: &mut Vec<&'m str>) -> bool {
        let Some(function) = self.called(op) else {
            return (self.matters)(op) || op.bodies().any(|body| self.any_holds(body, around));
        };
        if around.contains(&function.name.as_str()) {
            return false;
        }
        around.push(&function.name);
        let holds = self.any_holds(&function.body, around);
        around.pop();
        holds
    }

    fn any_holds(self, graph: &Graph, around: &mut Vec<&'m str>) -> bool {
        graph.op_ids().any(|id| self.holds(graph.op(id), around))
    }

    /// Whether a function calls itself, which no model may.
    fn recurs(self, function: &'m Function, around: &mut Vec<&'m str>) -> bool {
        if around.contains(&function.name.as_str()) {
            return true;
        }
        around.push(&function.name);
        let recurs = self.any_recurs(&function.body, around);
        around.pop();
        recurs
    }

    fn any_recurs(self, graph: &Graph, around: &mut Vec<&'m str>) -> bool {
        graph.op_ids().any(|id| {
            let op = graph.op(id);
            self.called(op).is_some_and(|inner| self.recurs(inner, around))
                || op.bodies().any(|body| self.any_recurs(body, around))
        })
    }

    /// The body as a call has it, in this version; none where it can't be inlined.
    fn body(self, function: &'m Function, call: &Op, version: i64) -> Option<Graph> {
        let body = function.body_for(call);
        let fits = self.is_plain(&body) && !self.recurs(function, &mut Vec::new());
        (fits && body.opset() <= version).then(|| opset::raised(&body, version).ok())?
    }

    /// Whether a graph has only what the model knows, and attributes that can be read.
    fn is_plain(self, graph: &Graph) -> bool {
        graph.op_ids().all(|id| {
            let op = graph.op(id);
            let is_known =
                matches!(op.domain(), "" | "ai.onnx") || self.opsets.iter().any(|it| it.domain == op.domain());
            is_known
                && op.attributes().iter().all(|attribute| is_whole(&attribute.value))
                && op.bodies().all(|body| self.is_plain(body))
        })
    }
}

fn is_whole(value: &AttributeValue) -> bool {
    !matches!(value, AttributeValue::Opaque(_) | AttributeValue::Reference { .. })
}

/// `None` where the body holds what can't be copied.
fn patch(graph: &Graph, call: OpId, body: &Graph) -> Option<Patch> {
    let mut patch = Patch::new(graph, "inline", call);
    let prefix = match graph.op(call).name() {
        "" => graph.op(call).op_type().to_owned(),
        name => name.to_owned(),
    };
    // An output is written where the body writes it; what passes through or goes out twice is copied.
    let mut written: FxHashMap<ValueId, ValueId> = FxHashMap::default();
    let mut copied = Vec::new();
    for (slot, declared) in body.outputs().iter().enumerate() {
        let Some(outer) = graph.output(call, slot) else { continue };
        if body.producer(declared.value).is_some() && !written.contains_key(&declared.value) {
            written.insert(declared.value, outer);
        } else {
            copied.push((slot, outer));
        }
    }
    let mut arguments = graph.inputs_of(call);
    arguments.resize(body.inputs().len(), None);
    let results = patch.splice(graph, body, &arguments, &written, &prefix)?;
    for (slot, outer) in copied {
        patch.op(graph, Op::new("", "Identity", vec![]), &[results[slot]], &[Output::Take(outer)]);
    }
    patch.remove(call);
    Some(patch)
}

/// What a call names.
fn key(function: &Function) -> [String; 3] {
    [&function.domain, &function.name, &function.overload].map(Clone::clone)
}

/// Domain, name and overload of every operator of the main graph and of the functions that it calls, in bodies too.
fn called(model: &Model) -> FxHashSet<[String; 3]> {
    let mut called = FxHashSet::default();
    let mut graphs = vec![&model.graph];
    while let Some(graph) = graphs.pop() {
        for id in graph.op_ids() {
            let op = graph.op(id);
            graphs.extend(op.bodies());
            if called.insert([op.domain(), op.op_type(), op.overload()].map(str::to_owned)) {
                graphs.extend(model.function(op.domain(), op.op_type(), op.overload()).map(|function| &function.body));
            }
        }
    }
    called
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::OpsetImport;
    use crate::op::Attribute;
    use crate::ops::testing::{Scene, listing};
    use crate::types::Carried;
    use crate::verify::verify;

    fn function(name: &str, body: Graph) -> Function {
        let (domain, overload) = ("my".to_owned(), String::new());
        Function { domain, name: name.to_owned(), overload, body, defaults: Vec::new(), encoded: Carried::default() }
    }

    fn model(graph: Graph, functions: Vec<Function>) -> Model {
        let import =
            |domain: &str, version| OpsetImport { domain: domain.to_owned(), version, carried: Carried::default() };
        let opsets = vec![import("", graph.opset()), import("my", 1)];
        Model { ir_version: 8, opsets, graph, functions, ..Model::default() }
    }

    fn call(name: &str) -> Op {
        Op::new("my", name, vec![]).named(name.to_lowercase())
    }

    /// A product in a function in a function, one in front of it, one behind it.
    fn layers(attribute: Option<Attribute>) -> Model {
        let mut inner = Scene::new(12);
        let (a, w) = (inner.input("a"), inner.input("w"));
        let (_, p) = inner.op(Op::new("", "MatMul", vec![]), &[a, w], "p");
        inner.op(Op::new("", "Squeeze", vec![Attribute::ints("axes", [0])]), &[p], "s");
        let mut outer = Scene::new(13);
        let (a, w) = (outer.input("a"), outer.input("w"));
        outer.op(call("Product").named("it"), &[a, w], "q");
        let mut thin = Scene::new(13);
        let a = thin.input("a");
        thin.op(Op::new("", "Relu", attribute.into_iter().collect()), &[a], "r");
        let mut main = Scene::new(13);
        let (x, w) = (main.input("x"), main.input("w"));
        let (_, before) = main.op(call("Thin"), &[x], "before");
        let (_, y) = main.op(call("Layer"), &[before, w], "y");
        main.op(call("Thin").named("tail"), &[y], "z");
        let functions = vec![
            function("Product", inner.finish()),
            function("Layer", outer.finish()),
            function("Thin", thin.finish()),
        ];
        model(main.finish(), functions)
    }

    #[test]
    fn what_matters_and_what_lies_in_front_is_inlined() {
        let mut model = layers(None);
        assert_eq!(inline(&mut model, |op| op.is("MatMul")).expect("inlines"), 3);
        assert_eq!(verify(&model.graph), []);
        assert_eq!(
            listing(&model.graph),
            [
                "thin/Relu: before = Relu(x)",
                "layer/it/MatMul: layer/it/p = MatMul(before, w)",
                "layer/it/Squeeze: y = Squeeze(layer/it/p, layer/it/s_input1)",
                "tail: z = Thin(y)",
            ]
        );
        assert_eq!(model.functions.iter().map(|it| it.name.as_str()).collect::<Vec<_>>(), ["Thin"]);
    }

    #[test]
    fn a_body_has_the_attributes_of_its_call() {
        let of = "slope".to_owned();
        let reference = Attribute::new("alpha", AttributeValue::Reference { of, encoded: Carried::default() });
        let mut body = Scene::new(13);
        let a = body.input("a");
        let (_, p) = body.op(Op::new("", "MatMul", vec![]), &[a, a], "p");
        body.op(Op::new("", "LeakyRelu", vec![reference]), &[p], "r");
        let mut main = Scene::new(13);
        let x = main.input("x");
        main.op(Op::new("my", "Layer", vec![Attribute::float("slope", 0.5)]), &[x], "y");
        let mut model = model(main.finish(), vec![function("Layer", body.finish())]);
        assert_eq!(inline(&mut model, |op| op.is("MatMul")).expect("inlines"), 1);
        assert_eq!(verify(&model.graph), []);
        let leaky = model.graph.op_ids().find(|&op| model.graph.op(op).is("LeakyRelu")).expect("is there");
        assert_eq!(model.graph.op(leaky).float("alpha"), Some(0.5));
    }

    #[test]
    fn a_body_with_an_attribute_that_nobody_reads_stays() {
        let reference = Attribute::new("alpha", AttributeValue::Opaque(Carried::default()));
        let mut model = layers(Some(reference));
        assert_eq!(inline(&mut model, |op| op.is("MatMul")).expect("inlines"), 2);
        assert_eq!(listing(&model.graph)[0], "thin: before = Thin(x)");
    }

    #[test]
    fn a_function_that_calls_itself_stays() {
        let mut body = Scene::new(13);
        let a = body.input("a");
        let (_, p) = body.op(Op::new("", "MatMul", vec![]), &[a, a], "p");
        body.op(call("Loop"), &[p], "q");
        let mut main = Scene::new(13);
        let x = main.input("x");
        main.op(call("Loop"), &[x], "y");
        let mut model = model(main.finish(), vec![function("Loop", body.finish())]);
        assert_eq!(inline(&mut model, |op| op.is("MatMul")).expect("nothing to do"), 0);
    }

    /// A product in a branch within a function, and a call of a function within a branch.
    #[test]
    fn bodies_are_copied_and_looked_into() {
        let branch = |op: Op, captured: usize| {
            let mut body = Scene::new(13);
            let a = body.captured("a", captured);
            body.op(op, &[a, a], "p");
            Attribute::new("then_branch", AttributeValue::Graph(Box::new(body.finish())))
        };
        let product = || Op::new("", "MatMul", vec![]);
        let mut function_body = Scene::new(13);
        let a = function_body.input("a");
        function_body.op(Op::new("", "If", vec![branch(product(), a.index())]).named("within"), &[a], "r");
        let mut plain = Scene::new(13);
        let (a, b) = (plain.input("a"), plain.input("b"));
        plain.op(product(), &[a, b], "p");
        let mut main = Scene::new(13);
        let x = main.input("x");
        let (_, y) = main.op(call("Choice"), &[x], "y");
        main.op(Op::new("", "If", vec![branch(call("Product"), x.index())]).named("outer"), &[y], "z");
        let functions = vec![function("Choice", function_body.finish()), function("Product", plain.finish())];
        let mut model = model(main.finish(), functions);
        assert_eq!(inline(&mut model, |op| op.is("MatMul")).expect("inlines"), 2);
        assert_eq!(verify(&model.graph), []);
        assert_eq!(listing(&model.graph), ["choice/within: y = If(x)", "outer: z = If(y)"]);
        for op in model.graph.op_ids() {
            assert_eq!(model.graph.captures_of(op), [x]);
            let body = model.graph.op(op).bodies().next().expect("a body");
            assert!(body.op_ids().all(|inner| body.op(inner).is("MatMul")), "{:?}", listing(body));
        }
        assert!(model.functions.is_empty());
    }

    #[test]
    fn an_input_that_passes_through_is_copied() {
        let mut body = Scene::new(13);
        let a = body.input("a");
        let (_, p) = body.op(Op::new("", "MatMul", vec![]), &[a, a], "p");
        let graph = {
            let mut builder = crate::graph::Builder::new("f", 13);
            std::mem::swap(&mut builder, body.builder_mut());
            for value in [p, p, a] {
                let value_type = crate::types::ValueType::Unknown;
                builder.declare_output(crate::graph::Declared { value, value_type, carried: Carried::default() });
            }
            builder.finish()
        };
        let mut main = Scene::new(13);
        let x = main.input("x");
        main.op_with(call("Three"), &[Some(x)], &["y", "same", "back"]);
        let mut model = model(main.finish(), vec![function("Three", graph)]);
        assert_eq!(inline(&mut model, |op| op.is("MatMul")).expect("inlines"), 1);
        assert_eq!(
            listing(&model.graph),
            ["three/MatMul: y = MatMul(x, x)", ": same = Identity(y)", ": back = Identity(x)"]
        );
    }
}
