//! A light copy of a graph to try a runtime's own rewrites on: operators by name, values with what is known of them.
//!
//! Nothing here is written to a file, and no tensor is computed: a value that depends on constants alone is known to be
//! one, and that is enough to tell which kernels fuse.

use std::collections::{BTreeSet, HashMap};

use onnxq_ir::ops::{Direction, QuantizeLinear, constant_tensor};
use onnxq_ir::{Dim, ElementType, Graph, OpId, Origin, Tensor, ValueId};

/// Takes numbers to codes.
pub(super) const QUANTIZE: &str = "QuantizeLinear";
/// Takes codes to numbers.
pub(super) const DEQUANTIZE: &str = "DequantizeLinear";

/// A node, by its place in the sketch.
pub(super) type NodeIx = usize;
/// A value, by its place in the sketch.
pub(super) type ValueIx = usize;

/// What is known of a value that depends on constants alone.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Fixed {
    /// It does not.
    No,
    /// It is this tensor.
    Tensor(Tensor),
    /// It is computed once, when the model is loaded.
    Folded,
}

/// A value.
#[derive(Clone, Debug)]
pub(super) struct Value {
    pub(super) element: Option<ElementType>,
    pub(super) shape: Option<Vec<Dim>>,
    pub(super) fixed: Fixed,
    pub(super) is_output: bool,
    pub(super) producer: Option<NodeIx>,
    /// Where it is read; what a body captures has no slot.
    pub(super) readers: BTreeSet<(NodeIx, Option<usize>)>,
}

/// An operator.
#[derive(Clone, Debug)]
pub(super) struct Node {
    /// The type, with its domain where that is not ONNX's own.
    pub(super) kind: String,
    /// The operator in the file; none for what a rewrite adds.
    pub(super) at: Option<OpId>,
    pub(super) inputs: Vec<Option<ValueIx>>,
    pub(super) outputs: Vec<Option<ValueIx>>,
    /// Whether a rewrite took it out.
    pub(super) is_gone: bool,
    /// Whether it dequantizes a matrix that a rewrite transposed, so that its axis is the other one.
    pub(super) is_transposed: bool,
}

/// Scale or zero point.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Parameter {
    /// There is none.
    Absent,
    /// One number for the tensor.
    One(Tensor),
    /// Several.
    Many,
    /// Not known before the model runs.
    Computed,
}

/// The light copy of a graph.
#[derive(Clone)]
pub(super) struct Sketch<'g> {
    pub(super) graph: &'g Graph,
    pub(super) nodes: Vec<Node>,
    pub(super) values: Vec<Value>,
    places: HashMap<ValueId, ValueIx>,
}

impl<'g> Sketch<'g> {
    /// The copy of a graph, without what is folded and what nobody reads. A body knows the constants of the graph `around`.
    pub(super) fn of(graph: &'g Graph, around: Option<&Sketch<'_>>) -> Self {
        let mut sketch = Self { graph, nodes: Vec::new(), values: Vec::new(), places: HashMap::new() };
        graph.values().for_each(|id| sketch.copy_value(id, around));
        graph.topological().into_iter().for_each(|id| sketch.copy_node(id));
        sketch.drop_unread();
        sketch
    }

    fn copy_value(&mut self, id: ValueId, around: Option<&Sketch<'_>>) {
        let known = self.graph.tensor_type(id);
        let fixed = match self.graph.value(id).origin() {
            Origin::Constant(tensor) => Fixed::Tensor(tensor.clone()),
            Origin::Captured(outer) => around
                .and_then(|around| around.places.get(outer).map(|&place| around.values[place].fixed.clone()))
                .unwrap_or(Fixed::No),
            Origin::Input(_) | Origin::Produced | Origin::Sparse => Fixed::No,
        };
        self.places.insert(id, self.values.len());
        self.values.push(Value {
            element: known.as_ref().map(|known| known.element),
            shape: known.and_then(|known| known.shape),
            fixed,
            is_output: self.graph.is_output(id),
            producer: None,
            readers: BTreeSet::new(),
        });
    }

