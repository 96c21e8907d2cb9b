//! What can be wrong with data, and the words for it. Knows no file format.

use std::fmt;
use std::path::{Path, PathBuf};

use onnxq_ir::{Dim, ElementType, TensorType};

use super::npy::NpyError;

/// Why data can't be used. Every message names the file, and the input, key or sample where there is one.
#[derive(Debug, thiserror::Error)]
pub enum DataError {
    /// A file or folder can't be read.
    #[error("{}: can't be read: {problem}", Quoted::path(path))]
    Io {
        /// The file.
        path: PathBuf,
        /// What the system said.
        problem: std::io::Error,
    },
    /// The path is no kind of data that is known here.
    #[error(
        "{}: is no data that can be read; pass a .npz or .npy file, or a folder of those, of `test_data_set_*` folders, or of .jpg/.png images",
        Quoted::path(path)
    )]
    UnknownKind {
        /// The path as given.
        path: PathBuf,
    },
    /// A folder holds nothing that is known here.
    #[error(
        "{}: the folder holds no data; it should hold .npz or .npy files, `test_data_set_*` folders, or .jpg/.png images",
        Quoted::path(path)
    )]
    EmptyFolder {
        /// The folder.
        path: PathBuf,
    },
    /// A folder holds several kinds of data.
    #[error("{}: the folder mixes kinds of data ({}); keep one kind in it", Quoted::path(path), kinds.join(", "))]
    MixedFolder {
        /// The folder.
        path: PathBuf,
        /// The kinds that were found, each with an example.
        kinds: Vec<String>,
    },
    /// An array is no sound .npy data.
    #[error("{place}: {problem}{}", names.as_ref().map(|names| format!("; {names}")).unwrap_or_default())]
    Array {
        /// The array.
        place: Place,
        /// What is wrong with it.
        problem: NpyError,
        /// Both name sets, where it is an input's array.
        names: Option<Box<NameSets>>,
    },
    /// A .npz file is no sound archive.
    #[error("{}: is no sound .npz archive ({problem}); write it with `numpy.savez_compressed`", Quoted::path(path))]
    Archive {
        /// The file.
        path: PathBuf,
        /// What the archive's reader said.
        problem: String,
    },
    /// A lone .npy file for a model of several inputs.
    #[error(
        "{}: a lone .npy file serves a model with one input; {names}; pass a .npz with a key per input, or a folder of NAME.npy files",
        Quoted::path(path)
    )]
    LoneArray {
        /// The file.
        path: PathBuf,
        /// Both name sets.
        names: Box<NameSets>,
    },
    /// Inputs without an array.
    #[error("{}: no array for {}; {names}; rename the keys after the inputs", Quoted::path(path), quoted_list(missing))]
    Missing {
        /// The file or folder.
        path: PathBuf,
        /// The inputs without an array.
        missing: Vec<String>,
        /// Both name sets.
        names: Box<NameSets>,
    },
    /// An array of another element type than its input.
    #[error("{place}: is {}, but input {} is {}{}; {names}", numpy_name(*found), Quoted(input), numpy_name(*wanted), conversion(*wanted))]
    ElementType {
        /// The array.
        place: Place,
        /// The input.
        input: String,
        /// The array's type.
        found: ElementType,
        /// The input's type.
        wanted: ElementType,
        /// Both name sets.
        names: Box<NameSets>,
    },
    /// An array of a shape that does not fit its input.
    #[error("{place}: shape {} does not fit input {} ({wanted}): {}; {names}", Shape(found), Quoted(input), shape_hint(found.len(), wanted))]
    ShapeMismatch {
        /// The array.
        place: Place,
        /// The input.
        input: String,
        /// The array's shape.
        found: Vec<usize>,
        /// The input's type.
        wanted: Box<TensorType>,
        /// Both name sets.
        names: Box<NameSets>,
    },
    /// A tensor of a test data set that does not fit its input.
    #[error(
        "{}: shape {} is not that of input {} ({wanted}), whose whole value it must be; {names}",
        Quoted::path(path),
        Shape(found),
        Quoted(input)
    )]
    TensorShape {
        /// The file.
        path: PathBuf,
        /// The input.
        input: String,
        /// The tensor's shape.
        found: Vec<usize>,
        /// The input's type.
        wanted: Box<TensorType>,
        /// Both name sets.
        names: Box<NameSets>,
    },
    /// Samples that do not fill the last batch.
    #[error(
        "{place}: {count} samples can't be split into batches of {batch}, which input {} is fixed to; drop or add some",
        Quoted(input)
    )]
    Remainder {
        /// The array or folder.
        place: Place,
        /// The input.
        input: String,
        /// Samples there are.
        count: usize,
        /// The input's fixed batch size.
        batch: usize,
    },
    /// Arrays that give different numbers of samples.
    #[error(
        "{}: the arrays give different numbers of samples ({}); all must give the same",
        Quoted::path(path),
        counts(each)
    )]
    Counts {
        /// The file or folder.
        path: PathBuf,
        /// The inputs, each with its number of samples.
        each: Vec<(String, usize)>,
    },
    /// Labels that are not one for each sample.
    #[error("{place}: {found} labels for {samples} samples; there must be one for each")]
    LabelCount {
        /// The array.
        place: Place,
        /// Labels there are.
        found: usize,
        /// Samples there are.
        samples: usize,
    },
    /// No samples at all.
    #[error("{place}: there are no samples; at least one is needed")]
    NoSamples {
        /// The array, file or folder.
        place: Place,
    },
    /// NaN or an infinite number in a float input.
    #[error("{place}: {value} in sample {sample} of input {}; remove the sample or repair its values", Quoted(input))]
    NotFinite {
        /// The array or file.
        place: Place,
        /// The input.
        input: String,
        /// The sample, counted from 0 in the order of the data.
        sample: usize,
        /// The value.
        value: f64,
    },
    /// A bool that is neither 0 nor 1.
    #[error("{place}: a byte other than 0 and 1 in sample {sample} of bool input {}", Quoted(input))]
    NotBool {
        /// The array or file.
        place: Place,
        /// The input.
        input: String,
        /// The sample, counted from 0 in the order of the data.
        sample: usize,
    },
    /// A `.pb` file that is no tensor.
    #[error("{}: is no ONNX TensorProto ({problem}); only dense tensors are taken", Quoted::path(path))]
    Proto {
        /// The file.
        path: PathBuf,
        /// What the decoder said.
        problem: String,
    },
    /// A folder of images without the option that says how to prepare them.
    #[error(
        "{}: images need `--preprocess` to say how they become the model's input; `--preprocess imagenet` is the usual one",
        Quoted::path(path)
    )]
    PreprocessNeeded {
        /// The folder.
        path: PathBuf,
    },
    /// Preprocessing that is unknown, unreadable or contradictory.
    #[error("preprocess {}: {problem}", Quoted(name))]
    Preprocess {
        /// Its name or path as given.
        name: String,
        /// What is wrong.
        problem: PreprocessProblem,
    },
    /// Images for an input that can't take them.
    #[error(
        "{}: images serve a model with one float input of shape [N, C, H, W] or [N, H, W, C]; {names}; pass a .npz with a key per input",
        Quoted::path(path)
    )]
    NoImageInput {
        /// The folder.
        path: PathBuf,
        /// Both name sets; of the images, only their number.
        names: Box<NameSets>,
    },
    /// An image that can't be decoded.
    #[error("{}: is no image that can be decoded ({problem})", Quoted::path(path))]
    Image {
        /// The file.
        path: PathBuf,
        /// What the decoder said.
        problem: String,
    },
    /// An image that has the wrong size after preprocessing, or is too small for the crop.
    #[error("{}: the image is {}x{} (height x width) {when}, {} {}x{}", Quoted::path(path), found[0], found[1], when.needs(), wanted[0], wanted[1])]
    ImageSize {
        /// The file.
        path: PathBuf,
        /// Height and width.
        found: [u32; 2],
        /// Height and width that are needed.
        wanted: [u32; 2],
        /// Which step found it.
        when: ImageStep,
    },
    /// `labels.csv` is malformed or lacks an image.
    #[error("{}: {problem}", Quoted::path(path))]
    Labels {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        problem: LabelsProblem,
    },
    /// An input that can't be made up.
    #[error(
        "input {}: no data can be made up for {element} of shape {}; pass real data with `--calib`",
        Quoted(input),
        Shape(shape)
    )]
    CannotSynthesize {
        /// The input.
        input: String,
        /// Its type.
        element: ElementType,
        /// The shape asked for.
        shape: Vec<usize>,
    },
}

