//! How durations are spread: a histogram of bounded size, fine enough for percentiles that differ from the true ones by 0.2 % at most.

use super::tally::{Times, ms};
use crate::api::ResponseTimes;

/// Steps within each doubling.
const STEPS: u32 = 256;
/// The shortest duration told apart, as a power of two: 1.024 µs.
const LOWEST: u32 = 10;
/// The longest, as a power of two: 137 s.
const HIGHEST: u32 = 37;
const BUCKETS: usize = ((HIGHEST - LOWEST) * STEPS + 1) as usize;
/// Steps that lie together in memory. A server's times fall into a few such stretches, and only these are kept.
const STRETCH: usize = 16;

/// The counts of a stretch of steps, and which one it is.
type Stretch = (u16, [u32; STRETCH]);

/// Durations: the shortest, mean and longest exactly, the spread nearly.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Durations {
    times: Times,
    /// How many fell into each step, by stretches in which there are any, in their order.
    stretches: Vec<Stretch>,
}

impl Durations {
    /// Adds a duration; one below zero tells nothing.
    pub fn add(&mut self, ns: i64) {
        if ns < 0 {
            return;
        }
        self.times.add(ns);
        let bucket = bucket(ns);
        let count = &mut self.stretch((bucket / STRETCH) as u16)[bucket % STRETCH];
        *count = count.saturating_add(1);
    }

    fn stretch(&mut self, number: u16) -> &mut [u32; STRETCH] {
        let at = match self.place(number) {
            Ok(at) => at,
            Err(at) => {
                self.stretches.insert(at, (number, [0; STRETCH]));
                at
            }
        };
        &mut self.stretches[at].1
    }

    /// Where a stretch lies, or would lie.
    fn place(&self, number: u16) -> Result<usize, usize> {
        self.stretches.binary_search_by_key(&number, |(known, _)| *known)
    }

    /// How many stretches of steps it takes memory for.
    pub fn stretches(&self) -> usize {
        self.stretches.len()
    }

    pub fn merge(&mut self, other: &Self) {
        self.times.merge(&other.times);
        for (number, counts) in &other.stretches {
            let own = self.stretch(*number).iter_mut();
            own.zip(counts.iter()).for_each(|(count, other)| *count = count.saturating_add(*other));
        }
    }

    /// What was added since `earlier`, a state of this spread before. How many, their sum and their steps are exact; the shortest and
    /// the longest are as exact as a step, unless they are new.
    pub fn since(&self, earlier: &Self) -> Self {
        let mut stretches = self.stretches.clone();
        for (number, counts) in &mut stretches {
            let Some((_, before)) = earlier.place(*number).ok().and_then(|at| earlier.stretches.get(at)) else { continue };
            counts.iter_mut().zip(before.iter()).for_each(|(count, before)| *count = count.saturating_sub(*before));
        }
        stretches.retain(|(_, counts)| counts.iter().any(|count| *count > 0));
        let mut added = Self { times: Times::default(), stretches };
        let mut used = added.counts().filter(|(_, count)| *count > 0).map(|(bucket, _)| middle_ns(bucket));
        let least = used.next().unwrap_or_default();
        let nearly = (least, used.last().unwrap_or(least));
        added.times = self.times.since(&earlier.times, nearly);
        added
    }

    /// The steps of the stretches that are kept, in their order, each with how many fell into it.
    fn counts(&self) -> impl Iterator<Item = (usize, u32)> {
        self.stretches.iter().flat_map(|(number, counts)| {
            let first = usize::from(*number) * STRETCH;
            counts.iter().enumerate().map(move |(at, &count)| (first + at, count))
        })
    }

    pub fn max_ms(&self) -> f64 {
        self.times.max_ms()
    }

    /// The durations at these places (from 1, never falling) in the order of all `total` of them, in milliseconds; found in one pass, for
    /// a report asks for those of every server.
    fn ranked_ms<const N: usize>(&self, ranks: [u64; N], total: u64) -> [Option<f64>; N] {
        let mut found = [None; N];
        let mut wanted = ranks.into_iter().zip(&mut found).peekable();
        let mut below = 0;
        for (number, counts) in &self.stretches {
            let in_stretch: u64 = counts.iter().copied().map(u64::from).sum();
            if wanted.peek().is_none_or(|(rank, _)| *rank > below + in_stretch) {
                below += in_stretch;
                continue;
            }
            for (bucket, &count) in (usize::from(*number) * STRETCH..).zip(counts) {
                below += u64::from(count);
                while let Some((rank, place)) = wanted.next_if(|(rank, _)| *rank <= below) {
                    *place = Some(self.ns_at(rank, total, bucket) as f64 / 1e6);
                }
            }
        }
        found
    }

    /// The duration at a place in the order, which is in this step.
    fn ns_at(&self, rank: u64, total: u64, bucket: usize) -> i64 {
        match rank {
            1 => self.times.min_ns(),
            last if last >= total => self.times.max_ns(),
            // No step reaches beyond what was measured.
            _ => middle_ns(bucket).clamp(self.times.min_ns(), self.times.max_ns()),
        }
    }

    /// As the bus has it.
    pub fn response_times(&self) -> Option<ResponseTimes> {
        let (min, mean, max) = self.times.min_mean_max_ms()?;
        let total: u64 = self.counts().map(|(_, count)| u64::from(count)).sum();
        let percent = |part: f64| ((total as f64 * part).ceil() as u64).max(1);
        // In the middle of an even number there are two.
        let ranks = [total.div_ceil(2).max(1), total / 2 + 1, percent(0.95), percent(0.99)];
        let [low, high, p95, p99] = self.ranked_ms(ranks, total);
        let median = low.zip(high).map(|(low, high)| rounded((low + high) / 2.0));
        Some(ResponseTimes { min, mean, max, median, p95: p95.map(rounded), p99: p99.map(rounded) })
    }
}

