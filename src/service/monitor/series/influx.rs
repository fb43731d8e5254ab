//! The edge to an InfluxDB: a queue in memory, and a task that writes it, again and again until it is taken.

use crate::{
    api::{EndpointHealth, InfluxStatus, UtcTime},
    http::{self, answer, described, secret},
    monitor::{Field, Point, write_point},
    service::{monitor::lock, series_settings::InfluxSettings},
};
use reqwest::{Client, RequestBuilder, StatusCode, Url};
use std::{
    collections::VecDeque,
    sync::Mutex,
    time::{Duration, SystemTime},
};
use tokio::sync::Notify;

/// How long a request may take.
const PATIENCE: Duration = Duration::from_secs(20);
/// How long is waited after a failure: twice as long each time.
const FIRST_WAIT: Duration = Duration::from_secs(1);
const LONGEST_WAIT: Duration = Duration::from_secs(60);
/// So many failures in a row are no accident.
const LASTING: u32 = 4;

/// An InfluxDB, and what it has not taken yet.
pub(super) struct Influx {
    settings: InfluxSettings,
    host: String,
    state: Mutex<State>,
    filled: Notify,
}

#[derive(Default)]
struct State {
    queue: VecDeque<Batch>,
    bytes: usize,
    next_number: u64,
    failures: u32,
    status: InfluxStatus,
}

/// The points of one period.
struct Batch {
    number: u64,
    points: u64,
    lines: String,
}

/// Why points were not taken.
enum Trouble {
    /// They never will be.
    Refused(String),
    /// They may be later.
    Later(String),
}

impl Influx {
    pub fn new(settings: InfluxSettings) -> Self {
        let status = InfluxStatus { url: settings.told_url(), ..InfluxStatus::default() };
        Self { settings, host: http::host_name(), state: Mutex::new(State { status, ..State::default() }), filled: Notify::new() }
    }

    pub fn status(&self) -> InfluxStatus {
        let state = lock(&self.state);
        InfluxStatus { waiting: state.queue.iter().map(|batch| batch.points).sum(), ..state.status.clone() }
    }

    /// What is wrong, if it has been wrong for several attempts.
    pub fn lasting_problem(&self) -> Option<String> {
        let state = lock(&self.state);
        let problem = state.status.last_problem.as_ref().filter(|_| state.failures >= LASTING)?;
        Some(format!("time series cannot be written to {}: {problem}", state.status.url))
    }

