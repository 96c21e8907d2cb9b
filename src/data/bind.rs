//! Matches the arrays of one file with the model's inputs and settles how each is cut into samples, from headers alone.
//!
//! An array of its input's rank is cut along axis 0: one row a sample, or B rows where the input's first dimension is
//! fixed to B. An array of one axis more holds one whole input per entry.
//!
//! One array may serve every sample instead: it has exactly its input's fixed shape, and axis 0 is no batch. Axis 0 of
//! such an array counts as a batch if another input that is cut by rows, and gives more samples, is fixed to the same
//! first dimension: `mask` [1, 8] beside 256 rows for `image` [1, 3, 32, 32] is one sample where 256 are needed, an
//! error; `anchors` [1000, 4] beside them serves all.

use std::path::{Path, PathBuf};

use onnxq_ir::{Dim, TensorType};

use super::InputSpec;
use super::array::Array;
use super::error::{DataError, NameSets, Place};

/// The key whose array holds class labels unless it is an input's name.
const LABEL_KEY: &str = "label";

/// The arrays of one file, or of the .npy files of one folder, matched with the inputs.
#[derive(Debug)]
pub(super) struct Bound {
    /// One for each input that has an array, in the order of the inputs.
    pub(super) bindings: Vec<Binding>,
    /// Samples that the arrays give, at least one.
    pub(super) samples: usize,
    /// The class labels, as many for each sample as its batch has rows.
    pub(super) labels: Option<Vec<i64>>,
    /// Keys that nothing asks for.
    pub(super) ignored: Vec<String>,
}

/// An input's array.
#[derive(Debug)]
pub(super) struct Binding {
    /// The input's place among the specs.
    pub(super) input: usize,
    /// Its array.
    pub(super) array: Array,
    /// How samples come out of it.
    pub(super) cut: Cut,
    /// The shape of a sample's tensor.
    pub(super) sample_shape: Vec<usize>,
}

/// How samples come out of an array.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Cut {
    /// So many rows each, along axis 0, which stays.
    Rows(usize),
    /// One entry of axis 0 each, which goes.
    Entries,
    /// The whole array for every sample.
    Whole,
}

/// Matches `arrays` with `specs`; `path` is the file or folder they come from.
pub(super) fn bind(specs: &[InputSpec], path: &Path, arrays: Vec<Array>) -> Result<Bound, DataError> {
    let names = name_sets(specs, &arrays);
    let missing: Vec<String> = specs
        .iter()
        .filter(|spec| !spec.has_default && arrays.iter().all(|array| array.key() != spec.name))
        .map(|spec| spec.name.clone())
        .collect();
    if !missing.is_empty() {
        return Err(DataError::Missing { path: path.to_owned(), missing, names: Box::new(names) });
    }
    let mut counted = Vec::new();
    let (mut labels, mut ignored) = (None, Vec::new());
    for array in arrays {
        let taken = |input: usize| counted.iter().any(|(binding, _): &(Binding, usize)| binding.input == input);
        match specs.iter().position(|spec| spec.name == array.key()).filter(|&input| !taken(input)) {
            Some(input) => counted.push(cut(&specs[input], input, array, &names)?),
            None if array.key() == LABEL_KEY => labels = Some(array),
            None => ignored.push(array.key().to_owned()),
        }
    }
    counted.sort_by_key(|(binding, _)| binding.input);
    let samples = share(specs, path, &mut counted)?;
    let bindings: Vec<Binding> = counted.into_iter().map(|(binding, _)| binding).collect();
    let labels = match labels {
        Some(array) => {
            let read = read_labels(&array, &bindings, samples)?;
            // Said where other unused arrays are.
            ignored.extend(read.is_none().then(|| LABEL_KEY.to_owned()));
            read
        }
        None => None,
    };
    Ok(Bound { bindings, samples, labels, ignored })
}

/// The input that a lone array or a folder of images serves: the only one without a default, or the only one at all.
pub(super) fn lone_input(specs: &[InputSpec]) -> Option<usize> {
    let mut required = specs.iter().enumerate().filter(|(_, spec)| !spec.has_default);
    match (required.next(), required.next()) {
        (Some((input, _)), None) => Some(input),
        (None, _) if specs.len() == 1 => Some(0),
        _ => None,
    }
}

/// Both name sets, for messages.
pub(super) fn name_sets(specs: &[InputSpec], arrays: &[Array]) -> NameSets {
    NameSets {
        inputs: input_names(specs),
        arrays: arrays.iter().map(|array| (array.key().to_owned(), array.description())).collect(),
    }
}

