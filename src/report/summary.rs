//! The report as a person reads it, at a glance.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use crate::driver::MeasuredOn;
use crate::lint::Names;
use crate::measure::{OutputQuality, Quality, Top1};

use super::{BodyReport, QualityReport, Report};

impl Report {
    /// The closing summary.
    pub fn summary(&self) -> String {
        let mut text = String::new();
        let _ = writeln!(text, "{} -> {}", self.input, self.output);
        let percent = 100.0 * self.sizes.after as f64 / self.sizes.before.max(1) as f64;
        let before = bytes(self.sizes.before);
        let _ = writeln!(text, "  size       {before} -> {} ({percent:.0} %)", bytes(self.sizes.after));
        let seen = if self.samples > 0 { format!(", {}", samples(self.samples)) } else { String::new() };
        if self.passes.is_empty() {
            let _ = writeln!(text, "  recipe     {}", self.recipe);
            return text;
        }
        let _ = writeln!(text, "  recipe     {} {} for {}{seen}", self.recipe, self.bits, self.target);
        let _ = writeln!(text, "  quantized  {}", counted(&self.quantized));
        if !self.quantized.is_empty() {
            let _ = writeln!(
                text,
                "  in codes   {} of the multiply-accumulates, {} of the weights",
                share(self.coverage.integer_macs, self.coverage.macs),
                share(self.coverage.integer_weights, self.coverage.weights)
            );
        }
        for (i, body) in self.bodies.iter().enumerate() {
            let _ = writeln!(text, "  {:<10} {}", if i == 0 { "bodies" } else { "" }, body_line(body));
        }
        // What computes with codes already is left, but not float.
        let (coded, float): (Vec<_>, Vec<_>) = self.left_float.iter().partition(|group| group.reason == "quantized");
        for (head, groups) in [("left float", float), ("left", coded)] {
            for (i, group) in groups.into_iter().enumerate() {
                let head = if i == 0 { head } else { "" };
                let _ = writeln!(text, "  {head:<10} {}: {}", counted(&group.operators), group.detail);
            }
        }
        for (i, port) in self.io.iter().enumerate() {
            let _ = writeln!(text, "  {:<10} {port}", if i == 0 { "io" } else { "" });
        }
        self.write_quality(&mut text);
        if let Some(outlook) = &self.lint {
            let _ = writeln!(text, "  lint       {}", outlook.line);
        }
        if let Some(check) = &self.check {
            text.push_str(&check.text(Names::Few));
        }
        for note in &self.notes {
            let _ = writeln!(text, "  note       {note}");
        }
        text
    }

    /// What every pass did, and what it left.
    pub fn details(&self) -> String {
        let mut text = String::new();
        for pass in &self.passes {
            let _ = writeln!(
                text,
                "  {:<22} {:<8} {} rewrites, {} sites, {} declined",
                pass.pass,
                pass.promise,
                pass.rewrites,
                pass.assigned,
                pass.declined.len()
            );
            for declined in &pass.declined {
                let _ = writeln!(text, "    `{}` ({}): {}", declined.node, declined.operator, declined.reason);
            }
        }
        text
    }

    /// Why there is nothing to write.
    pub fn why_nothing(&self) -> String {
        if self.left_float.is_empty() {
            return "nothing was quantized: the model has no operator that the recipe quantizes; nothing was written \
                    (--allow-noop writes it all the same)"
                .to_owned();
        }
        let reasons: Vec<String> =
            self.left_float.iter().map(|group| format!("{}: {}", counted(&group.operators), group.detail)).collect();
        format!(
            "nothing was quantized ({}); nothing was written (--allow-noop writes it all the same)",
            reasons.join("; ")
        )
    }

