//! Which nodes the user speaks of: those that are to be quantized, that must stay float, or that have bits of their own.
//!
//! Names are those of the file. They are looked up in the graph as it was read, and followed from there to what passes made
//! of these nodes.

use std::collections::{BTreeMap, BTreeSet};

use onnxq_ir::ops::{Form, Linear};
use onnxq_ir::{Graph, OpId, ValueId};

use crate::names::label;
use crate::overrides::Override;

/// Why a text names no nodes.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NoSuchNodes {
    /// No node has this name, or a name that the expression matches.
    #[error("no node matches; the nearest are {}", .nearest.join(", "))]
    Name {
        /// Names like it.
        nearest: Vec<String>,
    },
    /// The model has no such operator.
    #[error("the model has no such operator; the nearest are {}", .nearest.join(", "))]
    Operator {
        /// Operators like it.
        nearest: Vec<String>,
    },
    /// The model has the operator in other letters.
    #[error("operators are written as ONNX writes them; is `op:{0}` meant?")]
    Case(String),
    /// A name of ours for what files call otherwise.
    #[error("files have Gemm and MatMul for it; give `op:Gemm` or `op:MatMul`")]
    Linear,
    /// An end of a region is neither a node nor a value.
    #[error("there is no node or value `{end}`; the nearest are {}", .nearest.join(", "))]
    End {
        /// The end.
        end: String,
        /// Names like it.
        nearest: Vec<String>,
    },
    /// Nothing lies between the ends of a region.
    #[error("no path leads from `{from}` to `{to}`{}", if *.is_reversed { ", only the other way round: swap them" } else { "" })]
    Path {
        /// Where it begins.
        from: String,
        /// Where it ends.
        to: String,
        /// Whether a path leads from `to` to `from`.
        is_reversed: bool,
    },
    /// The expression is none.
    #[error("{0}")]
    Pattern(String),
    /// An override that changes nothing, or asks for what can't be.
    #[error("{0}")]
    Override(&'static str),
}

/// Nodes of the graph as it was read.
#[derive(Clone, Debug)]
enum Nodes {
    /// All of one operator.
    Operator(String),
    /// These.
    These(BTreeSet<OpId>),
    /// Every one: an operator is named that has all of them in its bodies.
    All,
}

impl Nodes {
    /// Finds what a text names: `op:TYPE`, `re:PATTERN`, a node's name, or `FROM..TO`, all nodes on paths between two nodes
    /// or values.
    fn find(text: &str, graph: &Graph) -> Result<Self, NoSuchNodes> {
        if let Some(operator) = text.strip_prefix("op:") {
            return find_operator(operator, graph);
        }
        if let Some(pattern) = text.strip_prefix("re:") {
            let expression = regex::Regex::new(pattern)
                .map_err(|error| NoSuchNodes::Pattern(last_line(&error.to_string()).to_owned()))?;
            return find_names(pattern, graph, &|name| expression.is_match(name));
        }
        let by_name = find_names(text, graph, &|name| name == text);
        match text.split_once("..") {
            Some((from, to)) if by_name.is_err() => find_region(from, to, graph).map(Self::These).or_else(|error| {
                let is_in_body = any_body(graph, &|body| find_region(from, to, body).is_ok());
                if is_in_body { Ok(Self::These(BTreeSet::new())) } else { Err(error) }
            }),
            _ => by_name,
        }
    }

    /// The same in a body.
    fn within(text: &str, body: &Graph) -> Self {
        Self::find(text, body).unwrap_or(Self::These(BTreeSet::new()))
    }
}

/// Whether something holds for a body in the graph, or in another body.
fn any_body(graph: &Graph, holds: &dyn Fn(&Graph) -> bool) -> bool {
    graph.op_ids().flat_map(|op| graph.op(op).bodies()).any(|body| holds(body) || any_body(body, holds))
}

