//! One connection: its handshake and end, its two streams, and the protocol in them.

mod payload;
mod reading;

use super::{
    clients::{Asked, ClientPlace, End},
    copies::{Print, Recent},
    dnp3::{Dnp3Flow, Dnp3Service},
    evidence::Copies,
    guess::{Guess, Recognised},
    half_open::{HalfOpen, Unheard},
    modbus::{ModbusFlow, ModbusService},
    service::{Service, ServiceIndex},
    shared::{Limits, Shared},
    stats::FlowStats,
    stream::{Stream, ahead},
    tally::{Stamp, Tally},
};
use crate::{
    api::Protocol,
    packet::{Tcp, TcpFlags},
};
use std::{
    hash::{Hash, Hasher},
    net::{IpAddr, SocketAddr},
};

/// The two ends of a connection, in an order that does not depend on who sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct FlowKey {
    low: u128,
    high: u128,
    /// The lower end's port, the higher end's, and the IP protocol number.
    ports: u64,
}

impl Hash for FlowKey {
    /// What is zero in every IPv4 address that is written as an IPv6 one tells nothing.
    fn hash<H: Hasher>(&self, hasher: &mut H) {
        for address in [self.low, self.high] {
            let [upper, lower] = [(address >> 64) as u64, address as u64];
            if upper != 0 {
                hasher.write_u64(upper);
            }
            hasher.write_u64(lower);
        }
        hasher.write_u64(self.ports);
    }
}

impl FlowKey {
    pub fn new(source: SocketAddr, destination: SocketAddr, protocol: u8) -> Self {
        let end = |address: SocketAddr| match address {
            // As its IPv6-mapped form (RFC 4291, 2.5.5.2).
            SocketAddr::V4(v4) => (u128::from(0xFFFF_0000_0000 | u64::from(v4.ip().to_bits())), v4.port()),
            SocketAddr::V6(v6) => (v6.ip().to_bits(), v6.port()),
        };
        let (source, destination) = (end(source), end(destination));
        let (low, high) = if source < destination { (source, destination) } else { (destination, source) };
        Self { low: low.0, high: high.0, ports: u64::from(low.1) << 32 | u64::from(high.1) << 8 | u64::from(protocol) }
    }
}

/// The protocol that is read in a connection's streams.
#[derive(Debug)]
enum Reader {
    None,
    /// Not known yet: the first bytes may tell.
    Guess(Box<Guess>),
    /// Known by the port of the side that was taken for the client, which serves.
    Turned(Protocol),
    Modbus(Box<ModbusFlow>),
    Dnp3(Box<Dnp3Flow>),
}

/// What one side sends.
#[derive(Debug, Default)]
struct Side {
    stream: Stream,
    /// The latest packets.
    recent: Recent,
    /// What it has sent since its peer was heard last.
    unheard: Unheard,
    /// Acknowledgement number and window of its latest segment, when it came, and how often they came again without bytes.
    acknowledges: Option<(u32, u16, i64)>,
    duplicate_acks: u32,
    /// Whether its latest segment only asked whether the peer is still there.
    keeps_alive: bool,
    /// Since when it takes no bytes.
    closed_since: Option<i64>,
}

/// The latest connection attempt.
#[derive(Debug, Clone, Copy)]
struct Attempt {
    initial: u32,
    first: Stamp,
    latest_at: i64,
    answered: bool,
}

/// One TCP connection, or the datagrams between two UDP ports.
#[derive(Debug)]
pub(super) struct Flow {
    pub client: SocketAddr,
    pub server: SocketAddr,
    /// The server's place in the list of services ...
    pub service: ServiceIndex,
    /// ... and this connection's place in the service's list.
    pub place: usize,
    attempt: Option<Attempt>,
    /// Packets of the client and of the server seen after the handshake.
    seen: [bool; 2],
    reset: bool,
    /// Whether segments of this connection were captured twice.
    copied: bool,
    /// Whether one side goes on as if the other did, too, of which nothing was seen.
    one_sided: bool,
    /// Whether the side that serves is the one that connected.
    server_dialled: bool,
    /// Whether it is known which side serves, by what was read.
    is_oriented: bool,
    /// What is to be read once the connection has found its server.
    recognised: Option<Box<Recognised>>,
    /// The client's place in the service's list, ...
    client_place: ClientPlace,
    /// ... whether the connection is open, and whether it is over.
    is_open: bool,
    is_over: bool,
    closed_by_client: bool,
    /// When the latest packet came.
    last_at: i64,
    /// The reset by a side that knew nothing of the connection any more.
    forgotten: Option<Stamp>,
    sides: [Side; 2],
    reader: Reader,
    stats: FlowStats,
}

