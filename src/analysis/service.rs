//! A server (address and port), and what was seen of it over all its connections.

use super::{
    clients::Clients,
    dnp3::Dnp3Service,
    half_open::HalfOpens,
    icmp::IcmpLog,
    lru::Slot,
    modbus::ModbusService,
    silence::Silence,
    stats::FlowStats,
    tally::{Stamp, Tally, Times},
};
use crate::api::Protocol;
use std::{collections::VecDeque, net::SocketAddr};

/// Forgotten connections whose client is still known, so that they can be told to be the test's own.
const MAX_RETIRED: usize = 32;

/// Where a service's index lies in the list of services. The first is for all that belongs to none.
pub(super) type ServiceIndex = usize;

/// One server.
#[derive(Debug, Default)]
pub(super) struct Service {
    /// Its address and port; `None` for all the servers that are not told apart.
    pub address: Option<SocketAddr>,
    /// What is spoken there, as far as a watch or the port says.
    pub protocol: Option<Protocol>,
    /// Whether some watch is about it.
    pub watched: bool,
    /// Its connections that are remembered.
    pub flows: Vec<Slot>,
    /// Connections that were forgotten, the latest of them by client ...
    retired: VecDeque<(SocketAddr, FlowStats)>,
    /// ... and the others together.
    past: FlowStats,
    pub packets: u64,
    /// Bytes of payload of either side, those that were sent again included.
    pub payload_bytes: u64,
    pub syn: u64,
    pub syn_ack: u64,
    /// Attempts that were accepted, however often the answer was sent.
    pub accepted: u64,
    pub rst: u64,
    pub fin: u64,
    /// Segments with new payload, of either side.
    pub payload_segments: u64,
    pub syn_retries: Tally,
    /// Attempts that were forgotten and had no answer, ...
    pub syn_unanswered: Tally,
    /// ... of these, those that no ICMP message quotes, ...
    pub syn_in_silence: Tally,
    /// ... and beside them those whose answer the capture cannot show.
    pub attempts_unseen: u64,
    pub refused: Tally,
    pub resets: Tally,
    pub retransmissions: Tally,
    /// Of these, those that three acknowledgements alike asked for, and those that were not needed.
    pub fast_retransmissions: u64,
    pub spurious_retransmissions: u64,
    /// Segments that came after later ones and brought new bytes.
    pub out_of_order: u64,
    pub duplicate_acks: Tally,
    pub keep_alives: u64,
    /// Gaps in streams that were never filled: what the capture lost, because the receiver has it, ...
    pub lost_segments: Tally,
    /// ... and what the network lost, because the receiver never got it.
    pub lost_on_the_way: Tally,
    /// Connections that were forgotten and had only one side left.
    pub half_open: HalfOpens,
    /// Windows that closed, and for how long.
    pub zero_windows: Tally,
    pub zero_window_times: Times,
    /// From the SYN to the answer that accepts.
    pub handshakes: Times,
    pub clients: Clients,
    /// Packets of the server, and when the latest came.
    pub server_packets: u64,
    pub server_last: Option<Stamp>,
    pub silence: Silence,
    pub icmp: IcmpLog,
    pub modbus: Option<Box<ModbusService>>,
    pub dnp3: Option<Box<Dnp3Service>>,
}

impl Service {
    /// A server of which nothing was seen yet.
    pub fn new(address: Option<SocketAddr>, protocol: Option<Protocol>) -> Self {
        Self { address, protocol, ..Self::default() }
    }

    /// Whether somebody talked to it. A connection that shows late who serves on it brings what was said, and its packets stay where they
    /// were counted.
    pub fn is_talked_to(&self) -> bool {
        self.packets > 0 || self.clients.iter().next().is_some()
    }

    /// Of the segments that were sent again, those that their sender repeated because no acknowledgement came in time.
    pub fn timeout_retransmissions(&self) -> u64 {
        self.retransmissions.count.saturating_sub(self.fast_retransmissions + self.spurious_retransmissions)
    }

    /// A packet of the server, or of a client, with payload or not. A SYN asks, too.
    pub fn heard(&mut self, from_server: bool, payload: bool, syn: bool, stamp: Stamp, silence_ns: i64) {
        if from_server {
            self.silence.ended(self.server_last, payload, stamp, silence_ns);
            self.server_packets += 1;
            self.server_last = Some(stamp);
        } else if payload || syn {
            self.silence.asked(stamp);
        }
    }

    /// Remembers a connection that the table has forgotten. No test makes one to a server that nobody watches.
    pub fn retire(&mut self, client: SocketAddr, stats: FlowStats) {
        if !self.watched {
            self.past.merge(&stats);
            return;
        }
        if self.retired.len() == MAX_RETIRED
            && let Some((_, oldest)) = self.retired.pop_front()
        {
            self.past.merge(&oldest);
        }
        self.retired.push_back((client, stats));
    }

    /// The forgotten connections: those whose client is still known, and the others together.
    pub fn retired(&self) -> (impl Iterator<Item = &(SocketAddr, FlowStats)>, &FlowStats) {
        (self.retired.iter(), &self.past)
    }
}