/// The inputs' names and types, for messages.
pub(super) fn input_names(specs: &[InputSpec]) -> Vec<(String, String)> {
    let kind =
        |spec: &InputSpec| format!("{}{}", spec.tensor_type, if spec.has_default { " (has a default)" } else { "" });
    specs.iter().map(|spec| (spec.name.clone(), kind(spec))).collect()
}

/// Whether every fixed dimension is met.
pub(super) fn dims_fit(dims: &[Dim], shape: &[usize]) -> bool {
    dims.len() == shape.len() && dims.iter().zip(shape).all(|(dim, &n)| dim.known().is_none_or(|known| known == n))
}

/// How the array is cut for its input, and how many samples that gives.
fn cut(spec: &InputSpec, input: usize, array: Array, names: &NameSets) -> Result<(Binding, usize), DataError> {
    let header = array.header().map_err(|error| error.with_names(names))?;
    if !spec.takes(header.element) {
        return Err(DataError::ElementType {
            place: array.place(),
            input: spec.name.clone(),
            found: header.element,
            wanted: spec.tensor_type.element,
            names: Box::new(names.clone()),
        });
    }
    let shape = header.shape.clone();
    let Some((cut, sample_shape)) = fit(&spec.tensor_type, &shape) else {
        return Err(DataError::ShapeMismatch {
            place: array.place(),
            input: spec.name.clone(),
            found: shape,
            wanted: Box::new(spec.tensor_type.clone()),
            names: Box::new(names.clone()),
        });
    };
    let count = match cut {
        Cut::Whole => 1,
        Cut::Entries => shape[0],
        Cut::Rows(batch) if !shape[0].is_multiple_of(batch) => {
            return Err(DataError::Remainder {
                place: array.place(),
                input: spec.name.clone(),
                count: shape[0],
                batch,
            });
        }
        Cut::Rows(batch) => shape[0] / batch,
    };
    if count == 0 {
        return Err(DataError::NoSamples { place: array.place() });
    }
    Ok((Binding { input, array, cut, sample_shape }, count))
}

/// How an array of this shape is cut for an input of this type, if it fits; an unknown rank is taken from the array.
fn fit(wanted: &TensorType, shape: &[usize]) -> Option<(Cut, Vec<usize>)> {
    let Some(dims) = &wanted.shape else {
        let Some(rows) = shape.get(1..) else { return Some((Cut::Whole, vec![])) };
        return Some((Cut::Rows(1), [&[1], rows].concat()));
    };
    if shape.len() == dims.len() + 1 {
        return dims_fit(dims, &shape[1..]).then(|| (Cut::Entries, shape[1..].to_vec()));
    }
    if shape.is_empty() && dims.is_empty() {
        return Some((Cut::Whole, vec![]));
    }
    let (first, rest) = dims.split_first()?;
    let batch = first.known().unwrap_or(1);
    let fits = batch > 0 && shape.len() == dims.len() && dims_fit(rest, &shape[1..]);
    fits.then(|| (Cut::Rows(batch), [&[batch], &shape[1..]].concat()))
}

/// Settles which arrays serve every sample, and the number of samples that all others give.
fn share(specs: &[InputSpec], path: &Path, counted: &mut [(Binding, usize)]) -> Result<usize, DataError> {
    // What has its input's exact shape gives one sample however it is cut, so it alone can serve all.
    let (exact, split): (Vec<usize>, Vec<usize>) =
        (0..counted.len()).partition(|&at| is_exact(&specs[counted[at].0.input], &counted[at].0));
    let Some(&first) = split.first() else {
        return if counted.is_empty() { Err(no_samples(path)) } else { Ok(1) };
    };
    let samples = counted[first].1;
    let batches: Vec<usize> = split
        .iter()
        .filter(|&&at| counted[at].1 > 1 && matches!(counted[at].0.cut, Cut::Rows(_)))
        .filter_map(|&at| first_dim(&specs[counted[at].0.input]))
        .collect();
    for &at in &exact {
        let is_batch = first_dim(&specs[counted[at].0.input]).is_some_and(|n| batches.contains(&n));
        if !is_batch {
            counted[at].0.cut = Cut::Whole;
        }
    }
    let counts = |binding: &(Binding, usize)| binding.0.cut != Cut::Whole && binding.1 != samples;
    if counted.iter().any(counts) {
        let each = counted.iter().filter(|(binding, _)| binding.cut != Cut::Whole);
        let each = each.map(|(binding, count)| (specs[binding.input].name.clone(), *count)).collect();
        return Err(DataError::Counts { path: path.to_owned(), each });
    }
    let no_bytes = |(binding, _): &(Binding, usize)| binding.cut == Cut::Whole || binding.sample_shape.contains(&0);
    // Rows without bytes may claim any number of samples.
    if counted.iter().all(no_bytes) { Err(no_samples(path)) } else { Ok(samples) }
}

