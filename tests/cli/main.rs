//! The tool as a person meets it: the binary is started, its words and exit codes are checked, and what it writes is
//! judged by onnx and onnxruntime.
//!
//! One binary with a module for each side, since each test binary links the engine.

mod arrays;
mod bodies;
mod defects;
mod determinism;
mod engine_ort;
mod errors;
mod fused_operators;
mod half_floats;
mod io;
mod lint;
mod lists;
mod models;
mod odd_models;
mod old_versions;
mod oracle;
mod output_safety;
mod quantize;
mod quantized_models;
mod rewritten;
mod round_trip;
mod runtimes;
mod simulation;
mod statistics;
mod tails;
mod targets;
mod tool;
