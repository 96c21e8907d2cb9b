//! Names of passes, their manuals, and how they are made from options.

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::pass::Pass;

/// A pass that can be named in a recipe.
pub struct PassInfo {
    /// The name, as recipes and `--set` use it.
    pub name: &'static str,
    /// The family it belongs to: the folder of its file.
    pub family: &'static str,
    source: &'static str,
    make: fn(toml::Table) -> Result<Box<dyn Pass>, toml::de::Error>,
    defaults: fn() -> toml::Table,
}

/// Options that a pass does not take.
#[derive(Debug, thiserror::Error)]
#[error("pass `{pass}`: {reason}")]
pub struct OptionsError {
    /// The pass.
    pub pass: &'static str,
    /// What is wrong, and what there is.
    pub reason: String,
}

impl PassInfo {
    /// The pass with this name.
    pub fn find(name: &str) -> Option<&'static Self> {
        PASSES.iter().find(|info| info.name == name)
    }

    /// The manual: the leading documentation of the pass's file, as Markdown.
    pub fn manual(&self) -> String {
        self.source
            .lines()
            .map_while(|line| line.strip_prefix("//!"))
            .map(|line| line.strip_prefix(' ').unwrap_or(line).to_owned() + "\n")
            .collect()
    }

    /// The manual's first line.
    pub fn summary(&self) -> String {
        self.manual().lines().next().unwrap_or_default().to_owned()
    }

    /// The pass with these options; the others have their defaults.
    pub fn make(&self, options: toml::Table) -> Result<Box<dyn Pass>, OptionsError> {
        (self.make)(options).map_err(|error| OptionsError { pass: self.name, reason: error.message().to_owned() })
    }

    /// All options with their defaults.
    pub fn defaults(&self) -> toml::Table {
        (self.defaults)()
    }
}

fn make<P: Pass + DeserializeOwned + 'static>(options: toml::Table) -> Result<Box<dyn Pass>, toml::de::Error> {
    Ok(Box::new(toml::Value::Table(options).try_into::<P>()?))
}

fn defaults<P: Default + Serialize>() -> toml::Table {
    toml::Table::try_from(P::default()).unwrap_or_default()
}

macro_rules! passes {
    ($($name:literal => $family:ident / $file:ident :: $pass:ident;)*) => {
        /// Every pass, by family.
        pub const PASSES: &[PassInfo] = &[$(PassInfo {
            name: $name,
            family: stringify!($family),
            source: include_str!(concat!(stringify!($family), "/", stringify!($file), ".rs")),
            make: make::<crate::$family::$file::$pass>,
            defaults: defaults::<crate::$family::$file::$pass>,
        }),*];
    };
}

passes! {
    "fold-constants" => canonicalize/fold_constants::FoldConstants;
    "drop-identity" => canonicalize/drop_identity::DropIdentity;
    "fold-batchnorm" => canonicalize/fold_batchnorm::FoldBatchnorm;
    "recognise-layer-norm" => canonicalize/recognise_layer_norm::RecogniseLayerNorm;
    "recognise-rms-norm" => canonicalize/recognise_rms_norm::RecogniseRmsNorm;
    "recognise-gelu" => canonicalize/recognise_gelu::RecogniseGelu;
    "recognise-silu" => canonicalize/recognise_silu::RecogniseSilu;
    "recognise-softmax" => canonicalize/recognise_softmax::RecogniseSoftmax;
    "einsum-product" => canonicalize/einsum_product::EinsumProduct;
    "linear-form" => canonicalize/linear_form::LinearForm;
    "dead-code" => canonicalize/dead_code::DeadCode;
    "select-sites" => assign/select_sites::SelectSites;
    "sensitive-values" => assign/sensitive_values::SensitiveValues;
    "leave-slow" => assign/leave_slow::LeaveSlow;
    "output-sites" => assign/output_sites::OutputSites;
    "minmax" => assign/minmax::MinMax;
    "percentile" => assign/percentile::Percentile;
    "mse" => assign/mse::Mse;
    "entropy" => assign/entropy::Entropy;
    "auto" => assign/auto::Auto;
    "give-back" => assign/give_back::GiveBack;
    "recurrent-weights" => assign/recurrent_weights::RecurrentWeights;
    "best-percentile" => assign/best_percentile::BestPercentile;
    "cross-layer-equalization" => reparam/cross_layer_equalization::CrossLayerEqualization;
    "repq" => reparam/repq::RepQ;
    "bias-correction" => round/bias_correction::BiasCorrection;
    "legalize" => lower/legalize::Legalize;
    "opset" => lower/opset::Opset;
    "insert-qdq" => lower/insert_qdq::InsertQdq;
    "tie-constants" => lower/tie_constants::TieConstants;
    "quantize-io" => lower/quantize_io::QuantizeIo;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_unique_and_are_found() {
        for info in PASSES {
            assert_eq!(PASSES.iter().filter(|other| other.name == info.name).count(), 1, "{}", info.name);
            assert_eq!(PassInfo::find(info.name).map(|found| found.family), Some(info.family));
        }
        assert!(PassInfo::find("min-max").is_none());
    }

    #[test]
    fn every_pass_is_made_from_its_defaults() {
        for info in PASSES {
            info.make(info.defaults()).unwrap_or_else(|error| panic!("{error}"));
            info.make(toml::Table::new()).unwrap_or_else(|error| panic!("{error}"));
        }
    }

    #[test]
    fn every_option_stands_in_the_manual() {
        for info in PASSES {
            let manual = info.manual();
            let (_, options) = manual.split_once("# Options").unwrap_or_else(|| panic!("{}: no options", info.name));
            for key in info.defaults().keys() {
                assert!(options.contains(&format!("- `{key}`")), "{}: `{key}` is not in the manual", info.name);
            }
        }
    }

    #[test]
    fn an_unknown_option_names_the_pass_and_what_there_is() {
        let options = "percentil = 99.0".parse().expect("TOML");
        let error =
            PassInfo::find("percentile").and_then(|info| info.make(options).err()).expect("refused").to_string();
        assert!(
            error.starts_with("pass `percentile`: unknown field `percentil`") && error.contains("`percentile`"),
            "{error}"
        );
    }

    #[test]
    fn the_manual_begins_with_the_summary() {
        let info = PassInfo::find("minmax").expect("a pass");
        assert_eq!(info.summary(), "Gives every site the range of all that was seen there.");
        assert!(info.manual().contains("\n# Promise\nAnnotate.\n"));
    }
}
