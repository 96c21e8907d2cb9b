//! Leaves float what no grid of few levels holds: masked scores, phases, indices.
//!
//! # Why
//! Some values lose their meaning, not their precision. Scores and the -10,000 of a mask on one grid leave the scores no
//! level between them; of a phase only the fraction of a turn counts, of which one step of 0 to 999 in 256 levels is half;
//! an index that is off by one names another element. That an operand's SQNR is high says nothing about these.
//!
//! # Needs
//! Range of what a Softmax, Sin or Cos reads, and of what that is computed from, where it has a place in the plan.
//!
//! # Effect
//! What writes or reads such a value with codes leaves the plan:
//! - a value of -100 or less that a Softmax reads, be it moved (reshaped, transposed ...) before;
//! - a value of which a Sin or Cos is taken and that spans more than four turns, and those that span as much and that it is
//!   computed from by arithmetic;
//! - a value that is made an index or the grid of a GridSample, and what it is computed from by arithmetic, up to the
//!   products and convolutions behind which that begins.
//!
//! # Promise
//! Annotate.
//!
//! # Declines
//! - `masked-scores`: it reads or writes scores with a mask.
//! - `phase`: it reads or writes a phase of several turns.
//! - `index`: it reads or writes an index or a coordinate.
//! - `no-chain`: what it stood beside stays float.
//! - `at-load`: it reads what a float operator between codes writes, of whose weights the runtime would make codes itself.
//!
//! # Options
//! None.

use std::collections::{BTreeMap, BTreeSet};
use std::f32::consts::TAU;

use onnxq_ir::ops::{Cast, Linear};
use onnxq_ir::{ElementType, Graph, OpId, Slot, ValueId};
use onnxq_numerics::{MinMax, Range};
use onnxq_plan::{Fact, Needs, OperatorKind, Plan, Site, Statistic};
use serde::{Deserialize, Serialize};

use super::kind::Candidate;
use super::without::leave;
use crate::pass::{Context, Pass, PassError, Promise, View};

/// What a recipe can set: nothing.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub(crate) struct SensitiveValues {}

impl Pass for SensitiveValues {
    fn promise(&self) -> Promise {
        Promise::Annotate
    }

    fn needs(&self, view: &View<'_>) -> Needs {
        let mut needs = Needs::none();
        if view.settings.bits.activation.is_some() {
            for (value, meaning) in meanings(view.graph()) {
                if meaning.asks_range() && is_planned(view.graph(), view.plan, value) {
                    needs.add(value, Statistic::Range);
                }
            }
        }
        needs
    }

    fn run(&self, cx: &mut Context<'_>) -> Result<(), PassError> {
        let mut reasons: BTreeMap<OpId, String> = BTreeMap::new();
        for (value, meaning) in meanings(cx.graph()) {
            if let Some(reason) = reason(cx, value, meaning) {
                for op in concerned(cx, value) {
                    reasons.entry(op).or_insert_with(|| reason.clone());
                }
            }
        }
        leave(cx, &reasons);
        Ok(())
    }
}

/// What a value is read as.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Meaning {
    /// A Softmax reads it.
    Scores,
    /// Sin or Cos is taken of it or of what is computed from it.
    Phase,
    /// It picks elements, or what is computed from it does.
    Index,
}

impl Meaning {
    fn asks_range(self) -> bool {
        self != Self::Index
    }

    /// The meaning of a value that is read in a slot of this operator, by what the operator does.
    fn by_reader(graph: &Graph, op: OpId, slot: usize) -> Option<Self> {
        let node = graph.op(op);
        let is = |names: &[&str]| names.iter().any(|name| node.is(name) || node.is_recognised(name));
        if is(&["Softmax", "LogSoftmax"]) {
            return Some(Self::Scores);
        }
        if is(&["Sin", "Cos"]) {
            return Some(Self::Phase);
        }
        let makes_indices = Cast::at(graph, op).is_some_and(|cast| INDICES.contains(&cast.to));
        let is_grid = node.is("GridSample") && slot == 1;
        (is_grid || makes_indices).then_some(Self::Index)
    }

    /// The meaning of what an operator reads whose output means this.
    fn before(self, graph: &Graph, op: OpId) -> Option<Self> {
        let node = graph.op(op);
        let among = |names: &[&str]| names.iter().any(|name| node.is(name));
        let is_outer = || Linear::at(graph, op).is_some_and(|linear| sums_over(graph, &linear) == Some(1));
        match self {
            Self::Scores => among(MOVES),
            Self::Phase | Self::Index => among(MOVES) || among(ARITHMETIC) || is_outer(),
        }
        .then_some(self)
    }
}

/// What indices and coordinates are; 8 bits are those of pictures, which lose nothing on a grid.
const INDICES: &[ElementType] = &[ElementType::I32, ElementType::I64];

/// Operators that only move elements.
const MOVES: &[&str] = &["Reshape", "Transpose", "Flatten", "Squeeze", "Unsqueeze", "Identity", "Expand", "Tile"];

