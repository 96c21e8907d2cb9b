//! Computes operators of the plan in float32 where the graph has float16 or bfloat16: a Cast in front of them, one behind.
//!
//! Kernels that compute with codes give float32, and scales of 32 bits neither overflow nor vanish. What lies between two
//! such operators has no Cast at all; what stays float, inputs and outputs of the graph keep their types.

use std::collections::{BTreeMap, BTreeSet};

use onnxq_ir::{Attribute, ElementType, Graph, Op, OpId, Output, Patch, Slot, Tensor, TensorType, ValueId};
use onnxq_plan::target::HalfFloats;
use onnxq_plan::{Plan, Quantizer, Site};

use crate::pass::{Context, PassError};

/// The type of the scales for a value: float32, but on targets that keep types.
pub(crate) fn scale_type(cx: &Context<'_>, value: ValueId) -> ElementType {
    let half = half_type(cx.graph(), value).filter(|_| cx.target.half_floats == HalfFloats::Kept);
    half.map_or(ElementType::F32, |half| half.element)
}

/// Widens the operators of the plan but for those whose weights are stored as `rows`, and lets the plan speak of the float32
/// values. On a target that keeps types only those are widened that compute logarithms.
pub(crate) fn widen(cx: &mut Context<'_>, rows: &BTreeSet<OpId>) -> Result<(), PassError> {
    let ops: Vec<OpId> = cx.ops();
    let Some(&anchor) = ops.first() else { return Ok(()) };
    let is_widened = |op: &OpId| match cx.target.half_floats {
        HalfFloats::Widened => !rows.contains(op),
        HalfFloats::Kept => has_logarithm(cx.plan, *op),
    };
    let wide: BTreeSet<OpId> = planned(cx.graph(), cx.plan).into_iter().filter(is_widened).collect();
    let mut widening = Widening {
        graph: cx.graph(),
        plan: cx.plan,
        patch: Patch::new(cx.graph(), "widen", anchor),
        ops: wide,
        twins: BTreeMap::new(),
    };
    widening.outputs(&ops);
    widening.sites();
    widening.inputs(&ops);
    let Widening { patch, twins, .. } = widening;
    for (half, twin) in twins {
        cx.plan.rename(half, twin);
    }
    cx.apply(patch)
}

/// The operators that the plan computes with codes, and activations that their quantized outputs swallow.
fn planned(graph: &Graph, plan: &Plan) -> BTreeSet<OpId> {
    let ends = plan.operators().flat_map(|(_, planned)| &planned.ends);
    let writers = ends.filter_map(|end| graph.producer(end.value)).map(|(op, _)| op);
    let operands = plan.entries().filter_map(|(site, _)| match site {
        Site::Operand { op, .. } => Some(op),
        Site::Output(_) => None,
    });
    plan.operators().map(|(op, _)| op).chain(writers).chain(operands).collect()
}

/// Whether an operand gets a logarithmic quantizer, whose steps overflow float16.
fn has_logarithm(plan: &Plan, op: OpId) -> bool {
    plan.operands(op).any(|(_, entry)| matches!(entry.quantizer, Some(Quantizer::Log(_))))
}

struct Widening<'a> {
    graph: &'a Graph,
    plan: &'a Plan,
    patch: Patch,
    /// The operators that compute in float32.
    ops: BTreeSet<OpId>,
    /// The float32 values that stand for those of 16 bits.
    twins: BTreeMap<ValueId, ValueId>,
}

