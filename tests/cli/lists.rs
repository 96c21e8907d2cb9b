//! The commands that only tell.

use crate::tool::Folder;

#[test]
fn the_version_has_the_commit() {
    let version = Folder::new("version").run("--version").done().stdout;
    let rest = version.strip_prefix(concat!("onnxq ", env!("CARGO_PKG_VERSION"), " (")).expect(&version);
    assert!(rest.trim_end().ends_with(')') && rest.len() > 8, "{version}");
}

#[test]
fn help_names_every_option_and_has_examples() {
    let folder = Folder::new("help");
    let help = folder.run("--help").done();
    for option in [
        "--recipe",
        "--calib",
        "--eval",
        "--preprocess",
        "--bits",
        "--target",
        "--calibrator",
        "--samples",
        "--seed",
        "--threads",
        "--include",
        "--exclude",
        "--stats",
        "--save-stats",
        "--set",
        "--storage",
        "--io",
        "--input-shape",
        "--external-data",
        "--allow-noop",
        "--dry-run",
        "--print-recipe",
        "--json",
        "--quiet",
        "--verbose",
        "info",
        "compare",
        "lint",
        "passes",
        "recipes",
        "targets",
        "Examples:",
        "./info",
    ] {
        assert!(help.stdout.contains(option), "{option}: {}", help.stdout);
    }
    let nothing = folder.run("");
    assert_eq!(nothing.code, Some(2));
    assert!(nothing.stderr.contains("Usage:"), "{}", nothing.stderr);
}

/// Every name that a list shows has a page, and every recipe and target that is printed can be given back as a file.
#[test]
fn lists_and_their_pages() {
    let folder = Folder::with("lists", &["cnn_bn.onnx"]);
    let passes = folder.run("passes").done().stdout;
    let names: Vec<&str> = passes
        .lines()
        .filter(|line| line.starts_with("  "))
        .filter_map(|line| line.split_whitespace().next())
        .collect();
    assert!(names.len() >= 18, "{passes}");
    for name in names {
        let manual = folder.run(&format!("passes {name}")).done().stdout;
        for heading in ["# Why", "# Needs", "# Effect", "# Promise", "# Declines", "# Options"] {
            assert!(manual.contains(heading), "{name} lacks {heading}: {manual}");
        }
    }
    for (list, option) in [("recipes", "--recipe"), ("targets", "--target")] {
        let listed = folder.run(list).done().stdout;
        assert!(listed.lines().count() >= 2, "{listed}");
        for line in listed.lines() {
            let name = line.split_whitespace().next().expect("a name");
            assert!(line.len() > name.len() + 10, "no description: {line}");
            folder.write("own.toml", folder.run(&format!("{list} {name}")).done().stdout);
            let own = folder.run(&format!("cnn_bn.onnx --dry-run --samples 2 {option} own.toml")).done();
            let embedded = folder.run(&format!("cnn_bn.onnx --dry-run --samples 2 {option} {name}")).done();
            assert_eq!(own.stdout, embedded.stdout, "{name}");
        }
    }
}
