//! Resize: 10 (Upsample 9 with factors below 1), 11 (regions, sizes, ways to compute coordinates), 13 (optional inputs),
//! 18 (axes, antialiasing), 19 (half_pixel_symmetric).
//!
//! Version 10 does not say which element is nearest; onnxruntime and the exporters that wrote it take the one before,
//! and the one behind where the size shrinks.

use crate::graph::Graph;
use crate::op::OpId;

use super::attributes::constant_tensor;

/// The `nearest_mode` of version 11 that a Resize of version 10 has: `floor` where no factor is below 1, `ceil` where none
/// is above. `None` where the factors are both or not constant.
pub fn nearest_below_11(graph: &Graph, id: OpId) -> Option<&'static str> {
    let scales = constant_tensor(graph, graph.input(id, 1)?)?;
    let scales = scales.to_f32()?;
    if scales.iter().all(|&scale| scale >= 1.0) {
        Some("floor")
    } else if scales.iter().all(|&scale| scale <= 1.0) {
        Some("ceil")
    } else {
        None
    }
}
