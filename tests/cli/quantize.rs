//! What the options of `onnxq IN OUT` do.

use crate::arrays::{floats, npy, npz};
use crate::models::{self, save, weights};
use crate::oracle::Oracle;
use crate::tool::Folder;

const CALIBRATED: &str = "cnn_bn.onnx out.onnx --calib calib.npz --samples 8";

fn folder(test: &str) -> Folder {
    Folder::with(test, &["cnn_bn.onnx", "deit_fmnist.onnx", "calib.npz", "test.npz"])
}

#[test]
fn a_run_closes_with_a_summary() {
    let folder = folder("summary");
    let outcome = folder.run("deit_fmnist.onnx out.onnx --calib calib.npz --samples 8 --eval test.npz").done();
    assert_eq!(outcome.stderr, "");
    for text in [
        "deit_fmnist.onnx -> out.onnx",
        "size       2.32 MB -> ",
        "recipe     int8 w8a8 for ort-cpu, 8 samples",
        "quantized  21 Linear",
        "left float",
        "10 MatMul",
        "600 samples on evaluation data: SQNR ",
        "`logits` ",
        "top-1 agreement ",
        "standard error ",
    ] {
        assert!(outcome.stdout.contains(text), "{text}: {}", outcome.stdout);
    }
    let verbose = folder.run("deit_fmnist.onnx out.onnx --calib calib.npz --samples 8 -v").done().stdout;
    for text in ["2 samples on calibration samples left out of the fit", "select-sites", "insert-qdq", "declined"] {
        assert!(verbose.contains(text), "{text}: {verbose}");
    }
}

#[test]
fn the_report_as_json() {
    let folder = folder("json");
    let outcome = folder.run("deit_fmnist.onnx out.onnx --calib calib.npz --samples 8 --eval test.npz --json").done();
    assert_eq!(outcome.stderr, "");
    let report = outcome.json();
    assert_eq!(report["input"], "deit_fmnist.onnx");
    assert_eq!(report["output"], "out.onnx");
    assert_eq!(
        (&report["recipe"], &report["target"], &report["bits"]),
        (&"int8".into(), &"ort-cpu".into(), &"w8a8".into())
    );
    assert_eq!(report["samples"], 8);
    assert_eq!(report["sizes"]["before"], folder.read("deit_fmnist.onnx").len());
    assert_eq!(report["sizes"]["after"], folder.read("out.onnx").len());
    assert_eq!(report["quantized"]["Linear"], 21);
    let left = report["left_float"].as_array().expect("a list");
    let nodes: usize = left.iter().map(|group| group["nodes"].as_array().expect("a list").len()).sum();
    assert_eq!(nodes, 11, "one Conv and ten products of activations: {left:?}");
    let quality = &report["quality"];
    assert_eq!((&quality["on"], &quality["samples"]), (&"evaluation-data".into(), &600.into()));
    assert_eq!(quality["outputs"][0]["name"], "logits");
    assert_eq!(quality["outputs"][0]["sqnr_db"], quality["sqnr_db"]);
    assert!((0.88..0.93).contains(&quality["top1"]["quantized"].as_f64().expect("a number")), "{quality}");
    assert!(quality["top1"]["standard_error"].as_f64().is_some_and(|error| error < 0.02), "{quality}");
    let passes: Vec<&str> =
        report["passes"].as_array().expect("a list").iter().filter_map(|pass| pass["pass"].as_str()).collect();
    assert!(passes.contains(&"auto") && passes.ends_with(&["insert-qdq", "tie-constants"]), "{passes:?}");
}

#[test]
fn quiet_says_nothing() {
    let folder = folder("quiet");
    for words in ["cnn_bn.onnx out.onnx --quiet", "cnn_bn.onnx out.onnx --calib calib.npz -q"] {
        let outcome = folder.run(words).done();
        assert_eq!((outcome.stdout.as_str(), outcome.stderr.as_str()), ("", ""), "{words}");
        assert!(folder.has("out.onnx"));
    }
}

#[test]
fn a_dry_run_prints_the_plan_and_writes_nothing() {
    let folder = folder("dry-run");
    let before = folder.contents();
    for words in [
        "cnn_bn.onnx --dry-run --calib calib.npz --samples 4",
        "cnn_bn.onnx out.onnx --dry-run --calib calib.npz --samples 4",
    ] {
        let plan = folder.run(words).done().stdout;
        assert!(plan.contains("Conv `/stem/Conv` input 0 `image`: u8 affine, scale "), "{plan}");
        assert!(
            plan.contains("Linear `/fc/Gemm` input 1 `fc.weight`: s8 symmetric per channel (axis 0), 10 channels"),
            "{plan}"
        );
        assert_eq!(folder.contents(), before, "{words}");
    }
    models::save(&models::elementwise(), &folder.path("elementwise.onnx"));
    folder.run("elementwise.onnx --dry-run").refused();
}

