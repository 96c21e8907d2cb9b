//! The graph: operators and values are vertices of one petgraph; edges carry the slot.
//!
//! Reading is public; changing goes through [`crate::patch::Patch`], building through [`Builder`].

use petgraph::Direction::{Incoming, Outgoing};
use petgraph::stable_graph::{NodeIndex, StableDiGraph};
use petgraph::visit::EdgeRef;
use rustc_hash::{FxHashMap, FxHashSet};

use crate::op::{Op, OpId};
use crate::revision::Revision;
use crate::tensor::Tensor;
use crate::types::{Carried, TensorType, ValueType};
use crate::value::{Origin, Value, ValueId};

/// What a vertex is. A removed one stays as a tombstone, so that no id is ever reused.
#[derive(Clone, Debug)]
enum Vertex {
    Op(Box<Op>),
    Value(Box<Value>),
    Tombstone,
}

/// What an edge stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Slot {
    /// The value is read as this input.
    Input(usize),
    /// A body of the operator reads the value.
    Capture,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Edge {
    Read(Slot),
    Write(usize),
}

/// One place where a value is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Use {
    /// The reader.
    pub op: OpId,
    /// Where it reads.
    pub slot: Slot,
}

/// A declaration in the file (graph input, graph output, `value_info`), as the file has it.
#[derive(Clone, Debug)]
pub struct Declared {
    /// The value that is declared.
    pub value: ValueId,
    /// The declared type.
    pub value_type: ValueType,
    /// What the reader keeps for the writer.
    pub carried: Carried,
}

/// A graph: the model's own, or the body of an operator.
#[derive(Clone, Debug, Default)]
pub struct Graph {
    vertices: StableDiGraph<Vertex, Edge, u32>,
    name: String,
    opset: i64,
    inputs: Vec<Declared>,
    outputs: Vec<Declared>,
    value_infos: Vec<Declared>,
    initializers: Vec<ValueId>,
    names: FxHashMap<String, ValueId>,
    /// How many operators have each node name.
    node_names: FxHashMap<String, usize>,
    /// Names of bodies and of the graphs around, which a new value must not take.
    foreign_names: FxHashSet<String>,
    carried: Carried,
    revision: Revision,
}

impl Graph {
    /// The graph's name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The state that the graph is in: every edit ends it.
    pub fn revision(&self) -> &Revision {
        &self.revision
    }

    /// The version of ONNX's own operators that the graph is written in.
    pub fn opset(&self) -> i64 {
        self.opset
    }

    /// What the reader keeps for the writer.
    pub fn carried(&self) -> &Carried {
        &self.carried
    }

    /// The graph inputs in file order, those with defaults included.
    pub fn inputs(&self) -> &[Declared] {
        &self.inputs
    }

    /// The graph outputs in file order.
    pub fn outputs(&self) -> &[Declared] {
        &self.outputs
    }

    /// The `value_info` declarations in file order.
    pub fn value_infos(&self) -> &[Declared] {
        &self.value_infos
    }

    /// The initializers in file order; inputs with a default are among them.
    pub fn initializers(&self) -> &[ValueId] {
        &self.initializers
    }

    /// One more than the largest id in use.
    pub fn id_bound(&self) -> usize {
        self.vertices.node_count()
    }

    /// The operator, if it still exists.
    pub fn try_op(&self, id: OpId) -> Option<&Op> {
        match self.vertices.node_weight(id.0)? {
            Vertex::Op(op) => Some(op),
            Vertex::Value(_) | Vertex::Tombstone => None,
        }
    }

    /// The value, if it still exists.
    pub fn try_value(&self, id: ValueId) -> Option<&Value> {
        match self.vertices.node_weight(id.0)? {
            Vertex::Value(value) => Some(value),
            Vertex::Op(_) | Vertex::Tombstone => None,
        }
    }

    /// The operator.
    ///
    /// # Panics
    /// Where `id` was removed or is another graph's.
    pub fn op(&self, id: OpId) -> &Op {
        self.try_op(id).expect("an operator of this graph")
    }

