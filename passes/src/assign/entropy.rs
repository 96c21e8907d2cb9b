//! Gives every activation the range that loses least information.
//!
//! # Why
//! The Kullback-Leibler divergence between the distribution and its quantized form, as TensorRT introduced it (Migacz, 2017).
//!
//! # Needs
//! A histogram of every activation without a quantizer; a histogram over octaves where a logarithmic one is wanted.
//!
//! # Effect
//! Every site without a quantizer gets one. Weights get the range of their channel. A range always contains 0.
//!
//! # Promise
//! Annotate.
//!
//! # Declines
//! - `no-range`: an activation was empty in all samples; its operator stays float.
//! - `not-finite`: a weight has infinite or NaN elements; its operator stays float.
//!
//! # Options
//! None.

use onnxq_numerics::{IntFormat, Range, Symmetry, search};
use onnxq_plan::Fact;
use serde::{Deserialize, Serialize};

use super::fit::Search;

/// What a recipe or `--set entropy.KEY=VALUE` can set.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub(crate) struct Entropy {}

impl Search for Entropy {
    fn activation(&self, fact: &Fact, format: IntFormat, symmetry: Symmetry) -> Option<Range> {
        let Fact::Histogram(histogram) = fact else { return None };
        histogram.range().map(|_| search::entropy(histogram, format, symmetry))
    }
}

#[cfg(test)]
mod tests {
    use crate::testing::{check, check_declined};

    #[test]
    fn linear_and_softmax() {
        check!("entropy/linear_and_softmax");
    }

    #[test]
    fn no_range() {
        check_declined!("entropy/no_range", "no-range: `x` was empty or never computed in calibration");
    }
}