#[test]
fn a_dry_run_prints_the_plan_as_json() {
    let folder = folder("dry-run-json");
    let words = "cnn_bn.onnx --dry-run --calib calib.npz --samples 4 --exclude re:blocks.0/";
    let report = folder.run(&format!("{words} --json")).done().json();
    let sites = report["plan"]["sites"].as_array().expect("a list");
    assert_eq!(sites.len(), folder.run(words).done().stdout.lines().count(), "one line of text a site");
    let find = |node: &str, slot: u64| {
        let found = sites.iter().find(|site| site["node"] == node && site["slot"] == slot);
        found.unwrap_or_else(|| panic!("{node} {slot}: {sites:?}"))
    };
    let activation = find("/fc/Gemm", 0);
    assert_eq!((&activation["site"], &activation["operator"]), (&"operand".into(), &"Linear".into()));
    assert_eq!((&activation["scheme"], &activation["axis"]), (&"u8 affine".into(), &serde_json::Value::Null));
    assert!(activation["scale"][0].as_f64().is_some_and(|scale| scale > 0.0), "{activation}");
    assert_eq!(activation["zero_point"].as_array().map(Vec::len), Some(1));
    let weight = find("/fc/Gemm", 1);
    assert_eq!((&weight["value"], &weight["axis"]), (&"fc.weight".into(), &0.into()));
    assert_eq!(weight["scale"].as_array().map(Vec::len), Some(10));
    assert!(sites.iter().any(|site| site["site"] == "output" && site["slot"].is_null()), "{sites:?}");
    let float = report["plan"]["float"].as_array().expect("a list");
    let excluded = serde_json::json!({ "node": "/blocks/blocks.0/pw/Conv", "operator": "Conv", "reason": "excluded: by --exclude" });
    assert!(float.contains(&excluded), "{float:?}");
    // Without --dry-run there is no plan in the report.
    let report = folder.run(&format!("{CALIBRATED} --json")).done().json();
    assert_eq!(report.get("plan"), None);
}

#[test]
fn the_printed_recipe_is_a_recipe() {
    let folder = folder("print-recipe");
    let words = "--recipe int8 --bits w4a8 --calibrator percentile --set percentile.percentile=99.9";
    let printed = folder.run(&format!("{words} --print-recipe")).done().stdout;
    assert!(printed.contains("w4a8") && printed.contains("99.9"), "{printed}");
    folder.write("own.toml", &printed);
    folder.run(&format!("cnn_bn.onnx a.onnx --calib calib.npz --samples 8 {words}")).done();
    folder.run("cnn_bn.onnx b.onnx --calib calib.npz --samples 8 --recipe own.toml").done();
    assert!(folder.read("a.onnx") == folder.read("b.onnx"), "the printed recipe does something else");
    assert_eq!(folder.run("--recipe own.toml --print-recipe").done().stdout, printed);
}

#[test]
fn weights_alone_need_no_data() {
    let folder = folder("weights");
    for bits in ["w8", "w4"] {
        let report = folder.run(&format!("deit_fmnist.onnx out.onnx --bits {bits} --json")).done().json();
        assert_eq!((&report["bits"], &report["samples"]), (&bits.into(), &0.into()));
        assert_eq!(report["quantized"]["Linear"], 21);
        let info = folder.run("info out.onnx").done().stdout;
        assert!(!info.contains(" QuantizeLinear"), "activations stay float: {info}");
    }
    // What the engine can't run is no obstacle.
    models::save(&models::custom_operator(), &folder.path("custom.onnx"));
    let outcome = folder.run("custom.onnx out.onnx --bits w8").done();
    assert!(
        outcome.stdout.contains("`y` is out of the engine's reach or a selection; in its place: `m`"),
        "{}",
        outcome.stdout
    );
}

