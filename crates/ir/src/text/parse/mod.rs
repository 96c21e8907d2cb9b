//! The grammar: from tokens to [`super::syntax`]. Knows no names, types or operators beyond their spelling.

mod node;
mod types;

use std::mem;

use super::constant;
use super::error::{ParseError, Problem};
use super::lex::{Lexer, Token};
use super::quote::is_float_word;
use super::syntax::{Declaration, GraphSyntax, ModelSyntax, Name};
use crate::model::OpsetImport;
use crate::types::{Carried, ValueType};

/// Graphs that may lie within each other, the model's own included.
const MAX_DEPTH: usize = 32;

type Parsed<T> = Result<T, ParseError>;

/// A recursive descent parser with one token of look-ahead. Only graphs recurse.
#[derive(Debug)]
pub(super) struct Parser<'a> {
    lexer: Lexer<'a>,
    token: Token<'a>,
    /// Where `token` begins.
    at: usize,
    depth: usize,
}

/// Models and graphs.
impl<'a> Parser<'a> {
    pub(super) fn new(text: &'a str) -> Parsed<Self> {
        let mut lexer = Lexer::new(text);
        let (token, at) = lexer.next()?;
        Ok(Self { lexer, token, at, depth: 0 })
    }

    pub(super) fn model(mut self) -> Parsed<ModelSyntax> {
        let mut ir_version = 0;
        let mut opsets = Vec::new();
        if self.eats('<')? {
            loop {
                self.header_entry(&mut ir_version, &mut opsets)?;
                if !self.eats(',')? {
                    break;
                }
            }
            self.expect('>')?;
        }
        let graph = self.graph()?;
        match self.token {
            Token::End => Ok(ModelSyntax { ir_version, opsets, graph }),
            Token::Mark('<') | Token::Word(_) | Token::Text(_) => {
                Err(self.wrong(Problem::Unsupported("a local function")))
            }
            _ => Err(self.expected("the end of the text")),
        }
    }

    fn header_entry(&mut self, ir_version: &mut i64, opsets: &mut Vec<OpsetImport>) -> Parsed<()> {
        let Token::Word(key) = self.token else { return Err(self.expected("a key of the model's header")) };
        match key {
            "ir_version" => {
                self.key()?;
                *ir_version = self.int()?;
            }
            "model_version" => {
                self.key()?;
                self.int()?;
            }
            "opset_import" => {
                self.key()?;
                *opsets = self.opsets()?;
            }
            "producer_name" | "producer_version" | "domain" | "doc_string" => {
                self.key()?;
                self.string()?;
            }
            "metadata_props" => {
                self.key()?;
                self.metadata()?;
            }
            _ => return Err(self.expected("a key of the model's header, such as `ir_version` or `opset_import`")),
        }
        Ok(())
    }

    fn key(&mut self) -> Parsed<()> {
        self.advance()?;
        self.expect(':')
    }

    fn opsets(&mut self) -> Parsed<Vec<OpsetImport>> {
        self.expect('[')?;
        self.list_until(']', |parser| {
            let domain = parser.string()?;
            parser.expect(':')?;
            Ok(OpsetImport { domain, version: parser.int()?, carried: Carried::default() })
        })
    }

    fn metadata(&mut self) -> Parsed<()> {
        self.expect('[')?;
        self.list_until(']', |parser| {
            parser.string()?;
            parser.expect(':')?;
            parser.string()
        })?;
        Ok(())
    }

    fn graph(&mut self) -> Parsed<GraphSyntax> {
        if self.depth == MAX_DEPTH {
            return Err(self.wrong(Problem::TooDeep(MAX_DEPTH)));
        }
        self.depth += 1;
        let name = self.name("the name of a graph")?.text;
        let inputs = if self.eats('(')? { self.list_until(')', Self::declaration)? } else { Vec::new() };
        if self.token != Token::Arrow {
            return Err(self.expected("`=>`"));
        }
        self.advance()?;
        self.expect('(')?;
        let outputs = self.list_until(')', |parser| {
            let output = parser.declaration()?;
            match output.elements {
                None => Ok(output),
                Some(_) => Err(Problem::Expected {
                    expected: "an output without elements".to_owned(),
                    found: "a constant".to_owned(),
                }
                .at(parser.lexer.text(), output.name.at)),
            }
        })?;
        let block = if self.eats('<')? { self.list_until('>', Self::declaration)? } else { Vec::new() };
        self.expect('{')?;
        let mut nodes = Vec::new();
        while !self.eats('}')? {
            nodes.push(self.node()?);
        }
        self.depth -= 1;
        Ok(GraphSyntax { name, inputs, outputs, block, nodes })
    }

