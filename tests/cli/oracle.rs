//! onnx and onnxruntime, asked through the script in `tests/python`.

use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;

use crate::tool::tell;

/// The oracles, where they are installed.
pub(crate) struct Oracle {
    python: PathBuf,
    script: PathBuf,
}

impl Oracle {
    /// `None`, with a message, where they are not installed; with `ONNXQ_REQUIRE_ORACLES` set that is a failure.
    pub(crate) fn find() -> Option<Self> {
        let root = Path::new(env!("CARGO_MANIFEST_DIR"));
        let oracle = Self { python: root.join("target/venv/bin/python"), script: root.join("tests/python/oracle.py") };
        if oracle.python.exists() {
            return Some(oracle);
        }
        assert!(
            std::env::var_os("ONNXQ_REQUIRE_ORACLES").is_none(),
            "{} is missing, and the oracles are required",
            oracle.python.display()
        );
        tell("skipped: no Python with onnxruntime under target/venv");
        None
    }

    /// Whether a runtime's package is installed; says so where it is not, which with `ONNXQ_REQUIRE_ORACLES` set is a failure.
    pub(crate) fn has(&self, package: &str) -> bool {
        let import = format!("import {package}");
        let found = Command::new(&self.python).args(["-c", &import]).output().expect("Python starts").status.success();
        if !found {
            assert!(std::env::var_os("ONNXQ_REQUIRE_ORACLES").is_none(), "{package} is missing, and it is required");
            tell(&format!("skipped: target/venv has no {package}"));
        }
        found
    }

    /// The document that a command prints; `Err` where it could not be done. A document that tells of failures is `Ok`.
    pub(crate) fn try_ask(&self, words: &[&str]) -> Result<Value, String> {
        let output = Command::new(&self.python).arg(&self.script).args(words).output().expect("Python starts");
        match output.status.code() {
            Some(0 | 1) => Ok(serde_json::from_slice(&output.stdout).expect("a JSON document")),
            _ => Err(String::from_utf8_lossy(&output.stderr).into_owned()),
        }
    }

    /// As `try_ask`, where failure to do it is a failure of the test.
    pub(crate) fn ask(&self, words: &[&str]) -> Value {
        self.try_ask(words).unwrap_or_else(|error| panic!("oracle {}: {error}", words.join(" ")))
    }

    /// Lets a script write models with inputs into a folder; returns their names.
    pub(crate) fn written_by(&self, script: &str, folder: &Path) -> Vec<String> {
        let script = self.script.with_file_name(script);
        let output = Command::new(&self.python).arg(script).arg(folder).output().expect("Python starts");
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        serde_json::from_slice(&output.stdout).expect("a JSON list")
    }

    /// Sees that checker and runtime, with all and with no optimization, take the models.
    pub(crate) fn check(&self, models: &[&Path]) {
        let mut words = vec!["check"];
        words.extend(models.iter().map(|path| path.to_str().expect("UTF-8")));
        let results = self.ask(&words);
        let bad: Vec<&Value> =
            results.as_array().expect("a list").iter().filter(|result| result["ok"] != true).collect();
        assert!(bad.is_empty(), "{bad:#?}");
    }
}
