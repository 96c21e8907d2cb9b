//! Quantizing and dequantizing in plain float operators: `s * clip(round(x / s), qmin - z, qmax - z)`, which is what
//! QuantizeLinear and DequantizeLinear do, in any version and for any number of bits. In float32, between Casts where the
//! graph has float16 or bfloat16.

use std::collections::BTreeMap;

use onnxq_ir::{Attribute, ElementType, Graph, Op, OpId, Patch, PatchError, Tensor, ValueId};
use onnxq_plan::Quantizer;

/// Values that got their levels already, with the type of 16 bits that they have.
pub(crate) type Halves = BTreeMap<ValueId, ElementType>;

/// Adds the operators behind a value; returns the value that has the levels.
pub(crate) fn fake(
    patch: &mut Patch,
    graph: &Graph,
    from: ValueId,
    quantizer: &Quantizer,
    name: &str,
    halves: &mut Halves,
) -> Result<ValueId, String> {
    let known = graph.try_value(from).and_then(|_| graph.tensor_type(from)).map(|known| known.element);
    let Some(half) = known.or(halves.get(&from).copied()).filter(|element| element.is_half()) else {
        return levels(patch, graph, from, quantizer, name);
    };
    let wide = cast(patch, graph, from, ElementType::F32, name);
    let seen = levels(patch, graph, wide, quantizer, name)?;
    let narrow = cast(patch, graph, seen, half, name);
    halves.insert(narrow, half);
    Ok(narrow)
}

fn cast(patch: &mut Patch, graph: &Graph, from: ValueId, element: ElementType, name: &str) -> ValueId {
    let to = Attribute::int("to", i64::from(element.code()));
    patch.value(graph, Op::new("", "Cast", vec![to]), &[from], name)
}

/// Gives constants that hold their levels the type of 16 bits that they had in the graph without a plan.
pub(crate) fn narrow_constants(before: &Graph, planned: &mut Graph) -> Result<(), PatchError> {
    let Some(anchor) = planned.op_ids().next() else { return Ok(()) };
    let mut patch = Patch::new(planned, "narrow", anchor);
    for op in before.op_ids() {
        for (slot, value) in before.inputs_of(op).into_iter().enumerate() {
            let half = value.and_then(|value| before.constant(value)).map(Tensor::element).filter(|it| it.is_half());
            let wide =
                half.and_then(|half| wide_constant(planned, op, slot).map(|(value, tensor)| (half, value, tensor)));
            if let Some((half, value, tensor)) = wide
                && let Some(floats) = tensor.view::<f32>()
                && let Some(narrow) = Tensor::of_floats(half, tensor.shape().to_vec(), floats.into_owned())
            {
                patch.set_constant(value, narrow);
            }
        }
    }
    patch.apply(planned).map(|_| ())
}

fn wide_constant(graph: &Graph, op: OpId, slot: usize) -> Option<(ValueId, &Tensor)> {
    let value = graph.try_op(op).and_then(|_| graph.input(op, slot))?;
    graph.constant(value).map(|tensor| (value, tensor))
}

/// The same for a value of float32.
fn levels(
    patch: &mut Patch,
    graph: &Graph,
    from: ValueId,
    quantizer: &Quantizer,
    name: &str,
) -> Result<ValueId, String> {
    let steps = match quantizer {
        Quantizer::Tensor(uniform) => Steps::of(vec![], &[*uniform]),
        Quantizer::Channels { axis, channels } => {
            let rank = graph.rank(from).ok_or("a value of unknown rank is quantized per channel")?;
            let mut shape = vec![1; rank];
            *shape.get_mut(*axis).ok_or("the channels' axis is beyond the value's")? = channels.len();
            Steps::of(shape, channels)
        }
        // Biases are constants but for rare ones, which no code of int32 bounds in float32.
        Quantizer::Bias(scales) => Steps { shape: vec![scales.len()], scales: scales.clone(), bounds: None },
        Quantizer::Log(_) => return Err("logarithmic quantizers are simulated by tract alone".to_owned()),
    };
    Ok(steps.add(patch, graph, from, name))
}

/// Scales that broadcast to the value, and the bounds of codes without their zero points.
struct Steps {
    shape: Vec<usize>,
    scales: Vec<f32>,
    bounds: Option<(Vec<f32>, Vec<f32>)>,
}

impl Steps {
    fn of(shape: Vec<usize>, channels: &[onnxq_plan::Uniform]) -> Self {
        let bound = |of: fn(&onnxq_plan::Uniform) -> i32| channels.iter().map(|it| of(it) as f32).collect();
        let low = bound(|it| it.codes().start() - it.zero_point());
        let high = bound(|it| it.codes().end() - it.zero_point());
        Self { shape, scales: channels.iter().map(onnxq_plan::Uniform::scale).collect(), bounds: Some((low, high)) }
    }

    fn add(self, patch: &mut Patch, graph: &Graph, from: ValueId, name: &str) -> ValueId {
        let Self { shape, scales, bounds } = self;
        let constant = |patch: &mut Patch, what: &str, elements: Vec<f32>| {
            patch.constant(graph, &format!("{name}_{what}"), Tensor::new(shape.clone(), elements))
        };
        let plain = |patch: &mut Patch, op_type: &str, inputs: &[ValueId]| {
            patch.value(graph, Op::new("", op_type, vec![]), inputs, name)
        };
        let scale = constant(patch, "scale", scales);
        let mut steps = plain(patch, "Div", &[from, scale]);
        if let Some((low, high)) = bounds {
            let (low, high) = (constant(patch, "low", low), constant(patch, "high", high));
            steps = plain(patch, "Max", &[steps, low]);
            steps = plain(patch, "Min", &[steps, high]);
        }
        steps = plain(patch, "Round", &[steps]);
        plain(patch, "Mul", &[steps, scale])
    }
}
