//! A model file, read and written back.

#![no_main]

#[path = "../checks/read.rs"]
mod check;
#[allow(
    dead_code,
    unused_imports,
    unfulfilled_lint_expectations,
    reason = "a part of the package, without tract behind it"
)]
#[path = "../../src/onnx/mod.rs"]
mod onnx;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| check::check(bytes));
