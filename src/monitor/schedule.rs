//! When snapshots begin and end: a plain function of the clocks and of what is open.
//!
//! Each snapshot covers one slot of the wall clock (with 300 s: 12:00 to 12:05, 12:05 to 12:10 …) and begins the overlap before it:
//!
//! ```text
//!   12:00           12:05           12:10
//!  ├─┬───────────────┤
//!                 ├─┬───────────────┤
//!                  ▲ ▲ the overlap: these packets are in both files
//! ```
//!
//! The wall clock may be set at any time. Whatever it does, something is open at every moment, a snapshot is closed only when another
//! has been open for the overlap, and none grows much longer than its slot, because ages go by a clock that is never set.

use std::time::Duration;

/// The most snapshots that are open at a time; only a clock that is set again and again comes near it.
pub const MAX_OPEN: usize = 4;

/// The longest time until the clocks are looked at again.
const LOOK_AGAIN: Duration = Duration::from_secs(1);

/// How snapshots follow on one another.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Schedule {
    /// The length of a slot.
    pub slot: Duration,
    /// How long before its slot a snapshot begins; shorter than the slot.
    pub overlap: Duration,
}

/// A snapshot that is open.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct OpenSnapshot {
    /// The slot of the wall clock, counted from 1970.
    pub slot: i64,
    /// When it was opened, on a clock that is never set.
    pub opened: Duration,
}

/// What is to be done now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Step {
    /// The slot for which a snapshot is to be opened, first of all.
    pub open: Option<i64>,
    /// Positions of the open snapshots that are to be closed.
    pub close: Vec<usize>,
    /// When to ask again, at the latest.
    pub wait: Duration,
}

impl Schedule {
    /// What is to be done at the wall-clock time `unix_ns` and at `now`, on a clock that is never set, with these snapshots open.
    pub fn step(&self, unix_ns: i64, now: Duration, open: &[OpenSnapshot]) -> Step {
        let (slot_ns, overlap_ns) = (ns(self.slot).max(1), ns(self.overlap));
        let this = unix_ns.div_euclid(slot_ns);
        let left_ns = slot_ns - unix_ns.rem_euclid(slot_ns);
        let next_is_due = left_ns <= overlap_ns;
        let age = |snapshot: &OpenSnapshot| now.saturating_sub(snapshot.opened);
        // A wall clock that stands still or is set back again and again must not make a snapshot endless.
        let too_old = self.slot + self.overlap * 2 + LOOK_AGAIN;
        let serves = |snapshot: &OpenSnapshot, slot: i64| snapshot.slot == slot && age(snapshot) < too_old;
        let due = |slot: i64| !open.iter().any(|snapshot| serves(snapshot, slot));
        // Just before the end of a slot only the next one is worth beginning.
        let wanted = if next_is_due { this + 1 } else { this };
        let opens = (due(wanted) && open.len() < MAX_OPEN).then_some(wanted);

        let overdue = |snapshot: &OpenSnapshot| !(serves(snapshot, this) || (next_is_due && serves(snapshot, this + 1)));
        let mut wait = LOOK_AGAIN;
        let mut close = Vec::new();
        for (position, snapshot) in open.iter().enumerate().filter(|(_, snapshot)| overdue(snapshot)) {
            // It may go when a younger one has been open for the overlap, even if that one is overdue, too.
            let younger = open.iter().enumerate().filter(|(other, rival)| (rival.opened, *other) > (snapshot.opened, position));
            match younger.map(|(_, rival)| age(rival)).max() {
                Some(overlapped) if overlapped >= self.overlap => close.push(position),
                Some(overlapped) => wait = wait.min(self.overlap - overlapped),
                None => wait = wait.min(self.overlap),
            }
        }
        let until = if next_is_due { left_ns } else { left_ns - overlap_ns };
        Step { open: opens, close, wait: wait.min(Duration::from_nanos(until.unsigned_abs())) }
    }
}

