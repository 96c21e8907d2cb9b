//! Running a prepared graph: a plan of tract's per set of input shapes, values shown as soon as they are known and freed
//! after their last use.
//!
//! The loop is our own. tract's keeps every output to the end, and a tapped value is an output: nothing would be computed
//! in place, and memory would grow with the number of taps.

use std::sync::{Arc, Mutex};

use onnxq_ir::{Origin, Tensor, ValueId};
use onnxq_plan::{EngineError, Request, Runner, Sample, Session, Shown};
use rustc_hash::FxHashMap;
use tract_onnx::prelude::{InferenceModelExt, IntoTValue, TValue, TractResult};
use tract_onnx::tract_core::internal::{
    OutletId, TVec, TractErrorContext, TypedSimplePlan, TypedSimpleState, format_err,
};
use tract_onnx::tract_core::ops::konst::Const;
use tract_onnx::tract_core::plan::eval;

use crate::guard::{Failure, guarded};
use crate::load::{Fed, Loaded, NodeNames, Upstream, load};
use crate::marked::Marked;
use crate::split::{Piece, has_open_dims, split};
use crate::tensor::{HalfFloats, show, show_tract, to_tract};
use crate::{NAME, refusal};

/// How many sets of input shapes have a plan at a time: each holds packed copies of the weights.
const PLANS: usize = 4;

/// What a plan is made for, of the inputs that a sample gives and in the order of the graph's inputs.
#[derive(Clone, Default, PartialEq)]
struct Given {
    shapes: Vec<(ValueId, Vec<usize>)>,
    /// The elements of inputs that decide what is run.
    deciding: Vec<(ValueId, Tensor)>,
}

impl Given {
    /// How an input is fed.
    fn fed(&self, value: ValueId) -> Fed {
        if let Some((_, tensor)) = self.deciding.iter().find(|(input, _)| *input == value) {
            return Fed::Elements(tensor.clone());
        }
        match self.shapes.iter().find(|(input, _)| *input == value) {
            Some((_, shape)) => Fed::Shape(shape.clone()),
            None => Fed::Default,
        }
    }
}

/// A request that tract can serve. Plans are made when the first sample of their shapes comes.
pub(crate) struct TractSession<'a> {
    request: Request<'a>,
    /// The inputs that the taps need, in the order of the graph's.
    inputs: Vec<ValueId>,
    /// Those whose elements may decide what is run.
    deciding: Vec<ValueId>,
    /// Most recently used last.
    plans: Mutex<Vec<(Given, Arc<Tapped>)>>,
}

impl<'a> TractSession<'a> {
    /// A session for a request whose operators tract has. The elements of the inputs in `deciding` are part of a plan.
    pub(crate) fn new(request: Request<'a>, deciding: Vec<ValueId>) -> Self {
        let graph = &request.model.graph;
        let upstream = Upstream::of(graph, request.taps);
        let inputs = graph.inputs().iter().map(|declared| declared.value);
        let inputs = inputs.filter(|&value| upstream.has_value(value)).collect();
        Self { request, inputs, deciding, plans: Mutex::default() }
    }

    /// The plan for these inputs; others that ask meanwhile wait for it.
    fn plan(&self, given: &Given) -> Result<Arc<Tapped>, EngineError> {
        let mut plans = self.plans.lock().expect("no thread panics while it makes a plan");
        if let Some(at) = plans.iter().position(|(known, _)| known == given) {
            let entry = plans.remove(at);
            let plan = Arc::clone(&entry.1);
            plans.push(entry);
            return Ok(plan);
        }
        let plan = Tapped::new(&self.request, given).map(Arc::new).map_err(refusal)?;
        if plans.len() == PLANS {
            plans.remove(0);
        }
        plans.push((given.clone(), Arc::clone(&plan)));
        Ok(plan)
    }
}

impl Session for TractSession<'_> {
    fn runner(&self) -> Box<dyn Runner + '_> {
        Box::new(TractRunner { session: self, states: Vec::new() })
    }
}

/// What the plan's loop does after a step.
struct Step {
    node: usize,
    /// Nodes that nobody reads after this step.
    free: Vec<usize>,
}

/// Optimized plans of the model's pieces, with taps.
struct Tapped {
    segments: Vec<Segment>,
    /// The inputs to give, in order.
    inputs: Vec<ValueId>,
    /// How many values go from the inputs or a segment to others.
    slots: usize,
    /// Those that turned out to be constant.
    fixed: Vec<(usize, TValue)>,
    /// Constants and inputs that are tapped: they come from the IR and from the sample.
    direct: Vec<ValueId>,
    /// Tapped values that turned out to be constant.
    constants: Vec<(ValueId, TValue)>,
    /// Dimensions that only running tells are left: tract's own loop resolves them.
    open_dims: bool,
    /// To say which node fails.
    names: NodeNames,
}

