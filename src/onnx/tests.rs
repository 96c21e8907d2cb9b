//! Tests of reading and writing.

mod files;
mod hostile;
mod output;
mod quirks;

use bytes::Bytes;
use prost::Message;

use super::proto::*;
use super::{read_bytes, to_bytes};

/// Reads and writes; gives the encoding of both messages.
fn round_trip(bytes: &[u8]) -> Result<(Vec<u8>, Vec<u8>), String> {
    let model = read_bytes(Bytes::copy_from_slice(bytes), None).map_err(|error| error.to_string())?;
    let written = to_bytes(&model).map_err(|error| error.to_string())?;
    // Encodings are compared, since a message with NaN in it does not equal itself.
    let encoding =
        |bytes: &[u8]| ModelProto::decode(bytes).map(|proto| proto.encode_to_vec()).map_err(|e| e.to_string());
    Ok((encoding(bytes)?, encoding(&written)?))
}

#[track_caller]
fn assert_lossless(proto: &ModelProto) {
    let (before, after) = round_trip(&proto.encode_to_vec()).expect("a readable model");
    if before != after {
        let after = ModelProto::decode(&after[..]).expect("what was encoded");
        panic!("not equal:\n{proto:#?}\nbecame\n{after:#?}");
    }
}

/// As optional fields have it.
#[expect(clippy::unnecessary_wraps, reason = "every field of the messages is optional")]
fn text(text: &str) -> Option<String> {
    Some(text.to_owned())
}

fn node(op_type: &str, inputs: &[&str], outputs: &[&str]) -> NodeProto {
    NodeProto {
        op_type: text(op_type),
        input: inputs.iter().map(|&name| name.to_owned()).collect(),
        output: outputs.iter().map(|&name| name.to_owned()).collect(),
        ..NodeProto::default()
    }
}

fn info(name: &str) -> ValueInfoProto {
    ValueInfoProto { name: text(name), ..ValueInfoProto::default() }
}

fn typed_info(name: &str, element: i32, dims: &[i64]) -> ValueInfoProto {
    let dimension = |&size: &i64| tensor_shape_proto::Dimension {
        value: Some(tensor_shape_proto::dimension::Value::DimValue(size)),
        denotation: None,
    };
    let shape = Some(TensorShapeProto { dim: dims.iter().map(dimension).collect() });
    let value = Some(type_proto::Value::TensorType(type_proto::Tensor { elem_type: Some(element), shape }));
    ValueInfoProto { r#type: Some(TypeProto { value, denotation: None }), ..info(name) }
}

fn raw_tensor(name: &str, element: i32, dims: &[i64], bytes: Vec<u8>) -> TensorProto {
    TensorProto {
        name: text(name),
        data_type: Some(element),
        dims: dims.to_vec(),
        raw_data: Some(bytes.into()),
        ..TensorProto::default()
    }
}

fn model(graph: GraphProto) -> ModelProto {
    ModelProto {
        ir_version: Some(10),
        opset_import: vec![OperatorSetIdProto { domain: text(""), version: Some(17) }],
        graph: Some(graph),
        ..ModelProto::default()
    }
}

/// `y = Relu(x + w)` with a weight, a body that captures, and a bit of everything.
fn sample() -> ModelProto {
    let branch = |name: &str| GraphProto {
        name: text(name),
        node: vec![node("Add", &["s", "w"], &[&format!("{name}_out")])],
        output: vec![info(&format!("{name}_out"))],
        ..GraphProto::default()
    };
    let body = |name: &str, graph: &str| AttributeProto {
        name: text(name),
        r#type: Some(5),
        g: Some(Box::new(branch(graph))),
        ..AttributeProto::default()
    };
    let mut choice = node("If", &["c"], &["t"]);
    choice.attribute = vec![body("then_branch", "yes"), body("else_branch", "no")];
    let mut leaky = node("LeakyRelu", &["t"], &["y"]);
    leaky.name = text("act");
    leaky.attribute =
        vec![AttributeProto { name: text("alpha"), r#type: Some(1), f: Some(0.5), ..AttributeProto::default() }];
    model(GraphProto {
        name: text("g"),
        node: vec![node("Add", &["x", "w"], &["s"]), choice, leaky],
        initializer: vec![raw_tensor("w", 1, &[2], [1.0f32, 2.0].iter().flat_map(|x| x.to_le_bytes()).collect())],
        input: vec![typed_info("x", 1, &[1, 2]), typed_info("c", 9, &[])],
        output: vec![typed_info("y", 1, &[1, 2])],
        value_info: vec![typed_info("s", 1, &[1, 2])],
        ..GraphProto::default()
    })
}
