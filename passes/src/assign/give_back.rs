//! Leaves operators float that the model's output can't bear in integers.
//!
//! # Why
//! Most operators lose nothing with 8 bits; a few lose everything: an operand whose range is ruled by values that do not
//! matter, a product whose error reaches the output undamped. Which ones these are shows when plans are tried out on samples
//! that no range was fitted on.
//!
//! # Needs
//! Elements of what eligible operators write, for their MACs.
//!
//! # Effect
//! First, an operator leaves the plan if one of its operands, or its quantized output, has an SQNR below `min-node-sqnr`,
//! and so does a Concat of which one part is more than 16 times as wide as another, with what reads it: boxes of 0 to 640 and
//! scores of 0 to 1 on one grid leave the scores no levels, which the SQNR of both together does not show.
//!
//! Then, while the output that suffers most has an SQNR below `min-sqnr` in simulation, operators leave the plan in the order
//! of the output error that each makes alone, divided by its MACs (an operator without weights counts as 16 for every element
//! that it writes); none whose leaving would take more than half of the MACs that the plan began with. Parts that meet in a
//! Concat at the end count as outputs of their own. Where `min-sqnr` is not reached, the best of the plans that were tried is
//! kept, and the summary says so. Where there are many operators, neighbours are tried together, and the worst groups are
//! taken apart. Of those that left, some are taken back where the output bears it: operators that save weights alone
//! (embeddings), which the order by MACs puts first, and the four with most MACs. What then stands alone leaves its integer
//! chain. Where the target has activations of 16 bits, operators get these first, over the same ranges, and all may have them;
//! only what that does not mend becomes float.
//!
//! Where the output has less than 30 dB in the end, the summary names the three values that lose most on their grids.
//!
//! Plans are tried on every fourth calibration sample, up to 8 of those that all statistics leave out; with fewer than 8
//! samples in all, on all. Up to 64 more of those left out are run once, and the two that the plan ruins most are tried as
//! well. `min-sqnr` must be had by all samples together, with their error taken one standard error higher than seen, and by
//! the worst sample with 10 dB added.
//!
//! # Promise
//! Annotate.
//!
//! # Declines
//! - `low-sqnr`: an operand or output has an SQNR below `min-node-sqnr`.
//! - `uneven-concat`: its parts differ too much for one grid.
//! - `given-back`: the model's output is better without it.
//! - `no-chain`: what it stood beside was given back.
//! - `at-load`: it reads what a float operator between codes writes, of whose weights the runtime would make codes itself.
//!
//! # Options
//! - `min-sqnr`: dB of the output, or `"off"` (the default).
//! - `min-node-sqnr`: dB of an operand or a quantized output, or `"off"` (the default).

use std::collections::{BTreeMap, BTreeSet};

use onnxq_ir::{OpId, ValueId};
use onnxq_numerics::IntFormat;
use onnxq_plan::trial::{HARDER, On, OutputDeviation, worst_db, worst_samples};
use onnxq_plan::{Deviation, Grids, Needs, OperatorKind, Plan, Quantizer, Site, Statistic, Trials};
use serde::{Deserialize, Serialize};

use super::finer::finer;
use super::kind::Candidate;
use super::without::{alone, leave, without};
use crate::pass::{Context, Pass, PassError, Promise, View};
use crate::threshold::Threshold;

/// What a recipe or `--set give-back.KEY=VALUE` can set.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub(crate) struct GiveBack {
    /// What the output must have.
    pub(crate) min_sqnr: Threshold,
    /// What every operand must have.
    pub(crate) min_node_sqnr: Threshold,
}

impl Pass for GiveBack {
    fn promise(&self) -> Promise {
        Promise::Annotate
    }

    fn needs(&self, view: &View<'_>) -> Needs {
        let mut needs = Needs::none();
        // Weights alone need no run.
        if self.judges() && view.settings.bits.activation.is_some() {
            for op in view.graph().op_ids() {
                let counted = Candidate::at(view.graph(), op).and_then(|candidate| candidate.counted(view.graph()));
                if let Some(value) = counted {
                    needs.add(value, Statistic::Elements);
                }
            }
        }
        needs
    }

