//! How long the stages of a run took, for `--json`. Times differ from run to run; nothing else may depend on them.

use std::cell::Cell;
use std::collections::BTreeMap;
use std::rc::Rc;
use std::time::Instant;

use onnxq_ir::{Model, ValueId};
use onnxq_plan::trial::{On, OutputDeviation};
use onnxq_plan::{Deviation, EngineError, Grids, Plan, Shown, Trials};
use serde::Serialize;

/// Seconds of wall time by stage.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct Seconds {
    /// Reading the model.
    pub reading: f64,
    /// What follows from the graph alone.
    pub inference: f64,
    /// The float model over the calibration samples, its values shown to observers.
    pub observation: f64,
    /// Passes, without the trials that they ask for.
    pub passes: f64,
    /// Plans tried out on held-out samples.
    pub trials: f64,
    /// The simulated result beside the float model.
    pub measurement: f64,
    /// Predicting, and with `--check-target` asking, what the runtime makes of the result.
    pub lint: f64,
    /// Writing the result.
    pub writing: f64,
}

/// Does `work` and adds the seconds that it takes.
pub(crate) fn timed<T>(seconds: &mut f64, work: impl FnOnce() -> T) -> T {
    let start = Instant::now();
    let done = work();
    *seconds += start.elapsed().as_secs_f64();
    done
}

/// Trials whose time is taken.
pub(crate) struct Timed<'a> {
    trials: Box<dyn Trials + 'a>,
    seconds: Rc<Cell<f64>>,
}

impl<'a> Timed<'a> {
    pub(crate) fn new(trials: impl Trials + 'a) -> Self {
        Self { trials: Box::new(trials), seconds: Rc::default() }
    }

    /// Seconds so far.
    pub(crate) fn seconds(&self) -> f64 {
        self.seconds.get()
    }

    fn timed<R>(&self, work: impl FnOnce(&(dyn Trials + 'a)) -> R) -> R {
        let mut seconds = self.seconds.get();
        let done = timed(&mut seconds, || work(&*self.trials));
        self.seconds.set(seconds);
        done
    }
}

impl Trials for Timed<'_> {
    fn outputs(&self, model: &Model, plan: &Plan, on: On<'_>) -> Result<Vec<OutputDeviation>, EngineError> {
        self.timed(|trials| trials.outputs(model, plan, on))
    }

    fn grids(&self, model: &Model, grids: &Grids<'_>) -> Result<BTreeMap<ValueId, Vec<Deviation>>, EngineError> {
        self.timed(|trials| trials.grids(model, grids))
    }

    fn show_fitted(
        &self,
        model: &Model,
        plan: Option<&Plan>,
        taps: &[ValueId],
        see: &mut dyn FnMut(&Shown<'_>),
    ) -> Result<(), EngineError> {
        self.timed(|trials| trials.show_fitted(model, plan, taps, see))
    }

    fn with_ruined(&self, model: &Model, plan: &Plan) -> Result<Option<Box<dyn Trials + '_>>, EngineError> {
        let start = Instant::now();
        let more = self.trials.with_ruined(model, plan)?;
        self.seconds.set(self.seconds.get() + start.elapsed().as_secs_f64());
        Ok(more.map(|trials| Box::new(Timed { trials, seconds: Rc::clone(&self.seconds) }) as Box<dyn Trials + '_>))
    }
}
