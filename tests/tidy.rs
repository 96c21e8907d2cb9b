//! The rules of the house that no compiler checks: who may depend on whom, what stays in its room, how files look.
//!
//! Every test names all that breaks its rule, with file and line.

use std::fmt::Write;
use std::path::Path;
use std::process::Command;

use serde_json::Value;

/// Which packages of ours a package may use: those below it.
const ARROWS: [(&str, &[&str]); 8] = [
    ("onnxq-numerics", &[]),
    ("onnxq-ir", &["onnxq-numerics"]),
    ("onnxq-plan", &["onnxq-numerics", "onnxq-ir"]),
    ("onnxq-engine", &["onnxq-numerics", "onnxq-ir", "onnxq-plan"]),
    ("onnxq-engine-ort", &["onnxq-ir", "onnxq-plan"]),
    ("onnxq-passes", &["onnxq-numerics", "onnxq-ir", "onnxq-plan"]),
    ("onnxq", &["onnxq-numerics", "onnxq-ir", "onnxq-plan", "onnxq-engine", "onnxq-engine-ort", "onnxq-passes"]),
    ("xtask", &[]),
];
/// Where tests may use more: passes are checked by execution.
const ARROWS_OF_TESTS: [(&str, &str); 1] = [("onnxq-passes", "onnxq-engine")];
/// A crate, the packages that may depend on it, and the folders whose code may name it.
const ROOMS: [(&str, &[&str], &[&str]); 4] = [
    ("ort", &["onnxq-engine-ort"], &["crates/engine-ort/", "src/engine.rs"]),
    ("tract", &["onnxq-engine"], &["crates/engine/"]),
    ("prost", &["onnxq"], &["src/onnx/"]),
    ("prost_build", &["xtask"], &["xtask/"]),
];
/// Generated.
const PROTO: &str = "src/onnx/proto.rs";
/// The only file with unsafe code: a memory map.
const UNSAFE: &str = "src/onnx/map.rs";
const MAX_LINES: usize = 800;
/// Names that say nothing of what is inside.
const EMPTY_NAMES: [&str; 7] = ["util", "utils", "common", "misc", "helper", "helpers", "stuff"];
/// A manual's headings, in this order.
const HEADINGS: [&str; 6] = ["Why", "Needs", "Effect", "Promise", "Declines", "Options"];

#[test]
fn arrows_point_only_downward() {
    let mut broken = String::new();
    for package in packages() {
        let Some((_, allowed)) = ARROWS.iter().find(|(name, _)| *name == package.name) else {
            writeln!(broken, "{}: its place among the packages is not written in tests/tidy.rs", package.name).unwrap();
            continue;
        };
        for (dependency, kind) in &package.dependencies {
            let is_ours = ARROWS.iter().any(|(name, _)| name == dependency);
            let for_tests = kind == "dev" && ARROWS_OF_TESTS.contains(&(&package.name, dependency));
            if is_ours && !allowed.contains(&dependency.as_str()) && !for_tests {
                writeln!(broken, "{} must not depend on {dependency} ({kind})", package.name).unwrap();
            }
        }
    }
    assert!(broken.is_empty(), "\n{broken}");
}

#[test]
fn engine_and_protobuf_stay_in_their_rooms() {
    let mut broken = String::new();
    for package in packages() {
        for (dependency, _) in &package.dependencies {
            let name = dependency.replace('-', "_");
            let room = ROOMS.iter().rev().find(|(room, ..)| is_part_of(&name, room));
            if room.is_some_and(|(_, packages, _)| !packages.contains(&package.name.as_str())) {
                writeln!(broken, "{} must not depend on {dependency}", package.name).unwrap();
            }
        }
    }
    for source in sources() {
        for (line, word) in source.words() {
            let room = ROOMS.iter().rev().find(|(room, ..)| is_part_of(word, room));
            if room.is_some_and(|(.., folders)| !folders.iter().any(|folder| source.path.starts_with(folder))) {
                writeln!(broken, "{}:{line}: `{word}` has a room of its own", source.path).unwrap();
            }
        }
    }
    assert!(broken.is_empty(), "\n{broken}");
}

