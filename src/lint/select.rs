//! Whether an operator fuses into an integer kernel, by a rule, or which condition is missing.

use onnxq_ir::ElementType;
use onnxq_ir::ops::{Gemm, QuantizeLinear};

use super::kernels::{KernelRule, Operands};
use super::reason::Reason;
use super::sketch::{Fixed, NodeIx, Parameter, Sketch, ValueIx};

/// An operator and the conversions around it that one kernel takes the place of.
#[derive(Clone, Debug)]
pub(super) struct Fusion {
    /// The kernel.
    pub(super) kernel: String,
    /// The DequantizeLinear in front, by the operand that they are.
    pub(super) dequantizers: Vec<(usize, NodeIx)>,
    /// The QuantizeLinear behind.
    pub(super) quantizers: Vec<NodeIx>,
}

/// What the rule makes of the node, or what it lacks.
pub(super) fn fuse(sketch: &Sketch<'_>, node: NodeIx, rule: &KernelRule) -> Result<Fusion, Reason> {
    if sketch.graph.opset() < rule.min_opset {
        return Err(Reason::Opset { min: rule.min_opset });
    }
    let dequantizers = operands(sketch, node, rule)?;
    types(sketch, rule, &dequantizers)?;
    if rule.operands != Operands::Weight
        && let Some((slot, element)) = half_scale(sketch, &dequantizers)
    {
        return Err(Reason::HalfScales { slot, element });
    }
    let quantizers = readers(sketch, node, rule)?;
    let first = sketch.codes(dequantizers[0].1);
    if let Some(&quantizer) = quantizers.iter().find(|&&quantizer| sketch.codes(quantizer) != first) {
        return Err(types_differ(sketch, &dequantizers, Some(quantizer)));
    }
    let is_implicit = |&(slot, dequantizer): &(usize, NodeIx)| {
        rule.zero_points.contains(&slot)
            && sketch.parameter(dequantizer, QuantizeLinear::ZERO_POINT) == Parameter::Absent
    };
    if let Some((slot, _)) = dequantizers.iter().find(|operand| is_implicit(operand)) {
        return Err(Reason::NoZeroPoint { slot: *slot });
    }
    if rule.same_grid && !quantizers.iter().all(|&quantizer| sketch.share_grid(dequantizers[0].1, quantizer)) {
        return Err(Reason::GridsDiffer);
    }
    if rule.needs_plain_factors && !has_plain_factors(sketch, node) {
        return Err(Reason::Factors);
    }
    if rule.operands == Operands::Weight {
        weight_only(sketch, node, dequantizers[0].1)?;
    }
    let kernel = match (&rule.becomes, &rule.becomes_float) {
        (Some(kernel), _) if !quantizers.is_empty() => kernel,
        // Of two kernels the one without a QuantizeLinear behind it: where one stands, activations are meant to be codes.
        (None, Some(_)) if !quantizers.is_empty() => return Err(Reason::FloatOperand { slot: 0 }),
        (_, Some(kernel)) => kernel,
        (_, None) => return Err(Reason::OutputFloat),
    };
    let kernel = kernel.replace('*', &sketch.nodes[node].kind);
    Ok(Fusion { kernel, dequantizers, quantizers })
}

/// The DequantizeLinear of every operand that must have one, and of no other.
fn operands(sketch: &Sketch<'_>, node: NodeIx, rule: &KernelRule) -> Result<Vec<(usize, NodeIx)>, Reason> {
    let mut found = Vec::new();
    if !rule.leaves.is_empty() {
        let codes = sketch.dequantizer(node, 0).and_then(|dequantizer| sketch.codes(dequantizer));
        if !codes.is_some_and(|element| rule.leaves.contains(&element)) {
            return Err(Reason::NotWeightOnly);
        }
    }
    for (slot, value) in sketch.nodes[node].inputs.iter().enumerate() {
        let Some(value) = *value else { continue };
        match (rule.operands.includes(slot), sketch.dequantizer(node, slot)) {
            (true, Some(dequantizer)) => found.push((slot, dequantizer)),
            (true, None) => return Err(float_operand(sketch, rule, slot, value)),
            (false, Some(_)) if rule.operands == Operands::Weight && slot == 0 && rule.leaves.is_empty() => {
                return Err(Reason::NotWeightOnly);
            }
            (false, _) => {}
        }
    }
    if found.is_empty() { Err(Reason::FloatOperand { slot: 0 }) } else { Ok(found) }
}

