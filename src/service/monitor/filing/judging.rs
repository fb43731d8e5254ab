//! The judging thread: a verdict on each snapshot as it closes. It touches no disk, so that a slow one holds back no verdict.

use super::{super::lock, Desk, Work, publish, trying::guarded};
use crate::{
    analysis::{Analysis, Told},
    api::{AnalysisReport, AnalysisVerdict, Event, Finding, IgnoredFinding, MonitorSettings, Snapshot, SnapshotState},
    capture::ClosedWindow,
    monitor::{FindingPattern, Judgement, Keep, MAX_OPEN, NeighboursAfter, Recurrence, gone_after, suspicious},
    service::{replies::Core, supervised::Pulse},
};
use std::{
    sync::{Arc, Mutex, Weak, mpsc::Receiver},
    time::{Duration, Instant},
};

/// So many snapshots may overlap with one that is still open.
const MAX_TOLD: usize = 2 * MAX_OPEN;
/// Findings of one snapshot that are kept; of more only the number.
const MAX_FINDINGS: usize = 1_000;

/// A snapshot that was closed.
pub(in super::super) struct Closed {
    pub snapshot: Snapshot,
    /// Its recording; `None` when the capture broke off.
    pub window: Option<ClosedWindow>,
    pub sink: Arc<Mutex<Analysis>>,
}

/// A snapshot that is judged, and told, and is to be filed.
pub(super) struct Judged {
    pub snapshot: Snapshot,
    pub judgement: Judgement,
    pub report: AnalysisReport,
    /// Its recording, if its file is still to be finished.
    pub window: Option<ClosedWindow>,
}

/// What is known when a snapshot is judged of those before it, also when the monitor is begun again meanwhile.
pub(in super::super) struct Judge {
    recurrence: Recurrence,
    neighbours: NeighboursAfter,
    /// What the latest snapshots have told, the newest first: those that overlap with them do not tell it again.
    told: Vec<Told>,
    started: Instant,
    has_begun: bool,
}

/// Judges what is closed, at once, and hands it on to be filed. Ends when nothing comes any more, or there is nobody to hand it to.
pub(super) fn run(core: &Weak<Core>, judge: &Mutex<Judge>, received: Receiver<Box<Closed>>, desk: Desk, pulse: &Pulse) {
    for closed in received {
        let turn = pulse.turn();
        let Some(strong) = core.upgrade() else { return };
        let next = match closed.window {
            // Without a word from the capture, what is on disk counts.
            None => Work::Unclosed(closed),
            Some(_) => {
                let snapshot_id = closed.snapshot.snapshot_id.clone();
                let judged = guarded(&strong, &snapshot_id, "judging", || lock(judge).closed(&strong, *closed));
                judged.map_or_else(|| Work::Unjudged(snapshot_id), |judged| Work::File(Box::new(judged)))
            }
        };
        drop((strong, turn));
        if !desk.put(next) {
            return;
        }
    }
}

impl Judge {
    pub fn new(started: Instant) -> Self {
        let (recurrence, neighbours) = (Recurrence::default(), NeighboursAfter::default());
        Self { recurrence, neighbours, told: Vec::new(), started, has_begun: false }
    }

    /// Whether nothing is known yet of what was filed: the first time.
    pub fn begins(&mut self) -> bool {
        !std::mem::replace(&mut self.has_begun, true)
    }

    fn now(&self) -> Duration {
        RECALLED + self.started.elapsed()
    }

    /// Takes a snapshot that was filed before this start, the oldest first: so long ago it was closed. Triggered ones say nothing of what
    /// stays.
    pub fn recall(&mut self, snapshot: &Snapshot, ago: Duration, settings: &MonitorSettings) {
        let matters = suspicious(&snapshot.findings, settings.severity, &ignored(settings));
        let for_itself = snapshot.state == SnapshotState::Archived && snapshot.neighbour_of.is_none();
        self.recurrence.recall(&matters, RECALLED.saturating_sub(ago), for_itself);
    }

    /// All that was filed before this start has been taken; the last was closed so long ago.
    pub fn resume(&mut self, ago: Duration, settings: &MonitorSettings) {
        self.recurrence.resume(RECALLED.saturating_sub(ago), self.now(), gone_after(settings.snapshot_s.0));
    }

    /// Judges a snapshot that was closed; its file is finished when it is its turn.
    pub(super) fn closed(&mut self, core: &Core, closed: Closed) -> Judged {
        let Closed { mut snapshot, window, sink } = closed;
        let report = {
            let mut analysis = lock(&sink);
            if let Some(window) = &window {
                analysis.set_dropped(window.kernel_dropped());
            }
            analysis.finish();
            analysis.report_after(&self.told)
        };
        snapshot.packets = report.packets;
        // Without a word from the capture it is not known that nothing was lost.
        snapshot.kernel_dropped = Some(report.dropped).filter(|dropped| window.is_some() || *dropped > 0);
        if snapshot.trigger.is_none() {
            core.monitor.found(core, &report.findings);
        }
        let judged = self.judge(core, snapshot, (report, window));
        let Judged { snapshot, report, .. } = &judged;
        self.told.splice(..0, snapshot.trigger.is_none().then(|| Told::new(&snapshot.snapshot_id, &report.findings)));
        self.told.truncate(MAX_TOLD);
        judged
    }

