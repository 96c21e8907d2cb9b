//! Data for calibration and evaluation: .npz and .npy files, folders of them, ONNX's `test_data_set_*` folders, folders
//! of images, and made-up inputs where there is nothing better. Gives samples, each a tensor for every input.
//!
//! Opening checks everything that headers tell: names, types, shapes, counts. Elements are read sample by sample, as
//! often as a caller wants to pass over them. Nothing here knows a graph, an engine or a protobuf type.

mod array;
mod bind;
mod error;
mod finite;
mod folder;
mod images;
mod labels;
mod npy;
mod pixels;
mod preprocess;
mod preprocessor_config;
mod random;
#[cfg(test)]
mod sample_files;
mod selection;
mod stream;
mod synthesis;
mod test_sets;
#[cfg(test)]
mod tests;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use onnxq_ir::{ElementType, Tensor, TensorType};

use array::Array;
use bind::{Bound, bind, lone_input, name_sets};
use folder::{Contents, ends_with, file_name};
use images::Images;
use selection::Selection;
use test_sets::TestSets;

pub use error::{DataError, ImageStep, LabelsProblem, NameSets, Place, PreprocessProblem};
pub use npy::NpyError;
pub use preprocess::Preprocess;
pub use stream::{Sample, SampleStream};
pub use synthesis::{SynthKind, SynthSpec, synthesize};

/// An input of the graph.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InputSpec {
    /// Its name.
    pub name: String,
    /// Its type, as far as the file says.
    pub tensor_type: TensorType,
    /// Whether an initializer stands in where data give nothing.
    pub has_default: bool,
}

impl InputSpec {
    /// Whether data of this type serve the input: its own, or floats that are rounded to its 16 bits.
    fn takes(&self, found: ElementType) -> bool {
        let own = self.tensor_type.element;
        found == own || (own.is_half() && found.fits_f32())
    }

    /// The tensor in the input's type.
    fn rounded(&self, tensor: Tensor) -> Tensor {
        let own = self.tensor_type.element;
        if tensor.element() == own || !own.is_half() {
            return tensor;
        }
        let elements = tensor.floats().map(std::borrow::Cow::into_owned);
        elements.and_then(|elements| Tensor::of_floats(own, tensor.shape().to_vec(), elements)).unwrap_or(tensor)
    }
}

/// Decodes a serialized `TensorProto` into its name and value, or says what is wrong with it.
pub type TensorDecoder = fn(&[u8]) -> Result<(String, Tensor), String>;

/// Where data come from and how much of them is used.
#[derive(Clone, Debug)]
pub struct DataOptions {
    /// A .npz or .npy file or a folder.
    pub path: PathBuf,
    /// How images become inputs; arrays need none.
    pub preprocess: Option<Preprocess>,
    /// How many samples are used at most; `None` is all of them.
    pub samples: Option<usize>,
    /// With it the samples are a random choice instead of the first ones. The order stays that of the data, since files
    /// are streamed; without `samples` all are used and it changes nothing.
    pub seed: Option<u64>,
    /// Decodes the tensors of `test_data_set_*` folders.
    pub decode_tensor: TensorDecoder,
}

/// Data that fit a model's inputs, as far as headers tell.
#[derive(Debug)]
pub struct DataSet {
    opened: Arc<Opened>,
    notes: Vec<String>,
    labels: Option<Vec<i64>>,
}

/// What every pass reads from.
#[derive(Debug)]
struct Opened {
    specs: Vec<InputSpec>,
    source: Source,
    selection: Selection,
}

#[derive(Debug)]
enum Source {
    /// One file of arrays after another.
    Arrays(Vec<Bound>),
    TestSets(TestSets),
    Images(Images),
}

impl DataSet {
    /// Finds the data and checks them against the inputs. Reads headers, labels, and of `test_data_set_*` folders the
    /// first one.
    pub fn open(inputs: &[InputSpec], options: &DataOptions) -> Result<Self, DataError> {
        let mut notes = Vec::new();
        let source = Source::find(inputs, options, &mut notes)?;
        let selection = Selection::new(source.samples(), options.samples, options.seed);
        if selection.len() == 0 {
            return Err(DataError::NoSamples { place: Place::whole(&options.path) });
        }
        let labels = source.labels(&options.path, &selection)?;
        if options.preprocess.is_some() && !matches!(source, Source::Images(_)) {
            notes.push(format!("{}: no images, `--preprocess` does not apply", error::Quoted::path(&options.path)));
        }
        let opened = Arc::new(Opened { specs: inputs.to_vec(), source, selection });
        Ok(Self { opened, notes, labels })
    }

    /// The number of samples chosen, at least one.
    pub fn len(&self) -> usize {
        self.opened.selection.len()
    }

    /// Never: data without samples are an error when opened.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// What a person should know: one line for the keys that nothing asks for, one for files likewise.
    pub fn notes(&self) -> &[String] {
        &self.notes
    }

    /// Class labels of the chosen samples, in their order: as many as samples, or batch size times as many where the
    /// input's batch is fixed. From the integer array `label`, or for images from `labels.csv` beside or above them.
    pub fn labels(&self) -> Option<&[i64]> {
        self.labels.as_deref()
    }

    /// A pass over the chosen samples.
    pub fn stream(&self) -> Result<SampleStream, DataError> {
        Ok(SampleStream::new(Arc::clone(&self.opened)))
    }
}

