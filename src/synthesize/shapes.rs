//! The sizes of made-up inputs: the user's, those of equal names, and what is usual.

use std::collections::BTreeMap;

use onnxq_ir::Dim;

use super::readers::Evidence;
use super::{Image, Input, SynthesisError, escaped};

/// The usual side of a picture.
const IMAGE_SIDE: usize = 224;
/// Any other free dimension: short enough to be quick, long enough for windows and strides.
const OTHER: usize = 32;
/// What a first axis is called that is no batch, lower case.
const LENGTHS: [&str; 5] = ["seq", "len", "time", "frame", "token"];

/// Reads `NAME=1,3,640,640` or `NAME:1x3x640x640`.
///
/// The last `=` or `:` separates, since names may contain them; no sizes at all is a scalar.
pub fn parse_input_shape(text: &str) -> Result<(String, Vec<usize>), SynthesisError> {
    let parsed = || {
        let (name, sizes) = text.rsplit_once(['=', ':'])?;
        let sizes = sizes.trim();
        if name.is_empty() {
            return None;
        }
        if sizes.is_empty() {
            return Some((name.to_owned(), Vec::new()));
        }
        let separator = if sizes.contains(',') { ',' } else { 'x' };
        let sizes = sizes.split(separator).map(|size| size.trim().parse().ok().filter(|&size: &usize| size > 0));
        Some((name.to_owned(), sizes.collect::<Option<_>>()?))
    };
    parsed().ok_or_else(|| SynthesisError::Malformed { text: escaped(text) })
}

/// The whole shape of each input, in their order.
pub(super) fn settle(
    inputs: &[Input<'_>],
    found: &[Evidence],
    images: &[Option<Image>],
    listing: &dyn Fn() -> String,
) -> Result<Vec<Vec<usize>>, SynthesisError> {
    let mut named = Named::default();
    for input in inputs {
        named.learn(input, listing)?;
    }
    // Batches first: what is a batch anywhere is one everywhere.
    for usual in [Usual::Batch, Usual::ImageSide] {
        for ((input, evidence), image) in inputs.iter().zip(found).zip(images) {
            for (axis, dim) in input.dims.iter().enumerate() {
                if let Dim::Symbol(symbol) = dim
                    && Usual::of(axis, dim, evidence, image.as_ref()) == usual
                {
                    named.sizes.entry(symbol).or_insert(usual.size());
                }
            }
        }
    }
    let shapes = inputs.iter().zip(found).zip(images).map(|((input, evidence), image)| {
        let size = |(axis, dim): (usize, &Dim)| match (dim, input.given) {
            (_, Some(given)) => given[axis],
            (Dim::Known(size), None) => *size,
            (Dim::Symbol(symbol), None) => named.size(symbol),
            (Dim::Unknown, None) => Usual::of(axis, dim, evidence, image.as_ref()).size(),
        };
        input.dims.iter().enumerate().map(size).collect()
    });
    Ok(shapes.collect())
}

/// What a free dimension is, as far as one can tell.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Usual {
    Batch,
    ImageSide,
    Other,
}

impl Usual {
    fn of(axis: usize, dim: &Dim, evidence: &Evidence, image: Option<&Image>) -> Self {
        let called = match dim {
            Dim::Symbol(name) => name.to_lowercase(),
            Dim::Known(_) | Dim::Unknown => String::new(),
        };
        if image.is_some_and(|image| image.sides.contains(&axis)) {
            return Self::ImageSide;
        }
        let is_batch = match evidence.batch_axis {
            Some(batch_axis) => axis == batch_axis,
            None => axis == 0 && !LENGTHS.iter().any(|length| called.contains(length)),
        };
        if is_batch || called.contains("batch") { Self::Batch } else { Self::Other }
    }

    fn size(self) -> usize {
        match self {
            Self::Batch => 1,
            Self::ImageSide => IMAGE_SIDE,
            Self::Other => OTHER,
        }
    }
}

/// Sizes of dimensions with names.
#[derive(Default)]
struct Named<'i> {
    sizes: BTreeMap<&'i str, usize>,
}

impl<'i> Named<'i> {
    /// Takes over what the user says, where it fits the model.
    fn learn(&mut self, input: &'i Input<'_>, listing: &dyn Fn() -> String) -> Result<(), SynthesisError> {
        let Some(given) = input.given else { return Ok(()) };
        let name = || escaped(input.name);
        if given.len() != input.dims.len() {
            let (expected, given) = (input.dims.len(), given.len());
            return Err(SynthesisError::Rank { input: name(), expected, given, inputs: listing() });
        }
        for (axis, (dim, &given)) in input.dims.iter().zip(given).enumerate() {
            match dim {
                Dim::Known(expected) if *expected != given => {
                    let expected = *expected;
                    return Err(SynthesisError::Size { input: name(), axis, expected, given, inputs: listing() });
                }
                Dim::Symbol(symbol) => {
                    let first = *self.sizes.entry(symbol).or_insert(given);
                    if first != given {
                        let (symbol, second) = (escaped(symbol), given);
                        return Err(SynthesisError::Unequal { symbol, first, second, inputs: listing() });
                    }
                }
                Dim::Known(_) | Dim::Unknown => {}
            }
        }
        Ok(())
    }

    /// The size of this name; exporters also write sums of names and numbers (`past_length + 1`).
    fn size(&self, symbol: &str) -> usize {
        let one = |part: &str| self.sizes.get(part).copied().or_else(|| part.parse().ok());
        if let Some(size) = one(symbol) {
            return size;
        }
        if symbol.contains('+') {
            let parts = symbol.split('+').map(|part| one(part.trim()).unwrap_or(OTHER));
            return parts.fold(0usize, usize::saturating_add);
        }
        OTHER
    }
}
