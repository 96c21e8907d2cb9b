//! `onnxq IN OUT`: quantizes a model.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use onnxq_ir::{Graph, Model, Origin};
use onnxq_passes::{Selection, Settings, Threshold};
use onnxq_plan::EngineError;

use super::args::{DataArgs, IoArg, QuantizeArgs};
use super::{note, places, say};
use crate::data::{DataOptions, Preprocess};
use crate::driver::{self, Done, Job, Measured};
use crate::engine::{Engine, Runtime};
use crate::error::Error;
use crate::lint::{Check, Kernels, Lint};
use crate::onnx::output::Scratch;
use crate::onnx::{self, ExternalData, WriteOptions, Written};
use crate::progress::{Progress, Silent, Terminal};
use crate::recipe::Recipe;
use crate::report::{Report, Sizes};
use crate::samples::Samples;
use crate::seconds::{Seconds, timed};
use crate::statistics::{Kept, Lacking, Statistics};
use crate::{refuse, synthesize, target};

pub(crate) fn run(args: &QuantizeArgs) -> Result<(), Error> {
    let mut recipe = recipe(args)?;
    if args.print_recipe {
        say(&toml::to_string(&recipe).map_err(|error| Error::Broken(error.to_string()))?)?;
        return Ok(());
    }
    let input = args.input.as_deref().ok_or_else(|| Error::Option("give a model".to_owned()))?;
    let target = target::load(&args.target)?;
    settle_bits(args, &mut recipe, &target);
    // To check a target without kernel rules is an error that says so.
    let kernels = (target.kernels.is_some() || args.check_target).then(|| Kernels::of(&target)).transpose()?;
    let runtime = args.check_target.then(Runtime::load).transpose()?;
    let bits = recipe.bits;
    target.weight_format(bits).map_err(onnxq_passes::PassError::from)?;
    bits.activation.map(|bits| target.activation_format(bits)).transpose().map_err(onnxq_passes::PassError::from)?;
    places::check(args, input)?;
    let mut reading = 0.0;
    let mut model = timed(&mut reading, || onnx::read(input))?;
    if !recipe.is_none() {
        if let Some(reason) = refuse::reason(&model) {
            return Err(Error::NotYet { model: input.display().to_string(), reason });
        }
        model.settle_defaults();
    }
    let selection = selection(args, &recipe, &model.graph)?;
    let settings = Settings { bits, storage: args.storage.into(), selection };
    let before = onnx::encoded_len(&model)?;
    let done = quantize(args, model, &recipe, &target, &settings)?;
    let output = args.output.as_deref().or(args.dry_run.then_some(Path::new("nowhere")));
    let output = output.ok_or_else(|| Error::Option("give an output".to_owned()))?;
    let after = onnx::encoded_len(&done.model)?;
    let mut report = Report::new(input, output, &recipe, &target, &settings, &done, Sizes { before, after });
    let mut seconds = Seconds { reading, ..done.seconds };
    if let Some(kernels) = &kernels {
        let lint = timed(&mut seconds.lint, || Lint::of(&done.model, kernels, None));
        report.lint = Some(lint.outlook());
        let check = || runtime.map(|runtime| check(&done.model, &lint, kernels, &runtime)).transpose();
        report.check = timed(&mut seconds.lint, check)?;
    }
    report.seconds = seconds;
    if args.dry_run {
        return dry_run(args, &recipe, &done, report);
    }
    if let Err(error) = gate(args, &recipe, &done, &report) {
        report.refused = Some(error.to_string());
        // A pipeline wants the figures as well.
        if args.json {
            tell(args, &report)?;
        }
        return Err(error);
    }
    timed(&mut report.seconds.writing, || write(args, &done.model, input, output))?;
    tell(args, &report)
}

/// What the runtime makes of the result, before it gets its place.
fn check(model: &Model, lint: &Lint, kernels: &Kernels, runtime: &Runtime) -> Result<Check, Error> {
    let scratch = Scratch::new().map_err(onnx::WriteError::from)?;
    let file = scratch.path("model.onnx");
    onnx::write(model, &file, &WriteOptions::default())?;
    Check::of(&file, lint, kernels, runtime).map_err(|error| error.in_model("the result"))
}