    fn copy_node(&mut self, id: OpId) {
        let op = self.graph.op(id);
        let place = |value: Option<ValueId>| value.map(|value| self.places[&value]);
        let inputs: Vec<_> = self.graph.inputs_of(id).into_iter().map(place).collect();
        let outputs: Vec<_> = self.graph.outputs_of(id).into_iter().map(place).collect();
        let captures: Vec<_> = self.graph.captures_of(id).iter().map(|value| self.places[value]).collect();
        if let (true, [Some(x)], [Some(y)]) = (op.is("Identity"), &inputs[..], &outputs[..])
            && !self.values[*y].is_output
        {
            self.places.insert(self.graph.output(id, 0).expect("seen"), *x);
            return;
        }
        let kind = match (op.domain(), QuantizeLinear::at(self.graph, id)) {
            (_, Some(view)) if view.direction == Direction::Quantize => QUANTIZE.to_owned(),
            (_, Some(_)) => DEQUANTIZE.to_owned(),
            ("" | "ai.onnx", None) => op.op_type().to_owned(),
            (domain, None) => format!("{domain}.{}", op.op_type()),
        };
        if kind == QUANTIZE
            && let Some(codes) = outputs.first().copied().flatten()
        {
            self.values[codes].element = Some(self.written_type(id));
        }
        if let (QUANTIZE | DEQUANTIZE, Some(Some(x)), Some(Some(y))) = (kind.as_str(), inputs.first(), outputs.first())
        {
            let shape = self.values[*x].shape.clone();
            self.values[*y].shape = self.values[*y].shape.take().or(shape);
        }
        if let Some(fixed) = self.folded(id, &kind, &inputs, !captures.is_empty()) {
            outputs.iter().flatten().for_each(|&output| self.values[output].fixed = fixed.clone());
            return;
        }
        let node = self.add(Node { kind, at: Some(id), inputs, outputs, is_gone: false, is_transposed: false });
        for value in captures {
            self.values[value].readers.insert((node, None));
        }
    }

    /// What a node's outputs are where they depend on constants alone. Codes of weights stay codes.
    fn folded(&self, id: OpId, kind: &str, inputs: &[Option<ValueIx>], captures: bool) -> Option<Fixed> {
        if kind == "Constant" {
            let tensor = self.graph.output(id, 0).and_then(|value| constant_tensor(self.graph, value));
            return Some(tensor.map_or(Fixed::Folded, Fixed::Tensor));
        }
        let is_fixed = |value: &ValueIx| self.values[*value].fixed != Fixed::No;
        let has_inputs = inputs.iter().flatten().next().is_some();
        let folds = has_inputs && inputs.iter().flatten().all(is_fixed) && !captures;
        let is_pure = kind != DEQUANTIZE && !kind.starts_with("Random") && kind != "Bernoulli";
        (folds && is_pure && self.graph.op(id).bodies().next().is_none()).then_some(Fixed::Folded)
    }

    /// The type of the codes that a QuantizeLinear writes.
    fn written_type(&self, id: OpId) -> ElementType {
        let view = QuantizeLinear::at(self.graph, id);
        let zero_point = view.as_ref().and_then(|view| view.zero_point).map(|zero| self.places[&zero]);
        let of_zero_point = zero_point.and_then(|zero| self.values[zero].element);
        of_zero_point.or_else(|| view.and_then(|view| view.output)).unwrap_or(ElementType::U8)
    }

    fn drop_unread(&mut self) {
        for node in (0..self.nodes.len()).rev() {
            let is_read = |value: &ValueIx| self.values[*value].is_output || !self.values[*value].readers.is_empty();
            if !self.nodes[node].outputs.iter().flatten().any(is_read) {
                self.remove(node);
            }
        }
    }

    /// Adds a node behind those that there are.
    pub(super) fn add(&mut self, node: Node) -> NodeIx {
        let place = self.nodes.len();
        for (slot, value) in node.inputs.iter().enumerate() {
            if let Some(value) = value {
                self.values[*value].readers.insert((place, Some(slot)));
            }
        }
        node.outputs.iter().flatten().for_each(|&value| self.values[value].producer = Some(place));
        self.nodes.push(node);
        place
    }

    /// Adds a value like another one, which nobody reads yet.
    pub(super) fn add_value(&mut self, like: ValueIx, element: Option<ElementType>) -> ValueIx {
        let shape = self.values[like].shape.clone();
        let value =
            Value { element, shape, fixed: Fixed::No, is_output: false, producer: None, readers: BTreeSet::new() };
        self.values.push(value);
        self.values.len() - 1
    }

    /// Takes a node out; what it read has a reader less, what it wrote has no producer.
    pub(super) fn remove(&mut self, node: NodeIx) {
        self.nodes[node].is_gone = true;
        for (slot, value) in self.nodes[node].inputs.clone().into_iter().enumerate() {
            if let Some(value) = value {
                self.values[value].readers.remove(&(node, Some(slot)));
            }
        }
        for value in self.nodes[node].outputs.clone().into_iter().flatten() {
            if self.values[value].producer == Some(node) {
                self.values[value].producer = None;
            }
        }
    }

