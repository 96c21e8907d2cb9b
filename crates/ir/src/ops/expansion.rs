//! What the expansions of recognised operators and of fused ones have in common: the patch, shared scalars, names, and the
//! forms of old operators by version.

use std::collections::BTreeMap;

use crate::graph::Graph;
use crate::op::{Attribute, Op, OpId};
use crate::ops::reduce::Reduction;
use crate::patch::{Output, Patch};
use crate::tensor::Tensor;
use crate::types::ElementType;
use crate::value::ValueId;

/// A recognised operator lacks what its expansion needs.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("recognised operator `{op_type}` `{name}` can't be expanded: its inputs or attributes are not what it needs")]
pub struct Malformed {
    /// The operator's type.
    pub op_type: String,
    /// The operator's node name.
    pub name: String,
}

impl Malformed {
    pub(super) fn new(graph: &Graph, id: OpId) -> Self {
        let op = graph.op(id);
        Self { op_type: op.op_type().to_owned(), name: op.name().to_owned() }
    }
}

/// Expansions of one graph in the making.
pub(crate) struct Expansion<'g> {
    pub(super) graph: &'g Graph,
    pub(super) patch: Patch,
    /// The newest version whose operators may be used for recognised ones.
    pub(super) newest: i64,
    /// Scalars made so far: element type and bits of the number as float64.
    scalars: BTreeMap<(ElementType, u64), ValueId>,
    integers: BTreeMap<(&'static str, Vec<i64>), ValueId>,
}

impl<'g> Expansion<'g> {
    /// Begins; `anchor` is any operator of the graph.
    pub(crate) fn new(graph: &'g Graph, rule: &'static str, newest: i64, anchor: OpId) -> Self {
        let patch = Patch::new(graph, rule, anchor);
        let newest = newest.min(graph.opset());
        Self { graph, patch, newest, scalars: BTreeMap::new(), integers: BTreeMap::new() }
    }

    pub(crate) fn into_patch(self) -> Patch {
        self.patch
    }

    /// Begins the expansion of one operator.
    pub(super) fn of<'e>(&'e mut self, id: OpId) -> Option<Steps<'e, 'g>> {
        let output = self.graph.output(id, 0)?;
        let element = [Some(output), self.graph.input(id, 0), self.graph.input(id, 1)]
            .into_iter()
            .flatten()
            .find_map(|value| self.graph.tensor_type(value).map(|it| it.element))
            .unwrap_or(ElementType::F32);
        self.of_element(id, element)
    }

    /// The same, where the operator is known to compute in this type.
    pub(super) fn of_element<'e>(&'e mut self, id: OpId, element: ElementType) -> Option<Steps<'e, 'g>> {
        self.patch.stand_at(self.graph, id);
        let output = self.graph.output(id, 0)?;
        Some(Steps { expansion: self, id, output, element })
    }
}

/// The expansion of one operator, step by step.
pub(super) struct Steps<'e, 'g> {
    expansion: &'e mut Expansion<'g>,
    id: OpId,
    output: ValueId,
    element: ElementType,
}

