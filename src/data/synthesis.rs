//! Made-up inputs, the same on every machine, for models that come without data. How an input should look is the
//! caller's to say; here the numbers are drawn.

use onnxq_ir::{Element, ElementType, Tensor};

use super::error::DataError;
use super::random::Random;
use super::stream::Sample;

/// Elements of one made-up tensor at most.
const MAX_ELEMENTS: usize = 1 << 28;
/// How much of an image's variance its channels share: those of photographs are much alike.
const SHARED_VARIANCE: f64 = 0.8;
/// Where 8-bit images lie.
const BYTE_MEAN: f64 = 128.0;
const BYTE_STD: f64 = 50.0;

/// An input to be made up.
#[derive(Clone, Debug, PartialEq)]
pub struct SynthSpec {
    /// Its name, which also seeds its numbers: another input's presence does not change them.
    pub name: String,
    /// Its element type.
    pub element: ElementType,
    /// Its whole shape, batch included.
    pub shape: Vec<usize>,
    /// How its elements are distributed.
    pub kind: SynthKind,
}

/// How an input's elements are distributed. Integers are rounded and kept within their type, bools are "above 0".
#[derive(Clone, Debug, PartialEq)]
pub enum SynthKind {
    /// Mean 0 and variance 1, like a normalized natural input. With four axes, noise that is smooth over the two that
    /// are neither the first nor the channels (amplitude about 1/f, as in photographs), most of it common to all
    /// channels; else independent normal numbers. 8-bit images get mean 128 and standard deviation 50.
    Natural {
        /// The axis of the channels, the second one where unknown.
        channel_axis: Option<usize>,
    },
    /// Independent normal numbers with these statistics for each entry of `axis`, as a BatchNorm holds them.
    Gaussian {
        /// The means; entries beyond the last use the last.
        mean: Vec<f32>,
        /// The standard deviations, likewise.
        std: Vec<f32>,
        /// The axis they run along.
        axis: usize,
    },
    /// Integers uniform in `low..high`; `low` where that is empty.
    Uniform {
        /// The least.
        low: i64,
        /// One more than the greatest.
        high: i64,
    },
    /// One of these for each element; 0 where there are none.
    OneOf(Vec<i64>),
    /// This number everywhere.
    Constant(f64),
}

/// Draws `samples` samples of these inputs; [`Sample::inputs`] refers to their places in `specs`.
///
/// Fails for element types without plain numbers (strings, complex, below 8 bits) and absurd shapes.
pub fn synthesize(specs: &[SynthSpec], samples: usize) -> Result<Vec<Sample>, DataError> {
    let sample = |index| {
        let inputs = specs.iter().enumerate().map(|(input, spec)| Ok((input, spec.draw(index)?)));
        Ok(Sample { index, inputs: inputs.collect::<Result<_, _>>()? })
    };
    (0..samples).map(sample).collect()
}

impl SynthSpec {
    fn draw(&self, index: usize) -> Result<Tensor, DataError> {
        let refused = || DataError::CannotSynthesize {
            input: self.name.clone(),
            element: self.element,
            shape: self.shape.clone(),
        };
        let count = self.shape.iter().try_fold(1usize, |count, &n| count.checked_mul(n));
        let count = count.filter(|&count| count <= MAX_ELEMENTS).ok_or_else(refused)?;
        let mut random = Random::named(&self.name, index);
        let tensor = match &self.kind {
            SynthKind::Natural { channel_axis } => self.real(natural(&self.shape, *channel_axis, &mut random)),
            SynthKind::Gaussian { mean, std, axis } => {
                self.real(gaussian(&self.shape, (mean, std), *axis, &mut random))
            }
            SynthKind::Uniform { low, high } => {
                let span = u64::try_from(i128::from(*high) - i128::from(*low)).unwrap_or(0);
                self.whole((0..count).map(|_| low.wrapping_add(random.below(span) as i64)))
            }
            SynthKind::OneOf(choices) => {
                let mut choose = || choices.get(random.below(choices.len() as u64) as usize).copied().unwrap_or(0);
                self.whole((0..count).map(|_| choose()))
            }
            SynthKind::Constant(number) => self.real_exact(std::iter::repeat_n(*number, count)),
        };
        tensor.ok_or_else(refused)
    }

