//! Keeps what README says of the passes in step with the table.

use std::fmt::Write as _;
use std::path::Path;

use onnxq_passes::PASSES;

const BEGIN: &str = "<!-- passes: generated, `ONNXQ_UPDATE=1 cargo test -p onnxq --lib docs` -->\n";
const END: &str = "<!-- end of passes -->";

fn table() -> String {
    let mut text = "| family | pass | promise | what it does |\n|---|---|---|---|\n".to_owned();
    for info in PASSES {
        let pass = info.make(toml::Table::new()).expect("every pass has defaults");
        let _ = writeln!(text, "| {} | `{}` | {} | {} |", info.family, info.name, pass.promise(), info.summary());
    }
    text
}

#[test]
fn readme_lists_the_passes() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("README.md");
    let readme = std::fs::read_to_string(&path).expect("README.md");
    let (before, rest) = readme.split_once(BEGIN).expect("the marker before the table");
    let (_, after) = rest.split_once(END).expect("the marker behind the table");
    let wanted = format!("{before}{BEGIN}{}{END}{after}", table());
    if std::env::var_os("ONNXQ_UPDATE").is_some() {
        std::fs::write(&path, &wanted).expect("README.md can be written");
    }
    assert_eq!(
        readme, wanted,
        "the table of passes in README.md is stale: ONNXQ_UPDATE=1 cargo test -p onnxq --lib docs"
    );
}