/// The optimized plan of one piece.
struct Segment {
    plan: Arc<TypedSimplePlan>,
    taps: FxHashMap<OutletId, Vec<ValueId>>,
    steps: Vec<Step>,
    /// The slots of its inputs, and whether nobody reads them later.
    reads: Vec<(usize, bool)>,
    /// The slots that its values go to.
    writes: FxHashMap<OutletId, Vec<usize>>,
}

impl Tapped {
    fn new(request: &Request<'_>, given: &Given) -> Result<Self, Failure> {
        let graph = &request.model.graph;
        let mut marked = match request.plan {
            Some(plan) => Marked::simulated(graph, plan)?,
            None => Marked::float(graph),
        };
        let fed = |value: ValueId| given.fed(value);
        marked.hand_over(request.model, &fed)?;
        let (mut direct, mut computed) = (Vec::new(), Vec::new());
        for &tap in request.taps {
            match (marked.seen(tap) == tap, graph.value(tap).origin()) {
                (true, Origin::Constant(_) | Origin::Input(_)) => direct.push(tap),
                _ => computed.push(tap),
            }
        }
        let seen: Vec<ValueId> = computed.iter().map(|&tap| marked.seen(tap)).collect();
        let optimized = optimized(request, marked, &seen, fed)?;
        Self::of(optimized, &computed, direct)
    }

    fn of(optimized: Optimized, computed: &[ValueId], direct: Vec<ValueId>) -> Result<Self, Failure> {
        let Optimized { pieces, inputs, outputs, names } = optimized;
        let mut tapped = Self {
            segments: Vec::new(),
            inputs,
            slots: 0,
            fixed: Vec::new(),
            direct,
            constants: Vec::new(),
            open_dims: pieces.iter().any(|piece| has_open_dims(&piece.model)),
            names,
        };
        let mut taps: FxHashMap<OutletId, Vec<ValueId>> = FxHashMap::default();
        for (&outlet, &tap) in outputs.iter().zip(computed) {
            taps.entry(outlet).or_default().push(tap);
        }
        let mut slots: FxHashMap<OutletId, usize> = FxHashMap::default();
        let mut last_reader: FxHashMap<OutletId, usize> = FxHashMap::default();
        for (at, piece) in pieces.iter().enumerate() {
            for &outlet in &piece.reads {
                let next = slots.len();
                slots.entry(outlet).or_insert(next);
                last_reader.insert(outlet, at);
            }
        }
        tapped.slots = slots.len();
        for (at, piece) in pieces.into_iter().enumerate() {
            let reads = piece.reads.iter().map(|outlet| (slots[outlet], last_reader[outlet] == at)).collect();
            tapped.add(piece, reads, &mut taps, &slots)?;
        }
        Ok(tapped)
    }

    /// Adds the segment of a piece; takes the taps on what it writes.
    fn add(
        &mut self,
        piece: Piece,
        reads: Vec<(usize, bool)>,
        taps: &mut FxHashMap<OutletId, Vec<ValueId>>,
        slots: &FxHashMap<OutletId, usize>,
    ) -> Result<(), Failure> {
        let Piece { model, writes: whole, .. } = piece;
        let mut own: FxHashMap<OutletId, Vec<ValueId>> = FxHashMap::default();
        let mut writes: FxHashMap<OutletId, Vec<usize>> = FxHashMap::default();
        let outlets = guarded(|| Ok(model.output_outlets()?.to_vec()))?;
        for (outlet, whole) in outlets.into_iter().zip(whole) {
            let (tapped, slot) = (taps.remove(&whole).unwrap_or_default(), slots.get(&whole).copied());
            match model.node(outlet.node).op_as::<Const>() {
                Some(constant) => {
                    let value = || constant.val().clone().into_tvalue();
                    self.constants.extend(tapped.into_iter().map(|tap| (tap, value())));
                    self.fixed.extend(slot.map(|slot| (slot, value())));
                }
                None => {
                    own.entry(outlet).or_default().extend(tapped);
                    writes.entry(outlet).or_default().extend(slot);
                }
            }
        }
        let plan = guarded(|| TypedSimplePlan::new(model)).map_err(|failure| self.names.translate(&failure))?;
        let steps = steps(&plan);
        self.segments.push(Segment { plan, taps: own, steps, reads, writes });
        Ok(())
    }
}

struct Optimized {
    pieces: Vec<Piece>,
    /// The inputs that the model has.
    inputs: Vec<ValueId>,
    /// What was asked for, as values of the whole.
    outputs: Vec<OutletId>,
    names: NodeNames,
}

