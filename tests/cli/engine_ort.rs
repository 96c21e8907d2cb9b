//! ONNX Runtime as the engine. A build with the feature `ort` sees with it what it sees with tract; one without says so.

#[cfg(not(feature = "ort"))]
mod without {
    use crate::tool::Folder;

    #[test]
    fn a_build_without_it_says_so() {
        let folder = Folder::with("no_engine_ort", &["cnn_bn.onnx", "calib.npz"]);
        let run = folder.run("cnn_bn.onnx out.onnx --calib calib.npz --engine ort");
        let expected = "onnxq: --engine ort: this build has no onnxruntime engine; build with `--features ort`\n";
        assert_eq!((run.code, run.stderr.as_str()), (Some(2), expected));
        assert!(!folder.has("out.onnx"));
        let expected = expected.replace("--engine ort", "--check-target");
        for words in ["cnn_bn.onnx out.onnx --calib calib.npz --check-target", "lint cnn_bn.onnx --check-target"] {
            let run = folder.run(words);
            assert_eq!((run.code, run.stderr.as_str()), (Some(2), expected.as_str()), "{words}");
        }
        assert!(!folder.has("out.onnx"));
    }
}

#[cfg(feature = "ort")]
mod with {
    use std::path::{Path, PathBuf};

    use onnxq::onnx::read;
    use onnxq_ir::{Graph, OpId};

    use crate::models::save;
    use crate::tool::{Folder, Outcome, tell};

    const VARIABLE: &str = "ORT_DYLIB_PATH";

    /// Else the library keeps a file of its own among the temporary ones.
    const NO_TELEMETRY: (&str, &str) = ("ORT_DISABLE_TELEMETRY", "1");

    /// ONNX Runtime's library: the one that the environment names, or that of the Python package.
    fn library() -> Option<PathBuf> {
        if let Some(named) = std::env::var_os(VARIABLE) {
            return Some(named.into());
        }
        let packages = Path::new(env!("CARGO_MANIFEST_DIR")).join("target/venv/lib");
        let folders = entries(&packages).map(|python| python.join("site-packages/onnxruntime/capi"));
        let is_library = |path: &PathBuf| path.to_string_lossy().contains("/libonnxruntime.so");
        let found = folders.flat_map(|folder| entries(&folder)).find(is_library);
        if found.is_none() {
            assert!(std::env::var_os("ONNXQ_REQUIRE_ORACLES").is_none(), "ONNX Runtime's library is required");
            tell("skipped: no library of ONNX Runtime");
        }
        found
    }

    fn entries(folder: &Path) -> impl Iterator<Item = PathBuf> + use<> {
        std::fs::read_dir(folder).into_iter().flatten().flatten().map(|entry| entry.path())
    }

    /// Runs the tool with a library; an empty path is none.
    fn run(folder: &Folder, library: &Path, words: &str) -> Outcome {
        folder.run_where(&[(VARIABLE, library)], words)
    }

    /// Scale and zero point of every quantizer, with the node that has it.
    fn parameters(graph: &Graph) -> Vec<(String, Vec<f32>)> {
        let is_codec = |op: &OpId| graph.op(*op).is("QuantizeLinear") || graph.op(*op).is("DequantizeLinear");
        let codecs = graph.topological().into_iter().filter(is_codec);
        let scales = codecs.map(|op| {
            let scale = graph.input(op, 1).and_then(|scale| graph.constant(scale)).expect("a constant scale");
            (graph.op(op).name().to_owned(), scale.to_f32().expect("float32").into_owned())
        });
        scales.collect()
    }