fn find_operator(operator: &str, graph: &Graph) -> Result<Nodes, NoSuchNodes> {
    let mut types = BTreeSet::new();
    every_op(graph, &mut |graph, op| _ = types.insert(graph.op(op).op_type().to_owned()));
    if types.contains(operator) {
        return Ok(Nodes::Operator(operator.to_owned()));
    }
    if let Some(meant) = types.iter().find(|known| known.eq_ignore_ascii_case(operator)) {
        return Err(NoSuchNodes::Case(meant.clone()));
    }
    if operator == "Linear" {
        return Err(NoSuchNodes::Linear);
    }
    Err(NoSuchNodes::Operator { nearest: nearest(operator, types, "op:") })
}

fn find_names(wanted: &str, graph: &Graph, is_meant: &dyn Fn(&str) -> bool) -> Result<Nodes, NoSuchNodes> {
    let found: BTreeSet<OpId> = graph.op_ids().filter(|&op| is_meant(&label(graph, op))).collect();
    // What lies in a body is found there when the body is quantized.
    let mut names = BTreeSet::new();
    every_op(graph, &mut |graph, op| _ = names.insert(label(graph, op)));
    if found.is_empty() && !names.iter().any(|name| is_meant(name)) {
        return Err(NoSuchNodes::Name { nearest: nearest(wanted, names, "") });
    }
    Ok(Nodes::These(found))
}

/// All nodes on paths from a node or value to another.
fn find_region(from: &str, to: &str, graph: &Graph) -> Result<BTreeSet<OpId>, NoSuchNodes> {
    let between = |first: &[OpId], last: &[OpId]| -> BTreeSet<OpId> {
        let behind = closure(first, |op| readers(graph, op));
        closure(last, |op| producers(graph, op)).intersection(&behind).copied().collect()
    };
    let found = between(&begin(graph, from)?, &end(graph, to)?);
    if !found.is_empty() {
        return Ok(found);
    }
    let is_reversed = !between(&begin(graph, to)?, &end(graph, from)?).is_empty();
    Err(NoSuchNodes::Path { from: from.to_owned(), to: to.to_owned(), is_reversed })
}

/// The nodes that a region from here begins with: the node itself, or the readers of the value.
fn begin(graph: &Graph, name: &str) -> Result<Vec<OpId>, NoSuchNodes> {
    end_of_region(graph, name, |value| graph.readers(value).into_iter().map(|reader| reader.op).collect())
}

/// The nodes that a region to here ends with: the node itself, or the producer of the value.
fn end(graph: &Graph, name: &str) -> Result<Vec<OpId>, NoSuchNodes> {
    end_of_region(graph, name, |value| graph.producer(value).into_iter().map(|(op, _)| op).collect())
}

fn end_of_region(graph: &Graph, name: &str, of_value: impl Fn(ValueId) -> Vec<OpId>) -> Result<Vec<OpId>, NoSuchNodes> {
    let nodes: Vec<OpId> = graph.op_ids().filter(|&op| graph.op(op).name() == name && !name.is_empty()).collect();
    if !nodes.is_empty() {
        return Ok(nodes);
    }
    graph.find_value(name).map(of_value).ok_or_else(|| {
        let values = graph.values().map(|value| graph.value(value).name().to_owned());
        let names = graph.op_ids().map(|op| label(graph, op)).chain(values).filter(|name| !name.is_empty());
        NoSuchNodes::End { end: name.to_owned(), nearest: nearest(name, names.collect(), "") }
    })
}

/// These nodes and all that `next` leads to.
fn closure(start: &[OpId], next: impl Fn(OpId) -> Vec<OpId>) -> BTreeSet<OpId> {
    let mut found: BTreeSet<OpId> = start.iter().copied().collect();
    let mut queue = start.to_vec();
    while let Some(op) = queue.pop() {
        queue.extend(next(op).into_iter().filter(|&op| found.insert(op)));
    }
    found
}

fn readers(graph: &Graph, op: OpId) -> Vec<OpId> {
    graph.outputs_of(op).into_iter().flatten().flat_map(|value| graph.readers(value)).map(|reader| reader.op).collect()
}

fn producers(graph: &Graph, op: OpId) -> Vec<OpId> {
    let read = graph.inputs_of(op).into_iter().flatten().chain(graph.captures_of(op));
    read.filter_map(|value| graph.producer(value)).map(|(op, _)| op).collect()
}

