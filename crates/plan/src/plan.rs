//! What is to become of a graph: which quantizer stands at which site, and why the others have none.

use std::collections::BTreeMap;
use std::fmt;

use onnxq_ir::{ElementType, OpId, ValueId};
use onnxq_numerics::{Base, IntFormat, LevelRule, Log, Symmetry, Uniform};

use crate::port::Port;
use crate::site::Site;
use crate::target::{OperatorKind, Placement};

/// How many elements share one pair of scale and zero point.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Granularity {
    /// The whole tensor.
    Tensor,
    /// One slice along this axis.
    Axis(usize),
}

/// What kind of quantizer a site is to have, before ranges are known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scheme {
    /// Equally spaced levels.
    Uniform {
        /// The codes.
        format: IntFormat,
        /// Whether the zero point is fixed.
        symmetry: Symmetry,
        /// How many elements share parameters.
        granularity: Granularity,
    },
    /// Levels that are powers of 2 or of its root, for values from 0 up.
    Log {
        /// Bits of a code.
        bits: u8,
        /// The base.
        base: Base,
        /// How many levels.
        rule: LevelRule,
    },
    /// The quantizer that this value has as an output: one operator moves codes from there to here.
    Shared(ValueId),
    /// A bias as int32, whose scale is the product of the scales of operands 0 and 1 of the same operator.
    Bias,
}

impl fmt::Display for Scheme {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Uniform { format, symmetry, granularity } => {
                let symmetry = match symmetry {
                    Symmetry::Affine => "affine",
                    Symmetry::Symmetric => "symmetric",
                };
                write!(f, "{format} {symmetry}")?;
                match granularity {
                    Granularity::Tensor => Ok(()),
                    Granularity::Axis(axis) => write!(f, " per channel (axis {axis})"),
                }
            }
            Self::Log { bits, base, .. } => {
                let base = match base {
                    Base::Two => "log2",
                    Base::SqrtTwo => "log-sqrt2",
                };
                write!(f, "u{bits} {base}")
            }
            Self::Shared(_) => f.write_str("as its source"),
            Self::Bias => f.write_str("int32 bias"),
        }
    }
}

/// A quantizer with its parameters.
#[derive(Clone, Debug, PartialEq)]
pub enum Quantizer {
    /// One set of parameters for the tensor.
    Tensor(Uniform),
    /// One set per slice along an axis.
    Channels {
        /// The axis.
        axis: usize,
        /// The parameters, all of one format.
        channels: Vec<Uniform>,
    },
    /// A logarithmic quantizer.
    Log(Log),
    /// A bias as int32 codes with these scales: one, or one per element.
    Bias(Vec<f32>),
}

/// A site's entry.
#[derive(Clone, Debug)]
pub struct Entry {
    /// What the site is to have.
    pub scheme: Scheme,
    /// What it has, once ranges are known.
    pub quantizer: Option<Quantizer>,
}

/// Something that a pass looked at and left as it was.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Declined {
    /// The node's name, or the value's.
    pub site: String,
    /// The operator's type; empty for a value.
    pub op_type: String,
    /// Why.
    pub reason: String,
}

/// A value that is quantized where it is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct End {
    /// The operator's output, or what an absorbed activation makes of it.
    pub value: ValueId,
    /// The value whose quantizer it has, where the operator only moves codes.
    pub shared: Option<ValueId>,
}

/// What an operator of the plan reads beside its weight.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Activations {
    /// Codes.
    Codes,
    /// Floats: only its weight is stored in codes.
    Floats,
}

/// An operator that is to be computed with codes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Planned {
    /// What rules and recipes call it.
    pub kind: OperatorKind,
    /// Where Q/DQ stand for it.
    pub placement: Placement,
    /// What its activations are.
    pub activations: Activations,
    /// What is quantized behind it.
    pub ends: Vec<End>,
}

/// An ordered map from sites to quantizers, and the reasons for sites without one. A cheap value.
#[derive(Clone, Debug, Default)]
pub struct Plan {
    entries: BTreeMap<Site, Entry>,
    operators: BTreeMap<OpId, Planned>,
    /// Operators that could have been quantized and were not, with the reason.
    pub left_float: Vec<Declined>,
    /// Constants of float32 that the file holds in 16 bits behind a Cast, with the type there.
    pub stored: BTreeMap<ValueId, ElementType>,
    /// What became of the graph's float inputs and outputs, where codes were wanted there.
    pub ports: Vec<Port>,
}

