//! Modbus on a connection (requests matched with answers) and at a server (what came of them).

use super::{
    client_times::ClientTimes,
    clients::Asked,
    heartbeats::HeartbeatState,
    lane::Lane,
    polls::{AllPolls, Polls},
    queries::QueryTally,
    quiet::Quiet,
    shared::Shared,
    spread::Durations,
    strays::{Stray, Strays},
    stream::{Arrival, ahead},
    tally::{Stamp, Tally},
    transactions::{ANSWER_IS_CUT, Fate, Matched, ONE_SIDED, Pending, Transactions},
};
use crate::{
    api::{Protocol, TransactionOutcome},
    protocol::{
        Step,
        modbus::{self, Adu, EXCEPTION_FLAG, Echo, Query},
    },
};
use std::net::IpAddr;

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

impl Key {
    fn of(adu: &Adu<'_>) -> Self {
        Self { transaction_id: adu.transaction_id, unit_id: adu.unit_id, function: adu.function() & !EXCEPTION_FLAG }
    }
}

/// What is kept of an answer.
#[derive(Debug, Clone, Copy)]
struct Reply {
    exception: Option<u8>,
    /// What it says of the request that it belongs to.
    echo: Echo,
    /// What it is while no request is known.
    stray: Stray,
}

/// What was seen of a server's Modbus, over all its connections.
#[derive(Debug, Default)]
pub(super) struct ModbusService {
    pub requests: u64,
    pub responses: u64,
    pub times: Durations,
    /// Those of each client.
    pub client_times: ClientTimes,
    /// By exception code.
    pub exceptions: Vec<(u8, QueryTally<Query>)>,
    /// With codes beyond those that are told apart.
    pub other_exceptions: QueryTally<Query>,
    pub exception_count: u64,
    pub unanswered: QueryTally<Query>,
    pub slow: QueryTally<Query>,
    pub late: QueryTally<Query>,
    /// Answers to no request that was seen.
    pub strays: Strays,
    /// Of the unanswered requests, those that the server's TCP has acknowledged.
    pub unanswered_acknowledged: u64,
    /// Bytes where a frame should be.
    pub malformed: Tally,
    /// Frames that are not as long as their function and their own byte count say, ...
    pub wrong_length: Tally,
    /// ... and answers of another size, or for another place, than was asked for.
    pub misfits: QueryTally<Query>,
    /// Requests by function code.
    pub functions: Vec<(u8, u64)>,
    pub units: Vec<(u8, UnitStats)>,
    /// The polls of connections that are over.
    pub polls: AllPolls,
    /// Requests of which nothing can be said, because the capture has one direction of their connection only.
    pub unseen: u64,
    /// When it answered nothing.
    pub quiet: Quiet,
    /// The registers that are watched here.
    pub heartbeats: Vec<HeartbeatState>,
}

/// The unit id of requests for all units, which no gateway answers. Some devices take it for their own, and do.
const BROADCAST: u8 = 0;
/// Units of one server told apart: all there can be.
const MAX_UNITS: usize = 256;

/// What came of the requests to one unit.
#[derive(Debug, Clone, Default)]
pub(super) struct UnitStats {
    pub requests: u64,
    /// The first request and the latest.
    pub asked: Option<(Stamp, Stamp)>,
    pub responses: u64,
    pub exceptions: u64,
    pub unanswered: u64,
    /// None while there is one unit only: its times are those of the server.
    times: Durations,
}

impl ModbusService {
    /// Whether any Modbus was seen; a watched register alone is none.
    pub fn is_seen(&self) -> bool {
        self.requests + self.responses + self.strays.total() + self.malformed.count + self.wrong_length.count > 0
    }

    fn unit(&mut self, unit_id: u8) -> Option<&mut UnitStats> {
        let place = match self.units.iter().position(|(known, _)| *known == unit_id) {
            Some(place) => place,
            None if self.units.len() < MAX_UNITS => {
                match &mut self.units[..] {
                    // Most servers have one unit only.
                    [] => self.units.reserve_exact(1),
                    [(_, only)] => only.times = self.times.clone(),
                    _ => {}
                }
                self.units.push((unit_id, UnitStats::default()));
                self.units.len() - 1
            }
            None => return None,
        };
        self.units.get_mut(place).map(|(_, stats)| stats)
    }

