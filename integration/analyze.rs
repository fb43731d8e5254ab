//! `netdiag analyze` as a person runs it, and the same look as a job on the bus.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod support;
#[path = "../src/analysis/testing.rs"]
mod testing;

use netdiag::{
    lab::{Behaviour, DeviceSpec, Placement, Site},
    packet::{InterfaceDescription, InterfaceStatistics, LinkType, Packet, SectionDescription, Writer},
};
use serde_json::{Value, json};
use std::{
    fs,
    io::Write as _,
    os::unix::fs::symlink,
    path::Path,
    process::{Command, Output, Stdio},
    time::Duration,
};
use support::{
    private_network,
    service::{Options, Service, bus, is_refusal, modbus_client, validate},
};
use testing::Conversation;

const DEVICE: &str = "10.0.0.5:502";
const EXAMPLE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/examples/first_look");

/// A capture of polls, one a second, the last `unanswered` of which get no answer; and what the recording host lost.
fn capture(polls: u16, unanswered: u16, dropped: u64) -> Vec<u8> {
    let mut talk = Conversation::new("10.0.0.1:40000", DEVICE);
    let mut frames: Vec<(f64, Vec<u8>)> = talk.handshake().into_iter().map(|frame| (0.0, frame)).collect();
    for round in 0..polls {
        let [high, low] = round.to_be_bytes();
        let at = 1.0 + f64::from(round);
        frames.push((at, talk.send(false, &[high, low, 0, 0, 0, 6, 1, 3, 0, 100, 0, 1])));
        if round + unanswered < polls {
            frames.push((at + 0.004, talk.send(true, &[high, low, 0, 0, 0, 5, 1, 3, 2, low, high])));
        } else {
            frames.push((at + 0.004, talk.ack(true)));
        }
    }
    frames.push((f64::from(polls) + 10.0, testing::udp("10.9.9.9:9".parse().unwrap(), "10.9.9.8:9".parse().unwrap(), &[])));
    written_frames(&frames, dropped)
}

/// A capture file of these frames at these seconds.
fn written_frames(frames: &[(f64, Vec<u8>)], dropped: u64) -> Vec<u8> {
    let mut writer = Writer::new(Vec::new(), &SectionDescription::default()).unwrap();
    let interface = InterfaceDescription { name: "eth0".to_owned(), link_type: LinkType::ETHERNET, snaplen: 0, filter: None };
    writer.interface(&interface).unwrap();
    for (number, (at, frame)) in (1..).zip(frames) {
        let unix_ns = 1_700_000_000_000_000_000 + (at * 1e9) as i64;
        let (link_type, wire_len) = (LinkType::ETHERNET, frame.len() as u32);
        writer.packet(&Packet { number, unix_ns, interface: 0, link_type, wire_len, data: frame }).unwrap();
    }
    let received = frames.len() as u64;
    writer.statistics(0, 0, InterfaceStatistics { received, interface_dropped: 0, kernel_dropped: dropped }).unwrap();
    writer.into_sink()
}

fn analyze(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_netdiag")).arg("analyze").args(arguments).env("COLUMNS", "120").output().unwrap()
}

/// What is printed on a screen of so many columns and lines.
fn on_screen(columns: usize, lines: usize, arguments: &[&str]) -> String {
    let mut command = Command::new(env!("CARGO_BIN_EXE_netdiag"));
    command.arg("analyze").args(arguments).env("COLUMNS", columns.to_string()).env("LINES", lines.to_string());
    text(&command.output().unwrap().stdout)
}

