//! The protocol in a connection's bytes: what is read there, and who turns out to serve.

use super::{Flow, Reader, dnp3_of, modbus_of};
use crate::{
    analysis::{
        clients::ClientPlace,
        copies::Print,
        dnp3::Dnp3Flow,
        guess::{Piece, Recognised, dnp3_master},
        modbus::ModbusFlow,
        service::{Service, ServiceIndex},
        shared::{Shared, left},
        stream::Arrival,
        tally::Stamp,
    },
    api::{Protocol, Transaction},
    packet::Udp,
};
use std::net::SocketAddr;

impl Flow {
    pub(super) fn read(&mut self, from_server: bool, bytes: &[u8], arrival: Arrival, service: &mut Service, shared: &mut Shared) {
        if self.waits_for_its_server(from_server, bytes, arrival) {
            return;
        }
        let acknowledged = self.sides[0].stream.acknowledged();
        let recorded = shared.record.as_ref().map_or(0, Vec::len);
        match &mut self.reader {
            Reader::None | Reader::Guess(_) | Reader::Turned(_) => {}
            Reader::Modbus(flow) => flow.feed(from_server, bytes, arrival, acknowledged, modbus_of(service), shared),
            Reader::Dnp3(flow) => {
                flow.feed(from_server, bytes, arrival, self.client, dnp3_of(service), shared);
            }
        }
        self.sign(recorded, shared);
    }

    /// The snap length cut off the `missing` bytes behind those that were read last.
    pub(super) fn cut(&mut self, from_server: bool, missing: usize, arrival: Arrival, service: &mut Service, shared: &mut Shared) {
        if missing == 0 {
            return;
        }
        let acknowledged = self.sides[0].stream.acknowledged();
        let master = self.client;
        let recorded = shared.record.as_ref().map_or(0, Vec::len);
        match &mut self.reader {
            Reader::None | Reader::Guess(_) | Reader::Turned(_) => {}
            Reader::Modbus(flow) => flow.cut(from_server, missing, (arrival, acknowledged), modbus_of(service), shared),
            Reader::Dnp3(flow) => flow.cut(from_server, missing, (arrival, master), dnp3_of(service), shared),
        }
        self.sign(recorded, shared);
    }

    /// Whether these bytes are put aside, because it is still to be found out what they are and who serves.
    pub(super) fn waits_for_its_server(&mut self, from_server: bool, bytes: &[u8], arrival: Arrival) -> bool {
        let piece = || Piece { from_server, bytes: bytes.into(), arrival };
        if let Some(recognised) = &mut self.recognised {
            recognised.pieces.push(piece());
            return true;
        }
        let turned = |protocol| Box::new(Recognised { protocol, server_asks: true, pieces: vec![piece()] });
        match &mut self.reader {
            Reader::None => true,
            Reader::Guess(guess) => {
                self.recognised = guess.look(from_server, bytes, arrival).map(Box::new);
                true
            }
            Reader::Turned(protocol) => {
                self.recognised = Some(turned(*protocol));
                true
            }
            Reader::Dnp3(_) if !self.is_oriented => {
                // An outstation may connect to its master.
                self.is_oriented = true;
                let is_turned = dnp3_master(bytes) == Some(from_server);
                if is_turned {
                    self.recognised = Some(turned(Protocol::Dnp3));
                }
                is_turned
            }
            Reader::Modbus(_) | Reader::Dnp3(_) => false,
        }
    }

    /// What was recognised, if it is still to be read.
    pub fn take_recognised(&mut self) -> Option<Box<Recognised>> {
        self.recognised.take()
    }

    /// The side that was taken for the server asks: it is the client. Gives the address by which the one that serves is known: its own, or
    /// that with the port to which it connected, when its own is any.
    pub fn turn(&mut self, is_known: impl Fn(SocketAddr) -> bool) -> SocketAddr {
        std::mem::swap(&mut self.client, &mut self.server);
        self.sides.swap(0, 1);
        self.seen.swap(0, 1);
        let stats = &mut self.stats;
        std::mem::swap(&mut stats.fin_client, &mut stats.fin_server);
        std::mem::swap(&mut stats.reset_client, &mut stats.reset_server);
        std::mem::swap(&mut stats.client_payload, &mut stats.server_payload);
        self.server_dialled = self.attempt.is_some() || self.stats.syn_ack > 0;
        let is_any = self.server_dialled && !is_known(self.server);
        if is_any { SocketAddr::new(self.server.ip(), self.client.port()) } else { self.server }
    }

