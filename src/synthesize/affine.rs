//! A value as a linear function of an input, the same for all elements or one for each channel.

use onnxq_ir::Tensor;

use super::readers::Statistics;

/// What 0 must become, where 1 becomes 0, to be hidden from a Softmax.
const HIDDEN: f64 = -1000.0;

/// `scale * x + shift`.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Affine {
    /// One for all, or one for each entry of `axis`; never 0.
    scale: Vec<f64>,
    /// As many.
    shift: Vec<f64>,
    /// An axis of the input; meaningless where there is one for all.
    axis: usize,
}

impl Affine {
    /// The input itself.
    pub(super) fn identity() -> Self {
        Self { scale: vec![1.0], shift: vec![0.0], axis: 0 }
    }

    pub(super) fn is_identity(&self) -> bool {
        *self == Self { axis: self.axis, ..Self::identity() }
    }

    /// The axis that its numbers run along.
    pub(super) fn axis(&self) -> usize {
        self.axis
    }

    /// What Add, Sub, Mul or Div with a constant makes of it, the value standing in `slot`. `axes` tells for each axis of
    /// the value which of the input it is. `None` where the result is no such function.
    pub(super) fn then(
        &self,
        op_type: &str,
        slot: usize,
        constant: &Tensor,
        axes: Option<&[Option<usize>]>,
    ) -> Option<Self> {
        let axis = if constant.len() == 1 { self.axis } else { channels_of(constant, axes?)? };
        if self.scale.len() > 1 && axis != self.axis {
            return None;
        }
        let numbers = numbers(constant)?;
        let each = |i: usize| {
            let (scale, shift, c) = (entry(&self.scale, i), entry(&self.shift, i), entry(&numbers, i));
            match (op_type, slot) {
                ("Add", _) => Some((scale, shift + c)),
                ("Sub", 0) => Some((scale, shift - c)),
                ("Sub", _) => Some((-scale, c - shift)),
                ("Mul", _) => Some((scale * c, shift * c)),
                ("Div", 0) => Some((scale / c, shift / c)),
                _ => None,
            }
        };
        let both: Vec<(f64, f64)> = (0..self.scale.len().max(numbers.len())).map(each).collect::<Option<_>>()?;
        let is_usable = |&(scale, shift): &(f64, f64)| scale.is_finite() && scale != 0.0 && shift.is_finite();
        if !both.iter().all(is_usable) {
            return None;
        }
        let (scale, shift) = both.into_iter().unzip();
        Some(Self { scale, shift, axis })
    }

    /// Whether 1 becomes 0 and 0 a number so small that a Softmax hides what it is added to.
    pub(super) fn hides_zero(&self) -> bool {
        matches!((&*self.scale, &*self.shift), (&[scale], &[shift]) if scale + shift == 0.0 && shift <= HIDDEN)
    }

    /// The whole number that is added, where nothing else is done.
    pub(super) fn offset(&self) -> Option<i64> {
        match (&*self.scale, &*self.shift) {
            (&[1.0], &[shift]) if shift.fract() == 0.0 => Some(shift as i64),
            _ => None,
        }
    }

    /// The integer that becomes this number.
    pub(super) fn integer_before(&self, number: f64) -> Option<i64> {
        let (&[scale], &[shift]) = (&*self.scale, &*self.shift) else { return None };
        let before = (number - shift) / scale;
        (before.fract() == 0.0).then_some(before as i64)
    }

    /// The distribution of the input that gives the value mean and standard deviation along an axis of the input.
    pub(super) fn distribution_before(&self, mean: &[f64], std: &[f64], axis: usize) -> Option<Statistics> {
        if (self.scale.len() > 1 && axis != self.axis) || mean.is_empty() || mean.len() != std.len() {
            return None;
        }
        let count = self.scale.len().max(mean.len());
        let before = |i: usize| (entry(mean, i) - entry(&self.shift, i)) / entry(&self.scale, i);
        let spread = |i: usize| entry(std, i) / entry(&self.scale, i).abs();
        let mean: Vec<f32> = (0..count).map(|i| before(i) as f32).collect();
        let std: Vec<f32> = (0..count).map(|i| spread(i) as f32).collect();
        mean.iter().chain(&std).all(|number| number.is_finite()).then_some(Statistics { mean, std, axis })
    }
}

/// The numbers of a constant.
pub(super) fn numbers(tensor: &Tensor) -> Option<Vec<f64>> {
    match tensor.to_i64() {
        Some(integers) => Some(integers.into_iter().map(|number| number as f64).collect()),
        None => Some(tensor.to_f32()?.iter().map(|&number| f64::from(number)).collect()),
    }
}

/// An entry, or the last where there are fewer.
fn entry(numbers: &[f64], i: usize) -> f64 {
    numbers.get(i).or(numbers.last()).copied().unwrap_or(f64::NAN)
}

/// The input's axis that a constant has its only size above 1 along.
fn channels_of(constant: &Tensor, axes: &[Option<usize>]) -> Option<usize> {
    let long: Vec<usize> = (0..constant.rank()).filter(|&axis| constant.shape()[axis] != 1).collect();
    let &[axis] = &*long else { return None };
    let from_back = constant.rank() - axis;
    *axes.get(axes.len().checked_sub(from_back)?)?
}