    /// Drawn numbers of mean 0 and variance 1, or with their own statistics.
    fn real(&self, numbers: Vec<f64>) -> Option<Tensor> {
        let is_byte_image = self.element == ElementType::U8 && matches!(self.kind, SynthKind::Natural { .. });
        if is_byte_image {
            self.real_exact(numbers.into_iter().map(|x| BYTE_MEAN + BYTE_STD * x))
        } else {
            self.real_exact(numbers.into_iter())
        }
    }

    fn real_exact(&self, numbers: impl Iterator<Item = f64>) -> Option<Tensor> {
        match self.element {
            ElementType::F16 => Some(self.tensor(numbers.map(half::f16::from_f64))),
            ElementType::BF16 => Some(self.tensor(numbers.map(half::bf16::from_f64))),
            ElementType::F32 => Some(self.tensor(numbers.map(|x| x as f32))),
            ElementType::F64 => Some(self.tensor(numbers)),
            ElementType::Bool => self.bools(numbers.map(|x| x > 0.0)),
            // The cast keeps to the limits of int64, rounding is to the nearest.
            _ => self.whole(numbers.map(|x| x.round() as i64)),
        }
    }

    fn whole(&self, numbers: impl Iterator<Item = i64>) -> Option<Tensor> {
        fn within<T: TryFrom<i64>>(x: i64, low: T, high: T) -> T {
            T::try_from(x).unwrap_or(if x < 0 { low } else { high })
        }
        Some(match self.element {
            ElementType::I8 => self.tensor(numbers.map(|x| within(x, i8::MIN, i8::MAX))),
            ElementType::I16 => self.tensor(numbers.map(|x| within(x, i16::MIN, i16::MAX))),
            ElementType::I32 => self.tensor(numbers.map(|x| within(x, i32::MIN, i32::MAX))),
            ElementType::I64 => self.tensor(numbers),
            ElementType::U8 => self.tensor(numbers.map(|x| within(x, 0, u8::MAX))),
            ElementType::U16 => self.tensor(numbers.map(|x| within(x, 0, u16::MAX))),
            ElementType::U32 => self.tensor(numbers.map(|x| within(x, 0, u32::MAX))),
            ElementType::U64 => self.tensor(numbers.map(|x| within(x, 0, u64::MAX))),
            ElementType::Bool => return self.bools(numbers.map(|x| x > 0)),
            ElementType::F16 => self.tensor(numbers.map(|x| half::f16::from_f64(x as f64))),
            ElementType::BF16 => self.tensor(numbers.map(|x| half::bf16::from_f64(x as f64))),
            ElementType::F32 => self.tensor(numbers.map(|x| x as f32)),
            ElementType::F64 => self.tensor(numbers.map(|x| x as f64)),
            _ => return None,
        })
    }

    fn tensor<T: Element>(&self, elements: impl Iterator<Item = T>) -> Tensor {
        Tensor::new(self.shape.clone(), elements.collect())
    }

    fn bools(&self, elements: impl Iterator<Item = bool>) -> Option<Tensor> {
        let bytes: Vec<u8> = elements.map(u8::from).collect();
        Tensor::from_bytes(ElementType::Bool, self.shape.clone(), bytes.into()).ok()
    }
}

fn gaussian(shape: &[usize], (mean, std): (&[f32], &[f32]), axis: usize, random: &mut Random) -> Vec<f64> {
    let at = |numbers: &[f32], channel: usize, default: f32| {
        f64::from(numbers.get(channel).or(numbers.last()).copied().unwrap_or(default))
    };
    // Elements per entry of the axis; an axis that is not there has one entry.
    let inner: usize = shape.iter().skip(axis + 1).product();
    let channels = shape.get(axis).copied().unwrap_or(1);
    let channel = |element: usize| (element / inner.max(1)) % channels.max(1);
    let count: usize = shape.iter().product();
    let draw = |element| {
        let channel = channel(element);
        at(mean, channel, 0.0) + at(std, channel, 1.0) * random.normal()
    };
    (0..count).map(draw).collect()
}

