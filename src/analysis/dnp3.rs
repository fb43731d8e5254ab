//! DNP3 on a connection (requests matched with responses by application sequence) and at a server (what came of them).

use super::{
    client_times::ClientTimes,
    clients::Asked,
    lane::Lane,
    link_use::LinkUse,
    queries::QueryTally,
    quiet::Quiet,
    shared::Shared,
    spread::Durations,
    strays::{Stray, Strays},
    stream::Arrival,
    tally::{Stamp, Tally},
    transactions::{ANSWER_IS_CUT, Fate, Matched, ONE_SIDED, Pending, Transactions},
};
use crate::{
    api::{Protocol, TransactionOutcome},
    protocol::{
        Step,
        dnp3::{
            self, Application, Control, FIRST_BROADCAST_ADDRESS, Function, Indications, LinkControl, LinkError, LinkFunction,
            LinkHeader, Pushed, Reassembler, SELF_ADDRESS, Segment,
        },
    },
};
use std::{
    fmt,
    net::{IpAddr, SocketAddr},
};

/// Pairs of link addresses told apart on one connection.
const MAX_LINKS: usize = 16;
/// Responses of several fragments that are under way on one connection.
const MAX_SERIES: usize = 8;
/// Application sequences are counted from 0 to this.
const SEQUENCE: u8 = 15;
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
    /// Those of each master.
    pub client_times: ClientTimes,
    pub unanswered: QueryTally<Dnp3Query>,
    pub slow: QueryTally<Dnp3Query>,
    pub late: QueryTally<Dnp3Query>,
    pub unconfirmed: QueryTally<Dnp3Query>,
    pub header_crc_errors: Tally,
    pub data_crc_errors: Tally,
    pub segments_lost: Tally,
    /// Responses to no request that was seen.
    pub strays: Strays,
    /// Fragments of responses behind their first ones.
    pub further_fragments: u64,
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
    /// Link frames that asked to be acknowledged and were not, on connections that are over.
    pub link_unacknowledged: Tally,
    /// Who speaks to whom.
    pub links: LinkUse,
    /// Requests of which nothing can be said, because the capture has one direction of their connection only.
    pub unseen: u64,
    /// When it answered nothing.
    pub quiet: Quiet,
}

impl Dnp3Service {
    /// The responses that carried a bit (of several, the lowest).
    pub fn indicated(&self, bit: Indications) -> Tally {
        self.indications.get(bit.0.trailing_zeros() as usize).copied().unwrap_or_default()
    }

    /// The bits that were set, each with the number of responses.
    pub fn indications(&self) -> impl Iterator<Item = (Indications, u64)> {
        let bit = |at: usize| Indications(1_u16.checked_shl(u32::try_from(at).unwrap_or(0)).unwrap_or(0));
        self.indications.iter().enumerate().filter(|(_, tally)| tally.count > 0).map(move |(at, tally)| (bit(at), tally.count))
    }

    /// Frames by link function and by whether the master sent them, most frequent first.
    pub fn link_functions(&self) -> Vec<((LinkFunction, bool), u64)> {
        let mut functions = self.link_functions.clone();
        functions.sort_by_key(|(_, frames)| std::cmp::Reverse(*frames));
        functions
    }