    /// The value.
    ///
    /// # Panics
    /// Where `id` was removed or is another graph's.
    pub fn value(&self, id: ValueId) -> &Value {
        self.try_value(id).expect("a value of this graph")
    }

    /// The value with this name.
    pub fn find_value(&self, name: &str) -> Option<ValueId> {
        self.names.get(name).copied()
    }

    /// Whether a value of this graph, its bodies or the graphs around has this name.
    pub fn is_taken(&self, name: &str) -> bool {
        self.names.contains_key(name) || self.foreign_names.contains(name)
    }

    /// Whether an operator has this node name.
    pub fn is_node_name_taken(&self, name: &str) -> bool {
        self.node_names.contains_key(name)
    }

    /// All values, in the order of their ids.
    pub fn values(&self) -> impl Iterator<Item = ValueId> + '_ {
        self.vertices.node_indices().filter(|&i| matches!(self.vertices[i], Vertex::Value(_))).map(ValueId)
    }

    /// All operators, in the order of their ids, which need not be topological.
    pub fn op_ids(&self) -> impl Iterator<Item = OpId> + '_ {
        self.vertices.node_indices().filter(|&i| matches!(self.vertices[i], Vertex::Op(_))).map(OpId)
    }

    /// The values that an operator reads, by slot; `None` is an omitted one.
    pub fn inputs_of(&self, op: OpId) -> Vec<Option<ValueId>> {
        let mut inputs = vec![None; self.op(op).input_arity];
        for edge in self.vertices.edges_directed(op.0, Incoming) {
            if let Edge::Read(Slot::Input(slot)) = edge.weight() {
                inputs[*slot] = Some(ValueId(edge.source()));
            }
        }
        inputs
    }

    /// The value that an operator reads in a slot.
    pub fn input(&self, op: OpId, slot: usize) -> Option<ValueId> {
        self.vertices
            .edges_directed(op.0, Incoming)
            .find(|edge| *edge.weight() == Edge::Read(Slot::Input(slot)))
            .map(|edge| ValueId(edge.source()))
    }

    /// The values of this graph that the bodies of an operator read, in the order of their ids.
    pub fn captures_of(&self, op: OpId) -> Vec<ValueId> {
        let mut captures: Vec<ValueId> = self
            .vertices
            .edges_directed(op.0, Incoming)
            .filter(|edge| *edge.weight() == Edge::Read(Slot::Capture))
            .map(|edge| ValueId(edge.source()))
            .collect();
        captures.sort_unstable();
        captures
    }

    /// The values that an operator writes, by slot; `None` is an omitted one.
    pub fn outputs_of(&self, op: OpId) -> Vec<Option<ValueId>> {
        let mut outputs = vec![None; self.op(op).output_arity];
        for edge in self.vertices.edges_directed(op.0, Outgoing) {
            if let Edge::Write(slot) = edge.weight() {
                outputs[*slot] = Some(ValueId(edge.target()));
            }
        }
        outputs
    }

    /// The value that an operator writes in a slot.
    pub fn output(&self, op: OpId, slot: usize) -> Option<ValueId> {
        self.vertices
            .edges_directed(op.0, Outgoing)
            .find(|edge| *edge.weight() == Edge::Write(slot))
            .map(|edge| ValueId(edge.target()))
    }

    /// The operator that writes a value, and in which slot.
    pub fn producer(&self, value: ValueId) -> Option<(OpId, usize)> {
        self.vertices.edges_directed(value.0, Incoming).next().map(|edge| match edge.weight() {
            Edge::Write(slot) => (OpId(edge.source()), *slot),
            Edge::Read(_) => unreachable!("an edge into a value is a write"),
        })
    }

    /// Where a value is read, in the order of the readers in the file.
    pub fn readers(&self, value: ValueId) -> Vec<Use> {
        let mut readers: Vec<Use> = self
            .vertices
            .edges_directed(value.0, Outgoing)
            .map(|edge| match edge.weight() {
                Edge::Read(slot) => Use { op: OpId(edge.target()), slot: *slot },
                Edge::Write(_) => unreachable!("an edge out of a value is a read"),
            })
            .collect();
        readers.sort_unstable_by_key(|reader| (self.op(reader.op).order, *reader));
        readers
    }

    /// How often a value is read, graph outputs not counted.
    pub fn reader_count(&self, value: ValueId) -> usize {
        self.vertices.edges_directed(value.0, Outgoing).count()
    }

    /// Whether a value is an output of the graph.
    pub fn is_output(&self, value: ValueId) -> bool {
        self.outputs.iter().any(|output| output.value == value)
    }

    /// The tensor of an initializer that no input overrides.
    pub fn constant(&self, value: ValueId) -> Option<&Tensor> {
        match &self.try_value(value)?.origin {
            Origin::Constant(tensor) => Some(tensor),
            _ => None,
        }
    }

    /// The tensor type of a value, as far as known; that of a constant is its tensor's.
    pub fn tensor_type(&self, value: ValueId) -> Option<TensorType> {
        match self.constant(value) {
            Some(tensor) => Some(TensorType::fixed(tensor.element(), tensor.shape())),
            None => self.value(value).value_type.tensor().cloned(),
        }
    }

    /// The number of dimensions of a value, where known.
    pub fn rank(&self, value: ValueId) -> Option<usize> {
        self.tensor_type(value)?.rank()
    }

    /// All operators, producers before readers, otherwise as the file has them. What lies on a cycle is left out.
    pub fn topological(&self) -> Vec<OpId> {
        let mut heap = std::collections::BinaryHeap::new();
        let mut waiting: FxHashMap<OpId, usize> = FxHashMap::default();
        let mut order = Vec::new();
        for op in self.op_ids() {
            let producers = self
                .vertices
                .edges_directed(op.0, Incoming)
                .filter(|edge| self.producer(ValueId(edge.source())).is_some())
                .count();
            if producers == 0 {
                heap.push(std::cmp::Reverse((self.op(op).order, op)));
            } else {
                waiting.insert(op, producers);
            }
        }
        while let Some(std::cmp::Reverse((_, op))) = heap.pop() {
            order.push(op);
            for value in self.vertices.neighbors_directed(op.0, Outgoing) {
                for edge in self.vertices.edges_directed(value, Outgoing) {
                    let reader = OpId(edge.target());
                    let left = waiting.get_mut(&reader).expect("a reader of a produced value waits");
                    *left -= 1;
                    if *left == 0 {
                        heap.push(std::cmp::Reverse((self.op(reader).order, reader)));
                    }
                }
            }
        }
        order
    }

    /// Every name in use here and in the bodies.
    fn all_names(&self) -> impl Iterator<Item = &str> {
        self.names.keys().chain(&self.foreign_names).map(String::as_str)
    }
}

