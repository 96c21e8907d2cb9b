//! What inputs are made up from where no data is given: what the model says of them, in the graph as it was read.
//!
//! [`readers`] finds what an input's first readers tell, [`shapes`] settles its size; here both become a description that
//! [`crate::data::synthesize`] draws from. Knows no engine and no file: a model whose inputs are of one piece (lengths
//! that must agree, say) may still refuse what is made up, and then real data is the way.

mod affine;
mod readers;
mod shapes;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;

use onnxq_ir::{Declared, Dim, ElementType, Graph, Origin, TensorType, ValueId, ValueType};

use crate::data::{SynthKind, SynthSpec};

use readers::{Evidence, evidence};

pub use shapes::parse_input_shape;

/// Why an input can't be made up.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum SynthesisError {
    /// An option that does not name an input and its sizes.
    #[error("`--input-shape {text}`: give it as `NAME=1,3,224,224` or `NAME:1x3x224x224`, every size at least 1")]
    Malformed {
        /// The option's text.
        text: String,
    },
    /// A shape for an input that is not there.
    #[error("`--input-shape`: no input `{name}` needs data; those that do: {inputs}")]
    UnknownInput {
        /// The name given.
        name: String,
        /// The inputs with their types.
        inputs: String,
    },
    /// A shape with another number of dimensions than the model's.
    #[error("`--input-shape`: `{input}` has {expected} dimensions, not {given}; inputs: {inputs}")]
    Rank {
        /// The input.
        input: String,
        /// Dimensions that the model declares.
        expected: usize,
        /// Dimensions given.
        given: usize,
        /// The inputs with their types.
        inputs: String,
    },
    /// A size that contradicts one that the model fixes.
    #[error("`--input-shape`: dimension {axis} of `{input}` is {expected}, not {given}; inputs: {inputs}")]
    Size {
        /// The input.
        input: String,
        /// The dimension, counted from 0.
        axis: usize,
        /// Its size in the model.
        expected: usize,
        /// The size given.
        given: usize,
        /// The inputs with their types.
        inputs: String,
    },
    /// Two sizes for dimensions of one name.
    #[error("`--input-shape`: dimension `{symbol}` can't be both {first} and {second}; inputs: {inputs}")]
    Unequal {
        /// The dimensions' name.
        symbol: String,
        /// The size that came first.
        first: usize,
        /// The other one.
        second: usize,
        /// The inputs with their types.
        inputs: String,
    },
    /// The model does not tell how many dimensions an input has.
    #[error(
        "input `{input}`: the model does not say how many dimensions it has; give its shape with `--input-shape \
         {input}=1,3,224,224` (its own sizes) or data with `--calib`"
    )]
    UnknownRank {
        /// The input.
        input: String,
    },
    /// The input is a sequence, a map, an optional or sparse, or has no type at all.
    #[error("input `{input}` is no plain tensor, which is all that can be made up; give data with `--calib`")]
    NotTensor {
        /// The input.
        input: String,
    },
}

/// An input that needs data.
struct Input<'g> {
    value: ValueId,
    name: &'g str,
    element: ElementType,
    /// As the model declares it, or all free where only the user knows the rank.
    dims: Vec<Dim>,
    /// What the user says.
    given: Option<&'g [usize]>,
}

/// Describes every graph input without a default, in file order, so that a run on made-up data is near what the model
/// was made for.
///
/// `shapes` are those the user gives by `--input-shape`. Sizes that nobody gives: those of dimensions with the same
/// name, 1 for a batch (the first axis or what a recurrent operator takes for it, and what is called so), 224 for the axes of an image, else 32. Kinds, the first
/// that fits:
/// - bool: true;
/// - what picks rows of a table (Gather, OneHot), directly or with a constant added: uniform in the table's rows, the
///   smallest table where there are several;
/// - a mask, by its name (`mask` is part of it) or its use (1 - x times a large negative number; a condition): 1;
/// - an integer that is compared with constants: one of these;
/// - another integer that is not an image of bytes: 0;
/// - what a BatchNormalization reads, behind arithmetic with constants at most: its mean and variance, by channel;
/// - what a Conv, MatMul or Gemm reads behind arithmetic with constants: normal numbers that this arithmetic brings to
///   mean 0 and variance 1, since that is what it is for;
/// - an image (its readers are convolutions or pools, or it has 1, 3 or 4 channels): smooth noise of mean 0 and variance
///   1. What follows a Conv tells nothing direct about the input: a BatchNormalization behind it is not asked;
/// - anything else: independent normal numbers of mean 0 and variance 1.
pub fn specs(
    graph: &Graph,
    shapes: &BTreeMap<String, Vec<usize>>,
) -> Result<Vec<(ValueId, SynthSpec)>, SynthesisError> {
    let declared: Vec<&Declared> = graph.inputs().iter().filter(|input| needs_data(graph, input.value)).collect();
    let listing = || listing(graph, &declared);
    let is_input = |name: &str| declared.iter().any(|input| graph.value(input.value).name() == name);
    if let Some(name) = shapes.keys().find(|name| !is_input(name)) {
        return Err(SynthesisError::UnknownInput { name: escaped(name), inputs: listing() });
    }
    let inputs: Vec<Input<'_>> =
        declared.iter().map(|declared| input(graph, declared, shapes)).collect::<Result<_, _>>()?;
    let found: Vec<Evidence> = inputs.iter().map(|input| evidence(graph, input.value, input.dims.len())).collect();
    let images: Vec<Option<Image>> =
        inputs.iter().zip(&found).map(|(input, evidence)| Image::of(input, evidence)).collect();
    let shapes = shapes::settle(&inputs, &found, &images, &listing)?;
    let specs = inputs.iter().zip(found).zip(images).zip(shapes).map(|(((input, evidence), image), shape)| {
        let kind = kind(input, evidence, image.as_ref(), &shape);
        (input.value, SynthSpec { name: input.name.to_owned(), element: input.element, shape, kind })
    });
    Ok(specs.collect())
}

