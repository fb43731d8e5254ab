//! A snapshot with all that was found in it.

use super::{Monitor, view::is_filed};
use crate::api::Snapshot;

impl Monitor {
    /// A snapshot with its findings, as far as they can be read: of those that are filed only the rest is known at once. Blocks on the
    /// disk.
    pub fn whole(&self, known: Snapshot) -> Snapshot {
        let read = || self.store.get()?.get(&known.snapshot_id).ok();
        match is_filed(known.state).then(read).flatten() {
            Some(read) => Snapshot { findings: read.findings, interfaces: read.interfaces, ..known },
            None => known,
        }
    }
}
