//! Gives the sites of the plan their quantizers: what all range passes share.

use onnxq_ir::{Graph, OpId, ValueId};
use onnxq_numerics::{IntFormat, Log, Range, Symmetry, Uniform, fit_channels, search};
use onnxq_plan::{Fact, Granularity, Needs, Quantizer, Scheme, Site, Statistic};

use crate::pass::{Context, Pass, PassError, Promise, View};

/// How a range is found.
pub(crate) trait Search {
    /// What must be known about an activation.
    fn statistic(&self) -> Statistic {
        Statistic::Histogram
    }

    /// The range of an activation, or none where nothing was seen.
    fn activation(&self, fact: &Fact, format: IntFormat, symmetry: Symmetry) -> Option<Range>;

    /// The range of the weights that share a scale: all of them, unless the search knows better.
    fn weight(&self, row: &[f32], _: IntFormat, _: Symmetry) -> Range {
        search::rows::minmax(row)
    }
}

/// What makes a search a pass.
impl<S: Search> Pass for S {
    fn promise(&self) -> Promise {
        Promise::Annotate
    }

    fn needs(&self, view: &View<'_>) -> Needs {
        needs(self, view)
    }

    fn run(&self, cx: &mut Context<'_>) -> Result<(), PassError> {
        run(self, cx)
    }
}

/// The statistics that the search needs for the sites without a quantizer.
pub(crate) fn needs(search: &impl Search, view: &View<'_>) -> Needs {
    let mut needs = Needs::none();
    for (site, scheme) in view.plan.unassigned() {
        let Some(value) = site.value(view.graph()).filter(|&value| view.graph().constant(value).is_none()) else {
            continue;
        };
        match scheme {
            Scheme::Uniform { .. } => needs.add(value, search.statistic()),
            Scheme::Log { .. } => needs.add(value, Statistic::LogHistogram),
            Scheme::Shared(_) | Scheme::Bias => {}
        }
    }
    needs
}

/// Gives every site without a quantizer one; operators of which an operand has no range stay float.
pub(crate) fn run(search: &impl Search, cx: &mut Context<'_>) -> Result<(), PassError> {
    for (site, scheme) in cx.plan.unassigned() {
        // An earlier site of the same operator may have taken this one out of the plan.
        if cx.plan.get(site).is_none() {
            continue;
        }
        let Some(value) = site.value(cx.graph()) else { continue };
        if !is_finite(cx.graph(), value) {
            let name = cx.graph().value(value).name().to_owned();
            leave_float(cx, site, &format!("not-finite: `{name}` has infinite or NaN elements"));
            continue;
        }
        let quantizer = match scheme {
            Scheme::Uniform { format, symmetry, granularity } => match cx.graph().constant(value) {
                Some(_) => Some(fit_weight(search, cx.graph(), value, format, symmetry, granularity)?),
                None => cx
                    .facts
                    .get(cx.graph(), value, search.statistic())
                    .and_then(|fact| search.activation(fact, format, symmetry))
                    .map(|range| Quantizer::Tensor(Uniform::fit(range, format, symmetry))),
            },
            Scheme::Log { bits, base, rule } => match cx.facts.get(cx.graph(), value, Statistic::LogHistogram) {
                Some(Fact::LogHistogram(histogram)) => search::log_scale(histogram, bits, base, rule)
                    .and_then(|scale| Log::new(bits, base, scale, rule))
                    .ok()
                    .map(Quantizer::Log),
                _ => None,
            },
            Scheme::Shared(_) | Scheme::Bias => continue,
        };
        match quantizer {
            Some(quantizer) => {
                cx.plan.assign(site, quantizer);
                cx.assigned();
            }
            None => {
                let name = cx.graph().value(value).name();
                let seen = cx.facts.range(cx.graph(), value);
                let what = seen.map_or_else(
                    || "was empty or never computed".to_owned(),
                    |range| format!("was always {}", short(range.min())),
                );
                let reason = format!("no-range: `{name}` {what} in calibration");
                leave_float(cx, site, &reason);
            }
        }
    }
    Ok(())
}

/// Whether a value is no constant, or one without infinite and NaN elements.
fn is_finite(graph: &Graph, value: ValueId) -> bool {
    let elements = graph.constant(value).and_then(onnxq_ir::Tensor::to_f32);
    elements.is_none_or(|elements| elements.iter().all(|x| x.is_finite()))
}

fn leave_float(cx: &mut Context<'_>, site: Site, reason: &str) {
    let ops: Vec<OpId> = match site {
        Site::Operand { op, .. } => vec![op],
        Site::Output(value) => {
            cx.plan.remove(site);
            cx.graph().producer(value).into_iter().map(|(op, _)| op).collect()
        }
    };
    for op in ops {
        cx.plan.remove_operands(op);
        let op_type = cx.graph().op(op).op_type().to_owned();
        cx.decline(op, reason);
        cx.leave_float(op, &op_type, reason);
    }
}

/// Fits a constant: one quantizer, or one per slice along the axis.
pub(crate) fn fit_weight(
    search: &impl Search,
    graph: &Graph,
    value: ValueId,
    format: IntFormat,
    symmetry: Symmetry,
    granularity: Granularity,
) -> Result<Quantizer, PassError> {
    let broken =
        || PassError::Broken { pass: "fit", what: format!("`{}` is no float constant", graph.value(value).name()) };
    let tensor = graph.constant(value).ok_or_else(broken)?;
    let elements = tensor.to_f32().ok_or_else(broken)?;
    let fit = |row: &[f32]| Uniform::fit(search.weight(row, format, symmetry), format, symmetry);
    Ok(match granularity {
        Granularity::Tensor => Quantizer::Tensor(fit(&elements)),
        Granularity::Axis(axis) => {
            let shape = tensor.shape();
            let outer: usize = shape[..axis].iter().product();
            let inner: usize = shape[axis + 1..].iter().product();
            Quantizer::Channels { axis, channels: fit_channels(&elements, outer, shape[axis], inner, fit) }
        }
    })
}

/// The number as people write it: the lowest of all has 39 digits.
fn short(number: f32) -> String {
    const MANY_DIGITS: f32 = 1e6;
    if number.abs() < MANY_DIGITS { number.to_string() } else { format!("{number:e}") }
}
