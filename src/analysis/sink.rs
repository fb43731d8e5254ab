//! The analysis itself: takes packets, and answers questions about them.

use super::{
    around::Around,
    collect::{Split, Sum},
    elsewhere::Elsewhere,
    evidence::{Counters, Evidence},
    expected::{Expectation, Expectations},
    findings,
    flow::{Flow, FlowKey},
    guess::Recognised,
    heartbeats::{HeartbeatState, HeartbeatWatch},
    host::{EchoKey, Host},
    icmp::{IcmpLog, is_time_exceeded, is_unreachable},
    lru::{Lru, Slot},
    rank::worst_first,
    seam::Seam,
    service::{Service, ServiceIndex},
    services::{REST, Services},
    settings::{AnalysisSettings, Watch},
    shared::Shared,
    tally::{Stamp, Tally},
};
use crate::{
    api::{Finding, Protocol, Transaction, WireView},
    packet::{
        self, Arp, ArpOperation, Decoded, Fragments, Icmp, IcmpBody, Ip, MacAddr, Net, Packet, PacketSink, Quoted, Tcp, Transport,
        Udp,
    },
    protocol::{
        Step,
        dnp3::{self, LinkHeader},
    },
};
use std::{
    collections::{HashMap, HashSet},
    net::{IpAddr, SocketAddr},
};

const TCP: u8 = 6;
const UDP: u8 = 17;
/// Echo requests that wait for their reply.
const MAX_ECHOES: usize = 4_096;
/// An echo request of the same numbers after this time is a new one, and no copy.
const ECHO_AGE_NS: i64 = 10_000_000_000;
/// A connection that is over, or was never in use, is let go when nothing has come for so long; SYNs that are sent again are no further
/// apart.
const LINGER_NS: i64 = 120_000_000_000;
/// So many of these are let go for each new connection.
const LET_GO_AT_ONCE: usize = 4;
/// Of a client with more connections to one server than this, nobody knows which one a new one takes the place of.
const SIDE_BY_SIDE: u64 = 8;
/// Connections of a server that are looked at when a client makes another one, the latest of them.
const LOOKED_AT: usize = 32;

/// One pass over packets. See the [module](super) for what is on the way.
#[derive(Debug)]
pub struct Analysis {
    pub(super) watches: Vec<Watch>,
    watch_of: HashMap<String, usize>,
    pub(super) shared: Shared,
    pub(super) services: Services,
    /// Boxed, for they are large, and the table moves what it holds.
    pub(super) flows: Lru<FlowKey, Box<Flow>>,
    pub(super) watched_hosts: HashMap<IpAddr, Host>,
    pub(super) other_hosts: Lru<IpAddr, Host>,
    echoes: Lru<EchoKey, Stamp>,
    /// All ICMP messages that say something cannot be reached.
    icmp: IcmpLog,
    pub(super) packets: u64,
    pub(super) undecodable: Tally,
    pub(super) cut: Tally,
    flows_evicted: u64,
    hosts_evicted: u64,
    arp_asked: u64,
    /// This host's own; none where that is not known, as with a file.
    local_addresses: HashSet<IpAddr>,
    arp_probes: u64,
    neighbors_asked: u64,
    pub(super) around: Around,
    storm_per_s: u64,
    recognise: bool,
    pub(super) expectations: Expectations,
    fragments: Fragments,
    pub(super) elsewhere: Elsewhere,
    /// What whoever records knows and no packet shows.
    pub(super) remarks: Vec<Finding>,
    /// What messages call that which is looked at.
    pub(super) looks_at: &'static str,
    /// What it had found when an earlier one ended.
    pub(super) seam: Option<Seam>,
}