impl DataError {
    /// The same, with both name sets if it is about an array and has none.
    pub(super) fn with_names(self, sets: &NameSets) -> Self {
        match self {
            Self::Array { place, problem, names: None } => {
                Self::Array { place, problem, names: Some(Box::new(sets.clone())) }
            }
            other => other,
        }
    }
}

/// What is wrong with preprocessing.
#[derive(Debug, thiserror::Error)]
pub enum PreprocessProblem {
    /// Neither a built-in name nor a file.
    #[error("is neither built in (`imagenet`) nor a .toml or .json file ({0})")]
    Unknown(String),
    /// The file's text is wrong.
    #[error("{0}")]
    Syntax(String),
    /// One key's value makes no sense.
    #[error("`{key}`: {what}")]
    Value {
        /// The key.
        key: &'static str,
        /// What is wrong and what may stand there.
        what: String,
    },
    /// A step of a `preprocessor_config.json` that is not done here.
    #[error("asks for `{0}`, which is not done here; write the steps that matter as a .toml file")]
    Unsupported(String),
    /// The result's size is not the input's.
    #[error("gives images of {}x{} (height x width), but input {} is {wanted}; set `crop` to the input's size", found[0], found[1], Quoted(input))]
    Size {
        /// Height and width it gives.
        found: [u32; 2],
        /// The input.
        input: String,
        /// The input's type.
        wanted: TensorType,
    },
    /// The number of channels is not the input's.
    #[error("{what} for input {} ({wanted}), which has {channels} channels", Quoted(input))]
    Channels {
        /// What does not fit.
        what: String,
        /// The input.
        input: String,
        /// The input's type.
        wanted: TensorType,
        /// The input's channels.
        channels: usize,
    },
}

