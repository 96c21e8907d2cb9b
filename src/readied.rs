//! A model as passes and engine know it: in a version with codes, local functions inlined where it matters, fused operators
//! taken apart.

use onnxq_ir::Model;
use onnxq_ir::inline::inline;
use onnxq_ir::ops::fused::{self, Kept};
use onnxq_ir::ops::opset::{RANGE, convert};
use onnxq_passes::PassError;
use onnxq_plan::Declined;

use crate::error::Error;
use crate::outputs::has_weights;

/// The model, and the operators that stay fused.
pub(crate) fn readied(model: Model) -> Result<(Model, Vec<Declined>), Error> {
    let mut model = raised(model)?;
    // Where there is something to quantize in or behind a call.
    inline(&mut model, has_weights).map_err(|error| Error::Broken(error.to_string()))?;
    let kept = fused::unfuse(&mut model.graph).map_err(|error| Error::Broken(error.to_string()))?;
    let declined = |Kept { op_type, name, reason }| Declined {
        site: name,
        op_type,
        reason: format!("stays fused, since {reason}"),
    };
    Ok((model, kept.into_iter().map(declined).collect()))
}

/// The model in a version that has codes at all. Passes and engine so know no older forms; what more a plan needs is the
/// matter of a pass.
fn raised(mut model: Model) -> Result<Model, Error> {
    const FIRST_WITH_CODES: i64 = 10;
    let opset = model.graph.opset();
    if !(*RANGE.start()..FIRST_WITH_CODES).contains(&opset) {
        return Ok(model);
    }
    convert(&mut model, FIRST_WITH_CODES).map_err(|error| PassError::Opset {
        form: "QuantizeLinear",
        need: FIRST_WITH_CODES,
        reason: error.to_string(),
    })?;
    Ok(model)
}
