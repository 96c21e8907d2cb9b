//! What tells one model from another: a hash of the file that would be written.

use std::fmt;
use std::io::{self, Write};

use onnxq_ir::Model;
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use super::encode::EncodeError;
use super::layout::{Layout, StreamError};
use super::placement::Placement;

/// SHA-256 of a model's file with all weights in it, wherever they lie.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Deserialize, Serialize)]
pub struct Fingerprint([u8; 32]);

impl fmt::Debug for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl Fingerprint {
    /// That of some bytes.
    pub fn of(bytes: &[u8]) -> Self {
        Self(Sha256::digest(bytes).into())
    }

    /// The hash itself.
    pub fn bytes(&self) -> &[u8; 32] {
        &self.0
    }
}

/// The fingerprint of a model. Recognised operators count as what they expand to.
///
/// # Errors
/// Where the model holds what no file can.
pub fn fingerprint(model: &Model) -> Result<Fingerprint, EncodeError> {
    let layout = Layout::new(model, Placement::inside(&model.graph), "")?;
    let mut sink = Sink(Sha256::new());
    match layout.write(&mut sink) {
        Ok(()) => Ok(Fingerprint(sink.0.finalize().into())),
        Err(StreamError::Encode(error)) => Err(error),
        Err(StreamError::Io(error)) => unreachable!("hashing failed: {error}"),
    }
}

struct Sink(Sha256);

impl Write for Sink {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.update(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use onnxq_ir::text::parse;

    use super::*;

    #[test]
    fn it_follows_from_every_weight_and_name() {
        let of = |text: &str| {
            let text = format!("<ir_version: 8, opset_import: [\"\" : 17]> g (float[2] x) => (float[2] y) {text}");
            fingerprint(&parse(&text).expect("a model")).expect("it can be written")
        };
        let one = of("<float[2] w = {1, 2}> { y = Add (x, w) }");
        assert_eq!(of("<float[2] w = {1, 2}> { y = Add (x, w) }"), one);
        for other in [
            "<float[2] w = {1, 3}> { y = Add (x, w) }",
            "<float[2] v = {1, 2}> { y = Add (x, v) }",
            "<float[2] w = {1, 2}> { y = Mul (x, w) }",
        ] {
            assert_ne!(of(other), one, "{other}");
        }
        assert!(format!("{:?}", Fingerprint::of(b"abc")).starts_with("ba7816bf"), "FIPS 180-4");
    }
}