/// What is wrong with `labels.csv`.
#[derive(Debug, thiserror::Error)]
pub enum LabelsProblem {
    /// The header lacks a column.
    #[error("the first line must name the columns `file` and `label`")]
    Header,
    /// A row's label is no integer.
    #[error("line {line}: {} is no integer label", Quoted(text))]
    NoInteger {
        /// The line, from 1.
        line: usize,
        /// What stands there.
        text: String,
    },
    /// An image has no row.
    #[error("no row for image {}; add one, or remove the file to go without labels", Quoted(.0))]
    Missing(String),
    /// The file is too large or no text.
    #[error("is no UTF-8 text of at most 64 MB")]
    NoText,
}

/// The step of image preprocessing at which a size is wrong.
#[derive(Clone, Copy, Debug)]
pub enum ImageStep {
    /// Before the centre crop.
    BeforeCrop,
    /// At the end.
    AtEnd,
}

impl ImageStep {
    fn needs(self) -> &'static str {
        match self {
            Self::BeforeCrop => "smaller than the crop of",
            Self::AtEnd => "but the input takes",
        }
    }
}

impl fmt::Display for ImageStep {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::BeforeCrop => "before the crop",
            Self::AtEnd => "after preprocessing",
        })
    }
}

/// A file, and the array in it where there are several.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    /// The file or folder.
    pub path: PathBuf,
    /// The array's key.
    pub key: Option<String>,
}

