//! Gives every site the range of all that was seen there.
//!
//! # Why
//! Nothing clips. At 8 bits that is hard to beat; below, one outlier costs every other value its resolution.
//!
//! # Needs
//! A range of every activation without a quantizer; a histogram over octaves where a logarithmic one is wanted.
//!
//! # Effect
//! Every site without a quantizer gets one. A weight's range is that of its channel. A range always contains 0.
//!
//! # Promise
//! Annotate.
//!
//! # Declines
//! - `no-range`: an activation was empty in all samples; its operator stays float.
//!
//! # Options
//! None.

use onnxq_numerics::{IntFormat, Range, Symmetry, search};
use onnxq_plan::{Fact, Needs, Statistic};
use serde::{Deserialize, Serialize};

use super::fit::{self, Search};
use crate::pass::{Context, Pass, PassError, Promise, View};

/// What a recipe or `--set minmax.KEY=VALUE` can set.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub(crate) struct MinMax {}

impl Pass for MinMax {
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

impl Search for MinMax {
    fn statistic(&self) -> Statistic {
        Statistic::Range
    }

    fn activation(&self, fact: &Fact, format: IntFormat, symmetry: Symmetry) -> Option<Range> {
        let Fact::Range(range) = fact else { return None };
        let _ = (format, symmetry);
        range.range()
    }

    fn weight(&self, row: &[f32], format: IntFormat, symmetry: Symmetry) -> Range {
        let _ = (format, symmetry);
        search::rows::minmax(row)
    }
}
