//! ICMP messages that say something did not arrive: in words, and who sent them about whom.

use super::tally::{Stamp, Tally};
use crate::{api::IcmpUnreachable, packet::Icmp};
use std::{
    borrow::Cow,
    net::{IpAddr, SocketAddr},
};

/// Messages told apart at one server or address; more are counted, but not by sender.
const MAX_KINDS: usize = 32;

/// Whether a message says *destination unreachable*; but *fragmentation needed* only asks for smaller packets.
pub(super) fn is_unreachable(icmp: &Icmp<'_>) -> bool {
    match (icmp.is_v6, icmp.icmp_type, icmp.code) {
        (false, 3, code) => code != 4,
        (true, 1, _) => true,
        _ => false,
    }
}

/// Whether a message says *time to live exceeded in transit*.
pub(super) fn is_time_exceeded(icmp: &Icmp<'_>) -> bool {
    matches!((icmp.is_v6, icmp.icmp_type, icmp.code), (false, 11, 0) | (true, 3, 0))
}

/// Type and code in words.
pub(super) fn meaning(is_v6: bool, icmp_type: u8, code: u8) -> Cow<'static, str> {
    Cow::Borrowed(match (is_v6, icmp_type, code) {
        (false, 3, 0) => "network unreachable",
        (false, 3, 1) => "host unreachable",
        (false, 3, 2) => "protocol unreachable",
        (false, 3, 3) | (true, 1, 4) => "port unreachable",
        (false, 3, 4) => "fragmentation needed",
        (false, 3, 5) => "source route failed",
        (false, 3, 6) => "destination network unknown",
        (false, 3, 7) => "destination host unknown",
        (false, 3, 8) => "source host isolated",
        (false, 3, 9) => "network administratively prohibited",
        (false, 3, 10) => "host administratively prohibited",
        (false, 3, 11) => "network unreachable for this type of service",
        (false, 3, 12) => "host unreachable for this type of service",
        (false, 3, 13) | (true, 1, 1) => "communication administratively prohibited",
        (false, 3, 14) => "host precedence violation",
        (false, 3, 15) => "precedence cutoff in effect",
        (false, 11, 0) | (true, 3, 0) => "time to live exceeded in transit (a routing loop?)",
        (true, 1, 0) => "no route to destination",
        (true, 1, 2) => "beyond scope of source address",
        (true, 1, 3) => "address unreachable",
        (true, 1, 5) => "source address failed ingress or egress policy",
        (true, 1, 6) => "route to destination rejected",
        _ => return Cow::Owned(format!("ICMP type {icmp_type}, code {code}")),
    })
}

/// What is alike in messages that are counted together.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Kind {
    from: IpAddr,
    icmp_type: u8,
    code: u8,
    /// Whose packet is quoted, where it is a connection's.
    client: Option<SocketAddr>,
}

/// The messages about one server or address.
#[derive(Debug, Default)]
pub(super) struct IcmpLog {
    kinds: Vec<(Kind, Tally)>,
    /// All of them.
    pub tally: Tally,
}

impl IcmpLog {
    /// Notes a message of `from` that quotes a packet of `client`.
    pub fn add(&mut self, from: IpAddr, icmp: &Icmp<'_>, client: Option<SocketAddr>, stamp: Stamp) {
        self.tally.add(stamp);
        let kind = Kind { from, icmp_type: icmp.icmp_type, code: icmp.code, client };
        if let Some((_, tally)) = self.kinds.iter_mut().find(|(known, _)| *known == kind) {
            tally.add(stamp);
        } else if self.kinds.len() < MAX_KINDS {
            let mut tally = Tally::default();
            tally.add(stamp);
            self.kinds.push((kind, tally));
        }
    }

    /// The messages by sender, type and code, of which `about` is told the quoted client.
    pub fn list(&self, about: impl Fn(Option<SocketAddr>) -> bool) -> Vec<IcmpUnreachable> {
        let mut list: Vec<IcmpUnreachable> = Vec::new();
        for (kind, tally) in self.kinds.iter().filter(|(kind, _)| about(kind.client)) {
            let same = |known: &&mut IcmpUnreachable| {
                (known.from, known.icmp_type, known.icmp_code) == (kind.from, kind.icmp_type, kind.code)
            };
            match list.iter_mut().find(same) {
                Some(known) => known.count += tally.count,
                None => list.push(IcmpUnreachable {
                    from: kind.from,
                    icmp_type: kind.icmp_type,
                    icmp_code: kind.code,
                    meaning: meaning(kind.from.is_ipv6(), kind.icmp_type, kind.code).into_owned(),
                    count: tally.count,
                }),
            }
        }
        list
    }

    /// Whether a message quotes a connection of this client.
    pub fn quotes(&self, client: SocketAddr) -> bool {
        self.kinds.iter().any(|(kind, _)| kind.client == Some(client))
    }
}
