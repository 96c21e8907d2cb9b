//! What can be typed.

use std::num::NonZeroUsize;
use std::path::PathBuf;

use clap::{Parser, Subcommand, ValueEnum};
use onnxq_passes::{Storage, Threshold};
use onnxq_plan::Bits;

use crate::engine::Engine;
use crate::lint::Version;

const EXAMPLES: &str = "\
Examples:
  onnxq model.onnx model.int8.onnx --calib samples.npz
      int8 for onnxruntime on x86, calibrated on the arrays in samples.npz (one per input)
  onnxq vit.onnx vit.w4a4.onnx --recipe repq --bits w4a4 --calib images/ --preprocess imagenet
      4 bits by RepQ-ViT, calibrated on the images of a folder
  onnxq model.onnx out.onnx --calib calib.npz --eval test.npz --json
      measure on data that calibration never saw; the report as JSON
  onnxq model.onnx out.onnx --calib calib.npz --include op:MatMul --exclude re:head --dry-run
      print what would be quantized
  onnxq info model.onnx
  onnxq compare model.onnx out.onnx --calib test.npz
  onnxq lint out.onnx --min-ort 1.18

Exit code: 0 done; 1 the result was refused, or lint or the runtime warns; 2 wrong input, data or option, or something that the
engine or the disk can't do; 70 a fault of onnxq itself.
A model file named like a command is written ./info.";

/// Makes ONNX models smaller and faster: reads a float model, quantizes it by a recipe, writes ONNX again.
#[derive(Debug, Parser)]
#[command(
    name = "onnxq",
    version = concat!(env!("CARGO_PKG_VERSION"), " (", env!("ONNXQ_COMMIT"), ")"),
    after_help = EXAMPLES,
    args_conflicts_with_subcommands = true,
    subcommand_negates_reqs = true,
    arg_required_else_help = true
)]
pub(crate) struct Args {
    #[command(subcommand)]
    pub(crate) command: Option<Command>,
    #[command(flatten)]
    pub(crate) quantize: QuantizeArgs,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Print inputs, outputs, operators, sizes, and how a model was quantized
    Info(InfoArgs),
    /// Compare the outputs of two models on the same samples
    Compare(CompareArgs),
    /// Predict the integer kernels that a runtime takes for a quantized model, and say what slows it down
    Lint(LintArgs),
    /// List the passes, or print the manual of one
    Passes(ListArgs),
    /// List the recipes, or print one
    Recipes(ListArgs),
    /// List the targets, or print one
    Targets(ListArgs),
}

#[derive(Debug, clap::Args)]
#[expect(clippy::struct_excessive_bools, reason = "each is a flag of the command line")]
pub(crate) struct QuantizeArgs {
    /// The float model
    #[arg(value_name = "IN", required_unless_present = "print_recipe")]
    pub(crate) input: Option<PathBuf>,
    /// The quantized model; replaced if it exists, but never IN
    #[arg(value_name = "OUT", required_unless_present_any = ["print_recipe", "dry_run"])]
    pub(crate) output: Option<PathBuf>,
    /// The method: a recipe's name (`onnxq recipes`) or a .toml file
    #[arg(long, value_name = "NAME|FILE", default_value = "int8")]
    pub(crate) recipe: String,
    #[command(flatten)]
    pub(crate) data: DataArgs,
    /// Data to measure the result on: as --calib, but never seen by calibration
    #[arg(long, value_name = "DATA")]
    pub(crate) eval: Option<PathBuf>,
    /// Bits of weights and activations, such as w8a8, w4a8 or w4 (float activations)
    #[arg(long, value_name = "wX|wXaY")]
    pub(crate) bits: Option<Bits>,
    /// The runtime: a target's name (`onnxq targets`) or a .toml file
    #[arg(long, value_name = "NAME|FILE", default_value = "ort-cpu")]
    pub(crate) target: String,
    /// How activation ranges are found [default of int8: auto]
    #[arg(long, value_enum)]
    pub(crate) calibrator: Option<Calibrator>,
    /// Give operators back to float until the output has this SQNR, and refuse the result if it has not [dB, default of
    /// int8: 20, without refusal, and off below 8 bits of activations]; off: keep all
    #[arg(long, value_name = "DB|off")]
    pub(crate) min_sqnr: Option<Threshold>,
    /// Leave operators float of which an operand has less than this SQNR on its grid [dB, default of int8: 10, and
    /// off below 8 bits of activations]; off: keep all
    #[arg(long, value_name = "DB|off")]
    pub(crate) min_node_sqnr: Option<Threshold>,
    /// Quantize these nodes only: a node's name, op: and an operator, re: and a regular expression, or FROM..TO for all nodes
    /// on paths between two nodes or values
    #[arg(long, value_name = "NODES")]
    pub(crate) include: Vec<String>,
    /// Leave these nodes float, named as for --include; wins over --include
    #[arg(long, value_name = "NODES")]
    pub(crate) exclude: Vec<String>,
    /// Take what calibration saw from a file of --save-stats; with --calib, what is missing there is observed
    #[arg(long, value_name = "FILE")]
    pub(crate) stats: Option<PathBuf>,
    /// Keep what calibration sees, for other trials on the same model
    #[arg(long, value_name = "FILE")]
    pub(crate) save_stats: Option<PathBuf>,
    /// Set an option of a pass
    #[arg(long, value_name = "pass.key=value")]
    pub(crate) set: Vec<String>,
    /// How codes are stored: in 8-bit types, in ONNX's packed types, or as the floats they stand for
    #[arg(long, value_enum, default_value = "int8")]
    pub(crate) storage: StorageArg,
    /// What the model takes and gives: floats, or where all readers and writers have the same codes, these
    #[arg(long, value_enum, default_value = "float")]
    pub(crate) io: IoArg,
    /// Write the weights into a file beside OUT
    #[arg(long)]
    pub(crate) external_data: bool,
    /// Write OUT even where nothing was quantized
    #[arg(long)]
    pub(crate) allow_noop: bool,
    /// Let the runtime itself optimize the result, and refuse it where an operator stays float that was to be integer
    /// (needs onnxruntime's library: ORT_DYLIB_PATH)
    #[arg(long)]
    pub(crate) check_target: bool,
    /// Print what would be quantized and write nothing
    #[arg(long)]
    pub(crate) dry_run: bool,
    /// Print the recipe as it would run and stop
    #[arg(long)]
    pub(crate) print_recipe: bool,
    /// Print the report as JSON
    #[arg(long)]
    pub(crate) json: bool,
    /// Print errors only
    #[arg(long, short)]
    pub(crate) quiet: bool,
    /// Print what every pass did and why it left something
    #[arg(long, short)]
    pub(crate) verbose: bool,
}

