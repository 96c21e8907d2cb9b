//! QuantizeLinear and DequantizeLinear with ONNX's own semantics, in place of tract's, which multiply by the reciprocal
//! of the scale, wrap for large values, and are merged into tables of other operators.
//!
//! Codes below 8 bits live in int8 and uint8 here: tract has no smaller type. Scales and zero points are constants.

use std::ops::RangeInclusive;
use std::sync::Arc;

use onnxq_ir::{ElementType, Graph, OpId, Output, Patch, Tensor, ValueId, ops};
use onnxq_numerics::{IntFormat, Signedness, unpack};
use tract_onnx::tract_core::internal::{
    Datum, DatumType, DatumTypeExt, EvalContext, EvalOp, IntoTValue, Op, OutletId, SpecialOps, StaticName, TValue,
    TVec, TractErrorContext, TractResult, TypedFact, TypedModel, TypedOp, args_1, as_op, bail, ensure, op_as_typed_op,
    op_out_of_plan, tvec,
};
use tract_onnx::tract_hir::infer::{InferenceResult, Solver, TensorProxy, check_input_arity, check_output_arity};
use tract_onnx::tract_hir::internal::Expansion;

use crate::guard::Failure;
use crate::marked::{Marked, Marker};
use crate::support::int;
use crate::tensor::{HalfFloats, TractTensor, datum_type, element_type, from_tract, to_tract};

/// Which way a codec goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Direction {
    /// Numbers to codes of this type.
    Quantize(CodeType),
    /// Codes to numbers.
    Dequantize,
}

/// An integer type of codes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct CodeType {
    format: IntFormat,
    /// The type that holds the codes in tract.
    container: DatumType,
}

impl CodeType {
    /// The code type of this name; `None` for int32, floats and others.
    fn of(element: ElementType) -> Option<Self> {
        use ElementType as E;
        let (bits, signedness, container) = match element {
            E::U2 => (2, Signedness::Unsigned, DatumType::U8),
            E::I2 => (2, Signedness::Signed, DatumType::I8),
            E::U4 => (4, Signedness::Unsigned, DatumType::U8),
            E::I4 => (4, Signedness::Signed, DatumType::I8),
            E::U8 => (8, Signedness::Unsigned, DatumType::U8),
            E::I8 => (8, Signedness::Signed, DatumType::I8),
            E::U16 => (16, Signedness::Unsigned, DatumType::U16),
            E::I16 => (16, Signedness::Signed, DatumType::I16),
            _ => return None,
        };
        Some(Self { format: IntFormat::new(bits, signedness)?, container })
    }
}

/// How scales lie over a tensor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Layout {
    Tensor,
    /// One scale per slice; a negative axis counts from the end.
    Axis(i64),
    /// One scale per run of `size` along the axis; the other axes of the scales are those of the tensor.
    Blocks {
        axis: i64,
        size: usize,
    },
}

/// A QuantizeLinear or DequantizeLinear with its parameters.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Codec {
    direction: Direction,
    layout: Layout,
    scales: Vec<f32>,
    /// As many as scales.
    zero_points: Vec<i32>,
    /// The type of the scales, which is that of the numbers.
    floats: ElementType,
}

impl Eq for Codec {}

/// What a codec with one scale computes.
pub(crate) struct Spelling {
    pub(crate) scale: f32,
    pub(crate) zero_point: i32,
    /// Where it quantizes: the type that holds the codes, the least and the largest code.
    pub(crate) codes: Option<(ElementType, i32, i32)>,
}

/// 1.5 * 2^23: adding it to a float of magnitude below 2^22 rounds that to an integer, half to even.
const MAGIC: f32 = 12_582_912.0;

/// What can't be computed about such an operator; `None` where nothing is in the way.
pub(crate) fn unsupported_form(graph: &Graph, id: OpId) -> Option<String> {
    Codec::at(graph, id).err()
}