impl Analysis {
    /// An analysis that has seen nothing yet. `watches` are the endpoints that evidence will be wanted for; `local_addresses` are this
    /// host's own, which a watch on all local addresses stands for (none: any address).
    pub fn new(settings: AnalysisSettings, watches: Vec<Watch>, local_addresses: Vec<IpAddr>) -> Self {
        let addresses = watches.iter().flat_map(|watch| [watch.address, watch.gateway]).flatten();
        Self {
            watch_of: watches.iter().enumerate().map(|(index, watch)| (watch.endpoint_id.clone(), index)).collect(),
            shared: Shared::new(&settings),
            services: Services::new(&settings, &watches, &local_addresses),
            flows: Lru::new(settings.max_flows),
            watched_hosts: addresses.map(|address| (address.to_canonical(), Host::default())).collect(),
            other_hosts: Lru::new(settings.max_hosts),
            echoes: Lru::new(MAX_ECHOES),
            icmp: IcmpLog::default(),
            packets: 0,
            undecodable: Tally::default(),
            cut: Tally::default(),
            flows_evicted: 0,
            hosts_evicted: 0,
            arp_asked: 0,
            local_addresses: local_addresses.iter().map(IpAddr::to_canonical).collect(),
            arp_probes: 0,
            neighbors_asked: 0,
            around: Around::new(settings.clock_step),
            storm_per_s: settings.storm_per_s.max(1),
            recognise: settings.recognise,
            expectations: Expectations::default(),
            fragments: Fragments::default(),
            elsewhere: Elsewhere::default(),
            remarks: Vec::new(),
            looks_at: "the capture",
            seam: None,
            watches,
        }
    }

    /// Watches registers that must change.
    #[must_use]
    pub fn with_heartbeats(mut self, heartbeats: Vec<HeartbeatWatch>) -> Self {
        for watch in heartbeats {
            let index = self.services.of(watch.server, true);
            if let Some(service) = self.services.get_mut(index) {
                // Whoever names a register says that Modbus is spoken there.
                service.protocol.get_or_insert(Protocol::Modbus);
                service.modbus.get_or_insert_default().heartbeats.push(HeartbeatState::new(watch));
            }
        }
        self
    }

    /// Whose endpoints that listen on all addresses are: this host's, which has these. What ARP says is left as it is, so this is for a
    /// file that need not have been recorded here.
    #[must_use]
    pub fn with_listeners_at(mut self, local_addresses: &[IpAddr]) -> Self {
        self.services.listen_at(local_addresses);
        self
    }

    /// What messages call that which is looked at; `the capture`, unless this is said.
    #[must_use]
    pub fn that_looks_at(mut self, what: &'static str) -> Self {
        self.looks_at = what;
        self
    }

    /// Compares what is seen with what a topology lets expect of the watched endpoints.
    #[must_use]
    pub fn with_expectations(mut self, expectations: Vec<Expectation>) -> Self {
        self.expectations = Expectations::new(expectations);
        self
    }

    /// The recording host lost packets, as the capture file or the kernel says; the latest number counts.
    pub fn set_dropped(&mut self, dropped: u64) {
        self.around.dropped = dropped;
    }

    /// Adds to the report what no packet shows, and whoever records knows. It takes the place of a finding with the same code about the
    /// same endpoint.
    pub fn remark(&mut self, finding: Finding) {
        self.remarks.push(finding);
    }

