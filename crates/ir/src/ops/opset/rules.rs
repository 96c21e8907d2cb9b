//! How single operators are carried over a version at which they changed.
#![expect(clippy::unnecessary_wraps, reason = "the rules of one table have one signature")]

use crate::graph::Graph;
use crate::op::{Attribute, AttributeValue, Op, OpId};
use crate::ops::attributes::{axis_from_front, constant_ints, int_or, is_last_axis, optional_input};
use crate::ops::resize::nearest_below_11;
use crate::patch::Patch;
use crate::tensor::Tensor;
use crate::types::{Dim, ElementType};
use crate::value::ValueId;

use super::{Change, has, ints_tensor};

type Changes = Result<Vec<Change>, &'static str>;

/// No way is known.
pub(super) fn refuse(_: &Graph, _: OpId) -> Changes {
    Err("its newer version means something else")
}

/// The attribute `axes` became the second input.
pub(super) fn axes(graph: &Graph, id: OpId) -> Changes {
    to_input(graph, id, "axes", 1)
}

fn to_input(graph: &Graph, id: OpId, name: &'static str, slot: usize) -> Changes {
    Ok(match ints_tensor(graph.op(id), name)? {
        Some(tensor) => vec![Change::Input(slot, tensor), Change::Drop(name)],
        None => Vec::new(),
    })
}

/// The attribute `split` became the second input.
pub(super) fn split_13(graph: &Graph, id: OpId) -> Changes {
    to_input(graph, id, "split", 1)
}

/// Without sizes, the number of parts must be said.
pub(super) fn split_18(graph: &Graph, id: OpId) -> Changes {
    let op = graph.op(id);
    if has(op, "split") || optional_input(graph, id, 1).is_some() {
        return Ok(Vec::new());
    }
    Ok(vec![Change::Set(Attribute::int("num_outputs", op.output_arity() as i64))])
}

/// Statistics per element, not per channel, are gone.
pub(super) fn batch_normalization_9(graph: &Graph, id: OpId) -> Changes {
    match int_or(graph.op(id), "spatial", 1) {
        Some(1) => Ok(vec![Change::Drop("spatial")]),
        _ => Err("it normalises every element on its own, which newer versions do not"),
    }
}

/// Outputs beyond the first changed; training is an attribute.
pub(super) fn batch_normalization(graph: &Graph, id: OpId) -> Changes {
    if graph.outputs_of(id).iter().skip(1).any(Option::is_some) {
        return Err("it writes statistics, which became others");
    }
    Ok(Vec::new())
}

/// The bounds became inputs.
pub(super) fn clip(graph: &Graph, id: OpId) -> Changes {
    let mut changes = Vec::new();
    for (name, slot) in [("min", 1), ("max", 2)] {
        changes.extend(float_to_input(graph, id, name, slot)?);
    }
    Ok(changes)
}

/// Amounts and filling became inputs.
pub(super) fn pad(graph: &Graph, id: OpId) -> Changes {
    let mut changes = to_input(graph, id, "pads", 1)?;
    changes.extend(float_to_input(graph, id, "value", 2)?);
    Ok(changes)
}

fn float_to_input(graph: &Graph, id: OpId, name: &'static str, slot: usize) -> Changes {
    let number = match graph.op(id).attribute(name) {
        None => return Ok(Vec::new()),
        Some(AttributeValue::Float(number)) => *number,
        Some(_) => return Err("an attribute is no number"),
    };
    let element = graph.input(id, 0).and_then(|x| graph.tensor_type(x)).map_or(ElementType::F32, |it| it.element);
    let tensor = match element {
        ElementType::F32 => Tensor::scalar(number),
        ElementType::F64 => Tensor::scalar(f64::from(number)),
        ElementType::F16 => Tensor::scalar(half::f16::from_f32(number)),
        _ => return Err("a number that becomes an input would be no float"),
    };
    Ok(vec![Change::Input(slot, tensor), Change::Drop(name)])
}

