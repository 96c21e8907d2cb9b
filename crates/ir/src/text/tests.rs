//! Tests of the text form. That `onnx.parser` reads the same out of it is checked where Python is at hand.

use bytes::Bytes;

use super::{ParseError, Problem, Weights, header_comments, parse, print, print_graph};
use crate::graph::{Builder, Declared, Graph};
use crate::model::{Function, Model, OpsetImport};
use crate::op::{Attribute, AttributeValue, Op};
use crate::tensor::Tensor;
use crate::types::{Carried, Dim, ElementType, TensorType, ValueType};
use crate::value::{Origin, Value, ValueId};
use crate::verify::verify;

const EVERY_FEATURE: &str = include_str!("fixtures/every_feature.txt");
const PRINTED: &str = include_str!("fixtures/printed.txt");

fn read(text: &str) -> Model {
    parse(text).unwrap_or_else(|error| panic!("{error}\n{text}"))
}

fn error(text: &str) -> String {
    parse(text).map(|model| print(&model, Weights::Full)).expect_err("a text that is wrong").to_string()
}

/// A model with nothing but this block of initializers.
fn with_block(block: &str) -> String {
    format!("g () => () <{block}> {{}}")
}

fn constant(block: &str) -> Tensor {
    let graph = read(&with_block(block)).graph;
    graph.constant(graph.initializers()[0]).expect("an initializer").clone()
}

fn named(graph: &Graph, name: &str) -> ValueId {
    graph.find_value(name).unwrap_or_else(|| panic!("no value `{name}`"))
}

fn only_op(graph: &Graph) -> &Op {
    graph.op(graph.op_ids().next().expect("an operator"))
}

#[test]
fn every_feature_prints_as_expected_and_is_stable() {
    let model = read(EVERY_FEATURE);
    assert!(verify(&model.graph).is_empty());
    assert_eq!(print(&model, Weights::Full), PRINTED);
    assert_eq!(print(&read(PRINTED), Weights::Full), PRINTED);
}

#[test]
fn leading_comments_are_the_header() {
    assert_eq!(header_comments("# expect: a\n\n  #b # c\n<ir_version: 8>\n# not this"), ["expect: a", "b # c"]);
    assert_eq!(header_comments("g () => () {}"), Vec::<String>::new());
    assert_eq!(header_comments(EVERY_FEATURE).len(), 2);
}

#[test]
fn the_header_gives_versions() {
    let model = read("<opset_import: [\"com.microsoft\" : 1, \"\" : 17], ir_version: 8, domain: \"d\"> g () => () {}");
    assert_eq!((model.ir_version, model.graph.opset()), (8, 17));
    let imports: Vec<_> = model.opsets.iter().map(|import| (import.domain.as_str(), import.version)).collect();
    assert_eq!(imports, [("com.microsoft", 1), ("", 17)]);
}

#[test]
fn types_are_read() {
    let graph = read("g (float a, float[] b, int64[2, N, \"x y\", ?] c, d) => () {}").graph;
    let types: Vec<_> = graph.inputs().iter().map(|input| input.value_type.clone()).collect();
    let tensor = |element, shape| ValueType::Tensor(TensorType { element, shape });
    let dims = vec![Dim::Known(2), Dim::Symbol("N".to_owned()), Dim::Symbol("x y".to_owned()), Dim::Unknown];
    assert_eq!(
        types,
        [
            tensor(ElementType::F32, Some(vec![])),
            tensor(ElementType::F32, None),
            tensor(ElementType::I64, Some(dims)),
            ValueType::Unknown
        ]
    );
}

