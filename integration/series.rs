//! The time series as a whole: the real binary counts a real conversation over the seams of its snapshots, publishes how each endpoint
//! was, and writes it to a real InfluxDB that is there, away, or late.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod support;

use netdiag::api::UtcTime;
use serde_json::{Value, json};
use std::{
    collections::BTreeMap,
    fs::{self, File},
    io::{Read as _, Write as _},
    net::{Shutdown, TcpListener, TcpStream},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicU64, Ordering::Relaxed},
    },
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};
use support::{
    needs, private_network,
    service::{Bus, Listener, Options, Service, bus, modbus_client, validate},
};

const DEVICE: &str = "127.0.0.2";
const PORT: u16 = 1502;
const ENDPOINT: &str = "modbus_127.0.0.2_1502";
const PATIENCE: Duration = Duration::from_secs(90);
/// No machine stalls for so long.
const NEVER_MS: u64 = 30_000;
/// Every such request gets an exception.
const EXCEPTION_EACH: u64 = 20;

/// A Modbus device that takes five milliseconds for an answer, and may say nothing.
struct Device {
    silent: Arc<AtomicBool>,
}

impl Device {
    fn begin() -> Self {
        let listener = TcpListener::bind((DEVICE, PORT)).unwrap();
        let silent = Arc::new(AtomicBool::new(false));
        let quiet = Arc::clone(&silent);
        thread::spawn(move || {
            for stream in listener.incoming() {
                let (mut stream, quiet) = (stream.unwrap(), Arc::clone(&quiet));
                thread::spawn(move || {
                    let mut request = [0; 12];
                    for number in 1.. {
                        if stream.read_exact(&mut request).is_err() {
                            return;
                        }
                        thread::sleep(Duration::from_millis(5));
                        let [high, low, .., unit] = *request.first_chunk::<7>().unwrap();
                        let response: &[u8] = match number % EXCEPTION_EACH {
                            0 => &[high, low, 0, 0, 0, 3, unit, 0x83, 2],
                            _ => &[high, low, 0, 0, 0, 5, unit, 3, 2, 0, 7],
                        };
                        if !quiet.load(Relaxed) && stream.write_all(response).is_err() {
                            return;
                        }
                    }
                });
            }
        });
        Self { silent }
    }
}

/// What a client did and got.
#[derive(Debug, Default)]
struct Did {
    requests: AtomicU64,
    responses: AtomicU64,
    exceptions: AtomicU64,
    payload_bytes: AtomicU64,
}

/// A client that polls until it is stopped; then its connection stays open until this is dropped.
struct Client {
    did: Arc<Did>,
    stop: Arc<AtomicBool>,
    polls: Option<JoinHandle<TcpStream>>,
    connection: Option<TcpStream>,
}

impl Client {
    /// Begins to poll; a response is waited for this long.
    fn begin(patience_ms: u64) -> Self {
        let (did, stop) = (Arc::<Did>::default(), Arc::new(AtomicBool::new(false)));
        let (does, over) = (Arc::clone(&did), Arc::clone(&stop));
        let polls = thread::spawn(move || {
            let mut stream = TcpStream::connect((DEVICE, PORT)).unwrap();
            stream.set_read_timeout(Some(Duration::from_millis(patience_ms))).unwrap();
            for id in 0_u16.. {
                if over.load(Relaxed) {
                    break;
                }
                let [high, low] = id.to_be_bytes();
                stream.write_all(&[high, low, 0, 0, 0, 6, 1, 3, 0, 0, 0, 1]).unwrap();
                does.requests.fetch_add(1, Relaxed);
                does.payload_bytes.fetch_add(12, Relaxed);
                let mut response = [0; 64];
                let length = stream.read(&mut response).unwrap_or(0);
                does.responses.fetch_add(u64::from(length > 0), Relaxed);
                does.exceptions.fetch_add(u64::from(length == 9), Relaxed);
                does.payload_bytes.fetch_add(length as u64, Relaxed);
                thread::sleep(Duration::from_millis(5));
            }
            stream
        });
        Self { did, stop, polls: Some(polls), connection: None }
    }

