//! A graph in the form in which it is handed over: a copy where something had to change, with markers where operators of
//! our own take the place of tract's.
//!
//! Markers are operators of a domain of their own in the IR. tract parses them as unknown ones; they are replaced before
//! it looks at them.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::sync::Arc;

use onnxq_ir::{Graph, Model, Op, ValueId, ops};
use onnxq_plan::Quantizer;
use tract_onnx::tract_hir::internal::{InferenceOp, expand};

use crate::fake::Fake;
use crate::guard::Failure;
use crate::load::{Fed, Loaded};
use crate::quantize::{Codec, replace_codecs};
use crate::rewrite;
use crate::squeeze::{SqueezeAll, replace_squeezes};
use crate::tensor::HalfFloats;

/// The newest version whose operators may stand for recognised ones: tract has LayerNormalization, Gelu and
/// RMSNormalization whatever the graph's version is.
const NEWEST: i64 = 23;

/// The domain of markers.
pub(crate) const DOMAIN: &str = "onnxq.engine";

/// An operator of our own.
#[derive(Clone, Debug)]
pub(crate) enum Marker {
    /// A site of a plan.
    Fake(Arc<Quantizer>),
    /// QuantizeLinear or DequantizeLinear.
    Codec(Arc<Codec>),
    /// Squeeze of all axes of size 1.
    Squeeze,
}

impl Marker {
    /// The marker as an operator of the IR.
    pub(crate) fn op(&self) -> Op {
        let op_type = match self {
            Self::Fake(_) => "Fake",
            Self::Codec(_) => "Codec",
            Self::Squeeze => "SqueezeAll",
        };
        Op::new(DOMAIN, op_type, vec![])
    }

    fn engine_op(&self, halves: HalfFloats) -> Box<dyn InferenceOp> {
        match self {
            Self::Fake(quantizer) => expand(Fake::new(Arc::clone(quantizer))),
            Self::Codec(codec) => expand(codec.with(halves)),
            Self::Squeeze => expand(SqueezeAll),
        }
    }
}

/// A graph with markers.
pub(crate) struct Marked<'a> {
    /// The graph.
    pub graph: Cow<'a, Graph>,
    /// What each marker stands for, by the value that it writes.
    pub markers: Vec<(ValueId, Marker)>,
    /// Where a value goes by another one, because all who read it see it quantized.
    pub renamed: BTreeMap<ValueId, ValueId>,
}

impl<'a> Marked<'a> {
    /// The graph as it is.
    pub(crate) fn float(graph: &'a Graph) -> Self {
        Self { graph: Cow::Borrowed(graph), markers: Vec::new(), renamed: BTreeMap::new() }
    }

    /// Brings the graph into the form in which it is handed over: recognised operators in ONNX's own spelling, what tract
    /// lacks in what it has, branches and loops dissolved where what `fed` says of the inputs decides them, operators of
    /// our own marked.
    pub(crate) fn hand_over(&mut self, model: &Model, fed: &dyn Fn(ValueId) -> Fed) -> Result<(), Failure> {
        self.expand()?;
        if let Some(standard) = rewrite::standard(&self.graph, &model.functions)? {
            self.graph = Cow::Owned(standard);
        }
        replace_codecs(self)?;
        replace_squeezes(self)?;
        while rewrite::dissolve(self, model, fed)? || rewrite::settle(self, model, fed)? {
            replace_codecs(self)?;
            replace_squeezes(self)?;
        }
        rewrite::adapt_bodies(self)
    }

    /// Spells recognised operators in ONNX's own.
    fn expand(&mut self) -> Result<(), Failure> {
        if has_recognised(&self.graph) {
            let expanded = ops::expand(&self.graph, NEWEST).map_err(|error| Failure::of(error.to_string()))?;
            self.graph = Cow::Owned(expanded);
        }
        Ok(())
    }

    /// The value that stands for `value` as its readers see it.
    pub(crate) fn seen(&self, value: ValueId) -> ValueId {
        self.renamed.get(&value).copied().unwrap_or(value)
    }

    /// Puts the operators of our own where the markers are.
    pub(crate) fn install(&self, loaded: &mut Loaded, halves: HalfFloats) {
        for (value, marker) in &self.markers {
            // A marker that the targets don't need was not handed over.
            if let Some(outlet) = loaded.outlet(*value) {
                loaded.model.node_mut(outlet.node).op = marker.engine_op(halves);
            }
        }
    }
}

fn has_recognised(graph: &Graph) -> bool {
    graph.op_ids().any(|id| {
        let op = graph.op(id);
        op.domain() == onnxq_ir::RECOGNISED || op.bodies().any(has_recognised)
    })
}
