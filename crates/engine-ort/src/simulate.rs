//! Quantizing and dequantizing in plain float operators: `s * clip(round(x / s), qmin - z, qmax - z)`, which is what
//! QuantizeLinear and DequantizeLinear do, in any version and for any number of bits.

use onnxq_ir::{Graph, Op, Patch, Tensor, ValueId};
use onnxq_plan::Quantizer;

/// Adds the operators behind a value; returns the value that has the levels.
pub(crate) fn fake(
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