    /// What was seen of a watched endpoint so far; `None` if no watch has this id. `own` are the local addresses that the test's own
    /// connections used.
    pub fn evidence(&self, endpoint_id: &str, own: &[SocketAddr]) -> Option<Evidence> {
        let index = *self.watch_of.get(endpoint_id)?;
        let watch = self.watches.get(index)?;
        let own: Vec<SocketAddr> = own.iter().map(|own| SocketAddr::new(own.ip().to_canonical(), own.port())).collect();
        let (mut sum, mut split, mut found) = (Sum::default(), Split::default(), Vec::new());
        let (mut wire_icmp, mut attempt_icmp) = (Vec::new(), Vec::new());
        for service in self.services.of_watch(index) {
            sum.add(service, self.flows_of(service), &self.shared);
            split.add(service, self.flows_of(service), &own, &self.shared);
            wire_icmp.extend(service.icmp.list(|_| true));
            found.extend(service.address.into_iter().flat_map(|address| self.elsewhere.findings(|asked| asked == address)));
            attempt_icmp.extend(service.icmp.list(|client| client.is_some_and(|client| own.contains(&client))));
            let server = findings::label(service, self.expectations.name(endpoint_id));
            found.extend(findings::of_service(service, &server, self.flows_of(service), &self.shared));
        }
        let wire = WireView { icmp: wire_icmp, ..sum.wire() };
        let mut evidence = Evidence { wire, attempt: split.own.attempt(), session: split.others.session(), ..Evidence::default() };
        evidence.attempt.icmp = attempt_icmp;
        if let Some(address) = watch.address.filter(|address| !address.is_unspecified()).map(|address| address.to_canonical()) {
            let stalls = self.stalls(|asked| asked == address);
            for finding in &mut found {
                stalls.iter().for_each(|stall| stall.takes(address, finding));
            }
            found.extend(stalls.into_iter().map(|stall| stall.finding));
            let next_hop = watch.gateway.map_or(address, |gateway| gateway.to_canonical());
            if let Some(host) = self.watched_hosts.get(&next_hop) {
                let unanswered = host.unanswered(&self.shared);
                evidence.arp = host.arp_view(next_hop);
                evidence.wire.arp_unanswered = unanswered.count;
                found.extend(findings::arp(next_hop, evidence.arp.as_ref(), &unanswered, watch.gateway.map(|_| address)));
            }
            if let Some(host) = self.watched_hosts.get(&address) {
                evidence.ping_rtt = host.round_trips.round_trip();
                evidence.ping_icmp = host.echo_errors.list(|_| true);
                found.extend(host.conflict().map(|conflict| findings::two_macs(address, conflict)));
            }
        }
        found.iter_mut().for_each(|finding| finding.endpoint_id = Some(watch.endpoint_id.clone()));
        evidence.findings = worst_first(found);
        Some(evidence)
    }

    /// What is wrong with what nobody watches, and with the capture itself; worst first.
    pub fn findings(&self) -> Vec<Finding> {
        let mut found = Vec::new();
        for service in self.services.iter().filter(|service| !service.watched) {
            let server = findings::label(service, None);
            found.extend(findings::of_service(service, &server, self.flows_of(service), &self.shared));
            found.extend(service.address.into_iter().flat_map(|address| self.elsewhere.findings(|asked| asked == address)));
        }
        let mut silent = Vec::new();
        for (address, host) in self.other_hosts.iter() {
            let unanswered = host.unanswered(&self.shared);
            if unanswered.count > 0 {
                silent.push((*address, unanswered));
            }
            findings::icmp(&host.other_errors.list(|_| true), &host.other_errors.tally, &address.to_string(), &mut found);
        }
        found.extend(findings::arp_of_many(&mut silent));
        let gateways = self.watches.iter().filter_map(|watch| watch.gateway).map(|gateway| gateway.to_canonical());
        let gateways = gateways.filter_map(|gateway| self.watched_hosts.get_key_value(&gateway));
        let mut conflicts: Vec<_> =
            gateways.chain(self.other_hosts.iter()).filter_map(|(address, host)| Some((*address, host.conflict()?))).collect();
        conflicts.sort_by_key(|(address, _)| *address);
        conflicts.dedup_by_key(|(address, _)| *address);
        found.extend(conflicts.into_iter().map(|(address, conflict)| findings::two_macs(address, conflict)));
        found.extend(self.of_capture());
        worst_first(found)
    }

    pub(super) fn of_capture(&self) -> Vec<Finding> {
        let one_sided = self.flows.iter().filter(|(_, flow)| flow.is_one_sided()).count() as u64;
        findings::of_capture(&self.counters(), &self.undecodable, &self.cut, &self.around, self.shared.one_sided + one_sided)
    }

