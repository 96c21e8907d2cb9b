//! Versions of a runtime, such as 1.18.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer};

/// A release, by its first two numbers: what a file needs does not change within one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Version {
    major: u32,
    minor: u32,
}

/// Why a text is no version.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is no version: give two numbers such as 1.18")]
pub struct NoVersion(String);

impl FromStr for Version {
    type Err = NoVersion;

    /// Reads `1.18` and `1.18.1`.
    fn from_str(text: &str) -> Result<Self, NoVersion> {
        let refuse = || NoVersion(text.to_owned());
        let numbers: Vec<u32> =
            text.split('.').map(|number| number.parse().map_err(|_| refuse())).collect::<Result<_, _>>()?;
        match numbers[..] {
            [major, minor] | [major, minor, _] => Ok(Self { major, minor }),
            _ => Err(refuse()),
        }
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.major, self.minor)
    }
}

impl<'de> Deserialize<'de> for Version {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn by_number_not_by_letter() {
        let version = |text: &str| text.parse::<Version>();
        assert!(version("1.9").expect("a version") < version("1.18").expect("a version"));
        assert_eq!(version("1.18.1"), version("1.18"));
        for wrong in ["", "1", "1.x", "1.2.3.4", "v1.2", "-1.2"] {
            assert_eq!(version(wrong), Err(NoVersion(wrong.to_owned())), "{wrong}");
        }
    }
}
