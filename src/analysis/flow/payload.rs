//! A connection's bytes: in order, sent again, overtaken, lost.

use super::Flow;
use crate::{
    analysis::{
        service::Service,
        shared::Shared,
        stream::{Arrival, Place, ahead},
        tally::Stamp,
    },
    packet::Tcp,
};

/// A segment that comes so soon after a later one was overtaken, however short the round trip.
const OVERTAKEN_WITHIN_NS: i64 = 3_000_000;

impl Flow {
    pub(super) fn payload(&mut self, from_server: bool, tcp: &Tcp<'_>, stamp: Stamp, service: &mut Service, shared: &mut Shared) {
        let seq = if tcp.flags.syn() { tcp.seq.wrapping_add(1) } else { tcp.seq };
        let arrival = Arrival { stamp, seq_end: seq.wrapping_add(tcp.payload_len), ack: tcp.flags.ack().then_some(tcp.ack) };
        let side = &mut self.sides[usize::from(from_server)];
        side.unheard.sent(stamp);
        let stream = &mut side.stream;
        let waiting = stream.waiting_bytes();
        let gap_age = stream.gap_age(stamp.at);
        let place = stream.segment(seq, tcp.payload, tcp.payload_len, arrival);
        shared.gap_bytes = (shared.gap_bytes + stream.waiting_bytes()).saturating_sub(waiting);
        let late = match place {
            Place::Again => {
                self.sent_again(from_server, arrival, service);
                return;
            }
            Place::KeepAlive => {
                self.keeps_alive(from_server, stamp, service, shared);
                return;
            }
            Place::InOrder { skip: 1.., .. } => {
                // New bytes behind old ones: what was sent again was joined with what followed.
                self.sent_again(from_server, arrival, service);
                false
            }
            Place::InOrder { late: true, .. } if self.was_lost(from_server, gap_age, arrival) => {
                self.sent_again(from_server, arrival, service);
                false
            }
            Place::InOrder { late, .. } | Place::Ahead { late } => late,
            Place::Restart => false,
        };
        shared.out_of_order += u64::from(late);
        service.out_of_order += u64::from(late);
        service.payload_segments += 1;
        let payload_segments = if from_server { &mut self.stats.server_payload } else { &mut self.stats.client_payload };
        *payload_segments += 1;
        let known = match place {
            Place::InOrder { skip, .. } => skip,
            Place::Restart => {
                self.lost(from_server);
                0
            }
            _ => return,
        };
        self.read(from_server, tcp.payload.get(known..).unwrap_or_default(), arrival, service, shared);
        let there = tcp.payload.len().max(known);
        self.cut(from_server, (tcp.payload_len as usize).saturating_sub(there), arrival, service, shared);
        self.read_ready(from_server, Some(stamp), service, shared);
    }

    /// Whether a segment that fills a gap was lost before it came here, and not only overtaken: it comes later than the round trip
    /// in which its sender can have learnt of the loss, and the receiver has waited for it too.
    pub(super) fn was_lost(&self, from_server: bool, gap_age: Option<i64>, arrival: Arrival) -> bool {
        let round_trip = self.stats.handshake_ns.unwrap_or(0).max(OVERTAKEN_WITHIN_NS);
        let acknowledged = self.sides[usize::from(from_server)].stream.acknowledged();
        let is_missing = acknowledged.is_some_and(|acknowledged| ahead(acknowledged, arrival.seq_end) < 0);
        is_missing && gap_age.is_some_and(|age| age > round_trip)
    }

    /// Bytes come again: because the receiver asked for them, because it was silent too long, or for no good reason.
    pub(super) fn sent_again(&mut self, from_server: bool, arrival: Arrival, service: &mut Service) {
        service.retransmissions.add(arrival.stamp);
        service.clients.sent_again(self.client_place);
        self.sides[usize::from(from_server)].unheard.again();
        let acknowledged = self.sides[usize::from(from_server)].stream.acknowledged();
        if acknowledged.is_some_and(|acknowledged| ahead(acknowledged, arrival.seq_end) >= 0) {
            service.spurious_retransmissions += 1;
        } else if self.sides[usize::from(!from_server)].duplicate_acks >= 2 {
            service.fast_retransmissions += 1;
        }
    }

    /// Reads the segments whose turn has come. What waited for a gap to be filled is there when the gap is, and not before: the
    /// receiver could not read it earlier either.
    pub(super) fn read_ready(&mut self, from_server: bool, filled: Option<Stamp>, service: &mut Service, shared: &mut Shared) {
        loop {
            let stream = &mut self.sides[usize::from(from_server)].stream;
            let waiting = stream.waiting_bytes();
            let ready = stream.ready();
            shared.gap_bytes = shared.gap_bytes.saturating_sub(waiting.saturating_sub(stream.waiting_bytes()));
            let Some(ready) = ready else { return };
            let arrival = Arrival { stamp: filled.unwrap_or(ready.arrival.stamp), ..ready.arrival };
            self.read(from_server, ready.bytes(), arrival, service, shared);
            self.cut(from_server, ready.missing, arrival, service, shared);
        }
    }

    pub(super) fn give_up_gaps(&mut self, now: i64, must: bool, service: &mut Service, shared: &mut Shared) {
        if self.sides.iter().all(|side| side.stream.gap().is_none()) {
            return;
        }
        for from_server in [false, true] {
            loop {
                let limits = shared.limits;
                let full = shared.gap_bytes > limits.max_gap_bytes_total;
                let stream = &mut self.sides[usize::from(from_server)].stream;
                let gap = stream.gap();
                if !stream.give_up_gap(now, limits.gap_patience, limits.max_gap_bytes, must || full) {
                    break;
                }
                shared.gaps += 1;
                match gap {
                    Some((beyond, true)) => service.lost_segments.add(beyond),
                    // It has said since that it still waits, and nothing comes any more.
                    Some((beyond, false)) if must && self.heard_since(!from_server, beyond.at) => {
                        service.lost_on_the_way.add(beyond)
                    }
                    _ => {}
                }
                self.lost(from_server);
                self.read_ready(from_server, None, service, shared);
            }
        }
    }

    pub(super) fn heard_since(&self, from_server: bool, at: i64) -> bool {
        self.sides[usize::from(from_server)].acknowledges.is_some_and(|(.., heard_at)| heard_at >= at)
    }
}
