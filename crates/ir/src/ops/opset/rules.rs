//! How single operators are carried over a version at which they changed.
#![expect(clippy::unnecessary_wraps, reason = "the rules of one table have one signature")]

use crate::graph::Graph;
use crate::op::{Attribute, AttributeValue, OpId};
use crate::ops::attributes::{axis_from_front, constant_tensor, int_or, optional_input};
use crate::tensor::Tensor;
use crate::types::ElementType;

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
    let rank = graph.input(id, 0).and_then(|x| graph.rank(x));
    let is_last = axis == -1 || rank.is_some_and(|rank| axis_from_front(axis, rank) == Some(rank.wrapping_sub(1)));
    if is_last {
        Ok(vec![Change::Set(Attribute::int("axis", -1))])
    } else {
        Err("it sees its input as a matrix, which newer versions do not")
    }
}

/// Scales moved by one input, and coordinates got a name for how they are computed; only whole factors mean the same.
pub(super) fn resize_11(graph: &Graph, id: OpId) -> Changes {
    let scales = graph.input(id, 1).and_then(|scales| constant_tensor(graph, scales));
    let whole = scales.is_some_and(|scales| {
        scales.to_f32().is_some_and(|scales| scales.iter().all(|&scale| scale >= 1.0 && scale.fract() == 0.0))
    });
    if !whole {
        return Err("coordinates became others for factors that are not whole");
    }
    Ok(vec![
        Change::Move { from: 1, to: 2 },
        Change::Input(1, Tensor::new(vec![0], Vec::<f32>::new())),
        Change::Set(Attribute::string("coordinate_transformation_mode", "asymmetric")),
        Change::Set(Attribute::string("nearest_mode", "floor")),
    ])
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
