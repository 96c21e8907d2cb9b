//! `onnxq lint MODEL`: which integer kernels a runtime takes, and what is missing where it takes none.

use super::args::LintArgs;
use super::{note, say};
use crate::engine::Runtime;
use crate::error::Error;
use crate::lint::{self, Check, Kernels, Lint, Names};
use crate::{onnx, target};

/// Whether nothing warns.
pub(crate) fn run(args: &LintArgs) -> Result<bool, Error> {
    let target = target::load(&args.target)?;
    let kernels = Kernels::of(&target)?;
    let runtime = args.check_target.then(Runtime::load).transpose()?;
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
    if let (Some(oldest), Some(known)) = (args.min_ort, kernels.oldest_release())
        && oldest < known
    {
        return Err(Error::Option(format!(
            "`--min-ort {oldest}`: what releases before {known} load is not known here; give {known} or a newer one"
        )));
    }
    let lint = Lint::of(&model, &kernels, args.min_ort);
    let name = args.model.display().to_string();
    let check = runtime.map(|runtime| Check::of(&args.model, &lint, &kernels, &runtime)).transpose();
    let check = check.map_err(|error| error.in_model(&name))?;
    if args.json {
        let report = lint.report(&name, &target.name).with_check(check.clone());
        let json = serde_json::to_string_pretty(&report).map_err(|error| Error::Broken(error.to_string()))?;
        say(&(json + "\n"))?;
    } else {
        let names = if args.verbose { Names::All } else { Names::Few };
        let checked = check.as_ref().map_or_else(String::new, |check| check.text(names));
        say(&format!("{name} for {}\n{}{checked}{}", target.name, lint.head(), lint.told(names)))?;
    }
    match check.filter(|check| !check.is_confirmed()) {
        Some(check) => Err(Error::Refused(check.complaint())),
        None => Ok(!lint.warns()),
    }
}