    /// Puts the values of a period into the queue. Never waits; what is too much for the queue is dropped, the oldest first.
    pub fn put<'a>(&self, endpoints: impl Iterator<Item = &'a EndpointHealth>) {
        let (mut lines, mut points) = (String::new(), 0);
        for endpoint in endpoints {
            points += u64::from(write_point(&point(endpoint, &self.host, &self.settings), &mut lines));
        }
        if points > 0 {
            lock(&self.state).put(lines, points, usize::try_from(self.settings.queue_max_bytes).unwrap_or(usize::MAX));
            self.filled.notify_one();
        }
    }

    /// Writes what is in the queue. Runs until it is aborted.
    pub async fn run(self: std::sync::Arc<Self>) {
        let (mut wait, mut made) = (FIRST_WAIT, None);
        loop {
            let Some((number, points, lines)) = lock(&self.state).first() else {
                self.filled.notified().await;
                continue;
            };
            // Made anew after a failure: a file of certificates may have been mended.
            let outcome = match self.made(made.take()).await {
                Ok((client, url)) => {
                    let outcome = self.write(&client, &url, lines).await;
                    made = outcome.is_ok().then_some((client, url));
                    outcome
                }
                Err(problem) => Err(Trouble::Later(problem)),
            };
            let is_later = matches!(outcome, Err(Trouble::Later(_)));
            lock(&self.state).settle(number, points, outcome);
            if is_later {
                tokio::time::sleep(wait).await;
                wait = (wait * 2).min(LONGEST_WAIT);
            } else {
                wait = FIRST_WAIT;
            }
        }
    }

    async fn made(self: &std::sync::Arc<Self>, made: Option<(Client, Url)>) -> Result<(Client, Url), String> {
        let influx = std::sync::Arc::clone(self);
        match made {
            Some(made) => Ok(made),
            // It reads certificates from the disk.
            None => tokio::task::spawn_blocking(move || influx.client()).await.map_err(|error| error.to_string())?,
        }
    }

    fn client(&self) -> Result<(Client, Url), String> {
        let mut url = self.settings.parsed_url().ok_or("its url cannot be read")?;
        let kept: Vec<(String, String)> = url.query_pairs().filter(|(key, _)| key != "precision").map(owned).collect();
        url.query_pairs_mut().clear().extend_pairs(kept).append_pair("precision", "ms");
        let client = http::client(&url, self.settings.ca_file.as_deref())?;
        Ok((client, url))
    }

    async fn write(&self, client: &Client, url: &Url, lines: String) -> Result<(), Trouble> {
        let request = client.post(url.clone()).timeout(PATIENCE).header("Content-Type", "text/plain; charset=utf-8").body(lines);
        let request = self.signed(request).await.map_err(Trouble::Later)?;
        let response = request.send().await.map_err(|error| Trouble::Later(described(&error.without_url())))?;
        judged(response.status(), answer(response).await)
    }

    /// With the token or the password, which are read anew each time: they may be changed.
    async fn signed(&self, request: RequestBuilder) -> Result<RequestBuilder, String> {
        let InfluxSettings { token_file, username, password_file, .. } = &self.settings;
        if let Some(path) = token_file {
            return Ok(request.header("Authorization", format!("Token {}", secret(path).await?)));
        }
        match (username, password_file) {
            (Some(username), Some(path)) => Ok(request.basic_auth(username, Some(secret(path).await?))),
            _ => Ok(request),
        }
    }
}

impl State {
    fn put(&mut self, lines: String, points: u64, max_bytes: usize) {
        self.bytes += lines.len();
        self.queue.push_back(Batch { number: self.next_number, points, lines });
        self.next_number += 1;
        while self.bytes > max_bytes {
            let Some(oldest) = self.queue.pop_front() else { return };
            self.bytes -= oldest.lines.len();
            if self.status.dropped == 0 {
                tracing::warn!(url = self.status.url, "points are dropped, the oldest first: the queue of the InfluxDB is full");
            }
            self.status.dropped += oldest.points;
        }
    }

    fn first(&self) -> Option<(u64, u64, String)> {
        self.queue.front().map(|batch| (batch.number, batch.points, batch.lines.clone()))
    }

    /// What came of a batch, which may have been dropped meanwhile.
    fn settle(&mut self, number: u64, points: u64, outcome: Result<(), Trouble>) {
        let is_done = !matches!(outcome, Err(Trouble::Later(_)));
        let was_first = self.queue.front().is_some_and(|batch| batch.number == number);
        if is_done
            && was_first
            && let Some(batch) = self.queue.pop_front()
        {
            self.bytes -= batch.lines.len();
        }
        match outcome {
            Ok(()) => {
                if self.failures > 0 {
                    tracing::info!(url = self.status.url, "time series are written again");
                }
                self.failures = 0;
                self.status.written += points;
                // It was given up and has got there all the same.
                self.status.dropped -= if was_first { 0 } else { points.min(self.status.dropped) };
                self.status.last_written_at = Some(now());
            }
            Err(Trouble::Later(problem)) => {
                self.failures = self.failures.saturating_add(1);
                self.problem(problem);
            }
            Err(Trouble::Refused(problem)) => {
                self.failures = self.failures.saturating_add(1);
                self.status.dropped += if was_first { points } else { 0 };
                self.problem(problem);
            }
        }
    }

    /// Something is wrong; it is told in the log, once as long as it stays the same.
    fn problem(&mut self, problem: String) {
        if self.failures <= 1 || self.status.last_problem.as_ref() != Some(&problem) {
            tracing::warn!(url = self.status.url, problem, "time series cannot be written");
        }
        self.status.last_problem = Some(problem);
        self.status.last_problem_at = Some(now());
    }
}