/// Every operator of a graph and of the bodies in it.
fn every_op(graph: &Graph, see: &mut dyn FnMut(&Graph, OpId)) {
    for op in graph.op_ids() {
        see(graph, op);
        for body in graph.op(op).bodies() {
            every_op(body, see);
        }
    }
}

/// The five names most like `wanted` by the number of edits, in the form in which they can be typed.
fn nearest(wanted: &str, names: BTreeSet<String>, prefix: &str) -> Vec<String> {
    let mut ranked: Vec<(usize, String)> =
        names.into_iter().map(|name| (strsim::levenshtein(wanted, &name), name)).collect();
    ranked.sort();
    ranked.into_iter().take(5).map(|(_, name)| format!("`{prefix}{name}`")).collect()
}

fn last_line(text: &str) -> &str {
    let line = text.lines().last().unwrap_or(text);
    line.strip_prefix("error: ").unwrap_or(line)
}

/// What the user says of nodes, found in the graph as it was read. The default speaks of none.
#[derive(Clone, Debug, Default)]
pub struct Selection {
    as_read: Graph,
    /// Where there are any, all else stays float.
    include: Vec<Named>,
    exclude: Vec<Named>,
    overrides: Vec<(Nodes, Override)>,
}

/// What a text names.
#[derive(Clone, Debug)]
struct Named {
    text: String,
    nodes: Nodes,
}

impl Selection {
    /// A selection from a graph as it was read, so far of everything.
    pub fn new(as_read: &Graph) -> Self {
        Self { as_read: as_read.clone(), ..Self::default() }
    }

    /// Quantizes only what this text or another included one names.
    pub fn include(&mut self, text: &str) -> Result<(), NoSuchNodes> {
        self.include.push(self.named(text)?);
        Ok(())
    }

    /// Leaves float what this text names, included or not.
    pub fn exclude(&mut self, text: &str) -> Result<(), NoSuchNodes> {
        self.exclude.push(self.named(text)?);
        Ok(())
    }

    /// Gives the nodes that an override names its own bits and symmetry. A later one wins.
    pub fn set(&mut self, own: &Override) -> Result<(), NoSuchNodes> {
        own.check().map_err(NoSuchNodes::Override)?;
        self.overrides.push((Nodes::find(&own.nodes, &self.as_read)?, own.clone()));
        Ok(())
    }

    fn named(&self, text: &str) -> Result<Named, NoSuchNodes> {
        Ok(Named { text: text.to_owned(), nodes: Nodes::find(text, &self.as_read)? })
    }

    /// The same for the body with this place among those of `owner` in a later state of that graph: what names the owner
    /// names all that lies in it.
    #[must_use]
    pub fn within(&self, graph: &Graph, owner: OpId, place: usize) -> Self {
        let body = |graph: &Graph| graph.try_op(owner).and_then(|op| op.bodies().nth(place)).cloned();
        let as_read = body(&self.as_read).or_else(|| body(graph)).unwrap_or_default();
        let selected = self.on(graph);
        let nodes = |text: &str, nodes: &Nodes| {
            if selected.are(nodes, owner) { Nodes::All } else { Nodes::within(text, &as_read) }
        };
        let named = |all: &[Named]| -> Vec<Named> {
            all.iter().map(|it| Named { text: it.text.clone(), nodes: nodes(&it.text, &it.nodes) }).collect()
        };
        let (include, exclude) = (named(&self.include), named(&self.exclude));
        let overrides = self.overrides.iter().map(|(named, own)| (nodes(&own.nodes, named), own.clone())).collect();
        Self { as_read, include, exclude, overrides }
    }

    /// The same for a later state of that graph.
    pub fn on<'a>(&'a self, graph: &Graph) -> Selected<'a> {
        let is_empty = self.include.is_empty() && self.exclude.is_empty() && self.overrides.is_empty();
        let sources = if is_empty { BTreeMap::new() } else { sources(&self.as_read, graph) };
        let operator = |op| (op, operator(graph, op).to_owned());
        let operators = sources.keys().copied().map(operator).collect();
        Selected { selection: self, sources, operators }
    }
}

