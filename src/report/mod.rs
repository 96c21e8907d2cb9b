//! What a run did, for people and for machines.

mod summary;

pub(crate) use summary::{bytes, output_line, sqnr, top1_line};

use std::collections::BTreeMap;
use std::path::Path;

use onnxq_passes::{Coverage, Settings};
use onnxq_plan::{Declined, DescribedSite, Port, Target};
use serde::Serialize;

use crate::bodies::Body;
use crate::driver::{Done, Measured, MeasuredOn};
use crate::lint::{Check, Outlook};
use crate::measure::Quality;
use crate::recipe::Recipe;
use crate::seconds::Seconds;

/// Bytes of the model before and after, all weights included.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Sizes {
    /// Before.
    pub before: u64,
    /// After.
    pub after: u64,
}

/// What stayed float for one reason.
#[derive(Clone, Debug, Serialize)]
pub struct LeftFloat {
    /// How many operators of each kind.
    pub operators: BTreeMap<String, usize>,
    /// The reason's short name.
    pub reason: String,
    /// The reason in words.
    pub detail: String,
    /// The nodes.
    pub nodes: Vec<String>,
}

/// What became of a body of If, Loop or Scan.
#[derive(Clone, Debug, Serialize)]
pub struct BodyReport {
    /// The node that it belongs to.
    pub node: String,
    /// Its attribute, such as `then_branch`.
    pub body: String,
    /// How often a sample of the model around it runs it, on average; null where nothing had to be run.
    pub runs_per_sample: Option<f64>,
    /// Quantized operators, by kind.
    pub quantized: BTreeMap<String, usize>,
    /// How near its own outputs are to float in one run, in dB, where that was measured.
    pub sqnr_db: Option<f64>,
    /// What each pass did.
    pub passes: Vec<PassReport>,
    /// The bodies in it.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub bodies: Vec<BodyReport>,
}

/// What one pass did.
#[derive(Clone, Debug, Serialize)]
pub struct PassReport {
    /// The pass.
    pub pass: &'static str,
    /// What it does to the model's function.
    pub promise: String,
    /// Patches that it applied.
    pub rewrites: usize,
    /// Sites that it gave a place in the plan or a quantizer.
    pub assigned: usize,
    /// What it looked at and left, with the reason.
    pub declined: Vec<DeclinedReport>,
}

/// Something that a pass left as it was.
#[derive(Clone, Debug, Serialize)]
pub struct DeclinedReport {
    /// The node.
    pub node: String,
    /// The operator.
    pub operator: String,
    /// Why.
    pub reason: String,
}

/// A plan, as `--dry-run --json` prints it.
#[derive(Clone, Debug, Serialize)]
pub struct PlanReport {
    /// What is quantized, in the order of the graph.
    pub sites: Vec<DescribedSite>,
    /// The nodes that could have been and are not, with the reason.
    pub float: Vec<DeclinedReport>,
}

/// Output quality, or why there is none.
#[derive(Clone, Debug, Serialize)]
#[serde(untagged)]
pub enum QualityReport {
    /// Measured.
    Measured {
        /// On what.
        on: MeasuredOn,
        /// The figures.
        #[serde(flatten)]
        quality: Quality,
        /// Outputs out of reach, with what stands in.
        #[serde(skip_serializing_if = "Vec::is_empty")]
        stand_ins: Vec<(String, Vec<String>)>,
    },
    /// Not measured.
    NotMeasured {
        /// Why.
        not_measured: String,
    },
}

/// The report of a run.
#[derive(Clone, Debug, Serialize)]
pub struct Report {
    /// The model that was read.
    pub input: String,
    /// The model that was written.
    pub output: String,
    /// Why nothing was written, where that is so.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub refused: Option<String>,
    /// The recipe.
    pub recipe: String,
    /// The target.
    pub target: String,
    /// Bits, such as `w8a8`.
    pub bits: String,
    /// Samples that calibration saw.
    pub samples: usize,
    /// Bytes before and after.
    pub sizes: Sizes,
    /// How much of the model is computed and stored in codes.
    pub coverage: Coverage,
    /// Quantized operators, by kind.
    pub quantized: BTreeMap<String, usize>,
    /// What stayed float, by reason.
    pub left_float: Vec<LeftFloat>,
    /// How near the simulation is to the float model.
    pub quality: QualityReport,
    /// What the target's runtime is predicted to make of the result, where its kernels are known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub lint: Option<Outlook>,
    /// What the runtime itself made of the result, where it was asked.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub check: Option<Check>,
    /// What each pass did.
    pub passes: Vec<PassReport>,
    /// What became of bodies with something to quantize.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub bodies: Vec<BodyReport>,
    /// What became of float inputs and outputs, where codes were wanted there.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub io: Vec<Port>,
    /// What a person should know.
    pub notes: Vec<String>,
    /// How long it took. All else is the same in every run.
    pub seconds: Seconds,
    /// The plan, where it was asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub plan: Option<PlanReport>,
}

