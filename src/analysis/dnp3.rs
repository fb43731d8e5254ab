//! DNP3 on a connection (requests matched with responses by application sequence) and at a server (what came of them).

use super::{
    clients::Asked,
    lane::Lane,
    queries::QueryTally,
    shared::Shared,
    spread::Durations,
    stream::Arrival,
    tally::{Stamp, Tally},
    transactions::{Matched, Transactions},
};
use crate::{
    api::{Dnp3View, Protocol, TransactionOutcome},
    protocol::{
        Step,
        dnp3::{
            self, Application, FIRST_BROADCAST_ADDRESS, Frame, Function, Indications, LinkControl, LinkError, LinkFunction, Pushed,
            Reassembler,
        },
    },
};
use std::{fmt, net::IpAddr};

/// Pairs of link addresses told apart on one connection.
const MAX_LINKS: usize = 16;
/// Bits of the internal indications.
const INDICATION_BITS: usize = 16;

/// What a request is known by on its connection. Solicited and unsolicited messages are numbered apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Key {
    master: u16,
    outstation: u16,
    sequence: u8,
    unsolicited: bool,
}

/// A request, or a message that asks to be confirmed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Dnp3Query {
    master: u16,
    outstation: u16,
    function: Function,
}

impl fmt::Display for Dnp3Query {
    /// `read (function 1), master 1 to outstation 1024`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.function.is_response() {
            write!(f, "{}, outstation {} to master {}", self.function, self.outstation, self.master)
        } else {
            write!(f, "{}, master {} to outstation {}", self.function, self.master, self.outstation)
        }
    }
}

/// What was seen of a server's DNP3, over all its connections.
#[derive(Debug, Default)]
pub(super) struct Dnp3Service {
    pub frames: u64,
    /// Frames by link function and by whether the master sent them.
    link_functions: Vec<((LinkFunction, bool), u64)>,
    pub requests: u64,
    pub responses: u64,
    pub unsolicited: u64,
    pub times: Durations,
    pub unanswered: QueryTally<Dnp3Query>,
    pub slow: QueryTally<Dnp3Query>,
    pub late: QueryTally<Dnp3Query>,
    pub unconfirmed: QueryTally<Dnp3Query>,
    pub header_crc_errors: Tally,
    pub data_crc_errors: Tally,
    pub segments_lost: Tally,
    /// Responses to no request that was seen.
    pub unexpected: Tally,
    /// Responses, solicited or not, that carried each bit of the internal indications.
    indications: [Tally; INDICATION_BITS],
    /// Those of the latest response.
    pub latest_indications: Indications,
    /// Responses that carried internal indications.
    pub indicating: u64,
    /// Resets of the link.
    pub link_resets: Tally,
    /// How often the outstation began to report a restart.
    pub restarts: u64,
    /// Who asks whom: the pair of link addresses, and the address of the client.
    masters: Vec<((u16, u16), IpAddr)>,
}

/// Masters told apart at one server.
const MAX_MASTERS: usize = 64;

impl Dnp3Service {
    /// As the bus has it, with `overdue` requests that still wait.
    pub fn view(&self, overdue: u64) -> Dnp3View {
        Dnp3View {
            frames: self.frames,
            requests: self.requests,
            responses: self.responses,
            unsolicited: self.unsolicited,
            unanswered: self.unanswered.count() + overdue,
            crc_errors: self.header_crc_errors.count + self.data_crc_errors.count,
            response_ms: self.times.response_times(),
        }
    }

    /// The responses that carried a bit (of several, the lowest).
    pub fn indicated(&self, bit: Indications) -> Tally {
        self.indications.get(bit.0.trailing_zeros() as usize).copied().unwrap_or_default()
    }

    /// The bits that were set, each with the number of responses.
    pub fn indications(&self) -> impl Iterator<Item = (Indications, u64)> {
        let bit = |at: usize| Indications(1_u16.checked_shl(u32::try_from(at).unwrap_or(0)).unwrap_or(0));
        self.indications.iter().enumerate().filter(|(_, tally)| tally.count > 0).map(move |(at, tally)| (bit(at), tally.count))
    }

