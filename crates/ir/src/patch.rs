//! The only way to change a graph: a list of edits, built against the graph as it is, applied whole or not at all.
//!
//! A patch hands out the ids that its new values and operators will have, which is safe because ids are never reused:
//! they follow the largest id in use. A patch built against another state of the graph is refused.

use std::fmt;

use rustc_hash::FxHashSet;

use crate::graph::{Graph, Slot, Use};
use crate::op::{Attribute, Op, OpId};
use crate::tensor::Tensor;
use crate::types::{TensorType, ValueType};
use crate::value::{Origin, Value, ValueId};
use crate::verify::{Defect, verify};

/// Where an output of a new operator goes.
#[derive(Clone, Debug)]
pub enum Output {
    /// A new value with a name made from this hint.
    New(String),
    /// An existing value: its readers, its name and its place among the graph outputs stay as they are.
    Take(ValueId),
    /// The output is omitted.
    Omitted,
}

/// One change. A patch is read top down.
#[derive(Clone, Debug)]
enum Edit {
    AddValue(Box<Value>),
    AddOp { op: Box<Op>, inputs: Vec<Option<ValueId>>, outputs: Vec<Option<ValueId>> },
    SetInput { op: OpId, slot: usize, value: Option<ValueId> },
    MoveCapture { op: OpId, from: ValueId, to: ValueId },
    SetOutput { op: OpId, slot: usize, value: ValueId },
    SetConstant { value: ValueId, tensor: Tensor },
    SetAttributes { op: OpId, attributes: Vec<Attribute> },
    SetBody { op: OpId, place: usize, body: Box<Graph> },
    SetType { value: ValueId, tensor_type: TensorType },
    Declare { value: ValueId, tensor_type: TensorType },
    Changed(ValueId),
    Forget(ValueId),
    RemoveOp(OpId),
}

/// Why a patch was not applied. The graph is as it was.
#[derive(Debug, thiserror::Error)]
pub enum PatchError {
    /// The graph has grown since the patch was begun.
    #[error("patch `{rule}` was built against another state of the graph")]
    Stale {
        /// The rule that made the patch.
        rule: &'static str,
    },
    /// An edit names something that is gone, or reads a slot that isn't there.
    #[error("patch `{rule}` names {what}, which does not exist")]
    Missing {
        /// The rule that made the patch.
        rule: &'static str,
        /// What is missing.
        what: String,
    },
    /// The result would break an invariant.
    #[error("patch `{rule}` would break the graph: {}", defects.iter().map(ToString::to_string).collect::<Vec<_>>().join("; "))]
    Broken {
        /// The rule that made the patch.
        rule: &'static str,
        /// What would be wrong.
        defects: Vec<Defect>,
    },
}

/// What an applied patch was.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Applied {
    /// The rule that made the patch.
    pub rule: &'static str,
    /// The edits, one line each.
    pub text: String,
}

/// A change in the making.
#[derive(Clone, Debug)]
pub struct Patch {
    rule: &'static str,
    base: usize,
    next: usize,
    edits: Vec<Edit>,
    names: FxHashSet<String>,
    node_names: FxHashSet<String>,
    anchor: u64,
}

impl Patch {
    /// Begins a patch made by `rule`. New operators stand where `anchor` stands.
    pub fn new(graph: &Graph, rule: &'static str, anchor: OpId) -> Self {
        let base = graph.id_bound();
        let anchor = graph.op(anchor).order;
        Self {
            rule,
            base,
            next: base,
            edits: Vec::new(),
            names: FxHashSet::default(),
            node_names: FxHashSet::default(),
            anchor,
        }
    }

