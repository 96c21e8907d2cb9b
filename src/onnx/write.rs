//! A model to a file, and its weights beside it where they are too large or should be.

use std::io::Write;
use std::path::{Path, PathBuf};

use onnxq_ir::Model;

use super::data_file::{DataName, stale_data};
use super::encode::EncodeError;
use super::layout::{Layout, StreamError};
use super::output::{Destination, OutputError, Staged, publish};
use super::placement::Placement;

/// When weights go into a file of their own.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ExternalData {
    /// Where the model would exceed 2 GB, which other readers refuse.
    #[default]
    Auto,
    /// Always; tensors below 1 kB and strings stay in the model.
    Always,
}

/// How to write.
#[derive(Clone, Debug, Default)]
pub struct WriteOptions {
    /// When weights go into a file of their own.
    pub external_data: ExternalData,
    /// Files that the data file must not replace, whatever is in them: the inputs of the run.
    pub inputs: Vec<PathBuf>,
}

/// What was written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Written {
    /// Bytes of the model's file.
    pub bytes: u64,
    /// Bytes of the data file; 0 where there is none.
    pub data_bytes: u64,
    /// The data file, where there is one.
    pub data_path: Option<PathBuf>,
}

/// Why a model can't be written.
#[derive(Debug, thiserror::Error)]
pub enum WriteError {
    /// The file can't be written.
    #[error(transparent)]
    Output(#[from] OutputError),
    /// The model is not fit for a file: a fault of ours.
    #[error(transparent)]
    Encode(#[from] EncodeError),
    /// Weights that can't go elsewhere are too large.
    #[error("{}: the model takes {bytes} bytes without its initializers; readers refuse more than 2 GB", path.display())]
    TooLarge {
        /// The output.
        path: PathBuf,
        /// Bytes of the model's file.
        bytes: u64,
    },
    /// Every name for the data file belongs to another file.
    #[error("{}: no name is left for the data file beside it; remove old `.data` files", .0.display())]
    NoDataName(PathBuf),
}

/// What official protobuf reads.
const MAX_MODEL: u64 = i32::MAX as u64;

/// Writes the model to `out`, which appears whole or not at all, and replaces what was there.
///
/// The data file is called like `out` with `.data` behind it; where another file has that name, `.1.data`, and so on. One
/// with the very same content is used as it is, so that writing a model twice gives the same files; one with another
/// content is left until the model that it belongs to is replaced.
///
/// # Errors
/// Where the file system does not let us, or the model holds operators that no file can.
pub fn write(model: &Model, out: &Path, options: &WriteOptions) -> Result<Written, WriteError> {
    let destination = Destination::new(out)?;
    let inside = Layout::new(model, Placement::inside(&model.graph), "")?;
    if options.external_data == ExternalData::Auto && inside.model_length() <= MAX_MODEL {
        let staged = stage_model(&destination, &inside)?;
        publish(vec![(staged, destination.path().to_path_buf())])?;
        return Ok(Written { bytes: inside.model_length(), data_bytes: 0, data_path: None });
    }
    write_with_data(model, &destination, options)
}

fn write_with_data(model: &Model, destination: &Destination, options: &WriteOptions) -> Result<Written, WriteError> {
    let placement = Placement::outside(&model.graph);
    let data_bytes = placement.length;
    let mut files = Vec::new();
    let mut data_path = None;
    if data_bytes > 0 {
        let mut data = destination.stage()?;
        let written = placement.write_data(&model.graph, &mut data).and_then(|()| data.flush());
        written.map_err(|source| OutputError::io(destination.path(), source))?;
        let name = DataName::choose(destination, &data, &options.inputs)
            .ok_or_else(|| WriteError::NoDataName(destination.path().to_path_buf()))?;
        if !name.is_there {
            files.push((data, name.path.clone()));
        }
        data_path = Some(name.path);
    }
    let location = data_path.as_deref().and_then(Path::file_name).unwrap_or_default().to_string_lossy().into_owned();
    let layout = Layout::new(model, placement, &location)?;
    let bytes = layout.model_length();
    if bytes > MAX_MODEL {
        return Err(WriteError::TooLarge { path: destination.path().to_path_buf(), bytes });
    }
    let stale = stale_data(destination, &location, &options.inputs);
    files.push((stage_model(destination, &layout)?, destination.path().to_path_buf()));
    publish(files)?;
    for path in stale {
        let _ = std::fs::remove_file(path);
    }
    Ok(Written { bytes, data_bytes, data_path })
}

/// How long the model's file is with all weights in it.
///
/// # Errors
/// Where the model holds operators that no file can.
pub fn encoded_len(model: &Model) -> Result<u64, WriteError> {
    Ok(Layout::new(model, Placement::inside(&model.graph), "")?.model_length())
}

/// The bytes of the model's file, with all weights in it.
///
/// # Errors
/// Where the model holds operators that no file can.
pub fn to_bytes(model: &Model) -> Result<Vec<u8>, EncodeError> {
    let layout = Layout::new(model, Placement::inside(&model.graph), "")?;
    let mut bytes = Vec::with_capacity(layout.model_length() as usize);
    match layout.write(&mut bytes) {
        Ok(()) => Ok(bytes),
        Err(StreamError::Encode(error)) => Err(error),
        Err(StreamError::Io(error)) => unreachable!("writing to memory failed: {error}"),
    }
}

fn stage_model(destination: &Destination, layout: &Layout) -> Result<Staged, WriteError> {
    let mut staged = destination.stage()?;
    let io = |source| WriteError::from(OutputError::io(destination.path(), source));
    match layout.write(&mut staged) {
        Ok(()) => {}
        Err(StreamError::Encode(error)) => return Err(error.into()),
        Err(StreamError::Io(source)) => return Err(io(source)),
    }
    staged.flush().map_err(io)?;
    Ok(staged)
}
