//! Small matchers that read like the graph they match.
//!
//! ```
//! use onnxq_ir::pattern::{any, one_of, op, scalar};
//! // x * sigmoid(x)
//! let silu = op("Mul", [any("x"), op("Sigmoid", [any("x")])]);
//! // x / sqrt(2), however the exporter wrote it
//! let scaled = one_of([
//!     op("Div", [any("x"), scalar(std::f32::consts::SQRT_2)]),
//!     op("Mul", [any("x"), scalar(std::f32::consts::FRAC_1_SQRT_2)]),
//! ]);
//! # let _ = (silu, scaled);
//! ```
//! A pattern is anchored at a value and followed towards the inputs. Add and Mul match in both orders of their operands;
//! a name that stands twice must be the same value both times.

use crate::graph::Graph;
use crate::op::OpId;
use crate::value::ValueId;

/// What a value must be.
#[derive(Clone, Debug)]
pub enum Pattern {
    /// Any value, captured under this name.
    Any(&'static str),
    /// A constant, captured under this name.
    Constant(&'static str),
    /// A constant with one element close to this number (1e-3 relative: exporters round).
    Scalar(f32),
    /// The only output of ONNX's own operator of this type.
    Op {
        /// The operator type.
        op_type: &'static str,
        /// Its first inputs.
        inputs: Vec<Pattern>,
        /// The name under which the operator is captured.
        name: Option<&'static str>,
    },
    /// What the inner pattern matches, captured under this name as well.
    Named(&'static str, Box<Pattern>),
    /// The first of these that matches.
    OneOf(Vec<Pattern>),
}

/// Any value.
pub fn any(name: &'static str) -> Pattern {
    Pattern::Any(name)
}

/// A constant.
pub fn constant(name: &'static str) -> Pattern {
    Pattern::Constant(name)
}

/// A constant with one element.
pub fn scalar(number: f32) -> Pattern {
    Pattern::Scalar(number)
}

/// The output of an operator with these first inputs.
pub fn op<const N: usize>(op_type: &'static str, inputs: [Pattern; N]) -> Pattern {
    Pattern::Op { op_type, inputs: inputs.into(), name: None }
}

/// The first of these that matches.
pub fn one_of<const N: usize>(patterns: [Pattern; N]) -> Pattern {
    Pattern::OneOf(patterns.into())
}

impl Pattern {
    /// Captures the operator (of an operator pattern) or the value (of any other) under this name.
    #[must_use]
    pub fn named(self, name: &'static str) -> Self {
        match self {
            Self::Op { op_type, inputs, .. } => Self::Op { op_type, inputs, name: Some(name) },
            other => Self::Named(name, Box::new(other)),
        }
    }

    /// Matches at `value`, towards the inputs.
    pub fn find(&self, graph: &Graph, value: ValueId) -> Option<Match> {
        let mut found = Match::default();
        self.descend(graph, value, &mut found).then_some(found)
    }

    fn descend(&self, graph: &Graph, value: ValueId, found: &mut Match) -> bool {
        match self {
            Self::Any(name) => found.bind(name, value),
            Self::Constant(name) => graph.constant(value).is_some() && found.bind(name, value),
            Self::Scalar(number) => graph
                .constant(value)
                .and_then(crate::tensor::Tensor::scalar_f32)
                .is_some_and(|x| (x - number).abs() <= 1e-3 * number.abs()),
            Self::Named(name, inner) => inner.descend(graph, value, found) && found.bind(name, value),
            Self::OneOf(patterns) => {
                patterns.iter().any(|pattern| found.attempt(|found| pattern.descend(graph, value, found)))
            }
            Self::Op { op_type, inputs, name } => {
                let Some((producer, 0)) = graph.producer(value) else { return false };
                if !graph.op(producer).is(op_type) {
                    return false;
                }
                let given: Vec<ValueId> = graph.inputs_of(producer).into_iter().map_while(|input| input).collect();
                if given.len() < inputs.len() {
                    return false;
                }
                found.ops.push(producer);
                if let Some(name) = name {
                    found.named_ops.push((name, producer));
                }
                let commutes = inputs.len() == 2 && matches!(*op_type, "Add" | "Mul");
                found.attempt(|found| pairwise(graph, inputs, &given, found))
                    || (commutes && found.attempt(|found| pairwise(graph, inputs, &[given[1], given[0]], found)))
            }
        }
    }
}

fn pairwise(graph: &Graph, patterns: &[Pattern], values: &[ValueId], found: &mut Match) -> bool {
    patterns.iter().zip(values).all(|(pattern, &value)| pattern.descend(graph, value, found))
}

/// What a pattern matched.
#[derive(Clone, Debug, Default)]
pub struct Match {
    values: Vec<(&'static str, ValueId)>,
    named_ops: Vec<(&'static str, OpId)>,
    ops: Vec<OpId>,
}

impl Match {
    /// The value captured under this name.
    ///
    /// # Panics
    /// Where the pattern has no such name.
    pub fn value(&self, name: &str) -> ValueId {
        self.try_value(name).unwrap_or_else(|| panic!("the pattern captures `{name}`"))
    }

    /// The value captured under this name, if that branch of the pattern matched.
    pub fn try_value(&self, name: &str) -> Option<ValueId> {
        self.values.iter().find(|(known, _)| *known == name).map(|&(_, value)| value)
    }

    /// The operator captured under this name, if that branch of the pattern matched.
    pub fn op(&self, name: &str) -> Option<OpId> {
        self.named_ops.iter().find(|(known, _)| *known == name).map(|&(_, op)| op)
    }

    /// The matched operators, the anchored one first, each once.
    pub fn ops(&self) -> Vec<OpId> {
        let mut seen = Vec::new();
        for &op in &self.ops {
            if !seen.contains(&op) {
                seen.push(op);
            }
        }
        seen
    }

    /// Whether nobody but the matched operators reads what they compute, the anchored value excepted.
    pub fn is_closed(&self, graph: &Graph) -> bool {
        let ops = self.ops();
        ops.iter().skip(1).all(|&op| {
            graph.outputs_of(op).into_iter().flatten().all(|value| {
                !graph.is_output(value) && graph.readers(value).iter().all(|reader| ops.contains(&reader.op))
            })
        })
    }

    fn bind(&mut self, name: &'static str, value: ValueId) -> bool {
        if let Some(known) = self.try_value(name) {
            return known == value;
        }
        self.values.push((name, value));
        true
    }

    /// Forgets what a branch captured when it fails.
    fn attempt(&mut self, branch: impl FnOnce(&mut Self) -> bool) -> bool {
        let lengths = (self.values.len(), self.named_ops.len(), self.ops.len());
        let matched = branch(self);
        if !matched {
            self.values.truncate(lengths.0);
            self.named_ops.truncate(lengths.1);
            self.ops.truncate(lengths.2);
        }
        matched
    }
}
