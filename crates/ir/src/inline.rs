//! Puts the bodies of local functions in the place of their calls, where somebody must look into them.
//!
//! A call stays where the body has bodies of its own, imports a domain that the model does not, or can't be brought to the
//! model's operator version; and so does every call that nobody needs.

use rustc_hash::{FxHashMap, FxHashSet};

use crate::graph::Graph;
use crate::model::{Function, Model};
use crate::op::{AttributeValue, Op, OpId};
use crate::ops::opset;
use crate::patch::{Output, Patch, PatchError};
use crate::value::ValueId;

/// Inlines the calls in the main graph that contain an operator for which `matters` holds, or that lie in front of one.
/// Returns how many there were. Functions that nobody calls any more are gone.
pub fn inline(model: &mut Model, matters: fn(&Op) -> bool) -> Result<usize, PatchError> {
    let mut inlined = 0;
    loop {
        let before = inlined;
        for (call, body) in calls(model, matters) {
            if let Some(patch) = patch(&model.graph, call, &body) {
                patch.apply(&mut model.graph)?;
                inlined += 1;
            }
        }
        if inlined == before {
            break;
        }
    }
    if inlined > 0 {
        let called = called(model);
        model.functions.retain(|function| called.contains(&(function.domain.clone(), function.name.clone())));
    }
    Ok(inlined)
}

/// The calls to inline, with the bodies as they will stand.
fn calls(model: &Model, matters: fn(&Op) -> bool) -> Vec<(OpId, Graph)> {
    let graph = &model.graph;
    let mut needed: FxHashSet<ValueId> = FxHashSet::default();
    let mut found = Vec::new();
    for op in graph.topological().into_iter().rev() {
        let function = function_of(model, graph.op(op));
        let holds =
            function.map_or(matters(graph.op(op)), |function| contains(model, function, matters, &mut Vec::new()));
        if holds || graph.outputs_of(op).into_iter().flatten().any(|value| needed.contains(&value)) {
            needed.extend(graph.inputs_of(op).into_iter().flatten().chain(graph.captures_of(op)));
            found.extend(function.and_then(|function| Some((op, body(model, function, op)?))));
        }
    }
    found.reverse();
    found
}

fn function_of<'m>(model: &'m Model, op: &Op) -> Option<&'m Function> {
    model.function(op.domain(), op.op_type(), op.overload())
}

/// Whether a function has an operator for which `matters` holds, in functions that it calls too.
fn contains<'m>(model: &'m Model, function: &'m Function, matters: fn(&Op) -> bool, around: &mut Vec<&'m str>) -> bool {
    if around.contains(&function.name.as_str()) {
        return false;
    }
    around.push(&function.name);
    let mut ops = function.body.op_ids().map(|id| function.body.op(id));
    let holds = ops.any(|op| match function_of(model, op) {
        Some(inner) => contains(model, inner, matters, around),
        None => matters(op),
    });
    around.pop();
    holds
}

/// Whether a function calls itself, which no model may.
fn recurs<'m>(model: &'m Model, function: &'m Function, around: &mut Vec<&'m str>) -> bool {
    if around.contains(&function.name.as_str()) {
        return true;
    }
    around.push(&function.name);
    let mut called = function.body.op_ids().filter_map(|id| function_of(model, function.body.op(id)));
    let recurs = called.any(|inner| recurs(model, inner, around));
    around.pop();
    recurs
}

/// The body as a call has it, in the model's version; none where it can't be inlined.
fn body(model: &Model, function: &Function, call: OpId) -> Option<Graph> {
    let is_plain = |op: &Op| {
        let is_known = matches!(op.domain(), "" | "ai.onnx") || model.opsets.iter().any(|it| it.domain == op.domain());
        is_known && op.attributes().iter().all(|attribute| is_whole(&attribute.value))
    };
    let body = function.body_for(model.graph.op(call));
    let fits = body.op_ids().all(|id| is_plain(body.op(id))) && !recurs(model, function, &mut Vec::new());
    (fits && body.opset() <= model.graph.opset()).then(|| opset::raised(&body, model.graph.opset()).ok())?
}

fn is_whole(value: &AttributeValue) -> bool {
    use AttributeValue::{Graph, Graphs, Opaque, Reference};
    !matches!(value, Opaque(_) | Reference { .. } | Graph(_) | Graphs(_))
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

/// Domain and name of every operator of the main graph and of the functions that it calls, in bodies too.
fn called(model: &Model) -> FxHashSet<(String, String)> {
    let mut called = FxHashSet::default();
    let mut graphs = vec![&model.graph];
    while let Some(graph) = graphs.pop() {
        for id in graph.op_ids() {
            let op = graph.op(id);
            graphs.extend(op.bodies());
            if called.insert((op.domain().to_owned(), op.op_type().to_owned())) {
                graphs.extend(function_of(model, op).map(|function| &function.body));
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