    fn link_frame(&mut self, control: LinkControl, stamp: Stamp) {
        self.frames += 1;
        if control.function == LinkFunction::ResetLinkStates {
            self.link_resets.add(stamp);
        }
        let kind = (control.function, control.from_master);
        match self.link_functions.iter_mut().find(|(known, _)| *known == kind) {
            Some((_, frames)) => *frames += 1,
            // There are no more than two directions of two times sixteen.
            None => self.link_functions.push((kind, 1)),
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

    fn matched(&mut self, matched: &Matched<Dnp3Query, Stray>, asker: IpAddr, asked: &mut Asked, shared: &mut Shared) {
        let (stamp, ns) = (matched.response.stamp, matched.ns());
        asked.answered(ns, false);
        let is_late = ns > shared.limits.response_timeout;
        let outcome = if is_late { TransactionOutcome::Late } else { TransactionOutcome::Answered };
        shared.transaction(Protocol::Dnp3, &matched.detail, matched.request.stamp, Some(stamp), outcome, None);
        self.responses += 1;
        self.client_times.add(asker, ns, &self.times, &mut shared.client_stretches);
        self.times.add(ns);
        if is_late {
            self.late.add(matched.detail, stamp);
        } else if ns >= shared.limits.slow_response {
            self.slow.add(matched.detail, stamp);
        }
    }

    /// A request leaves without an answer.
    fn left(&mut self, (pending, fate): &(Pending<Key, Dnp3Query>, Fate), asked: &mut Asked, shared: &mut Shared) {
        let (query, stamp) = (pending.detail, pending.arrival.stamp);
        shared.left(Protocol::Dnp3, &query, stamp, *fate);
        self.unseen += u64::from(*fate == Fate::Unknown(ONE_SIDED));
        if *fate == Fate::Unanswered {
            self.unanswered.add(query, stamp);
            asked.unanswered += 1;
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
    /// Link frames that wait to be acknowledged, by source and destination address.
    unacknowledged: Vec<((u16, u16), Stamp)>,
    /// Those that were not.
    never_acknowledged: Tally,
    messages: Messages,
    user_data: Vec<u8>,
}

/// Messages that wait for another.
#[derive(Debug)]
struct Messages {
    requests: Transactions<Key, Dnp3Query, Stray>,
    /// Responses that ask to be confirmed.
    confirms: Transactions<Key, Dnp3Query, Stray>,
    /// Responses of several fragments, of which the last one has not come.
    series: Vec<Series>,
    /// Whether the outstation was asked by the address that any may have for its own.
    asked_whoever: bool,
    asked: Asked,
}

/// A response of several fragments that is under way: their sequences follow on one another.
#[derive(Debug, Clone, Copy)]
struct Series {
    /// The request.
    key: Key,
    /// The sequence of the next fragment; `None` once one is missing.
    next: Option<u8>,
}

impl Dnp3Flow {
    pub fn new(from_beginning: bool) -> Self {
        Self {
            lanes: [Lane::new(from_beginning), Lane::new(from_beginning)],
            links: Vec::new(),
            unacknowledged: Vec::new(),
            never_acknowledged: Tally::default(),
            messages: Messages {
                requests: Transactions::new(from_beginning),
                confirms: Transactions::new(from_beginning),
                series: Vec::new(),
                asked_whoever: false,
                asked: Asked::default(),
            },
            user_data: Vec::new(),
        }
    }

    /// What came of the requests of this connection.
    pub fn asked(&self) -> &Asked {
        &self.messages.asked
    }

    /// The capture has one direction of the connection only, or turns out to have both.
    pub fn set_one_sided(&mut self, one_sided: bool) {
        self.messages.requests.set_one_sided(one_sided);
        self.messages.confirms.set_one_sided(one_sided);
    }

    pub fn lost(&mut self, from_server: bool) {
        self.lanes[usize::from(from_server)].lost();
    }

    /// Takes bytes of either side. `master` is the side that asks, as far as the connection tells.
    pub fn feed(
        &mut self,
        from_server: bool,
        bytes: &[u8],
        arrival: Arrival,
        master: SocketAddr,
        service: &mut Dnp3Service,
        shared: &mut Shared,
    ) {
        let Self { lanes, links, unacknowledged, never_acknowledged, messages, user_data } = self;
        let mut reading = Reading { links, messages, arrival, master, service, shared };
        lanes[usize::from(from_server)].feed(bytes, |bytes, _| match dnp3::step(bytes) {
            Step::Frame { frame, length } => {
                reading.service.link_frame(frame.header.control, arrival.stamp);
                acknowledge(&frame.header, arrival.stamp, unacknowledged, never_acknowledged);
                if frame.header.control.function.carries_data() && frame.has_data() {
                    user_data.clear();
                    frame.user_data(user_data);
                    reading.segment(&frame.header, user_data);
                }
                Step::Frame { frame: (), length }
            }
            Step::Skip { length, error } => {
                match error {
                    LinkError::HeaderCrc => reading.service.header_crc_errors.add(arrival.stamp),
                    LinkError::DataCrc { header, .. } => {
                        reading.service.link_frame(header.control, arrival.stamp);
                        reading.service.data_crc_errors.add(arrival.stamp);
                    }
                    LinkError::Start | LinkError::Length(_) => {}
                }
                Step::Skip { length, error: () }
            }
            Step::NeedMore => Step::NeedMore,
        });
    }

    /// The capture cut off the `missing` bytes behind those that were fed last.
    pub fn cut(
        &mut self,
        from_server: bool,
        missing: usize,
        (arrival, master): (Arrival, SocketAddr),
        service: &mut Dnp3Service,
        shared: &mut Shared,
    ) {
        let Self { lanes, links, unacknowledged, never_acknowledged, messages, .. } = self;
        let mut reading = Reading { links, messages, arrival, master, service, shared };
        let mut is_read = true;
        let is_told = lanes[usize::from(from_server)].cut(missing, |bytes| {
            let (header, length, first) = dnp3::head(bytes)?;
            reading.service.link_frame(header.control, arrival.stamp);
            acknowledge(&header, arrival.stamp, unacknowledged, never_acknowledged);
            if header.control.function.carries_data() {
                is_read = reading.segment_head(&header, first);
            }
            Some(length)
        });
        if !(is_told && is_read) {
            // Any request may have been answered, and any response confirmed, in what is missing.
            while let Some(pending) = messages.requests.pop_oldest() {
                shared.pending -= 1;
                service.left(&(pending, Fate::Unknown(ANSWER_IS_CUT)), &mut messages.asked, shared);
            }
            while messages.confirms.pop_oldest().is_some() {
                shared.pending -= 1;
            }
        }
    }

    /// The requests that have waited longer than the time-out.
    pub fn overdue<'a>(&'a self, shared: &Shared) -> impl Iterator<Item = (Dnp3Query, Arrival)> + 'a {
        let requests = &self.messages.requests;
        requests.overdue(shared.now, shared.limits.response_timeout).map(|pending| (pending.detail, pending.arrival))
    }

    /// Those of which nothing can be said, because the capture has one direction only.
    pub fn unseen(&self, shared: &Shared) -> u64 {
        self.messages.requests.unseen(shared.now, shared.limits.response_timeout)
    }

    /// All requests that wait, and what can be said of them now.
    pub fn waiting<'a>(&'a self, shared: &Shared) -> impl Iterator<Item = (Dnp3Query, Arrival, Fate)> + 'a {
        let (now, timeout) = (shared.now, shared.limits.response_timeout);
        self.messages.requests.waiting().map(move |pending| (pending.detail, pending.arrival, pending.fate(now, timeout, false)))
    }

