//! Constant: 1 (`value`), 11 (`sparse_value`), 12 (`value_float` and the like), 13 and later (more types).

use crate::graph::Graph;
use crate::op::{AttributeValue, OpId};
use crate::tensor::Tensor;

use super::attributes::standard;

/// A tensor that the node itself holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Constant {
    /// The operator.
    pub op: OpId,
    /// The tensor.
    pub tensor: Tensor,
}

impl Constant {
    /// The view; `None` where this is no well-formed Constant, or a sparse one.
    pub fn at(graph: &Graph, id: OpId) -> Option<Self> {
        let op = standard(graph, id, "Constant")?;
        let [attribute] = op.attributes() else { return None };
        let tensor = match (attribute.name.as_str(), &attribute.value) {
            ("value", _) => op.tensor("value")?.clone(),
            ("value_float", AttributeValue::Float(number)) => Tensor::scalar(*number),
            ("value_floats", AttributeValue::Floats(numbers)) => Tensor::new(vec![numbers.len()], numbers.clone()),
            ("value_int", AttributeValue::Int(number)) => Tensor::scalar(*number),
            ("value_ints", AttributeValue::Ints(numbers)) => Tensor::new(vec![numbers.len()], numbers.clone()),
            ("value_string", AttributeValue::String(text)) => Tensor::strings(vec![], vec![text.clone()]).ok()?,
            ("value_strings", AttributeValue::Strings(texts)) => {
                Tensor::strings(vec![texts.len()], texts.clone()).ok()?
            }
            _ => return None,
        };
        Some(Self { op: id, tensor })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::op::{Attribute, Op};
    use crate::ops::testing::Scene;
    use crate::types::Carried;

    fn tensor(name: &str, value: AttributeValue) -> Option<Tensor> {
        let mut scene = Scene::new(13);
        let (op, _) = scene.op(Op::new("", "Constant", vec![Attribute::new(name, value)]), &[], "y");
        Constant::at(&scene.finish(), op).map(|view| view.tensor)
    }

    #[test]
    fn every_form() {
        let matrix = Tensor::new(vec![1, 2], vec![1f32, 2.0]);
        assert_eq!(tensor("value", AttributeValue::Tensor(matrix.clone())), Some(matrix));
        assert_eq!(tensor("value_float", AttributeValue::Float(1.5)), Some(Tensor::scalar(1.5f32)));
        assert_eq!(
            tensor("value_floats", AttributeValue::Floats(vec![])),
            Some(Tensor::new(vec![0], Vec::<f32>::new()))
        );
        assert_eq!(tensor("value_int", AttributeValue::Int(3)), Some(Tensor::scalar(3i64)));
        assert_eq!(tensor("value_ints", AttributeValue::Ints(vec![3, 4])), Some(Tensor::new(vec![2], vec![3i64, 4])));
        let text = bytes::Bytes::from_static(b"a");
        assert_eq!(tensor("value_string", AttributeValue::String(text.clone())).map(|t| t.rank()), Some(0));
        assert_eq!(tensor("value_strings", AttributeValue::Strings(vec![text])).map(|t| t.len()), Some(1));
        assert_eq!(tensor("sparse_value", AttributeValue::Opaque(Carried::default())), None);
        assert_eq!(tensor("value", AttributeValue::Int(3)), None);
    }
}
