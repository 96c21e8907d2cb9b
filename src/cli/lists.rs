//! `onnxq passes | recipes | targets [NAME]`

use std::fmt::Write as _;

use onnxq_passes::{PASSES, PassInfo};

use super::args::ListArgs;
use super::say;
use crate::error::Error;
use crate::{recipe, target};

pub(crate) fn passes(args: &ListArgs) -> Result<(), Error> {
    let Some(name) = &args.name else {
        let mut text = String::new();
        let mut family = "";
        for pass in PASSES {
            if pass.family != family {
                family = pass.family;
                let _ = writeln!(text, "{family}");
            }
            let _ = writeln!(text, "  {:<22} {}", pass.name, pass.summary());
        }
        say(&text)?;
        return Ok(());
    };
    let pass = PassInfo::find(name).ok_or_else(|| {
        let known: Vec<&str> = PASSES.iter().map(|pass| pass.name).collect();
        Error::Option(format!("there is no pass `{name}`; there are {}", known.join(", ")))
    })?;
    say(&format!("{} ({})\n\n{}", pass.name, pass.family, pass.manual()))?;
    Ok(())
}

pub(crate) fn recipes(args: &ListArgs) -> Result<(), Error> {
    match &args.name {
        Some(name) => say(&recipe::text(name)?)?,
        None => say(&overview(recipe::RECIPES))?,
    }
    Ok(())
}

pub(crate) fn targets(args: &ListArgs) -> Result<(), Error> {
    match &args.name {
        Some(name) => say(&target::text(name)?)?,
        None => say(&overview(target::TARGETS))?,
    }
    Ok(())
}

/// Names and descriptions of embedded definitions.
fn overview(definitions: &[(&str, &str)]) -> String {
    let mut text = String::new();
    for (name, definition) in definitions {
        let description = toml::from_str::<toml::Table>(definition)
            .ok()
            .and_then(|table| Some(table.get("description")?.as_str()?.to_owned()))
            .unwrap_or_default();
        let _ = writeln!(text, "{name:<14} {description}");
    }
    text
}