/// Puts markers in the place of all QuantizeLinear and DequantizeLinear operators.
pub(crate) fn replace_codecs(marked: &mut Marked<'_>) -> Result<(), Failure> {
    let graph = &marked.graph;
    let codecs: Vec<OpId> = graph.op_ids().filter(|&id| is_codec(graph.op(id))).collect();
    let Some(&first) = codecs.first() else { return Ok(()) };
    let mut patch = Patch::new(graph, "codecs", first);
    let mut markers = Vec::new();
    for id in codecs {
        // One that can't be computed stays: whoever needs it is told.
        let (Ok(codec), Some(x), Some(y)) = (Codec::at(graph, id), graph.input(id, 0), graph.output(id, 0)) else {
            continue;
        };
        patch.stand_at(graph, id);
        let x = match graph.constant(x).map(widened) {
            Some(Some(tensor)) => patch.constant(graph, graph.value(x).name(), tensor),
            _ => x,
        };
        let marker = Marker::Codec(Arc::new(codec));
        let op = marker.op().named(graph.op(id).name());
        patch.remove(id);
        patch.op(graph, op, &[Some(x)], &[Output::Take(y)]);
        markers.push((y, marker));
    }
    let mut copy = graph.clone().into_owned();
    patch.apply(&mut copy).map_err(|error| Failure::of(error.to_string()))?;
    marked.graph = std::borrow::Cow::Owned(copy);
    marked.markers.extend(markers);
    Ok(())
}

/// Whether codes of a type that tract lacks occur: its container's name then is not the value's type.
pub(crate) fn has_small_codes(graph: &Graph) -> bool {
    graph.op_ids().filter(|&id| is_codec(graph.op(id))).any(|id| {
        let of = |slot: usize| graph.tensor_type(graph.input(id, slot)?);
        let zero_point = (graph.op(id).input_arity() > 2).then(|| of(2)).flatten();
        let stated = int(graph.op(id), "output_dtype").and_then(|code| ElementType::from_code(code as i32));
        [of(0).map(|it| it.element), zero_point.map(|it| it.element), stated].iter().flatten().any(|it| it.bits() < 8)
    })
}

fn is_codec(op: &onnxq_ir::Op) -> bool {
    op.is("QuantizeLinear") || op.is("DequantizeLinear")
}

/// A constant of codes below 8 bits in its container; `None` for other constants.
fn widened(tensor: &Tensor) -> Option<Tensor> {
    let code = CodeType::of(tensor.element()).filter(|code| code.format.bits() < 8)?;
    let codes = unpack(tensor.bytes(), tensor.len(), code.format).ok()?;
    let shape = tensor.shape().to_vec();
    Some(match code.format.signedness() {
        Signedness::Signed => Tensor::new(shape, codes.iter().map(|&code| code as i8).collect()),
        Signedness::Unsigned => Tensor::new(shape, codes.iter().map(|&code| code as u8).collect()),
    })
}

/// Codes as numbers.
fn integers(tensor: &Tensor) -> Option<Vec<i32>> {
    let wide = widened(tensor);
    let codes = wide.as_ref().unwrap_or(tensor).to_i64()?;
    codes.into_iter().map(|code| i32::try_from(code).ok()).collect()
}

impl Codec {
    /// The codec that an operator is; `Err` says what stands in the way.
    fn at(graph: &Graph, id: OpId) -> Result<Self, String> {
        let op = graph.op(id);
        let input = |slot: usize| (slot < op.input_arity()).then(|| graph.input(id, slot)).flatten();
        let constant = |value: ValueId| ops::constant_tensor(graph, value);
        let scale = input(1).and_then(constant).ok_or("with a computed scale")?;
        let floats = scale.element();
        let scales = scale.floats().ok_or_else(|| format!("with scales of {floats}"))?.into_owned();
        let zero_point = match input(2) {
            None => None,
            Some(value) => Some(constant(value).ok_or("with a computed zero point")?),
        };
        let zero_points = match zero_point.as_ref() {
            None => vec![0; scales.len()],
            Some(tensor) => integers(tensor).ok_or_else(|| format!("with zero points of {}", tensor.element()))?,
        };
        if zero_points.len() != scales.len() {
            return Err("with other zero points than scales".to_owned());
        }
        let axis = int(op, "axis").unwrap_or(1);
        let layout = match (usize::try_from(int(op, "block_size").unwrap_or(0)), scales.len()) {
            (Err(_), _) => return Err("with a negative block size".to_owned()),
            (Ok(0), 1) => Layout::Tensor,
            (Ok(0), _) => Layout::Axis(axis),
            (Ok(size), _) => Layout::Blocks { axis, size },
        };
        let direction = if op.op_type() == "QuantizeLinear" {
            let stated = int(op, "output_dtype").and_then(|code| ElementType::from_code(i32::try_from(code).ok()?));
            let element = zero_point.map(|tensor| tensor.element()).or(stated).unwrap_or(ElementType::U8);
            Direction::Quantize(CodeType::of(element).ok_or_else(|| format!("to {element}"))?)
        } else {
            let from = input(0).and_then(|value| graph.tensor_type(value)).map(|it| it.element);
            if let Some(element) = from.filter(|&it| it != ElementType::I32 && CodeType::of(it).is_none()) {
                return Err(format!("from {element}"));
            }
            Direction::Dequantize
        };
        Ok(Self { direction, layout, scales, zero_points, floats })
    }