/// Where samples come from.
#[derive(Debug, clap::Args)]
pub(crate) struct DataArgs {
    /// Calibration data: .npz, .npy, a folder of those, of test_data_set_* or of images
    #[arg(long, value_name = "DATA")]
    pub(crate) calib: Option<PathBuf>,
    /// How images become inputs: imagenet, a .toml file or a preprocessor_config.json
    #[arg(long, value_name = "NAME|FILE")]
    pub(crate) preprocess: Option<String>,
    /// Use the first N samples
    #[arg(long, value_name = "N", value_parser = count)]
    pub(crate) samples: Option<NonZeroUsize>,
    /// Choose the samples at random, always the same for one seed
    #[arg(long, value_name = "S", value_parser = seed, allow_negative_numbers = true)]
    pub(crate) seed: Option<u64>,
    /// Threads [default: as many as the process may use]
    #[arg(long, value_name = "N", value_parser = count)]
    pub(crate) threads: Option<NonZeroUsize>,
    /// What runs the model while it is observed and measured
    #[arg(long, value_enum, default_value_t, value_name = "NAME")]
    pub(crate) engine: Engine,
    /// Shape of an input that the model leaves open, such as images=1,3,640,640 or images:1x3x640x640
    #[arg(long, value_name = "NAME=SHAPE")]
    pub(crate) input_shape: Vec<String>,
}

fn count(text: &str) -> Result<NonZeroUsize, &'static str> {
    text.parse().map_err(|_| "give a whole number from 1")
}

fn seed(text: &str) -> Result<u64, &'static str> {
    text.parse().map_err(|_| "give a whole number from 0")
}

#[derive(Debug, clap::Args)]
pub(crate) struct InfoArgs {
    /// The model
    #[arg(value_name = "MODEL")]
    pub(crate) model: PathBuf,
    /// Print as JSON
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, clap::Args)]
pub(crate) struct CompareArgs {
    /// The reference
    #[arg(value_name = "A")]
    pub(crate) reference: PathBuf,
    /// The model to judge
    #[arg(value_name = "B")]
    pub(crate) other: PathBuf,
    #[command(flatten)]
    pub(crate) data: DataArgs,
    /// Print as JSON
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, clap::Args)]
pub(crate) struct LintArgs {
    /// The quantized model, anybody's
    #[arg(value_name = "MODEL")]
    pub(crate) model: PathBuf,
    /// The runtime: a target's name (`onnxq targets`) or a .toml file
    #[arg(long, value_name = "NAME|FILE", default_value = "ort-cpu")]
    pub(crate) target: String,
    /// The oldest release of the runtime that must load and compute the model, such as 1.18
    #[arg(long, value_name = "VERSION")]
    pub(crate) min_ort: Option<Version>,
    /// Let the runtime itself optimize the model, and say where it does otherwise (needs onnxruntime's library:
    /// ORT_DYLIB_PATH)
    #[arg(long)]
    pub(crate) check_target: bool,
    /// Print as JSON
    #[arg(long)]
    pub(crate) json: bool,
    /// Name every node
    #[arg(long, short)]
    pub(crate) verbose: bool,
}

#[derive(Debug, clap::Args)]
pub(crate) struct ListArgs {
    /// Print this one whole
    #[arg(value_name = "NAME")]
    pub(crate) name: Option<String>,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
pub(crate) enum Calibrator {
    /// The best of the others for each activation
    Auto,
    /// All that was seen
    Minmax,
    /// Between two percentiles
    Percentile,
    /// Least squared error
    Mse,
    /// Least loss of information
    Entropy,
}

impl Calibrator {
    /// The pass that does it.
    pub(crate) fn pass(self) -> &'static str {
        match self {
            Self::Auto => "auto",
            Self::Minmax => "minmax",
            Self::Percentile => "percentile",
            Self::Mse => "mse",
            Self::Entropy => "entropy",
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum IoArg {
    /// Floats
    Float,
    /// Codes
    Quantized,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
pub(crate) enum StorageArg {
    /// In 8-bit types
    Int8,
    /// 4 and 2 bits in ONNX's packed types
    Native,
    /// As the floats they stand for
    Float,
}

impl From<StorageArg> for Storage {
    fn from(storage: StorageArg) -> Self {
        match storage {
            StorageArg::Int8 => Self::Int8,
            StorageArg::Native => Self::Native,
            StorageArg::Float => Self::Float,
        }
    }
}
