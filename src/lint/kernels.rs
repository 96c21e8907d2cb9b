//! What a runtime makes of quantized operators, as data: which integer kernels there are and what each asks for.

use std::collections::BTreeMap;

use onnxq_ir::ElementType;
use onnxq_plan::Target;
use serde::{Deserialize, Deserializer};

use super::version::Version;
use crate::error::{Error, toml_problem};

/// The embedded files: the name that a target gives, and the text.
const KERNELS: &[(&str, &str)] = &[("ort-cpu", include_str!("../target/kernels/ort-cpu.toml"))];

/// A runtime's integer kernels.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Kernels {
    /// The name that targets give.
    pub name: String,
    /// What the runtime is called, in front of a version.
    pub runtime: String,
    /// What becomes of int8 activations.
    pub signed_activations: SignedActivations,
    /// Operators that a pair of QuantizeLinear and DequantizeLinear crosses, and from which opset on.
    pub moves: BTreeMap<String, i64>,
    /// Whether a MatMul with a matrix and the Add of a bias become a Gemm.
    pub joins_matmul_and_add: bool,
    /// What is quantized when the model is loaded.
    pub quantizes_at_load: AtLoad,
    /// Conversions for each integer kernel above which a file is slower than float.
    pub max_conversions: f64,
    /// What operators between DequantizeLinear and QuantizeLinear become.
    #[serde(rename = "kernel")]
    pub rules: Vec<KernelRule>,
    /// Operators that are integer kernels as they stand.
    pub written: Vec<WrittenRule>,
    /// The newest formats that releases load, oldest release first.
    #[serde(rename = "release")]
    pub releases: Vec<Release>,
    /// Forms of QuantizeLinear and DequantizeLinear that came later.
    #[serde(rename = "form")]
    pub forms: Vec<FormRule>,
}

/// What becomes of int8 activations.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum SignedActivations {
    /// They stay what they are.
    AsWritten,
    /// They become uint8 where their QuantizeLinear has one reader, a DequantizeLinear.
    OneReader,
}

/// What is quantized when the model is loaded.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AtLoad {
    /// The operators whose float bias and weights are.
    pub operators: Vec<String>,
    /// The first release that does it.
    pub since: Version,
}

/// What an operator becomes between DequantizeLinear and QuantizeLinear, and what that asks for.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
#[expect(clippy::struct_excessive_bools, reason = "each is a key of the file")]
pub struct KernelRule {
    /// The operators.
    pub ops: Vec<String>,
    /// The oldest version of ONNX's operators in which they have the kernel.
    #[serde(default)]
    pub min_opset: i64,
    /// The kernel where the output is quantized; `*` stands for the operator's name.
    pub becomes: Option<String>,
    /// The kernel where the output is float.
    pub becomes_float: Option<String>,
    /// The operands that must come from a DequantizeLinear.
    #[serde(default)]
    pub operands: Operands,
    /// The types that operands may have together; a list's last one stands for all operands that follow.
    #[serde(deserialize_with = "type_lists")]
    pub types: Vec<Vec<ElementType>>,
    /// Operands whose zero point must be written.
    #[serde(default)]
    pub zero_points: Vec<usize>,
    /// Whether alpha and beta must be 1.
    #[serde(default)]
    pub needs_plain_factors: bool,
    /// Whether input and output must share scale and zero point.
    #[serde(default)]
    pub same_grid: bool,
    /// The types of activations whose conversions stay where they are.
    #[serde(default, deserialize_with = "types")]
    pub leaves: Vec<ElementType>,
    /// Whether conversions behind the output stay where they are.
    #[serde(default)]
    pub ignores_output: bool,
    /// Whether the operator is where a model's time goes: in float, behind conversions, it is slower than it was.
    #[serde(default)]
    pub is_product: bool,
    /// What unsigned weights cost.
    pub unsigned_weights: Option<Cost>,
    /// What the kernel itself costs, where float is faster.
    pub costs: Option<String>,
    /// The first release with this kernel.
    pub since: Option<Version>,
}

/// The operands that must come from a DequantizeLinear.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Operands {
    /// All that there are.
    #[default]
    All,
    /// The first one and no other.
    First,
    /// The second one and not the first.
    Weight,
    /// The second and the third.
    Branches,
}

impl Operands {
    /// Whether the operand in a slot must come from a DequantizeLinear.
    pub fn includes(self, slot: usize) -> bool {
        match self {
            Self::All => true,
            Self::First => slot == 0,
            Self::Weight => slot == 1,
            Self::Branches => slot == 1 || slot == 2,
        }
    }
}