#[test]
fn elements_have_the_bytes_of_their_type() {
    assert_eq!(constant("float[3] w = {1, -2.5, 1e-45}"), Tensor::new(vec![3], vec![1f32, -2.5, f32::from_bits(1)]));
    assert_eq!(constant("double w = {0.1}"), Tensor::scalar(0.1f64));
    assert_eq!(constant("int8[2] w = {-128, 127}"), Tensor::new(vec![2], vec![-128i8, 127]));
    assert_eq!(constant("uint16[1] w = {65535}"), Tensor::new(vec![1], vec![u16::MAX]));
    assert_eq!(constant("int64[1] w = {-9223372036854775808}"), Tensor::new(vec![1], vec![i64::MIN]));
    assert_eq!(constant("uint64[1] w = {18446744073709551615}"), Tensor::new(vec![1], vec![u64::MAX]));
    assert_eq!(constant("float16[1] w = {49408}"), Tensor::new(vec![1], vec![half::f16::from_f32(-2.5)]));
    assert_eq!(constant("bfloat16[1] w = {49184}"), Tensor::new(vec![1], vec![half::bf16::from_f32(-2.5)]));
    assert_eq!(constant("bool[2] w = {0, 1}").bytes(), [0, 1]);
    let strings = vec![Bytes::from("a\"b"), Bytes::from("c\\"), Bytes::from("\nd")];
    assert_eq!(constant("string[3] w = {\"a\\\"b\", \"c\\\\\", \"\nd\"}"), Tensor::strings(vec![3], strings).unwrap());
}

#[test]
fn small_types_are_read_per_element_and_packed() {
    for (element, bits, low, high) in [("int4", 4, -8, 8), ("uint4", 4, 0, 16), ("int2", 2, -2, 2), ("uint2", 2, 0, 4)]
    {
        for count in 1..=6usize {
            for first in low..high {
                // Every first element, and others that differ from it.
                let elements: Vec<i32> =
                    (0..count as i32).map(|i| low + (first - low + 3 * i) % (high - low)).collect();
                let mut packed = vec![0u8; (count * bits).div_ceil(8)];
                for (i, value) in elements.iter().enumerate() {
                    for bit in 0..bits {
                        packed[(i * bits + bit) / 8] |= ((value >> bit & 1) as u8) << ((i * bits + bit) % 8);
                    }
                }
                let per_element = constant(&format!("{element}[{count}] w = {{{}}}", join(&elements)));
                assert_eq!(per_element.bytes(), packed, "{element} {elements:?}");
                assert_eq!(constant(&format!("{element}[{count}] w = {{{}}}", join(&packed))), per_element);
            }
        }
    }
    let text = with_block("float6e2m3[5] w = {63, 1, 32, 0, 21}");
    assert_eq!(constant("float6e2m3[5] w = {63, 1, 32, 0, 21}").bytes(), [0x7f, 0x00, 0x02, 0x15]);
    assert!(print(&read(&text), Weights::Full).contains("{63, 1, 32, 0, 21}"));
}

fn join<T: ToString>(items: &[T]) -> String {
    items.iter().map(T::to_string).collect::<Vec<_>>().join(", ")
}

#[test]
fn floats_survive_bit_for_bit() {
    let mut bits: Vec<u32> = (0..=u32::MAX).step_by(0x0003_0007).collect();
    bits.extend([0, 0x8000_0000, 0x7f80_0000, 0xff80_0000, 0x7f7f_ffff, 1, 0x007f_ffff, 0x7fc0_0000, 0xffc0_0000]);
    let floats: Vec<f32> = bits.iter().map(|&bits| f32::from_bits(bits)).collect();
    let doubles: Vec<f64> = bits.iter().map(|&bits| f64::from_bits(u64::from(bits) << 32 | 0x1234_5678)).collect();
    let mut builder = Builder::new("g", 17);
    for (name, tensor) in [("f", Tensor::new(vec![bits.len()], floats)), ("d", Tensor::new(vec![bits.len()], doubles))]
    {
        builder.add_value(Value::new(name, ValueType::Unknown, Origin::Constant(tensor)));
    }
    let graph = builder.finish();
    let again = read(&print_graph(&graph, Weights::Full)).graph;
    let constant = |graph: &Graph, name| graph.constant(named(graph, name)).unwrap().clone();
    for (before, after) in
        constant(&graph, "f").view::<f32>().unwrap().iter().zip(&*constant(&again, "f").view::<f32>().unwrap())
    {
        let kept = before.to_bits() == after.to_bits();
        assert!(kept || before.is_nan() && after.is_nan() && before.is_sign_negative() == after.is_sign_negative());
    }
    for (before, after) in
        constant(&graph, "d").view::<f64>().unwrap().iter().zip(&*constant(&again, "d").view::<f64>().unwrap())
    {
        assert!(before.to_bits() == after.to_bits() || before.is_nan() && after.is_nan());
    }
}