    /// Lets a node read another value.
    pub(super) fn set_input(&mut self, node: NodeIx, slot: usize, value: ValueIx) {
        if let Some(old) = self.nodes[node].inputs[slot] {
            self.values[old].readers.remove(&(node, Some(slot)));
        }
        self.nodes[node].inputs[slot] = Some(value);
        self.values[value].readers.insert((node, Some(slot)));
    }

    /// Lets a node write another value.
    pub(super) fn set_output(&mut self, node: NodeIx, slot: usize, value: ValueIx) {
        self.nodes[node].outputs[slot] = Some(value);
        self.values[value].producer = Some(node);
    }

    /// The nodes that are there, in an order in which producers stand in front.
    pub(super) fn living(&self) -> Vec<NodeIx> {
        (0..self.nodes.len()).filter(|&node| !self.nodes[node].is_gone).collect()
    }

    /// The nodes of a kind that are there.
    pub(super) fn of_kind(&self, kind: &str) -> Vec<NodeIx> {
        self.living().into_iter().filter(|&node| self.nodes[node].kind == kind).collect()
    }

    /// The node of this kind that writes a value.
    pub(super) fn written_by(&self, value: ValueIx, kind: &str) -> Option<NodeIx> {
        self.values[value].producer.filter(|&node| self.nodes[node].kind == kind)
    }

    /// What a node reads in a slot.
    pub(super) fn input(&self, node: NodeIx, slot: usize) -> Option<ValueIx> {
        self.nodes[node].inputs.get(slot).copied().flatten()
    }

    /// The first value that a node writes.
    pub(super) fn output(&self, node: NodeIx) -> Option<ValueIx> {
        self.nodes[node].outputs.first().copied().flatten()
    }

    /// The DequantizeLinear that an operand comes from.
    pub(super) fn dequantizer(&self, node: NodeIx, slot: usize) -> Option<NodeIx> {
        self.written_by(self.input(node, slot)?, DEQUANTIZE)
    }

    /// The readers of a value that are QuantizeLinear.
    pub(super) fn quantizers(&self, value: ValueIx) -> Vec<NodeIx> {
        let readers = self.values[value].readers.iter();
        readers.filter(|(node, slot)| *slot == Some(0) && self.nodes[*node].kind == QUANTIZE).map(|(n, _)| *n).collect()
    }

    /// The only reader of a value that is no output.
    pub(super) fn only_reader(&self, value: ValueIx) -> Option<NodeIx> {
        let mut readers = self.values[value].readers.iter();
        match (readers.next(), readers.next()) {
            (Some((node, Some(_))), None) if !self.values[value].is_output => Some(*node),
            _ => None,
        }
    }

    /// A parameter of a QuantizeLinear or DequantizeLinear.
    pub(super) fn parameter(&self, node: NodeIx, slot: usize) -> Parameter {
        match self.input(node, slot).map(|value| &self.values[value]) {
            None => Parameter::Absent,
            Some(Value { fixed: Fixed::Tensor(tensor), .. }) if tensor.len() == 1 && tensor.rank() <= 1 => {
                Parameter::One(tensor.clone())
            }
            Some(Value { fixed: Fixed::No, .. }) => Parameter::Computed,
            Some(_) => Parameter::Many,
        }
    }

    /// The scale and the zero point.
    pub(super) fn grid(&self, node: NodeIx) -> (Parameter, Parameter) {
        (self.parameter(node, QuantizeLinear::SCALE), self.parameter(node, QuantizeLinear::ZERO_POINT))
    }

    /// The type of the codes of a QuantizeLinear or DequantizeLinear.
    pub(super) fn codes(&self, node: NodeIx) -> Option<ElementType> {
        let codes = if self.nodes[node].kind == QUANTIZE { self.output(node) } else { self.input(node, 0) };
        let zero_point = self.input(node, QuantizeLinear::ZERO_POINT).and_then(|zero| self.values[zero].element);
        zero_point.or_else(|| codes.and_then(|codes| self.values[codes].element))
    }

    /// Whether two of them have the same scale and zero point, one number each.
    pub(super) fn share_grid(&self, a: NodeIx, b: NodeIx) -> bool {
        match (self.grid(a), self.grid(b)) {
            ((Parameter::One(s), Parameter::One(z)), (Parameter::One(t), Parameter::One(y))) => {
                s.element() == t.element()
                    && s.bytes() == t.bytes()
                    && z.element() == y.element()
                    && z.bytes() == y.bytes()
            }
            _ => false,
        }
    }
}
