//! `THIRD_PARTY.md`: what of others is in the binary, under which licence, and whose it is.

use std::collections::{BTreeMap, BTreeSet};
use std::env;
use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde::Deserialize;

use crate::{Error, Generated, root};

/// Other platforms take a few other crates of the same authors; one platform keeps `cargo metadata` from fetching crates
/// that no build here needs.
const PLATFORM: &str = "x86_64-unknown-linux-gnu";

const HEADER: &str = "\
# Third-party notices

Made by `cargo run -p xtask -- notices`; change that, not this.

onnxq itself is licensed under MIT or Apache-2.0, at your choice (`LICENSE-MIT`, `LICENSE-APACHE`). Its binary contains \
code of the projects below. Where a licence offers a choice (`OR`, or `/` in the older spelling), either may be chosen.

The licence texts lie in the source of each crate, at `https://crates.io/crates/NAME/VERSION`, and after a build in \
Cargo's registry folder. Each licence has its text at `https://spdx.org/licenses/`; that of Apache-2.0 is \
`LICENSE-APACHE`, and the terms of MIT are those of `LICENSE-MIT` under the copyright lines given here.

## ONNX

The message types in `src/onnx/proto.rs` are made from `onnx-ml.proto` of the ONNX project \
(<https://github.com/onnx/onnx>), Copyright (c) ONNX Project Contributors, Apache-2.0; the definition is \
`src/onnx/onnx-ml.proto`.

## Crates

Rust's standard library (MIT OR Apache-2.0, <https://github.com/rust-lang/rust>) and:
";

/// The part of `cargo metadata`'s answer that is read here.
#[derive(Deserialize)]
pub(crate) struct Metadata {
    pub(crate) packages: Vec<Package>,
    resolve: Resolve,
}

#[derive(Deserialize)]
pub(crate) struct Package {
    id: String,
    pub(crate) name: String,
    pub(crate) version: String,
    pub(crate) license: Option<String>,
    repository: Option<String>,
    authors: Vec<String>,
    /// None for a member of the workspace.
    pub(crate) source: Option<String>,
    manifest_path: PathBuf,
}

#[derive(Deserialize)]
struct Resolve {
    nodes: Vec<Node>,
}

#[derive(Deserialize)]
struct Node {
    id: String,
    deps: Vec<Dependency>,
}

#[derive(Deserialize)]
struct Dependency {
    pkg: String,
    dep_kinds: Vec<DependencyKind>,
}

#[derive(Deserialize)]
struct DependencyKind {
    /// `dev`, `build`, or None for a normal dependency.
    kind: Option<String>,
}

/// `THIRD_PARTY.md`.
pub(crate) fn generate() -> Result<Generated, Error> {
    let metadata = metadata()?;
    let mut content = HEADER.to_owned();
    for package in linked(&metadata, "onnxq")? {
        describe(package, &mut content)?;
    }
    Ok(Generated { task: "notices", path: "THIRD_PARTY.md", content })
}

pub(crate) fn metadata() -> Result<Metadata, Error> {
    let cargo = env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let output = Command::new(cargo)
        // With all that a build may contain.
        .args(["metadata", "--format-version", "1", "--locked", "--features", "ort", "--filter-platform", PLATFORM])
        .current_dir(root())
        .output()
        .map_err(Error::RunCargo)?;
    if !output.status.success() {
        return Err(Error::Cargo(String::from_utf8_lossy(&output.stderr).into_owned()));
    }
    Ok(serde_json::from_slice(&output.stdout)?)
}

/// The packages of others that `name` depends on, directly or not, by name and version; those that only builds or tests
/// need are left out.
fn linked<'a>(metadata: &'a Metadata, name: &str) -> Result<Vec<&'a Package>, Error> {
    let packages = metadata.packages.iter().map(|p| (p.id.as_str(), p)).collect::<BTreeMap<_, _>>();
    let nodes = metadata.resolve.nodes.iter().map(|n| (n.id.as_str(), n)).collect::<BTreeMap<_, _>>();
    let missing = |what: &str| Error::NoPackage(what.to_owned());
    let start = metadata.packages.iter().find(|p| p.name == name && p.source.is_none());

    let mut open = vec![start.ok_or_else(|| missing(name))?.id.as_str()];
    let mut seen = BTreeSet::new();
    while let Some(id) = open.pop() {
        if seen.insert(id) {
            let node = nodes.get(id).ok_or_else(|| missing(id))?;
            let normal = node.deps.iter().filter(|d| d.dep_kinds.iter().any(|k| k.kind.is_none()));
            open.extend(normal.map(|d| d.pkg.as_str()));
        }
    }
    let mut found =
        seen.iter().map(|id| packages.get(id).copied().ok_or_else(|| missing(id))).collect::<Result<Vec<_>, _>>()?;
    found.retain(|p| p.source.is_some());
    found.sort_by(|a, b| (&a.name, &a.version).cmp(&(&b.name, &b.version)));
    Ok(found)
}