/// The primitive changes. Each keeps ids, names and edges in step and ends the revision; whether the result makes sense is
/// for the verifier.
impl Graph {
    pub(crate) fn add_value(&mut self, value: Value) -> ValueId {
        self.revision.end();
        let name = value.name.clone();
        let id = ValueId(self.vertices.add_node(Vertex::Value(Box::new(value))));
        if !name.is_empty() {
            self.names.insert(name, id);
        }
        id
    }

    pub(crate) fn add_op(&mut self, mut op: Op, inputs: &[Option<ValueId>], outputs: &[Option<ValueId>]) -> OpId {
        self.revision.end();
        op.input_arity = inputs.len();
        op.output_arity = outputs.len();
        if !op.name.is_empty() {
            *self.node_names.entry(op.name.clone()).or_insert(0) += 1;
        }
        let id = OpId(self.vertices.add_node(Vertex::Op(Box::new(op))));
        for (slot, input) in inputs.iter().enumerate() {
            if let Some(value) = input {
                self.vertices.add_edge(value.0, id.0, Edge::Read(Slot::Input(slot)));
            }
        }
        for (slot, output) in outputs.iter().enumerate() {
            if let Some(value) = output {
                self.set_output(id, slot, *value);
            }
        }
        self.sync_captures(id);
        id
    }

