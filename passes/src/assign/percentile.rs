//! Gives every activation the range between two percentiles.
//!
//! # Why
//! A few outliers widen a range for all; cutting them costs only themselves. Needs no model of the data.
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
//! - `percentile`: 50 to 100; the range goes from 100 minus this to this. Default 99.999.

use onnxq_numerics::{IntFormat, Range, Symmetry, search};
use onnxq_plan::Fact;
use serde::{Deserialize, Serialize};

use super::fit::Search;

/// What a recipe or `--set percentile.KEY=VALUE` can set.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub(crate) struct Percentile {
    /// The upper percentile.
    pub(crate) percentile: Percent,
}

/// 50 to 100.
#[derive(Clone, Copy, Debug, PartialEq, Deserialize, Serialize)]
#[serde(try_from = "f64", into = "f64")]
pub(crate) struct Percent(f64);

impl TryFrom<f64> for Percent {
    type Error = String;

    fn try_from(percent: f64) -> Result<Self, String> {
        if (50.0..=100.0).contains(&percent) {
            Ok(Self(percent))
        } else {
            Err(format!("`percentile` is {percent}, which is not from 50 to 100"))
        }
    }
}

impl From<Percent> for f64 {
    fn from(percent: Percent) -> Self {
        percent.0
    }
}

impl Default for Percentile {
    fn default() -> Self {
        Self { percentile: Percent(99.999) }
    }
}

impl Search for Percentile {
    fn activation(&self, fact: &Fact, _: IntFormat, _: Symmetry) -> Option<Range> {
        let Fact::Histogram(histogram) = fact else { return None };
        histogram.range().map(|_| search::percentile(histogram, self.percentile.0 / 100.0))
    }
}

#[cfg(test)]
mod tests {
    use crate::PassInfo;
    use crate::testing::{check, check_declined};

    #[test]
    fn linear_and_softmax() {
        check!("percentile/linear_and_softmax");
    }

    #[test]
    fn lower() {
        check!("percentile/lower");
    }

    #[test]
    fn no_range() {
        check_declined!("percentile/no_range", "no-range: `x` was empty or never computed in calibration");
    }

    #[test]
    fn what_is_no_percentile_is_refused() {
        for wrong in ["percentile = 49.0", "percentile = 100.1", "percentile = -1", "percentile = nan"] {
            let options = wrong.parse().expect("TOML");
            let error = PassInfo::find("percentile").and_then(|info| info.make(options).err()).expect("refused");
            assert!(error.to_string().contains("is not from 50 to 100"), "{error}");
        }
        let options = "percentile = 100".parse().expect("TOML");
        PassInfo::find("percentile").expect("a pass").make(options).expect("the whole range");
    }
}
