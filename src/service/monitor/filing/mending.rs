//! Recordings that were not filed when they should have been: broken off by a kill or a power cut, or held up by a fault of the disk or of
//! netdiag itself.

use super::{
    super::{lock, view::is_filed},
    Clerk, Closed, not_recorded, recording,
};
use crate::{
    api::{AnalysisReport, Severity, Snapshot, UtcTime},
    archive::{Leftover, cut_to_whole},
    monitor::Judgement,
    service::replies::Core,
};
use std::{
    fs,
    ops::ControlFlow,
    sync::Arc,
    time::{Duration, SystemTime},
};

/// How long recordings that were broken off wait for the configs to be read.
const BEFORE_THE_CONFIGS: Duration = Duration::from_secs(20);
/// What is wrong with a recording that the capture did not close.
const BROKE_OFF: &str = "the capture broke off before the snapshot was closed";
/// What is wrong with a recording that an earlier netdiag left, or the monitor before it was begun again.
pub(super) const LEFT: &str = "netdiag broke off while this was recorded; what was written until then is whole";
/// What is wrong with one that was recorded to its end.
pub(super) const NOT_FILED: &str = "it could not be filed when it was closed";

impl Clerk<'_> {
    /// What a killed netdiag left, when the configs are read or will not be soon: they say what a finding is about.
    pub(super) fn mend_leftovers(&mut self) {
        let is_time = |core: &Arc<Core>| core.sites.is_read() || self.started.elapsed() >= BEFORE_THE_CONFIGS;
        if !self.leftovers.is_empty() && self.core.upgrade().as_ref().is_some_and(is_time) {
            self.mend_all();
        }
    }

    pub(super) fn mend_all(&mut self) {
        let Some(core) = self.core.upgrade() else { return };
        for leftover in std::mem::take(&mut self.leftovers) {
            // What was judged had been recorded to its end: it was the monitor that broke off.
            let is_judged = lock(&core.monitor.view).judgement(&leftover.snapshot_id).is_some();
            self.mend(&core, &leftover, if is_judged { NOT_FILED } else { LEFT });
            self.do_errands();
        }
    }

    /// A recording that nobody closed: cut to its last whole packet, looked at, and filed like any other.
    pub(super) fn mend(&mut self, core: &Core, leftover: &Leftover, problem: &str) {
        self.try_to(core, &leftover.snapshot_id, |clerk| clerk.mend_or_wait(core, leftover, problem, None));
    }

    fn mend_or_wait(&mut self, core: &Core, leftover: &Leftover, problem: &str, closed: Option<Closed>) {
        if let Err(error) = self.mended(core, leftover, problem, closed) {
            self.could_not_mend(core, &leftover.snapshot_id, &format!("{}: {error}", leftover.path.display()));
        }
    }

    /// What there is of it stays where it is, and it is tried again.
    fn could_not_mend(&mut self, core: &Core, snapshot_id: &str, error: &str) {
        let problem = format!("snapshot {snapshot_id} was broken off and could not be mended, and will be tried again: {error}");
        self.will_be_tried_again(core, snapshot_id, problem);
    }

    /// A snapshot of which the capture said nothing at its end: what is on disk counts.
    pub(super) fn file_unclosed(&mut self, core: &Core, closed: Closed) {
        let snapshot_id = &closed.snapshot.snapshot_id;
        let leftovers = match self.store.leftovers() {
            Ok(leftovers) => leftovers,
            Err(error) => return self.could_not_mend(core, snapshot_id, &error.to_string()),
        };
        match leftovers.iter().find(|leftover| leftover.snapshot_id == *snapshot_id) {
            Some(leftover) => self.mend_or_wait(core, leftover, BROKE_OFF, Some(closed)),
            None => self.file_unwritten(core, closed),
        }
    }

    /// Nothing of it came to be written; what was analysed is there all the same.
    fn file_unwritten(&mut self, core: &Core, closed: Closed) {
        let snapshot = Snapshot { file: None, problem: Some(BROKE_OFF.to_owned()), ..closed.snapshot };
        let judged = lock(self.judge).closed(core, Closed { snapshot, ..closed });
        self.file(core, judged);
    }

    /// `closed`: what else is known of it than its recording, where it was recorded just now.
    fn mended(&mut self, core: &Core, leftover: &Leftover, problem: &str, closed: Option<Closed>) -> std::io::Result<()> {
        // A power cut between filing and removing leaves both; the filed one is whole.
        let known = lock(&core.monitor.view).snapshot(&leftover.snapshot_id);
        if known.as_ref().is_some_and(|known| is_filed(known.state) && known.file.is_some()) {
            self.store.hand_over(&leftover.snapshot_id);
            self.store.remove_notes(&leftover.snapshot_id);
            return fs::remove_file(&leftover.path);
        }
        if cut_to_whole(&leftover.path)? == 0 {
            let Some(closed) = closed else { return self.taken_back(core, leftover, known) };
            if let Err(error) = fs::remove_file(&leftover.path) {
                tracing::warn!(path = %leftover.path.display(), %error, "a recording in which nothing is cannot be removed");
            }
            self.file_unwritten(core, closed);
            return Ok(());
        }
        let path = self.store.recording(&leftover.snapshot_id);
        fs::rename(&leftover.path, &path)?;
        let mut analysis = recording::analysis(core);
        analysis.read_through(fs::File::open(&path)?, &mut |_, _| ControlFlow::Continue(()))?;
        let report = analysis.report();
        let modified = UtcTime::from(fs::metadata(&path)?.modified().unwrap_or_else(|_| SystemTime::now()));
        let judgement = lock(&core.monitor.view).judgement(&leftover.snapshot_id);
        let (report, snapshot) = match (judgement, known) {
            (Some(judgement), Some(known)) => (as_judged(report, judgement, &known), known),
            _ => {
                let snapshot = Snapshot {
                    trigger: self.trigger_of(&leftover.snapshot_id),
                    opened_at: report.first_at.unwrap_or(modified),
                    closed_at: Some(report.last_at.unwrap_or(modified)),
                    packets: report.packets,
                    // What was lost is written at the end of a recording, and it did not come to that.
                    kernel_dropped: Some(report.dropped).filter(|dropped| *dropped > 0),
                    ..unfinished(&leftover.snapshot_id, problem)
                };
                (report, snapshot)
            }
        };
        let snapshot = Snapshot {
            file: Some(path.display().to_string()),
            problem: Some(problem.to_owned()),
            pinned: self.store.is_open_pinned(&leftover.snapshot_id),
            ..snapshot
        };
        let judged = lock(self.judge).judge(core, snapshot, (report, None));
        self.file(core, judged);
        Ok(())
    }

    /// A recording in which nothing whole is: it had only just been opened.
    fn taken_back(&mut self, core: &Core, leftover: &Leftover, known: Option<Snapshot>) -> std::io::Result<()> {
        let snapshot_id = &leftover.snapshot_id;
        let trigger = self.trigger_of(snapshot_id);
        fs::remove_file(&leftover.path)?;
        self.store.remove_notes(snapshot_id);
        self.unfiled.remove(snapshot_id);
        let snapshot = known.unwrap_or_else(|| unfinished(snapshot_id, LEFT));
        // One that is filed without a recording stays so.
        if !is_filed(snapshot.state) {
            let trigger = snapshot.trigger.clone().or(trigger);
            not_recorded(core, Snapshot { trigger, ..snapshot }, "the recording broke off before anything of it was written");
        }
        Ok(())
    }

    /// Why a snapshot that was broken off had been triggered, if it had.
    fn trigger_of(&self, snapshot_id: &str) -> Option<String> {
        let is_triggered = snapshot_id.contains(recording::TRIGGERED);
        self.store.reason(snapshot_id).or_else(|| is_triggered.then(|| "not known any more".to_owned()))
    }
}

