//! The command line: one file per command. What was typed stands in `args`, what it means is made in each command.

mod args;
mod compare;
mod info;
mod lists;
mod quantize;

use std::io::Write as _;
use std::process::ExitCode;

use clap::Parser as _;

use crate::error::Error;
use args::{Args, Command};

/// Runs the command that the process was started with.
pub fn main() -> ExitCode {
    let args = Args::parse();
    if let Err(error) = crate::onnx::output::clean_up_on_signals() {
        return fail(&Error::Broken(format!("signals can't be handled: {error}")));
    }
    let outcome = match args.command {
        Some(Command::Info(info)) => info::run(&info),
        Some(Command::Compare(compare)) => compare::run(&compare),
        Some(Command::Passes(list)) => lists::passes(&list),
        Some(Command::Recipes(list)) => lists::recipes(&list),
        Some(Command::Targets(list)) => lists::targets(&list),
        None => quantize::run(&args.quantize),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => fail(&error),
    }
}

fn fail(error: &Error) -> ExitCode {
    let _ = writeln!(std::io::stderr(), "onnxq: {error}");
    ExitCode::from(error.exit_code())
}

/// Prints to standard output; a reader that went away is no error.
fn say(text: &str) {
    let mut out = std::io::stdout().lock();
    let _ = out.write_all(text.as_bytes()).and_then(|()| out.flush());
}

/// Prints a note to standard error.
fn note(text: &str) {
    let _ = writeln!(std::io::stderr(), "onnxq: {text}");
}