/// Operators on single elements that keep what an index or a phase is.
const ARITHMETIC: &[&str] = &["Add", "Sub", "Mul", "Div", "Mod", "Neg", "Floor", "Ceil", "Round", "Clip", "Concat"];

/// How many products an element of the result sums up.
fn sums_over(graph: &Graph, linear: &Linear) -> Option<usize> {
    let shape = graph.constant(linear.weight)?.shape();
    shape.get(1 - linear.output_axis()).copied()
}

/// The values that mean something, each with its meaning.
fn meanings(graph: &Graph) -> BTreeSet<(ValueId, Meaning)> {
    let mut known = BTreeSet::new();
    let mut open: Vec<(ValueId, Meaning)> = Vec::new();
    for op in graph.op_ids() {
        for (slot, value) in graph.inputs_of(op).into_iter().enumerate() {
            let found = value.and_then(|value| Some((value, Meaning::by_reader(graph, op, slot)?)));
            open.extend(found);
        }
    }
    while let Some((value, meaning)) = open.pop() {
        if graph.constant(value).is_some() || !known.insert((value, meaning)) {
            continue;
        }
        let Some((op, _)) = graph.producer(value) else { continue };
        if let Some(meaning) = meaning.before(graph, op) {
            let inputs = graph.inputs_of(op).into_iter().flatten();
            let inputs = inputs.filter(|&value| meaning != Meaning::Index || !is_product(graph, value));
            open.extend(inputs.map(|value| (value, meaning)));
        }
    }
    known
}

/// Whether a product or convolution writes the value.
fn is_product(graph: &Graph, value: ValueId) -> bool {
    let kind = graph.producer(value).and_then(|(op, _)| Candidate::at(graph, op)).map(|candidate| candidate.kind);
    kind.is_some_and(OperatorKind::has_macs)
}

/// A grid of 256 levels over so many turns leaves 64 to a turn, which is 28 dB of the sine.
const MOST_TURNS: f32 = 4.0;

/// The lowest that scores come to without a mask.
const LOWEST_SCORE: f32 = -100.0;

/// Why the value can't be put on a grid; none where it can, or its range is not known.
fn reason(cx: &Context<'_>, value: ValueId, meaning: Meaning) -> Option<String> {
    let name = cx.graph().value(value).name();
    let seen = || match cx.facts.get(cx.graph(), value, Statistic::Range)? {
        Fact::Range(seen) => Some(seen),
        _ => None,
    };
    let range = || seen().and_then(MinMax::range);
    match meaning {
        Meaning::Scores => {
            let lowest = range().map_or(f32::INFINITY, Range::min);
            let lowest = if seen()?.infinite() > 0 { f32::NEG_INFINITY } else { lowest };
            (lowest <= LOWEST_SCORE).then(|| {
                format!(
                    "masked-scores: `{name}`, which a Softmax reads, goes down to {lowest:.2e}: one grid leaves scores no levels"
                )
            })
        }
        Meaning::Phase => range().map(|range| (range.max() - range.min()) / TAU).filter(|&turns| turns > MOST_TURNS).map(|turns| {
            format!("phase: `{name}`, of which Sin or Cos is taken, spans {turns:.0} turns: a grid leaves few levels in a turn")
        }),
        Meaning::Index => is_planned(cx.graph(), cx.plan, value)
            .then(|| format!("index: `{name}` picks elements, and a grid makes it pick others")),
    }
}

/// Whether any operator of the plan reads or writes the value with codes.
fn is_planned(graph: &Graph, plan: &Plan, value: ValueId) -> bool {
    let operand = |reader: onnxq_ir::Use| match reader.slot {
        Slot::Input(slot) => plan.get(Site::Operand { op: reader.op, slot }).is_some(),
        Slot::Capture => false,
    };
    plan.get(Site::Output(value)).is_some() || graph.readers(value).into_iter().any(operand)
}

/// The operators of the plan that read or write the value with codes.
fn concerned(cx: &Context<'_>, value: ValueId) -> Vec<OpId> {
    let is_written = cx.plan.get(Site::Output(value)).is_some();
    let reads = |reader: &onnxq_ir::Use| match reader.slot {
        Slot::Input(slot) => is_written || cx.plan.get(Site::Operand { op: reader.op, slot }).is_some(),
        Slot::Capture => false,
    };
    let readers = cx.graph().readers(value).into_iter().filter(reads).map(|reader| reader.op);
    let writers = cx.plan.operators().filter(|(_, planned)| planned.ends.iter().any(|end| end.value == value));
    let all: BTreeSet<OpId> = readers.chain(writers.map(|(op, _)| op)).collect();
    all.into_iter().filter(|&op| cx.plan.is_computed(op)).collect()
}

#[cfg(test)]
mod tests {
    use crate::testing::check;

    #[test]
    fn masked_scores() {
        check!("sensitive-values/masked_scores");
    }

    #[test]
    fn scores_without_a_mask() {
        check!("sensitive-values/scores_without_a_mask");
    }

    #[test]
    fn phase() {
        check!("sensitive-values/phase");
    }

    #[test]
    fn index() {
        check!("sensitive-values/index");
    }
}