fn is_exact(spec: &InputSpec, binding: &Binding) -> bool {
    binding.cut == Cut::Whole
        || matches!(binding.cut, Cut::Rows(_))
            && binding.array.header().is_ok_and(|header| spec.tensor_type.fixed_shape().as_ref() == Some(&header.shape))
}

fn first_dim(spec: &InputSpec) -> Option<usize> {
    spec.tensor_type.shape.as_ref()?.first()?.known()
}

fn no_samples(path: &Path) -> DataError {
    DataError::NoSamples { place: Place { path: PathBuf::from(path), key: None } }
}

/// The labels, if the array looks like class labels: integers, one axis, one for each sample or each row of its batch.
fn read_labels(array: &Array, bindings: &[Binding], samples: usize) -> Result<Option<Vec<i64>>, DataError> {
    let shape = &array.header()?.shape;
    let ([found] | [found, 1]) = shape[..] else { return Ok(None) };
    let batch = bindings.iter().map(|binding| if let Cut::Rows(batch) = binding.cut { batch } else { 1 }).max();
    if found != samples && Some(found) != batch.and_then(|batch| batch.checked_mul(samples)) {
        return Err(DataError::LabelCount { place: array.place(), found, samples });
    }
    array.integers()
}

#[cfg(test)]
mod tests {
    use onnxq_ir::ElementType;

    use super::super::sample_files::{integers_npy, npy, npz, ramp_npy, write};
    use super::*;

    fn spec(name: &str, dims: &[i64]) -> InputSpec {
        let shape = dims.iter().map(|&n| usize::try_from(n).map_or(Dim::Symbol("N".to_owned()), Dim::Known)).collect();
        let tensor_type = TensorType { element: ElementType::F32, shape: Some(shape) };
        InputSpec { name: name.to_owned(), tensor_type, has_default: false }
    }

    fn bound(specs: &[InputSpec], arrays: &[(&str, Vec<u8>)]) -> Result<Bound, String> {
        let dir = tempfile::tempdir().unwrap();
        let path = write(&dir, "c.npz", &npz(arrays));
        bind(specs, &path, Array::in_archive(&path).unwrap())
            .map_err(|error| error.to_string().replace(dir.path().to_str().unwrap(), ""))
    }

    /// Input's dimensions (-1 free), array's shape, and samples x sample shape or the message's part.
    #[test]
    fn cuts() {
        let good = |dims: &[i64], shape: &[usize], samples: usize, sample: &[usize]| {
            let bound = bound(&[spec("x", dims)], &[("x", ramp_npy(shape))]).unwrap();
            assert_eq!((bound.samples, &bound.bindings[0].sample_shape[..]), (samples, sample), "{dims:?} {shape:?}");
        };
        good(&[-1, 3], &[5, 3], 5, &[1, 3]);
        good(&[1, 3], &[5, 3], 5, &[1, 3]);
        good(&[2, 3], &[6, 3], 3, &[2, 3]);
        good(&[-1, 3], &[5, 4, 3], 5, &[4, 3]);
        good(&[2, 3], &[5, 2, 3], 5, &[2, 3]);
        good(&[2, 3], &[2, 3], 1, &[2, 3]);
        good(&[], &[4], 4, &[]);
        good(&[], &[], 1, &[]);
        good(&[-1], &[4], 4, &[1]);
        let bad = |dims: &[i64], shape: &[usize], part: &str| {
            let message = bound(&[spec("x", dims)], &[("x", ramp_npy(shape))]).unwrap_err();
            assert!(message.contains(part), "{message}");
        };
        bad(&[2, 3], &[7, 3], "batches of 2");
        bad(&[-1, 3], &[5, 4], "samples of it are an array of shape [n, 3]");
        bad(&[-1, 3, 8, 8], &[3, 8, 8], "an axis for the samples is missing");
        bad(&[-1, 3], &[5, 2, 4], "does not fit");
        bad(&[-1, 3], &[0, 3], "no samples");
        bad(&[0, 3], &[0, 3], "does not fit");
        bad(&[-1, 0], &[1 << 40, 0], "no samples");
    }

    #[test]
    fn an_unknown_rank_is_cut_into_rows() {
        let mut any = spec("x", &[]);
        any.tensor_type.shape = None;
        let bound = bound(&[any], &[("x", ramp_npy(&[4, 2, 3]))]).unwrap();
        assert_eq!((bound.samples, &bound.bindings[0].sample_shape[..]), (4, &[1, 2, 3][..]));
    }