    /// What was seen in all, and what was lost.
    pub fn counters(&self) -> Counters {
        let mut sum = Sum::default();
        self.services.iter().for_each(|service| sum.add(service, self.flows_of(service), &self.shared));
        let hosts = self.watched_hosts.values().chain(self.other_hosts.iter().map(|(_, host)| host));
        let wire = WireView {
            arp_unanswered: hosts.map(|host| host.unanswered(&self.shared).count).sum(),
            icmp_unreachable: self.icmp.tally.count,
            icmp: self.icmp.list(|_| true),
            ..sum.wire()
        };
        Counters {
            packets: self.packets,
            undecodable: self.undecodable.count,
            cut: self.cut.count,
            flows_evicted: self.flows_evicted,
            hosts_evicted: self.hosts_evicted,
            requests_evicted: self.shared.requests_forgotten,
            flows: self.flows.len() as u64,
            copies: self.shared.copies,
            handshake_again: self.shared.handshake_again,
            out_of_order: self.shared.out_of_order,
            keep_alives: self.shared.keep_alives,
            gaps: self.shared.gaps,
            arp_asked: self.arp_asked,
            arp_probes: self.arp_probes,
            neighbors_asked: self.neighbors_asked,
            modbus_unexpected: sum.modbus_unexpected,
            dnp3_unexpected: sum.dnp3_unexpected,
            dnp3_further_fragments: sum.dnp3_further_fragments,
            dnp3_unconfirmed: sum.dnp3_unconfirmed,
            attempts_unseen: sum.attempts_unseen,
            modbus_unseen: sum.modbus_unseen,
            dnp3_unseen: sum.dnp3_unseen,
            dnp3_header_crc_errors: sum.dnp3_header_crc_errors,
            dnp3_data_crc_errors: sum.dnp3_data_crc_errors,
            wire,
        }
    }

    /// No more packets come: bytes that wait for a gap to be filled are read as they are.
    pub fn finish(&mut self) {
        for slot in self.flows.occupied().collect::<Vec<_>>() {
            let Some(flow) = self.flows.get_mut(slot) else { continue };
            if let Some(service) = self.services.get_mut(flow.service) {
                flow.flush(service, &mut self.shared);
            }
            if let Some(recognised) = flow.take_recognised() {
                self.read_on(slot, *recognised, Stamp { number: 0, at: self.shared.now });
            }
        }
    }

    /// From now on each request is remembered with what came of it, until [`Self::take_transactions`] fetches it.
    pub fn record_transactions(&mut self) {
        self.shared.record.get_or_insert_default();
    }

    /// The requests that were answered or given up since the last call, in the order in which that was known. `at_end`: also those that
    /// wait, so that there is one transaction for each request.
    pub fn take_transactions(&mut self, at_end: bool) -> Vec<Transaction> {
        let mut taken = self.shared.record.as_mut().map(std::mem::take).unwrap_or_default();
        if at_end && self.shared.record.is_some() {
            for (_, flow) in self.flows.iter() {
                taken.extend(flow.waiting_transactions(&self.shared));
            }
        }
        taken
    }

    /// Bytes that wait for gaps, and requests that wait for answers.
    #[cfg(test)]
    pub(super) fn waiting(&self) -> (usize, usize) {
        (self.shared.gap_bytes, self.shared.pending)
    }

    pub(super) fn flows_of<'a>(&'a self, service: &'a Service) -> impl Iterator<Item = &'a Flow> + Clone {
        service.flows.iter().filter_map(|&slot| self.flows.get(slot).map(Box::as_ref))
    }

    fn host(&mut self, address: IpAddr) -> Option<&mut Host> {
        if self.watched_hosts.contains_key(&address) {
            return self.watched_hosts.get_mut(&address);
        }
        let slot = match self.other_hosts.find(&address) {
            Some(slot) => slot,
            None => {
                let (slot, forgotten) = self.other_hosts.insert(address, Host::default());
                self.hosts_evicted += u64::from(forgotten.is_some());
                slot
            }
        };
        self.other_hosts.get_mut(slot)
    }

    fn decoded(&mut self, decoded: &Decoded<'_>, stamp: Stamp) {
        self.around.frame(decoded.dst_mac, self.storm_per_s, stamp);
        match &decoded.net {
            Net::Arp(arp) => self.arp(arp, stamp),
            Net::Ip(ip) if ip.fragment.is_some() => {
                // Only the whole can be read; its time is that of the last piece.
                if let Some(whole) = self.fragments.push(ip, decoded.cut, stamp.at) {
                    match whole.transport() {
                        Ok(transport) => self.transport(ip, &transport, decoded.src_mac, stamp),
                        Err(_) => self.undecodable.add(stamp),
                    }
                }
            }
            Net::Ip(ip) => self.transport(ip, &ip.transport, decoded.src_mac, stamp),
            Net::Llc(frame) => self.around.llc(frame, stamp),
            Net::Other { .. } => {}
        }
    }

