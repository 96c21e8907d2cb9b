//! `onnxq info MODEL`: inputs, outputs, operators, sizes, and how a model was quantized.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use onnxq_ir::{Declared, Graph, Model, ValueType};
use serde::Serialize;

use super::args::InfoArgs;
use super::say;
use crate::error::Error;
use crate::onnx;
use crate::report::bytes;

/// What there is to know about a model.
#[derive(Serialize)]
struct Info {
    model: String,
    ir_version: i64,
    opsets: BTreeMap<String, i64>,
    bytes: u64,
    weights: usize,
    weight_bytes: usize,
    weight_types: BTreeMap<String, usize>,
    inputs: Vec<(String, String)>,
    outputs: Vec<(String, String)>,
    functions: usize,
    operators: BTreeMap<String, usize>,
    quantized: BTreeMap<String, usize>,
}

pub(crate) fn run(args: &InfoArgs) -> Result<(), Error> {
    let model = onnx::read(&args.model)?;
    let info = Info::of(&args.model.display().to_string(), &model)?;
    if args.json {
        let json = serde_json::to_string_pretty(&info).map_err(|error| Error::Broken(error.to_string()))?;
        say(&(json + "\n"))?;
    } else {
        say(&info.text())?;
    }
    Ok(())
}

impl Info {
    fn of(name: &str, model: &Model) -> Result<Self, Error> {
        let graph = &model.graph;
        let mut info = Self {
            model: name.to_owned(),
            ir_version: model.ir_version,
            opsets: model.opsets.iter().map(|import| (domain(&import.domain), import.version)).collect(),
            bytes: onnx::encoded_len(model)?,
            weights: 0,
            weight_bytes: 0,
            weight_types: BTreeMap::new(),
            inputs: graph.inputs().iter().map(|declared| described(graph, declared)).collect(),
            outputs: graph.outputs().iter().map(|declared| described(graph, declared)).collect(),
            functions: model.functions.len(),
            operators: BTreeMap::new(),
            quantized: BTreeMap::new(),
        };
        info.count(graph);
        Ok(info)
    }

    fn count(&mut self, graph: &Graph) {
        for tensor in graph.values().filter_map(|value| graph.constant(value)) {
            self.weights += 1;
            self.weight_bytes += tensor.byte_len();
            *self.weight_types.entry(tensor.element().to_string()).or_insert(0) += tensor.byte_len();
        }
        for id in graph.op_ids() {
            let op = graph.op(id);
            let name = match op.domain() {
                "" | "ai.onnx" => op.op_type().to_owned(),
                other => format!("{other}.{}", op.op_type()),
            };
            if op.is("QuantizeLinear") || op.is("DequantizeLinear") {
                let operand = if op.is("QuantizeLinear") { "activations" } else { "dequantized" };
                // Codes are what DequantizeLinear reads; QuantizeLinear tells them by its zero point.
                let codes = graph.input(id, if op.is("QuantizeLinear") { 2 } else { 0 });
                let element = codes.and_then(|codes| graph.tensor_type(codes)).map(|known| known.element);
                let element = element.map_or_else(|| "uint8".to_owned(), |element| element.to_string());
                *self.quantized.entry(format!("{operand} {element}")).or_insert(0) += 1;
            }
            if onnxq_passes::computes_with_codes(op) {
                *self.quantized.entry(name.clone()).or_insert(0) += 1;
            }
            *self.operators.entry(name).or_insert(0) += 1;
            op.bodies().for_each(|body| self.count(body));
        }
    }

    fn text(&self) -> String {
        let mut text = String::new();
        let _ = writeln!(text, "{}", self.model);
        let opsets: Vec<String> = self.opsets.iter().map(|(domain, version)| format!("{domain} {version}")).collect();
        let _ = writeln!(text, "  format     IR {}, {}", self.ir_version, opsets.join(", "));
        let _ = writeln!(text, "  size       {}", bytes(self.bytes));
        let types: Vec<String> =
            self.weight_types.iter().map(|(element, size)| format!("{} {element}", bytes(*size as u64))).collect();
        let _ = writeln!(text, "  weights    {} ({})", self.weights, types.join(", "));
        for (i, (name, described)) in self.inputs.iter().enumerate() {
            let _ = writeln!(text, "  {:<10} `{name}` {described}", if i == 0 { "inputs" } else { "" });
        }
        for (i, (name, described)) in self.outputs.iter().enumerate() {
            let _ = writeln!(text, "  {:<10} `{name}` {described}", if i == 0 { "outputs" } else { "" });
        }
        if self.functions > 0 {
            let _ = writeln!(text, "  functions  {}", self.functions);
        }
        let mut operators: Vec<(&String, &usize)> = self.operators.iter().collect();
        operators.sort_by_key(|(name, count)| (std::cmp::Reverse(**count), (*name).clone()));
        let listed: Vec<String> = operators.iter().map(|(name, count)| format!("{count} {name}")).collect();
        let _ = writeln!(text, "  operators  {}", listed.join(", "));
        let quantized: Vec<String> = self.quantized.iter().map(|(what, count)| format!("{count} {what}")).collect();
        let quantized = if quantized.is_empty() { "no".to_owned() } else { quantized.join(", ") };
        let _ = writeln!(text, "  quantized  {quantized}");
        text
    }
}

fn domain(domain: &str) -> String {
    if domain.is_empty() { "ai.onnx".to_owned() } else { domain.to_owned() }
}

fn described(graph: &Graph, declared: &Declared) -> (String, String) {
    let described = match &declared.value_type {
        ValueType::Tensor(tensor) => tensor.to_string(),
        ValueType::Other(_) => "no tensor".to_owned(),
        ValueType::Unknown => "unknown type".to_owned(),
    };
    (graph.value(declared.value).name().to_owned(), described)
}