    pub(crate) fn set_input(&mut self, op: OpId, slot: usize, value: Option<ValueId>) {
        self.revision.end();
        let old = self
            .vertices
            .edges_directed(op.0, Incoming)
            .find(|edge| *edge.weight() == Edge::Read(Slot::Input(slot)))
            .map(|edge| edge.id());
        if let Some(edge) = old {
            self.vertices.remove_edge(edge);
        }
        let arity = &mut self.op_mut(op).input_arity;
        *arity = (*arity).max(slot + 1);
        if let Some(value) = value {
            self.vertices.add_edge(value.0, op.0, Edge::Read(Slot::Input(slot)));
        }
    }

    /// Makes `op` the only producer of `value`, in `slot`.
    pub(crate) fn set_output(&mut self, op: OpId, slot: usize, value: ValueId) {
        self.revision.end();
        let stale: Vec<_> = self
            .vertices
            .edges_directed(value.0, Incoming)
            .chain(self.vertices.edges_directed(op.0, Outgoing).filter(|edge| *edge.weight() == Edge::Write(slot)))
            .map(|edge| edge.id())
            .collect();
        for edge in stale {
            self.vertices.remove_edge(edge);
        }
        self.vertices.add_edge(op.0, value.0, Edge::Write(slot));
    }

    /// Lets the bodies of `op` read `to` where they read `from`.
    pub(crate) fn move_capture(&mut self, op: OpId, from: ValueId, to: ValueId) {
        for body in self.op_mut(op).bodies_mut() {
            for index in body.vertices.node_indices().collect::<Vec<_>>() {
                if let Vertex::Value(value) = &mut body.vertices[index]
                    && value.origin == Origin::Captured(from)
                {
                    value.origin = Origin::Captured(to);
                }
            }
        }
        self.sync_captures(op);
    }

    /// Lets what the graph captures be other values of the graph around it; `None`, with some moved, where one has no other.
    pub(crate) fn recapture(&mut self, to: impl Fn(ValueId) -> Option<ValueId>) -> Option<()> {
        self.revision.end();
        for index in self.vertices.node_indices().collect::<Vec<_>>() {
            if let Vertex::Value(value) = &mut self.vertices[index]
                && let Origin::Captured(outer) = value.origin
            {
                value.origin = Origin::Captured(to(outer)?);
            }
        }
        Some(())
    }

    /// Makes the capture edges of `op` what its bodies capture.
    pub(crate) fn sync_captures(&mut self, op: OpId) {
        self.revision.end();
        let stale: Vec<_> = self
            .vertices
            .edges_directed(op.0, Incoming)
            .filter(|edge| *edge.weight() == Edge::Read(Slot::Capture))
            .map(|edge| edge.id())
            .collect();
        for edge in stale {
            self.vertices.remove_edge(edge);
        }
        let mut captured: Vec<ValueId> = Vec::new();
        for body in self.op(op).bodies() {
            captured.extend(body.values().filter_map(|value| match body.value(value).origin {
                Origin::Captured(outer) => Some(outer),
                _ => None,
            }));
        }
        captured.sort_unstable();
        captured.dedup();
        for value in captured {
            self.vertices.add_edge(value.0, op.0, Edge::Read(Slot::Capture));
        }
    }

    pub(crate) fn remove_op(&mut self, op: OpId) {
        let name = self.op(op).name.clone();
        if let Some(count) = self.node_names.get_mut(&name) {
            *count -= 1;
            if *count == 0 {
                self.node_names.remove(&name);
            }
        }
        self.bury(op.0);
    }