    fn transport(&mut self, ip: &Ip<'_>, transport: &Transport<'_>, src_mac: Option<MacAddr>, stamp: Stamp) {
        match transport {
            Transport::Tcp(tcp) => self.tcp(ip, tcp, stamp),
            Transport::Udp(udp) => self.udp(ip, udp, stamp),
            Transport::Icmp(icmp) => self.icmp(ip, icmp, src_mac, stamp),
            Transport::Fragment | Transport::Cut | Transport::Other(_) => {}
        }
    }

    fn tcp(&mut self, ip: &Ip<'_>, tcp: &Tcp<'_>, stamp: Stamp) {
        let source = SocketAddr::new(ip.src, tcp.src_port);
        let destination = SocketAddr::new(ip.dst, tcp.dst_port);
        let key = FlowKey::new(source, destination, TCP);
        let begins = tcp.flags.syn() && !tcp.flags.ack();
        let mut slot = self.flows.find(&key);
        if begins && slot.and_then(|slot| self.flows.get(slot)).is_some_and(|flow| flow.is_new_connection(source, tcp.seq)) {
            if let Some(flow) = slot.and_then(|slot| self.detach(slot)).and_then(|()| self.flows.remove(&key)) {
                self.retire(flow, true);
            }
            slot = None;
        }
        if begins {
            self.elsewhere.attempt(source, destination, tcp.seq);
            if slot.is_none() {
                self.end_dead(source.ip(), destination);
            }
        }
        let slot = match slot {
            Some(slot) => slot,
            None => {
                if tcp.flags.syn() && !begins {
                    self.elsewhere.answer(source, destination, tcp.ack, stamp);
                }
                let to_server = if tcp.flags.syn() { begins } else { self.services.second_is_server(source, destination) };
                let (client, server) = if to_server { (source, destination) } else { (destination, source) };
                self.open(key, client, server, tcp.flags.syn(), stamp)
            }
        };
        let Some(flow) = self.flows.get_mut(slot) else { return };
        let Some(service) = self.services.get_mut(flow.service) else { return };
        flow.segment(source == flow.server, (ip.number, tcp), stamp, service, &mut self.shared);
        if let Some(recognised) = flow.take_recognised() {
            self.read_on(slot, *recognised, stamp);
        }
        if let Some(is_spare) = self.flows.get(slot).map(|flow| flow.is_spare()) {
            self.flows.set_spare(slot, is_spare);
        }
    }

    /// What a connection is and who serves on it has shown: it goes to that server, and what came of it is read.
    fn read_on(&mut self, slot: Slot, recognised: Recognised, stamp: Stamp) {
        let Some(flow) = self.flows.get_mut(slot) else { return };
        let is_known = |server: SocketAddr| {
            self.services.find(server).is_some() || self.services.protocol_of_port(server.port()) == Some(recognised.protocol)
        };
        let server = if recognised.server_asks { flow.turn(is_known) } else { flow.server };
        let (client, was_open, begun, old_place) = (flow.client.ip(), flow.is_open(), flow.is_begun(), flow.client_place());
        let index = self.services.of(server, true);
        let old = self.flows.get(slot).map(|flow| flow.service).filter(|old| *old != index);
        if let Some(old) = old {
            self.detach(slot);
            self.services.get_mut(old).into_iter().for_each(|service| service.clients.moved_away(old_place, was_open));
        }
        let Some(service) = self.services.get_mut(index) else { return };
        if index != REST {
            service.protocol.get_or_insert(recognised.protocol);
        }
        let place = service.clients.place(client, stamp);
        if old.is_some() && was_open {
            service.clients.opened(place, begun, stamp);
        }
        if let Some(flow) = self.flows.get_mut(slot) {
            flow.read_on(recognised, (index, place), service, &mut self.shared);
        }
        if old.is_some() {
            self.attach(slot, index);
        }
    }

