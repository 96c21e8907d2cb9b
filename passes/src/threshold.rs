//! A least value in dB that can be turned off.

use serde::{Deserialize, Serialize};

/// `12.5`, or `"off"`.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub enum Threshold {
    /// No limit.
    #[default]
    Off,
    /// In dB.
    Db(f64),
}

impl Threshold {
    /// The limit.
    pub fn db(self) -> Option<f64> {
        match self {
            Self::Off => None,
            Self::Db(db) => Some(db),
        }
    }
}

/// Why a text is no threshold.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("give dB from 0 to 60, such as 20, or off")]
pub struct NoThreshold;

impl std::str::FromStr for Threshold {
    type Err = NoThreshold;

    fn from_str(text: &str) -> Result<Self, NoThreshold> {
        match text {
            "off" => Ok(Self::Off),
            _ => Self::of(text.parse().map_err(|_| NoThreshold)?),
        }
    }
}

impl Threshold {
    fn of(db: f64) -> Result<Self, NoThreshold> {
        if (0.0..=60.0).contains(&db) { Ok(Self::Db(db)) } else { Err(NoThreshold) }
    }
}

impl std::fmt::Display for Threshold {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Off => f.write_str("off"),
            Self::Db(db) => write!(f, "{db}"),
        }
    }
}

impl Serialize for Threshold {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Off => serializer.serialize_str("off"),
            Self::Db(db) => serializer.serialize_f64(*db),
        }
    }
}

/// As a recipe writes it.
#[derive(Deserialize)]
#[serde(untagged)]
enum Written {
    Float(f64),
    Whole(i64),
    Word(String),
}

impl<'de> Deserialize<'de> for Threshold {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        match Written::deserialize(deserializer)? {
            Written::Float(db) => Self::of(db),
            Written::Whole(db) => Self::of(db as f64),
            Written::Word(word) => word.parse(),
        }
        .map_err(serde::de::Error::custom)
    }
}