fn natural(shape: &[usize], channel_axis: Option<usize>, random: &mut Random) -> Vec<f64> {
    let &[n, a, b, c] = shape else {
        let count: usize = shape.iter().product();
        return (0..count).map(|_| random.normal()).collect();
    };
    let axis = channel_axis.filter(|axis| (1..4).contains(axis)).unwrap_or(1);
    let sides = match axis {
        1 => [b, c],
        2 => [a, c],
        _ => [a, b],
    };
    let channels = shape[axis];
    let mut elements = vec![0.0; n * a * b * c];
    for image in 0..n {
        let shared = smooth_field(sides, random);
        for channel in 0..channels {
            let own = smooth_field(sides, random);
            for (place, (shared, own)) in shared.iter().zip(&own).enumerate() {
                let (y, x) = (place / sides[1], place % sides[1]);
                let [i, j, k] = match axis {
                    1 => [channel, y, x],
                    2 => [y, channel, x],
                    _ => [y, x, channel],
                };
                elements[((image * a + i) * b + j) * c + k] =
                    shared * SHARED_VARIANCE.sqrt() + own * (1.0 - SHARED_VARIANCE).sqrt();
            }
        }
    }
    elements
}

/// Noise with as much variance in each octave, which in two dimensions is an amplitude of 1/f: random lattices, each
/// twice as wide as the one before, interpolated linearly and added up. Mean 0, variance 1.
fn smooth_field([height, width]: [usize; 2], random: &mut Random) -> Vec<f64> {
    let mut field = vec![0.0; height * width];
    let mut octaves = 0.0f64;
    let mut step = 1;
    loop {
        octaves += 1.0;
        let (rows, columns) = (height / step + 2, width / step + 2);
        let lattice: Vec<f64> = (0..rows * columns).map(|_| random.normal()).collect();
        for y in 0..height {
            let (top, down) = (y / step, (y % step) as f64 / step as f64);
            for x in 0..width {
                let (left, right) = (x / step, (x % step) as f64 / step as f64);
                let corner = |i: usize, j: usize| lattice[(top + i) * columns + left + j];
                let weights = [(1.0 - down) * (1.0 - right), (1.0 - down) * right, down * (1.0 - right), down * right];
                let sum = weights[0] * corner(0, 0)
                    + weights[1] * corner(0, 1)
                    + weights[2] * corner(1, 0)
                    + weights[3] * corner(1, 1);
                // Between lattice points the variance would sag.
                let variance: f64 = weights.iter().map(|weight| weight * weight).sum();
                field[y * width + x] += sum / variance.sqrt();
            }
        }
        if step >= height.max(width) {
            break;
        }
        step *= 2;
    }
    field.iter().map(|x| x / octaves.sqrt()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn one(element: ElementType, shape: &[usize], kind: SynthKind) -> Tensor {
        let spec = SynthSpec { name: "x".to_owned(), element, shape: shape.to_vec(), kind };
        synthesize(&[spec], 1).unwrap().remove(0).inputs.remove(0).1
    }

    fn floats(shape: &[usize], kind: SynthKind) -> Vec<f32> {
        one(ElementType::F32, shape, kind).view::<f32>().unwrap().into_owned()
    }

    #[test]
    fn the_same_always_and_another_for_each_sample() {
        let spec = |name: &str| SynthSpec {
            name: name.to_owned(),
            element: ElementType::F32,
            shape: vec![1, 3, 8, 8],
            kind: SynthKind::Natural { channel_axis: None },
        };
        let both = synthesize(&[spec("a"), spec("b")], 2).unwrap();
        assert_eq!(both, synthesize(&[spec("a"), spec("b")], 2).unwrap());
        assert_ne!(both[0].inputs[0].1, both[1].inputs[0].1);
        assert_ne!(both[0].inputs[0].1, both[0].inputs[1].1);
        assert_eq!(both[1].inputs[1].1, synthesize(&[spec("b")], 2).unwrap()[1].inputs[0].1);
        // Pinned: a change here changes what users get.
        assert_eq!(both[0].inputs[0].1.content_hash(), 0x0853_f859_6783_dba7);
    }

    /// The mean square of the difference between horizontal neighbours `apart` pixels from each other.
    fn variogram(image: &[f32], width: usize, apart: usize) -> f64 {
        let rows = image.chunks(width);
        let squares = rows.flat_map(|row| row.iter().zip(&row[apart..]).map(|(a, b)| f64::from(a - b).powi(2)));
        let squares: Vec<f64> = squares.collect();
        squares.iter().sum::<f64>() / squares.len() as f64
    }

    #[test]
    fn natural_images_are_smooth_and_of_unit_variance() {
        let elements = floats(&[24, 3, 32, 32], SynthKind::Natural { channel_axis: Some(1) });
        let mean = elements.iter().map(|&x| f64::from(x)).sum::<f64>() / elements.len() as f64;
        let variance = elements.iter().map(|&x| f64::from(x).powi(2)).sum::<f64>() / elements.len() as f64;
        assert!(mean.abs() < 0.2 && (variance - 1.0).abs() < 0.25, "{mean} {variance}");
        let near = variogram(&elements, 32, 1);
        let far = variogram(&elements, 32, 16);
        assert!(near < 0.6 * far, "{near} {far}");
        // With the same numbers drawn, only the arrangement differs.
        let last = floats(&[24, 32, 32, 3], SynthKind::Natural { channel_axis: Some(3) });
        for (place, x) in last.iter().enumerate() {
            let (image, pixel, channel) = (place / 3072, (place % 3072) / 3, place % 3);
            assert_eq!(*x, elements[image * 3072 + channel * 1024 + pixel]);
        }
    }

    #[test]
    fn gaussian_follows_its_axis() {
        let kind = SynthKind::Gaussian { mean: vec![-5.0, 10.0], std: vec![0.0, 2.0], axis: 1 };
        let elements = floats(&[2, 2, 2000], kind);
        assert!(elements[..2000].iter().chain(&elements[4000..6000]).all(|&x| x == -5.0));
        let second = &elements[2000..4000];
        let mean = second.iter().sum::<f32>() / 2000.0;
        let std = (second.iter().map(|x| (x - mean).powi(2)).sum::<f32>() / 2000.0).sqrt();
        assert!((mean - 10.0).abs() < 0.2 && (std - 2.0).abs() < 0.1, "{mean} {std}");
    }

    #[test]
    fn integers_and_bools() {
        let uniform = one(ElementType::I64, &[1000], SynthKind::Uniform { low: -2, high: 3 }).to_i64().unwrap();
        assert_eq!((uniform.iter().min(), uniform.iter().max()), (Some(&-2), Some(&2)));
        let empty = one(ElementType::I32, &[4], SynthKind::Uniform { low: 7, high: 7 });
        assert_eq!(empty.to_i64().unwrap(), [7; 4]);
        let chosen = one(ElementType::I32, &[100], SynthKind::OneOf(vec![3, 9])).to_i64().unwrap();
        assert!(chosen.contains(&3) && chosen.contains(&9) && chosen.iter().all(|x| [3, 9].contains(x)));
        assert_eq!(one(ElementType::I64, &[2], SynthKind::OneOf(vec![])).to_i64().unwrap(), [0, 0]);
        assert_eq!(one(ElementType::Bool, &[2], SynthKind::Constant(1.0)).bytes(), [1, 1]);
        assert_eq!(one(ElementType::F32, &[], SynthKind::Constant(1.0)).scalar_f32(), Some(1.0));
        assert_eq!(one(ElementType::U8, &[1], SynthKind::Constant(-3.0)).bytes(), [0]);
        let image = one(ElementType::U8, &[1, 1, 16, 16], SynthKind::Natural { channel_axis: None });
        assert!(image.bytes().iter().any(|&x| x > 128) && image.bytes().iter().any(|&x| x < 128));
    }

    #[test]
    fn what_can_not_be_made_up_is_refused() {
        let spec = |element, shape| SynthSpec { name: "x".into(), element, shape, kind: SynthKind::Constant(0.0) };
        let message = synthesize(&[spec(ElementType::String, vec![2])], 1).unwrap_err().to_string();
        assert!(message.contains("input `x`") && message.contains("--calib"), "{message}");
        assert!(synthesize(&[spec(ElementType::F32, vec![usize::MAX, 2])], 1).is_err());
        assert!(synthesize(&[spec(ElementType::F32, vec![1 << 40])], 1).is_err());
    }
}