/// The first operand whose scales are no float32. The runtime puts Casts between such conversions and the operator.
fn half_scale(sketch: &Sketch<'_>, operands: &[(usize, NodeIx)]) -> Option<(usize, ElementType)> {
    operands.iter().find_map(|&(slot, dequantizer)| {
        let scale = sketch.input(dequantizer, QuantizeLinear::SCALE)?;
        sketch.values[scale].element.filter(|element| element.is_half()).map(|element| (slot, element))
    })
}

/// Why an operand is float.
fn float_operand(sketch: &Sketch<'_>, rule: &KernelRule, slot: usize, value: ValueIx) -> Reason {
    let is_fixed = sketch.values[value].fixed != Fixed::No;
    let is_behind = |node: NodeIx| sketch.dequantizer(node, 0).is_some();
    match slot {
        1 if rule.is_product && sketch.written_by(value, "Transpose").is_some_and(is_behind) => Reason::BehindTranspose,
        2 if rule.is_product && is_fixed => Reason::FloatBias,
        _ if is_fixed => Reason::FloatConstant { slot },
        _ => Reason::FloatOperand { slot },
    }
}

/// Whether the operands' types go together.
fn types(sketch: &Sketch<'_>, rule: &KernelRule, operands: &[(usize, NodeIx)]) -> Result<(), Reason> {
    let have: Vec<Option<ElementType>> = operands.iter().map(|(_, node)| sketch.codes(*node)).collect();
    let at = |types: &[ElementType], i: usize| *types.get(i).or(types.last()).expect("a list of types has one");
    let fits = |types: &[ElementType], count: usize| (0..count).all(|i| have[i].is_none_or(|has| has == at(types, i)));
    if rule.types.iter().any(|types| fits(types, have.len())) {
        return Ok(());
    }
    let wrong =
        (0..have.len()).find(|&i| !rule.types.iter().any(|types| fits(types, i + 1))).expect("one does not fit");
    let element = have[wrong].expect("what is not known fits");
    Err(match wrong {
        0 if element == ElementType::I8 => Reason::SignedActivations,
        _ if element.bits() != 8 && element != ElementType::I32 => Reason::Width { slot: operands[wrong].0, element },
        _ => types_differ(sketch, operands, None),
    })
}

/// Types that do not go together. Where int8 and uint8 activations meet, it is one's QuantizeLinear with several readers.
fn types_differ(sketch: &Sketch<'_>, operands: &[(usize, NodeIx)], quantizer: Option<NodeIx>) -> Reason {
    let is_activation = |node: NodeIx| sketch.input(node, 0).is_some_and(|x| sketch.values[x].fixed == Fixed::No);
    let activations = operands.iter().map(|(_, node)| *node).filter(|&node| is_activation(node)).chain(quantizer);
    let types: Vec<ElementType> = activations.filter_map(|node| sketch.codes(node)).collect();
    if types.contains(&ElementType::I8) && types.contains(&ElementType::U8) {
        return Reason::SignedActivations;
    }
    let name = |node: NodeIx| sketch.codes(node).map_or("?", ElementType::name);
    let inputs: Vec<&str> = operands.iter().map(|(_, node)| name(*node)).collect();
    let output = quantizer.map_or_else(String::new, |quantizer| format!(" and {} behind", name(quantizer)));
    Reason::TypesDiffer { types: format!("{} in front{output}", inputs.join(", ")) }
}

