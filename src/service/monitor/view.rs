//! What is known of the monitor, for whoever asks.

use super::Remembered;
use crate::monitor::{Judgement, Problems};
use crate::{
    api::{
        AnalysisVerdict, Monitor, MonitorInterface, MonitorSettings, MonitorState, Snapshot, SnapshotCounts, SnapshotList,
        SnapshotQuery, SnapshotState, UtcTime,
    },
    archive::{Leftover, Stored},
};
use std::{
    collections::{BTreeMap, BTreeSet},
    time::{Instant, SystemTime},
};

/// Snapshots in a list, unless less is asked for.
const LISTED: usize = 100;

/// What is known of the monitor.
#[derive(Debug)]
pub(in crate::service) struct View {
    enabled: bool,
    settings: MonitorSettings,
    pub state: MonitorState,
    pub interfaces: Vec<MonitorInterface>,
    pub free_bytes: u64,
    /// Whether recording has paused because the disk is full.
    pub is_full: bool,
    problems: Problems,
    started: Instant,
    /// When the problem that is shown was last so.
    last_problem_at: SystemTime,
    /// In short: of those that are filed, the findings are read from the disk when somebody asks.
    snapshots: BTreeMap<String, Snapshot>,
    /// The names of those on the disk that have not been read yet.
    unread: BTreeSet<String>,
    /// What was made of those that are not filed yet.
    judgements: BTreeMap<String, Judgement>,
    totals: Totals,
    suspect: u64,
    deleted: u64,
}

/// What is asked for several times a second, counted as snapshots come, change and go.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Totals {
    open: u64,
    /// What the open ones have grown to.
    open_bytes: u64,
    clean: u64,
    archived: u64,
    archive_bytes: u64,
    disk_bytes: u64,
}

impl Totals {
    fn count(&mut self, snapshot: &Snapshot, change: fn(u64, u64) -> u64) {
        let is_clean = snapshot.verdict == Some(AnalysisVerdict::Clean);
        let add = |total: &mut u64, amount| *total = change(*total, amount);
        add(&mut self.disk_bytes, snapshot.disk_bytes);
        match snapshot.state {
            SnapshotState::Open | SnapshotState::Filing => {
                add(&mut self.open, 1);
                add(&mut self.open_bytes, snapshot.disk_bytes);
            }
            SnapshotState::Temporary => add(&mut self.clean, u64::from(is_clean)),
            SnapshotState::Archived => {
                add(&mut self.archived, 1);
                add(&mut self.archive_bytes, snapshot.disk_bytes);
            }
            SnapshotState::Deleted => {}
        }
    }
}

/// Whether it is in its place on the disk.
pub(super) fn is_filed(state: SnapshotState) -> bool {
    matches!(state, SnapshotState::Temporary | SnapshotState::Archived)
}

impl View {
    pub fn new(enabled: bool, settings: MonitorSettings) -> Self {
        Self {
            enabled,
            settings,
            state: MonitorState::Off,
            interfaces: Vec::new(),
            free_bytes: 0,
            is_full: false,
            problems: Problems::default(),
            started: Instant::now(),
            last_problem_at: SystemTime::now(),
            snapshots: BTreeMap::new(),
            unread: BTreeSet::new(),
            judgements: BTreeMap::new(),
            totals: Totals::default(),
            suspect: 0,
            deleted: 0,
        }
    }

    pub(super) fn remembered(&self) -> Remembered {
        Remembered { enabled: self.enabled, settings: self.settings.clone() }
    }

    pub fn settings(&self) -> &MonitorSettings {
        &self.settings
    }

    pub fn set_settings(&mut self, settings: MonitorSettings) {
        self.settings = settings;
    }

    pub fn is_enabled(&self) -> bool {
        self.enabled
    }

    pub fn set_enabled(&mut self, enabled: bool) {
        self.enabled = enabled;
    }

    pub fn is_recording(&self) -> bool {
        self.state == MonitorState::Recording
    }

    /// Something is wrong; it is told in the log, too.
    pub fn problem(&mut self, problem: String) {
        self.new_problem(&problem);
    }

    /// Something is wrong. True: that is new, and somebody should hear of it.
    pub fn new_problem(&mut self, problem: &str) -> bool {
        let is_new = self.problems.take(problem, self.started.elapsed());
        if is_new {
            tracing::warn!(problem, "monitor");
        }
        if self.problems.shown() == Some(problem) {
            self.last_problem_at = SystemTime::now();
        }
        is_new
    }

    /// Nothing is wrong any more.
    pub fn well(&mut self) {
        self.problems.well();
    }

