//! What can be wrong with a text, and where.

use crate::tensor::TensorError;

/// A text that is no model.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("line {line}, column {column}: {problem}")]
pub struct ParseError {
    /// The line, from 1.
    pub line: usize,
    /// The column, from 1, in characters.
    pub column: usize,
    /// What is wrong there.
    pub problem: Problem,
}

/// What is wrong with a text.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum Problem {
    /// The grammar asks for something else.
    #[error("expected {expected}, found {found}")]
    Expected {
        /// What the grammar asks for.
        expected: String,
        /// What stands there, in backticks if it is a token.
        found: String,
    },
    /// A character that begins no token.
    #[error("`{}` begins no token; quote names that have it", .0.escape_debug())]
    Character(char),
    /// A quoted string that never ends.
    #[error("the string that begins here has no closing quote")]
    OpenString,
    /// A number outside of its type.
    #[error("`{literal}` is out of range for {of}")]
    Range {
        /// The number as written.
        literal: String,
        /// The type it should have.
        of: &'static str,
    },
    /// A constant whose elements don't fit its shape.
    #[error("a constant of this shape has {need} elements, not {have}")]
    Count {
        /// Elements that the shape asks for; a complex number is two.
        need: usize,
        /// Elements that are there.
        have: usize,
    },
    /// A constant that can't be built.
    #[error(transparent)]
    Tensor(#[from] TensorError),
    /// Graphs within graphs, too deep.
    #[error("graphs are nested more than {0} deep")]
    TooDeep(usize),
    /// A name that nothing defines.
    #[error("`{}` is neither an input, an initializer nor an operator's output, here or in a graph around", .0.escape_debug())]
    Undefined(String),
    /// A name that two things define.
    #[error("`{}` is defined twice in this graph", .0.escape_debug())]
    Twice(String),
    /// Syntax that `onnx.parser` knows but that can't be read here.
    #[error("{0} can't be read from text; read the model from a file instead")]
    Unsupported(&'static str),
}

impl Problem {
    /// The problem, `at` bytes into the text.
    pub(super) fn at(self, text: &str, at: usize) -> ParseError {
        let before = &text[..at];
        let line_start = before.rfind('\n').map_or(0, |newline| newline + 1);
        ParseError {
            line: before.matches('\n').count() + 1,
            column: before[line_start..].chars().count() + 1,
            problem: self,
        }
    }
}
