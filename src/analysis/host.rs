//! An address: who asked for its hardware address and who answered, and how its pings went.

use super::{
    icmp::IcmpLog,
    shared::Shared,
    tally::{Stamp, Tally, Times},
};
use crate::{api::ArpView, packet::MacAddr};
use std::net::IpAddr;

/// Hardware addresses remembered for one address.
const MAX_MACS: usize = 4;

/// A hardware address that claims an address.
#[derive(Debug, Clone, Copy)]
struct Claim {
    mac: MacAddr,
    first: Stamp,
    /// Whether it answered a question, and did not only speak of itself.
    answered: bool,
}

/// What was seen of one address.
#[derive(Debug, Default)]
pub(super) struct Host {
    /// Questions for its hardware address.
    pub asked: u64,
    /// Answers.
    pub answered: u64,
    /// Questions that nobody answered in time ...
    unanswered: Tally,
    /// ... and those that still wait, all of them asked within the time-out of one another.
    open: Tally,
    last_asked: i64,
    claims: Vec<Claim>,
    /// Echo requests answered.
    pub round_trips: Times,
    /// ICMP messages in place of an echo reply.
    pub echo_errors: IcmpLog,
    /// ICMP messages that quote packets of no server that is told apart.
    pub other_errors: IcmpLog,
}

impl Host {
    /// Somebody asks for its hardware address.
    pub fn ask(&mut self, stamp: Stamp, timeout: i64) {
        if stamp.at.saturating_sub(self.last_asked) > timeout {
            self.unanswered.merge(&std::mem::take(&mut self.open));
        }
        self.asked += 1;
        self.open.add(stamp);
        self.last_asked = stamp.at;
    }

    /// A hardware address answers for it.
    pub fn answer(&mut self, mac: Option<MacAddr>, stamp: Stamp, timeout: i64) {
        self.answered += 1;
        let open = std::mem::take(&mut self.open);
        if stamp.at.saturating_sub(self.last_asked) > timeout {
            self.unanswered.merge(&open);
        }
        if let Some(mac) = mac {
            self.claim(mac, true, stamp);
        }
    }

    /// A hardware address speaks for it: as an answer, or in a question or announcement of its own.
    pub fn claim(&mut self, mac: MacAddr, answered: bool, stamp: Stamp) {
        if let Some(claim) = self.claims.iter_mut().find(|claim| claim.mac == mac) {
            claim.answered |= answered;
        } else if self.claims.len() < MAX_MACS {
            self.claims.push(Claim { mac, first: stamp, answered });
        }
    }

    /// The questions that nobody answered in time.
    pub fn unanswered(&self, shared: &Shared) -> Tally {
        let mut unanswered = self.unanswered;
        if shared.now.saturating_sub(self.last_asked) > shared.limits.attempt_timeout {
            unanswered.merge(&self.open);
        }
        unanswered
    }

    /// As the bus has it; `None` if nobody asked.
    pub fn arp_view(&self, address: IpAddr) -> Option<ArpView> {
        let answering = self.claims.iter().filter(|claim| claim.answered);
        (self.asked > 0).then(|| ArpView {
            address,
            asked: self.asked,
            answered: self.answered,
            macs: answering.map(|claim| claim.mac.to_string()).collect(),
        })
    }

    /// The hardware addresses that claim it, if there are several, and when each was first seen.
    pub fn conflict(&self) -> Option<(Vec<String>, Tally)> {
        if self.claims.len() < 2 {
            return None;
        }
        let mut tally = Tally::default();
        self.claims.iter().for_each(|claim| tally.add(claim.first));
        Some((self.claims.iter().map(|claim| claim.mac.to_string()).collect(), tally))
    }
}

/// An echo request that waits for its reply.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct EchoKey {
    pub source: IpAddr,
    pub destination: IpAddr,
    pub identifier: u16,
    pub sequence: u16,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::analysis::AnalysisSettings;

    const SECOND: i64 = 1_000_000_000;

    fn stamp(number: u64, seconds: i64) -> Stamp {
        Stamp { number, at: seconds * SECOND }
    }

    fn shared(now: i64) -> Shared {
        Shared { now: now * SECOND, ..Shared::new(&AnalysisSettings::default()) }
    }

    #[test]
    fn questions_without_an_answer_are_unanswered_after_the_time_out() {
        let mut host = Host::default();
        host.ask(stamp(1, 10), SECOND);
        assert_eq!(host.unanswered(&shared(11)).count, 0, "still open");
        assert_eq!(host.unanswered(&shared(12)).packets(), [1]);
        host.ask(stamp(2, 13), SECOND);
        host.answer(None, stamp(3, 13), SECOND);
        assert_eq!(host.unanswered(&shared(99)).packets(), [1], "the second one was answered");
    }

    #[test]
    fn two_hardware_addresses_for_one_address() {
        let (first, second) = (MacAddr::new(2, 0, 0, 0, 0, 1), MacAddr::new(2, 0, 0, 0, 0, 2));
        let mut host = Host::default();
        host.claim(first, false, stamp(4, 1));
        host.answer(Some(first), stamp(5, 2), SECOND);
        assert!(host.conflict().is_none());
        host.claim(second, false, stamp(6, 3));
        let (macs, tally) = host.conflict().unwrap();
        assert_eq!(macs, ["02:00:00:00:00:01", "02:00:00:00:00:02"]);
        assert_eq!(tally.packets(), [4, 6]);
    }
}
