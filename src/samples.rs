//! Samples for the engine: real data or made-up inputs, by the graph's values, as often as they are wanted.

use std::sync::Arc;

use onnxq_ir::{ElementType, Graph, Origin, Tensor, ValueId};
use onnxq_plan::Sample;

use crate::data::{self, DataOptions, DataSet, InputSpec};
use crate::error::Error;

/// Samples, opened and checked. Cloning shares them.
#[derive(Clone)]
pub struct Samples {
    source: Arc<Source>,
    /// How many of the source's samples count.
    limit: usize,
    /// How many of the first of these do not.
    skip: usize,
    part: Part,
}

/// Which of the samples.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Part {
    All,
    /// Three of four: what ranges are fitted on.
    Fit,
    /// Every fourth: what plans are judged on.
    HeldOut,
}

impl Part {
    fn has(self, index: usize) -> bool {
        match self {
            Self::All => true,
            Self::Fit => index % 4 != 3,
            Self::HeldOut => index % 4 == 3,
        }
    }
}

enum Source {
    Data {
        set: DataSet,
        inputs: Vec<ValueId>,
    },
    Synthesized {
        samples: Vec<data::Sample>,
        inputs: Vec<ValueId>,
    },
    /// What the model around a body gives it.
    Gathered(Vec<Vec<(ValueId, Tensor)>>),
}

/// With fewer samples, none can be spared.
const FEWEST_TO_SPLIT: usize = 8;

/// Class labels.
#[derive(Clone, Copy, Debug)]
pub struct Labels<'a> {
    labels: &'a [i64],
    per_sample: usize,
}

impl<'a> Labels<'a> {
    /// The labels of the sample with this index, one a row of the output.
    pub fn of(&self, sample: usize) -> &'a [i64] {
        self.labels.get(sample * self.per_sample..(sample + 1) * self.per_sample).unwrap_or_default()
    }
}

/// One pass over samples.
pub type Stream = Box<dyn Iterator<Item = Result<Sample, Error>> + Send>;

impl Samples {
    /// Opens data for the inputs of a graph.
    pub fn open(graph: &Graph, options: &DataOptions) -> Result<Self, Error> {
        let (specs, inputs) = input_specs(graph);
        let set = DataSet::open(&specs, options)?;
        let limit = set.len();
        Ok(Self { source: Arc::new(Source::Data { set, inputs }), limit, skip: 0, part: Part::All })
    }

    /// Made-up samples; their places are those of `inputs`.
    pub fn synthesized(samples: Vec<data::Sample>, inputs: Vec<ValueId>) -> Self {
        let limit = samples.len();
        Self { source: Arc::new(Source::Synthesized { samples, inputs }), limit, skip: 0, part: Part::All }
    }

    /// What a body is given, run by run.
    pub(crate) fn gathered(runs: Vec<Vec<(ValueId, Tensor)>>) -> Self {
        let limit = runs.len();
        Self { source: Arc::new(Source::Gathered(runs)), limit, skip: 0, part: Part::All }
    }

    /// The first `limit` of these samples.
    #[must_use]
    pub fn first(&self, limit: usize) -> Self {
        Self { limit: self.limit.min(limit), ..self.clone() }
    }

    /// Three of every four samples to fit on, and at most `limit` of the others to judge on; all for both where there are
    /// fewer than 8.
    #[must_use]
    pub fn split(&self, limit: usize) -> (Self, Self) {
        if self.limit < FEWEST_TO_SPLIT {
            return (self.clone(), self.first(limit));
        }
        let held_out = Self { limit: self.limit.min(4 * limit), part: Part::HeldOut, ..self.clone() };
        (Self { part: Part::Fit, ..self.clone() }, held_out)
    }

    /// More of the samples that `split` leaves out of the fit: at most `limit` behind its first `judged`, where there are any.
    pub fn further(&self, judged: usize, limit: usize) -> Option<Self> {
        let further =
            Self { skip: 4 * judged, limit: self.limit.min(4 * (judged + limit)), part: Part::HeldOut, ..self.clone() };
        (self.limit >= FEWEST_TO_SPLIT && !further.is_empty()).then_some(further)
    }

    /// Whether these are samples that no range is fitted on.
    pub fn is_held_out(&self) -> bool {
        self.part == Part::HeldOut
    }

    /// How many there are; at least one.
    pub fn len(&self) -> usize {
        self.numbers().count()
    }

    /// Their numbers, ascending.
    pub fn numbers(&self) -> impl Iterator<Item = usize> {
        let part = self.part;
        (self.skip..self.limit).filter(move |&index| part.has(index))
    }

