//! The nodes of a logarithmic quantizer: ordinary operators that end in a table of levels.
//!
//! `code = clip(round(-k log2(x / s)), 0, n - 1)`, computed as `round(-k / ln 2 * ln(max(x, 1e-30)) + k log2(s))`, then
//! `Gather(levels, code)`.

use onnxq_ir::{Attribute, ElementType, Graph, Op, Patch, Tensor, ValueId};
use onnxq_numerics::Log;

/// Adds the nodes that quantize and dequantize `value`; returns what comes out.
pub(crate) fn activation(graph: &Graph, patch: &mut Patch, value: ValueId, quantizer: Log) -> ValueId {
    let name = graph.value(value).name().to_owned();
    let levels = quantizer.levels();
    let mut scalar = |hint: &str, number: f32| patch.constant(graph, &format!("{name}_{hint}"), Tensor::scalar(number));
    let smallest = scalar("log_floor", 1e-30);
    let factor = scalar("log_factor", quantizer.log_factor());
    let offset = scalar("log_offset", quantizer.log_offset());
    let first = scalar("log_first", 0.0);
    let last = scalar("log_last", (levels.len() - 1) as f32);
    let table = patch.constant(graph, &format!("{name}_levels"), Tensor::new(vec![levels.len()], levels));
    let mut node = |op_type: &str, attributes: Vec<Attribute>, inputs: &[ValueId], hint: &str| {
        let op = Op::new("", op_type, attributes).named(patch.node_name(graph, &format!("{name}_{op_type}")));
        patch.value(graph, op, inputs, &format!("{name}_{hint}"))
    };
    let positive = node("Max", vec![], &[value, smallest], "positive");
    let log = node("Log", vec![], &[positive], "log");
    let scaled = node("Mul", vec![], &[log, factor], "log_scaled");
    let shifted = node("Add", vec![], &[scaled, offset], "log_shifted");
    let rounded = node("Round", vec![], &[shifted], "log_rounded");
    let clipped = node("Clip", vec![], &[rounded, first, last], "log_clipped");
    let to = vec![Attribute::int("to", i64::from(ElementType::I32.code()))];
    let code = node("Cast", to, &[clipped], "code");
    node("Gather", vec![], &[table, code], "dequantized")
}