impl Report {
    /// The report of a run that is done.
    pub fn new(
        input: &Path,
        output: &Path,
        recipe: &Recipe,
        target: &Target,
        settings: &Settings,
        done: &Done,
        sizes: Sizes,
    ) -> Self {
        Self {
            input: input.display().to_string(),
            output: output.display().to_string(),
            refused: None,
            recipe: recipe.name.clone(),
            target: target.name.clone(),
            bits: settings.bits.to_string(),
            samples: done.samples,
            sizes,
            coverage: done.coverage,
            quantized: done.operator_counts(),
            left_float: left_float(done),
            quality: quality(&done.measured),
            lint: None,
            check: None,
            passes: done.records.iter().map(pass_report).collect(),
            bodies: done.bodies.iter().map(body_report).collect(),
            io: done.plan.ports.clone(),
            notes: done.notes.clone(),
            seconds: done.seconds,
            plan: None,
        }
    }

    /// The same report with the plan in it.
    #[must_use]
    pub fn with_plan(self, done: &Done) -> Self {
        let float = done.left_float().iter().map(declined_report).collect();
        Self { plan: Some(PlanReport { sites: done.described.clone(), float }), ..self }
    }

    /// The report as JSON, one object.
    pub fn json(&self) -> String {
        serde_json::to_string_pretty(self)
            .map_or_else(|error| format!("{{\"error\": \"{error}\"}}\n"), |text| text + "\n")
    }
}

/// A reason is `short-name: words`.
fn split_reason(reason: &str) -> (&str, &str) {
    reason.split_once(": ").unwrap_or((reason, reason))
}

fn left_float(done: &Done) -> Vec<LeftFloat> {
    let mut by_reason: BTreeMap<String, LeftFloat> = BTreeMap::new();
    for declined in done.left_float() {
        let (reason, detail) = split_reason(&declined.reason);
        let group = by_reason.entry(reason.to_owned()).or_insert_with(|| LeftFloat {
            operators: BTreeMap::new(),
            reason: reason.to_owned(),
            detail: detail.to_owned(),
            nodes: Vec::new(),
        });
        *group.operators.entry(declined.op_type).or_insert(0) += 1;
        group.nodes.push(declined.site);
    }
    by_reason.into_values().collect()
}

fn quality(measured: &Measured) -> QualityReport {
    match measured {
        Measured::Quality { quality, on, stand_ins } => {
            QualityReport::Measured { on: *on, quality: quality.clone(), stand_ins: stand_ins.clone() }
        }
        Measured::Not(why) => QualityReport::NotMeasured { not_measured: why.clone() },
    }
}

fn declined_report(declined: &Declined) -> DeclinedReport {
    DeclinedReport { node: declined.site.clone(), operator: declined.op_type.clone(), reason: declined.reason.clone() }
}

fn body_report(body: &Body) -> BodyReport {
    BodyReport {
        node: body.node.clone(),
        body: body.name.clone(),
        runs_per_sample: body.runs,
        quantized: body.done().map(Done::operator_counts).unwrap_or_default(),
        sqnr_db: body.done().and_then(|done| match &done.measured {
            Measured::Quality { quality, .. } => Some(quality.sqnr_db),
            Measured::Not(_) => None,
        }),
        passes: body.done().map(|done| done.records.iter().map(pass_report).collect()).unwrap_or_default(),
        bodies: body.done().map(|done| done.bodies.iter().map(body_report).collect()).unwrap_or_default(),
    }
}

fn pass_report(record: &crate::driver::Record) -> PassReport {
    PassReport {
        pass: record.pass,
        promise: record.promise.to_string(),
        rewrites: record.outcome.applied.len(),
        assigned: record.outcome.assigned,
        declined: record.outcome.declined.iter().map(declined_report).collect(),
    }
}
