//! The nodes of a quantized embedding table: rows of codes are picked, then scaled.
//!
//! Scales are float32 whatever the table's type is, which comes back with a Cast.
//! A DequantizeLinear in front of the Gather would make floats of the whole table at every run.

use onnxq_ir::ops::Gather;
use onnxq_ir::{Attribute, ElementType, Graph, Op, OpId, Output, Patch, Tensor};
use onnxq_numerics::{Uniform, encode_channels};

use super::uniform::codes_tensor;
use crate::names::stem;
use crate::storage::activation_type;

/// Lets `op`, a Gather of rows of a constant, pick codes and scales; none where it is no such Gather.
///
/// There is one symmetric quantizer a row. Codes are stored in 8 bits whatever their width, since Gather packs none.
pub(crate) fn rows(graph: &Graph, patch: &mut Patch, op: OpId, quantizers: &[Uniform]) -> Option<()> {
    let gather = Gather::at(graph, op)?;
    let output = graph.output(op, 0)?;
    let name = stem(graph, gather.data);
    let tensor = graph.constant(gather.data)?;
    let &[rows, width] = tensor.shape() else { return None };
    let format = quantizers.first()?.format();
    let codes = encode_channels(&tensor.to_f32()?, quantizers, width);
    let codes = codes_tensor(&codes, format, activation_type(format), vec![rows, width]);
    let codes = patch.constant(graph, &format!("{name}_quantized"), codes);
    let scales = Tensor::new(vec![rows, 1], quantizers.iter().map(Uniform::scale).collect::<Vec<f32>>());
    let scales = patch.constant(graph, &format!("{name}_scale"), scales);
    let pick = |patch: &mut Patch, from, what: &str| {
        let node = Op::new("", "Gather", vec![]).named(patch.node_name(graph, &format!("{name}_{what}_Gather")));
        patch.value(graph, node, &[from, gather.indices], &format!("{name}_{what}_rows"))
    };
    let codes = pick(patch, codes, "quantized");
    let scales = pick(patch, scales, "scale");
    let to = Attribute::int("to", i64::from(ElementType::F32.code()));
    let cast = Op::new("", "Cast", vec![to]).named(patch.node_name(graph, &format!("{name}_Cast")));
    let floats = patch.value(graph, cast, &[codes], &format!("{name}_cast"));
    let scale = Op::new("", "Mul", vec![]).named(patch.node_name(graph, &format!("{name}_Mul")));
    let inputs = [Some(floats), Some(scales)];
    if tensor.element() == ElementType::F32 {
        patch.op(graph, scale, &inputs, &[Output::Take(output)]);
    } else {
        let (_, wide) = patch.op(graph, scale, &inputs, &[Output::New(format!("{name}_float32"))]);
        let to = Attribute::int("to", i64::from(tensor.element().code()));
        let narrow = Op::new("", "Cast", vec![to]).named(patch.node_name(graph, &format!("{name}_rows_Cast")));
        patch.op(graph, narrow, &wide, &[Output::Take(output)]);
    }
    patch.remove(op);
    Some(())
}
