//! What `onnxq lint` predicts, set beside what onnxruntime does.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use onnxq::lint::optimized::Taken;
use onnxq::lint::{Kernels, Lint};
use onnxq::{onnx, target};
use onnxq_ir::Model;

use crate::oracle::Oracle;
use crate::tool::{Folder, shared, shipped, tell};

fn kernels() -> Kernels {
    Kernels::of(&target::load("ort-cpu").expect("a target")).expect("its kernels")
}

/// A form, and what must be said of its nodes: a kernel, or a reason's name.
struct Form {
    name: String,
    model: Model,
    expected: Vec<(String, String)>,
}

fn forms() -> Vec<Form> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("testdata/lint");
    let mut paths: Vec<PathBuf> =
        folder.read_dir().expect("forms").map(|entry| entry.expect("a file").path()).collect();
    paths.sort();
    let form = |path: &PathBuf| {
        let text = fs::read_to_string(path).expect("a form");
        let expected = text.lines().filter_map(|line| line.strip_prefix("# expect: ")?.split_once(' '));
        let expected: Vec<_> = expected.map(|(node, what)| (node.to_owned(), what.to_owned())).collect();
        assert!(!expected.is_empty(), "{}: nothing is expected", path.display());
        let model = onnxq_ir::text::parse(&text).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        Form { name: path.file_stem().expect("a name").to_string_lossy().into_owned(), model, expected }
    };
    paths.iter().map(form).collect()
}

/// All that is said of a node.
fn said(lint: &Lint, node: &str) -> Vec<String> {
    let verdicts = lint.verdicts.iter().filter(|verdict| verdict.node == node).map(|verdict| match &verdict.kernel {
        Ok(kernel) => kernel.clone(),
        Err(reason) => reason.name().to_owned(),
    });
    let findings = lint.findings.iter().filter(|finding| finding.node.as_deref() == Some(node) && !finding.is_float);
    verdicts.chain(findings.map(|finding| finding.reason.name().to_owned())).collect()
}

