//! What triggers the flight recorder: a message that asks for it, a rule on another process's message, a rule on a finding.

use super::{Command, Monitor, lock, recording, wall_ns};
use crate::{
    api::{ApiError, ErrorCode, Event, Finding, Snapshot, TriggerRule, UtcTime},
    monitor::{FindingPattern, Keep, RateLimit, Recurrence, Rule, Rules, gone_after},
    service::replies::Core,
};
use serde_json::Value;
use std::{
    sync::{
        Mutex,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};
use tokio::sync::watch;

/// So long after a rule has triggered no other message does.
const BETWEEN_TRIGGERS: Duration = Duration::from_secs(1);
const HOUR: Duration = Duration::from_secs(3600);

/// The rules, and what they and others have triggered.
pub(super) struct Triggering {
    rules: Mutex<Rules>,
    /// The uris that the rules need to hear.
    uris: watch::Sender<Vec<String>>,
    /// When a rule on messages triggered last.
    ruled: Mutex<Option<Instant>>,
    /// The findings that have triggered and are still there.
    found: Mutex<Recurrence>,
    /// Those whose trigger was not followed, which has been told.
    refused: Mutex<Recurrence>,
    admitted: Mutex<RateLimit>,
    started: Instant,
    /// There is something to save, whether packets come just now or not.
    has_capture: AtomicBool,
    /// That triggers are not followed has been told.
    is_refusal_told: AtomicBool,
}

impl Triggering {
    pub fn new(triggers: &[TriggerRule]) -> Self {
        let rules = on_messages(triggers);
        Self {
            uris: watch::Sender::new(uris(&rules)),
            rules: Mutex::new(Rules::new(rules)),
            ruled: Mutex::new(None),
            found: Mutex::default(),
            refused: Mutex::default(),
            admitted: Mutex::default(),
            started: Instant::now(),
            has_capture: AtomicBool::new(false),
            is_refusal_told: AtomicBool::new(false),
        }
    }

    /// From now on these are the rules.
    pub fn set_rules(&self, triggers: &[TriggerRule]) {
        let rules = on_messages(triggers);
        let wanted = uris(&rules);
        self.uris.send_if_modified(|uris| std::mem::replace(uris, wanted.clone()) != wanted);
        *lock(&self.rules) = Rules::new(rules);
    }
}

impl Monitor {
    /// The uris that its triggers need to hear, now and as they change.
    pub fn uris(&self) -> watch::Receiver<Vec<String>> {
        self.triggering.uris.subscribe()
    }

    /// A message of another process: it may trigger the flight recorder.
    pub fn overhear(&self, core: &Core, method: &str, uri: &str, body: Option<&[u8]>) {
        let mut rules = lock(&self.triggering.rules);
        if rules.is_empty() {
            return;
        }
        let Some(body) = body.and_then(|body| serde_json::from_slice::<Value>(body).ok()) else { return };
        let reason = rules.look(method, uri, &undressed(body));
        drop(rules);
        let Some(reason) = reason else { return };
        let mut ruled = lock(&self.triggering.ruled);
        // What comes in a burst is on the same recording.
        if ruled.is_none_or(|last| last.elapsed() >= BETWEEN_TRIGGERS) {
            *ruled = Some(Instant::now());
            drop(ruled);
            if lock(&self.view).is_enabled()
                && let Err(refused) = self.trigger(reason.clone())
            {
                self.not_followed(core, &reason, &refused);
            }
        }
    }

    /// These findings are in what is recorded: one that a rule means triggers once, and again when it had been gone. If that is not
    /// followed, it is told once, and tried for as long as what was found goes on, or would be in what is saved.
    pub(super) fn found(&self, core: &Core, findings: &[Finding]) {
        let settings = lock(&self.view).settings().clone();
        let patterns: Vec<FindingPattern> = settings.triggers.iter().filter_map(finding_pattern).collect();
        let meant = |finding: &&Finding| patterns.iter().any(|pattern| pattern.matches(finding));
        let meant: Vec<&Finding> = findings.iter().filter(meant).collect();
        // While nothing is recorded nothing can be saved; what is still there afterwards is new then.
        if !self.triggering.has_capture.load(Ordering::Acquire) {
            return;
        }
        let (now, gone_after) = (self.triggering.started.elapsed(), gone_after(settings.snapshot_s.0));
        // Held until it is known whether it is followed: what is recorded and what is closed are looked at by two threads.
        let mut found = lock(&self.triggering.found);
        let (known, new): (Vec<&Finding>, Vec<&Finding>) = meant.into_iter().partition(|one| found.knows(one, now, gone_after));
        found.take(&known, now, Duration::MAX, gone_after);
        let mut refused = lock(&self.triggering.refused);
        let saved_from_ns = before_ns(wall_ns(), Duration::from_secs(settings.pre_s));
        let is_past = |one: &Finding| one.last_at.is_some_and(|at| at.unix_ns() < saved_from_ns);
        let (past, new): (Vec<&Finding>, Vec<&Finding>) =
            new.into_iter().partition(|one| is_past(one) && refused.knows(one, now, gone_after));
        refused.take(&past, now, Duration::MAX, gone_after);
        let Some(worst) = new.first() else { return };
        let reason = format!("{}: {}", worst.code, worst.message);
        match self.trigger(reason.clone()) {
            Ok(_) => drop(found.take(&new, now, Duration::MAX, gone_after)),
            Err(why) => {
                if refused.take(&new, now, Duration::MAX, gone_after) == Keep::New {
                    self.not_followed(core, &reason, &why);
                }
            }
        }
    }

    /// Nobody who waits for an answer would hear that a trigger was not followed: it is a problem, and the first time an alarm.
    fn not_followed(&self, core: &Core, reason: &str, refused: &ApiError) {
        let message = format!("a trigger was not followed ({reason}): {refused}");
        if !self.triggering.is_refusal_told.swap(true, Ordering::AcqRel) {
            core.post_row(Event::ALARM, message.clone());
        }
        self.problem(message);
    }

    /// Saves what the flight recorder remembers; gives the name of the snapshot.
    ///
    /// # Errors
    /// `unavailable` with the reason when nothing is recorded, `busy` when there were too many triggers.
    pub fn trigger(&self, reason: String) -> Result<String, ApiError> {
        self.admit()?;
        let begun = self.begin_save(reason).inspect_err(|_| lock(&self.triggering.admitted).take_back())?;
        self.triggering.is_refusal_told.store(false, Ordering::Release);
        Ok(begun)
    }

    /// Has the recorder save; gives the name of the snapshot.
    fn begin_save(&self, reason: String) -> Result<String, ApiError> {
        let no_name =
            || ApiError::new(ErrorCode::Busy, "there is no name for another snapshot of this moment; try again in a moment");
        tracing::info!(reason, "a trigger");
        let snapshot = self.begin_triggered(reason).ok_or_else(no_name)?;
        let snapshot_id = snapshot.snapshot_id.clone();
        self.tell(Command::Trigger(Box::new(snapshot))).inspect_err(|_| lock(&self.view).forget(&snapshot_id))?;
        Ok(snapshot_id)
    }

    /// The snapshot of a trigger: who triggered can ask for it from now on.
    pub(super) fn begin_triggered(&self, reason: String) -> Option<Snapshot> {
        let now_ns = wall_ns();
        let mut view = lock(&self.view);
        let opened_at = UtcTime::from_unix_ns(before_ns(now_ns, Duration::from_secs(view.settings().pre_s))).to_millis();
        view.begin(&recording::name_of_trigger(now_ns), opened_at, Some(reason))
    }

    /// Whether a trigger may be followed. If so, it counts.
    fn admit(&self) -> Result<(), ApiError> {
        let view = lock(&self.view);
        let most = view.settings().triggers_per_hour;
        if !self.triggering.has_capture.load(Ordering::Acquire) {
            let why = match (view.is_enabled(), view.last_problem()) {
                (false, _) => "the monitor is off, so there is nothing to save; switch it on".to_owned(),
                (true, None) => "the monitor has not begun to record yet, so there is nothing to save".to_owned(),
                (true, Some(problem)) => format!("the monitor does not record, so there is nothing to save: {problem}"),
            };
            return Err(ApiError::new(ErrorCode::Unavailable, why));
        }
        drop(view);
        let (now, most_now) = (self.triggering.started.elapsed(), usize::try_from(most).unwrap_or(usize::MAX));
        let mut triggers = lock(&self.triggering.admitted);
        if !triggers.admit(now, most_now, HOUR) {
            let free_in = triggers.free_in(now, most_now, HOUR).as_secs() + 1;
            let message = format!(
                "there were too many within the hour: {most} are followed (`triggers_per_hour`), the next one in {free_in} s"
            );
            return Err(ApiError::new(ErrorCode::Busy, message));
        }
        Ok(())
    }

    /// Whether there is something to save.
    pub(super) fn set_has_capture(&self, has_capture: bool) {
        self.triggering.has_capture.store(has_capture, Ordering::Release);
    }
}

/// So long before that time.
fn before_ns(unix_ns: i64, before: Duration) -> i64 {
    unix_ns.saturating_sub(i64::try_from(before.as_nanos()).unwrap_or(i64::MAX))
}

fn on_messages(triggers: &[TriggerRule]) -> Vec<Rule> {
    triggers.iter().filter_map(Rule::of).collect()
}

/// The values of a clothed body, one level deep.
fn undressed(body: Value) -> Value {
    match crate::api::undress(body) {
        Value::Object(fields) => {
            Value::Object(fields.into_iter().map(|(field, value)| (field, crate::api::undress(value))).collect())
        }
        other => other,
    }
}

fn uris(rules: &[Rule]) -> Vec<String> {
    let mut uris: Vec<String> = rules.iter().map(|rule| rule.uri().to_owned()).collect();
    uris.sort();
    uris.dedup();
    uris
}

fn finding_pattern(given: &TriggerRule) -> Option<FindingPattern> {
    given.finding.clone().map(|code| FindingPattern { code, endpoint_id: given.endpoint_id.clone() })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        api::MonitorSettings,
        service::monitor::testing::{core, finding},
    };
    use std::sync::{Arc, mpsc::sync_channel};

    /// A service whose monitor records, has so many commands waiting at most, and follows each finding so often within the hour.
    fn recording(dir: &std::path::Path, commands: usize, per_hour: u32) -> (Arc<Core>, std::sync::mpsc::Receiver<Command>) {
        let core = core(dir);
        let (sender, received) = sync_channel(commands);
        core.monitor.commands.set(sender).unwrap();
        core.monitor.set_has_capture(true);
        may_trigger(&core, per_hour);
        (core, received)
    }

    fn may_trigger(core: &Core, per_hour: u32) {
        let rule = TriggerRule { finding: Some("x".into()), ..TriggerRule::default() };
        let settings = MonitorSettings { triggers: vec![rule], triggers_per_hour: per_hour, ..MonitorSettings::default() };
        lock(&core.monitor.view).set_settings(settings);
    }

    fn found_at(endpoint_id: &str) -> Finding {
        Finding { endpoint_id: Some(endpoint_id.into()), message: format!("at {endpoint_id}"), ..finding() }
    }

    /// The reasons of what is to be saved.
    fn saved(commands: &std::sync::mpsc::Receiver<Command>) -> Vec<String> {
        let reason = |command| if let Command::Trigger(snapshot) = command { snapshot.trigger } else { None };
        commands.try_iter().filter_map(reason).collect()
    }

    #[tokio::test]
    async fn a_finding_whose_trigger_is_not_followed_is_told_once_and_followed_when_that_may_be() {
        let dir = tempfile::tempdir().unwrap();
        let (core, commands) = recording(dir.path(), 8, 1);
        let found = || core.monitor.found(&core, &[found_at("a"), found_at("b")]);
        core.monitor.found(&core, &[found_at("a")]);
        assert_eq!(saved(&commands), ["x: at a"]);
        found();
        let told = lock(&core.monitor.view).last_problem().unwrap().to_owned();
        assert!(told.contains("x: at b") && told.contains("triggers_per_hour"), "{told}");
        lock(&core.monitor.view).well();
        found();
        assert_eq!((saved(&commands).len(), lock(&core.monitor.view).last_problem()), (0, None), "it is told once");
        may_trigger(&core, 2);
        found();
        found();
        assert_eq!(saved(&commands), ["x: at b"]);
    }

    #[tokio::test]
    async fn what_would_not_be_in_the_recording_any_more_does_not_trigger_late() {
        let dir = tempfile::tempdir().unwrap();
        let (core, commands) = recording(dir.path(), 8, 1);
        let pre = Duration::from_secs(lock(&core.monitor.view).settings().pre_s);
        let past = Finding { last_at: Some(UtcTime::from_unix_ns(before_ns(wall_ns(), pre * 2))), ..found_at("b") };
        let lately = Finding { last_at: Some(UtcTime::from_unix_ns(wall_ns())), ..found_at("c") };
        core.monitor.found(&core, &[found_at("a")]);
        core.monitor.found(&core, &[past.clone(), lately.clone()]);
        may_trigger(&core, 9);
        core.monitor.found(&core, &[past.clone(), lately]);
        assert_eq!(saved(&commands), ["x: at a", "x: at c"]);
        // What is seen for the first time when its snapshot is closed may be longer ago.
        core.monitor.found(&core, &[Finding { last_at: past.last_at, ..found_at("d") }, past]);
        assert_eq!(saved(&commands), ["x: at d"]);
    }

    #[tokio::test]
    async fn a_trigger_that_the_recorder_does_not_take_counts_for_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let (core, commands) = recording(dir.path(), 1, 1);
        core.monitor.tell(Command::Look).unwrap();
        assert_eq!(core.monitor.trigger("by hand".into()).unwrap_err().code, ErrorCode::Busy);
        assert_eq!(lock(&core.monitor.view).counts().open, 0);
        assert!(saved(&commands).is_empty());
        core.monitor.trigger("by hand".into()).unwrap();
        assert_eq!(saved(&commands), ["by hand"]);
    }
}
