//! A prediction as a person reads it, and as a machine does.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use serde::Serialize;

use super::{Check, Conversions, Level, Lint, Reason};

/// How many nodes of a group are named.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Names {
    /// The first few.
    Few,
    /// All.
    All,
}

/// Names of a group that are shown at a glance.
const FEW: usize = 3;

/// Findings of one reason.
struct Group<'l> {
    level: Level,
    is_float: bool,
    reason: &'l Reason,
    operators: BTreeMap<&'l str, usize>,
    nodes: Vec<&'l str>,
}

/// A prediction in short, for the report of a run.
#[derive(Clone, Debug, Serialize)]
pub struct Outlook {
    /// One line: `20 MatMulIntegerToFloat, 1 QGemm, 0 stranded`.
    #[serde(skip)]
    pub line: String,
    /// Integer kernels that compute.
    pub kernels: BTreeMap<String, usize>,
    /// Conversions that run.
    pub running: Conversions,
    /// Conversions that run for nothing.
    pub stranded: Conversions,
    /// What is slower than float.
    pub warnings: usize,
}

impl Lint {
    /// The prediction in short.
    pub fn outlook(&self) -> Outlook {
        let kernels = if self.kernels.is_empty() { "no integer kernel".to_owned() } else { counted(&self.kernels) };
        let warnings = self.findings.iter().filter(|finding| finding.level == Level::Warning).count();
        let told = match warnings {
            0 => String::new(),
            1 => "; 1 warning, which `onnxq lint` tells".to_owned(),
            _ => format!("; {warnings} warnings, which `onnxq lint` tells"),
        };
        Outlook {
            line: format!("{kernels}, {} stranded{told}", self.stranded.total()),
            kernels: self.kernels.clone(),
            running: self.running,
            stranded: self.stranded,
            warnings,
        }
    }

    /// Kernels and conversions, as a person reads them.
    pub fn head(&self) -> String {
        let mut text = String::new();
        if self.is_quantized() {
            self.write_head(&mut text);
        } else {
            let _ = writeln!(text, "  nothing    is quantized in this model");
        }
        text
    }

    /// What there is to say of nodes, by reason.
    pub fn told(&self, names: Names) -> String {
        self.groups().iter().fold(String::new(), |text, group| format!("{text}\n{}", group.text(names)))
    }

    fn write_head(&self, text: &mut String) {
        let kernels = if self.kernels.is_empty() { "none".to_owned() } else { counted(&self.kernels) };
        let _ = writeln!(text, "  integer    {kernels}");
        if !self.moving.is_empty() {
            let _ = writeln!(text, "  on codes   {}", counted(&self.moving));
        }
        let mut floats: BTreeMap<String, usize> = BTreeMap::new();
        for verdict in self.verdicts.iter().filter(|verdict| verdict.kernel.is_err()) {
            *floats.entry(verdict.operator.clone()).or_insert(0) += 1;
        }
        if !floats.is_empty() {
            let _ = writeln!(text, "  float      {} beside conversions", counted(&floats));
        }
        let vectors = if self.vectors > 0 { format!(", {} of them of vectors", self.vectors) } else { String::new() };
        let _ = writeln!(text, "  running    {}{vectors}", conversions(self.running));
        let _ = writeln!(text, "  stranded   {}", conversions(self.stranded));
    }