    #[test]
    fn facts_and_simulation_are_those_of_tract() {
        let Some(library) = library() else { return };
        let folder = Folder::with("engine_ort", &["cnn_bn.onnx", "deit_fmnist.onnx", "calib.npz", "test.npz"]);
        for (model, options) in [
            ("cnn_bn", "--calibrator minmax"),
            ("deit_fmnist", "--calibrator minmax"),
            ("deit_fmnist", "--calibrator percentile --bits w4a4"),
            ("cnn_bn", "--calibrator minmax --target generic"),
        ] {
            let quantize = |engine: &str| {
                let words = format!(
                    "{model}.onnx {engine}.onnx --calib calib.npz --eval test.npz --samples 16 --json {options} --engine {engine}"
                );
                let report = run(&folder, &library, &words).done().json();
                let sqnr = report["quality"]["sqnr_db"].as_f64().expect("a figure");
                let result = read(&folder.path(&format!("{engine}.onnx"))).expect("a sound model");
                (parameters(&result.graph), sqnr)
            };
            let (ours, theirs) = (quantize("tract"), quantize("ort"));
            assert!(!ours.0.is_empty());
            let is_near = |a: &f32, b: &f32| (a - b).abs() <= 1e-4 * a.abs();
            for ((name, scales), (other_name, others)) in ours.0.iter().zip(&theirs.0) {
                let same = scales.iter().zip(others).all(|(a, b)| is_near(a, b));
                assert!(name == other_name && same, "{model} {options}: {name} {scales:?} {others:?}");
            }
            assert_eq!(ours.0.len(), theirs.0.len());
            assert!((ours.1 - theirs.1).abs() < 0.2, "{model} {options}: {} dB and {} dB", ours.1, theirs.1);
        }
    }

    #[test]
    fn half_floats_are_simulated() {
        let Some(library) = library() else { return };
        let folder = Folder::new("engine_ort_halves");
        save(&crate::models::half(), &folder.path("half.onnx"));
        let sqnr = |engine: &str, target: &str| {
            let words = format!("half.onnx out.onnx --engine {engine} --target {target} --json");
            run(&folder, &library, &words).done().json()["quality"]["sqnr_db"].as_f64().expect("a figure")
        };
        for target in ["ort-cpu", "tensorrt"] {
            let (ours, theirs) = (sqnr("tract", target), sqnr("ort", target));
            assert!((ours - theirs).abs() < 0.5 && theirs > 30.0, "{target}: {ours} dB and {theirs} dB");
        }
    }

    #[test]
    fn it_runs_what_tract_lacks() {
        let Some(library) = library() else { return };
        let folder = Folder::new("engine_ort_lacks");
        let text = format!(
            r#"<ir_version: 8, opset_import: ["" : 17]>
unusual (float[N, 64] x) => (float[N, 64] y)
< {}, int64[2] lengths = {{64, 32}} >
{{ r = ReverseSequence <batch_axis = 0, time_axis = 1> (x, lengths) y = MatMul (r, w) }}"#,
            crate::models::weights("w", 64, 64)
        );
        save(&text, &folder.path("m.onnx"));
        let words = "m.onnx out.onnx --input-shape x=2,64";
        let refused = run(&folder, &library, words);
        assert_eq!(refused.code, Some(1));
        assert!(refused.stderr.contains("`--engine ort`"), "{}", refused.stderr);
        let done = run(&folder, &library, &format!("{words} --engine ort --json")).done().json();
        assert!(done["quality"]["sqnr_db"].as_f64().expect("a figure") > 20.0, "{done}");
        run(&folder, &library, "compare m.onnx out.onnx --input-shape x=2,64 --engine ort").done();
    }

    #[test]
    fn a_library_that_is_not_there_is_one_error() {
        let folder = Folder::with("engine_ort_errors", &["cnn_bn.onnx", "calib.npz"]);
        let words = "cnn_bn.onnx out.onnx --calib calib.npz --engine ort";
        for (library, expected) in [("", "ORT_DYLIB_PATH is not set"), ("nowhere.so", "`nowhere.so`, which is no file")]
        {
            let run = run(&folder, Path::new(library), words);
            assert_eq!(run.code, Some(2));
            assert!(run.stderr.contains(expected) && run.stderr.lines().count() == 1, "{}", run.stderr);
            assert!(!folder.has("out.onnx"));
        }
    }

    /// Temporary files are looked for in a folder that belongs to the test.
    fn run_in(folder: &Folder, library: &Path, words: &str) -> Outcome {
        let scratch = folder.path("scratch");
        std::fs::create_dir_all(&scratch).expect("a folder");
        let run = folder
            .run_where(&[(VARIABLE, library), ("TMPDIR", &scratch), (NO_TELEMETRY.0, NO_TELEMETRY.1.as_ref())], words);
        assert_eq!(entries(&scratch).count(), 0, "{words}: something is left behind");
        run
    }

