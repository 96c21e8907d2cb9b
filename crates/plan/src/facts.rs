//! What was observed about values, by value and version, and who asked for it.
//!
//! All statistics of one run over the data are gathered together. They merge exactly: the result does not depend on how
//! samples were spread over threads.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use onnxq_ir::{Graph, Model, ValueId};
use onnxq_numerics::{ChannelHistogram, ChannelMinMax, Histogram, LogHistogram, MinMax};
use serde::{Deserialize, Serialize};

use crate::evaluator::{Elements, EngineError, Evaluator, Request, Sample, Shown, sweep};
use crate::float_outputs::{FloatOutputs, Watch};

/// A statistic that can be gathered of a value.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Deserialize, Serialize)]
pub enum Statistic {
    /// Smallest and largest element.
    Range,
    /// How elements are distributed.
    Histogram,
    /// How elements from 0 up are distributed over octaves.
    LogHistogram,
    /// Smallest and largest element per channel.
    ChannelRange(ChannelAxis),
    /// How elements are distributed per channel.
    ChannelHistogram(ChannelAxis),
    /// How many elements a sample has.
    Elements,
}

impl fmt::Display for Statistic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Range => "range",
            Self::Histogram => "histogram",
            Self::LogHistogram => "histogram of octaves",
            Self::ChannelRange(_) => "range per channel",
            Self::ChannelHistogram(_) => "histogram per channel",
            Self::Elements => "number of elements",
        })
    }
}

/// Which axis the channels are, counted from the last: 1 is the last, 2 the one before it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Deserialize, Serialize)]
pub struct ChannelAxis(pub usize);

impl ChannelAxis {
    /// The last axis.
    pub const LAST: Self = Self(1);

    /// Channels, and elements that lie between two of one channel, in a value of this shape.
    fn split(self, shape: &[usize]) -> Option<(usize, usize)> {
        let axis = shape.len().checked_sub(self.0)?;
        Some((shape[axis], shape[axis + 1..].iter().product()))
    }
}

/// The statistics that a pass asks for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Needs(BTreeSet<(ValueId, Statistic)>);

impl Needs {
    /// Nothing.
    pub fn none() -> Self {
        Self::default()
    }

    /// Asks for a statistic of a value.
    pub fn add(&mut self, value: ValueId, statistic: Statistic) {
        self.0.insert((value, statistic));
    }

    /// Asks for all that the other asks for.
    pub fn extend(&mut self, other: Self) {
        self.0.extend(other.0);
    }

    /// All that is asked for, in order.
    pub fn iter(&self) -> impl Iterator<Item = (ValueId, Statistic)> + '_ {
        self.0.iter().copied()
    }

    /// Whether nothing is asked for.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The values that must be shown.
    pub fn values(&self) -> Vec<ValueId> {
        let values: BTreeSet<ValueId> = self.0.iter().map(|(value, _)| *value).collect();
        values.into_iter().collect()
    }

    /// Without the numbers of elements of values that can't be computed: they serve an estimate only.
    #[must_use]
    pub fn within(mut self, reachable: &BTreeSet<ValueId>) -> Self {
        self.0.retain(|(value, statistic)| *statistic != Statistic::Elements || reachable.contains(value));
        self
    }

    /// What is asked for and not known yet.
    #[must_use]
    pub fn unmet(self, facts: &Facts, graph: &Graph) -> Self {
        Self(self.0.into_iter().filter(|(value, statistic)| facts.get(graph, *value, *statistic).is_none()).collect())
    }
}

/// A statistic of a value over all samples.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
pub enum Fact {
    /// Smallest and largest element.
    Range(MinMax),
    /// How elements are distributed.
    Histogram(Histogram),
    /// How elements from 0 up are distributed over octaves.
    LogHistogram(LogHistogram),
    /// Smallest and largest element per channel; nothing before the first sample.
    ChannelRange(Option<ChannelMinMax>),
    /// How elements are distributed per channel; nothing before the first sample.
    ChannelHistogram(Option<ChannelHistogram>),
    /// Elements of the largest sample.
    Elements(u64),
}

