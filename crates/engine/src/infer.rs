//! Types, shapes and constants that follow from the graph alone.
//!
//! What is reported holds for every input that the graph declares: sizes that are not fixed stay symbols throughout, and
//! a constant is reported only where no symbol is in it.

use onnxq_ir::{Dim, ElementType, Graph, Model, OpId, Tensor, TensorType, ValueId};
use onnxq_plan::{EngineError, Inferred};
use tract_onnx::prelude::InferenceModelExt;
use tract_onnx::tract_core::internal::{TDim, TypedFact, TypedModel};

use crate::guard::{Failure, guarded};
use crate::load::{Fed, load};
use crate::marked::Marked;
use crate::quantize::has_small_codes;
use crate::refusal;
use crate::split::is_large;
use crate::support::{int, reachable};
use crate::tensor::{HalfFloats, element_type, from_tract};

/// How many nodes that tract turns out not to type are left aside, one after the other, before giving up.
const ATTEMPTS: usize = 32;

/// See [`onnxq_plan::Evaluator::infer`].
pub(crate) fn infer(model: &Model) -> Result<Vec<Inferred>, EngineError> {
    let mut marked = Marked::float(&model.graph);
    marked.hand_over(model, &|_| Fed::Declared).map_err(refusal)?;
    let graph = marked.graph.as_ref();
    let values: Vec<ValueId> = graph
        .values()
        .filter(|&value| graph.producer(value).is_some() && model.graph.try_value(value).is_some())
        .collect();
    let mut refused: Vec<OpId> = Vec::new();
    loop {
        let targets = reachable(graph, &values, &refused);
        if targets.is_empty() {
            return Ok(Vec::new());
        }
        match inferred_of(model, &marked, &targets) {
            Ok(inferred) => return Ok(inferred),
            Err(failure) => {
                let culprit = failure.op.and_then(|index| graph.op_ids().find(|op| op.index() == index));
                match culprit {
                    Some(op) if refused.len() < ATTEMPTS && !refused.contains(&op) => refused.push(op),
                    _ => return Err(refusal(failure)),
                }
            }
        }
    }
}

fn inferred_of(model: &Model, marked: &Marked<'_>, targets: &[ValueId]) -> Result<Vec<Inferred>, Failure> {
    // An input with a default may be given other data: nothing may follow from the default.
    let found = typed(model, marked, targets, &|_| Fed::Declared)?;
    // Codes of a smaller type are in a byte here: the byte's type is not the value's.
    let bytes_are_bytes = !has_small_codes(&model.graph);
    let is_byte = |element| matches!(element, ElementType::I8 | ElementType::U8);
    let found = found.into_iter().flatten();
    Ok(found.filter(|it| bytes_are_bytes || !is_byte(it.tensor_type.element)).collect())
}

/// What follows about each of `targets` where the inputs are as `fed` says.
fn typed(
    model: &Model,
    marked: &Marked<'_>,
    targets: &[ValueId],
    fed: &dyn Fn(ValueId) -> Fed,
) -> Result<Vec<Option<Inferred>>, Failure> {
    let halves = halves_of(&marked.graph);
    let mut found = typed_as(model, marked, targets, fed, halves)?;
    if halves == HalfFloats::Renamed {
        let exact = typed_as(model, marked, targets, fed, HalfFloats::Widened).unwrap_or_default();
        for (at, known) in found.iter_mut().enumerate() {
            *known = known.take().map(|known| renamed(known, exact.get(at).and_then(Option::as_ref)));
        }
    }
    Ok(found)
}

/// How float16 and bfloat16 are handed over to learn types. tract has no name for bfloat16.
fn halves_of(graph: &Graph) -> HalfFloats {
    let has = |element| graph.values().any(|value| graph.tensor_type(value).is_some_and(|it| it.element == element));
    let casts = |element: ElementType| {
        let to = |op| int(graph.op(op), "to") == Some(element.code().into());
        graph.op_ids().any(|op| graph.op(op).is("Cast") && to(op))
    };
    let has = |element| has(element) || casts(element);
    if has(ElementType::BF16) && !has(ElementType::F16) { HalfFloats::Renamed } else { HalfFloats::Kept }
}

