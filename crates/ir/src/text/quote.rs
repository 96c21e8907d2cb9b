//! When a name can stand as it is, and how it is quoted where it can't.

use std::fmt;

use crate::types::ElementType;

/// A name of a value, graph, node or dimension: as it is where the grammar can't take it for something else.
pub(super) struct Id<'a>(pub(super) &'a str);

impl fmt::Display for Id<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if is_plain(self.0) { f.write_str(self.0) } else { Quoted(self.0).fmt(f) }
    }
}

/// A name that stands where nothing but a name can: an operator type or an attribute's name.
pub(super) struct Word<'a>(pub(super) &'a str);

impl fmt::Display for Word<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if is_identifier(self.0) { f.write_str(self.0) } else { Quoted(self.0).fmt(f) }
    }
}

/// A quoted string. The syntax escapes quotes and backslashes and nothing else: a line break is kept as one.
pub(super) struct Quoted<'a>(pub(super) &'a str);

impl fmt::Display for Quoted<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("\"")?;
        for part in self.0.split_inclusive(['"', '\\']) {
            match part.strip_suffix(['"', '\\']) {
                Some(plain) => write!(f, "{plain}\\{}", &part[plain.len()..])?,
                None => f.write_str(part)?,
            }
        }
        f.write_str("\"")
    }
}

/// Whether a name needs no quotes even where a type, a number or a graph could stand.
pub(super) fn is_plain(name: &str) -> bool {
    is_identifier(name) && !is_type_word(name) && !is_float_word(name)
}

/// Whether a name is an identifier of the syntax.
pub(super) fn is_identifier(name: &str) -> bool {
    name.starts_with(begins_identifier) && name.chars().all(continues_identifier)
}

pub(super) fn begins_identifier(c: char) -> bool {
    c.is_ascii_alphabetic() || c == '_'
}

pub(super) fn continues_identifier(c: char) -> bool {
    c.is_ascii_alphanumeric() || c == '_'
}

/// Whether a word begins a type.
pub(super) fn is_type_word(word: &str) -> bool {
    ElementType::from_name(word).is_some() || matches!(word, "seq" | "map" | "optional" | "sparse_tensor" | "opaque")
}

/// Whether a word is a float.
pub(super) fn is_float_word(word: &str) -> bool {
    ["inf", "infinity", "nan"].iter().any(|float| word.eq_ignore_ascii_case(float))
}