    fn stop(&mut self) {
        self.stop.store(true, Relaxed);
        self.connection = self.polls.take().map(|polls| polls.join().unwrap());
    }
}

impl Drop for Client {
    fn drop(&mut self) {
        self.stop.store(true, Relaxed);
    }
}

/// Short snapshots and periods, so that the test is short.
fn options(more: &Value) -> Options {
    let monitor = json!({
        "snapshot_s": 2, "overlap_s": 0.7, "clean_retention_s": 3600, "min_free_bytes": 1 << 20, "min_free_percent": 0,
        "interfaces": ["lo"], "pre_s": 0,
    });
    let mut settings = json!({"monitor": monitor, "monitor_enabled": true, "series": {"period_s": 1}, "response_timeout_ms": NEVER_MS,
        "slow_response_ms": NEVER_MS, "slow_connect_ms": NEVER_MS});
    settings.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    Options { settings, ..Options::default() }
}

/// What is published of endpoints.
struct Told {
    listener: Listener,
    all: Vec<Value>,
}

impl Told {
    async fn listen(bus: &Bus) -> Self {
        Self { listener: bus.listen("/netdiag/health").await, all: Vec::new() }
    }

    /// The next one.
    async fn next(&mut self) -> Value {
        loop {
            let message = tokio::time::timeout(PATIENCE, self.listener.recv()).await.expect("nothing is published").unwrap();
            if message.method == "pub" {
                let body: Value = serde_json::from_slice(&message.body.unwrap()).unwrap();
                validate("endpoint_health", &body);
                assert_eq!(message.uri, format!("/netdiag/health/{}", body["endpoint_id"].as_str().unwrap()));
                self.all.push(body.clone());
                return body;
            }
        }
    }

