//! What a runtime does to a graph before it looks for integer kernels, as far as that decides which ones it finds.
//!
//! In onnxruntime's order: equal QuantizeLinear become one, a MatMul and an Add become a Gemm, every reader gets a
//! DequantizeLinear of its own, pairs cross operators that only move elements, bias and weights are quantized, a Relu or Clip
//! that a QuantizeLinear makes needless goes, int8 activations become uint8.

use std::collections::{BTreeSet, HashMap};

use onnxq_ir::ops::{Bound, Clip};
use onnxq_ir::{Dim, ElementType, Tensor};

use super::kernels::{Kernels, SignedActivations};
use super::sketch::{DEQUANTIZE, Fixed, Node, NodeIx, Parameter, QUANTIZE, Sketch, ValueIx};

/// What was quantized when the model was loaded.
#[derive(Default)]
pub(super) struct AtLoad {
    /// Operators whose bias was.
    pub(super) biases: Vec<NodeIx>,
    /// Operators whose weights were.
    pub(super) weights: Vec<NodeIx>,
}

/// Does all of it.
pub(super) fn apply(sketch: &mut Sketch<'_>, kernels: &Kernels) -> AtLoad {
    merge_quantizers(sketch);
    if kernels.joins_matmul_and_add {
        join_matmul_and_add(sketch);
    }
    fold_reshapes(sketch);
    fold_transposes(sketch);
    split_dequantizers(sketch);
    let opset = sketch.graph.opset();
    let moves: BTreeSet<&str> =
        kernels.moves.iter().filter(|(_, since)| opset >= **since).map(|(op, _)| op.as_str()).collect();
    move_dequantizers(sketch, &moves);
    move_quantizers(sketch, &moves);
    let at_load = quantize_at_load(sketch, &kernels.quantizes_at_load.operators);
    drop_needless_activations(sketch);
    if kernels.signed_activations == SignedActivations::OneReader {
        make_unsigned(sketch);
    }
    at_load
}

/// QuantizeLinear of one value with equal parameters become one.
fn merge_quantizers(sketch: &mut Sketch<'_>) {
    let mut first: HashMap<ValueIx, Vec<NodeIx>> = HashMap::new();
    for node in sketch.of_kind(QUANTIZE) {
        let (Some(x), Some(codes)) = (sketch.input(node, 0), sketch.output(node)) else { continue };
        let twins = first.entry(x).or_default();
        match twins.iter().copied().find(|&twin| sketch.share_grid(twin, node)) {
            Some(twin) if !sketch.values[codes].is_output => {
                let kept = sketch.output(twin).expect("it was read");
                redirect(sketch, codes, kept);
                sketch.remove(node);
            }
            _ => twins.push(node),
        }
    }
}

/// Lets all readers of a value read another one.
fn redirect(sketch: &mut Sketch<'_>, from: ValueIx, to: ValueIx) {
    for (node, slot) in std::mem::take(&mut sketch.values[from].readers) {
        match slot {
            Some(slot) => {
                sketch.nodes[node].inputs[slot] = Some(to);
                sketch.values[to].readers.insert((node, Some(slot)));
            }
            None => {
                sketch.values[to].readers.insert((node, None));
            }
        }
    }
}

/// A MatMul with a matrix whose only reader adds a bias becomes a Gemm.
fn join_matmul_and_add(sketch: &mut Sketch<'_>) {
    for node in sketch.of_kind("MatMul") {
        let Some((add, bias)) = joined_add(sketch, node) else { continue };
        let Some(y) = sketch.output(add) else { continue };
        sketch.remove(add);
        "Gemm".clone_into(&mut sketch.nodes[node].kind);
        sketch.nodes[node].inputs.push(None);
        sketch.set_input(node, 2, bias);
        sketch.set_output(node, 0, y);
    }
}

/// How many MatMul have an Add behind them and an input of unknown rank, so that nobody can say whether they join.
pub(super) fn unknown_products(sketch: &Sketch<'_>) -> usize {
    let is_unknown = |&node: &NodeIx| {
        let add = sketch.output(node).and_then(|y| sketch.only_reader(y));
        let shape = sketch.input(node, 0).and_then(|x| sketch.values[x].shape.as_ref());
        add.is_some_and(|add| sketch.nodes[add].kind == "Add") && shape.is_none()
    };
    sketch.of_kind("MatMul").iter().filter(|node| is_unknown(node)).count()
}