    fn write_quality(&self, text: &mut String) {
        match &self.quality {
            QualityReport::NotMeasured { not_measured } => {
                let _ = writeln!(text, "  quality    not measured: {not_measured}");
            }
            QualityReport::Measured { on, quality, stand_ins } => {
                let on = match on {
                    MeasuredOn::EvaluationData => "on evaluation data",
                    MeasuredOn::HeldOutSamples => "on calibration samples left out of the fit",
                    MeasuredOn::CalibrationData => "on calibration data",
                    MeasuredOn::SynthesizedInputs => "on synthesized inputs",
                };
                let _ = writeln!(
                    text,
                    "  quality    simulated against float, {} {on}: {}",
                    samples(quality.samples),
                    sqnr(quality)
                );
                for output in &quality.outputs {
                    let _ = writeln!(text, "             {}", output_line(output));
                }
                for (output, names) in stand_ins {
                    let _ = writeln!(
                        text,
                        "             `{output}` is out of the engine's reach or a selection; in its place: {}",
                        quoted(names)
                    );
                }
                if let Some(top1) = &quality.top1 {
                    let _ = writeln!(text, "  top-1      {}", top1_line(top1));
                }
            }
        }
    }
}

/// What became of a body.
fn body_line(body: &BodyReport) -> String {
    let runs = match body.runs_per_sample {
        Some(runs) => format!(", run {} times a sample", (100.0 * runs).round() / 100.0),
        None => String::new(),
    };
    let quality = body.sqnr_db.map_or_else(String::new, |db| format!(", {db:.1} dB in a run"));
    format!("`{}` {}{runs}: {} quantized{quality}", body.node, body.body, counted(&body.quantized))
}

/// `SQNR 31.2 dB`, that of the output that suffers most where there are several.
pub(crate) fn sqnr(quality: &Quality) -> String {
    let worst = quality.worst_db();
    match quality.outputs.len() {
        0 | 1 => format!("SQNR {worst:.1} dB"),
        count => format!("SQNR {worst:.1} dB, the worst of {count} outputs"),
    }
}

/// One output's figures.
pub(crate) fn output_line(output: &OutputQuality) -> String {
    let agreement =
        output.agreement.map_or_else(String::new, |share| format!(", top-1 agreement {:.1} %", 100.0 * share));
    let not_finite = match output.not_finite {
        0 => String::new(),
        count => format!("; {count} elements are NaN or infinite in float and left out"),
    };
    format!("`{}` {:.1} dB, cosine {:.6}{agreement}{not_finite}", output.name, output.sqnr_db, output.cosine)
}

/// Top-1 against labels, with its uncertainty.
pub(crate) fn top1_line(top1: &Top1) -> String {
    format!(
        "{:.2} % (float {:.2} %, difference {:+.2} points, standard error {:.2}, {})",
        100.0 * top1.quantized,
        100.0 * top1.reference,
        100.0 * (top1.quantized - top1.reference),
        100.0 * top1.standard_error,
        samples(top1.samples)
    )
}

fn quoted(names: &[String]) -> String {
    names.iter().map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", ")
}

/// `97 %`; less than all is never 100 %.
fn share(part: u64, whole: u64) -> String {
    let percent = 100.0 * part as f64 / whole.max(1) as f64;
    if part < whole { format!("{:.0} %", percent.clamp(0.0, 99.0)) } else { "100 %".to_owned() }
}

/// `8 samples`
fn samples(count: usize) -> String {
    if count == 1 { "1 sample".to_owned() } else { format!("{count} samples") }
}

/// `21 Linear, 1 Conv`
fn counted(kinds: &BTreeMap<String, usize>) -> String {
    if kinds.is_empty() {
        return "nothing".to_owned();
    }
    kinds.iter().map(|(kind, count)| format!("{count} {kind}")).collect::<Vec<_>>().join(", ")
}

/// Bytes in a unit that fits.
pub(crate) fn bytes(bytes: u64) -> String {
    const UNITS: [(&str, f64); 3] = [("GB", 1e9), ("MB", 1e6), ("kB", 1e3)];
    let number = bytes as f64;
    UNITS
        .iter()
        .find(|(_, size)| number >= *size)
        .map_or_else(|| format!("{bytes} bytes"), |(unit, size)| format!("{:.2} {unit}", number / size))
}