impl Flow {
    /// A connection of which nothing was seen yet; `from_beginning` if its SYN comes now, `turned` if the server of the protocol is
    /// the side that connects.
    pub fn new(
        client: SocketAddr,
        server: SocketAddr,
        service: ServiceIndex,
        (protocol, turned): (Option<Protocol>, bool),
        from_beginning: bool,
        (client_place, recognise): (ClientPlace, bool),
    ) -> Self {
        Self {
            client_place,
            is_open: false,
            is_over: false,
            closed_by_client: false,
            last_at: i64::MIN,
            forgotten: None,
            client,
            server,
            service,
            place: 0,
            attempt: None,
            seen: [false; 2],
            reset: false,
            copied: false,
            one_sided: false,
            server_dialled: false,
            is_oriented: false,
            recognised: None,
            sides: Default::default(),
            reader: match protocol {
                Some(protocol) if turned => Reader::Turned(protocol),
                Some(Protocol::Modbus) => Reader::Modbus(Box::new(ModbusFlow::new(from_beginning, client.ip()))),
                Some(Protocol::Dnp3) => Reader::Dnp3(Box::new(Dnp3Flow::new(from_beginning))),
                None if recognise => Reader::Guess(Box::default()),
                _ => Reader::None,
            },
            stats: FlowStats { connections: 1, ..FlowStats::default() },
        }
    }

    /// Whether a SYN (without ACK) of `source` begins another connection on the same ports.
    pub fn is_new_connection(&self, source: SocketAddr, seq: u32) -> bool {
        let dialler = if self.server_dialled { self.server } else { self.client };
        match self.attempt {
            Some(attempt) => source != dialler || attempt.initial != seq,
            // Of a connection entered in the middle the initial number is not known.
            None => self.stats.syn_ack == 0 || source != dialler,
        }
    }