/// The Add and its bias, where they join the MatMul.
fn joined_add(sketch: &Sketch<'_>, node: NodeIx) -> Option<(NodeIx, ValueIx)> {
    let y = sketch.output(node)?;
    let add = sketch.only_reader(y).filter(|&add| sketch.nodes[add].kind == "Add")?;
    let bias = sketch.nodes[add].inputs.iter().flatten().copied().find(|&value| value != y)?;
    let shape = |value: ValueIx| sketch.values[value].shape.as_deref();
    let (a, b, c) = (shape(sketch.input(node, 0)?)?, shape(sketch.input(node, 1)?)?, shape(bias)?);
    let [_, n] = b else { return None };
    let one = Dim::Known(1);
    let is_row = c.len() == 1 && c[0] == *n && n.known().is_some();
    let is_matrix =
        |m: &Dim| matches!(c, [rows, columns] if (*rows == one || rows == m) && (columns == n || *columns == one));
    match a {
        [m, _] => is_row || is_matrix(m),
        _ => is_row && a.iter().all(|dim| dim.known().is_some()) && !joins_attention(sketch, node),
    }
    .then_some((add, bias))
}

/// Whether the MatMul is the projection behind attention, which stays for a fusion of its own.
fn joins_attention(sketch: &Sketch<'_>, node: NodeIx) -> bool {
    let before = |value: Option<ValueIx>, kind: &str| sketch.written_by(value?, kind).and_then(|n| sketch.input(n, 0));
    let moved = before(sketch.input(node, 0), "Reshape");
    let product = before(moved, "Transpose");
    before(before(product, "MatMul"), "Softmax").is_some()
}

/// A target of Reshape becomes a constant where all of its parts but one are known: numbers, known sizes, or a size that the
/// reshaped value has in that place. Whoever read a value for these sizes reads it no more.
fn fold_reshapes(sketch: &mut Sketch<'_>) {
    for reshape in sketch.of_kind("Reshape") {
        let Some((x, target)) = sketch.input(reshape, 0).zip(sketch.input(reshape, 1)) else { continue };
        let Some(concat) = sketch.written_by(target, "Concat") else { continue };
        let parts = sketch.nodes[concat].inputs.iter().flatten().copied().enumerate();
        let open = parts.filter(|&(position, part)| !is_known_part(sketch, x, part, position)).count();
        if open <= 1 && sketch.only_reader(target).is_some() {
            sketch.values[target].fixed = Fixed::Folded;
            remove_unread(sketch, concat);
        }
    }
}

/// Whether one part of a Reshape's target is a number other than -1, or a size (Shape, Gather, Unsqueeze) that is known or that
/// the reshaped value has in that place.
fn is_known_part(sketch: &Sketch<'_>, x: ValueIx, part: ValueIx, position: usize) -> bool {
    match &sketch.values[part].fixed {
        Fixed::Tensor(numbers) => return numbers.to_i64().is_some_and(|numbers| !numbers.contains(&-1)),
        Fixed::Folded => return true,
        Fixed::No => {}
    }
    let before = |value: Option<ValueIx>, kind: &str| sketch.written_by(value?, kind);
    let gather = before(Some(part), "Unsqueeze").and_then(|node| before(sketch.input(node, 0), "Gather"));
    let Some(gather) = gather else { return false };
    let Some(Fixed::Tensor(index)) = sketch.input(gather, 1).map(|index| &sketch.values[index].fixed) else {
        return false;
    };
    let Some(&[index]) = index.to_i64().as_deref() else { return false };
    let source = before(sketch.input(gather, 0), "Shape").and_then(|shape| sketch.input(shape, 0));
    let size =
        |value: ValueIx| sketch.values[value].shape.as_ref().and_then(|shape| shape.get(usize::try_from(index).ok()?));
    let is_same =
        |source: ValueIx| source == x || size(source).is_some_and(|dim| *dim != Dim::Unknown && Some(dim) == size(x));
    source.is_some_and(|source| {
        size(source).is_some_and(|dim| dim.known().is_some()) || (index == position as i64 && is_same(source))
    })
}

