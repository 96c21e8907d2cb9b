//! If and Loop, which tract has for few forms or not at all: where the condition or the number of iterations is known
//! before any data is, the branch or the copies of the body take the operator's place.
//!
//! Known are constants, and what follows from the shapes of the inputs and from the elements of inputs of one number.

use onnxq_ir::{Attribute, AttributeValue, ElementType, Graph, Model, Op, OpId, Origin, Patch, Tensor, ValueId, ops};
use rustc_hash::{FxHashMap, FxHashSet};

use super::lengths::lengths;
use super::{applied, integers, take_over};
use crate::guard::Failure;
use crate::infer::typed_as;
use crate::load::{Fed, Upstream};
use crate::marked::Marked;
use crate::support::node_name;
use crate::tensor::HalfFloats;

/// A loop of more iterations is left.
const LONGEST: usize = 1024;

/// A graph of more operators and values than this comes of no loop that is worth it.
const LARGEST: usize = 1_000_000;

/// Operators whose results have a shape that depends on the data.
const DATA_SHAPED: &[&str] = &["Compress", "NonMaxSuppression", "NonZero", "Unique"];

/// Dissolves every If and Loop of the main graph that is decided, and says whether there was one. What is left is for
/// tract to judge.
pub(crate) fn dissolve(marked: &mut Marked<'_>, model: &Model, fed: &dyn Fn(ValueId) -> Fed) -> Result<bool, Failure> {
    let graph = &marked.graph;
    let decided: Vec<(OpId, Deciders)> = graph
        .op_ids()
        .filter(|&id| is_decided(graph, id))
        .filter_map(|id| Some((id, Deciders::of(graph, id)?)))
        .collect();
    let Some(&(first, _)) = decided.first() else { return Ok(false) };
    let mut patch = Patch::new(graph, "dissolve", first);
    // What lies behind another one is not known before that one is dissolved.
    let is_ready = |(_, deciders): &&(OpId, Deciders)| {
        let upstream = Upstream::of(graph, &deciders.values());
        !decided.iter().any(|(other, _)| upstream.has_op(*other))
    };
    let ready: Vec<&(OpId, Deciders)> = decided.iter().filter(is_ready).collect();
    for ((id, deciders), known) in ready.iter().zip(known(marked, model, &ready, fed)) {
        patch.stand_at(graph, *id);
        match deciders.decide(&known) {
            Some(Decision::Branch(branch)) => _ = take_branch(&mut patch, graph, *id, branch),
            Some(Decision::Iterations(count)) => _ = unroll(&mut patch, graph, *id, count),
            None => {}
        }
    }
    match applied(graph, patch)? {
        Some(dissolved) if dissolved.id_bound() > LARGEST => Err(Failure::of("the unrolled loops are too large")),
        Some(dissolved) => {
            let fewer = |op: &(OpId, Deciders)| dissolved.try_op(op.0).is_none();
            let any = decided.iter().any(fewer);
            marked.graph = std::borrow::Cow::Owned(dissolved);
            Ok(any)
        }
        None => Ok(false),
    }
}

/// Whether an If or Loop is decided by constants, by the shapes of the inputs and by inputs of one number.
pub(crate) fn is_decided(graph: &Graph, id: OpId) -> bool {
    Deciders::of(graph, id).is_some_and(|deciders| deciders.values().into_iter().all(|value| is_settled(graph, value)))
}

/// The inputs of one number that may decide about an If or Loop, and those of the lengths of sequences.
pub(crate) fn deciding_inputs(graph: &Graph) -> Vec<ValueId> {
    let measuring = read_elements(graph, lengths(graph).collect());
    let inputs = graph.inputs().iter().map(|declared| declared.value);
    let mut deciding: Vec<ValueId> =
        inputs.filter(|value| measuring.contains(value) && is_vector_of_integers(graph, *value)).collect();
    let branching: Vec<ValueId> =
        branching_inputs(graph).into_iter().filter(|value| !deciding.contains(value)).collect();
    deciding.extend(branching);
    deciding
}

