//! What is known of the monitor, for whoever asks.

use super::Remembered;
use crate::monitor::Problems;
use crate::{
    api::{
        AnalysisVerdict, Monitor, MonitorInterface, MonitorSettings, MonitorState, Snapshot, SnapshotCounts, SnapshotList,
        SnapshotQuery, SnapshotState, UtcTime,
    },
    archive::Stored,
};
use std::{
    collections::BTreeMap,
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
    snapshots: BTreeMap<String, Snapshot>,
    suspect: u64,
    deleted: u64,
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
        self.snapshots.insert(snapshot.snapshot_id.clone(), snapshot);
    }

    /// Pins a snapshot, or lets it go; gives it as it is then.
    pub fn pin(&mut self, snapshot_id: &str, pinned: bool) -> Option<Snapshot> {
        let snapshot = self.snapshots.get_mut(snapshot_id)?;
        snapshot.pinned = pinned;
        Some(snapshot.clone())
    }

    /// A snapshot was closed: it counts as suspect if it is.
    pub fn judged(&mut self, snapshot: &Snapshot) {
        self.suspect += u64::from(snapshot.verdict == Some(AnalysisVerdict::Suspect));
    }

    pub fn remove(&mut self, snapshot_id: &str) {
        self.deleted += u64::from(self.snapshots.remove(snapshot_id).is_some());
    }

    pub fn snapshot(&self, snapshot_id: &str) -> Option<Snapshot> {
        self.snapshots.get(snapshot_id).cloned()
    }

    /// Whether there is a snapshot of that name.
    pub fn knows(&self, snapshot_id: &str) -> bool {
        self.snapshots.contains_key(snapshot_id)
    }

    /// So many of the filed continuous snapshots before this one, the newest first.
    pub fn continuous_before(&self, snapshot_id: &str, count: u32) -> Vec<Snapshot> {
        let earlier = self.snapshots.range(..snapshot_id.to_owned()).rev().map(|(_, snapshot)| snapshot);
        let filed = earlier.filter(|snapshot| snapshot.trigger.is_none() && snapshot.state != SnapshotState::Open);
        filed.take(usize::try_from(count).unwrap_or(usize::MAX)).cloned().collect()
    }

    /// The newest first, without their findings.
    pub fn list(&self, query: &SnapshotQuery) -> SnapshotList {
        let wanted = |snapshot: &&Snapshot| query.verdict.is_none_or(|verdict| snapshot.verdict == Some(verdict));
        let limit = query.limit.map_or(LISTED, |limit| limit as usize);
        let short = |snapshot: &Snapshot| Snapshot { findings: Vec::new(), interfaces: Vec::new(), ..snapshot.clone() };
        let all = || self.snapshots.values().rev().filter(wanted);
        SnapshotList { total: all().count() as u64, snapshots: all().take(limit).map(short).collect() }
    }

    /// What is filed, for the rules of keeping.
    pub fn stored(&self) -> Vec<Stored> {
        let filed = self.snapshots.values().filter(|snapshot| snapshot.state != SnapshotState::Open);
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
        let archived = self.snapshots.values().filter(|snapshot| snapshot.state == SnapshotState::Archived);
        archived.map(|snapshot| snapshot.disk_bytes).sum()
    }

    pub fn counts(&self) -> SnapshotCounts {
        let of = |state| self.snapshots.values().filter(|snapshot| snapshot.state == state).count() as u64;
        let is_clean =
            |snapshot: &&Snapshot| snapshot.verdict == Some(AnalysisVerdict::Clean) && snapshot.state == SnapshotState::Temporary;
        SnapshotCounts {
            open: of(SnapshotState::Open),
            clean: self.snapshots.values().filter(is_clean).count() as u64,
            suspect: self.suspect,
            archived: of(SnapshotState::Archived),
            deleted: self.deleted,
        }
    }

    pub fn monitor(&self) -> Monitor {
        Monitor {
            enabled: self.enabled,
            state: self.state,
            interfaces: self.interfaces.clone(),
            settings: self.settings.clone(),
            snapshots: self.counts(),
            disk_bytes: self.snapshots.values().map(|snapshot| snapshot.disk_bytes).sum(),
            free_bytes: self.free_bytes,
            last_problem: self.problems.shown().map(str::to_owned),
            last_problem_at: self.problems.shown().map(|_| UtcTime::from(self.last_problem_at).to_millis()),
            sinks: Vec::new(),
            series: None,
        }
    }
}
