//! The real binary over a real socket: what it answers, what it refuses, and what it survives.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod support;

use netdiag::{
    api::UtcTime,
    fims::{self, ClientOptions, Message, Subscription},
};
use nix::sys::signal::Signal;
use serde_json::{Value, json};
use std::{
    net::{Ipv4Addr, TcpListener},
    time::{Duration, Instant, SystemTime},
};
use support::{
    needs,
    service::{Asker, Bus, Options, Service, bus, connected, endpoint, is_refusal, modbus_client, modbus_server, validate},
};

const PATIENCE: Duration = Duration::from_secs(60);
/// A cancel in the middle of half a minute is quick; how quick shows when nothing else goes on.
const QUICK_S: f64 = 5.0;

/// A bus in a directory of its own.
/// An address of the loopback other than that of the dead ports, because one device gets one connection at a time.
const ALIVE: &str = "127.0.0.2";

/// A port of [`ALIVE`] on which somebody listens.
fn listener() -> (TcpListener, u16) {
    let listener = TcpListener::bind((ALIVE, 0)).unwrap();
    let port = listener.local_addr().unwrap().port();
    (listener, port)
}

/// A port on which nobody listens.
fn free_port() -> u16 {
    listener().1
}

/// An address that answers no SYN: a listener whose queue is full. The connections that fill it must stay.
fn silent_port() -> (socket2::Socket, Vec<socket2::Socket>, u16) {
    use socket2::{Domain, Socket, Type};
    let listener = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    listener.bind(&std::net::SocketAddr::from((Ipv4Addr::LOCALHOST, 0)).into()).unwrap();
    listener.listen(0).unwrap();
    let address = listener.local_addr().unwrap();
    let fill = (0..4).map(|_| {
        let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
        socket.set_nonblocking(true).unwrap();
        let _ = socket.connect(&address);
        socket
    });
    let fill: Vec<Socket> = fill.collect();
    std::thread::sleep(Duration::from_millis(50));
    let port = address.as_socket().unwrap().port();
    (listener, fill, port)
}

