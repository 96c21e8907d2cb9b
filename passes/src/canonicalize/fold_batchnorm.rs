//! Takes a BatchNormalization, or the factors and summands that one was taken apart to, into the operator in front of it.
//!
//! # Why
//! In inference a BatchNormalization is a factor and a summand per channel, and so is the output of what stands before
//! it: one operator less, and the weight's channels get the ranges that will be quantized. Kernels in integers know no
//! BatchNormalization, and take a bias only where it is the operator's own: PaddlePaddle writes it as an Add behind the Conv.
//!
//! # Needs
//! Nothing.
//!
//! # Effect
//! With `g = scale / sqrt(variance + epsilon)` the weight of output channel o is multiplied by `g[o]`, and the bias c
//! becomes `(c - mean) g + bias`, made where there is none; in float64, rounded once. Conv, ConvTranspose, Gemm (beta becomes
//! 1), and MatMul with a weight of rank 2 on the right, with or without an Add of a constant. Weights and biases that
//! others read as well are copied. Add, Sub, Mul and Div of a constant with an element per channel, or one for all, go
//! into a Conv or ConvTranspose in the same way; a factor only where nobody else reads the weight.
//!
//! # Promise
//! Exact.
//!
//! # Declines
//! - `no-producer`: what stands in front can't take it in.
//! - `other-readers`: the value between is an output of the graph or read elsewhere.
//! - `not-constant`: a weight, bias or parameter is computed, or no floats of the size that it should have.
//! - `channel-axis`: the product's last axis is not known to be axis 1.
//! - `training`: it computes statistics.
//! - `not-finite`: a factor or summand is no finite number.
//!
//! # Options
//! None.

use onnxq_ir::ops::{BatchNormalization, Conv, ConvTranspose, Gemm, MatMul};
use onnxq_ir::{Graph, Op, OpId, Output, Patch, Tensor, ValueId};
use serde::{Deserialize, Serialize};

use super::channels::{Channels, ElementWise, Reason, numbers};
use super::replace::only_reader;
use crate::pass::{Context, Pass, PassError, Promise};

/// What a recipe can set: nothing.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub(crate) struct FoldBatchnorm {}

impl Pass for FoldBatchnorm {
    fn promise(&self) -> Promise {
        Promise::Exact
    }

    fn run(&self, cx: &mut Context<'_>) -> Result<(), PassError> {
        for op in cx.ops() {
            if cx.graph().try_op(op).is_some_and(|it| it.is("BatchNormalization")) {
                match fold(cx.graph(), op) {
                    Ok(patch) => cx.apply(patch)?,
                    Err(reason) => cx.decline(op, reason),
                }
            } else if let Some(patch) = fold_element_wise(cx.graph(), op) {
                cx.apply(patch)?;
            }
        }
        Ok(())
    }
}

fn fold(graph: &Graph, op: OpId) -> Result<Patch, Reason> {
    let norm = BatchNormalization::at(graph, op).ok_or("training")?;
    let channels = Channels::of(graph, &norm)?;
    let (producer, _) = graph.producer(norm.x).ok_or("no-producer")?;
    let mut patch = Patch::new(graph, "fold-batchnorm", producer);
    if let Some(site) = Convolution::at(graph, producer) {
        only_reader(graph, norm.x).ok_or("other-readers")?;
        site.fold(graph, &mut patch, &channels)?;
    } else if let Some(gemm) = Gemm::at(graph, producer) {
        only_reader(graph, norm.x).ok_or("other-readers")?;
        fold_gemm(graph, &mut patch, &channels, &gemm)?;
    } else if let Some(product) = Product::at(graph, producer) {
        only_reader(graph, norm.x).ok_or("other-readers")?;
        return product.fold(graph, patch, &channels, op);
    } else {
        return Err("no-producer");
    }
    patch.remove(op);
    patch.produce(producer, 0, graph.output(op, 0).ok_or("other-readers")?);
    Ok(patch)
}

/// The patch that takes an Add, Sub, Mul or Div of a constant into the convolution in front of it; none elsewhere.
fn fold_element_wise(graph: &Graph, op: OpId) -> Option<Patch> {
    let it = ElementWise::at(graph, op)?;
    let (producer, _) = graph.producer(it.x)?;
    only_reader(graph, it.x)?;
    let site = Convolution::at(graph, producer)?;
    let weight = graph.constant(site.weight).filter(|weight| weight.rank() >= LEAST_RANK)?;
    let (outputs, _) = site.layout.channels(weight.shape()).ok()?;
    let channels = it.channels(outputs, weight.rank())?;
    if !channels.is_summand() && graph.readers(site.weight).len() > 1 {
        return None;
    }
    let mut patch = Patch::new(graph, "fold-batchnorm", producer);
    site.fold(graph, &mut patch, &channels).ok()?;
    patch.remove(op);
    patch.produce(producer, 0, graph.output(op, 0)?);
    Some(patch)
}

/// The weight of a convolution has two axes of channels and one of space at least.
const LEAST_RANK: usize = 3;