/// The values whose elements decide about these: of what has a Shape or Size read, only the shape does.
fn read_elements(graph: &Graph, mut stack: Vec<ValueId>) -> FxHashSet<ValueId> {
    let mut seen = FxHashSet::default();
    while let Some(value) = stack.pop() {
        let is_new = seen.insert(value);
        let producer = graph.producer(value).map(|(op, _)| op).filter(|_| is_new);
        let reads = producer.filter(|&op| !graph.op(op).is("Shape") && !graph.op(op).is("Size"));
        if let Some(op) = reads {
            stack.extend(graph.inputs_of(op).into_iter().flatten().chain(graph.captures_of(op)));
        }
    }
    seen
}

/// Whether a value is declared as integers along one axis at most, as lengths of sequences are.
fn is_vector_of_integers(graph: &Graph, value: ValueId) -> bool {
    let is_integer = |element| matches!(element, ElementType::I32 | ElementType::I64);
    let known = graph.tensor_type(value);
    known.is_some_and(|known| is_integer(known.element) && known.rank().is_some_and(|rank| rank <= 1))
}

/// The inputs of one number that may decide about an If or Loop.
fn branching_inputs(graph: &Graph) -> Vec<ValueId> {
    let owners = graph.op_ids().filter(|&id| matches!(graph.op(id).op_type(), "If" | "Loop"));
    let read: Vec<ValueId> =
        owners.flat_map(|id| graph.inputs_of(id).into_iter().flatten().chain(graph.captures_of(id))).collect();
    if read.is_empty() {
        return Vec::new();
    }
    let upstream = Upstream::of(graph, &read);
    let inputs = graph.inputs().iter().map(|declared| declared.value);
    inputs.filter(|&value| upstream.has_value(value) && is_one_number(graph, value)).collect()
}

/// The values on which it depends which branch is taken, or how often a body runs.
enum Deciders {
    If {
        condition: ValueId,
    },
    /// A loop whose body does not end it.
    Loop {
        trips: ValueId,
        condition: Option<ValueId>,
    },
}

/// What is known of an If or Loop.
enum Decision {
    Branch(&'static str),
    Iterations(usize),
}

impl Deciders {
    fn of(graph: &Graph, id: OpId) -> Option<Self> {
        let op = graph.op(id);
        if op.is("If") {
            return Some(Self::If { condition: graph.input(id, 0)? });
        }
        let body = op.bodies().next().filter(|body| op.is("Loop") && goes_on(body))?;
        // A body of another form is none that could be copied.
        (body.inputs().len() == op.input_arity().max(2)).then_some(())?;
        Some(Self::Loop { trips: graph.input(id, 0)?, condition: graph.input(id, 1) })
    }

    fn values(&self) -> Vec<ValueId> {
        match self {
            Self::If { condition } => vec![*condition],
            Self::Loop { trips, condition } => std::iter::once(*trips).chain(*condition).collect(),
        }
    }

