//! Small models in ONNX's textual syntax, one for each thing that the tool must notice.

use std::fmt::Write as _;
use std::path::Path;

use onnxq::onnx::{WriteOptions, write};
use onnxq_ir::{ElementType, Tensor};

/// Writes the model that a text describes.
pub(crate) fn save(text: &str, path: &Path) {
    let model = onnxq_ir::text::parse(text).unwrap_or_else(|error| panic!("{error}: {text}"));
    write(&model, path, &WriteOptions::default()).expect("the model is written");
}

/// `rows x columns` float weights with nothing special about them, as an initializer's text.
pub(crate) fn weights(name: &str, rows: usize, columns: usize) -> String {
    let mut text = format!("float[{rows}, {columns}] {name} = {{");
    for i in 0..rows * columns {
        let separator = if i == 0 { "" } else { ", " };
        let _ = write!(text, "{separator}{}", f64::from(i32::try_from(i * 37 % 101).expect("small") - 50) / 64.0);
    }
    text + "}"
}

/// Only an element-wise operator.
pub(crate) fn elementwise() -> String {
    r#"<ir_version: 8, opset_import: ["" : 17]>
elementwise (float[N, 8] x) => (float[N, 8] y) { y = Relu (x) }"#
        .to_owned()
}

/// One product of 64 x 64, with an input of fixed batch where `batch` is a number.
pub(crate) fn product(batch: &str) -> String {
    format!(
        r#"<ir_version: 8, opset_import: ["" : 17]>
product (float[{batch}, 64] x) => (float[{batch}, 64] y)
< {} >
{{ [mm] y = MatMul (x, w) }}"#,
        weights("w", 64, 64)
    )
}

/// A product whose scales and zero points take more than its codes save.
pub(crate) fn tiny_product() -> String {
    format!(
        r#"<ir_version: 8, opset_import: ["" : 17]>
tiny (float[N, 2] x) => (float[N, 2] y)
< {} >
{{ [mm] y = MatMul (x, w) }}"#,
        weights("w", 2, 2)
    )
}

/// Two inputs.
pub(crate) fn two_inputs() -> String {
    format!(
        r#"<ir_version: 8, opset_import: ["" : 17]>
two (float[N, 64] x, float[N, 64] z) => (float[N, 64] y)
< {} >
{{ [mm] m = MatMul (x, w) [sum] y = Add (m, z) }}"#,
        weights("w", 64, 64)
    )
}

/// All that could be quantized lies in the branch of an If.
pub(crate) fn within_a_branch() -> String {
    format!(
        r#"<ir_version: 8, opset_import: ["" : 17]>
branch (bool c, float[N, 64] x) => (float[N, 64] y)
< {} >
{{
  [choice] y = If (c) <
    then_branch = t () => (float[N, 64] p) {{ [inner] p = MatMul (x, w) }},
    else_branch = e () => (float[N, 64] q) {{ q = Relu (x) }}
  >
}}"#,
        weights("w", 64, 64)
    )
}

/// A constant of 16 bits a number: numbers up to `size` with nothing special about them.
pub(crate) fn halves(element: ElementType, name: &str, shape: &[usize], size: f32) -> String {
    let count = shape.iter().product();
    let floats: Vec<f32> = (0..count).map(|i| size * ((i * 37 % 101) as f32 - 50.0) / 50.0).collect();
    let tensor = Tensor::of_floats(element, shape.to_vec(), floats).expect("a type of 16 bits");
    let bits = tensor.bytes().chunks_exact(2).map(|two| u16::from_le_bytes([two[0], two[1]]).to_string());
    let dims: Vec<String> = shape.iter().map(ToString::to_string).collect();
    format!("{}[{}] {name} = {{{}}}", element.name(), dims.join(", "), bits.collect::<Vec<_>>().join(", "))
}

/// A product of half floats.
pub(crate) fn half() -> String {
    format!(
        r#"<ir_version: 8, opset_import: ["" : 17]>
half (float16[N, 64] x) => (float16[N, 256] y)
< {} >
{{ [mm] y = MatMul (x, w) }}"#,
        halves(ElementType::F16, "w", &[64, 256], 0.5)
    )
}

/// A model that is quantized already.
pub(crate) fn quantized() -> String {
    r#"<ir_version: 8, opset_import: ["" : 17]>
quantized (float[N, 2] x) => (float[N, 2] y)
< float s = {0.5}, uint8 z = {128} >
{ q = QuantizeLinear (x, s, z) y = DequantizeLinear (q, s, z) }"#
        .to_owned()
}

/// A product in an operator version that is too old.
pub(crate) fn old() -> String {
    product("N").replace("17]", "6]")
}

/// An operator that only its own runtime knows, between two products.
pub(crate) fn custom_operator() -> String {
    format!(
        r#"<ir_version: 8, opset_import: ["" : 17, "my" : 1]>
custom (float[N, 64] x) => (float[N, 64] y)
< {} >
{{ [mm] m = MatMul (x, w) [odd] k = my.Strange (m) [mm2] y = MatMul (k, w) }}"#,
        weights("w", 64, 64)
    )
}

/// A model that takes only six elements, which its input's type does not tell.
pub(crate) fn secretive() -> String {
    format!(
        r#"<ir_version: 8, opset_import: ["" : 17]>
secretive (float[N, M] x) => (float[2, 64] y)
< int64[2] shape = {{2, 3}}, {} >
{{ [cut] six = Reshape (x, shape) [mm] y = MatMul (six, w) }}"#,
        weights("w", 3, 64)
    )
}
