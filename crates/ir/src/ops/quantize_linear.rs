//! QuantizeLinear and DequantizeLinear: 10, 13 (`axis`), 19 (float8), 21 (4 and 16 bits, `block_size`, `output_dtype`), 23
//! (float4), 24 and 25 (narrower types). onnxruntime has the same two with wider types in its own domain.

use crate::graph::Graph;
use crate::op::OpId;
use crate::types::ElementType;
use crate::value::ValueId;

use super::attributes::{int_or, optional_input};

/// Which way values go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    /// From numbers to codes.
    Quantize,
    /// From codes to numbers.
    Dequantize,
}

/// A QuantizeLinear or a DequantizeLinear.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct QuantizeLinear {
    /// The operator.
    pub op: OpId,
    /// Which of the two it is.
    pub direction: Direction,
    /// Numbers, or codes.
    pub x: ValueId,
    /// The scale: one number, one per slice along `axis`, or one per block.
    pub scale: ValueId,
    /// The zero point, of the codes' type; 0 where there is none.
    pub zero_point: Option<ValueId>,
    /// The axis along which scales differ.
    pub axis: i64,
    /// Elements along `axis` that share a scale; 0 where scales are not by block.
    pub block_size: i64,
    /// What `output_dtype` says.
    pub output: Option<ElementType>,
}

impl QuantizeLinear {
    /// The slot of the scale.
    pub const SCALE: usize = 1;
    /// The slot of the zero point.
    pub const ZERO_POINT: usize = 2;

    /// The view; `None` where this is no well-formed one.
    pub fn at(graph: &Graph, id: OpId) -> Option<Self> {
        let op = graph.try_op(id).filter(|op| matches!(op.domain(), "" | "ai.onnx" | "com.microsoft"))?;
        let direction = match op.op_type() {
            "QuantizeLinear" => Direction::Quantize,
            "DequantizeLinear" => Direction::Dequantize,
            _ => return None,
        };
        Some(Self {
            op: id,
            direction,
            x: graph.input(id, 0)?,
            scale: graph.input(id, Self::SCALE)?,
            zero_point: optional_input(graph, id, Self::ZERO_POINT),
            axis: int_or(op, "axis", 1)?,
            block_size: int_or(op, "block_size", 0)?,
            output: i32::try_from(int_or(op, "output_dtype", 0)?).ok().and_then(ElementType::from_code),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::op::{Attribute, Op};
    use crate::ops::testing::Scene;

    #[test]
    fn both_directions_and_both_domains() {
        let mut scene = Scene::new(21);
        let (x, s) = (scene.input("x"), scene.input("s"));
        let attributes = vec![Attribute::int("output_dtype", 5), Attribute::int("axis", 0)];
        let (quantize, codes) = scene.op(Op::new("", "QuantizeLinear", attributes), &[x, s], "q");
        let (back, _) = scene.op(Op::new("com.microsoft", "DequantizeLinear", vec![]), &[codes, s, s], "y");
        let (other, _) = scene.op(Op::new("mine", "QuantizeLinear", vec![]), &[x, s], "z");
        let graph = scene.finish();
        let view = QuantizeLinear::at(&graph, quantize).expect("a QuantizeLinear");
        assert_eq!((view.direction, view.axis, view.block_size), (Direction::Quantize, 0, 0));
        assert_eq!((view.zero_point, view.output), (None, Some(ElementType::I16)));
        let view = QuantizeLinear::at(&graph, back).expect("a DequantizeLinear");
        assert_eq!((view.direction, view.zero_point, view.output), (Direction::Dequantize, Some(s), None));
        assert_eq!(QuantizeLinear::at(&graph, other), None);
    }
}
