//! Status and summary: what they say, and their publication on a period and on change.

use super::{events, replies::Core, results::body_of};
use crate::api::{Health, JobKind, MonitorState, MonitorStatus, Status, Summary, UtcTime};
use std::{sync::Arc, time::Duration, time::SystemTime};
use tokio::time::{Instant, MissedTickBehavior, interval, sleep_until};

/// The shortest time between two publications on change.
const CHANGE_PERIOD: Duration = Duration::from_millis(200);

impl Core {
    /// How the service is.
    pub(super) fn status(&self) -> Status {
        let problems = self.problems();
        let monitor = self.monitor_now();
        Status {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            uptime_s: (self.started.elapsed().as_secs_f64() * 1000.0).round() / 1000.0,
            state: if problems.is_empty() { Health::Ok } else { Health::Degraded },
            problems,
            jobs_running: u32::try_from(self.driver().unfinished()).unwrap_or(u32::MAX),
            last_connectivity: self.driver().last_finished(JobKind::Connectivity).map(|mut job| {
                // A status is short: what the test was asked for stands in the job.
                job.request = serde_json::Value::Null;
                job
            }),
            monitor: MonitorStatus { enabled: monitor.enabled, state: monitor.state.as_str().to_owned() },
            capabilities: self.capabilities(),
            bus: self.client.counters(),
            at: UtcTime::from(SystemTime::now()).to_millis(),
        }
    }

    /// How the service is, in one line for whoever looks at the process and not at the bus.
    pub(super) fn status_line(&self) -> String {
        let bus = if *self.client.connected().borrow() {
            "on the bus".to_owned()
        } else {
            format!("waiting for the bus {}", self.settings.socket.display())
        };
        let endpoints = self.sites.latest().topology.endpoints.len();
        let jobs = self.driver().unfinished();
        let problems = self.problems().len();
        format!("{bus}; {endpoints} endpoints, {jobs} jobs, {problems} problems")
    }

    fn problems(&self) -> Vec<String> {
        let capabilities = self.capabilities();
        let mut problems = Vec::new();
        for (what, capability) in [("ping", capabilities.ping), ("capture", capabilities.capture)] {
            if !capability.available {
                problems.push(format!("{what} is not possible: {}", capability.reason.as_deref().unwrap_or("no reason given")));
            }
        }
        problems.extend(self.driver().disk_problem());
        let monitor = self.monitor_now();
        if let Some(problem) = monitor.last_problem.filter(|_| monitor.enabled && monitor.state != MonitorState::Recording) {
            problems.push(format!("the monitor is on and does not record: {problem}"));
        }
        for interface in monitor.interfaces.iter().filter(|interface| monitor.enabled && !interface.captured) {
            let why = interface.problem.as_deref().unwrap_or("it cannot be opened");
            problems.push(format!("the monitor does not record {}: {why}", interface.name));
        }
        problems.extend(self.monitor.shipping.problems());
        problems.extend(self.monitor.series.problem());
        if self.settings.config_dirs.is_empty() && self.settings.extra_endpoints.is_empty() {
            problems.push("no config directory is set and none of the site's exists, so there is nothing to test".to_owned());
        }
        problems
    }

    /// The flat values for a web page.
    pub(super) fn summary(&self) -> Summary {
        let site = self.sites.latest();
        let last = self.driver().last_finished(JobKind::Connectivity);
        let running = self.driver().running(JobKind::Connectivity);
        let judged = self.driver().last_judged();
        let tested = judged.as_ref().and_then(|job| job.summary.as_ref()?.endpoints);
        let counts = tested.unwrap_or_default();
        let in_topology = u32::try_from(site.topology.endpoints.len()).unwrap_or(u32::MAX);
        let problems = self.problems();
        let monitor = self.monitor_now();
        Summary {
            state: if problems.is_empty() { Health::Ok } else { Health::Degraded },
            endpoints_total: tested.map_or(in_topology, |counts| counts.total),
            endpoints_ok: counts.ok,
            endpoints_degraded: counts.degraded,
            endpoints_failed: counts.failed,
            endpoints_unknown: counts.unknown + counts.skipped,
            last_result: judged
                .as_ref()
                .or(last.as_ref())
                .map(|job| {
                    job.summary.as_ref().map(|summary| summary.text.clone()).or_else(|| job.error.clone()).unwrap_or_default()
                })
                .unwrap_or_default(),
            last_state: last.as_ref().map(|job| job.state),
            last_run_at: last.as_ref().and_then(|job| job.finished_at),
            test_running: running.is_some(),
            test_progress_pct: running.as_ref().map_or(0.0, |job| (job.progress * 1000.0).round() / 10.0),
            test_phase: running.map(|job| job.phase).unwrap_or_default(),
            monitor_enabled: monitor.enabled,
            monitor_state: monitor.state.as_str().to_owned(),
            snapshots_suspect: u32::try_from(monitor.snapshots.suspect).unwrap_or(u32::MAX),
            archive_bytes: self.archive_bytes(),
            problems: u32::try_from(problems.len()).unwrap_or(u32::MAX),
        }
    }
}

/// Publishes status and summary on a period and on change, and tells the alarm log when netdiag's own health changes. Runs until it
/// is dropped.
pub(super) async fn publish(core: Arc<Core>) {
    let mut period = interval(Duration::from_secs(core.settings.publish_period_s));
    period.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut health = Health::Ok;
    let mut quiet_until = Instant::now();
    loop {
        tokio::select! {
            _ = period.tick() => {}
            () = core.changed.notified() => sleep_until(quiet_until).await,
        }
        quiet_until = Instant::now() + CHANGE_PERIOD;
        let status = core.status();
        if let Some(event) = events::of_health(&core.settings.process_name, health, status.state, &status.problems) {
            core.post(&event);
        }
        health = status.state;
        core.publish("status", body_of(&status));
        core.publish("summary", body_of(&core.summary()));
    }
}