impl Plan {
    /// Wants a quantizer of this scheme at a site; a former one is dropped.
    pub fn want(&mut self, site: Site, scheme: Scheme) {
        self.entries.insert(site, Entry { scheme, quantizer: None });
    }

    /// Gives a site that is in the plan its quantizer.
    ///
    /// # Panics
    /// Where the site is not in the plan.
    pub fn assign(&mut self, site: Site, quantizer: Quantizer) {
        self.entries.get_mut(&site).expect("the site is in the plan").quantizer = Some(quantizer);
    }

    /// Leaves a site float.
    pub fn remove(&mut self, site: Site) -> Option<Entry> {
        self.entries.remove(&site)
    }

    /// Notes that an operator is to be computed with codes.
    pub fn note_operator(&mut self, op: OpId, planned: Planned) {
        self.operators.insert(op, planned);
    }

    /// The operators that are to be computed with codes.
    pub fn operators(&self) -> impl Iterator<Item = (OpId, &Planned)> {
        self.operators.iter().map(|(op, planned)| (*op, planned))
    }

    /// Puts a site's entry into the plan.
    pub fn insert(&mut self, site: Site, entry: Entry) {
        self.entries.insert(site, entry);
    }

    /// Whether an operator is to be computed with codes.
    pub fn is_computed(&self, op: OpId) -> bool {
        self.operators.contains_key(&op)
    }

    /// How many operators of each kind are to be computed with codes.
    pub fn operator_counts(&self) -> BTreeMap<&'static str, usize> {
        let mut counts = BTreeMap::new();
        for planned in self.operators.values() {
            *counts.entry(planned.kind.name()).or_insert(0) += 1;
        }
        counts
    }

    /// Leaves all operands of an operator float.
    pub fn remove_operands(&mut self, op: OpId) {
        self.operators.remove(&op);
        self.entries.retain(|site, _| !matches!(site, Site::Operand { op: own, .. } if *own == op));
    }

    /// The entries of one operator's operands.
    pub fn operands(&self, op: OpId) -> impl Iterator<Item = (Site, &Entry)> {
        let range = Site::Operand { op, slot: 0 }..=Site::Operand { op, slot: usize::MAX };
        self.entries.range(range).map(|(site, entry)| (*site, entry))
    }

    /// Lets the plan speak of another value where it speaks of one.
    pub fn rename(&mut self, from: ValueId, to: ValueId) {
        if let Some(entry) = self.entries.remove(&Site::Output(from)) {
            self.entries.insert(Site::Output(to), entry);
        }
        let renamed = |value: &mut ValueId| {
            if *value == from {
                *value = to;
            }
        };
        for entry in self.entries.values_mut() {
            if let Scheme::Shared(source) = &mut entry.scheme {
                renamed(source);
            }
        }
        for end in self.operators.values_mut().flat_map(|planned| &mut planned.ends) {
            renamed(&mut end.value);
            end.shared.iter_mut().for_each(renamed);
        }
    }

    /// A site's entry.
    pub fn get(&self, site: Site) -> Option<&Entry> {
        self.entries.get(&site)
    }

    /// A site's quantizer.
    pub fn quantizer(&self, site: Site) -> Option<&Quantizer> {
        self.entries.get(&site)?.quantizer.as_ref()
    }

    /// All sites in order.
    pub fn entries(&self) -> impl Iterator<Item = (Site, &Entry)> {
        self.entries.iter().map(|(site, entry)| (*site, entry))
    }

    /// The quantizers, by site in order.
    pub fn quantizers(&self) -> impl Iterator<Item = (Site, &Quantizer)> {
        self.entries().filter_map(|(site, entry)| Some((site, entry.quantizer.as_ref()?)))
    }

    /// The sites that still lack a quantizer.
    pub fn unassigned(&self) -> Vec<(Site, Scheme)> {
        self.entries()
            .filter(|(_, entry)| entry.quantizer.is_none())
            .map(|(site, entry)| (site, entry.scheme))
            .collect()
    }

    /// Whether no site is quantized.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }
}