/// The part of the graph that `targets` need, typed and optimized, with the targets as outputs.
fn optimized(
    request: &Request<'_>,
    marked: Marked<'_>,
    targets: &[ValueId],
    fed: impl Fn(ValueId) -> Fed,
) -> Result<Optimized, Failure> {
    let mut loaded = load(request.model, &marked.graph, targets, HalfFloats::Widened, fed)?;
    marked.install(&mut loaded, HalfFloats::Widened);
    let as_typed = crate::load::has_scan(&marked.graph);
    // Baked weights live in the copy of the graph: they go before tract packs its own.
    drop(marked);
    let Loaded { model, inputs, names, .. } = loaded;
    let typed = guarded(|| model.into_typed()).map_err(|failure| names.translate(&failure))?;
    let outputs = guarded(|| Ok(typed.output_outlets()?.to_vec()))?;
    let mut pieces = guarded(|| split(typed)).map_err(|failure| names.translate(&failure))?;
    for piece in pieces.iter_mut().filter(|_| !as_typed) {
        // A model that tract can't optimize is slower as it is, and right.
        if let Ok(optimized) = guarded(|| piece.model.clone().into_optimized()) {
            piece.model = optimized;
        }
    }
    Ok(Optimized { pieces, inputs, outputs, names })
}

/// The plan's order, with what can be freed when.
fn steps(plan: &TypedSimplePlan) -> Vec<Step> {
    let model = plan.model();
    let order = plan.order_without_consts();
    let mut last_use: FxHashMap<usize, usize> = FxHashMap::default();
    for (step, &node) in order.iter().enumerate() {
        last_use.insert(node, step);
        for input in &model.node(node).inputs {
            if !model.node(input.node).op_is::<Const>() {
                last_use.insert(input.node, step);
            }
        }
    }
    let mut steps: Vec<Step> = order.iter().map(|&node| Step { node, free: Vec::new() }).collect();
    for &node in order {
        steps[last_use[&node]].free.push(node);
    }
    steps
}

/// A thread's state for one plan.
struct State {
    given: Given,
    tapped: Arc<Tapped>,
    /// One for each segment.
    turns: Vec<TypedSimpleState>,
}

struct TractRunner<'s> {
    session: &'s TractSession<'s>,
    /// Most recently used last.
    states: Vec<State>,
}

impl Runner for TractRunner<'_> {
    fn run(&mut self, sample: &Sample, see: &mut dyn FnMut(&Shown<'_>)) -> Result<(), EngineError> {
        let failed = |reason: String| EngineError::Run { engine: NAME, sample: sample.index, reason };
        let graph = &self.session.request.model.graph;
        let mut plan_for = Given::default();
        for &input in &self.session.inputs {
            match (sample.given(input), graph.value(input).origin()) {
                (Some(tensor), _) if self.session.deciding.contains(&input) => {
                    plan_for.deciding.push((input, tensor.clone()));
                }
                (Some(tensor), _) => plan_for.shapes.push((input, tensor.shape().to_vec())),
                (None, Origin::Input(Some(_))) => {}
                (None, _) => return Err(failed(format!("input `{}` is missing", graph.value(input).name()))),
            }
        }
        let mut state = self.take_state(plan_for)?;
        let tapped = Arc::clone(&state.tapped);
        for &value in &tapped.direct {
            let tensor = sample.given(value).or_else(|| graph.value(value).origin().tensor());
            if let Some(tensor) = tensor {
                show(tensor, &mut |shape, elements| see(&Shown { value, shape, elements }));
            }
        }
        for (value, tensor) in &tapped.constants {
            show_tract(tensor, &mut |shape, elements| see(&Shown { value: *value, shape, elements }));
        }
        let mut inputs: TVec<TValue> = TVec::new();
        for &input in &tapped.inputs {
            let tensor = sample.given(input).ok_or_else(|| failed("an input is missing".to_owned()))?;
            inputs.push(to_tract(tensor, HalfFloats::Widened).map_err(&failed)?.into_tvalue());
        }
        let outcome = if tapped.open_dims {
            tapped.run_resolving(&mut state.turns, inputs, see)
        } else {
            tapped.run(&mut state.turns, inputs, see)
        };
        match outcome {
            Ok(()) => {
                // Recurrent operators would begin the next sample where this one ended.
                if state.turns.iter().all(|turn| turn.op_states.iter().all(Option::is_none)) {
                    self.states.push(state);
                }
                Ok(())
            }
            // After a failure the state is of no use.
            Err(failure) => {
                let Failure { node, reason, .. } = tapped.names.translate(&failure);
                Err(failed(node.map(|node| format!("at node `{node}`: ")).unwrap_or_default() + &reason))
            }
        }
    }
}

