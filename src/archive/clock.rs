//! Whether the wall clock can be trusted with the age of what is archived: plain.

use std::time::Duration;

/// The clock was set when it differs by more than this from the one that is never set.
const SET_BY: Duration = Duration::from_secs(60);
/// For so long after that nothing is deleted for its age: somebody may set it right.
const UNSURE_FOR: Duration = Duration::from_secs(24 * 3600);

/// Watches the wall clock beside one that is never set.
#[derive(Debug, Clone, Default)]
pub struct WallClock {
    /// Both, when they were looked at last.
    looked: Option<(Duration, i64)>,
    unsure_until: Duration,
}

/// The clock was set forward.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SetForward {
    /// By so much.
    pub by: Duration,
}

impl WallClock {
    /// Begins, with the time of the newest that was recorded before: a clock that is days later than that may be wrong, or netdiag was off.
    pub fn begins(&mut self, now: Duration, wall_unix_ns: i64, newest_unix_ns: Option<i64>) {
        self.looked = Some((now, wall_unix_ns));
        if newest_unix_ns.is_some_and(|newest| nanos(wall_unix_ns.saturating_sub(newest)) > UNSURE_FOR) {
            self.unsure_until = now + UNSURE_FOR;
        }
    }

    /// Looks at both clocks; gives by how much the wall clock was set forward since the last look.
    pub fn look(&mut self, now: Duration, wall_unix_ns: i64) -> Option<SetForward> {
        let (before, wall_before) = self.looked.replace((now, wall_unix_ns))?;
        let by = nanos(wall_unix_ns.saturating_sub(wall_before)).saturating_sub(now.saturating_sub(before));
        if by <= SET_BY {
            return None;
        }
        self.unsure_until = now + UNSURE_FOR;
        Some(SetForward { by })
    }

    /// Whether something may be deleted because it is too old by the wall clock.
    pub fn is_sure(&self, now: Duration) -> bool {
        now >= self.unsure_until
    }
}

fn nanos(ns: i64) -> Duration {
    Duration::from_nanos(u64::try_from(ns).unwrap_or(0))
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: i64 = 1_000_000_000;
    const HOUR: u64 = 3600;

    #[test]
    fn a_clock_that_jumps_forward_is_not_trusted_for_a_day() {
        let mut clock = WallClock::default();
        let at = Duration::from_secs;
        clock.begins(at(0), 100 * SECOND, None);
        assert!(clock.look(at(10), 111 * SECOND).is_none() && clock.is_sure(at(10)), "a second is no jump");
        let year = 31_536_000 * SECOND;
        let set = clock.look(at(11), 111 * SECOND + year).unwrap();
        assert!((31_535_000..31_537_000).contains(&set.by.as_secs()));
        assert!(!clock.is_sure(at(11)) && !clock.is_sure(at(11 + 23 * HOUR)) && clock.is_sure(at(11 + 24 * HOUR)));
        // Set back it makes nothing look old.
        assert!(clock.look(at(12), 112 * SECOND).is_none());
        // A host that slept: both clocks of this kind may differ then, too, and nothing is lost by waiting a day.
        assert!(clock.look(at(13), 9000 * SECOND).is_some());
    }

    #[test]
    fn neither_is_one_that_is_days_later_at_the_start() {
        let sure = |newest| {
            let mut clock = WallClock::default();
            clock.begins(Duration::ZERO, 1_000_000 * SECOND, newest);
            clock.is_sure(Duration::ZERO)
        };
        assert!(sure(None) && sure(Some(999_000 * SECOND)) && sure(Some(2_000_000 * SECOND)));
        assert!(!sure(Some(900_000 * SECOND)));
    }
}