    #[test]
    fn what_serves_every_sample() {
        let cuts = |specs: &[InputSpec], arrays: &[(&str, Vec<u8>)]| {
            bound(specs, arrays).map(|b| (b.samples, b.bindings.iter().map(|b| b.cut).collect::<Vec<_>>()))
        };
        // A scalar, and a fixed table beside a free batch.
        let specs = [spec("x", &[-1, 3]), spec("scale", &[]), spec("table", &[7, 2])];
        let arrays = [("scale", ramp_npy(&[])), ("table", ramp_npy(&[7, 2])), ("x", ramp_npy(&[5, 3]))];
        assert_eq!(cuts(&specs, &arrays).unwrap(), (5, vec![Cut::Rows(1), Cut::Whole, Cut::Whole]));
        // A table whose first dimension is not the fixed batch.
        let specs = [spec("x", &[1, 3]), spec("table", &[7, 2])];
        let arrays = [("x", ramp_npy(&[5, 3])), ("table", ramp_npy(&[7, 2]))];
        assert_eq!(cuts(&specs, &arrays).unwrap(), (5, vec![Cut::Rows(1), Cut::Whole]));
        // The same first dimension as the fixed batch: one sample where five are needed.
        let specs = [spec("x", &[1, 3]), spec("mask", &[1, 2])];
        let arrays = [("x", ramp_npy(&[5, 3])), ("mask", ramp_npy(&[1, 2]))];
        assert!(cuts(&specs, &arrays).unwrap_err().contains("(`x`: 5, `mask`: 1)"));
        // Whole inputs show no batch.
        let arrays = [("x", ramp_npy(&[5, 1, 3])), ("mask", ramp_npy(&[1, 2]))];
        assert_eq!(cuts(&specs, &arrays).unwrap(), (5, vec![Cut::Entries, Cut::Whole]));
        // A free dimension is never shared.
        let specs = [spec("x", &[-1, 3]), spec("mask", &[-1, 2])];
        let arrays = [("x", ramp_npy(&[5, 3])), ("mask", ramp_npy(&[1, 2]))];
        assert!(cuts(&specs, &arrays).unwrap_err().contains("different numbers of samples"));
        // Nothing but exact shapes is one sample.
        let specs = [spec("x", &[1, 3]), spec("scale", &[])];
        let arrays = [("x", ramp_npy(&[1, 3])), ("scale", ramp_npy(&[]))];
        assert_eq!(cuts(&specs, &arrays).unwrap().0, 1);
    }

    #[test]
    fn both_name_sets_are_listed() {
        let specs = [spec("image", &[-1, 3]), spec("mask", &[-1])];
        let message = bound(&specs, &[("x", ramp_npy(&[5, 3])), ("mask", ramp_npy(&[5]))]).unwrap_err();
        assert_eq!(
            message,
            "`/c.npz`: no array for `image`; the model's inputs: `image` float[N, 3], `mask` float[N]; the data: `x` \
             float32[5, 3], `mask` float32[5]; rename the keys after the inputs"
        );
        let message = bound(&specs[..1], &[("image", npy("<f8", &[1, 3], &[0; 24]))]).unwrap_err();
        assert_eq!(
            message,
            "`/c.npz`: array `image`: is float64, but input `image` is float32; convert it with `.astype(\"float32\")`; \
             the model's inputs: `image` float[N, 3]; the data: `image` float64[1, 3]"
        );
        let message = bound(&specs[..1], &[("image", npy("<U1", &[1, 3], &[0; 12]))]).unwrap_err();
        assert!(message.contains("type `<U1`") && message.contains("; the data: `image` (unreadable)"), "{message}");
    }

    #[test]
    fn defaults_labels_and_ignored_keys() {
        let mut specs = [spec("x", &[2, 3]), spec("w", &[4])];
        specs[1].has_default = true;
        let x = ("x", ramp_npy(&[4, 3]));
        let of = |label: Vec<u8>| bound(&specs, &[("label", label), x.clone(), ("id", ramp_npy(&[9]))]);
        let bound = of(integers_npy(&[1, 2])).unwrap();
        assert_eq!((bound.bindings.len(), bound.samples), (1, 2));
        assert_eq!(bound.labels, Some(vec![1, 2]));
        assert_eq!(bound.ignored, ["id"]);
        assert_eq!(of(integers_npy(&[1, 2, 3, 4])).unwrap().labels, Some(vec![1, 2, 3, 4]));
        assert!(of(integers_npy(&[1, 2, 3])).unwrap_err().contains("3 labels for 2 samples"));
        let floats = of(ramp_npy(&[2])).unwrap();
        assert_eq!((floats.labels, floats.ignored), (None, vec!["id".to_owned(), "label".to_owned()]));
    }
}
