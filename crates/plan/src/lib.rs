//! What is to become of a graph, and what is known about it. Knows no engine, no file and no method.

pub mod evaluator;
pub mod facts;
pub mod fake;
pub mod overlay;
pub mod plan;
pub mod site;
pub mod target;

pub use evaluator::{
    Elements, EngineError, Evaluator, Inferred, Request, Runner, Sample, Session, Shown, UnsupportedOp, each_sample,
    sweep,
};
pub use facts::{Carry, ChannelAxis, Fact, Facts, Needs, Statistic};
pub use fake::Misfit;
pub use onnxq_numerics::Uniform;
pub use overlay::{Mark, Overlaid, OverlayError, overlay};
pub use plan::{Declined, Entry, Granularity, Plan, Quantizer, Scheme};
pub use site::Site;
pub use target::{BiasForm, Bits, OperatorKind, Placement, Target};
