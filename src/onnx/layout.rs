//! A model's file as a stream: all lengths first, then node by node and tensor by tensor.
//!
//! The graph is framed by hand, so that weights go from where they are to the sink and are never held together.

use std::io::{self, Write};

use onnxq_ir::{Graph, Model, OpId, ValueId};
use prost::Message;
use prost::encoding::{WireType, encode_key, encode_varint, encoded_len_varint, key_len};

use super::encode::{self, EncodeError, Scope, initializer_tensor, named};
use super::placement::{Placement, Region};
use super::proto::{GraphProto, ModelProto, StringStringEntryProto, TensorProto};
use super::tensor;

/// What can go wrong while streaming.
pub(super) enum StreamError {
    Encode(EncodeError),
    Io(io::Error),
}

impl From<EncodeError> for StreamError {
    fn from(error: EncodeError) -> Self {
        Self::Encode(error)
    }
}

impl From<io::Error> for StreamError {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}

/// A model's file with all lengths known, before any of it is written.
pub(super) struct Layout<'m> {
    graph: &'m Graph,
    placement: Placement,
    /// The data file, relative to the model's.
    location: String,
    order: Vec<OpId>,
    /// Fields of the model before and behind the graph.
    model: (Vec<u8>, Vec<u8>),
    /// Fields of the graph between nodes and initializers, and behind those.
    frame: (Vec<u8>, Vec<u8>),
    graph_length: u64,
}

const GRAPH: u32 = 7;
const NODE: u32 = 1;
const INITIALIZER: u32 = 5;
const RAW_DATA: u32 = 9;

impl<'m> Layout<'m> {
    pub(super) fn new(model: &'m Model, placement: Placement, location: &str) -> Result<Self, EncodeError> {
        let graph = &model.graph;
        let (frame, order) = encode::frame(Scope::of(graph))?;
        let name = GraphProto { name: frame.name.clone(), ..GraphProto::default() };
        let frame = (name.encode_to_vec(), GraphProto { name: None, ..frame }.encode_to_vec());
        let mut layout = Self {
            graph,
            placement,
            location: location.to_owned(),
            order,
            model: around_graph(encode::model(model)?),
            frame,
            graph_length: 0,
        };
        layout.graph_length = layout.measure()?;
        Ok(layout)
    }

    fn measure(&self) -> Result<u64, EncodeError> {
        let mut length = (self.frame.0.len() + self.frame.1.len()) as u64;
        for &op in &self.order {
            length += field_length(NODE, encode::node(Scope::of(self.graph), op)?.encoded_len() as u64);
        }
        for &(value, region) in &self.placement.regions {
            if let Some(proto) = self.initializer(value, region)? {
                length += field_length(INITIALIZER, proto.encoded_len() as u64);
            }
        }
        Ok(length)
    }

    /// Bytes of the model's file.
    pub(super) fn model_length(&self) -> u64 {
        (self.model.0.len() + self.model.1.len()) as u64 + field_length(GRAPH, self.graph_length)
    }

    /// Writes the model's file in the order of the field numbers, as official protobuf does.
    pub(super) fn write(&self, sink: &mut impl Write) -> Result<(), StreamError> {
        sink.write_all(&self.model.0)?;
        sink.write_all(&field_head(GRAPH, self.graph_length))?;
        for &op in &self.order {
            let node = encode::node(Scope::of(self.graph), op)?;
            sink.write_all(&field_head(NODE, node.encoded_len() as u64))?;
            sink.write_all(&node.encode_to_vec())?;
        }
        sink.write_all(&self.frame.0)?;
        for &(value, region) in &self.placement.regions {
            if let Some(proto) = self.initializer(value, region)? {
                write_initializer(proto, sink)?;
            }
        }
        sink.write_all(&self.frame.1)?;
        sink.write_all(&self.model.1)?;
        Ok(())
    }

    fn initializer(&self, value: ValueId, region: Option<Region>) -> Result<Option<TensorProto>, EncodeError> {
        let Some(tensor) = initializer_tensor(self.graph, value) else { return Ok(None) };
        let proto = match region {
            None => tensor::write(tensor)?,
            Some(region) => {
                let mut proto = tensor::write_external(tensor)?;
                proto.external_data = external_entries(&self.location, region);
                proto
            }
        };
        Ok(Some(named(self.graph, value, proto)))
    }
}

/// Writes a tensor; raw data goes from where it is to the sink.
fn write_initializer(mut proto: TensorProto, sink: &mut impl Write) -> io::Result<()> {
    sink.write_all(&field_head(INITIALIZER, proto.encoded_len() as u64))?;
    let Some(raw) = proto.raw_data.take() else { return sink.write_all(&proto.encode_to_vec()) };
    let behind = TensorProto {
        double_data: std::mem::take(&mut proto.double_data),
        uint64_data: std::mem::take(&mut proto.uint64_data),
        doc_string: proto.doc_string.take(),
        external_data: std::mem::take(&mut proto.external_data),
        data_location: proto.data_location.take(),
        metadata_props: std::mem::take(&mut proto.metadata_props),
        ..TensorProto::default()
    };
    sink.write_all(&proto.encode_to_vec())?;
    sink.write_all(&field_head(RAW_DATA, raw.len() as u64))?;
    sink.write_all(&raw)?;
    sink.write_all(&behind.encode_to_vec())
}

fn external_entries(location: &str, region: Region) -> Vec<StringStringEntryProto> {
    [("location", location.to_owned()), ("offset", region.offset.to_string()), ("length", region.length.to_string())]
        .into_iter()
        .map(|(key, value)| StringStringEntryProto { key: Some(key.to_owned()), value: Some(value) })
        .collect()
}

/// The model's other fields, before and behind the graph.
fn around_graph(mut proto: ModelProto) -> (Vec<u8>, Vec<u8>) {
    let before = ModelProto {
        ir_version: proto.ir_version.take(),
        producer_name: proto.producer_name.take(),
        producer_version: proto.producer_version.take(),
        domain: proto.domain.take(),
        model_version: proto.model_version.take(),
        doc_string: proto.doc_string.take(),
        ..ModelProto::default()
    };
    (before.encode_to_vec(), proto.encode_to_vec())
}

fn field_head(number: u32, length: u64) -> Vec<u8> {
    let mut head = Vec::with_capacity(12);
    encode_key(number, WireType::LengthDelimited, &mut head);
    encode_varint(length, &mut head);
    head
}

fn field_length(number: u32, length: u64) -> u64 {
    (key_len(number) + encoded_len_varint(length)) as u64 + length
}