fn analyze_stdin(bytes: &[u8], arguments: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_netdiag"));
    command.args(["analyze", "-"]).args(arguments).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    child.stdin.take().unwrap().write_all(bytes).unwrap();
    child.wait_with_output().unwrap()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

fn written(dir: &Path, name: &str, bytes: &[u8]) -> String {
    let path = dir.join(name);
    fs::write(&path, bytes).unwrap();
    path.to_str().unwrap().to_owned()
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

#[test]
fn exit_codes_and_words_say_what_a_capture_holds() {
    let dir = tempfile::tempdir().unwrap();
    let clean = written(dir.path(), "clean.pcapng", &capture(20, 0, 0));
    let suspect = written(dir.path(), "suspect.pcapng", &capture(20, 5, 0));
    let output = analyze(&[&clean]);
    assert_eq!((output.status.code(), text(&output.stdout).contains("clean.pcapng: clean")), (Some(0), true), "{output:?}");
    let output = analyze(&[&suspect]);
    let shown = text(&output.stdout);
    assert_eq!(output.status.code(), Some(1));
    for part in ["SUSPECT", "modbus.unanswered", "5 of 20 Modbus requests", "its TCP acknowledged them", "packets 34,", DEVICE] {
        assert!(shown.contains(part), "`{part}` is missing in\n{shown}");
    }
    let details = text(&analyze(&["--details", &suspect]).stdout);
    assert!(details.contains("unit 1: 20 requests, 15 answered") && details.contains("every 1000 ms"), "{details}");
    let both = analyze(&[&clean, &suspect]);
    assert_eq!(both.status.code(), Some(1));
    assert!(text(&both.stdout).contains("1 of 2 files suspect"));
}

#[test]
fn compressed_piped_and_many_files_are_read_alike() {
    let dir = tempfile::tempdir().unwrap();
    let bytes = capture(20, 5, 3);
    written(dir.path(), "a.pcapng", &bytes);
    written(dir.path(), "b.pcapng.gz", &gzip(&bytes));
    written(dir.path(), "c.pcapng.zst", &zstd::encode_all(&bytes[..], 3).unwrap());
    written(dir.path(), "notes.txt", b"no capture");
    let output = analyze(&["--json", dir.path().to_str().unwrap()]);
    assert_eq!(output.status.code(), Some(1), "{}", text(&output.stderr));
    let mut reports: Vec<Value> = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(reports.len(), 3);
    let piped = analyze_stdin(&gzip(&bytes), &["--json"]);
    reports.push(serde_json::from_slice(&piped.stdout).unwrap());
    for report in &mut reports {
        validate("analysis_report", report);
        report["file"] = Value::Null;
    }
    assert!(reports.windows(2).all(|pair| pair[0] == pair[1]));
    assert_eq!((&reports[0]["dropped"], &reports[0]["servers"][0]["modbus"]["unanswered_acknowledged"]), (&json!(3), &json!(5)));
    let lines = text(&analyze(&["--jsonl", dir.path().to_str().unwrap()]).stdout);
    assert_eq!(lines.lines().filter(|line| serde_json::from_str::<Value>(line).is_ok()).count(), 3);
}

/// A capture of many servers, each asked ten times, of which all stop answering for the last polls.
fn outage(servers: u8) -> Vec<u8> {
    let mut frames = Vec::new();
    for server in 1..=servers {
        let mut talk = Conversation::new("10.0.0.1:40000", &format!("10.0.1.{server}:502"));
        frames.extend(talk.handshake().into_iter().map(|frame| (0.0, frame)));
        for round in 0..10_u8 {
            let at = 1.0 + f64::from(round);
            frames.push((at, talk.send(false, &[0, round, 0, 0, 0, 6, 1, 3, 0, 100, 0, 1])));
            let answer =
                if round < 7 - server % 2 { talk.send(true, &[0, round, 0, 0, 0, 5, 1, 3, 2, 0, round]) } else { talk.ack(true) };
            frames.push((at + 0.004, answer));
        }
    }
    frames.push((20.0, testing::udp("10.9.9.9:9".parse().unwrap(), "10.9.9.8:9".parse().unwrap(), &[])));
    frames.sort_by(|(a, _), (b, _)| a.total_cmp(b));
    written_frames(&frames, 0)
}

#[test]
fn the_summary_fits_the_screen_and_tells_one_outage_once() {
    let dir = tempfile::tempdir().unwrap();
    let file = written(dir.path(), "outage.pcapng", &outage(40));
    for (columns, lines) in [(40, 24), (80, 24), (80, 50), (120, 24), (203, 40)] {
        let shown = on_screen(columns, lines, &[&file]);
        assert!(shown.lines().count() < lines, "{columns} x {lines}:\n{shown}");
        let widest = shown.lines().skip(1).map(|line| line.chars().count()).max().unwrap();
        assert!(widest <= columns, "{widest} characters on {columns}:\n{shown}");
        assert_eq!(shown.matches("modbus.unanswered").count(), 1, "{shown}");
        assert!(shown.contains("… and") && shown.contains("10.0.1."), "servers are left out, and that is told:\n{shown}");
    }
    let shown = on_screen(80, 24, &[&file]);
    assert!(
        shown.contains("40 servers, 140 times in all") && shown.contains("the worst: 4 of 10 Modbus requests to 10.0.1.1:502"),
        "{shown}"
    );
    let details = on_screen(80, 24, &["--details", &file]);
    assert_eq!(details.matches("modbus.unanswered").count(), 40, "one by one as a detail");
    assert!(details.lines().skip(1).all(|line| line.chars().count() <= 80), "{details}");
}

#[test]
fn a_directory_is_read_to_its_depths_by_first_bytes_and_told_worst_first_in_a_line_each() {
    let dir = tempfile::tempdir().unwrap();
    fs::create_dir_all(dir.path().join("2026/november")).unwrap();
    symlink(dir.path(), dir.path().join("2026/around")).unwrap();
    let (clean, suspect) = (capture(20, 0, 0), capture(20, 5, 0));
    written(dir.path(), "a.pcapng", &clean);
    written(dir.path(), "b.pcap0", &clean);
    written(dir.path(), "c", &gzip(&clean));
    written(dir.path(), "d.pcapng", &clean[..clean.len() / 2]);
    written(&dir.path().join("2026/november"), "deep.dump", &suspect);
    written(dir.path(), "notes.txt", b"no capture");
    let output = analyze(&[dir.path().to_str().unwrap()]);
    let (shown, told) = (text(&output.stdout), text(&output.stderr));
    assert_eq!(output.status.code(), Some(1), "{told}");
    let lines: Vec<&str> = shown.lines().collect();
    assert_eq!(lines.len(), 4, "{shown}");
    assert!(lines[1].contains("SUSPECT") && lines[1].contains("2026/november/deep.dump"), "{shown}");
    assert!(lines[2].contains("clean") && lines[2].contains("d.pcapng") && shown.contains("read until it breaks off"), "{shown}");
    assert!(shown.contains("1 of 5 files suspect, 1 broken off"), "{shown}");
    assert!(told.contains("1 file is no capture: ") && told.contains("notes.txt"), "{told}");
    let details = text(&analyze(&["--details", dir.path().to_str().unwrap()]).stdout);
    assert!(details.contains("a.pcapng: clean") && details.contains("unit 1: 20 requests"), "{details}");
    let nothing = tempfile::tempdir().unwrap();
    written(nothing.path(), "notes.txt", b"no capture");
    let output = analyze(&[nothing.path().to_str().unwrap()]);
    assert_eq!(output.status.code(), Some(2));
    assert!(text(&output.stderr).contains("there is no capture in it; 1 file is no capture"), "{output:?}");
}

#[test]
fn a_capture_without_packets_is_suspect() {
    let dir = tempfile::tempdir().unwrap();
    let empty = written(dir.path(), "empty.pcapng", &written_frames(&[], 0));
    let output = analyze(&["--json", &empty]);
    let report: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(
        (output.status.code(), &report["verdict"], &report["findings"][0]["code"]),
        (Some(1), &json!("suspect"), &json!("capture.empty"))
    );
    assert_eq!(
        (&report["findings_total"], &report["reasons"]),
        (&json!(1), &json!(["the capture holds no packets, so nothing can be said"]))
    );
    let short = written(dir.path(), "short.pcap", b"hi\n");
    assert!(text(&analyze(&[&short]).stderr).contains("this is no pcap or pcapng file: it is too short for one"));
}

#[test]
fn the_shape_of_json_goes_by_the_arguments_and_output_that_fails_is_a_failure() {
    let dir = tempfile::tempdir().unwrap();
    let file = written(dir.path(), "a.pcapng", &capture(20, 0, 0));
    let gone = dir.path().join("gone.pcap").to_str().unwrap().to_owned();
    let json = |arguments: &[&str]| text(&analyze(&[&["--json"], arguments].concat()).stdout);
    assert!(json(&[&file]).starts_with('{') && json(&[&gone]).is_empty());
    for (arguments, reports) in
        [(&[&*file, &gone][..], 1), (&[dir.path().to_str().unwrap()], 1), (&[&*gone, &gone], 0), (&[&*file, &file], 2)]
    {
        assert_eq!(serde_json::from_str::<Vec<Value>>(&json(arguments)).unwrap().len(), reports, "{arguments:?}");
    }
    for arguments in [&["analyze", &file][..], &["analyze", "--json", &file], &["analyze", "--transactions", &file], &["explain"]] {
        let full = fs::OpenOptions::new().write(true).open("/dev/full").unwrap();
        let output = Command::new(env!("CARGO_BIN_EXE_netdiag")).args(arguments).stdout(full).output().unwrap();
        assert_eq!(output.status.code(), Some(3), "{arguments:?}");
        assert!(text(&output.stderr).contains("the output cannot be written"), "{output:?}");
    }
}

#[test]
fn the_services_settings_count_at_the_prompt_and_options_override_them() {
    let dir = tempfile::tempdir().unwrap();
    let file = written(dir.path(), "a.pcapng", &capture(30, 0, 0));
    let life = json!({"life": {"pair_id": "10.0.0.1->10.0.0.5:502", "hb_reg_type": 3, "hb_dev_id": 1, "hb_reg": 100}});
    let definitions = written(dir.path(), "heartbeats.json", life.to_string().as_bytes());
    let settings = json!({"slow_response_ms": 3, "heartbeat_files": [definitions]});
    let settings = written(dir.path(), "settings.json", settings.to_string().as_bytes());
    let report = |arguments: &[&str]| -> Value {
        serde_json::from_slice(&analyze(&[&["--json", &*file], arguments].concat()).stdout).unwrap()
    };
    assert_eq!(report(&[])["verdict"], "clean");
    let found = report(&["--settings", &settings]);
    assert_eq!((&found["findings"][0]["code"], &found["heartbeats"][0]["condition"]), (&json!("modbus.slow"), &json!("changing")));
    assert_eq!(report(&["--settings", &settings, "--slow-response-ms", "5"])["verdict"], "clean");
    assert_eq!(report(&["--response-timeout-ms", "3"])["findings"][0]["code"], "modbus.late");
    let output = analyze(&["--slow-ms", "0", &file]);
    assert_eq!(output.status.code(), Some(2));
    assert!(text(&output.stderr).contains("`slow_response_ms` is 0; it must be from 1 to 600000"), "{output:?}");
}

/// Each threshold of the first look has a setting and an option of the same name, which is checked by the setting's rule.
#[test]
fn each_threshold_has_its_option() {
    let dir = tempfile::tempdir().unwrap();
    let file = written(dir.path(), "a.pcapng", &capture(5, 0, 0));
    let help = Command::new(env!("CARGO_BIN_EXE_netdiag")).args(["analyze", "--help"]).output().unwrap();
    for field in [
        "response_timeout_ms",
        "slow_response_ms",
        "heartbeat_timeout_ms",
        "silence_ms",
        "storm_per_s",
        "attempt_timeout_ms",
        "retransmissions_min",
        "retransmissions_one_in",
        "reconnects_min",
        "never_seen_after_s",
        "stall_aftermath_s",
        "two_masters_within_s",
        "copy_window_us",
        "numbered_copy_window_ms",
        "gap_patience_ms",
        "clock_step_ms",
    ] {
        let option = format!("--{}", field.replace('_', "-"));
        assert!(text(&help.stdout).contains(&option), "{option} is not in the help");
        let output = analyze(&[&option, "999999999", &file]);
        assert_eq!(output.status.code(), Some(2), "{option}");
        assert!(text(&output.stderr).contains(&format!("the setting `{field}` is 999999999; it must be from ")), "{output:?}");
        let settings = written(dir.path(), "settings.json", json!({field: 999_999_999}).to_string().as_bytes());
        assert_eq!(
            analyze(&["--settings", &settings, &option, "500", &file]).status.code(),
            Some(0),
            "{option} overrides the file"
        );
    }
}

#[test]
fn what_is_cut_off_is_read_as_far_as_it_goes_and_what_is_no_capture_is_told() {
    let dir = tempfile::tempdir().unwrap();
    let bytes = capture(20, 0, 0);
    let cut = written(dir.path(), "cut.pcapng", &bytes[..bytes.len() / 2]);
    let output = analyze(&[&cut]);
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    assert!(text(&output.stdout).contains("read until it breaks off: the file ends in the middle of a packet"));
    let swollen = written(dir.path(), "cut.pcapng.gz", &gzip(&bytes)[..300]);
    let output = analyze(&["--json", &swollen]);
    let report: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert!(report["damage"].is_string() && report["packets"].as_u64() > Some(0), "{report:#}");
    let noise = written(dir.path(), "noise.pcap", b"this is no capture");
    for wrong in [&noise, &dir.path().join("gone.pcap").to_str().unwrap().to_owned()] {
        let output = analyze(&[wrong]);
        assert_eq!((output.status.code(), output.stdout.len()), (Some(2), 0), "{wrong}");
        assert!(text(&output.stderr).contains(wrong), "{output:?}");
    }
    let clean = written(dir.path(), "clean.pcapng", &bytes);
    let output = analyze(&[&noise, &clean]);
    assert_eq!(output.status.code(), Some(2), "what could not be read counts more");
    assert!(text(&output.stdout).contains("clean.pcapng: clean"), "and does not stop the rest");
}

#[test]
fn each_transaction_is_a_line() {
    let bytes = capture(20, 5, 0);
    let output = analyze_stdin(&bytes, &["--transactions"]);
    let shown = text(&output.stdout);
    assert_eq!((output.status.code(), shown.lines().count()), (Some(1), 20), "{shown}");
    assert_eq!(shown.lines().filter(|line| line.contains(": unanswered")).count(), 5);
    let first = shown.lines().next().unwrap();
    let expected = "10.0.0.1:40000 -> 10.0.0.5:502  modbus  read holding registers (function 3), unit 1, offset 100, count 1: answered after 4 ms  [4, 5]";
    assert!(first.ends_with(expected), "{first}");
    let lines = text(&analyze_stdin(&bytes, &["--transactions", "--jsonl"]).stdout);
    for line in lines.lines() {
        validate("transaction", &serde_json::from_str(line).unwrap());
    }
    // Who has seen enough ends it, and that is no failure.
    let mut command = Command::new(env!("CARGO_BIN_EXE_netdiag"));
    let mut child = command.args(["analyze", "-", "--transactions"]).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    drop(child.stdout.take());
    let _ = child.stdin.take().unwrap().write_all(&bytes);
    assert_eq!(child.wait().unwrap().code(), Some(0));
}

#[test]
fn heartbeats_and_configs_are_held_against_the_wire() {
    let dir = tempfile::tempdir().unwrap();
    let file = written(dir.path(), "a.pcapng", &capture(30, 0, 0));
    let define = |register: u16| json!({"life": {"pair_id": "10.0.0.1->10.0.0.5:502", "hb_reg_type": 3, "hb_dev_id": 1, "hb_start": 100, "hb_reg": register, "hb_size": 1}});
    for (register, condition) in [(100, "changing"), (101, "not_polled")] {
        let definitions = written(dir.path(), "heartbeats.json", define(register).to_string().as_bytes());
        let output = analyze(&["--json", "--heartbeats", &definitions, &file]);
        let report: Value = serde_json::from_slice(&output.stdout).unwrap();
        assert_eq!(report["heartbeats"][0]["condition"], condition, "{report:#}");
    }
    let (path, config) = modbus_client("other", "10.0.0.6", 502);
    fs::create_dir(dir.path().join("modbus_client")).unwrap();
    fs::write(dir.path().join(&path), config).unwrap();
    let output = analyze(&["--json", "--topology", dir.path().to_str().unwrap(), &file]);
    let report: Value = serde_json::from_slice(&output.stdout).unwrap();
    let codes: Vec<&str> = report["findings"].as_array().unwrap().iter().map(|finding| finding["code"].as_str().unwrap()).collect();
    assert_eq!(codes, ["site.unknown_server", "site.device_elsewhere", "site.never_seen"]);
    let bad = written(dir.path(), "bad.json", br#"{"life": {"pair_id": "nowhere", "hb_reg_type": 3, "hb_reg": 1}}"#);
    let output = analyze(&["--heartbeats", &bad, &file]);
    assert_eq!(output.status.code(), Some(2));
    assert!(text(&output.stderr).contains("`pair_id` of life is `nowhere`"), "{}", text(&output.stderr));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_look_on_the_bus_gives_what_the_command_prints_and_reads_nothing_else() {
    let (_dir, bus) = bus();
    let (captures, outside) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let file = written(captures.path(), "a.pcapng.gz", &gzip(&capture(20, 5, 0)));
    let secret = written(outside.path(), "secret.pcapng", &capture(20, 5, 0));
    symlink(&secret, captures.path().join("link.pcapng")).unwrap();
    written(captures.path(), "noise.pcap", b"this is no capture");
    let life = json!({"life": {"pair_id": "10.0.0.1->10.0.0.5:502", "hb_reg_type": 3, "hb_dev_id": 1, "hb_reg": 100}});
    let definitions = written(outside.path(), "heartbeats.json", life.to_string().as_bytes());
    let settings = json!({"analysis_dirs": [captures.path()], "slow_response_ms": 3, "heartbeat_files": [definitions]});
    let service =
        Service::start(&bus.socket, &[modbus_client("meter", "127.0.0.9", 1502)], &Options { settings, ..Options::default() });
    service.ready().await;
    let start = async |file: &str| service.ask("set", "/analysis/start", Some(&json!({"file": file}).to_string())).await;
    let finished = async |accepted: Value| {
        let job_id = accepted["job_id"].as_str().unwrap_or_else(|| panic!("not accepted: {accepted}")).to_owned();
        service.job_in(&job_id, &["succeeded", "failed", "cancelled"], Duration::from_secs(10)).await
    };

    let job = finished(start(&file).await).await;
    assert_eq!((&job["state"], &job["kind"]), (&json!("succeeded"), &json!("analysis")), "{job:#}");
    assert!(job["summary"]["text"].as_str().unwrap().starts_with("suspect: "), "{job:#}");
    let result = service.ask("get", &format!("/jobs/{}/result", job["job_id"].as_str().unwrap()), None).await;
    validate("analysis_report", &result);
    let modbus = &result["servers"].as_array().unwrap().iter().find(|server| server["port"] == 502).unwrap()["modbus"];
    assert_eq!((&modbus["requests"], &modbus["unanswered"], &result["file"]), (&json!(20), &json!(5), &json!(file)));
    let codes: Vec<&Value> = result["findings"].as_array().unwrap().iter().map(|finding| &finding["code"]).collect();
    assert!(codes.contains(&&json!("modbus.slow")), "the settings' threshold counts: {codes:?}");
    assert_eq!(result["heartbeats"][0]["id"], "life", "and so do its heartbeat definitions: {result:#}");
    let refused = service.ask("set", "/analysis/start", Some("{}")).await;
    assert_eq!((is_refusal(&refused), &refused["error"]["field"]), (true, &json!("file")), "{refused}");

    for forbidden in [secret.as_str(), "/etc/passwd", "a.pcapng", &format!("{}/../x", captures.path().display())] {
        let refused = start(forbidden).await;
        assert!(is_refusal(&refused) && refused["error"]["code"] == "forbidden", "{forbidden}: {refused}");
    }
    let link = captures.path().join("link.pcapng");
    let job = finished(start(link.to_str().unwrap()).await).await;
    assert_eq!(job["state"], "failed", "{job:#}");
    assert!(job["error"].as_str().unwrap().contains("leads out of the directories"), "{job:#}");
    let job = finished(start(captures.path().join("noise.pcap").to_str().unwrap()).await).await;
    assert_eq!(
        (&job["state"], job["error"].as_str().unwrap().contains("no pcap or pcapng file")),
        (&json!("failed"), true),
        "{job:#}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_long_look_tells_its_progress_and_is_cancelled_at_once() {
    let (_dir, bus) = bus();
    let captures = tempfile::tempdir().unwrap();
    // Sections of a file may follow one another: one file a thousand times over is a long one.
    let one = capture(500, 0, 0);
    let mut long = fs::File::create(captures.path().join("long.pcapng")).unwrap();
    for _ in 0..1500 {
        long.write_all(&one).unwrap();
    }
    let settings = json!({"analysis_dirs": [captures.path()]});
    let service =
        Service::start(&bus.socket, &[modbus_client("meter", "127.0.0.9", 1502)], &Options { settings, ..Options::default() });
    service.ready().await;
    let file = captures.path().join("long.pcapng");
    let accepted = service.ask("set", "/analysis/start", Some(&json!({"file": file}).to_string())).await;
    let job_id = accepted["job_id"].as_str().unwrap().to_owned();
    let deadline = tokio::time::Instant::now() + Duration::from_secs(10);
    loop {
        let job = service.get(&format!("/jobs/{job_id}")).await;
        if job["progress"].as_f64() > Some(0.0) && job["phase"] == "reading the capture" {
            break;
        }
        assert!(job["state"] != "succeeded" && tokio::time::Instant::now() < deadline, "no progress was told: {job:#}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    service.ask("set", &format!("/jobs/{job_id}/cancel"), Some("true")).await;
    let job = service.job_in(&job_id, &["cancelled"], Duration::from_secs(2)).await;
    assert!(job["summary"]["text"].is_string(), "what was read until then is told: {job:#}");
}

/// The walk-through shows what the command prints, line by line.
#[test]
fn the_walk_through_shows_what_the_command_prints() {
    let page = fs::read_to_string(format!("{EXAMPLE}/README.md")).unwrap();
    let blocks: Vec<&str> = page.split("```text\n").skip(1).map(|rest| rest.split("```").next().unwrap()).collect();
    let commands: [&[&str]; 2] = [&["site.pcapng.gz"], &["--topology", "config", "site.pcapng.gz"]];
    assert_eq!(blocks.len(), commands.len());
    for (block, arguments) in blocks.iter().zip(commands) {
        assert!(page.contains(&format!("$ netdiag analyze {}", arguments.join(" "))), "{arguments:?} is not on the page");
        let mut command = Command::new(env!("CARGO_BIN_EXE_netdiag"));
        let command = command.current_dir(EXAMPLE).env("COLUMNS", "120").env("LINES", "40");
        let output = command.arg("analyze").args(arguments).output().unwrap();
        let printed = text(&output.stdout);
        let (shown, printed): (Vec<&str>, Vec<&str>) = (block.lines().collect(), printed.lines().map(str::trim_end).collect());
        assert_eq!(shown, printed, "copy what is printed into the page:\n{}", printed.join("\n"));
        assert_eq!(output.status.code(), Some(1));
    }
}

/// Makes the capture of the walk-through anew: `cargo test --test analyze -- --ignored the_capture_of_the_walk_through`.
#[test]
#[ignore = "writes examples/first_look/site.pcapng.gz"]
fn the_capture_of_the_walk_through() {
    private_network();
    let modbus = DeviceSpec::modbus;
    let site = Site::build(
        Placement::Namespaces,
        vec![
            modbus("battery", Behaviour::Healthy).with_session(),
            modbus("inverter", Behaviour::Exceptions { registers: 20..=29, code: 2 }).with_session(),
            modbus("meter", Behaviour::NeverAnswers).with_session(),
            modbus("weather", Behaviour::Slow(Duration::from_millis(1200))).with_session(),
        ],
    )
    .unwrap();
    tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap().block_on(async {
        let (_dir, bus) = bus();
        let service = Service::start_on_site(&bus.socket, &site, &Options::default());
        service.ready().await;
        let accepted = service.ask("set", "/capture/start", Some(r#"{"duration_s": 20}"#)).await;
        let job = service.job_in(accepted["job_id"].as_str().unwrap(), &["succeeded", "failed"], Duration::from_secs(40)).await;
        let file = job["summary"]["capture"]["file"].as_str().unwrap_or_else(|| panic!("{job:#}"));
        fs::write(format!("{EXAMPLE}/site.pcapng.gz"), gzip(&fs::read(file).unwrap())).unwrap();
    });
}