    fn judges(&self) -> bool {
        self.min_sqnr.db().is_some() || self.min_node_sqnr.db().is_some()
    }

    fn run(&self, cx: &mut Context<'_>) -> Result<(), PassError> {
        let Some(trials) = cx.trials else { return Ok(()) };
        let work = Work::of(cx);
        if let Some(least) = self.min_node_sqnr.db() {
            give_back_nodes(cx, trials, least)?;
        }
        if let Some(least) = self.min_sqnr.db() {
            let db = give_back_for_output(cx, trials, (&work, least))?;
            if db < LOSSY {
                name_what_loses(cx, trials)?;
            }
        }
        Ok(())
    }
}

/// Where the output has less, in dB, the summary names the values that lose most.
const LOSSY: f64 = 30.0;

/// So many of them.
const NAMED: usize = 3;

/// Says which values lose most on their grids, by what the float model makes of them.
fn name_what_loses(cx: &mut Context<'_>, trials: &dyn Trials) -> Result<(), PassError> {
    let mut values: BTreeMap<ValueId, f64> = BTreeMap::new();
    for (site, deviation) in site_deviations(cx, trials)? {
        if let Some(value) = site.value(cx.graph()).filter(|_| deviation.signal > 0.0) {
            let db = values.entry(value).or_insert(f64::INFINITY);
            *db = db.min(deviation.sqnr_db());
        }
    }
    let mut values: Vec<(ValueId, f64)> = values.into_iter().collect();
    values.sort_by(|a, b| a.1.total_cmp(&b.1));
    let name = |&(value, db): &(ValueId, f64)| format!("`{}` {db:.1} dB", cx.graph().value(value).name());
    let named: Vec<String> = values.iter().take(NAMED).map(name).collect();
    if !named.is_empty() {
        cx.note(format!("what loses most on its grid: {}", named.join(", ")));
    }
    Ok(())
}

/// Gives back what has an operand or output below `least`.
fn give_back_nodes(cx: &mut Context<'_>, trials: &dyn Trials, least: f64) -> Result<(), PassError> {
    let mut reasons: BTreeMap<OpId, String> = BTreeMap::new();
    for (site, deviation) in site_deviations(cx, trials)? {
        let db = deviation.sqnr_db();
        if db >= least || deviation.signal == 0.0 {
            continue;
        }
        let op = match site {
            Site::Operand { op, .. } => Some(op),
            Site::Output(value) => writer(cx.plan, value),
        };
        let name = site.value(cx.graph()).map_or("", |value| cx.graph().value(value).name());
        let reason = format!("low-sqnr: `{name}` has {db:.1} dB on its grid, at least {least:.1} are asked for");
        if let Some(op) = op {
            reasons.entry(op).or_insert(reason);
        }
    }
    for (op, planned) in cx.plan.operators() {
        if planned.kind == OperatorKind::Concat
            && let Some(reason) = uneven(cx, op)
        {
            // What reads both parts as codes needs the one grid as well.
            let readers = planned.ends.iter().flat_map(|end| cx.graph().readers(end.value)).map(|reader| reader.op);
            for op in readers.filter(|&reader| cx.plan.is_computed(reader)).chain([op]) {
                reasons.entry(op).or_insert_with(|| reason.clone());
            }
        }
    }
    leave(cx, &reasons);
    Ok(())
}

/// How much wider one part of a Concat may be than another: the narrow one keeps 4 of 8 bits.
const WIDEST_PART: f32 = 16.0;

/// Why the parts of a Concat do not fit on one grid.
fn uneven(cx: &Context<'_>, op: OpId) -> Option<String> {
    let candidate = Candidate::at(cx.graph(), op)?;
    let width = |(slot, value): (usize, ValueId)| {
        let own = cx.plan.quantizer(Site::Operand { op, slot }).or_else(|| cx.plan.quantizer(Site::Output(value)));
        match own? {
            Quantizer::Tensor(own) => Some((own.range().max() - own.range().min(), value)),
            _ => None,
        }
    };
    let mut widths: Vec<(f32, ValueId)> = candidate.activation_values(cx.graph()).filter_map(width).collect();
    widths.sort_by(|a, b| a.0.total_cmp(&b.0));
    let (&(narrow, small), &(wide, large)) = (widths.first()?, widths.last()?);
    let name = |value| cx.graph().value(value).name();
    (wide > WIDEST_PART * narrow).then(|| {
        format!(
            "uneven-concat: `{}` is {:.0} times as wide as `{}`, which one grid leaves few levels",
            name(large),
            wide / narrow,
            name(small)
        )
    })
}