    /// The same where numbers are handed over in other types.
    pub(crate) fn with(&self, halves: HalfFloats) -> Self {
        Self { floats: halves.engine_type(self.floats), ..self.clone() }
    }

    /// The codec that an operator is, where it is one that can be computed.
    pub(crate) fn find(graph: &Graph, id: OpId) -> Option<Self> {
        is_codec(graph.op(id)).then(|| Self::at(graph, id).ok())?
    }

    /// Dequantized codes of a constant; `None` where this one quantizes, or they don't fit.
    pub(crate) fn floats(&self, codes: &Tensor) -> Option<Tensor> {
        let codes = to_tract(widened(codes).as_ref().unwrap_or(codes), HalfFloats::Kept).ok()?;
        (self.direction == Direction::Dequantize).then(|| from_tract(&self.dequantize(&codes).ok()?))?
    }

    /// Its parameters, where they are the same for all elements.
    pub(crate) fn spelling(&self) -> Option<Spelling> {
        let (&[scale], &[zero_point]) = (self.scales.as_slice(), self.zero_points.as_slice()) else { return None };
        let codes = match self.direction {
            Direction::Dequantize => None,
            Direction::Quantize(code) => Some((element_type(code.container)?, code.format.qmin(), code.format.qmax())),
        };
        Some(Spelling { scale, zero_point, codes })
    }

    /// Calls `each` with every run of elements that share parameters, and these.
    fn runs(&self, shape: &[usize], mut each: impl FnMut(RangeInclusive<usize>, f32, i32)) -> TractResult<()> {
        let count: usize = shape.iter().product();
        let front = |axis: i64| {
            let axis = if axis < 0 { axis + shape.len() as i64 } else { axis };
            usize::try_from(axis).ok().filter(|&axis| axis < shape.len()).context("the axis is out of range")
        };
        let mut run = |start: usize, length: usize, at: usize| {
            if length > 0 {
                each(start..=start + length - 1, self.scales[at], self.zero_points[at]);
            }
        };
        match self.layout {
            Layout::Tensor => run(0, count, 0),
            Layout::Axis(axis) => {
                let axis = front(axis)?;
                ensure!(shape[axis] == self.scales.len(), "{} scales do not fit {shape:?}", self.scales.len());
                let inner: usize = shape[axis + 1..].iter().product();
                for slice in 0..count.checked_div(inner).unwrap_or(0) {
                    run(slice * inner, inner, slice % shape[axis]);
                }
            }
            Layout::Blocks { axis, size } => {
                let axis = front(axis)?;
                let inner: usize = shape[axis + 1..].iter().product();
                let blocks = shape[axis].div_ceil(size);
                let outer: usize = shape[..axis].iter().product();
                ensure!(outer * blocks * inner == self.scales.len(), "the scales do not fit {shape:?}");
                for element in 0..count {
                    let (outside, along, inside) =
                        (element / (inner * shape[axis]), element / inner % shape[axis], element % inner);
                    run(element, 1, (outside * blocks + along / size) * inner + inside);
                }
            }
        }
        Ok(())
    }

