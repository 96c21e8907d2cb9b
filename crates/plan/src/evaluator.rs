//! Running a graph, with or without a plan, over samples.
//!
//! The trait knows no engine. `onnxq-engine` implements it on tract; another implementation may follow.

use std::borrow::Cow;
use std::sync::Mutex;

use onnxq_ir::{ElementType, Model, Tensor, TensorType, ValueId};

use crate::plan::Plan;

/// Why an engine can't do what was asked.
#[derive(Debug, Clone, thiserror::Error)]
pub enum EngineError {
    /// The engine lacks operators.
    #[error("{engine} can't run {}", list(.operators))]
    Unsupported {
        /// The engine.
        engine: &'static str,
        /// Operators that it lacks, with the nodes that use them.
        operators: Vec<UnsupportedOp>,
    },
    /// The engine refused the graph.
    #[error("{engine} can't prepare the model{}: {reason}", .node.as_ref().map(|n| format!(" at node `{n}`")).unwrap_or_default())]
    Prepare {
        /// The engine.
        engine: &'static str,
        /// The node it names.
        node: Option<String>,
        /// What it says, shortened.
        reason: String,
    },
    /// The engine failed on a sample.
    #[error("{engine} failed on sample {sample}: {reason}")]
    Run {
        /// The engine.
        engine: &'static str,
        /// The sample's number.
        sample: usize,
        /// What it says, shortened.
        reason: String,
    },
}

/// An operator that an engine lacks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UnsupportedOp {
    /// Domain and type, such as `com.microsoft.QGemm`.
    pub op_type: String,
    /// The first node that uses it.
    pub node: String,
    /// How many nodes use it.
    pub count: usize,
}

fn list(operators: &[UnsupportedOp]) -> String {
    let shown: Vec<String> = operators
        .iter()
        .take(5)
        .map(|op| match op.count {
            1 => format!("node `{}` ({})", op.node, op.op_type),
            n => format!("node `{}` ({}, {n} nodes)", op.node, op.op_type),
        })
        .collect();
    let rest = operators.len().saturating_sub(5);
    let more = if rest > 0 { format!(" and {rest} more operators") } else { String::new() };
    shown.join(", ") + &more
}

/// What is known about a value without running any data.
#[derive(Debug, Clone)]
pub struct Inferred {
    /// The value.
    pub value: ValueId,
    /// Its type, dimensions as far as known.
    pub tensor_type: TensorType,
    /// Its elements, where they are the same for every input.
    pub constant: Option<Tensor>,
}

/// What is to be run.
#[derive(Clone, Copy)]
pub struct Request<'a> {
    /// The model; recognised operators included.
    pub model: &'a Model,
    /// Simulate this plan: every site sees its values quantized and dequantized.
    pub plan: Option<&'a Plan>,
    /// The values to show. Only what these need is run.
    pub taps: &'a [ValueId],
}

/// One run's inputs.
#[derive(Clone, Debug)]
pub struct Sample {
    /// The number of the sample, from 0.
    pub index: usize,
    /// A tensor per graph input that has no default, and for those with defaults that data is given for.
    pub inputs: Vec<(ValueId, Tensor)>,
}

impl Sample {
    /// What is given for an input.
    pub fn given(&self, input: ValueId) -> Option<&Tensor> {
        self.inputs.iter().find(|(value, _)| *value == input).map(|(_, tensor)| tensor)
    }
}