    /// Takes a segment of the client or of the server.
    pub fn segment(
        &mut self,
        from_server: bool,
        packet: (u16, &Tcp<'_>),
        stamp: Stamp,
        service: &mut Service,
        shared: &mut Shared,
    ) {
        let (number, tcp) = packet;
        let flags = tcp.flags;
        let special = flags.0 & (TcpFlags::SYN | TcpFlags::FIN | TcpFlags::RST) != 0;
        let print = Print::of_segment(number, tcp);
        // Without a number, acknowledgements alike are told apart where their meaning is known. And a side that resets may do so for
        // each of several segments at once: alike, and no copies.
        // And a time stamp is the same also in what is sent again at once, which three acknowledgements alike ask for.
        let asked_again = || print.is_stamped() && self.sides[usize::from(!from_server)].duplicate_acks >= 2;
        let may_be_copy = print.is_numbered()
            || (special || tcp.payload_len > 0) && (self.copied || !flags.rst()) && !asked_again()
            || print.is_stamped() && self.copied && tcp.payload_len == 0;
        if may_be_copy && self.sides[usize::from(from_server)].recent.has(print, stamp.at, &shared.limits) {
            self.copied = true;
            count_copy(&mut shared.copies, tcp);
            return;
        }
        service.packets += 1;
        service.payload_bytes += u64::from(tcp.payload_len);
        service.clients.packet(self.client_place, stamp);
        service.heard(from_server, tcp.payload_len > 0 && !flags.rst(), flags.syn(), stamp, shared.limits.silence);
        if self.one_sided || self.seen != [true; 2] {
            self.look_for_the_other_side(from_server, tcp);
        }
        if special {
            self.stats.packets.add(stamp.number);
            self.handshake_or_end(from_server, tcp, stamp, service, shared);
        } else if !self.is_open && !self.is_over {
            // Entered in the middle, or the handshake's end.
            self.opened(self.attempt.is_some(), stamp, service);
        }
        if !flags.rst() {
            self.window(from_server, (tcp, print.is_numbered()), stamp, service, shared);
        }
        if !flags.syn() && !flags.rst() {
            self.seen[usize::from(from_server)] = true;
        }
        if flags.ack() && !flags.rst() {
            self.sides[usize::from(!from_server)].stream.acknowledge(tcp.ack);
        }
        self.sides[usize::from(!from_server)].unheard = Unheard::default();
        self.sides[usize::from(from_server)].keeps_alive = false;
        if tcp.payload_len == 0 || flags.rst() {
            // The bytes of a reset, if it has any, are its reason in words (RFC 9293, 3.5.3).
            if !special && self.sides[usize::from(from_server)].stream.touch(tcp.seq) {
                self.keeps_alive(from_server, stamp, service, shared);
            }
        } else {
            self.payload(from_server, tcp, stamp, service, shared);
        }
        if flags.fin() {
            let end = tcp.seq.wrapping_add(tcp.sequence_len());
            self.sides[usize::from(from_server)].stream.end(end);
        }
        self.give_up_gaps(stamp.at, false, service, shared);
        self.last_at = self.last_at.max(stamp.at);
    }

    /// A side asks whether the other one is still there.
    fn keeps_alive(&mut self, from_server: bool, stamp: Stamp, service: &mut Service, shared: &mut Shared) {
        shared.keep_alives += 1;
        service.keep_alives += 1;
        let side = &mut self.sides[usize::from(from_server)];
        side.keeps_alive = true;
        side.unheard.sent(stamp);
        side.unheard.again();
    }

    /// A side that acknowledges more and more, or that goes on after its SYN, hears another that is not in the capture.
    fn look_for_the_other_side(&mut self, from_server: bool, tcp: &Tcp<'_>) {
        let dials = from_server == self.server_dialled;
        let is_seen = self.seen[usize::from(!from_server)] || if dials { self.stats.syn_ack > 0 } else { self.attempt.is_some() };
        let known = self.sides[usize::from(from_server)].acknowledges;
        let hears = known.is_some_and(|(before, ..)| ahead(tcp.ack, before) > 0) || (dials && self.attempt.is_some());
        let one_sided = !is_seen && (self.one_sided || (hears && tcp.flags.ack() && !tcp.flags.rst()));
        if one_sided == self.one_sided {
            return;
        }
        self.one_sided = one_sided;
        self.tell_one_sided();
    }

    fn tell_one_sided(&mut self) {
        match &mut self.reader {
            Reader::None | Reader::Guess(_) | Reader::Turned(_) => {}
            Reader::Modbus(flow) => flow.set_one_sided(self.one_sided),
            Reader::Dnp3(flow) => flow.set_one_sided(self.one_sided),
        }
    }

    fn handshake_or_end(&mut self, from_server: bool, tcp: &Tcp<'_>, stamp: Stamp, service: &mut Service, shared: &mut Shared) {
        let flags = tcp.flags;
        if flags.rst() {
            service.rst += 1;
            let says_nothing_new = self.reset || self.is_closed();
            match &mut self.attempt {
                Some(attempt) if from_server != self.server_dialled && !attempt.answered => {
                    attempt.answered = true;
                    self.stats.refused += 1;
                    service.refused.add(stamp);
                    self.reset = true;
                }
                // After an orderly end it only tells of a packet that came too late. And a side may reset more than once, for each
                // segment that comes.
                _ if says_nothing_new => {}
                _ => {
                    let resets = if from_server { &mut self.stats.reset_server } else { &mut self.stats.reset_client };
                    *resets += 1;
                    service.clients.reset(self.client_place);
                    service.resets.add(stamp);
                    self.reset = true;
                    self.forgotten = self.is_forgotten(from_server, flags).then_some(stamp);
                }
            }
        } else if flags.syn() && flags.ack() {
            if self.stats.syn_ack == 0 {
                self.begin(from_server, tcp.seq, shared);
                self.stats.accepted += 1;
                service.accepted += 1;
            }
            shared.handshake_again += u64::from(self.stats.syn_ack > 0);
            self.stats.syn_ack += 1;
            service.syn_ack += 1;
            if let Some(attempt) = self.attempt.as_mut().filter(|attempt| !attempt.answered) {
                attempt.answered = true;
                self.stats.handshake_ns = Some(stamp.at.saturating_sub(attempt.first.at)).filter(|ns| *ns >= 0);
                self.stats.handshake_ns.into_iter().for_each(|ns| service.handshakes.add(ns));
            }
            if !self.is_open && !self.is_over {
                self.opened(true, stamp, service);
            }
        } else if flags.syn() {
            match &mut self.attempt {
                Some(attempt) => {
                    attempt.latest_at = stamp.at;
                    self.stats.syn_retries += 1;
                    service.syn_retries.add(stamp);
                }
                None => {
                    self.begin(from_server, tcp.seq, shared);
                    self.attempt =
                        Some(Attempt { initial: tcp.seq, first: stamp, latest_at: stamp.at, answered: self.stats.syn_ack > 0 });
                    self.stats.syn += 1;
                    service.syn += 1;
                }
            }
        }
        if flags.fin() {
            service.fin += 1;
            self.closed_by_client |= !from_server && self.stats.fin_server == 0;
            let fins = if from_server { &mut self.stats.fin_server } else { &mut self.stats.fin_client };
            shared.handshake_again += u64::from(*fins > 0);
            *fins += 1;
        }
        if (self.is_closed() || self.reset) && !self.is_over {
            self.over(stamp.at, service);
        }
    }

    /// Whether both sides have said that they will send no more.
    fn is_closed(&self) -> bool {
        self.stats.fin_client > 0 && self.stats.fin_server > 0
    }

    /// Whether a side that resets knows nothing of the connection (RFC 9293, 3.5.2): it acknowledges nothing, has not closed before, and
    /// answers what the other side sent.
    fn is_forgotten(&self, from_server: bool, flags: TcpFlags) -> bool {
        let has_closed = if from_server { self.stats.fin_server > 0 } else { self.stats.fin_client > 0 };
        !flags.ack() && !has_closed && self.sides[usize::from(!from_server)].unheard.is_waiting()
    }

    fn over(&mut self, at: i64, service: &mut Service) {
        self.is_over = true;
        if self.is_open {
            let end = End { at, by_client: self.closed_by_client && !self.reset, by_reset: self.reset, quiet_since: self.last_at };
            service.clients.ended(self.client_place, end);
        }
    }

    /// Whether it is over, or was never in use: nothing is missed when such a connection is forgotten.
    pub fn is_spare(&self) -> bool {
        self.is_over || (self.attempt.is_some() && !self.seen[0])
    }

    /// Whether nothing has come for so long.
    pub fn is_quiet(&self, now: i64, for_ns: i64) -> bool {
        now.saturating_sub(self.last_at) > for_ns
    }

    /// The client makes another connection: this one is over if the server said nothing to what was sent. Its end is when the server was
    /// heard last.
    pub fn end_if_dead(&mut self, now: i64, service: &mut Service, limits: &Limits) -> bool {
        let [client, server] = &self.sides;
        let is_dead = !self.is_spare() && self.seen[1] && client.unheard.too_long(now, limits).is_some();
        let heard_at = server.acknowledges.map_or(self.last_at, |(.., at)| at);
        if is_dead {
            self.over(heard_at, service);
        }
        is_dead
    }

    /// For how long the windows that did not open again were closed, and whether they still are.
    pub fn closed_windows(&self, now: i64) -> impl Iterator<Item = (i64, bool)> {
        let until = if self.is_over { self.last_at } else { now };
        let closed = self.sides.iter().filter_map(|side| side.closed_since);
        closed.map(move |since| (until.saturating_sub(since), !self.is_over))
    }

    fn opened(&mut self, begun: bool, stamp: Stamp, service: &mut Service) {
        self.is_open = true;
        service.clients.opened(self.client_place, begun, stamp);
    }

    /// Acknowledgements that come again, and windows that close and open.
    fn window(
        &mut self,
        from_server: bool,
        (tcp, is_numbered): (&Tcp<'_>, bool),
        stamp: Stamp,
        service: &mut Service,
        shared: &mut Shared,
    ) {
        let [client, server] = &mut self.sides;
        let (own, peer) = if from_server { (server, client) } else { (client, server) };
        if tcp.window == 0 && !tcp.flags.syn() {
            if own.closed_since.is_none() {
                own.closed_since = Some(stamp.at);
                service.zero_windows.add(stamp);
            }
        } else if let Some(since) = own.closed_since.take() {
            service.zero_window_times.add(stamp.at.saturating_sub(since));
        }
        if !tcp.flags.ack() {
            return;
        }
        let is_pure = tcp.payload_len == 0 && tcp.flags.0 & (TcpFlags::SYN | TcpFlags::FIN) == 0;
        let again_after = own.acknowledges.filter(|(ack, window, _)| (*ack, *window) == (tcp.ack, tcp.window));
        match again_after {
            // The answer to a keep-alive says the same as before, as it should.
            Some((.., at)) if is_pure && tcp.window > 0 && own.stream.is_next(tcp.seq) && !peer.keeps_alive => {
                // With a number it would be known for a copy by now.
                if !is_numbered && self.copied && stamp.at.saturating_sub(at) <= shared.limits.copy_window {
                    shared.copies.acks += 1;
                } else {
                    own.duplicate_acks += 1;
                    service.duplicate_acks.add(stamp);
                }
            }
            _ if own.acknowledges.is_none_or(|(ack, ..)| ack != tcp.ack) => own.duplicate_acks = 0,
            _ => {}
        }
        own.acknowledges = Some((tcp.ack, tcp.window, stamp.at));
    }

    fn begin(&mut self, from_server: bool, initial: u32, shared: &mut Shared) {
        let stream = &mut self.sides[usize::from(from_server)].stream;
        shared.gap_bytes = shared.gap_bytes.saturating_sub(stream.waiting_bytes());
        stream.begin(initial);
    }

    /// Whether its beginning was seen.
    pub fn is_begun(&self) -> bool {
        self.attempt.is_some()
    }

    /// The attempt, if its SYN has waited too long for any answer.
    pub fn unanswered_attempt(&self, shared: &Shared) -> Option<Stamp> {
        // A server that sends something has answered, and the capture missed how.
        let attempt = self.attempt.filter(|attempt| {
            !attempt.answered && self.stats.syn_ack == 0 && !self.seen[usize::from(!self.server_dialled)] && !self.one_sided
        })?;
        let waited = shared.now.saturating_sub(attempt.latest_at);
        (waited > shared.limits.attempt_timeout || self.stats.syn_retries > 0).then_some(attempt.first)
    }

    /// Whether the client goes on after its SYN as if it was answered, and the capture does not show how.
    pub fn is_attempt_unseen(&self) -> bool {
        self.one_sided && self.attempt.is_some_and(|attempt| !attempt.answered) && self.stats.syn_ack == 0
    }

    /// This connection in numbers, as of now.
    pub fn stats(&self, shared: &Shared) -> FlowStats {
        let (unanswered, stalled) = match &self.reader {
            Reader::None | Reader::Guess(_) | Reader::Turned(_) => (0, false),
            Reader::Modbus(flow) => (self.asked(shared).unanswered, flow.stalled(shared)),
            Reader::Dnp3(flow) => (self.asked(shared).unanswered, flow.stalled(shared)),
        };
        FlowStats {
            unanswered_attempts: u64::from(self.unanswered_attempt(shared).is_some()),
            unanswered_requests: unanswered,
            answered: u64::from(self.stats.server_payload > 0 && !stalled),
            alive: u64::from(self.seen == [true; 2] && !self.reset),
            ..self.stats
        }
    }

    /// The address of the side that asks.
    pub fn asker(&self) -> IpAddr {
        self.client.ip()
    }

    /// Whose connection it is, in the list of the server's clients.
    pub fn client_place(&self) -> ClientPlace {
        self.client_place
    }

    /// What came of the requests so far; those that wait too long are unanswered.
    pub fn asked(&self, shared: &Shared) -> Asked {
        let (asked, overdue) = match &self.reader {
            Reader::None | Reader::Guess(_) | Reader::Turned(_) => return Asked::default(),
            Reader::Modbus(flow) => (flow.asked, flow.overdue(shared).count()),
            Reader::Dnp3(flow) => (*flow.asked(), flow.overdue(shared).count()),
        };
        Asked { unanswered: asked.unanswered + overdue as u64, ..asked }
    }

    /// What the server has acknowledged of the client's bytes.
    pub fn acknowledged(&self) -> Option<u32> {
        self.sides[0].stream.acknowledged()
    }

    /// How and since when only one of its sides has the connection, if so.
    pub fn half_open(&self, shared: &Shared) -> Option<(HalfOpen, Stamp)> {
        if let Some(reset) = self.forgotten {
            return Some((HalfOpen::Forgotten, reset));
        }
        let overdue = |attempt: &Attempt| shared.now.saturating_sub(attempt.latest_at) > shared.limits.attempt_timeout;
        let unused = self
            .attempt
            .filter(|_| self.stats.syn_ack > 0 && !self.seen[usize::from(self.server_dialled)] && !self.reset)
            .filter(overdue);
        if let Some(attempt) = unused {
            return Some((HalfOpen::NeverUsed, attempt.first));
        }
        let gone = |side: &Side| side.unheard.gone(shared.now, &shared.limits);
        let gone = self.sides.iter().filter(|_| self.seen == [true; 2]).find_map(gone)?;
        Some((HalfOpen::Gone, gone))
    }

    /// Whether packets of only one side were seen, and several of them with bytes.
    pub fn is_one_sided(&self) -> bool {
        let (client, server) = (self.stats.client_payload, self.stats.server_payload);
        self.one_sided || (self.seen[0] != self.seen[1] && client.max(server) >= 5 && self.stats.syn == 0)
    }

    /// Whether it may still be used, as far as was seen.
    pub fn is_open(&self) -> bool {
        self.is_open && !self.is_over
    }

    /// What waits for an answer on a Modbus connection.
    pub fn modbus(&self) -> Option<&ModbusFlow> {
        if let Reader::Modbus(flow) = &self.reader { Some(flow) } else { None }
    }

    /// What waits for an answer on a DNP3 connection.
    pub fn dnp3(&self) -> Option<&Dnp3Flow> {
        if let Reader::Dnp3(flow) = &self.reader { Some(flow) } else { None }
    }

    /// Reads what still waits for gaps to be filled: no more packets come.
    pub fn flush(&mut self, service: &mut Service, shared: &mut Shared) {
        self.give_up_gaps(shared.now, true, service, shared);
    }

    /// The connection is forgotten, because it has `ended` (another begins on its ports) or because room is needed; what is known of it
    /// goes to its service.
    pub fn retire(mut self: Box<Self>, ended: bool, service: &mut Service, shared: &mut Shared) {
        self.flush(service, shared);
        shared.one_sided += u64::from(self.is_one_sided());
        if let Some(stamp) = self.unanswered_attempt(shared) {
            service.syn_unanswered.add(stamp);
            if !service.icmp.quotes(self.client) {
                service.syn_in_silence.add(stamp);
            }
        }
        if let Some(half_open) = self.half_open(shared) {
            service.half_open.add(half_open);
        }
        self.closed_windows(self.last_at).for_each(|(ns, _)| service.zero_window_times.add(ns));
        service.attempts_unseen += u64::from(self.is_attempt_unseen());
        let answered = self.stats(shared);
        if ended && !self.is_over {
            // Its end was not seen; that another begins on its ports tells that there was one.
            self.over(self.last_at, service);
        } else if self.is_open && !self.is_over {
            service.clients.forgotten(self.client_place);
        }
        let acknowledged = self.sides[0].stream.acknowledged();
        let recorded = shared.record.as_ref().map_or(0, Vec::len);
        let asker = self.asker();
        match &mut self.reader {
            Reader::None | Reader::Guess(_) | Reader::Turned(_) => {}
            Reader::Modbus(flow) => flow.retire(ended, asker, acknowledged, modbus_of(service), shared),
            Reader::Dnp3(flow) => flow.retire(ended, dnp3_of(service), shared),
        }
        self.sign(recorded, shared);
        // Nothing waits any more.
        service.clients.asked(self.client_place, &self.asked(shared));
        let stats =
            FlowStats { answered: answered.answered, unanswered_attempts: answered.unanswered_attempts, ..self.stats(shared) };
        service.retire(self.client, FlowStats { alive: 0, ..stats });
    }
}

fn count_copy(copies: &mut Copies, tcp: &Tcp<'_>) {
    let flags = tcp.flags;
    if tcp.payload_len == 0 && flags.0 & (TcpFlags::SYN | TcpFlags::FIN | TcpFlags::RST) == 0 {
        copies.acks += 1;
        return;
    }
    copies.segments += 1;
    copies.syn += u64::from(flags.syn() && !flags.ack());
    copies.syn_ack += u64::from(flags.syn() && flags.ack());
    copies.fin += u64::from(flags.fin());
    copies.rst += u64::from(flags.rst());
    copies.payload += u64::from(tcp.payload_len > 0);
}

fn modbus_of(service: &mut Service) -> &mut ModbusService {
    service.modbus.get_or_insert_default()
}

fn dnp3_of(service: &mut Service) -> &mut Dnp3Service {
    service.dnp3.get_or_insert_default()
}

/// The attempts of these connections that nobody answered in time.
pub(super) fn unanswered_attempts<'a>(flows: impl Iterator<Item = &'a Flow>, shared: &Shared) -> Tally {
    let mut tally = Tally::default();
    flows.filter_map(|flow| flow.unanswered_attempt(shared)).for_each(|stamp| tally.add(stamp));
    tally
}
