//! Modbus on a connection (requests matched with answers) and at a server (what came of them).

use super::{
    lane::Lane,
    queries::QueryTally,
    shared::Shared,
    stream::Arrival,
    tally::{Tally, Times},
    transactions::{Matched, Transactions},
};
use crate::{
    api::ModbusView,
    protocol::{
        Step,
        modbus::{self, Adu, EXCEPTION_FLAG, Query},
    },
};

/// Exception codes told apart.
const MAX_EXCEPTION_CODES: usize = 16;

/// What a transaction is known by on its connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Key {
    transaction_id: u16,
    unit_id: u8,
    /// Without the exception flag.
    function: u8,
}

/// What was seen of a server's Modbus, over all its connections.
#[derive(Debug, Default)]
pub(super) struct ModbusService {
    pub requests: u64,
    pub responses: u64,
    pub times: Times,
    /// By exception code.
    pub exceptions: Vec<(u8, QueryTally<Query>)>,
    pub exception_count: u64,
    pub unanswered: QueryTally<Query>,
    pub slow: QueryTally<Query>,
    pub late: QueryTally<Query>,
    /// Answers to no request that was seen.
    pub unexpected: Tally,
    /// Bytes where a frame should be.
    pub malformed: Tally,
}

impl ModbusService {
    /// As the bus has it, with `overdue` requests that still wait.
    pub fn view(&self, overdue: u64) -> ModbusView {
        ModbusView {
            requests: self.requests,
            responses: self.responses,
            exceptions: self.exception_count,
            unanswered: self.unanswered.count() + overdue,
            response_ms: self.times.response_times(),
        }
    }

    fn matched(&mut self, matched: Matched<Query, Option<u8>>, shared: &Shared) {
        self.responses += 1;
        let (stamp, ns) = (matched.response.stamp, matched.ns());
        self.times.add(ns);
        if ns > shared.limits.response_timeout {
            self.late.add(matched.detail, stamp);
        } else if ns >= shared.limits.slow_response {
            self.slow.add(matched.detail, stamp);
        }
        let Some(code) = matched.answer else { return };
        self.exception_count += 1;
        if let Some((_, queries)) = self.exceptions.iter_mut().find(|(known, _)| *known == code) {
            queries.add(matched.detail, stamp);
        } else if self.exceptions.len() < MAX_EXCEPTION_CODES {
            let mut queries = QueryTally::default();
            queries.add(matched.detail, stamp);
            self.exceptions.push((code, queries));
        }
    }
}

/// One connection's Modbus.
#[derive(Debug)]
pub(super) struct ModbusFlow {
    /// From the client, and from the server.
    lanes: [Lane; 2],
    transactions: Transactions<Key, Query, Option<u8>>,
    /// Requests of this connection that are counted as unanswered.
    pub unanswered: u64,
}

impl ModbusFlow {
    /// A connection seen from its beginning, or not.
    pub fn new(from_beginning: bool) -> Self {
        Self { lanes: [Lane::new(from_beginning), Lane::new(from_beginning)], transactions: Transactions::default(), unanswered: 0 }
    }

    pub fn lost(&mut self, from_server: bool) {
        self.lanes[usize::from(from_server)].lost();
    }

    pub fn feed(&mut self, from_server: bool, bytes: &[u8], arrival: Arrival, service: &mut ModbusService, shared: &mut Shared) {
        let Self { lanes, transactions, unanswered } = self;
        lanes[usize::from(from_server)].feed(bytes, |bytes, in_step| {
            if !in_step && !modbus::looks_like_adu(bytes) {
                return Step::Skip { length: modbus::next_start(bytes), error: () };
            }
            match modbus::step(bytes) {
                Step::Frame { frame, length } => {
                    if from_server {
                        response(frame, arrival, transactions, service, shared);
                    } else {
                        *unanswered += request(frame, arrival, transactions, service, shared);
                    }
                    Step::Frame { frame: (), length }
                }
                Step::Skip { length, .. } => {
                    service.malformed.add(arrival.stamp);
                    Step::Skip { length, error: () }
                }
                Step::NeedMore => Step::NeedMore,
            }
        });
    }

    /// The requests that have waited longer than the time-out.
    pub fn overdue<'a>(&'a self, shared: &Shared) -> impl Iterator<Item = (Query, Arrival)> + 'a {
        self.transactions.overdue(shared.now, shared.limits.response_timeout).map(|pending| (pending.detail, pending.arrival))
    }

    /// Whether the server has stopped answering.
    pub fn stalled(&self, shared: &Shared) -> bool {
        self.transactions.stalled(shared.now, shared.limits.response_timeout)
    }

    /// The connection is forgotten: what is overdue stays unanswered; when the connection is known to be over (`ended`), what waits
    /// is, too.
    pub fn retire(&mut self, ended: bool, service: &mut ModbusService, shared: &mut Shared) {
        while let Some(pending) = self.transactions.pop_oldest() {
            shared.pending -= 1;
            if ended || shared.now.saturating_sub(pending.arrival.stamp.at) > shared.limits.response_timeout {
                service.unanswered.add(pending.detail, pending.arrival.stamp);
                self.unanswered += 1;
            }
        }
    }
}

/// Takes a request; gives how many older ones are now counted as unanswered.
fn request(
    adu: Adu<'_>,
    arrival: Arrival,
    transactions: &mut Transactions<Key, Query, Option<u8>>,
    service: &mut ModbusService,
    shared: &mut Shared,
) -> u64 {
    let mut unanswered = 0;
    while let Some(old) = transactions.expired(arrival.stamp.at, shared.limits.response_timeout) {
        shared.pending -= 1;
        service.unanswered.add(old.detail, old.arrival.stamp);
        unanswered += 1;
    }
    if shared.pending_is_full(transactions.len())
        && let Some(old) = transactions.pop_oldest()
    {
        shared.pending -= 1;
        if arrival.stamp.at.saturating_sub(old.arrival.stamp.at) > shared.limits.response_timeout {
            service.unanswered.add(old.detail, old.arrival.stamp);
            unanswered += 1;
        } else {
            shared.requests_forgotten += 1;
        }
    }
    service.requests += 1;
    let key = Key { transaction_id: adu.transaction_id, unit_id: adu.unit_id, function: adu.function() & !EXCEPTION_FLAG };
    match transactions.request(key, Query::of_request(adu.unit_id, adu.pdu), arrival) {
        Some(matched) => {
            service.unexpected.count = service.unexpected.count.saturating_sub(1);
            service.exception_count -= u64::from(matched.answer.is_some()).min(service.exception_count);
            service.matched(matched, shared);
        }
        None => shared.pending += 1,
    }
    unanswered
}

fn response(
    adu: Adu<'_>,
    arrival: Arrival,
    transactions: &mut Transactions<Key, Query, Option<u8>>,
    service: &mut ModbusService,
    shared: &mut Shared,
) {
    let key = Key { transaction_id: adu.transaction_id, unit_id: adu.unit_id, function: adu.function() & !EXCEPTION_FLAG };
    match transactions.answer(key, adu.exception(), arrival, shared.limits.response_timeout) {
        Some(matched) => {
            shared.pending -= 1;
            service.matched(matched, shared);
        }
        None => {
            service.unexpected.add(arrival.stamp);
            service.exception_count += u64::from(adu.exception().is_some());
        }
    }
}
