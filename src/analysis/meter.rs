//! Figures of the watched endpoints that only grow, so that those of a period are the difference of two readings.

use super::{
    Analysis,
    flow::{Flow, unanswered_attempts},
    service::Service,
    shared::Shared,
    spread::Durations,
};
use crate::api::{Protocol, ResponseTimes, TrafficFigures};

/// What was seen of one endpoint, by everybody who talks to it, in figures that only grow.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Meter {
    counts: Counts,
    response_times: Durations,
    /// When the server sent its latest packet; the only figure that may shrink, when the clock is set back.
    last_seen_ns: Option<i64>,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Counts {
    packets: u64,
    server_packets: u64,
    payload_bytes: u64,
    connects: u64,
    accepted: u64,
    refused: u64,
    connects_unanswered: u64,
    connect_retries: u64,
    resets: u64,
    retransmissions: u64,
    requests: u64,
    responses: u64,
    /// Requests that had no answer in time. One that is answered later still counts here, else this could shrink.
    unanswered: u64,
    late: u64,
    slow: u64,
    exceptions: u64,
    unsolicited: u64,
    damaged: u64,
}

impl Counts {
    fn each(self, other: Self, with: impl Fn(u64, u64) -> u64) -> Self {
        Self {
            packets: with(self.packets, other.packets),
            server_packets: with(self.server_packets, other.server_packets),
            payload_bytes: with(self.payload_bytes, other.payload_bytes),
            connects: with(self.connects, other.connects),
            accepted: with(self.accepted, other.accepted),
            refused: with(self.refused, other.refused),
            connects_unanswered: with(self.connects_unanswered, other.connects_unanswered),
            connect_retries: with(self.connect_retries, other.connect_retries),
            resets: with(self.resets, other.resets),
            retransmissions: with(self.retransmissions, other.retransmissions),
            requests: with(self.requests, other.requests),
            responses: with(self.responses, other.responses),
            unanswered: with(self.unanswered, other.unanswered),
            late: with(self.late, other.late),
            slow: with(self.slow, other.slow),
            exceptions: with(self.exceptions, other.exceptions),
            unsolicited: with(self.unsolicited, other.unsolicited),
            damaged: with(self.damaged, other.damaged),
        }
    }
}

impl Meter {
    /// What was added since `earlier`, a reading of the same analysis before.
    #[must_use]
    pub fn since(&self, earlier: &Self) -> Self {
        Self {
            counts: self.counts.each(earlier.counts, u64::saturating_sub),
            response_times: self.response_times.since(&earlier.response_times),
            last_seen_ns: self.last_seen_ns,
        }
    }

    /// Adds figures of another time or of another analysis.
    pub fn add(&mut self, other: &Self) {
        self.counts = self.counts.each(other.counts, u64::saturating_add);
        self.response_times.merge(&other.response_times);
        self.last_seen_ns = self.last_seen_ns.max(other.last_seen_ns);
    }

    /// When the side that serves last sent a packet, in nanoseconds since 1970; `None`: never in what was read.
    pub const fn last_seen_ns(&self) -> Option<i64> {
        self.last_seen_ns
    }

    /// As the bus has it: what cannot be seen with this protocol is absent.
    pub fn figures(&self, protocol: Protocol) -> TrafficFigures {
        let Counts { packets, server_packets, payload_bytes, connects, resets, retransmissions, .. } = self.counts;
        let counts = &self.counts;
        let (is_modbus, is_dnp3) = (protocol == Protocol::Modbus, protocol == Protocol::Dnp3);
        let asked = |count: u64| (is_modbus || is_dnp3).then_some(count);
        let times = self.response_times.response_times();
        let of_times = |which: fn(&ResponseTimes) -> Option<f64>| times.as_ref().and_then(which);
        TrafficFigures {
            packets,
            server_packets,
            payload_bytes,
            connects,
            connects_accepted: counts.accepted,
            connects_refused: counts.refused,
            connects_failed: counts.refused + counts.connects_unanswered,
            connect_retries: counts.connect_retries,
            resets,
            retransmissions,
            requests: asked(counts.requests),
            responses: asked(counts.responses),
            unanswered: asked(counts.unanswered),
            late: asked(counts.late),
            slow: asked(counts.slow),
            exceptions: is_modbus.then_some(counts.exceptions),
            unsolicited: is_dnp3.then_some(counts.unsolicited),
            damaged_frames: asked(counts.damaged),
            response_ms_min: of_times(|times| Some((times.min * 1e3).round() / 1e3)),
            response_ms_median: of_times(|times| times.median),
            response_ms_p95: of_times(|times| times.p95),
            response_ms_max: of_times(|times| Some((times.max * 1e3).round() / 1e3)),
        }
    }

