//! Finding and loading ONNX Runtime's library.

use std::path::{Path, PathBuf};
use std::sync::OnceLock;

/// The environment variable that names the library.
pub const VARIABLE: &str = "ORT_DYLIB_PATH";

/// Why there is no ONNX Runtime.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LoadError {
    /// Nobody says where it is.
    #[error(
        "{VARIABLE} is not set: let it name ONNX Runtime's library, for example .../onnxruntime/capi/libonnxruntime.so.* of \
         `pip install onnxruntime`"
    )]
    NotNamed,
    /// There is no such file.
    #[error("{VARIABLE} names `{}`, which is no file", .0.display())]
    NotThere(PathBuf),
    /// It is no library of ONNX Runtime, or too old.
    #[error("{VARIABLE}: {0}")]
    NotLoaded(String),
}

/// Loads the library, once for the process.
pub(crate) fn load() -> Result<(), LoadError> {
    static LOADED: OnceLock<Result<(), LoadError>> = OnceLock::new();
    LOADED
        .get_or_init(|| {
            let named = std::env::var_os(VARIABLE).filter(|path| !path.is_empty()).ok_or(LoadError::NotNamed)?;
            load_from(Path::new(&named))
        })
        .clone()
}

fn load_from(path: &Path) -> Result<(), LoadError> {
    // A relative path is the user's, not the binary's.
    let absolute = path.canonicalize().ok().filter(|it| it.is_file());
    let absolute = absolute.ok_or_else(|| LoadError::NotThere(path.to_owned()))?;
    let environment = ort::init_from(&absolute).map_err(|error| LoadError::NotLoaded(error.to_string()))?;
    environment.with_name("onnxq").with_telemetry(false).commit();
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_library_is_an_error() {
        let missing = load_from(Path::new("no/such/library.so")).unwrap_err();
        assert_eq!(missing.to_string(), "ORT_DYLIB_PATH names `no/such/library.so`, which is no file");
        let text = load_from(&Path::new(env!("CARGO_MANIFEST_DIR")).join("Cargo.toml")).unwrap_err();
        assert!(matches!(text, LoadError::NotLoaded(_)), "{text}");
    }
}