#[test]
fn every_form_is_told() {
    let kernels = kernels();
    let mut wrong = Vec::new();
    for form in forms() {
        let lint = Lint::of(&form.model, &kernels, None);
        let mut nodes: Vec<&String> = form.expected.iter().map(|(node, _)| node).collect();
        nodes.dedup();
        for node in nodes {
            let expected: Vec<&String> =
                form.expected.iter().filter(|(of, _)| of == node).map(|(_, what)| what).collect();
            let said = said(&lint, node);
            if said.iter().collect::<Vec<_>>() != expected {
                wrong.push(format!("{}: `{node}` is {expected:?}, but told is {said:?}", form.name));
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

/// The runtime does with every form what is predicted, conversions included.
#[test]
fn the_runtime_does_so() {
    let Some(oracle) = Oracle::find() else { return };
    let kernels = kernels();
    let folder = Folder::new("lint_forms");
    let forms = forms();
    let mut words = vec!["optimize".to_owned()];
    for form in &forms {
        let path = folder.path(&format!("{}.onnx", form.name));
        fs::write(&path, onnx::to_bytes(&form.model).expect("it can be written")).expect("a file");
        words.extend([path, folder.path(&format!("{}.opt.onnx", form.name))].map(|path| path.display().to_string()));
    }
    let answer = oracle.ask(&words.iter().map(String::as_str).collect::<Vec<_>>());
    let mut wrong = Vec::new();
    for (form, answer) in forms.iter().zip(answer.as_array().expect("a list")) {
        assert_eq!(answer["ok"], true, "{answer}");
        let taken =
            Taken::of(&onnx::read(&folder.path(&format!("{}.opt.onnx", form.name))).expect("a model"), &kernels);
        let lint = Lint::of(&form.model, &kernels, None);
        wrong.extend(taken.differences(&lint).into_iter().map(|difference| format!("{}: {difference:?}", form.name)));
        if taken.running != lint.running {
            wrong.push(format!("{}: {:?} run, predicted {:?}", form.name, taken.running, lint.running));
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

/// A trained model with its data, and the settings to quantize it with.
struct Trained {
    name: &'static str,
    model: PathBuf,
    data: PathBuf,
    settings: &'static [&'static str],
}

/// Those that ship under every setting, and the shared ones, where they are, under those in which most can go wrong.
fn trained() -> Vec<Trained> {
    const ALL: &[&str] = &["default", "per-channel", "operators", "unsigned-weights", "inputs", "16-bit", "dynamic"];
    let ship = |name: &'static str| Trained {
        name,
        model: shipped().join(name).with_extension("onnx"),
        data: shipped().join("calib.npz"),
        settings: ALL,
    };
    let mut models = vec![ship("deit_fmnist"), ship("cnn_bn")];
    if let Some(shared) = shared() {
        for name in ["swin_ish", "lm_tiny", "unet_ddpm", "mamba_ish"] {
            let folder = shared.join(name);
            let (model, data) = (folder.join("op17.onnx"), folder.join("calib.npz"));
            models.push(Trained { name, model, data, settings: &["default", "inputs", "dynamic"] });
        }
    }
    models
}

/// Files of onnxruntime's quantizer under the settings that people use, and ours: each kernel and each node.
#[test]
fn files_of_quantizers_run_as_predicted() {
    let Some(oracle) = Oracle::find() else { return };
    let folder = Folder::new("lint_files");
    let mut files = Vec::new();
    for trained in trained() {
        let Trained { name, settings, .. } = trained;
        let (model, data) = (trained.model.display().to_string(), trained.data.display().to_string());
        for setting in settings {
            let out = folder.path(&format!("{name}.{setting}.onnx"));
            oracle.ask(&["quantize", setting, &model, out.to_str().expect("UTF-8"), "--data", &data]);
            files.push(out);
        }
        let out = format!("{name}.onnxq.onnx");
        folder.run(&format!("{model} {out} --calib {data} --samples 2 --quiet")).done();
        files.push(folder.path(&out));
    }
    for file in files {
        check_file(&oracle, &folder, &file);
    }
}

fn check_file(oracle: &Oracle, folder: &Folder, file: &Path) {
    let kernels = kernels();
    let name = file.file_name().expect("a name").to_string_lossy().into_owned();
    let optimized = file.with_extension("opt");
    oracle.ask(&["optimize", file.to_str().expect("UTF-8"), optimized.to_str().expect("UTF-8")]);
    let taken = Taken::of(&onnx::read(&optimized).expect("a model"), &kernels);
    // As a person would ask, shapes inferred.
    let report = folder.run(&format!("lint {name} --json")).json();
    let mut model = onnx::read(file).expect("a model");
    assert_eq!(onnxq::lint::infer(&mut model), 0, "{name}: shapes are not known");
    let lint = Lint::of(&model, &kernels, None);
    assert_eq!(report["kernels"], serde_json::to_value(&lint.kernels).expect("JSON"), "{name}");
    let differences = taken.differences(&lint);
    let conversions = taken.running.total().abs_diff(lint.running.total());
    tell(&format!(
        "{name}: {} operators, {} differ; {} conversions run, {} predicted",
        lint.verdicts.len(),
        differences.len(),
        taken.running.total(),
        lint.running.total()
    ));
    assert!(differences.is_empty(), "{name}: {differences:#?}");
    // Of shape arithmetic onnxruntime folds a little more than is known here, and a few conversions go with it.
    assert!(conversions * 50 <= taken.running.total(), "{name}: {:?} run, predicted {:?}", taken.running, lint.running);
}

/// Every model at hand, in every export, with its calibration data where that is a file.
fn every_model() -> Vec<(PathBuf, Option<PathBuf>)> {
    let shared = shared().map(|shared| shared.read_dir().expect("models").map(|entry| entry.expect("a folder").path()));
    let folders = std::iter::once(shipped()).chain(shared.into_iter().flatten()).filter(|path| path.is_dir());
    let mut models = Vec::new();
    for folder in folders {
        let data = Some(folder.join("calib.npz")).filter(|data| data.is_file());
        let files = folder.read_dir().expect("files").map(|entry| entry.expect("a file").path());
        let is_model = |path: &PathBuf| path.extension().is_some_and(|extension| extension == "onnx");
        models.extend(files.filter(is_model).map(|model| (model, data.clone())));
    }
    models.sort();
    models
}

/// Every operator of the plan is one integer kernel of the runtime's graph, or moves codes there; no other kernel is, and no
/// conversion runs for nothing.
#[test]
fn what_is_planned_is_what_runs() {
    let Some(oracle) = Oracle::find() else { return };
    let folder = Folder::new("lint_planned");
    let models = every_model();
    assert!(models.len() >= 2);
    for (i, (model, data)) in models.iter().enumerate() {
        let data = data.as_ref().map_or_else(String::new, |data| format!("--calib {}", data.display()));
        // Ranges decide nothing here.
        let all = "--calibrator minmax --min-sqnr off --min-node-sqnr off --samples 2";
        let words = format!("{} {i}.onnx {data} {all} --json", model.display());
        let report = folder.run(&words).done().json();
        let (file, optimized) = (folder.path(&format!("{i}.onnx")), folder.path(&format!("{i}.opt")));
        oracle.ask(&["optimize", file.to_str().expect("UTF-8"), optimized.to_str().expect("UTF-8")]);
        let taken = Taken::of(&onnx::read(&optimized).expect("a model"), &kernels());
        let name = model.display();
        assert_eq!(planned_kernels(&report["quantized"]), merged(&taken.kernels), "{name}");
        assert_eq!((taken.stranded.total(), taken.vectors), (0, 0), "{name}: {:?} run", taken.running);
    }
}

/// The kernels that the operators of a plan are to become; both of a product are one.
fn planned_kernels(quantized: &serde_json::Value) -> BTreeMap<String, u64> {
    // On codes as they are, or rows of codes, which are scaled behind it.
    const NO_KERNELS: [&str; 10] =
        ["Embedding", "MaxPool", "Resize", "Reshape", "Transpose", "Flatten", "Squeeze", "Unsqueeze", "Slice", "Split"];
    let quantized = quantized.as_object().expect("kinds");
    let kinds = quantized.iter().filter(|(kind, _)| !NO_KERNELS.contains(&kind.as_str()));
    let kernel = |kind: &str| if kind == "Linear" { PRODUCT.to_owned() } else { format!("QLinear{kind}") };
    kinds.map(|(kind, count)| (kernel(kind), count.as_u64().expect("a count"))).collect()
}

const PRODUCT: &str = "MatMulIntegerToFloat or QGemm";

fn merged(kernels: &BTreeMap<String, usize>) -> BTreeMap<String, u64> {
    let mut merged = BTreeMap::new();
    for (kernel, count) in kernels {
        let name = if matches!(kernel.as_str(), "MatMulIntegerToFloat" | "QGemm") { PRODUCT } else { kernel };
        *merged.entry(name.to_owned()).or_insert(0) += *count as u64;
    }
    merged
}

#[test]
fn a_slow_file_is_told_why() {
    let Some(oracle) = Oracle::find() else { return };
    let folder = Folder::with("lint_slow", &["deit_fmnist.onnx", "cnn_bn.onnx", "calib.npz"]);
    let ask = |setting: &str, model: &str, out: &str| {
        let path = |name: &str| folder.path(name).display().to_string();
        oracle.ask(&["quantize", setting, &path(model), &path(out), "--data", &path("calib.npz")]);
    };
    ask("default", "deit_fmnist.onnx", "slow.onnx");
    let outcome = folder.run("lint slow.onnx").refused();
    for text in [
        "slow.onnx for ort-cpu\n  integer    30 QLinearMatMul, 5 QLinearSoftmax, 1 QGemm\n",
        "running    73 QuantizeLinear, 150 DequantizeLinear",
        "warning: 1 Conv runs in float: activations are int8 and their QuantizeLinear has several readers",
        "change   quantize activations as uint8",
        "`/patch_embed/proj/Conv`",
        "warning: the model: 165 QuantizeLinear and DequantizeLinear run for 36 integer kernels",
        "5 Div, 11 LayerNormalization, 2 Shape run in float: the runtime has no integer kernel for it",
    ] {
        assert!(outcome.stdout.contains(text), "{text}: {}", outcome.stdout);
    }
    assert_eq!(outcome.stderr, "");
    if let Some(shared) = shared() {
        // The structure decides, not the data: random numbers do.
        let model = shared.join("deit_tiny/op17.onnx").display().to_string();
        oracle.ask(&["quantize", "default", &model, folder.path("deit_tiny.onnx").to_str().expect("UTF-8")]);
        let told = folder.run("lint deit_tiny.onnx -v").refused().stdout;
        for text in [
            "72 QLinearMatMul, 12 QLinearSoftmax, 1 QGemm\n",
            "running    164 QuantizeLinear, 339 DequantizeLinear",
            "warning: the model: 368 QuantizeLinear and DequantizeLinear run for 85 integer kernels",
            "`/blocks/blocks.11/norm2/LayerNormalization`",
            "`/blocks/blocks.11/attn/Softmax`",
            "`/blocks/blocks.11/mlp/act/Div`",
            "`/blocks/blocks.11/Add_1`",
        ] {
            assert!(told.contains(text), "{text}: {told}");
        }
    }
    ask("dynamic", "cnn_bn.onnx", "dynamic.onnx");
    let report = folder.run("lint dynamic.onnx --json").refused().json();
    assert_eq!((&report["warns"], &report["kernels"]["ConvInteger"]), (&true.into(), &22.into()));
    assert_eq!(report["findings"][0]["reason"], "slow-kernel");
    assert_eq!(report["findings"][0]["nodes"].as_array().expect("a list").len(), 22);
}

#[test]
fn our_own_result_is_clean() {
    let folder = Folder::with("lint_own", &["deit_fmnist.onnx", "cnn_bn.onnx", "calib.npz"]);
    for (model, line) in [
        ("deit_fmnist", "lint       20 MatMulIntegerToFloat, 1 QGemm, 0 stranded\n"),
        ("cnn_bn", "lint       22 QLinearConv, 5 QLinearAdd, 1 QGemm, 0 stranded\n"),
    ] {
        let words = format!("{model}.onnx {model}.int8.onnx --calib calib.npz --samples 2");
        let summary = folder.run(&words).done().stdout;
        assert!(summary.contains(line), "{summary}");
        let report = folder.run(&format!("{words} --json")).done().json();
        let lint = folder.run(&format!("lint {model}.int8.onnx --json")).done().json();
        assert_eq!((&report["lint"]["warnings"], &lint["warns"]), (&0.into(), &false.into()));
        for what in ["kernels", "running", "stranded"] {
            assert_eq!(report["lint"][what], lint[what], "{what}: what is written is what was predicted");
        }
    }
    let generic = folder.run("deit_fmnist.onnx out.onnx --calib calib.npz --samples 2 --target generic").done();
    assert!(!generic.stdout.contains("lint"), "{}", generic.stdout);
}

#[test]
fn older_releases() {
    let folder = Folder::with("lint_old", &["deit_fmnist.onnx", "calib.npz"]);
    folder.run("deit_fmnist.onnx w4.onnx --bits w4 --storage native --quiet").done();
    let old = folder.run("lint w4.onnx --min-ort 1.18").refused().stdout;
    for text in ["4-bit codes (22 of them): from 1.19 on", "the kernel MatMulNBits: from 1.32 on"] {
        assert!(old.contains(text), "{text}: {old}");
    }
    let newer = folder.run("lint w4.onnx --min-ort 1.32").refused().stdout;
    assert!(!newer.contains("on\n  change   write an older form"), "{newer}");
    let older = folder.run("lint w4.onnx --min-ort 1.16.3").refused().stdout;
    assert!(older.contains("opset 21: from 1.18 on"), "{older}");
    let float = folder.run("lint deit_fmnist.onnx").done().stdout;
    assert_eq!(float, "deit_fmnist.onnx for ort-cpu\n  nothing    is quantized in this model\n");
}

#[test]
fn what_can_not_be_linted_is_one_error() {
    let folder = Folder::with("lint_errors", &["cnn_bn.onnx"]);
    for (words, text) in [
        ("lint cnn_bn.onnx --target generic", "target `generic`: has no kernel rules to predict by"),
        ("lint cnn_bn.onnx --target nothing", "target `nothing`: there is none of that name"),
        ("lint nothing.onnx", "nothing.onnx: can't be opened"),
        ("lint cnn_bn.onnx --min-ort x", "`x` is no version: give two numbers such as 1.18"),
    ] {
        let outcome = folder.run(words);
        assert_eq!(outcome.code, Some(2), "{words}: {}", outcome.stderr);
        assert!(outcome.stderr.contains(text) && outcome.stderr.lines().count() == 1, "{words}: {}", outcome.stderr);
    }
}
