//! Class labels of images: `labels.csv` in their folder, or in the folder above, where files are named with the folder.

use std::collections::BTreeMap;
use std::io::Read;
use std::path::Path;

use super::error::{DataError, LabelsProblem};

/// Bytes of a `labels.csv` at most.
const BUDGET: u64 = 64 << 20;
const FILE_NAME: &str = "labels.csv";

/// The labels of these files of `folder`, in their order; `None` where no `labels.csv` names any of them.
pub(super) fn image_labels(folder: &Path, files: &[String]) -> Result<Option<Vec<i64>>, DataError> {
    let beside = folder.join(FILE_NAME);
    if beside.is_file() {
        return look_up(&beside, "", files);
    }
    // A folder given as `.` has a name and a parent only in full.
    let Ok(full) = folder.canonicalize() else { return Ok(None) };
    let (Some(parent), Some(name)) = (full.parent(), full.file_name()) else { return Ok(None) };
    let above = parent.join(FILE_NAME);
    if above.is_file() { look_up(&above, &format!("{}/", name.to_string_lossy()), files) } else { Ok(None) }
}

fn look_up(path: &Path, prefix: &str, files: &[String]) -> Result<Option<Vec<i64>>, DataError> {
    let failed = |problem| DataError::Labels { path: path.to_owned(), problem };
    let text = read(path)?;
    let rows = parse(&text).map_err(failed)?;
    let found: Vec<Option<&Row>> = files.iter().map(|file| rows.get(format!("{prefix}{file}").as_str())).collect();
    if found.iter().all(Option::is_none) {
        return Ok(None);
    }
    let label = |(file, row): (&String, Option<&Row>)| match row {
        None => Err(LabelsProblem::Missing(file.clone())),
        Some(row) => row
            .label
            .parse()
            .map_err(|_| LabelsProblem::NoInteger { line: row.line, text: row.label.chars().take(40).collect() }),
    };
    files.iter().zip(found).map(label).collect::<Result<_, _>>().map(Some).map_err(failed)
}

fn read(path: &Path) -> Result<String, DataError> {
    let io = |problem| DataError::Io { path: path.to_owned(), problem };
    let mut bytes = Vec::new();
    std::fs::File::open(path).map_err(io)?.take(BUDGET + 1).read_to_end(&mut bytes).map_err(io)?;
    let text = if bytes.len() as u64 > BUDGET { None } else { String::from_utf8(bytes).ok() };
    text.ok_or(DataError::Labels { path: path.to_owned(), problem: LabelsProblem::NoText })
}

struct Row<'a> {
    line: usize,
    label: &'a str,
}

/// The rows by file name. Fields may stand in double quotes, but hold no comma.
fn parse(text: &str) -> Result<BTreeMap<&str, Row<'_>>, LabelsProblem> {
    let mut lines = text.trim_start_matches('\u{feff}').lines().enumerate();
    let header: Vec<&str> = lines.next().map_or(vec![], |(_, line)| fields(line).collect());
    let column = |name: &str| header.iter().position(|&field| field == name).ok_or(LabelsProblem::Header);
    let (file, label) = (column("file")?, column("label")?);
    let row = |(index, line)| {
        let fields: Vec<&str> = fields(line).collect();
        let name = fields.get(file)?;
        let label = fields.get(label).copied().unwrap_or_default();
        Some((name.strip_prefix("./").unwrap_or(name), Row { line: index + 1, label }))
    };
    Ok(lines.filter_map(row).collect())
}

fn fields(line: &str) -> impl Iterator<Item = &str> {
    line.split(',').map(|field| field.trim().trim_matches('"'))
}

#[cfg(test)]
mod tests {
    use super::super::sample_files::write;
    use super::*;

    fn labels(csv: &str, at: &str) -> Result<Option<Vec<i64>>, String> {
        let dir = tempfile::tempdir().unwrap();
        write(&dir, "calib/b.png", b"");
        write(&dir, at, csv.as_bytes());
        image_labels(&dir.path().join("calib"), &["a.png".to_owned(), "b.png".to_owned()]).map_err(|e| e.to_string())
    }

    #[test]
    fn beside_and_above() {
        let beside = "calib/labels.csv";
        assert_eq!(labels("file,label,name\nb.png,7,x\n\"a.png\",-1,y\n", beside).unwrap(), Some(vec![-1, 7]));
        assert_eq!(labels("label,file\r\n3,./a.png\r\n4,b.png\r\n", beside).unwrap(), Some(vec![3, 4]));
        assert_eq!(
            labels("file,label\ncalib/a.png,1\ncalib/b.png,2\ntest/a.png,9\n", "labels.csv").unwrap(),
            Some(vec![1, 2])
        );
        assert_eq!(labels("file,label\ntest/a.png,1\n", "labels.csv").unwrap(), None);
        assert_eq!(labels("file,label\n", "elsewhere.csv").unwrap(), None);
    }

    #[test]
    fn problems_name_line_and_file() {
        let beside = "calib/labels.csv";
        assert!(labels("name,label\na.png,1", beside).unwrap_err().contains("`file` and `label`"));
        assert!(labels("", beside).unwrap_err().contains("`file` and `label`"));
        assert!(labels("file,label\na.png,1", beside).unwrap_err().contains("no row for image `b.png`"));
        assert!(labels("file,label\na.png,cat\nb.png,1", beside).unwrap_err().contains("line 2: `cat`"));
        assert!(labels("file,label\na.png", beside).is_err());
    }
}
