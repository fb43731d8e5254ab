//! What passed over the bus and what was lost, counted from any task.

use crate::api::BusCounters;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

#[derive(Debug, Default)]
pub(super) struct Counters {
    received: AtomicU64,
    sent: AtomicU64,
    send_dropped: AtomicU64,
    receive_dropped: AtomicU64,
    undecodable: AtomicU64,
    reconnects: AtomicU64,
}

impl Counters {
    pub(super) fn received(&self) {
        self.received.fetch_add(1, Relaxed);
    }

    pub(super) fn sent(&self) {
        self.sent.fetch_add(1, Relaxed);
    }

    pub(super) fn send_dropped(&self, count: u64) {
        self.send_dropped.fetch_add(count, Relaxed);
    }

    pub(super) fn receive_dropped(&self) {
        self.receive_dropped.fetch_add(1, Relaxed);
    }

    pub(super) fn undecodable(&self) {
        self.undecodable.fetch_add(1, Relaxed);
    }

    pub(super) fn reconnected(&self) {
        self.reconnects.fetch_add(1, Relaxed);
    }

    pub(super) fn read(&self) -> BusCounters {
        BusCounters {
            received: self.received.load(Relaxed),
            sent: self.sent.load(Relaxed),
            send_dropped: self.send_dropped.load(Relaxed),
            receive_dropped: self.receive_dropped.load(Relaxed),
            undecodable: self.undecodable.load(Relaxed),
            reconnects: self.reconnects.load(Relaxed),
        }
    }
}
