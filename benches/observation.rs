//! What observing costs beside plainly running the float model: seconds of the stage that `--json` calls `observation`, over
//! those of a float forward of the same samples in the same engine, in turn, in one process, on one thread.
//!
//! ```text
//! cargo bench -p onnxq --bench observation -- [MODEL.onnx CALIB.npz [SAMPLES [ROUNDS]]]
//! ```

#![allow(clippy::print_stdout, reason = "the figures are what it is for")]

use std::path::{Path, PathBuf};
use std::time::Instant;

use onnxq::data::DataOptions;
use onnxq::driver::{self, Job};
use onnxq::progress::Silent;
use onnxq::recipe::Recipe;
use onnxq::samples::Samples;
use onnxq::{Error, onnx, target};
use onnxq_engine::Tract;
use onnxq_ir::{Model, ValueId};
use onnxq_passes::{Selection, Settings, Storage};
use onnxq_plan::{Evaluator, Request, sweep};

/// What each calibrator may cost.
const LIMITS: [(&str, f64); 4] = [("minmax", 1.25), ("percentile", 1.6), ("entropy", 1.6), ("auto", 1.6)];

fn main() -> Result<(), Error> {
    // What cargo adds is no argument of ours.
    let arguments: Vec<String> = std::env::args().skip(1).filter(|argument| argument != "--bench").collect();
    let models = Path::new(env!("CARGO_MANIFEST_DIR")).join("testdata/models");
    let path = |at: usize, default: &str| arguments.get(at).map_or_else(|| models.join(default), PathBuf::from);
    let number = |at: usize, default: usize| arguments.get(at).and_then(|text| text.parse().ok()).unwrap_or(default);
    let (file, data, samples, rounds) =
        (path(0, "deit_fmnist.onnx"), path(1, "calib.npz"), number(2, 32), number(3, 5).max(1));
    println!("{}, {samples} samples, median of {rounds} rounds", file.display());
    for (calibrator, limit) in LIMITS {
        let mut both: Vec<(f64, f64)> = Vec::new();
        for _ in 0..rounds {
            let mut model = onnx::read(&file)?;
            model.settle_defaults();
            let samples = open(&model, &data, samples)?;
            // `auto` keeps every fourth sample for its trials.
            let seen = if calibrator == "auto" { samples.split(1).0 } else { samples.clone() };
            both.push((plain(&model, &seen)?, observation(model, &samples, calibrator)?));
        }
        let ratio = median(both.iter().map(|(plain, observed)| observed / plain));
        let (plain, observed) = (median(both.iter().map(|it| it.0)), median(both.iter().map(|it| it.1)));
        println!("  {calibrator:<10} {observed:7.3} s, plain {plain:7.3} s: {ratio:.2}, at most {limit}");
    }
    Ok(())
}

fn open(model: &Model, data: &Path, samples: usize) -> Result<Samples, Error> {
    let options = DataOptions {
        path: data.to_owned(),
        preprocess: None,
        samples: Some(samples),
        seed: None,
        decode_tensor: |bytes| onnx::decode_tensor(bytes).map_err(|problem| problem.to_string()),
    };
    Samples::open(&model.graph, &options)
}

/// Seconds of a float forward, from the graph to the outputs.
fn plain(model: &Model, samples: &Samples) -> Result<f64, Error> {
    let start = Instant::now();
    let taps: Vec<ValueId> = model.graph.outputs().iter().map(|output| output.value).collect();
    let session = Tract.prepare(&Request { model, plan: None, taps: &taps })?;
    sweep(&*session, samples.stream()?, 1, || (), |(), _, _| (), || ())?;
    Ok(start.elapsed().as_secs_f64())
}

/// Seconds of the stage.
fn observation(model: Model, samples: &Samples, calibrator: &str) -> Result<f64, Error> {
    let mut recipe = Recipe::load("int8")?;
    recipe.set_calibrator(calibrator)?;
    for key in ["min-sqnr", "min-node-sqnr"] {
        recipe.set(&format!("give-back.{key}=off"))?;
    }
    let settings = Settings { bits: recipe.bits, storage: Storage::Int8, selection: Selection::new(&model.graph) };
    let job = Job {
        recipe: &recipe,
        target: &target::load("ort-cpu")?,
        settings: &settings,
        evaluator: &Tract,
        calibration: &|_| Ok(samples.clone()),
        evaluation: None,
        kept: None,
        threads: 1,
        progress: &Silent,
    };
    Ok(driver::run(model, &job)?.seconds.observation)
}

fn median(numbers: impl Iterator<Item = f64>) -> f64 {
    let mut sorted: Vec<f64> = numbers.collect();
    sorted.sort_by(f64::total_cmp);
    sorted[sorted.len() / 2]
}