impl<'g> Steps<'_, 'g> {
    pub(super) fn graph(&self) -> &'g Graph {
        self.expansion.graph
    }

    pub(super) fn newest(&self) -> i64 {
        self.expansion.newest
    }

    pub(super) fn patch(&mut self) -> &mut Patch {
        &mut self.expansion.patch
    }

    /// The operator that is expanded.
    pub(super) fn op(&self) -> &'g Op {
        self.expansion.graph.op(self.id)
    }

    /// The type that the operator computes in.
    pub(super) fn element(&self) -> ElementType {
        self.element
    }

    /// A name for something that belongs to this operator, made from its output's.
    pub(super) fn hint(&self, part: &str) -> String {
        format!("{}_{part}", self.expansion.graph.value(self.output).name())
    }

    /// A scalar of the operator's element type, shared by all expansions of the graph.
    pub(super) fn scalar(&mut self, number: f64) -> ValueId {
        let tensor = match self.element {
            ElementType::F64 => Tensor::scalar(number),
            ElementType::F16 => Tensor::scalar(half::f16::from_f64(number)),
            ElementType::BF16 => Tensor::scalar(half::bf16::from_f64(number)),
            _ => Tensor::scalar(number as f32),
        };
        let (graph, patch) = (self.expansion.graph, &mut self.expansion.patch);
        *self
            .expansion
            .scalars
            .entry((tensor.element(), number.to_bits()))
            .or_insert_with(|| patch.constant(graph, "scalar", tensor))
    }

    /// A vector of integers named after what they are, shared by all expansions of the graph.
    pub(super) fn integers(&mut self, what: &'static str, numbers: &[i64]) -> ValueId {
        let (graph, patch) = (self.expansion.graph, &mut self.expansion.patch);
        *self
            .expansion
            .integers
            .entry((what, numbers.to_vec()))
            .or_insert_with(|| patch.constant(graph, what, Tensor::new(vec![numbers.len()], numbers.to_vec())))
    }

    /// An integer without axes.
    pub(super) fn integer(&mut self, number: i64) -> ValueId {
        self.constant(Tensor::scalar(number), "number")
    }

    /// A constant that belongs to this operator.
    pub(super) fn constant(&mut self, tensor: Tensor, part: &str) -> ValueId {
        let hint = self.hint(part);
        self.expansion.patch.constant(self.expansion.graph, &hint, tensor)
    }

    /// One operator of ONNX without attributes, whose output is `part` of this one.
    pub(super) fn step(&mut self, op_type: &str, inputs: &[ValueId], part: &str) -> ValueId {
        self.step_with(Op::new("", op_type, vec![]), inputs, part)
    }

    /// One operator whose output is `part` of this one.
    pub(super) fn step_with(&mut self, op: Op, inputs: &[ValueId], part: &str) -> ValueId {
        let op = match self.op().name() {
            "" => op,
            name => op.named(self.expansion.patch.node_name(self.expansion.graph, &format!("{name}_{part}"))),
        };
        let hint = self.hint(part);
        self.expansion.patch.value(self.expansion.graph, op, inputs, &hint)
    }

    /// A Cast.
    pub(super) fn cast(&mut self, x: ValueId, to: ElementType, part: &str) -> ValueId {
        self.step_with(Op::new("", "Cast", vec![Attribute::int("to", to.code().into())]), &[x], part)
    }

    /// A reduction over trailing axes that keeps them; `axis` is the first one, counted from the end.
    pub(super) fn reduce(&mut self, reduction: Reduction, x: ValueId, axis: i64, part: &str) -> ValueId {
        let axes = self.trailing_axes(axis);
        let keep = Attribute::int("keepdims", 1);
        if self.graph().opset() < reduction.axes_are_input_since() {
            let attributes = vec![Attribute::ints("axes", axes), keep];
            return self.step_with(Op::new("", reduction.op_type(), attributes), &[x], part);
        }
        let axes = self.integers("axes", &axes);
        self.step_with(Op::new("", reduction.op_type(), vec![keep]), &[x, axes], part)
    }

    /// Below 11 axes can't be negative; where the rank is unknown they are written so all the same, as exporters do.
    /// All reduced values have the rank of the first input.
    fn trailing_axes(&self, axis: i64) -> Vec<i64> {
        let rank = self.graph().input(self.id, 0).and_then(|input| self.graph().rank(input));
        let shift = match rank {
            Some(rank) if self.graph().opset() < 11 => rank as i64,
            _ => 0,
        };
        (axis..0).map(|axis| axis + shift).collect()
    }

    /// Ends with an operator that takes over output, name and what rides along.
    pub(super) fn finish(self, op_type: &str, inputs: &[ValueId]) {
        self.finish_as(Op::new("", op_type, vec![]), inputs);
    }

    /// The same, where the operator has attributes.
    pub(super) fn finish_as(mut self, op: Op, inputs: &[ValueId]) {
        let op = op.named(self.op().name()).with_carried(self.op().carried().clone());
        self.write(self.output, op, inputs);
        let id = self.id;
        self.expansion.patch.remove(id);
    }

    /// One operator that writes this output in the place of the one that is expanded.
    pub(super) fn write(&mut self, output: ValueId, op: Op, inputs: &[ValueId]) {
        let inputs: Vec<Option<ValueId>> = inputs.iter().copied().map(Some).collect();
        self.expansion.patch.op(self.expansion.graph, op, &inputs, &[Output::Take(output)]);
    }

    /// Ends with this operator, which takes over the output slots.
    pub(super) fn finish_with(self, op: Op, inputs: &[Option<ValueId>]) {
        let outputs: Vec<Output> = self
            .graph()
            .outputs_of(self.id)
            .into_iter()
            .map(|output| output.map_or(Output::Omitted, Output::Take))
            .collect();
        let (graph, id) = (self.expansion.graph, self.id);
        self.expansion.patch.op(graph, op, inputs, &outputs);
        self.expansion.patch.remove(id);
    }
}