fn ns(duration: Duration) -> i64 {
    i64::try_from(duration.as_nanos()).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const SECOND: i64 = 1_000_000_000;
    const SCHEDULE: Schedule = Schedule { slot: Duration::from_secs(300), overlap: Duration::from_secs(10) };

    /// A monitor that does what it is told, with a wall clock that can be set.
    struct Run {
        schedule: Schedule,
        wall_ns: i64,
        now: Duration,
        open: Vec<OpenSnapshot>,
        /// Slot, opened and closed of those that are closed.
        closed: Vec<(i64, Duration, Duration)>,
    }

    impl Run {
        fn new(schedule: Schedule, wall_ns: i64) -> Self {
            let mut run = Self { schedule, wall_ns, now: Duration::from_secs(5), open: Vec::new(), closed: Vec::new() };
            run.step();
            run
        }

        fn step(&mut self) -> Duration {
            let step = self.schedule.step(self.wall_ns, self.now, &self.open);
            for position in step.close.iter().rev() {
                let closed = self.open.remove(*position);
                self.closed.push((closed.slot, closed.opened, self.now));
            }
            self.open.extend(step.open.map(|slot| OpenSnapshot { slot, opened: self.now }));
            assert!(!self.open.is_empty() && self.open.len() <= MAX_OPEN, "{:?}", self.open);
            step.wait
        }

        fn advance(&mut self, by: Duration, wall_runs: bool) {
            let end = self.now + by;
            while self.now < end {
                let wait = self.step().max(Duration::from_millis(1)).min(end - self.now);
                self.now += wait;
                self.wall_ns += if wall_runs { ns(wait) } else { 0 };
                self.step();
            }
        }
    }

    #[test]
    fn slots_are_those_of_the_wall_clock_and_overlap() {
        let mut run = Run::new(SCHEDULE, 1000 * 300 * SECOND + 100 * SECOND);
        run.advance(Duration::from_secs(1000), true);
        let begin = Duration::from_secs(5);
        let at = |seconds: u64| begin + Duration::from_secs(seconds);
        assert_eq!(run.closed, [(1000, begin, at(200)), (1001, at(190), at(500)), (1002, at(490), at(800))]);
        assert_eq!(run.open, [OpenSnapshot { slot: 1003, opened: at(790) }]);
    }

    #[test]
    fn a_clock_set_forward_or_back_leaves_no_gap_and_keeps_the_overlap() {
        for jump in [3600, -3600, 30, -30, 86_400 * 365] {
            let mut run = Run::new(SCHEDULE, 1000 * 300 * SECOND + 100 * SECOND);
            run.advance(Duration::from_secs(5), true);
            run.wall_ns += jump * SECOND;
            run.advance(Duration::from_secs(700), true);
            let mut spans = run.closed.clone();
            spans.extend(run.open.iter().map(|open| (open.slot, open.opened, run.now)));
            spans.sort_by_key(|(_, opened, _)| *opened);
            for pair in spans.windows(2) {
                assert!(pair[0].2 >= pair[1].1 + SCHEDULE.overlap || pair[0].2 == run.now, "jump {jump}: {spans:?}");
            }
        }
    }

    #[test]
    fn a_clock_that_stands_still_makes_no_endless_snapshot() {
        let mut run = Run::new(SCHEDULE, 1000 * 300 * SECOND + 100 * SECOND);
        run.advance(Duration::from_secs(2000), false);
        assert!(run.closed.len() >= 5, "{:?}", run.closed);
    }

    proptest! {
        #[test]
        fn whatever_the_clock_does_something_is_open_and_nothing_too_long(
            slot_s in 2_u64..400,
            overlap_share in 0.0_f64..0.9,
            jumps in prop::collection::vec((1_u64..200, -100_000_i64..100_000, any::<bool>()), 0..40),
        ) {
            let slot = Duration::from_secs(slot_s);
            let schedule = Schedule { slot, overlap: slot.mul_f64(overlap_share) };
            let mut run = Run::new(schedule, 1_700_000_000 * SECOND);
            for (seconds, jump, wall_runs) in jumps {
                run.advance(Duration::from_secs(seconds), wall_runs);
                run.wall_ns += jump * SECOND;
                run.step();
            }
            let longest = schedule.slot + schedule.overlap * 4 + LOOK_AGAIN * 4;
            let ages = run.closed.iter().map(|(_, opened, closed)| *closed - *opened);
            for age in ages.chain(run.open.iter().map(|open| run.now - open.opened)) {
                prop_assert!(age <= longest, "{age:?} of {schedule:?}");
            }
            // Every moment since the start is in some snapshot.
            let mut spans: Vec<_> = run.closed.iter().map(|(_, opened, closed)| (*opened, *closed)).collect();
            spans.extend(run.open.iter().map(|open| (open.opened, run.now)));
            spans.sort_unstable();
            let mut covered = Duration::from_secs(5);
            for (opened, closed) in spans {
                prop_assert!(opened <= covered);
                covered = covered.max(closed);
            }
            prop_assert_eq!(covered, run.now);
        }

        #[test]
        fn undisturbed_every_seam_overlaps(slot_s in 2_u64..400, overlap_share in 0.0_f64..0.5, start in 0_i64..1_000_000) {
            let slot = Duration::from_secs(slot_s);
            let schedule = Schedule { slot, overlap: slot.mul_f64(overlap_share) };
            let mut run = Run::new(schedule, start * SECOND);
            run.advance(slot * 5, true);
            for pair in run.closed.windows(2) {
                prop_assert_eq!(pair[0].0 + 1, pair[1].0);
                prop_assert!(pair[0].2 - pair[1].1 >= schedule.overlap || pair[0].1 == Duration::from_secs(5));
            }
        }
    }
}