    /// The messages that nobody confirmed within the time-out.
    pub fn unconfirmed<'a>(&'a self, shared: &Shared) -> impl Iterator<Item = (Dnp3Query, Arrival)> + 'a {
        let confirms = &self.messages.confirms;
        confirms.overdue(shared.now, shared.limits.response_timeout).map(|pending| (pending.detail, pending.arrival))
    }

    /// The link frames that nobody acknowledged, within the time-out or before the next one.
    pub fn link_unacknowledged(&self, shared: &Shared) -> Tally {
        if self.messages.requests.is_one_sided() {
            return Tally::default();
        }
        let mut tally = self.never_acknowledged;
        let overdue = |stamp: &&Stamp| shared.now.saturating_sub(stamp.at) > shared.limits.response_timeout;
        self.unacknowledged.iter().map(|(_, stamp)| stamp).filter(overdue).for_each(|stamp| tally.add(*stamp));
        tally
    }

    /// Whether the outstation has stopped answering.
    pub fn stalled(&self, shared: &Shared) -> bool {
        self.messages.requests.stalled(shared.now, shared.limits.response_timeout)
    }

    /// The connection is forgotten; see [`super::modbus::ModbusFlow::retire`].
    pub fn retire(&mut self, ended: bool, service: &mut Dnp3Service, shared: &mut Shared) {
        let (now, timeout) = (shared.now, shared.limits.response_timeout);
        service.link_unacknowledged.merge(&self.link_unacknowledged(shared));
        while let Some(pending) = self.messages.requests.pop_oldest() {
            shared.pending -= 1;
            let fate = pending.fate(now, timeout, ended);
            service.left(&(pending, fate), &mut self.messages.asked, shared);
        }
        while let Some(pending) = self.messages.confirms.pop_oldest() {
            shared.pending -= 1;
            if pending.fate(now, timeout, ended) == Fate::Unanswered {
                service.unconfirmed.add(pending.detail, pending.arrival.stamp);
            }
        }
    }
}

