//! A folder of images as samples of a model's one image input.

use std::path::{Path, PathBuf};

use onnxq_ir::Tensor;

use super::InputSpec;
use super::bind::{input_names, lone_input};
use super::error::{DataError, ImageStep, NameSets, Place};
use super::pixels::{ImagePlan, Pixels, image_batch};
use super::preprocess::Preprocess;

/// Images in name order, as many a sample as the input's batch.
#[derive(Debug)]
pub(super) struct Images {
    /// The files.
    pub(super) files: Vec<PathBuf>,
    /// The input they are for.
    pub(super) input: usize,
    plan: ImagePlan,
    /// `None` for an input without a batch axis.
    batch: Option<usize>,
}

impl Images {
    /// Checks that the images can serve the model; decodes none.
    pub(super) fn new(
        specs: &[InputSpec],
        folder: &Path,
        files: Vec<PathBuf>,
        preprocess: &Preprocess,
    ) -> Result<Self, DataError> {
        let no_input = || {
            let arrays = vec![("*".to_owned(), format!("{} images", files.len()))];
            DataError::NoImageInput {
                path: folder.to_owned(),
                names: Box::new(NameSets { inputs: input_names(specs), arrays }),
            }
        };
        let input = lone_input(specs).ok_or_else(no_input)?;
        let spec = &specs[input];
        let plan = ImagePlan::new(preprocess, spec)?.ok_or_else(no_input)?;
        let batch = image_batch(spec);
        match batch {
            Some(0) => return Err(no_input()),
            Some(batch) if !files.len().is_multiple_of(batch) => {
                let (place, input) = (Place::whole(folder), spec.name.clone());
                return Err(DataError::Remainder { place, input, count: files.len(), batch });
            }
            _ => {}
        }
        Ok(Self { files, input, plan, batch })
    }

    /// The number of samples.
    pub(super) fn samples(&self) -> usize {
        self.files.len() / self.batch.unwrap_or(1)
    }

    /// The files of one sample.
    pub(super) fn files_of(&self, sample: usize) -> &[PathBuf] {
        let batch = self.batch.unwrap_or(1);
        &self.files[sample * batch..(sample + 1) * batch]
    }

    /// Decodes one sample.
    pub(super) fn read(&self, sample: usize) -> Result<Tensor, DataError> {
        let mut rows: Option<Pixels> = None;
        for file in self.files_of(sample) {
            let image = self.plan.pixels(file)?;
            match &mut rows {
                None => rows = Some(image),
                Some(rows) if rows.shape == image.shape => rows.elements.extend(image.elements),
                Some(rows) => {
                    let (found, wanted) = (self.plan.sides(image.shape), self.plan.sides(rows.shape));
                    return Err(DataError::ImageSize { path: file.clone(), found, wanted, when: ImageStep::AtEnd });
                }
            }
        }
        let Some(Pixels { shape, elements }) = rows else {
            return Err(DataError::NoSamples { place: Place { path: PathBuf::new(), key: None } });
        };
        let batch: &[usize] = self.batch.as_slice();
        Ok(Tensor::new([batch, &shape].concat(), elements))
    }
}
