//! Calibration data in an .npz.

#![no_main]

#[path = "../checks/npz.rs"]
mod check;
#[allow(
    dead_code,
    unused_imports,
    unfulfilled_lint_expectations,
    reason = "a part of the package, without tract behind it"
)]
#[path = "../../src/data/mod.rs"]
mod data;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| check::check(bytes));
