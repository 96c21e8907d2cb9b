//! If: 1, 11, 13; Loop: 1, 11 (a body of any rank), 13; Scan: 9 (8 had a batch axis), 11 (negative axes). What runs their
//! bodies, and what they are given.

use crate::graph::Graph;
use crate::op::{AttributeValue, Op, OpId};
use crate::types::{Dim, ElementType, TensorType};
use crate::value::ValueId;

use super::attributes::{ints_opt, standard};

/// An operator that runs bodies of its own.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Control {
    /// Runs one of two bodies, once.
    If {
        /// Whether it is the first.
        condition: ValueId,
        /// The place of `then_branch` among the operator's bodies.
        holds: usize,
        /// The place of `else_branch`.
        fails: usize,
    },
    /// Runs its body again and again. The body is given the number of the iteration, whether it is to run, and the state;
    /// it gives whether it is to run again, the state, and what is scanned out.
    Loop {
        /// How often at most.
        trips: Option<ValueId>,
        /// Whether at all.
        condition: Option<ValueId>,
        /// The first state.
        state: Vec<ValueId>,
    },
    /// Runs its body for every slice of some tensors. The body is given the state and a slice of each; it gives the state
    /// and what is scanned out.
    Scan {
        /// The first state.
        state: Vec<ValueId>,
        /// What is cut into slices.
        scanned: Vec<Scanned>,
    },
}

/// What a Scan cuts into slices.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Scanned {
    /// The tensor.
    pub value: ValueId,
    /// Along which axis; negative ones count from the end.
    pub axis: i64,
    /// Whether the last slice comes first.
    pub is_reversed: bool,
}

impl Control {
    /// The view; `None` where this is no well-formed If, Loop or Scan.
    pub fn at(graph: &Graph, id: OpId) -> Option<Self> {
        if let Some(op) = standard(graph, id, "If") {
            let condition = graph.input(id, 0)?;
            return Some(Self::If { condition, holds: place(op, "then_branch")?, fails: place(op, "else_branch")? });
        }
        if standard(graph, id, "Loop").is_some() {
            let state = graph.inputs_of(id).into_iter().skip(2).collect::<Option<_>>()?;
            return Some(Self::Loop { trips: graph.input(id, 0), condition: graph.input(id, 1), state });
        }
        let op = standard(graph, id, "Scan").filter(|_| graph.opset() >= 9)?;
        let inputs = graph.inputs_of(id).into_iter().collect::<Option<Vec<_>>>()?;
        let states = inputs.len().checked_sub(usize::try_from(op.int("num_scan_inputs")?).ok()?)?;
        let (axes, directions) = (ints_opt(op, "scan_input_axes")?, ints_opt(op, "scan_input_directions")?);
        let said = |list: &Option<Vec<i64>>, i: usize| list.as_ref().map_or(Some(0), |list| list.get(i).copied());
        let scanned = inputs[states..]
            .iter()
            .enumerate()
            .map(|(i, &value)| Some(Scanned { value, axis: said(&axes, i)?, is_reversed: said(&directions, i)? != 0 }));
        Some(Self::Scan { state: inputs[..states].to_vec(), scanned: scanned.collect::<Option<_>>()? })
    }

    /// What is known of the types of the bodies' inputs, in their order.
    pub fn input_types(&self, graph: &Graph) -> Vec<Option<TensorType>> {
        match self {
            Self::If { .. } => Vec::new(),
            Self::Loop { state, .. } => {
                let own = [ElementType::I64, ElementType::Bool].map(|element| Some(TensorType::fixed(element, &[])));
                own.into_iter().chain(state.iter().map(|&value| Some(changing(graph.tensor_type(value)?)))).collect()
            }
            Self::Scan { state, scanned } => {
                let state = state.iter().map(|&value| graph.tensor_type(value));
                state
                    .chain(scanned.iter().map(|scanned| slice(graph.tensor_type(scanned.value)?, scanned.axis)))
                    .collect()
            }
        }
    }
}

/// The place of a body among those of an operator.
fn place(op: &Op, name: &str) -> Option<usize> {
    let graphs = op.attributes().iter().filter(|it| matches!(it.value, AttributeValue::Graph(_)));
    graphs.map(|attribute| attribute.name.as_str()).position(|own| own == name)
}

/// A type whose dimensions may be others in the next iteration.
fn changing(known: TensorType) -> TensorType {
    TensorType { shape: known.shape.map(|dims| vec![Dim::Unknown; dims.len()]), ..known }
}

/// The type without an axis.
fn slice(known: TensorType, axis: i64) -> Option<TensorType> {
    let mut dims = known.shape?;
    let axis = if axis < 0 { axis + i64::try_from(dims.len()).ok()? } else { axis };
    let axis = usize::try_from(axis).ok().filter(|&axis| axis < dims.len())?;
    dims.remove(axis);
    Some(TensorType { shape: Some(dims), ..known })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::op::Attribute;
    use crate::ops::testing::Scene;

    fn body(name: &str) -> Attribute {
        Attribute::new(name, AttributeValue::Graph(Box::new(Scene::new(17).finish())))
    }

    #[test]
    fn branches_have_places_by_name() {
        let mut scene = Scene::new(17);
        let condition = scene.input("c");
        let attributes = vec![body("else_branch"), Attribute::int("note", 1), body("then_branch")];
        let (id, _) = scene.op(Op::new("", "If", attributes), &[condition], "y");
        let graph = scene.finish();
        assert_eq!(Control::at(&graph, id), Some(Control::If { condition, holds: 1, fails: 0 }));
    }

    #[test]
    fn a_scan_tells_states_from_slices() {
        let mut scene = Scene::new(17);
        let (h, x) = (scene.input_of("h", &[3]), scene.input_of("x", &[3, 5]));
        let attributes = vec![
            body("body"),
            Attribute::int("num_scan_inputs", 1),
            Attribute::ints("scan_input_axes", [-1]),
            Attribute::ints("scan_input_directions", [1]),
        ];
        let (id, _) = scene.op(Op::new("", "Scan", attributes), &[h, x], "y");
        let graph = scene.finish();
        let view = Control::at(&graph, id).expect("a Scan");
        let scanned = vec![Scanned { value: x, axis: -1, is_reversed: true }];
        assert_eq!(view, Control::Scan { state: vec![h], scanned });
        let float3 = Some(TensorType::fixed(ElementType::F32, &[3]));
        assert_eq!(view.input_types(&graph), [float3.clone(), float3]);
    }

    #[test]
    fn a_loops_state_may_change_its_shape() {
        let mut scene = Scene::new(17);
        let (m, h) = (scene.input("m"), scene.input_of("h", &[3, 5]));
        let (id, _) = scene.op_with(Op::new("", "Loop", vec![body("body")]), &[Some(m), None, Some(h)], &["y"]);
        let graph = scene.finish();
        let view = Control::at(&graph, id).expect("a Loop");
        assert_eq!(view, Control::Loop { trips: Some(m), condition: None, state: vec![h] });
        let types: Vec<String> =
            view.input_types(&graph).into_iter().map(|known| known.expect("known").to_string()).collect();
        assert_eq!(types, ["int64", "bool", "float[?, ?]"]);
    }
}