#[test]
fn storage() {
    let folder = folder("storage");
    let sizes: Vec<usize> = ["int8", "native", "float"]
        .iter()
        .map(|storage| {
            let words = format!(
                "deit_fmnist.onnx {storage}.onnx --calib calib.npz --samples 8 --bits w4a8 --storage {storage}"
            );
            folder.run(&words).done();
            folder.read(&format!("{storage}.onnx")).len()
        })
        .collect();
    assert!(sizes[1] < sizes[0] && sizes[0] < sizes[2], "{sizes:?}");
    assert!(folder.run("info native.onnx").done().stdout.contains("int4"));
    let weights = folder.run("info float.onnx --json").done().json()["weight_types"].take();
    assert_eq!(weights.get("int8"), None, "weights are floats: {weights}");
    if let Some(oracle) = Oracle::find() {
        let paths = ["int8.onnx", "native.onnx", "float.onnx"].map(|name| folder.path(name));
        oracle.check(&paths.each_ref().map(std::path::PathBuf::as_path));
        // All three are the same function.
        let [reference, others @ ..] = &paths;
        for other in others {
            let test = folder.path("test.npz");
            let [reference, other, test] = [reference, other, &test].map(|path| path.to_str().expect("UTF-8"));
            let words = ["top1", other, test, "--against", reference, "--opt", "none"];
            let sqnr = oracle.ask(&words)["against"]["mean_sqnr_db"].as_f64().expect("a number");
            assert!(sqnr > 40.0, "{other}: {sqnr} dB");
        }
    }
}

#[test]
fn external_data() {
    let folder = folder("external");
    folder.run(&format!("{CALIBRATED} --external-data")).done();
    let files: Vec<String> = folder.contents().into_keys().filter(|name| name.starts_with("out.onnx")).collect();
    assert_eq!(files.len(), 2, "{files:?}");
    folder.run("cnn_bn.onnx inside.onnx --calib calib.npz --samples 8").done();
    assert!(folder.read("out.onnx").len() < folder.read("inside.onnx").len() / 2);
    assert!(folder.run("info out.onnx").done().stdout.contains("DequantizeLinear"));
    if let Some(oracle) = Oracle::find() {
        oracle.check(&[&folder.path("out.onnx")]);
        let listing = format!("{}\t{}\n", folder.path("out.onnx").display(), folder.path("inside.onnx").display());
        folder.write("pairs.txt", listing);
        let equal = oracle.ask(&["equal", folder.path("pairs.txt").to_str().expect("UTF-8")]);
        assert_eq!(equal["different"], serde_json::json!([]));
    }
}

#[test]
fn excluded_nodes_stay_float() {
    let folder = folder("exclude");
    let report = folder
        .run(&format!("{CALIBRATED} --exclude /fc/Gemm --exclude re:^/blocks/blocks.[0-3]/ --json"))
        .done()
        .json();
    assert_eq!(report["quantized"].get("Linear"), None);
    // 12 of 22 lie in these blocks, and the depthwise one behind them reads no codes.
    assert_eq!(report["quantized"]["Conv"], 9, "{}", report["quantized"]);
    let nodes: Vec<&str> = report["left_float"]
        .as_array()
        .expect("a list")
        .iter()
        .flat_map(|group| group["nodes"].as_array().expect("a list"))
        .filter_map(serde_json::Value::as_str)
        .collect();
    assert!(nodes.contains(&"/fc/Gemm") && nodes.contains(&"/blocks/blocks.2/dw/Conv"), "{nodes:?}");
}

/// The nodes that a report says stayed float, by the short names of the reasons.
fn left_float(report: &serde_json::Value) -> Vec<(&str, &str)> {
    let groups = report["left_float"].as_array().expect("a list");
    groups
        .iter()
        .flat_map(|group| group["nodes"].as_array().expect("a list").iter().map(move |node| (&group["reason"], node)))
        .filter_map(|(reason, node)| Some((reason.as_str()?, node.as_str()?)))
        .collect()
}

#[test]
fn only_what_is_included_is_quantized() {
    let folder = folder("include");
    let report = folder.run(&format!("{CALIBRATED} --include op:Gemm --json")).done().json();
    assert_eq!(report["quantized"], serde_json::json!({ "Linear": 1 }));
    assert_eq!(left_float(&report).iter().filter(|(reason, _)| *reason == "not-included").count(), 22, "all Conv");
    // A region, without a part of it; exclusion wins.
    let region = "--include /stem/Conv../blocks/blocks.3/pw/Conv --exclude re:blocks.1/";
    let report = folder.run(&format!("{CALIBRATED} {region} --json")).done().json();
    let quantized = report["quantized"]["Conv"].as_u64().expect("a number");
    assert!((2..10).contains(&quantized), "{}", report["quantized"]);
    let left = left_float(&report);
    assert!(left.contains(&("excluded", "/blocks/blocks.1/dw/Conv")), "{left:?}");
    assert!(left.contains(&("not-included", "/blocks/blocks.5/dw/Conv")), "{left:?}");
    assert!(left.contains(&("not-included", "/fc/Gemm")), "{left:?}");
    folder.run(&format!("{CALIBRATED} --include op:Gemm --exclude /fc/Gemm")).refused();
}