    /// The connection belongs to this server and this client from here on, and what was put aside is read.
    pub fn read_on(
        &mut self,
        recognised: Recognised,
        (index, client_place): (ServiceIndex, ClientPlace),
        service: &mut Service,
        shared: &mut Shared,
    ) {
        (self.service, self.client_place, self.is_oriented) = (index, client_place, true);
        let from_beginning = self.attempt.is_some();
        self.reader = match recognised.protocol {
            Protocol::Modbus => Reader::Modbus(Box::new(ModbusFlow::new(from_beginning, self.client.ip()))),
            Protocol::Dnp3 => Reader::Dnp3(Box::new(Dnp3Flow::new(from_beginning))),
            _ => Reader::None,
        };
        if self.one_sided {
            self.tell_one_sided();
        }
        for piece in recognised.pieces {
            let from_server = piece.from_server != recognised.server_asks;
            self.read(from_server, &piece.bytes, piece.arrival, service, shared);
        }
    }

    /// Puts the two ends into the transactions that were recorded since there were `recorded` of them.
    pub(super) fn sign(&self, recorded: usize, shared: &mut Shared) {
        let Some(record) = &mut shared.record else { return };
        record.iter_mut().skip(recorded).for_each(|transaction| self.signed(transaction));
    }

    pub(super) fn signed(&self, transaction: &mut Transaction) {
        (transaction.client, transaction.server) = (self.client.to_string(), self.server.to_string());
    }

    /// The requests that wait, and what can be said of them.
    pub fn waiting_transactions(&self, shared: &Shared) -> Vec<Transaction> {
        let mut waiting: Vec<Transaction> = match &self.reader {
            Reader::None | Reader::Guess(_) | Reader::Turned(_) => Vec::new(),
            Reader::Modbus(flow) => {
                flow.waiting(shared).map(|(query, arrival, fate)| left(Protocol::Modbus, &query, arrival.stamp, fate)).collect()
            }
            Reader::Dnp3(flow) => {
                flow.waiting(shared).map(|(query, arrival, fate)| left(Protocol::Dnp3, &query, arrival.stamp, fate)).collect()
            }
        };
        waiting.iter_mut().for_each(|transaction| self.signed(transaction));
        waiting
    }

    pub(super) fn lost(&mut self, from_server: bool) {
        match &mut self.reader {
            Reader::None | Reader::Guess(_) | Reader::Turned(_) => {}
            Reader::Modbus(flow) => flow.lost(from_server),
            Reader::Dnp3(flow) => flow.lost(from_server),
        }
    }

    /// Takes a datagram: frames do not go over its end.
    pub fn datagram(
        &mut self,
        from_server: bool,
        packet: (u16, &Udp<'_>),
        stamp: Stamp,
        service: &mut Service,
        shared: &mut Shared,
    ) {
        let (number, udp) = packet;
        if self.sides[usize::from(from_server)].recent.has(Print::of_datagram(number, udp), stamp.at, &shared.limits) {
            shared.copies.datagrams += 1;
            return;
        }
        self.last_at = self.last_at.max(stamp.at);
        // Each datagram has told by itself who asks.
        self.is_oriented = true;
        service.packets += 1;
        let payload = udp.payload;
        service.payload_bytes += payload.len() as u64;
        service.clients.packet(self.client_place, stamp);
        service.heard(from_server, true, false, stamp, shared.limits.silence);
        service.payload_segments += 1;
        self.seen[usize::from(from_server)] = true;
        let segments = if from_server { &mut self.stats.server_payload } else { &mut self.stats.client_payload };
        *segments += 1;
        let arrival = Arrival { stamp, seq_end: 0, ack: None };
        self.read(from_server, payload, arrival, service, shared);
        self.cut(from_server, (udp.payload_len as usize).saturating_sub(payload.len()), arrival, service, shared);
        self.lost(from_server);
    }
}
