//! The passes, one file each. This table is the list: names, help and documentation come from it.
//!
//! `passes/README.md` says how to add one.

mod assign;
mod canonicalize;
mod coverage;
mod lower;
pub mod names;
pub mod overrides;
pub mod pass;
mod reparam;
mod round;
pub mod select;
pub mod storage;
pub mod table;
#[cfg(test)]
mod testing;
pub mod threshold;

pub use assign::quantized::computes_with_codes;
pub use coverage::Coverage;
pub use overrides::Override;
pub use pass::{Context, Outcome, Pass, PassError, Promise, Settings, View};
pub use select::{NoSuchNodes, Selection};
pub use storage::Storage;
pub use table::{OptionsError, PASSES, PassInfo};
pub use threshold::Threshold;

/// The example of the instructions compiles.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