/// Whether a name is that of a crate or of one of its family (`tract`, `tract_onnx`).
fn is_part_of(name: &str, family: &str) -> bool {
    name.strip_prefix(family).is_some_and(|rest| rest.is_empty() || rest.starts_with('_'))
}

#[test]
fn files_are_small_and_say_what_they_are_for() {
    let mut broken = String::new();
    for source in sources().iter().filter(|source| source.path != PROTO) {
        let lines = source.text.lines().count();
        if lines > MAX_LINES {
            writeln!(broken, "{}: {lines} lines, more than {MAX_LINES}", source.path).unwrap();
        }
        if !source.text.starts_with("//!") {
            writeln!(broken, "{}: does not begin with `//!`", source.path).unwrap();
        }
        let names = source.path.trim_end_matches(".rs").split('/');
        for name in names.filter(|name| EMPTY_NAMES.contains(name)) {
            writeln!(broken, "{}: `{name}` says nothing of what is inside", source.path).unwrap();
        }
    }
    assert!(broken.is_empty(), "\n{broken}");
}

#[test]
fn no_should_panic_and_no_unsafe() {
    let mut broken = String::new();
    for source in sources() {
        for (line, word) in source.words() {
            if word == "should_panic" || (word == "unsafe" && source.path != UNSAFE) {
                writeln!(broken, "{}:{line}: `{word}`", source.path).unwrap();
            }
        }
    }
    assert!(broken.is_empty(), "\n{broken}");
}

#[test]
fn every_pass_is_in_the_table_and_has_a_manual() {
    let sources = sources();
    let table = sources.iter().find(|source| source.path == "passes/src/table.rs").expect("the table of passes");
    let listed = listed_passes(table);
    let mut broken = String::new();
    for path in &listed {
        match sources.iter().find(|source| source.path == *path) {
            Some(pass) => check_manual(pass, &sources, &mut broken),
            None => writeln!(broken, "{path}: is in the table and not there").unwrap(),
        }
    }
    for source in sources.iter().filter(|source| is_in_a_family(&source.path)) {
        if source.code.contains("impl Pass for") && !listed.contains(&source.path) {
            writeln!(broken, "{}: has a pass that is not in passes/src/table.rs", source.path).unwrap();
        }
    }
    assert!(!listed.is_empty(), "no pass found in the table: has the form of its rows changed?");
    assert!(broken.is_empty(), "\n{broken}");
}

/// The files that rows like `"minmax" => assign/minmax::MinMax;` name.
fn listed_passes(table: &Source) -> Vec<String> {
    let rows = table.text.split_once("\npasses! {").map_or("", |(_, rows)| rows);
    let rows = rows.lines().take_while(|row| *row != "}").filter_map(|row| row.split_once("=>"));
    let files = rows.filter_map(|(_, row)| row.trim().split_once("::")).map(|(file, _)| file.replace(' ', ""));
    files.map(|file| format!("passes/src/{file}.rs")).collect()
}

/// Whether the file lies in `passes/src/FAMILY/`.
fn is_in_a_family(path: &str) -> bool {
    path.strip_prefix("passes/src/").is_some_and(|rest| rest.contains('/'))
}

