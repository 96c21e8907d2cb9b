//! The part of `deny.toml` that needs no advisory database, checked over `cargo metadata`: licences, bans, sources.

use std::fs;

use serde::Deserialize;

use crate::notices::{Package, metadata};
use crate::root;

#[derive(Deserialize)]
struct Policy {
    licenses: Licenses,
    bans: Bans,
    sources: Sources,
}

#[derive(Deserialize)]
struct Licenses {
    allow: Vec<String>,
}

#[derive(Deserialize)]
struct Bans {
    deny: Vec<Ban>,
}

#[derive(Deserialize)]
#[serde(rename_all = "kebab-case")]
struct Ban {
    name: String,
    #[serde(default)]
    deny_multiple_versions: bool,
}

#[derive(Deserialize)]
#[serde(rename_all = "kebab-case")]
struct Sources {
    allow_registry: Vec<String>,
}

fn policy() -> Policy {
    let text = fs::read_to_string(root().join("deny.toml")).expect("deny.toml is there");
    toml::from_str(&text).expect("deny.toml is read")
}

/// All packages of others in the workspace, tools of builds and tests included.
fn dependencies() -> Vec<Package> {
    let mut packages = metadata().expect("cargo answers").packages;
    packages.retain(|p| p.source.is_some());
    packages
}

#[test]
fn licences_are_allowed() {
    let allow = policy().licenses.allow;
    let refused = dependencies()
        .into_iter()
        .filter(|p| !p.license.as_deref().is_some_and(|terms| satisfied(terms, &allow)))
        .map(|p| format!("{} {}: {:?}", p.name, p.version, p.license))
        .collect::<Vec<_>>();
    assert!(refused.is_empty(), "licences that deny.toml does not allow: {refused:#?}");
}

#[test]
fn bans_are_kept() {
    let packages = dependencies();
    for ban in policy().bans.deny {
        let versions = packages.iter().filter(|p| p.name == ban.name).map(|p| &*p.version).collect::<Vec<_>>();
        let most = usize::from(ban.deny_multiple_versions);
        assert!(versions.len() <= most, "`{}` may be there {most} times: {versions:?}", ban.name);
    }
}

#[test]
fn sources_are_known() {
    let allowed = policy().sources.allow_registry.iter().map(|url| format!("registry+{url}")).collect::<Vec<_>>();
    for package in dependencies() {
        let source = package.source.unwrap_or_default();
        assert!(allowed.contains(&source), "{} {} comes from {source}", package.name, package.version);
    }
}

/// Whether licences out of `allow` satisfy an SPDX expression; `/` is the older spelling of OR.
fn satisfied(expression: &str, allow: &[String]) -> bool {
    let spaced = expression.replace('/', " OR ").replace('(', " ( ").replace(')', " ) ");
    let words = spaced.split_whitespace().collect::<Vec<_>>();
    let mut rest = words.as_slice();
    any_of(&mut rest, allow) && rest.is_empty()
}

fn any_of(words: &mut &[&str], allow: &[String]) -> bool {
    let mut holds = all_of(words, allow);
    while take(words, "OR") {
        holds |= all_of(words, allow);
    }
    holds
}

fn all_of(words: &mut &[&str], allow: &[String]) -> bool {
    let mut holds = one(words, allow);
    while take(words, "AND") {
        holds &= one(words, allow);
    }
    holds
}

fn one(words: &mut &[&str], allow: &[String]) -> bool {
    if take(words, "(") {
        return any_of(words, allow) & take(words, ")");
    }
    let Some((licence, rest)) = words.split_first() else { return false };
    *words = rest;
    let mut licence = (*licence).to_owned();
    if take(words, "WITH")
        && let Some((exception, rest)) = words.split_first()
    {
        licence = format!("{licence} WITH {exception}");
        *words = rest;
    }
    allow.contains(&licence)
}

fn take(words: &mut &[&str], expected: &str) -> bool {
    match words.split_first() {
        Some((first, rest)) if *first == expected => {
            *words = rest;
            true
        }
        _ => false,
    }
}

#[test]
fn expressions_are_read_as_spdx_does() {
    let allow = ["MIT", "Unicode-3.0"].map(str::to_owned);
    for good in ["MIT", "GPL-3.0 OR MIT", "MIT/Apache-2.0", "(GPL-3.0 OR MIT) AND Unicode-3.0", "MIT OR A AND B"] {
        assert!(satisfied(good, &allow), "{good}");
    }
    for bad in ["", "GPL-3.0", "MIT AND GPL-3.0", "MIT WITH x", "MIT MIT", "(MIT", "GPL-3.0 OR MIT AND A"] {
        assert!(!satisfied(bad, &allow), "{bad}");
    }
}
