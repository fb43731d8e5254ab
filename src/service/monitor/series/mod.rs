//! The time series: after each period, how the traffic of every endpoint was, published on the bus and written to an InfluxDB.
//!
//! The recording thread reads the live analyses ([`Reading`]) and hands the figures of a period over; a task judges them
//! ([`crate::monitor::health`]), keeps them for whoever asks, publishes them one by one, and gives them to the one that writes
//! ([`Influx`]). Neither the recording nor the bus waits for any of it.

mod influx;
mod reading;

pub(super) use reading::Reading;

use super::{lock, supervision::kept_going};
use crate::{
    analysis::Meter,
    api::{Activity, ApiError, Direction, Endpoint, EndpointHealth, ErrorCode, HealthList, SeriesStatus, Transport, UtcTime},
    fims::{Message, SendError},
    monitor::{Expected, Past, health},
    service::{Settings, replies::Core, results::body_of},
};
use influx::Influx;
use std::{
    collections::BTreeMap,
    sync::{
        Arc, Mutex, OnceLock,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};
use tokio::{
    sync::mpsc::{Receiver, Sender, channel},
    task::{JoinHandle, spawn_blocking},
    time::{MissedTickBehavior, interval},
};

/// So many periods may wait to be published.
const MAX_WAITING: usize = 2;
/// Publications go out in small groups, so often ...
const STEP: Duration = Duration::from_millis(20);
/// ... over half of the period, or over this long: the bus drops what comes faster than it is read, and others publish, too.
const SPREAD: Duration = Duration::from_secs(10);

/// A period is over.
pub(super) struct Ended {
    at: UtcTime,
    period: Duration,
    meters: BTreeMap<String, Meter>,
}

/// What is remembered of an endpoint from period to period.
#[derive(Debug, Clone, Copy, Default)]
struct Remembered {
    past: Past,
    last_seen_ns: Option<i64>,
}

/// What was published after a period.
#[derive(Debug, Clone)]
struct Latest {
    at: UtcTime,
    period_s: f64,
    endpoints: BTreeMap<String, EndpointHealth>,
}

/// The time series as the rest of the service sees them.
pub(in crate::service) struct Series {
    period: Option<Duration>,
    ended: OnceLock<Sender<Ended>>,
    latest: Mutex<Option<Arc<Latest>>>,
    remembered: Mutex<BTreeMap<String, Remembered>>,
    published: AtomicU64,
    unpublished: AtomicU64,
    influx: Option<Arc<Influx>>,
    tasks: Mutex<Vec<JoinHandle<()>>>,
}

impl Series {
    pub fn new(settings: &Settings) -> Self {
        let period = Duration::from_secs(settings.series.period_s);
        Self {
            period: Some(period).filter(|period| !period.is_zero()),
            ended: OnceLock::new(),
            latest: Mutex::default(),
            remembered: Mutex::default(),
            published: AtomicU64::new(0),
            unpublished: AtomicU64::new(0),
            influx: settings.influx.clone().map(|influx| Arc::new(Influx::new(influx))),
            tasks: Mutex::default(),
        }
    }

    /// Begins to publish; within a runtime.
    pub(super) fn start(&self, core: &Arc<Core>) {
        if self.period.is_none() {
            return;
        }
        let (sender, ended) = channel(MAX_WAITING);
        let _ = self.ended.set(sender);
        let mut tasks = lock(&self.tasks);
        let weak = || Arc::downgrade(core);
        let (publishing, ended) = (Arc::clone(core), Arc::new(tokio::sync::Mutex::new(ended)));
        let begin = move || publish(Arc::clone(&publishing), Arc::clone(&ended));
        tasks.push(tokio::spawn(kept_going("what publishes the time series".to_owned(), weak(), begin)));
        tasks.extend(self.influx.clone().map(|influx| {
            let begin = move || Arc::clone(&influx).run();
            tokio::spawn(kept_going("what writes the time series".to_owned(), weak(), begin))
        }));
    }

    /// Ends at once; what is not written then is lost, and was published.
    pub(super) fn stop(&self) {
        lock(&self.tasks).drain(..).for_each(|task| task.abort());
    }

    fn ended(&self, ended: Ended) {
        let endpoints = ended.meters.len() as u64;
        if self.ended.get().is_some_and(|sender| sender.try_send(ended).is_err()) {
            self.unpublished.fetch_add(endpoints, Relaxed);
            tracing::warn!("the time series of a period are left out: those of earlier ones are still being published");
        }
    }

    /// What became of them.
    pub fn status(&self) -> SeriesStatus {
        SeriesStatus {
            period_s: self.period.map_or(0, |period| period.as_secs()),
            published: self.published.load(Relaxed),
            unpublished: self.unpublished.load(Relaxed),
            influx: self.influx.as_ref().map(|influx| influx.status()),
        }
    }

    /// What is wrong with the InfluxDB, if it has been so for a while.
    pub fn problem(&self) -> Option<String> {
        self.influx.as_ref()?.lasting_problem()
    }

    /// All values of the latest period, or where to get each if they are longer than `body_max`.
    pub fn list(&self, recording: bool, base_uri: &str, body_max: usize) -> Vec<u8> {
        let Some(latest) = lock(&self.latest).clone() else { return body_of(&HealthList { recording, ..HealthList::default() }) };
        let list = HealthList {
            recording,
            at: Some(latest.at),
            period_s: Some(latest.period_s),
            total: latest.endpoints.len() as u64,
            endpoints: latest.endpoints.values().cloned().collect(),
            endpoint_uris: Vec::new(),
        };
        let body = body_of(&list);
        if body.len() <= body_max {
            return body;
        }
        let mut room = body_max / 2;
        let fits = |uri: &String| {
            let left = room.checked_sub(uri.len() + 3);
            room = left.unwrap_or(0);
            left.is_some()
        };
        let uris = latest.endpoints.keys().map(|endpoint_id| format!("{base_uri}/health/{endpoint_id}"));
        body_of(&HealthList { endpoints: Vec::new(), endpoint_uris: uris.take_while(fits).collect(), ..list })
    }

    /// The values of one endpoint, if there are any.
    fn latest_of(&self, endpoint_id: &str) -> Option<EndpointHealth> {
        lock(&self.latest).as_ref()?.endpoints.get(endpoint_id).cloned()
    }
}

impl Core {
    /// The values of one endpoint of the latest period.
    ///
    /// # Errors
    /// `not_found` for what is no endpoint, `unavailable` for one of which nothing is known, with the reason.
    pub(in crate::service) fn endpoint_health(&self, endpoint_id: &str) -> Result<EndpointHealth, ApiError> {
        let series = &self.monitor.series;
        if let Some(known) = series.latest_of(endpoint_id) {
            return Ok(known);
        }
        let site = self.sites.latest();
        let Some(endpoint) = site.topology.endpoints.iter().find(|endpoint| endpoint.endpoint_id == endpoint_id) else {
            let message =
                format!("there is no endpoint `{endpoint_id}`; `get` the list `health`, or `topology`, for those there are");
            return Err(ApiError::not_found(message));
        };
        let message = if series.period.is_none() {
            "there are no time series: `period_s` of the settings' `series` is 0".to_owned()
        } else if !is_measurable(endpoint) {
            format!("`{endpoint_id}` is a serial line or has no known address, so nothing of it can be seen on the network")
        } else {
            "nothing is known yet; values come at the end of each period while the monitor records".to_owned()
        };
        Err(ApiError::new(ErrorCode::Unavailable, message))
    }

    /// Judges the endpoints by what was seen of each.
    fn judge(&self, ended: &Ended) -> Latest {
        let period_s = (ended.period.as_secs_f64() * 1e3).round() / 1e3;
        let mut remembered = lock(&self.monitor.series.remembered);
        let period_ns = i64::try_from(ended.period.as_nanos()).unwrap_or(i64::MAX);
        let began_ns = ended.at.unix_ns().saturating_sub(period_ns);
        let mut now_known = BTreeMap::new();
        let mut endpoints = BTreeMap::new();
        for endpoint in self.sites.latest().topology.endpoints.iter().filter(|one| is_measurable(one)) {
            // One that is new in the configs is seen from the next snapshot on.
            let Some(meter) = ended.meters.get(&endpoint.endpoint_id) else { continue };
            let figures = meter.figures(endpoint.protocol);
            let before = remembered.get(&endpoint.endpoint_id).copied().unwrap_or_default();
            let known = Remembered {
                past: before.past.and(&figures, ended.period),
                last_seen_ns: last_seen_ns(before.last_seen_ns, meter.last_seen_ns(), figures.server_packets > 0, began_ns),
            };
            now_known.insert(endpoint.endpoint_id.clone(), known);
            let (health, health_text) = health(&figures, &expected(endpoint, &self.settings), &known.past);
            let judged = EndpointHealth {
                endpoint_id: endpoint.endpoint_id.clone(),
                name: endpoint.name.clone(),
                protocol: endpoint.protocol,
                health,
                health_text,
                at: ended.at,
                period_s,
                last_seen_s: known.last_seen_ns.map(|ns| seconds_between(ns, ended.at)),
                figures,
            };
            endpoints.insert(endpoint.endpoint_id.clone(), judged);
        }
        *remembered = now_known;
        Latest { at: ended.at, period_s, endpoints }
    }

    /// Publishes one endpoint's values.
    fn publish_health(&self, health: &EndpointHealth) -> Result<(), SendError> {
        let uri = self.settings.uri(&format!("health/{}", health.endpoint_id));
        self.client.send(Message { body: Some(body_of(health)), ..Message::new("pub", uri) })
    }
}

/// When an endpoint was last seen, after a period: by what was known `before` and what was `read` of its packets. A clock that was set back
/// leaves times that are still to come; who did not talk in this period, talked before it.
fn last_seen_ns(before: Option<i64>, read: Option<i64>, has_talked: bool, period_began_ns: i64) -> Option<i64> {
    let is_before = |at: &i64| *at <= period_began_ns;
    match has_talked {
        true => read.or(before),
        false => before.max(read.filter(is_before)).or(read).map(|at| at.min(period_began_ns)),
    }
}

/// Whole milliseconds, as seconds; a packet that is newer than `until` was seen just then.
fn seconds_between(ns: i64, until: UtcTime) -> f64 {
    (until.unix_ns().saturating_sub(ns).max(0) / 1_000_000) as f64 / 1e3
}

/// Whether packets of an endpoint can be told to be its own.
fn is_measurable(endpoint: &Endpoint) -> bool {
    let has_address = endpoint.address.is_some() || endpoint.direction == Direction::Inbound;
    endpoint.transport != Transport::Rtu && endpoint.port.is_some() && has_address
}

fn expected(endpoint: &Endpoint, settings: &Settings) -> Expected {
    let is_started = matches!(endpoint.activity, Activity::Started | Activity::Overridden);
    Expected {
        in_use: is_started && endpoint.direction == Direction::Outbound,
        poll: endpoint.components.iter().filter_map(|component| component.poll_ms).max().map(Duration::from_millis),
        slow_response: Duration::from_millis(settings.slow_response_ms),
        degraded_from: settings.degraded_from(),
    }
}

/// Judges each period that is over, and tells of it. Runs until it is aborted.
async fn publish(core: Arc<Core>, ended: Arc<tokio::sync::Mutex<Receiver<Ended>>>) {
    let series = &core.monitor.series;
    let mut ended = ended.lock().await;
    while let Some(ended) = ended.recv().await {
        let judging = Arc::clone(&core);
        let judged = spawn_blocking(move || {
            let latest = Arc::new(judging.judge(&ended));
            if let Some(influx) = &judging.monitor.series.influx {
                influx.put(latest.endpoints.values());
            }
            latest
        });
        let Ok(latest) = judged.await else {
            tracing::error!("the time series of a period could not be made; please report this");
            continue;
        };
        *lock(&series.latest) = Some(Arc::clone(&latest));
        let sent = send_paced(&core, latest.endpoints.values(), series.period.unwrap_or(SPREAD)).await;
        series.published.fetch_add(sent, Relaxed);
        series.unpublished.fetch_add((latest.endpoints.len() as u64).saturating_sub(sent), Relaxed);
    }
}

/// Publishes in small groups, and gives how many went out. It ends early when the monitor stops (what is told then would be taken for
/// the present state), and when there is no bus.
async fn send_paced(core: &Core, endpoints: impl ExactSizeIterator<Item = &EndpointHealth>, period: Duration) -> u64 {
    let at_once = group(endpoints.len(), period);
    let deadline = tokio::time::Instant::now() + period;
    let mut step = interval(STEP);
    step.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut sent = 0;
    for (number, endpoint) in endpoints.enumerate() {
        if number % at_once == 0 {
            step.tick().await;
            if !lock(&core.monitor.view).is_recording() {
                return sent;
            }
        }
        loop {
            match core.publish_health(endpoint) {
                Ok(()) => break sent += 1,
                // Others have filled the queue: their turn.
                Err(SendError::QueueFull) if tokio::time::Instant::now() < deadline => drop(step.tick().await),
                Err(SendError::TooLarge(_) | SendError::OverSocketLimit { .. }) => break,
                Err(_) => return sent,
            }
        }
    }
    sent
}

/// How many go out at a time, so that all of them are out in time.
fn group(endpoints: usize, period: Duration) -> usize {
    let steps = (SPREAD.min(period / 2).as_millis() / STEP.as_millis()).max(1);
    endpoints.div_ceil(usize::try_from(steps).unwrap_or(usize::MAX)).max(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_clock_that_is_set_back_makes_nobody_seen_for_ever() {
        let hour = 3_600;
        // Seen at a time that is an hour ahead now.
        assert_eq!(last_seen_ns(Some(2 * hour), Some(hour + 59), true, hour), Some(hour + 59));
        let silent = last_seen_ns(Some(2 * hour), Some(2 * hour), false, hour);
        assert_eq!(silent, Some(hour), "not in this period");
        assert_eq!(last_seen_ns(silent, Some(2 * hour), false, hour + 60), Some(hour), "nor in the next");
        assert_eq!(last_seen_ns(None, Some(2 * hour), false, hour), Some(hour), "netdiag was started just then");
        assert_eq!(last_seen_ns(Some(50), Some(70), false, hour), Some(70), "a period was left out");
        assert_eq!((last_seen_ns(None, None, false, hour), last_seen_ns(Some(50), None, true, hour)), (None, Some(50)));
    }

    #[test]
    fn a_thousand_endpoints_are_out_in_time_and_a_few_at_a_time() {
        for (endpoints, period_s, most) in [(1000, 60, 2), (1000, 1, 40), (10, 60, 1), (0, 60, 1), (5000, 60, 10)] {
            let period = Duration::from_secs(period_s);
            let group = group(endpoints, period);
            assert_eq!(group, most, "{endpoints} in {period_s} s");
            assert!(STEP * u32::try_from(endpoints.div_ceil(group)).unwrap() <= period / 2);
        }
    }
}
