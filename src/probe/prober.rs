//! The seam between a test and the network: what may be asked of a device, and what may come of it.

use super::Service;
use crate::api::{ConnectState, Greeting};
use async_trait::async_trait;
use std::{
    net::{IpAddr, SocketAddr},
    time::Duration,
};

/// Asks devices, one probe at a time. Which probes, how many at once and how fast is the caller's business.
///
/// Every probe ends by itself and may be cancelled by dropping its future; neither leaves a half-open connection behind.
#[async_trait]
pub trait Prober: Send + Sync {
    /// Sends one echo request with this sequence number and waits up to `timeout` for what comes of it.
    ///
    /// Within one prober, no two pings to the same address may wait with the same sequence number.
    async fn ping(&self, address: IpAddr, sequence: u16, timeout: Duration) -> PingOutcome;

    /// Opens one TCP connection, waiting up to `timeout` for it to open, and closes it gracefully.
    async fn connect(&self, target: SocketAddr, timeout: Duration) -> ConnectOutcome;

    /// Connects as [`connect`](Self::connect) does and hears how the service there greets, waiting up to `timeout` once more.
    async fn greet(&self, target: SocketAddr, service: Service, timeout: Duration) -> ConnectOutcome;
}

/// What came of one echo request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PingOutcome {
    /// An echo reply came from the address itself.
    Reply {
        /// From the request to the reply, as this process saw it; a capture knows better.
        rtt: Duration,
    },
    /// Nothing came in time.
    NoAnswer,
    /// An ICMP error came in place of a reply.
    Unreachable {
        /// Who sent it: a router, the device, or this host itself (nobody answered ARP).
        from: IpAddr,
        /// The ICMP type, or the ICMPv6 type if `from` is an IPv6 address.
        icmp_type: u8,
        /// The code within the type.
        icmp_code: u8,
    },
    /// The request could not be sent; why, in words.
    Error(String),
}

/// What came of one connection attempt.
#[derive(Debug, Clone, PartialEq)]
pub struct ConnectOutcome {
    /// How it went.
    pub state: ConnectState,
    /// From the start of the attempt to the moment when `state` was known. The close that follows an open is not counted.
    pub time: Duration,
    /// The local end as it stands on the wire; `None` if not a packet was sent.
    pub local_address: Option<SocketAddr>,
    /// What the service said, if that was asked for and the connection opened.
    pub greeting: Option<Greeting>,
    /// What else is known, in words.
    pub detail: Option<String>,
}