/// A node that a pass has taken into another is known by the name that it has in the file.
#[test]
fn names_are_those_of_the_file() {
    let folder = folder("names");
    let report =
        folder.run("deit_fmnist.onnx out.onnx --calib calib.npz --samples 4 --include re:qkv --json").done().json();
    let both = report["quantized"]["Linear"].as_u64().expect("a number");
    assert!(both > 0);
    for node in ["MatMul", "Add"] {
        let words = format!("deit_fmnist.onnx out.onnx --calib calib.npz --samples 4 --include re:qkv/{node}$ --json");
        assert_eq!(folder.run(&words).done().json()["quantized"]["Linear"], both, "{node}");
    }
}

#[test]
fn a_recipe_overrides_single_nodes() {
    let folder = folder("override");
    let recipe = folder.run("--recipe int8 --print-recipe").done().stdout;
    let own = "\n[[override]]\nnodes = \"op:Gemm\"\nweight-bits = 4\nactivation-symmetry = \"symmetric\"\n\n\
               [[override]]\nnodes = \"re:blocks.0/\"\nactivation-bits = \"float\"\n\n\
               [[override]]\nnodes = \"/blocks/blocks.2/dw/Conv\"\nweight-bits = \"float\"\n";
    folder.write("own.toml", format!("{recipe}{own}"));
    let plan = folder.run("cnn_bn.onnx --dry-run --calib calib.npz --samples 4 --recipe own.toml").done().stdout;
    assert!(
        plan.contains("Linear `/fc/Gemm` input 1 `fc.weight`: s4 symmetric per channel (axis 0), 10 channels"),
        "{plan}"
    );
    assert!(
        plan.lines().any(|line| line.starts_with("Linear `/fc/Gemm` input 0 ") && line.contains(": u8 symmetric, "))
    );
    assert!(!plan.contains("Conv `/blocks/blocks.2/dw/Conv`"), "{plan}");
    let first = |line: &&str| line.starts_with("Conv `/blocks/blocks.0/");
    assert!(plan.lines().any(|line| first(&line) && line.contains("input 1 ")), "weights stay in codes: {plan}");
    assert!(!plan.lines().any(|line| first(&line) && line.contains("input 0 ")), "{plan}");
    let printed = folder.run("--recipe own.toml --print-recipe").done().stdout;
    folder.write("printed.toml", &printed);
    assert_eq!(folder.run("--recipe printed.toml --print-recipe").done().stdout, printed);
    assert!(printed.contains("[[override]]") && printed.contains("activation-bits = \"float\""), "{printed}");
}

#[test]
fn which_samples_calibrate() {
    let folder = folder("samples");
    let plan = |rest: &str| folder.run(&format!("cnn_bn.onnx --dry-run --calib calib.npz {rest}")).done().stdout;
    let first = plan("--samples 8");
    assert_eq!(plan("--samples 8"), first);
    assert_ne!(plan("--samples 16"), first);
    let drawn = plan("--samples 8 --seed 1");
    assert_ne!(drawn, first, "the seed draws other samples");
    assert_eq!(plan("--samples 8 --seed 1"), drawn);
    assert_ne!(plan("--samples 8 --seed 2"), drawn);
    // All samples, in whatever order: minmax sees the same.
    assert_eq!(plan("--seed 1"), plan(""));
}

#[test]
fn none_reads_and_writes() {
    let folder = folder("none");
    for name in ["cnn_bn.onnx", "deit_fmnist.onnx"] {
        let outcome = folder.run(&format!("{name} out.onnx --recipe none")).done();
        assert!(folder.read("out.onnx") == folder.read(name), "{name}: other bytes");
        assert!(outcome.stdout.contains("(100 %)"), "{}", outcome.stdout);
    }
    // What is not quantized yet passes through all the same.
    for (name, text) in [("half", models::half()), ("quantized", models::quantized()), ("old", models::old())] {
        models::save(&text, &folder.path("in.onnx"));
        folder.run("in.onnx out.onnx --recipe none").done();
        assert!(folder.read("out.onnx") == folder.read("in.onnx"), "{name}: other bytes");
    }
}