/// The operator of the plan behind which a value is quantized.
fn writer(plan: &Plan, value: ValueId) -> Option<OpId> {
    plan.operators().find(|(_, planned)| planned.ends.iter().any(|end| end.value == value)).map(|(op, _)| op)
}

/// What the grid of every activation in the plan makes of it, on float values.
fn site_deviations(cx: &Context<'_>, trials: &dyn Trials) -> Result<Vec<(Site, Deviation)>, PassError> {
    let mut by_value: BTreeMap<ValueId, Vec<(Site, &Quantizer)>> = BTreeMap::new();
    for (site, entry) in cx.plan.entries() {
        if let (Some(value), Some(quantizer)) = (site.value(cx.graph()), &entry.quantizer)
            && cx.graph().constant(value).is_none()
        {
            by_value.entry(value).or_default().push((site, quantizer));
        }
    }
    let grids: Grids<'_> = by_value
        .iter()
        .map(|(&value, sites)| (value, sites.iter().map(|(_, quantizer)| *quantizer).collect()))
        .collect();
    let deviations = trials.grids(cx.model, &grids)?;
    let of = |(value, own): (ValueId, Vec<Deviation>)| {
        let sites = by_value[&value].iter().map(|(site, _)| *site);
        sites.zip(own).collect::<Vec<_>>()
    };
    let all: BTreeMap<Site, Deviation> = deviations.into_iter().flat_map(of).collect();
    Ok(all.into_iter().collect())
}

/// Gives back what costs the output most for what it saves; returns what the output has then, in dB.
fn give_back_for_output(
    cx: &mut Context<'_>,
    trials: &dyn Trials,
    (work, least): (&Work, f64),
) -> Result<f64, PassError> {
    if cx.plan.is_empty() {
        return Ok(f64::INFINITY);
    }
    let with_ruined = trials.with_ruined(cx.model, cx.plan)?;
    let trials = with_ruined.as_deref().unwrap_or(trials);
    let mut outputs = trials.outputs(cx.model, cx.plan, On::All)?;
    for relief in Relief::all(cx) {
        if Judged::of(&outputs).db < least {
            outputs = relieve(cx, trials, (relief, work), (least, &outputs))?;
        }
    }
    let end = Judged::of(&outputs);
    let missed = match end.sample {
        _ if end.together < least => Some(format!(
            "the output has {:.1} dB on the samples that plans are tried on, {least:.1} were asked for",
            end.together
        )),
        Some(sample) if end.db < least => Some(format!(
            "one sample that plans are tried on has {sample:.1} dB, {:.1} were asked of each",
            least - HARDER
        )),
        _ => None,
    };
    if let Some(missed) = missed {
        cx.note(format!("{missed}: no plan with half of the MACs in integers reaches that"));
    }
    Ok(end.together)
}

/// Gives relief to as few operators as reach `least` or, where none do, to those with which the outputs are best. Takes and
/// returns the outputs.
fn relieve(
    cx: &mut Context<'_>,
    trials: &dyn Trials,
    (relief, work): (Relief, &Work),
    (least, outputs): (f64, &[OutputDeviation]),
) -> Result<Vec<OutputDeviation>, PassError> {
    let ranking = Ranking::make(cx, trials, (work, relief), &worst_samples(outputs, RANKING_SAMPLES))?;
    let tried = BTreeMap::from([(0, outputs.to_vec())]);
    let mut search = Search { cx, trials, relief, work, ranking: &ranking, tried };
    let reached = search.fewest(least)?;
    let mut tried = search.tried;
    let db = |count: usize| Judged::of(&tried[&count]).db;
    let best = || tried.keys().fold(0, |best, &count| if db(count) > db(best) { count } else { best });
    let count = reached.unwrap_or_else(best);
    let mut end = tried.remove(&count).expect("it was tried");
    let mut gone = ranking.order[..count].to_vec();
    if reached.is_some() {
        take_back(cx, trials, (relief, work), least, (&mut gone, &mut end))?;
    }
    relief.give(cx, &gone, (Judged::of(outputs), Judged::of(&end)));
    Ok(end)
}

