//! `onnxq lint MODEL`: which integer kernels a runtime takes, and what is missing where it takes none.

use onnxq_engine::Tract;
use onnxq_ir::Model;
use onnxq_plan::Evaluator as _;

use super::args::LintArgs;
use super::{note, say};
use crate::error::Error;
use crate::lint::{Kernels, Lint, Names};
use crate::{onnx, target};

/// Whether nothing warns.
pub(crate) fn run(args: &LintArgs) -> Result<bool, Error> {
    let target = target::load(&args.target)?;
    let kernels = Kernels::of(&target)?;
    let mut model = onnx::read(&args.model)?;
    if let Some(defect) = onnxq_ir::verify(&model.graph).first() {
        return Err(Error::Option(format!("{}: is malformed: {defect}", args.model.display())));
    }
    infer(&mut model, args);
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

/// Adds the shapes that the file does not say. Without them one fusion, MatMul and Add, may be missed.
fn infer(model: &mut Model, args: &LintArgs) {
    match Tract.infer(model) {
        Ok(inferred) => inferred.into_iter().for_each(|known| model.graph.set_type(known.value, known.tensor_type)),
        Err(error) if !args.json && args.verbose => note(&format!("only the shapes that the file declares are known: {error}")),
        Err(_) => {}
    }
}
