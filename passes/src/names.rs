//! What people see of an operator: its node name, or its output's where it has none.

use onnxq_ir::ops::{Form, Linear};
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

/// Every node name that an operator goes by: its own, and that of the MatMul that a Linear was made from.
pub fn node_names(graph: &Graph, op: OpId) -> Vec<String> {
    let mut names = vec![label(graph, op)];
    if let Some(Linear { form: Form::MatMul(Some(added)), .. }) = Linear::at(graph, op) {
        names.push(added.node);
    }
    names
}

#[cfg(test)]
mod tests {
    use onnxq_ir::text::parse;

    use super::*;
    use crate::testing::planned::Scene;

    #[test]
    fn a_node_without_a_name_goes_by_its_output() {
        let model = parse("<ir_version: 8, opset_import: [\"\" : 17]> g (float[2] x) => (float[2] y) { y = Relu (x) }");
        let graph = model.expect("a model").graph;
        let op = graph.op_ids().next().expect("a Relu");
        assert_eq!(label(&graph, op), "y");
    }

    #[test]
    fn a_linear_goes_by_both_names() {
        let scene = Scene::load("repq/linear");
        let graph = scene.graph();
        let linear = graph.op_ids().find(|&op| Linear::at(graph, op).is_some()).expect("a Linear");
        assert_eq!(node_names(graph, linear), ["fc_bias", "fc"]);
    }
}
