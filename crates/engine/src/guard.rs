//! Keeps tract's panics and errors in bounds: a panic becomes an error, an error becomes a short text with the node's
//! name. Knows nothing of graphs.

use std::cell::Cell;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Once;

use tract_onnx::prelude::TractResult;

/// No reason is longer than this: tract's may print whole graphs.
const LONGEST_REASON: usize = 300;

/// What tract said, and about which node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Failure {
    /// The number of the operator's id, where it is known.
    pub op: Option<usize>,
    /// The node that is named: out of a guarded call by tract's name, elsewhere by the file's.
    pub node: Option<String>,
    /// What it says, shortened.
    pub reason: String,
}

thread_local! {
    static QUIET: Cell<bool> = const { Cell::new(false) };
}

/// Calls into tract. A panic is caught and is as good as an error; nothing is printed for it.
pub(crate) fn guarded<T>(call: impl FnOnce() -> TractResult<T>) -> Result<T, Failure> {
    install_hook();
    let loud = QUIET.replace(true);
    let outcome = catch_unwind(AssertUnwindSafe(call));
    QUIET.set(loud);
    clean_vector_registers();
    match outcome {
        Ok(Ok(value)) => Ok(value),
        Ok(Err(error)) => {
            let chain: Vec<String> = error.chain().map(ToString::to_string).collect();
            let node = chain.iter().find_map(|message| node_name(message));
            // The chain goes from the outside in: the last message is the cause.
            let reason = match chain.as_slice() {
                [] => "unknown error".to_owned(),
                [only] => only.clone(),
                [outer, .., cause] => format!("{cause} ({outer})"),
            };
            Err(Failure { op: None, node, reason: shorten(&reason) })
        }
        Err(payload) => {
            let message = payload
                .downcast_ref::<String>()
                .map(String::as_str)
                .or_else(|| payload.downcast_ref::<&str>().copied())
                .unwrap_or("no message");
            let reason = shorten(&format!("internal error of tract: {message}"));
            Err(Failure { op: None, node: node_name(message), reason })
        }
    }
}

/// Undoes what tract's hand-written kernels leave behind: the upper halves of the vector registers in use. Code for plain
/// x86-64, which is what ours is, then runs at a ninth of its speed, since every instruction has to merge with them
/// (measured: 0.65 instead of 5.7 billion values quantized a second). The instruction for it can't be had without
/// `unsafe`, but any function compiled for AVX2 ends with it, and a search over 64 bytes is one.
#[inline]
fn clean_vector_registers() {
    std::hint::black_box(memchr::memchr(1, std::hint::black_box(&[0u8; 64])));
}

/// A hook that stays silent in threads that are inside a guarded call, and is the former hook otherwise. It is set once
/// for the process: setting and restoring it around each call would race between threads.
fn install_hook() {
    static INSTALLED: Once = Once::new();
    INSTALLED.call_once(|| {
        let former = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |info| {
            if !QUIET.get() {
                former(info);
            }
        }));
    });
}

impl Failure {
    /// A failure that no node is to blame for.
    pub(crate) fn of(reason: impl Into<String>) -> Self {
        Self { op: None, node: None, reason: reason.into() }
    }
}

/// The quoted name after the first `#<number>`, the form in which tract writes nodes.
fn node_name(message: &str) -> Option<String> {
    let mut rest = message;
    while let Some(at) = rest.find('#') {
        rest = &rest[at + 1..];
        let after = rest.trim_start_matches(|c: char| c.is_ascii_digit());
        if after.len() < rest.len()
            && let Some(quoted) = after.strip_prefix(" \"")
            && let Some(end) = quoted.find('"')
        {
            return Some(quoted[..end].to_owned());
        }
    }
    None
}

/// One line, cut at a character boundary.
fn shorten(reason: &str) -> String {
    // What follows is tract's own state, which says nothing to a user.
    let reason =
        ["Stack backtrace", "ModelPatch {"].iter().fold(reason, |text, end| text.split(end).next().unwrap_or(text));
    let line = reason.split_whitespace().collect::<Vec<_>>().join(" ");
    match line.char_indices().nth(LONGEST_REASON) {
        None => line,
        Some((end, _)) => format!("{}...", &line[..end]),
    }
}

#[cfg(test)]
mod tests {
    use tract_onnx::tract_core::internal::{anyhow, bail};

    use super::*;

    #[test]
    fn panics_become_errors() {
        let failure = guarded::<()>(|| panic!("no entry for {}", "key")).unwrap_err();
        assert_eq!(failure.reason, "internal error of tract: no entry for key");
        assert!(!QUIET.get(), "the thread is loud again");
    }

    #[test]
    fn errors_name_the_node_and_are_short() {
        let long = "y ".repeat(1000);
        let failure = guarded::<()>(|| {
            let cause = anyhow!("{long}");
            Err(cause.context("Failed analyse for node #4 \"layer/Add\" Add"))
        })
        .unwrap_err();
        assert_eq!(failure.node.as_deref(), Some("layer/Add"));
        assert!(failure.reason.chars().count() <= LONGEST_REASON + 3);
        let other = guarded::<()>(|| bail!("unit #7 is odd, see #8 \"z\"")).unwrap_err();
        assert_eq!(other.node.as_deref(), Some("z"));
    }
}