/// Where the output channels are in a convolution's weight.
#[derive(Clone, Copy)]
enum Layout {
    /// `[M, ...]`
    FirstAxis,
    /// `[C, M / group, ...]`
    SecondAxis { group: usize },
}

/// A convolution, transposed or not.
struct Convolution {
    op: OpId,
    weight: ValueId,
    bias: Option<ValueId>,
    layout: Layout,
}

impl Convolution {
    /// The convolution that `op` is, if it is one.
    fn at(graph: &Graph, op: OpId) -> Option<Self> {
        if let Some(conv) = Conv::at(graph, op) {
            return Some(Self { op, weight: conv.weight, bias: conv.bias, layout: Layout::FirstAxis });
        }
        let conv = ConvTranspose::at(graph, op)?;
        let layout = Layout::SecondAxis { group: conv.group as usize };
        Some(Self { op, weight: conv.weight, bias: conv.bias, layout })
    }

    fn fold(&self, graph: &Graph, patch: &mut Patch, channels: &Channels) -> Result<(), Reason> {
        let weight = graph.constant(self.weight).filter(|tensor| tensor.rank() >= LEAST_RANK).ok_or("not-constant")?;
        let (outputs, channel) = self.layout.channels(weight.shape())?;
        let before = match self.bias {
            Some(bias) => numbers(graph, bias)?,
            None => vec![0.0; outputs],
        };
        if outputs != channels.len() || before.len() != outputs {
            return Err("not-constant");
        }
        let folded = channels.weight(weight, channel)?;
        if !channels.is_summand() {
            patch.set_constant_for(graph, self.op, Conv::WEIGHT, folded);
        }
        let bias = channels.bias(&before, weight.element())?;
        set_bias(graph, patch, (self.op, Conv::BIAS, self.bias), bias);
        Ok(())
    }
}

impl Layout {
    /// The number of output channels, and the one that an element of the weight belongs to.
    fn channels(self, shape: &[usize]) -> Result<(usize, impl Fn(usize) -> usize), Reason> {
        let (first, second, inner) = (shape[0], shape[1], shape[2..].iter().product::<usize>());
        let (group, outputs) = match self {
            Self::FirstAxis => (None, first),
            Self::SecondAxis { group } if first % group == 0 => (Some(group), second * group),
            Self::SecondAxis { .. } => return Err("not-constant"),
        };
        let channel = move |i: usize| {
            let outer = i / (second * inner);
            match group {
                None => outer,
                Some(group) => outer / (first / group) * second + i / inner % second,
            }
        };
        Ok((outputs, channel))
    }
}

/// What a new bias is named after: the operator's output.
fn bias_name(graph: &Graph, op: OpId) -> String {
    graph.output(op, 0).map_or_else(String::new, |value| format!("{}_bias", graph.value(value).name()))
}

fn set_bias(graph: &Graph, patch: &mut Patch, (op, slot, bias): (OpId, usize, Option<ValueId>), tensor: Tensor) {
    if bias.is_some() {
        patch.set_constant_for(graph, op, slot, tensor);
    } else {
        let new = patch.constant(graph, &bias_name(graph, op), tensor);
        patch.set_input(op, slot, Some(new));
    }
}

/// A constant that is added to every row of `[M, N]`, as a vector of N.
fn row(graph: &Graph, value: ValueId, n: usize) -> Result<Vec<f64>, Reason> {
    let tensor = graph.constant(value).ok_or("not-constant")?;
    let elements = tensor.floats().ok_or("not-constant")?;
    match *tensor.shape() {
        [] | [1] | [1, 1] => Ok(vec![elements[0].into(); n]),
        [columns] | [1, columns] if columns == n => Ok(elements.iter().map(|&x| x.into()).collect()),
        _ => Err("not-constant"),
    }
}

fn fold_gemm(graph: &Graph, patch: &mut Patch, channels: &Channels, gemm: &Gemm) -> Result<(), Reason> {
    let weight = graph.constant(gemm.b).filter(|tensor| tensor.rank() == 2).ok_or("not-constant")?;
    let n = weight.shape()[usize::from(!gemm.trans_b)];
    if n != channels.len() {
        return Err("not-constant");
    }
    let width = weight.shape()[1];
    let folded = channels.weight(weight, |i| if gemm.trans_b { i / width } else { i % width })?;
    let beta = f64::from(gemm.beta);
    let before = match gemm.c {
        Some(c) => row(graph, c, n)?.into_iter().map(|x| x * beta).collect(),
        None => vec![0.0; n],
    };
    patch.set_constant_for(graph, gemm.op, Gemm::B, folded);
    set_bias(graph, patch, (gemm.op, Gemm::C, gemm.c), channels.bias(&before, weight.element())?);
    if gemm.beta != 1.0 {
        patch.set_attributes(gemm.op, gemm.attributes_with_beta_one(graph));
    }
    Ok(())
}

