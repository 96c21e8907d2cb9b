//! `onnxq lint MODEL`: which integer kernels a runtime takes, and what is missing where it takes none.

use super::args::LintArgs;
use super::{note, say};
use crate::error::Error;
use crate::lint::{self, Kernels, Lint, Names};
use crate::{onnx, target};

/// Whether nothing warns.
pub(crate) fn run(args: &LintArgs) -> Result<bool, Error> {
    let target = target::load(&args.target)?;
    let kernels = Kernels::of(&target)?;
    let mut model = onnx::read(&args.model)?;
    if let Some(defect) = onnxq_ir::verify(&model.graph).first() {
        return Err(Error::Option(format!("{}: is malformed: {defect}", args.model.display())));
    }
    let unknown = lint::infer(&mut model);
    if unknown > 0 && !args.json {
        note(&format!(
            "{unknown} MatMul have an Add behind them and an input of unknown shape: whether they become a Gemm can't be told; \
             declare shapes, for example with onnx.shape_inference"
        ));
    }
    let lint = Lint::of(&model, &kernels, args.min_ort);
    let name = args.model.display().to_string();
    if args.json {
        let report = lint.report(&name, &target.name);
        let json = serde_json::to_string_pretty(&report).map_err(|error| Error::Broken(error.to_string()))?;
        say(&(json + "\n"));
    } else {
        let names = if args.verbose { Names::All } else { Names::Few };
        say(&format!("{name} for {}\n{}", target.name, lint.text(names)));
    }
    Ok(!lint.warns())
}