/// A frame asks to be acknowledged, or acknowledges. One that comes before the last was acknowledged shows that it will not be.
fn acknowledge(header: &LinkHeader, stamp: Stamp, waiting: &mut Vec<((u16, u16), Stamp)>, never: &mut Tally) {
    let (function, source, destination) = (header.control.function, header.source, header.destination);
    if function == LinkFunction::ConfirmedUserData && destination < FIRST_BROADCAST_ADDRESS {
        if let Some((_, waits)) = waiting.iter_mut().find(|(link, _)| *link == (source, destination)) {
            never.add(*waits);
            *waits = stamp;
            return;
        }
        if waiting.len() == MAX_LINKS {
            waiting.remove(0);
        }
        waiting.push(((source, destination), stamp));
    } else if matches!(function, LinkFunction::Ack | LinkFunction::Nack | LinkFunction::NotFunctioning | LinkFunction::NotSupported)
    {
        waiting.retain(|((asker, asked), _)| *asker != destination || (*asked != source && *asked != SELF_ADDRESS));
    }
}

/// What the segments of an arrival are read with.
struct Reading<'a> {
    /// By source and destination address.
    links: &'a mut Vec<((u16, u16), Reassembler)>,
    messages: &'a mut Messages,
    arrival: Arrival,
    /// The side that asks, as far as the connection tells.
    master: SocketAddr,
    service: &'a mut Dnp3Service,
    shared: &'a mut Shared,
}

impl Reading<'_> {
    /// Takes a whole segment.
    fn segment(&mut self, header: &LinkHeader, user_data: &[u8]) {
        let link = (header.source, header.destination);
        let Some(reassembler) = reassembler(link, self.links) else { return };
        let fragment = match reassembler.push(user_data) {
            Pushed::Fragment(fragment) => fragment,
            Pushed::AfterLoss(fragment) => {
                self.service.segments_lost.add(self.arrival.stamp);
                fragment
            }
            Pushed::Lost => {
                self.service.segments_lost.add(self.arrival.stamp);
                return;
            }
            Pushed::Incomplete | Pushed::Duplicate => return,
        };
        if let Some((application, _)) = Application::decode(fragment) {
            self.messages.take(application, link, (self.arrival, self.master), self.service, self.shared);
        }
    }

    /// Takes the beginning of a segment of which the rest is missing: a first one has the application header in it. Gives whether it can be
    /// said what the segment was.
    fn segment_head(&mut self, header: &LinkHeader, user_data: &[u8]) -> bool {
        let link = (header.source, header.destination);
        // What follows of the message is not put together.
        reassembler(link, self.links).into_iter().for_each(Reassembler::clear);
        match user_data {
            [transport, ..] if !Segment::from_byte(*transport).first => true,
            [_, control, function, rest @ ..] => {
                let function = Function(*function);
                let indications = rest.first_chunk().filter(|_| function.is_response());
                let indications = indications.map(|bytes| Indications::from_bytes(*bytes));
                let application = Application { control: Control::from_byte(*control), function, indications };
                self.messages.take(application, link, (self.arrival, self.master), self.service, self.shared);
                true
            }
            _ => false,
        }
    }
}

/// The reassembler of a pair of addresses; of too many pairs, the oldest is forgotten.
fn reassembler(link: (u16, u16), links: &mut Vec<((u16, u16), Reassembler)>) -> Option<&mut Reassembler> {
    let at = links.iter().position(|(known, _)| *known == link).unwrap_or_else(|| {
        if links.len() == MAX_LINKS {
            links.remove(0);
        }
        links.push((link, Reassembler::default()));
        links.len() - 1
    });
    links.get_mut(at).map(|(_, reassembler)| reassembler)
}

