//! What people see of an operator: its node name, or its output's where it has none.

use onnxq_ir::ops::{Form, Linear};
use onnxq_ir::{Graph, OpId};

/// The node's name, or the name of its first output where the node has none.
pub fn label(graph: &Graph, op: OpId) -> String {
    let name = graph.op(op).name();
    if !name.is_empty() {
        return name.to_owned();
    }
    graph.outputs_of(op).into_iter().flatten().next().map_or_else(String::new, |value| graph.value(value).name().to_owned())
}

/// Every node name that an operator goes by: its own, and that of the MatMul that a Linear was made from.
pub fn node_names(graph: &Graph, op: OpId) -> Vec<String> {
    let mut names = vec![label(graph, op)];
    if let Some(Linear { form: Form::MatMul(Some(added)), .. }) = Linear::at(graph, op) {
        names.push(added.node);
    }
    names
}