    /// The rule that makes the patch.
    pub fn rule(&self) -> &'static str {
        self.rule
    }

    /// Whether there is nothing to do.
    pub fn is_empty(&self) -> bool {
        self.edits.is_empty()
    }

    /// Lets new operators stand where `op` stands.
    pub fn stand_at(&mut self, graph: &Graph, op: OpId) {
        self.anchor = graph.op(op).order;
    }

    /// Lets new operators stand at this key ([`Op::order_key`]).
    pub fn stand_at_key(&mut self, key: u64) {
        self.anchor = key;
    }

    /// Adds an initializer, named after `hint`.
    pub fn constant(&mut self, graph: &Graph, hint: &str, tensor: Tensor) -> ValueId {
        let name = self.fresh(graph, hint);
        let value_type = ValueType::Tensor(TensorType::fixed(tensor.element(), tensor.shape()));
        self.add_value(Value::new(name, value_type, Origin::Constant(tensor)))
    }

    /// Adds an operator; returns its id and the values in its output slots.
    pub fn op(
        &mut self,
        graph: &Graph,
        mut op: Op,
        inputs: &[Option<ValueId>],
        outputs: &[Output],
    ) -> (OpId, Vec<Option<ValueId>>) {
        let outputs: Vec<Option<ValueId>> = outputs
            .iter()
            .map(|output| match output {
                Output::New(hint) => {
                    let name = self.fresh(graph, hint);
                    Some(self.add_value(Value::new(name, ValueType::Unknown, Origin::Produced)))
                }
                Output::Take(value) => Some(*value),
                Output::Omitted => None,
            })
            .collect();
        op.order = self.anchor;
        self.edits.push(Edit::AddOp { op: Box::new(op), inputs: inputs.to_vec(), outputs: outputs.clone() });
        (OpId(self.take_id()), outputs)
    }

    /// Adds an operator with one new output, named after `hint`; returns that.
    pub fn value(&mut self, graph: &Graph, op: Op, inputs: &[ValueId], hint: &str) -> ValueId {
        let inputs: Vec<Option<ValueId>> = inputs.iter().copied().map(Some).collect();
        let (_, outputs) = self.op(graph, op, &inputs, &[Output::New(hint.to_owned())]);
        outputs[0].expect("a new output")
    }

    /// Lets an input slot read another value, or none.
    pub fn set_input(&mut self, op: OpId, slot: usize, value: Option<ValueId>) {
        self.edits.push(Edit::SetInput { op, slot, value });
    }

    /// Lets one use read another value.
    pub fn redirect_use(&mut self, reader: Use, from: ValueId, to: ValueId) {
        match reader.slot {
            Slot::Input(slot) => self.set_input(reader.op, slot, Some(to)),
            Slot::Capture => self.edits.push(Edit::MoveCapture { op: reader.op, from, to }),
        }
    }

    /// Lets all readers of `from` read `to`; graph outputs are not readers.
    pub fn redirect(&mut self, graph: &Graph, from: ValueId, to: ValueId) {
        for reader in graph.readers(from) {
            self.redirect_use(reader, from, to);
        }
    }

    /// Adds a value, named after `hint`, that [`Patch::produce`] gives a producer.
    pub fn produced(&mut self, graph: &Graph, hint: &str) -> ValueId {
        let name = self.fresh(graph, hint);
        self.add_value(Value::new(name, ValueType::Unknown, Origin::Produced))
    }

    /// Makes `op` the producer of `value`, in `slot`.
    pub fn produce(&mut self, op: OpId, slot: usize, value: ValueId) {
        self.edits.push(Edit::SetOutput { op, slot, value });
    }

    /// Gives an initializer another tensor, for all its readers; or makes an initializer of a value whose producer the
    /// patch removes.
    pub fn set_constant(&mut self, value: ValueId, tensor: Tensor) {
        self.edits.push(Edit::SetConstant { value, tensor });
    }

    /// Gives one reader of a constant another tensor: in place where it is the only one, else in a copy of its own.
    ///
    /// Returns the constant that the reader now reads.
    pub fn set_constant_for(&mut self, graph: &Graph, op: OpId, slot: usize, tensor: Tensor) -> ValueId {
        let value = graph.input(op, slot).expect("a constant is read in this slot");
        if graph.reader_count(value) == 1 && !graph.is_output(value) {
            self.set_constant(value, tensor);
            return value;
        }
        let hint = graph.value(value).name().to_owned();
        let copy = self.constant(graph, &hint, tensor);
        self.set_input(op, slot, Some(copy));
        copy
    }

    /// Replaces the attributes of an operator.
    pub fn set_attributes(&mut self, op: OpId, attributes: Vec<Attribute>) {
        self.edits.push(Edit::SetAttributes { op, attributes });
    }

    /// Puts another body in the place of one of an operator's; its names are kept away from new values.
    pub fn set_body(&mut self, op: OpId, place: usize, body: Graph) {
        self.edits.push(Edit::SetBody { op, place, body: Box::new(body) });
    }

    /// States the type of a value.
    pub fn set_type(&mut self, value: ValueId, tensor_type: TensorType) {
        self.edits.push(Edit::SetType { value, tensor_type });
    }

    /// Gives an input or output of the graph another type, in the file as well.
    pub fn declare(&mut self, value: ValueId, tensor_type: TensorType) {
        self.edits.push(Edit::Declare { value, tensor_type });
    }

    /// Declares that a value is no longer what it was: its facts are void.
    pub fn changed(&mut self, value: ValueId) {
        self.edits.push(Edit::Changed(value));
    }

    /// Removes a value if nobody writes, reads or declares it once the patch is applied.
    pub fn forget(&mut self, value: ValueId) {
        self.edits.push(Edit::Forget(value));
    }

    /// Removes an operator. Values that nobody writes, reads or declares any more go with it.
    pub fn remove(&mut self, op: OpId) {
        self.edits.push(Edit::RemoveOp(op));
    }

    /// A node name made from `hint` that no operator has: runtimes refuse two nodes of one name.
    pub fn node_name(&mut self, graph: &Graph, hint: &str) -> String {
        let mut name = hint.to_owned();
        let mut suffix = 1;
        while graph.is_node_name_taken(&name) || self.node_names.contains(&name) {
            name = format!("{hint}_{suffix}");
            suffix += 1;
        }
        self.node_names.insert(name.clone());
        name
    }

    /// A name made from `hint` that no value has.
    fn fresh(&mut self, graph: &Graph, hint: &str) -> String {
        let mut name = hint.to_owned();
        let mut suffix = 1;
        while name.is_empty() || graph.is_taken(&name) || self.names.contains(&name) {
            name = format!("{hint}_{suffix}");
            suffix += 1;
        }
        self.names.insert(name.clone());
        name
    }

    fn add_value(&mut self, value: Value) -> ValueId {
        self.edits.push(Edit::AddValue(Box::new(value)));
        ValueId(self.take_id())
    }

    fn take_id(&mut self) -> petgraph::stable_graph::NodeIndex<u32> {
        let id = petgraph::stable_graph::NodeIndex::new(self.next);
        self.next += 1;
        id
    }

    /// Applies the patch; on an error the graph is as it was.
    ///
    /// In builds with debug assertions the whole result is verified.
    pub fn apply(self, graph: &mut Graph) -> Result<Applied, PatchError> {
        self.check(graph)?;
        let before = cfg!(debug_assertions).then(|| graph.clone());
        let text = self.to_string();
        let mut loose = Vec::new();
        for edit in self.edits {
            apply_edit(graph, edit, &mut loose);
        }
        sweep(graph, loose);
        if let Some(before) = before {
            let defects = verify(graph);
            if !defects.is_empty() {
                *graph = before;
                return Err(PatchError::Broken { rule: self.rule, defects });
            }
        }
        Ok(Applied { rule: self.rule, text })
    }

    /// Everything that an edit names exists, now or by an earlier edit.
    fn check(&self, graph: &Graph) -> Result<(), PatchError> {
        if graph.id_bound() != self.base {
            return Err(PatchError::Stale { rule: self.rule });
        }
        let missing = |what: &dyn fmt::Debug| PatchError::Missing { rule: self.rule, what: format!("{what:?}") };
        let value = |id: &ValueId| {
            (id.index() >= self.base || graph.try_value(*id).is_some()).then_some(()).ok_or_else(|| missing(id))
        };
        let op = |id: &OpId| {
            (id.index() >= self.base || graph.try_op(*id).is_some()).then_some(()).ok_or_else(|| missing(id))
        };
        for edit in &self.edits {
            match edit {
                Edit::AddValue(_) => {}
                Edit::AddOp { inputs, outputs, .. } => inputs.iter().chain(outputs).flatten().try_for_each(value)?,
                Edit::SetInput { op: id, value: to, .. } => {
                    op(id)?;
                    to.iter().try_for_each(value)?;
                }
                Edit::MoveCapture { op: id, from, to } => {
                    op(id)?;
                    value(from)?;
                    value(to)?;
                }
                Edit::SetOutput { op: id, value: to, .. } => {
                    op(id)?;
                    value(to)?;
                }
                Edit::SetConstant { value: id, .. }
                | Edit::SetType { value: id, .. }
                | Edit::Declare { value: id, .. }
                | Edit::Changed(id)
                | Edit::Forget(id) => value(id)?,
                Edit::SetBody { op: id, place, .. } => {
                    let body = graph.try_op(*id).and_then(|op| op.bodies().nth(*place));
                    body.map(drop).ok_or_else(|| missing(id))?;
                }
                Edit::SetAttributes { op: id, .. } | Edit::RemoveOp(id) => op(id)?,
            }
        }
        Ok(())
    }
}