impl Messages {
    fn take(
        &mut self,
        application: Application,
        (source, destination): (u16, u16),
        (arrival, asker): (Arrival, SocketAddr),
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
        if from_outstation {
            if self.asked_whoever {
                // Whoever it is tells its own address.
                self.requests.known_as(Key { outstation: SELF_ADDRESS, ..key }, key);
            }
            service.links.answered((master, outstation), arrival.stamp);
            service.quiet.answered(arrival.stamp, timeout);
        } else {
            service.links.asked((master, outstation), asker, arrival.stamp, shared.limits.two_masters_within);
        }
        if function == Function::CONFIRM {
            if self.confirms.answer(key, Stray::default(), arrival, timeout, |_, _| true).is_some() {
                shared.pending -= 1;
            }
            return;
        }
        if function == Function::UNSOLICITED_RESPONSE {
            service.unsolicited += 1;
        } else if from_outstation {
            if let Some(key) = self.answered(key, control, service) {
                self.response(key, (arrival, asker.ip()), service, shared);
            }
        } else {
            service.requests += 1;
            self.asked.requests += 1;
            self.asked_whoever |= outstation == SELF_ADDRESS;
            if function.expects_response() && outstation < FIRST_BROADCAST_ADDRESS {
                while let Some(left) = self.requests.make_room(arrival.stamp.at, shared) {
                    service.left(&left, &mut self.asked, shared);
                }
                if !self.requests.is_one_sided() {
                    service.quiet.asked(arrival.stamp);
                }
                match self.requests.request(key, query, arrival, true) {
                    Some(matched) => {
                        service.strays.take_back(matched.answer);
                        service.matched(&matched, asker.ip(), &mut self.asked, shared);
                    }
                    None => shared.pending += 1,
                }
            }
        }
        if from_outstation && control.confirm {
            while let Some((left, fate)) = self.confirms.make_room(arrival.stamp.at, shared) {
                if fate == Fate::Unanswered {
                    service.unconfirmed.add(left.detail, left.arrival.stamp);
                }
            }
            if self.confirms.request(key, query, arrival, true).is_none() {
                shared.pending += 1;
            }
        }
    }

    /// The request that a fragment completes the response to; `None` while more fragments are to come, or when it is one of a response that
    /// cannot be complete any more.
    fn answered(&mut self, key: Key, control: Control, service: &mut Dnp3Service) -> Option<Key> {
        let is_same_link = |series: &Series| (series.key.master, series.key.outstation) == (key.master, key.outstation);
        let following = Some((key.sequence + 1) & SEQUENCE);
        if control.first {
            self.series.retain(|series| !is_same_link(series));
            if control.last {
                return Some(key);
            }
            if self.series.len() == MAX_SERIES {
                self.series.remove(0);
            }
            self.series.push(Series { key, next: following });
            // Whatever comes of it, a request was answered with it, if one waits.
            return if self.requests.waiting().any(|pending| pending.key == key) { None } else { Some(key) };
        }
        service.further_fragments += 1;
        let Some(series) = self.series.iter_mut().find(|series| is_same_link(series)) else {
            // Its first fragment was not seen.
            return None;
        };
        if series.next != Some(key.sequence) {
            // The same fragment once more, because nobody confirmed it; or one is missing.
            let is_again = series.next == following;
            series.next = series.next.filter(|_| is_again);
            return None;
        }
        series.next = following;
        if !control.last {
            return None;
        }
        let request = series.key;
        self.series.retain(|series| series.key != request);
        self.requests.waiting().any(|pending| pending.key == request).then_some(request)
    }

    /// A response is complete.
    fn response(&mut self, key: Key, (arrival, asker): (Arrival, IpAddr), service: &mut Dnp3Service, shared: &mut Shared) {
        let timeout = shared.limits.response_timeout;
        if let Some(matched) = self.requests.answer(key, Stray::default(), arrival, timeout, |_, _| true) {
            shared.pending -= 1;
            service.matched(&matched, asker, &mut self.asked, shared);
            return;
        }
        let is_but_for_address = |asked: &Key| Key { outstation: key.outstation, ..*asked } == key;
        let stray = if self.requests.may_be_from_before(arrival.stamp.at, timeout) {
            Stray::BeforeCapture
        } else if self.requests.was_answered(key, arrival.stamp.at, timeout) {
            Stray::Duplicate
        } else if self.requests.waiting().any(|pending| is_but_for_address(&pending.key)) {
            Stray::WrongAddress
        } else {
            Stray::Unexpected
        };
        service.strays.add(stray, arrival.stamp);
        self.requests.put_aside(key, stray, arrival);
    }
}