/// Codes of weights are transposed when the model is loaded where a Transpose alone reads their DequantizeLinear and is itself
/// read once; with a scale per channel only where it says how (`perm`).
fn fold_transposes(sketch: &mut Sketch<'_>) {
    for transpose in sketch.of_kind("Transpose") {
        let Some(dequantizer) = sketch.dequantizer(transpose, 0) else { continue };
        let is_constant = sketch.input(dequantizer, 0).is_some_and(|codes| sketch.values[codes].fixed != Fixed::No);
        let is_alone = |node: NodeIx| sketch.output(node).is_some_and(|y| sketch.only_reader(y).is_some());
        // The only attribute that a Transpose has.
        let says_how = sketch.nodes[transpose].at.is_some_and(|op| !sketch.graph.op(op).attributes().is_empty());
        let folds = is_constant && is_alone(transpose) && is_alone(dequantizer);
        if folds && (says_how || is_per_tensor(sketch, dequantizer)) {
            let y = sketch.output(transpose).expect("it is read");
            let rank = sketch.values[y].shape.as_ref().map(Vec::len);
            sketch.remove(transpose);
            sketch.set_output(dequantizer, 0, y);
            sketch.nodes[dequantizer].is_transposed = rank.is_none_or(|rank| rank == 2);
        }
    }
}

/// Removes a node and those in front of it that nobody else reads.
fn remove_unread(sketch: &mut Sketch<'_>, node: NodeIx) {
    let inputs = sketch.nodes[node].inputs.clone();
    sketch.remove(node);
    for value in inputs.into_iter().flatten() {
        let is_unread = sketch.values[value].readers.is_empty() && !sketch.values[value].is_output;
        if let Some(producer) = sketch.values[value].producer.filter(|_| is_unread)
            && sketch.nodes[producer].outputs.len() == 1
        {
            remove_unread(sketch, producer);
        }
    }
}

/// Every reader gets a DequantizeLinear of its own.
fn split_dequantizers(sketch: &mut Sketch<'_>) {
    for node in sketch.of_kind(DEQUANTIZE) {
        let Some(y) = sketch.output(node) else { continue };
        let readers: Vec<(NodeIx, usize)> =
            sketch.values[y].readers.iter().filter_map(|(node, slot)| Some((*node, (*slot)?))).collect();
        let is_shared = sketch.values[y].is_output || readers.len() < sketch.values[y].readers.len();
        for (reader, slot) in readers.into_iter().skip(usize::from(!is_shared)) {
            let own = sketch.add_value(y, sketch.values[y].element);
            let twin = Node { outputs: vec![Some(own)], ..sketch.nodes[node].clone() };
            sketch.add(twin);
            sketch.set_input(reader, slot, own);
        }
    }
}

/// Whether scale and zero point are one constant each, so that they mean the same for any order of elements.
fn is_per_tensor(sketch: &Sketch<'_>, node: NodeIx) -> bool {
    matches!(sketch.grid(node), (Parameter::One(_), Parameter::One(_) | Parameter::Absent))
}

/// Puts a pair with the parameters of `like` where `readers` read `value`: one QuantizeLinear, a DequantizeLinear for each.
fn insert_pair(sketch: &mut Sketch<'_>, like: NodeIx, value: ValueIx, readers: &[(NodeIx, usize)]) {
    let element = sketch.codes(like);
    let codes = sketch.add_value(value, element);
    let with = |first: ValueIx, inputs: &[Option<ValueIx>]| {
        std::iter::once(Some(first)).chain(inputs[1..].iter().copied()).collect::<Vec<_>>()
    };
    let inputs = with(value, &sketch.nodes[like].inputs);
    sketch.add(Node {
        kind: QUANTIZE.to_owned(),
        at: None,
        inputs,
        outputs: vec![Some(codes)],
        is_gone: false,
        is_transposed: false,
    });
    for &(reader, slot) in readers {
        let number = sketch.add_value(value, sketch.values[value].element);
        let inputs = with(codes, &sketch.nodes[like].inputs);
        let outputs = vec![Some(number)];
        sketch.add(Node {
            kind: DEQUANTIZE.to_owned(),
            at: None,
            inputs,
            outputs,
            is_gone: false,
            is_transposed: false,
        });
        sketch.set_input(reader, slot, number);
    }
}