/// How many operators are tried for being taken back one by one: those that save most.
const TAKEN_BACK: usize = 4;

/// Takes relief away again from operators that did not need it: the front of a ranking has some whose turn came before that
/// of those who make the error. Those that save weights alone come first, and together.
fn take_back(
    cx: &Context<'_>,
    trials: &dyn Trials,
    (relief, work): (Relief, &Work),
    least: f64,
    (gone, end): (&mut Vec<OpId>, &mut Vec<OutputDeviation>),
) -> Result<(), PassError> {
    let (mut tables, mut others): (Vec<OpId>, Vec<OpId>) = gone.iter().partition(|op| work.weights.contains_key(op));
    tables.sort_by_key(|op| std::cmp::Reverse(work.weights[op]));
    others.sort_by_key(|&op| std::cmp::Reverse(work.get(op)));
    others.truncate(TAKEN_BACK);
    let single = (tables.len() > 1).then(|| tables.iter().map(|&op| vec![op])).into_iter().flatten();
    let groups = [tables.clone()].into_iter().chain(single).chain(others.into_iter().map(|op| vec![op]));
    for group in groups.filter(|group| !group.is_empty()) {
        let rest: BTreeSet<OpId> = gone.iter().copied().filter(|op| !group.contains(op)).collect();
        if rest.len() == gone.len() || rest.is_empty() {
            continue;
        }
        let outputs = trials.outputs(cx.model, &relief.plan(cx, &rest), On::All)?;
        if Judged::of(&outputs).db >= least {
            gone.retain(|op| rest.contains(op));
            *end = outputs;
        }
    }
    Ok(())
}

/// What is done for an operator that the output can't bear.
#[derive(Clone, Copy)]
enum Relief {
    /// It stays float.
    Float,
    /// Its activations have codes of more bits, which the target computes with as well.
    Wider(IntFormat),
}

impl Relief {
    /// What the target has, the cheapest first.
    fn all(cx: &Context<'_>) -> Vec<Self> {
        const WIDE: u8 = 16;
        let is_narrow = cx.settings.bits.activation.is_some_and(|bits| bits < WIDE);
        let wide = cx.target.activation_format(WIDE).ok().filter(|_| is_narrow);
        wide.map(Self::Wider).into_iter().chain([Self::Float]).collect()
    }

    /// Whether multiply-accumulates stay in integers.
    fn keeps_macs(self) -> bool {
        matches!(self, Self::Wider(_))
    }

    /// The plan in which these operators have it.
    fn plan(self, cx: &Context<'_>, ops: &BTreeSet<OpId>) -> Plan {
        match self {
            Self::Float => without(cx, ops).0,
            Self::Wider(format) => finer(cx.graph(), cx.plan, ops, (cx.target, format)),
        }
    }

    /// Gives it to these operators and says why.
    fn give(self, cx: &mut Context<'_>, ops: &[OpId], (before, after): (Judged, Judged)) {
        match self {
            Self::Float => {
                let reason = format!("given-back: {}", before.until(after, ["with all in integers", "without"]));
                leave(cx, &ops.iter().map(|&op| (op, reason.clone())).collect());
            }
            Self::Wider(format) => {
                *cx.plan = self.plan(cx, &ops.iter().copied().collect());
                if !ops.is_empty() {
                    let gain = before.until(after, ["without", "with them"]);
                    cx.note(format!("activations of {} operators have {} bits: {gain}", ops.len(), format.bits()));
                }
            }
        }
    }
}

/// How good the outputs are under a plan, in dB.
#[derive(Clone, Copy)]
struct Judged {
    /// What the plan is judged by.
    db: f64,
    /// SQNR of the output that suffers most, all samples together.
    together: f64,
    /// SQNR of the worst sample, where the plan is judged by that.
    sample: Option<f64>,
}

