//! A plan laid over a float graph: marker operators where activations are quantized, baked constants where weights are.
//!
//! Works on a copy of the graph, before recognised operators are expanded: sites speak of the recognised graph.

use std::borrow::Cow;
use std::sync::Arc;

use onnxq_ir::{Graph, OpId, Output, Patch, Tensor, ValueId};
use onnxq_plan::{Plan, Quantizer, Site};
use rustc_hash::FxHashMap;

use crate::fake::quantize;
use crate::guard::Failure;
use crate::marked::{Marked, Marker};

impl<'a> Marked<'a> {
    /// The graph under a plan; sites without a quantizer are float.
    pub(crate) fn simulated(graph: &'a Graph, plan: &Plan) -> Result<Self, Failure> {
        let sites: Vec<(Site, &Quantizer)> =
            plan.entries().filter_map(|(site, entry)| Some((site, entry.quantizer.as_ref()?))).collect();
        let Some(anchor) = graph.op_ids().next().filter(|_| !sites.is_empty()) else {
            return Ok(Self::float(graph));
        };
        let mut marking = Marking {
            graph,
            patch: Patch::new(graph, "simulate", anchor),
            markers: Vec::new(),
            renamed: FxHashMap::default(),
            baked: FxHashMap::default(),
        };
        // Values first: an operand that has a quantizer of its own reads what its value's quantizer gives.
        for (site, quantizer) in &sites {
            if let Site::Output(value) = site {
                marking.value(*value, quantizer)?;
            }
        }
        for (site, quantizer) in &sites {
            if let Site::Operand { op, slot } = site {
                marking.operand(*op, *slot, quantizer)?;
            }
        }
        let Marking { patch, markers, renamed, .. } = marking;
        let mut copy = graph.clone();
        patch.apply(&mut copy).map_err(|error| Failure::of(error.to_string()))?;
        Ok(Self { graph: Cow::Owned(copy), markers, renamed })
    }
}

struct Marking<'a> {
    graph: &'a Graph,
    patch: Patch,
    markers: Vec<(ValueId, Marker)>,
    renamed: FxHashMap<ValueId, ValueId>,
    /// The tensors of constants that are quantized for all readers.
    baked: FxHashMap<ValueId, Tensor>,
}

impl Marking<'_> {
    fn value(&mut self, value: ValueId, quantizer: &Quantizer) -> Result<(), Failure> {
        let graph = self.graph;
        if graph.try_value(value).is_none() {
            return Err(Failure::of("the plan speaks of a value that is gone"));
        }
        let quantized = if let Some(tensor) = graph.constant(value) {
            let baked = self.bake(value, tensor, quantizer)?;
            self.baked.insert(value, baked.clone());
            self.patch.constant(graph, graph.value(value).name(), baked)
        } else {
            if let Some((producer, _)) = graph.producer(value) {
                self.patch.stand_at(graph, producer);
            }
            self.mark(value, value, quantizer)
        };
        self.patch.redirect(graph, value, quantized);
        self.renamed.insert(value, quantized);
        Ok(())
    }

    fn operand(&mut self, op: OpId, slot: usize, quantizer: &Quantizer) -> Result<(), Failure> {
        let graph = self.graph;
        let value = graph.try_op(op).filter(|it| slot < it.input_arity()).and_then(|_| graph.input(op, slot));
        let Some(value) = value else {
            return Err(Failure::of("the plan speaks of an operand that is gone"));
        };
        let quantized = if let Some(tensor) = self.baked.get(&value).or_else(|| graph.constant(value)).cloned() {
            let baked = self.bake(value, &tensor, quantizer)?;
            // A copy for this reader alone: others may read the constant in float.
            self.patch.constant(graph, graph.value(value).name(), baked)
        } else {
            self.patch.stand_at(graph, op);
            let from = self.renamed.get(&value).copied().unwrap_or(value);
            self.mark(value, from, quantizer)
        };
        self.patch.set_input(op, slot, Some(quantized));
        Ok(())
    }

    /// A marker that reads `from`; its output is named after `value`.
    fn mark(&mut self, value: ValueId, from: ValueId, quantizer: &Quantizer) -> ValueId {
        let hint = format!("{}_fake", self.graph.value(value).name());
        let marker = Marker::Fake(Arc::new(quantizer.clone()));
        let op = marker.op().named(hint.clone());
        let (_, outputs) = self.patch.op(self.graph, op, &[Some(from)], &[Output::New(hint)]);
        let output = outputs[0].expect("a new output");
        self.markers.push((output, marker));
        output
    }

    fn bake(&self, value: ValueId, tensor: &Tensor, quantizer: &Quantizer) -> Result<Tensor, Failure> {
        let fail = |reason: String| Failure { op: None, node: Some(self.graph.value(value).name().to_owned()), reason };
        let Some(floats) = tensor.to_f32() else {
            return Err(fail(format!("the plan quantizes a constant of {}", tensor.element())));
        };
        let mut floats = floats.into_owned();
        quantize(quantizer, tensor.shape(), &mut floats).map_err(|error| fail(error.to_string()))?;
        Ok(Tensor::new(tensor.shape().to_vec(), floats))
    }
}