    /// How long the answers of a unit took.
    pub fn times_of<'a>(&'a self, unit: &'a UnitStats) -> &'a Durations {
        if self.units.len() == 1 { &self.times } else { &unit.times }
    }

    fn requested(&mut self, query: Query, stamp: Stamp) {
        self.requests += 1;
        if let Some((_, count)) = self.functions.iter_mut().find(|(known, _)| *known == query.function) {
            *count += 1;
        } else {
            // There are no more than 128.
            self.functions.push((query.function, 1));
        }
        if let Some(unit) = self.unit(query.unit_id) {
            unit.requests += 1;
            unit.asked = Some((unit.asked.map_or(stamp, |(first, _)| first), stamp));
        }
    }

    /// A request leaves without an answer.
    fn left(
        &mut self,
        (pending, fate): &(Pending<Key, Query>, Fate),
        acknowledged: Option<u32>,
        asked: &mut Asked,
        shared: &mut Shared,
    ) {
        let (query, stamp) = (pending.detail, pending.arrival.stamp);
        shared.left(Protocol::Modbus, &query, stamp, *fate);
        self.unseen += u64::from(*fate == Fate::Unknown(ONE_SIDED));
        if *fate != Fate::Unanswered {
            return;
        }
        self.unanswered.add(query, stamp);
        self.unanswered_acknowledged += u64::from(is_acknowledged(&pending.arrival, acknowledged));
        asked.unanswered += 1;
        if let Some(unit) = self.unit(query.unit_id) {
            unit.unanswered += 1;
        }
    }

    /// Whether this is a write for all units, as far as this server is known: nobody has answered one for unit 0 here.
    fn is_for_all(&self, query: &Query) -> bool {
        query.unit_id == BROADCAST
            && query.is_write()
            && !self.units.iter().any(|(unit, of)| *unit == BROADCAST && of.responses > 0)
    }

    fn matched(&mut self, matched: Matched<Query, Reply>, asker: IpAddr, asked: &mut Asked, shared: &mut Shared) {
        self.responses += 1;
        let (stamp, ns, exception) = (matched.response.stamp, matched.ns(), matched.answer.exception);
        asked.answered(ns, exception.is_some());
        if shared.record.is_some() {
            let outcome = match exception {
                Some(_) => TransactionOutcome::Exception,
                None if ns > shared.limits.response_timeout => TransactionOutcome::Late,
                None => TransactionOutcome::Answered,
            };
            let misfit =
                || (!matched.answer.echo.fits(&matched.detail)).then(|| "of another size or place than was asked for".to_owned());
            let detail = exception.map(modbus::exception_text).or_else(misfit);
            shared.transaction(Protocol::Modbus, &matched.detail, matched.request.stamp, Some(stamp), outcome, detail);
        }
        self.client_times.add(asker, ns, &self.times, &mut shared.client_stretches);
        if !matched.answer.echo.fits(&matched.detail) {
            self.misfits.add(matched.detail, stamp);
        }
        let has_several = self.units.len() > 1;
        if let Some(unit) = self.unit(matched.detail.unit_id) {
            unit.responses += 1;
            unit.exceptions += u64::from(exception.is_some());
            if has_several {
                unit.times.add(ns);
            }
        }
        self.times.add(ns);
        if ns > shared.limits.response_timeout {
            self.late.add(matched.detail, stamp);
        } else if ns >= shared.limits.slow_response {
            self.slow.add(matched.detail, stamp);
        }
        let Some(code) = exception else { return };
        self.exception_count += 1;
        let at = self.exceptions.iter().position(|(known, _)| *known == code);
        if at.is_none() && self.exceptions.len() < MAX_EXCEPTION_CODES {
            self.exceptions.push((code, QueryTally::default()));
        }
        let queries = match at {
            Some(at) => self.exceptions.get_mut(at),
            None => self.exceptions.last_mut().filter(|(known, _)| *known == code),
        };
        queries.map_or(&mut self.other_exceptions, |(_, queries)| queries).add(matched.detail, stamp);
    }
}

/// Whether a request's bytes have arrived at the server, by what it has acknowledged.
pub(super) fn is_acknowledged(request: &Arrival, acknowledged: Option<u32>) -> bool {
    acknowledged.is_some_and(|acknowledged| ahead(acknowledged, request.seq_end) >= 0)
}

