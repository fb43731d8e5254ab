//! What keeps the snapshots of the monitor on disk: what goes when there are too many ([`to_remove`], [`may_record`]).
//!
//! Nothing in the service uses it yet. Functions that touch the disk block; who calls them from the runtime does so in a thread.

mod retention;

pub use retention::{Limits, Removal, Stored, Why, may_record, to_remove};