/// Whether an input needs data. The engine computes nothing from strings.
fn needs_data(graph: &Graph, value: ValueId) -> bool {
    let is_text = graph.tensor_type(value).is_some_and(|known| known.element == ElementType::String);
    !is_text && matches!(graph.value(value).origin(), Origin::Input(None))
}

fn input<'g>(
    graph: &'g Graph,
    declared: &Declared,
    shapes: &'g BTreeMap<String, Vec<usize>>,
) -> Result<Input<'g>, SynthesisError> {
    let name = graph.value(declared.value).name();
    let given = shapes.get(name).map(Vec::as_slice);
    let ValueType::Tensor(TensorType { element, shape }) = &declared.value_type else {
        return Err(SynthesisError::NotTensor { input: escaped(name) });
    };
    let dims = match (shape, given) {
        (Some(dims), _) => dims.clone(),
        (None, Some(given)) => vec![Dim::Unknown; given.len()],
        (None, None) => return Err(SynthesisError::UnknownRank { input: escaped(name) }),
    };
    Ok(Input { value: declared.value, name, element: *element, dims, given })
}

/// The inputs with their types, for a person.
fn listing(graph: &Graph, declared: &[&Declared]) -> String {
    let one = |input: &&Declared| {
        let name = escaped(graph.value(input.value).name());
        match input.value_type.tensor() {
            Some(tensor_type) => format!("`{name}` {}", escaped(&tensor_type.to_string())),
            None => format!("`{name}`"),
        }
    };
    let all: Vec<String> = declared.iter().map(one).collect();
    if all.is_empty() { "none".to_owned() } else { all.join(", ") }
}

/// A name that comes from outside, fit for a terminal.
fn escaped(name: &str) -> String {
    name.escape_debug().to_string()
}

/// Where an input's channels lie and over which two axes it is smooth.
struct Image {
    channel_axis: Option<usize>,
    sides: [usize; 2],
}

/// Channels of pictures: grey, colours, colours and opacity.
const PICTURE_CHANNELS: [usize; 3] = [1, 3, 4];

impl Image {
    /// What spatial readers say, else what the number of channels suggests.
    fn of(input: &Input<'_>, evidence: &Evidence) -> Option<Self> {
        let is_pixel = is_float(input.element) || input.element == ElementType::U8;
        if !is_pixel || evidence.is_table() {
            return None;
        }
        if let Some(spatial) = &evidence.spatial {
            return Some(Self { channel_axis: spatial.channel_axis, sides: spatial.sides });
        }
        if input.dims.len() != 4 {
            return None;
        }
        let size = |axis: usize| input.given.map(|given| given[axis]).or(input.dims[axis].known());
        let is_channels = |axis: usize| size(axis).is_some_and(|size| PICTURE_CHANNELS.contains(&size));
        let channel_axis = [1, 3].into_iter().find(|&axis| is_channels(axis))?;
        Some(Self { channel_axis: Some(channel_axis), sides: if channel_axis == 1 { [2, 3] } else { [1, 2] } })
    }
}

fn is_float(element: ElementType) -> bool {
    matches!(element, ElementType::F32 | ElementType::F64 | ElementType::F16 | ElementType::BF16)
}

/// What is masked is no mask.
fn is_called_mask(name: &str) -> bool {
    let name = name.to_lowercase();
    name.contains("mask") && !name.contains("masked")
}

fn kind(input: &Input<'_>, evidence: Evidence, image: Option<&Image>, shape: &[usize]) -> SynthKind {
    if input.element == ElementType::Bool {
        return SynthKind::Constant(1.0);
    }
    if let Some((low, high)) = evidence.rows {
        return SynthKind::Uniform { low, high };
    }
    if evidence.is_mask() || is_called_mask(input.name) {
        return SynthKind::Constant(1.0);
    }
    if !is_float(input.element) {
        return match image {
            _ if !evidence.compared.is_empty() => SynthKind::OneOf(evidence.compared.into_iter().collect()),
            Some(image) => SynthKind::Natural { channel_axis: image.channel_axis },
            None => SynthKind::Constant(0.0),
        };
    }
    let fits = |axis: usize, entries: usize| entries == 1 || shape.get(axis) == Some(&entries);
    match (evidence.statistics, image) {
        (Some(known), _) if fits(known.axis, known.mean.len()) => {
            SynthKind::Gaussian { mean: known.mean, std: known.std, axis: known.axis }
        }
        // Only with four axes is smooth noise drawn; with others this is independent numbers.
        (_, Some(image)) => SynthKind::Natural { channel_axis: image.channel_axis },
        (_, None) => SynthKind::Gaussian { mean: vec![0.0], std: vec![1.0], axis: 0 },
    }
}
