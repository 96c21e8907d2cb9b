//! The nodes of a uniform quantizer: QuantizeLinear, below 8 bits a Clip on the codes, DequantizeLinear.

use onnxq_ir::{Attribute, ElementType, Graph, Op, Output, Patch, Tensor, ValueId};
use onnxq_numerics::{IntFormat, Uniform, encode_channels, pack};

use crate::names::stem;
use crate::storage::{Carrier, activation_type};

/// Quantizers and the type of their scales, which is that of the floats which come out.
pub(crate) type Scaled<Q> = (Q, ElementType);

fn scale_tensor(element: ElementType, shape: Vec<usize>, scales: Vec<f32>) -> Tensor {
    Tensor::of_floats(element, shape, scales).expect("scales are floats of 16 or 32 bits")
}

/// Adds the nodes that quantize and dequantize `value`; returns what comes out.
pub(crate) fn activation(graph: &Graph, patch: &mut Patch, value: ValueId, quantizer: Scaled<&Uniform>) -> ValueId {
    let name = stem(graph, value);
    let dequantized = Output::New(format!("{name}_dequantized"));
    pair(graph, patch, &name, value, quantizer, dequantized)
}

/// The same where `value` is an output of the graph: what comes out is that output, and what wrote it writes another value.
///
/// None where nothing writes it.
pub(crate) fn output(graph: &Graph, patch: &mut Patch, value: ValueId, quantizer: Scaled<&Uniform>) -> Option<ValueId> {
    let (producer, slot) = graph.producer(value)?;
    let name = stem(graph, value);
    let float = patch.produced(graph, &format!("{name}_float"));
    patch.produce(producer, slot, float);
    Some(pair(graph, patch, &name, float, quantizer, Output::Take(value)))
}

/// The nodes themselves: they read `from`, and are named after `name`.
fn pair(
    graph: &Graph,
    patch: &mut Patch,
    name: &str,
    from: ValueId,
    (quantizer, scales): Scaled<&Uniform>,
    to: Output,
) -> ValueId {
    let format = quantizer.format();
    let element = activation_type(format);
    let code = |code: i32| codes_tensor(&[code], format, element, vec![]);
    let scale = patch.constant(graph, &format!("{name}_scale"), scale_tensor(scales, vec![], vec![quantizer.scale()]));
    let zero_point = patch.constant(graph, &format!("{name}_zero_point"), code(quantizer.zero_point()));
    let quantize =
        Op::new("", "QuantizeLinear", vec![]).named(patch.node_name(graph, &format!("{name}_QuantizeLinear")));
    let mut codes = patch.value(graph, quantize, &[from, scale, zero_point], &format!("{name}_quantized"));
    if is_narrow(format) {
        let least = patch.constant(graph, &format!("{name}_code_min"), code(format.qmin()));
        let largest = patch.constant(graph, &format!("{name}_code_max"), code(format.qmax()));
        let clip = Op::new("", "Clip", vec![]).named(patch.node_name(graph, &format!("{name}_ClipCodes")));
        codes = patch.value(graph, clip, &[codes, least, largest], &format!("{name}_clipped"));
    }
    let dequantize =
        Op::new("", "DequantizeLinear", vec![]).named(patch.node_name(graph, &format!("{name}_DequantizeLinear")));
    let (_, outputs) = patch.op(graph, dequantize, &[codes, scale, zero_point].map(Some), &[to]);
    outputs[0].expect("an output")
}

/// Whether the type that carries the codes has more levels than the format.
fn is_narrow(format: IntFormat) -> bool {
    format.bits() != 8 && format.bits() != 16
}

/// Adds the codes of a constant and the node that dequantizes them; returns what comes out.
///
/// `axis` is none for one quantizer for all.
pub(crate) fn constant(
    graph: &Graph,
    patch: &mut Patch,
    value: ValueId,
    axis: Option<usize>,
    (quantizers, scale_type): Scaled<&[Uniform]>,
    carrier: Carrier,
) -> Option<ValueId> {
    let name = stem(graph, value);
    let tensor = graph.constant(value)?;
    let elements = tensor.to_f32()?;
    let format = quantizers.first()?.format();
    let inner = axis.map_or(elements.len(), |axis| tensor.shape()[axis + 1..].iter().product());
    let codes = encode_channels(&elements, quantizers, inner);
    let Carrier::Codes(element) = carrier else {
        let mut values = elements.into_owned();
        onnxq_numerics::fake_channels(&mut values, quantizers, inner);
        return Some(patch.constant(
            graph,
            &format!("{name}_simulated"),
            scale_tensor(scale_type, tensor.shape().to_vec(), values),
        ));
    };
    let shape: Vec<usize> = axis.map(|_| quantizers.len()).into_iter().collect();
    let zero_points: Vec<i32> = quantizers.iter().map(Uniform::zero_point).collect();
    let scales: Vec<f32> = quantizers.iter().map(Uniform::scale).collect();
    let codes = codes_tensor(&codes, format, element, tensor.shape().to_vec());
    let codes = patch.constant(graph, &format!("{name}_quantized"), codes);
    let scale = patch.constant(graph, &format!("{name}_scale"), scale_tensor(scale_type, shape.clone(), scales));
    let zero_point = codes_tensor(&zero_points, format, element, shape);
    let zero_point = patch.constant(graph, &format!("{name}_zero_point"), zero_point);
    let attributes = axis.map(|axis| Attribute::int("axis", axis as i64)).into_iter().collect();
    let dequantize =
        Op::new("", "DequantizeLinear", attributes).named(patch.node_name(graph, &format!("{name}_DequantizeLinear")));
    Some(patch.value(graph, dequantize, &[codes, scale, zero_point], &format!("{name}_dequantized")))
}

/// Codes of a format in a type that may be wider.
pub(crate) fn codes_tensor(
    codes: &[i32],
    format: IntFormat,
    element: onnxq_ir::ElementType,
    shape: Vec<usize>,
) -> Tensor {
    let carrier =
        IntFormat::new(element.bits() as u8, format.signedness()).expect("the carrier of a format is a format");
    Tensor::from_bytes(element, shape, pack(codes, carrier).into()).expect("as many codes as the shape has elements")
}