/// A DequantizeLinear in front of an operator that only moves elements gets a pair behind it.
fn move_dequantizers(sketch: &mut Sketch<'_>, moves: &BTreeSet<&str>) {
    for dequantizer in sketch.of_kind(DEQUANTIZE) {
        let Some(y) = sketch.output(dequantizer) else { continue };
        if !is_per_tensor(sketch, dequantizer) {
            continue;
        }
        let mut waiting: Vec<NodeIx> = sketch.only_reader(y).into_iter().collect();
        while let Some(node) = waiting.pop() {
            let Some(value) = sketch.output(node).filter(|_| moves.contains(sketch.nodes[node].kind.as_str())) else {
                continue;
            };
            if sketch.values[value].is_output && !sketch.values[value].readers.is_empty() {
                continue;
            }
            let is_open = |&(reader, slot): &(NodeIx, Option<usize>)| {
                slot.filter(|_| sketch.nodes[reader].kind != QUANTIZE).map(|slot| (reader, slot))
            };
            let readers: Vec<(NodeIx, usize)> = sketch.values[value].readers.iter().filter_map(is_open).collect();
            if !readers.is_empty() {
                insert_pair(sketch, dequantizer, value, &readers);
                waiting.extend(readers.into_iter().map(|(reader, _)| reader));
            }
        }
    }
}

/// A QuantizeLinear behind an operator that only moves elements gets a pair in front of it.
fn move_quantizers(sketch: &mut Sketch<'_>, moves: &BTreeSet<&str>) {
    for quantizer in sketch.of_kind(QUANTIZE) {
        if !is_per_tensor(sketch, quantizer) {
            continue;
        }
        let mut at = quantizer;
        while let Some((node, x)) = crossed(sketch, at, moves) {
            insert_pair(sketch, quantizer, x, &[(node, 0)]);
            at = sketch.quantizers(x)[0];
        }
    }
}

/// The operator in front of a QuantizeLinear that its pair can cross, and what that operator reads.
fn crossed(sketch: &Sketch<'_>, quantizer: NodeIx, moves: &BTreeSet<&str>) -> Option<(NodeIx, ValueIx)> {
    let value = sketch.input(quantizer, 0).filter(|&value| sketch.only_reader(value).is_some())?;
    let node = sketch.values[value].producer.filter(|&node| moves.contains(sketch.nodes[node].kind.as_str()))?;
    let x = sketch.input(node, 0)?;
    let is_open = sketch.written_by(x, DEQUANTIZE).is_none() && sketch.values[x].fixed == Fixed::No;
    (is_open && sketch.only_reader(x).is_some()).then_some((node, x))
}

/// Float constants of products that stand between DequantizeLinear and QuantizeLinear become codes.
fn quantize_at_load(sketch: &mut Sketch<'_>, operators: &[String]) -> AtLoad {
    let mut done = AtLoad::default();
    for node in sketch.living() {
        let is_meant = operators.contains(&sketch.nodes[node].kind) && leads_to_quantizer(sketch, node);
        let Some(x) = sketch.dequantizer(node, 0).filter(|_| is_meant) else { continue };
        if !is_per_tensor(sketch, x) {
            continue;
        }
        let is_float = |slot: usize| {
            let value = sketch.input(node, slot).map(|value| &sketch.values[value]);
            value.is_some_and(|value| value.fixed != Fixed::No && value.element == Some(ElementType::F32))
        };
        let (weights, bias) = (is_float(1), is_float(2));
        if sketch.input(node, 2).is_some() && !bias {
            continue;
        }
        if weights {
            dequantize_constant(sketch, node, 1, ElementType::I8, Some(Tensor::scalar(0i8)));
            done.weights.push(node);
        }
        if bias && sketch.dequantizer(node, 1).is_some() {
            dequantize_constant(sketch, node, 2, ElementType::I32, None);
            done.biases.push(node);
        }
    }
    done
}

/// Whether a QuantizeLinear reads the output, with Relu or Clip between at most.
fn leads_to_quantizer(sketch: &Sketch<'_>, node: NodeIx) -> bool {
    let mut at = node;
    while let Some(reader) = sketch.output(at).and_then(|y| sketch.only_reader(y)) {
        match sketch.nodes[reader].kind.as_str() {
            QUANTIZE => return true,
            "Relu" | "Clip" => at = reader,
            _ => return false,
        }
    }
    false
}

