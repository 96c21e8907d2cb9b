//! Makes one Linear of a Gemm, or of a MatMul with the Add behind it.
//!
//! # Why
//! Exporters write the same layer as Gemm, as MatMul, or as MatMul and Add in either order of operands. Passes that change
//! weights see one operator with a weight and a bias. It expands to just what it was made from.
//!
//! # Needs
//! Nothing.
//!
//! # Effect
//! A Gemm with a constant weight and a constant bias per column becomes Linear; factors alpha and beta are multiplied into
//! these. So does a MatMul with a constant matrix on the right; an Add of a constant with one element per column is
//! taken along if nobody else reads the product, and unless the target has every operator of a graph in codes: there the Add
//! is one of its own.
//!
//! # Promise
//! Exact.
//!
//! # Declines
//! - `computed-weight`: neither operand is a constant of rank 2.
//! - `weight-left`: the constant is the first operand.
//! - `transposed-input`: the Gemm transposes its first input.
//! - `bias-shape`: what the Gemm adds is computed or not one number per column.
//! - `not-float`: the weight or the bias is neither float32, float16 nor bfloat16.
//!
//! # Options
//! None.

use onnxq_ir::ops::{Gemm, Linear, MatMul};
use onnxq_ir::{Graph, OpId, Patch, Tensor, ValueId};
use onnxq_plan::{OperatorKind, Target};
use serde::{Deserialize, Serialize};

use super::replace::{only_reader, stand_in, take_over};
use crate::pass::{Context, Pass, PassError, Promise};

/// What a recipe can set: nothing.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub(crate) struct LinearForm {}

impl Pass for LinearForm {
    fn promise(&self) -> Promise {
        Promise::Exact
    }

    fn run(&self, cx: &mut Context<'_>) -> Result<(), PassError> {
        let sum = Sum::on(cx.target);
        for op in cx.ops() {
            let graph = cx.graph();
            let result = if let Some(gemm) = Gemm::at(graph, op) {
                from_gemm(graph, &gemm)
            } else if let Some(mat_mul) = MatMul::at(graph, op) {
                from_mat_mul(graph, &mat_mul, sum)
            } else {
                continue;
            };
            match result {
                Ok(patch) => cx.apply(patch)?,
                Err(reason) => cx.decline(op, reason),
            }
        }
        Ok(())
    }
}

const RULE: &str = "linear-form";

const NOT_FLOAT: Reason = "not-float";

/// What becomes of an Add behind a MatMul.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Sum {
    /// It is the bias of the Linear.
    Bias,
    /// It stays an operator.
    Operator,
}

impl Sum {
    fn on(target: &Target) -> Self {
        let is_operator = target.rule(OperatorKind::Add).is_some_and(|rule| rule.placement.is_whole());
        if is_operator { Self::Operator } else { Self::Bias }
    }
}

type Reason = &'static str;

/// A weight `[K, N]` of floats.
fn matrix(graph: &Graph, weight: ValueId) -> Result<&Tensor, Reason> {
    let tensor = graph.constant(weight).filter(|tensor| tensor.rank() == 2).ok_or("computed-weight")?;
    Some(tensor).filter(|tensor| tensor.element().fits_f32()).ok_or(NOT_FLOAT)
}

fn from_gemm(graph: &Graph, gemm: &Gemm) -> Result<Patch, Reason> {
    let op = Linear::of_gemm(graph, gemm.op).ok_or("transposed-input")?;
    let weight = matrix(graph, gemm.b)?;
    let columns = weight.shape()[usize::from(!gemm.trans_b)];
    let bias = match gemm.c {
        Some(c) => Some((c, summand(graph, c, columns, gemm.beta)?)),
        None => None,
    };
    let mut patch = Patch::new(graph, RULE, gemm.op);
    let mut inputs = graph.inputs_of(gemm.op);
    if gemm.alpha != 1.0 {
        let scaled = scaled(weight, gemm.alpha).ok_or(NOT_FLOAT)?;
        inputs[Gemm::B] = Some(patch.constant(graph, graph.value(gemm.b).name(), scaled));
    }
    if let Some((c, Some(tensor))) = bias {
        inputs[Gemm::C] = Some(patch.constant(graph, graph.value(c).name(), tensor));
    }
    take_over(&mut patch, graph, gemm.op, op, &inputs, &[gemm.op]);
    Ok(patch)
}