/// One connection's Modbus.
#[derive(Debug)]
pub(super) struct ModbusFlow {
    /// Who asks.
    asker: IpAddr,
    /// From the client, and from the server.
    lanes: [Lane; 2],
    transactions: Transactions<Key, Query, Reply>,
    /// What came of the requests of this connection.
    pub asked: Asked,
    polls: Polls,
}

impl ModbusFlow {
    /// A connection of this client, seen from its beginning, or not.
    pub fn new(from_beginning: bool, asker: IpAddr) -> Self {
        Self {
            asker,
            lanes: [Lane::new(from_beginning), Lane::new(from_beginning)],
            transactions: Transactions::new(from_beginning),
            asked: Asked::default(),
            polls: Polls::default(),
        }
    }

    /// The capture has one direction of the connection only, or turns out to have both.
    pub fn set_one_sided(&mut self, one_sided: bool) {
        self.transactions.set_one_sided(one_sided);
    }

    pub fn lost(&mut self, from_server: bool) {
        self.lanes[usize::from(from_server)].lost();
    }

    /// The queries that are repeated.
    pub fn polls(&self) -> &Polls {
        &self.polls
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
        let Self { asker, lanes, transactions, asked, polls } = self;
        lanes[usize::from(from_server)].feed(bytes, |bytes, in_step| {
            if !in_step && !modbus::looks_like_adu(bytes) {
                return Step::Skip { length: modbus::next_start(bytes), error: () };
            }
            match modbus::step(bytes) {
                Step::Frame { frame, length } => {
                    let is_whole = if from_server { modbus::response_is_whole } else { modbus::request_is_whole };
                    if !is_whole(frame.pdu) {
                        service.wrong_length.add(arrival.stamp);
                    }
                    adu(&frame, from_server, (arrival, acknowledged, *asker), transactions, (service, asked, polls), shared);
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

    /// The capture cut off the `missing` bytes behind those that were fed last.
    pub fn cut(
        &mut self,
        from_server: bool,
        missing: usize,
        (arrival, acknowledged): (Arrival, Option<u32>),
        service: &mut ModbusService,
        shared: &mut Shared,
    ) {
        let Self { asker, lanes, transactions, asked, polls } = self;
        let is_told = lanes[usize::from(from_server)].cut(missing, |bytes| {
            let (frame, length) = modbus::head(bytes)?;
            adu(&frame, from_server, (arrival, acknowledged, *asker), transactions, (service, asked, polls), shared);
            Some(length)
        });
        if from_server && !is_told {
            // Any request may have been answered in what is missing.
            while let Some(pending) = transactions.pop_oldest() {
                shared.pending -= 1;
                service.left(&(pending, Fate::Unknown(ANSWER_IS_CUT)), acknowledged, asked, shared);
            }
        }
    }

    /// The requests that have waited longer than the time-out.
    pub fn overdue<'a>(&'a self, shared: &Shared) -> impl Iterator<Item = (Query, Arrival)> + 'a {
        self.transactions.overdue(shared.now, shared.limits.response_timeout).map(|pending| (pending.detail, pending.arrival))
    }

    /// Those of which nothing can be said, because the capture has one direction only.
    pub fn unseen(&self, shared: &Shared) -> u64 {
        self.transactions.unseen(shared.now, shared.limits.response_timeout)
    }

    /// All requests that wait, and what can be said of them now.
    pub fn waiting<'a>(&'a self, shared: &Shared) -> impl Iterator<Item = (Query, Arrival, Fate)> + 'a {
        let (now, timeout) = (shared.now, shared.limits.response_timeout);
        self.transactions.waiting().map(move |pending| (pending.detail, pending.arrival, pending.fate(now, timeout, false)))
    }

    /// Whether the server has stopped answering.
    pub fn stalled(&self, shared: &Shared) -> bool {
        self.transactions.stalled(shared.now, shared.limits.response_timeout)
    }

    /// The connection of this `client` is forgotten: what is overdue stays unanswered; when the connection is known to be over (`ended`),
    /// what waits is, too.
    pub fn retire(
        &mut self,
        ended: bool,
        client: IpAddr,
        acknowledged: Option<u32>,
        service: &mut ModbusService,
        shared: &mut Shared,
    ) {
        service.polls.add(client, &self.polls);
        while let Some(pending) = self.transactions.pop_oldest() {
            shared.pending -= 1;
            let fate = pending.fate(shared.now, shared.limits.response_timeout, ended);
            service.left(&(pending, fate), acknowledged, &mut self.asked, shared);
        }
    }
}

/// Takes a frame, or the beginning of one.
fn adu(
    adu: &Adu<'_>,
    from_server: bool,
    (arrival, acknowledged, asker): (Arrival, Option<u32>, IpAddr),
    transactions: &mut Transactions<Key, Query, Reply>,
    (service, asked, polls): (&mut ModbusService, &mut Asked, &mut Polls),
    shared: &mut Shared,
) {
    if from_server {
        response(adu, (arrival, asker), transactions, (service, asked), shared);
    } else {
        let query = Query::of_request(adu.unit_id, adu.pdu);
        polls.ask(query, arrival.stamp.at);
        request(adu, query, (arrival, acknowledged, asker), transactions, (service, asked), shared);
    }
}

/// Takes a request; older ones may now count as unanswered.
fn request(
    adu: &Adu<'_>,
    query: Query,
    (arrival, acknowledged, asker): (Arrival, Option<u32>, IpAddr),
    transactions: &mut Transactions<Key, Query, Reply>,
    (service, asked): (&mut ModbusService, &mut Asked),
    shared: &mut Shared,
) {
    asked.requests += 1;
    while let Some(left) = transactions.make_room(arrival.stamp.at, shared) {
        service.left(&left, acknowledged, asked, shared);
    }
    service.requested(query, arrival.stamp);
    service.heartbeats.iter_mut().for_each(|heartbeat| heartbeat.written(asker, &query, adu.pdu, arrival.stamp));
    let is_due = !service.is_for_all(&query);
    if is_due && !transactions.is_one_sided() {
        service.quiet.asked(arrival.stamp);
    }
    match transactions.request(Key::of(adu), query, arrival, is_due) {
        Some(matched) => {
            service.strays.take_back(matched.answer.stray);
            service.exception_count -= u64::from(matched.answer.exception.is_some()).min(service.exception_count);
            service.matched(matched, asker, asked, shared);
        }
        None => shared.pending += 1,
    }
}

fn response(
    adu: &Adu<'_>,
    (arrival, asker): (Arrival, IpAddr),
    transactions: &mut Transactions<Key, Query, Reply>,
    (service, asked): (&mut ModbusService, &mut Asked),
    shared: &mut Shared,
) {
    let (key, timeout) = (Key::of(adu), shared.limits.response_timeout);
    service.quiet.answered(arrival.stamp, timeout);
    let mut reply = Reply { exception: adu.exception(), echo: Echo::of_response(adu.pdu), stray: Stray::Unexpected };
    match transactions.answer(key, reply, arrival, timeout, |query, reply| reply.echo.fits(query)) {
        Some(matched) => {
            shared.pending -= 1;
            if reply.exception.is_none() && reply.echo.fits(&matched.detail) {
                let heartbeats = service.heartbeats.iter_mut();
                heartbeats.for_each(|heartbeat| heartbeat.answered(asker, &matched.detail, adu.pdu, arrival.stamp));
            }
            service.matched(matched, asker, asked, shared);
        }
        None => {
            if transactions.was_answered(key, arrival.stamp.at, timeout) {
                reply.stray = Stray::Duplicate;
            } else if transactions.may_be_from_before(arrival.stamp.at, timeout) {
                reply.stray = Stray::BeforeCapture;
            } else if transactions.waiting().any(|pending| is_but_for_id(&pending.key, &key)) {
                reply.stray = Stray::WrongId;
            } else if transactions.waiting().any(|pending| is_but_for_unit(&pending.key, &key)) {
                reply.stray = Stray::WrongAddress;
            }
            service.strays.add(reply.stray, arrival.stamp);
            service.exception_count += u64::from(reply.exception.is_some());
            transactions.put_aside(key, reply, arrival);
        }
    }
}

fn is_but_for_id(request: &Key, answer: &Key) -> bool {
    (request.unit_id, request.function) == (answer.unit_id, answer.function) && request.transaction_id != answer.transaction_id
}

fn is_but_for_unit(request: &Key, answer: &Key) -> bool {
    (request.transaction_id, request.function) == (answer.transaction_id, answer.function) && request.unit_id != answer.unit_id
}
