//! What is to become of a graph, and what is known about it. Knows no engine, no file and no method.

mod checkpoint;
pub mod described;
pub mod evaluator;
pub mod facts;
pub mod fake;
pub mod float_outputs;
pub mod held_out;
pub mod overlay;
pub mod plan;
pub mod port;
pub mod site;
pub mod target;
mod target_file;
pub mod trial;

pub use described::DescribedSite;
pub use evaluator::{
    Elements, EngineError, Evaluator, Inferred, Request, Runner, Sample, Session, Shown, UnsupportedOp, each_sample,
    sweep, truths,
};
pub use facts::{Carry, ChannelAxis, Fact, Facts, Needs, Statistic};
pub use fake::Misfit;
pub use float_outputs::{FloatOutputs, Watch};
pub use held_out::{HeldOut, Memory};
pub use onnxq_numerics::Uniform;
pub use overlay::{Mark, Overlaid, OverlayError, overlay};
pub use plan::{Activations, Declined, End, Entry, Granularity, Plan, Planned, Quantizer, Scheme};
pub use port::{Codes, Direction, Port, PortForm};
pub use site::Site;
pub use target::{BiasForm, Bits, OperatorKind, Placement, Target};
pub use target_file::read_target;
pub use trial::{Deviation, Grids, Trials};