    /// `type? name ('=' elements)?`
    fn declaration(&mut self) -> Parsed<Declaration> {
        let tensor_type = if self.is_type() { Some(self.tensor_type()?) } else { None };
        let name = self.name("a type or the name of a value")?;
        let elements = match &tensor_type {
            Some(tensor_type) if self.eats('=')? => Some(self.elements(tensor_type)?),
            _ => None,
        };
        Ok(Declaration { name, value_type: tensor_type.map_or(ValueType::Unknown, ValueType::Tensor), elements })
    }
}

/// Tokens.
impl<'a> Parser<'a> {
    fn advance(&mut self) -> Parsed<()> {
        self.bump().map(|_| ())
    }

    /// Goes on and returns the token that was passed.
    fn bump(&mut self) -> Parsed<Token<'a>> {
        let (token, at) = self.lexer.next()?;
        self.at = at;
        Ok(mem::replace(&mut self.token, token))
    }

    fn is(&self, mark: char) -> bool {
        self.token == Token::Mark(mark)
    }

    fn eats(&mut self, mark: char) -> Parsed<bool> {
        let there = self.is(mark);
        if there {
            self.advance()?;
        }
        Ok(there)
    }

    fn expect(&mut self, mark: char) -> Parsed<()> {
        if self.eats(mark)? { Ok(()) } else { Err(self.expected(&format!("`{mark}`"))) }
    }

    /// Items with commas between, and the mark that closes them.
    fn list_until<T>(&mut self, close: char, mut item: impl FnMut(&mut Self) -> Parsed<T>) -> Parsed<Vec<T>> {
        let mut items = Vec::new();
        if self.eats(close)? {
            return Ok(items);
        }
        loop {
            items.push(item(self)?);
            if self.eats(close)? {
                return Ok(items);
            }
            if !self.eats(',')? {
                return Err(self.expected(&format!("`,` or `{close}`")));
            }
        }
    }

    /// An identifier or a quoted name.
    fn name(&mut self, expected: &str) -> Parsed<Name> {
        if !matches!(self.token, Token::Word(_) | Token::Text(_)) {
            return Err(self.expected(expected));
        }
        let at = self.at;
        let text = match self.bump()? {
            Token::Text(text) => text.into_owned(),
            Token::Word(word) => word.to_owned(),
            _ => String::new(),
        };
        Ok(Name { text, at })
    }

    fn string(&mut self) -> Parsed<String> {
        match &self.token {
            Token::Text(_) => Ok(self.name("a quoted string")?.text),
            _ => Err(self.expected("a quoted string")),
        }
    }

    /// The number that stands here, not passed yet.
    fn literal(&self) -> Option<&'a str> {
        match self.token {
            Token::Number(number) => Some(number),
            Token::Word(word) if is_float_word(word) => Some(word),
            _ => None,
        }
    }

    fn int(&mut self) -> Parsed<i64> {
        let literal = self.literal().filter(|literal| !is_float(literal));
        let value = literal.ok_or_else(|| self.expected("an integer"))?;
        let value = constant::int(value).map_err(|problem| self.wrong(problem))?;
        self.advance()?;
        Ok(value)
    }

    fn float(&mut self) -> Parsed<f32> {
        let literal = self.literal().ok_or_else(|| self.expected("a number"))?;
        let value = constant::float(literal).map_err(|problem| self.wrong(problem))?;
        self.advance()?;
        Ok(value)
    }

    fn wrong(&self, problem: Problem) -> ParseError {
        problem.at(self.lexer.text(), self.at)
    }

    fn expected(&self, expected: &str) -> ParseError {
        self.wrong(Problem::Expected { expected: expected.to_owned(), found: self.token.shown() })
    }
}

/// Whether a literal is written as a float: with a point, an exponent, or as `inf` or `nan`.
fn is_float(literal: &str) -> bool {
    literal.contains(|c: char| c == '.' || c.is_ascii_alphabetic())
}