#[test]
fn any_name_survives() {
    let names = [
        "x",
        "_",
        "",
        "a b",
        "/blocks.0/Add_output_0",
        "q\"",
        "\\",
        "float",
        "seq",
        "NaN",
        "é",
        "#",
        "a\nb",
        "0",
        "=>",
    ];
    for name in names {
        let value_name = if name.is_empty() { "v" } else { name };
        let mut builder = Builder::new(name, 17);
        let input = builder.add_value(Value::new(value_name, ValueType::Unknown, Origin::Input(None)));
        builder.declare_input(Declared { value: input, value_type: ValueType::Unknown, carried: Carried::default() });
        let attribute = Attribute::string(name, name);
        let op = Op::new(name, name, vec![attribute]).named(name).overloaded(name);
        builder.add_op(op, &[Some(input), None], &[]);
        let graph = read(&print_graph(&builder.finish(), Weights::Full)).graph;
        assert_eq!(graph.name(), name);
        assert_eq!(graph.value(graph.inputs()[0].value).name(), value_name);
        let op = only_op(&graph);
        assert_eq!([op.domain(), op.op_type(), op.name(), op.overload(), &op.attributes()[0].name], [name; 5]);
        assert!(matches!(&op.attributes()[0].value, AttributeValue::String(string) if string == name.as_bytes()));
        assert_eq!(op.input_arity(), 2);
    }
}

#[test]
fn omitted_slots_are_kept() {
    let graph = read("g (x) => () { \"\", y = A (, x, \"\", x) z = B (\"\") = C (x,) = D () = E (,)}").graph;
    let ops: Vec<_> = graph.topological();
    let slots = |i: usize| {
        let shown = |values: Vec<Option<ValueId>>| -> Vec<String> {
            values
                .iter()
                .map(|value| value.map_or("-".to_owned(), |value| graph.value(value).name().to_owned()))
                .collect()
        };
        (shown(graph.outputs_of(ops[i])).join(" "), shown(graph.inputs_of(ops[i])).join(" "))
    };
    let expected = [("- y", "- x - x"), ("z", "-"), ("", "x"), ("", ""), ("", "-")];
    for (i, (outputs, inputs)) in expected.into_iter().enumerate() {
        assert_eq!(slots(i), (outputs.to_owned(), inputs.to_owned()));
    }
}

#[test]
fn bodies_capture_through_every_graph_between() {
    let text = "g (float[2] x, bool c) => (y) {
        y = If (c) <then_branch = a () => (p) { p = If (c) <then_branch = b () => (q) { q = Neg (x) r = Abs (x) }> }>
    }";
    let graph = read(text).graph;
    let (x, c) = (named(&graph, "x"), named(&graph, "c"));
    let outer = graph.op_ids().next().unwrap();
    assert_eq!(graph.captures_of(outer), [x, c]);
    let middle = graph.op(outer).bodies().next().unwrap();
    assert_eq!(*middle.value(named(middle, "x")).origin(), Origin::Captured(x));
    let inner = only_op(middle).bodies().next().unwrap();
    assert_eq!(*inner.value(named(inner, "x")).origin(), Origin::Captured(named(middle, "x")));
    assert!(inner.find_value("c").is_none());
    assert_eq!(inner.readers(named(inner, "x")).len(), 2);
    assert_eq!(inner.tensor_type(named(inner, "x")), Some(TensorType::fixed(ElementType::F32, &[2])));
}

#[test]
fn operators_may_stand_in_any_order() {
    let graph = read("g (x) => (z) { z = B (y) y = A (x) }").graph;
    assert!(print_graph(&graph, Weights::Full).ends_with("{\n  y = A (x)\n  z = B (y)\n}\n"));
}