/// Puts codes and a DequantizeLinear in place of a constant operand.
fn dequantize_constant(sketch: &mut Sketch<'_>, node: NodeIx, slot: usize, codes: ElementType, zero: Option<Tensor>) {
    let float = sketch.input(node, slot).expect("a constant operand");
    let add_fixed = |sketch: &mut Sketch<'_>, element: ElementType, fixed: Fixed| {
        let value = sketch.add_value(float, Some(element));
        sketch.values[value].fixed = fixed;
        value
    };
    let x = add_fixed(sketch, codes, Fixed::Folded);
    let scale = add_fixed(sketch, ElementType::F32, Fixed::Folded);
    let zero = zero.map(|zero| add_fixed(sketch, codes, Fixed::Tensor(zero)));
    let number = sketch.add_value(float, Some(ElementType::F32));
    let inputs = vec![Some(x), Some(scale), zero];
    let outputs = vec![Some(number)];
    sketch.add(Node { kind: DEQUANTIZE.to_owned(), at: None, inputs, outputs, is_gone: false, is_transposed: false });
    sketch.set_input(node, slot, number);
}

/// Takes out each Relu and Clip that the QuantizeLinear behind it makes needless.
fn drop_needless_activations(sketch: &mut Sketch<'_>) {
    for node in sketch.living() {
        let Some(quantizer) = sketch.output(node).and_then(|y| sketch.only_reader(y)) else { continue };
        if sketch.nodes[quantizer].kind == QUANTIZE && is_needless(sketch, node, quantizer) {
            let x = sketch.input(node, 0).expect("it has an input");
            sketch.remove(node);
            sketch.set_input(quantizer, 0, x);
        }
    }
}

/// Whether a QuantizeLinear's range lies within that of the Relu or Clip in front of it.
fn is_needless(sketch: &Sketch<'_>, activation: NodeIx, quantizer: NodeIx) -> bool {
    let kind = sketch.nodes[activation].kind.as_str();
    let (Parameter::One(scale), zero_point) = sketch.grid(quantizer) else { return false };
    let Some(scale) = scale.scalar_f32() else { return false };
    let zero_point = match zero_point {
        Parameter::Absent => 0,
        Parameter::One(zero) => zero.to_i64().map_or(0, |zero| zero[0]),
        Parameter::Many | Parameter::Computed => return false,
    };
    let (low, high) = match sketch.codes(quantizer) {
        Some(ElementType::U8) => (0, 255),
        Some(ElementType::I8) => (-128, 127),
        Some(ElementType::U16) => (0, 65_535),
        Some(ElementType::I16) => (-32_768, 32_767),
        _ => return false,
    };
    match kind {
        "Relu" => zero_point == low,
        "Clip" => {
            let Some(clip) = sketch.nodes[activation].at.and_then(|op| Clip::at(sketch.graph, op)) else {
                return false;
            };
            let code = |bound: f32| ((bound / scale).round_ties_even() as i64).saturating_add(zero_point);
            let reaches_low = match clip.min {
                Bound::Open => true,
                Bound::At(min) => code(min) <= low,
                Bound::Computed(_) => false,
            };
            let reaches_high = match clip.max {
                Bound::Open => true,
                Bound::At(max) => code(max) >= high,
                Bound::Computed(_) => false,
            };
            reaches_low && reaches_high
        }
        _ => false,
    }
}

/// int8 pairs become uint8 where the QuantizeLinear has the DequantizeLinear as its only reader.
fn make_unsigned(sketch: &mut Sketch<'_>) {
    for quantizer in sketch.of_kind(QUANTIZE) {
        let Some(codes) = sketch.output(quantizer) else { continue };
        let Some(dequantizer) = sketch.only_reader(codes).filter(|&node| sketch.nodes[node].kind == DEQUANTIZE) else {
            continue;
        };
        let is_signed =
            |node: NodeIx| matches!(sketch.grid(node).1, Parameter::One(zero) if zero.element() == ElementType::I8);
        if !is_signed(quantizer) || !is_signed(dequantizer) || sketch.grid(quantizer).1 != sketch.grid(dequantizer).1 {
            continue;
        }
        let Parameter::One(zero) = sketch.grid(quantizer).1 else { continue };
        let moved = zero.to_i64().map_or(0, |zero| zero[0]) + 128;
        let value = sketch.add_value(codes, Some(ElementType::U8));
        sketch.values[value].fixed = Fixed::Tensor(Tensor::scalar(moved as u8));
        sketch.set_input(quantizer, 2, value);
        sketch.set_input(dequantizer, 2, value);
        sketch.values[codes].element = Some(ElementType::U8);
    }
}