/// Prints the plan; where nothing is quantized or the file would grow, that is refused as it would be without --dry-run.
fn dry_run(args: &QuantizeArgs, recipe: &Recipe, done: &Done, report: Report) -> Result<(), Error> {
    let outcome = gate(args, recipe, done, &report);
    let mut report = report.with_plan(done);
    report.refused = outcome.as_ref().err().map(ToString::to_string);
    if args.json {
        say(&report.json())?;
    } else {
        let lines: Vec<String> = done.described.iter().map(ToString::to_string).chain([String::new()]).collect();
        say(&lines.join("\n"))?;
    }
    outcome
}

/// The recipe with all that the command line changes in it.
fn recipe(args: &QuantizeArgs) -> Result<Recipe, Error> {
    let mut recipe = Recipe::load(&args.recipe)?;
    recipe.bits = args.bits.unwrap_or(recipe.bits);
    if let Some(calibrator) = args.calibrator {
        recipe.set_calibrator(calibrator.pass())?;
    }
    // Few bits lose more than the defaults ask for, and are meant to.
    let few_bits = recipe.bits.activation.is_some_and(|bits| bits < 8);
    for (key, asked) in [("min-sqnr", args.min_sqnr), ("min-node-sqnr", args.min_node_sqnr)] {
        let threshold = asked.or(few_bits.then_some(Threshold::Off));
        if let Some(threshold) = threshold.filter(|_| asked.is_some() || recipe.has_pass("give-back")) {
            recipe.set(&format!("give-back.{key}={threshold}"))?;
        }
    }
    if args.io == IoArg::Quantized {
        recipe.quantize_io()?;
    }
    for assignment in &args.set {
        recipe.set(assignment)?;
    }
    Ok(recipe)
}

/// Where the target has no codes for activations, the recipe's own bits are those of weights alone; bits that the user asked
/// for stay as they are.
fn settle_bits(args: &QuantizeArgs, recipe: &mut Recipe, target: &onnxq_plan::Target) {
    let usual = target.usual(recipe.bits);
    if args.bits.is_some() || recipe.bits == usual || recipe.is_none() {
        return;
    }
    recipe.bits = usual;
    if !args.quiet {
        note(&format!("activations stay float on target `{}`: only weights are quantized ({usual})", target.name));
    }
}

fn quantize(
    args: &QuantizeArgs,
    model: Model,
    recipe: &Recipe,
    target: &onnxq_plan::Target,
    settings: &Settings,
) -> Result<Done, Error> {
    let shapes = input_shapes(&args.data)?;
    check_shapes(&model.graph, &shapes)?;
    let calibration = match &args.data.calib {
        Some(path) => Some(Samples::open(&model.graph, &data_options(&args.data, path)?)?),
        None => None,
    };
    let evaluation = match &args.eval {
        Some(path) => {
            let options = DataOptions { samples: None, seed: None, ..data_options(&args.data, path)? };
            Some(Samples::open(&model.graph, &options)?)
        }
        None => None,
    };
    if !args.quiet {
        calibration.iter().chain(&evaluation).flat_map(Samples::notes).for_each(|text| note(text));
    }
    if let (Some(samples), Some(wanted)) = (&calibration, args.data.samples)
        && samples.len() < wanted.get()
        && !args.quiet
    {
        note(&format!("--samples {wanted}: the data has only {}", samples.len()));
    }
    let name = args.input.as_deref().unwrap_or(Path::new("")).display().to_string();
    let as_read = model.graph.clone();
    let open = |_: &Model| match &calibration {
        Some(samples) => Ok(samples.clone()),
        None => synthesized(&as_read, &shapes, args),
    };
    let statistics = statistics(args, &model)?.map(RefCell::new);
    let lacking = if args.stats.is_some() && calibration.is_none() { Lacking::Refuse } else { Lacking::Observe };
    let engine = args.data.engine.load()?;
    let progress: &dyn Progress = if args.quiet || args.json { &Silent } else { &Terminal };
    let job = Job {
        recipe,
        target,
        settings,
        evaluator: &*engine,
        calibration: &open,
        evaluation: evaluation.as_ref(),
        kept: statistics.as_ref().map(|statistics| Kept { statistics, lacking }),
        threads: threads(&args.data),
        progress,
    };
    let done = driver::run(model, &job).map_err(|error| advise(error, args, &as_read).in_model(&name))?;
    if let (Some(path), Some(statistics)) = (&args.save_stats, &statistics) {
        save(&statistics.borrow(), path, args)?;
    }
    Ok(done)
}