    /// Findings by reason, the weightiest and most frequent first.
    fn groups(&self) -> Vec<Group<'_>> {
        let mut groups: BTreeMap<(Level, bool, &Reason), Group<'_>> = BTreeMap::new();
        for finding in &self.findings {
            let key = (finding.level, finding.is_float, &finding.reason);
            let group = groups.entry(key).or_insert_with(|| Group {
                level: finding.level,
                is_float: finding.is_float,
                reason: &finding.reason,
                operators: BTreeMap::new(),
                nodes: Vec::new(),
            });
            if let Some(node) = &finding.node {
                *group.operators.entry(&finding.operator).or_insert(0) += 1;
                group.nodes.push(node);
            }
        }
        let mut groups: Vec<_> = groups.into_values().collect();
        groups.sort_by_key(|group| (group.level, std::cmp::Reverse(group.nodes.len())));
        groups
    }

    /// The whole, for machines.
    pub fn report(&self, model: &str, target: &str) -> Report {
        let groups = self.groups().into_iter().map(|group| FindingReport {
            level: group.level,
            reason: group.reason.name(),
            what: group.what(),
            why: group.reason.why(),
            change: group.reason.change(),
            nodes: group.nodes.into_iter().map(str::to_owned).collect(),
        });
        Report {
            model: model.to_owned(),
            target: target.to_owned(),
            warns: self.warns(),
            kernels: self.kernels.clone(),
            moving: self.moving.clone(),
            running: self.running,
            stranded: self.stranded,
            check: None,
            findings: groups.collect(),
            nodes: self
                .verdicts
                .iter()
                .map(|verdict| NodeReport {
                    node: verdict.node.clone(),
                    operator: verdict.operator.clone(),
                    kernel: verdict.kernel.as_ref().ok().cloned(),
                    reason: verdict.kernel.as_ref().err().map(Reason::name),
                })
                .collect(),
        }
    }
}

impl Report {
    /// The same with what the runtime itself does.
    #[must_use]
    pub fn with_check(self, check: Option<Check>) -> Self {
        Self { check, ..self }
    }
}

impl Group<'_> {
    /// What happens.
    fn what(&self) -> String {
        let operators: Vec<String> = self.operators.iter().map(|(name, count)| format!("{count} {name}")).collect();
        let runs = match (self.nodes.len(), self.is_float) {
            (0, _) => return "the model".to_owned(),
            (1, true) => " runs in float",
            (_, true) => " run in float",
            (_, false) => "",
        };
        format!("{}{runs}", operators.join(", "))
    }

    fn text(&self, names: Names) -> String {
        let level = match self.level {
            Level::Warning => "warning",
            Level::Note => "note",
        };
        let mut text = format!("{level}: {}: {}\n", self.what(), self.reason.why());
        let _ = writeln!(text, "  change   {}", self.reason.change());
        let shown = if names == Names::All { self.nodes.len() } else { FEW.min(self.nodes.len()) };
        for (i, node) in self.nodes[..shown].iter().enumerate() {
            let _ = writeln!(text, "  {:<8} `{node}`", if i == 0 { "nodes" } else { "" });
        }
        if shown < self.nodes.len() {
            let _ = writeln!(text, "           and {} more (--verbose names them)", self.nodes.len() - shown);
        }
        text
    }
}

/// A prediction for machines.
#[derive(Clone, Debug, Serialize)]
pub struct Report {
    model: String,
    target: String,
    /// Whether something in it is slower than float, or does not load: then the exit code is 1.
    warns: bool,
    kernels: BTreeMap<String, usize>,
    moving: BTreeMap<String, usize>,
    running: Conversions,
    stranded: Conversions,
    /// What the runtime itself does, where it was asked.
    #[serde(skip_serializing_if = "Option::is_none")]
    check: Option<Check>,
    findings: Vec<FindingReport>,
    nodes: Vec<NodeReport>,
}

#[derive(Clone, Debug, Serialize)]
struct FindingReport {
    level: Level,
    reason: &'static str,
    what: String,
    why: String,
    change: &'static str,
    nodes: Vec<String>,
}

#[derive(Clone, Debug, Serialize)]
struct NodeReport {
    node: String,
    operator: String,
    kernel: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<&'static str>,
}

pub(super) fn conversions(counts: Conversions) -> String {
    format!("{} QuantizeLinear, {} DequantizeLinear", counts.quantize, counts.dequantize)
}

/// `20 MatMulIntegerToFloat, 1 QGemm`: the most frequent first.
pub(super) fn counted(counts: &BTreeMap<String, usize>) -> String {
    let mut sorted: Vec<_> = counts.iter().collect();
    sorted.sort_by_key(|(name, count)| (std::cmp::Reverse(**count), (*name).clone()));
    sorted.into_iter().map(|(name, count)| format!("{count} {name}")).collect::<Vec<_>>().join(", ")
}
