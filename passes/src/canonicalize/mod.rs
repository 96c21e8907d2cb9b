//! Brings a graph into the one form that the other passes know.
//!
//! What the canonical form is:
//! - What is the same for every input is an initializer; nothing computes it.
//! - No operator lets its input pass unchanged; no BatchNormalization stands behind an operator that can take it in.
//! - LayerNorm, RmsNorm, Gelu, Silu, Softmax and Linear are recognised operators, whatever the exporter wrote.
//! - Everything serves an output.
//!
//! Best effort: a site that is not brought into the form is left as it was, with the reason. Bodies and local functions
//! are not entered.

mod affine;
pub mod dead_code;
pub mod drop_identity;
pub mod fold_batchnorm;
pub mod fold_constants;
pub mod linear_form;
pub mod recognise_gelu;
pub mod recognise_layer_norm;
pub mod recognise_rms_norm;
pub mod recognise_silu;
pub mod recognise_softmax;
mod replace;
