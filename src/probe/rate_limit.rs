//! How fast probes may start.

use std::time::{Duration, Instant};

/// A token bucket: so many probes a second, with a small burst. It holds no clock and never sleeps; the time is passed in.
///
/// In any window of length `t`, at most `rate * t + burst` probes start, and each one starts after a bounded wait: reservations
/// are served in the order in which they were made.
#[derive(Debug, Clone)]
pub struct RateLimit {
    interval: Duration,
    /// How far the schedule may run ahead of the clock: the burst, less the probe that starts now.
    slack: Duration,
    burst: u32,
    /// When the bucket is full again.
    full_at: Option<Instant>,
}

impl RateLimit {
    /// A limit of `rate_per_s` probes a second (0 is taken as 1), with a burst of a twentieth of a second's worth, at least one.
    pub fn new(rate_per_s: u32) -> Self {
        let rate = rate_per_s.max(1);
        let burst = (rate / 20).max(1);
        // Rounded up, so that rounding never makes it faster than asked.
        let interval = Duration::from_nanos(1_000_000_000_u64.div_ceil(u64::from(rate)));
        Self { interval, slack: interval.saturating_mul(burst - 1), burst, full_at: None }
    }

    /// How many probes may start at once after a pause.
    pub fn burst(&self) -> u32 {
        self.burst
    }

    /// Takes the next place and returns how long after `now` it is. A place that is not used is lost, not given back.
    pub fn reserve(&mut self, now: Instant) -> Duration {
        let full_at = self.full_at.map_or(now, |at| at.max(now));
        self.full_at = full_at.checked_add(self.interval).or(self.full_at);
        full_at.saturating_duration_since(now).saturating_sub(self.slack)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_burst_starts_at_once_and_the_rest_at_the_rate() {
        let mut limit = RateLimit::new(100);
        let now = Instant::now();
        let waits: Vec<_> = (0..8).map(|_| limit.reserve(now).as_millis()).collect();
        assert_eq!(limit.burst(), 5);
        assert_eq!(waits, [0, 0, 0, 0, 0, 10, 20, 30]);
    }

    #[test]
    fn a_pause_fills_the_bucket_but_never_over_its_rim() {
        let mut limit = RateLimit::new(100);
        let start = Instant::now();
        for _ in 0..5 {
            limit.reserve(start);
        }
        let later = start + Duration::from_secs(3600);
        let waits: Vec<_> = (0..7).map(|_| limit.reserve(later).as_millis()).collect();
        assert_eq!(waits, [0, 0, 0, 0, 0, 10, 20]);
    }

    #[test]
    fn a_rate_of_nothing_is_one_a_second() {
        let mut limit = RateLimit::new(0);
        let now = Instant::now();
        assert_eq!((limit.reserve(now), limit.reserve(now)), (Duration::ZERO, Duration::from_secs(1)));
    }

    proptest! {
        #[test]
        fn no_window_holds_more_than_its_share_and_nothing_starves(
            rate in 1_u32..3000,
            pauses in prop::collection::vec(prop_oneof![3 => Just(0_u64), 2 => 0_u64..3_000_000, 1 => 0_u64..900_000_000], 1..250),
        ) {
            let mut limit = RateLimit::new(rate);
            let start = Instant::now();
            let mut now = start;
            let mut starts = Vec::new();
            for (asked, pause) in pauses.iter().enumerate() {
                now += Duration::from_nanos(*pause);
                let wait = limit.reserve(now);
                // The worst case is that everything before was asked for at this very moment.
                prop_assert!(wait <= limit.interval.saturating_mul(u32::try_from(asked).unwrap()), "waits {wait:?} as number {asked}");
                starts.push(now.duration_since(start) + wait);
            }
            prop_assert!(starts.is_sorted(), "served out of order");
            for (first, from) in starts.iter().enumerate() {
                for (last, to) in starts.iter().enumerate().skip(first) {
                    let allowed = f64::from(rate) * (*to - *from).as_secs_f64() + f64::from(limit.burst());
                    prop_assert!((last - first + 1) as f64 <= allowed + 1e-6, "{} started in {:?}", last - first + 1, *to - *from);
                }
            }
        }

        #[test]
        fn a_steady_demand_at_the_rate_never_waits(rate in 1_u32..3000, count in 1_u32..500) {
            let mut limit = RateLimit::new(rate);
            let start = Instant::now();
            for number in 0..count {
                prop_assert_eq!(limit.reserve(start + limit.interval * number), Duration::ZERO);
            }
        }
    }
}
