//! A plan laid over a float graph: marker operators where activations are quantized.

use std::borrow::Cow;
use std::sync::Arc;

use onnxq_ir::{Graph, Output};
use onnxq_plan::{Plan, overlay};

use crate::guard::Failure;
use crate::marked::{Marked, Marker};

impl<'a> Marked<'a> {
    /// The graph under a plan; sites without a quantizer are float.
    pub(crate) fn simulated(graph: &'a Graph, plan: &Plan) -> Result<Self, Failure> {
        let mut markers = Vec::new();
        let overlaid = overlay(graph, plan, &mut |patch, graph, from, quantizer, name| {
            let marker = Marker::Fake(Arc::new(quantizer.clone()));
            let op = marker.op().named(name);
            let (_, outputs) = patch.op(graph, op, &[Some(from)], &[Output::New(name.to_owned())]);
            let output = outputs[0].expect("a new output");
            markers.push((output, marker));
            Ok(output)
        });
        match overlaid.map_err(|error| Failure { op: None, node: error.value, reason: error.reason })? {
            None => Ok(Self::float(graph)),
            Some(overlaid) => Ok(Self { graph: Cow::Owned(overlaid.graph), markers, renamed: overlaid.renamed }),
        }
    }
}