/// A histogram knows no more than three digits.
fn rounded(ms: f64) -> f64 {
    (ms * 1e3).round() / 1e3
}

/// The step that a duration falls into.
fn bucket(ns: i64) -> usize {
    let ns = ns.max(1).unsigned_abs();
    let doubling = ns.ilog2();
    if doubling < LOWEST {
        return 0;
    }
    if doubling >= HIGHEST {
        return BUCKETS - 1;
    }
    let within = (ns >> (doubling - STEPS.ilog2())) - u64::from(STEPS);
    ((doubling - LOWEST) * STEPS) as usize + within as usize
}

/// The duration in the middle of a step.
fn middle_ns(bucket: usize) -> i64 {
    let bucket = u32::try_from(bucket).unwrap_or(0);
    let (doubling, within) = (LOWEST + bucket / STEPS, bucket % STEPS);
    let width = 1_i64 << (doubling - STEPS.ilog2());
    i64::from(STEPS + within) * width + width / 2
}

/// A time that is told with three digits behind the point.
pub(super) fn ms_of(ns: i64) -> f64 {
    rounded(ms(ns))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn percentiles_of_a_known_spread() {
        let mut durations = Durations::default();
        assert_eq!(durations.response_times(), None);
        for ms in 1..=1000 {
            durations.add(ms * 1_000_000);
        }
        let times = durations.response_times().unwrap();
        assert_eq!((times.min, times.mean, times.max), (1.0, 500.5, 1000.0));
        for (found, expected) in [(times.median, 500.0), (times.p95, 950.0), (times.p99, 990.0)] {
            let found = found.unwrap();
            assert!((found - expected).abs() <= 0.002 * expected, "{found} is not {expected}");
        }
    }

    #[test]
    fn one_duration_is_its_own_median() {
        let mut durations = Durations::default();
        durations.add(2_345_678);
        assert_eq!(durations.response_times().unwrap().median, Some(2.346));
    }

    #[test]
    fn the_percentiles_of_a_few_are_among_them() {
        let mut durations = Durations::default();
        [400, 400, 800].into_iter().for_each(|ms| durations.add(ms * 1_000_000));
        let times = durations.response_times().unwrap();
        let near = |found: Option<f64>| (found.unwrap() - 400.0).abs() < 0.8;
        assert!(near(times.median), "{times:?}");
        assert_eq!((times.p95, times.p99), (Some(800.0), Some(800.0)));
    }

    #[test]
    fn memory_goes_by_how_far_the_durations_are_spread() {
        let mut durations = Durations::default();
        (0..100_000).for_each(|number| durations.add(4_000_000 + number * 10));
        assert!(durations.stretches.len() <= 6, "{}", durations.stretches.len());
        (0..64).for_each(|doubling| durations.add(1_i64 << doubling.min(62)));
        assert!(durations.stretches.len() <= BUCKETS.div_ceil(STRETCH));
    }

    proptest! {
        #[test]
        fn what_is_at_each_place_is_near_the_true_one(
            mut ns in prop::collection::vec(2_000_i64..100_000_000_000, 1..200), mut parts in prop::array::uniform3(0.0..=1.0_f64),
        ) {
            let mut durations = Durations::default();
            ns.iter().for_each(|&ns| durations.add(ns));
            ns.sort_unstable();
            parts.sort_by(f64::total_cmp);
            let ranks = parts.map(|part| ((ns.len() as f64 * part).ceil() as u64).max(1));
            let found = durations.ranked_ms(ranks, ns.len() as u64);
            for (rank, found) in ranks.into_iter().zip(found) {
                let (found, expected) = (found.unwrap(), ns[rank as usize - 1] as f64 / 1e6);
                prop_assert!((found - expected).abs() <= 0.002 * expected + 1e-6, "{} is not {}", found, expected);
            }
        }

        #[test]
        fn what_was_added_since_is_as_if_it_had_been_measured_alone(
            before in prop::collection::vec(1_000_i64..100_000_000_000, 0..60), after in prop::collection::vec(1_000_i64..100_000_000_000, 0..60),
        ) {
            let (mut durations, mut alone) = (Durations::default(), Durations::default());
            before.iter().for_each(|&ns| durations.add(ns));
            let earlier = durations.clone();
            after.iter().for_each(|&ns| { durations.add(ns); alone.add(ns) });
            let added = durations.since(&earlier);
            prop_assert_eq!(&added.stretches, &alone.stretches);
            match (added.response_times(), alone.response_times()) {
                (Some(added), Some(alone)) => {
                    prop_assert!((added.mean - alone.mean).abs() < 1e-6);
                    for (found, expected) in [
                        (added.min, alone.min), (added.max, alone.max), (added.median.unwrap(), alone.median.unwrap()), (added.p95.unwrap(), alone.p95.unwrap()),
                    ] {
                        prop_assert!((found - expected).abs() <= 0.004 * expected + 2e-3, "{} is not {}", found, expected);
                    }
                }
                (added, alone) => prop_assert_eq!(added, alone),
            }
        }

        #[test]
        fn merged_is_as_if_added_to_one(ns in prop::collection::vec(any::<i64>(), 0..50), at in 0..50_usize) {
            let (mut left, mut right, mut both) = (Durations::default(), Durations::default(), Durations::default());
            for (number, &ns) in ns.iter().enumerate() {
                if number < at { left.add(ns) } else { right.add(ns) }
                both.add(ns);
            }
            left.merge(&right);
            prop_assert_eq!(left, both);
        }
    }
}