    /// The pairs of link addresses that were seen: master, outstation.
    pub fn links(&self) -> impl Iterator<Item = (u16, u16)> {
        let known = self.masters.iter().enumerate();
        known.filter(|(at, (link, _))| !self.masters.iter().take(*at).any(|(before, _)| before == link)).map(|(_, (link, _))| *link)
    }

    /// A pair of link addresses that several clients use, with their addresses.
    pub fn shared_link(&self) -> Option<((u16, u16), Vec<IpAddr>)> {
        self.links().find_map(|link| {
            let clients: Vec<IpAddr> = self.masters.iter().filter(|(known, _)| *known == link).map(|(_, client)| *client).collect();
            (clients.len() > 1).then_some((link, clients))
        })
    }

    /// Frames by link function and by whether the master sent them, most frequent first.
    pub fn link_functions(&self) -> Vec<((LinkFunction, bool), u64)> {
        let mut functions = self.link_functions.clone();
        functions.sort_by_key(|(_, frames)| std::cmp::Reverse(*frames));
        functions
    }

    fn link_frame(&mut self, control: LinkControl) {
        let kind = (control.function, control.from_master);
        match self.link_functions.iter_mut().find(|(known, _)| *known == kind) {
            Some((_, frames)) => *frames += 1,
            // There are no more than two directions of two times sixteen.
            None => self.link_functions.push((kind, 1)),
        }
    }

    fn asked(&mut self, link: (u16, u16), client: IpAddr) {
        if self.masters.len() < MAX_MASTERS && !self.masters.contains(&(link, client)) {
            self.masters.push((link, client));
        }
    }

    fn indicate(&mut self, indications: Indications, stamp: Stamp) {
        self.indicating += 1;
        let restart = Indications::DEVICE_RESTART;
        self.restarts += u64::from(indications.contains(restart) && !self.latest_indications.contains(restart));
        self.latest_indications = indications;
        let mut bits = indications.0;
        while bits != 0 {
            if let Some(tally) = self.indications.get_mut(bits.trailing_zeros() as usize) {
                tally.add(stamp);
            }
            bits &= bits - 1;
        }
    }

    fn matched(&mut self, matched: &Matched<Dnp3Query, ()>, asked: &mut Asked, shared: &mut Shared) {
        let (stamp, ns) = (matched.response.stamp, matched.ns());
        asked.answered(ns, false);
        let is_late = ns > shared.limits.response_timeout;
        let outcome = if is_late { TransactionOutcome::Late } else { TransactionOutcome::Answered };
        shared.transaction(Protocol::Dnp3, &matched.detail, matched.request.stamp, Some(stamp), outcome, None);
        self.responses += 1;
        self.times.add(ns);
        if ns > shared.limits.response_timeout {
            self.late.add(matched.detail, stamp);
        } else if ns >= shared.limits.slow_response {
            self.slow.add(matched.detail, stamp);
        }
    }
}

/// One connection's DNP3.
#[derive(Debug)]
pub(super) struct Dnp3Flow {
    /// From the client, and from the server. Either may be the master.
    lanes: [Lane; 2],
    /// By source and destination address.
    links: Vec<((u16, u16), Reassembler)>,
    messages: Messages,
    user_data: Vec<u8>,
}

/// Messages that wait for another.
#[derive(Debug, Default)]
struct Messages {
    requests: Transactions<Key, Dnp3Query, ()>,
    /// Responses that ask to be confirmed.
    confirms: Transactions<Key, Dnp3Query, ()>,
    asked: Asked,
}

impl Dnp3Flow {
    pub fn new(from_beginning: bool) -> Self {
        Self {
            lanes: [Lane::new(from_beginning), Lane::new(from_beginning)],
            links: Vec::new(),
            messages: Messages::default(),
            user_data: Vec::new(),
        }
    }

