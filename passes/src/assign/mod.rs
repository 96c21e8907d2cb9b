//! Which sites are quantized, and with which ranges.

pub(crate) mod auto;
pub(crate) mod best_percentile;
pub(crate) mod chain;
pub(crate) mod entropy;
pub(crate) mod finer;
pub(crate) mod fit;
pub(crate) mod give_back;
pub(crate) mod kind;
pub(crate) mod leave_slow;
pub(crate) mod minmax;
pub(crate) mod mse;
pub(crate) mod output_sites;
pub(crate) mod percentile;
pub(crate) mod quantized;
pub(crate) mod recurrent_weights;
pub(crate) mod residual;
pub(crate) mod select_sites;
pub(crate) mod sensitive_values;
pub(crate) mod without;
