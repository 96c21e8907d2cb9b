//! Which files a run may replace: its outputs, never what it reads.

use std::path::{Path, PathBuf};

use super::args::QuantizeArgs;
use crate::error::Error;
use crate::onnx;
use crate::onnx::output::Destination;

/// Refuses outputs that can't be written, or would replace what the run reads.
pub(super) fn check(args: &QuantizeArgs, input: &Path) -> Result<(), Error> {
    let data = args.data.calib.iter().chain(&args.eval).map(|path| (path.clone(), "the data"));
    let statistics = args.stats.iter().map(|path| (path.clone(), "the statistics"));
    let saved = args.save_stats.iter().map(|path| (path.clone(), "the statistics"));
    let model = [(input.to_owned(), "the model")];
    let weights = || onnx::data_files(input).into_iter().map(|path| (path, "the weights of the model"));
    if let Some(output) = &args.output {
        Destination::new(output).map_err(onnx::WriteError::from)?;
        refuse_taken(output, "OUT", data.clone().chain(statistics).chain(saved).chain(model.clone()))?;
        refuse_taken(output, "OUT", output.exists().then(weights).into_iter().flatten())?;
    }
    if let Some(output) = &args.save_stats {
        Destination::new(output).map_err(onnx::WriteError::from)?;
        refuse_taken(output, "--save-stats", data.chain(model))?;
        refuse_taken(output, "--save-stats", output.exists().then(weights).into_iter().flatten())?;
    }
    Ok(())
}

fn refuse_taken(
    output: &Path,
    name: &str,
    mut taken: impl Iterator<Item = (PathBuf, &'static str)>,
) -> Result<(), Error> {
    let real = |path: &Path| path.canonicalize().or_else(|_| std::path::absolute(path)).ok();
    let place = real(output);
    match taken.find(|(path, _)| place.is_some() && real(path) == place) {
        Some((path, what)) => {
            let path = path.display();
            Err(Error::Option(format!("`{path}` is {what} and {name} at once; give {name} another name")))
        }
        None => Ok(()),
    }
}