#[test]
fn nothing_quantized_is_refused() {
    let folder = folder("noop");
    models::save(&models::elementwise(), &folder.path("elementwise.onnx"));
    models::save(&models::quantized(), &folder.path("quantized.onnx"));
    let mut text = String::new();
    for name in ["elementwise.onnx", "quantized.onnx"] {
        let outcome = folder.run(&format!("{name} out.onnx")).refused();
        text += &outcome.transcript();
        assert!(!folder.has("out.onnx"), "{name}");
        folder.run(&format!("{name} allowed.onnx --allow-noop")).done();
        assert!(folder.has("allowed.onnx"), "{name}");
        std::fs::remove_file(folder.path("allowed.onnx")).expect("it is there");
    }
    let outcome = folder.run("cnn_bn.onnx out.onnx --calib calib.npz --exclude re:.").refused();
    text += &outcome.transcript();
    insta::assert_snapshot!(text);
}

#[test]
fn a_file_that_would_grow_is_refused() {
    let folder = folder("grow");
    models::save(&models::tiny_product(), &folder.path("tiny.onnx"));
    folder.write("out.onnx", "kept");
    let outcome = folder.run("tiny.onnx out.onnx --quiet").refused();
    assert_eq!(folder.read("out.onnx"), b"kept");
    assert!(outcome.stderr.contains("larger"), "{}", outcome.stderr);
    folder.run("tiny.onnx out.onnx --storage float").done();
    assert_ne!(folder.read("out.onnx"), b"kept");
}

#[test]
fn a_model_named_like_a_command() {
    let folder = folder("named");
    std::fs::copy(folder.path("cnn_bn.onnx"), folder.path("info")).expect("a copy");
    folder.run("./info out.onnx --calib calib.npz --samples 4").done();
    assert!(folder.run("info ./info").done().stdout.contains("./info"));
}

#[test]
fn without_data_inputs_are_made_up() {
    let folder = folder("made-up");
    let outcome = folder.run("cnn_bn.onnx a.onnx").done();
    assert!(outcome.stderr.contains("--calib") && outcome.stderr.lines().count() == 1, "{}", outcome.stderr);
    assert!(outcome.stdout.contains("8 samples on synthesized inputs"), "{}", outcome.stdout);
    folder.run("cnn_bn.onnx b.onnx").done();
    assert!(folder.read("a.onnx") == folder.read("b.onnx"), "made-up inputs differ from run to run");
    folder.run("cnn_bn.onnx c.onnx --input-shape image:2x1x28x28").done();
    models::save(&models::two_inputs(), &folder.path("two.onnx"));
    folder.run("two.onnx out.onnx --input-shape x=3,64 --input-shape z=3,64").done();
}

#[test]
fn keys_that_no_input_has_are_named() {
    let folder = folder("other-keys");
    let rows: Vec<f32> = (0..192).map(|i| i as f32 / 64.0).collect();
    let rows = crate::arrays::floats(&[3, 64], &rows);
    let label = crate::arrays::integers(&[3], &[0, 1, 2]);
    folder.write(
        "data.npz",
        crate::arrays::npz(&[("x", rows.clone()), ("mask", rows.clone()), ("weight", rows), ("label", label)]),
    );
    models::save(&models::product("N"), &folder.path("product.onnx"));
    let outcome = folder.run("product.onnx out.onnx --calib data.npz").done();
    assert_eq!(outcome.stderr.lines().count(), 1, "{}", outcome.stderr);
    assert!(outcome.stderr.contains("`mask`") && outcome.stderr.contains("`weight`"), "{}", outcome.stderr);
    assert!(!outcome.stderr.contains("label"), "{}", outcome.stderr);
}

#[test]
fn compare_measures_two_models() {
    let folder = folder("compare");
    folder.run("deit_fmnist.onnx out.onnx --calib calib.npz --samples 32").done();
    let same =
        folder.run("compare deit_fmnist.onnx deit_fmnist.onnx --calib test.npz --samples 20 --json").done().json();
    assert_eq!((&same["sqnr_db"], &same["samples"]), (&60.0.into(), &20.into()));
    assert_eq!(same["outputs"][0]["agreement"], 1.0);
    let quantized = folder.run("compare deit_fmnist.onnx out.onnx --calib test.npz --json").done().json();
    let sqnr = quantized["sqnr_db"].as_f64().expect("a number");
    assert!((25.0..50.0).contains(&sqnr), "{quantized}");
    let text = folder.run("compare deit_fmnist.onnx out.onnx --calib test.npz").done().stdout;
    assert!(text.contains(&format!("SQNR {sqnr:.1} dB, over 600 samples")) && text.contains("top-1 "), "{text}");
}

