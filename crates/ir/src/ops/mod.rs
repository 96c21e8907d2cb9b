//! Operators: typed views of ONNX's own, the recognised ones, and what changed between versions.
//!
//! One file per operator, its history on top. A view is `X::at(graph, op)`, and is `None` where the operator is another
//! one or not well-formed; whether something is an attribute or an input at the graph's version is the view's business.
//! Attributes are read here, by the file reader and writer and by the text form, and nowhere else.

mod attributes;
mod batch_normalization;
mod cast;
mod clip;
mod concat;
mod constant;
mod control;
mod conv;
mod conv_transpose;
mod dropout;
mod einsum;
mod expansion;
mod flatten;
pub mod fused;
mod gather;
mod gemm;
mod layer_normalization;
mod mat_mul;
pub mod opset;
mod pad;
mod quantize_linear;
mod recognised;
mod reduce;
mod reshape;
mod resize;
mod slice;
mod softmax;
mod split;
mod squeeze;
#[cfg(test)]
pub(crate) mod testing;
mod transpose;
mod unsqueeze;
mod window;

pub use attributes::{axis_from_front, constant_ints, constant_tensor, is_last_axis};
pub use batch_normalization::BatchNormalization;
pub use cast::Cast;
pub use clip::{Bound, Clip};
pub use concat::Concat;
pub use constant::Constant;
pub use control::{Control, Scanned};
pub use conv::Conv;
pub use conv_transpose::ConvTranspose;
pub use dropout::Dropout;
pub use einsum::Einsum;
pub use expansion::Malformed;
pub use flatten::Flatten;
pub use gather::Gather;
pub use gemm::Gemm;
pub use layer_normalization::LayerNormalization;
pub use mat_mul::MatMul;
pub use pad::{Filling, Pad};
pub use quantize_linear::{Direction, QuantizeLinear};
pub use recognised::{AddedBias, Approximation, BiasOrder, Form, Gelu, LayerNorm, Linear, RmsNorm, Silu, Softmax};
pub use reduce::{Axes, Reduce, Reduction};
pub use reshape::{Reshape, Target};
pub use resize::nearest_below_11;
pub use slice::{Range, Slice};
pub use softmax::{Normalised, SoftmaxNode};
pub use split::{Parts, Split};
pub use squeeze::Squeeze;
pub use transpose::Transpose;
pub use unsqueeze::Unsqueeze;
pub use window::{Padding, Window};

use crate::graph::Graph;
use crate::op::{OpId, RECOGNISED};
use crate::patch::PatchError;

use expansion::Expansion;

/// Why recognised operators could not be replaced.
#[derive(Debug, thiserror::Error)]
pub enum ExpandError {
    /// An operator lacks what its expansion needs.
    #[error(transparent)]
    Malformed(#[from] Malformed),
    /// The patch was refused.
    #[error(transparent)]
    Patch(#[from] PatchError),
}

/// The graph with every recognised operator replaced by ONNX's own, in bodies too.
///
/// `opset` is the newest version whose operators may stand for recognised ones; forms of the others are those of the
/// graph's own version. What values are called and which ids they have stays; new values get names that nobody has.
pub fn expand(graph: &Graph, opset: i64) -> Result<Graph, ExpandError> {
    let mut expanded = graph.clone();
    expand_in_place(&mut expanded, opset)?;
    Ok(expanded)
}

fn expand_in_place(graph: &mut Graph, opset: i64) -> Result<(), ExpandError> {
    let has_some = |body: &Graph| body.has_op(&|op| op.domain() == RECOGNISED);
    graph.change_bodies(has_some, |body| expand_in_place(body, opset))?;
    let recognised: Vec<OpId> = graph.op_ids().filter(|&id| graph.op(id).domain() == RECOGNISED).collect();
    let Some(&first) = recognised.first() else { return Ok(()) };
    let mut expansion = Expansion::new(graph, "expand", opset, first);
    for id in recognised {
        recognised::expand(&mut expansion, id)?;
    }
    expansion.into_patch().apply(graph)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::op::{Attribute, AttributeValue, Op};
    use crate::ops::testing::Scene;
    use crate::verify::verify;

    #[test]
    fn bodies_are_expanded_and_their_names_stay_apart() {
        let mut inner = Scene::new(13);
        let x = inner.input("inner_x");
        inner.op(Silu::op(), &[x], "y");
        let mut outer = Scene::new(13);
        let x = outer.input("x");
        let (_, taken) = outer.op(Op::new("", "Relu", vec![]), &[x], "y_gate");
        let body = Attribute::new("body", AttributeValue::Graph(Box::new(inner.finish())));
        let (owner, _) = outer.op(Op::new("", "Loop", vec![body]), &[taken], "z");
        let graph = expand(&outer.finish(), 13).expect("expands");
        assert_eq!(verify(&graph), []);
        let body = graph.op(owner).bodies().next().expect("a body");
        assert!(body.op_ids().all(|op| body.op(op).domain().is_empty()));
        assert!(body.find_value("y_gate").is_none() && body.find_value("y_gate_1").is_some());
        assert!(graph.is_taken("y_gate_1"));
    }

    #[test]
    fn what_is_not_well_formed_is_an_error() {
        let mut scene = Scene::new(13);
        let x = scene.input("x");
        scene.op(Op::new(RECOGNISED, "LayerNorm", vec![]).named("n"), &[x], "y");
        let error = expand(&scene.finish(), 13).expect_err("no scale");
        assert!(matches!(error, ExpandError::Malformed(Malformed { ref name, .. }) if name == "n"));
    }
}
