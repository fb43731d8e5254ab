//! The real binary on a site of network namespaces, with real devices: every verdict, and that nobody is harmed.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod support;

use netdiag::lab::{Behaviour, DeviceSpec, InboundSpec, Placement, PollSettings, Rejection, Site, SiteBuilder};
use serde_json::{Value, json};
use std::{
    io::Write as _,
    os::unix::fs::PermissionsExt as _,
    process::Command,
    time::{Duration, Instant},
};
use support::{
    peers::Peers,
    private_network,
    service::{Bus, Options, Service, named},
    wait_until,
};

const PATIENCE: Duration = Duration::from_secs(60);

/// Runs a test on a bus of its own, in the network of the calling thread.
fn on_a_bus<F: Future<Output = ()>>(test: impl FnOnce(Bus) -> F) {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    let dir = tempfile::tempdir().unwrap();
    std::fs::set_permissions(dir.path(), std::fs::Permissions::from_mode(0o755)).unwrap();
    runtime.block_on(async { test(Bus::start(&dir.path().join("fims"))).await });
}

fn site(devices: Vec<DeviceSpec>) -> Site {
    private_network();
    let polling = PollSettings { timeout: PATIENCE, ..PollSettings::default() };
    let site = SiteBuilder::new(Placement::Namespaces).devices(devices).polling(polling).build().unwrap();
    assert!(site.wait_for_sessions(PATIENCE), "the site's own sessions do not begin");
    site
}

fn assert_verdict(result: &Value, name: &str, verdict: &str, because: &str) {
    let endpoint = named(result, name);
    assert_eq!(endpoint["verdict"], verdict, "{name}: {endpoint:#}");
    let reason = endpoint["reason"].as_str().unwrap();
    assert!(reason.contains(because), "{name}: `{reason}` does not say `{because}`\n{endpoint:#}");
}

/// What `tshark` counts in a capture file under a display filter; `None`, loudly, where it is not installed.
fn tshark(file: &str, filter: &str) -> Option<usize> {
    let output = Command::new("tshark").args(["-n", "-r", file, "-Y", filter, "-T", "fields", "-e", "frame.number"]).output();
    match output {
        Ok(output) => {
            assert!(output.status.success(), "tshark cannot read {file}: {}", String::from_utf8_lossy(&output.stderr));
            Some(String::from_utf8_lossy(&output.stdout).lines().filter(|line| !line.is_empty()).count())
        }
        Err(error) => {
            assert!(std::env::var_os("CI").is_none(), "tshark is needed: {error}");
            let _ = writeln!(std::io::stderr(), "\n*** SKIPPED the second opinion on {file}: tshark: {error}\n");
            None
        }
    }
}

