//! A snapshot while it is open, and what whoever records knows of it beyond its packets.

use crate::{
    analysis::{Analysis, Meter, catalogue},
    api::{Activity, Direction, Endpoint, Finding, Severity, Snapshot, UtcTime},
    capture::{ClosedWindow, Continuous},
    monitor::{OpenSnapshot, Outage, Seen, Silences},
    service::{monitor::lock, replies::Core},
};
use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, mpsc::Receiver},
    time::{Duration, Instant},
};

/// A snapshot that is open.
pub(super) struct Open {
    pub snapshot: Snapshot,
    /// The capture that it is a window of. Another one may have taken its place; it goes on for as long as this is open.
    pub capture: Continuous<Analysis>,
    pub window: u64,
    pub sink: Arc<Mutex<Analysis>>,
    /// How long before it was opened it is to begin.
    pub past: Duration,
    /// When it was opened, on a clock that is never set.
    pub opened: Duration,
    /// What was until then is told by an earlier one, too.
    pub shared_until: Duration,
    /// The slot of one that goes by the clock; the end of one that was triggered.
    pub ends: Ends,
}

pub(super) enum Ends {
    BySchedule(OpenSnapshot),
    At(Instant),
}

/// A snapshot that gets no more packets, and whose file the capture still has.
pub(super) struct Closing {
    pub open: Open,
    pub closed: Receiver<ClosedWindow>,
    /// When it was told to close, on a clock that is never set.
    pub asked: Duration,
}

impl Open {
    /// Whether it goes by the clock, and was not triggered.
    pub fn is_by_schedule(&self) -> bool {
        matches!(self.ends, Ends::BySchedule(_))
    }

    /// When what it records begins.
    pub fn began(&self) -> Duration {
        self.opened.saturating_sub(self.past)
    }

    /// When what it alone tells begins.
    pub fn own_from(&self) -> Duration {
        self.began().max(self.shared_until)
    }

    /// What was not recorded.
    pub fn remark_outages(&self, outages: &[Outage], until: Duration) {
        let mut analysis = lock(&self.sink);
        for outage in outages {
            analysis.remark(Finding {
                count: outage.times,
                ..remark(catalogue::CAPTURE_INTERFACE_LOST, None, outage.told(until.saturating_sub(self.own_from())))
            });
        }
    }

    /// Who talked before and says nothing in this whole snapshot.
    pub fn remark_silences(&self, core: &Core, silences: &mut Silences, outages: &[Outage], until: Duration) {
        // A snapshot by the clock ends a little early or late.
        let whole = lock(&core.monitor.view).settings().snapshot_s.0.mul_f64(0.9);
        let mut analysis = lock(&self.sink);
        let mut meters: BTreeMap<String, Meter> = analysis.meters().into_iter().collect();
        let site = core.sites.latest();
        // What is new in the configs is seen from the next snapshot on.
        let endpoints = site.topology.endpoints.iter();
        let seen = endpoints.filter_map(|endpoint| Some(seen(endpoint, &meters.remove(&endpoint.endpoint_id)?, outages)));
        let at_least = (Duration::from_millis(core.settings.silence_ms), whole);
        let lasted = (until.saturating_sub(self.opened), until.saturating_sub(self.own_from()));
        for silence in silences.take(&seen.collect::<Vec<_>>(), lasted, at_least) {
            let code = if silence.since.is_some() { catalogue::HOST_SILENT } else { catalogue::SITE_NEVER_SEEN };
            let found = remark(code, Some(silence.endpoint_id), silence.message);
            analysis.remark(Finding { first_at: silence.since, ..found });
        }
    }
}

fn seen(endpoint: &Endpoint, meter: &Meter, outages: &[Outage]) -> Seen {
    let figures = meter.figures(endpoint.protocol);
    // Through which interface clients come is not known.
    let concerns = |outage: &Outage| endpoint.interface.as_ref().is_none_or(|interface| *interface == outage.interface);
    let port = endpoint.port.map_or_else(String::new, |port| format!(":{port}"));
    Seen {
        endpoint_id: endpoint.endpoint_id.clone(),
        place: format!("{}{port}", endpoint.address.map_or_else(|| "this host".to_owned(), |address| address.to_string())),
        packets: figures.packets,
        server_packets: figures.server_packets,
        last_seen: meter.last_seen_ns().map(UtcTime::from_unix_ns),
        in_use: endpoint.direction == Direction::Outbound && matches!(endpoint.activity, Activity::Started | Activity::Overridden),
        poll: endpoint.components.iter().filter_map(|component| component.poll_ms).max().map(Duration::from_millis),
        was_recorded: !outages.iter().any(concerns),
    }
}

fn remark(entry: &catalogue::Entry, endpoint_id: Option<String>, message: String) -> Finding {
    Finding {
        code: entry.code.to_owned(),
        severity: Severity::Warning,
        count: 1,
        first_at: None,
        last_at: None,
        endpoint_id,
        message,
        packets: Vec::new(),
    }
}