/// What `beta c` adds to every row; `None` where that is `c` as it stands.
fn summand(graph: &Graph, c: ValueId, columns: usize, beta: f32) -> Result<Option<Tensor>, Reason> {
    let tensor = graph.constant(c).ok_or("bias-shape")?;
    let elements = tensor.floats().ok_or(NOT_FLOAT)?;
    let row = match *tensor.shape() {
        [n] if n == columns && beta == 1.0 => return Ok(None),
        [] | [1] | [1, 1] => tensor.with_floats(vec![columns], vec![elements[0]; columns]).ok_or(NOT_FLOAT)?,
        [n] | [1, n] if n == columns => tensor.reshaped(vec![columns]).map_err(|_| "bias-shape")?,
        _ => return Err("bias-shape"),
    };
    scaled(&row, beta).map(Some).ok_or(NOT_FLOAT)
}

/// The tensor times a number, each element rounded once.
fn scaled(tensor: &Tensor, factor: f32) -> Option<Tensor> {
    let elements = tensor.floats()?;
    let scaled = elements.iter().map(|&x| (f64::from(x) * f64::from(factor)) as f32).collect();
    tensor.with_floats(tensor.shape().to_vec(), scaled)
}

fn from_mat_mul(graph: &Graph, mat_mul: &MatMul, sum: Sum) -> Result<Patch, Reason> {
    if graph.constant(mat_mul.a).is_some() {
        return Err("weight-left");
    }
    let columns = matrix(graph, mat_mul.b)?.shape()[1];
    if sum == Sum::Bias
        && let Some((add, bias)) = added_bias(graph, mat_mul.op, columns)
        && let Some(op) = Linear::of_mat_mul_add(graph, mat_mul.op, add)
    {
        let mut patch = Patch::new(graph, RULE, add);
        let inputs = [Some(mat_mul.a), Some(mat_mul.b), Some(bias)];
        take_over(&mut patch, graph, add, op, &inputs, &[add, mat_mul.op]);
        return Ok(patch);
    }
    let op = Linear::of_mat_mul(graph, mat_mul.op).ok_or("computed-weight")?;
    Ok(stand_in(graph, RULE, mat_mul.op, op))
}

/// The Add that alone reads the product, and the constant of one number per column that it adds.
fn added_bias(graph: &Graph, mat_mul: OpId, columns: usize) -> Option<(OpId, ValueId)> {
    let product = graph.output(mat_mul, 0)?;
    let add = only_reader(graph, product).filter(|&op| graph.op(op).is("Add"))?;
    let bias = graph.inputs_of(add).into_iter().flatten().find(|&input| input != product)?;
    let tensor = graph.constant(bias)?;
    (tensor.shape() == [columns] && tensor.element().fits_f32()).then_some((add, bias))
}

#[cfg(test)]
mod tests {
    use crate::testing::{check, check_declined};

    #[test]
    fn float16() {
        check!("linear-form/float16");
    }

    #[test]
    fn gemm() {
        check!("linear-form/gemm");
    }

    #[test]
    fn gemm_factors() {
        check!("linear-form/gemm_factors");
    }

    #[test]
    fn mat_mul_add() {
        check!("linear-form/mat_mul_add");
    }

    #[test]
    fn bias_first() {
        check!("linear-form/bias_first");
    }

    #[test]
    fn product_read_twice() {
        check!("linear-form/product_read_twice");
    }

    #[test]
    fn computed_weight() {
        check_declined!("linear-form/computed_weight", "computed-weight");
    }

    #[test]
    fn weight_left() {
        check_declined!("linear-form/weight_left", "weight-left");
    }

    #[test]
    fn transposed_input() {
        check_declined!("linear-form/transposed_input", "transposed-input");
    }

    #[test]
    fn bias_shape() {
        check_declined!("linear-form/bias_shape", "bias-shape");
    }

    #[test]
    fn not_float() {
        check_declined!("linear-form/not_float", "not-float");
    }
}
