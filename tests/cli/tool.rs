//! Starts the binary in a folder of its own, so that all names in its words are short and the same everywhere.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

/// The models and data that ship with the project.
pub(crate) fn shipped() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("testdata/models")
}

/// The models beside the project, where they are.
pub(crate) fn shared() -> Option<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../shared/models");
    if !folder.is_dir() {
        tell("skipped: the shared models are not there");
        return None;
    }
    Some(folder)
}

/// A line for whoever reads the tests' output.
pub(crate) fn tell(text: &str) {
    use std::io::Write as _;
    let _ = writeln!(std::io::stderr(), "{text}");
}

/// A folder that belongs to one test.
pub(crate) struct Folder {
    path: PathBuf,
}

impl Folder {
    /// An empty folder.
    pub(crate) fn new(test: &str) -> Self {
        let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join("cli").join(test);
        let _ = fs::remove_dir_all(&path);
        fs::create_dir_all(&path).expect("a folder for the test");
        Self { path }
    }

    /// A folder with files that ship with the project.
    pub(crate) fn with(test: &str, files: &[&str]) -> Self {
        let folder = Self::new(test);
        for file in files {
            fs::copy(shipped().join(file), folder.path(file)).expect("a file that ships");
        }
        folder
    }

    /// The path of a file in it.
    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.path.join(name)
    }

    pub(crate) fn write(&self, name: &str, bytes: impl AsRef<[u8]>) {
        let path = self.path(name);
        fs::create_dir_all(path.parent().expect("within the folder")).expect("a folder");
        fs::write(path, bytes).expect("a file");
    }

    pub(crate) fn read(&self, name: &str) -> Vec<u8> {
        fs::read(self.path(name)).unwrap_or_else(|error| panic!("{name}: {error}"))
    }

    /// Whether anything of that name is there.
    pub(crate) fn has(&self, name: &str) -> bool {
        self.path(name).symlink_metadata().is_ok()
    }

    /// All that is in it, with the bytes of files.
    pub(crate) fn contents(&self) -> BTreeMap<String, Option<Vec<u8>>> {
        let entries = fs::read_dir(&self.path).expect("the folder").map(|entry| entry.expect("an entry"));
        entries.map(|entry| (entry.file_name().to_string_lossy().into_owned(), fs::read(entry.path()).ok())).collect()
    }

    /// The names of what a run left unfinished.
    pub(crate) fn strays(&self) -> Vec<String> {
        self.contents().into_keys().filter(|name| name.starts_with(".onnxq")).collect()
    }

    /// Runs the tool; the words of the command line are separated by single spaces.
    pub(crate) fn run(&self, words: &str) -> Outcome {
        Self::outcome(words, self.command(words))
    }

    /// The same with environment variables set.
    #[cfg(feature = "ort")]
    pub(crate) fn run_where(&self, variables: &[(&str, &Path)], words: &str) -> Outcome {
        let mut command = self.command(words);
        command.envs(variables.iter().copied());
        Self::outcome(words, command)
    }

    fn outcome(words: &str, mut command: Command) -> Outcome {
        let output = command.output().expect("the binary starts");
        Outcome {
            words: words.to_owned(),
            code: output.status.code(),
            stdout: String::from_utf8(output.stdout).expect("UTF-8"),
            stderr: String::from_utf8(output.stderr).expect("UTF-8"),
        }
    }

    /// Starts the tool.
    pub(crate) fn start(&self, words: &str) -> Child {
        self.command(words).stdout(Stdio::null()).stderr(Stdio::null()).spawn().expect("the binary starts")
    }

    fn command(&self, words: &str) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_onnxq"));
        command.current_dir(&self.path).stdin(Stdio::null());
        command.args(words.split(' ').filter(|word| !word.is_empty()));
        command
    }
}

/// What a run left.
pub(crate) struct Outcome {
    pub(crate) words: String,
    pub(crate) code: Option<i32>,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

impl Outcome {
    /// A run that must succeed.
    pub(crate) fn done(self) -> Self {
        assert_eq!(self.code, Some(0), "onnxq {}\n{}{}", self.words, self.stdout, self.stderr);
        self
    }

    /// A run that must be refused, with exit code 1 and one line.
    pub(crate) fn refused(self) -> Self {
        assert_eq!(self.code, Some(1), "onnxq {}\n{}{}", self.words, self.stdout, self.stderr);
        self
    }

    /// The report of a run with `--json`.
    pub(crate) fn json(&self) -> serde_json::Value {
        serde_json::from_str(&self.stdout).unwrap_or_else(|error| panic!("{error}: {}", self.stdout))
    }

    /// As a transcript.
    pub(crate) fn transcript(&self) -> String {
        let code = self.code.map_or_else(|| "a signal".to_owned(), |code| code.to_string());
        format!("$ onnxq {}\n{}exit code {code}\n", self.words, self.stderr)
    }
}