    fn udp(&mut self, ip: &Ip<'_>, udp: &Udp<'_>, stamp: Stamp) {
        let source = SocketAddr::new(ip.src, udp.src_port);
        let destination = SocketAddr::new(ip.dst, udp.dst_port);
        let key = FlowKey::new(source, destination, UDP);
        let slot = match self.flows.find(&key) {
            Some(slot) => slot,
            None => {
                let to_server = self.services.second_is_server(source, destination);
                let (client, server) = if to_server { (source, destination) } else { (destination, source) };
                // A whole frame with right check sums leaves no doubt, and its direction bit tells who asks.
                let frame = dnp3_header(udp.payload);
                let (client, server) = match (self.protocol_of(server), frame) {
                    (None | Some(Protocol::Dnp3), Some(header)) if self.recognise => match header.control.from_master {
                        true => (source, destination),
                        false => (destination, source),
                    },
                    (Some(Protocol::Dnp3), _) => (client, server),
                    _ => return,
                };
                if let Some(header) = frame {
                    match header.control.from_master {
                        true => self.elsewhere.datagram(client, server, (header.source, header.destination)),
                        false => self.elsewhere.datagram_from(server, client, (header.destination, header.source), stamp),
                    }
                }
                self.speaks_dnp3(server);
                self.open(key, client, server, false, stamp)
            }
        };
        let Some(flow) = self.flows.get_mut(slot) else { return };
        let Some(service) = self.services.get_mut(flow.service) else { return };
        flow.datagram(source == flow.server, (ip.number, udp), stamp, service, &mut self.shared);
    }

    /// DNP3 is spoken at this server, whatever its port.
    fn speaks_dnp3(&mut self, server: SocketAddr) {
        self.services.of(server, true);
        let service = self.services.find(server).and_then(|index| self.services.get_mut(index));
        service.into_iter().for_each(|service| {
            service.protocol.get_or_insert(Protocol::Dnp3);
        });
    }

    fn protocol_of(&self, server: SocketAddr) -> Option<Protocol> {
        let known = self.services.find(server).and_then(|index| self.services.get(index)).and_then(|service| service.protocol);
        known.or_else(|| self.services.protocol_of_port(server.port()))
    }

    /// What is read on a connection, and whether its server is the side that connects.
    fn reading(&self, client: SocketAddr, server: SocketAddr) -> (Option<Protocol>, bool) {
        match self.protocol_of(server) {
            None => (self.services.protocol_of_port(client.port()), true),
            protocol => (protocol, false),
        }
    }

    /// A client makes another connection: those that it has and that its server left without a word are over.
    fn end_dead(&mut self, client: IpAddr, server: SocketAddr) {
        let Self { services, flows, shared, .. } = self;
        let Some(service) = services.find(server).and_then(|index| services.get_mut(index)) else { return };
        if !(1..=SIDE_BY_SIDE).contains(&service.clients.open(client)) {
            return;
        }
        for place in (0..service.flows.len()).rev().take(LOOKED_AT) {
            let Some(&slot) = service.flows.get(place) else { return };
            let Some(flow) = flows.get_mut(slot).filter(|flow| flow.client.ip() == client) else { continue };
            if flow.end_if_dead(shared.now, service, &shared.limits) {
                flows.set_spare(slot, true);
            }
        }
    }

    /// Lets go of connections that are over, or were never in use, when nothing has come for long.
    fn let_go(&mut self) {
        for _ in 0..LET_GO_AT_ONCE {
            let Some(slot) = self.flows.oldest_spare() else { return };
            if !self.flows.get(slot).is_some_and(|flow| flow.is_quiet(self.shared.now, LINGER_NS)) {
                return;
            }
            self.detach(slot);
            if let Some(flow) = self.flows.remove_slot(slot) {
                self.retire(flow, true);
            }
        }
    }

