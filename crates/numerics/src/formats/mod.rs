//! Number formats: which codes exist, what they are worth and how they lie in memory.
//! Knows no scale and no data.

mod float4;
mod float8;
mod int;
mod minifloat;

pub use float4::Float4E2M1;
pub use float8::Float8;
pub use int::{FormatError, IntFormat, Signedness, pack, unpack};
