//! Tests of the engine as its users see it, on small graphs. What this file has is the building of such graphs.

mod codecs;
mod inference;
mod refusals;
mod rewriting;
mod runs;
mod simulation;

use onnxq_ir::{
    Attribute, AttributeValue, Builder, Declared, Dim, ElementType, Graph, Model, Op, OpId, OpsetImport, Origin,
    Tensor, TensorType, Value, ValueId, ValueType,
};
use onnxq_plan::{Elements, EngineError, Evaluator, Plan, Quantizer, Request, Runner, Sample, Scheme, Site};

use crate::Tract;

/// A model in the making.
pub(super) struct Sketch {
    builder: Builder,
}

impl Sketch {
    pub(super) fn new(opset: i64) -> Self {
        Self { builder: Builder::new("main", opset) }
    }

    pub(super) fn input(&mut self, name: &str, element: ElementType, dims: Vec<Dim>) -> ValueId {
        self.input_or(name, element, dims, None)
    }

    pub(super) fn input_or(
        &mut self,
        name: &str,
        element: ElementType,
        dims: Vec<Dim>,
        default: Option<Tensor>,
    ) -> ValueId {
        let value_type = ValueType::Tensor(TensorType { element, shape: Some(dims) });
        let value = self.builder.add_value(Value::new(name, value_type.clone(), Origin::Input(default)));
        self.builder.declare_input(Declared { value, value_type, carried: onnxq_ir::Carried::default() });
        value
    }

    /// A float32 input of fixed shape.
    pub(super) fn floats(&mut self, name: &str, shape: &[usize]) -> ValueId {
        self.input(name, ElementType::F32, shape.iter().map(|&size| Dim::Known(size)).collect())
    }

    pub(super) fn constant(&mut self, name: &str, tensor: Tensor) -> ValueId {
        let value_type = ValueType::Tensor(TensorType::fixed(tensor.element(), tensor.shape()));
        self.builder.add_value(Value::new(name, value_type, Origin::Constant(tensor)))
    }

    /// What a body reads from around it.
    pub(super) fn captured(&mut self, name: &str, outer: ValueId) -> ValueId {
        self.builder.add_value(Value::new(name, ValueType::Unknown, Origin::Captured(outer)))
    }

    pub(super) fn op(&mut self, op: Op, inputs: &[ValueId], output: &str) -> (OpId, ValueId) {
        let value = self.builder.add_value(Value::new(output, ValueType::Unknown, Origin::Produced));
        let inputs: Vec<Option<ValueId>> = inputs.iter().copied().map(Some).collect();
        (self.builder.add_op(op.named(format!("node/{output}")), &inputs, &[Some(value)]), value)
    }

    /// An operator of ONNX's own without attributes.
    pub(super) fn plain(&mut self, op_type: &str, inputs: &[ValueId], output: &str) -> (OpId, ValueId) {
        self.op(Op::new("", op_type, vec![]), inputs, output)
    }

    pub(super) fn output(&mut self, value: ValueId) {
        let value_type = ValueType::Unknown;
        self.builder.declare_output(Declared { value, value_type, carried: onnxq_ir::Carried::default() });
    }

    pub(super) fn graph(self) -> Graph {
        let graph = self.builder.finish();
        assert_eq!(onnxq_ir::verify(&graph), []);
        graph
    }

    pub(super) fn model(self) -> Model {
        let graph = self.graph();
        let version = graph.opset();
        let import = OpsetImport { domain: String::new(), version, carried: onnxq_ir::Carried::default() };
        Model { ir_version: 8, opsets: vec![import], graph, ..Model::default() }
    }
}

pub(super) fn graph_attribute(name: &str, graph: Graph) -> Attribute {
    Attribute::new(name, AttributeValue::Graph(Box::new(graph)))
}

/// A value as it was shown.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Seen {
    pub value: ValueId,
    pub shape: Vec<usize>,
    pub floats: Vec<f32>,
    pub integers: Vec<i64>,
    pub other: Option<ElementType>,
}

/// What a run shows of one sample, in the order of the taps.
pub(super) fn run_sample(runner: &mut dyn Runner, taps: &[ValueId], sample: &Sample) -> Result<Vec<Seen>, EngineError> {
    let mut all: Vec<Seen> = Vec::new();
    runner.run(sample, &mut |shown| {
        let mut seen = Seen {
            value: shown.value,
            shape: shown.shape.to_vec(),
            floats: Vec::new(),
            integers: Vec::new(),
            other: None,
        };
        match shown.elements {
            Elements::F32(x) => seen.floats = x.to_vec(),
            Elements::F64(x) => seen.floats = x.iter().map(|&x| x as f32).collect(),
            Elements::I64(x) => seen.integers = x.to_vec(),
            Elements::I32(x) => seen.integers = x.iter().map(|&x| x.into()).collect(),
            Elements::Bool(x) => seen.integers = x.iter().map(|&x| x.into()).collect(),
            Elements::Other(element) => seen.other = Some(element),
        }
        all.push(seen);
    })?;
    let order = |seen: &Seen| taps.iter().position(|&tap| tap == seen.value);
    all.sort_by_key(order);
    assert_eq!(all.iter().map(|seen| seen.value).collect::<Vec<_>>(), taps, "each tap is shown once");
    Ok(all)
}

pub(super) fn run_plan(
    model: &Model,
    plan: Option<&Plan>,
    taps: &[ValueId],
    inputs: Vec<(ValueId, Tensor)>,
) -> Result<Vec<Seen>, EngineError> {
    let request = Request { model, plan, taps };
    let session = Tract.prepare(&request)?;
    run_sample(session.runner().as_mut(), taps, &Sample { index: 0, inputs })
}

pub(super) fn run(model: &Model, taps: &[ValueId], inputs: Vec<(ValueId, Tensor)>) -> Vec<Seen> {
    run_plan(model, None, taps, inputs).expect("runs")
}

/// A plan with these quantizers.
pub(super) fn plan_of(sites: impl IntoIterator<Item = (Site, Quantizer)>) -> Plan {
    let mut plan = Plan::default();
    for (site, quantizer) in sites {
        plan.want(site, Scheme::Bias);
        plan.assign(site, quantizer);
    }
    plan
}

/// Numbers without a pattern, in -3 to 3.
pub(super) fn noise(seed: u64, count: usize) -> Vec<f32> {
    let mut state = seed;
    let next = || {
        state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = state;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((z ^ (z >> 31)) >> 40) as f32 / (1u32 << 24) as f32 * 6.0 - 3.0
    };
    std::iter::repeat_with(next).take(count).collect()
}
