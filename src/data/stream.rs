//! Samples one after another, each read when it is asked for: what is held does not grow with their number.

use std::sync::Arc;

use onnxq_ir::Tensor;

use super::array::Cursor;
use super::bind::{Binding, Bound, Cut};
use super::error::{DataError, Place};
use super::finite::{BadElement, bad_element};
use super::{Opened, Source};

/// What one run of the model is fed.
#[derive(Clone, Debug, PartialEq)]
pub struct Sample {
    /// Its number in the data, from 0; with a random choice the numbers have gaps.
    pub index: usize,
    /// The tensors, each with its input's place among the specs, in that order. Every input without a default is there.
    pub inputs: Vec<(usize, Tensor)>,
}

/// One pass over the chosen samples, in the order of the data. Ends after the first error.
pub struct SampleStream {
    set: Arc<Opened>,
    position: usize,
    arrays: ArrayReader,
}

impl SampleStream {
    pub(super) fn new(set: Arc<Opened>) -> Self {
        Self { set, position: 0, arrays: ArrayReader::default() }
    }

    fn read(&mut self, index: usize) -> Result<Sample, DataError> {
        let placed: Vec<(usize, Tensor, Place)> = match &self.set.source {
            Source::Arrays(files) => self.arrays.read(files, index)?,
            Source::TestSets(sets) => sets.read(&self.set.specs, index)?,
            Source::Images(images) => {
                let place = Place::whole(&images.files_of(index)[0]);
                vec![(images.input, images.read(index)?, place)]
            }
        };
        let mut inputs = Vec::with_capacity(placed.len());
        for (input, tensor, place) in placed {
            let tensor = self.set.specs[input].rounded(tensor);
            self.check(input, &tensor, place, index)?;
            inputs.push((input, tensor));
        }
        Ok(Sample { index, inputs })
    }

    fn check(&self, input: usize, tensor: &Tensor, place: Place, sample: usize) -> Result<(), DataError> {
        let input = || self.set.specs[input].name.clone();
        match bad_element(tensor) {
            None => Ok(()),
            Some(BadElement::NotFinite(value)) => Err(DataError::NotFinite { place, input: input(), sample, value }),
            Some(BadElement::NotBool) => Err(DataError::NotBool { place, input: input(), sample }),
        }
    }
}

impl Iterator for SampleStream {
    type Item = Result<Sample, DataError>;

    fn next(&mut self) -> Option<Self::Item> {
        let index = self.set.selection.get(self.position)?;
        let sample = self.read(index);
        self.position = if sample.is_ok() { self.position + 1 } else { usize::MAX };
        Some(sample)
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        let left = self.set.selection.len().saturating_sub(self.position);
        (usize::from(left > 0), Some(left))
    }
}

/// Reads the arrays of one file after another, each array through its own cursor.
#[derive(Default)]
struct ArrayReader {
    /// The file being read.
    file: usize,
    /// Samples of the files before it.
    before: usize,
    readers: Vec<Reader>,
}

enum Reader {
    /// An array cut into samples, and the sample its cursor stands at.
    Cut { cursor: Cursor, at: usize },
    /// An array that serves every sample.
    Whole(Tensor),
}

impl ArrayReader {
    fn read(&mut self, files: &[Bound], index: usize) -> Result<Vec<(usize, Tensor, Place)>, DataError> {
        while index - self.before >= files[self.file].samples {
            self.before += files[self.file].samples;
            self.file += 1;
            self.readers.clear();
        }
        let bindings = &files[self.file].bindings;
        if self.readers.is_empty() {
            self.readers = bindings.iter().map(Reader::open).collect::<Result<_, _>>()?;
        }
        let sample = index - self.before;
        let one = |(binding, reader): (&Binding, &mut Reader)| {
            Ok((binding.input, reader.read(binding, sample)?, binding.array.place()))
        };
        bindings.iter().zip(&mut self.readers).map(one).collect()
    }
}

impl Reader {
    fn open(binding: &Binding) -> Result<Self, DataError> {
        let mut cursor = binding.array.cursor()?;
        if binding.cut != Cut::Whole {
            return Ok(Self::Cut { cursor, at: 0 });
        }
        cursor.tensor(&binding.sample_shape).map(Self::Whole).map_err(|problem| binding.array.failed(problem))
    }

    fn read(&mut self, binding: &Binding, sample: usize) -> Result<Tensor, DataError> {
        match self {
            Self::Whole(tensor) => Ok(tensor.clone()),
            Self::Cut { cursor, at } => {
                let elements = binding.sample_shape.iter().product::<usize>() as u64;
                let tensor = cursor
                    .skip(elements * (sample - *at) as u64)
                    .and_then(|()| cursor.tensor(&binding.sample_shape))
                    .map_err(|problem| binding.array.failed(problem))?;
                *at = sample + 1;
                Ok(tensor)
            }
        }
    }
}