    #[test]
    fn the_runtime_confirms_what_was_predicted() {
        let Some(library) = library() else { return };
        let folder = Folder::with("check_target", &["cnn_bn.onnx", "deit_fmnist.onnx", "calib.npz"]);
        for (model, kernels) in
            [("cnn_bn", "22 QLinearConv, 5 QLinearAdd, 1 QGemm"), ("deit_fmnist", "20 MatMulIntegerToFloat, 1 QGemm")]
        {
            let words = format!("{model}.onnx {model}.q.onnx --calib calib.npz --samples 4 --check-target");
            let summary = run_in(&folder, &library, &words).done().stdout;
            let line = format!("  checked    the runtime takes {kernels}: as predicted\n");
            assert!(summary.contains(&line), "{summary}");
            let json = run_in(&folder, &library, &format!("{words} --json --external-data")).done().json();
            assert_eq!(json["check"]["kernels"], json["lint"]["kernels"]);
            assert_eq!(json["check"]["running"], json["lint"]["running"]);
            assert_eq!((&json["check"]["floats"], &json["check"]["differences"]), (&0.into(), &serde_json::json!([])));
            // Of a file with its weights beside it.
            let told = run_in(&folder, &library, &format!("lint {model}.q.onnx --check-target")).done().stdout;
            assert!(told.contains(&line), "{told}");
            let json = run_in(&folder, &library, &format!("lint {model}.q.onnx --check-target --json")).done().json();
            assert_eq!(json["check"]["kernels"], json["kernels"]);
        }
    }

    /// A file that runs conversions for nothing is refused, whatever else is said of it.
    #[test]
    fn what_is_stranded_is_refused() {
        let Some(library) = library() else { return };
        let folder = Folder::new("check_target_stranded");
        let text = r#"<ir_version: 8, opset_import: ["" : 17]>
stranded (float[1, 4] x) => (float[1, 4] y)
< float s = {0.5}, uint8 z = {128} >
{ q = QuantizeLinear (x, s, z) d = DequantizeLinear (q, s, z) y = Tanh (d) }"#;
        save(text, &folder.path("stranded.onnx"));
        let run = run_in(&folder, &library, "lint stranded.onnx --check-target").refused();
        let expected = "onnxq: --check-target: the runtime leaves 1 QuantizeLinear, 1 DequantizeLinear of no use\n";
        assert_eq!(run.stderr, expected);
        assert!(run.stdout.contains("checked    the runtime takes no integer kernel: as predicted"), "{}", run.stdout);
    }

    #[test]
    fn what_can_not_be_checked_is_one_error() {
        let Some(library) = library() else { return };
        let folder = Folder::with("check_target_errors", &["cnn_bn.onnx", "calib.npz"]);
        let text = r#"<ir_version: 8, opset_import: ["" : 17, "nobody" : 1]>
foreign (float[1, 4] x) => (float[1, 4] y) { y = nobody.Thing (x) }"#;
        save(text, &folder.path("foreign.onnx"));
        for (library, words, expected) in [
            (library.as_path(), "lint foreign.onnx --check-target", "foreign.onnx: onnxruntime"),
            (&library, "cnn_bn.onnx out.onnx --target generic --calib calib.npz --check-target", "has no kernel rules"),
            (Path::new(""), "cnn_bn.onnx out.onnx --calib calib.npz --check-target", "ORT_DYLIB_PATH is not set"),
            (Path::new("nowhere.so"), "lint cnn_bn.onnx --check-target", "`nowhere.so`, which is no file"),
        ] {
            let run = run_in(&folder, library, words);
            assert_eq!(run.code, Some(2), "{words}: {}", run.stderr);
            assert!(run.stderr.contains(expected) && run.stderr.lines().count() == 1, "{words}: {}", run.stderr);
            assert!(!folder.has("out.onnx"));
        }
    }
}