    /// Remembers a new connection, and forgets the one that was silent longest if there are too many.
    fn open(&mut self, key: FlowKey, client: SocketAddr, server: SocketAddr, from_beginning: bool, stamp: Stamp) -> Slot {
        self.let_go();
        let service = self.services.of(server, from_beginning);
        if let Some(oldest) = self.flows.oldest_if_full() {
            self.detach(oldest);
        }
        let client_place = match self.services.get_mut(service) {
            Some(service) => service.clients.place(client.ip(), stamp),
            None => 0,
        };
        let flow = Flow::new(client, server, service, self.reading(client, server), from_beginning, (client_place, self.recognise));
        let (slot, forgotten) = self.flows.insert(key, Box::new(flow));
        if let Some(forgotten) = forgotten {
            let is_spare = forgotten.is_spare();
            self.flows_evicted += u64::from(!is_spare);
            self.retire(forgotten, is_spare);
        }
        self.attach(slot, service);
        slot
    }

    /// Puts a connection on its service's list.
    fn attach(&mut self, slot: Slot, service: ServiceIndex) {
        let Some(service) = self.services.get_mut(service) else { return };
        if let Some(flow) = self.flows.get_mut(slot) {
            flow.place = service.flows.len();
            service.flows.push(slot);
        }
    }

    /// Takes a connection off its service's list.
    fn detach(&mut self, slot: Slot) -> Option<()> {
        let (service, place) = self.flows.get(slot).map(|flow| (flow.service, flow.place))?;
        let service = self.services.get_mut(service)?;
        if place < service.flows.len() {
            service.flows.swap_remove(place);
        }
        let moved = service.flows.get(place).copied();
        if let Some(flow) = moved.and_then(|moved| self.flows.get_mut(moved)) {
            flow.place = place;
        }
        Some(())
    }

    fn retire(&mut self, flow: Box<Flow>, ended: bool) {
        if let Some(service) = self.services.get_mut(flow.service) {
            flow.retire(ended, service, &mut self.shared);
        }
    }

    fn arp(&mut self, arp: &Arp, stamp: Stamp) {
        let (sender, target) = (IpAddr::V4(arp.sender_ip), IpAddr::V4(arp.target_ip));
        let announces = arp.sender_ip == arp.target_ip;
        match arp.operation {
            // A probe asks whether an address is free (RFC 5227): that nobody answers is as it should be.
            ArpOperation::Request if arp.sender_ip.is_unspecified() => self.arp_probes += 1,
            ArpOperation::Request => {
                if !announces {
                    self.arp_asked += 1;
                    self.ask(sender, target, stamp);
                }
                self.claim(sender, arp.sender_mac, stamp);
            }
            ArpOperation::Reply if announces => self.claim(sender, arp.sender_mac, stamp),
            ArpOperation::Reply => self.answer(sender, Some(arp.sender_mac), stamp),
            ArpOperation::Other(_) => {}
        }
    }

    /// A question for a hardware address. Questions are broadcast and their answers are not: what others ask is heard here, what they
    /// are answered is not, so only this host's own questions can go unanswered.
    fn ask(&mut self, asker: IpAddr, address: IpAddr, stamp: Stamp) {
        if !self.local_addresses.is_empty() && !self.local_addresses.contains(&asker.to_canonical()) {
            return;
        }
        let timeout = self.shared.limits.attempt_timeout;
        if let Some(host) = self.host(address) {
            host.ask(stamp, timeout);
        }
    }

    fn answer(&mut self, address: IpAddr, mac: Option<MacAddr>, stamp: Stamp) {
        let timeout = self.shared.limits.attempt_timeout;
        if let Some(host) = self.host(address) {
            host.answer(mac, stamp, timeout);
        }
    }

    fn claim(&mut self, address: IpAddr, mac: MacAddr, stamp: Stamp) {
        if let Some(host) = self.host(address) {
            host.claim(mac, false, stamp);
        }
    }