/// A MatMul with a constant weight, and the Add of a constant behind it.
struct Product {
    mat_mul: MatMul,
    /// The Add, and the slot in which it reads the constant.
    add: Option<(OpId, usize)>,
}

impl Product {
    fn at(graph: &Graph, op: OpId) -> Option<Self> {
        if let Some(mat_mul) = MatMul::at(graph, op) {
            return Some(Self { mat_mul, add: None });
        }
        if !graph.op(op).is("Add") {
            return None;
        }
        (0..2).find_map(|slot| {
            graph.constant(graph.input(op, slot)?)?;
            let (producer, _) = graph.producer(graph.input(op, 1 - slot)?)?;
            Some(Self { mat_mul: MatMul::at(graph, producer)?, add: Some((op, slot)) })
        })
    }

    fn fold(&self, graph: &Graph, mut patch: Patch, channels: &Channels, norm: OpId) -> Result<Patch, Reason> {
        let op = self.mat_mul.op;
        let product = graph.output(op, 0).ok_or("no-producer")?;
        let weight = graph.constant(self.mat_mul.b).filter(|tensor| tensor.rank() == 2).ok_or("not-constant")?;
        if graph.rank(self.mat_mul.a) != Some(2) {
            return Err("channel-axis");
        }
        let n = weight.shape()[1];
        if n != channels.len() {
            return Err("not-constant");
        }
        let output = graph.output(norm, 0).ok_or("other-readers")?;
        let folded = channels.weight(weight, |i| i % n)?;
        if let Some((add, slot)) = self.add {
            only_reader(graph, product).ok_or("other-readers")?;
            let before = row(graph, graph.input(add, slot).ok_or("not-constant")?, n)?;
            patch.set_constant_for(graph, op, MatMul::B, folded);
            patch.set_constant_for(graph, add, slot, channels.bias(&before, weight.element())?);
            patch.remove(norm);
            patch.produce(add, 0, output);
        } else {
            patch.set_constant_for(graph, op, MatMul::B, folded);
            let bias = channels.bias(&vec![0.0; n], weight.element())?;
            let bias = patch.constant(graph, &format!("{}_bias", graph.value(output).name()), bias);
            patch.stand_at(graph, norm);
            let add = Op::new("", "Add", vec![]).named(graph.op(norm).name());
            patch.op(graph, add, &[Some(product), Some(bias)], &[Output::Take(output)]);
            patch.remove(norm);
        }
        Ok(patch)
    }
}

#[cfg(test)]
mod tests {
    use crate::testing::{check, check_declined};

    #[test]
    fn bfloat16() {
        check!("fold-batchnorm/bfloat16");
    }

    #[test]
    fn conv() {
        check!("fold-batchnorm/conv");
    }

    #[test]
    fn conv_without_bias() {
        check!("fold-batchnorm/conv_without_bias");
    }

    #[test]
    fn shared_weight() {
        check!("fold-batchnorm/shared_weight");
    }

    #[test]
    fn name_clash() {
        check!("fold-batchnorm/name_clash");
    }

    #[test]
    fn conv_transpose_groups() {
        check!("fold-batchnorm/conv_transpose_groups");
    }

    #[test]
    fn gemm_beta() {
        check!("fold-batchnorm/gemm_beta");
    }

    #[test]
    fn mat_mul() {
        check!("fold-batchnorm/mat_mul");
    }

    #[test]
    fn mat_mul_add() {
        check!("fold-batchnorm/mat_mul_add");
    }

    #[test]
    fn summand_behind() {
        check!("fold-batchnorm/summand_behind");
    }

    #[test]
    fn factor_behind() {
        check!("fold-batchnorm/factor_behind");
    }

    #[test]
    fn factor_behind_transposed() {
        check!("fold-batchnorm/factor_behind_transposed");
    }

    #[test]
    fn element_wise_left() {
        check!("fold-batchnorm/element_wise_left");
    }

    #[test]
    fn a_malformed_convolution_takes_nothing_in() {
        let text = "<ir_version: 8, opset_import: [\"\" : 17]> g (float[1, 2, 2] x) => (float[1, 2, 2] y)
            < float[2] w = {1, 2}, float one = {1} > { c = Conv (x, w) y = Add (c, one) }";
        let graph = onnxq_ir::text::parse(text).expect("a model").graph;
        assert!(graph.op_ids().all(|op| super::fold_element_wise(&graph, op).is_none()));
    }

    #[test]
    fn no_producer() {
        check_declined!("fold-batchnorm/no_producer", "no-producer");
    }

    #[test]
    fn other_readers() {
        check_declined!("fold-batchnorm/other_readers", "other-readers");
    }

    #[test]
    fn not_constant() {
        check_declined!("fold-batchnorm/not_constant", "not-constant");
    }

    #[test]
    fn channel_axis() {
        check_declined!("fold-batchnorm/channel_axis", "channel-axis");
    }

    #[test]
    fn training() {
        check_declined!("fold-batchnorm/training", "training");
    }

    #[test]
    fn not_finite() {
        check_declined!("fold-batchnorm/not_finite", "not-finite");
    }
}
