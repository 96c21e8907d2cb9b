//! Operators between numbers that tract has for some types or parameters only.

use onnxq_ir::{Attribute, ElementType, Graph, Op, OpId, Patch, Tensor, ValueId, ops};

use super::{plain, take_over};
use crate::load::Upstream;
use crate::support::float;

/// Pow: the exponent gets the type of the base, whose type the result has. tract takes the wider of both.
pub(super) fn power(patch: &mut Patch, graph: &Graph, id: OpId) -> Option<()> {
    if !graph.op(id).is("Pow") {
        return None;
    }
    let (base, exponent) = (graph.input(id, 0)?, graph.input(id, 1)?);
    let element = |value: ValueId| graph.tensor_type(value).map(|known| known.element);
    let (of_base, of_exponent) = (element(base), element(exponent));
    let is_wider = of_exponent == Some(ElementType::F64)
        || of_base.is_some_and(ElementType::is_half) && of_exponent == Some(ElementType::F32);
    if !is_wider || of_base == of_exponent {
        return None;
    }
    let exponent = plain(patch, graph, "CastLike", &[exponent, base]);
    patch.set_input(id, 1, Some(exponent));
    Some(())
}

/// Gemm of float64, whose factors tract has in float32: a MatMul with what goes with it.
pub(super) fn gemm_of_doubles(patch: &mut Patch, graph: &Graph, id: OpId) -> Option<()> {
    let gemm = ops::Gemm::at(graph, id)?;
    let is_double = |value: &ValueId| graph.tensor_type(*value).is_some_and(|known| known.element == ElementType::F64);
    if ![Some(gemm.a), Some(gemm.b), gemm.c].iter().flatten().any(is_double) {
        return None;
    }
    let factor = |patch: &mut Patch, value: ValueId, factor: f32| {
        if factor == 1.0 {
            return value;
        }
        let factor = patch.constant(graph, "factor", Tensor::new(vec![], vec![f64::from(factor)]));
        plain(patch, graph, "Mul", &[value, factor])
    };
    let turned = |patch: &mut Patch, value: ValueId, is_turned: bool| {
        let turn = Op::new("", "Transpose", vec![Attribute::ints("perm", [1, 0])]);
        if is_turned { patch.value(graph, turn, &[value], "turned") } else { value }
    };
    let a = turned(patch, gemm.a, gemm.trans_a);
    let b = turned(patch, gemm.b, gemm.trans_b);
    let product = plain(patch, graph, "MatMul", &[a, b]);
    let mut result = factor(patch, product, gemm.alpha);
    if let Some(c) = gemm.c {
        let c = factor(patch, c, gemm.beta);
        result = plain(patch, graph, "Add", &[result, c]);
    }
    take_over(patch, graph, id, &[Some(result)])
}

/// Equal of sizes, which tract takes for different wherever it does not know that they are the same: neither less nor
/// greater, of which it does not say what it does not know.
pub(super) fn equal_sizes(patch: &mut Patch, graph: &Graph, id: OpId) -> Option<()> {
    let (a, b) = graph.op(id).is("Equal").then(|| Some((graph.input(id, 0)?, graph.input(id, 1)?)))??;
    let is_integer = |value| ops::constant_tensor(graph, value).is_some_and(|it| it.element() == ElementType::I64);
    if !is_integer(a) && !is_integer(b) && !follows_from_sizes(graph, &[a, b]) {
        return None;
    }
    let [differs_down, differs_up] = ["Less", "Greater"].map(|order| plain(patch, graph, order, &[a, b]));
    let differs = plain(patch, graph, "Or", &[differs_down, differs_up]);
    let same = plain(patch, graph, "Not", &[differs]);
    take_over(patch, graph, id, &[Some(same)])
}

/// Whether sizes of other values go into these.
fn follows_from_sizes(graph: &Graph, values: &[ValueId]) -> bool {
    let upstream = Upstream::of(graph, values);
    graph.op_ids().any(|id| upstream.has_op(id) && ["Shape", "Size"].iter().any(|kind| graph.op(id).is(kind)))
}

/// Swish with a factor, `x sigmoid(alpha x)`, which tract ignores.
pub(super) fn swish(patch: &mut Patch, graph: &Graph, id: OpId) -> Option<()> {
    let op = graph.op(id);
    let alpha = float(op, "alpha").filter(|&alpha| op.is("Swish") && alpha != 1.0)?;
    let x = graph.input(id, 0)?;
    let alpha = patch.constant(graph, "alpha", Tensor::new(vec![], vec![alpha]));
    let alpha = plain(patch, graph, "CastLike", &[alpha, x]);
    let scaled = plain(patch, graph, "Mul", &[x, alpha]);
    let gate = plain(patch, graph, "Sigmoid", &[scaled]);
    let product = plain(patch, graph, "Mul", &[x, gate]);
    take_over(patch, graph, id, &[Some(product)])
}
