//! What people see of an operator: its node name, or its output's where it has none.

use onnxq_ir::{Graph, OpId, ValueId};

/// The longest end of a name that new names are made of, in bytes.
const LONGEST_STEM: usize = 96;

/// What names of nodes and values made for a value begin with: its own name, or the end of that where it is long.
///
/// Exporters of TensorFlow join the names of all that they fused. Repeated for each of the six new names, they took more
/// room than codes saved. Where two values end alike, a patch tells the new names apart.
pub(crate) fn stem(graph: &Graph, value: ValueId) -> String {
    let name = graph.value(value).name();
    let start = name.len().saturating_sub(LONGEST_STEM);
    let start = (start..name.len()).find(|&at| name.is_char_boundary(at)).unwrap_or(0);
    name[start..].to_owned()
}

/// The node's name, or the name of its first output where the node has none.
pub fn label(graph: &Graph, op: OpId) -> String {
    let name = graph.op(op).name();
    if !name.is_empty() {
        return name.to_owned();
    }
    graph
        .outputs_of(op)
        .into_iter()
        .flatten()
        .next()
        .map_or_else(String::new, |value| graph.value(value).name().to_owned())
}

#[cfg(test)]
mod tests {
    use onnxq_ir::text::parse;

    use super::*;

    #[test]
    fn a_long_name_gives_its_end() {
        let long = format!("{}é{}", "a".repeat(60), "b".repeat(95));
        let model = parse("<ir_version: 8, opset_import: [\"\" : 17]> g (float[2] x) => (float[2] y) { y = Relu (x) }");
        let mut graph = model.expect("a model").graph;
        let x = graph.inputs()[0].value;
        assert_eq!(stem(&graph, x), "x");
        let mut patch = onnxq_ir::Patch::new(&graph, "test", graph.op_ids().next().expect("a Relu"));
        let value = patch.constant(&graph, &long, onnxq_ir::Tensor::scalar(1f32));
        patch.apply(&mut graph).expect("a sound patch");
        assert_eq!(stem(&graph, value), "b".repeat(95), "é lies across the cut");
    }

    #[test]
    fn a_node_without_a_name_goes_by_its_output() {
        let model = parse("<ir_version: 8, opset_import: [\"\" : 17]> g (float[2] x) => (float[2] y) { y = Relu (x) }");
        let graph = model.expect("a model").graph;
        let op = graph.op_ids().next().expect("a Relu");
        assert_eq!(label(&graph, op), "y");
    }
}