#[test]
fn defaults_of_inputs_are_initializers() {
    let inline = read("g (float[2] x = {1, 2}, float[1] y) => () <float[1] w = {0}> {}");
    let apart = read("g (float[2] x, float[1] y) => () <float[2] x = {1, 2}, float[1] w = {0}> {}");
    assert_eq!(print(&inline, Weights::Full), print(&apart, Weights::Full));
    let graph = &apart.graph;
    assert!(matches!(graph.value(named(graph, "x")).origin(), Origin::Input(Some(_))));
    assert!(matches!(graph.value(named(graph, "y")).origin(), Origin::Input(None)));
    assert_eq!(graph.initializers(), [named(graph, "x"), named(graph, "w")]);
    assert_eq!(graph.inputs()[0].value, named(graph, "x"));
}

#[test]
fn big_weights_are_hashed_and_small_ones_shown() {
    let zeros = |n: usize, last: u8| format!("float[{n}] w = {{{} {last}}}", "0,".repeat(n - 1));
    let hashed = |block: &str| print(&read(&with_block(block)), Weights::Hash);
    assert!(hashed(&zeros(16, 1)).contains("0.0, 1.0}"));
    let (one, two) = (hashed(&zeros(17, 1)), hashed(&zeros(17, 2)));
    assert_ne!(one, two);
    let digits = one.split_once("  float[17] w = #").unwrap().1.split_once('\n').unwrap().0;
    assert_eq!(digits.len(), 16);
    assert_eq!(u64::from_str_radix(digits, 16), Ok(constant(&zeros(17, 1)).content_hash()));
    assert!(parse(&one).is_err());
}

#[test]
fn a_captured_value_goes_by_the_name_that_it_has_outside() {
    let mut body = Builder::new("body", 17);
    let mut outer = Builder::new("g", 17);
    let x = outer.add_value(Value::new("x", ValueType::Unknown, Origin::Input(None)));
    outer.declare_input(Declared { value: x, value_type: ValueType::Unknown, carried: Carried::default() });
    let old = body.add_value(Value::new("old", ValueType::Unknown, Origin::Captured(x)));
    body.add_op(Op::new("", "Neg", vec![]), &[Some(old)], &[]);
    let branch = Attribute::new("then_branch", AttributeValue::Graph(Box::new(body.finish())));
    outer.add_op(Op::new("", "If", vec![branch]), &[], &[]);
    let text = print_graph(&outer.finish(), Weights::Full);
    assert!(text.contains("= Neg (x)"), "{text}");
    read(&text);
}

#[test]
fn what_the_syntax_cannot_say_is_a_comment() {
    let opaque = AttributeValue::Opaque(Carried::new(Bytes::from_static(b"?")));
    let attributes = vec![
        Attribute::new("like\nthis", opaque),
        Attribute::int("kept", 1),
        Attribute::new("bytes", AttributeValue::String(Bytes::from_static(b"\xff"))),
    ];
    let mut builder = Builder::new("g", 17);
    let other = ValueType::Other(Carried::new(Bytes::from_static(b"?")));
    let x = builder.add_value(Value::new("x", other.clone(), Origin::Input(None)));
    builder.declare_input(Declared { value: x, value_type: other, carried: Carried::default() });
    builder.add_value(Value::new("s", ValueType::Unknown, Origin::Sparse));
    builder.add_op(Op::new("", "A", attributes), &[Some(x)], &[]);
    let function = Function {
        domain: "d".to_owned(),
        name: "F".to_owned(),
        overload: String::new(),
        defaults: Vec::new(),
        body: read("f (a) => (b) { b = A <s = \"\n\"> (a) }").graph,
        encoded: Carried::default(),
    };
    let model = Model { graph: builder.finish(), functions: vec![function], ..Model::default() };
    let text = print(&model, Weights::Full);
    let expected = "<ir_version: 0, opset_import: []>
g (x) => () {
  # sparse initializer s
  # x is no tensor
  = A <kept = 1> (x)  # without \"like\\nthis\", bytes
}
# local function d.F
# f (a) => (b) {
#   b = A <s = \"
# \"> (a)
# }
";
    assert_eq!(text, expected);
    assert_eq!(only_op(&read(&text).graph).attributes().len(), 1);
}

