//! On the recording thread: reads the live analyses on the period and at the seams of snapshots.

use super::{Ended, Series};
use crate::{
    analysis::{Account, Analysis, Meter},
    api::UtcTime,
    service::monitor::{lock, wall_ns},
};
use std::{
    sync::{Arc, Mutex},
    thread::sleep,
    time::{Duration, Instant},
};

/// Without a period there is no next look.
const NEVER: Duration = Duration::from_secs(3600);
/// How often, and how long each time, it is waited for a packet that one of two snapshots has and the other has not yet.
const SEAM_TRIES: u32 = 20;
const SEAM_WAIT: Duration = Duration::from_millis(1);

/// What is read of an analysis.
type Meters = Vec<(String, Meter)>;
/// The live analysis of a snapshot.
type Sink = Arc<Mutex<Analysis>>;

/// What is counted now. A snapshot's analysis is read until the snapshot is closed; the figures then go on with the next one's.
#[derive(Default)]
pub(in super::super) struct Reading {
    counted: Option<Counted>,
}

struct Counted {
    sink: Sink,
    account: Account,
    began: Instant,
    /// The slot of the wall clock in which the period began.
    slot: i64,
}

impl Reading {
    /// Ends the period if it is over. `oldest` is the oldest snapshot that is open and goes by the clock. Gives how long to wait until
    /// the next look.
    pub fn look(&mut self, series: &Series, oldest: Option<&Sink>) -> Duration {
        let Some(period) = series.period else { return NEVER };
        let (now, wall_ns) = (Instant::now(), wall_ns());
        let slot = slot_of(wall_ns, period);
        let Some(counted) = &mut self.counted else {
            // A snapshot is counted from its beginning.
            self.counted = oldest.map(|sink| Counted { sink: Arc::clone(sink), account: Account::default(), began: now, slot });
            return if self.counted.is_some() { until_next(wall_ns, period) } else { NEVER };
        };
        let lasted = now.saturating_duration_since(counted.began);
        if is_over(counted.slot, slot, lasted, period) {
            let meters = lock(&counted.sink).meters();
            counted.account.read(meters);
            let at = UtcTime::from_unix_ns(wall_ns).to_millis();
            series.ended(Ended { at, period: lasted, meters: counted.account.take() });
            (counted.began, counted.slot) = (now, slot);
        }
        until_next(wall_ns, period)
    }

    /// A snapshot is about to be closed; `next` is the oldest of the others that go by the clock. Without one, what was counted ends.
    pub fn closing(&mut self, sink: &Sink, next: Option<&Sink>) {
        let Some(counted) = self.counted.as_mut().filter(|counted| Arc::ptr_eq(&counted.sink, sink)) else { return };
        let Some(next) = next else {
            self.counted = None;
            return;
        };
        let (last, first) = readings_at_one_moment(sink, next);
        counted.account.read(last);
        counted.account.go_on_with(first);
        counted.sink = Arc::clone(next);
    }
}

/// Reads both between two packets. A packet goes to one after the other: one that only the older has seen would count twice, so that is
/// waited out. Two captures of their own may never agree; then a packet or two may.
fn readings_at_one_moment(older: &Sink, newer: &Sink) -> (Meters, Meters) {
    for _ in 0..SEAM_TRIES {
        let (old, new) = (lock(older), lock(newer));
        if old.latest_ns() == new.latest_ns() {
            return (old.meters(), new.meters());
        }
        drop((old, new));
        sleep(SEAM_WAIT);
    }
    let (old, new) = (lock(older), lock(newer));
    (old.meters(), new.meters())
}

/// Whether a period that began in one slot of the wall clock is over in another. One of less than half the time would say little: it
/// lasts until the slot after. A clock that is set back makes it longer: the first
/// look after twice the time ends it.
fn is_over(began_in: i64, slot: i64, lasted: Duration, period: Duration) -> bool {
    (slot != began_in && lasted >= period / 2) || lasted >= period * 2
}

fn slot_of(unix_ns: i64, period: Duration) -> i64 {
    unix_ns.div_euclid(ns(period))
}

/// How long it is until the next slot of the wall clock begins.
fn until_next(unix_ns: i64, period: Duration) -> Duration {
    Duration::from_nanos((ns(period) - unix_ns.rem_euclid(ns(period))).unsigned_abs())
}

fn ns(period: Duration) -> i64 {
    i64::try_from(period.as_nanos()).unwrap_or(i64::MAX).max(1)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const MINUTE: Duration = Duration::from_secs(60);

    #[test]
    fn a_period_that_begins_late_in_its_slot_lasts_through_the_next() {
        let seconds = Duration::from_secs;
        assert!(!is_over(7, 7, seconds(59), MINUTE), "the slot goes on");
        assert!(is_over(7, 8, seconds(60), MINUTE));
        assert!(!is_over(7, 8, seconds(5), MINUTE), "it began five seconds before");
        assert!(is_over(7, 9, seconds(65), MINUTE));
        assert!(is_over(7, 2, seconds(40), MINUTE), "the clock was set back by minutes");
        assert!(!is_over(7, 7, seconds(119), MINUTE) && is_over(7, 7, seconds(120), MINUTE), "or within the slot");
    }

    proptest! {
        /// Looks come when they are due by `until_next`, or late; the clock is set now and then.
        #[test]
        fn whatever_the_clock_does_a_period_is_half_to_three_times_as_long(
            period_s in 1_u64..100, begins_ms in 0_i64..10_000_000,
            steps in prop::collection::vec((0_u64..300, prop_oneof![9 => Just(0_i64), 1 => -200_000_i64..200_000]), 1..200),
        ) {
            let period = Duration::from_secs(period_s);
            let (mut wall_ns, mut began) = (begins_ms * 1_000_000, Duration::ZERO);
            let (mut now, mut slot) = (Duration::ZERO, slot_of(wall_ns, period));
            for (late_ms, set_ms) in steps {
                let wait = until_next(wall_ns, period);
                prop_assert!(wait > Duration::ZERO && wait <= period);
                let passes = wait + Duration::from_millis(late_ms);
                now += passes;
                wall_ns += i64::try_from(passes.as_nanos()).unwrap() + set_ms * 1_000_000;
                let lasted = now - began;
                prop_assert!(lasted < period * 3 + Duration::from_millis(300), "{lasted:?}");
                if is_over(slot, slot_of(wall_ns, period), lasted, period) {
                    prop_assert!(lasted >= period / 2, "{lasted:?}");
                    (began, slot) = (now, slot_of(wall_ns, period));
                }
            }
        }
    }
}