/// Why an override leaves a node float.
pub(crate) const FLOAT_BY_RECIPE: &str = "float-by-recipe: by an override of the recipe";

/// A selection in a graph that passes have changed.
#[derive(Clone, Debug)]
pub struct Selected<'a> {
    selection: &'a Selection,
    /// For each operator the nodes of the file that it was made from.
    sources: BTreeMap<OpId, BTreeSet<OpId>>,
    operators: BTreeMap<OpId, String>,
}

impl Selected<'_> {
    /// Why the user wants an operator float, if so.
    pub fn leaves_float(&self, op: OpId) -> Option<&'static str> {
        let Selection { include, exclude, .. } = self.selection;
        if exclude.iter().any(|named| self.are(&named.nodes, op)) {
            return Some("excluded: by --exclude");
        }
        if !include.is_empty() && !include.iter().any(|named| self.are(&named.nodes, op)) {
            return Some("not-included: not among what --include names");
        }
        self.own(op).is_float().then_some(FLOAT_BY_RECIPE)
    }

    /// What the recipe says of an operator.
    pub fn own(&self, op: OpId) -> Override {
        let mut own = Override::default();
        for (_, more) in self.selection.overrides.iter().filter(|(nodes, _)| self.are(nodes, op)) {
            own.refine(more);
        }
        own
    }

    fn are(&self, nodes: &Nodes, op: OpId) -> bool {
        match nodes {
            Nodes::All => true,
            Nodes::Operator(wanted) => self.operators.get(&op) == Some(wanted),
            Nodes::These(these) => self.sources.get(&op).is_some_and(|sources| !sources.is_disjoint(these)),
        }
    }
}

/// The operator's type as the file has it.
fn operator(graph: &Graph, op: OpId) -> &str {
    match Linear::at(graph, op).map(|linear| linear.form) {
        Some(Form::Gemm) => "Gemm",
        Some(Form::MatMul(_)) => "MatMul",
        None => graph.op(op).op_type(),
    }
}

/// For each operator the nodes that it was made from: itself where it was read as it is, and those that are gone and lie
/// between what it reads and what it writes. No node is the source of two; producers come first.
fn sources(as_read: &Graph, graph: &Graph) -> BTreeMap<OpId, BTreeSet<OpId>> {
    let mut claimed = BTreeSet::new();
    let mut all = BTreeMap::new();
    for op in graph.topological() {
        let mut own: BTreeSet<OpId> = as_read.try_op(op).map(|_| op).into_iter().collect();
        let read: BTreeSet<ValueId> = graph.inputs_of(op).into_iter().flatten().collect();
        let mut queue: Vec<ValueId> = graph.outputs_of(op).into_iter().flatten().collect();
        while let Some(value) = queue.pop() {
            let producer = as_read.try_value(value).and_then(|_| as_read.producer(value));
            let Some((source, _)) = producer.filter(|_| !read.contains(&value)) else { continue };
            if source == op || (graph.try_op(source).is_none() && claimed.insert(source)) {
                own.insert(source);
                queue.extend(as_read.inputs_of(source).into_iter().flatten());
            }
        }
        all.insert(op, own);
    }
    all
}

#[cfg(test)]
mod tests {
    use onnxq_ir::text::parse;

    use super::*;

