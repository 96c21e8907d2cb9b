//! ONNX's test data: folders of `input_0.pb`, `input_1.pb` ..., each folder one sample as it stands. The protobuf
//! encoding is the caller's: a decoder comes with the options.

use std::path::{Path, PathBuf};

use onnxq_ir::Tensor;

use super::bind::{dims_fit, input_names};
use super::error::{DataError, NameSets, Place, Shape, numpy_name};
use super::folder::{ends_with, file_name, number};
use super::{InputSpec, TensorDecoder};

/// Bytes of a protobuf message at most, protobuf's own limit.
const BUDGET: u64 = 1 << 31;

/// Folders that are one sample each.
#[derive(Debug)]
pub(super) struct TestSets {
    /// In order.
    pub(super) folders: Vec<PathBuf>,
    /// Decodes a `TensorProto`.
    pub(super) decode: TensorDecoder,
}

/// A tensor from a file.
struct Decoded {
    file: PathBuf,
    name: String,
    tensor: Tensor,
}

impl TestSets {
    /// The inputs of one sample, checked against the specs; where each lies comes with it.
    ///
    /// Tensors are matched by their names; where a name is none of the inputs', by their order, among all inputs or
    /// among those without a default, whichever are as many.
    pub(super) fn read(&self, specs: &[InputSpec], sample: usize) -> Result<Vec<(usize, Tensor, Place)>, DataError> {
        let folder = &self.folders[sample];
        let decoded = self.decode_all(folder)?;
        if decoded.is_empty() {
            return Err(DataError::NoSamples { place: Place::whole(folder) });
        }
        let describe =
            |d: &Decoded| (d.name.clone(), format!("{}{}", numpy_name(d.tensor.element()), Shape(d.tensor.shape())));
        let names = NameSets { inputs: input_names(specs), arrays: decoded.iter().map(describe).collect() };
        let inputs = assign(specs, &decoded).ok_or_else(|| DataError::Missing {
            path: folder.clone(),
            missing: missing(specs, &decoded),
            names: Box::new(names.clone()),
        })?;
        let mut sample = Vec::with_capacity(decoded.len());
        for (input, decoded) in inputs.into_iter().zip(decoded) {
            check(&specs[input], &decoded, &names)?;
            sample.push((input, decoded.tensor, Place::whole(&decoded.file)));
        }
        sample.sort_by_key(|(input, ..)| *input);
        Ok(sample)
    }

    fn decode_all(&self, folder: &Path) -> Result<Vec<Decoded>, DataError> {
        let io = |problem| DataError::Io { path: folder.to_owned(), problem };
        let mut files = Vec::new();
        for entry in std::fs::read_dir(folder).map_err(io)? {
            let path = entry.map_err(io)?.path();
            let place = number(&file_name(&path), "input_").filter(|_| ends_with(&path, "pb"));
            files.extend(place.map(|place| (place, path)));
        }
        files.sort();
        files.into_iter().map(|(_, file)| self.decode(file)).collect()
    }

    fn decode(&self, file: PathBuf) -> Result<Decoded, DataError> {
        let io = |problem| DataError::Io { path: file.clone(), problem };
        if std::fs::metadata(&file).map_err(io)?.len() > BUDGET {
            return Err(DataError::Proto { path: file, problem: "it has more than 2 GB".to_owned() });
        }
        let bytes = std::fs::read(&file).map_err(io)?;
        match (self.decode)(&bytes) {
            Ok((name, tensor)) => Ok(Decoded { file, name, tensor }),
            Err(problem) => Err(DataError::Proto { path: file, problem }),
        }
    }
}

/// The input of each tensor, if every input without a default gets one.
fn assign(specs: &[InputSpec], decoded: &[Decoded]) -> Option<Vec<usize>> {
    let named = |d: &Decoded| specs.iter().position(|spec| spec.name == d.name);
    if let Some(inputs) = decoded.iter().map(named).collect::<Option<Vec<usize>>>() {
        let distinct = (1..inputs.len()).all(|at| !inputs[..at].contains(&inputs[at]));
        return (distinct && missing(specs, decoded).is_empty()).then_some(inputs);
    }
    let required: Vec<usize> = (0..specs.len()).filter(|&input| !specs[input].has_default).collect();
    [(0..specs.len()).collect(), required].into_iter().find(|inputs: &Vec<usize>| inputs.len() == decoded.len())
}

fn missing(specs: &[InputSpec], decoded: &[Decoded]) -> Vec<String> {
    let lacks = |spec: &&InputSpec| !spec.has_default && decoded.iter().all(|d| d.name != spec.name);
    specs.iter().filter(lacks).map(|spec| spec.name.clone()).collect()
}

fn check(spec: &InputSpec, decoded: &Decoded, names: &NameSets) -> Result<(), DataError> {
    let (input, names, wanted) = (spec.name.clone(), Box::new(names.clone()), &spec.tensor_type);
    if !spec.takes(decoded.tensor.element()) {
        let (found, place) = (decoded.tensor.element(), Place::whole(&decoded.file));
        return Err(DataError::ElementType { place, input, found, wanted: wanted.element, names });
    }
    if wanted.shape.as_ref().is_some_and(|dims| !dims_fit(dims, decoded.tensor.shape())) {
        let (path, found) = (decoded.file.clone(), decoded.tensor.shape().to_vec());
        return Err(DataError::TensorShape { path, input, found, wanted: Box::new(wanted.clone()), names });
    }
    Ok(())
}