/// The statistics of former runs, or none yet where this run's are to be saved.
fn statistics(args: &QuantizeArgs, model: &Model) -> Result<Option<Statistics>, Error> {
    match &args.stats {
        Some(path) => Statistics::read(path, model).map(Some),
        None => args.save_stats.as_ref().map(|_| Statistics::new(model)).transpose(),
    }
}

fn save(statistics: &Statistics, path: &Path, args: &QuantizeArgs) -> Result<(), Error> {
    if !statistics.is_empty() {
        return statistics.write(path);
    }
    if !args.quiet {
        note("--save-stats: nothing was observed, so nothing was saved");
    }
    Ok(())
}

/// How many samples are made up where none are given.
const SYNTHESIZED_SAMPLES: usize = 32;

fn synthesized(graph: &Graph, shapes: &BTreeMap<String, Vec<usize>>, args: &QuantizeArgs) -> Result<Samples, Error> {
    let specs = synthesize::specs(graph, shapes).map_err(|error| Error::Option(error.to_string()))?;
    let (values, specs): (Vec<_>, Vec<_>) = specs.into_iter().unzip();
    let count = args.data.samples.map_or(SYNTHESIZED_SAMPLES, std::num::NonZeroUsize::get);
    if !args.quiet {
        note("no --calib: the inputs are made up; real samples serve better, pass them with --calib DATA");
    }
    Ok(Samples::synthesized(crate::data::synthesize(&specs, count)?, values))
}

/// Whether ONNX Runtime may do what tract can't.
fn may_run_elsewhere(error: &EngineError, args: &QuantizeArgs) -> bool {
    let is_standard = |op_type: &str| !op_type.contains('.') || op_type.starts_with("com.microsoft.");
    args.data.engine == Engine::Tract
        && match error {
            EngineError::Unsupported { operators, .. } => operators.iter().all(|it| is_standard(&it.op_type)),
            EngineError::Prepare { .. } | EngineError::Run { .. } => args.data.calib.is_some(),
        }
}

/// Where inputs are made up, a failure of the engine may be their fault; that it lacks an operator never is. What the
/// built-in engine can't do the other one may.
fn advise(error: Error, args: &QuantizeArgs, graph: &Graph) -> Error {
    let error = match error {
        Error::Engine { source, advice } if may_run_elsewhere(&source, args) => {
            let advice =
                format!("{advice}; onnxruntime may run the model: `--engine ort` in a build with the feature `ort`");
            Error::Engine { source, advice }
        }
        other => other,
    };
    match error {
        Error::Engine { source, advice }
            if args.data.calib.is_none() && !matches!(source, EngineError::Unsupported { .. }) =>
        {
            let inputs = described_inputs(graph);
            let advice = format!(
                "the data for {inputs} was made up: give real data with `--calib`, or shapes with `--input-shape`; {advice}"
            );
            Error::Engine { source, advice }
        }
        other => other,
    }
}

/// A shape for an input that is none is a slip of the pen, also where data makes shapes needless.
fn check_shapes(graph: &Graph, shapes: &BTreeMap<String, Vec<usize>>) -> Result<(), Error> {
    let is_input = |name: &String| graph.inputs().iter().any(|input| graph.value(input.value).name() == name);
    match shapes.keys().find(|name| !is_input(name)) {
        Some(name) => {
            let inputs = described_inputs(graph);
            Err(Error::Option(format!("`--input-shape`: there is no input `{name}`; there are {inputs}")))
        }
        None => Ok(()),
    }
}

/// `` `image` float[N, 1, 28, 28] ``, for every input without a default.
fn described_inputs(graph: &Graph) -> String {
    let inputs =
        graph.inputs().iter().filter(|input| !matches!(graph.value(input.value).origin(), Origin::Input(Some(_))));
    let described = inputs.map(|input| {
        let name = graph.value(input.value).name();
        input.value_type.tensor().map_or_else(|| format!("`{name}`"), |known| format!("`{name}` {known}"))
    });
    described.collect::<Vec<_>>().join(", ")
}