    /// `a` feeds `b` and, past it, `c`; the branch of `d` has a node of its own.
    fn graph() -> Graph {
        let text = "<ir_version: 8, opset_import: [\"\" : 17]>
            g (float[2] x, bool t) => (float[2] y, float[2] z) {
              [\"a\"] p = Relu (x)
              [\"b..1\"] q = Sigmoid (p)
              [\"c\"] y = Add (p, q)
              z = If <then_branch = g1 () => (float[2] u) { [\"inner\"] u = Tanh (q) },
                      else_branch = g2 () => (float[2] v) { v = Identity (x) }> (t)
            }";
        parse(text).unwrap_or_else(|error| panic!("{error}")).graph
    }

    fn found(text: &str) -> Result<Vec<String>, String> {
        let graph = graph();
        let mut selection = Selection::new(&graph);
        selection.exclude(text).map_err(|error| error.to_string())?;
        let selected = selection.on(&graph);
        let left = graph.topological().into_iter().filter(|&op| selected.leaves_float(op).is_some());
        Ok(left.map(|op| label(&graph, op)).collect())
    }

    #[test]
    fn every_form() {
        for (text, names) in [
            ("a", vec!["a"]),
            ("b..1", vec!["b..1"]),
            ("z", vec!["z"]),
            ("re:^[ac]$", vec!["a", "c"]),
            ("re:.", vec!["a", "b..1", "c", "z"]),
            ("op:Add", vec!["c"]),
            ("a..c", vec!["a", "b..1", "c"]),
            ("p..q", vec!["b..1"]),
            ("x..y", vec!["a", "b..1", "c"]),
            ("q..c", vec!["c"]),
            ("q..z", vec!["z"]),
            // Known, and found where it is.
            ("inner", vec![]),
            ("op:Tanh", vec![]),
            ("q..u", vec![]),
        ] {
            assert_eq!(found(text), Ok(names.into_iter().map(str::to_owned).collect()), "{text}");
        }
    }

    #[test]
    fn in_a_body() {
        let graph = graph();
        let owner = graph.op_ids().find(|&op| graph.op(op).op_type() == "If").expect("an If");
        let body = graph.op(owner).bodies().next().expect("a branch");
        let inner = body.op_ids().next().expect("a Tanh");
        for (text, is_meant) in [
            ("inner", true),
            ("op:Tanh", true),
            ("z", true),
            ("q..u", true),
            ("op:If", true),
            ("a", false),
            ("v", false),
        ] {
            let mut selection = Selection::new(&graph);
            selection.exclude(text).expect("known");
            let within = selection.within(&graph, owner, 0);
            assert_eq!(within.on(body).leaves_float(inner).is_some(), is_meant, "{text}");
        }
    }

    #[test]
    fn what_names_nothing_says_what_is_near() {
        for (text, error) in [
            ("cc", "no node matches; the nearest are `c`, `a`, `v`, `z`, `b..1`"),
            ("re:sum", "no node matches; the nearest are `a`, `c`, `v`, `z`, `b..1`"),
            ("re:(", "unclosed group"),
            ("op:add", "operators are written as ONNX writes them; is `op:Add` meant?"),
            (
                "op:Conv",
                "the model has no such operator; the nearest are `op:Tanh`, `op:Add`, `op:If`, `op:Relu`, `op:Sigmoid`",
            ),
            ("op:Linear", "files have Gemm and MatMul for it; give `op:Gemm` or `op:MatMul`"),
            ("d..c", "there is no node or value `d`; the nearest are `a`, `c`, `p`, `q`, `t`"),
            ("a..", "there is no node or value ``; the nearest are `a`, `c`, `p`, `q`, `t`"),
            ("c..a", "no path leads from `c` to `a`, only the other way round: swap them"),
            ("c..z", "no path leads from `c` to `z`"),
        ] {
            assert_eq!(found(text), Err(error.to_owned()), "{text}");
        }
    }

    #[test]
    fn overrides_that_can_not_be_followed() {
        let mut selection = Selection::new(&graph());
        let mut set = |text: &str| {
            let table: toml::Table = text.parse().expect("TOML");
            selection.set(&table.try_into().expect("an override")).map_err(|error| error.to_string())
        };
        assert!(set("nodes = \"a\"").is_err_and(|error| error.starts_with("sets nothing")));
        assert!(
            set("nodes = \"a\"\nweight-bits = \"float\"\nactivation-bits = 8")
                .is_err_and(|e| e.contains("stays float"))
        );
        assert!(set("nodes = \"d\"\nweight-bits = 4").is_err_and(|error| error.starts_with("no node matches")));
        assert_eq!(set("nodes = \"a\"\nweight-bits = 4\nactivation-bits = \"float\""), Ok(()));
    }
}