impl Fact {
    fn new(statistic: Statistic) -> Self {
        match statistic {
            Statistic::Range => Self::Range(MinMax::new()),
            Statistic::Histogram => Self::Histogram(Histogram::new(onnxq_numerics::TENSOR_BINS)),
            Statistic::LogHistogram => Self::LogHistogram(LogHistogram::new()),
            Statistic::ChannelRange(_) => Self::ChannelRange(None),
            Statistic::ChannelHistogram(_) => Self::ChannelHistogram(None),
            Statistic::Elements => Self::Elements(0),
        }
    }

    /// Whether this is what the statistic gathers.
    pub fn is_of(&self, statistic: Statistic) -> bool {
        std::mem::discriminant(self) == std::mem::discriminant(&Self::new(statistic))
    }

    fn observe(&mut self, statistic: Statistic, shape: &[usize], elements: &[f32]) {
        match (self, statistic) {
            (Self::Range(range), _) => range.observe(elements),
            (Self::Histogram(histogram), _) => histogram.observe(elements),
            (Self::LogHistogram(histogram), _) => histogram.observe(elements),
            (Self::ChannelRange(range), Statistic::ChannelRange(axis)) => {
                if let Some((channels, inner)) = axis.split(shape) {
                    range.get_or_insert_with(|| ChannelMinMax::new(channels)).observe(elements, inner);
                }
            }
            (Self::ChannelHistogram(histogram), Statistic::ChannelHistogram(axis)) => {
                if let Some((channels, inner)) = axis.split(shape) {
                    histogram
                        .get_or_insert_with(|| ChannelHistogram::new(channels, onnxq_numerics::CHANNEL_BINS))
                        .observe(elements, inner);
                }
            }
            (Self::Elements(most), _) => *most = elements.len().max(*most as usize) as u64,
            (Self::ChannelRange(_) | Self::ChannelHistogram(_), _) => unreachable!("a fact is of its statistic's kind"),
        }
    }

    fn merge(&mut self, other: Self) {
        match (self, other) {
            (Self::Range(a), Self::Range(b)) => a.merge(&b),
            (Self::Histogram(a), Self::Histogram(b)) => a.merge(&b),
            (Self::LogHistogram(a), Self::LogHistogram(b)) => a.merge(&b),
            (Self::ChannelRange(a), Self::ChannelRange(Some(b))) => match a {
                Some(a) => a.merge(&b),
                None => *a = Some(b),
            },
            (Self::ChannelHistogram(a), Self::ChannelHistogram(Some(b))) => match a {
                Some(a) => a.merge(&b),
                None => *a = Some(b),
            },
            (Self::Elements(a), Self::Elements(b)) => *a = b.max(*a),
            _ => {}
        }
    }
}

/// How the facts about a value change when an Exact patch changes it.
#[derive(Clone, Debug)]
pub enum Carry {
    /// Every channel is multiplied by its positive factor, then its offset is added.
    ScaleShift {
        /// A factor per channel, above 0.
        scale: Vec<f32>,
        /// An offset per channel.
        shift: Vec<f32>,
    },
    /// The elements are others, as many as before.
    Elements,
}

/// All that is known. A fact about another version of a value cannot be read.
#[derive(Clone, Debug, Default)]
pub struct Facts {
    facts: BTreeMap<(ValueId, Statistic), (u32, Fact)>,
    samples: usize,
}

impl Facts {
    /// How many samples were seen.
    pub fn samples(&self) -> usize {
        self.samples
    }

    /// A fact about a value as it is now.
    pub fn get(&self, graph: &Graph, value: ValueId, statistic: Statistic) -> Option<&Fact> {
        let (version, fact) = self.facts.get(&(value, statistic))?;
        (graph.try_value(value)?.version() == *version).then_some(fact)
    }

    /// Takes over what an earlier run over so many samples saw in a graph that was equal to this one.
    pub fn recall(
        &mut self,
        graph: &Graph,
        samples: usize,
        known: impl IntoIterator<Item = (ValueId, Statistic, Fact)>,
    ) {
        self.samples = samples;
        for (value, statistic, fact) in known {
            self.facts.insert((value, statistic), (graph.value(value).version(), fact));
        }
    }