#[test]
fn errors_say_where_and_what() {
    let cases = [
        ("", "line 1, column 1: expected the name of a graph, found the end of the text"),
        ("<ir_version 8>", "line 1, column 13: expected `:`, found `8`"),
        (
            "<version: 8>",
            "line 1, column 2: expected a key of the model's header, such as `ir_version` or `opset_import`, found `version`",
        ),
        ("<ir_version: 8.0> g", "line 1, column 14: expected an integer, found `8.0`"),
        ("g (x) -> (y) {}", "line 1, column 7: `-` begins no token; quote names that have it"),
        ("g (x) = (y) {}", "line 1, column 7: expected `=>`, found `=`"),
        ("g (x) => (x)\n{\n  y = A (é)\n}", "line 3, column 10: `é` begins no token; quote names that have it"),
        ("g (float[2.5] x) => () {}", "line 1, column 10: expected a size, a name or `?`, found `2.5`"),
        ("g (float[-1] x) => () {}", "line 1, column 10: expected a size, a name or `?`, found `-1`"),
        ("g (float[2] 3) => () {}", "line 1, column 13: expected a type or the name of a value, found `3`"),
        ("g (x y) => () {}", "line 1, column 6: expected `,` or `)`, found `y`"),
        ("g () => (float y = {1}) {}", "line 1, column 16: expected an output without elements, found a constant"),
        ("g () => () <float[2] w = {1, 2, 3}> {}", "line 1, column 26: a constant of this shape has 2 elements, not 3"),
        ("g () => () <int4[4] w = {1, 2, 3}> {}", "line 1, column 25: a constant of this shape has 4 elements, not 3"),
        (
            "g () => () <complex64[2] w = {1, 2, 3}> {}",
            "line 1, column 30: a constant of this shape has 4 elements, not 3",
        ),
        ("g () => () <float[N] w = {1}> {}", "line 1, column 26: expected a constant's shape to be fixed, found `{`"),
        ("g () => () <float[] w = {1}> {}", "line 1, column 25: expected a constant's shape to be fixed, found `{`"),
        (
            "g () => () <float[2] w = [\"location\": \"f\"]> {}",
            "line 1, column 26: external data can't be read from text; read the model from a file instead",
        ),
        ("g () => () <int8[1] w = {200}> {}", "line 1, column 26: `200` is out of range for int8"),
        ("g () => () <int8[1] w = {1.0}> {}", "line 1, column 26: `1.0` is out of range for int8"),
        ("g () => () <int4[3] w = {9, 0, 0}> {}", "line 1, column 25: `9` is out of range for int4"),
        ("g () => () <float[1] w = {1e39}> {}", "line 1, column 27: `1e39` is out of range for float"),
        ("g () => () <float[1] w = {\"a\"}> {}", "line 1, column 27: expected a number or `}`, found `\"a\"`"),
        ("g () => () <float[1] w = {1,}> {}", "line 1, column 29: expected a number or `}`, found `}`"),
        ("g () => () <string[1] w = {1}> {}", "line 1, column 28: expected a quoted string, found `1`"),
        (
            "g () => () <float[4294967296, 4294967296] w = {}> {}",
            "line 1, column 47: shape [4294967296, 4294967296] is too large",
        ),
        ("g () => () {", "line 1, column 13: expected the outputs of a node or `}`, found the end of the text"),
        ("g () => () { y = A }", "line 1, column 20: expected `(`, found `}`"),
        ("g () => () { y = (x) }", "line 1, column 18: expected the type of an operator, found `(`"),
        ("g () => () { y = A <a> () }", "line 1, column 22: expected `=`, found `>`"),
        (
            "g () => () { y = A <a = []> () }",
            "line 1, column 26: expected an element (an empty list needs its type: `name: ints = []`), found `]`",
        ),
        ("g () => () { y = A <a: int = []> () }", "line 1, column 31: expected an integer, found `]`"),
        ("g () => () { y = A <a: ints = 1> () }", "line 1, column 31: expected `[`, found `1`"),
        ("g () => () { y = A <a = [1, 2.0]> () }", "line 1, column 29: expected an integer, found `2.0`"),
        (
            "g () => () { y = A <a: number = 1> () }",
            "line 1, column 24: expected the type of an attribute, such as `ints` or `float`, found `number`",
        ),
        (
            "g () => () { y = A <a = 9223372036854775808> () }",
            "line 1, column 25: `9223372036854775808` is out of range for int64",
        ),
        (
            "g () => () { y = A <a = @b> () }",
            "line 1, column 25: a reference to a function's attribute can't be read from text; read the model from a file instead",
        ),
        (
            "g () => () { y = A <a: type_proto = float> () }",
            "line 1, column 24: an attribute of this type can't be read from text; read the model from a file instead",
        ),
        (
            "g (seq(float) x) => () {}",
            "line 1, column 4: a type that is no tensor's can't be read from text; read the model from a file instead",
        ),
        ("g () => () { y = A (\"x) }", "line 1, column 21: the string that begins here has no closing quote"),
        (
            "g () => () {\n  y = A (x) }",
            "line 2, column 10: `x` is neither an input, an initializer nor an operator's output, here or in a graph around",
        ),
        (
            "g () => (y) {}",
            "line 1, column 10: `y` is neither an input, an initializer nor an operator's output, here or in a graph around",
        ),
        ("g (x) => () { x = A () }", "line 1, column 15: `x` is defined twice in this graph"),
        ("g () => () { x, x = A () }", "line 1, column 17: `x` is defined twice in this graph"),
        ("g (x, x) => () {}", "line 1, column 7: `x` is defined twice in this graph"),
        ("g (float x = {1}) => () <float x = {1}> {}", "line 1, column 32: `x` is defined twice in this graph"),
        ("g (\"\") => () {}", "line 1, column 4: expected the name of a value, found an empty one"),
        ("g () => () {} }", "line 1, column 15: expected the end of the text, found `}`"),
        (
            "g () => () {} <domain: \"d\"> f (x) => (y) {}",
            "line 1, column 15: a local function can't be read from text; read the model from a file instead",
        ),
    ];
    for (text, expected) in cases {
        assert_eq!(error(text), expected, "{text}");
    }
}

