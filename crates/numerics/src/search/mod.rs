//! Which range a quantizer should cover. [`histogram searches`](minmax) work on what observers kept, [`rows`] on the
//! values themselves. Knows no graph.

mod entropy;
mod error;
mod log;
mod ranges;
pub mod rows;

pub use entropy::entropy;
pub use error::{error, log_error};
pub use log::log_scale;
pub use ranges::{minmax, mse, percentile, repq, repq_free};

/// The quantiles that RepQ-ViT tries, in its order.
pub const REPQ_QUANTILES: [f64; 3] = [0.999, 0.9999, 0.99999];

/// How many shrunken ranges a search tries: down to 1/32, so that outliers thirty times the rest can be cut.
const SHRINK_STEPS: u32 = 101;

/// Step `i` of the shrinking, `2^(-i/20)`: 3.5 percent each, however far it goes.
fn shrunken(step: f64) -> f64 {
    (-step / 20.0).exp2()
}
