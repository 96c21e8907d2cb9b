//! What must hold in every graph. All defects are returned, not only the first.
//!
//! - Every value that is not an input, a constant or a capture has exactly one producer, in a slot of its own.
//! - Every input slot below the arity has at most one value; slots are within the arity.
//! - Names of values are not empty and unique.
//! - Graph inputs, outputs and initializers are values of the graph, with the origin that their list asks for.
//! - The graph has no cycle.
//! - What bodies capture are values of the enclosing graph, and the enclosing operator has an edge from each.
//! - Bodies hold the same.

use rustc_hash::FxHashMap;

use crate::graph::Graph;
use crate::op::OpId;
use crate::value::{Origin, ValueId};

/// An invariant that does not hold.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Defect {
    /// A value that an operator should write is written by none.
    #[error("value `{name}` has no producer")]
    NoProducer {
        /// The value's name.
        name: String,
    },
    /// An input or constant is also written by an operator.
    #[error("value `{name}` is written by an operator although it is an input, a constant or captured")]
    Overwritten {
        /// The value's name.
        name: String,
    },
    /// Two values have one name, or one has none.
    #[error("value name `{name}` is empty or used twice")]
    Name {
        /// The name.
        name: String,
    },
    /// A list of the graph names something that is no value, or of another origin.
    #[error("the graph's {list} name a value that does not exist or is none")]
    List {
        /// Which list.
        list: &'static str,
    },
    /// Operators wait for each other.
    #[error("{count} operators form a cycle or wait for one, among them `{op_type}` `{name}`")]
    Cycle {
        /// How many.
        count: usize,
        /// The first one's type.
        op_type: String,
        /// The first one's node name.
        name: String,
    },
    /// A body captures what is not there, or the operator has no edge for it.
    #[error("a body of `{op_type}` `{name}` captures a value that the graph around it does not have")]
    Capture {
        /// The operator's type.
        op_type: String,
        /// The operator's node name.
        name: String,
    },
    /// Something is wrong inside a body.
    #[error("in a body of `{op_type}` `{name}`: {defect}")]
    Body {
        /// The operator's type.
        op_type: String,
        /// The operator's node name.
        name: String,
        /// What is wrong.
        defect: Box<Defect>,
    },
}

/// Everything that is wrong with a graph; empty when it is sound.
pub fn verify(graph: &Graph) -> Vec<Defect> {
    let mut defects = Vec::new();
    values(graph, &mut defects);
    lists(graph, &mut defects);
    cycles(graph, &mut defects);
    for op in graph.op_ids() {
        bodies(graph, op, &mut defects);
    }
    defects
}

fn values(graph: &Graph, defects: &mut Vec<Defect>) {
    let mut names: FxHashMap<&str, ValueId> = FxHashMap::default();
    for id in graph.values() {
        let value = graph.value(id);
        let name = value.name().to_owned();
        let produced = graph.producer(id).is_some();
        match value.origin() {
            Origin::Produced if !produced => defects.push(Defect::NoProducer { name }),
            Origin::Produced => {}
            _ if produced => defects.push(Defect::Overwritten { name }),
            _ => {}
        }
        if value.name().is_empty() || names.insert(value.name(), id).is_some() {
            defects.push(Defect::Name { name: value.name().to_owned() });
        }
    }
}

fn lists(graph: &Graph, defects: &mut Vec<Defect>) {
    let is_input = |id| graph.try_value(id).is_some_and(|value| matches!(value.origin(), Origin::Input(_)));
    if graph.inputs().iter().any(|declared| !is_input(declared.value)) {
        defects.push(Defect::List { list: "inputs" });
    }
    if graph.outputs().iter().any(|declared| graph.try_value(declared.value).is_none()) {
        defects.push(Defect::List { list: "outputs" });
    }
    let is_constant = |id| {
        graph.try_value(id).is_some_and(|value| matches!(value.origin(), Origin::Constant(_) | Origin::Input(Some(_))))
    };
    if graph.initializers().iter().any(|&id| !is_constant(id)) {
        defects.push(Defect::List { list: "initializers" });
    }
}

fn cycles(graph: &Graph, defects: &mut Vec<Defect>) {
    let sorted: std::collections::BTreeSet<OpId> = graph.topological().into_iter().collect();
    let stuck: Vec<OpId> = graph.op_ids().filter(|op| !sorted.contains(op)).collect();
    if let Some(&first) = stuck.first() {
        let op = graph.op(first);
        defects.push(Defect::Cycle {
            count: stuck.len(),
            op_type: op.op_type().to_owned(),
            name: op.name().to_owned(),
        });
    }
}

fn bodies(graph: &Graph, id: OpId, defects: &mut Vec<Defect>) {
    let op = graph.op(id);
    let (op_type, name) = (op.op_type().to_owned(), op.name().to_owned());
    let edges = graph.captures_of(id);
    for body in op.bodies() {
        let resolved = body.values().all(|value| match body.value(value).origin() {
            Origin::Captured(outer) => graph.try_value(*outer).is_some() && edges.contains(outer),
            _ => true,
        });
        if !resolved {
            defects.push(Defect::Capture { op_type: op_type.clone(), name: name.clone() });
        }
        defects.extend(verify(body).into_iter().map(|defect| Defect::Body {
            op_type: op_type.clone(),
            name: name.clone(),
            defect: Box::new(defect),
        }));
    }
}