/// What is known of a value that was computed as float16 in place of bfloat16, with the constant from where it was computed
/// in float32.
fn renamed(known: Inferred, exact: Option<&Inferred>) -> Inferred {
    let Inferred { value, mut tensor_type, .. } = known;
    let constant = exact.and_then(|exact| exact.constant.clone());
    if tensor_type.element == ElementType::F16 {
        tensor_type.element = ElementType::BF16;
        let of_floats = |wide: &Tensor| {
            wide.floats().and_then(|wide_elements| {
                Tensor::of_floats(ElementType::BF16, wide.shape().to_vec(), wide_elements.into_owned())
            })
        };
        return Inferred { value, tensor_type, constant: constant.as_ref().and_then(of_floats) };
    }
    let constant = constant.filter(|constant| constant.element() == tensor_type.element);
    Inferred { value, tensor_type, constant }
}

/// The same, with float16 and bfloat16 handed over in this way.
pub(crate) fn typed_as(
    model: &Model,
    marked: &Marked<'_>,
    targets: &[ValueId],
    fed: &dyn Fn(ValueId) -> Fed,
    halves: HalfFloats,
) -> Result<Vec<Option<Inferred>>, Failure> {
    let mut loaded = load(model, &marked.graph, targets, halves, fed)?;
    marked.install(&mut loaded, halves);
    let symbols = loaded.symbols;
    let inference = loaded.model;
    let typed = guarded(|| inference.into_typed()).map_err(|failure| loaded.names.translate(&failure))?;
    let mut found = facts(&typed, targets, &symbols)?;
    // Simplifying finds more constants. Where it fails, or would not end, or take long, what is known stands.
    if !crate::load::has_scan(&marked.graph)
        && !is_large(&typed)
        && let Ok(simple) = guarded(|| typed.into_decluttered())
        && let Ok(more) = facts(&simple, targets, &symbols)
    {
        for (known, more) in found.iter_mut().zip(more) {
            let same =
                known.as_ref().zip(more.as_ref()).is_none_or(|(a, b)| a.tensor_type.element == b.tensor_type.element);
            match (known.as_mut(), more) {
                // Simplifying may put a number for a symbol: what depends on one is no constant.
                (Some(known), Some(more)) if same && known.constant.is_none() => {
                    let is_fixed =
                        |constant: &Tensor| known.tensor_type.fixed_shape().as_deref() == Some(constant.shape());
                    known.constant = more.constant.filter(is_fixed);
                }
                (None, more) => *known = more,
                _ => {}
            }
        }
    }
    Ok(found)
}

/// What the facts about the outputs say of the values that they stand for.
fn facts(
    model: &TypedModel,
    targets: &[ValueId],
    symbols: &[(TDim, String)],
) -> Result<Vec<Option<Inferred>>, Failure> {
    guarded(|| {
        let outlets = model.output_outlets()?.iter().zip(targets);
        outlets.map(|(outlet, &value)| Ok(inferred(value, model.outlet_fact(*outlet)?, symbols))).collect()
    })
}

fn inferred(value: ValueId, fact: &TypedFact, symbols: &[(TDim, String)]) -> Option<Inferred> {
    let element = element_type(fact.datum_type)?;
    let dims = fact.shape.iter().map(|dim| dimension(dim, symbols)).collect();
    let constant = fact.konst.as_deref().and_then(from_tract);
    Some(Inferred { value, tensor_type: TensorType { element, shape: Some(dims) }, constant })
}

fn dimension(dim: &TDim, symbols: &[(TDim, String)]) -> Dim {
    match dim.to_i64() {
        Ok(size) => usize::try_from(size).map_or(Dim::Unknown, Dim::Known),
        Err(_) => match symbols.iter().find(|(symbol, _)| symbol == dim) {
            Some((_, name)) => Dim::Symbol(name.clone()),
            None => Dim::Unknown,
        },
    }
}