impl Place {
    /// A file or folder as a whole.
    pub fn whole(path: &Path) -> Self {
        Self { path: path.to_owned(), key: None }
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        Quoted::path(&self.path).fmt(f)?;
        match &self.key {
            Some(key) => write!(f, ": array {}", Quoted(key)),
            None => Ok(()),
        }
    }
}

/// The names of the model's inputs and of the arrays in the data, each with type and shape.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct NameSets {
    /// The inputs.
    pub inputs: Vec<(String, String)>,
    /// The arrays.
    pub arrays: Vec<(String, String)>,
}

impl fmt::Display for NameSets {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the model's inputs: {}; the data: {}", typed_list(&self.inputs), typed_list(&self.arrays))
    }
}

/// A name in backticks, its control characters escaped.
pub(super) struct Quoted<T>(pub(super) T);

impl Quoted<String> {
    /// A path, as well as it can be shown.
    pub(super) fn path(path: &Path) -> Self {
        Self(path.display().to_string())
    }
}

impl<T: AsRef<str>> fmt::Display for Quoted<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("`")?;
        for c in self.0.as_ref().chars() {
            if c.is_control() { write!(f, "{}", c.escape_default())? } else { write!(f, "{c}")? }
        }
        f.write_str("`")
    }
}

/// A shape in brackets.
pub(super) struct Shape<'a>(pub(super) &'a [usize]);

impl fmt::Display for Shape<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", self.0)
    }
}

/// Names shown in one message at most; what a hostile file holds beyond is counted.
const NAMES_SHOWN: usize = 24;

/// The names in backticks, separated by commas, the end of a long list counted.
pub(super) fn quoted_list<T: AsRef<str>>(names: &[T]) -> String {
    shortened(names.iter().map(|name| Quoted(name).to_string()))
}

fn typed_list(names: &[(String, String)]) -> String {
    if names.is_empty() {
        return "none".to_owned();
    }
    shortened(names.iter().map(|(name, kind)| format!("{} {kind}", Quoted(name))))
}

fn counts(each: &[(String, usize)]) -> String {
    shortened(each.iter().map(|(name, count)| format!("{}: {count}", Quoted(name))))
}

fn shortened(items: impl ExactSizeIterator<Item = String>) -> String {
    let rest = items.len().saturating_sub(NAMES_SHOWN);
    let mut text = items.take(NAMES_SHOWN).collect::<Vec<_>>().join(", ");
    if rest > 0 {
        text.push_str(" and ");
        text.push_str(&rest.to_string());
        text.push_str(" more");
    }
    text
}

/// The name that numpy gives an element type.
pub(super) fn numpy_name(element: ElementType) -> &'static str {
    match element {
        ElementType::F32 => "float32",
        ElementType::F64 => "float64",
        other => other.name(),
    }
}

fn conversion(wanted: ElementType) -> String {
    match wanted {
        ElementType::F16
        | ElementType::F32
        | ElementType::F64
        | ElementType::I8
        | ElementType::I16
        | ElementType::I32
        | ElementType::I64
        | ElementType::U8
        | ElementType::U16
        | ElementType::U32
        | ElementType::U64
        | ElementType::Bool => format!("; convert it with `.astype(\"{}\")`", numpy_name(wanted)),
        _ => ", which numpy has no type for".to_owned(),
    }
}

fn shape_hint(rank: usize, wanted: &TensorType) -> String {
    let Some(dims) = &wanted.shape else { return "an array must have an axis to split".to_owned() };
    let full = |first: &str| {
        let rest = dims.iter().skip(1).map(Dim::to_string);
        format!("[{}]", std::iter::once(first.to_owned()).chain(rest).collect::<Vec<_>>().join(", "))
    };
    match dims.len() {
        0 => "samples of it are an array of one axis".to_owned(),
        n if rank + 1 == n => format!("an axis for the samples is missing, stack them to {}", full("n")),
        _ => format!("samples of it are an array of shape {}", full("n")),
    }
}