#[test]
fn info_describes_a_model() {
    let folder = folder("info");
    folder.run("cnn_bn.onnx out.onnx --calib calib.npz --samples 8").done();
    let info = folder.run("info out.onnx").done().stdout;
    for text in ["`image` float[N, 1, 28, 28]", "`logits` float[N, 10]", "int8", "QuantizeLinear", "activations uint8"]
    {
        assert!(info.contains(text), "{text}: {info}");
    }
    let json = folder.run("info cnn_bn.onnx --json").done().json();
    assert_eq!((&json["bytes"], &json["operators"]["Conv"]), (&folder.read("cnn_bn.onnx").len().into(), &22.into()));
    assert_eq!(json["inputs"][0][0], "image");
    assert_eq!(json["quantized"], serde_json::json!({}));
}

/// A table of embeddings, a product, and one that reads values next to which a constant stretches the range: the table errs less,
/// but does little work, so the search leaves it float before it comes to the one that errs.
fn table_in_front() -> String {
    format!(
        r#"<ir_version: 8, opset_import: ["" : 17]>
table (int64[1, 8] ids) => (float[1, 8, 48] y)
< {}, {}, {}, float[1, 8, 1] far = {{ 200, 200, 200, 200, 200, 200, 200, 200 }}, float[1, 48] none = {{ {} }} >
{{
  [table] e = Gather (t, ids)
  [first] h = MatMul (e, w)
  c = Concat <axis = 2> (h, far)
  all = Concat <axis = 0> (v, none)
  [second] y = MatMul (c, all)
}}"#,
        weights("t", 64, 64),
        weights("w", 64, 512),
        weights("v", 512, 48),
        vec!["0"; 48].join(", ")
    )
}

#[test]
fn what_needed_no_relief_is_taken_back() {
    let folder = Folder::new("taken-back");
    save(&table_in_front(), &folder.path("in.onnx"));
    let ids: Vec<u8> = (0..16 * 8i64).flat_map(|i| (i * 7919 % 61).to_le_bytes()).collect();
    folder.write("ids.npz", npz(&[("ids", npy("<i8", &[16, 8], &ids))]));
    let recipe = folder.run("--recipe int8 --print-recipe").done().stdout;
    folder.write("own.toml", format!("{recipe}\n[[override]]\nnodes = \"table\"\nweight-bits = 4\n"));
    let report = folder.run("in.onnx out.onnx --recipe own.toml --calib ids.npz --json").done().json();
    assert_eq!(
        (&report["quantized"]["Embedding"], &report["quantized"]["Linear"]),
        (&1.into(), &1.into()),
        "{report:#}"
    );
    assert!(report["quality"]["sqnr_db"].as_f64() >= Some(20.0), "{report:#}");
}

/// 2,000 samples of 64 kB go through a process that may have 50 MB of memory of its own.
#[test]
fn memory_does_not_grow_with_the_samples() {
    let folder = Folder::new("many-samples");
    let text = format!(
        r#"<ir_version: 8, opset_import: ["" : 17]>
rows (float[1, 256, 64] x) => (float[1, 256, 64] y)
< {} >
{{ p = MatMul (x, w) y = Relu (p) }}"#,
        weights("w", 64, 64)
    );
    save(&text, &folder.path("in.onnx"));
    let elements: Vec<f32> = (0..2000 * 256 * 64).map(|i: usize| (i % 1009) as f32 / 504.0 - 1.0).collect();
    folder.write("x.npz", npz(&[("x", floats(&[2000, 256, 64], &elements))]));
    let words = "in.onnx out.onnx --calib x.npz --threads 2 --json";
    let limited = format!("ulimit -d 50000; exec {} {words}", env!("CARGO_BIN_EXE_onnxq"));
    let output =
        std::process::Command::new("sh").args(["-c", &limited]).current_dir(folder.path("")).output().expect("a shell");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let report: serde_json::Value = serde_json::from_slice(&output.stdout).expect("JSON");
    assert_eq!(report["samples"], 2000);
}