fn check_manual(pass: &Source, sources: &[Source], broken: &mut String) {
    let manual: Vec<&str> = pass.text.lines().map_while(|line| line.strip_prefix("//!")).map(str::trim).collect();
    let headings: Vec<&str> = manual.iter().filter_map(|line| line.strip_prefix("# ")).collect();
    if headings != HEADINGS {
        writeln!(broken, "{}: the manual's headings are {headings:?}, not {HEADINGS:?}", pass.path).unwrap();
    }
    if manual.first().is_none_or(|summary| summary.is_empty() || summary.starts_with('#')) {
        writeln!(broken, "{}: the manual does not begin with what the pass does", pass.path).unwrap();
    }
    let family = pass.path.rsplit_once('/').map_or("", |(family, _)| family);
    let declines = manual.iter().skip_while(|line| **line != "# Declines").skip(1).take_while(|l| !l.starts_with("# "));
    for reason in declines.filter_map(|line| line.strip_prefix("- `")?.split_once("`:")).map(|(reason, _)| reason) {
        // Alone, or with what it means behind a colon.
        let forms = [format!("\"{reason}\""), format!("\"{reason}:")];
        let is_near = |source: &&Source| source.path.starts_with(family) || !is_in_a_family(&source.path);
        let mut near = sources.iter().filter(|source| source.path.starts_with("passes/src/")).filter(is_near);
        if !near.any(|source| forms.iter().any(|form| source.uncommented.contains(form))) {
            writeln!(broken, "{}: no code declines with `{reason}`", pass.path).unwrap();
        }
    }
}

#[test]
fn comments_and_texts_are_told_from_code() {
    let text = concat!(
        "a /* b /* c */ d */ e // f\n",
        "g \"h \\\" // i\" j r#\"k \" l\"# m\n",
        "'n' '\\'' b'o' fn p<'q>(r: &'q str) 's' t"
    );
    let source = Source::new("x.rs".to_owned(), text.to_owned());
    let words: Vec<(usize, &str)> = source.words().collect();
    let first = [(1, "a"), (1, "e"), (2, "g"), (2, "j"), (2, "m"), (3, "b"), (3, "fn"), (3, "p"), (3, "q")];
    assert_eq!(words, [&first[..], &[(3, "r"), (3, "q"), (3, "str"), (3, "t")]].concat());
    assert!(source.uncommented.contains("\"h \\\" // i\" j") && !source.uncommented.contains("// f"));
}

/// A package of the workspace with its direct dependencies and their kinds (`normal`, `dev`, `build`).
struct Package {
    name: String,
    dependencies: Vec<(String, String)>,
}

fn packages() -> Vec<Package> {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let arguments = ["metadata", "--offline", "--format-version", "1", "--no-deps"];
    let output = Command::new(cargo).args(arguments).current_dir(root()).output().expect("cargo runs");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let metadata: Value = serde_json::from_slice(&output.stdout).expect("cargo writes JSON");
    let text = |value: &Value| value.as_str().expect("a text").to_owned();
    let dependency = |value: &Value| {
        let kind = value["kind"].as_str().unwrap_or("normal");
        (text(&value["name"]), kind.to_owned())
    };
    let package = |value: &Value| Package {
        name: text(&value["name"]),
        dependencies: value["dependencies"].as_array().expect("a list").iter().map(dependency).collect(),
    };
    metadata["packages"].as_array().expect("a list").iter().map(package).collect()
}

/// A Rust file of the repository.
struct Source {
    /// From the root, with `/`.
    path: String,
    text: String,
    /// Without comments, and without what stands in quotes.
    code: String,
    /// Without comments.
    uncommented: String,
}

impl Source {
    fn new(path: String, text: String) -> Self {
        let (mut code, mut uncommented) = (String::new(), String::new());
        let mut rest = text.as_str();
        let mut before = ' ';
        while !rest.is_empty() {
            let (kind, length) = piece(rest, before);
            let (now, later) = rest.split_at(length);
            // Line breaks stay, so that lines can be counted.
            let breaks = "\n".repeat(now.matches('\n').count());
            code.push_str(if kind == Piece::Code { now } else { &breaks });
            if kind != Piece::Code {
                code.push(' ');
            }
            uncommented.push_str(if kind == Piece::Comment { &breaks } else { now });
            before = now.chars().next_back().unwrap_or(' ');
            rest = later;
        }
        Self { path, text, code, uncommented }
    }

