//! Modbus on a connection (requests matched with answers) and at a server (what came of them).

use super::{
    clients::Asked,
    heartbeats::HeartbeatState,
    lane::Lane,
    polls::{self, Poll, Polls},
    queries::QueryTally,
    shared::Shared,
    spread::Durations,
    stream::{Arrival, ahead},
    tally::{Tally, Times},
    transactions::{Matched, Pending, Transactions},
};
use crate::{
    api::{ModbusView, Protocol, TransactionOutcome},
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
    pub times: Durations,
    /// By exception code.
    pub exceptions: Vec<(u8, QueryTally<Query>)>,
    pub exception_count: u64,
    pub unanswered: QueryTally<Query>,
    pub slow: QueryTally<Query>,
    pub late: QueryTally<Query>,
    /// Answers to no request that was seen; of these, second answers to one request, ...
    pub unexpected: Tally,
    pub duplicates: Tally,
    /// ... and those that fit a request that waits, but for the transaction id or the unit id.
    pub wrong_id: Tally,
    pub wrong_unit: Tally,
    /// Of the unanswered requests, those that the server's TCP has acknowledged.
    pub unanswered_acknowledged: u64,
    /// Bytes where a frame should be.
    pub malformed: Tally,
    /// Requests by function code.
    pub functions: Vec<(u8, u64)>,
    pub units: Vec<(u8, UnitStats)>,
    /// The polls of connections that are over.
    pub polls: Vec<Poll>,
    /// The registers that are watched here.
    pub heartbeats: Vec<HeartbeatState>,
}

/// Units of one server told apart: all there can be.
const MAX_UNITS: usize = 256;
/// Function codes told apart.
const MAX_FUNCTIONS: usize = 32;

/// What came of the requests to one unit.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct UnitStats {
    pub requests: u64,
    pub responses: u64,
    pub exceptions: u64,
    pub unanswered: u64,
    pub times: Times,
}

impl ModbusService {
    /// Whether any Modbus was seen; a watched register alone is none.
    pub fn is_seen(&self) -> bool {
        self.requests + self.responses + self.unexpected.count + self.malformed.count > 0
    }

    fn unit(&mut self, unit_id: u8) -> Option<&mut UnitStats> {
        let place = match self.units.iter().position(|(known, _)| *known == unit_id) {
            Some(place) => place,
            None if self.units.len() < MAX_UNITS => {
                self.units.push((unit_id, UnitStats::default()));
                self.units.len() - 1
            }
            None => return None,
        };
        self.units.get_mut(place).map(|(_, stats)| stats)
    }

    fn requested(&mut self, query: Query) {
        self.requests += 1;
        if let Some((_, count)) = self.functions.iter_mut().find(|(known, _)| *known == query.function) {
            *count += 1;
        } else if self.functions.len() < MAX_FUNCTIONS {
            self.functions.push((query.function, 1));
        }
        if let Some(unit) = self.unit(query.unit_id) {
            unit.requests += 1;
        }
    }

    /// Nobody answered a request in time.
    fn unanswered(&mut self, pending: &Pending<Key, Query>, acknowledged: Option<u32>, shared: &mut Shared) {
        let (query, stamp) = (pending.detail, pending.arrival.stamp);
        shared.transaction(Protocol::Modbus, &query, stamp, None, TransactionOutcome::Unanswered, None);
        self.unanswered.add(pending.detail, pending.arrival.stamp);
        self.unanswered_acknowledged += u64::from(is_acknowledged(&pending.arrival, acknowledged));
        if let Some(unit) = self.unit(pending.detail.unit_id) {
            unit.unanswered += 1;
        }
    }

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

