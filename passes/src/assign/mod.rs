//! Which sites are quantized, and with which ranges.

pub(crate) mod best_percentile;
pub(crate) mod entropy;
pub(crate) mod fit;
pub(crate) mod kind;
pub(crate) mod minmax;
pub(crate) mod mse;
pub(crate) mod percentile;
pub(crate) mod quantized;
pub(crate) mod select_sites;
