//! Builds the small graphs of the unit tests.

use crate::graph::{Builder, Declared, Graph};
use crate::op::{Op, OpId};
use crate::tensor::Tensor;
use crate::types::{Carried, ElementType, TensorType, ValueType};
use crate::value::{Origin, Value, ValueId};

/// A graph in the making. The last operator's output becomes the graph's.
pub(crate) struct Scene {
    builder: Builder,
    last: Option<ValueId>,
}

impl Scene {
    pub(crate) fn new(opset: i64) -> Self {
        Self { builder: Builder::new("test", opset), last: None }
    }

    /// A float input of unknown shape.
    pub(crate) fn input(&mut self, name: &str) -> ValueId {
        self.declare(name, ValueType::Tensor(TensorType { element: ElementType::F32, shape: None }))
    }

    /// A float input of this shape.
    pub(crate) fn input_of(&mut self, name: &str, shape: &[usize]) -> ValueId {
        self.declare(name, ValueType::Tensor(TensorType::fixed(ElementType::F32, shape)))
    }

    fn declare(&mut self, name: &str, value_type: ValueType) -> ValueId {
        let value = self.builder.add_value(Value::new(name, value_type.clone(), Origin::Input(None)));
        self.builder.declare_input(Declared { value, value_type, carried: Carried::default() });
        value
    }

    /// What a body reads of the graph around it: the value with this id there.
    pub(crate) fn captured(&mut self, name: &str, outer: usize) -> ValueId {
        let outer = ValueId(petgraph::stable_graph::NodeIndex::new(outer));
        self.builder.add_value(Value::new(name, ValueType::Unknown, Origin::Captured(outer)))
    }

    pub(crate) fn constant(&mut self, name: &str, tensor: Tensor) -> ValueId {
        self.builder.add_value(Value::new(name, ValueType::Unknown, Origin::Constant(tensor)))
    }

    pub(crate) fn op(&mut self, op: Op, inputs: &[ValueId], output: &str) -> (OpId, ValueId) {
        let (id, outputs) = self.op_with(op, &inputs.iter().copied().map(Some).collect::<Vec<_>>(), &[output]);
        (id, outputs[0])
    }

    pub(crate) fn op_with(&mut self, op: Op, inputs: &[Option<ValueId>], outputs: &[&str]) -> (OpId, Vec<ValueId>) {
        let outputs: Vec<ValueId> = outputs
            .iter()
            .map(|name| self.builder.add_value(Value::new(*name, ValueType::Unknown, Origin::Produced)))
            .collect();
        self.last = outputs.first().copied();
        let id = self.builder.add_op(op, inputs, &outputs.iter().copied().map(Some).collect::<Vec<_>>());
        (id, outputs)
    }

    pub(crate) fn builder_mut(&mut self) -> &mut Builder {
        &mut self.builder
    }

    pub(crate) fn finish(mut self) -> Graph {
        if let Some(value) = self.last {
            let declared = Declared { value, value_type: ValueType::Unknown, carried: Carried::default() };
            self.builder.declare_output(declared);
        }
        self.builder.finish()
    }
}

/// The operators of a graph in order: node name, type, inputs, outputs.
pub(crate) fn listing(graph: &Graph) -> Vec<String> {
    let names = |values: Vec<Option<ValueId>>| {
        values.iter().map(|value| value.map_or("", |value| graph.value(value).name())).collect::<Vec<_>>().join(", ")
    };
    graph
        .topological()
        .into_iter()
        .map(|id| {
            let op = graph.op(id);
            format!("{}: {} = {}({})", op.name(), names(graph.outputs_of(id)), op.op_type(), names(graph.inputs_of(id)))
        })
        .collect()
}