    /// Identifiers and keywords with their lines.
    fn words(&self) -> impl Iterator<Item = (usize, &str)> {
        let lines = self.code.lines().zip(1..);
        lines.flat_map(|(text, line)| {
            let words = text.split(|c: char| !is_word(c)).filter(|word| !word.is_empty());
            words.map(move |word| (line, word))
        })
    }
}

#[derive(PartialEq, Eq)]
enum Piece {
    Code,
    Comment,
    Quoted,
}

fn is_word(c: char) -> bool {
    c.is_alphanumeric() || c == '_'
}

/// The kind and length of what a text begins with, at least one character of it.
fn piece(text: &str, before: char) -> (Piece, usize) {
    let first = text.chars().next().map_or(0, char::len_utf8);
    if text.starts_with("//") {
        return (Piece::Comment, text.find('\n').unwrap_or(text.len()));
    }
    if text.starts_with("/*") {
        return (Piece::Comment, block_comment(text));
    }
    if text.starts_with('"') {
        return (Piece::Quoted, quoted(text, '"'));
    }
    if text.starts_with('r') && !is_word(before) || text.starts_with('r') && matches!(before, 'b' | 'c') {
        let hashes = text[1..].len() - text[1..].trim_start_matches('#').len();
        if text[1 + hashes..].starts_with('"') {
            let end = format!("\"{}", "#".repeat(hashes));
            let inside = &text[2 + hashes..];
            let length = inside.find(&end).map_or(inside.len(), |at| at + end.len());
            return (Piece::Quoted, 2 + hashes + length);
        }
    }
    if let Some(inside) = text.strip_prefix('\'') {
        // Otherwise it is a lifetime.
        let is_character = inside.starts_with('\\') || inside.chars().nth(1) == Some('\'');
        if is_character {
            return (Piece::Quoted, quoted(text, '\''));
        }
    }
    (Piece::Code, first)
}

fn block_comment(text: &str) -> usize {
    let (mut depth, mut at) = (0, 0);
    while at < text.len() {
        let rest = &text[at..];
        if rest.starts_with("/*") {
            (depth, at) = (depth + 1, at + 2);
        } else if rest.starts_with("*/") {
            (depth, at) = (depth - 1, at + 2);
        } else {
            at += rest.chars().next().map_or(1, char::len_utf8);
        }
        if depth == 0 {
            break;
        }
    }
    at
}

/// The length of a text or character in quotes, with escapes.
fn quoted(text: &str, mark: char) -> usize {
    let mut is_escaped = false;
    for (at, c) in text.char_indices().skip(1) {
        if !is_escaped && c == mark {
            return at + 1;
        }
        is_escaped = !is_escaped && c == '\\';
    }
    text.len()
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// Every Rust file of the repository, in the order of their paths; build folders and hidden ones aside.
fn sources() -> Vec<Source> {
    let mut files = Vec::new();
    let mut folders = vec![root().to_path_buf()];
    while let Some(folder) = folders.pop() {
        for entry in folder.read_dir().expect("a folder of the repository").flatten() {
            let (path, name) = (entry.path(), entry.file_name().to_string_lossy().into_owned());
            let kind = entry.file_type().expect("a file of the repository");
            // Build folders lie beside a manifest; `src/target` is none.
            let is_build = name == "target" && folder.join("Cargo.toml").is_file();
            if kind.is_dir() && !name.starts_with('.') && !is_build {
                folders.push(path);
            } else if kind.is_file() && path.extension().is_some_and(|extension| extension == "rs") {
                files.push(path);
            }
        }
    }
    files.sort();
    files.iter().map(|file| read(file)).collect()
}

fn read(file: &Path) -> Source {
    let text = std::fs::read_to_string(file).unwrap_or_else(|error| panic!("{}: {error}", file.display()));
    let path = file.strip_prefix(root()).expect("a path below the root");
    let parts: Vec<String> = path.iter().map(|part| part.to_string_lossy().into_owned()).collect();
    Source::new(parts.join("/"), text)
}