impl TractRunner<'_> {
    /// Takes the state for these inputs out of the list, or makes one.
    fn take_state(&mut self, given: Given) -> Result<State, EngineError> {
        if let Some(at) = self.states.iter().position(|state| state.given == given) {
            return Ok(self.states.remove(at));
        }
        let tapped = self.session.plan(&given)?;
        let turns = guarded(|| tapped.segments.iter().map(|segment| segment.plan.spawn()).collect())
            .map_err(|failure| refusal(tapped.names.translate(&failure)))?;
        if self.states.len() == PLANS {
            self.states.remove(0);
        }
        Ok(State { given, tapped, turns })
    }
}

impl Segment {
    /// The failure with the node that was being computed, where it names none.
    fn blame(&self, node: usize, failure: Failure) -> Failure {
        let node = failure.node.unwrap_or_else(|| self.plan.model().node(node).name.clone());
        Failure { node: Some(node), ..failure }
    }

    fn show(&self, node: usize, values: &[TValue], see: &mut dyn FnMut(&Shown<'_>)) {
        for (slot, tensor) in values.iter().enumerate() {
            for &value in self.taps.get(&OutletId::new(node, slot)).into_iter().flatten() {
                show_tract(tensor, &mut |shape, elements| see(&Shown { value, shape, elements }));
            }
        }
    }

    /// Keeps what later segments read.
    fn keep(&self, node: usize, values: &[TValue], store: &mut [Option<TValue>]) {
        for (slot, tensor) in values.iter().enumerate() {
            for &place in self.writes.get(&OutletId::new(node, slot)).into_iter().flatten() {
                store[place] = Some(tensor.clone());
            }
        }
    }

    fn run(
        &self,
        state: &mut TypedSimpleState,
        store: &mut [Option<TValue>],
        see: &mut dyn FnMut(&Shown<'_>),
    ) -> Result<(), Failure> {
        let inputs: Option<TVec<TValue>> = self
            .reads
            .iter()
            .map(|&(slot, last)| if last { store[slot].take() } else { store[slot].clone() })
            .collect();
        guarded(|| state.set_inputs(inputs.context("a value between two pieces is missing")?))?;
        for step in &self.steps {
            guarded(|| {
                let inputs = state.prepare_inputs(step.node)?;
                // Freed before computing: an operator may then work in place.
                for &node in step.free.iter().filter(|&&node| node != step.node) {
                    state.turn_state.values[node] = None;
                }
                state.compute_one_with_inputs(step.node, inputs)
            })
            .map_err(|failure| self.blame(step.node, failure))?;
            if let Some(values) = &state.turn_state.values[step.node] {
                self.show(step.node, values, see);
                self.keep(step.node, values, store);
            }
            if step.free.contains(&step.node) {
                state.turn_state.values[step.node] = None;
            }
        }
        guarded(|| state.reset_turn())
    }
}

impl Tapped {
    fn run(
        &self,
        states: &mut [TypedSimpleState],
        inputs: TVec<TValue>,
        see: &mut dyn FnMut(&Shown<'_>),
    ) -> Result<(), Failure> {
        let mut store: Vec<Option<TValue>> = vec![None; self.slots];
        // The first segment has the whole's inputs.
        let places = self.segments.iter().take(1).flat_map(|segment| &segment.reads);
        for ((place, _), input) in places.zip(inputs) {
            store[*place] = Some(input);
        }
        for (place, value) in &self.fixed {
            store[*place] = Some(value.clone());
        }
        self.segments.iter().zip(states).try_for_each(|(segment, state)| segment.run(state, &mut store, see))
    }

    /// The same through tract's own loop, which learns dimensions on the way and keeps tapped values to the end. Such a
    /// model is in one piece.
    fn run_resolving(
        &self,
        states: &mut [TypedSimpleState],
        inputs: TVec<TValue>,
        see: &mut dyn FnMut(&Shown<'_>),
    ) -> Result<(), Failure> {
        let (Some(segment), Some(state)) = (self.segments.first(), states.first_mut()) else { return Ok(()) };
        let outcome: TractResult<_> = state.run_plan_with_eval(inputs, |context, op_state, node, inputs| {
            let values = guarded(|| eval(context, op_state, node, inputs)).map_err(|failure| {
                let Failure { reason, .. } = failure;
                format_err!("{reason}").context(format!("#{} \"{}\"", node.id, node.name))
            })?;
            segment.show(node.id, &values, see);
            TractResult::Ok(values)
        });
        guarded(|| outcome.map(|_| ()))
    }
}