#[test]
fn every_verdict_on_a_site_of_real_devices() {
    private_network();
    let peers = Peers::find();
    let real = |spec: DeviceSpec| if peers.is_some() { spec } else { DeviceSpec { behaviour: Behaviour::Healthy, ..spec } };
    let modbus = DeviceSpec::modbus;
    let site = SiteBuilder::new(Placement::Namespaces)
        .devices([
            real(modbus("bms", Behaviour::Hosted).with_units([1, 5])),
            modbus("refuses", Behaviour::RefusesPort),
            modbus("drops", Behaviour::DropsConnections),
            modbus("absent", Behaviour::NoArp),
            modbus("mute", Behaviour::BlocksPing),
            modbus("prohibited", Behaviour::Rejected(Rejection::Prohibited)),
            modbus("no_way", Behaviour::Rejected(Rejection::HostUnreachable)),
            modbus("swallowed", Behaviour::Rejected(Rejection::Blackhole)),
            modbus("far", Behaviour::Healthy).behind_router(),
            modbus("exceptions", Behaviour::Exceptions { registers: 20..=29, code: 2 }).with_session(),
            modbus("silent", Behaviour::NeverAnswers).with_session(),
            modbus("slow", Behaviour::Slow(Duration::from_millis(700))).with_session(),
            modbus("resets", Behaviour::ResetsOnAccept),
            real(DeviceSpec::dnp3("relay", Behaviour::Hosted)),
            DeviceSpec::dnp3("idle_relay", Behaviour::Healthy),
            DeviceSpec::dnp3("absent_relay", Behaviour::NoArp),
        ])
        .inbound(InboundSpec::modbus("fleet", 2502))
        .inbound(InboundSpec::modbus("unused", 2503).unused())
        .inbound(InboundSpec::modbus("stopped", 2504).not_started())
        .inbound(InboundSpec::dnp3("scada", 20_001))
        .polling(PollSettings {
            timeout: Duration::from_millis(1500),
            reconnect_after: Duration::from_millis(200),
            ..PollSettings::default()
        })
        .build()
        .unwrap();
    let relay = site.device("relay").unwrap();
    let bms = site.device("bms").unwrap();
    let running = peers.as_ref().map(|peers| {
        let options = ["--unit", "1", "--unit", "5"];
        let server = peers.start(bms.namespace().unwrap(), "modbus_server.py", bms.socket_address(), &options);
        let outstation = peers.start(relay.namespace().unwrap(), "dnp3_outstation.py", relay.socket_address(), &[]);
        let master = peers.start(site.controller(), "dnp3_master.py", relay.socket_address(), &["--period-ms", "300"]);
        master.wait_for("a poll", Duration::from_secs(10), |event| event["event"] == "task" && event["kind"] == "USER_TASK");
        (server, outstation, master)
    });
    assert!(site.wait_for_sessions(PATIENCE));
    on_a_bus(async |bus| {
        // A machine that stalls makes no port slow, nor an answer that comes at once.
        let settings = json!({"slow_connect_ms": 20_000, "slow_response_ms": 500});
        let service = Service::start_on_site(&bus.socket, &site, &Options { settings, ..Options::default() });
        service.ready().await;
        let began = Instant::now();
        let result = service.test(r#"{"settle_ms": 2500}"#).await;
        assert!(began.elapsed() < PATIENCE, "{:?}", began.elapsed());
        assert_eq!(result["problems"], json!([]), "{result:#}");
        for (name, verdict, because) in [
            ("bms", "ok", "port 502 opens in"),
            ("refuses", "failed", "refused the connection (RST)"),
            ("drops", "failed", "unanswered while the host answers ping"),
            ("absent", "failed", "no ARP answer"),
            ("mute", "ok", "ping is not answered"),
            ("prohibited", "failed", "router 10.77.0.254 says:"),
            ("no_way", "failed", "router 10.77.0.254 says:"),
            ("swallowed", "failed", "unanswered: filtered on the way"),
            ("far", "ok", "opens in"),
            ("exceptions", "degraded", "exceptions"),
            ("silent", "degraded", "got no response"),
            ("slow", "degraded", "took 0.5 s or more"),
            ("resets", "failed", "reset at once"),
            ("idle_relay", "unknown", "no session to see; the host answers ping"),
            ("absent_relay", "failed", "no ARP answer"),
            ("fleet", "ok", "1 peer connected"),
            ("unused", "ok", "nobody is connected"),
            ("stopped", "failed", "not running"),
            ("scada", "ok", "1 peer connected"),
        ] {
            assert_verdict(&result, name, verdict, because);
        }
        if running.is_some() {
            assert_verdict(&result, "relay", "ok", "live traffic is answered");
        }
        assert_eq!(named(&result, "relay")["connect"]["state"], "skipped");
        assert_eq!(result["counts"]["total"], 20);
        assert_eq!(result["capture"]["kernel_dropped"], 0);
        // The evidence names packets that Wireshark shows at the same numbers.
        let refused = named(&result, "refuses");
        let finding = refused["findings"].as_array().unwrap().iter().find(|finding| finding["code"] == "tcp.refused").unwrap();
        let packet = finding["packets"][0].as_u64().unwrap();
        let file = result["capture"]["file"].as_str().unwrap();
        let address = refused["address"].as_str().unwrap();
        if let Some(count) = tshark(file, &format!("frame.number == {packet} && tcp.port == 502 && ip.addr == {address}")) {
            assert_eq!(count, 1, "packet {packet} is not about {address}");
        }
        for name in ["bms", "far", "mute"] {
            assert_graceful(&result, name);
        }
    });
    if let Some((_, _, master)) = running {
        // The real master's session: opened once, never lost, and still polling.
        let polls = master.count(|event| event["event"] == "task");
        master.wait_for_count("another poll", Duration::from_secs(5), polls + 1, |event| event["event"] == "task");
        assert_eq!((master.channel_states("OPEN"), master.channel_states("CLOSED")), (1, 0), "{:#?}", master.events());
    }
    assert_eq!(site.device("idle_relay").unwrap().stats().connections, 0, "nobody connected to it");
}

/// The probe's connection was closed with FIN from both sides and never reset, by our count and by tshark's.
fn assert_graceful(result: &Value, name: &str) {
    let endpoint = named(result, name);
    assert_eq!(endpoint["wire"]["rst"], 0, "{endpoint:#}");
    assert!(endpoint["wire"]["fin"].as_u64() >= Some(2), "{endpoint:#}");
    let (file, address) = (result["capture"]["file"].as_str().unwrap(), endpoint["address"].as_str().unwrap());
    let count = |filter: &str| tshark(file, &format!("ip.addr == {address} && {filter}"));
    if let Some(resets) = count("tcp.flags.reset == 1") {
        assert_eq!(resets, 0, "{name}");
        assert!(count(&format!("tcp.flags.fin == 1 && ip.dst == {address}")) >= Some(1), "{name}: our FIN is not on the wire");
    }
}

#[test]
fn the_master_of_an_old_outstation_is_disturbed_only_when_the_request_says_so() {
    let site = site(vec![DeviceSpec::dnp3("relay", Behaviour::Healthy).with_session()]);
    let relay = site.device("relay").unwrap();
    on_a_bus(async |bus| {
        let service = Service::start_on_site(&bus.socket, &site, &Options::default());
        service.ready().await;
        let result = service.test(r#"{"settle_ms": 1500, "connect_attempts": 3}"#).await;
        assert_verdict(&result, "relay", "ok", "live traffic is answered");
        let wire = &named(&result, "relay")["wire"];
        assert_eq!((&wire["syn"], &wire["rst"], &wire["fin"]), (&json!(0), &json!(0), &json!(0)), "{wire:#}");
        assert!(wire["dnp3"]["responses"].as_u64() >= Some(1), "{wire:#}");
        let (stats, session) = (relay.stats(), relay.session().unwrap());
        assert_eq!((stats.connections, stats.thrown_out), (1, 0), "{stats:?}");
        assert_eq!((session.connects, session.disconnects, session.timeouts), (1, 0, 0), "{session:?}");

        let result = service.test(r#"{"dnp3_connect": true, "settle_ms": 200}"#).await;
        assert_eq!(named(&result, "relay")["connect"]["state"], "open", "{result:#}");
        wait_until("the outstation throws its master out", Duration::from_secs(3), || relay.stats().thrown_out > 0);
    });
}

#[test]
fn without_the_right_to_capture_the_test_runs_and_says_so() {
    let site = site(vec![
        DeviceSpec::modbus("bms", Behaviour::Healthy),
        DeviceSpec::modbus("refuses", Behaviour::RefusesPort),
        DeviceSpec::modbus("absent", Behaviour::NoArp),
        DeviceSpec::dnp3("relay", Behaviour::Healthy).with_session(),
    ]);
    on_a_bus(async |bus| {
        let service = Service::start_on_site(&bus.socket, &site, &Options { unprivileged: true, ..Options::default() });
        service.ready().await;
        let status = service.get("/status").await;
        assert_eq!((&status["state"], &status["capabilities"]["capture"]["available"]), (&json!("degraded"), &json!(false)));
        let reason = status["capabilities"]["capture"]["reason"].as_str().unwrap();
        assert!(reason.to_lowercase().contains("cap_net_raw"), "the reason says what to do: {reason}");
        let result = service.test("true").await;
        assert_eq!((&result["complete"], &result["capture"]), (&json!(true), &Value::Null));
        assert!(
            result["problems"].as_array().unwrap().iter().any(|problem| problem.as_str().unwrap().contains("nothing was captured"))
        );
        assert_verdict(&result, "bms", "ok", "opens");
        assert_verdict(&result, "refuses", "failed", "RST");
        assert_verdict(&result, "absent", "failed", "no ARP answer by this host's neighbour table");
        assert_verdict(&result, "relay", "ok", "1 session established");
        assert_eq!(named(&result, "bms")["wire"], Value::Null);
    });
}

#[test]
fn traffic_is_captured_on_request_into_a_file_that_wireshark_opens() {
    let site = site(vec![DeviceSpec::modbus("bms", Behaviour::Healthy).with_session()]);
    on_a_bus(async |bus| {
        let service = Service::start_on_site(&bus.socket, &site, &Options::default());
        service.ready().await;
        let accepted = service.ask("set", "/capture/start", Some(r#"{"duration_s": 4}"#)).await;
        let job_id = accepted["job_id"].as_str().unwrap();
        let job = service.job_in(job_id, &["succeeded", "failed"], Duration::from_secs(10)).await;
        assert_eq!(job["state"], "succeeded", "{job:#}");
        let capture = &job["summary"]["capture"];
        assert!(capture["packets"].as_u64() >= Some(4), "{job:#}");
        let file = capture["file"].as_str().unwrap();
        if let Some(requests) = tshark(file, "modbus && tcp.dstport == 502") {
            assert!(requests >= 2);
            assert_eq!(tshark(file, "frame").map(|count| count as u64), capture["packets"].as_u64());
        }
        let wrong = service.ask("set", "/capture/start", Some(r#"{"interfaces": ["nope0"], "duration_s": 1}"#)).await;
        let job = service.job_in(wrong["job_id"].as_str().unwrap(), &["succeeded", "failed"], Duration::from_secs(5)).await;
        assert_eq!(job["state"], "failed", "{job:#}");
        assert!(job["error"].as_str().unwrap().contains("nope0"), "{job:#}");
        let wrong = service.ask("set", "/capture/start", Some(r#"{"filter": "tcp prot 502", "duration_s": 1}"#)).await;
        let job = service.job_in(wrong["job_id"].as_str().unwrap(), &["succeeded", "failed"], Duration::from_secs(5)).await;
        assert_eq!(job["state"], "failed", "{job:#}");
    });
}

#[test]
fn a_device_that_comes_and_goes_is_an_event_each_time() {
    let site = site(vec![DeviceSpec::modbus("bms", Behaviour::Healthy)]);
    on_a_bus(async |bus| {
        let mut events = bus.listen("/events").await;
        let service = Service::start_on_site(&bus.socket, &site, &Options::default());
        service.ready().await;
        let body = r#"{"timeout_ms": 3000, "settle_ms": 0, "ping": false}"#;
        for plugged_in in [true, false, false, true] {
            site.set_cable("bms", plugged_in).unwrap();
            tokio::time::sleep(Duration::from_millis(100)).await;
            service.test(body).await;
        }
        let mut told = Vec::new();
        while let Ok(Some(event)) = tokio::time::timeout(Duration::from_secs(3), events.recv()).await {
            let event: Value = serde_json::from_slice(event.body.as_deref().unwrap()).unwrap();
            told.push(event["message"].as_str().unwrap().to_owned());
        }
        let count = |what: &str| told.iter().filter(|message| message.contains(what)).count();
        assert_eq!((count("has failed"), count("works again"), count("connectivity test:")), (1, 1, 2), "{told:#?}");
    });
}
