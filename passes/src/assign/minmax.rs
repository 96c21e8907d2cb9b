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
//! - `not-finite`: a weight has infinite or NaN elements; its operator stays float.
//!
//! # Options
//! None.

use onnxq_numerics::{IntFormat, Range, Symmetry};
use onnxq_plan::{Fact, Statistic};
use serde::{Deserialize, Serialize};

use super::fit::Search;

/// What a recipe or `--set minmax.KEY=VALUE` can set.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub(crate) struct MinMax {}

impl Search for MinMax {
    fn statistic(&self) -> Statistic {
        Statistic::Range
    }

    fn activation(&self, fact: &Fact, _: IntFormat, _: Symmetry) -> Option<Range> {
        let Fact::Range(range) = fact else { return None };
        range.range()
    }
}

#[cfg(test)]
mod tests {
    use onnxq_plan::{Quantizer, Site};

    use crate::testing::planned::Scene;
    use crate::testing::{check, check_declined};

    #[test]
    fn linear_and_softmax() {
        check!("minmax/linear_and_softmax");
    }

    #[test]
    fn chain() {
        check!("minmax/chain");
    }

    #[test]
    fn not_finite() {
        check_declined!("minmax/not_finite", "not-finite: `w` has infinite or NaN elements");
    }

    #[test]
    fn no_range() {
        check_declined!("minmax/no_range", "no-range: `x` was empty or never computed in calibration");
    }

    #[test]
    fn ranges_are_those_of_data_and_weights() {
        let mut scene = Scene::load("minmax/ranges");
        scene.run().expect("runs");
        let (plan, graph) = (&scene.plan, scene.graph());
        let (op, linear) =
            graph.op_ids().find_map(|op| Some((op, onnxq_ir::ops::Linear::at(graph, op)?))).expect("a Linear");
        let (mut low, mut high) = (0f64, 0f64);
        for seed in 0..4 {
            for x in scene.value(linear.x, &scene.inputs(seed)) {
                (low, high) = (low.min(x), high.max(x));
            }
        }
        let Some(Quantizer::Tensor(own)) = plan.quantizer(Site::Operand { op, slot: 0 }) else { panic!("{plan:?}") };
        assert!((f64::from(own.scale()) * 255.0 / (high - low) - 1.0).abs() < 1e-6);
        assert_eq!(f64::from(own.zero_point()), (-low / f64::from(own.scale())).round());
        let Some(Quantizer::Channels { axis: 1, channels }) = plan.quantizer(Site::Operand { op, slot: 1 }) else {
            panic!("{plan:?}")
        };
        // The largest weights of the two columns.
        for (own, largest) in channels.iter().zip([3.0, 4.0]) {
            assert!((own.scale() * 127.0 / largest - 1.0).abs() < 1e-6, "{own:?}");
        }
    }
}
