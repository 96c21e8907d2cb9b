//! Preparing and running: the part of the model that the taps need, with the taps as its outputs.

use std::collections::BTreeMap;
use std::sync::Mutex;

use onnxq_ir::{Graph, Model, Origin, Patch, ValueId, ops};
use onnxq_plan::{EngineError, Quantizer, Request, Runner, Sample, Session, Shown, overlay};
use ort::logging::LogLevel;
use ort::session::Session as Native;
use ort::session::builder::GraphOptimizationLevel;

use crate::simulate::{Halves, fake, narrow_constants};
use crate::tensor::{show, show_ort, to_ort};
use crate::{Encode, NAME};

/// Simulated operators are written in the forms that they have from this version on.
const SIMULATED: i64 = 13;

/// The longest reason that is shown.
const LONGEST_REASON: usize = 300;

/// A request that ONNX Runtime can serve.
pub(crate) struct OrtSession<'a> {
    request: Request<'a>,
    file: Vec<u8>,
    /// The native session that proved that the file can be loaded, until somebody takes it.
    first: Mutex<Option<Native>>,
    /// The inputs of the file, by name.
    inputs: Vec<(ValueId, String)>,
    /// What each output of the file stands for.
    outputs: BTreeMap<String, Vec<ValueId>>,
    /// Constants and inputs that are tapped.
    direct: Vec<ValueId>,
}

impl<'a> OrtSession<'a> {
    pub(crate) fn new(request: Request<'a>, encode: Encode) -> Result<Self, EngineError> {
        let graph = &request.model.graph;
        let mut halves = Halves::new();
        let mut mark = |patch: &mut Patch, graph: &Graph, from: ValueId, quantizer: &Quantizer, name: &str| {
            fake(patch, graph, from, quantizer, name, &mut halves)
        };
        let mut overlaid = match request.plan {
            Some(plan) => overlay(graph, plan, &mut mark).map_err(|error| refusal(error.value, &error.reason))?,
            None => None,
        };
        if let Some(overlaid) = &mut overlaid {
            narrow_constants(graph, &mut overlaid.graph).map_err(|error| refusal(None, &error.to_string()))?;
        }
        let (simulated, renamed) = match overlaid {
            Some(overlaid) => (Some(overlaid.graph), overlaid.renamed),
            None => (None, BTreeMap::new()),
        };
        let (mut direct, mut outputs) = (Vec::new(), BTreeMap::<String, Vec<ValueId>>::new());
        let mut asked = Vec::new();
        let is_simulated = simulated.is_some();
        let mut model = Model { graph: simulated.unwrap_or_else(|| graph.clone()), ..request.model.clone() };
        for &tap in request.taps {
            let seen = renamed.get(&tap).copied().unwrap_or(tap);
            match model.graph.value(seen).origin() {
                Origin::Constant(_) | Origin::Input(_) => direct.push(tap),
                _ => {
                    asked.push(seen);
                    outputs.entry(model.graph.value(seen).name().to_owned()).or_default().push(tap);
                }
            }
        }
        model.graph.restrict(&asked);
        let inputs =
            model.graph.inputs().iter().map(|input| (input.value, model.graph.value(input.value).name().to_owned()));
        let inputs = inputs.collect();
        let opset = model.graph.opset();
        model.graph = ops::expand(&model.graph, opset).map_err(|error| refusal(None, &error.to_string()))?;
        if is_simulated && opset < SIMULATED {
            ops::opset::convert(&mut model, SIMULATED).map_err(|error| refusal(None, &error.to_string()))?;
        }
        let file = encode(&model).map_err(|reason| refusal(None, &reason))?;
        let first = if asked.is_empty() { None } else { Some(native(&file)?) };
        Ok(Self { request, file, first: Mutex::new(first), inputs, outputs, direct })
    }
}

pub(crate) fn refusal(node: Option<String>, reason: &str) -> EngineError {
    EngineError::Prepare { engine: NAME, node, reason: shorten(reason) }
}

fn native(file: &[u8]) -> Result<Native, EngineError> {
    let build = || -> ort::Result<Native> {
        Native::builder()?
            .with_optimization_level(GraphOptimizationLevel::Disable)?
            .with_intra_threads(1)?
            .with_inter_threads(1)?
            .with_log_level(LogLevel::Fatal)?
            .commit_from_memory(file)
    };
    build().map_err(|error| refusal(None, &error.to_string()))
}

/// One line, cut at a character boundary.
fn shorten(reason: &str) -> String {
    let line = reason.split_whitespace().collect::<Vec<_>>().join(" ");
    match line.char_indices().nth(LONGEST_REASON) {
        None => line,
        Some((end, _)) => format!("{}...", &line[..end]),
    }
}

impl Session for OrtSession<'_> {
    fn runner(&self) -> Box<dyn Runner + '_> {
        let native = self.first.lock().expect("no thread panics while it takes the session").take();
        Box::new(OrtRunner { session: self, native })
    }
}

struct OrtRunner<'s> {
    session: &'s OrtSession<'s>,
    native: Option<Native>,
}

impl Runner for OrtRunner<'_> {
    fn run(&mut self, sample: &Sample, see: &mut dyn FnMut(&Shown<'_>)) -> Result<(), EngineError> {
        let OrtSession { request, file, inputs, outputs, direct, .. } = self.session;
        let failed = |reason: String| EngineError::Run { engine: NAME, sample: sample.index, reason: shorten(&reason) };
        let graph = &request.model.graph;
        for &value in direct {
            if let Some(tensor) = sample.given(value).or_else(|| graph.value(value).origin().tensor()) {
                show(tensor, &mut |shape, elements| see(&Shown { value, shape, elements }));
            }
        }
        if outputs.is_empty() {
            return Ok(());
        }
        let mut feeds = Vec::new();
        for (value, name) in inputs {
            match (sample.given(*value), graph.value(*value).origin()) {
                (Some(tensor), _) => feeds.push((name.as_str(), to_ort(tensor).map_err(&failed)?)),
                (None, Origin::Input(Some(_))) => {}
                (None, _) => return Err(failed(format!("input `{name}` is missing"))),
            }
        }
        let native = match &mut self.native {
            Some(native) => native,
            none => none.insert(native(file)?),
        };
        let found = native.run(feeds).map_err(|error| failed(error.to_string()))?;
        for (name, taps) in outputs {
            let value = found.get(name).ok_or_else(|| failed(format!("`{name}` was not computed")))?;
            for &tap in taps {
                show_ort(value, &mut |shape, elements| see(&Shown { value: tap, shape, elements }))
                    .map_err(|reason| failed(format!("`{name}`: {reason}")))?;
            }
        }
        Ok(())
    }
}
