//! A plan with names in place of ids: for people as text, for machines by serde.

use std::fmt;

use onnxq_ir::Graph;
use serde::{Serialize, Serializer};

use crate::plan::{Entry, Plan, Quantizer, Scheme};
use crate::site::Site;

/// One site of a plan, by the names of a graph.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct DescribedSite {
    /// What is quantized of the node.
    pub site: Place,
    /// The name of the node that reads or writes the value; may be empty.
    pub node: String,
    /// The node's operator.
    pub operator: String,
    /// The input slot of an operand.
    pub slot: Option<usize>,
    /// The value's name.
    pub value: String,
    /// What the site is to have.
    #[serde(serialize_with = "as_text")]
    pub scheme: Scheme,
    /// Along which axis each slice has parameters of its own.
    pub axis: Option<usize>,
    /// The scales, one or one per slice; none where no range is known.
    pub scale: Option<Vec<f32>>,
    /// The zero points, where the quantizer has some.
    pub zero_point: Option<Vec<i32>>,
}

/// What is quantized of a node.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Place {
    /// What it reads in one slot.
    Operand,
    /// What it writes, for all readers.
    Output,
}

fn as_text<S: Serializer>(scheme: &Scheme, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(scheme)
}

impl Plan {
    /// All sites by the names of their graph, in its order.
    pub fn describe(&self, graph: &Graph) -> Vec<DescribedSite> {
        let mut sites: Vec<(u64, DescribedSite)> =
            self.entries().map(|(site, entry)| describe(site, entry, graph)).collect();
        sites.sort_by_key(|(order, _)| *order);
        sites.into_iter().map(|(_, site)| site).collect()
    }
}

/// The site, and where it stands in the graph.
fn describe(site: Site, entry: &Entry, graph: &Graph) -> (u64, DescribedSite) {
    let (place, op, slot) = match site {
        Site::Operand { op, slot } => (Place::Operand, Some(op), Some(slot)),
        Site::Output(value) => (Place::Output, graph.producer(value).map(|(op, _)| op), None),
    };
    let node = op.and_then(|op| graph.try_op(op));
    let (scale, zero_point) = match &entry.quantizer {
        None => (None, None),
        Some(Quantizer::Tensor(own)) => (Some(vec![own.scale()]), Some(vec![own.zero_point()])),
        Some(Quantizer::Channels { channels, .. }) => (
            Some(channels.iter().map(onnxq_numerics::Uniform::scale).collect()),
            Some(channels.iter().map(onnxq_numerics::Uniform::zero_point).collect()),
        ),
        Some(Quantizer::Log(own)) => (Some(vec![own.scale()]), None),
        Some(Quantizer::Bias(scales)) => (Some(scales.clone()), None),
    };
    let described = DescribedSite {
        site: place,
        node: node.map_or_else(String::new, |node| node.name().to_owned()),
        operator: node.map_or_else(String::new, |node| node.op_type().to_owned()),
        slot,
        value: site.value(graph).map_or("(gone)", |value| graph.value(value).name()).to_owned(),
        scheme: entry.scheme,
        axis: match &entry.quantizer {
            Some(Quantizer::Channels { axis, .. }) => Some(*axis),
            _ => None,
        },
        scale,
        zero_point,
    };
    (node.map_or(0, onnxq_ir::Op::order_key), described)
}

impl fmt::Display for DescribedSite {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.slot {
            Some(slot) => {
                write!(f, "{} `{}` input {slot} `{}`: {}", self.operator, self.node, self.value, self.scheme)?;
            }
            None => write!(f, "output `{}`: {}", self.value, self.scheme)?,
        }
        match (self.scale.as_deref(), self.zero_point.as_deref()) {
            (None, _) => f.write_str(", no range"),
            _ if self.scheme == Scheme::Bias => Ok(()),
            (Some(scales), _) if self.axis.is_some() => write!(f, ", {} channels", scales.len()),
            (Some(scales), None) => scales.iter().try_for_each(|scale| write!(f, ", scale {scale:e}")),
            (Some(scales), Some(points)) => scales
                .iter()
                .zip(points)
                .try_for_each(|(scale, point)| write!(f, ", scale {scale:e}, zero point {point}")),
        }
    }
}