    /// Range of a value, from whatever statistic has one.
    pub fn range(&self, graph: &Graph, value: ValueId) -> Option<onnxq_numerics::Range> {
        match self.get(graph, value, Statistic::Range) {
            Some(Fact::Range(range)) => range.range(),
            _ => match self.get(graph, value, Statistic::Histogram)? {
                Fact::Histogram(histogram) => histogram.range(),
                _ => None,
            },
        }
    }

    /// Elements of a value in one sample, where that was asked for.
    pub fn elements(&self, graph: &Graph, value: ValueId) -> Option<u64> {
        match self.get(graph, value, Statistic::Elements)? {
            Fact::Elements(elements) => Some(*elements),
            _ => None,
        }
    }

    /// Carries the facts about a value from a former version to the present one.
    ///
    /// Per-channel ranges and the number of elements follow exactly; what can't follow is dropped.
    pub fn carry(&mut self, graph: &Graph, value: ValueId, from: u32, carry: &Carry) {
        let now = graph.value(value).version();
        for ((known, _), (version, fact)) in &mut self.facts {
            if *known != value || *version != from {
                continue;
            }
            match (fact, carry) {
                (Fact::ChannelRange(Some(range)), Carry::ScaleShift { scale, shift }) => {
                    range.scale_shift(scale, shift);
                    *version = now;
                }
                (Fact::Elements(_), _) => *version = now,
                _ => {}
            }
        }
    }

    /// Runs the model over the samples and gathers what is needed.
    pub fn observe<E, I>(
        &mut self,
        evaluator: &dyn Evaluator,
        model: &Model,
        needs: &Needs,
        samples: I,
        threads: usize,
        done: impl Fn() + Sync,
    ) -> Result<(), E>
    where
        E: From<EngineError> + Send,
        I: Iterator<Item = Result<Sample, E>> + Send,
    {
        self.observe_and_keep(evaluator, model, (needs, &Watch::default()), samples, threads, done).map(|_| ())
    }

    /// The same, and keeps elements of what is watched.
    pub fn observe_and_keep<E, I>(
        &mut self,
        evaluator: &dyn Evaluator,
        model: &Model,
        (needs, watch): (&Needs, &Watch),
        samples: I,
        threads: usize,
        done: impl Fn() + Sync,
    ) -> Result<FloatOutputs, E>
    where
        E: From<EngineError> + Send,
        I: Iterator<Item = Result<Sample, E>> + Send,
    {
        let mut taps = needs.values();
        taps.extend(watch.values.keys());
        taps.sort_unstable();
        taps.dedup();
        let session = evaluator.prepare(&Request { model, plan: None, taps: &taps })?;
        let mut counted = 0;
        let samples = samples.inspect(|sample| counted += usize::from(sample.is_ok()));
        let new = || (Observers::new(needs), FloatOutputs::default());
        let see = |(all, kept): &mut (Observers, FloatOutputs), sample: usize, shown: &Shown<'_>| {
            all.see(shown);
            watch.see(sample, shown, kept);
        };
        let threads = sweep(&*session, samples, threads, new, see, done)?;
        self.samples = counted;
        let mut outputs = FloatOutputs::default();
        for (observers, kept) in threads {
            outputs.merge(kept);
            for ((value, statistic), fact) in observers.facts {
                let version = model.graph.value(value).version();
                match self.facts.get_mut(&(value, statistic)) {
                    Some((known, merged)) if *known == version => merged.merge(fact),
                    _ => {
                        self.facts.insert((value, statistic), (version, fact));
                    }
                }
            }
        }
        Ok(outputs)
    }
}

/// One thread's observers.
struct Observers {
    facts: BTreeMap<(ValueId, Statistic), Fact>,
}

impl Observers {
    fn new(needs: &Needs) -> Self {
        Self { facts: needs.0.iter().map(|&(value, statistic)| ((value, statistic), Fact::new(statistic))).collect() }
    }

    /// Values that are no float32 have no range.
    fn see(&mut self, shown: &Shown<'_>) {
        let Elements::F32(elements) = shown.elements else { return };
        let first = (shown.value, Statistic::Range);
        for ((_, statistic), fact) in self.facts.range_mut(first..).take_while(|((value, _), _)| *value == shown.value)
        {
            fact.observe(*statistic, shown.shape, elements);
        }
    }
}