#[test]
fn nesting_has_a_limit() {
    let nested = |depth: usize| {
        let open = "y = A () <b = g () => () { ".repeat(depth);
        format!("g () => () {{ {open}{}}}", "}>".repeat(depth))
    };
    assert!(parse(&nested(31)).is_ok());
    let too_deep = |depth| matches!(parse(&nested(depth)), Err(ParseError { problem: Problem::TooDeep(32), .. }));
    assert!(too_deep(32) && too_deep(100_000));
    assert!(parse(&"[".repeat(100_000)).is_err());
}

/// Texts that are nearly right: none panics, and those that are still right print stably.
#[test]
fn damaged_texts_are_survived() {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let mut random = |below: usize| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) as usize % below
    };
    let pieces = [
        "<", ">", "(", ")", "{", "}", "[", "]", ",", "=", "=>", "\"", "\\", "#", "-", "1", "e9", ".", ":", "?", "@",
        "é", "float", "nan", "x", "\n",
    ];
    let chars: Vec<char> = EVERY_FEATURE.chars().collect();
    let mut right = 0;
    for round in 0..3000 {
        let mut damaged = chars.clone();
        if round % 4 == 0 {
            damaged.truncate(random(chars.len()));
        }
        for _ in 0..=random(3) {
            let at = random(damaged.len().max(1)).min(damaged.len());
            let end = (at + random(4)).min(damaged.len());
            damaged.splice(at..end, pieces[random(pieces.len())].chars());
        }
        let text: String = damaged.into_iter().collect();
        if let Ok(model) = parse(&text) {
            right += 1;
            let printed = print(&model, Weights::Full);
            assert_eq!(print(&read(&printed), Weights::Full), printed, "{text}");
            print(&model, Weights::Hash);
        }
    }
    assert!(right > 100, "only {right} were still right");
}

#[test]
fn imports_are_printed_in_their_order() {
    let imports = [("a", 1), ("", 17)].map(|(domain, version)| OpsetImport {
        domain: domain.to_owned(),
        version,
        carried: Carried::default(),
    });
    let model =
        Model { ir_version: 8, opsets: imports.into(), graph: Builder::new("g", 17).finish(), ..Model::default() };
    assert_eq!(
        print(&model, Weights::Hash),
        "<ir_version: 8, opset_import: [\"a\" : 1, \"\" : 17]>\ng () => () {\n}\n"
    );
}