/// The report of a snapshot that had been judged, and is read anew. What was found then counts: also what is not in its packets, and not what
/// another snapshot tells.
fn as_judged(report: AnalysisReport, judgement: Judgement, known: &Snapshot) -> AnalysisReport {
    let Judgement { verdict, text, .. } = judgement;
    let suspicious = known.findings.iter().filter(|finding| finding.severity >= Severity::Warning);
    let reasons = suspicious.map(|finding| finding.message.clone()).collect();
    let (findings, findings_total) = (known.findings.clone(), known.findings_total);
    AnalysisReport { verdict, text, reasons, findings, findings_total, ..report }
}

/// A snapshot of which nothing is known but that netdiag broke off while it was recorded.
pub(in crate::service::monitor) fn unfinished(snapshot_id: &str, problem: &str) -> Snapshot {
    Snapshot {
        text: "it was broken off and is being looked at".to_owned(),
        kernel_dropped: None,
        problem: Some(problem.to_owned()),
        ..Snapshot::opened(snapshot_id.to_owned(), UtcTime::from(SystemTime::now()))
    }
}

#[cfg(test)]
mod tests {
    use super::{
        super::{
            Work,
            trying::{MAX_BREAKS, REFILE_PERIOD},
        },
        *,
    };
    use crate::{
        api::{AnalysisVerdict, SnapshotState},
        archive::{Store, StoreError},
        packet::{InterfaceDescription, LinkType, SectionDescription, Writer},
        service::monitor::{
            filing::Judge,
            testing::{core, finding},
        },
    };
    use std::{
        sync::{Mutex, mpsc::sync_channel},
        time::Instant,
    };

