//! Every norm, activation and linear layer of the trained models is recognised, whatever exporter wrote it, and what
//! is recognised expands to a graph that computes the same. Skips where the shared models are missing.

use std::collections::BTreeMap;
use std::path::PathBuf;

use onnxq_engine::Tract;
use onnxq_ir::{Graph, Model, RECOGNISED, Tensor, ValueId, verify};
use onnxq_numerics::Symmetry;
use onnxq_passes::{Context, PassInfo, Selection, Settings, Storage};
use onnxq_plan::target::{BiasForm, CodeSign, HalfFloats, TypeRule, WeightGranularity, WeightRule};
use onnxq_plan::{Bits, Evaluator, Facts, Plan, Target};

/// The canonicalizing passes, in the order of the recipes.
const PASSES: [&str; 10] = [
    "fold-constants",
    "drop-identity",
    "fold-batchnorm",
    "recognise-layer-norm",
    "recognise-rms-norm",
    "recognise-gelu",
    "recognise-silu",
    "recognise-softmax",
    "linear-form",
    "dead-code",
];

/// Files below the shared models, and how often each recognised operator is in them.
const EXPECTED: &[(&str, &[(&str, usize)])] = &[
    ("deit_fmnist/op13", VIT),
    ("deit_fmnist/op17", VIT),
    ("deit_fmnist/dynamo", VIT),
    ("deit_fmnist_outlier/op17", VIT),
    ("deit_fmnist_outlier/dynamo", VIT),
    ("deit_tiny/op17", &[("Gelu", 12), ("LayerNorm", 25), ("Linear", 49), ("Softmax", 12)]),
    ("swin_ish/op13", &[("Gelu", 6), ("LayerNorm", 16), ("Linear", 27), ("Softmax", 6)]),
    ("swin_ish/op17", &[("Gelu", 6), ("LayerNorm", 16), ("Linear", 27), ("Softmax", 6)]),
    ("cnn_bn/op17", &[("Linear", 1)]),
    ("cnn_bn/dynamo", &[("Linear", 1)]),
    ("lm_tiny/op17", &[("Linear", 29), ("RmsNorm", 9), ("Silu", 4), ("Softmax", 4)]),
    ("lm_tiny/dynamo", &[("Linear", 29), ("RmsNorm", 9), ("Silu", 4), ("Softmax", 4)]),
];
const VIT: &[(&str, usize)] = &[("Gelu", 5), ("LayerNorm", 11), ("Linear", 21), ("Softmax", 5)];

#[test]
fn every_export_comes_to_the_same_operators() {
    let models = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../shared/models");
    if !models.is_dir() {
        return;
    }
    for (name, expected) in EXPECTED {
        let mut model = onnxq::onnx::read(&models.join(format!("{name}.onnx"))).expect("a sound model");
        canonicalize(&mut model);
        let counts = recognised(&model.graph);
        let counts: Vec<(&str, usize)> = counts.iter().map(|(op_type, &count)| (op_type.as_str(), count)).collect();
        assert_eq!(counts, *expected, "{name}");
        assert!(!model.graph.op_ids().any(|op| model.graph.op(op).is("BatchNormalization")), "{name}");
        let expanded = onnxq_ir::ops::expand(&model.graph, model.graph.opset()).expect("expands");
        assert_eq!(verify(&expanded), [], "{name}");
        assert_eq!(recognised(&expanded), BTreeMap::new(), "{name}");
    }
}

fn canonicalize(model: &mut Model) {
    let mut known: BTreeMap<ValueId, Tensor> = BTreeMap::new();
    for inferred in Tract.infer(model).expect("the engine knows these models") {
        model.graph.set_type(inferred.value, inferred.tensor_type);
        known.extend(inferred.constant.map(|tensor| (inferred.value, tensor)));
    }
    for name in PASSES {
        let pass = PassInfo::find(name).expect("a pass").make(toml::Table::new()).expect("defaults");
        let (mut plan, mut facts) = (Plan::default(), Facts::default());
        let (target, settings) = (target(), settings());
        let mut cx = Context::new(model, &mut plan, &mut facts, &known, &target, &settings);
        pass.run(&mut cx).unwrap_or_else(|error| panic!("{name}: {error}"));
    }
    assert_eq!(verify(&model.graph), []);
}

fn recognised(graph: &Graph) -> BTreeMap<String, usize> {
    let mut counts = BTreeMap::new();
    for op in graph.op_ids().filter(|&op| graph.op(op).domain() == RECOGNISED) {
        *counts.entry(graph.op(op).op_type().to_owned()).or_insert(0) += 1;
    }
    counts
}

fn target() -> Target {
    let bits = vec![8];
    Target {
        name: "test".to_owned(),
        description: String::new(),
        max_opset: 28,
        kernels: None,
        half_floats: HalfFloats::Widened,
        activations: TypeRule {
            signedness: CodeSign::Unsigned,
            bits: bits.clone(),
            symmetry: Symmetry::Affine,
            least_range: None,
        },
        weights: WeightRule {
            reduced_to: None,
            packed: vec![4],
            packed_weight_only: vec![4],
            signedness: CodeSign::Signed,
            bits,
            symmetry: Symmetry::Symmetric,
            granularity: WeightGranularity::Channel,
        },
        bias: BiasForm::Int32,
        quantizes_at_load: Vec::new(),
        operators: Vec::new(),
    }
}

fn settings() -> Settings {
    Settings { bits: Bits { weight: 8, activation: Some(8) }, storage: Storage::Int8, selection: Selection::default() }
}