impl Widening<'_> {
    /// Lets operators write float32, and a Cast what others read of it.
    fn outputs(&mut self, ops: &[OpId]) {
        for &op in ops.iter().filter(|op| self.ops.contains(op)).collect::<Vec<_>>() {
            for (slot, value) in self.graph.outputs_of(op).into_iter().enumerate() {
                let Some((value, half)) = value.and_then(|value| Some((value, half_type(self.graph, value)?))) else {
                    continue;
                };
                self.patch.stand_at(self.graph, op);
                let twin = self.patch.produced(self.graph, &self.wide_name(value));
                self.patch.produce(op, slot, twin);
                self.settle(value, &half, twin);
                if self.is_read_elsewhere(value) {
                    self.cast(twin, half.element, Output::Take(value));
                }
            }
        }
    }

    /// Lets what others write be float32 where all its readers see it quantized.
    fn sites(&mut self) {
        for (site, _) in self.plan.entries().collect::<Vec<_>>() {
            let Site::Output(value) = site else { continue };
            let Some(half) = half_type(self.graph, value).filter(|_| !self.twins.contains_key(&value)) else {
                continue;
            };
            if self.graph.constant(value).is_some() {
                continue;
            }
            let is_read_elsewhere = self.is_read_elsewhere(value);
            let Some((producer, slot)) = self.graph.producer(value) else {
                let twin = self.twin(value, &half);
                if is_read_elsewhere {
                    let name = format!("{}_as_read", self.graph.value(value).name());
                    let seen = self.cast(twin, half.element, Output::New(name));
                    self.redirect_others(value, seen);
                }
                continue;
            };
            self.patch.stand_at(self.graph, producer);
            let written = self.patch.produced(self.graph, &format!("{}_float", self.graph.value(value).name()));
            self.patch.produce(producer, slot, written);
            self.patch.set_type(written, half.clone());
            let twin = self.cast(written, ElementType::F32, Output::New(self.wide_name(value)));
            self.settle(value, &half, twin);
            if is_read_elsewhere {
                self.cast(twin, half.element, Output::Take(value));
            }
        }
    }

    /// Lets operators read float32, but for constants of which they read codes.
    fn inputs(&mut self, ops: &[OpId]) {
        for &op in ops.iter().filter(|op| self.ops.contains(op)).collect::<Vec<_>>() {
            for (slot, value) in self.graph.inputs_of(op).into_iter().enumerate() {
                let Some((value, half)) = value.and_then(|value| Some((value, half_type(self.graph, value)?))) else {
                    continue;
                };
                let is_coded = self.plan.get(Site::Operand { op, slot }).is_some();
                if is_coded && self.graph.constant(value).is_some() {
                    continue;
                }
                let twin = self.twin(value, &half);
                self.patch.set_input(op, slot, Some(twin));
            }
        }
    }

    /// The float32 value that stands for one of 16 bits.
    fn twin(&mut self, value: ValueId, half: &TensorType) -> ValueId {
        if let Some(&twin) = self.twins.get(&value) {
            return twin;
        }
        let name = self.wide_name(value);
        let floats = self.graph.constant(value).and_then(|tensor| Some((tensor.shape().to_vec(), tensor.to_f32()?)));
        let twin = if let Some((shape, floats)) = floats {
            self.patch.constant(self.graph, &name, Tensor::new(shape, floats.into_owned()))
        } else {
            let first = self.graph.readers(value).into_iter().map(|reader| reader.op);
            let first = first.min_by_key(|&op| (self.graph.op(op).order_key(), op));
            if let Some(place) = self.graph.producer(value).map(|(op, _)| op).or(first) {
                self.patch.stand_at(self.graph, place);
            }
            self.cast(value, ElementType::F32, Output::New(name))
        };
        self.settle(value, half, twin);
        twin
    }

    fn settle(&mut self, value: ValueId, half: &TensorType, twin: ValueId) {
        self.patch.set_type(twin, TensorType { element: ElementType::F32, shape: half.shape.clone() });
        self.twins.insert(value, twin);
    }

    fn cast(&mut self, from: ValueId, element: ElementType, to: Output) -> ValueId {
        let name = match &to {
            Output::New(name) => name.clone(),
            Output::Take(value) => self.graph.value(*value).name().to_owned(),
            Output::Omitted => String::new(),
        };
        let name = self.patch.node_name(self.graph, &format!("{name}_Cast"));
        let cast = Op::new("", "Cast", vec![Attribute::int("to", i64::from(element.code()))]).named(name);
        let (_, outputs) = self.patch.op(self.graph, cast, &[Some(from)], &[to]);
        outputs[0].expect("an output")
    }

    fn wide_name(&self, value: ValueId) -> String {
        format!("{}_float32", self.graph.value(value).name())
    }

    /// Whether the graph's caller, a body, or an operator that stays as it is reads a value.
    fn is_read_elsewhere(&self, value: ValueId) -> bool {
        let is_wide = |reader: onnxq_ir::Use| self.ops.contains(&reader.op) && reader.slot != Slot::Capture;
        self.graph.is_output(value) || !self.graph.readers(value).into_iter().all(is_wide)
    }

    /// Lets all readers but the operators that compute in float32 read another value.
    fn redirect_others(&mut self, value: ValueId, to: ValueId) {
        for reader in self.graph.readers(value) {
            if !self.ops.contains(&reader.op) || reader.slot == Slot::Capture {
                self.patch.redirect_use(reader, value, to);
            }
        }
    }
}

/// The type of a value of float16 or bfloat16.
fn half_type(graph: &Graph, value: ValueId) -> Option<TensorType> {
    graph.tensor_type(value).filter(|known| known.element.is_half())
}