    pub(crate) fn remove_value(&mut self, value: ValueId) {
        let name = self.value(value).name.clone();
        if self.names.get(&name) == Some(&value) {
            self.names.remove(&name);
        }
        self.initializers.retain(|&id| id != value);
        self.value_infos.retain(|declared| declared.value != value);
        self.bury(value.0);
    }

    /// Removes the edges and leaves a tombstone: ids are never reused.
    fn bury(&mut self, index: NodeIndex<u32>) {
        self.revision.end();
        let mut edges: Vec<_> = self.vertices.edges_directed(index, Incoming).map(|edge| edge.id()).collect();
        edges.extend(self.vertices.edges_directed(index, Outgoing).map(|edge| edge.id()));
        for edge in edges {
            self.vertices.remove_edge(edge);
        }
        self.vertices[index] = Vertex::Tombstone;
    }

    pub(crate) fn op_mut(&mut self, id: OpId) -> &mut Op {
        self.revision.end();
        match &mut self.vertices[id.0] {
            Vertex::Op(op) => op,
            Vertex::Value(_) | Vertex::Tombstone => panic!("{id:?} is no operator of this graph"),
        }
    }

    pub(crate) fn value_mut(&mut self, id: ValueId) -> &mut Value {
        self.revision.end();
        match &mut self.vertices[id.0] {
            Vertex::Value(value) => value,
            Vertex::Op(_) | Vertex::Tombstone => panic!("{id:?} is no value of this graph"),
        }
    }

    /// Every name that is taken here, those of bodies and of graphs around included, sorted.
    pub(crate) fn names(&self) -> Vec<String> {
        let mut names: Vec<String> = self.all_names().map(str::to_owned).collect();
        names.sort_unstable();
        names
    }

    /// Keeps names of bodies and of graphs around away from new values.
    pub(crate) fn reserve_names(&mut self, names: impl IntoIterator<Item = String>) {
        self.foreign_names.extend(names);
    }

    /// Gives a value another name, made from its own, that nobody has.
    pub(crate) fn rename(&mut self, value: ValueId) {
        let old = self.value(value).name.clone();
        let name = self.free_name(&old);
        self.names.remove(&old);
        self.names.insert(name.clone(), value);
        self.value_mut(value).name = name;
    }

    /// A name made from `hint` that no value has.
    fn free_name(&self, hint: &str) -> String {
        let numbered = (1..).map(|suffix| format!("{hint}_{suffix}"));
        let mut names = std::iter::once(hint.to_owned()).chain(numbered);
        names.find(|name| !self.is_taken(name)).expect("there is no end of numbers")
    }

    /// Lists a graph input.
    pub(crate) fn declare_input(&mut self, declared: Declared) {
        self.inputs.push(declared);
    }

    /// Takes a value off the lists of inputs and initializers.
    pub(crate) fn undeclare(&mut self, value: ValueId) {
        self.inputs.retain(|declared| declared.value != value);
        self.initializers.retain(|&id| id != value);
    }

    /// Gives an input or output another type, as it is declared as well.
    pub(crate) fn declare(&mut self, value: ValueId, tensor_type: &TensorType) {
        for declared in self.inputs.iter_mut().chain(&mut self.outputs).filter(|declared| declared.value == value) {
            declared.value_type = ValueType::Tensor(tensor_type.clone());
        }
        self.value_mut(value).value_type = ValueType::Tensor(tensor_type.clone());
    }

    pub(crate) fn add_initializer(&mut self, value: ValueId) {
        self.revision.end();
        self.initializers.push(value);
    }

    /// Makes constants of inputs with a default.
    pub(crate) fn settle_defaults(&mut self) {
        for declared in std::mem::take(&mut self.inputs) {
            let value = self.value_mut(declared.value);
            match &value.origin {
                Origin::Input(Some(tensor)) => value.origin = Origin::Constant(tensor.clone()),
                _ => self.inputs.push(declared),
            }
        }
    }

