//! What a folder holds, by its file names alone.

use std::path::{Path, PathBuf};

use super::error::{DataError, Quoted};

/// The data in a folder, in the order of their names.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Contents {
    /// .npz files.
    Archives(Vec<PathBuf>),
    /// .npy files.
    Arrays(Vec<PathBuf>),
    /// `test_data_set_*` folders, or the folder itself where it is one.
    TestSets(Vec<PathBuf>),
    /// Images.
    Images(Vec<PathBuf>),
}

/// Looks through the folder. The second result names the files that are no data; hidden ones and `labels.csv` are
/// nobody's business, and neither is what lies beside `test_data_set_*` folders, such as the model.
pub(super) fn scan(folder: &Path) -> Result<(Contents, Vec<String>), DataError> {
    let io = |problem| DataError::Io { path: folder.to_owned(), problem };
    let mut paths = Vec::new();
    for entry in std::fs::read_dir(folder).map_err(io)? {
        paths.push(entry.map_err(io)?.path());
    }
    paths.sort();
    let mut found: Vec<(Kind, Vec<PathBuf>)> = Vec::new();
    let mut ignored = Vec::new();
    for path in paths {
        let name = file_name(&path);
        match kind(&path, &name) {
            Some(kind) => match found.iter_mut().find(|(other, _)| *other == kind) {
                Some((_, paths)) => paths.push(path),
                None => found.push((kind, vec![path])),
            },
            None if name.starts_with('.') || name == "labels.csv" => {}
            None => ignored.push(name),
        }
    }
    if found.len() > 1 {
        let example =
            |(kind, paths): &(Kind, Vec<PathBuf>)| format!("{} such as {}", kind.words(), Quoted(file_name(&paths[0])));
        return Err(DataError::MixedFolder { path: folder.to_owned(), kinds: found.iter().map(example).collect() });
    }
    let Some((kind, mut paths)) = found.pop() else {
        return Err(DataError::EmptyFolder { path: folder.to_owned() });
    };
    Ok(match kind {
        Kind::Archive => (Contents::Archives(paths), ignored),
        Kind::Array => (Contents::Arrays(paths), ignored),
        Kind::Image => (Contents::Images(paths), ignored),
        Kind::TestSet => {
            // 10 comes after 9.
            paths.sort_by_key(|path| number(&file_name(path), TEST_SET));
            (Contents::TestSets(paths), vec![])
        }
        Kind::Proto => (Contents::TestSets(vec![folder.to_owned()]), vec![]),
    })
}

/// The last part of a path, as well as it can be shown.
pub(super) fn file_name(path: &Path) -> String {
    path.file_name().unwrap_or_default().to_string_lossy().into_owned()
}

/// Whether the file's ending is this one, in any case.
pub(super) fn ends_with(path: &Path, ending: &str) -> bool {
    path.extension().is_some_and(|end| end.eq_ignore_ascii_case(ending))
}

/// The number between this start and an ending, if there is one.
pub(super) fn number(name: &str, start: &str) -> Option<u64> {
    name.strip_prefix(start)?.split('.').next()?.parse().ok()
}

const TEST_SET: &str = "test_data_set_";

#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Archive,
    Array,
    Image,
    TestSet,
    Proto,
}

impl Kind {
    fn words(self) -> &'static str {
        match self {
            Self::Archive => ".npz files",
            Self::Array => ".npy files",
            Self::Image => "images",
            Self::TestSet => "`test_data_set_*` folders",
            Self::Proto => "`input_*.pb` files",
        }
    }
}

fn kind(path: &Path, name: &str) -> Option<Kind> {
    if name.starts_with('.') {
        return None;
    }
    if path.is_dir() {
        return name.starts_with(TEST_SET).then_some(Kind::TestSet);
    }
    let has = |endings: &[&str]| endings.iter().any(|ending| ends_with(path, ending));
    match () {
        () if has(&["npz"]) => Some(Kind::Archive),
        () if has(&["npy"]) => Some(Kind::Array),
        () if has(&["jpg", "jpeg", "png"]) => Some(Kind::Image),
        () if has(&["pb"]) && number(name, "input_").is_some() => Some(Kind::Proto),
        () => None,
    }
}

#[cfg(test)]
mod tests {
    use super::super::sample_files::write;
    use super::*;

    fn scanned(files: &[&str]) -> Result<(String, Vec<String>), String> {
        let dir = tempfile::tempdir().unwrap();
        for file in files {
            write(&dir, file, b"");
        }
        let root = format!("{}/", dir.path().display());
        match scan(dir.path()) {
            Ok((contents, ignored)) => Ok((format!("{contents:?}").replace(&root, ""), ignored)),
            Err(error) => Err(error.to_string()),
        }
    }

    #[test]
    fn kinds_in_name_order() {
        let none: Vec<String> = vec![];
        assert_eq!(scanned(&["b.npz", "a.npz"]).unwrap(), (r#"Archives(["a.npz", "b.npz"])"#.to_owned(), none.clone()));
        let images = scanned(&["b.JPG", "a.png", "c.jpeg", "labels.csv", "notes.txt", ".hidden.npz"]).unwrap();
        assert_eq!(images, (r#"Images(["a.png", "b.JPG", "c.jpeg"])"#.to_owned(), vec!["notes.txt".to_owned()]));
        let sets = scanned(&["test_data_set_10/input_0.pb", "test_data_set_9/input_0.pb", "model.onnx"]).unwrap();
        assert_eq!(sets, (r#"TestSets(["test_data_set_9", "test_data_set_10"])"#.to_owned(), none));
        assert!(scanned(&["input_0.pb", "output_0.pb"]).unwrap().0.starts_with("TestSets"));
    }

    #[test]
    fn mixed_and_empty_folders() {
        let mixed = scanned(&["a.npz", "b.png", "c.png"]).unwrap_err();
        assert!(
            mixed.ends_with("(.npz files such as `a.npz`, images such as `b.png`); keep one kind in it"),
            "{mixed}"
        );
        assert!(scanned(&["a.txt", "sub/a.png"]).unwrap_err().contains("holds no data"));
        assert!(scanned(&[]).unwrap_err().contains("holds no data"));
    }
}