    /// A clerk without the threads around it.
    fn with_clerk(work: impl FnOnce(&Arc<Core>, Clerk<'_>)) {
        let dir = tempfile::tempdir().unwrap();
        let core = core(dir.path());
        let store = Store::open(&dir.path().join("monitor"), Arc::new(|_, _| {})).unwrap();
        let judge = Mutex::new(Judge::new(Instant::now()));
        let (_work, handed_on) = sync_channel(1);
        work(&core, Clerk::new(&Arc::downgrade(&core), store, (&judge, handed_on), core.monitor.filing.clone(), Vec::new()));
    }

    /// A snapshot that was closed, suspect, and of which this was recorded.
    fn suspect(core: &Arc<Core>, clerk: &Clerk<'_>) -> Leftover {
        let snapshot = lock(&core.monitor.view).begin("20261123T114500.000Z", UtcTime::from_unix_ns(0), None).unwrap();
        let leftover = leftover(clerk, &snapshot.snapshot_id);
        let mut writer = Writer::new(fs::File::create(&leftover.path).unwrap(), &SectionDescription::default()).unwrap();
        let interface = InterfaceDescription { name: "eth0".into(), link_type: LinkType::ETHERNET, snaplen: 0, filter: None };
        writer.interface(&interface).unwrap();
        let mut report = recording::analysis(core).report();
        report.findings.push(finding());
        lock(clerk.judge).judge(core, snapshot, (report, None));
        leftover
    }

    #[tokio::test]
    async fn what_was_judged_keeps_its_verdict_and_counts_once_when_the_monitor_breaks_off_before_it_is_filed() {
        with_clerk(|core, mut clerk| {
            let leftover = suspect(core, &clerk);
            clerk.leftovers = clerk.store.leftovers().unwrap();
            clerk.mend_all();
            let filed = clerk.store.get(&leftover.snapshot_id).unwrap();
            assert_eq!(filed.state, SnapshotState::Archived);
            assert_eq!((filed.verdict, filed.problem.as_deref()), (Some(AnalysisVerdict::Suspect), Some(NOT_FILED)));
            assert_eq!((filed.findings.as_slice(), filed.kernel_dropped), ([finding()].as_slice(), Some(0)));
            let view = lock(&core.monitor.view);
            assert_eq!((view.counts().suspect, view.judgement(&leftover.snapshot_id)), (1, None));
            drop(view);
            let mut report = recording::analysis(core).report();
            report.findings.push(finding());
            let next = Snapshot::opened("20261123T115000.000Z".to_owned(), UtcTime::from_unix_ns(0));
            let next = lock(clerk.judge).judge(core, next, (report, None)).judgement;
            assert!(next.verdict == AnalysisVerdict::Suspect && !next.for_itself, "what stays is known");
        });
    }

    #[tokio::test]
    async fn what_broke_off_as_it_was_filed_is_tried_again() {
        with_clerk(|core, mut clerk| {
            let leftover = suspect(core, &clerk);
            let settings = lock(&core.monitor.view).settings().clone();
            clerk.try_to(core, &leftover.snapshot_id, |clerk| {
                let filed =
                    clerk.within_room(&settings, &leftover.snapshot_id, |_, _| -> Result<(), StoreError> { panic!("a fault") });
                unreachable!("{filed:?}")
            });
            // Nor is it held for ever.
            assert_eq!((clerk.being_filed.as_ref(), clerk.open().0), (None, 0));
            let waits = lock(&core.monitor.view).snapshot(&leftover.snapshot_id).unwrap();
            assert!(waits.text == "it waits to be filed" && waits.problem.unwrap().contains("will be tried again"));
            clerk.refiled -= REFILE_PERIOD;
            clerk.turn();
            assert_eq!(clerk.store.get(&leftover.snapshot_id).unwrap().state, SnapshotState::Archived);
            assert!(clerk.unfiled.is_empty() && !leftover.path.exists());
        });
    }

    #[tokio::test]
    async fn what_breaks_off_again_and_again_is_left_to_the_next_start_and_that_is_told() {
        with_clerk(|core, mut clerk| {
            let leftover = suspect(core, &clerk);
            for _ in 0..MAX_BREAKS {
                clerk.work(Work::Unjudged(leftover.snapshot_id.clone()));
            }
            clerk.refiled -= REFILE_PERIOD;
            clerk.turn();
            assert!(clerk.store.get(&leftover.snapshot_id).is_err() && leftover.path.exists());
            assert_eq!(clerk.open().0, 0, "no room is kept for what it may write");
            let told = lock(&core.monitor.view).last_problem().unwrap().to_owned();
            assert!(told.contains(&leftover.snapshot_id) && told.contains("until netdiag is started again"), "{told}");
            core.monitor.set_rests(false);
            core.monitor.delete(&leftover.snapshot_id).unwrap();
            clerk.turn();
            assert!(!leftover.path.exists() && !lock(&core.monitor.view).knows(&leftover.snapshot_id) && clerk.unfiled.is_empty());
        });
    }

    /// A triggered snapshot that could not be filed.
    fn unfiled(core: &Arc<Core>, clerk: &mut Clerk<'_>) -> String {
        let triggered = core.monitor.begin_triggered("the inverter tripped".to_owned()).unwrap().snapshot_id;
        let snapshot = lock(&core.monitor.view).snapshot(&triggered).unwrap();
        let judged = lock(clerk.judge).judge(core, snapshot, (recording::analysis(core).report(), None));
        clerk.could_not(core, judged.snapshot, &StoreError::NotFound(triggered.clone()));
        assert_eq!(lock(&core.monitor.view).snapshot(&triggered).unwrap().text, "it waits to be filed");
        assert_eq!(clerk.open().0, 0, "no room is kept for what it may write");
        clerk.refiled -= REFILE_PERIOD;
        triggered
    }

    /// A recording that had just been opened: nothing has been written yet.
    fn leftover(clerk: &Clerk<'_>, snapshot_id: &str) -> Leftover {
        let path = clerk.store.recording(snapshot_id).with_extension("pcapng.partial");
        fs::write(&path, "").unwrap();
        Leftover { snapshot_id: snapshot_id.to_owned(), path }
    }

    #[tokio::test]
    async fn what_could_not_be_filed_and_has_no_recording_does_not_wait_for_ever_and_that_is_told() {
        with_clerk(|core, mut clerk| {
            let triggered = unfiled(core, &mut clerk);
            clerk.file_again();
            let view = lock(&core.monitor.view);
            assert!(!view.knows(&triggered) && view.counts().open == 0, "{:?}", view.snapshot(&triggered));
            let told = view.last_problem().unwrap();
            assert!(told.contains("the inverter tripped") && told.contains("nothing of it was recorded"), "{told}");
        });
    }

    #[tokio::test]
    async fn what_could_not_be_filed_is_not_given_up_while_its_recording_cannot_be_looked_for() {
        with_clerk(|core, mut clerk| {
            let triggered = unfiled(core, &mut clerk);
            let open = clerk.store.root().join("open");
            fs::remove_dir(&open).unwrap();
            fs::write(&open, "a file where a folder should be").unwrap();
            clerk.file_again();
            assert!(clerk.unfiled.contains_key(&triggered) && lock(&core.monitor.view).knows(&triggered));
            let told = lock(&core.monitor.view).last_problem().unwrap().to_owned();
            assert!(told.contains("open: "), "{told}");
        });
    }

    #[tokio::test]
    async fn a_triggered_recording_in_which_nothing_is_is_told_with_its_reason() {
        with_clerk(|core, mut clerk| {
            let leftover = leftover(&clerk, "20261123T114500.000Z_trigger");
            clerk.store.set_reason(&leftover.snapshot_id, "the inverter tripped").unwrap();
            lock(&core.monitor.view).put(unfinished(&leftover.snapshot_id, LEFT));
            clerk.mend(core, &leftover, LEFT);
            let view = lock(&core.monitor.view);
            assert!(!view.knows(&leftover.snapshot_id) && !leftover.path.exists() && clerk.unfiled.is_empty());
            let told = view.last_problem().unwrap();
            assert!(told.contains("the inverter tripped") && told.contains("before anything of it was written"), "{told}");
        });
    }

    #[tokio::test]
    async fn what_was_analysed_is_filed_though_nothing_of_it_came_to_be_written() {
        with_clerk(|core, mut clerk| {
            let snapshot = lock(&core.monitor.view).begin("20261123T114500.000Z", UtcTime::from_unix_ns(0), None).unwrap();
            let leftover = leftover(&clerk, &snapshot.snapshot_id);
            let file = Some(leftover.path.display().to_string());
            let sink = Arc::new(Mutex::new(recording::analysis(core)));
            clerk.file_unclosed(core, Closed { snapshot: Snapshot { file, ..snapshot }, window: None, sink });
            let filed = clerk.store.get(&leftover.snapshot_id).unwrap();
            assert_eq!((filed.file, filed.problem.as_deref()), (None, Some(BROKE_OFF)));
            assert_eq!(filed.kernel_dropped, None, "the capture did not come to say that nothing was lost");
            assert!(!leftover.path.exists() && clerk.unfiled.is_empty());
        });
    }

    #[tokio::test]
    async fn what_cannot_be_mended_is_told_and_stays() {
        with_clerk(|core, mut clerk| {
            let leftover = leftover(&clerk, "20261123T114500.000Z");
            // What cannot be opened for writing cannot be cut.
            fs::remove_file(&leftover.path).unwrap();
            fs::create_dir(&leftover.path).unwrap();
            clerk.mend(core, &leftover, LEFT);
            assert!(clerk.unfiled.contains_key(&leftover.snapshot_id) && leftover.path.exists());
            let told = lock(&core.monitor.view).last_problem().unwrap().to_owned();
            assert!(told.contains(&leftover.snapshot_id) && told.contains("will be tried again"), "{told}");
        });
    }
}
