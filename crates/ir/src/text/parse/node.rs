//! The grammar of operators and their attributes.

use bytes::Bytes;

use super::super::error::Problem;
use super::super::lex::Token;
use super::super::quote::{is_float_word, is_type_word};
use super::super::syntax::{AttributeSyntax, AttributeValueSyntax, Name, NodeSyntax};
use super::{Parsed, Parser, is_float};
use crate::op::AttributeValue;

impl Parser<'_> {
    pub(super) fn node(&mut self) -> Parsed<NodeSyntax> {
        let mut label = String::new();
        if self.eats('[')? {
            if !self.is(']') {
                label = self.name("the name of a node")?.text;
            }
            self.expect(']')?;
        }
        if !matches!(self.token, Token::Word(_) | Token::Text(_) | Token::Mark('=' | ',')) {
            return Err(self.expected("the outputs of a node or `}`"));
        }
        let outputs = self.slots()?;
        self.expect('=')?;
        let (domain, op_type) = self.operator()?;
        let overload = if self.eats(':')? { self.name("an overload")?.text } else { String::new() };
        let mut attributes = self.attributes()?;
        self.expect('(')?;
        let inputs = self.slots()?;
        self.expect(')')?;
        if attributes.is_empty() {
            attributes = self.attributes()?;
        }
        Ok(NodeSyntax { label, domain, op_type, overload, attributes, inputs, outputs })
    }

    /// Names with commas between; nothing before a comma is an omitted one, nothing behind the last is none at all.
    fn slots(&mut self) -> Parsed<Vec<Name>> {
        let mut slots = Vec::new();
        loop {
            match &self.token {
                Token::Word(_) | Token::Text(_) => slots.push(self.name("the name of a value")?),
                Token::Mark(',') => slots.push(Name { text: String::new(), at: self.at }),
                _ => return Ok(slots),
            }
            if !self.eats(',')? {
                return Ok(slots);
            }
        }
    }

    /// The domain and the type of an operator, as in `com.microsoft.Gelu`.
    fn operator(&mut self) -> Parsed<(String, String)> {
        let mut domain = String::new();
        let mut op_type = self.name("the type of an operator")?.text;
        while self.eats('.')? {
            if !domain.is_empty() {
                domain.push('.');
            }
            domain.push_str(&op_type);
            op_type = self.name("the type of an operator")?.text;
        }
        Ok((domain, op_type))
    }

    fn attributes(&mut self) -> Parsed<Vec<AttributeSyntax>> {
        let mut attributes = Vec::new();
        if self.eats('<')? {
            loop {
                attributes.push(self.attribute()?);
                if !self.eats(',')? {
                    break;
                }
            }
            self.expect('>')?;
        }
        Ok(attributes)
    }

    fn attribute(&mut self) -> Parsed<AttributeSyntax> {
        let name = self.name("the name of an attribute")?.text;
        let kind = if self.eats(':')? { Some(self.kind()?) } else { None };
        self.expect('=')?;
        let value = if self.eats('[')? {
            let kind = match kind {
                Some((kind, Arity::Single)) if self.is(']') => return Err(self.expected(kind.description())),
                Some((kind, _)) => kind,
                None if self.is(']') => {
                    return Err(self.expected("an element (an empty list needs its type: `name: ints = []`)"));
                }
                None => self.kind_ahead()?,
            };
            self.values(kind)?
        } else {
            let kind = match kind {
                Some((_, Arity::List)) => return Err(self.expected("`[`")),
                Some((kind, Arity::Single)) => kind,
                None => self.kind_ahead()?,
            };
            self.value(kind)?
        };
        Ok(AttributeSyntax { name, value })
    }

    /// The annotated type of an attribute.
    fn kind(&mut self) -> Parsed<(Kind, Arity)> {
        let Token::Word(word) = self.token else { return Err(self.expected("the type of an attribute")) };
        let kind = match word {
            "int" => (Kind::Int, Arity::Single),
            "ints" => (Kind::Int, Arity::List),
            "float" => (Kind::Float, Arity::Single),
            "floats" => (Kind::Float, Arity::List),
            "string" => (Kind::Text, Arity::Single),
            "strings" => (Kind::Text, Arity::List),
            "tensor" => (Kind::Tensor, Arity::Single),
            "tensors" => (Kind::Tensor, Arity::List),
            "graph" => (Kind::Graph, Arity::Single),
            "graphs" => (Kind::Graph, Arity::List),
            "sparse_tensor" | "sparse_tensors" | "type_proto" | "type_protos" => {
                return Err(self.wrong(Problem::Unsupported("an attribute of this type")));
            }
            _ => return Err(self.expected("the type of an attribute, such as `ints` or `float`")),
        };
        self.advance()?;
        Ok(kind)
    }

    /// What the value that follows looks like.
    fn kind_ahead(&self) -> Parsed<Kind> {
        match &self.token {
            Token::Number(number) if is_float(number) => Ok(Kind::Float),
            Token::Number(_) => Ok(Kind::Int),
            Token::Text(_) => Ok(Kind::Text),
            Token::Word(word) if is_type_word(word) => Ok(Kind::Tensor),
            Token::Word(word) if is_float_word(word) => Ok(Kind::Float),
            Token::Word(_) => Ok(Kind::Graph),
            Token::Mark('@') => Err(self.wrong(Problem::Unsupported("a reference to a function's attribute"))),
            _ => Err(self.expected("the value of an attribute")),
        }
    }

    fn value(&mut self, kind: Kind) -> Parsed<AttributeValueSyntax> {
        Ok(AttributeValueSyntax::Plain(match kind {
            Kind::Int => AttributeValue::Int(self.int()?),
            Kind::Float => AttributeValue::Float(self.float()?),
            Kind::Text => AttributeValue::String(Bytes::from(self.string()?)),
            Kind::Tensor => AttributeValue::Tensor(self.constant()?),
            Kind::Graph => return Ok(AttributeValueSyntax::Graph(self.graph()?)),
        }))
    }

    /// The values of a list whose `[` is read.
    fn values(&mut self, kind: Kind) -> Parsed<AttributeValueSyntax> {
        Ok(AttributeValueSyntax::Plain(match kind {
            Kind::Int => AttributeValue::Ints(self.list_until(']', Self::int)?),
            Kind::Float => AttributeValue::Floats(self.list_until(']', Self::float)?),
            Kind::Text => AttributeValue::Strings(self.list_until(']', |parser| Ok(Bytes::from(parser.string()?)))?),
            Kind::Tensor => AttributeValue::Tensors(self.list_until(']', Self::constant)?),
            Kind::Graph => return Ok(AttributeValueSyntax::Graphs(self.list_until(']', Self::graph)?)),
        }))
    }
}

/// What an attribute holds.
#[derive(Clone, Copy, Debug)]
enum Kind {
    Int,
    Float,
    Text,
    Tensor,
    Graph,
}

impl Kind {
    fn description(self) -> &'static str {
        match self {
            Self::Int => "an integer",
            Self::Float => "a number",
            Self::Text => "a quoted string",
            Self::Tensor => "a tensor",
            Self::Graph => "a graph",
        }
    }
}

/// How many of it.
#[derive(Clone, Copy, Debug)]
enum Arity {
    Single,
    List,
}
