//! The factor and the summand that stand behind a normalised value.

use onnxq_ir::{Dim, ElementType, Graph, OpId, Patch, Tensor, ValueId};

use super::replace::only_reader;

/// A constant with one element per normalised position.
pub(super) enum Vector {
    /// An initializer as it stands.
    Known(ValueId),
    /// An initializer under another shape.
    Reshaped(ValueId, Tensor),
    /// One that the file has not: all ones.
    Ones(Tensor),
}

impl Vector {
    /// The initializer, made where there is none yet.
    pub(super) fn value(&self, graph: &Graph, patch: &mut Patch, hint: &str) -> ValueId {
        match self {
            Self::Known(value) => *value,
            Self::Reshaped(value, tensor) => patch.constant(graph, graph.value(*value).name(), tensor.clone()),
            Self::Ones(tensor) => patch.constant(graph, &format!("{hint}_scale"), tensor.clone()),
        }
    }
}

/// What is done to a normalised value.
pub(super) struct Affine {
    /// The factor.
    pub(super) scale: Vector,
    /// The summand.
    pub(super) bias: Option<Vector>,
    /// The operator that writes the result.
    pub(super) last: OpId,
    /// The operators between, `last` included, if they are not the one that normalises.
    pub(super) ops: Vec<OpId>,
}

/// Whether a summand is looked for.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Summand {
    Wanted,
    Unwanted,
}

impl Affine {
    /// Follows the value that `normaliser` writes through a Mul and an Add with constants of the normalised shape.
    pub(super) fn behind(graph: &Graph, normaliser: OpId, normalised: &[usize], summand: Summand) -> Option<Self> {
        let value = graph.output(normaliser, 0)?;
        let element = graph.tensor_type(value).map_or(ElementType::F32, |known| known.element);
        let ones = Tensor::of_floats(element, normalised.to_vec(), vec![1.0; normalised.iter().product()])?;
        let mut affine = Self { scale: Vector::Ones(ones), bias: None, last: normaliser, ops: Vec::new() };
        if let Some((mul, factor)) = constant_operand(graph, value, "Mul", normalised) {
            affine.scale = factor;
            affine.extend(mul);
        } else {
            // A summand alone is no form that an exporter writes.
            return Some(affine);
        }
        if summand == Summand::Wanted
            && let Some((add, bias)) = constant_operand(graph, graph.output(affine.last, 0)?, "Add", normalised)
        {
            affine.bias = Some(bias);
            affine.extend(add);
        }
        Some(affine)
    }

    fn extend(&mut self, op: OpId) {
        self.last = op;
        self.ops.push(op);
    }
}

/// The only reader of `value`, where that is an `op_type` with a constant of the normalised shape.
fn constant_operand(graph: &Graph, value: ValueId, op_type: &str, normalised: &[usize]) -> Option<(OpId, Vector)> {
    let reader = only_reader(graph, value).filter(|&op| graph.op(op).is(op_type))?;
    let other = graph.inputs_of(reader).into_iter().flatten().find(|&input| input != value)?;
    let tensor = graph.constant(other)?;
    let lead = tensor.rank().checked_sub(normalised.len())?;
    let fits = tensor.shape()[lead..] == *normalised && tensor.shape()[..lead].iter().all(|&n| n == 1);
    if !fits || (lead > 0 && graph.rank(value)? < tensor.rank()) {
        return None;
    }
    let vector = match lead {
        0 => Vector::Known(other),
        _ => Vector::Reshaped(other, tensor.reshaped(normalised.to_vec()).ok()?),
    };
    Some((reader, vector))
}

/// The sizes of the axes from `axis`, counted from the end, on; `None` where one is unknown.
pub(super) fn trailing_sizes(graph: &Graph, values: &[ValueId], axis: i64) -> Option<Vec<usize>> {
    values.iter().find_map(|&value| {
        let shape = graph.tensor_type(value)?.shape?;
        let first = shape.len().checked_sub(usize::try_from(-axis).ok()?)?;
        shape[first..].iter().map(Dim::known).collect()
    })
}
