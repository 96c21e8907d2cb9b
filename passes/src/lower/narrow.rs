//! Constants that the file held in 16 bits behind a Cast, and that stay float, are held so again.

use onnxq_ir::{Attribute, ElementType, Op, Patch, Tensor, ValueId};

use crate::pass::{Context, PassError};

/// A Cast takes about as many bytes in the file as this many elements save.
const FEWEST: usize = 64;

/// Writes what [`onnxq_plan::Plan::stored`] speaks of and nobody made codes of.
pub(crate) fn narrow(cx: &mut Context<'_>) -> Result<(), PassError> {
    let stored: Vec<(ValueId, ElementType)> =
        cx.plan.stored.iter().map(|(value, element)| (*value, *element)).collect();
    for (value, element) in stored {
        let Some(tensor) = cx.graph().try_value(value).and_then(|_| narrowed(cx, value, element)) else { continue };
        let graph = cx.graph();
        let readers = graph.readers(value);
        let Some(first) = readers.iter().map(|reader| reader.op).min_by_key(|&op| (graph.op(op).order_key(), op))
        else {
            continue;
        };
        let name = graph.value(value).name().to_owned();
        let mut patch = Patch::new(graph, "narrow", first);
        let held = patch.constant(graph, &format!("{name}_{}", element.name()), tensor);
        let to = Attribute::int("to", i64::from(ElementType::F32.code()));
        let cast = Op::new("", "Cast", vec![to]).named(patch.node_name(graph, &format!("{name}_Cast")));
        let floats = patch.value(graph, cast, &[held], &format!("{name}_float32"));
        patch.redirect(graph, value, floats);
        cx.apply(patch)?;
    }
    Ok(())
}

/// The constant in 16 bits, where it is large and that loses nothing: a pass may have changed it.
fn narrowed(cx: &Context<'_>, value: ValueId, element: ElementType) -> Option<Tensor> {
    let tensor = cx.graph().constant(value).filter(|tensor| tensor.len() >= FEWEST)?;
    let floats = tensor.view::<f32>()?;
    let narrow = Tensor::of_floats(element, tensor.shape().to_vec(), floats.to_vec())?;
    let is_same = |(a, b): (&f32, &f32)| a.to_bits() == b.to_bits();
    (!cx.graph().is_output(value) && narrow.floats()?.iter().zip(floats.iter()).all(is_same)).then_some(narrow)
}
