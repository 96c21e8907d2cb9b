//! Runtimes as data: embedded TOML files, and users' own by path.

use std::path::Path;

use onnxq_plan::{Target, read_target};

use crate::error::Error;

/// The embedded targets: name and text.
pub const TARGETS: &[(&str, &str)] = &[
    ("ort-cpu", include_str!("targets/ort-cpu.toml")),
    ("ort-cpu-novnni", include_str!("targets/ort-cpu-novnni.toml")),
    ("ort-arm", include_str!("targets/ort-arm.toml")),
    ("ort-cuda", include_str!("targets/ort-cuda.toml")),
    ("tensorrt", include_str!("targets/tensorrt.toml")),
    ("openvino", include_str!("targets/openvino.toml")),
    ("qnn", include_str!("targets/qnn.toml")),
    ("tract", include_str!("targets/tract.toml")),
    ("generic", include_str!("targets/generic.toml")),
];

/// The target's text: an embedded one by name, or a file.
pub fn text(name: &str) -> Result<String, Error> {
    match embedded(name) {
        Some(text) => Ok(text.to_owned()),
        None => crate::recipe::read_file("target", name, &TARGETS.iter().map(|(known, _)| *known).collect::<Vec<_>>()),
    }
}

fn embedded(name: &str) -> Option<&'static str> {
    TARGETS.iter().find(|(known, _)| *known == name).map(|(_, text)| *text)
}

/// The target: an embedded one by name, or a file's.
pub fn load(name: &str) -> Result<Target, Error> {
    parse(&text(name)?).map_err(|reason| Error::Definition { kind: "target", name: name.to_owned(), reason })
}

fn parse(text: &str) -> Result<Target, String> {
    read_target(text, embedded).map_err(|error| crate::error::toml_problem(text, &error))
}

/// Whether a name means a file.
pub(crate) fn is_path(name: &str) -> bool {
    Path::new(name).extension().is_some() || name.contains(std::path::MAIN_SEPARATOR)
}
