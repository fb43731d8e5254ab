//! The snapshots on disk: filed whole or not at all, kept or forgotten by rules, mended after a crash.
//!
//! ```text
//! <root>/open/<snapshot_id>.pcapng.partial    being recorded; beside it .reason and .pinned until it is filed
//! <root>/clean/<snapshot_id>/                 kept for a while
//! <root>/archive/<snapshot_id>/               capture.pcapng.zst, snapshot.json, analysis.json, context.json, and markers
//!                                             (pinned, shipped-to-<sink>)
//! <root>/outbox/<sink>/<snapshot_id>/         waits for a sink; the same files, linked
//! ```

mod clock;
pub mod historian;
mod repair;
mod retention;
mod store;
mod waiting;
mod writing;

pub use clock::{SetForward, WallClock};
pub use repair::{cut_to_whole, whole_bytes};
pub use retention::{
    Limits, Removal, Stored, Why, comfort_bytes, filing_floor_bytes, floor_bytes, may_record, needed_bytes, to_remove,
};
pub use store::{Handover, Leftover, Store, StoreError};
pub use waiting::{Waiting, to_give_up};
pub use writing::Room;
