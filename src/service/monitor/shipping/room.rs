//! The room that the queues of the sinks take, and what is given up of them when the disk is full.

use super::{Lane, Shipping, lock};
use crate::{
    api::Event,
    archive::{Stored, Waiting, to_give_up},
    service::replies::Core,
};
use std::collections::BTreeMap;

impl Shipping {
    /// Gives up what waits, until the disk has its room; for when nothing else may be deleted. Gives whether anything was given up. Blocks on
    /// the disk.
    pub(in crate::service::monitor) fn make_room(
        &self,
        core: &Core,
        stored: &[Stored],
        free_bytes: u64,
        min_free_bytes: u64,
    ) -> bool {
        let waiting: Vec<Waiting> = self.waiting().into_values().collect();
        let chosen = to_give_up(&waiting, stored, free_bytes, min_free_bytes);
        let mut any = false;
        for lane in &self.lanes {
            let given_up: Vec<&str> = chosen.iter().map(String::as_str).filter(|name| lane.give_up(name)).collect();
            if !given_up.is_empty() {
                any = true;
                let message = format!("the disk is full; the sink {} will not get {}", lane.settings.name, given_up.join(", "));
                core.post_row(Event::ALARM, message);
            }
        }
        any
    }

    /// The bytes of what waits and is kept nowhere else.
    pub(in crate::service) fn own_bytes(&self, is_kept: impl Fn(&str) -> bool) -> u64 {
        let alone = self.waiting().into_values().filter(|waiting| !is_kept(&waiting.snapshot_id));
        alone.fold(0, |sum, waiting| sum.saturating_add(waiting.bytes))
    }

    /// What waits for any sink, by name.
    fn waiting(&self) -> BTreeMap<String, Waiting> {
        let mut all: BTreeMap<String, Waiting> = BTreeMap::new();
        for lane in &self.lanes {
            for (snapshot_id, bytes, is_sending) in lock(&lane.state).queue.waiting() {
                let new = || Waiting { snapshot_id: snapshot_id.to_owned(), bytes, is_sending };
                all.entry(snapshot_id.to_owned()).or_insert_with(new).is_sending |= is_sending;
            }
        }
        all
    }
}

impl Lane {
    /// Gives up one that waits; not one that has gone on its way meanwhile.
    fn give_up(&self, name: &str) -> bool {
        let mut state = lock(&self.state);
        let given_up = state.queue.give_up(name);
        state.status.dropped += u64::from(given_up);
        drop(state);
        if given_up && let Err(error) = self.outbox.remove(name) {
            tracing::warn!(sink = self.settings.name, name, %error, "what is given up cannot be removed");
        }
        given_up
    }
}
