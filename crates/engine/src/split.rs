//! Cuts a large model into pieces that are optimized one by one: tract's time for that grows with more than the square of
//! the number of nodes (5,000 products in a row took it 25 s at every preparation, and a detector of 600 nodes as long as a
//! run of it; 0.23.9).

use rustc_hash::{FxHashMap, FxHashSet};
use tract_onnx::prelude::{TractResult, TypedModel};
use tract_onnx::tract_core::internal::{InletId, OutletId, TractErrorContext};
use tract_onnx::tract_core::ops::konst::Const;
use tract_onnx::tract_core::ops::source::TypedSource;

/// Nodes, constants not counted, up to which a model stays whole.
const WHOLE: usize = 500;

/// Nodes of a piece.
const PIECE: usize = 150;

/// A part of a model.
pub(crate) struct Piece {
    /// The part; its inputs and outputs are those of [`Piece::reads`] and [`Piece::writes`].
    pub model: TypedModel,
    /// The values of the whole that it reads.
    pub reads: Vec<OutletId>,
    /// The values of the whole that it writes, for later pieces or as outputs.
    pub writes: Vec<OutletId>,
}

/// The model as pieces, in the order in which they are to be run. The first one has the whole's inputs.
pub(crate) fn split(model: TypedModel) -> TractResult<Vec<Piece>> {
    let order = model.eval_order()?;
    let computed: Vec<usize> = order.into_iter().filter(|&node| is_computed(&model, node)).collect();
    if computed.len() <= WHOLE || has_open_dims(&model) {
        let (reads, writes) = (model.input_outlets()?.to_vec(), model.output_outlets()?.to_vec());
        return Ok(vec![Piece { model, reads, writes }]);
    }
    let homes: FxHashMap<usize, usize> =
        computed.iter().enumerate().map(|(place, &node)| (node, place / PIECE)).collect();
    let outputs: FxHashSet<OutletId> = model.output_outlets()?.iter().copied().collect();
    let mut pieces = Vec::new();
    for (home, nodes) in computed.chunks(PIECE).enumerate() {
        let mut cut = Cut::of(&model);
        if home == 0 {
            for &input in model.input_outlets()? {
                cut.outlet(input)?;
            }
            // Outputs that nothing computes.
            for &output in model.output_outlets()?.iter().filter(|output| !homes.contains_key(&output.node)) {
                cut.outlet(output)?;
                cut.writes.push(output);
            }
        }
        for &node in nodes {
            cut.copy(node)?;
            for (slot, output) in model.node(node).outputs.iter().enumerate() {
                let leaves =
                    output.successors.iter().any(|reader| homes.get(&reader.node).is_some_and(|&at| at != home));
                let outlet = OutletId::new(node, slot);
                if leaves || outputs.contains(&outlet) {
                    cut.writes.push(outlet);
                }
            }
        }
        pieces.push(cut.finish()?);
    }
    Ok(pieces)
}

/// Nodes up to which simplifying a model takes no time to speak of, where it is done once and in one piece.
const SIMPLIFIED: usize = 1000;

/// Whether tract's simplifications would take too long.
pub(crate) fn is_large(model: &TypedModel) -> bool {
    (0..model.nodes().len()).filter(|&node| is_computed(model, node)).count() > SIMPLIFIED
}

fn is_computed(model: &TypedModel, node: usize) -> bool {
    let node = model.node(node);
    !node.op_is::<Const>() && !node.op_is::<TypedSource>()
}

/// Whether dimensions are left that only running tells: they could not be handed from piece to piece.
pub(crate) fn has_open_dims(model: &TypedModel) -> bool {
    let mut facts = model.nodes().iter().flat_map(|node| node.outputs.iter().map(|output| &output.fact));
    facts.any(|fact| fact.shape.as_concrete().is_none())
}

/// A piece in the making.
struct Cut<'a> {
    whole: &'a TypedModel,
    piece: TypedModel,
    /// Where values of the whole are in the piece.
    places: FxHashMap<OutletId, OutletId>,
    reads: Vec<OutletId>,
    writes: Vec<OutletId>,
}

impl<'a> Cut<'a> {
    fn of(whole: &'a TypedModel) -> Self {
        let piece = TypedModel { symbols: whole.symbols.clone(), ..TypedModel::default() };
        Self { whole, piece, places: FxHashMap::default(), reads: Vec::new(), writes: Vec::new() }
    }

    /// Where a value is in the piece: a constant comes along, what others compute is an input.
    fn outlet(&mut self, outlet: OutletId) -> TractResult<OutletId> {
        if let Some(&place) = self.places.get(&outlet) {
            return Ok(place);
        }
        if self.whole.node(outlet.node).op_is::<Const>() {
            return self.copy(outlet.node).map(|node| OutletId::new(node, outlet.slot));
        }
        let mut fact = self.whole.outlet_fact(outlet)?.clone();
        fact.konst = None;
        let name = format!("{}_{}", self.whole.node(outlet.node).name, outlet.slot);
        let place = self.piece.add_source(name, fact)?;
        self.places.insert(outlet, place);
        self.reads.push(outlet);
        Ok(place)
    }

    fn copy(&mut self, id: usize) -> TractResult<usize> {
        let node = self.whole.node(id);
        let inputs: Vec<OutletId> = node.inputs.iter().map(|&input| self.outlet(input)).collect::<TractResult<_>>()?;
        let facts = node.outputs.iter().map(|output| output.fact.clone()).collect();
        let copy = self.piece.add_node(node.name.clone(), node.op.clone(), facts)?;
        for (slot, input) in inputs.into_iter().enumerate() {
            self.piece.add_edge(input, InletId::new(copy, slot))?;
        }
        for slot in 0..node.outputs.len() {
            self.places.insert(OutletId::new(id, slot), OutletId::new(copy, slot));
        }
        Ok(copy)
    }

    fn finish(mut self) -> TractResult<Piece> {
        let places: Option<Vec<OutletId>> = self.writes.iter().map(|outlet| self.places.get(outlet).copied()).collect();
        self.piece.select_output_outlets(&places.context("a value that leaves a piece is in it")?)?;
        Ok(Piece { model: self.piece, reads: self.reads, writes: self.writes })
    }
}
