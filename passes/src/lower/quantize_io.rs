//! Makes codes of the inputs and outputs of the graph that are quantized first or last of all.
//!
//! # Why
//! Who has codes already, or wants them, need not make floats of them at the border of the model (`--io quantized`).
//!
//! # Needs
//! Nothing; it comes behind `insert-qdq`, and takes the outputs that `output-sites` had quantized.
//!
//! # Effect
//! A float input whose readers all quantize it in the same way gets the type of the codes, and its QuantizeLinear goes.
//! So does a float output that is quantized, or that a DequantizeLinear writes. Names stay. Scale and zero point stand in the
//! model's metadata as `onnxq.NAME.scale` and `onnxq.NAME.zero_point`, and in the report.
//!
//! # Promise
//! Lossy: the model takes and gives what it quantized itself before.
//!
//! # Declines
//! - `no-codes`: it is not quantized.
//! - `readers`: not every reader takes the same codes.
//! - `default`: the input has a default.
//!
//! # Options
//! None.

use onnxq_ir::ops::Cast;
use onnxq_ir::{Dim, ElementType, Graph, OpId, Origin, Patch, Slot, Tensor, TensorType, Use, ValueId};
use onnxq_plan::{Codes, Direction, Port, PortForm};
use serde::{Deserialize, Serialize};

use crate::pass::{Context, Pass, PassError, Promise};

/// What a recipe can set: nothing.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub(crate) struct QuantizeIo {}

impl Pass for QuantizeIo {
    fn promise(&self) -> Promise {
        Promise::Lossy
    }

    fn run(&self, cx: &mut Context<'_>) -> Result<(), PassError> {
        let of = |declared: &[onnxq_ir::Declared]| declared.iter().map(|it| it.value).collect::<Vec<_>>();
        let (inputs, outputs) = (of(cx.graph().inputs()), of(cx.graph().outputs()));
        for value in inputs.into_iter().filter(|&value| is_float(cx.graph(), value)).collect::<Vec<_>>() {
            let bare = bare_input(cx.graph(), value);
            let change = codes_of(cx, value, bare, input_codes)?;
            settle(cx, value, Direction::Input, change)?;
        }
        for value in outputs.into_iter().filter(|&value| is_float(cx.graph(), value)).collect::<Vec<_>>() {
            let bare = bare_output(cx.graph(), value);
            let change = codes_of(cx, value, bare, output_codes)?;
            settle(cx, value, Direction::Output, change)?;
        }
        Ok(())
    }
}

fn is_float(graph: &Graph, value: ValueId) -> bool {
    graph.tensor_type(value).is_some_and(|known| known.element.fits_f32())
}

type Change = Result<(Patch, Codec), &'static str>;

/// What makes codes of an input or output, once the Cast beside it is gone; it stays where there will be no codes.
fn codes_of(
    cx: &mut Context<'_>,
    value: ValueId,
    bare: Option<Patch>,
    codes: fn(&Graph, ValueId) -> Change,
) -> Result<Change, PassError> {
    let Some(bare) = bare else { return Ok(codes(cx.graph(), value)) };
    let mut without_cast = cx.graph().clone();
    bare.clone().apply(&mut without_cast)?;
    if let Err(reason) = codes(&without_cast, value) {
        return Ok(Err(reason));
    }
    cx.apply(bare)?;
    Ok(codes(cx.graph(), value))
}

/// Makes an input of 16 bits float32 where all that reads it is a Cast to that.
fn bare_input(graph: &Graph, value: ValueId) -> Option<Patch> {
    let half = graph.tensor_type(value).filter(|known| known.element.is_half())?;
    let [reader] = graph.readers(value)[..] else { return None };
    let cast = Cast::at(graph, reader.op).filter(|cast| cast.to == ElementType::F32)?;
    let wide = graph.output(cast.op, 0).filter(|&wide| !graph.is_output(wide) && !graph.is_output(value))?;
    let mut patch = Patch::new(graph, "quantize-io", cast.op);
    patch.redirect(graph, wide, value);
    patch.remove(cast.op);
    patch.declare(value, TensorType { element: ElementType::F32, shape: half.shape });
    Some(patch)
}