    /// Adds what was seen of a server; `flows` are its connections that are remembered.
    fn read<'a>(&mut self, service: &Service, flows: impl Iterator<Item = &'a Flow> + Clone, shared: &Shared) {
        self.last_seen_ns = self.last_seen_ns.max(service.server_last.map(|stamp| stamp.at));
        let mut seen = Counts {
            packets: service.packets,
            server_packets: service.server_packets,
            payload_bytes: service.payload_bytes,
            connects: service.syn,
            accepted: service.accepted,
            refused: service.refused.count,
            connects_unanswered: service.syn_unanswered.count + unanswered_attempts(flows.clone(), shared).count,
            connect_retries: service.syn_retries.count,
            resets: service.resets.count,
            retransmissions: service.retransmissions.count,
            ..Counts::default()
        };
        if let Some(modbus) = &service.modbus {
            let overdue: usize = flows.clone().filter_map(Flow::modbus).map(|flow| flow.overdue(shared).count()).sum();
            seen.requests += modbus.requests;
            seen.responses += modbus.responses;
            seen.unanswered += modbus.unanswered.count() + overdue as u64 + modbus.late.count();
            seen.late += modbus.late.count();
            seen.slow += modbus.slow.count();
            seen.exceptions += modbus.exception_count;
            seen.damaged += modbus.malformed.count;
            self.response_times.merge(&modbus.times);
        }
        if let Some(dnp3) = &service.dnp3 {
            let overdue: usize = flows.filter_map(Flow::dnp3).map(|flow| flow.overdue(shared).count()).sum();
            seen.requests += dnp3.requests;
            seen.responses += dnp3.responses;
            seen.unanswered += dnp3.unanswered.count() + overdue as u64 + dnp3.late.count();
            seen.late += dnp3.late.count();
            seen.slow += dnp3.slow.count();
            seen.unsolicited += dnp3.unsolicited;
            seen.damaged += dnp3.header_crc_errors.count + dnp3.data_crc_errors.count;
            self.response_times.merge(&dnp3.times);
        }
        self.counts = self.counts.each(seen, u64::saturating_add);
    }
}

impl Analysis {
    /// The time of the latest packet, in nanoseconds since 1970; `None` before the first.
    pub fn latest_ns(&self) -> Option<i64> {
        (self.packets > 0).then_some(self.shared.now)
    }

    /// The figures of each watched endpoint so far, in the order of the watches. Quick: packets that come meanwhile have to wait.
    pub fn meters(&self) -> Vec<(String, Meter)> {
        let meter = |(index, watch): (usize, &super::Watch)| {
            let mut meter = Meter::default();
            for service in self.services.of_watch(index) {
                meter.read(service, self.flows_of(service), &self.shared);
            }
            (watch.endpoint_id.clone(), meter)
        };
        self.watches.iter().enumerate().map(meter).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::{super::Account, *};

    #[test]
    fn what_was_overdue_and_is_taken_back_makes_no_figure_negative_and_hides_none_behind_it() {
        let mut account = Account::default();
        // Bytes that had waited behind a gap may answer what was counted already.
        let of_each_period = [5, 3, 4].map(|unanswered| {
            let meter = Meter { counts: Counts { unanswered, ..Counts::default() }, ..Meter::default() };
            account.read(vec![("bms".to_owned(), meter)]);
            account.take().remove("bms").map(|meter| meter.figures(Protocol::Modbus).unanswered)
        });
        assert_eq!(of_each_period, [5, 0, 1].map(|unanswered| Some(Some(unanswered))));
    }
}