/// The elements of a value that is shown.
#[derive(Clone, Copy, Debug)]
pub enum Elements<'a> {
    /// float32, also where the graph says float16 or bfloat16 and the engine computes in float32.
    F32(&'a [f32]),
    /// float64
    F64(&'a [f64]),
    /// int64
    I64(&'a [i64]),
    /// int32
    I32(&'a [i32]),
    /// bool
    Bool(&'a [bool]),
    /// Any other type, which no observer looks into.
    Other(ElementType),
}

impl<'a> Elements<'a> {
    /// float32 elements as they are, float64 ones rounded; none of other types.
    pub fn floats(self) -> Option<Cow<'a, [f32]>> {
        match self {
            Self::F32(elements) => Some(Cow::Borrowed(elements)),
            Self::F64(elements) => Some(elements.iter().map(|&x| x as f32).collect()),
            Self::I64(_) | Self::I32(_) | Self::Bool(_) | Self::Other(_) => None,
        }
    }
}

impl Shown<'_> {
    /// A tensor of the elements; none where they are of a type that no observer looks into.
    pub fn tensor(&self) -> Option<Tensor> {
        let shape = self.shape.to_vec();
        Some(match self.elements {
            Elements::F32(elements) => Tensor::new(shape, elements.to_vec()),
            Elements::F64(elements) => Tensor::new(shape, elements.to_vec()),
            Elements::I64(elements) => Tensor::new(shape, elements.to_vec()),
            Elements::I32(elements) => Tensor::new(shape, elements.to_vec()),
            Elements::Bool(elements) => truths(shape, elements),
            Elements::Other(_) => return None,
        })
    }
}

/// A tensor of truth values.
pub fn truths(shape: Vec<usize>, elements: &[bool]) -> Tensor {
    let bytes: Vec<u8> = elements.iter().map(|&element| element.into()).collect();
    Tensor::from_bytes(ElementType::Bool, shape, bytes.into()).expect("as many elements as the shape has")
}

/// A value as it is shown to an observer, valid for the moment only.
#[derive(Clone, Copy, Debug)]
pub struct Shown<'a> {
    /// The value.
    pub value: ValueId,
    /// The dimensions.
    pub shape: &'a [usize],
    /// The elements in row-major order.
    pub elements: Elements<'a>,
}

/// Runs graphs.
pub trait Evaluator: Sync {
    /// The engine's name as users know it.
    fn name(&self) -> &'static str;

    /// Types, shapes and constants that follow from the graph alone, for every input that it declares.
    ///
    /// Values about which nothing is known are left out.
    fn infer(&self, model: &Model) -> Result<Vec<Inferred>, EngineError>;

    /// Prepares a graph for running; what the engine lacks is refused here.
    fn prepare<'a>(&'a self, request: &Request<'a>) -> Result<Box<dyn Session + 'a>, EngineError>;

    /// Which of these values the engine can compute, judged by the operators upstream of each.
    fn reachable(&self, model: &Model, values: &[ValueId]) -> Vec<ValueId>;
}

/// A prepared graph, shared by threads.
pub trait Session: Sync {
    /// State of its own for one thread.
    fn runner(&self) -> Box<dyn Runner + '_>;
}

/// One thread's state.
pub trait Runner {
    /// Runs one sample; every tapped value is shown once, as soon as it is known, and freed.
    fn run(&mut self, sample: &Sample, see: &mut dyn FnMut(&Shown<'_>)) -> Result<(), EngineError>;
}

/// Does `work` for every sample on `threads` threads. Each thread begins with `start` and hands over what `finish` makes
/// of it.
///
/// The result is independent of the number of threads where the accumulators are, that is, where they merge exactly or
/// keep what they saw by the sample's number. Of several errors the one of the first sample is returned.
pub fn each_sample<A, R, E, I>(
    samples: I,
    threads: usize,
    start: impl Fn() -> A + Sync,
    work: impl Fn(&mut A, &Sample) -> Result<(), E> + Sync,
    finish: impl Fn(A) -> R + Sync,
) -> Result<Vec<R>, E>
where
    R: Send,
    E: Send,
    I: Iterator<Item = Result<Sample, E>> + Send,
{
    let source = Mutex::new((samples, 0usize));
    let failed: Mutex<Option<(usize, E)>> = Mutex::new(None);
    let labour = || {
        let mut accumulator = start();
        loop {
            let (position, next) = {
                let mut source = source.lock().expect("no thread panics while it holds the source");
                if failed.lock().expect("no thread panics while it holds the error").is_some() {
                    break;
                }
                source.1 += 1;
                (source.1, source.0.next())
            };
            let Some(sample) = next else { break };
            if let Err(error) = sample.and_then(|sample| work(&mut accumulator, &sample)) {
                let mut first = failed.lock().expect("no thread panics while it holds the error");
                if first.as_ref().is_none_or(|(known, _)| position < *known) {
                    *first = Some((position, error));
                }
                break;
            }
        }
        finish(accumulator)
    };
    let results = std::thread::scope(|scope| {
        // Where the system gives no more threads, fewer do the work.
        let spawn = |_| std::thread::Builder::new().spawn_scoped(scope, labour).ok();
        let others: Vec<_> = (1..threads).map_while(spawn).collect();
        let mut all = vec![labour()];
        all.extend(others.into_iter().map(|thread| thread.join().expect("a worker does not panic")));
        all
    });
    match failed.into_inner().expect("all threads are done") {
        Some((_, error)) => Err(error),
        None => Ok(results),
    }
}

/// Runs a session over all samples; each thread shows what it sees to an accumulator of its own. All are returned.
pub fn sweep<A, E, I>(
    session: &dyn Session,
    samples: I,
    threads: usize,
    new: impl Fn() -> A + Sync,
    see: impl Fn(&mut A, usize, &Shown<'_>) + Sync,
    done: impl Fn() + Sync,
) -> Result<Vec<A>, E>
where
    A: Send,
    E: From<EngineError> + Send,
    I: Iterator<Item = Result<Sample, E>> + Send,
{
    each_sample(
        samples,
        threads,
        || (new(), session.runner()),
        |(accumulator, runner), sample| {
            runner.run(sample, &mut |shown| see(accumulator, sample.index, shown))?;
            done();
            Ok(())
        },
        |(accumulator, _)| accumulator,
    )
}