fn describe(package: &Package, out: &mut String) -> Result<(), Error> {
    let licence = package.license.as_deref().unwrap_or("see its source");
    let Package { name, version, .. } = package;
    let place = match &package.repository {
        Some(repository) => format!(", <{repository}>"),
        None => String::new(),
    };
    let mut whose = copyright_lines(package.manifest_path.parent().unwrap_or(root()))?;
    if whose.is_empty() && !package.authors.is_empty() {
        whose = vec![format!("Authors: {}", package.authors.join(", "))];
    }
    let _ = writeln!(out, "\n**{name} {version}**: {licence}{place}");
    for line in whose {
        let _ = writeln!(out, "- {line}");
    }
    Ok(())
}

/// The distinct copyright lines of the licence and notice files in a crate's folder, in the order of file names.
fn copyright_lines(folder: &Path) -> Result<Vec<String>, Error> {
    let failed = |path: &Path| {
        let path = path.to_owned();
        move |source| Error::File { path, source }
    };
    let mut files = fs::read_dir(folder)
        .and_then(|entries| entries.map(|entry| Ok(entry?.path())).collect::<Result<Vec<_>, _>>())
        .map_err(failed(folder))?;
    files.retain(|path| path.is_file() && is_notice(path));
    files.sort();

    let mut lines = Vec::new();
    for path in files {
        let text = fs::read(&path).map_err(failed(&path))?;
        for line in String::from_utf8_lossy(&text).lines().filter_map(copyright) {
            if !lines.contains(&line) {
                lines.push(line);
            }
        }
    }
    Ok(lines)
}

fn is_notice(path: &Path) -> bool {
    let name = path.file_name().unwrap_or_default().to_string_lossy().to_uppercase();
    ["LICENSE", "LICENCE", "COPYING", "COPYRIGHT", "NOTICE", "UNLICENSE"].iter().any(|start| name.starts_with(start))
}

/// A line that claims a copyright: not one that speaks of copyrights, nor a template to be filled in.
fn copyright(line: &str) -> Option<String> {
    let line = line.trim_matches(|c: char| c.is_whitespace() || "*#/".contains(c));
    let rest = line.strip_prefix("Copyright").or_else(|| line.strip_prefix("COPYRIGHT"))?.trim_start();
    let claims =
        ["(c)", "(C)", "©"].iter().any(|sign| rest.starts_with(sign)) || rest.starts_with(|c: char| c.is_ascii_digit());
    let template = ["[yyyy]", "{yyyy}", "<year>", "[name of"].iter().any(|blank| rest.contains(blank));
    (claims && !template).then(|| line.split_whitespace().collect::<Vec<_>>().join(" "))
}

#[cfg(test)]
mod tests {
    use super::{copyright, generate, linked, metadata};

    #[test]
    fn committed_notices_are_up_to_date() {
        if let Err(error) = generate().expect("the crates are there").check() {
            panic!("{error}");
        }
    }

    #[test]
    fn tools_of_the_build_are_left_out() {
        let metadata = metadata().expect("cargo answers");
        let names = linked(&metadata, "onnxq").expect("onnxq is there").iter().map(|p| &*p.name).collect::<Vec<_>>();
        assert!(names.contains(&"prost") && names.contains(&"tract-core"), "{names:?}");
        assert!(!names.contains(&"protox") && !names.contains(&"insta") && !names.contains(&"cc"), "{names:?}");
    }

    #[test]
    fn copyright_lines_are_claims() {
        assert_eq!(copyright("  Copyright (c)  2017 A. Uthor ").as_deref(), Some("Copyright (c) 2017 A. Uthor"));
        assert_eq!(copyright("Copyright 2019 A").as_deref(), Some("Copyright 2019 A"));
        assert_eq!(copyright("   Copyright [yyyy] [name of copyright owner]"), None);
        assert_eq!(copyright("Copyright notice and this permission notice"), None);
        assert_eq!(copyright("copyright license to reproduce"), None);
    }
}