    /// This is not wrong any more.
    pub fn solved(&mut self, problem: &str) {
        self.problems.solved(problem);
    }

    /// What is or was wrong.
    pub fn last_problem(&self) -> Option<&str> {
        self.problems.shown()
    }

    /// A snapshot is new, or has changed.
    pub fn put(&mut self, mut snapshot: Snapshot) {
        // A sink may have it before it is told here that it was archived.
        if let Some(former) = self.snapshots.get(&snapshot.snapshot_id)
            && snapshot.shipped_to.len() < former.shipped_to.len()
        {
            snapshot.shipped_to.clone_from(&former.shipped_to);
        }
        if is_filed(snapshot.state) {
            snapshot.findings = Vec::new();
            snapshot.interfaces = Vec::new();
            self.judgements.remove(&snapshot.snapshot_id);
        }
        self.unread.remove(&snapshot.snapshot_id);
        self.totals.count(&snapshot, u64::saturating_add);
        if let Some(former) = self.snapshots.insert(snapshot.snapshot_id.clone(), snapshot) {
            self.totals.count(&former, u64::saturating_sub);
        }
    }

    /// A snapshot begins, by the clock or by a trigger, under this name or the next one that is free: a clock that was set back comes to the
    /// same slot again.
    pub fn begin(&mut self, name: &str, opened_at: UtcTime, trigger: Option<String>) -> Option<Snapshot> {
        let again = (2..10_000).map(|number| format!("{name}_{number}"));
        let snapshot_id = std::iter::once(name.to_owned()).chain(again).find(|name| !self.knows(name))?;
        let snapshot = Snapshot { trigger, ..Snapshot::opened(snapshot_id, opened_at) };
        self.put(snapshot.clone());
        Some(snapshot)
    }

    /// A snapshot that had begun does not come about.
    pub fn forget(&mut self, snapshot_id: &str) {
        self.judgements.remove(snapshot_id);
        if let Some(former) = self.snapshots.remove(snapshot_id) {
            self.totals.count(&former, u64::saturating_sub);
        }
    }

    /// These are on the disk and will be read: their names are taken.
    pub fn expect(&mut self, names: impl IntoIterator<Item = String>) {
        self.unread = names.into_iter().collect();
    }

    /// All that can be read has been.
    pub fn all_read(&mut self) {
        self.unread.clear();
    }

    /// Those that had begun and of which nothing is on the disk: neither filed, which is to be read, nor one of these recordings.
    pub fn nowhere(&self, recordings: &[Leftover]) -> Vec<Snapshot> {
        let is_recorded = |snapshot_id: &str| recordings.iter().any(|recording| recording.snapshot_id == snapshot_id);
        let is_nowhere = |snapshot: &&Snapshot| {
            !is_filed(snapshot.state) && !self.unread.contains(&snapshot.snapshot_id) && !is_recorded(&snapshot.snapshot_id)
        };
        self.snapshots.values().filter(is_nowhere).cloned().collect()
    }

    /// Pins a snapshot, or lets it go; gives it as it is then.
    pub fn pin(&mut self, snapshot_id: &str, pinned: bool) -> Option<Snapshot> {
        let snapshot = self.snapshots.get_mut(snapshot_id)?;
        snapshot.pinned = pinned;
        Some(snapshot.clone())
    }

    /// A snapshot was judged: it counts as suspect if it is, once, however often it is tried until it is filed.
    pub fn judged(&mut self, snapshot_id: &str, judgement: &Judgement) {
        let is_suspect = judgement.verdict == AnalysisVerdict::Suspect;
        if self.judgements.insert(snapshot_id.to_owned(), judgement.clone()).is_none() {
            self.suspect += u64::from(is_suspect);
        }
    }

    /// What was made of a snapshot that is judged and not filed yet.
    pub fn judgement(&self, snapshot_id: &str) -> Option<Judgement> {
        self.judgements.get(snapshot_id).cloned()
    }

    pub fn remove(&mut self, snapshot_id: &str) {
        if self.snapshots.contains_key(snapshot_id) {
            self.forget(snapshot_id);
            self.deleted += 1;
        }
    }

    pub fn snapshot(&self, snapshot_id: &str) -> Option<Snapshot> {
        self.snapshots.get(snapshot_id).cloned()
    }

    /// Whether there is a snapshot of that name.
    pub fn knows(&self, snapshot_id: &str) -> bool {
        self.snapshots.contains_key(snapshot_id) || self.unread.contains(snapshot_id)
    }

