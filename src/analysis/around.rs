//! What passes beside the conversations: spanning tree, broadcast, redirects, and the capture's own clock.

use super::{
    settings::ns,
    tally::{Stamp, Tally},
};
use crate::packet::{Icmp, MacAddr};
use std::{net::IpAddr, time::Duration};

const SECOND_NS: i64 = 1_000_000_000;
/// A topology change is announced for about half a minute; announcements that are no further apart are one change.
const CHANGE_APART_NS: i64 = 60 * SECOND_NS;

/// Counts of what is not part of a conversation.
#[derive(Debug, Default)]
pub(super) struct Around {
    /// The time of the earliest and of the latest packet.
    pub span: Option<(i64, i64)>,
    previous: Option<i64>,
    /// Packets that are earlier than the one before by so much or more.
    pub clock_set_back: Tally,
    clock_step_ns: i64,
    /// Topology changes of the spanning tree.
    pub topology_changes: Tally,
    latest_change: Option<i64>,
    /// Seconds with more frames to all than any site has.
    pub storms: Tally,
    /// The most frames to all in one second.
    pub storm_peak: u64,
    second: i64,
    in_second: u64,
    /// Routers that say another one is nearer.
    pub redirects: Tally,
    /// The latest of them, and what it was about.
    pub redirect: Option<(IpAddr, IpAddr)>,
    /// Packets that the recording host lost.
    pub dropped: u64,
}

impl Around {
    /// A clock that is set back by less than `clock_step` is not told.
    pub fn new(clock_step: Duration) -> Self {
        Self { clock_step_ns: ns(clock_step).max(1), ..Self::default() }
    }

    pub fn packet(&mut self, stamp: Stamp) {
        if self.previous.is_some_and(|previous| previous.saturating_sub(stamp.at) >= self.clock_step_ns) {
            self.clock_set_back.add(stamp);
        }
        self.previous = Some(stamp.at);
        let (first, last) = self.span.get_or_insert((stamp.at, stamp.at));
        (*first, *last) = ((*first).min(stamp.at), (*last).max(stamp.at));
    }

    /// A frame with a hardware address; those to all are counted by the second.
    pub fn frame(&mut self, to: Option<MacAddr>, storm_per_s: u64, stamp: Stamp) {
        if to != Some(MacAddr::broadcast()) {
            return;
        }
        let second = stamp.at.div_euclid(SECOND_NS);
        if second != self.second {
            (self.second, self.in_second) = (second, 0);
        }
        self.in_second += 1;
        self.storm_peak = self.storm_peak.max(self.in_second);
        if self.in_second == storm_per_s {
            self.storms.add(stamp);
        }
    }

    /// An 802.3 frame, from its LLC header on. Bridges announce a change of their topology (IEEE 802.1D, clause 9).
    pub fn llc(&mut self, frame: &[u8], stamp: Stamp) {
        // DSAP, SSAP, control; for each VLAN (PVST+) those of SNAP and a protocol of its own.
        let ([0x42, 0x42, 0x03, bpdu @ ..] | [0xAA, 0xAA, 0x03, 0x00, 0x00, 0x0C, 0x01, 0x0B, bpdu @ ..]) = frame else { return };
        // Protocol 0; version; type; flags.
        let [0, 0, _, kind, rest @ ..] = bpdu else { return };
        let announces = match kind {
            0x80 => true,
            0 | 2 => rest.first().is_some_and(|flags| flags & 1 != 0),
            _ => false,
        };
        if announces {
            if self.latest_change.is_none_or(|latest| stamp.at.saturating_sub(latest) > CHANGE_APART_NS) {
                self.topology_changes.add(stamp);
            }
            self.latest_change = Some(stamp.at);
        }
    }

    /// A redirect (RFC 792; RFC 4861, section 4.5).
    pub fn redirect(&mut self, from: IpAddr, to: IpAddr, icmp: &Icmp<'_>, stamp: Stamp) {
        if matches!((icmp.is_v6, icmp.icmp_type), (false, 5) | (true, 137)) {
            self.redirects.add(stamp);
            self.redirect = Some((from, to));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(number: u64, seconds: i64) -> Stamp {
        Stamp { number, at: seconds * SECOND_NS }
    }

    #[test]
    fn a_topology_change_is_announced_many_times_and_counted_once() {
        let mut around = Around::default();
        let bpdu = |flags: u8| [0x42, 0x42, 3, 0, 0, 0, 0, flags, 0x80, 0, 0, 0];
        around.llc(&bpdu(0), at(1, 0));
        assert_eq!(around.topology_changes.count, 0);
        (1..40).for_each(|second| around.llc(&bpdu(1), at(second as u64, second)));
        around.llc(&[0x42, 0x42, 3, 0, 0, 0, 0x80], at(50, 200));
        around.llc(&[0x42, 0x42, 3, 0, 0], at(51, 300));
        assert_eq!(around.topology_changes.packets(), [1, 50]);
        around.llc(&[0xAA, 0xAA, 3, 0, 0, 0x0C, 1, 0x0B, 0, 0, 2, 2, 0], at(52, 400));
        around.llc(&[0xAA, 0xAA, 3, 0, 0, 0x0C, 1, 0x0B, 0, 0, 2, 2, 1], at(53, 500));
        assert_eq!(around.topology_changes.packets(), [1, 50, 53], "of one VLAN");
    }

    #[test]
    fn a_storm_is_counted_by_the_second() {
        let mut around = Around::default();
        for second in 0..5 {
            let frames = if second == 2 { 50 } else { 9 };
            (0..frames).for_each(|number| around.frame(Some(MacAddr::broadcast()), 10, at(number, second)));
            around.frame(Some(MacAddr::new(2, 0, 0, 0, 0, 1)), 10, at(99, second));
        }
        assert_eq!((around.storms.count, around.storm_peak), (1, 50));
    }

    #[test]
    fn a_clock_that_is_set_back_is_noticed_and_a_little_disorder_is_not() {
        for (step, told) in [(Duration::from_secs(1), &[4][..]), (Duration::from_micros(1), &[2, 4]), (Duration::from_secs(5), &[])]
        {
            let mut around = Around::new(step);
            for (number, ns) in [(1, 5 * SECOND_NS), (2, 5 * SECOND_NS - 1000), (3, 6 * SECOND_NS), (4, 2 * SECOND_NS)] {
                around.packet(Stamp { number, at: ns });
            }
            assert_eq!(around.clock_set_back.packets(), told);
            assert_eq!(around.span, Some((2 * SECOND_NS, 6 * SECOND_NS)));
        }
    }
}