/// A cost, and how it is told.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Cost {
    /// Whether the file is slower than float for it.
    pub level: Level,
    /// What was measured.
    pub text: String,
}

/// How much a finding weighs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Deserialize, serde::Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Level {
    /// Slower than float, or it does not load.
    Warning,
    /// Slower or less exact than it could be.
    Note,
}

/// An operator that is an integer kernel as it stands.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct WrittenRule {
    /// The operators, with their domain where it is not ONNX's own.
    pub ops: Vec<String>,
    /// The slot of the weights.
    pub weights: Option<usize>,
    /// What unsigned weights cost.
    pub unsigned_weights: Option<Cost>,
    /// Why it is slower than float.
    pub slow: Option<String>,
    /// What the kernel costs, where float is faster.
    pub costs: Option<String>,
}

/// The newest format that a release loads.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Release {
    /// The release.
    pub version: Version,
    /// The newest version of the file format.
    pub ir: i64,
    /// The newest version of ONNX's operators.
    pub opset: i64,
}

/// A form of QuantizeLinear and DequantizeLinear that came later.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct FormRule {
    /// The types of the codes; all where there are none.
    #[serde(default, deserialize_with = "types")]
    pub types: Vec<ElementType>,
    /// The domain, where only one is meant.
    pub domain: Option<String>,
    /// Whether scales are by block.
    #[serde(default)]
    pub is_blocked: bool,
    /// The version of ONNX's operators from which on it holds.
    #[serde(default)]
    pub min_opset: i64,
    /// The first release that computes it.
    pub since: Version,
    /// What it is.
    pub text: String,
}

impl Kernels {
    /// The first release of which it is known what it loads.
    pub fn oldest_release(&self) -> Option<Version> {
        self.releases.iter().map(|release| release.version).min()
    }

    /// The kernels of the runtime that a target is for.
    pub fn of(target: &Target) -> Result<Self, Error> {
        let known = || KERNELS.iter().map(|(name, _)| *name).collect::<Vec<_>>().join(", ");
        let refuse = |reason: String| Error::Definition { kind: "target", name: target.name.clone(), reason };
        let Some(name) = &target.kernels else {
            let reason =
                format!("has no kernel rules to predict by; `kernels = \"NAME\"` in its file names some: {}", known());
            return Err(refuse(reason));
        };
        let (_, text) = KERNELS
            .iter()
            .find(|(known, _)| known == name)
            .ok_or_else(|| refuse(format!("there are no kernel rules `{name}`; there are {}", known())))?;
        toml::from_str(text)
            .map_err(|error| Error::Broken(format!("kernel rules {name}: {}", toml_problem(text, &error))))
    }

    /// The rules for an operator.
    pub fn rules(&self, op: &str) -> impl Iterator<Item = &KernelRule> {
        self.rules.iter().filter(move |rule| rule.ops.iter().any(|known| known == op))
    }

    /// The rule for an operator that is an integer kernel as it stands.
    pub fn written(&self, op: &str) -> Option<&WrittenRule> {
        self.written.iter().find(|rule| rule.ops.iter().any(|known| known == op))
    }
}

fn type_lists<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<Vec<ElementType>>, D::Error> {
    Vec::<Vec<String>>::deserialize(deserializer)?.iter().map(|list| named(list)).collect()
}

fn types<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<ElementType>, D::Error> {
    named(&Vec::<String>::deserialize(deserializer)?)
}

fn named<E: serde::de::Error>(names: &[String]) -> Result<Vec<ElementType>, E> {
    let element = |name: &String| {
        ElementType::from_name(name).ok_or_else(|| E::custom(format!("`{name}` is no element type of ONNX")))
    };
    names.iter().map(element).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn embedded_files_are_well_formed() {
        for (name, _) in KERNELS {
            let mut target = crate::target::load("ort-cpu").expect("a target");
            target.kernels = Some((*name).to_owned());
            let kernels = Kernels::of(&target).expect("rules");
            assert_eq!(kernels.name, *name);
            assert!(kernels.rules.iter().all(|rule| rule.becomes.is_some() || rule.becomes_float.is_some()));
            assert!(kernels.rules.iter().all(|rule| rule.types.iter().all(|types| !types.is_empty())));
            assert!(kernels.releases.is_sorted_by_key(|release| release.version));
        }
    }

    #[test]
    fn a_target_without_rules_says_so() {
        let target = crate::target::load("generic").expect("a target");
        let error = Kernels::of(&target).expect_err("no rules").to_string();
        assert!(error.contains("`generic`: has no kernel rules"), "{error}");
    }
}
