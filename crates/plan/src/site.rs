//! Where a quantizer stands.

use onnxq_ir::{Graph, OpId, Slot, Use, ValueId};

/// A place in the graph where values are quantized.
///
/// Two operands that read one value with equal quantizers share one pair of nodes when the plan is lowered.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Site {
    /// What one operator reads in one slot, an activation or a constant; other readers of the value are not concerned.
    Operand {
        /// The reader.
        op: OpId,
        /// The input slot.
        slot: usize,
    },
    /// A value as its producer writes it: every reader sees it quantized.
    Output(ValueId),
}

impl Site {
    /// The value that is quantized.
    pub fn value(self, graph: &Graph) -> Option<ValueId> {
        match self {
            Self::Operand { op, slot } => graph.input(op, slot),
            Self::Output(value) => Some(value),
        }
    }

    /// The uses that see the quantized value.
    pub fn uses(self, graph: &Graph) -> Vec<Use> {
        match self {
            Self::Operand { op, slot } => vec![Use { op, slot: Slot::Input(slot) }],
            Self::Output(value) => graph.readers(value),
        }
    }
}