/// The QuantizeLinear that read the outputs: one for each and nobody else, or none where the rule can do without.
fn readers(sketch: &Sketch<'_>, node: NodeIx, rule: &KernelRule) -> Result<Vec<NodeIx>, Reason> {
    let outputs: Vec<ValueIx> = sketch.nodes[node].outputs.iter().flatten().copied().collect();
    if let [y] = outputs[..]
        && let Some(activation) = lone_activation(sketch, y)
    {
        // One that a QuantizeLinear makes needless is gone by now.
        let op = sketch.nodes[activation].kind.clone();
        let is_quantized = sketch.output(activation).is_some_and(|y| !sketch.quantizers(y).is_empty());
        return Err(if is_quantized { Reason::ActivationKept { op } } else { Reason::ActivationInFloat { op } });
    }
    if rule.ignores_output {
        return Ok(Vec::new());
    }
    let per_output: Vec<Vec<NodeIx>> = outputs.iter().map(|&y| sketch.quantizers(y)).collect();
    if per_output.iter().all(Vec::is_empty) {
        return if rule.becomes_float.is_some() { Ok(Vec::new()) } else { Err(Reason::OutputFloat) };
    }
    let is_alone = |y: &ValueIx| sketch.values[*y].readers.len() == 1 && !sketch.values[*y].is_output;
    if per_output.iter().any(Vec::is_empty) {
        return Err(Reason::OutputFloat);
    }
    if outputs.iter().all(is_alone) { Ok(per_output.concat()) } else { Err(Reason::OutputShared) }
}

/// The Relu or Clip that alone reads a value and is itself read once.
fn lone_activation(sketch: &Sketch<'_>, y: ValueIx) -> Option<NodeIx> {
    let node = sketch.only_reader(y).filter(|&node| matches!(sketch.nodes[node].kind.as_str(), "Relu" | "Clip"))?;
    sketch.only_reader(sketch.output(node)?).map(|_| node)
}

/// Whether a Gemm has alpha and beta 1; a MatMul always has.
fn has_plain_factors(sketch: &Sketch<'_>, node: NodeIx) -> bool {
    let gemm = sketch.nodes[node].at.and_then(|op| Gemm::at(sketch.graph, op));
    gemm.is_none_or(|gemm| gemm.alpha == 1.0 && (gemm.beta == 1.0 || gemm.c.is_none()))
}

/// Whether codes of weights alone have the form that MatMulNBits takes.
fn weight_only(sketch: &Sketch<'_>, node: NodeIx, dequantizer: NodeIx) -> Result<(), Reason> {
    let refuse = |what: &'static str| Err(Reason::WeightForm { what });
    let Some(view) = sketch.nodes[dequantizer].at.and_then(|op| QuantizeLinear::at(sketch.graph, op)) else {
        return refuse("its parameters are computed");
    };
    let (scale, zero_point) = sketch.grid(dequantizer);
    let codes = sketch.input(dequantizer, 0).expect("a DequantizeLinear reads codes");
    let scales = sketch.input(dequantizer, QuantizeLinear::SCALE).expect("a DequantizeLinear has a scale");
    let is_shared = |value: ValueIx| sketch.values[value].readers.len() > 1;
    let rank = sketch.values[codes].shape.as_ref().map(Vec::len);
    let gemm = sketch.nodes[node].at.and_then(|op| Gemm::at(sketch.graph, op));
    let is_by_column = if sketch.nodes[dequantizer].is_transposed {
        view.axis == 0 || view.axis == -2
    } else {
        view.axis == 1 || view.axis == -1
    };
    match (&scale, view.block_size) {
        _ if sketch.values[codes].fixed == Fixed::No => refuse("the weight is no constant"),
        _ if rank != Some(2) => refuse("the weight has not two dimensions"),
        (Parameter::Computed, _) => refuse("the scale is no constant"),
        _ if zero_point == Parameter::Computed => refuse("the zero point is no constant"),
        _ if is_shared(codes) => refuse("others read the weight too"),
        _ if is_shared(scales) => refuse("another weight has the same scale tensor"),
        _ if gemm.is_some_and(|gemm| gemm.trans_a || gemm.trans_b) => refuse("it is transposed (transA or transB)"),
        (Parameter::One(scale), _) if scale.rank() > 0 => refuse("its one scale is a vector"),
        (Parameter::Many, 0) if !is_by_column => refuse("its scales lie along the inputs"),
        (Parameter::Many, size) if size > 0 && (is_by_column || size < 16 || size & (size - 1) != 0) => {
            refuse("its blocks do not lie along axis 0 with a size of 16, 32, 64 ...")
        }
        _ => Ok(()),
    }
}
