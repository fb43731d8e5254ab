//! On the recording thread: reads the live analyses on the period and at the seams of snapshots.

use super::{Ended, Series};
use crate::{
    analysis::{Account, Analysis},
    api::UtcTime,
    service::monitor::lock,
};
use std::{
    sync::{Arc, Mutex},
    time::{Duration, Instant, SystemTime},
};

/// Without a period there is no next look.
const NEVER: Duration = Duration::from_secs(3600);

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
    /// The slot of the wall clock in which the period ends.
    slot: i64,
}

impl Reading {
    /// Ends the period if it is over. `oldest` is the oldest snapshot that is open and goes by the clock. Gives how long to wait until
    /// the next look.
    pub fn look(&mut self, series: &Series, oldest: Option<&Sink>) -> Duration {
        let Some(period) = series.period else { return NEVER };
        let Some(counted) = &mut self.counted else {
            self.counted = oldest.map(|sink| Counted::begin(Arc::clone(sink), period));
            return if self.counted.is_some() { until_next(period) } else { NEVER };
        };
        if slot_of(wall_ns(), period) != counted.slot {
            let now = Instant::now();
            let meters = lock(&counted.sink).meters();
            counted.account.read(meters);
            let ended = Ended {
                at: UtcTime::from(SystemTime::now()).to_millis(),
                period: now.saturating_duration_since(counted.began),
                meters: counted.account.take(),
            };
            (counted.began, counted.slot) = (now, slot_of(wall_ns(), period));
            series.ended(ended);
        }
        until_next(period)
    }

    /// A snapshot is about to be closed; `next` is the oldest of the others that go by the clock. Without one, what was counted ends.
    pub fn closing(&mut self, sink: &Sink, next: Option<&Sink>) {
        let Some(counted) = self.counted.as_mut().filter(|counted| Arc::ptr_eq(&counted.sink, sink)) else { return };
        let Some(next) = next else {
            self.counted = None;
            return;
        };
        // At one moment: a packet goes to the older one first, so that at most one can be between the two.
        let (old, new) = (lock(sink), lock(next));
        let (last, first) = (old.meters(), new.meters());
        drop((old, new));
        counted.account.read(last);
        counted.account.go_on_with(first);
        counted.sink = Arc::clone(next);
    }
}

impl Counted {
    /// A snapshot is counted from its beginning.
    fn begin(sink: Sink, period: Duration) -> Self {
        let slot = slot_of(wall_ns(), period);
        // A first period of less than half of one would say little.
        let slot = if until_next(period) < period / 2 { slot + 1 } else { slot };
        Self { sink, account: Account::default(), began: Instant::now(), slot }
    }
}

fn slot_of(unix_ns: i64, period: Duration) -> i64 {
    unix_ns.div_euclid(ns(period))
}

/// How long it is until the next slot of the wall clock begins.
fn until_next(period: Duration) -> Duration {
    Duration::from_nanos((ns(period) - wall_ns().rem_euclid(ns(period))).unsigned_abs())
}

fn ns(period: Duration) -> i64 {
    i64::try_from(period.as_nanos()).unwrap_or(i64::MAX).max(1)
}

fn wall_ns() -> i64 {
    UtcTime::from(SystemTime::now()).unix_ns()
}
