//! Predicts which integer kernels a runtime takes for a quantized model, without the runtime, and says what is missing
//! where it takes none.
//!
//! The way: a light copy of the graph (`sketch`), what the runtime itself changes first (`rewrites`), each operator against
//! the rules of the target's kernels (`kernels`, `select`), then what is left over: conversions that run, and operators that
//! stay float between them (`judge`). Where the runtime is at hand, its own optimized graph is set
//! beside the prediction (`optimized`, `check`). Knows nothing of how the model was made: it works on anybody's file.

mod check;
mod judge;
pub mod kernels;
pub mod optimized;
mod reason;
mod releases;
mod report;
mod rewrites;
mod select;
mod sketch;
mod version;

use std::collections::BTreeMap;

use onnxq_engine::Tract;
use onnxq_ir::{Graph, Model};
use onnxq_plan::Evaluator as _;
use serde::Serialize;

pub use check::Check;
pub use kernels::{Kernels, Level};
pub use reason::Reason;
pub use report::{Names, Outlook, Report};
pub use version::{NoVersion, Version};

use judge::Judged;
use sketch::Sketch;

/// What becomes of one operator that has codes on a side.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verdict {
    /// The node's name, or its first output's.
    pub node: String,
    /// The operator.
    pub operator: String,
    /// The integer kernel, or why there is none.
    pub kernel: Result<String, Reason>,
}

/// Something to say of an operator, or of the file where there is no node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// How much it weighs.
    pub level: Level,
    /// The node's name, or its first output's.
    pub node: Option<String>,
    /// The operator.
    pub operator: String,
    /// Whether the operator stays float.
    pub is_float: bool,
    /// What there is to say.
    pub reason: Reason,
}

impl Finding {
    /// One that is about no node.
    fn of_model(level: Level, reason: Reason) -> Self {
        Self { level, node: None, operator: String::new(), is_float: false, reason }
    }
}

/// QuantizeLinear and DequantizeLinear, counted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Conversions {
    /// QuantizeLinear.
    pub quantize: usize,
    /// DequantizeLinear.
    pub dequantize: usize,
}

impl Conversions {
    /// Both together.
    pub fn total(self) -> usize {
        self.quantize + self.dequantize
    }
}

impl std::ops::AddAssign for Conversions {
    fn add_assign(&mut self, other: Self) {
        self.quantize += other.quantize;
        self.dequantize += other.dequantize;
    }
}

/// What is predicted of a model.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Lint {
    /// The operators with codes on a side, in the order in which they run; bodies behind their owners.
    pub verdicts: Vec<Verdict>,
    /// Integer kernels that compute.
    pub kernels: BTreeMap<String, usize>,
    /// Operators that move codes or pick some.
    pub moving: BTreeMap<String, usize>,
    /// Conversions that run.
    pub running: Conversions,
    /// DequantizeLinear among them of constants with one dimension, which cost next to nothing.
    pub vectors: usize,
    /// Conversions that run for nothing: a pair with no integer kernel on a side, a weight dequantized for float.
    pub stranded: Conversions,
    /// What there is to say.
    pub findings: Vec<Finding>,
}

impl Lint {
    /// The prediction for a model; `oldest` is the oldest release that must do with it.
    pub fn of(model: &Model, kernels: &Kernels, oldest: Option<Version>) -> Self {
        let mut lint = Self::default();
        lint.add_graph(&model.graph, None, kernels, oldest);
        lint.weigh(kernels);
        if !model.functions.is_empty() {
            let reason = Reason::Functions { count: model.functions.len() };
            lint.findings.push(Finding::of_model(Level::Note, reason));
        }
        if let Some(oldest) = oldest {
            lint.findings.extend(releases::findings(model, kernels, oldest));
        }
        lint
    }

    fn add_graph(&mut self, graph: &Graph, around: Option<&Sketch<'_>>, kernels: &Kernels, oldest: Option<Version>) {
        let sketch = Sketch::of(graph, around);
        self.add(judge::judge(sketch.clone(), kernels, oldest));
        for op in graph.op_ids() {
            graph.op(op).bodies().for_each(|body| self.add_graph(body, Some(&sketch), kernels, oldest));
        }
    }

    fn add(&mut self, judged: Judged) {
        self.verdicts.extend(judged.verdicts.into_values());
        self.findings.extend(judged.findings.into_iter().map(|(_, finding)| finding));
        for (kernel, moves) in judged.kernels {
            *if moves { &mut self.moving } else { &mut self.kernels }.entry(kernel).or_insert(0) += 1;
        }
        self.running += judged.conversions.running;
        self.vectors += judged.conversions.vectors;
        self.stranded += judged.conversions.stranded;
    }

    /// Sets conversions against integer kernels.
    fn weigh(&mut self, rules: &Kernels) {
        let conversions = self.running.total() - self.vectors;
        let kernels: usize = self.kernels.values().sum();
        if conversions as f64 > rules.max_conversions * kernels.max(1) as f64 {
            self.findings.push(Finding::of_model(Level::Warning, Reason::Conversions { conversions, kernels }));
        }
    }

    /// Whether the model has anything quantized at all.
    pub fn is_quantized(&self) -> bool {
        !self.kernels.is_empty() || !self.moving.is_empty() || self.running.total() > 0
    }

    /// Whether something is slower than float or does not load.
    pub fn warns(&self) -> bool {
        self.findings.iter().any(|finding| finding.level == Level::Warning)
    }
}

/// Operators above which shapes are not inferred: tract's time grows faster than their number in quantized models.
const INFERRED_OPERATORS: usize = 4000;

/// Gives a model the shapes that a prediction hangs on and that its file does not declare: those of a MatMul with an Add
/// behind it. Says how many of these stay unknown.
pub fn infer(model: &mut Model) -> usize {
    let unknown = |model: &Model| rewrites::unknown_products(&Sketch::of(&model.graph, None));
    if unknown(model) > 0
        && model.graph.op_ids().count() <= INFERRED_OPERATORS
        && let Ok(inferred) = Tract.infer(model)
    {
        for known in inferred {
            model.graph.set_type(known.value, known.tensor_type);
        }
    }
    unknown(model)
}