    /// Judges a snapshot, and tells it: before it is filed, which takes as long as the disk does.
    /// One that was judged before and is looked at anew, because it could not be filed, keeps its verdict.
    pub(super) fn judge(
        &mut self,
        core: &Core,
        mut snapshot: Snapshot,
        (mut report, window): (AnalysisReport, Option<ClosedWindow>),
    ) -> Judged {
        report.keep_worst(MAX_FINDINGS);
        let view = lock(&core.monitor.view);
        let (settings, known) = (view.settings().clone(), view.judgement(&snapshot.snapshot_id));
        drop(view);
        let is_new = known.is_none();
        let (judgement, keep) = match known {
            Some(judgement) => (judgement, None),
            None => self.judgement(&snapshot, &report, &settings),
        };
        snapshot.verdict = Some(judgement.verdict);
        snapshot.text.clone_from(&judgement.text);
        snapshot.neighbour_of.clone_from(&judgement.neighbour_of);
        snapshot.findings.clone_from(&report.findings);
        snapshot.findings_total = report.findings_total;
        snapshot.state = SnapshotState::Filing;
        let mut view = lock(&core.monitor.view);
        let former = view.snapshot(&snapshot.snapshot_id);
        snapshot.pinned = former.as_ref().map_or(snapshot.pinned, |former| former.pinned);
        snapshot.disk_bytes = former.map_or(0, |former| former.disk_bytes);
        view.judged(&snapshot.snapshot_id, &judgement);
        view.put(snapshot.clone());
        drop(view);
        if is_new {
            publish(core, &snapshot);
            core.publish_monitor();
        }
        if is_new && judgement.for_itself && keep != Some(Keep::Again) {
            let why = snapshot.trigger.as_ref().map_or_else(String::new, |trigger| format!(" (saved because: {trigger})"));
            let what = if keep.is_some() { "is suspect" } else { "was saved" };
            let message = format!("snapshot {} {what}{why}: {}", snapshot.snapshot_id, snapshot.text);
            core.post_row(Event::STATUS, message);
        }
        Judged { snapshot, judgement, report, window }
    }

    /// What is to be made of a snapshot by what was found, and by what was found before.
    fn judgement(&mut self, snapshot: &Snapshot, report: &AnalysisReport, settings: &MonitorSettings) -> (Judgement, Option<Keep>) {
        let matters = suspicious(&report.findings, settings.severity, &ignored(settings));
        let repeat = Duration::from_secs(settings.repeat_s);
        let continuous = snapshot.trigger.is_none();
        let now = self.now();
        let keep = match (matters.is_empty(), continuous) {
            (true, _) => None,
            (false, true) => Some(self.recurrence.take(&matters, now, repeat, gone_after(settings.snapshot_s.0))),
            // What was triggered is archived for the trigger's sake; it says nothing of the continuous ones.
            (false, false) => Some(self.recurrence.clone().take(&matters, now, repeat, gone_after(settings.snapshot_s.0))),
        };
        let for_itself = !continuous || matches!(keep, Some(Keep::New | Keep::Again));
        let neighbour_of = if for_itself { None } else { self.neighbours.take() };
        if continuous && for_itself {
            self.neighbours.archived(&snapshot.snapshot_id, settings.neighbours);
        }
        let judgement = Judgement {
            verdict: if keep.is_some() { AnalysisVerdict::Suspect } else { AnalysisVerdict::Clean },
            text: text(&matters, keep, report),
            archived: for_itself || neighbour_of.is_some(),
            neighbour_of,
            for_itself,
        };
        (judgement, keep)
    }
}

/// The time of the start, on the clock by which findings stay: what was found before is known by how long ago it was.
const RECALLED: Duration = Duration::from_secs(10 * 365 * 86_400);

fn ignored(settings: &MonitorSettings) -> Vec<FindingPattern> {
    let pattern =
        |ignored: &IgnoredFinding| FindingPattern { code: ignored.code.clone(), endpoint_id: ignored.endpoint_id.clone() };
    settings.ignore.iter().map(pattern).collect()
}

/// The verdict in one sentence.
fn text(matters: &[&Finding], keep: Option<Keep>, report: &AnalysisReport) -> String {
    let Some(worst) = matters.first() else {
        return match report.reasons.len() {
            0 => report.text.clone(),
            1 => format!("nothing that matters by the settings; left out: {}", report.reasons.join("")),
            several => format!(
                "nothing that matters by the settings; left out: {} and {} more",
                report.reasons.first().map_or("", String::as_str),
                several - 1
            ),
        };
    };
    let more = match matters.len() {
        1 => String::new(),
        several => format!(" and {} more", several - 1),
    };
    let known = if keep == Some(Keep::Known) { "; known, and archived before" } else { "" };
    format!("{}{more}{known}", worst.message)
}
