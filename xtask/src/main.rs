//! Remakes the files of the repository that are made from others: `cargo run -p xtask -- NAME`, and with `--check` only
//! says whether they are up to date. Knows nothing of quantization.

mod notices;
#[cfg(test)]
mod policy;
mod proto;

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::{env, fs, io};

const USAGE: &str = "usage: cargo run -p xtask -- COMMAND [--check]

  proto      src/onnx/proto.rs, from src/onnx/onnx-ml.proto
  notices    THIRD_PARTY.md, from Cargo.lock and the sources of the crates

--check writes nothing and fails where the file is not up to date
";

/// What can go wrong in a task.
#[derive(Debug, thiserror::Error)]
enum Error {
    #[error("{USAGE}")]
    Usage,
    #[error("`{}`: {source}", path.display())]
    File { path: PathBuf, source: io::Error },
    #[error("the ONNX definition does not compile: {0}")]
    Definition(#[from] protox::Error),
    #[error("generating Rust code: {0}")]
    Generate(io::Error),
    #[error("running `cargo metadata`: {0}")]
    RunCargo(io::Error),
    #[error("`cargo metadata` failed:\n{0}")]
    Cargo(String),
    #[error("reading the answer of `cargo metadata`: {0}")]
    Metadata(#[from] serde_json::Error),
    #[error("package `{0}` is missing in the answer of `cargo metadata`")]
    NoPackage(String),
    #[error("`{}` is not up to date at line {line}; run `cargo run -p xtask -- {task}`", path.display())]
    Stale { path: PathBuf, line: usize, task: &'static str },
}

/// A file that a task makes.
struct Generated {
    task: &'static str,
    /// Relative to the root of the repository.
    path: &'static str,
    content: String,
}

impl Generated {
    fn write(&self) -> Result<(), Error> {
        let path = root().join(self.path);
        fs::write(&path, &self.content).map_err(|source| Error::File { path, source })
    }

    fn check(&self) -> Result<(), Error> {
        let path = root().join(self.path);
        let committed = fs::read_to_string(&path).map_err(|source| Error::File { path, source })?;
        match first_difference(&committed, &self.content) {
            None => Ok(()),
            Some(line) => Err(Error::Stale { path: self.path.into(), line, task: self.task }),
        }
    }
}

fn main() -> ExitCode {
    match run(&env::args().skip(1).collect::<Vec<_>>()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // Nothing is left to tell when stderr is closed.
            let _ = writeln!(io::stderr(), "{error}");
            ExitCode::FAILURE
        }
    }
}

fn run(args: &[String]) -> Result<(), Error> {
    let args = args.iter().map(String::as_str).collect::<Vec<_>>();
    let (task, rest) = args.split_first().ok_or(Error::Usage)?;
    let generated = match *task {
        "proto" => proto::generate()?,
        "notices" => notices::generate()?,
        _ => return Err(Error::Usage),
    };
    match rest {
        [] => generated.write(),
        ["--check"] => generated.check(),
        _ => Err(Error::Usage),
    }
}

/// The root of the repository.
fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("xtask lies in the repository")
}

/// The first line, counted from 1, in which two texts differ.
fn first_difference(a: &str, b: &str) -> Option<usize> {
    if a == b {
        return None;
    }
    Some(1 + a.split('\n').zip(b.split('\n')).take_while(|(a, b)| a == b).count())
}

#[cfg(test)]
mod tests {
    use super::first_difference;

    #[test]
    fn difference_is_found_at_its_line() {
        assert_eq!(first_difference("a\nb\n", "a\nb\n"), None);
        assert_eq!(first_difference("a\nb\n", "a\nc\n"), Some(2));
        assert_eq!(first_difference("a\nb\n", "a\nb\nc\n"), Some(3));
        assert_eq!(first_difference("a", "a\n"), Some(2));
    }
}