    /// Keeps only what these values need, and makes them the graph's outputs.
    pub fn restrict(&mut self, outputs: &[ValueId]) {
        self.revision.end();
        let mut needed = vec![false; self.id_bound()];
        let mut stack = outputs.to_vec();
        while let Some(value) = stack.pop() {
            if std::mem::replace(&mut needed[value.index()], true) {
                continue;
            }
            if let Some((op, _)) = self.producer(value)
                && !std::mem::replace(&mut needed[op.index()], true)
            {
                stack.extend(self.inputs_of(op).into_iter().flatten().chain(self.captures_of(op)));
                // Outputs that nobody needs are still written.
                for output in self.outputs_of(op).into_iter().flatten() {
                    needed[output.index()] = true;
                }
            }
        }
        for op in self.op_ids().filter(|op| !needed[op.index()]).collect::<Vec<_>>() {
            self.remove_op(op);
        }
        self.inputs.retain(|input| needed[input.value.index()]);
        for value in self.values().filter(|value| !needed[value.index()]).collect::<Vec<_>>() {
            self.remove_value(value);
        }
        let declare = |&value: &ValueId| {
            let value_type = self.value(value).value_type.clone();
            Declared { value, value_type, carried: Carried::default() }
        };
        self.outputs = outputs.iter().map(declare).collect();
    }

    /// Makes these values inputs of the graph; whoever wrote one writes a value that nobody reads.
    pub fn cut(&mut self, values: &[ValueId]) {
        for &value in values {
            let value_type = self.value(value).value_type.clone();
            if let Some((op, slot)) = self.producer(value) {
                let name = self.free_name(&format!("{}_cut", self.value(value).name));
                let unread = self.add_value(Value::new(name, value_type.clone(), Origin::Produced));
                self.set_output(op, slot, unread);
            }
            self.value_mut(value).origin = Origin::Input(None);
            self.inputs.push(Declared { value, value_type, carried: Carried::default() });
        }
    }

    /// Learns the type of a value, as inference found it; what the file declares is written as it stands.
    pub fn set_type(&mut self, value: ValueId, tensor_type: TensorType) {
        self.value_mut(value).value_type = ValueType::Tensor(tensor_type);
    }

    /// Moves the graph and its bodies to another version of ONNX's own operators. Operators are not converted.
    pub fn set_opset(&mut self, opset: i64) {
        self.revision.end();
        self.opset = opset;
        for op in self.op_ids().collect::<Vec<_>>() {
            for body in self.op_mut(op).bodies_mut() {
                body.set_opset(opset);
            }
        }
    }
}

/// Builds a graph as a file or a text has it, operator by operator.
///
/// Nothing is checked but names: [`crate::verify::verify`] says what is wrong with the result.
#[derive(Debug, Default)]
pub struct Builder {
    graph: Graph,
    position: u64,
}

/// Space between the order keys of neighbours in the file.
const ORDER_STEP: u64 = 1 << 20;

impl Builder {
    /// Starts a graph.
    pub fn new(name: impl Into<String>, opset: i64) -> Self {
        Self { graph: Graph { name: name.into(), opset, ..Graph::default() }, position: 0 }
    }

    /// Keeps what the reader wants kept for the writer.
    pub fn carry(&mut self, carried: Carried) {
        self.graph.carried = carried;
    }

    /// The value with this name.
    pub fn find_value(&self, name: &str) -> Option<ValueId> {
        self.graph.find_value(name)
    }

    /// The value.
    pub fn value(&self, id: ValueId) -> &Value {
        self.graph.value(id)
    }

    /// Adds a value; an initializer is listed as such.
    pub fn add_value(&mut self, value: Value) -> ValueId {
        let listed = matches!(value.origin, Origin::Constant(_) | Origin::Input(Some(_)));
        let id = self.graph.add_value(value);
        if listed {
            self.graph.initializers.push(id);
        }
        id
    }

    /// Gives a value that was only read so far its origin.
    pub fn set_origin(&mut self, value: ValueId, origin: Origin) {
        self.graph.value_mut(value).origin = origin;
    }

