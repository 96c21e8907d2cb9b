//! Tokens of the text form.

use std::borrow::Cow;

use super::error::{ParseError, Problem};
use super::quote::{begins_identifier, continues_identifier, is_float_word};

/// A token.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Token<'a> {
    /// An identifier, `inf` and `nan` among them.
    Word(&'a str),
    /// A quoted string, without quotes and escapes.
    Text(Cow<'a, str>),
    /// A number with its sign.
    Number(&'a str),
    /// One character.
    Mark(char),
    /// `=>`
    Arrow,
    /// The end of the text.
    End,
}

impl Token<'_> {
    /// The token as an error shows it.
    pub(super) fn shown(&self) -> String {
        match self {
            Self::Word(word) | Self::Number(word) => format!("`{}`", shortened(word)),
            Self::Text(text) => format!("`\"{}\"`", shortened(text).escape_debug()),
            Self::Mark(mark) => format!("`{mark}`"),
            Self::Arrow => "`=>`".to_owned(),
            Self::End => "the end of the text".to_owned(),
        }
    }
}

fn shortened(word: &str) -> Cow<'_, str> {
    const SHOWN: usize = 40;
    match word.char_indices().nth(SHOWN) {
        Some((end, _)) => format!("{}...", &word[..end]).into(),
        None => word.into(),
    }
}

/// Cuts a text into tokens, one at a time.
#[derive(Debug)]
pub(super) struct Lexer<'a> {
    text: &'a str,
    at: usize,
}

impl<'a> Lexer<'a> {
    pub(super) fn new(text: &'a str) -> Self {
        Self { text, at: 0 }
    }

    pub(super) fn text(&self) -> &'a str {
        self.text
    }

    /// The next token and where it begins.
    pub(super) fn next(&mut self) -> Result<(Token<'a>, usize), ParseError> {
        self.skip_blank();
        let start = self.at;
        let rest = &self.text[start..];
        let token = match rest.chars().next() {
            None => Token::End,
            Some('"') => self.quoted()?,
            Some(first) if begins_identifier(first) => Token::Word(self.take(run(rest, continues_identifier))),
            Some(first) if first.is_ascii_digit() => Token::Number(self.take(number(rest))),
            Some('-') => self.negative()?,
            Some('=') if rest.starts_with("=>") => {
                self.at += 2;
                Token::Arrow
            }
            Some(mark @ ('=' | '(' | ')' | '<' | '>' | '{' | '}' | '[' | ']' | ',' | ':' | '.' | '?' | '@')) => {
                self.at += 1;
                Token::Mark(mark)
            }
            Some(other) => return Err(Problem::Character(other).at(self.text, start)),
        };
        Ok((token, start))
    }

    /// Skips what separates tokens: white space and comments.
    fn skip_blank(&mut self) {
        loop {
            let rest = &self.text[self.at..];
            let skip = match rest.chars().next() {
                Some('#') => rest.find('\n').unwrap_or(rest.len()),
                Some(' ' | '\t' | '\n' | '\r' | '\u{b}' | '\u{c}') => 1,
                _ => return,
            };
            self.at += skip;
        }
    }

    fn take(&mut self, length: usize) -> &'a str {
        let taken = &self.text[self.at..self.at + length];
        self.at += length;
        taken
    }

    fn negative(&mut self) -> Result<Token<'a>, ParseError> {
        let magnitude = &self.text[self.at + 1..];
        let word = run(magnitude, |c| c.is_ascii_alphabetic());
        if magnitude.starts_with(|c: char| c.is_ascii_digit()) {
            Ok(Token::Number(self.take(1 + number(magnitude))))
        } else if is_float_word(&magnitude[..word]) {
            Ok(Token::Number(self.take(1 + word)))
        } else {
            Err(Problem::Character('-').at(self.text, self.at))
        }
    }

    fn quoted(&mut self) -> Result<Token<'a>, ParseError> {
        let start = self.at + 1;
        let mut unescaped = String::new();
        let mut plain = start;
        let mut chars = self.text[start..].char_indices();
        while let Some((offset, c)) = chars.next() {
            let here = start + offset;
            match c {
                '"' => {
                    self.at = here + 1;
                    let last = &self.text[plain..here];
                    return Ok(Token::Text(if plain == start { last.into() } else { (unescaped + last).into() }));
                }
                '\\' => {
                    unescaped.push_str(&self.text[plain..here]);
                    plain = here + 1;
                    chars.next();
                }
                _ => {}
            }
        }
        Err(Problem::OpenString.at(self.text, self.at))
    }
}

/// Bytes of the longest prefix whose characters all pass.
fn run(text: &str, passes: impl Fn(char) -> bool) -> usize {
    text.find(|c| !passes(c)).unwrap_or(text.len())
}

/// Bytes of the number that a text begins with: digits with at most one point, and an exponent.
fn number(text: &str) -> usize {
    let digits = |from: usize| from + run(&text[from..], |c| c.is_ascii_digit());
    let mut end = digits(0);
    if text[end..].starts_with('.') {
        end = digits(end + 1);
    }
    if text[end..].starts_with(['e', 'E']) {
        end += 1;
        if text[end..].starts_with(['+', '-']) {
            end += 1;
        }
        end = digits(end);
    }
    end
}
