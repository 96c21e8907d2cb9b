//! What calibration saw, kept for other trials on the same model: `--save-stats` and `--stats`.
//!
//! Facts are kept by the graph that was run, as a hash of all of it, and by the value's name. So they are found again where
//! passes made the same graph of the model, and nowhere else. The file is postcard with a hash in front; equal runs give
//! equal bytes.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::io::{Read as _, Write as _};
use std::path::Path;

use onnxq_ir::{Attribute, AttributeValue, Graph, Model, OpId, Patch, PatchError};
use onnxq_plan::{Fact, Facts, Needs, Statistic};
use serde::{Deserialize, Serialize};

use crate::error::Error;
use crate::onnx::output::{Destination, OutputError, publish};
use crate::onnx::{Fingerprint, WriteError, fingerprint};

/// The statistics of a model.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
pub struct Statistics {
    /// The model as it was read.
    model: Fingerprint,
    /// What was seen, by the graph that was run.
    observations: BTreeMap<Fingerprint, Observation>,
}

/// What was seen of one graph.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
struct Observation {
    samples: usize,
    facts: BTreeMap<(String, Statistic), Fact>,
}

/// What a run does where its statistics lack something.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lacking {
    /// It observes.
    Observe,
    /// It ends: there is no data.
    Refuse,
}

/// Statistics that a run takes what it can from, and adds what it sees to.
#[derive(Clone, Copy, Debug)]
pub struct Kept<'a> {
    /// The statistics.
    pub statistics: &'a RefCell<Statistics>,
    /// What to do where they lack something.
    pub lacking: Lacking,
}

impl Kept<'_> {
    /// Takes over what is needed and known.
    pub(crate) fn recall(&self, model: &Model, needs: &Needs, facts: &mut Facts) -> Result<(), Error> {
        let statistics = self.statistics.borrow();
        if statistics.is_empty() {
            return Ok(());
        }
        let Some(known) = statistics.observations.get(&running(model)?) else { return Ok(()) };
        let known_of = |(value, statistic)| {
            let name = model.graph.value(value).name().to_owned();
            known.facts.get(&(name, statistic)).map(|fact| (value, statistic, fact.clone()))
        };
        facts.recall(&model.graph, known.samples, needs.iter().filter_map(known_of));
        Ok(())
    }

    /// Keeps what was seen.
    pub(crate) fn record(&self, model: &Model, needs: &Needs, facts: &Facts) -> Result<(), Error> {
        let mut statistics = self.statistics.borrow_mut();
        let observation = statistics.observations.entry(running(model)?).or_default();
        observation.samples = facts.samples();
        for (value, statistic) in needs.iter() {
            if let Some(fact) = facts.get(&model.graph, value, statistic) {
                let name = model.graph.value(value).name().to_owned();
                observation.facts.insert((name, statistic), fact.clone());
            }
        }
        Ok(())
    }

    /// What a person should know where `now` and `later` are needed and not known: an error where they can't be observed.
    pub(crate) fn check(&self, model: &Model, now: &Needs, later: &Needs) -> Result<Option<String>, Error> {
        let Some((value, statistic)) = now.iter().next().filter(|_| self.lacking == Lacking::Refuse) else {
            let lacks = format!("`--stats` lacked {} statistics, which were observed", later.iter().count());
            return Ok((!self.statistics.borrow().is_empty()).then_some(lacks));
        };
        let more = match now.iter().count() - 1 {
            0 => String::new(),
            more => format!(" and {more} more"),
        };
        let name = model.graph.value(value).name();
        Err(Error::Option(format!(
            "`--stats` lacks the {statistic} of `{name}`{more}: they were saved by a run of another recipe, calibrator or \
             choice of nodes; give --calib DATA to observe what is missing"
        )))
    }
}

/// The fingerprint of a graph that is run. What is in bodies does not count: it may be in codes already, and follows from the
/// model as it was read.
fn running(model: &Model) -> Result<Fingerprint, Error> {
    let graph = without_bodies(&model.graph).map_err(|error| Error::Broken(error.to_string()))?;
    let graph = onnxq_ir::ops::expand(&graph, graph.opset()).map_err(|error| Error::Broken(error.to_string()))?;
    let expanded = Model { graph, ..model.clone() };
    Ok(fingerprint(&expanded).map_err(WriteError::from)?)
}

