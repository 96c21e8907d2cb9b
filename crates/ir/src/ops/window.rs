//! What convolutions say about their window: strides, dilations and padding.

use crate::graph::Graph;
use crate::op::OpId;
use crate::value::ValueId;

use super::attributes::{ints_opt, text_or};

/// How the borders are padded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Padding {
    /// Amounts per spatial axis: all at the beginning, then all at the end.
    Explicit(Vec<i64>),
    /// As many as make the output as large as the input over the stride; the odd one at the end.
    SameUpper,
    /// The same with the odd one at the beginning.
    SameLower,
}

impl Padding {
    /// Whether nothing is padded, whatever the input's size.
    pub fn is_none(&self) -> bool {
        matches!(self, Self::Explicit(amounts) if amounts.iter().all(|&amount| amount == 0))
    }
}

/// The window of a convolution; every list has one entry per spatial axis.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Window {
    /// Steps between windows.
    pub strides: Vec<i64>,
    /// Steps between the taps of a window.
    pub dilations: Vec<i64>,
    /// What stands around the input.
    pub padding: Padding,
}

impl Window {
    /// Reads `strides`, `dilations`, `pads` and `auto_pad`; the number of spatial axes comes from whatever tells it.
    pub(super) fn at(graph: &Graph, id: OpId, weight: ValueId) -> Option<Self> {
        let op = graph.op(id);
        let (strides, dilations) = (ints_opt(op, "strides")?, ints_opt(op, "dilations")?);
        let (pads, kernel) = (ints_opt(op, "pads")?, ints_opt(op, "kernel_shape")?);
        let spatial = kernel
            .map(|kernel| kernel.len())
            .or_else(|| graph.rank(weight)?.checked_sub(2))
            .or_else(|| strides.as_ref().map(Vec::len))
            .or_else(|| pads.as_ref().map(|pads| pads.len() / 2))?;
        let padding = match text_or(op, "auto_pad", "NOTSET")? {
            "NOTSET" => Padding::Explicit(pads.unwrap_or_else(|| vec![0; 2 * spatial])),
            "VALID" => Padding::Explicit(vec![0; 2 * spatial]),
            "SAME_UPPER" => Padding::SameUpper,
            "SAME_LOWER" => Padding::SameLower,
            _ => return None,
        };
        let window = Self {
            strides: strides.unwrap_or_else(|| vec![1; spatial]),
            dilations: dilations.unwrap_or_else(|| vec![1; spatial]),
            padding,
        };
        let sound = window.strides.len() == spatial
            && window.dilations.len() == spatial
            && !matches!(&window.padding, Padding::Explicit(pads) if pads.len() != 2 * spatial);
        sound.then_some(window)
    }
}