/// The mask became boolean.
pub(super) fn dropout_10(graph: &Graph, id: OpId) -> Changes {
    match graph.output(id, 1) {
        Some(mask) if graph.is_output(mask) || graph.reader_count(mask) > 0 => {
            Err("its mask is read, which became boolean")
        }
        _ => Ok(Vec::new()),
    }
}

/// The ratio became an input, which does not matter where nothing is dropped.
pub(super) fn dropout(_: &Graph, _: OpId) -> Changes {
    Ok(vec![Change::Drop("ratio")])
}

/// The odd element of automatic padding changed sides.
pub(super) fn conv_transpose(graph: &Graph, id: OpId) -> Changes {
    match graph.op(id).text("auto_pad") {
        Some("SAME_UPPER" | "SAME_LOWER") => Err("automatic padding became another"),
        _ => Ok(Vec::new()),
    }
}

/// Modes were renamed.
pub(super) fn grid_sample(graph: &Graph, id: OpId) -> Changes {
    Ok(match graph.op(id).text("mode") {
        Some("bilinear") => vec![Change::Set(Attribute::string("mode", "linear"))],
        Some("bicubic") => vec![Change::Set(Attribute::string("mode", "cubic"))],
        _ => Vec::new(),
    })
}

/// Softmax, LogSoftmax and Hardmax flattened their input, and their default axis was 1.
pub(super) fn softmax(graph: &Graph, id: OpId) -> Changes {
    let axis = int_or(graph.op(id), "axis", 1).ok_or("its axis is no number")?;
    let Some(x) = graph.input(id, 0) else { return Err("it has no input") };
    if is_last_axis(axis, graph.rank(x)) {
        return Ok(vec![Change::Set(Attribute::int("axis", -1))]);
    }
    if has_one_element_behind(graph, x, axis) {
        return Ok(vec![Change::Set(Attribute::int("axis", axis))]);
    }
    Ok(vec![Change::Flatten { axis }, Change::Set(Attribute::int("axis", -1))])
}

/// Whether all axes behind this one are known to be of size 1.
fn has_one_element_behind(graph: &Graph, x: ValueId, axis: i64) -> bool {
    let Some(dims) = graph.tensor_type(x).and_then(|known| known.shape) else { return false };
    let behind = axis_from_front(axis, dims.len()).and_then(|axis| dims.get(axis + 1..));
    behind.is_some_and(|behind| behind.iter().all(|dim| *dim == Dim::Known(1)))
}

/// Negative indices began to count from the end; before, they were off everywhere, as one beyond the end still is.
pub(super) fn one_hot(graph: &Graph, id: OpId) -> Changes {
    let indices = graph.input(id, 0).ok_or("it has no indices")?;
    if constant_ints(graph, indices).is_some_and(|indices| indices.iter().all(|&index| index >= 0)) {
        return Ok(Vec::new());
    }
    match graph.tensor_type(indices).map(|known| known.element) {
        Some(ElementType::I64 | ElementType::I32) => Ok(vec![Change::Compute(0, indices_in_range)]),
        _ => Err("its indices may be negative, which began to mean something, and are not known to be int64 or int32"),
    }
}

/// The indices of a OneHot with the depth in place of negative ones.
fn indices_in_range(graph: &Graph, id: OpId, patch: &mut Patch) -> Option<ValueId> {
    let (indices, depth) = (graph.input(id, 0)?, graph.input(id, 1)?);
    let element = graph.tensor_type(indices)?.element;
    let name = |end: &str| format!("{}_{end}", graph.value(indices).name());
    let zero = match element {
        ElementType::I32 => Tensor::scalar(0i32),
        _ => Tensor::scalar(0i64),
    };
    let zero = patch.constant(graph, &name("zero"), zero);
    let negative = patch.value(graph, Op::new("", "Less", vec![]), &[indices, zero], &name("negative"));
    let cast = Op::new("", "Cast", vec![Attribute::int("to", i64::from(element.code()))]);
    let depth = patch.value(graph, cast, &[depth], &name("depth"));
    let scalar = patch.constant(graph, &name("scalar"), Tensor::new(vec![0], Vec::<i64>::new()));
    let depth = patch.value(graph, Op::new("", "Reshape", vec![]), &[depth, scalar], &name("depth"));
    Some(patch.value(graph, Op::new("", "Where", vec![]), &[negative, depth, indices], &name("in_range")))
}

