//! What an older release of the runtime does not load or compute.

use std::collections::BTreeMap;

use onnxq_ir::ops::QuantizeLinear;
use onnxq_ir::{Graph, Model};

use super::kernels::{FormRule, Kernels, Level};
use super::version::Version;
use super::{Finding, Reason};

/// What a model has that came after a release.
pub(super) fn findings(model: &Model, kernels: &Kernels, oldest: Version) -> Vec<Finding> {
    let mut found = Vec::new();
    let mut say = |what: String, since: Option<Version>| {
        let since = since.map_or_else(|| "no release known here".to_owned(), |since| since.to_string());
        found.push(Finding::of_model(Level::Warning, Reason::Older { what, since }));
    };
    let known = kernels.releases.iter().rev().find(|release| release.version <= oldest).or(kernels.releases.first());
    let first = |has: &dyn Fn(&super::kernels::Release) -> bool| {
        kernels.releases.iter().find(|release| has(release)).map(|release| release.version)
    };
    let opset = model.graph.opset();
    if known.is_some_and(|release| model.ir_version > release.ir) {
        say(format!("file format IR {}", model.ir_version), first(&|release| release.ir >= model.ir_version));
    }
    if known.is_some_and(|release| opset > release.opset) {
        say(format!("opset {opset}"), first(&|release| release.opset >= opset));
    }
    let mut forms = BTreeMap::new();
    count_forms(&model.graph, kernels, oldest, &mut forms);
    for (form, count) in forms {
        let rule = &kernels.forms[form];
        say(format!("{} ({count} of them)", rule.text), Some(rule.since));
    }
    found
}

/// How many conversions have a form that came later, by the form's place in the rules.
fn count_forms(graph: &Graph, kernels: &Kernels, oldest: Version, counts: &mut BTreeMap<usize, usize>) {
    for id in graph.op_ids() {
        for (i, rule) in kernels.forms.iter().enumerate().filter(|(_, rule)| rule.since > oldest) {
            if QuantizeLinear::at(graph, id).is_some_and(|view| has_form(graph, &view, rule)) {
                *counts.entry(i).or_insert(0) += 1;
            }
        }
        graph.op(id).bodies().for_each(|body| count_forms(body, kernels, oldest, counts));
    }
}

fn has_form(graph: &Graph, view: &QuantizeLinear, rule: &FormRule) -> bool {
    let domain = match graph.op(view.op).domain() {
        "" => "ai.onnx",
        other => other,
    };
    let typed = [view.zero_point, Some(view.x)].into_iter().flatten();
    let elements = typed.filter_map(|value| graph.tensor_type(value)).map(|known| known.element).chain(view.output);
    rule.domain.as_deref().is_none_or(|wanted| wanted == domain)
        && (rule.types.is_empty() || elements.into_iter().any(|element| rule.types.contains(&element)))
        && (!rule.is_blocked || view.block_size > 0)
        && graph.opset() >= rule.min_opset
}