fn without_bodies(graph: &Graph) -> Result<Graph, PatchError> {
    let mut bare = graph.clone();
    let owners: Vec<OpId> = graph.op_ids().filter(|&id| graph.op(id).bodies().next().is_some()).collect();
    let Some(&first) = owners.first() else { return Ok(bare) };
    let mut patch = Patch::new(graph, "statistics", first);
    for owner in owners {
        let is_plain = |it: &&Attribute| !matches!(it.value, AttributeValue::Graph(_) | AttributeValue::Graphs(_));
        patch.set_attributes(owner, graph.op(owner).attributes().iter().filter(is_plain).cloned().collect());
        graph.captures_of(owner).into_iter().for_each(|value| patch.forget(value));
    }
    patch.apply(&mut bare)?;
    Ok(bare)
}

/// What a file begins with; the digit is the format's version.
const MAGIC: &[u8; 8] = b"onnxqst1";
const HASH: usize = 32;

impl Statistics {
    /// Nothing known of a model, which is as it was read.
    pub fn new(model: &Model) -> Result<Self, Error> {
        Ok(Self { model: fingerprint(model).map_err(WriteError::from)?, observations: BTreeMap::new() })
    }

    /// Whether nothing is known.
    pub fn is_empty(&self) -> bool {
        self.observations.is_empty()
    }

    /// The statistics in a file, which must be about this model as it was read.
    pub fn read(path: &Path, model: &Model) -> Result<Self, Error> {
        let statistics = read(path).and_then(|bytes| Self::decode(&bytes)).map_err(|reason| refused(path, reason))?;
        if statistics.model != Self::new(model)?.model {
            let reason = "is about another model: statistics serve only the model that they were saved for; observe again with \
                          --calib and --save-stats";
            return Err(refused(path, reason.to_owned()));
        }
        Ok(statistics)
    }

    /// Writes the file, whole or not at all.
    pub fn write(&self, path: &Path) -> Result<(), Error> {
        let destination = Destination::new(path).map_err(WriteError::from)?;
        let mut staged = destination.stage().map_err(WriteError::from)?;
        let io = |source| WriteError::from(OutputError::io(path, source));
        staged.write_all(&self.encode()?).and_then(|()| staged.flush()).map_err(io)?;
        publish(vec![(staged, destination.path().to_path_buf())]).map_err(WriteError::from)?;
        Ok(())
    }

    fn encode(&self) -> Result<Vec<u8>, Error> {
        let content = postcard::to_stdvec(self).map_err(|error| Error::Broken(error.to_string()))?;
        Ok([MAGIC, Fingerprint::of(&content).bytes().as_slice(), &content].concat())
    }

    fn decode(bytes: &[u8]) -> Result<Self, String> {
        let damaged = || "is damaged; observe again with --calib and --save-stats".to_owned();
        let rest = bytes.strip_prefix(MAGIC).ok_or("is no file of statistics as this version saves them")?;
        let (hash, content) = rest.split_at_checked(HASH).ok_or_else(damaged)?;
        if Fingerprint::of(content).bytes() != hash {
            return Err(damaged());
        }
        let statistics: Self = postcard::from_bytes(content).map_err(|_| damaged())?;
        let mut facts = statistics.observations.values().flat_map(|observation| &observation.facts);
        if facts.any(|((_, statistic), fact)| !fact.is_of(*statistic)) {
            return Err(damaged());
        }
        Ok(statistics)
    }
}

/// All of a file that begins as statistics do: anything else may be of any size.
fn read(path: &Path) -> Result<Vec<u8>, String> {
    let told = |error: std::io::Error| format!("can't be read: {error}");
    let file = std::fs::File::open(path).map_err(told)?;
    let mut bytes = Vec::new();
    (&file).take(MAGIC.len() as u64).read_to_end(&mut bytes).map_err(told)?;
    if bytes == MAGIC {
        (&file).read_to_end(&mut bytes).map_err(told)?;
    }
    Ok(bytes)
}

fn refused(path: &Path, reason: String) -> Error {
    Error::Definition { kind: "statistics", name: path.display().to_string(), reason }
}

#[cfg(test)]
mod tests {
    use onnxq_ir::text::parse;
    use onnxq_numerics::{Histogram, MinMax};

    use super::*;

    fn model(weight: &str) -> Model {
        let text = format!(
            "<ir_version: 8, opset_import: [\"\" : 17]> g (float[2] x) => (float[2] y)
             <float[2] w = {{{weight}}}> {{ y = Add (x, w) }}"
        );
        parse(&text).expect("a model")
    }

