//! Exact changes of weights that make room for simpler quantizers.

pub(crate) mod channel_readers;
pub(crate) mod cross_layer_equalization;
pub(crate) mod repq;