/// Makes an output of 16 bits float32 where a Cast writes it from that. Who reads it in the graph reads what a Cast behind it
/// writes.
fn bare_output(graph: &Graph, value: ValueId) -> Option<Patch> {
    let half = graph.tensor_type(value).filter(|known| known.element.is_half())?;
    let (op, _) = graph.producer(value)?;
    let cast = Cast::at(graph, op)?;
    let is_wide = graph.tensor_type(cast.x).is_none_or(|known| known.element == ElementType::F32);
    let (writer, slot) = graph.producer(cast.x).filter(|_| is_wide && !graph.is_output(cast.x))?;
    let mut patch = Patch::new(graph, "quantize-io", op);
    patch.redirect(graph, cast.x, value);
    if graph.reader_count(value) == 0 {
        patch.remove(op);
    } else {
        let read = patch.produced(graph, &format!("{}_as_read", graph.value(value).name()));
        patch.set_type(read, half.clone());
        patch.redirect(graph, value, read);
        patch.produce(op, 0, read);
    }
    patch.produce(writer, slot, value);
    patch.declare(value, TensorType { element: ElementType::F32, shape: half.shape });
    Some(patch)
}

/// Applies the change and notes what the input or output has become.
fn settle(cx: &mut Context<'_>, value: ValueId, direction: Direction, change: Change) -> Result<(), PassError> {
    let name = cx.graph().value(value).name().to_owned();
    let form = match change {
        Err(reason) => {
            cx.decline_value(value, reason);
            PortForm::Float { float: reason.to_owned() }
        }
        Ok((patch, codec)) => {
            cx.apply(patch)?;
            cx.assigned();
            let codes = codec.codes();
            cx.model.metadata.push((format!("onnxq.{name}.scale"), codes.scale.to_string()));
            cx.model.metadata.push((format!("onnxq.{name}.zero_point"), codes.zero_point.to_string()));
            PortForm::Codes(codes)
        }
    };
    cx.plan.ports.push(Port { name, direction, form });
    Ok(())
}

/// The parameters of a QuantizeLinear or DequantizeLinear.
#[derive(Clone, Debug, PartialEq)]
struct Codec {
    scale: f32,
    element: ElementType,
    zero_point: i32,
}

impl Codec {
    /// Those of an operator of this type with one scale; none for any other.
    fn at(graph: &Graph, op: OpId, op_type: &str) -> Option<Self> {
        let constant = |slot| graph.constant(graph.input(op, slot)?);
        let zero_point = constant(2).filter(|_| graph.op(op).is(op_type))?;
        let scale = constant(1)?.scalar_f32()?;
        Some(Self { scale, element: zero_point.element(), zero_point: single_code(zero_point)? })
    }

    fn codes(&self) -> Codes {
        Codes { element: self.element.name(), scale: self.scale, zero_point: self.zero_point }
    }
}

/// The only code in a tensor.
fn single_code(tensor: &Tensor) -> Option<i32> {
    match tensor.bytes() {
        [code] if tensor.element() == ElementType::U8 => Some((*code).into()),
        [code] if tensor.element() == ElementType::I8 => Some(code.cast_signed().into()),
        [low, high] if tensor.element() == ElementType::U16 => Some(u16::from_le_bytes([*low, *high]).into()),
        [low, high] if tensor.element() == ElementType::I16 => Some(i16::from_le_bytes([*low, *high]).into()),
        _ => None,
    }
}

/// The quantizers that read a value, where there are some and they are equal; and its other readers.
fn quantizers(graph: &Graph, value: ValueId) -> Option<(Codec, Vec<OpId>, Vec<Use>)> {
    let codec_of =
        |reader: &Use| (reader.slot == Slot::Input(0)).then(|| Codec::at(graph, reader.op, "QuantizeLinear"));
    let (quantizing, others): (Vec<Use>, Vec<Use>) =
        graph.readers(value).into_iter().partition(|reader| codec_of(reader).flatten().is_some());
    let mut codecs = quantizing.iter().filter_map(|reader| codec_of(reader).flatten());
    let first = codecs.next()?;
    let ops = quantizing.iter().map(|reader| reader.op).collect();
    codecs.all(|codec| codec == first).then_some((first, ops, others))
}

/// An input that all readers quantize in the same way is the codes.
fn input_codes(graph: &Graph, value: ValueId) -> Change {
    if graph.value(value).origin() != &Origin::Input(None) {
        return Err("default: it has a default, which is float");
    }
    let is_quantized = graph.readers(value).iter().any(|reader| graph.op(reader.op).is("QuantizeLinear"));
    if !is_quantized {
        return Err("no-codes: it is not quantized");
    }
    let (codec, ops, others) = quantizers(graph, value).ok_or(READERS)?;
    let (true, false, Some(&first)) = (others.is_empty(), graph.is_output(value), ops.first()) else {
        return Err(READERS);
    };
    let mut patch = Patch::new(graph, "quantize-io", first);
    for op in ops {
        if let Some(codes) = graph.output(op, 0) {
            patch.redirect(graph, codes, value);
        }
        patch.remove(op);
    }
    patch.declare(value, of_codes(graph, value, codec.element));
    Ok((patch, codec))
}

