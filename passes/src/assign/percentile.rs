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
//!
//! # Options
//! - `percentile`: 50 to 100; the range goes from 100 minus this to this. Default 99.999.

use onnxq_numerics::{IntFormat, Range, Symmetry, search};
use onnxq_plan::{Fact, Needs, Statistic};
use serde::{Deserialize, Serialize};

use super::fit::{self, Search};
use crate::pass::{Context, Pass, PassError, Promise, View};

/// What a recipe or `--set percentile.KEY=VALUE` can set.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub(crate) struct Percentile {
    /// The upper percentile.
    pub(crate) percentile: f64,
}

impl Default for Percentile {
    fn default() -> Self {
        Self { percentile: 99.999 }
    }
}

impl Pass for Percentile {
    fn promise(&self) -> Promise {
        Promise::Annotate
    }

    fn needs(&self, view: &View<'_>) -> Needs {
        fit::needs(self, view)
    }

    fn run(&self, cx: &mut Context<'_>) -> Result<(), PassError> {
        fit::run(self, cx)
    }
}

impl Search for Percentile {
    fn statistic(&self) -> Statistic {
        Statistic::Histogram
    }

    fn activation(&self, fact: &Fact, format: IntFormat, symmetry: Symmetry) -> Option<Range> {
        let Fact::Histogram(histogram) = fact else { return None };
        let _ = (format, symmetry);
        histogram.range().map(|_| search::percentile(histogram, self.percentile / 100.0))
    }

    fn weight(&self, row: &[f32], format: IntFormat, symmetry: Symmetry) -> Range {
        let _ = (format, symmetry);
        search::rows::minmax(row)
    }
}
