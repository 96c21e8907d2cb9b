//! onnxq: an ONNX-to-ONNX quantizing compiler.
//!
//! The way of a model: [`onnx::read`], [`driver::run`] with a [`recipe::Recipe`], a [`onnxq_plan::Target`] and
//! [`samples::Samples`], [`onnx::write`].

pub mod bodies;
pub mod cli;
pub mod data;
#[cfg(test)]
mod docs;
pub mod driver;
pub mod engine;
pub mod error;
pub mod lint;
pub mod measure;
pub mod onnx;
mod outputs;
pub mod progress;
mod readied;
pub mod recipe;
pub mod refuse;
pub mod report;
pub mod samples;
pub mod seconds;
pub mod statistics;
pub mod synthesize;
pub mod target;

pub use error::Error;
