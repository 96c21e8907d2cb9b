//! What is wrong with the words of a command line, in one line like every other error.

use clap::error::{ContextKind, ContextValue, ErrorKind};

/// The parser's error in one line; `None` where help or the version was asked for, or nothing was typed at all.
pub(super) fn one_line(error: &clap::Error) -> Option<String> {
    let kind = error.kind();
    if matches!(
        kind,
        ErrorKind::DisplayHelp | ErrorKind::DisplayVersion | ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand
    ) {
        return None;
    }
    let words = |kind| error.get(kind).map(words).unwrap_or_default();
    let argument = words(ContextKind::InvalidArg);
    let option = option(&argument);
    let value = words(ContextKind::InvalidValue);
    Some(match kind {
        ErrorKind::UnknownArgument => match words(ContextKind::SuggestedArg) {
            near if near.is_empty() => format!("there is no option `{option}`; `onnxq --help` lists them"),
            near => format!("there is no option `{option}`; is `{near}` meant?"),
        },
        ErrorKind::InvalidValue if value.is_empty() => format!("`{option}` needs a value"),
        ErrorKind::InvalidValue => {
            format!("`{option} {value}`: there are {}", words(ContextKind::ValidValue))
        }
        ErrorKind::ValueValidation => {
            let reason = std::error::Error::source(error).map_or_else(String::new, ToString::to_string);
            format!("`{option} {value}`: {reason}")
        }
        ErrorKind::ArgumentConflict if value.is_empty() && error.get(ContextKind::InvalidSubcommand).is_some() => {
            let extra = words(ContextKind::InvalidSubcommand);
            format!("`{extra}` is one argument too many: give the model to read and the one to write")
        }
        ErrorKind::ArgumentConflict => format!("`{option}` may be given once"),
        ErrorKind::MissingRequiredArgument => {
            format!("`{argument}` is missing; see `onnxq --help`")
        }
        _ => first_paragraph(&error.render().to_string()),
    })
}

/// `--calib <DATA>` is `--calib`.
fn option(text: &str) -> &str {
    text.split_once(" <").map_or(text, |(name, _)| name)
}

fn words(value: &ContextValue) -> String {
    match value {
        ContextValue::String(text) => text.clone(),
        ContextValue::Strings(texts) => texts.join(", "),
        other => other.to_string(),
    }
}

fn first_paragraph(text: &str) -> String {
    let lines = text.lines().take_while(|line| !line.trim().is_empty());
    let line = lines.map(str::trim).collect::<Vec<_>>().join(" ");
    line.strip_prefix("error: ").unwrap_or(&line).to_owned()
}