    /// What came of the requests of this connection.
    pub fn asked(&self) -> &Asked {
        &self.messages.asked
    }

    pub fn lost(&mut self, from_server: bool) {
        self.lanes[usize::from(from_server)].lost();
    }

    /// Takes bytes of either side. `master` is the address of the side that asks, as far as the connection tells.
    pub fn feed(
        &mut self,
        from_server: bool,
        bytes: &[u8],
        arrival: Arrival,
        master: IpAddr,
        service: &mut Dnp3Service,
        shared: &mut Shared,
    ) {
        let Self { lanes, links, messages, user_data } = self;
        lanes[usize::from(from_server)].feed(bytes, |bytes, _| match dnp3::step(bytes) {
            Step::Frame { frame, length } => {
                service.frames += 1;
                service.link_frame(frame.header.control);
                if frame.header.control.function == LinkFunction::ResetLinkStates {
                    service.link_resets.add(arrival.stamp);
                }
                if frame.header.control.function.carries_data() && frame.has_data() {
                    user_data.clear();
                    frame.user_data(user_data);
                    segment(&frame, user_data, links, messages, (arrival, master), service, shared);
                }
                Step::Frame { frame: (), length }
            }
            Step::Skip { length, error } => {
                match error {
                    LinkError::HeaderCrc => service.header_crc_errors.add(arrival.stamp),
                    LinkError::DataCrc { .. } => {
                        service.frames += 1;
                        service.data_crc_errors.add(arrival.stamp);
                    }
                    LinkError::Start | LinkError::Length(_) => {}
                }
                Step::Skip { length, error: () }
            }
            Step::NeedMore => Step::NeedMore,
        });
    }

    /// The requests that have waited longer than the time-out.
    pub fn overdue<'a>(&'a self, shared: &Shared) -> impl Iterator<Item = (Dnp3Query, Arrival)> + 'a {
        let requests = &self.messages.requests;
        requests.overdue(shared.now, shared.limits.response_timeout).map(|pending| (pending.detail, pending.arrival))
    }

    /// The messages that nobody confirmed within the time-out.
    pub fn unconfirmed<'a>(&'a self, shared: &Shared) -> impl Iterator<Item = (Dnp3Query, Arrival)> + 'a {
        let confirms = &self.messages.confirms;
        confirms.overdue(shared.now, shared.limits.response_timeout).map(|pending| (pending.detail, pending.arrival))
    }

    /// Whether the outstation has stopped answering.
    pub fn stalled(&self, shared: &Shared) -> bool {
        self.messages.requests.stalled(shared.now, shared.limits.response_timeout)
    }

    /// The connection is forgotten; see [`super::modbus::ModbusFlow::retire`].
    pub fn retire(&mut self, ended: bool, service: &mut Dnp3Service, shared: &mut Shared) {
        let missing = |at: i64, shared: &Shared| ended || shared.now.saturating_sub(at) > shared.limits.response_timeout;
        while let Some(pending) = self.messages.requests.pop_oldest() {
            shared.pending -= 1;
            if missing(pending.arrival.stamp.at, shared) {
                let (query, stamp) = (pending.detail, pending.arrival.stamp);
                shared.transaction(Protocol::Dnp3, &query, stamp, None, TransactionOutcome::Unanswered, None);
                service.unanswered.add(pending.detail, pending.arrival.stamp);
                self.messages.asked.unanswered += 1;
            }
        }
        while let Some(pending) = self.messages.confirms.pop_oldest() {
            shared.pending -= 1;
            if missing(pending.arrival.stamp.at, shared) {
                service.unconfirmed.add(pending.detail, pending.arrival.stamp);
            }
        }
    }
}

