//! Puts the commit into `--version`.

use std::process::Command;

fn main() {
    // A path that does not exist, as in a work tree or an unpacked archive, would run this at every build.
    for path in [".git/HEAD", ".git/refs/heads"].into_iter().filter(|path| std::path::Path::new(path).exists()) {
        println!("cargo:rerun-if-changed={path}");
    }
    println!("cargo:rerun-if-changed=build.rs");
    let commit = Command::new("git")
        .args(["rev-parse", "--short=10", "HEAD"])
        .output()
        .ok()
        .filter(|output| output.status.success())
        .and_then(|output| String::from_utf8(output.stdout).ok())
        .map_or_else(|| "unknown commit".to_owned(), |text| text.trim().to_owned());
    println!("cargo:rustc-env=ONNXQ_COMMIT={commit}");
}