/// What the options say of data at `path`.
pub(crate) fn data_options(args: &DataArgs, path: &Path) -> Result<DataOptions, Error> {
    Ok(DataOptions {
        path: path.to_owned(),
        preprocess: args.preprocess.as_deref().map(Preprocess::load).transpose()?,
        samples: args.samples.map(std::num::NonZeroUsize::get),
        seed: args.seed,
        decode_tensor: |bytes| onnx::decode_tensor(bytes).map_err(|problem| problem.to_string()),
    })
}

/// Threads: as asked, or as many as the process may use.
pub(crate) fn threads(args: &DataArgs) -> usize {
    args.threads.or_else(|| std::thread::available_parallelism().ok()).map_or(1, std::num::NonZeroUsize::get)
}

pub(crate) fn input_shapes(args: &DataArgs) -> Result<BTreeMap<String, Vec<usize>>, Error> {
    let parsed = args.input_shape.iter().map(|text| synthesize::parse_input_shape(text));
    parsed.collect::<Result<_, _>>().map_err(|error| Error::Option(error.to_string()))
}

/// What options and recipe say of nodes, found in the model as it was read.
fn selection(args: &QuantizeArgs, recipe: &Recipe, graph: &Graph) -> Result<Selection, Error> {
    let mut selection = Selection::new(graph);
    for text in &args.include {
        selection.include(text).map_err(|error| Error::Option(format!("`--include {text}`: {error}")))?;
    }
    for text in &args.exclude {
        selection.exclude(text).map_err(|error| Error::Option(format!("`--exclude {text}`: {error}")))?;
    }
    for own in &recipe.overrides {
        selection.set(own).map_err(|error| Error::Definition {
            kind: "recipe",
            name: args.recipe.clone(),
            reason: format!("override of `{}`: {error}", own.nodes),
        })?;
    }
    Ok(selection)
}

/// Refuses what is no gain.
fn gate(args: &QuantizeArgs, recipe: &Recipe, done: &Done, report: &Report) -> Result<(), Error> {
    if let Some(check) = report.check.as_ref().filter(|check| !check.is_confirmed()) {
        return Err(Error::Refused(format!("{}; nothing was written", check.complaint())));
    }
    if recipe.is_none() {
        return Ok(());
    }
    if done.is_empty() {
        if args.allow_noop {
            return Ok(());
        }
        return Err(Error::Refused(report.why_nothing()));
    }
    if let Some(least) = args.min_sqnr.and_then(Threshold::db) {
        reaches(least, &done.measured)?;
    }
    if report.sizes.after > report.sizes.before && args.storage_is_codes() {
        return Err(Error::Refused(format!(
            "the result would be larger than the model ({} bytes against {}): what was quantized saves less than scales, \
             zero points and codes of weights that others read as floats take; nothing was written",
            report.sizes.after, report.sizes.before
        )));
    }
    Ok(())
}

/// Whether the output has what the user asked for; what is not known is refused too.
fn reaches(least: f64, measured: &Measured) -> Result<(), Error> {
    let quality = match measured {
        Measured::Quality { quality, .. } => quality,
        Measured::Not(reason) => {
            return Err(Error::Refused(format!(
                "--min-sqnr can't be checked, since the output was not measured: {reason}; give --eval or --calib; no model was \
                 written"
            )));
        }
    };
    let worst = quality.worst_db();
    if worst < least {
        return Err(Error::Refused(format!(
            "the output has an SQNR of {worst:.1} dB, less than the {least:.1} dB of --min-sqnr; no model was written"
        )));
    }
    Ok(())
}

impl QuantizeArgs {
    fn storage_is_codes(&self) -> bool {
        !matches!(self.storage, super::args::StorageArg::Float)
    }
}

fn write(args: &QuantizeArgs, model: &Model, input: &Path, output: &Path) -> Result<Written, Error> {
    let mut inputs: Vec<PathBuf> = vec![input.to_owned()];
    inputs.extend(args.data.calib.clone());
    inputs.extend(args.eval.clone());
    let external_data = if args.external_data { ExternalData::Always } else { ExternalData::Auto };
    Ok(onnx::write(model, output, &WriteOptions { external_data, inputs })?)
}

fn tell(args: &QuantizeArgs, report: &Report) -> Result<(), Error> {
    if args.json {
        say(&report.json())?;
    } else if !args.quiet {
        say(&report.summary())?;
        if args.verbose {
            say(&report.details())?;
        }
    }
    Ok(())
}