impl Judged {
    fn of(outputs: &[OutputDeviation]) -> Self {
        let db = worst_db(outputs);
        let together = outputs.iter().map(|output| output.total().sqnr_db()).fold(60.0, f64::min);
        let worst = outputs.iter().map(OutputDeviation::worst_sample_db).fold(60.0, f64::min);
        Self { db, together, sample: (worst + HARDER <= db).then_some(worst) }
    }

    /// What was gained from here to there, which these words name.
    fn until(self, end: Self, [here, there]: [&str; 2]) -> String {
        match self.sample {
            Some(before) => {
                let after = end.sample.map_or_else(|| "as much as others".to_owned(), |after| format!("{after:.1} dB"));
                format!("one sample has {before:.1} dB {here}, {after} {there}")
            }
            None => {
                format!("the output has {:.1} dB {here}, {:.1} dB {there}", self.together, end.together)
            }
        }
    }
}

/// What operators save by being computed in integers, in multiply-accumulates.
struct Work {
    by_op: BTreeMap<OpId, u64>,
    /// Weights of operators without multiply-accumulates.
    weights: BTreeMap<OpId, usize>,
    /// That of all products and convolutions that the plan began with.
    eligible: u64,
}

/// What computing an element with codes saves, and the pair of Q and DQ around a float operator costs.
const WORK_PER_ELEMENT: u64 = 16;

impl Work {
    fn of(cx: &Context<'_>) -> Self {
        let (mut by_op, mut weights) = (BTreeMap::new(), BTreeMap::new());
        let mut eligible = 0;
        for op in cx.ops() {
            let Some(candidate) = Candidate::at(cx.graph(), op) else { continue };
            let macs = candidate.macs(cx.graph(), cx.facts).unwrap_or(0);
            if cx.plan.is_computed(op) {
                eligible += macs;
            }
            let elements = || candidate.elements(cx.graph(), cx.facts).unwrap_or(0);
            by_op.insert(op, if macs > 0 { macs } else { WORK_PER_ELEMENT * elements() });
            let weight = candidate.weight.and_then(|(slot, _)| cx.graph().constant(cx.graph().input(op, slot)?));
            weights.extend(weight.filter(|_| macs == 0).map(|tensor| (op, tensor.len())));
        }
        Self { by_op, weights, eligible }
    }

    /// The multiply-accumulates that a plan has in integers.
    fn kept(&self, plan: &Plan) -> u64 {
        let products = plan.operators().filter(|(_, planned)| planned.kind.has_macs());
        products.map(|(op, _)| self.get(op)).sum()
    }

    fn get(&self, op: OpId) -> u64 {
        self.by_op.get(&op).copied().unwrap_or(0)
    }
}

/// The operators that may leave, those that should do so first at the front.
struct Ranking {
    order: Vec<OpId>,
}

/// How many plans are tried to find out who makes the error, and on how many samples: those that suffer most.
const RANKING_TRIALS: usize = 64;
const RANKING_SAMPLES: usize = 2;

