//! A plan laid over a float graph, as engines simulate it: what an engine chooses stands where activations are quantized,
//! and constants that are quantized hold their levels.
//!
//! Works on a copy of the graph, before recognised operators are expanded: sites speak of the recognised graph.

use std::collections::BTreeMap;

use onnxq_ir::{Graph, OpId, Patch, Tensor, ValueId};

use crate::plan::{Plan, Quantizer};
use crate::site::Site;

/// A graph under a plan.
pub struct Overlaid {
    /// The copy.
    pub graph: Graph,
    /// Where a value goes by another one, because all who read it see it quantized.
    pub renamed: BTreeMap<ValueId, ValueId>,
}

/// Why a plan can't be laid over a graph.
#[derive(Clone, Debug, thiserror::Error)]
#[error("{reason}")]
pub struct OverlayError {
    /// The value that is to blame.
    pub value: Option<String>,
    /// Why.
    pub reason: String,
}

/// Puts what stands for a quantizer behind a value: gets the value, the quantizer, and a name for what is new; gives the
/// value that has the levels.
pub type Mark<'m> = dyn FnMut(&mut Patch, &Graph, ValueId, &Quantizer, &str) -> Result<ValueId, String> + 'm;

/// The graph under a plan; `None` where no site has a quantizer. Sites without one are float.
pub fn overlay(graph: &Graph, plan: &Plan, mark: &mut Mark<'_>) -> Result<Option<Overlaid>, OverlayError> {
    let sites: Vec<(Site, &Quantizer)> =
        plan.entries().filter_map(|(site, entry)| Some((site, entry.quantizer.as_ref()?))).collect();
    let Some(anchor) = graph.op_ids().next().filter(|_| !sites.is_empty()) else { return Ok(None) };
    let patch = Patch::new(graph, "simulate", anchor);
    let mut overlay = Overlay { graph, patch, mark, renamed: BTreeMap::new(), baked: BTreeMap::new() };
    // Values first: an operand that has a quantizer of its own reads what its value's quantizer gives.
    for (site, quantizer) in &sites {
        if let Site::Output(value) = site {
            overlay.value(*value, quantizer)?;
        }
    }
    for (site, quantizer) in &sites {
        if let Site::Operand { op, slot } = site {
            overlay.operand(*op, *slot, quantizer)?;
        }
    }
    let Overlay { patch, renamed, .. } = overlay;
    let mut copy = graph.clone();
    patch.apply(&mut copy).map_err(|error| OverlayError { value: None, reason: error.to_string() })?;
    Ok(Some(Overlaid { graph: copy, renamed }))
}

struct Overlay<'a, 'm> {
    graph: &'a Graph,
    patch: Patch,
    mark: &'a mut Mark<'m>,
    renamed: BTreeMap<ValueId, ValueId>,
    /// The tensors of constants that are quantized for all readers.
    baked: BTreeMap<ValueId, Tensor>,
}

impl Overlay<'_, '_> {
    fn value(&mut self, value: ValueId, quantizer: &Quantizer) -> Result<(), OverlayError> {
        let graph = self.graph;
        if graph.try_value(value).is_none() {
            let reason = "the plan speaks of a value that is gone".to_owned();
            return Err(OverlayError { value: None, reason });
        }
        let quantized = if let Some(tensor) = graph.constant(value) {
            let baked = self.bake(value, tensor, quantizer)?;
            self.baked.insert(value, baked.clone());
            self.patch.constant(graph, graph.value(value).name(), baked)
        } else {
            if let Some((producer, _)) = graph.producer(value) {
                self.patch.stand_at(graph, producer);
            }
            self.mark(value, value, quantizer)?
        };
        self.patch.redirect(graph, value, quantized);
        self.renamed.insert(value, quantized);
        Ok(())
    }

    fn operand(&mut self, op: OpId, slot: usize, quantizer: &Quantizer) -> Result<(), OverlayError> {
        let graph = self.graph;
        let value = graph.try_op(op).filter(|it| slot < it.input_arity()).and_then(|_| graph.input(op, slot));
        let Some(value) = value else {
            let reason = "the plan speaks of an operand that is gone".to_owned();
            return Err(OverlayError { value: None, reason });
        };
        let quantized = if let Some(tensor) = self.baked.get(&value).or_else(|| graph.constant(value)).cloned() {
            let baked = self.bake(value, &tensor, quantizer)?;
            // A copy for this reader alone: others may read the constant in float.
            self.patch.constant(graph, graph.value(value).name(), baked)
        } else {
            self.patch.stand_at(graph, op);
            let from = self.renamed.get(&value).copied().unwrap_or(value);
            self.mark(value, from, quantizer)?
        };
        self.patch.set_input(op, slot, Some(quantized));
        Ok(())
    }

    /// What stands for the quantizer behind `from`, named after `value`.
    fn mark(&mut self, value: ValueId, from: ValueId, quantizer: &Quantizer) -> Result<ValueId, OverlayError> {
        let name = self.graph.value(value).name();
        (self.mark)(&mut self.patch, self.graph, from, quantizer, &format!("{name}_fake"))
            .map_err(|reason| OverlayError { value: Some(name.to_owned()), reason })
    }

    fn bake(&self, value: ValueId, tensor: &Tensor, quantizer: &Quantizer) -> Result<Tensor, OverlayError> {
        let fail = |reason: String| OverlayError { value: Some(self.graph.value(value).name().to_owned()), reason };
        let Some(floats) = tensor.to_f32() else {
            return Err(fail(format!("the plan quantizes a constant of {}", tensor.element())));
        };
        let mut floats = floats.into_owned();
        quantizer.fake(tensor.shape(), &mut floats).map_err(|misfit| fail(misfit.to_string()))?;
        Ok(Tensor::new(tensor.shape().to_vec(), floats))
    }
}