    /// The next one that is so.
    async fn next_that(&mut self, what: &str, is_so: impl Fn(&Value) -> bool) -> Value {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let told = self.next().await;
            if is_so(&told) {
                return told;
            }
            assert!(Instant::now() < deadline, "not in time: {what}; it was {:#?}", self.all);
        }
    }

    fn sum(&self, figure: &str) -> u64 {
        self.all.iter().map(|told| told[figure].as_u64().unwrap_or_else(|| panic!("no {figure} in {told:#}"))).sum()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn over_all_seams_every_request_is_counted_once() {
    private_network();
    let (_dir, bus) = bus();
    let _device = Device::begin();
    let mut told = Told::listen(&bus).await;
    let service = Service::start(&bus.socket, &[modbus_client("bms", DEVICE, PORT)], &options(&json!({})));
    service.ready().await;
    let first = told.next().await;
    assert_eq!((&first["packets"], &first["last_seen_s"], &first["requests"]), (&json!(0), &Value::Null, &json!(0)));
    let mut client = Client::begin(NEVER_MS);
    let talked_until = Instant::now() + Duration::from_secs(9);
    while Instant::now() < talked_until {
        told.next().await;
    }
    client.stop();
    told.next_that("quiet", |told| told["packets"] == 0).await;
    let did = |count: &AtomicU64| count.load(Relaxed);
    assert!(did(&client.did.requests) > 100, "{:?}", client.did);
    let is_filed = |one: &&Value| one["state"] != "open" && one["state"] != "filing";
    let deadline = Instant::now() + PATIENCE;
    while service.get("/monitor/snapshots").await["snapshots"].as_array().unwrap().iter().filter(is_filed).count() < 4 {
        assert!(Instant::now() < deadline, "there are not four seams");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    for (figure, count) in [
        ("requests", did(&client.did.requests)),
        ("responses", did(&client.did.responses)),
        ("exceptions", did(&client.did.exceptions)),
        ("payload_bytes", did(&client.did.payload_bytes)),
        ("unanswered", did(&client.did.requests) - did(&client.did.responses)),
        ("connects", 1),
        ("connects_accepted", 1),
        ("connects_failed", 0),
        ("resets", 0),
        ("retransmissions", 0),
        ("damaged_frames", 0),
    ] {
        assert_eq!(told.sum(figure), count, "{figure} over {} periods: {:#?}", told.all.len(), told.all);
    }
    assert!(did(&client.did.exceptions) > 2);
    for talking in told.all.iter().filter(|told| told["responses"].as_u64() > Some(20)) {
        assert_eq!((&talking["health"], &talking["name"], &talking["protocol"]), (&json!("ok"), &json!("bms"), &json!("modbus")));
        let ms = |which: &str| talking[format!("response_ms_{which}")].as_f64().unwrap();
        assert!(ms("min") >= 4.8 && ms("min") <= ms("median") && ms("median") <= ms("p95") * 1.0001, "{talking:#}");
        assert!(ms("p95") <= ms("max") * 1.04 && ms("max") < NEVER_MS as f64, "{talking:#}");
        let last_seen_s = talking["last_seen_s"].as_f64().unwrap();
        assert!((0.0..talking["period_s"].as_f64().unwrap() + 0.5).contains(&last_seen_s), "{talking:#}");
    }
    // Periods end soon after the clock has a whole second (now and then a machine is late), and follow on one another.
    let ends: Vec<i64> = told.all.iter().map(at_ms).collect();
    for (pair, told) in ends.windows(2).zip(&told.all[1..]) {
        let period_ms = told["period_s"].as_f64().unwrap() * 1e3;
        assert!((period_ms - (pair[1] - pair[0]) as f64).abs() < 250.0, "{ends:?} {told:#}");
    }
    assert!(ends.iter().any(|end| end % 1000 < 200), "{ends:?}");
    let status = service.get("/monitor").await["series"].clone();
    assert_eq!((&status["period_s"], &status["unpublished"], &status["influx"]), (&json!(1), &json!(0), &Value::Null));
}

fn at_ms(told: &Value) -> i64 {
    serde_json::from_value::<UtcTime>(told["at"].clone()).unwrap().unix_ns() / 1_000_000
}

#[tokio::test(flavor = "multi_thread")]
async fn who_stops_answering_has_failed_who_says_nothing_is_silent_and_both_come_back() {
    private_network();
    let (_dir, bus) = bus();
    let device = Device::begin();
    let mut told = Told::listen(&bus).await;
    let mut options = options(&json!({}));
    options.settings["monitor_enabled"] = json!(false);
    options.settings["response_timeout_ms"] = json!(300);
    let service = Service::start(&bus.socket, &[modbus_client("bms", DEVICE, PORT)], &options);
    service.ready().await;
    let list = service.get("/health").await;
    assert_eq!((&list["recording"], &list["at"], &list["total"]), (&json!(false), &Value::Null, &json!(0)));
    let one = format!("/health/{ENDPOINT}");
    let refused = service.ask("get", &one, None).await;
    assert_eq!(refused["error"]["code"], "unavailable", "{refused}");
    assert_eq!(service.ask("get", "/health/modbus_10.9.9.9_502", None).await["error"]["code"], "not_found");
    service.ask("set", "/monitor/enabled", Some("true")).await;

    let mut client = Client::begin(100);
    let is = |health: &'static str| move |told: &Value| told["health"] == health;
    told.next_that("ok", is("ok")).await;
    device.silent.store(true, Relaxed);
    let failed = told.next_that("failed", is("failed")).await;
    let why = failed["health_text"].as_str().unwrap();
    assert!(why.starts_with("none of ") && why.ends_with(" was answered"), "{why}");
    assert!(failed["unanswered"].as_u64() > Some(2) && failed["responses"] == 0, "{failed:#}");
    device.silent.store(false, Relaxed);
    told.next_that("ok again", is("ok")).await;
    // In between there was a period with some of both.
    let between =
        told.all.iter().any(|told| told["health"] == "degraded" && told["health_text"].as_str().unwrap().contains("in time"));
    assert!(between || told.all.iter().all(|told| told["responses"] == 0 || told["unanswered"] == 0), "{:#?}", told.all);

    client.stop();
    let silent = told.next_that("silent", is("silent")).await;
    let why = silent["health_text"].as_str().unwrap();
    assert!(why.starts_with("it used to talk, and there is no packet to or from it for "), "{why}");
    assert!(silent["last_seen_s"].as_f64() >= Some(2.0) && silent["packets"] == 0, "{silent:#}");
    let known = service.get(&one).await;
    assert_eq!(known["health"], "silent");
    let list = service.get("/health").await;
    assert_eq!(
        (&list["recording"], &list["total"], &list["endpoints"][0]["endpoint_id"]),
        (&json!(true), &json!(1), &json!(ENDPOINT))
    );
    let _next = Client::begin(NEVER_MS);
    told.next_that("ok at last", is("ok")).await;
}

/// A real InfluxDB on a port of its own, with users.
struct InfluxDb {
    child: Child,
    dir: tempfile::TempDir,
}

const DATABASE: &str = "127.0.0.1:8086";
const PASSWORD: &str = "seven & eight";

impl InfluxDb {
    /// The one that `make setup-test` unpacked, or else an installed one.
    fn program() -> PathBuf {
        let unpacked = Path::new(env!("CARGO_MANIFEST_DIR")).join("target/peers/influxdb/usr/bin/influxd");
        if unpacked.exists() { unpacked } else { "influxd".into() }
    }

    /// Whether there is one; [`needs::missing`] if not.
    fn is_there() -> bool {
        needs::program(Self::program(), "version")
    }

    fn start() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let below = |name: &str| dir.path().join(name).display().to_string();
        let config = format!(
            "reporting-disabled = true\nbind-address = \"127.0.0.1:8088\"\n[meta]\ndir = \"{}\"\n[data]\ndir = \"{}\"\nwal-dir = \"{}\"\n\
             [monitor]\nstore-enabled = false\n[http]\nbind-address = \"{DATABASE}\"\nauth-enabled = true\n",
            below("meta"),
            below("data"),
            below("wal"),
        );
        fs::write(dir.path().join("influxd.conf"), config).unwrap();
        let log = File::create(dir.path().join("log")).unwrap();
        let child = Command::new(Self::program())
            .args(["run", "-config"])
            .arg(dir.path().join("influxd.conf"))
            .stdin(Stdio::null())
            .stdout(log.try_clone().unwrap())
            .stderr(log)
            .spawn()
            .unwrap();
        let started = Self { child, dir };
        support::wait_until("influxd answers", PATIENCE, || http("GET", DATABASE, "/ping").is_some());
        let create = |query: &str| started.ask("POST", query, if query.contains("USER") { "" } else { PASSWORD });
        create(&format!("CREATE USER admin WITH PASSWORD '{PASSWORD}' WITH ALL PRIVILEGES"));
        create("CREATE DATABASE site");
        started
    }

    fn ask(&self, method: &str, query: &str, password: &str) -> Value {
        let mut parameters = vec![("db", "site"), ("epoch", "ms"), ("q", query)];
        if !password.is_empty() {
            parameters.extend([("u", "admin"), ("p", password)]);
        }
        let url = reqwest::Url::parse_with_params(&format!("http://{DATABASE}/query"), parameters).unwrap();
        let (status, body) = http(method, DATABASE, &format!("/query?{}", url.query().unwrap())).unwrap();
        let log = || fs::read_to_string(self.dir.path().join("log")).unwrap();
        assert_eq!(status, 200, "{query}: {body}\n{}", log());
        let answer: Value = serde_json::from_str(&body).unwrap();
        assert!(answer["results"][0]["error"].is_null(), "{query}: {answer}");
        answer
    }

    /// All points, by time in milliseconds and endpoint, each with what was written.
    fn points(&self, measurement: &str) -> BTreeMap<(i64, String), BTreeMap<String, Value>> {
        let answer = self.ask("GET", &format!("SELECT * FROM \"{measurement}\""), PASSWORD);
        let series = &answer["results"][0]["series"][0];
        let columns: Vec<&str> =
            series["columns"].as_array().into_iter().flatten().map(|column| column.as_str().unwrap()).collect();
        let row = |row: &Value| {
            let values = columns.iter().zip(row.as_array().unwrap());
            let values: BTreeMap<String, Value> =
                values.filter(|(_, value)| !value.is_null()).map(|(column, value)| ((*column).to_owned(), value.clone())).collect();
            ((values["time"].as_i64().unwrap(), values["endpoint_id"].as_str().unwrap().to_owned()), values)
        };
        series["values"].as_array().into_iter().flatten().map(row).collect()
    }
}

impl Drop for InfluxDb {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// One request without a body; `None` where nobody listens. From this thread, whose network is private.
fn http(method: &str, address: &str, path: &str) -> Option<(u16, String)> {
    let mut stream = TcpStream::connect(address).ok()?;
    write!(stream, "{method} {path} HTTP/1.0\r\nHost: {address}\r\nContent-Length: 0\r\n\r\n").unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    Some((head.split(' ').nth(1).unwrap().parse().unwrap(), body.to_owned()))
}

/// Everything that is published is in the point of that time and endpoint, and no more.
fn assert_same(told: &Value, point: &BTreeMap<String, Value>) {
    for (key, value) in told.as_object().unwrap().iter().filter(|(key, value)| *key != "at" && !value.is_null()) {
        let written = point.get(key).unwrap_or_else(|| panic!("no {key} in {point:?}"));
        let same = if value.is_number() { value.as_f64() == written.as_f64() } else { value == written };
        assert!(same, "{key}: {written} is not {value}");
    }
    let added = ["time", "host", "site"];
    assert_eq!(
        told.as_object().unwrap().values().filter(|value| !value.is_null()).count() - 1 + added.len(),
        point.len(),
        "{point:?}"
    );
    assert_eq!(point["site"], "north, 1");
}

async fn influx_that(service: &Service, what: &str, is_so: impl Fn(&Value) -> bool) -> Value {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let influx = service.get("/monitor").await["series"]["influx"].clone();
        if is_so(&influx) {
            return influx;
        }
        assert!(Instant::now() < deadline, "not in time: {what}; it is {influx:#}");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

/// The settings for the InfluxDB above, and where its password is.
fn with_password(more: &Value) -> (tempfile::TempDir, Value) {
    let dir = tempfile::tempdir().unwrap();
    let password_file = dir.path().join("password");
    fs::write(&password_file, format!("{PASSWORD}\n")).unwrap();
    let mut influx = json!({
        "url": format!("http://{DATABASE}/write?db=site"), "username": "admin", "password_file": password_file, "tags": {"site": "north, 1"},
    });
    influx.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    (dir, json!({"influx": influx}))
}

#[tokio::test(flavor = "multi_thread")]
async fn an_influxdb_that_comes_late_gets_all_that_waited_with_the_values_that_were_published() {
    if !InfluxDb::is_there() {
        return;
    }
    private_network();
    let (_dir, bus) = bus();
    let _device = Device::begin();
    let mut told = Told::listen(&bus).await;
    let (_password, settings) = with_password(&json!({"measurement": "plc traffic"}));
    let service = Service::start(&bus.socket, &[modbus_client("bms", DEVICE, PORT)], &options(&settings));
    service.ready().await;
    let mut client = Client::begin(NEVER_MS);
    // It is away, which nobody else notices.
    let waits =
        influx_that(&service, "points wait", |influx| influx["waiting"].as_u64() > Some(2) && influx["last_problem"].is_string())
            .await;
    assert!(waits["last_problem"].as_str().unwrap().contains("refused"), "{waits:#}");
    assert_eq!((&waits["written"], &waits["dropped"]), (&json!(0), &json!(0)));
    for _ in 0..3 {
        told.next().await;
    }
    let database = InfluxDb::start();
    let all_written = |influx: &Value| influx["waiting"] == 0 && influx["written"].as_u64() > Some(5);
    let status = influx_that(&service, "all is written", all_written).await;
    assert_eq!(status["dropped"], 0, "{status:#}");
    assert!(!status["last_written_at"].is_null());
    client.stop();
    told.next_that("quiet", |told| told["packets"] == 0).await;
    let all = told.all.len() as u64;
    let is_rest = |influx: &Value| influx["waiting"] == 0 && influx["written"].as_u64() >= Some(all);
    let status = influx_that(&service, "the rest is written", is_rest).await;
    let points = database.points("plc traffic");
    assert!(points.len() as u64 >= status["written"].as_u64().unwrap(), "{} and {status:#}", points.len());
    for told in &told.all {
        let key = (at_ms(told), told["endpoint_id"].as_str().unwrap().to_owned());
        assert_same(told, points.get(&key).unwrap_or_else(|| panic!("{key:?} is not written")));
    }
    assert!(told.sum("requests") > 50);
    let of_points: u64 = points.values().map(|point| point["requests"].as_u64().unwrap()).sum();
    assert_eq!(of_points, client.did.requests.load(Relaxed));
    // The queries that the documentation gives; the last asks for failures, of which there are none.
    let found: Vec<bool> = documented_queries()
        .iter()
        .map(|query| {
            let answer = database.ask("GET", &query.replace("netdiag_endpoint", "plc traffic"), PASSWORD);
            answer["results"][0]["series"].is_array()
        })
        .collect();
    assert_eq!(found, [true, true, true, false]);
    assert!(!service.log().contains(PASSWORD) && !service.get("/monitor").await.to_string().contains(PASSWORD));
}

/// The queries in docs/series.md, a block each.
fn documented_queries() -> Vec<String> {
    let text = fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/docs/series.md")).unwrap();
    text.split("```sql\n").skip(1).map(|rest| rest.split("```").next().unwrap().replace('\n', " ")).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn what_no_influxdb_takes_is_dropped_in_the_end_the_oldest_first_and_counted() {
    if !InfluxDb::is_there() {
        return;
    }
    private_network();
    let (_dir, bus) = bus();
    let mut told = Told::listen(&bus).await;
    let (_password, settings) = with_password(&json!({"queue_max_bytes": 65_536}));
    let devices: Vec<_> =
        (1..=60).map(|number| modbus_client(&format!("rack_{number}"), &format!("127.0.1.{number}"), 502)).collect();
    let service = Service::start(&bus.socket, &devices, &options(&settings));
    service.ready().await;
    let full = influx_that(&service, "some are dropped", |influx| influx["dropped"].as_u64() > Some(0)).await;
    assert!(full["waiting"].as_u64().unwrap() * 200 < 65_536, "a point has at least 200 bytes: {full:#}");
    assert!(service.log().contains("points are dropped, the oldest first"), "{}", service.log());
    let lasting = "time series cannot be written to http://127.0.0.1:8086/write?db=site";
    support::wait_until("the status says so", PATIENCE, || {
        let status = tokio::task::block_in_place(|| tokio::runtime::Handle::current().block_on(service.get("/status")));
        status["problems"].as_array().unwrap().iter().any(|problem| problem.as_str().unwrap().starts_with(lasting))
    });
    let database = InfluxDb::start();
    influx_that(&service, "what waited is written", |influx| influx["waiting"] == 0 && influx["written"].as_u64() > Some(60)).await;
    service.ask("set", "/monitor/enabled", Some("false")).await;
    // Until no more comes, neither to the bus nor to the database.
    while let Ok(Some(message)) = tokio::time::timeout(Duration::from_secs(4), told.listener.recv()).await {
        told.all.extend(message.body.and_then(|body| serde_json::from_slice(&body).ok()));
    }
    let status = influx_that(&service, "the rest is written", |influx| influx["waiting"] == 0).await;
    let points = database.points("netdiag_endpoint");
    assert_eq!(points.len() as u64, status["written"].as_u64().unwrap(), "{status:#}");
    let (written, dropped) = (status["written"].as_u64().unwrap(), status["dropped"].as_u64().unwrap());
    assert_eq!((written + dropped) % 60, 0, "whole periods: {status:#}");
    let first = points.keys().next().unwrap().0;
    let missing = told
        .all
        .iter()
        .filter(|told| at_ms(told) > first)
        .find(|told| !points.contains_key(&(at_ms(told), told["endpoint_id"].as_str().unwrap().to_owned())));
    assert!(missing.is_none(), "written from {first} on, and not {missing:#?}");
    let series = service.get("/monitor").await["series"].clone();
    assert_eq!(series["published"].as_u64().unwrap() + series["unpublished"].as_u64().unwrap(), written + dropped, "{series:#}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_goes_to_the_set_url_only_and_an_error_is_tried_again() {
    private_network();
    let (_dir, bus) = bus();
    let taken: Arc<Mutex<Vec<(String, String)>>> = Arc::default();
    let listener = TcpListener::bind(DATABASE).unwrap();
    let takes = Arc::clone(&taken);
    thread::spawn(move || {
        let mut answers = ["503 Service Unavailable", "307 Temporary Redirect\r\nLocation: http://127.0.0.3:8086/"].into_iter();
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            let request = read_request(&mut stream);
            let answer = answers.next().unwrap_or("204 No Content");
            write!(stream, "HTTP/1.1 {answer}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n").unwrap();
            let _ = stream.shutdown(Shutdown::Both);
            takes.lock().unwrap().push(request);
        }
    });
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("token"), "s3cr3t-t0ken==\n").unwrap();
    let influx = json!({
        "url": format!("http://{DATABASE}/api/v2/write?org=plant&bucket=site"), "token_file": dir.path().join("token"),
    });
    let service = Service::start(&bus.socket, &[modbus_client("bms", DEVICE, PORT)], &options(&json!({"influx": influx})));
    service.ready().await;
    let status = influx_that(&service, "three are taken", |influx| influx["written"].as_u64() > Some(2)).await;
    assert!(status["last_problem"].as_str().unwrap().starts_with("it refers to another address"), "{status:#}");
    let taken = taken.lock().unwrap();
    for (head, _) in &*taken {
        assert!(head.starts_with("POST /api/v2/write?org=plant&bucket=site&precision=ms HTTP/1.1\r\n"), "{head}");
        assert!(head.contains("\r\nauthorization: Token s3cr3t-t0ken==\r\n"), "{head}");
    }
    assert!(taken.len() >= 5 && taken[0].1 == taken[1].1 && taken[1].1 == taken[2].1, "the same again: {taken:#?}");
    assert!(taken[2].1.starts_with("netdiag_endpoint,") && taken[2].1 != taken[3].1, "{taken:#?}");
    assert!(!service.log().contains("s3cr3t") && !status.to_string().contains("s3cr3t"));
}

#[tokio::test(flavor = "multi_thread")]
async fn to_an_https_url_nothing_is_said_without_encryption() {
    private_network();
    let (_dir, bus) = bus();
    let listener = TcpListener::bind(DATABASE).unwrap();
    let influx = json!({"url": format!("https://user:s3cr3t@{DATABASE}/write?db=site")});
    let settings = json!({"influx": influx});
    let service = Service::start(&bus.socket, &[modbus_client("bms", DEVICE, PORT)], &options(&settings));
    service.ready().await;
    listener.set_nonblocking(true).unwrap();
    let mut accepted = None;
    support::wait_until("it connects", PATIENCE, || {
        accepted = listener.accept().ok();
        accepted.is_some()
    });
    let (mut stream, _) = accepted.unwrap();
    stream.set_nonblocking(false).unwrap();
    let mut hello = [0; 6];
    stream.read_exact(&mut hello).unwrap();
    // A handshake record of TLS, and in it the client's greeting (RFC 8446, 4 and 5.1).
    assert_eq!((&hello[..2], hello[5]), (&[22, 3][..], 1));
    drop((stream, listener));
    let status = influx_that(&service, "it is told", |influx| !influx["last_problem"].is_null()).await;
    assert_eq!((&status["url"], &status["written"]), (&json!(format!("https://{DATABASE}/write?db=site")), &json!(0)));
    assert!(!service.log().contains("s3cr3t") && !status.to_string().contains("s3cr3t"));
}

/// The head and the body of a request.
fn read_request(stream: &mut TcpStream) -> (String, String) {
    let mut bytes = Vec::new();
    let mut buffer = [0; 4096];
    loop {
        let length = stream.read(&mut buffer).unwrap();
        bytes.extend_from_slice(&buffer[..length]);
        let text = String::from_utf8_lossy(&bytes).into_owned();
        if let Some((head, body)) = text.split_once("\r\n\r\n") {
            let head = format!("{head}\r\n");
            let (_, rest) = head.split_once("content-length: ").unwrap();
            if body.len() >= rest.split("\r\n").next().unwrap().parse().unwrap() {
                return (head, body.to_owned());
            }
        }
        assert!(length > 0, "the request breaks off: {text}");
    }
}
