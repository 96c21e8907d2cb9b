//! The text form of models, in ONNX's own textual syntax: what fixtures are written in and what snapshots print.
//!
//! Knows the grammar and the IR, not what operators mean: names are resolved, everything else is for
//! [`crate::verify::verify`]. What the IR doesn't look into (opaque attributes, types other than tensors, sparse initializers,
//! local functions) is printed as a comment and can't be read. Documentation, producer and metadata are read and dropped.
//!
//! Where ONNX's syntax has no word for something that a file may hold, the text goes one step further than
//! `onnx.parser`: operator types, attribute names and domains may be quoted, and so may the name of a body, behind
//! `: graph`. Sign and payload of a NaN beyond one sign bit are not kept.

mod constant;
mod error;
mod lex;
mod parse;
mod print;
mod quote;
mod resolve;
mod syntax;
#[cfg(test)]
mod tests;

pub use error::{ParseError, Problem};
pub use print::{Weights, print, print_graph};

use crate::model::Model;

/// Reads a model from its text.
///
/// # Errors
/// The first thing that is wrong, with its line and column. Names must be defined, once, in the graph that reads them
/// or in one around it; the order of the operators doesn't matter.
pub fn parse(text: &str) -> Result<Model, ParseError> {
    let model = parse::Parser::new(text)?.model()?;
    resolve::model(model, text)
}

/// The comments before the model's text, line by line, without the `#` and the space around.
pub fn header_comments(text: &str) -> Vec<String> {
    text.lines()
        .map(str::trim)
        .filter(|line| !line.is_empty())
        .map_while(|line| line.strip_prefix('#'))
        .map(|comment| comment.trim().to_owned())
        .collect()
}
