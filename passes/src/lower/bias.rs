//! The nodes of an int32 bias: codes and DequantizeLinear.

use onnxq_ir::{Attribute, Graph, Op, Patch, Tensor, ValueId};

use crate::names::stem;

/// Adds the codes of a bias and the node that dequantizes them; returns what comes out.
pub(crate) fn constant(graph: &Graph, patch: &mut Patch, value: ValueId, scales: &[f32]) -> Option<ValueId> {
    let name = stem(graph, value);
    let tensor = graph.constant(value)?;
    let elements = tensor.to_f32()?;
    let codes: Vec<i32> =
        elements.iter().enumerate().map(|(i, b)| code(*b, scales[if scales.len() == 1 { 0 } else { i }])).collect();
    let shape: Vec<usize> = if scales.len() == 1 { vec![] } else { vec![scales.len()] };
    let codes = patch.constant(graph, &format!("{name}_quantized"), Tensor::new(tensor.shape().to_vec(), codes));
    let scale = patch.constant(graph, &format!("{name}_scale"), Tensor::new(shape.clone(), scales.to_vec()));
    let attributes = if shape.is_empty() { vec![] } else { vec![Attribute::int("axis", 0)] };
    let dequantize =
        Op::new("", "DequantizeLinear", attributes).named(patch.node_name(graph, &format!("{name}_DequantizeLinear")));
    Some(patch.value(graph, dequantize, &[codes, scale], &format!("{name}_dequantized")))
}

/// Half to even, saturated, as QuantizeLinear would.
fn code(bias: f32, scale: f32) -> i32 {
    (bias / scale).round_ties_even() as i32
}