fn segment(
    frame: &Frame<'_>,
    user_data: &[u8],
    links: &mut Vec<((u16, u16), Reassembler)>,
    messages: &mut Messages,
    (arrival, master): (Arrival, IpAddr),
    service: &mut Dnp3Service,
    shared: &mut Shared,
) {
    let link = (frame.header.source, frame.header.destination);
    let known = links.iter().position(|(known, _)| *known == link);
    let at = known.unwrap_or_else(|| {
        if links.len() == MAX_LINKS {
            links.remove(0);
        }
        links.push((link, Reassembler::default()));
        links.len() - 1
    });
    let Some((_, reassembler)) = links.get_mut(at) else { return };
    match reassembler.push(user_data) {
        Pushed::Fragment(fragment) => {
            if let Some((application, _)) = Application::decode(fragment) {
                messages.take(application, link, (arrival, master), service, shared);
            }
        }
        // The first segment of a link may be one in the middle: the capture began after the first one.
        Pushed::Lost if known.is_some() => service.segments_lost.add(arrival.stamp),
        Pushed::Lost | Pushed::Incomplete | Pushed::Duplicate => {}
    }
}

impl Messages {
    fn take(
        &mut self,
        application: Application,
        (source, destination): (u16, u16),
        (arrival, asker): (Arrival, IpAddr),
        service: &mut Dnp3Service,
        shared: &mut Shared,
    ) {
        let (control, function) = (application.control, application.function);
        let from_outstation = function.is_response();
        let (master, outstation) = if from_outstation { (destination, source) } else { (source, destination) };
        let key = Key { master, outstation, sequence: control.sequence, unsolicited: control.unsolicited };
        let query = Dnp3Query { master, outstation, function };
        let timeout = shared.limits.response_timeout;
        if let Some(indications) = application.indications {
            service.indicate(indications, arrival.stamp);
        }
        if function == Function::CONFIRM {
            if self.confirms.answer(key, (), arrival, timeout).is_some() {
                shared.pending -= 1;
            }
            return;
        }
        if function == Function::UNSOLICITED_RESPONSE {
            service.unsolicited += 1;
        } else if from_outstation {
            match self.requests.answer(key, (), arrival, timeout) {
                Some(matched) => {
                    shared.pending -= 1;
                    service.matched(&matched, &mut self.asked, shared);
                }
                None => service.unexpected.add(arrival.stamp),
            }
        } else {
            service.requests += 1;
            self.asked.requests += 1;
            service.asked((master, outstation), asker);
            if function.expects_response() && outstation < FIRST_BROADCAST_ADDRESS {
                let (unanswered, matched) = wait(&mut self.requests, key, query, arrival, &mut service.unanswered, shared);
                self.asked.unanswered += unanswered;
                if let Some(matched) = matched {
                    service.unexpected.count = service.unexpected.count.saturating_sub(1);
                    service.matched(&matched, &mut self.asked, shared);
                }
            }
        }
        if from_outstation && control.confirm {
            wait(&mut self.confirms, key, query, arrival, &mut service.unconfirmed, shared);
        }
    }
}

/// Lets a message wait for its answer. Gives how many older ones are now counted as missing theirs, and the transaction if the
/// answer was there before.
fn wait(
    waiting: &mut Transactions<Key, Dnp3Query, ()>,
    key: Key,
    query: Dnp3Query,
    arrival: Arrival,
    missing: &mut QueryTally<Dnp3Query>,
    shared: &mut Shared,
) -> (u64, Option<Matched<Dnp3Query, ()>>) {
    let timeout = shared.limits.response_timeout;
    let mut counted = 0;
    while let Some(old) = waiting.expired(arrival.stamp.at, timeout) {
        shared.pending -= 1;
        missing.add(old.detail, old.arrival.stamp);
        counted += 1;
    }
    if shared.pending_is_full(waiting.len())
        && let Some(old) = waiting.pop_oldest()
    {
        shared.pending -= 1;
        if arrival.stamp.at.saturating_sub(old.arrival.stamp.at) > timeout {
            missing.add(old.detail, old.arrival.stamp);
            counted += 1;
        } else {
            shared.requests_forgotten += 1;
        }
    }
    let matched = waiting.request(key, query, arrival);
    if matched.is_none() {
        shared.pending += 1;
    }
    (counted, matched)
}