/// What an answer means.
fn judged(status: StatusCode, told: String) -> Result<(), Trouble> {
    let problem = |what: &str| format!("{what} ({status}{}{told})", if told.is_empty() { "" } else { ": " });
    match status {
        status if status.is_success() => Ok(()),
        StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => {
            Err(Trouble::Later(problem("it lets this user or token write nothing there")))
        }
        StatusCode::NOT_FOUND => Err(Trouble::Later(problem("the database, bucket or path is not there"))),
        StatusCode::REQUEST_TIMEOUT | StatusCode::TOO_MANY_REQUESTS => Err(Trouble::Later(problem("it has too much to do"))),
        status if status.is_client_error() => Err(Trouble::Refused(problem("it refuses these points, and they are dropped"))),
        status if status.is_redirection() => Err(Trouble::Later(problem("it refers to another address; set that one"))),
        _ => Err(Trouble::Later(problem("it has failed"))),
    }
}

fn owned((key, value): (std::borrow::Cow<'_, str>, std::borrow::Cow<'_, str>)) -> (String, String) {
    (key.into_owned(), value.into_owned())
}

fn now() -> UtcTime {
    UtcTime::from(SystemTime::now()).to_millis()
}

fn point<'a>(endpoint: &'a EndpointHealth, host: &'a str, settings: &'a InfluxSettings) -> Point<'a> {
    let figures = &endpoint.figures;
    let int = |count: u64| Some(Field::Int(i64::try_from(count).unwrap_or(i64::MAX)));
    let maybe = |count: Option<u64>| count.and_then(int);
    let time = |duration: Option<f64>| duration.map(Field::Float);
    let own = [
        ("host", host),
        ("endpoint_id", &endpoint.endpoint_id),
        ("name", endpoint.name.as_deref().unwrap_or_default()),
        ("protocol", endpoint.protocol.as_str()),
    ];
    Point {
        measurement: &settings.measurement,
        tags: own.into_iter().chain(settings.tags.iter().map(|(key, value)| (key.as_str(), value.as_str()))).collect(),
        fields: vec![
            ("health", Some(Field::Text(endpoint.health.as_str()))),
            ("health_text", Some(Field::Text(&endpoint.health_text))),
            ("period_s", Some(Field::Float(endpoint.period_s))),
            ("last_seen_s", time(endpoint.last_seen_s)),
            ("packets", int(figures.packets)),
            ("server_packets", int(figures.server_packets)),
            ("payload_bytes", int(figures.payload_bytes)),
            ("connects", int(figures.connects)),
            ("connects_accepted", int(figures.connects_accepted)),
            ("connects_refused", int(figures.connects_refused)),
            ("connects_failed", int(figures.connects_failed)),
            ("connect_retries", int(figures.connect_retries)),
            ("resets", int(figures.resets)),
            ("retransmissions", int(figures.retransmissions)),
            ("requests", maybe(figures.requests)),
            ("responses", maybe(figures.responses)),
            ("unanswered", maybe(figures.unanswered)),
            ("late", maybe(figures.late)),
            ("slow", maybe(figures.slow)),
            ("exceptions", maybe(figures.exceptions)),
            ("unsolicited", maybe(figures.unsolicited)),
            ("damaged_frames", maybe(figures.damaged_frames)),
            ("response_ms_min", time(figures.response_ms_min)),
            ("response_ms_median", time(figures.response_ms_median)),
            ("response_ms_p95", time(figures.response_ms_p95)),
            ("response_ms_max", time(figures.response_ms_max)),
        ],
        unix_ms: endpoint.at.unix_ns().div_euclid(1_000_000),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::{Protocol, TrafficFigures, TrafficHealth};
    use serde_json::Value;
    use std::collections::BTreeSet;

    fn endpoint() -> EndpointHealth {
        let figures = TrafficFigures {
            requests: Some(1),
            responses: Some(1),
            unanswered: Some(1),
            late: Some(1),
            slow: Some(1),
            exceptions: Some(1),
            unsolicited: Some(1),
            damaged_frames: Some(1),
            response_ms_min: Some(1.0),
            response_ms_median: Some(1.0),
            response_ms_p95: Some(1.0),
            response_ms_max: Some(1.0),
            ..TrafficFigures::default()
        };
        EndpointHealth {
            endpoint_id: "modbus_10.0.0.5_502".into(),
            name: Some("bms 1".into()),
            protocol: Protocol::Modbus,
            health: TrafficHealth::Ok,
            health_text: "fine".into(),
            at: UtcTime::from_unix_ns(1_700_000_000_123_000_000),
            period_s: 60.0,
            last_seen_s: Some(0.5),
            figures,
        }
    }

    fn settings() -> InfluxSettings {
        toml::from_str("url = \"http://127.0.0.1:1/write?db=x\"\ntags = {site = \"north\"}").unwrap()
    }

    #[test]
    fn a_point_has_every_value_that_is_published() {
        let (endpoint, settings) = (endpoint(), settings());
        let point = point(&endpoint, "controller", &settings);
        let written: BTreeSet<&str> =
            point.tags.iter().map(|(key, _)| *key).chain(point.fields.iter().map(|(key, _)| *key)).collect();
        let Value::Object(published) = serde_json::to_value(&endpoint).unwrap() else { panic!("no object") };
        let published: BTreeSet<&str> =
            published.keys().map(String::as_str).filter(|key| *key != "at").chain(["host", "site"]).collect();
        assert_eq!(written, published);
        assert!(point.fields.iter().all(|(key, value)| value.is_some() || *key == "at"), "{point:?}");
        assert_eq!(point.unix_ms, 1_700_000_000_123);
    }

    #[test]
    fn a_full_queue_drops_the_oldest_and_counts() {
        let mut state = State::default();
        for number in 0..5 {
            state.put(format!("{number:010}"), 10, 30);
        }
        assert_eq!((state.queue.len(), state.bytes, state.status.dropped), (3, 30, 20));
        assert_eq!(state.first().unwrap().2, "0000000002");
        state.settle(2, 10, Ok(()));
        assert_eq!((state.status.written, state.bytes, state.queue.len()), (10, 20, 2));
        state.settle(3, 10, Err(Trouble::Later("away".into())));
        assert_eq!((state.queue.len(), state.failures), (2, 1), "it stays");
        state.settle(3, 10, Err(Trouble::Refused("bad".into())));
        assert_eq!((state.queue.len(), state.status.dropped), (1, 30));
        // Dropped for lack of room while it was being written, and taken all the same.
        state.put("x".repeat(30), 1, 30);
        assert_eq!(state.status.dropped, 40);
        state.settle(4, 10, Ok(()));
        assert_eq!((state.status.dropped, state.status.written, state.queue.len(), state.bytes), (30, 20, 1, 30));
    }

    #[test]
    fn only_what_is_wrong_with_the_points_drops_them() {
        let later = |status: u16| matches!(judged(StatusCode::from_u16(status).unwrap(), String::new()), Err(Trouble::Later(_)));
        let refused =
            |status: u16| matches!(judged(StatusCode::from_u16(status).unwrap(), String::new()), Err(Trouble::Refused(_)));
        assert!([401, 403, 404, 408, 429, 500, 502, 503, 301, 307].into_iter().all(later));
        assert!([400, 413, 422].into_iter().all(refused));
        assert!(judged(StatusCode::NO_CONTENT, String::new()).is_ok() && judged(StatusCode::OK, String::new()).is_ok());
        let Err(Trouble::Later(told)) = judged(StatusCode::NOT_FOUND, "database not found: \"x\"".into()) else {
            panic!("dropped")
        };
        assert_eq!(told, "the database, bucket or path is not there (404 Not Found: database not found: \"x\")");
    }
}
