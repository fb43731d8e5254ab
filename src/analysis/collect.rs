//! From services to what the bus carries: sums over connections and servers.

use super::{flow::Flow, service::Service, shared::Shared, spread::Durations, stats::FlowStats};
use crate::api::{Dnp3View, ModbusView, WireView};
use std::net::SocketAddr;

/// Sums over several services.
#[derive(Debug, Default)]
pub(super) struct Sum {
    /// All but the response times.
    wire: WireView,
    pub modbus_unexpected: u64,
    pub dnp3_unexpected: u64,
    pub dnp3_further_fragments: u64,
    pub dnp3_unconfirmed: u64,
    pub attempts_unseen: u64,
    pub modbus_unseen: u64,
    pub dnp3_unseen: u64,
    pub dnp3_header_crc_errors: u64,
    pub dnp3_data_crc_errors: u64,
    modbus_times: Durations,
    dnp3_times: Durations,
}

impl Sum {
    /// Adds a service; `flows` are its connections that are remembered.
    pub fn add<'a>(&mut self, service: &Service, flows: impl Iterator<Item = &'a Flow> + Clone, shared: &Shared) {
        let wire = &mut self.wire;
        wire.packets += service.packets;
        wire.syn += service.syn;
        wire.syn_retries += service.syn_retries.count;
        wire.syn_ack += service.syn_ack;
        wire.rst += service.rst;
        wire.fin += service.fin;
        wire.icmp_unreachable += service.icmp.tally.count;
        wire.retransmissions += service.retransmissions.count;
        self.attempts_unseen += service.attempts_unseen + flows.clone().filter(|flow| flow.is_attempt_unseen()).count() as u64;
        if let Some(modbus) = service.modbus.as_ref().filter(|modbus| modbus.is_seen()) {
            let overdue: u64 = flows.clone().filter_map(Flow::modbus).map(|flow| flow.overdue(shared).count() as u64).sum();
            let sum = wire.modbus.get_or_insert_with(ModbusView::default);
            sum.requests += modbus.requests;
            sum.responses += modbus.responses;
            sum.exceptions += modbus.exception_count;
            sum.unanswered += modbus.unanswered.count() + overdue;
            self.modbus_times.merge(&modbus.times);
            self.modbus_unexpected += modbus.strays.total();
            self.modbus_unseen +=
                modbus.unseen + flows.clone().filter_map(Flow::modbus).map(|flow| flow.unseen(shared)).sum::<u64>();
        }
        if let Some(dnp3) = &service.dnp3 {
            let flows = flows.filter_map(Flow::dnp3);
            let overdue: u64 = flows.clone().map(|flow| flow.overdue(shared).count() as u64).sum();
            let sum = wire.dnp3.get_or_insert_with(Dnp3View::default);
            sum.frames += dnp3.frames;
            sum.requests += dnp3.requests;
            sum.responses += dnp3.responses;
            sum.unsolicited += dnp3.unsolicited;
            sum.unanswered += dnp3.unanswered.count() + overdue;
            sum.crc_errors += dnp3.header_crc_errors.count + dnp3.data_crc_errors.count;
            self.dnp3_times.merge(&dnp3.times);
            self.dnp3_unexpected += dnp3.strays.total();
            self.dnp3_unseen += dnp3.unseen + flows.clone().map(|flow| flow.unseen(shared)).sum::<u64>();
            self.dnp3_further_fragments += dnp3.further_fragments;
            self.dnp3_unconfirmed +=
                dnp3.unconfirmed.count() + flows.map(|flow| flow.unconfirmed(shared).count() as u64).sum::<u64>();
            self.dnp3_header_crc_errors += dnp3.header_crc_errors.count;
            self.dnp3_data_crc_errors += dnp3.data_crc_errors.count;
        }
    }

    /// As the bus has it.
    pub fn wire(&self) -> WireView {
        let mut wire = self.wire.clone();
        wire.modbus.iter_mut().for_each(|modbus| modbus.response_ms = self.modbus_times.response_times());
        wire.dnp3.iter_mut().for_each(|dnp3| dnp3.response_ms = self.dnp3_times.response_times());
        wire
    }
}

/// The connections of some services, the test's own apart from those of others.
#[derive(Debug, Default)]
pub(super) struct Split {
    pub own: FlowStats,
    pub others: FlowStats,
}

impl Split {
    /// Adds a service's connections. `own` are the local ends of the test's own.
    pub fn add<'a>(&mut self, service: &Service, flows: impl Iterator<Item = &'a Flow>, own: &[SocketAddr], shared: &Shared) {
        let mut add = |client: &SocketAddr, stats: &FlowStats| {
            if own.contains(client) { self.own.merge(stats) } else { self.others.merge(stats) }
        };
        let (retired, past) = service.retired();
        retired.for_each(|(client, stats)| add(client, stats));
        flows.for_each(|flow| add(&flow.client, &flow.stats(shared)));
        self.others.merge(past);
    }
}
