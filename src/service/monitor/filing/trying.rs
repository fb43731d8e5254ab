//! That a snapshot which could not be filed is tried again: what the disk refused for as long as it takes, what broke off some times.

use super::{
    super::{lock, supervision, view::is_filed},
    Clerk, Work, alarm,
    mending::NOT_FILED,
    not_recorded,
};
use crate::{
    api::{Snapshot, SnapshotState},
    archive::{Leftover, StoreError},
    service::replies::Core,
};
use std::{
    sync::Arc,
    time::{Duration, Instant},
};

/// How often what could not be filed is tried again.
pub(super) const REFILE_PERIOD: Duration = Duration::from_secs(60);
/// The same, when it was room that was missing, and there is so much now.
const REFILE_PERIOD_WITH_ROOM: Duration = Duration::from_secs(5);
const ENOUGH_ROOM_BYTES: u64 = 1 << 20;
/// So often filing one snapshot may break off; then it is left to the next start.
pub(super) const MAX_BREAKS: u8 = 3;

/// What became of the tries to file a snapshot.
#[derive(Debug, Default)]
pub(super) struct Tries {
    /// So often they broke off.
    breaks: u8,
}

impl Tries {
    fn may_go_on(&self) -> bool {
        self.breaks < MAX_BREAKS
    }
}

/// A panic over one snapshot must not end the work on all others; its recording stays where it is.
pub(super) fn guarded<T>(core: &Core, snapshot_id: &str, what: &str, work: impl FnOnce() -> T) -> Option<T> {
    supervision::guarded(core, &format!("{what} snapshot {snapshot_id} broke off; its recording is still there"), work)
}

impl Clerk<'_> {
    /// Tries to file a snapshot.
    pub(super) fn try_to(&mut self, core: &Core, snapshot_id: &str, file: impl FnOnce(&mut Self)) {
        if guarded(core, snapshot_id, "filing", || file(self)).is_none() {
            self.being_filed = None;
            self.tried_in_vain(core, snapshot_id);
        }
    }

    /// Judging or filing a snapshot broke off, which has been told: it is tried again, but not for ever, for each try may be long.
    pub(super) fn tried_in_vain(&mut self, core: &Core, snapshot_id: &str) {
        let known = lock(&core.monitor.view).snapshot(snapshot_id);
        // It may have been filed before that.
        let Some(snapshot) = known.filter(|known| !is_filed(known.state)) else { return };
        let tries = self.unfiled.entry(snapshot_id.to_owned()).or_default();
        tries.breaks = tries.breaks.saturating_add(1);
        if tries.may_go_on() {
            waits(core, snapshot, format!("filing {snapshot_id} broke off, and will be tried again"));
        } else {
            let problem = format!(
                "filing {snapshot_id} broke off {MAX_BREAKS} times; it stays where it was recorded until netdiag is started again, or it is \
                 deleted"
            );
            alarm(core, problem.clone());
            waits(core, snapshot, problem);
        }
    }

    /// The snapshot's recording stays where it is, and it is tried again.
    pub(super) fn could_not(&mut self, core: &Core, snapshot: Snapshot, error: &StoreError) {
        let snapshot_id = snapshot.snapshot_id.clone();
        self.lacks_room |= error.is_lack_of_room();
        let problem = format!("snapshot {snapshot_id} could not be filed, and will be tried again: {error}");
        self.will_be_tried_again(core, &snapshot_id, problem.clone());
        waits(core, snapshot, problem);
    }

    /// The first time it is an alarm.
    pub(super) fn will_be_tried_again(&mut self, core: &Core, snapshot_id: &str, problem: String) {
        if self.unfiled.contains_key(snapshot_id) {
            lock(&core.monitor.view).problem(problem);
        } else {
            self.unfiled.insert(snapshot_id.to_owned(), Tries::default());
            alarm(core, problem);
        }
    }

    /// What is to be tried again now waits to be mended.
    pub(super) fn file_again(&mut self) {
        if self.unfiled.is_empty() || self.refiled.elapsed() < self.refile_period() {
            return;
        }
        self.refiled = Instant::now();
        let leftovers = match self.store.leftovers() {
            Ok(leftovers) => leftovers,
            Err(error) => {
                let told = |core: Arc<Core>| lock(&core.monitor.view).problem(error.to_string());
                return self.core.upgrade().map_or((), told);
            }
        };
        self.lacks_room = false;
        let is_there = |snapshot_id: &String| leftovers.iter().any(|leftover| leftover.snapshot_id == *snapshot_id);
        let gone: Vec<String> = self.unfiled.keys().filter(|snapshot_id| !is_there(snapshot_id)).cloned().collect();
        for snapshot_id in gone {
            self.unfiled.remove(&snapshot_id);
            self.given_up(&snapshot_id);
        }
        let is_tried_again = |leftover: &Leftover| self.unfiled.get(&leftover.snapshot_id).is_some_and(Tries::may_go_on);
        self.waiting.extend(leftovers.into_iter().filter(is_tried_again).map(|leftover| Work::Mend(leftover, NOT_FILED)));
    }

    /// A snapshot that could not be filed and of which no recording is there any more, or never was.
    fn given_up(&self, snapshot_id: &str) {
        let Some(core) = self.core.upgrade() else { return };
        let known = lock(&core.monitor.view).snapshot(snapshot_id);
        if let Some(snapshot) = known.filter(|known| !is_filed(known.state)) {
            not_recorded(&core, snapshot, "it could not be filed, and nothing of it was recorded");
        }
    }

    /// One that waits to be filed is to be deleted: its recording goes. False: it cannot.
    pub(super) fn waits_no_more(&mut self, core: &Core, snapshot_id: &str) -> bool {
        let is_it = |leftover: &Leftover| leftover.snapshot_id == snapshot_id;
        if !self.unfiled.contains_key(snapshot_id) && !self.leftovers.iter().any(is_it) {
            return true;
        }
        if let Err(error) = self.store.remove_recording(snapshot_id) {
            lock(&core.monitor.view).problem(format!("a snapshot could not be deleted: {error}"));
            return false;
        }
        self.unfiled.remove(snapshot_id);
        self.leftovers.retain(|leftover| !is_it(leftover));
        self.waiting.retain(|work| !matches!(work, Work::Mend(leftover, _) if is_it(leftover)));
        true
    }

    /// Where only room was missing, it is filed soon after there is some.
    fn refile_period(&self) -> Duration {
        let settings = self.core.upgrade().map(|core| lock(&core.monitor.view).settings().clone());
        let has_room = settings.is_some_and(|settings| self.room(&settings) >= ENOUGH_ROOM_BYTES);
        if self.lacks_room && has_room { REFILE_PERIOD_WITH_ROOM } else { REFILE_PERIOD }
    }
}

/// The snapshot stays as if it were open, with what was found.
fn waits(core: &Core, snapshot: Snapshot, problem: String) {
    let text = "it waits to be filed".to_owned();
    lock(&core.monitor.view).put(Snapshot { state: SnapshotState::Open, text, problem: Some(problem), ..snapshot });
}
