//! A prediction confirmed by the runtime itself, or what it did instead.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::Path;

use serde::Serialize;

use super::optimized::{Difference, Taken};
use super::report::{conversions, counted};
use super::{Conversions, Kernels, Lint, Names};
use crate::engine::Runtime;
use crate::error::Error;
use crate::onnx;
use crate::onnx::output::Scratch;

/// What a runtime made of a model, beside what was predicted.
#[derive(Clone, Debug, Serialize)]
pub struct Check {
    /// Integer kernels that the runtime took.
    pub kernels: BTreeMap<String, usize>,
    /// Conversions that it runs.
    pub running: Conversions,
    /// Conversions that it runs for nothing.
    pub stranded: Conversions,
    /// Operators of which an integer kernel was predicted and that run in float.
    pub floats: usize,
    /// Where prediction and runtime differ.
    pub differences: Vec<Difference>,
}

/// Differences that are shown at a glance.
const FEW: usize = 5;

impl Check {
    /// Lets the runtime optimize the model's file and sets that beside the prediction.
    ///
    /// # Errors
    /// Where the runtime does not load the model, or the folder for temporary files has no room.
    pub fn of(file: &Path, lint: &Lint, kernels: &Kernels, runtime: &Runtime) -> Result<Self, Error> {
        let scratch = Scratch::new().map_err(onnx::WriteError::from)?;
        let optimized = scratch.path("optimized.onnx");
        runtime.optimize(file, &optimized)?;
        Ok(Self::compare(&Taken::of(&onnx::read(&optimized)?, kernels), lint))
    }

    /// Sets what a runtime took beside a prediction.
    pub fn compare(taken: &Taken, lint: &Lint) -> Self {
        let differences = taken.differences(lint);
        let by_name = differences.iter().filter(|it| is_float(it)).count();
        // A kernel made of several nodes has a name of the runtime's own: its loss shows in the sum alone.
        let total = |kernels: &BTreeMap<String, usize>| kernels.values().sum::<usize>();
        let by_count = total(&lint.kernels).saturating_sub(total(&taken.kernels));
        Self {
            kernels: taken.kernels.clone(),
            running: taken.running,
            stranded: taken.stranded,
            floats: by_name.max(by_count),
            differences,
        }
    }

    /// Whether all that was to be integer is, and no conversion runs for nothing.
    pub fn is_confirmed(&self) -> bool {
        self.floats == 0 && self.stranded.total() == 0
    }

    /// What the runtime did, as lines of a summary.
    pub fn text(&self, names: Names) -> String {
        let kernels = if self.kernels.is_empty() { "no integer kernel".to_owned() } else { counted(&self.kernels) };
        let agreement = match self.differences.len() {
            0 => "as predicted".to_owned(),
            1 => "1 difference from the prediction".to_owned(),
            count => format!("{count} differences from the prediction"),
        };
        let mut text = format!("  checked    the runtime takes {kernels}: {agreement}\n");
        let _ = writeln!(text, "             {} run, {} stranded", conversions(self.running), self.stranded.total());
        let shown = if names == Names::All { self.differences.len() } else { FEW };
        for difference in self.differences.iter().take(shown) {
            let _ = writeln!(text, "             {difference}");
        }
        if self.differences.len() > shown {
            let _ = writeln!(text, "             and {} more (--verbose names them)", self.differences.len() - shown);
        }
        text
    }

    /// Why the model is not what it was meant to be, with the first nodes.
    pub fn complaint(&self) -> String {
        let mut parts = Vec::new();
        match self.floats {
            0 => {}
            1 => parts.push("runs 1 operator in float of which an integer kernel was predicted".to_owned()),
            count => parts.push(format!("runs {count} operators in float of which integer kernels were predicted")),
        }
        if self.stranded.total() > 0 {
            parts.push(format!("leaves {} of no use", conversions(self.stranded)));
        }
        let named: Vec<String> =
            self.differences.iter().filter(|it| is_float(it)).take(FEW).map(ToString::to_string).collect();
        let named = if named.is_empty() { String::new() } else { format!(": {}", named.join(", ")) };
        format!("--check-target: the runtime {}{named}", parts.join(" and "))
    }
}

/// Whether an operator runs in float of which an integer kernel was predicted.
fn is_float(difference: &Difference) -> bool {
    matches!(difference, Difference::Node { predicted: Some(_), taken: None, .. })
}

#[cfg(test)]
mod tests {
    use super::*;

    const PRODUCT: &str = r#"<ir_version: 8, opset_import: ["" : 17]>
product (float[2, 3, 4] x) => (float[2, 3, 2] y)
<
  float sx = {0.1}, uint8 zx = {128}, int8[4, 2] wq = {1, 2, 3, 4, 5, 6, 7, 8}, float[2] sw = {0.01, 0.02}, int8[2] zw = {0, 0}
>
{
  xq = QuantizeLinear (x, sx, zx)
  xd = DequantizeLinear (xq, sx, zx)
  wd = DequantizeLinear <axis = 1> (wq, sw, zw)
  [product] y = MatMul (xd, wd)
}"#;

    /// What a runtime makes of [`PRODUCT`].
    const FUSED: &str = r#"<ir_version: 8, opset_import: ["" : 17, "com.microsoft" : 1]>
product (float[2, 3, 4] x) => (float[2, 3, 2] y)
<
  float sx = {0.1}, uint8 zx = {128}, int8[4, 2] wq = {1, 2, 3, 4, 5, 6, 7, 8}, float[2] sw = {0.01, 0.02}, int8[2] zw = {0, 0}
>
{
  xq = QuantizeLinear (x, sx, zx)
  [product] y = com.microsoft.MatMulIntegerToFloat (xq, wq, sx, sw, zx, zw)
}"#;

    /// The prediction for [`PRODUCT`] beside a runtime that runs this graph.
    fn check(optimized: &str) -> Check {
        let kernels = Kernels::of(&crate::target::load("ort-cpu").expect("a target")).expect("its kernels");
        let model = |text| onnxq_ir::text::parse(text).expect("a model");
        Check::compare(&Taken::of(&model(optimized), &kernels), &Lint::of(&model(PRODUCT), &kernels, None))
    }

    #[test]
    fn a_runtime_that_fuses_confirms() {
        let check = check(FUSED);
        assert!(check.is_confirmed(), "{check:?}");
        assert_eq!(
            check.text(Names::Few),
            "  checked    the runtime takes 1 MatMulIntegerToFloat: as predicted\n             \
             1 QuantizeLinear, 0 DequantizeLinear run, 0 stranded\n"
        );
    }

    #[test]
    fn a_runtime_that_fuses_nothing_is_told_of() {
        let check = check(PRODUCT);
        assert!(!check.is_confirmed());
        assert_eq!(
            check.complaint(),
            "--check-target: the runtime runs 1 operator in float of which an integer kernel was predicted and leaves \
             1 QuantizeLinear, 2 DequantizeLinear of no use: `product` is float, predicted MatMulIntegerToFloat"
        );
        assert!(check.text(Names::All).contains("0 MatMulIntegerToFloat where 1 were predicted"), "{check:?}");
    }
}
