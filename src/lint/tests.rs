//! Forms and their kernels.
