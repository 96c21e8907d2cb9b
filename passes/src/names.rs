//! What people see of an operator: its node name, or its output's where it has none.

use onnxq_ir::{Graph, OpId};

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
    fn a_node_without_a_name_goes_by_its_output() {
        let model = parse("<ir_version: 8, opset_import: [\"\" : 17]> g (float[2] x) => (float[2] y) { y = Relu (x) }");
        let graph = model.expect("a model").graph;
        let op = graph.op_ids().next().expect("a Relu");
        assert_eq!(label(&graph, op), "y");
    }
}
