//! Reading tensors that lie in files beside the model. Nothing outside the model's folder is ever opened.

use std::collections::HashMap;
use std::path::{Component, Path, PathBuf};

use bytes::Bytes;

use super::error::ExternalProblem;
use super::map::map_file;
use super::proto::StringStringEntryProto;

/// The folder of a model, with the files that were mapped in it so far.
#[derive(Default)]
pub(super) struct Folder {
    /// Where locations start from; none where the model is no file.
    base: Option<PathBuf>,
    /// Where files may really lie: the folder itself, and that of the file which a linked model is a link to.
    roots: Vec<PathBuf>,
    maps: HashMap<PathBuf, Bytes>,
}

impl Folder {
    /// The folder of the model `file`.
    pub(super) fn of(file: &Path) -> Self {
        let base = file.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
        let mut folder = Self::at(base);
        if let Ok(real) = file.canonicalize() {
            folder.roots.extend(real.parent().map(Path::to_path_buf));
        }
        folder
    }

    /// The folder `base`.
    pub(super) fn at(base: &Path) -> Self {
        let roots = base.canonicalize().into_iter().collect();
        Self { base: Some(base.to_path_buf()), roots, maps: HashMap::new() }
    }

    /// The `need` bytes of a tensor, as a slice of its file's map.
    pub(super) fn slice(&mut self, entries: &[StringStringEntryProto], need: usize) -> Result<Bytes, ExternalProblem> {
        let entry = |key: &str| entries.iter().find(|entry| entry.key() == key).map(StringStringEntryProto::value);
        let location = entry("location").filter(|text| !text.is_empty()).ok_or(ExternalProblem::NoLocation)?;
        let offset = number("offset", entry("offset"))?.unwrap_or(0);
        if let Some(have) = number("length", entry("length"))?
            && have != need as u64
        {
            return Err(ExternalProblem::Length { need, have });
        }
        let map = self.map(location)?;
        let end = offset.saturating_add(need as u64);
        if end > map.len() as u64 {
            return Err(ExternalProblem::Short { location: location.to_owned(), need: end, have: map.len() as u64 });
        }
        Ok(map.slice(offset as usize..end as usize))
    }

    fn map(&mut self, location: &str) -> Result<Bytes, ExternalProblem> {
        let base = self.base.as_ref().ok_or_else(|| ExternalProblem::NoFolder(location.to_owned()))?;
        let relative = Path::new(location);
        if !relative.components().all(|part| matches!(part, Component::Normal(_) | Component::CurDir)) {
            return Err(ExternalProblem::Outside(location.to_owned()));
        }
        let open = |source| ExternalProblem::Open { location: location.to_owned(), source };
        let real = base.join(relative).canonicalize().map_err(open)?;
        if !self.roots.iter().any(|root| real.starts_with(root)) {
            return Err(ExternalProblem::Outside(location.to_owned()));
        }
        if let Some(map) = self.maps.get(&real) {
            return Ok(map.clone());
        }
        if !real.metadata().map_err(open)?.is_file() {
            return Err(ExternalProblem::NoFile(location.to_owned()));
        }
        let map = map_file(&real).map_err(open)?;
        self.maps.insert(real, map.clone());
        Ok(map)
    }
}

fn number(key: &'static str, text: Option<&str>) -> Result<Option<u64>, ExternalProblem> {
    let problem = |text: &str| ExternalProblem::Number { key, value: text.to_owned() };
    text.map(|text| text.parse().map_err(|_| problem(text))).transpose()
}