/// A batch axis and lengths of sequences are gone.
pub(super) fn scan(_: &Graph, _: OpId) -> Changes {
    Err("it has a batch axis, which newer versions lack")
}

/// Bounds and axes became inputs.
pub(super) fn slice(graph: &Graph, id: OpId) -> Changes {
    let mut changes = to_input(graph, id, "starts", 1)?;
    changes.extend(to_input(graph, id, "ends", 2)?);
    if changes.len() != 4 {
        return Err("it lacks its bounds");
    }
    changes.extend(to_input(graph, id, "axes", 3)?);
    Ok(changes)
}

/// The number of elements became an input.
pub(super) fn top_k(graph: &Graph, id: OpId) -> Changes {
    let k = graph.op(id).int("k").ok_or("it does not say how many elements it takes")?;
    Ok(vec![Change::Input(1, Tensor::new(vec![1], vec![k])), Change::Drop("k")])
}

/// The factors became an input.
pub(super) fn upsample_9(graph: &Graph, id: OpId) -> Changes {
    match graph.op(id).attribute("scales") {
        Some(AttributeValue::Floats(scales)) => {
            Ok(vec![Change::Input(1, Tensor::new(vec![scales.len()], scales.clone())), Change::Drop("scales")])
        }
        _ => Err("it lacks its factors"),
    }
}

/// It became a case of Resize.
pub(super) fn upsample_10(_: &Graph, _: OpId) -> Changes {
    Ok(vec![Change::Rename("Resize")])
}

/// Scales moved by one input, and coordinates got a name for how they are computed.
pub(super) fn resize_11(graph: &Graph, id: OpId) -> Changes {
    let mut changes = vec![
        Change::Move { from: 1, to: 2 },
        Change::Input(1, Tensor::new(vec![0], Vec::<f32>::new())),
        Change::Set(Attribute::string("coordinate_transformation_mode", "asymmetric")),
    ];
    if graph.op(id).text("mode").unwrap_or("nearest") == "nearest" {
        let mode = nearest_below_11(graph, id).ok_or(
            "which element is nearest became a choice, and its factors are computed or both above and below 1",
        )?;
        changes.push(Change::Set(Attribute::string("nearest_mode", mode)));
    }
    Ok(changes)
}

/// One way to compute coordinates was taken away.
pub(super) fn resize_13(graph: &Graph, id: OpId) -> Changes {
    match graph.op(id).text("coordinate_transformation_mode") {
        Some("tf_half_pixel_for_nn") => Err("its way to compute coordinates was taken away"),
        _ => Ok(Vec::new()),
    }
}

/// The default of how coordinates are computed changed.
pub(super) fn roi_align(graph: &Graph, id: OpId) -> Changes {
    if has(graph.op(id), "coordinate_transformation_mode") {
        return Ok(Vec::new());
    }
    Ok(vec![Change::Set(Attribute::string("coordinate_transformation_mode", "output_half_pixel"))])
}

/// It got another name.
pub(super) fn scatter(_: &Graph, _: OpId) -> Changes {
    Ok(vec![Change::Rename("ScatterElements")])
}

/// Integers are no longer taken.
pub(super) fn float_only(graph: &Graph, id: OpId) -> Changes {
    let element = graph.input(id, 0).and_then(|x| graph.tensor_type(x)).map(|it| it.element);
    match element {
        Some(ElementType::F32 | ElementType::F16 | ElementType::BF16 | ElementType::F64) => Ok(Vec::new()),
        _ => Err("its input is not known to be float, and integers are no longer taken"),
    }
}
