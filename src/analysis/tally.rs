//! How often, from when to when, and in which packets.

use crate::api::{RoundTrip, UtcTime};

/// How many packet numbers a finding keeps.
pub(super) const EVIDENCE_PACKETS: usize = 5;

/// Where and when something was seen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Stamp {
    /// The packet's number, from 1.
    pub number: u64,
    /// Its time: nanoseconds since 1970-01-01T00:00:00Z.
    pub at: i64,
}

/// The first few packet numbers, ascending.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Packets {
    numbers: [u64; EVIDENCE_PACKETS],
}

impl Packets {
    /// Notes a packet, if it is among the first few. Zero is no packet.
    pub fn add(&mut self, number: u64) {
        if number == 0 || self.numbers.contains(&number) {
            return;
        }
        let mut carried = number;
        for place in &mut self.numbers {
            if *place == 0 {
                *place = carried;
                return;
            }
            if carried < *place {
                std::mem::swap(place, &mut carried);
            }
        }
    }

    pub fn merge(&mut self, other: &Self) {
        other.numbers.iter().for_each(|&number| self.add(number));
    }

    pub fn to_vec(self) -> Vec<u64> {
        self.numbers.into_iter().filter(|&number| number != 0).collect()
    }
}

/// How often something happened, and the evidence.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Tally {
    pub count: u64,
    first_ns: i64,
    last_ns: i64,
    packets: Packets,
}

impl Tally {
    /// A count of which nothing else is known.
    pub fn without_evidence(count: u64) -> Self {
        Self { count, first_ns: i64::MAX, last_ns: i64::MIN, packets: Packets::default() }
    }

    /// A count of which some packets are known, the first and the last among them. It is one at least if any is known: those of a
    /// connection that showed late who serves on it were counted elsewhere.
    pub fn between(count: u64, stamps: impl IntoIterator<Item = Stamp>) -> Self {
        let mut tally = Self::default();
        stamps.into_iter().for_each(|stamp| tally.add(stamp));
        Self { count: count.max(tally.count.min(1)), ..tally }
    }

    pub fn add(&mut self, stamp: Stamp) {
        if self.count == 0 {
            (self.first_ns, self.last_ns) = (stamp.at, stamp.at);
        }
        self.count += 1;
        self.first_ns = self.first_ns.min(stamp.at);
        self.last_ns = self.last_ns.max(stamp.at);
        self.packets.add(stamp.number);
    }

    pub fn merge(&mut self, other: &Self) {
        if other.count == 0 {
            return;
        }
        if self.count == 0 {
            *self = *other;
            return;
        }
        self.count += other.count;
        self.first_ns = self.first_ns.min(other.first_ns);
        self.last_ns = self.last_ns.max(other.last_ns);
        self.packets.merge(&other.packets);
    }

    pub fn first_ns(&self) -> i64 {
        self.first_ns
    }

    pub fn first_at(&self) -> Option<UtcTime> {
        (self.count > 0 && self.first_ns <= self.last_ns).then_some(UtcTime::from_unix_ns(self.first_ns))
    }

    pub fn last_at(&self) -> Option<UtcTime> {
        (self.count > 0 && self.first_ns <= self.last_ns).then_some(UtcTime::from_unix_ns(self.last_ns))
    }

    pub fn packets(&self) -> Vec<u64> {
        self.packets.to_vec()
    }
}

/// Shortest, mean and longest of some durations.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Times {
    count: u64,
    sum_ns: i128,
    min_ns: i64,
    max_ns: i64,
}

impl Times {
    /// Adds a duration; one below zero (the capture's clock was set back) tells nothing and is left out.
    pub fn add(&mut self, ns: i64) {
        if ns < 0 {
            return;
        }
        self.merge(&Self { count: 1, sum_ns: ns.into(), min_ns: ns, max_ns: ns });
    }

    pub fn merge(&mut self, other: &Self) {
        if other.count == 0 {
            return;
        }
        if self.count == 0 {
            *self = *other;
            return;
        }
        self.count += other.count;
        self.sum_ns += other.sum_ns;
        self.min_ns = self.min_ns.min(other.min_ns);
        self.max_ns = self.max_ns.max(other.max_ns);
    }

    /// What was added since an earlier state. The shortest and the longest of it are known if they are new, else they are `nearly` this.
    pub fn since(&self, earlier: &Self, nearly: (i64, i64)) -> Self {
        let count = self.count.saturating_sub(earlier.count);
        if count == 0 {
            return Self::default();
        }
        let is_first = earlier.count == 0;
        let within = |ns: i64| ns.clamp(self.min_ns, self.max_ns);
        Self {
            count,
            sum_ns: self.sum_ns.saturating_sub(earlier.sum_ns).max(0),
            min_ns: if is_first || self.min_ns < earlier.min_ns { self.min_ns } else { within(nearly.0) },
            max_ns: if is_first || self.max_ns > earlier.max_ns { self.max_ns } else { within(nearly.1) },
        }
    }

    pub fn min_ns(&self) -> i64 {
        self.min_ns
    }

    pub fn max_ns(&self) -> i64 {
        self.max_ns
    }

    pub fn min_mean_max_ms(&self) -> Option<(f64, f64, f64)> {
        (self.count > 0).then(|| (ms(self.min_ns), self.sum_ns as f64 / self.count as f64 / 1e6, ms(self.max_ns)))
    }

    pub fn max_ms(&self) -> f64 {
        ms(self.max_ns)
    }

    pub fn round_trip(&self) -> Option<RoundTrip> {
        self.min_mean_max_ms().map(|(min, mean, max)| RoundTrip { min, mean, max })
    }
}

/// Nanoseconds as milliseconds.
pub(super) fn ms(ns: i64) -> f64 {
    ns as f64 / 1e6
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keeps_the_first_packets_whatever_the_order() {
        let mut tally = Tally::default();
        for number in [9, 3, 7, 3, 1, 8, 2] {
            tally.add(Stamp { number, at: number as i64 * 10 });
        }
        assert_eq!(tally.packets(), [1, 2, 3, 7, 8]);
        assert_eq!(
            (tally.count, tally.first_at(), tally.last_at()),
            (7, Some(UtcTime::from_unix_ns(10)), Some(UtcTime::from_unix_ns(90)))
        );
    }

    #[test]
    fn merged_is_as_if_added_to_one() {
        let (mut left, mut right, mut both) = (Tally::default(), Tally::default(), Tally::default());
        for number in 1..20 {
            let stamp = Stamp { number, at: 100 - number as i64 };
            if number % 3 == 0 {
                left.add(stamp)
            } else {
                right.add(stamp)
            }
            both.add(stamp);
        }
        left.merge(&right);
        assert_eq!(left, both);
    }

    #[test]
    fn what_has_a_packet_was_there_once_at_least() {
        let stamp = Stamp { number: 5, at: 7 };
        let tally = Tally::between(0, [stamp]);
        assert_eq!((tally.count, tally.first_at(), tally.packets()), (1, Some(UtcTime::from_unix_ns(7)), vec![5]));
        assert_eq!((Tally::between(9, [stamp]).count, Tally::between(0, None).count), (9, 0));
    }

    #[test]
    fn no_times_are_no_zero() {
        let mut times = Times::default();
        times.add(-5);
        assert_eq!(times.round_trip(), None);
        times.add(1_000_000);
        times.add(3_000_000);
        assert_eq!(times.round_trip(), Some(RoundTrip { min: 1.0, mean: 2.0, max: 3.0 }));
    }
}
