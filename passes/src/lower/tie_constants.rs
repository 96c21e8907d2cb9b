//! Stores once what several constants hold, be it transposed.
//!
//! # Why
//! Language models read one table for words in and words out. Folding makes a matrix of its own of the transposed table, and
//! both get codes; these are the same codes, since a row of the table is an output channel of the head.
//!
//! # Needs
//! Nothing.
//!
//! # Effect
//! Of constants of at least 1,024 bytes with the same elements the first is kept for all readers. A matrix that is another's
//! transpose becomes a Transpose of that, which runtimes compute once, when they load the model. Types narrower than a byte
//! are left alone.
//!
//! # Promise
//! Exact.
//!
//! # Declines
//! Nothing.
//!
//! # Options
//! None.

use std::collections::BTreeMap;

use onnxq_ir::{Attribute, ElementType, Graph, Op, Origin, Patch, Tensor, ValueId};
use serde::{Deserialize, Serialize};

use crate::pass::{Context, Pass, PassError, Promise};

/// What a recipe can set: nothing.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub(crate) struct TieConstants {}

/// Smaller constants are not worth a look.
const LEAST_BYTES: usize = 1024;

impl Pass for TieConstants {
    fn promise(&self) -> Promise {
        Promise::Exact
    }

    fn run(&self, cx: &mut Context<'_>) -> Result<(), PassError> {
        for (value, kept, form) in twins(cx.graph()) {
            let graph = cx.graph();
            let first = graph.readers(value).into_iter().map(|reader| reader.op).next();
            let Some(anchor) = first else { continue };
            let mut patch = Patch::new(graph, "tie-constants", anchor);
            let from = match form {
                Form::Same => kept,
                Form::Transposed => transpose(graph, &mut patch, kept, value),
            };
            patch.redirect(graph, value, from);
            patch.forget(value);
            cx.apply(patch)?;
        }
        Ok(())
    }
}

/// How a constant holds the elements of another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Form {
    Same,
    Transposed,
}

/// The constants that hold the elements of one before them, with that one.
fn twins(graph: &Graph) -> Vec<(ValueId, ValueId, Form)> {
    let mut known: BTreeMap<Key, Vec<ValueId>> = BTreeMap::new();
    let mut twins = Vec::new();
    for value in constants(graph) {
        let Some((tensor, key)) = graph.constant(value).and_then(|tensor| Some((tensor, Key::of(tensor)?))) else {
            continue;
        };
        let alike = known.entry(key).or_default();
        let form = |kept: ValueId| Some((kept, form(graph.constant(kept)?, tensor)?));
        match alike.iter().find_map(|&kept| form(kept)) {
            Some((kept, form)) => twins.push((value, kept, form)),
            None => alike.push(value),
        }
    }
    twins
}

/// Large constants that only operators of this graph read as inputs.
fn constants(graph: &Graph) -> impl Iterator<Item = ValueId> + '_ {
    graph.initializers().iter().copied().filter(|&value| {
        matches!(graph.value(value).origin(), Origin::Constant(_))
            && !graph.is_output(value)
            && graph.readers(value).iter().all(|reader| matches!(reader.slot, onnxq_ir::Slot::Input(_)))
    })
}

/// What is equal in constants that hold the same elements, be it transposed.
#[derive(PartialEq, Eq, PartialOrd, Ord)]
struct Key {
    element: i32,
    shape: Vec<usize>,
    first: Vec<u8>,
    last: Vec<u8>,
}

impl Key {
    fn of(tensor: &Tensor) -> Option<Self> {
        let bytes = tensor.bytes();
        if bytes.len() < LEAST_BYTES {
            return None;
        }
        let width = element_bytes(tensor.element())?;
        let mut shape = tensor.shape().to_vec();
        if shape.len() == 2 {
            shape.sort_unstable();
        }
        let (first, last) = (bytes[..width].to_vec(), bytes[bytes.len() - width..].to_vec());
        Some(Self { element: tensor.element().code(), shape, first, last })
    }
}

/// Bytes of an element; none where several share a byte.
fn element_bytes(element: ElementType) -> Option<usize> {
    element.packed_len(8).filter(|&eight| eight >= 8).map(|eight| eight / 8)
}

/// How `tensor` holds the elements of `kept`, if it does.
fn form(kept: &Tensor, tensor: &Tensor) -> Option<Form> {
    if kept.shape() == tensor.shape() && kept.bytes() == tensor.bytes() {
        return Some(Form::Same);
    }
    let transposed = kept.transposed(&[1, 0])?;
    (transposed.shape() == tensor.shape() && transposed.bytes() == tensor.bytes()).then_some(Form::Transposed)
}

/// The transpose of `kept`, which takes the place of `value`.
fn transpose(graph: &Graph, patch: &mut Patch, kept: ValueId, value: ValueId) -> ValueId {
    let name = graph.value(value).name();
    let node = Op::new("", "Transpose", vec![Attribute::ints("perm", vec![1, 0])])
        .named(patch.node_name(graph, &format!("{name}_Transpose")));
    patch.value(graph, node, &[kept], &format!("{name}_transposed"))
}

#[cfg(test)]
mod tests {
    use crate::testing::check;

    #[test]
    fn transposed() {
        check!("tie-constants/transposed");
    }

    #[test]
    fn same() {
        check!("tie-constants/same");
    }
}