impl Ranking {
    fn make(
        cx: &Context<'_>,
        trials: &dyn Trials,
        (work, relief): (&Work, Relief),
        samples: &[usize],
    ) -> Result<Self, PassError> {
        let planned: BTreeSet<OpId> = cx.plan.operators().map(|(op, _)| op).collect();
        let ops: Vec<OpId> = cx.ops().into_iter().filter(|op| planned.contains(op)).collect();
        let error = |group: &[OpId]| -> Result<f64, PassError> {
            let plan = alone(cx.graph(), cx.plan, &group.iter().copied().collect());
            let outputs = trials.outputs(cx.model, &plan, On::Places(samples))?;
            let outputs = outputs.iter().map(OutputDeviation::total);
            Ok(outputs.map(|it| if it.signal > 0.0 { it.error / it.signal } else { 0.0 }).fold(0.0, f64::max))
        };
        let size = ops.len().div_ceil(RANKING_TRIALS / 2).max(1);
        let mut groups: Vec<(f64, Vec<OpId>)> = Vec::new();
        for group in ops.chunks(size) {
            groups.push((error(group)?, group.to_vec()));
        }
        let mut left = RANKING_TRIALS.saturating_sub(groups.len());
        // The worst groups are taken apart.
        while left >= 2 {
            let worst = groups.iter().enumerate().filter(|(_, (_, group))| group.len() > 1);
            let Some((i, _)) = worst.max_by(|(i, (a, _)), (j, (b, _))| a.total_cmp(b).then(j.cmp(i))) else { break };
            let (_, group) = groups.remove(i);
            let (front, back) = group.split_at(group.len() / 2);
            groups.insert(i, (error(front)?, front.to_vec()));
            groups.insert(i + 1, (error(back)?, back.to_vec()));
            left -= 2;
        }
        let cost =
            |(error, group): &(f64, Vec<OpId>)| error / group.iter().map(|&op| work.get(op)).sum::<u64>().max(1) as f64;
        groups.sort_by(|a, b| cost(b).total_cmp(&cost(a)));
        let mut order: Vec<OpId> = groups.into_iter().flat_map(|(_, group)| group).collect();
        // One that would take too much is passed over.
        let weighted = |op: OpId| cx.plan.operators().any(|(own, planned)| own == op && planned.kind.has_macs());
        let mut kept: u64 = order.iter().filter(|&&op| weighted(op)).map(|&op| work.get(op)).sum();
        order.retain(|&op| {
            let macs = if weighted(op) { work.get(op) } else { 0 };
            let may = macs == 0 || relief.keeps_macs() || 2 * (kept - macs) >= work.eligible;
            kept -= if may { macs } else { 0 };
            may
        });
        Ok(Self { order })
    }
}

/// Looks for the shortest front of the ranking without which the output is good enough.
struct Search<'a, 'b> {
    cx: &'a Context<'b>,
    trials: &'a dyn Trials,
    relief: Relief,
    work: &'a Work,
    ranking: &'a Ranking,
    tried: BTreeMap<usize, Vec<OutputDeviation>>,
}

impl Search<'_, '_> {
    /// What the plan is judged by without the first `count` operators, in dB.
    fn db(&mut self, count: usize) -> Result<f64, PassError> {
        if let Some(known) = self.tried.get(&count) {
            return Ok(Judged::of(known).db);
        }
        let gone: BTreeSet<OpId> = self.ranking.order[..count].iter().copied().collect();
        let plan = self.relief.plan(self.cx, &gone);
        // With an operator others may go: what stands behind it in codes.
        let takes = self.work.kept(&plan) < self.work.kept(self.cx.plan);
        if takes && 2 * self.work.kept(&plan) < self.work.eligible {
            return Ok(f64::NEG_INFINITY);
        }
        let outputs = self.trials.outputs(self.cx.model, &plan, On::All)?;
        let judged = Judged::of(&outputs);
        self.tried.insert(count, outputs);
        Ok(judged.db)
    }

    /// The least count that reaches `least`; by doubling, then halving the interval. What leaves too little in integers ends
    /// the interval as well.
    fn fewest(&mut self, least: f64) -> Result<Option<usize>, PassError> {
        let most = self.ranking.order.len();
        let (mut fails, mut count) = (0, 1);
        let mut reached = None;
        let mut end = loop {
            count = count.min(most);
            if count == 0 || count == fails {
                return Ok(None);
            }
            match self.db(count)? {
                db if db >= least => {
                    reached = Some(count);
                    break count;
                }
                f64::NEG_INFINITY => break count,
                _ => fails = count,
            }
            count *= 2;
        };
        while end - fails > 1 {
            let middle = fails.midpoint(end);
            match self.db(middle)? {
                db if db >= least => (end, reached) = (middle, Some(middle)),
                f64::NEG_INFINITY => end = middle,
                _ => fails = middle,
            }
        }
        Ok(reached)
    }
}

#[cfg(test)]
mod tests {
    use crate::testing::check;

    #[test]
    fn low_sqnr() {
        check!("give-back/low_sqnr");
    }

    #[test]
    fn uneven_concat() {
        check!("give-back/uneven_concat");
    }

    #[test]
    fn given_back() {
        check!("give-back/given_back");
    }

    #[test]
    fn sixteen_bits() {
        check!("give-back/sixteen_bits");
    }

    #[test]
    fn best_of_half() {
        check!("give-back/best_of_half");
    }

    #[test]
    fn no_chain() {
        check!("give-back/no_chain");
    }
}