    fn icmp(&mut self, ip: &Ip<'_>, icmp: &Icmp<'_>, src_mac: Option<MacAddr>, stamp: Stamp) {
        match icmp.body {
            IcmpBody::Echo { reply: false, identifier, sequence } => {
                let key = EchoKey { source: ip.src, destination: ip.dst, identifier, sequence };
                match self.echoes.peek(&key) {
                    // A copy of the same request, on another interface: the first one counts.
                    Some(sent) if stamp.at.saturating_sub(sent.at) < ECHO_AGE_NS => {}
                    known => {
                        if known.is_some() {
                            self.echoes.remove(&key);
                        }
                        self.echoes.insert(key, stamp);
                    }
                }
            }
            IcmpBody::Echo { reply: true, identifier, sequence } => {
                let key = EchoKey { source: ip.dst, destination: ip.src, identifier, sequence };
                if let Some(sent) = self.echoes.remove(&key)
                    && let Some(host) = self.host(ip.src)
                {
                    host.round_trips.add(stamp.at.saturating_sub(sent.at));
                }
            }
            IcmpBody::Error { quoted, .. } if is_unreachable(icmp) || is_time_exceeded(icmp) => {
                if is_unreachable(icmp) {
                    self.icmp.add(ip.src, icmp, None, stamp);
                }
                if let Some(quoted) = quoted {
                    self.unreachable(ip.src, icmp, &quoted, stamp);
                }
            }
            // From no address: asks whether the target is free (RFC 4862).
            IcmpBody::NeighborSolicit { .. } if ip.src.is_unspecified() => {}
            IcmpBody::NeighborSolicit { target, source_mac } => {
                self.neighbors_asked += 1;
                self.ask(ip.src, IpAddr::V6(target), stamp);
                if let Some(mac) = source_mac {
                    self.claim(ip.src, mac, stamp);
                }
            }
            IcmpBody::NeighborAdvert { target, target_mac, solicited } => match (solicited, target_mac.or(src_mac)) {
                (true, mac) => self.answer(IpAddr::V6(target), mac, stamp),
                (false, Some(mac)) => self.claim(IpAddr::V6(target), mac, stamp),
                (false, None) => {}
            },
            _ => self.around.redirect(ip.src, ip.dst, icmp, stamp),
        }
    }

    /// Puts a message down to the server, or else to the address, that the quoted packet was for.
    fn unreachable(&mut self, from: IpAddr, icmp: &Icmp<'_>, quoted: &Quoted, stamp: Stamp) {
        if let (TCP, Some((source_port, destination_port))) = (quoted.protocol, quoted.ports) {
            let client = SocketAddr::new(quoted.src, source_port);
            let server = SocketAddr::new(quoted.dst, destination_port);
            if let Some(service) = self.services.find(server).and_then(|index| self.services.get_mut(index)) {
                service.icmp.add(from, icmp, Some(client), stamp);
                return;
            }
        }
        if let Some(host) = self.host(quoted.dst) {
            if quoted.echo.is_some() {
                host.echo_errors.add(from, icmp, None, stamp);
            } else if is_unreachable(icmp) {
                // Time exceeded here is most often a traceroute at work.
                host.other_errors.add(from, icmp, None, stamp);
            }
        }
    }
}

impl PacketSink for Analysis {
    fn packet(&mut self, packet: &Packet<'_>) {
        let stamp = Stamp { number: packet.number, at: packet.unix_ns };
        self.packets += 1;
        self.around.packet(stamp);
        self.shared.now = self.shared.now.max(packet.unix_ns);
        let cut = packet.data.len() < packet.wire_len as usize;
        if cut {
            self.cut.add(stamp);
        }
        match packet::decode(packet.link_type, packet.data) {
            Ok(decoded) => self.decoded(&decoded, stamp),
            // What the snap length cut in the middle of a header breaks no rule.
            Err(_) if cut => {}
            Err(_) => self.undecodable.add(stamp),
        }
    }
}

/// The header of the DNP3 frame that these bytes begin with, if it is whole.
fn dnp3_header(bytes: &[u8]) -> Option<LinkHeader> {
    if !bytes.starts_with(&dnp3::START) {
        return None;
    }
    if let Step::Frame { frame, .. } = dnp3::step(bytes) { Some(frame.header) } else { None }
}