    fn matched(&mut self, matched: Matched<Query, Option<u8>>, asked: &mut Asked, shared: &mut Shared) {
        self.responses += 1;
        let (stamp, ns) = (matched.response.stamp, matched.ns());
        asked.answered(ns, matched.answer.is_some());
        if shared.record.is_some() {
            let outcome = match matched.answer {
                Some(_) => TransactionOutcome::Exception,
                None if ns > shared.limits.response_timeout => TransactionOutcome::Late,
                None => TransactionOutcome::Answered,
            };
            let detail = matched.answer.map(modbus::exception_text);
            shared.transaction(Protocol::Modbus, &matched.detail, matched.request.stamp, Some(stamp), outcome, detail);
        }
        self.times.add(ns);
        if let Some(unit) = self.unit(matched.detail.unit_id) {
            unit.responses += 1;
            unit.times.add(ns);
            unit.exceptions += u64::from(matched.answer.is_some());
        }
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

/// Whether a request's bytes have arrived at the server, by what it has acknowledged.
pub(super) fn is_acknowledged(request: &Arrival, acknowledged: Option<u32>) -> bool {
    acknowledged.is_some_and(|acknowledged| ahead(acknowledged, request.seq_end) >= 0)
}

/// One connection's Modbus.
#[derive(Debug)]
pub(super) struct ModbusFlow {
    /// From the client, and from the server.
    lanes: [Lane; 2],
    transactions: Transactions<Key, Query, Option<u8>>,
    /// What came of the requests of this connection.
    pub asked: Asked,
    polls: Polls,
}

impl ModbusFlow {
    /// A connection seen from its beginning, or not.
    pub fn new(from_beginning: bool) -> Self {
        Self {
            lanes: [Lane::new(from_beginning), Lane::new(from_beginning)],
            transactions: Transactions::default(),
            asked: Asked::default(),
            polls: Polls::default(),
        }
    }

    pub fn lost(&mut self, from_server: bool) {
        self.lanes[usize::from(from_server)].lost();
    }

    /// The queries that are repeated.
    pub fn polls(&self) -> &[Poll] {
        self.polls.list()
    }

    /// Takes bytes of either side. `acknowledged` is what the server has acknowledged.
    pub fn feed(
        &mut self,
        from_server: bool,
        bytes: &[u8],
        arrival: Arrival,
        acknowledged: Option<u32>,
        service: &mut ModbusService,
        shared: &mut Shared,
    ) {
        let Self { lanes, transactions, asked, polls } = self;
        lanes[usize::from(from_server)].feed(bytes, |bytes, in_step| {
            if !in_step && !modbus::looks_like_adu(bytes) {
                return Step::Skip { length: modbus::next_start(bytes), error: () };
            }
            match modbus::step(bytes) {
                Step::Frame { frame, length } => {
                    if from_server {
                        response(frame, arrival, transactions, (service, asked), shared);
                    } else {
                        let query = Query::of_request(frame.unit_id, frame.pdu);
                        polls.ask(query, arrival.stamp.at);
                        request(frame, query, (arrival, acknowledged), transactions, (service, asked), shared);
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
    pub fn retire(&mut self, ended: bool, acknowledged: Option<u32>, service: &mut ModbusService, shared: &mut Shared) {
        polls::merge(&mut service.polls, self.polls.list());
        while let Some(pending) = self.transactions.pop_oldest() {
            shared.pending -= 1;
            if ended || shared.now.saturating_sub(pending.arrival.stamp.at) > shared.limits.response_timeout {
                service.unanswered(&pending, acknowledged, shared);
                self.asked.unanswered += 1;
            }
        }
    }
}

/// Takes a request; older ones may now count as unanswered.
fn request(
    adu: Adu<'_>,
    query: Query,
    (arrival, acknowledged): (Arrival, Option<u32>),
    transactions: &mut Transactions<Key, Query, Option<u8>>,
    (service, asked): (&mut ModbusService, &mut Asked),
    shared: &mut Shared,
) {
    asked.requests += 1;
    while let Some(old) = transactions.expired(arrival.stamp.at, shared.limits.response_timeout) {
        shared.pending -= 1;
        service.unanswered(&old, acknowledged, shared);
        asked.unanswered += 1;
    }
    if shared.pending_is_full(transactions.len())
        && let Some(old) = transactions.pop_oldest()
    {
        shared.pending -= 1;
        if arrival.stamp.at.saturating_sub(old.arrival.stamp.at) > shared.limits.response_timeout {
            service.unanswered(&old, acknowledged, shared);
            asked.unanswered += 1;
        } else {
            shared.requests_forgotten += 1;
        }
    }
    service.requested(query);
    service.heartbeats.iter_mut().for_each(|heartbeat| heartbeat.written(&query, adu.pdu, arrival.stamp));
    let key = Key { transaction_id: adu.transaction_id, unit_id: adu.unit_id, function: adu.function() & !EXCEPTION_FLAG };
    match transactions.request(key, query, arrival) {
        Some(matched) => {
            service.unexpected.count = service.unexpected.count.saturating_sub(1);
            service.exception_count -= u64::from(matched.answer.is_some()).min(service.exception_count);
            service.matched(matched, asked, shared);
        }
        None => shared.pending += 1,
    }
}

fn response(
    adu: Adu<'_>,
    arrival: Arrival,
    transactions: &mut Transactions<Key, Query, Option<u8>>,
    (service, asked): (&mut ModbusService, &mut Asked),
    shared: &mut Shared,
) {
    let key = Key { transaction_id: adu.transaction_id, unit_id: adu.unit_id, function: adu.function() & !EXCEPTION_FLAG };
    match transactions.answer(key, adu.exception(), arrival, shared.limits.response_timeout) {
        Some(matched) => {
            shared.pending -= 1;
            if matched.answer.is_none() {
                let heartbeats = service.heartbeats.iter_mut();
                heartbeats.for_each(|heartbeat| heartbeat.answered(&matched.detail, adu.pdu, arrival.stamp));
            }
            service.matched(matched, asked, shared);
        }
        None => {
            if transactions.was_answered(key, arrival.stamp.at, shared.limits.response_timeout) {
                service.duplicates.add(arrival.stamp);
            } else if transactions.waiting().any(|pending| is_but_for_id(&pending.key, &key)) {
                service.wrong_id.add(arrival.stamp);
            } else if transactions.waiting().any(|pending| is_but_for_unit(&pending.key, &key)) {
                service.wrong_unit.add(arrival.stamp);
            }
            service.unexpected.add(arrival.stamp);
            service.exception_count += u64::from(adu.exception().is_some());
        }
    }
}

fn is_but_for_id(request: &Key, answer: &Key) -> bool {
    (request.unit_id, request.function) == (answer.unit_id, answer.function) && request.transaction_id != answer.transaction_id
}

fn is_but_for_unit(request: &Key, answer: &Key) -> bool {
    (request.transaction_id, request.function) == (answer.transaction_id, answer.function) && request.unit_id != answer.unit_id
}
