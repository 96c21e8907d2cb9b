//! Names for the file of weights beside a model, such that no moment has a model with another's weights.

use std::collections::BTreeSet;
use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use prost::Message;

use super::map::map_file;
use super::output::{Destination, Staged};
use super::proto::{GraphProto, ModelProto, NodeProto, TensorProto};
use super::scan;

/// The name of the data file.
pub(super) struct DataName {
    pub(super) path: PathBuf,
    /// Whether a file with that name and the same content is there.
    pub(super) is_there: bool,
}

impl DataName {
    /// The first name that is free, or whose file has the same content and may stay; none of `inputs`.
    pub(super) fn choose(destination: &Destination, data: &Staged, inputs: &[PathBuf]) -> Option<Self> {
        const CANDIDATES: u32 = 1000;
        for number in 0..CANDIDATES {
            let path = data_candidate(destination, number);
            if is_input(&path, inputs) {
                continue;
            }
            if path.symlink_metadata().is_err() {
                return Some(Self { path, is_there: false });
            }
            if is_same_file_content(&path, data.path()) {
                return Some(Self { path, is_there: true });
            }
        }
        None
    }
}

fn data_candidate(destination: &Destination, number: u32) -> PathBuf {
    let mut name = destination.path().file_name().unwrap_or_default().to_os_string();
    name.push(if number == 0 { ".data".to_owned() } else { format!(".{number}.data") });
    destination.folder().join(name)
}

fn is_input(path: &Path, inputs: &[PathBuf]) -> bool {
    let real = |path: &Path| path.canonicalize().or_else(|_| std::path::absolute(path)).ok();
    inputs.iter().any(|input| real(input) == real(path))
}

fn is_same_file_content(one: &Path, other: &Path) -> bool {
    let is_file = one.symlink_metadata().is_ok_and(|metadata| metadata.is_file());
    is_file && same_content(one, other).unwrap_or(false)
}

fn same_content(one: &Path, other: &Path) -> io::Result<bool> {
    const PIECE: u64 = 1 << 18;
    let (one, other) = (File::open(one)?, File::open(other)?);
    if one.metadata()?.len() != other.metadata()?.len() {
        return Ok(false);
    }
    let (mut left, mut right) = (Vec::new(), Vec::new());
    loop {
        left.clear();
        right.clear();
        (&one).take(PIECE).read_to_end(&mut left)?;
        (&other).take(PIECE).read_to_end(&mut right)?;
        if left != right {
            return Ok(false);
        }
        if left.is_empty() {
            return Ok(true);
        }
    }
}

/// Data files under our names that the model at the destination uses, and the one that replaces it will not.
///
/// What an input uses stays, and so does all that a replaced input used: other models may share it.
pub(super) fn stale_data(destination: &Destination, location: &str, inputs: &[PathBuf]) -> Vec<PathBuf> {
    if is_input(destination.path(), inputs) {
        return Vec::new();
    }
    let of_inputs: Vec<PathBuf> =
        inputs.iter().flat_map(|input| data_files(input)).chain(inputs.iter().cloned()).collect();
    let own = destination.path().file_name().unwrap_or_default().to_string_lossy().into_owned();
    let is_ours = |path: &Path| {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        let number = name.strip_prefix(&own).and_then(|rest| rest.strip_suffix(".data"));
        name != location
            && path.parent() == Some(destination.folder())
            && number.is_some_and(|text| {
                text.is_empty() || text.strip_prefix('.').is_some_and(|digits| digits.parse::<u32>().is_ok())
            })
    };
    let old = data_files(destination.path()).into_iter();
    old.filter(|path| is_ours(path) && !is_input(path, &of_inputs)).collect()
}

/// The files beside a model that tensors of it lie in, bodies and attributes included; none where the file is no model.
pub fn data_files(model: &Path) -> BTreeSet<PathBuf> {
    let folder = model.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let mut locations = BTreeSet::new();
    if let Some(proto) = decode(model) {
        proto.graph.iter().for_each(|graph| add_locations(graph, &mut locations));
        proto.functions.iter().flat_map(|function| &function.node).for_each(|node| add_of_node(node, &mut locations));
    }
    locations.into_iter().map(|location| folder.join(location)).collect()
}

fn add_locations(graph: &GraphProto, locations: &mut BTreeSet<String>) {
    graph.initializer.iter().for_each(|tensor| add_of_tensor(tensor, locations));
    graph.node.iter().for_each(|node| add_of_node(node, locations));
}

fn add_of_node(node: &NodeProto, locations: &mut BTreeSet<String>) {
    for attribute in &node.attribute {
        attribute
            .t
            .iter()
            .map(|tensor| &**tensor)
            .chain(&attribute.tensors)
            .for_each(|tensor| add_of_tensor(tensor, locations));
        attribute
            .g
            .iter()
            .map(|graph| &**graph)
            .chain(&attribute.graphs)
            .for_each(|graph| add_locations(graph, locations));
    }
}

fn add_of_tensor(tensor: &TensorProto, locations: &mut BTreeSet<String>) {
    let entries = tensor.external_data.iter().filter(|entry| entry.key() == "location");
    locations.extend(entries.map(|entry| entry.value().to_owned()));
}

fn decode(model: &Path) -> Option<ModelProto> {
    if !model.is_file() {
        return None;
    }
    let bytes = map_file(model).ok()?;
    scan::scan_model(&bytes).ok()?;
    ModelProto::decode(bytes).ok()
}