const READERS: &str = "readers: not every reader takes the same codes";

/// An output that is quantized, or that a DequantizeLinear writes, is the codes.
fn output_codes(graph: &Graph, value: ValueId) -> Change {
    let (producer, slot) = graph.producer(value).ok_or("no-codes: it is not quantized")?;
    let mut patch = Patch::new(graph, "quantize-io", producer);
    if let Some(codec) = Codec::at(graph, producer, "DequantizeLinear") {
        let codes = graph.input(producer, 0).ok_or("no-codes: it is not quantized")?;
        let (quantizer, slot) = graph.producer(codes).filter(|_| !graph.is_output(codes)).ok_or(READERS)?;
        let is_read = graph.reader_count(value) > 0;
        if is_read {
            let float = patch.produced(graph, &format!("{}_dequantized", graph.value(value).name()));
            patch.redirect(graph, value, float);
            patch.produce(producer, 0, float);
        } else {
            patch.remove(producer);
        }
        for reader in graph.readers(codes).into_iter().filter(|reader| is_read || reader.op != producer) {
            patch.redirect_use(reader, codes, value);
        }
        patch.produce(quantizer, slot, value);
        patch.declare(value, of_codes(graph, value, codec.element));
        return Ok((patch, codec));
    }
    let (codec, ops, others) = quantizers(graph, value).ok_or("no-codes: it is not quantized")?;
    let [quantize] = ops[..] else { return Err(READERS) };
    let codes = graph.output(quantize, 0).filter(|&codes| !graph.is_output(codes)).ok_or(READERS)?;
    let name = graph.value(value).name().to_owned();
    let float = patch.produced(graph, &format!("{name}_float"));
    patch.produce(producer, slot, float);
    patch.set_input(quantize, 0, Some(float));
    for reader in others {
        patch.redirect_use(reader, value, float);
    }
    // Narrow codes are clipped: the output is what comes out of that.
    let (last, last_codes) = clipped(graph, codes).unwrap_or((quantize, codes));
    for reader in graph.readers(last_codes) {
        let is_dead = graph.output(reader.op, 0).is_some_and(|y| graph.reader_count(y) == 0 && !graph.is_output(y));
        if is_dead {
            patch.remove(reader.op);
        } else {
            patch.redirect_use(reader, last_codes, value);
        }
    }
    patch.produce(last, 0, value);
    patch.declare(value, of_codes(graph, value, codec.element));
    Ok((patch, codec))
}

/// The Clip that alone reads these codes, and what it writes.
fn clipped(graph: &Graph, codes: ValueId) -> Option<(OpId, ValueId)> {
    let [reader] = graph.readers(codes)[..] else { return None };
    let clip = Some(reader.op).filter(|&op| graph.op(op).is("Clip"))?;
    Some((clip, graph.output(clip, 0).filter(|&clipped| !graph.is_output(clipped))?))
}

fn of_codes(graph: &Graph, value: ValueId, element: ElementType) -> TensorType {
    let shape: Option<Vec<Dim>> = graph.tensor_type(value).and_then(|known| known.shape);
    TensorType { element, shape }
}

#[cfg(test)]
mod tests {
    use std::fmt::Write as _;

    use crate::testing::difference;
    use crate::testing::planned::{Scene, rounded};

    /// Shows what the pass does to a fixture after insert-qdq, and what it says of inputs and outputs. The harness for all passes
    /// does not do: it gives both models the same inputs.
    fn check(case: &str) {
        let mut scene = Scene::load(&format!("quantize-io/{case}"));
        let before = scene.printed();
        scene.run().unwrap_or_else(|error| panic!("{case}: {error}"));
        let mut shown = difference(&before, &scene.printed());
        for port in &scene.plan.ports {
            writeln!(shown, "{port}").expect("a string");
        }
        for (key, value) in scene.metadata() {
            writeln!(shown, "{key} = {value}").expect("a string");
        }
        let mut settings = insta::Settings::clone_current();
        settings.set_prepend_module_to_snapshot(false);
        settings.set_omit_expression(true);
        settings.set_snapshot_path(concat!(env!("CARGO_MANIFEST_DIR"), "/../testdata/passes/quantize-io"));
        settings.bind(|| insta::assert_snapshot!(case, rounded(&shown)));
    }

    #[test]
    fn both_ends() {
        check("both_ends");
    }

    #[test]
    fn narrow() {
        check("narrow");
    }

    #[test]
    fn float16() {
        check("float16");
    }

    #[test]
    fn what_stays_float() {
        check("float");
    }
}