/// Applies one edit; notes in `loose` the values that lost a reader or their producer.
fn apply_edit(graph: &mut Graph, edit: Edit, loose: &mut Vec<ValueId>) {
    match edit {
        Edit::AddValue(value) => {
            let listed = matches!(value.origin, Origin::Constant(_));
            let id = graph.add_value(*value);
            if listed {
                graph.add_initializer(id);
            }
        }
        Edit::AddOp { op, inputs, outputs } => {
            graph.add_op(*op, &inputs, &outputs);
        }
        Edit::SetInput { op, slot, value } => {
            loose.extend(graph.input(op, slot));
            graph.set_input(op, slot, value);
        }
        Edit::MoveCapture { op, from, to } => {
            loose.push(from);
            graph.move_capture(op, from, to);
        }
        Edit::SetOutput { op, slot, value } => {
            loose.extend(graph.output(op, slot));
            graph.set_output(op, slot, value);
        }
        Edit::SetConstant { value, tensor } => {
            let version = graph.value(value).version + 1;
            let slot = graph.value_mut(value);
            slot.value_type = ValueType::Tensor(TensorType::fixed(tensor.element(), tensor.shape()));
            slot.origin = Origin::Constant(tensor);
            slot.version = version;
            if !graph.initializers().contains(&value) {
                graph.add_initializer(value);
            }
        }
        Edit::SetAttributes { op, attributes } => {
            graph.op_mut(op).attributes = attributes;
            graph.sync_captures(op);
        }
        Edit::SetBody { op, place, body } => {
            loose.extend(graph.captures_of(op));
            graph.reserve_names(body.names());
            if let Some(slot) = graph.op_mut(op).bodies_mut().nth(place) {
                *slot = *body;
            }
            graph.sync_captures(op);
        }
        Edit::SetType { value, tensor_type } => graph.set_type(value, tensor_type),
        Edit::Declare { value, tensor_type } => graph.declare(value, &tensor_type),
        Edit::Changed(value) => graph.value_mut(value).version += 1,
        Edit::Forget(value) => loose.push(value),
        Edit::RemoveOp(op) => {
            loose.extend(graph.inputs_of(op).into_iter().flatten());
            loose.extend(graph.captures_of(op));
            loose.extend(graph.outputs_of(op).into_iter().flatten());
            graph.remove_op(op);
        }
    }
}