    /// What follows from the elements of `values`.
    fn decide(&self, known: &[Option<Tensor>]) -> Option<Decision> {
        let is_true = |tensor: &Tensor| tensor.to_i64().filter(|it| it.len() == 1).map(|it| it[0] != 0);
        match self {
            Self::If { .. } => {
                let holds = is_true(known.first()?.as_ref()?)?;
                Some(Decision::Branch(if holds { "then_branch" } else { "else_branch" }))
            }
            Self::Loop { condition, .. } => {
                let trips = known.first()?.as_ref()?.to_i64()?.first().copied()?;
                let begins = condition.is_none() || is_true(known.get(1)?.as_ref()?)?;
                let count = if begins { usize::try_from(trips.max(0)).ok()? } else { 0 };
                (count <= LONGEST).then_some(Decision::Iterations(count))
            }
        }
    }
}

/// Whether a loop's body hands its condition on, or says that it holds.
fn goes_on(body: &Graph) -> bool {
    let Some(mut value) = body.outputs().first().map(|declared| declared.value) else { return false };
    while let Some((op, _)) = body.producer(value).filter(|(op, _)| body.op(*op).is("Identity")) {
        match body.input(op, 0) {
            Some(source) => value = source,
            None => return false,
        }
    }
    let is_handed_on = body.inputs().get(1).is_some_and(|declared| declared.value == value);
    is_handed_on
        || ops::constant_tensor(body, value).and_then(|tensor| tensor.to_i64()).is_some_and(|holds| holds == [1])
}

/// Whether a value follows from constants, shapes and inputs of one number. Of what a body captures it is assumed: it is
/// asked again where the body has become part of the graph.
fn is_settled(graph: &Graph, value: ValueId) -> bool {
    let mut seen = vec![false; graph.id_bound()];
    let mut stack = vec![value];
    while let Some(value) = stack.pop() {
        if std::mem::replace(&mut seen[value.index()], true) {
            continue;
        }
        let Some((op, _)) = graph.producer(value) else {
            match graph.value(value).origin() {
                Origin::Input(_) if !is_one_number(graph, value) => return false,
                Origin::Sparse => return false,
                _ => continue,
            }
        };
        let node = graph.op(op);
        if node.is("Shape") || node.is("Size") {
            let upstream = Upstream::of(graph, &graph.inputs_of(op).into_iter().flatten().collect::<Vec<_>>());
            if graph.op_ids().any(|id| upstream.has_op(id) && DATA_SHAPED.contains(&graph.op(id).op_type())) {
                return false;
            }
            continue;
        }
        // Random operators have no inputs that would say no.
        if !crate::support::is_known(graph, op) {
            return false;
        }
        stack.extend(graph.inputs_of(op).into_iter().flatten());
        stack.extend(graph.captures_of(op));
    }
    true
}

/// Whether a value is declared as one integer or truth value.
fn is_one_number(graph: &Graph, value: ValueId) -> bool {
    graph.tensor_type(value).is_some_and(|known| {
        matches!(known.element, ElementType::I32 | ElementType::I64 | ElementType::Bool)
            && known.shape.is_some_and(|dims| dims.len() <= 1 && dims.iter().all(|dim| dim.known() == Some(1)))
    })
}

/// What is known of the deciders of each: all are asked for at once, or one by one where one of them is in the way.
fn known(
    marked: &Marked<'_>,
    model: &Model,
    ready: &[&(OpId, Deciders)],
    fed: &dyn Fn(ValueId) -> Fed,
) -> Vec<Vec<Option<Tensor>>> {
    let each: Vec<Vec<ValueId>> = ready.iter().map(|(_, deciders)| deciders.values()).collect();
    match elements(marked, model, &each.concat(), fed) {
        Ok(all) => {
            let mut all = all.into_iter();
            each.iter().map(|values| all.by_ref().take(values.len()).collect()).collect()
        }
        Err(_) => each.iter().map(|values| elements(marked, model, values, fed).unwrap_or_default()).collect(),
    }
}

/// The elements of values, where what is fed decides them.
pub(super) fn elements(
    marked: &Marked<'_>,
    model: &Model,
    values: &[ValueId],
    fed: &dyn Fn(ValueId) -> Fed,
) -> Result<Vec<Option<Tensor>>, Failure> {
    let constants: Vec<_> = values.iter().map(|&value| ops::constant_tensor(&marked.graph, value)).collect();
    if constants.iter().all(Option::is_some) {
        return Ok(constants);
    }
    // Computed as when the model runs: tract types fewer operators of float16.
    let found = typed_as(model, marked, values, fed, HalfFloats::Widened)?;
    let found = found.into_iter().map(|inferred| inferred.and_then(|it| it.constant));
    Ok(constants.into_iter().zip(found).map(|(constant, found)| constant.or(found)).collect())
}

/// The branch's operators in the place of the If.
fn take_branch(patch: &mut Patch, graph: &Graph, id: OpId, branch: &str) -> Option<()> {
    let attribute = graph.op(id).attributes().iter().find(|attribute| attribute.name == branch)?;
    let AttributeValue::Graph(body) = &attribute.value else { return None };
    let results = patch.splice(graph, body, &[], &FxHashMap::default(), node_name(graph, id))?;
    take_over(patch, graph, id, &results)
}

/// Copies of a Loop's body, one behind the other, in the place of the Loop. What they scan out is stacked.
fn unroll(patch: &mut Patch, graph: &Graph, id: OpId, count: usize) -> Option<()> {
    let body = graph.op(id).bodies().next()?;
    let mut carried: Vec<Option<ValueId>> = graph.inputs_of(id).into_iter().skip(2).collect();
    let scans = body.outputs().len().checked_sub(1 + carried.len())?;
    let mut stacks: Vec<Vec<ValueId>> = vec![Vec::new(); scans];
    let holds = Tensor::from_bytes(ElementType::Bool, vec![], vec![1u8].into()).ok()?;
    let holds = patch.constant(graph, "holds", holds);
    for iteration in 0..count {
        let number = patch.constant(graph, "iteration", Tensor::new(vec![], vec![iteration as i64]));
        let mut arguments = vec![Some(number), Some(holds)];
        arguments.extend(&carried);
        let prefix = format!("{}/{iteration}", node_name(graph, id));
        let mut results = patch.splice(graph, body, &arguments, &FxHashMap::default(), &prefix)?.into_iter().skip(1);
        carried = results.by_ref().take(carried.len()).collect();
        for (stack, result) in stacks.iter_mut().zip(results) {
            stack.push(layer(patch, graph, result?));
        }
    }
    for stack in &stacks {
        let join = Op::new("", "Concat", vec![Attribute::int("axis", 0)]);
        let stacked = match stack.as_slice() {
            [] => no_layers(patch, graph, id, carried.len())?,
            layers => patch.value(graph, join, layers, "stacked"),
        };
        carried.push(Some(stacked));
    }
    take_over(patch, graph, id, &carried)
}

/// What a loop that does not run scans out into a slot: no layers, of the shape that the body declares. Where it declares
/// none, that does not matter if nobody reads them.
fn no_layers(patch: &mut Patch, graph: &Graph, id: OpId, slot: usize) -> Option<ValueId> {
    let (body, value) = (graph.op(id).bodies().next()?, graph.output(id, slot));
    // The first output of a body is its condition.
    let known = body.tensor_type(body.outputs().get(slot + 1)?.value);
    let dims = known.as_ref().and_then(|known| known.shape.as_ref()?.iter().map(onnxq_ir::Dim::known).collect());
    let is_read = value.is_some_and(|value| graph.reader_count(value) > 0 || graph.is_output(value));
    let dims: Vec<usize> = dims.or((!is_read).then(Vec::new))?;
    let shape = std::iter::once(0).chain(dims).collect();
    let element = known.map_or(ElementType::F32, |known| known.element);
    Some(patch.constant(graph, "no_layers", Tensor::from_bytes(element, shape, Vec::new().into()).ok()?))
}

/// A value with a new axis in front.
fn layer(patch: &mut Patch, graph: &Graph, value: ValueId) -> ValueId {
    if graph.opset() < 13 {
        let op = Op::new("", "Unsqueeze", vec![Attribute::ints("axes", [0])]);
        return patch.value(graph, op, &[value], "layer");
    }
    let axes = integers(patch, graph, [0]);
    patch.value(graph, Op::new("", "Unsqueeze", vec![]), &[value, axes], "layer")
}
