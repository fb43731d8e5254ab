//! The capture that the snapshots are windows of: begun, changed with the site and the settings, and ended.

use super::{
    super::{lock, sharing::Offer},
    Recorder, alarm,
    open::{Ends, Open},
};
use crate::{
    analysis::Analysis,
    api::{Interface, MonitorSettings, MonitorState},
    capture::{self, Continuous, ContinuousOptions},
    connectivity::capture_interfaces,
    service::replies::Core,
};
use std::time::{Duration, Instant};

/// How long a new filter waits for snapshots that are being closed: they know nothing of what it lets through.
const FILTER_PATIENCE: Duration = Duration::from_secs(2);
/// How long after a capture that failed another one is tried.
const RETRY: Duration = Duration::from_secs(5);
/// A capture thread that gives no sign of life for so long hangs.
const CAPTURE_HANGS: Duration = Duration::from_secs(10);

impl Recorder<'_> {
    /// Sees to it that what is to be captured is captured.
    pub(super) fn capture(&mut self, core: &Core, settings: &MonitorSettings) -> Result<(), MonitorState> {
        if let Some(problem) = self.capture.as_ref().and_then(|(_, capture)| capture.ended()) {
            alarm(core, format!("the monitor begins a new capture: {problem}"));
            self.end_capture();
            self.retry_at = Some(Instant::now() + RETRY);
        }
        if !core.sites.is_read() {
            return Err(MonitorState::Paused);
        }
        if self.retry_at.is_some_and(|retry_at| Instant::now() < retry_at) {
            return Err(MonitorState::Paused);
        }
        let options = self.options(core, settings);
        if options.interfaces.is_empty() {
            lock(&core.monitor.view)
                .problem("no interface leads to any endpoint of the topology; name some in the settings".to_owned());
            self.end_capture();
            return Err(MonitorState::Paused);
        }
        if let Some((running, capture)) = &mut self.capture {
            if *running == options {
                return Ok(());
            }
            if (running.snaplen, running.buffer_bytes) == (options.snaplen, options.buffer_bytes) {
                if running.interfaces != options.interfaces {
                    capture.set_interfaces(options.interfaces.clone());
                }
                if (running.past, running.past_max_bytes) != (options.past, options.past_max_bytes) {
                    capture.set_past(options.past, options.past_max_bytes);
                }
                if running.filter != options.filter {
                    self.filter_due = self.filter_due.or(Some(Instant::now()));
                }
                *running = options;
                if self.filter_due.is_some() {
                    self.leave();
                }
                return Ok(());
            }
        }
        match Continuous::start(options.clone()) {
            Ok(capture) => {
                self.leave();
                (self.retry_at, self.filter_due) = (None, None);
                core.monitor.offer(offer(core, settings, &options, &capture));
                self.capture = Some((options, capture));
                core.monitor.set_has_capture(true);
                lock(&core.monitor.view).well();
                Ok(())
            }
            Err(error) => {
                self.end_capture();
                lock(&core.monitor.view).problem(error.to_string());
                self.retry_at = Some(Instant::now() + RETRY);
                Err(MonitorState::Unavailable)
            }
        }
    }

    /// The snapshots of the clock end, and others begin that know the site as it is now. Those that were triggered go on to their end.
    fn leave(&mut self) {
        self.leaving.extend(self.open.extract_if(.., |open| matches!(open.ends, Ends::BySchedule(_))));
    }

    /// A new filter comes into force when the snapshots that do not know it are closed.
    pub(super) fn put_filter_in_place(&mut self, core: &Core, settings: &MonitorSettings) {
        let Some((since, (options, capture))) = self.filter_due.zip(self.capture.as_ref()) else { return };
        if self.leaving.is_empty() && (self.closing.is_empty() || since.elapsed() > FILTER_PATIENCE) {
            capture.set_filter(options.filter.clone());
            core.monitor.offer(offer(core, settings, options, capture));
            self.filter_due = None;
        }
    }

    /// What is to be captured.
    fn options(&mut self, core: &Core, settings: &MonitorSettings) -> ContinuousOptions {
        let site = core.sites.latest();
        let endpoints = &site.topology.endpoints;
        let interfaces = &site.topology.interfaces;
        let ways = endpoints.iter().map(|one| (one.endpoint_id.clone(), capture_interfaces(std::iter::once(one), interfaces)));
        let is_down = |name: &str| interfaces.iter().any(|one| one.name == name && !is_up(one));
        let ways = self.ways.take(ways, is_down);
        ContinuousOptions {
            interfaces: if settings.interfaces.is_empty() { ways } else { settings.interfaces.clone() },
            filter: if settings.filter.is_empty() { capture::endpoints_filter(endpoints) } else { settings.filter.clone() },
            snaplen: settings.snaplen,
            buffer_bytes: settings.buffer_bytes,
            past: Duration::from_secs(settings.pre_s),
            past_max_bytes: usize::try_from(settings.pre_max_bytes).unwrap_or(usize::MAX),
        }
    }

    /// Notes which interfaces are lost, and whether the capture gives signs of life.
    pub(super) fn look_for_outages(&mut self, core: &Core) {
        let now = self.started.elapsed();
        let Some((_, capture)) = &self.capture else {
            core.monitor.capturing.pauses();
            return self.outages.look(now, []);
        };
        let hangs = capture.quiet_for() > CAPTURE_HANGS && capture.ended().is_none();
        if hangs && core.monitor.capturing.begins() {
            alarm(core, "the capture hangs: no packet is taken; a disk that does not answer may be the cause".to_owned());
        } else if !hangs {
            core.monitor.capturing.pauses();
        }
        let interfaces = capture.interfaces();
        let lost = |one: &'_ capture::InterfaceState| (!one.captured).then(|| one.problem.clone().unwrap_or_default());
        let looked: Vec<(&str, Option<String>)> = interfaces.iter().map(|one| (one.name.as_str(), lost(one))).collect();
        self.outages.look(now, looked.iter().map(|(name, lost)| (*name, lost.as_deref())));
        let oldest = self.open.iter().chain(&self.leaving).chain(self.closing.iter().map(|closing| &closing.open));
        let oldest = oldest.map(Open::began).min().unwrap_or(now);
        let remembered = self.capture.as_ref().map_or(Duration::ZERO, |(options, _)| options.past);
        self.outages.forget(oldest.min(now.saturating_sub(remembered)));
    }

    /// Closes what is open, and then the capture.
    pub(super) fn end_capture(&mut self) {
        if let Some(core) = self.core.upgrade() {
            core.monitor.offer(None);
            core.monitor.set_has_capture(false);
        }
        self.leaving.append(&mut self.open);
        self.close_leaving();
        (self.capture, self.filter_due) = (None, None);
    }
}

/// The capture for others to take windows of. What somebody's own filter lets through cannot be told.
fn offer(core: &Core, settings: &MonitorSettings, options: &ContinuousOptions, capture: &Continuous<Analysis>) -> Option<Offer> {
    let endpoints = || core.sites.latest().topology.endpoints.clone();
    let offer = || Offer { capture: capture.clone(), options: options.clone(), endpoints: endpoints() };
    settings.filter.is_empty().then(offer)
}

/// Whether an interface is switched on and has a link.
fn is_up(interface: &Interface) -> bool {
    interface.up && interface.running
}
