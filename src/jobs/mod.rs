//! Long work: states and transitions (pure), the one driver that changes them, the record on disk.
//!
//! ```text
//!             submit             next              finish
//!   (nothing) ──────► queued ─────────► running ──────────► succeeded | failed | cancelled
//!                       │                  │
//!                       │ cancel           │ the service ends
//!                       ▼                  ▼
//!                   cancelled          interrupted   (a queued job too)
//! ```
//!
//! Jobs of one kind run one after the other; jobs of different kinds run side by side, so a capture of an hour holds up no test.
//! The queue of each kind is bounded: one job too many is refused with `busy`. A state once final never changes.

mod driver;
mod record;
mod recorder;
mod state;

pub use driver::{Driver, JobContext, JobObserver, Outcome, Runner};
pub use record::{Found, RecordError, Store, write_atomically};
pub use state::{Cancelled, Jobs, Limits, Refusal};
