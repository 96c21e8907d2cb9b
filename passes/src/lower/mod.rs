//! From the plan to nodes.

pub(crate) mod bias;
mod carrier;
pub(crate) mod embedding;
pub(crate) mod insert_qdq;
pub(crate) mod legalize;
pub(crate) mod log;
mod narrow;
pub(crate) mod opset;
pub(crate) mod quantize_io;
pub(crate) mod tie_constants;
pub(crate) mod uniform;
mod widen;
