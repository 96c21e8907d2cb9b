//! What files may have beside the ordinary, and must keep.

use onnxq_ir::{ElementType, Graph, Origin, Tensor};

use super::super::scan;
use super::*;
use tensor_shape_proto::dimension::Value::{DimParam, DimValue};

fn entry(key: &str, value: &str) -> StringStringEntryProto {
    StringStringEntryProto { key: text(key), value: text(value) }
}

fn read(proto: &ModelProto) -> onnxq_ir::Model {
    read_bytes(proto.encode_to_vec().into(), None).expect("a readable model")
}

fn error(proto: &ModelProto) -> String {
    read_bytes(proto.encode_to_vec().into(), None).expect_err("an unreadable model").to_string()
}

#[test]
fn the_sample_comes_back_byte_for_byte() {
    let bytes = sample().encode_to_vec();
    assert_eq!(to_bytes(&read(&sample())).expect("a writable model"), bytes);
}

#[test]
fn presence_is_kept() {
    for presence in [None, text(""), text("said")] {
        let mut proto = sample();
        proto.producer_name.clone_from(&presence);
        proto.producer_version.clone_from(&presence);
        proto.domain.clone_from(&presence);
        proto.doc_string.clone_from(&presence);
        proto.model_version = presence.as_ref().map(|text| text.len() as i64);
        proto.metadata_props = vec![StringStringEntryProto { key: presence.clone(), value: presence.clone() }];
        proto.opset_import.push(OperatorSetIdProto { domain: presence.clone(), version: Some(1) });
        proto.opset_import.push(OperatorSetIdProto { domain: text("odd"), version: proto.model_version });
        let graph = proto.graph.get_or_insert_default();
        graph.name.clone_from(&presence);
        graph.doc_string.clone_from(&presence);
        graph.input[0].doc_string.clone_from(&presence);
        graph.initializer[0].doc_string.clone_from(&presence);
        let node = &mut graph.node[0];
        node.name.clone_from(&presence);
        node.domain.clone_from(&presence);
        node.overload.clone_from(&presence);
        node.doc_string.clone_from(&presence);
        node.attribute.push(AttributeProto {
            name: presence.clone(),
            doc_string: presence.clone(),
            ref_attr_name: presence.clone().filter(String::is_empty),
            r#type: Some(2),
            i: Some(0),
            ..AttributeProto::default()
        });
        assert_lossless(&proto);
    }
    let mut proto = sample();
    proto.ir_version = None;
    proto.opset_import.clear();
    assert_lossless(&proto);
    proto.ir_version = Some(0);
    assert_lossless(&proto);
}

#[test]
fn fields_that_no_pass_reads_are_kept() {
    let mut proto = sample();
    proto.training_info.push(TrainingInfoProto {
        algorithm: Some(GraphProto { name: text("step"), ..GraphProto::default() }),
        initialization_binding: vec![entry("a", "b")],
        ..TrainingInfoProto::default()
    });
    proto.configuration.push(DeviceConfigurationProto {
        name: text("two"),
        num_devices: Some(2),
        device: vec!["d0".into(), "d1".into()],
    });
    proto.functions.push(FunctionProto {
        name: text("Twice"),
        domain: text("local"),
        input: vec!["a".into()],
        output: vec!["b".into()],
        attribute: vec!["alpha".into()],
        node: vec![NodeProto {
            attribute: vec![AttributeProto {
                name: text("alpha"),
                ref_attr_name: text("alpha"),
                r#type: Some(1),
                ..AttributeProto::default()
            }],
            ..node("Elu", &["a"], &["b"])
        }],
        opset_import: vec![OperatorSetIdProto { domain: text(""), version: Some(15) }],
        ..FunctionProto::default()
    });
    let graph = proto.graph.get_or_insert_default();
    graph.metadata_props.push(entry("k", "v"));
    graph.quantization_annotation.push(TensorAnnotation {
        tensor_name: text("s"),
        quant_parameter_tensor_names: vec![entry("SCALE_TENSOR", "scale")],
    });
    graph.sparse_initializer.push(SparseTensorProto {
        values: Some(raw_tensor("sparse", 1, &[1], vec![0; 4])),
        indices: Some(raw_tensor("", 7, &[1], vec![0; 8])),
        dims: vec![5],
    });
    graph.node[0].metadata_props.push(entry("k", "v"));
    graph.node[0].device_configurations.push(NodeDeviceConfigurationProto {
        configuration_id: text("two"),
        sharding_spec: vec![ShardingSpecProto { tensor_name: text("x"), device: vec![0, 1], ..Default::default() }],
        pipeline_stage: Some(1),
    });
    graph.node.push(node("Identity", &["sparse"], &["dense"]));
    assert_lossless(&proto);

    let model = read(&proto);
    let function = model.function("local", "Twice", "").expect("the function");
    assert_eq!(function.body.op_ids().count(), 1);
    assert_eq!(function.body.opset(), 15);
    let sparse = model.graph.find_value("sparse").expect("the sparse initializer");
    assert_eq!(*model.graph.value(sparse).origin(), Origin::Sparse);
}