/// Removes values that nobody writes, reads or declares any more.
fn sweep(graph: &mut Graph, mut loose: Vec<ValueId>) {
    loose.sort_unstable();
    loose.dedup();
    for value in loose {
        let dead = graph.try_value(value).is_some_and(|it| match it.origin {
            Origin::Constant(_) | Origin::Captured(_) => true,
            Origin::Produced => graph.producer(value).is_none(),
            Origin::Input(_) | Origin::Sparse => false,
        }) && graph.reader_count(value) == 0
            && !graph.is_output(value);
        if dead {
            graph.remove_value(value);
        }
    }
}

impl fmt::Display for Patch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut id = self.base;
        for edit in &self.edits {
            match edit {
                Edit::AddValue(value) => {
                    writeln!(f, "+ v{id} = {}", value.name)?;
                    id += 1;
                }
                Edit::AddOp { op, inputs, outputs } => {
                    writeln!(f, "+ op{id} {outputs:?} = {} {inputs:?}", op.op_type)?;
                    id += 1;
                }
                Edit::SetInput { op, slot, value } => writeln!(f, "{op:?} input {slot} := {value:?}")?,
                Edit::MoveCapture { op, from, to } => writeln!(f, "{op:?} captures {to:?} for {from:?}")?,
                Edit::SetOutput { op, slot, value } => writeln!(f, "{op:?} output {slot} := {value:?}")?,
                Edit::SetConstant { value, tensor } => {
                    writeln!(
                        f,
                        "{value:?} := {}{:?} #{:016x}",
                        tensor.element(),
                        tensor.shape(),
                        tensor.content_hash()
                    )?;
                }
                Edit::SetAttributes { op, .. } => writeln!(f, "{op:?} attributes")?,
                Edit::SetBody { op, place, .. } => writeln!(f, "{op:?} body {place}")?,
                Edit::SetType { value, tensor_type } => writeln!(f, "{value:?} : {tensor_type}")?,
                Edit::Declare { value, tensor_type } => writeln!(f, "{value:?} declared {tensor_type}")?,
                Edit::Changed(value) => writeln!(f, "{value:?} changed")?,
                Edit::Forget(value) => writeln!(f, "- {value:?} if unused")?,
                Edit::RemoveOp(op) => writeln!(f, "- {op:?}")?,
            }
        }
        Ok(())
    }
}
