//! What the integration tests share: a network of their own, real third-party peers, pings.

// Each test uses its own part of this.
#![allow(dead_code, clippy::unwrap_used, clippy::expect_used, clippy::panic)]

pub mod disk;
pub mod needs;
pub mod peers;
pub mod service;
pub mod stores;
pub mod talk;

use netdiag::lab::{Namespace, enter_private};
use std::{
    net::IpAddr,
    time::{Duration, Instant},
};
use surge_ping::{Client, Config, ICMP, IcmpPacket, PingIdentifier, PingSequence};

/// Moves the calling thread into a network of its own. Panics where that is not allowed: such a test proves nothing elsewhere.
pub fn private_network() {
    enter_private().unwrap_or_else(|error| panic!("this test makes network namespaces: {error}"));
}

/// Whatever is waited for is waited for so many times longer than a machine that has nothing else to do needs.
pub const SLOWER: u32 = 6;

/// Tries again and again until `condition` holds; panics with `what` if it does not within `limit`, on a machine with nothing else to do.
pub fn wait_until(what: &str, limit: Duration, mut condition: impl FnMut() -> bool) {
    let limit = limit * SLOWER;
    let deadline = Instant::now() + limit;
    while !condition() {
        assert!(Instant::now() < deadline, "not within {limit:?}: {what}");
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// What came back for an echo request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Echo {
    /// An echo reply of the address itself.
    Reply,
    /// Destination unreachable, with this code, from this address.
    Unreachable(u8, IpAddr),
    /// Nothing in time.
    Nothing,
}

/// Sends one echo request from `namespace`.
pub fn ping(namespace: &Namespace, address: IpAddr, limit: Duration) -> Echo {
    namespace
        .wait(async move {
            let client = Client::new(&Config::builder().kind(ICMP::V4).sock_type_hint(socket2::Type::RAW).build()).unwrap();
            let mut pinger = client.pinger(address, PingIdentifier(77)).await;
            match pinger.timeout(limit).ping(PingSequence(1), &[7; 32]).await {
                Ok((IcmpPacket::V4(packet), _)) => match packet.get_icmp_type().0 {
                    0 => Echo::Reply,
                    3 => Echo::Unreachable(packet.get_icmp_code().0, packet.get_source().into()),
                    other => panic!("an unexpected ICMP message of type {other}"),
                },
                Ok((IcmpPacket::V6(_), _)) => panic!("an IPv6 answer to an IPv4 question"),
                Err(surge_ping::SurgeError::Timeout { .. }) => Echo::Nothing,
                Err(error) => panic!("ping {address}: {error}"),
            }
        })
        .unwrap()
}