    /// So many of the filed continuous snapshots before this one, the newest first.
    pub fn continuous_before(&self, snapshot_id: &str, count: u32) -> Vec<Snapshot> {
        let earlier = self.snapshots.range(..snapshot_id.to_owned()).rev().map(|(_, snapshot)| snapshot);
        let filed = earlier.filter(|snapshot| snapshot.trigger.is_none() && is_filed(snapshot.state));
        filed.take(usize::try_from(count).unwrap_or(usize::MAX)).cloned().collect()
    }

    /// The newest first, without their findings.
    pub fn list(&self, query: &SnapshotQuery) -> SnapshotList {
        let is_wanted = |snapshot: &Snapshot| {
            query.verdict.is_none_or(|verdict| snapshot.verdict == Some(verdict))
                && query.state.is_none_or(|state| snapshot.state == state)
        };
        let limit = query.limit.map_or(LISTED, |limit| limit as usize);
        let older = match &query.before {
            Some(before) => self.snapshots.range(..before.clone()),
            None => self.snapshots.range::<String, _>(..),
        };
        let mut older = older.rev().map(|(_, snapshot)| snapshot).filter(|snapshot| is_wanted(snapshot));
        let short = |snapshot: &Snapshot| Snapshot { findings: Vec::new(), interfaces: Vec::new(), ..snapshot.clone() };
        let snapshots: Vec<Snapshot> = older.by_ref().take(limit).map(short).collect();
        let last = snapshots.last().map(|last| last.snapshot_id.clone());
        SnapshotList {
            total: self.snapshots.values().filter(|snapshot| is_wanted(snapshot)).count() as u64,
            next_before: older.next().and(last),
            snapshots,
        }
    }

    /// What is filed, for the rules of keeping.
    pub fn stored(&self) -> Vec<Stored> {
        let filed = self.snapshots.values().filter(|snapshot| is_filed(snapshot.state));
        filed
            .map(|snapshot| Stored {
                snapshot_id: snapshot.snapshot_id.clone(),
                bytes: snapshot.disk_bytes,
                closed_unix_ns: snapshot.closed_at.map_or(i64::MIN, |closed| closed.unix_ns()),
                archived: snapshot.state == SnapshotState::Archived,
                pinned: snapshot.pinned,
                held: false,
            })
            .collect()
    }

    pub fn archive_bytes(&self) -> u64 {
        self.totals.archive_bytes
    }

    /// How many are being recorded or filed, and what they have grown to.
    pub fn open(&self) -> (usize, u64) {
        (usize::try_from(self.totals.open).unwrap_or(usize::MAX), self.totals.open_bytes)
    }

    pub fn counts(&self) -> SnapshotCounts {
        let Totals { open, clean, archived, .. } = self.totals;
        SnapshotCounts { open, clean, suspect: self.suspect, archived, deleted: self.deleted }
    }