#[test]
fn attributes_of_every_kind_are_kept() {
    let tensor = || raw_tensor("inner", 1, &[], vec![0, 0, 0xc0, 0x7f]);
    let sparse = || SparseTensorProto { values: Some(tensor()), ..SparseTensorProto::default() };
    let map = type_proto::Map { key_type: Some(7), value_type: Some(Box::default()) };
    let map = || TypeProto { value: Some(type_proto::Value::MapType(Box::new(map.clone()))), denotation: text("d") };
    let plain = AttributeProto { name: text("a"), ..AttributeProto::default() };
    let full = AttributeProto {
        f: Some(f32::NAN),
        i: Some(-1),
        s: Some(vec![0xff].into()),
        t: Some(Box::new(tensor())),
        sparse_tensor: Some(Box::new(sparse())),
        tp: Some(Box::new(map())),
        floats: vec![0.0, -0.0, f32::NAN],
        ints: vec![i64::MIN, 0],
        strings: vec![Bytes::new()],
        tensors: vec![tensor(), tensor()],
        sparse_tensors: vec![sparse()],
        type_protos: vec![map()],
        ..plain.clone()
    };
    // Each type with all fields, with its own left out, and with none: writers leave out zeros, and add what they like.
    let mut attributes = Vec::new();
    for code in (0..16).filter(|code| !matches!(code, 5 | 10)) {
        for base in [&full, &plain] {
            attributes.push(AttributeProto { r#type: Some(code), ..base.clone() });
        }
    }
    attributes.push(full.clone());
    attributes.push(plain.clone());
    attributes.push(AttributeProto { ints: vec![1], ..plain.clone() });
    attributes.push(AttributeProto { i: Some(0), ..plain.clone() });
    attributes.push(AttributeProto { r#type: Some(5), ..plain.clone() });
    attributes.push(AttributeProto { r#type: Some(10), ..plain });
    let mut proto = sample();
    proto.graph.get_or_insert_default().node[0].attribute = attributes;
    assert_lossless(&proto);
}

#[test]
fn declarations_are_kept() {
    let dimension = |value, denotation: Option<&str>| tensor_shape_proto::Dimension {
        value,
        denotation: denotation.map(str::to_owned),
    };
    let dims = vec![
        dimension(None, None),
        dimension(Some(DimValue(-1)), None),
        dimension(Some(DimValue(0)), Some("")),
        dimension(Some(DimParam(String::new())), None),
        dimension(Some(DimParam("batch".into())), Some("N")),
    ];
    let tensor = |elem_type, shape| type_proto::Value::TensorType(type_proto::Tensor { elem_type, shape });
    let types = [
        None,
        Some(tensor(None, None)),
        Some(tensor(Some(0), Some(TensorShapeProto { dim: vec![] }))),
        Some(tensor(Some(99), None)),
        Some(tensor(Some(1), None)),
        Some(tensor(Some(1), Some(TensorShapeProto { dim: dims }))),
        Some(type_proto::Value::SequenceType(Box::default())),
        Some(type_proto::Value::OpaqueType(type_proto::Opaque { domain: text("d"), name: None })),
    ];
    for value in types {
        for denotation in [None, text("IMAGE")] {
            let mut proto = sample();
            let graph = proto.graph.get_or_insert_default();
            let r#type = Some(TypeProto { value: value.clone(), denotation });
            graph.input[0].r#type.clone_from(&r#type);
            graph.output[0].r#type.clone_from(&r#type);
            // Entries for values that are not there, among others.
            graph.value_info = vec![info("ghost"), ValueInfoProto { r#type, ..info("s") }, info("spirit"), info("")];
            assert_lossless(&proto);
        }
    }
}

#[test]
fn slots_and_order_are_kept() {
    let mut proto = sample();
    let graph = proto.graph.get_or_insert_default();
    graph.node.push(node("Odd", &["", "x", "", ""], &["", "o", ""]));
    graph.node.push(node("None", &[], &[]));
    // A reader before its producer, and a body that captures what comes later.
    graph.node.reverse();
    assert_lossless(&proto);
    let graph = read(&proto).graph;
    let odd = graph.producer(graph.find_value("o").expect("o")).expect("a producer").0;
    assert_eq!(graph.op(odd).input_arity(), 4);
    assert_eq!(graph.inputs_of(odd).iter().map(Option::is_some).collect::<Vec<_>>(), [false, true, false, false]);
}

#[test]
fn initializers_are_kept_read_or_not() {
    let mut proto = sample();
    let graph = proto.graph.get_or_insert_default();
    graph.initializer.push(raw_tensor("unread", 2, &[1], vec![7]));
    graph.initializer.push(TensorProto { name: None, ..raw_tensor("", 2, &[1], vec![7]) });
    graph.initializer.push(raw_tensor("", 2, &[0], vec![]));
    graph.initializer.insert(0, raw_tensor("x", 1, &[1, 2], vec![0; 8]));
    graph.output.push(info("unread"));
    graph.output.push(info("x"));
    assert_lossless(&proto);
    let graph = read(&proto).graph;
    let x = graph.find_value("x").expect("x");
    assert!(matches!(graph.value(x).origin(), Origin::Input(Some(tensor)) if tensor.shape() == [1, 2]));
    assert_eq!(graph.initializers()[0], x);
}

#[test]
fn each_graph_between_captures_for_itself() {
    let wrap = |name: &str, inner: NodeProto| {
        let output = inner.output[0].clone();
        let graph =
            GraphProto { name: text(name), node: vec![inner], output: vec![info(&output)], ..Default::default() };
        let mut outer = node("If", &["c"], &[&format!("{name}_t")]);
        let body = |branch: &str| AttributeProto {
            name: text(branch),
            r#type: Some(5),
            g: Some(Box::new(graph.clone())),
            ..AttributeProto::default()
        };
        outer.attribute = vec![body("then_branch"), body("else_branch")];
        outer
    };
    let mut proto = sample();
    let graph = proto.graph.get_or_insert_default();
    graph.node.push(wrap("outer", wrap("inner", node("Neg", &["w"], &["n"]))));
    assert_lossless(&proto);

    let graph = read(&proto).graph;
    let op = graph.producer(graph.find_value("outer_t").expect("a value")).expect("a producer").0;
    let captured = |graph: &Graph| {
        let value = graph.find_value("w").expect("the captured value");
        match graph.value(value).origin() {
            Origin::Captured(outer) => *outer,
            other => panic!("not captured but {other:?}"),
        }
    };
    let names = |values: Vec<onnxq_ir::ValueId>| values.into_iter().map(|v| graph.value(v).name()).collect::<Vec<_>>();
    assert_eq!(names(graph.captures_of(op)), ["w", "c"]);
    for body in graph.op(op).bodies() {
        assert_eq!(Some(captured(body)), graph.find_value("w"));
        let (inner_op, _) = body.producer(body.find_value("inner_t").expect("a value")).expect("a producer");
        for inner in body.op(inner_op).bodies() {
            assert_eq!(Some(captured(inner)), body.find_value("w"));
        }
    }
}

#[test]
fn a_capture_that_moved_goes_by_its_new_name() {
    let graph = GraphProto {
        name: text("branch"),
        node: vec![node("Neg", &["s"], &["n"])],
        output: vec![info("n")],
        ..Default::default()
    };
    let body = |branch: &str| AttributeProto {
        name: text(branch),
        r#type: Some(5),
        g: Some(Box::new(graph.clone())),
        ..AttributeProto::default()
    };
    let mut proto = sample();
    let mut choice = node("If", &["c"], &["chosen"]);
    choice.attribute = vec![body("then_branch"), body("else_branch")];
    proto.graph.get_or_insert_default().node.push(choice);
    let mut model = read(&proto);
    let find = |model: &onnxq_ir::Model, name: &str| model.graph.find_value(name).expect("a value");
    let (s, x) = (find(&model, "s"), find(&model, "x"));
    let owner = model.graph.producer(find(&model, "chosen")).expect("a producer").0;
    let mut patch = onnxq_ir::Patch::new(&model.graph, "test", owner);
    patch.redirect_use(onnxq_ir::Use { op: owner, slot: onnxq_ir::Slot::Capture }, s, x);
    patch.apply(&mut model.graph).expect("applies");
    let again = crate::onnx::read_bytes(crate::onnx::to_bytes(&model).expect("bytes").into(), None).expect("a model");
    let owner = again.graph.producer(find(&again, "chosen")).expect("a producer").0;
    assert_eq!(again.graph.captures_of(owner), [find(&again, "x")]);
}

/// Bits of the elements, first element and lowest bit first: what ONNX's raw data is, said once more.
fn bit_stream(codes: &[u64], bits: usize) -> Vec<u8> {
    let mut bytes = vec![0u8; (codes.len() * bits).div_ceil(8)];
    for (i, code) in codes.iter().enumerate() {
        for bit in 0..bits {
            bytes[(i * bits + bit) / 8] |= ((code >> bit & 1) as u8) << ((i * bits + bit) % 8);
        }
    }
    bytes
}

/// A tensor with these codes in the field of its type, as ONNX's definition says.
fn typed_tensor(element: ElementType, codes: &[u64]) -> TensorProto {
    let sign = |code: u64, bits: u32| (code << (64 - bits)).cast_signed() >> (64 - bits);
    let mut proto = TensorProto {
        name: text("w"),
        data_type: Some(element.code()),
        dims: vec![codes.len() as i64],
        ..Default::default()
    };
    let packed = bit_stream(codes, element.bits());
    match element {
        ElementType::F32 => proto.float_data = codes.iter().map(|&c| f32::from_bits(c as u32)).collect(),
        ElementType::F64 => proto.double_data = codes.iter().map(|&c| f64::from_bits(c)).collect(),
        ElementType::I64 => proto.int64_data = codes.iter().map(|&c| c.cast_signed()).collect(),
        ElementType::U32 | ElementType::U64 => proto.uint64_data = codes.to_vec(),
        ElementType::I8 => proto.int32_data = codes.iter().map(|&c| sign(c, 8) as i32).collect(),
        ElementType::I16 => proto.int32_data = codes.iter().map(|&c| sign(c, 16) as i32).collect(),
        _ if element.bits() < 6 => proto.int32_data = packed.iter().map(|&byte| byte.into()).collect(),
        _ => proto.int32_data = codes.iter().map(|&c| c as i32).collect(),
    }
    proto
}

fn with_weight(tensor: TensorProto) -> ModelProto {
    model(GraphProto { initializer: vec![tensor], ..GraphProto::default() })
}

fn weight(proto: &ModelProto) -> Tensor {
    let graph = read(proto).graph;
    graph.constant(graph.initializers()[0]).expect("a constant").clone()
}

#[test]
fn typed_fields_of_every_type_become_raw_data_and_come_back() {
    let mut state = 1u64;
    let mut random = move || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        state ^ state >> 29
    };
    let no_complex = |e: &&ElementType| !matches!(e, ElementType::String | ElementType::C64 | ElementType::C128);
    for &element in ElementType::ALL.iter().filter(no_complex) {
        for count in 0..11 {
            let codes: Vec<u64> = (0..count).map(|_| random() & u64::MAX >> (64 - element.bits())).collect();
            let proto = with_weight(typed_tensor(element, &codes));
            assert_eq!(weight(&proto).bytes(), bit_stream(&codes, element.bits()), "{element}");
            assert_lossless(&proto);
            let raw = with_weight(raw_tensor("w", element.code(), &[count], bit_stream(&codes, element.bits())));
            assert_lossless(&raw);
        }
    }
}

#[test]
fn complex_numbers_and_strings_are_kept() {
    let complex = TensorProto {
        float_data: vec![1.0, f32::NAN, -0.0, 2.0],
        ..raw_tensor("w", ElementType::C64.code(), &[2], vec![])
    };
    let complex = with_weight(TensorProto { raw_data: None, ..complex });
    assert_eq!(weight(&complex).bytes()[8..], [0, 0, 0, 0x80, 0, 0, 0, 0x40]);
    assert_lossless(&complex);
    let strings = TensorProto { string_data: vec!["a".into(), Bytes::new()], ..raw_tensor("w", 8, &[2, 1], vec![]) };
    for raw_data in [None, Some(Bytes::new())] {
        assert_lossless(&with_weight(TensorProto { raw_data, ..strings.clone() }));
    }
}

#[test]
fn unusual_storage_is_kept() {
    let typed = typed_tensor(ElementType::U8, &[1, 255]);
    // A sign where there should be none.
    let negative = TensorProto { int32_data: vec![1, -1], ..typed.clone() };
    assert_eq!(weight(&with_weight(negative.clone())).bytes(), [1, 255]);
    assert_lossless(&with_weight(negative));
    // Both fields; the raw one counts, unless it is empty.
    let both = TensorProto { raw_data: Some(vec![3, 4].into()), ..typed.clone() };
    assert_eq!(weight(&with_weight(both.clone())).bytes(), [3, 4]);
    assert_lossless(&with_weight(both));
    let empty = TensorProto { raw_data: Some(Bytes::new()), ..typed.clone() };
    assert_eq!(weight(&with_weight(empty.clone())).bytes(), [1, 255]);
    assert_lossless(&with_weight(empty));
    let located = TensorProto { data_location: Some(0), metadata_props: vec![entry("k", "")], ..typed };
    assert_lossless(&with_weight(located));
}

#[test]
fn bad_tensors_are_named() {
    let typed = typed_tensor(ElementType::U8, &[1, 2]);
    let bad = |tensor: TensorProto| error(&with_weight(tensor));
    assert_eq!(
        bad(TensorProto { int32_data: vec![1, 256], ..typed.clone() }),
        "initializer `w`: entry 256 of `int32_data` is no uint8"
    );
    assert_eq!(
        bad(TensorProto { dims: vec![3], ..typed.clone() }),
        "initializer `w`: needs 3 entries in `int32_data`, not 2"
    );
    assert_eq!(bad(TensorProto { dims: vec![-2], ..typed.clone() }), "initializer `w`: dimension -2 is negative");
    assert_eq!(bad(TensorProto { data_type: None, ..typed.clone() }), "initializer `w`: unknown element type 0");
    assert_eq!(bad(TensorProto { data_type: Some(29), ..typed.clone() }), "initializer `w`: unknown element type 29");
    assert!(bad(TensorProto { dims: vec![1 << 40, 1 << 40], ..typed.clone() }).ends_with("is too large"));
    assert!(bad(TensorProto { segment: Some(tensor_proto::Segment::default()), ..typed }).contains("segments"));
    assert_eq!(
        bad(raw_tensor("w", 1, &[2], vec![0; 7])),
        "initializer `w`: float tensor of shape [2] needs 8 bytes, not 7"
    );
}

#[test]
fn inconsistent_values_are_named() {
    let change = |change: &dyn Fn(&mut GraphProto)| {
        let mut proto = sample();
        change(proto.graph.get_or_insert_default());
        error(&proto)
    };
    assert_eq!(
        change(&|graph| graph.node.push(node("Add", &["x", "gone"], &["z"]))),
        "the node of output `z` (Add) reads `gone`, which nothing defines"
    );
    assert_eq!(
        change(&|graph| graph.output.push(info("gone"))),
        "the output list of graph `g` reads `gone`, which nothing defines"
    );
    assert_eq!(
        change(&|graph| graph.node.push(NodeProto { name: text("again"), ..node("Neg", &["x"], &["s"]) })),
        "graph `g`: value `s` is defined twice, the second time by node `again` (Neg)"
    );
    assert_eq!(
        change(&|graph| graph.input.push(info("x"))),
        "graph `g`: value `x` is defined twice, the second time by a graph input"
    );
    assert_eq!(
        change(&|graph| graph.initializer.push(raw_tensor("w", 2, &[0], vec![]))),
        "graph `g`: value `w` is defined twice, the second time by an initializer"
    );
    assert_eq!(change(&|graph| graph.input.push(info(""))), "graph `g`: input 2 has no name");
}

#[test]
fn what_would_be_lost_is_refused() {
    let mut proto = sample();
    let bytes = proto.encode_to_vec();
    // Field 77 of the model, a number.
    let newer = [&bytes[..], &[0xe8, 0x04, 0x01]].concat();
    let error = read_bytes(newer.into(), None).expect_err("an unknown field").to_string();
    assert!(error.starts_with("has field 77 in a `ModelProto`"), "{error}");
    // The same within a node.
    let graph = proto.graph.take().unwrap_or_default();
    let node = [&graph.node[0].encode_to_vec()[..], &[0xe8, 0x04, 0x01]].concat();
    let framed = |number: u8, content: &[u8]| [&[number << 3 | 2, content.len() as u8], content].concat();
    let newer = [proto.encode_to_vec(), framed(7, &framed(1, &node))].concat();
    let error = read_bytes(newer.into(), None).expect_err("an unknown field").to_string();
    assert!(error.starts_with("has field 77 in a `NodeProto`"), "{error}");
}

#[test]
fn other_encodings_of_the_same_message_are_read() {
    // Fields in another order, and numbers that could be packed one by one.
    let tensor = [&[0x25, 0, 0, 0x80, 0x3f, 0x25, 0, 0, 0, 0x40], &[0x42, 1, b'w', 0x10, 1, 0x0a, 1, 2][..]].concat();
    let framed = |number: u8, content: &[u8]| [&[number << 3 | 2, content.len() as u8], content].concat();
    let bytes = [framed(8, &[0x10, 17]), framed(7, &framed(5, &tensor)), vec![0x08, 10]].concat();
    let model = read_bytes(bytes.clone().into(), None).expect("a readable model");
    let values = model.graph.constant(model.graph.initializers()[0]).and_then(Tensor::to_f32).map(|x| x.to_vec());
    assert_eq!(values, Some(vec![1.0, 2.0]));
    let (before, after) = round_trip(&bytes).expect("a readable model");
    assert_eq!(before, after);
}

/// The table of fields against the definition that the generated code comes from.
#[test]
fn schemas_have_the_fields_of_the_definition() {
    use std::collections::{BTreeMap, BTreeSet};
    let mut defined: BTreeMap<String, BTreeSet<u32>> = BTreeMap::new();
    let mut open: Vec<Option<String>> = Vec::new();
    for line in include_str!("../onnx-ml.proto").lines() {
        let line = line.split("//").next().unwrap_or_default();
        let line = line.split(" [").next().unwrap_or_default().trim();
        let words: Vec<&str> = line.split_whitespace().collect();
        match words.as_slice() {
            ["message", name, "{"] => {
                defined.entry((*name).to_owned()).or_default();
                open.push(Some((*name).to_owned()));
            }
            [.., "{"] if words[0] == "oneof" => open.push(open.last().cloned().flatten()),
            [.., "{"] => open.push(None),
            [first, ..] if first.starts_with('}') => _ = open.pop(),
            [.., "=", number] if words[0] != "option" => {
                if let Some(Some(message)) = open.last() {
                    let number = number.trim_end_matches(';').parse().expect("a field number");
                    defined.get_mut(message).expect("an open message").insert(number);
                }
            }
            _ => {}
        }
    }
    let known =
        scan::ALL.iter().map(|schema| (schema.name.to_owned(), schema.fields.iter().map(|field| field.0).collect()));
    assert_eq!(known.collect::<BTreeMap<String, BTreeSet<u32>>>(), defined);
}
