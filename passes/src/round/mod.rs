//! What becomes of the errors that rounding leaves, once ranges are known.

pub(crate) mod bias_correction;