    pub fn monitor(&self) -> Monitor {
        Monitor {
            enabled: self.enabled,
            state: self.state,
            interfaces: self.interfaces.clone(),
            settings: self.settings.clone(),
            snapshots: self.counts(),
            disk_bytes: self.totals.disk_bytes,
            free_bytes: self.free_bytes,
            last_problem: self.problems.shown().map(str::to_owned),
            last_problem_at: self.problems.shown().map(|_| UtcTime::from(self.last_problem_at).to_millis()),
            sinks: Vec::new(),
            series: None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::service::monitor::testing::finding;
    use proptest::prelude::*;

    fn snapshot(snapshot_id: &str, state: SnapshotState, verdict: AnalysisVerdict) -> Snapshot {
        let known = super::super::filing::unfinished(snapshot_id, "z");
        Snapshot { state, verdict: Some(verdict), disk_bytes: 10, findings: vec![finding(); 50], ..known }
    }

    fn names(list: &SnapshotList) -> Vec<&str> {
        list.snapshots.iter().map(|snapshot| snapshot.snapshot_id.as_str()).collect()
    }

    #[test]
    fn what_is_filed_is_known_in_short() {
        let mut view = View::new(true, MonitorSettings::default());
        view.expect(["a".to_owned(), "b".to_owned()]);
        assert!(view.knows("b") && view.snapshot("b").is_none());
        for state in [SnapshotState::Filing, SnapshotState::Archived] {
            view.put(snapshot("a", state, AnalysisVerdict::Suspect));
            assert_eq!(view.snapshot("a").unwrap().findings.len(), if state == SnapshotState::Filing { 50 } else { 0 });
        }
        view.all_read();
        assert!(view.knows("a") && !view.knows("b"));
    }

    #[test]
    fn what_begins_has_a_name_of_its_own_and_what_does_not_come_about_is_not_counted() {
        let mut view = View::new(true, MonitorSettings::default());
        view.expect(["a".to_owned()]);
        let mut begin = || view.begin("a", UtcTime::from_unix_ns(0), None).unwrap().snapshot_id;
        assert_eq!((begin(), begin()), ("a_2".to_owned(), "a_3".to_owned()));
        assert_eq!(view.counts().open, 2);
        view.forget("a_2");
        assert!(view.counts().open == 1 && view.counts().deleted == 0 && !view.knows("a_2"));
        view.remove("a_3");
        assert_eq!((view.counts().open, view.counts().deleted), (0, 1));
    }

    #[test]
    fn what_had_begun_is_nowhere_unless_it_is_filed_or_its_recording_is_there() {
        let mut view = View::new(true, MonitorSettings::default());
        let states = [SnapshotState::Open, SnapshotState::Filing, SnapshotState::Temporary, SnapshotState::Archived];
        for (name, state) in ["lost", "judged and lost", "clean", "archived"].into_iter().zip(states) {
            view.put(snapshot(name, state, AnalysisVerdict::Clean));
        }
        for name in ["recorded", "just filed"] {
            view.begin(name, UtcTime::from_unix_ns(0), None).unwrap();
        }
        view.expect(["just filed".to_owned()]);
        let recording = Leftover { snapshot_id: "recorded".into(), path: "recorded.pcapng.partial".into() };
        let nowhere: Vec<String> = view.nowhere(&[recording]).into_iter().map(|snapshot| snapshot.snapshot_id).collect();
        assert_eq!(nowhere, ["judged and lost", "lost"]);
    }

    #[test]
    fn a_list_leads_on_to_all() {
        let mut view = View::new(true, MonitorSettings::default());
        for number in 0..25 {
            let (state, verdict) = match number % 2 {
                0 => (SnapshotState::Archived, AnalysisVerdict::Suspect),
                _ => (SnapshotState::Temporary, AnalysisVerdict::Clean),
            };
            view.put(snapshot(&format!("{number:02}"), state, verdict));
        }
        let mut query = SnapshotQuery { limit: Some(5), state: Some(SnapshotState::Archived), ..SnapshotQuery::default() };
        let mut seen = Vec::new();
        loop {
            let list = view.list(&query);
            assert_eq!(list.total, 13);
            seen.extend(names(&list).into_iter().map(str::to_owned));
            query.before = list.next_before;
            if query.before.is_none() {
                break;
            }
        }
        let expected: Vec<String> = (0..25).rev().filter(|number| number % 2 == 0).map(|number| format!("{number:02}")).collect();
        assert_eq!(seen, expected);
        let clean = SnapshotQuery { verdict: Some(AnalysisVerdict::Clean), ..SnapshotQuery::default() };
        assert_eq!((view.list(&clean).total, view.list(&clean).next_before), (12, None));
    }

    #[test]
    fn what_a_message_does_not_carry_is_in_the_next_one() {
        let mut view = View::new(true, MonitorSettings::default());
        (0..100).for_each(|number| view.put(snapshot(&format!("{number:02}"), SnapshotState::Archived, AnalysisVerdict::Suspect)));
        let mut query = SnapshotQuery { limit: Some(1000), ..SnapshotQuery::default() };
        let mut seen = Vec::new();
        loop {
            let body = crate::service::results::fit_snapshots(view.list(&query), 5000);
            assert!(body.len() <= 5000);
            let list: SnapshotList = serde_json::from_slice(&body).unwrap();
            assert!(!list.snapshots.is_empty());
            seen.extend(names(&list).into_iter().map(str::to_owned));
            query.before = list.next_before;
            if query.before.is_none() {
                break;
            }
        }
        assert_eq!(seen, (0..100).rev().map(|number| format!("{number:02}")).collect::<Vec<_>>());
    }

    proptest! {
        #[test]
        fn what_is_counted_is_what_there_is(steps in prop::collection::vec((0_u8..5, 0_u8..5, any::<bool>(), 0_u64..100), 0..60)) {
            let mut view = View::new(true, MonitorSettings::default());
            for (name, kind, suspect, disk_bytes) in steps {
                let verdict = if suspect { AnalysisVerdict::Suspect } else { AnalysisVerdict::Clean };
                let states = [SnapshotState::Open, SnapshotState::Filing, SnapshotState::Temporary, SnapshotState::Archived];
                match states.get(usize::from(kind)) {
                    Some(state) => view.put(Snapshot { disk_bytes, ..snapshot(&name.to_string(), *state, verdict) }),
                    None => view.remove(&name.to_string()),
                }
                let mut anew = Totals::default();
                view.snapshots.values().for_each(|snapshot| anew.count(snapshot, u64::saturating_add));
                prop_assert_eq!(view.totals, anew);
            }
        }
    }
}