    /// `saturate(rne(x / s) + z)`, clipped before it is rounded, which is the same between integers; NaN, which ONNX leaves open, gives z.
    fn quantize(&self, x: &TractTensor, code: CodeType) -> TractResult<TractTensor> {
        let x = x.cast_to::<f32>()?;
        let values = x.try_as_plain_ram()?.as_slice::<f32>()?;
        let mut codes = vec![0i32; values.len()];
        let (low, high) = (code.format.qmin(), code.format.qmax());
        self.runs(x.shape(), |run, scale, zero_point| {
            let (least, most) = ((low - zero_point) as f32, (high - zero_point) as f32);
            for (code, value) in codes[run.clone()].iter_mut().zip(&values[run]) {
                let steps = (value / scale).clamp(least, most) + MAGIC - MAGIC;
                *code = steps as i32 + zero_point;
            }
        })?;
        match code.container {
            DatumType::U8 => narrow(x.shape(), &codes, |code| code as u8),
            DatumType::I8 => narrow(x.shape(), &codes, |code| code as i8),
            DatumType::U16 => narrow(x.shape(), &codes, |code| code as u16),
            _ => narrow(x.shape(), &codes, |code| code as i16),
        }
    }

    /// `(q - z) * s`.
    fn dequantize(&self, codes: &TractTensor) -> TractResult<TractTensor> {
        let wide = match codes.datum_type() {
            DatumType::U8 => wide::<u8>(codes)?,
            DatumType::I8 => wide::<i8>(codes)?,
            DatumType::U16 => wide::<u16>(codes)?,
            DatumType::I16 => wide::<i16>(codes)?,
            DatumType::I32 => wide::<i32>(codes)?,
            other => bail!("codes of {other:?} can't be dequantized"),
        };
        let mut values = vec![0f32; wide.len()];
        self.runs(codes.shape(), |run, scale, zero_point| {
            for (value, code) in values[run.clone()].iter_mut().zip(&wide[run]) {
                *value = code.wrapping_sub(zero_point) as f32 * scale;
            }
        })?;
        let values = TractTensor::from_shape(codes.shape(), &values)?;
        Ok(values.cast_to_dt(self.output())?.into_owned())
    }

    fn output(&self) -> DatumType {
        match self.direction {
            Direction::Quantize(code) => code.container,
            Direction::Dequantize => datum_type(self.floats).unwrap_or(DatumType::F32),
        }
    }
}

fn narrow<T: Datum + Copy>(shape: &[usize], codes: &[i32], to: impl Fn(i32) -> T) -> TractResult<TractTensor> {
    TractTensor::from_shape(shape, &codes.iter().map(|&code| to(code)).collect::<Vec<T>>())
}

fn wide<T: Datum + Copy + Into<i32>>(codes: &TractTensor) -> TractResult<Vec<i32>> {
    Ok(codes.try_as_plain_ram()?.as_slice::<T>()?.iter().map(|&code| code.into()).collect())
}

impl Op for Codec {
    fn name(&self) -> StaticName {
        "OnnxqCodec".into()
    }

    op_as_typed_op!();
}

impl EvalOp for Codec {
    op_out_of_plan!();

    fn eval(&self, _ctx: &EvalContext, inputs: TVec<TValue>) -> TractResult<TVec<TValue>> {
        let input = args_1!(inputs);
        let output = match self.direction {
            Direction::Quantize(code) => self.quantize(&input, code)?,
            Direction::Dequantize => self.dequantize(&input)?,
        };
        Ok(tvec!(output.into_tvalue()))
    }
}

impl TypedOp for Codec {
    as_op!();

    fn output_facts(&self, inputs: &[&TypedFact]) -> TractResult<TVec<TypedFact>> {
        Ok(tvec!(Codec::output(self).fact(inputs[0].shape.clone())))
    }
}

impl Expansion for Codec {
    fn name(&self) -> StaticName {
        "OnnxqCodec".into()
    }

    fn rules<'r, 'p: 'r, 's: 'r>(
        &'s self,
        s: &mut Solver<'r>,
        inputs: &'p [TensorProxy],
        outputs: &'p [TensorProxy],
    ) -> InferenceResult {
        check_input_arity(inputs, 1)?;
        check_output_arity(outputs, 1)?;
        s.equals(&outputs[0].datum_type, self.output())?;
        s.equals(&inputs[0].shape, &outputs[0].shape)
    }

    fn wire(&self, prefix: &str, model: &mut TypedModel, inputs: &[OutletId]) -> TractResult<TVec<OutletId>> {
        model.wire_node(prefix, self.clone(), inputs)
    }
}
