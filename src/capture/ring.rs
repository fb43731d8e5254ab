//! The packets of the last seconds, in memory: what a flight recorder saves when something has happened.

use crate::packet::{LinkType, Packet};
use std::{
    collections::VecDeque,
    mem::size_of,
    time::{Duration, Instant},
};

/// How long packets are remembered, and in how much memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RingOptions {
    /// Packets older than this are forgotten.
    pub keep: Duration,
    /// The most bytes that packets take; the oldest are forgotten first.
    pub max_bytes: usize,
}

/// The ring. Age goes by arrival, on a clock that is never set.
#[derive(Debug)]
pub struct Ring {
    options: RingOptions,
    entries: VecDeque<Entry>,
    /// The packets' bytes, one after the other.
    bytes: VecDeque<u8>,
    /// All that came since is held, as far as it is not too old.
    whole_since: Instant,
}

#[derive(Debug, Clone, Copy)]
struct Entry {
    arrived: Instant,
    unix_ns: i64,
    interface: u32,
    link_type: LinkType,
    wire_len: u32,
    len: usize,
}

impl Ring {
    /// An empty ring, from now on.
    pub fn new(options: RingOptions, now: Instant) -> Self {
        Self { options, entries: VecDeque::new(), bytes: VecDeque::new(), whole_since: now }
    }

    /// How far back it goes without a gap.
    pub fn reach(&self, now: Instant) -> Duration {
        now.saturating_duration_since(self.whole_since).min(self.options.keep)
    }

    /// Takes a packet that arrived now.
    pub fn push(&mut self, packet: &Packet<'_>, now: Instant) {
        self.expire(now);
        let len = packet.data.len();
        if len + size_of::<Entry>() > self.options.max_bytes {
            self.whole_since = now;
            return;
        }
        while self.used() + len + size_of::<Entry>() > self.options.max_bytes {
            self.whole_since = self.entries.front().map_or(now, |oldest| oldest.arrived);
            self.forget();
        }
        let Packet { unix_ns, interface, link_type, wire_len, data, .. } = *packet;
        self.entries.push_back(Entry { arrived: now, unix_ns, interface, link_type, wire_len, len });
        self.bytes.extend(data);
    }

    /// Gives every packet that is remembered, oldest first, with the number 0.
    pub fn replay(&mut self, now: Instant, mut each: impl FnMut(&Packet<'_>)) {
        self.expire(now);
        let mut bytes: &[u8] = self.bytes.make_contiguous();
        for entry in &self.entries {
            let Some((data, rest)) = bytes.split_at_checked(entry.len) else { return };
            bytes = rest;
            let Entry { unix_ns, interface, link_type, wire_len, .. } = *entry;
            each(&Packet { number: 0, unix_ns, interface, link_type, wire_len, data });
        }
    }

    fn used(&self) -> usize {
        self.bytes.len() + self.entries.len() * size_of::<Entry>()
    }

    fn expire(&mut self, now: Instant) {
        while self.entries.front().is_some_and(|oldest| now.saturating_duration_since(oldest.arrived) > self.options.keep) {
            self.forget();
        }
    }

    fn forget(&mut self) {
        if let Some(oldest) = self.entries.pop_front() {
            self.bytes.drain(..oldest.len.min(self.bytes.len()));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn packet(data: &[u8]) -> Packet<'_> {
        Packet { number: 9, unix_ns: 7, interface: 1, link_type: LinkType::ETHERNET, wire_len: data.len() as u32 + 4, data }
    }

    fn held(ring: &mut Ring, now: Instant) -> Vec<Vec<u8>> {
        let mut held = Vec::new();
        ring.replay(now, |packet| {
            assert_eq!((packet.number, packet.unix_ns, packet.interface), (0, 7, 1));
            assert_eq!(packet.wire_len as usize, packet.data.len() + 4);
            held.push(packet.data.to_vec());
        });
        held
    }

    #[test]
    fn what_is_too_old_is_forgotten() {
        let begin = Instant::now();
        let mut ring = Ring::new(RingOptions { keep: Duration::from_secs(10), max_bytes: 1 << 20 }, begin);
        for second in 0..30_u8 {
            ring.push(&packet(&[second; 60]), begin + Duration::from_secs(second.into()));
        }
        let left = held(&mut ring, begin + Duration::from_secs(30));
        assert_eq!(left.iter().map(|data| data[0]).collect::<Vec<_>>(), (20..30).collect::<Vec<_>>());
        assert!(held(&mut ring, begin + Duration::from_secs(60)).is_empty(), "an idle link forgets, too");
        assert_eq!(ring.used(), 0);
    }

    #[test]
    fn it_reaches_back_to_its_beginning_or_to_what_had_no_room() {
        let begin = Instant::now();
        let at = |second| begin + Duration::from_secs(second);
        let three = 3 * (60 + size_of::<Entry>());
        let mut ring = Ring::new(RingOptions { keep: Duration::from_secs(10), max_bytes: three }, begin);
        let reach = |ring: &Ring, second| ring.reach(at(second)).as_secs();
        assert_eq!((reach(&ring, 4), reach(&ring, 40)), (4, 10));
        (40..43).for_each(|second| ring.push(&packet(&[0; 60]), at(second)));
        assert_eq!(reach(&ring, 43), 10);
        ring.push(&packet(&[0; 60]), at(43));
        assert_eq!(reach(&ring, 44), 4, "the packet of second 40 is gone, what came after it is there");
        ring.push(&packet(&vec![0; three]), at(45));
        assert_eq!(reach(&ring, 46), 1, "one that never fits is a gap");
    }

    proptest! {
        #[test]
        fn it_holds_the_newest_that_fit_and_never_more(sizes in prop::collection::vec(0_usize..400, 0..200), max_bytes in 0_usize..5_000) {
            let now = Instant::now();
            let mut ring = Ring::new(RingOptions { keep: Duration::from_secs(10), max_bytes }, now);
            let mut all = Vec::new();
            for (number, size) in (0_u8..).zip(&sizes) {
                let data = vec![number; *size];
                ring.push(&packet(&data), now);
                prop_assert!(ring.used() <= max_bytes);
                all.push(data);
            }
            all.retain(|data| data.len() + size_of::<Entry>() <= max_bytes);
            let held = held(&mut ring, now);
            prop_assert!(all.ends_with(&held));
        }
    }
}
