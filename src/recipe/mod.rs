//! Methods as data: a recipe is a list of stages, each a pass with options. Embedded TOML files, and users' own by path.

use std::path::Path;

use onnxq_passes::{Override, Pass, PassInfo};
use onnxq_plan::Bits;
use serde::{Deserialize, Serialize};

use crate::error::Error;

/// The embedded recipes: name and text.
pub const RECIPES: &[(&str, &str)] = &[
    ("int8", include_str!("recipes/int8.toml")),
    ("repq", include_str!("recipes/repq.toml")),
    ("none", include_str!("recipes/none.toml")),
];

/// A recipe.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Recipe {
    /// The name, as `--recipe` takes it.
    pub name: String,
    /// One line for people.
    pub description: String,
    /// Where the method comes from.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub paper: Option<String>,
    /// Default bits.
    #[serde(deserialize_with = "bits_from", serialize_with = "bits_to")]
    pub bits: Bits,
    /// What is done, in order.
    #[serde(rename = "stage", default)]
    pub stages: Vec<Stage>,
    /// What is different for single nodes.
    #[serde(rename = "override", default, skip_serializing_if = "Vec::is_empty")]
    pub overrides: Vec<Override>,
}

/// One pass of a recipe.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Stage {
    /// The pass.
    pub pass: String,
    /// Whether `--calibrator` puts another range pass in its place.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub calibrator: bool,
    /// The pass's options.
    #[serde(default, skip_serializing_if = "toml::Table::is_empty")]
    pub options: toml::Table,
}

/// A stage that is ready to run.
pub struct Step {
    /// What is known about the pass.
    pub info: &'static PassInfo,
    /// The pass with its options.
    pub pass: Box<dyn Pass>,
}

impl Recipe {
    /// The recipe: an embedded one by name, or a file's.
    pub fn load(name: &str) -> Result<Self, Error> {
        let text = text(name)?;
        let recipe: Self = toml::from_str(&text).map_err(|error| Error::Definition {
            kind: "recipe",
            name: name.to_owned(),
            reason: crate::error::toml_problem(&text, &error),
        })?;
        recipe.steps().map_err(|error| error.in_definition(name))?;
        Ok(recipe)
    }

    /// Whether the recipe changes anything at all.
    pub fn is_none(&self) -> bool {
        self.stages.is_empty()
    }

    /// Whether the recipe has this pass.
    pub fn has_pass(&self, pass: &str) -> bool {
        self.stages.iter().any(|stage| stage.pass == pass)
    }

    /// The least SQNR in dB that the outputs must keep, where operators are given back for it.
    pub fn min_sqnr(&self) -> Option<f64> {
        let stage = self.stages.iter().find(|stage| stage.pass == "give-back")?;
        let least = stage.options.get("min-sqnr")?;
        least.as_float().or_else(|| least.as_integer().map(|least| least as f64))
    }

    /// Puts another range pass in the place that the recipe leaves open for it.
    pub fn set_calibrator(&mut self, calibrator: &str) -> Result<(), Error> {
        let Some(stage) = self.stages.iter_mut().find(|stage| stage.calibrator) else {
            let why = if self.is_none() { "quantizes nothing" } else { "has a search of its own" };
            return Err(Error::Option(format!(
                "recipe `{}` {why}: `--calibrator` does not apply, leave it out",
                self.name
            )));
        };
        calibrator.clone_into(&mut stage.pass);
        Ok(())
    }

    /// Makes codes of inputs and outputs, as `--io quantized` does: two stages more.
    pub fn quantize_io(&mut self) -> Result<(), Error> {
        for (pass, behind) in [("output-sites", "select-sites"), ("quantize-io", "insert-qdq")] {
            if self.stages.iter().any(|stage| stage.pass == pass) {
                continue;
            }
            let Some(place) = self.stages.iter().position(|stage| stage.pass == behind) else {
                return Err(Error::Option(format!(
                    "recipe `{}` has no stage `{behind}`: `--io quantized` does not apply, leave it out",
                    self.name
                )));
            };
            let stage = Stage { pass: pass.to_owned(), calibrator: false, options: toml::Table::new() };
            self.stages.insert(place + 1, stage);
        }
        Ok(())
    }

    /// Sets an option of a pass, as `--set pass.key=value` does.
    pub fn set(&mut self, assignment: &str) -> Result<(), Error> {
        let refuse = |reason: String| Error::Option(format!("`--set {assignment}`: {reason}"));
        let (path, value) = assignment.split_once('=').ok_or_else(|| refuse("give it as pass.key=value".to_owned()))?;
        let (pass, key) = path.split_once('.').ok_or_else(|| refuse("give it as pass.key=value".to_owned()))?;
        let names: Vec<&str> = self.stages.iter().map(|stage| stage.pass.as_str()).collect();
        if !names.contains(&pass) {
            return Err(refuse(format!("recipe `{}` has no pass `{pass}`; it has {}", self.name, names.join(", "))));
        }
        let value = parse_value(value);
        for stage in self.stages.iter_mut().filter(|stage| stage.pass == pass) {
            stage.options.insert(key.to_owned(), value.clone());
        }
        self.steps().map(drop).map_err(|error| refuse(error.to_string()))
    }

    /// The passes, made.
    pub fn steps(&self) -> Result<Vec<Step>, Error> {
        self.stages
            .iter()
            .map(|stage| {
                let info = PassInfo::find(&stage.pass).ok_or_else(|| Error::Definition {
                    kind: "recipe",
                    name: self.name.clone(),
                    reason: format!("there is no pass `{}`; `onnxq passes` lists them", stage.pass),
                })?;
                let pass = info.make(stage.options.clone()).map_err(|error| Error::Definition {
                    kind: "recipe",
                    name: self.name.clone(),
                    reason: error.to_string(),
                })?;
                Ok(Step { info, pass })
            })
            .collect()
    }
}

/// The recipe's text: an embedded one by name, or a file.
pub fn text(name: &str) -> Result<String, Error> {
    match RECIPES.iter().find(|(known, _)| *known == name) {
        Some((_, text)) => Ok((*text).to_owned()),
        None => read_file("recipe", name, &RECIPES.iter().map(|(known, _)| *known).collect::<Vec<_>>()),
    }
}

/// The text of a definition that is no embedded one.
pub(crate) fn read_file(kind: &'static str, name: &str, known: &[&str]) -> Result<String, Error> {
    if !crate::target::is_path(name) {
        return Err(Error::Definition {
            kind,
            name: name.to_owned(),
            reason: format!("there is none of that name; there are {}, or give a .toml file", known.join(", ")),
        });
    }
    std::fs::read_to_string(Path::new(name)).map_err(|error| Error::Definition {
        kind,
        name: name.to_owned(),
        reason: format!("can't be read: {error}"),
    })
}

/// A TOML value where it is one, else the text itself.
fn parse_value(text: &str) -> toml::Value {
    toml::from_str::<toml::Table>(&format!("value = {text}"))
        .ok()
        .and_then(|mut table| table.remove("value"))
        .unwrap_or_else(|| toml::Value::String(text.to_owned()))
}

fn bits_from<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<Bits, D::Error> {
    String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde asks for this signature")]
fn bits_to<S: serde::Serializer>(bits: &Bits, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(bits)
}
