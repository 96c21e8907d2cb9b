//! Gives every site the best of three percentile ranges by mean squared error.
//!
//! # Why
//! What RepQ-ViT (Li et al., 2023) uses everywhere: the percentiles 99.9, 99.99 and 99.999 of both tails are tried, and the
//! one with the smallest error is kept, the first of equals.
//!
//! # Needs
//! A histogram of every activation without a quantizer; a histogram over octaves where a logarithmic one is wanted.
//!
//! # Effect
//! Every site without a quantizer gets one. Weights are searched per channel in the same way. A range always contains 0.
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

/// What a recipe or `--set best-percentile.KEY=VALUE` can set.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub(crate) struct BestPercentile {}

impl Search for BestPercentile {
    fn activation(&self, fact: &Fact, format: IntFormat, symmetry: Symmetry) -> Option<Range> {
        let Fact::Histogram(histogram) = fact else { return None };
        histogram.range().map(|_| search::repq(histogram, format, symmetry))
    }

    fn weight(&self, row: &[f32], format: IntFormat, symmetry: Symmetry) -> Range {
        search::rows::repq(row, format, symmetry)
    }
}

#[cfg(test)]
mod tests {
    use crate::testing::{check, check_declined};

    #[test]
    fn linear_and_softmax() {
        check!("best-percentile/linear_and_softmax");
    }

    #[test]
    fn no_range() {
        check_declined!("best-percentile/no_range", "no-range: `x` was empty or never computed in calibration");
    }
}