    /// Learns the type of a value.
    pub fn set_value_type(&mut self, value: ValueId, value_type: ValueType) {
        self.graph.value_mut(value).value_type = value_type;
    }

    /// Lists a graph input.
    pub fn declare_input(&mut self, declared: Declared) {
        self.graph.inputs.push(declared);
    }

    /// Lists a graph output.
    pub fn declare_output(&mut self, declared: Declared) {
        self.graph.outputs.push(declared);
    }

    /// Lists a `value_info` entry.
    pub fn declare_value_info(&mut self, declared: Declared) {
        self.graph.value_infos.push(declared);
    }

    /// Adds an operator behind those added so far.
    pub fn add_op(&mut self, mut op: Op, inputs: &[Option<ValueId>], outputs: &[Option<ValueId>]) -> OpId {
        self.position += ORDER_STEP;
        op.order = self.position;
        self.graph.add_op(op, inputs, outputs)
    }

    /// The graph; the names of bodies are kept away from new values.
    pub fn finish(mut self) -> Graph {
        let mut foreign = FxHashSet::default();
        for op in self.graph.op_ids() {
            for body in self.graph.op(op).bodies() {
                foreign.extend(body.all_names().map(str::to_owned));
            }
        }
        self.graph.foreign_names = foreign;
        self.graph
    }
}

#[cfg(test)]
mod tests {
    use crate::op::Op;
    use crate::ops::testing::{Scene, listing};
    use crate::tensor::Tensor;
    use crate::verify::verify;

    #[test]
    fn a_restricted_graph_has_what_its_outputs_need() {
        let mut scene = Scene::new(17);
        let (x, unread) = (scene.input("x"), scene.input("unread"));
        let w = scene.constant("w", Tensor::new(vec![], vec![2.0f32]));
        let unused = scene.constant("unused", Tensor::new(vec![], vec![3.0f32]));
        let (_, product) = scene.op(Op::new("", "Mul", vec![]).named("mul"), &[x, w], "product");
        let parts = scene.op_with(Op::new("", "Split", vec![]).named("split"), &[Some(product)], &["a", "b"]).1;
        scene.op(Op::new("", "Add", vec![]).named("add"), &[parts[0], unused], "sum");
        scene.op(Op::new("", "Neg", vec![]).named("neg"), &[unread], "negated");
        let mut graph = scene.finish();
        graph.restrict(&[parts[1], product]);
        assert_eq!(verify(&graph), []);
        assert_eq!(listing(&graph), ["mul: product = Mul(x, w)", "split: a, b = Split(product)"]);
        assert_eq!(graph.inputs().iter().map(|input| input.value).collect::<Vec<_>>(), [x]);
        assert_eq!(graph.outputs().iter().map(|output| output.value).collect::<Vec<_>>(), [parts[1], product]);
        assert_eq!(graph.initializers(), [w]);
    }

    #[test]
    fn behind_a_cut_the_graph_is_as_before() {
        let mut scene = Scene::new(17);
        let x = scene.input("x");
        let (_, a) = scene.op(Op::new("", "Neg", vec![]).named("neg"), &[x], "a");
        let (_, b) = scene.op(Op::new("", "Abs", vec![]).named("abs"), &[a], "b");
        let mut graph = scene.finish();
        let before = graph.revision().clone();
        graph.cut(&[a]);
        assert_ne!(*graph.revision(), before);
        assert_eq!(graph.producer(a), None);
        assert_eq!(listing(&graph), ["neg: a_cut = Neg(x)", "abs: b = Abs(a)"]);
        assert_eq!(verify(&graph), []);
        assert_eq!(graph.inputs().iter().map(|input| input.value).collect::<Vec<_>>(), [x, a]);
        graph.restrict(&[b]);
        assert_eq!(verify(&graph), []);
        assert_eq!(listing(&graph), ["abs: b = Abs(a)"]);
        assert_eq!(graph.inputs().iter().map(|input| input.value).collect::<Vec<_>>(), [a]);
    }
}
