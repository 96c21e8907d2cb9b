//! Brings a graph into the one form that the other passes know.
//!
//! What the canonical form is:
//! - What is the same for every input is an initializer; nothing computes it.
//! - No operator lets its input pass unchanged; no BatchNormalization, factor or summand per channel stands behind an operator
//!   that can take it in.
//! - LayerNorm, RmsNorm, Gelu, Silu, Softmax and Linear are recognised operators, whatever the exporter wrote.
//! - Everything serves an output.
//!
//! Best effort: a site that is not brought into the form is left as it was, with the reason. Bodies and local functions
//! are not entered.

mod affine;
mod channels;
pub(crate) mod dead_code;
pub(crate) mod drop_identity;
pub(crate) mod einsum_product;
pub(crate) mod fold_batchnorm;
pub(crate) mod fold_constants;
pub(crate) mod linear_form;
pub(crate) mod recognise_gelu;
pub(crate) mod recognise_layer_norm;
pub(crate) mod recognise_rms_norm;
pub(crate) mod recognise_silu;
pub(crate) mod recognise_softmax;
pub(crate) mod replace;