    /// Whether there are none, as may be of a part; data without samples are refused when they are opened.
    pub fn is_empty(&self) -> bool {
        self.numbers().next().is_none()
    }

    /// Whether the inputs are made up.
    pub fn is_synthesized(&self) -> bool {
        matches!(*self.source, Source::Synthesized { .. })
    }

    /// Class labels in the order of the samples, with how many belong to each.
    pub fn labels(&self) -> Option<Labels<'_>> {
        match &*self.source {
            Source::Data { set, .. } => {
                set.labels().map(|labels| Labels { labels, per_sample: labels.len() / set.len() })
            }
            Source::Synthesized { .. } | Source::Gathered(_) => None,
        }
    }

    /// What a person should know about the data.
    pub fn notes(&self) -> &[String] {
        match &*self.source {
            Source::Data { set, .. } => set.notes(),
            Source::Synthesized { .. } | Source::Gathered(_) => &[],
        }
    }

    /// A pass over the samples; their indices count from 0.
    pub fn stream(&self) -> Result<Stream, Error> {
        let source = Arc::clone(&self.source);
        let (part, skip) = (self.part, self.skip);
        let counts = move |index: usize| index >= skip && part.has(index);
        let by_value = move |(index, sample): (usize, data::Sample)| {
            let inputs = match &*source {
                Source::Data { inputs, .. } | Source::Synthesized { inputs, .. } => inputs.as_slice(),
                Source::Gathered(_) => &[],
            };
            let inputs = sample.inputs.into_iter().map(|(place, tensor)| (inputs[place], tensor)).collect();
            Sample { index, inputs }
        };
        Ok(match &*self.source {
            Source::Data { set, .. } => {
                let stream = set.stream()?.take(self.limit).enumerate().filter(move |(index, _)| counts(*index));
                Box::new(stream.map(move |(index, sample)| Ok(by_value((index, sample?)))))
            }
            Source::Synthesized { samples, .. } => {
                let samples: Vec<data::Sample> = samples.iter().take(self.limit).cloned().collect();
                let stream = samples.into_iter().enumerate().filter(move |(index, _)| counts(*index));
                Box::new(stream.map(move |sample| Ok(by_value(sample))))
            }
            Source::Gathered(runs) => {
                let runs: Vec<_> = runs.iter().take(self.limit).cloned().enumerate().collect();
                let stream = runs.into_iter().filter(move |(index, _)| counts(*index));
                Box::new(stream.map(|(index, inputs)| Ok(Sample { index, inputs })))
            }
        })
    }
}

/// What data must give: the graph's tensor inputs, and their values in the same order. No data file holds strings, and the
/// engine computes nothing from them.
fn input_specs(graph: &Graph) -> (Vec<InputSpec>, Vec<ValueId>) {
    let mut specs = Vec::new();
    let mut values = Vec::new();
    for declared in graph.inputs() {
        let value = graph.value(declared.value);
        let tensor_type = declared.value_type.tensor().cloned();
        if tensor_type.as_ref().is_some_and(|known| known.element == ElementType::String) {
            continue;
        }
        specs.push(InputSpec {
            name: value.name().to_owned(),
            tensor_type: tensor_type.unwrap_or(onnxq_ir::TensorType { element: ElementType::F32, shape: None }),
            has_default: matches!(value.origin(), Origin::Input(Some(_))),
        });
        values.push(declared.value);
    }
    (specs, values)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn samples(count: usize) -> Samples {
        Samples::gathered(vec![Vec::new(); count])
    }

    /// The numbers of samples, as a pass over them has them.
    fn seen(samples: &Samples) -> Vec<usize> {
        let seen: Vec<usize> = samples.stream().expect("opens").map(|sample| sample.expect("a sample").index).collect();
        assert_eq!(samples.numbers().collect::<Vec<_>>(), seen);
        assert_eq!(samples.len(), seen.len());
        seen
    }

    #[test]
    fn what_is_judged_on_and_looked_through_is_left_out_of_the_fit() {
        let all = samples(50);
        let (fit, judged) = all.split(2);
        let further = all.further(2, 5).expect("more");
        assert_eq!(seen(&judged), [3, 7]);
        assert_eq!(seen(&further), [11, 15, 19, 23, 27]);
        assert!(seen(&fit).iter().all(|index| index % 4 != 3));
        assert_eq!(seen(&all.further(10, 100).expect("more")), [43, 47]);
    }

    #[test]
    fn there_may_be_no_more() {
        assert!(samples(50).further(12, 5).is_none());
        assert!(samples(7).further(0, 5).is_none(), "none is held out of so few");
    }
}
