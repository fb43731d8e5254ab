//! Connection attempts that another address answers than the one that was asked.

use super::{
    catalogue,
    findings::finding,
    lru::Lru,
    tally::{Stamp, Tally},
};
use crate::api::{Finding, Severity};
use std::net::SocketAddr;

/// Attempts that are remembered.
const MAX_ATTEMPTS: usize = 1_024;
/// Pairs of addresses, asked and answering, that are told apart.
const MAX_PAIRS: usize = 32;

/// What was asked, and what answered in its place.
#[derive(Debug)]
pub(super) struct Elsewhere {
    /// Server and initial sequence number of the latest attempt from each client's address and port.
    attempts: Lru<SocketAddr, (SocketAddr, u32)>,
    /// The same of datagrams: the server that was asked, by the client's address and the link addresses of master and outstation.
    datagrams: Lru<(SocketAddr, (u16, u16)), SocketAddr>,
    pairs: Vec<((SocketAddr, SocketAddr), Tally)>,
    /// Those of the pairs that are about datagrams.
    of_datagrams: Vec<(SocketAddr, SocketAddr)>,
}

impl Default for Elsewhere {
    fn default() -> Self {
        Self { attempts: Lru::new(MAX_ATTEMPTS), datagrams: Lru::new(MAX_ATTEMPTS), pairs: Vec::new(), of_datagrams: Vec::new() }
    }
}

impl Elsewhere {
    /// A SYN.
    pub fn attempt(&mut self, client: SocketAddr, server: SocketAddr, seq: u32) {
        self.attempts.remove(&client);
        self.attempts.insert(client, (server, seq));
    }

    /// A SYN-ACK on a connection that nobody asked for. It answers an attempt at another address if port and number fit.
    pub fn answer(&mut self, server: SocketAddr, client: SocketAddr, ack: u32, stamp: Stamp) {
        let Some(&(asked, seq)) = self.attempts.peek(&client) else { return };
        if asked == server || asked.port() != server.port() || seq.wrapping_add(1) != ack {
            return;
        }
        self.add((asked, server), stamp);
    }

    /// A master's first datagram to a server.
    pub fn datagram(&mut self, client: SocketAddr, server: SocketAddr, link: (u16, u16)) {
        let key = (client, link);
        self.datagrams.remove(&key);
        self.datagrams.insert(key, server);
    }

    /// An outstation's first datagram, where no master had asked. It answers a request to another address if the link addresses fit.
    pub fn datagram_from(&mut self, server: SocketAddr, client: SocketAddr, link: (u16, u16), stamp: Stamp) {
        let Some(&asked) = self.datagrams.peek(&(client, link)) else { return };
        if asked == server || asked.port() != server.port() {
            return;
        }
        self.add((asked, server), stamp);
        if !self.of_datagrams.contains(&(asked, server)) && self.of_datagrams.len() < MAX_PAIRS {
            self.of_datagrams.push((asked, server));
        }
    }

    fn add(&mut self, pair: (SocketAddr, SocketAddr), stamp: Stamp) {
        if let Some((_, tally)) = self.pairs.iter_mut().find(|(known, _)| *known == pair) {
            tally.add(stamp);
        } else if self.pairs.len() < MAX_PAIRS {
            let mut tally = Tally::default();
            tally.add(stamp);
            self.pairs.push((pair, tally));
        }
    }

    /// What is to be said of the servers that `is_asked` holds for.
    pub fn findings(&self, is_asked: impl Fn(SocketAddr) -> bool) -> Vec<Finding> {
        let pairs = self.pairs.iter().filter(|((asked, _), _)| is_asked(*asked));
        pairs
            .map(|((asked, answered), tally)| {
                let what = if self.of_datagrams.contains(&(*asked, *answered)) { "for DNP3 by UDP" } else { "to connect" };
                let message = format!("{asked} was asked {what}, and {answered} answered in its place");
                finding(catalogue::TCP_ANSWER_FROM_ELSEWHERE, Severity::Alarm, tally, message)
            })
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_an_answer_to_this_very_attempt_counts() {
        let address = |text: &str| text.parse::<SocketAddr>().unwrap();
        let (client, asked, other) = (address("10.0.0.1:40000"), address("10.0.0.5:502"), address("10.0.0.6:502"));
        let stamp = Stamp { number: 2, at: 0 };
        for (server, client_port, ack, counts) in [
            (other, 40_000, 1001, true),
            (other, 40_000, 1002, false),
            (other, 40_001, 1001, false),
            (asked, 40_000, 1001, false),
            (address("10.0.0.6:503"), 40_000, 1001, false),
        ] {
            let mut elsewhere = Elsewhere::default();
            elsewhere.attempt(client, asked, 1000);
            elsewhere.answer(server, SocketAddr::new(client.ip(), client_port), ack, stamp);
            let found = elsewhere.findings(|server| server == asked);
            assert_eq!(found.len(), usize::from(counts), "{server} {client_port} {ack}");
            assert!(elsewhere.findings(|server| server == other).is_empty());
            if let Some(found) = found.first() {
                assert_eq!(found.message, "10.0.0.5:502 was asked to connect, and 10.0.0.6:502 answered in its place");
            }
        }
    }
}
