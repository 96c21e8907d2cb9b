//! What a recipe says of single nodes: `[[override]]`.

use onnxq_numerics::Symmetry;
use onnxq_plan::Bits;
use serde::{Deserialize, Serialize};

/// Bits and symmetry of some nodes, where they are not those of all others.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Override {
    /// Which nodes, as `--include` takes them.
    pub nodes: String,
    /// Bits of weights; a node whose weight stays float stays float.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub weight_bits: Option<Width>,
    /// Bits of activations.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub activation_bits: Option<Width>,
    /// Symmetry of weights.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub weight_symmetry: Option<Symmetry>,
    /// Symmetry of activations.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub activation_symmetry: Option<Symmetry>,
}

/// A number of bits, or none: float.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(untagged, expecting = "give a number of bits, or \"float\"")]
pub enum Width {
    /// So many.
    Bits(u8),
    /// Not quantized.
    Float(Float),
}

/// The word `float`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Float {
    /// It.
    Float,
}

impl Width {
    fn bits(self) -> Option<u8> {
        match self {
            Self::Bits(bits) => Some(bits),
            Self::Float(_) => None,
        }
    }
}

impl Override {
    /// Why it can't be followed, if so.
    pub(crate) fn check(&self) -> Result<(), &'static str> {
        let Self { nodes: _, weight_bits, activation_bits, weight_symmetry, activation_symmetry } = self;
        if weight_bits.is_none()
            && activation_bits.is_none()
            && weight_symmetry.is_none()
            && activation_symmetry.is_none()
        {
            return Err("sets nothing; give weight-bits, activation-bits, weight-symmetry or activation-symmetry");
        }
        if self.is_float() && activation_bits.is_some_and(|width| width.bits().is_some()) {
            return Err("a node whose weight stays float stays float; leave activation-bits out");
        }
        Ok(())
    }

    /// Whether nodes stay float.
    pub(crate) fn is_float(&self) -> bool {
        matches!(self.weight_bits, Some(Width::Float(_)))
    }

    /// Bits of weights, where they are its own.
    pub fn weight(&self) -> Option<u8> {
        self.weight_bits.and_then(Width::bits)
    }

    /// The bits of a node that has these where nothing is said.
    #[must_use]
    pub fn bits(&self, usual: Bits) -> Bits {
        Bits {
            weight: self.weight().unwrap_or(usual.weight),
            activation: self.activation_bits.map_or(usual.activation, Width::bits),
        }
    }

    /// Takes over what another one says.
    pub(crate) fn refine(&mut self, other: &Self) {
        self.weight_bits = other.weight_bits.or(self.weight_bits);
        self.activation_bits = other.activation_bits.or(self.activation_bits);
        self.weight_symmetry = other.weight_symmetry.or(self.weight_symmetry);
        self.activation_symmetry = other.activation_symmetry.or(self.activation_symmetry);
    }
}
