//! The Rust types of the ONNX definition. Made here and committed, so that building onnxq needs no protobuf compiler.

use crate::{Error, Generated, root};

const HEADER: &str = "\
// @generated from onnx-ml.proto (onnx 1.23.2) by `cargo run -p xtask -- proto`: change that, not this.
// SPDX-License-Identifier: Apache-2.0

";

/// Shared slices of the file read: weights stay in the memory map until something needs them.
const BYTES: [&str; 4] = [
    ".onnx.TensorProto.raw_data",
    ".onnx.TensorProto.string_data",
    ".onnx.AttributeProto.s",
    ".onnx.AttributeProto.strings",
];

/// Rare and large, in a message that a model holds by the thousand.
const BOXED: [&str; 4] = [
    ".onnx.AttributeProto.t",
    ".onnx.AttributeProto.g",
    ".onnx.AttributeProto.sparse_tensor",
    ".onnx.AttributeProto.tp",
];

/// `src/onnx/proto.rs`.
pub(crate) fn generate() -> Result<Generated, Error> {
    let definition = protox::compile(["onnx-ml.proto"], [root().join("src/onnx")])?;
    let mut config = prost_build::Config::new();
    config.bytes(BYTES).disable_comments(["."]);
    for field in BOXED {
        config.boxed(field);
    }
    let module = prost_build::Module::from_protobuf_package_name("onnx");
    let requests = definition.file.into_iter().map(|file| (module.clone(), file)).collect();
    let mut modules = config.generate(requests).map_err(Error::Generate)?;
    let code = modules.remove(&module).unwrap_or_default();
    Ok(Generated { task: "proto", path: "src/onnx/proto.rs", content: format!("{HEADER}{code}") })
}

#[cfg(test)]
mod tests {
    use super::{BOXED, BYTES, generate};

    #[test]
    fn committed_types_are_up_to_date() {
        if let Err(error) = generate().expect("the definition compiles").check() {
            panic!("{error}");
        }
    }

    /// A misspelt path would be ignored in silence.
    #[test]
    fn every_special_field_took_effect() {
        let code = generate().expect("the definition compiles").content;
        assert_eq!(code.matches("::prost::bytes::Bytes").count(), BYTES.len());
        let (attribute, _) = code.split_once("pub mod attribute_proto").expect("AttributeProto comes first");
        assert_eq!(attribute.matches("boxed, tag").count(), BOXED.len());
    }
}
