//! FusedMatMul, and TransposeMatMul, its first form: `alpha * A' B'`.
//!
//! transBatchA puts A's first axis in front of its last one; transA then swaps the last two. B likewise. What has one axis is
//! never transposed.

use crate::op::{Attribute, Op, OpId};
use crate::ops::attributes::{constant_tensor, flag_or, float_or};
use crate::ops::expansion::Steps;
use crate::value::ValueId;

use super::{MALFORMED, Outcome, Unfusing};

/// One operand, and how its axes are to stand.
struct Operand {
    value: ValueId,
    /// `None`: as they do.
    perm: Option<Vec<usize>>,
}

pub(super) fn unfuse(at: &mut Unfusing<'_>, id: OpId) -> Outcome {
    let a = operand(at, id, 0, ["transA", "transBatchA"])?;
    let b = operand(at, id, 1, ["transB", "transBatchB"])?;
    let alpha = float_or(at.graph.op(id), "alpha", 1.0).ok_or(MALFORMED)?;
    let mut steps = at.steps(id, a.value)?;
    let inputs = [stand(&mut steps, &a, "left"), stand(&mut steps, &b, "right")];
    if alpha == 1.0 {
        steps.finish("MatMul", &inputs);
    } else {
        let product = steps.step("MatMul", &inputs, "product");
        let factor = steps.scalar(alpha.into());
        steps.finish("Mul", &[product, factor]);
    }
    Ok(())
}

fn operand(at: &Unfusing<'_>, id: OpId, slot: usize, names: [&str; 2]) -> Result<Operand, &'static str> {
    let op = at.graph.op(id);
    let value = at.input(id, slot)?;
    let [last, batch] = names.map(|name| flag_or(op, name, 0));
    let (last, batch) = (last.ok_or(MALFORMED)?, batch.ok_or(MALFORMED)?);
    if !last && !batch {
        return Ok(Operand { value, perm: None });
    }
    let rank = at.known.rank(value).ok_or("it transposes a value of which the number of axes is not known")?;
    let mut perm: Vec<usize> = (0..rank).collect();
    if batch && rank > 2 {
        perm[..rank - 1].rotate_left(1);
    }
    if last && rank > 1 {
        perm.swap(rank - 2, rank - 1);
    }
    Ok(Operand { value, perm: Some(perm) })
}

/// The operand as the product is to read it. A constant is transposed here and now.
fn stand(steps: &mut Steps<'_, '_>, operand: &Operand, part: &str) -> ValueId {
    let Some(perm) = &operand.perm else { return operand.value };
    let turned = constant_tensor(steps.graph(), operand.value).and_then(|tensor| tensor.transposed(perm));
    if let Some(tensor) = turned {
        return steps.constant(tensor, part);
    }
    let perm: Vec<i64> = perm.iter().map(|&axis| axis as i64).collect();
    steps.step_with(Op::new("", "Transpose", vec![Attribute::ints("perm", perm)]), &[operand.value], part)
}
