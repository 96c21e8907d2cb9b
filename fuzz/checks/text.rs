//! What must hold of any text that is taken for a model: it is refused, or printed and read again.

use onnxq_ir::text::{Weights, header_comments, parse, print};
use onnxq_ir::verify;

/// Nothing panics, and the printed text is read as the same model.
pub(crate) fn check(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    let _ = header_comments(text);
    let Ok(model) = parse(text) else { return };
    let _ = verify(&model.graph);
    let _ = print(&model, Weights::Hash);
    let once = print(&model, Weights::Full);
    let again = match parse(&once) {
        Ok(model) => print(&model, Weights::Full),
        Err(error) => panic!("our own text is not read: {error}\n{once}"),
    };
    assert!(once == again, "printed as\n{once}\nthen as\n{again}");
}
