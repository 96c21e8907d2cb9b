//! A factor and a summand for each channel.

use onnxq_ir::ops::BatchNormalization;
use onnxq_ir::{ElementType, Graph, OpId, Tensor, ValueId};

pub(super) type Reason = &'static str;

/// What is done to each channel: `(x - mean) factor + summand`.
pub(super) struct Channels {
    factor: Vec<f64>,
    mean: Vec<f64>,
    summand: Vec<f64>,
}

impl Channels {
    pub(super) fn of(graph: &Graph, norm: &BatchNormalization) -> Result<Self, Reason> {
        let read = |value| numbers(graph, value);
        let (scale, summand, mean) = (read(norm.scale)?, read(norm.bias)?, read(norm.mean)?);
        let variance = read(norm.variance)?;
        if [&summand, &mean, &variance].iter().any(|it| it.len() != scale.len()) {
            return Err("not-constant");
        }
        let epsilon = f64::from(norm.epsilon);
        let factor: Vec<f64> = scale.iter().zip(&variance).map(|(s, v)| s / (v + epsilon).sqrt()).collect();
        let channels = Self { factor, mean, summand };
        let all = channels.factor.iter().chain(&channels.mean).chain(&channels.summand);
        if all.into_iter().all(|x| x.is_finite()) { Ok(channels) } else { Err("not-finite") }
    }

    pub(super) fn len(&self) -> usize {
        self.factor.len()
    }

    /// Whether no channel has a factor.
    pub(super) fn is_summand(&self) -> bool {
        self.factor.iter().all(|&factor| factor == 1.0)
    }

    /// The bias that stands for `bias` and the BatchNormalization behind it.
    pub(super) fn bias(&self, bias: &[f64], element: ElementType) -> Result<Tensor, Reason> {
        let folded = (0..self.len()).map(|o| (bias[o] - self.mean[o]) * self.factor[o] + self.summand[o]);
        rounded(element, folded.collect(), vec![self.len()])
    }

    /// The weight, each element multiplied by the factor of its output channel.
    pub(super) fn weight(&self, weight: &Tensor, channel: impl Fn(usize) -> usize) -> Result<Tensor, Reason> {
        let elements = weight.floats().ok_or("not-constant")?;
        let folded = elements.iter().enumerate().map(|(i, &w)| f64::from(w) * self.factor[channel(i)]);
        rounded(weight.element(), folded.collect(), weight.shape().to_vec())
    }
}

fn rounded(element: ElementType, numbers: Vec<f64>, shape: Vec<usize>) -> Result<Tensor, Reason> {
    let elements = numbers.into_iter().map(|x| x as f32).collect();
    let tensor = Tensor::of_floats(element, shape, elements).ok_or("not-constant")?;
    let is_finite = tensor.floats().is_some_and(|elements| elements.iter().all(|x| x.is_finite()));
    if is_finite { Ok(tensor) } else { Err("not-finite") }
}

/// A constant vector of floats.
pub(super) fn numbers(graph: &Graph, value: ValueId) -> Result<Vec<f64>, Reason> {
    let tensor = graph.constant(value).filter(|tensor| tensor.rank() == 1).ok_or("not-constant")?;
    Ok(tensor.floats().ok_or("not-constant")?.iter().map(|&x| x.into()).collect())
}

/// An Add, Sub, Mul or Div of a value and a constant.
pub(super) struct ElementWise<'g> {
    pub(super) x: ValueId,
    constant: &'g Tensor,
    /// Factor and summand that an element of the constant stands for.
    meaning: Meaning,
}

type Meaning = fn(f64) -> (f64, f64);

impl<'g> ElementWise<'g> {
    /// The operator `op`, where it is one; `constant - x` and `constant / x` are none.
    pub(super) fn at(graph: &'g Graph, op: OpId) -> Option<Self> {
        let node = graph.try_op(op)?;
        let (meaning, slots): (Meaning, &[usize]) = match node.op_type() {
            _ if !node.is(node.op_type()) => return None,
            "Add" => (|c| (1.0, c), &[0, 1]),
            "Sub" => (|c| (1.0, -c), &[1]),
            "Mul" => (|c| (c, 0.0), &[0, 1]),
            "Div" => (|c| (1.0 / c, 0.0), &[1]),
            _ => return None,
        };
        let slot = *slots.iter().find(|&&slot| graph.input(op, slot).is_some_and(|it| graph.constant(it).is_some()))?;
        let constant = graph.constant(graph.input(op, slot)?)?;
        Some(Self { x: graph.input(op, 1 - slot)?, constant, meaning })
    }

    /// What it does to each of `outputs` channels on axis 1 of `rank`; `None` where it does more.
    pub(super) fn channels(&self, outputs: usize, rank: usize) -> Option<Channels> {
        let shape = self.constant.shape();
        let lead = rank.checked_sub(shape.len())?;
        let is_single = |axis: usize, size: usize| size == 1 || (axis + lead == 1 && size == outputs);
        if !shape.iter().enumerate().all(|(axis, &size)| is_single(axis, size)) {
            return None;
        }
        let elements = self.constant.floats()?;
        let (factor, summand): (Vec<f64>, Vec<f64>) =
            (0..outputs).map(|o| (self.meaning)(elements[o % elements.len()].into())).unzip();
        let is_finite = factor.iter().chain(&summand).all(|x| x.is_finite());
        is_finite.then(|| Channels { mean: vec![0.0; outputs], factor, summand })
    }
}
