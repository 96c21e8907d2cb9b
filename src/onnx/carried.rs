//! What a message has beyond the IR, and how it rides along.
//!
//! A carried message is the file's message without what the IR owns. Of an owned string that is present but empty the
//! presence stays behind, so that an empty string and a missing one are told apart; further quirks have fields here.

use onnxq_ir::Carried;
use prost::Message;

use super::proto::{AttributeProto, GraphProto, TensorProto, ValueInfoProto};

/// An attribute beyond its name, type and value.
#[derive(Clone, PartialEq, Message)]
pub(super) struct CarriedAttribute {
    #[prost(message, optional, tag = "1")]
    pub(super) rest: Option<AttributeProto>,
    /// The file does not say the type (IR version 1).
    #[prost(bool, tag = "2")]
    pub(super) type_absent: bool,
    /// The file leaves out a value that is zero or empty.
    #[prost(bool, tag = "3")]
    pub(super) value_absent: bool,
}

/// How a tensor's elements are stored in the message.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, prost::Enumeration)]
#[repr(i32)]
pub(super) enum Form {
    /// In `raw_data`.
    Raw = 0,
    /// In the repeated field of their type, as packing and unpacking gives them.
    Typed = 1,
    /// In another way: `rest` is the whole message.
    Whole = 2,
}

/// A tensor beyond element type, shape and elements. A tensor that a pass makes has none.
#[derive(Clone, PartialEq, Message)]
pub(super) struct CarriedTensor {
    #[prost(message, optional, tag = "1")]
    pub(super) rest: Option<TensorProto>,
    #[prost(enumeration = "Form", tag = "2")]
    pub(super) form: i32,
}

/// A `value_info` entry that names no value of the graph.
#[derive(Clone, PartialEq, Message)]
pub(super) struct StrayInfo {
    /// Its place among the entries.
    #[prost(uint64, tag = "1")]
    pub(super) position: u64,
    #[prost(message, optional, tag = "2")]
    pub(super) info: Option<ValueInfoProto>,
}

/// A graph beyond its name, nodes, values and declarations.
#[derive(Clone, PartialEq, Message)]
pub(super) struct CarriedGraph {
    #[prost(message, optional, tag = "1")]
    pub(super) rest: Option<GraphProto>,
    /// Where the file has a reader before its producer: one more than the index of the last operator as read, by which
    /// to see whether there are new ones. 0 otherwise.
    #[prost(uint64, tag = "2")]
    pub(super) unsorted_below: u64,
    #[prost(message, repeated, tag = "3")]
    pub(super) strays: Vec<StrayInfo>,
}

/// The message for riding along; a message without anything in it is carried as nothing.
pub(super) fn pack(message: &impl Message) -> Carried {
    Carried::new(message.encode_to_vec().into())
}

/// The message, if there is anything in it.
pub(super) fn unless_empty<M: Message>(message: M) -> Option<M> {
    (message.encoded_len() > 0).then_some(message)
}

/// The message that rode along.
pub(super) fn unpack<M: Message + Default>(carried: &Carried) -> Result<M, prost::DecodeError> {
    carried.bytes().map_or_else(|| Ok(M::default()), |bytes| M::decode(bytes.clone()))
}

/// Takes a string that the IR owns; the presence of an empty one stays.
pub(super) fn take(field: &mut Option<String>) -> String {
    field.take_if(|text| !text.is_empty()).unwrap_or_default()
}

/// Gives a string that the IR owns back.
pub(super) fn put(field: &mut Option<String>, text: &str) {
    if !text.is_empty() {
        *field = Some(text.to_owned());
    }
}
