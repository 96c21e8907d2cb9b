//! The grammar of types and constants.

use bytes::Bytes;

use super::super::constant;
use super::super::error::Problem;
use super::super::lex::Token;
use super::super::quote::is_type_word;
use super::{Parsed, Parser};
use crate::tensor::Tensor;
use crate::types::{Dim, ElementType, TensorType};

impl Parser<'_> {
    pub(super) fn is_type(&self) -> bool {
        matches!(self.token, Token::Word(word) if is_type_word(word))
    }

    /// `element`, `element[]` or `element[dims]`: rank 0, unknown rank, known rank.
    pub(super) fn tensor_type(&mut self) -> Parsed<TensorType> {
        let Token::Word(word) = self.token else { return Err(self.expected("the type of a tensor")) };
        let Some(element) = ElementType::from_name(word) else {
            return Err(self.wrong(Problem::Unsupported("a type that is no tensor's")));
        };
        self.advance()?;
        if !self.eats('[')? {
            return Ok(TensorType { element, shape: Some(Vec::new()) });
        }
        let dims = self.list_until(']', Self::dim)?;
        Ok(TensorType { element, shape: (!dims.is_empty()).then_some(dims) })
    }

    fn dim(&mut self) -> Parsed<Dim> {
        match &self.token {
            Token::Mark('?') => {
                self.advance()?;
                Ok(Dim::Unknown)
            }
            Token::Number(number) => match number.parse() {
                Ok(size) => {
                    self.advance()?;
                    Ok(Dim::Known(size))
                }
                Err(_) => Err(self.expected("a size, a name or `?`")),
            },
            _ => Ok(Dim::Symbol(self.name("a size, a name or `?`")?.text)),
        }
    }

    /// `type name? '='? elements`
    pub(super) fn constant(&mut self) -> Parsed<Tensor> {
        let tensor_type = self.tensor_type()?;
        if matches!(self.token, Token::Word(_) | Token::Text(_)) {
            self.advance()?;
        }
        self.eats('=')?;
        self.elements(&tensor_type)
    }

    /// `'{' elements '}'`
    pub(super) fn elements(&mut self, tensor_type: &TensorType) -> Parsed<Tensor> {
        if self.is('[') {
            return Err(self.wrong(Problem::Unsupported("external data")));
        }
        let Some(shape) = tensor_type.fixed_shape() else {
            return Err(self.expected("a constant's shape to be fixed"));
        };
        let start = self.at;
        self.expect('{')?;
        let tensor = match tensor_type.element {
            ElementType::String => {
                let strings = self.list_until('}', |parser| Ok(Bytes::from(parser.string()?)))?;
                constant::strings(shape, strings)
            }
            element => {
                let mut elements = constant::Elements::new(element);
                self.list_until('}', |parser| match parser.literal().map(|literal| elements.push(literal)) {
                    Some(Ok(())) => parser.advance(),
                    Some(Err(problem)) => Err(parser.wrong(problem)),
                    None => Err(parser.expected("a number or `}`")),
                })?;
                elements.finish(shape)
            }
        };
        tensor.map_err(|problem| problem.at(self.lexer.text(), start))
    }
}
