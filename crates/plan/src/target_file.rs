//! Reads targets: a file says all, or with `like = "NAME"` only what differs from another target.

use serde::Deserialize as _;
use serde::de::Error as _;
use toml::de::Error;
use toml::{Table, Value};

use crate::target::Target;

/// The key that names the target that a file takes the rest from.
const LIKE: &str = "like";

/// The key that is never taken from another target: rules of kernels were measured on one.
const MEASURED: &str = "kernels";

/// The target of a file's text; `named` has the text of other targets.
pub fn read_target<'a>(text: &str, named: impl Fn(&str) -> Option<&'a str>) -> Result<Target, Error> {
    let own: Table = toml::from_str(text)?;
    if own.contains_key(LIKE) {
        let all = completed(own, &named, &mut Vec::new())?;
        return Target::deserialize(Value::Table(all));
    }
    // The same, with lines in messages.
    toml::from_str(text)
}

/// The keys of a file with those that it takes from another one; `seen` are the files on the way here.
fn completed<'a>(
    mut own: Table,
    named: &impl Fn(&str) -> Option<&'a str>,
    seen: &mut Vec<String>,
) -> Result<Table, Error> {
    let Some(like) = own.remove(LIKE) else { return Ok(own) };
    let Value::String(like) = like else {
        return Err(Error::custom(format!("`{LIKE}` is the name of a target, in quotes")));
    };
    if seen.contains(&like) {
        return Err(Error::custom(format!("`{LIKE}`: target `{like}` is like itself")));
    }
    let base = named(&like).ok_or_else(|| Error::custom(format!("`{LIKE}`: there is no target `{like}`")))?;
    seen.push(like);
    let mut all = completed(toml::from_str(base)?, named, seen)?;
    all.remove(MEASURED);
    for (key, value) in own {
        let merged = match (all.remove(&key), value) {
            (Some(Value::Table(base)), Value::Table(own)) => Value::Table(base.into_iter().chain(own).collect()),
            (Some(Value::Array(base)), Value::Array(own)) if key == "operator" => Value::Array(rules(base, own)),
            (_, value) => value,
        };
        all.insert(key, merged);
    }
    Ok(all)
}

/// The rules of both, those for the same operator from the second.
fn rules(base: Vec<Value>, own: Vec<Value>) -> Vec<Value> {
    let is_replaced = |rule: &Value| own.iter().any(|other| other.get("op") == rule.get("op"));
    let mut all: Vec<Value> = base.into_iter().filter(|rule| !is_replaced(rule)).collect();
    all.extend(own);
    all
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::target::{OperatorKind, Placement};

    const BASE: &str = r#"
        name = "base"
        description = "a target"
        max-opset = 20
        bias = "int32"
        [activations]
        signedness = "unsigned"
        bits = [8]
        symmetry = "affine"
        [weights]
        signedness = "signed"
        bits = [7, 8]
        packed = []
        packed-weight-only = []
        symmetry = "symmetric"
        granularity = "channel"
        [[operator]]
        op = "Linear"
        placement = "inputs"
        [[operator]]
        op = "Conv"
        placement = "always"
    "#;

    fn read(text: &str) -> Result<Target, String> {
        let named = |name: &str| match name {
            "base" => Some(BASE),
            "itself" => Some("like = \"itself\""),
            _ => None,
        };
        read_target(text, named).map_err(|error| error.message().to_owned())
    }

    #[test]
    fn a_target_like_another_has_its_own_keys_and_the_others() {
        let text = r#"
            name = "other"
            like = "base"
            weights.reduced-to = 7
            [[operator]]
            op = "Conv"
            placement = "float"
        "#;
        let target = read(text).expect("a target");
        assert_eq!((target.name.as_str(), target.max_opset), ("other", 20));
        assert_eq!((target.weights.reduced_to, target.weights.bits), (Some(7), vec![7, 8]));
        let placements: Vec<_> = target.operators.iter().map(|rule| (rule.op, rule.placement)).collect();
        assert_eq!(placements, [(OperatorKind::Linear, Placement::Inputs), (OperatorKind::Conv, Placement::Float)]);
    }

    #[test]
    fn what_is_wrong_is_said() {
        for (text, message) in [
            ("like = \"nobody\"", "`like`: there is no target `nobody`"),
            ("like = 1", "`like` is the name of a target, in quotes"),
            ("like = \"itself\"", "`like`: target `itself` is like itself"),
            ("like = \"base\"\nmax-opsett = 3", "unknown field `max-opsett`"),
        ] {
            let error = read(text).expect_err(text);
            assert!(error.contains(message), "{text}: {error}");
        }
    }

    #[test]
    fn wider_codes_are_cut_where_activations_are_codes() {
        let target = read("like = \"base\"\nweights.reduced-to = 7").expect("a target");
        let bits = |text: &str| target.weight_format(text.parse().expect("bits")).expect("a format").bits();
        assert_eq!((bits("w8a8"), bits("w7a8"), bits("w8")), (7, 7, 8));
    }
}
