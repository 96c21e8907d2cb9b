//! Which initializers are written into the model, and which beside it.

use std::io::{self, Write};

use onnxq_ir::{Data, Graph, Tensor, ValueId};

use super::encode::initializer_tensor;

/// Smaller tensors stay in the model: shapes and scalars that readers look at while loading.
const MIN_EXTERNAL: usize = 1024;
/// From here on a tensor starts on a page, so that it can be mapped by itself.
const PAGE_FROM: usize = 1 << 20;
const PAGE: u64 = 4096;
/// A cache line.
const LINE: u64 = 64;

/// A tensor's place in the data file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Region {
    pub(super) offset: u64,
    pub(super) length: u64,
}

/// The place of each initializer of a graph, in file order; `None` is in the model.
pub(super) struct Placement {
    pub(super) regions: Vec<(ValueId, Option<Region>)>,
    /// Bytes of the data file.
    pub(super) length: u64,
}

impl Placement {
    /// Everything in the model.
    pub(super) fn inside(graph: &Graph) -> Self {
        Self { regions: graph.initializers().iter().map(|&value| (value, None)).collect(), length: 0 }
    }

    /// All but small tensors and strings in the data file, in the order of the initializers.
    pub(super) fn outside(graph: &Graph) -> Self {
        let mut length = 0u64;
        let mut place = |value: &ValueId| {
            let bytes = initializer_tensor(graph, *value).and_then(external_bytes)?;
            let offset = length.next_multiple_of(if bytes.len() >= PAGE_FROM { PAGE } else { LINE });
            length = offset + bytes.len() as u64;
            Some(Region { offset, length: bytes.len() as u64 })
        };
        let regions = graph.initializers().iter().map(|value| (*value, place(value))).collect();
        Self { regions, length }
    }

    /// Writes the data file.
    pub(super) fn write_data(&self, graph: &Graph, sink: &mut impl Write) -> io::Result<()> {
        let mut written = 0u64;
        for &(value, region) in &self.regions {
            let Some(region) = region else { continue };
            let bytes = initializer_tensor(graph, value).map_or(&[][..], Tensor::bytes);
            let padding = [0u8; PAGE as usize];
            sink.write_all(&padding[..(region.offset - written) as usize])?;
            sink.write_all(bytes)?;
            written = region.offset + region.length;
        }
        Ok(())
    }
}

fn external_bytes(tensor: &Tensor) -> Option<&[u8]> {
    match tensor.data() {
        Data::Packed(bytes) if bytes.len() >= MIN_EXTERNAL => Some(bytes),
        Data::Packed(_) | Data::Strings(_) => None,
    }
}
