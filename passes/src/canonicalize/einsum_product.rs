//! Makes a MatMul of an Einsum that multiplies by a constant matrix.
//!
//! # Why
//! `bij,jk->bik` is a linear layer, which no quantizer sees and no integer kernel computes as long as it is an Einsum.
//!
//! # Needs
//! Nothing.
//!
//! # Effect
//! An Einsum of two operands whose second is a constant matrix becomes a MatMul, if it sums over the last axis of the first
//! operand and one of the matrix, and puts the matrix's other axis in its place. A matrix that stands the other way is
//! transposed.
//!
//! # Promise
//! Exact.
//!
//! # Declines
//! - `no-product`: it sums over other axes, or its output has another order.
//! - `computed-weight`: the second operand is no constant matrix of floats.
//!
//! # Options
//! None.

use onnxq_ir::ops::Einsum;
use onnxq_ir::{Graph, Op, Patch};
use serde::{Deserialize, Serialize};

use super::replace::take_over;
use crate::pass::{Context, Pass, PassError, Promise};

/// What a recipe can set: nothing.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub(crate) struct EinsumProduct {}

impl Pass for EinsumProduct {
    fn promise(&self) -> Promise {
        Promise::Exact
    }

    fn run(&self, cx: &mut Context<'_>) -> Result<(), PassError> {
        for op in cx.ops() {
            let Some(einsum) = Einsum::at(cx.graph(), op) else { continue };
            match product(cx.graph(), &einsum) {
                Ok(patch) => cx.apply(patch)?,
                Err(reason) => cx.decline(op, reason),
            }
        }
        Ok(())
    }
}

/// How the matrix stands.
enum Form {
    /// `[K, N]`
    Plain,
    /// `[N, K]`
    Transposed,
}

fn product(graph: &Graph, einsum: &Einsum) -> Result<Patch, &'static str> {
    let form = form(einsum).ok_or("no-product: it is no product with a matrix on the right")?;
    let &[x, weight] = einsum.operands.as_slice() else { unreachable!("the form has two operands") };
    let matrix = graph.constant(weight).filter(|tensor| tensor.rank() == 2 && tensor.element().fits_f32());
    let computed = "computed-weight: its second operand is no constant matrix of floats";
    let matrix = matrix.ok_or(computed)?;
    let mut patch = Patch::new(graph, "einsum-product", einsum.op);
    let right = match form {
        Form::Plain => weight,
        Form::Transposed => {
            patch.constant(graph, graph.value(weight).name(), matrix.transposed(&[1, 0]).ok_or(computed)?)
        }
    };
    let name = graph.op(einsum.op).name().to_owned();
    take_over(
        &mut patch,
        graph,
        einsum.op,
        Op::new("", "MatMul", vec![]).named(name),
        &[Some(x), Some(right)],
        &[einsum.op],
    );
    Ok(patch)
}

/// How the second operand stands, where the equation is a product with a matrix on the right.
fn form(einsum: &Einsum) -> Option<Form> {
    let [x, weight] = einsum.labels.as_slice() else { return None };
    let (&summed, kept) = x.split_last()?;
    let (&new, front) = einsum.output.split_last()?;
    let mut seen = x.clone();
    seen.sort_unstable();
    seen.dedup();
    if seen.len() != x.len() || kept != front || x.contains(&new) || kept.is_empty() {
        return None;
    }
    match *weight.as_slice() {
        [a, b] if (a, b) == (summed, new) => Some(Form::Plain),
        [a, b] if (a, b) == (new, summed) => Some(Form::Transposed),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use crate::testing::{check, check_declined};

    #[test]
    fn products() {
        check!("einsum-product/products");
    }

    #[test]
    fn scores() {
        check_declined!("einsum-product/scores", "no-product: it is no product with a matrix on the right");
    }

    #[test]
    fn computed_weight() {
        check_declined!(
            "einsum-product/computed_weight",
            "computed-weight: its second operand is no constant matrix of floats"
        );
    }
}
