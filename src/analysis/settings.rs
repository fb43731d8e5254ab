//! What the analysis is told: whom to watch, when to wait no longer, and how much to remember.

use crate::api::{Direction, Endpoint, Protocol};
use std::{net::IpAddr, time::Duration};

/// An endpoint that evidence is wanted for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Watch {
    /// Its name, by which [`super::Analysis::evidence`] is asked.
    pub endpoint_id: String,
    /// What is spoken there; this decides how its streams are read, whatever the port.
    pub protocol: Protocol,
    /// Who opens the connection.
    pub direction: Direction,
    /// The address that serves: a device's, or for an inbound endpoint the local address that is listened on (unspecified or
    /// `None` is any local one).
    pub address: Option<IpAddr>,
    /// The port that serves; without one only the address is watched.
    pub port: Option<u16>,
    /// The next hop, when the address is not on a connected network.
    pub gateway: Option<IpAddr>,
}

impl Watch {
    /// A watch on a configured endpoint.
    pub fn of(endpoint: &Endpoint) -> Self {
        Self {
            endpoint_id: endpoint.endpoint_id.clone(),
            protocol: endpoint.protocol,
            direction: endpoint.direction,
            address: endpoint.address,
            port: endpoint.port,
            gateway: endpoint.gateway,
        }
    }
}

/// Thresholds and limits. Every limit bounds memory; what is forgotten because of one is counted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AnalysisSettings {
    /// A request that has waited this long is unanswered; an answer that comes after it is late.
    pub response_timeout: Duration,
    /// An answer that takes this long is slow.
    pub slow_response: Duration,
    /// A SYN, or a question for a hardware address, that has waited this long is unanswered.
    pub attempt_timeout: Duration,
    /// Two packets alike within this time are one packet, captured twice, ...
    pub copy_window: Duration,
    /// ... and within this time if the number that the sender's IPv4 gave them is the same too.
    pub numbered_copy_window: Duration,
    /// How long a gap in a stream, acknowledged by the receiver, is waited for: the capture lost it, or has it out of order.
    pub gap_patience: Duration,
    /// The server ports on which Modbus TCP is read without a watch that says so.
    pub modbus_ports: Vec<u16>,
    /// The ports on which DNP3 is read without a watch that says so.
    pub dnp3_ports: Vec<u16>,
    /// A register that must change is frozen when it has not for this long, unless its config says another time.
    pub heartbeat_timeout: Duration,
    /// A server that talked and then says nothing for this long, while it is still asked, has gone silent.
    pub silence: Duration,
    /// So many frames to all within a second are a storm.
    pub storm_per_s: u64,
    /// Segments sent again are a warning from this number on, ...
    pub retransmissions_min: u64,
    /// ... if they are at least one in so many of those with payload.
    pub retransmissions_one_in: u64,
    /// So many connections of one server that were made anew, after an end that was not the client's own close, are a warning.
    pub reconnects_min: u64,
    /// A configured endpoint of which nothing was seen for this long is missing; before, its turn may not have come.
    pub never_seen_after: Duration,
    /// What follows a stall of a host so soon belongs to it: late answers, connections that are reset and made anew.
    pub stall_aftermath: Duration,
    /// Two masters of one outstation that speak in turn, each again within this time, are there at once; else one has taken over.
    pub two_masters_within: Duration,
    /// A capture's clock that is set back by less may be that of two interfaces that are captured together.
    pub clock_step: Duration,
    /// Whether Modbus and DNP3 are recognised by their first bytes on ports that nobody named.
    pub recognise: bool,
    /// Connections remembered at once; the one that was silent longest is forgotten first.
    pub max_flows: usize,
    /// Servers (address and port) told apart, besides the watched ones; the rest are counted together.
    pub max_services: usize,
    /// Addresses remembered at once, besides the watched ones.
    pub max_hosts: usize,
    /// Requests that wait for an answer, per connection.
    pub max_pending_per_flow: usize,
    /// Requests that wait for an answer, over all connections.
    pub max_pending: usize,
    /// Bytes that wait for a gap to be filled, per direction of a connection.
    pub max_gap_bytes: usize,
    /// Bytes that wait for gaps to be filled, over all connections.
    pub max_gap_bytes_total: usize,
}

impl Default for AnalysisSettings {
    fn default() -> Self {
        Self {
            response_timeout: Duration::from_secs(2),
            slow_response: Duration::from_secs(1),
            attempt_timeout: Duration::from_secs(1),
            copy_window: Duration::from_micros(100),
            numbered_copy_window: Duration::from_millis(100),
            gap_patience: Duration::from_millis(200),
            modbus_ports: vec![crate::protocol::modbus::PORT],
            dnp3_ports: vec![crate::protocol::dnp3::PORT],
            heartbeat_timeout: Duration::from_secs(10),
            silence: Duration::from_secs(10),
            storm_per_s: 1_000,
            retransmissions_min: 3,
            retransmissions_one_in: 100,
            reconnects_min: 3,
            never_seen_after: Duration::from_secs(60),
            stall_aftermath: Duration::from_secs(60),
            two_masters_within: Duration::from_secs(60),
            clock_step: Duration::from_secs(1),
            recognise: true,
            max_flows: 32_768,
            max_services: 4_096,
            max_hosts: 4_096,
            max_pending_per_flow: 1_024,
            max_pending: 65_536,
            max_gap_bytes: 256 * 1024,
            max_gap_bytes_total: 8 * 1024 * 1024,
        }
    }
}

/// Nanoseconds of a duration, as packet times count.
pub(super) fn ns(duration: Duration) -> i64 {
    i64::try_from(duration.as_nanos()).unwrap_or(i64::MAX)
}