#[tokio::test(flavor = "multi_thread")]
async fn every_question_of_the_contract_is_answered() {
    let (_dir, bus) = bus();
    let (_device, port) = listener();
    let service = Service::start(&bus.socket, &[modbus_client("bms", ALIVE, port)], &Options::default());
    let topology = service.ready().await;
    let id = format!("modbus_{ALIVE}_{port}");
    assert_eq!(topology["endpoints"][0]["endpoint_id"], *id);
    assert_eq!(topology["endpoints"][0]["interface"], "lo");
    let status = service.get("/status").await;
    assert_eq!(status["version"], env!("CARGO_PKG_VERSION"));
    assert_eq!(service.get("").await["version"], status["version"]);
    assert_eq!(service.get("/summary").await["endpoints_total"], 1);
    assert_eq!(service.get(&format!("/topology/endpoints/{id}")).await["port"], port);
    assert_eq!(service.get("/jobs").await, json!([]));
    let result = service.test("true").await;
    let job_id = result["job_id"].as_str().unwrap();
    assert_eq!(endpoint(&result, &id)["verdict"], "ok");
    assert_eq!(service.get(&format!("/jobs/{job_id}/endpoints/{id}")).await, *endpoint(&result, &id));
    let job = service.get(&format!("/jobs/{job_id}")).await;
    assert_eq!(
        (&job["state"], &job["progress"], &job["summary"]["text"]),
        (&json!("succeeded"), &json!(1.0), &json!("all 1 endpoints ok"))
    );
    assert_eq!(job["requested_by"].as_str().unwrap().split(' ').next(), Some("asker"));
    assert_eq!(service.get("/jobs").await[0]["job_id"], *job_id);
    let summary = service.get("/summary").await;
    assert_eq!((&summary["endpoints_ok"], &summary["last_result"]), (&json!(1), &json!("all 1 endpoints ok")));
    assert_eq!(service.ask("set", "/topology/rescan", Some("true")).await["endpoints"], 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_wrong_is_refused_by_name_and_starts_nothing() {
    let (_dir, bus) = bus();
    let service = Service::start(&bus.socket, &[modbus_client("bms", "127.0.0.1", free_port())], &Options::default());
    service.ready().await;
    for (method, path, body, code, field) in [
        ("set", "/connectivity/start", Some(r#"{"pign": true}"#), "bad_request", Some("pign")),
        ("set", "/connectivity/start", Some(r#"{"ping_count": 0}"#), "bad_request", Some("ping_count")),
        ("set", "/connectivity/start", Some(r#"{"targets": ["10.9.9.9"]}"#), "bad_request", Some("targets")),
        ("set", "/connectivity/start", Some("{not json"), "bad_request", None),
        ("set", "/connectivity/start", None, "bad_request", None),
        ("set", "/connectivity/start", Some("false"), "bad_request", None),
        ("set", "/capture/start", Some(r#"{"duration": 5}"#), "bad_request", Some("duration")),
        ("set", "/monitor/enabled", Some("1"), "bad_request", None),
        ("set", "/monitor/settings", Some(r#"{"snapshot": 5}"#), "bad_request", Some("snapshot")),
        ("set", "/monitor/settings", Some(r#"{"overlap_s": 500}"#), "bad_request", Some("overlap_s")),
        ("set", "/monitor/trigger", Some("true"), "unavailable", None),
        ("get", "/monitor/snapshots/nothing", None, "not_found", None),
        ("get", "/jobs/no-such-job", None, "not_found", None),
        ("get", "/jobs/../../etc/passwd/result", None, "not_found", None),
        ("set", "/jobs/no-such-job/cancel", Some("true"), "not_found", None),
        ("get", "/no/such/uri", None, "not_found", None),
        ("del", "/jobs", None, "bad_request", None),
    ] {
        let reply = service.ask(method, path, body).await;
        assert_eq!(reply["error"]["code"], code, "{method} {path} {body:?}: {reply}");
        assert_eq!(reply["error"]["field"].as_str(), field, "{method} {path} {body:?}: {reply}");
    }
    let deep = format!("{}{}", "[".repeat(5000), "]".repeat(5000));
    assert_eq!(service.ask("set", "/connectivity/start", Some(&deep)).await["error"]["code"], "bad_request");
    assert_eq!(service.get("/jobs").await, json!([]), "something was started");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_button_and_clothed_bodies_start_a_test() {
    let (_dir, bus) = bus();
    let (_device, port) = listener();
    let service = Service::start(&bus.socket, &[modbus_client("bms", ALIVE, port)], &Options::default());
    service.ready().await;
    for (path, body) in [
        ("/summary/run_connectivity_test", "true"),
        ("/connectivity/start", r#"{"value": true}"#),
        ("/connectivity/start", r#"{"settle_ms": {"value": 0}, "ping": {"value": false}}"#),
    ] {
        let accepted = service.ask("set", path, Some(body)).await;
        assert_eq!(accepted["state"], "queued", "{path} {body}: {accepted}");
        let job_id = accepted["job_id"].as_str().unwrap();
        assert_eq!(accepted["uri"], format!("/netdiag/jobs/{job_id}"));
        service.job_in(job_id, &["succeeded"], Duration::from_secs(20)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_test_is_told_as_it_goes() {
    let (_dir, bus) = bus();
    let (_device, open) = listener();
    let closed = free_port();
    let mut heard = bus.listen("/netdiag").await;
    let mut events = bus.listen("/events").await;
    let configs = [modbus_client("bms", ALIVE, open), modbus_client("pcs", "127.0.0.1", closed)];
    let service = Service::start(&bus.socket, &configs, &Options::default());
    service.ready().await;
    let job_id = service.start_test(r#"{"settle_ms": 100}"#).await;
    let (mut states, mut endpoints, mut results) = (Vec::new(), Vec::new(), 0);
    let deadline = Instant::now() + PATIENCE;
    while results == 0 || states.last().map(String::as_str) != Some("succeeded") {
        let left = deadline.saturating_duration_since(Instant::now());
        let message = tokio::time::timeout(left, heard.recv()).await.expect("all is told in time").unwrap();
        if message.method != "pub" {
            continue;
        }
        let body: Value = serde_json::from_slice(message.body.as_deref().unwrap()).unwrap();
        let path = message.uri.strip_prefix("/netdiag").unwrap();
        validate(netdiag::api::reply_schema("pub", path).unwrap_or_else(|| panic!("unknown publication {path}")), &body);
        match path.strip_prefix(&format!("/jobs/{job_id}")) {
            Some("") => states.push(body["state"].as_str().unwrap().to_owned()),
            Some("/result") => results += 1,
            Some(_) => endpoints.push(body["endpoint_id"].as_str().unwrap().to_owned()),
            None => {}
        }
    }
    endpoints.sort();
    let mut expected = [format!("modbus_{ALIVE}_{open}"), format!("modbus_127.0.0.1_{closed}")];
    expected.sort();
    assert_eq!(endpoints, expected);
    assert_eq!(results, 1);
    states.dedup();
    assert_eq!(states, ["queued", "running", "succeeded"]);
    loop {
        let event = tokio::time::timeout(PATIENCE, events.recv()).await.expect("an alarm").unwrap();
        assert_eq!((event.method.as_str(), event.uri.as_str()), ("post", "/events"));
        let event: Value = serde_json::from_slice(event.body.as_deref().unwrap()).unwrap();
        validate("event", &event);
        assert_eq!(event["source"], "netdiag");
        if event["severity"] == 3 {
            assert_eq!(event["message"], "connectivity test: 1 of 2 endpoints ok, 1 failed");
            break;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_test_waits_one_too_many_is_refused_and_a_cancel_is_quick() {
    let (_dir, bus) = bus();
    let (_listener, _fill, silent) = silent_port();
    let options = Options { settings: json!({"jobs_queued": 2}), ..Options::default() };
    let (_device, open) = listener();
    let configs = [modbus_client("dead", "127.0.0.1", silent), modbus_client("bms", ALIVE, open)];
    let service = Service::start(&bus.socket, &configs, &options);
    service.ready().await;
    let body = r#"{"timeout_ms": 30000, "settle_ms": 0, "ping": false}"#;
    let running = service.start_test(body).await;
    service.job_in(&running, &["running"], Duration::from_secs(5)).await;
    let waiting = [service.start_test(body).await, service.start_test(body).await];
    let refused = service.ask("set", "/connectivity/start", Some(body)).await;
    assert_eq!(refused["error"]["code"], "busy", "{refused}");
    assert_eq!(service.get(&format!("/jobs/{}", waiting[0])).await["state"], "queued");
    // Let the healthy endpoint be decided, then cancel in the middle of the connect that will not end.
    let healthy = format!("/jobs/{running}/endpoints/modbus_{ALIVE}_{open}");
    let deadline = Instant::now() + PATIENCE;
    while is_refusal(&service.ask("get", &healthy, None).await) {
        assert!(Instant::now() < deadline);
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    for job_id in &waiting {
        let job = service.ask("set", &format!("/jobs/{job_id}/cancel"), Some("true")).await;
        assert_eq!((&job["job_id"], &job["state"]), (&json!(job_id), &json!("cancelled")));
    }
    // The clock of the service is the clock of this test.
    let asked_at = UtcTime::from(SystemTime::now());
    service.ask("set", &format!("/jobs/{running}/cancel"), Some("true")).await;
    let job = service.job_in(&running, &["cancelled"], Duration::from_secs(2)).await;
    let took_s = job["finished_at"].as_str().unwrap().parse::<UtcTime>().unwrap().seconds_since(asked_at);
    println!("cancelled after {took_s} s");
    assert!(took_s < QUICK_S, "cancelled after {took_s} s");
    let result = service.get(&format!("/jobs/{running}/result")).await;
    assert_eq!(result["complete"], false);
    assert_eq!(endpoint(&result, &format!("modbus_{ALIVE}_{open}"))["verdict"], "ok");
    for job_id in &waiting {
        assert_eq!(service.get(&format!("/jobs/{job_id}")).await["state"], "cancelled");
    }
    assert_eq!(service.ask("set", &format!("/jobs/{running}/cancel"), Some("true")).await["error"]["code"], "bad_request");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sigterm_in_mid_test_keeps_what_was_found() {
    let (_dir, bus) = bus();
    let (_listener, _fill, silent) = silent_port();
    let (_device, open) = listener();
    let configs = [modbus_client("dead", "127.0.0.1", silent), modbus_client("bms", ALIVE, open)];
    let mut service = Service::start(&bus.socket, &configs, &Options::default());
    service.ready().await;
    let job_id = service.start_test(r#"{"timeout_ms": 30000, "settle_ms": 0}"#).await;
    let waiting = service.start_test("true").await;
    let healthy = format!("/jobs/{job_id}/endpoints/modbus_{ALIVE}_{open}");
    let deadline = Instant::now() + PATIENCE;
    while is_refusal(&service.ask("get", &healthy, None).await) {
        assert!(Instant::now() < deadline);
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    service.signal(Signal::SIGTERM);
    assert_eq!(service.wait(Duration::from_secs(5)).await, Some(0));
    service.restart();
    service.ready().await;
    let job = service.get(&format!("/jobs/{job_id}")).await;
    assert_eq!(job["state"], "interrupted", "{job:#}");
    assert_eq!(service.get(&format!("/jobs/{waiting}")).await["state"], "interrupted");
    let result = service.get(&format!("/jobs/{job_id}/result")).await;
    assert_eq!(result["complete"], false);
    assert_eq!(endpoint(&result, &format!("modbus_{ALIVE}_{open}"))["verdict"], "ok");
}

#[tokio::test(flavor = "multi_thread")]
async fn after_a_sigkill_the_next_start_knows_what_had_finished() {
    let (_dir, bus) = bus();
    let (_listener, _fill, silent) = silent_port();
    let mut service = Service::start(&bus.socket, &[modbus_client("dead", "127.0.0.1", silent)], &Options::default());
    service.ready().await;
    let finished = service.test(r#"{"timeout_ms": 200, "settle_ms": 0, "ping": false}"#).await;
    let running = service.start_test(r#"{"timeout_ms": 30000}"#).await;
    service.job_in(&running, &["running"], Duration::from_secs(5)).await;
    // The record is written by a thread of its own; the state on disk follows within moments.
    for (job_id, state) in [(finished["job_id"].as_str().unwrap(), "succeeded"), (&running, "running")] {
        let record = service.dir.path().join("state/jobs").join(job_id).join("job.json");
        let deadline = Instant::now() + PATIENCE;
        while !std::fs::read_to_string(&record).unwrap_or_default().contains(state) {
            assert!(Instant::now() < deadline, "the record is not written");
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }
    service.signal(Signal::SIGKILL);
    assert_eq!(service.wait(Duration::from_secs(5)).await, None);
    service.restart();
    service.ready().await;
    let finished_id = finished["job_id"].as_str().unwrap();
    assert_eq!(service.get(&format!("/jobs/{finished_id}")).await["state"], "succeeded");
    assert_eq!(service.get(&format!("/jobs/{finished_id}/result")).await, finished, "the result is as it was");
    let job = service.get(&format!("/jobs/{running}")).await;
    assert_eq!(job["state"], "interrupted");
    assert!(job["error"].as_str().unwrap().contains("the service ended"));
    assert_eq!(service.get("/status").await["jobs_running"], 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_broker_that_restarts_in_mid_test_costs_nothing_but_messages() {
    let (dir, bus) = bus();
    let (_listener, _fill, silent) = silent_port();
    let service = Service::start(&bus.socket, &[modbus_client("dead", "127.0.0.1", silent)], &Options::default());
    service.ready().await;
    let job_id = service.start_test(r#"{"timeout_ms": 1500, "settle_ms": 0, "ping": false}"#).await;
    service.job_in(&job_id, &["running"], Duration::from_secs(5)).await;
    bus.stop().await;
    tokio::time::sleep(Duration::from_millis(300)).await;
    let _again = Bus::start(&dir.path().join("fims"));
    service.ready().await;
    let job = service.job_in(&job_id, &["succeeded", "failed"], Duration::from_secs(15)).await;
    assert_eq!(job["state"], "succeeded", "{job:#}");
    let result = service.get(&format!("/jobs/{job_id}/result")).await;
    assert_eq!(endpoint(&result, &format!("modbus_127.0.0.1_{silent}"))["connect"]["state"], "timed_out");
    assert!(service.get("/status").await["bus"]["reconnects"].as_u64() >= Some(1));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cancel_is_quick_while_settling_and_while_capturing() {
    let (_dir, bus) = bus();
    let (_device, open) = listener();
    let service = Service::start(&bus.socket, &[modbus_client("bms", ALIVE, open)], &Options::default());
    service.ready().await;
    let test = service.start_test(r#"{"settle_ms": 30000, "ping": false}"#).await;
    let mut cases = vec![(test, "settling")];
    if service.get("/status").await["capabilities"]["capture"]["available"] == true {
        let accepted = service.ask("set", "/capture/start", Some(r#"{"duration_s": 60}"#)).await;
        cases.push((accepted["job_id"].as_str().unwrap().to_owned(), "capturing"));
    }
    for (job_id, phase) in cases {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let job = service.get(&format!("/jobs/{job_id}")).await;
            if job["phase"] == phase {
                break;
            }
            assert!(Instant::now() < deadline, "never {phase}: {job:#}");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        let asked_at = UtcTime::from(SystemTime::now());
        service.ask("set", &format!("/jobs/{job_id}/cancel"), Some("true")).await;
        let job = service.job_in(&job_id, &["cancelled"], Duration::from_secs(2)).await;
        let took_s = job["finished_at"].as_str().unwrap().parse::<UtcTime>().unwrap().seconds_since(asked_at);
        println!("cancelled while {phase} after {took_s} s");
        assert!(took_s < QUICK_S, "cancelled while {phase} after {took_s} s");
        if phase == "settling" {
            assert_eq!(service.get(&format!("/jobs/{job_id}/result")).await["complete"], false);
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_capture_of_everything_follows_the_way_to_extra_endpoints() {
    let (_dir, bus) = bus();
    let extra = json!([{"address": ALIVE, "port": free_port(), "protocol": "modbus"}]);
    let options = Options { settings: json!({"extra_endpoints": extra}), ..Options::default() };
    let service = Service::start(&bus.socket, &[modbus_server("ems", "127.0.0.9", free_port())], &options);
    service.ready().await;
    if service.get("/status").await["capabilities"]["capture"]["available"] != true {
        assert!(!nix::unistd::geteuid().is_root() || !cfg!(feature = "libpcap"), "root may capture");
        needs::missing("no right to capture");
        return;
    }
    // The config that alone led to an interface is gone; nobody asked for a rescan.
    std::fs::remove_dir_all(service.dir.path().join("config/modbus_server")).unwrap();
    let accepted = service.ask("set", "/capture/start", Some(r#"{"duration_s": 1}"#)).await;
    let job_id = accepted["job_id"].as_str().unwrap();
    let job = service.job_in(job_id, &["succeeded", "failed"], Duration::from_secs(10)).await;
    assert_eq!(job["state"], "succeeded", "{job:#}");
    let recorded = service.dir.path().join("state/jobs").join(job_id).join("result.json");
    let result: Value = serde_json::from_slice(&std::fs::read(recorded).unwrap()).unwrap();
    assert_eq!(result["interfaces"][0]["name"], "lo", "{result:#}");
    assert!(result["filter"].as_str().unwrap().contains(ALIVE), "{result:#}");
    assert!(!result["filter"].as_str().unwrap().contains("127.0.0.9"), "a config that is gone: {result:#}");
}

/// 10,000 malformed messages and a flood of requests, with a supervisor that must be answered all the while.
#[tokio::test(flavor = "multi_thread")]
async fn garbage_and_a_flood_hold_up_no_answer_and_leave_no_memory_behind() {
    let (_dir, bus) = bus();
    let service = Service::start(&bus.socket, &[modbus_client("bms", "127.0.0.1", free_port())], &Options::default());
    service.ready().await;
    let supervisor = tokio::spawn(supervise(bus.socket.clone(), Duration::from_secs(8)));
    flood(&bus, 2_000).await;
    let before = service.memory_bytes();
    flood(&bus, 10_000).await;
    let mut asker = Asker::connect(&bus.socket, "/netdiag").await;
    let (_, took) = asker.insist("/status").await;
    assert!(took < SUPERVISOR_KILLS, "status came after {took:?}");
    let grown = service.memory_bytes().saturating_sub(before);
    assert!(grown < 16 << 20, "memory has grown by {grown} bytes");
    let waited = supervisor.await.unwrap();
    // A machine that stalls keeps it waiting now and then.
    let long = waited.iter().filter(|waited| **waited >= Duration::from_secs(3)).count();
    assert!(long * 5 <= waited.len(), "the supervisor waited {waited:?}");
    // The commands between the garbage have started tests, and all of them come to an end; garbage starts nothing else.
    let deadline = Instant::now() + PATIENCE;
    while service.get("/status").await["jobs_running"] != 0 {
        assert!(Instant::now() < deadline, "jobs do not end");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    let jobs = service.get("/jobs").await;
    let jobs = jobs.as_array().unwrap();
    assert!(!jobs.is_empty());
    for job in jobs {
        assert_eq!((&job["kind"], &job["request"]["settle_ms"]), (&json!("connectivity"), &json!(0)), "{job:#}");
        assert!(["succeeded", "cancelled"].contains(&job["state"].as_str().unwrap()), "{job:#}");
    }
}

/// Malformed messages of many kinds, with requests between them whose answers are not waited for.
async fn flood(bus: &Bus, count: usize) {
    let (client, mut answers) = fims::connect(ClientOptions {
        subscriptions: vec![Subscription::all("/flood")],
        ..ClientOptions::new(bus.socket.clone(), "flood".to_owned())
    });
    connected(&client).await;
    // Every other job that a command of the flood started is cancelled at once.
    let canceller = client.clone();
    let drain = tokio::spawn(async move {
        let mut started = 0;
        while let Some(answer) = answers.recv().await {
            let body: Value = serde_json::from_slice(answer.body.as_deref().unwrap_or_default()).unwrap_or_default();
            if let Some(job_id) = body["job_id"].as_str().filter(|_| body["state"] == "queued" && body["uri"].is_string()) {
                started += 1;
                let uri = format!("/netdiag/jobs/{job_id}/cancel");
                if started % 2 == 0 {
                    let _ = canceller.send(Message { body: Some(b"true".to_vec()), ..Message::new("set", uri) });
                }
            }
        }
    });
    let bodies: [&[u8]; 8] = [
        b"",
        b"{",
        b"\xff\xfe\x00",
        b"{\"pign\":1}",
        b"[[[[[[[[[[",
        b"nan",
        b"{\"ping\":{\"value\":{\"value\":1}}}",
        b"12345678901234567890123",
    ];
    let uris = [
        "/netdiag/connectivity/start",
        "/netdiag/capture/start",
        "/netdiag/jobs/x/cancel",
        "/netdiag/cops/cops_heartbeat",
        "/netdiag/zzz",
    ];
    for number in 0..count {
        let malformed = Message {
            method: if number % 7 == 0 { "xyzzy" } else { "set" }.to_owned(),
            uri: uris[number % uris.len()].to_owned(),
            replyto: Some("/flood/reply".to_owned()),
            process_name: "flood".to_owned(),
            username: None,
            body: Some(bodies[number % bodies.len()].to_vec()),
        };
        let question = Message {
            method: "get".to_owned(),
            uri: ["/netdiag/status", "/netdiag/topology", "/netdiag/jobs"][number % 3].to_owned(),
            body: None,
            ..malformed.clone()
        };
        let command = (number % 50 == 0).then(|| {
            let (uri, body): (_, &[u8]) = match number % 100 {
                0 => ("/netdiag/topology/rescan", b"true"),
                _ => ("/netdiag/connectivity/start", br#"{"settle_ms": 0, "ping": false, "capture": false}"#),
            };
            Message { uri: uri.to_owned(), method: "set".to_owned(), body: Some(body.to_vec()), ..malformed.clone() }
        });
        for message in [malformed, question].into_iter().chain(command) {
            while client.send(message.clone()).is_err() {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        }
    }
    client.close().await;
    drain.abort();
}

/// From then on the supervisor takes the service for dead.
const SUPERVISOR_KILLS: Duration = Duration::from_secs(10);

/// Plays the process supervisor: every 250 ms a heartbeat and a question; returns how long each answer took.
async fn supervise(socket: std::path::PathBuf, time: Duration) -> Vec<Duration> {
    let mut asker = Asker::connect(&socket, "/netdiag").await;
    let (client, _incoming) = fims::connect(ClientOptions::new(socket, "cops".to_owned()));
    connected(&client).await;
    let (end, mut waited) = (Instant::now() + time, Vec::new());
    let mut heartbeat = 0_u64;
    while Instant::now() < end {
        heartbeat += 1;
        let message = Message {
            method: "set".to_owned(),
            uri: "/netdiag/cops/cops_heartbeat".to_owned(),
            replyto: None,
            process_name: "cops".to_owned(),
            username: None,
            body: Some(heartbeat.to_string().into_bytes()),
        };
        let asked = Instant::now();
        loop {
            // The bus may lose a message when a queue is full; the real supervisor says it again a second later.
            client.send(message.clone()).unwrap();
            let (answer, _) = asker.insist("/cops").await;
            if answer["cops_heartbeat"] == heartbeat {
                break;
            }
            assert!(asked.elapsed() < SUPERVISOR_KILLS, "the supervisor would have killed it: {answer}");
        }
        waited.push(asked.elapsed());
        tokio::time::sleep(Duration::from_millis(250)).await;
    }
    waited
}

#[tokio::test(flavor = "multi_thread")]
async fn two_services_do_not_share_a_state_directory() {
    let (_dir, bus) = bus();
    let service = Service::start(&bus.socket, &[modbus_server("ems", "127.0.0.1", free_port())], &Options::default());
    service.ready().await;
    let second = std::process::Command::new(env!("CARGO_BIN_EXE_netdiag"))
        .args(["serve", "--settings"])
        .arg(service.dir.path().join("settings.json"))
        .output()
        .unwrap();
    assert_eq!(second.status.code(), Some(3));
    assert!(String::from_utf8_lossy(&second.stderr).contains("another netdiag"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_port_of_ours_is_judged_by_the_socket_table() {
    let (_dir, bus) = bus();
    let (listening, port) = listener();
    let closed = free_port();
    let peer = std::net::TcpStream::connect((ALIVE, port)).unwrap();
    let configs = [modbus_server("ems", ALIVE, port), modbus_server("fleet", "0.0.0.0", closed)];
    let service = Service::start(&bus.socket, &configs, &Options::default());
    service.ready().await;
    let result = service.test(r#"{"settle_ms": 0}"#).await;
    let ours = endpoint(&result, &format!("modbus_listen_{ALIVE}_{port}"));
    assert_eq!(
        (&ours["verdict"], &ours["kernel"]["listening"], &ours["kernel"]["established"]),
        (&json!("ok"), &json!(true), &json!(1))
    );
    assert_eq!(ours["kernel"]["peers"][0], peer.local_addr().unwrap().to_string());
    assert_eq!((&ours["connect"]["state"], &ours["ping"]["state"]), (&json!("skipped"), &json!("not_requested")));
    assert_eq!(endpoint(&result, &format!("modbus_listen_0.0.0.0_{closed}"))["verdict"], "failed");
    drop(listening);
}
