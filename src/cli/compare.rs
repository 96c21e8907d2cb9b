//! `onnxq compare A B --calib DATA`: how far B's outputs are from A's.

use std::fmt::Write as _;
use std::path::Path;

use onnxq_ir::{Graph, Origin, ValueId};
use onnxq_plan::{EngineError, Request, Sample};

use super::args::CompareArgs;
use super::quantize::{data_options, input_shapes, threads};
use super::{note, say};
use crate::error::Error;
use crate::measure::{Quality, Reference, compare, output_pairs};
use crate::progress::{Progress as _, Silent, Terminal};
use crate::readied::readied;
use crate::report::{output_line, sqnr, top1_line};
use crate::samples::Samples;
use crate::{onnx, synthesize};

pub(crate) fn run(args: &CompareArgs) -> Result<(), Error> {
    let quality = measure(args)?;
    if args.json {
        let json = serde_json::to_string_pretty(&quality).map_err(|error| Error::Broken(error.to_string()))?;
        say(&(json + "\n"))?;
    } else {
        say(&text(&quality))?;
    }
    Ok(())
}

fn measure(args: &CompareArgs) -> Result<Quality, Error> {
    let (reference, _) = readied(onnx::read(&args.reference)?)?;
    let (other, _) = readied(onnx::read(&args.other)?)?;
    let pairs = output_pairs(&reference.graph, &other.graph);
    if pairs.is_empty() {
        let [ours, theirs] = [&reference, &other].map(|model| output_names(&model.graph));
        return Err(Error::Option(format!(
            "the models have no float output of the same name: {ours} against {theirs}"
        )));
    }
    check_inputs(&reference.graph, &other.graph)?;
    let samples = match &args.data.calib {
        Some(path) => Samples::open(&reference.graph, &data_options(&args.data, path)?)?,
        None => {
            note("no --calib: the inputs are made up; real samples serve better, pass them with --calib DATA");
            let specs = synthesize::specs(&reference.graph, &input_shapes(&args.data)?);
            let (values, specs): (Vec<_>, Vec<_>) =
                specs.map_err(|error| Error::Option(error.to_string()))?.into_iter().unzip();
            Samples::synthesized(crate::data::synthesize(&specs, 8)?, values)
        }
    };
    let (of_reference, of_other): (Vec<ValueId>, Vec<ValueId>) =
        pairs.iter().map(|pair| (pair.reference, pair.other)).unzip();
    let engine = args.data.engine.load()?;
    let of = |path: &Path| {
        let model = path.display().to_string();
        move |source| advice(source).in_model(&model)
    };
    let request = Request { model: &reference, plan: None, taps: &of_reference };
    let a = engine.prepare(&request).map_err(of(&args.reference))?;
    let request = Request { model: &other, plan: None, taps: &of_other };
    let b = engine.prepare(&request).map_err(of(&args.other))?;
    // Inputs are matched by name.
    let translate = |sample: &Sample| Sample {
        index: sample.index,
        inputs: sample
            .inputs
            .iter()
            .filter_map(|(value, tensor)| {
                Some((other.graph.find_value(reference.graph.value(*value).name())?, tensor.clone()))
            })
            .collect(),
    };
    let bar =
        if args.json { Silent.start("comparing", samples.len()) } else { Terminal.start("comparing", samples.len()) };
    let stream = samples.stream()?;
    let threads = threads(&args.data).min(samples.len());
    let models = (Reference::Run(&*a), &*b);
    let quality: Quality =
        compare(models, &pairs, stream, samples.labels(), threads, &translate, || bar.advance()).map_err(readvise)?;
    match pairs.iter().find(|pair| !quality.outputs.iter().any(|output| output.name == pair.name)) {
        Some(pair) => Err(Error::Option(format!("output `{}` has another size in the second model", pair.name))),
        None => Ok(quality),
    }
}

/// Nothing is quantized here, so that advice on quantizing is beside the point.
fn readvise(error: Error) -> Error {
    match error {
        Error::Engine { source, .. } => advice(source),
        other => other,
    }
}

fn advice(source: EngineError) -> Error {
    Error::Engine { source, advice: "compare such models in the runtime that they are for".to_owned() }
}

/// Samples are the reference's: the other model must not want more.
fn check_inputs(reference: &Graph, other: &Graph) -> Result<(), Error> {
    let names = |graph: &Graph| -> Vec<String> {
        let wanted = graph.inputs().iter().map(|input| graph.value(input.value));
        wanted.filter(|value| *value.origin() == Origin::Input(None)).map(|value| value.name().to_owned()).collect()
    };
    let (ours, theirs) = (names(reference), names(other));
    if theirs.iter().all(|name| ours.contains(name)) {
        return Ok(());
    }
    let listed = |names: &[String]| names.iter().map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", ");
    Err(Error::Option(format!("the models have different inputs: {} against {}", listed(&ours), listed(&theirs))))
}

fn output_names(graph: &Graph) -> String {
    let names = graph.outputs().iter().map(|output| format!("`{}`", graph.value(output.value).name()));
    names.collect::<Vec<_>>().join(", ")
}

fn text(quality: &Quality) -> String {
    let mut text = format!("{}, over {} samples\n", sqnr(quality), quality.samples);
    for output in &quality.outputs {
        let _ = writeln!(text, "  {}", output_line(output));
    }
    if let Some(top1) = &quality.top1 {
        let _ = writeln!(text, "  top-1 {}", top1_line(top1));
    }
    text
}