impl Source {
    fn find(specs: &[InputSpec], options: &DataOptions, notes: &mut Vec<String>) -> Result<Self, DataError> {
        let path = &options.path;
        let kind = std::fs::metadata(path).map_err(|problem| DataError::Io { path: path.clone(), problem })?;
        if kind.is_dir() {
            let (contents, ignored) = folder::scan(path)?;
            if !ignored.is_empty() {
                let names = error::quoted_list(&ignored);
                notes.push(format!("{}: ignored files: {names}", error::Quoted::path(path)));
            }
            return Self::in_folder(specs, options, contents, notes);
        }
        let bound = match () {
            () if ends_with(path, "npz") => bind(specs, path, Array::in_archive(path)?)?,
            () if ends_with(path, "npy") => lone_array(specs, path)?,
            () => return Err(DataError::UnknownKind { path: path.clone() }),
        };
        Ok(Self::arrays(path, vec![bound], notes))
    }

    fn in_folder(
        specs: &[InputSpec],
        options: &DataOptions,
        contents: Contents,
        notes: &mut Vec<String>,
    ) -> Result<Self, DataError> {
        let folder = &options.path;
        match contents {
            Contents::Archives(files) => {
                let bound =
                    files.iter().map(|file| bind(specs, file, Array::in_archive(file)?)).collect::<Result<_, _>>()?;
                Ok(Self::arrays(folder, bound, notes))
            }
            Contents::Arrays(files) => Ok(Self::arrays(folder, array_files(specs, folder, &files)?, notes)),
            Contents::TestSets(folders) => {
                let sets = TestSets { folders, decode: options.decode_tensor };
                sets.read(specs, 0)?;
                Ok(Self::TestSets(sets))
            }
            Contents::Images(files) => {
                let preprocess = options.preprocess.as_ref();
                let preprocess = preprocess.ok_or_else(|| DataError::PreprocessNeeded { path: folder.clone() })?;
                Images::new(specs, folder, files, preprocess).map(Self::Images)
            }
        }
    }

    fn arrays(path: &Path, files: Vec<Bound>, notes: &mut Vec<String>) -> Self {
        let mut ignored: Vec<&String> = Vec::new();
        for key in files.iter().flat_map(|file| &file.ignored) {
            if !ignored.contains(&key) {
                ignored.push(key);
            }
        }
        if !ignored.is_empty() {
            let keys = error::quoted_list(&ignored);
            notes.push(format!("{}: ignored keys that are no inputs: {keys}", error::Quoted::path(path)));
        }
        Self::Arrays(files)
    }

    fn samples(&self) -> usize {
        match self {
            Self::Arrays(files) => files.iter().map(|file| file.samples).sum(),
            Self::TestSets(sets) => sets.folders.len(),
            Self::Images(images) => images.samples(),
        }
    }

    fn labels(&self, path: &Path, selection: &Selection) -> Result<Option<Vec<i64>>, DataError> {
        let chosen = (0..selection.len()).filter_map(|position| selection.get(position));
        match self {
            Self::Arrays(files) => Ok(array_labels(files, chosen)),
            Self::TestSets(_) => Ok(None),
            Self::Images(images) => {
                let names: Vec<String> =
                    chosen.flat_map(|sample| images.files_of(sample)).map(|file| file_name(file)).collect();
                labels::image_labels(path, &names)
            }
        }
    }
}

/// The labels of these samples, in ascending order, if every file has labels.
fn array_labels(files: &[Bound], chosen: impl Iterator<Item = usize>) -> Option<Vec<i64>> {
    let labels = files.iter().map(|file| file.labels.as_deref()).collect::<Option<Vec<&[i64]>>>()?;
    let (mut at, mut before) = (0, 0);
    let mut found = Vec::new();
    for sample in chosen {
        while sample - before >= files[at].samples {
            before += files[at].samples;
            at += 1;
        }
        let rows = labels[at].len() / files[at].samples;
        found.extend(&labels[at][(sample - before) * rows..][..rows]);
    }
    Some(found)
}

/// A .npy file for the model's lone input.
fn lone_array(specs: &[InputSpec], path: &Path) -> Result<Bound, DataError> {
    let stem = path.file_stem().unwrap_or_default().to_string_lossy();
    let Some(input) = lone_input(specs) else {
        let names = Box::new(name_sets(specs, &[Array::in_file(path, &stem)?]));
        return Err(DataError::LoneArray { path: path.to_owned(), names });
    };
    bind(specs, path, vec![Array::in_file(path, &specs[input].name)?])
}

/// The .npy files of a folder: one for each input if any is named like one, else parts of the lone input's data.
fn array_files(specs: &[InputSpec], folder: &Path, files: &[PathBuf]) -> Result<Vec<Bound>, DataError> {
    let stem = |file: &PathBuf| file.file_stem().unwrap_or_default().to_string_lossy().into_owned();
    let named = files.iter().any(|file| specs.iter().any(|spec| spec.name == stem(file)));
    if !named && lone_input(specs).is_some() {
        return files.iter().map(|file| lone_array(specs, file)).collect();
    }
    let arrays = files.iter().map(|file| Array::in_file(file, &stem(file))).collect::<Result<_, _>>()?;
    Ok(vec![bind(specs, folder, arrays)?])
}