    /// A range of `x` and a histogram of `y`, seen in 3 samples.
    fn kept(model: &Model) -> RefCell<Statistics> {
        let statistics = RefCell::new(Statistics::new(model).expect("it can be written"));
        let (mut histogram, needs) = (Histogram::new(64), needs(model));
        histogram.observe(&[1.0, -2.5, f32::NAN]);
        let facts = [Fact::Range(MinMax::of(&[0.5, 1.5])), Fact::Histogram(histogram)];
        let mut known = Facts::default();
        known.recall(
            &model.graph,
            3,
            needs.iter().zip(facts).map(|((value, statistic), fact)| (value, statistic, fact)),
        );
        let kept = Kept { statistics: &statistics, lacking: Lacking::Observe };
        kept.record(model, &needs, &known).expect("kept");
        statistics
    }

    fn needs(model: &Model) -> Needs {
        let value = |name| model.graph.find_value(name).expect("a value");
        let mut needs = Needs::none();
        needs.add(value("x"), Statistic::Range);
        needs.add(value("y"), Statistic::Histogram);
        needs
    }

    #[test]
    fn what_was_kept_is_recalled() {
        let model = model("1, 2");
        let bytes = kept(&model).borrow().encode().expect("encoded");
        assert_eq!(kept(&model).borrow().encode().expect("encoded"), bytes, "equal bytes");
        let statistics = RefCell::new(Statistics::decode(&bytes).expect("sound"));
        assert_eq!(statistics, kept(&model));
        let recall = |model: &Model| {
            let mut facts = Facts::default();
            let kept = Kept { statistics: &statistics, lacking: Lacking::Refuse };
            kept.recall(model, &needs(model), &mut facts).expect("read");
            let unmet = needs(model).unmet(&facts, &model.graph);
            let error = kept.check(model, &unmet, &unmet).err().map(|error| error.to_string());
            (facts.samples(), unmet.iter().count(), error)
        };
        assert_eq!(recall(&model).0, 3);
        assert_eq!(recall(&model).1, 0);
        // Another graph: nothing that was seen holds there.
        let (samples, unmet, error) = recall(&self::model("1, 3"));
        assert_eq!((samples, unmet), (0, 2));
        assert!(error.is_some_and(|error| error.starts_with("`--stats` lacks the range of `x` and 1 more: ")));
    }

    #[test]
    fn a_damaged_file_is_refused() {
        let sound = kept(&model("1, 2")).borrow().encode().expect("encoded");
        for length in 0..sound.len() {
            assert!(Statistics::decode(&sound[..length]).is_err(), "{length} bytes");
        }
        for at in 0..sound.len() {
            let mut bytes = sound.clone();
            bytes[at] ^= 0x40;
            assert!(Statistics::decode(&bytes).is_err(), "byte {at}");
        }
    }

    /// With a hash that fits, whatever the bytes say: never a panic, nor memory for more than they are.
    #[test]
    fn a_hostile_file_is_refused_or_read() {
        let sound = kept(&model("1, 2")).borrow().encode().expect("encoded");
        let content = &sound[MAGIC.len() + HASH..];
        let sealed = |content: &[u8]| [MAGIC, Fingerprint::of(content).bytes().as_slice(), content].concat();
        assert!(Statistics::decode(&sealed(content)).is_ok());
        let mut refused = 0;
        for at in 0..content.len() {
            for value in [0, 1, 0x7f, 0x80, 0xff] {
                let mut bytes = content.to_vec();
                bytes[at] = value;
                refused += usize::from(Statistics::decode(&sealed(&bytes)).is_err());
            }
        }
        assert!(refused > content.len() / 2, "{refused}");
        // A list of 2^63 entries.
        let long = [&content[..32], &[0xff; 9], &[1]].concat();
        assert_eq!(
            Statistics::decode(&sealed(&long)),
            Err("is damaged; observe again with --calib and --save-stats".to_owned())
        );
        // A range where a histogram is announced.
        let model = model("1, 2");
        let mut wrong = Statistics::new(&model).expect("it can be written");
        let facts = BTreeMap::from([(("x".to_owned(), Statistic::Histogram), Fact::Range(MinMax::new()))]);
        wrong.observations.insert(wrong.model, Observation { samples: 1, facts });
        assert!(Statistics::decode(&wrong.encode().expect("encoded")).is_err());
    }
}
