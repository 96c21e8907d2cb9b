//! The command line: one file per command. What was typed stands in `args`, what it means is made in each command.

mod args;
mod compare;
mod info;
mod lint;
mod lists;
mod places;
mod quantize;
mod usage;

use std::io::Write as _;
use std::process::ExitCode;

use clap::Parser as _;

use crate::error::Error;
use args::{Args, Command};

/// Runs the command that the process was started with.
pub fn main() -> ExitCode {
    let args = match Args::try_parse() {
        Ok(args) => args,
        Err(error) => return misused(&error),
    };
    if let Err(error) = crate::onnx::output::clean_up_on_signals() {
        return fail(&Error::Broken(format!("signals can't be handled: {error}")));
    }
    // One line in place of the usual report, and the exit code of our own faults.
    std::panic::set_hook(Box::new(|panic| {
        let _ = writeln!(std::io::stderr(), "onnxq: {}", Error::Broken(panic.to_string().replace('\n', " ")));
    }));
    std::panic::catch_unwind(|| run(args)).unwrap_or(ExitCode::from(70))
}

fn run(args: Args) -> ExitCode {
    let outcome = match args.command {
        Some(Command::Info(info)) => info::run(&info),
        Some(Command::Compare(compare)) => compare::run(&compare),
        Some(Command::Lint(args)) => match lint::run(&args) {
            Ok(false) => return ExitCode::from(1),
            outcome => outcome.map(|_| ()),
        },
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

/// Help and version go out as they are, all else is an error like others.
fn misused(error: &clap::Error) -> ExitCode {
    match usage::one_line(error) {
        Some(text) => fail(&Error::Option(text)),
        None => {
            let _ = error.print();
            ExitCode::from(u8::try_from(error.exit_code()).unwrap_or(2))
        }
    }
}

fn fail(error: &Error) -> ExitCode {
    let _ = writeln!(std::io::stderr(), "onnxq: {error}");
    ExitCode::from(error.exit_code())
}

/// Prints to standard output; a reader that went away is no error.
fn say(text: &str) -> Result<(), Error> {
    let mut out = std::io::stdout().lock();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Err(error) if error.kind() != std::io::ErrorKind::BrokenPipe => {
            Err(Error::Option(format!("standard output can't be written: {error}")))
        }
        _ => Ok(()),
    }
}

/// Prints a note to standard error.
fn note(text: &str) {
    let _ = writeln!(std::io::stderr(), "onnxq: note: {text}");
}
