//! Whole files: what one text becomes, and what no text can do.

use super::{FileKind, FileReport, Process, assemble, json::MAX_VALUES, read_file};
use crate::api::{Direction, HeartbeatKind, PortSource, RegisterType, Severity, Transport, UtcTime};
use proptest::prelude::*;

fn codes(report: &FileReport) -> Vec<&str> {
    report.problems.iter().map(|problem| problem.code.as_str()).collect()
}

const CLIENT: &str = r#"{"connection": {"name": "n", "ip_address": "10.0.0.9", "device_id": 1},
    "components": [{"id": "a", "frequency": 100, "registers": [{"type": "Coil", "map": [{"id": "x", "offset": 1}]}]}]}"#;

#[test]
fn a_sound_client_has_an_endpoint_and_no_problem() {
    let report = read_file("etc/modbus_client/n.json", CLIENT.as_bytes());
    let endpoint = report.endpoint.unwrap();
    assert_eq!(endpoint.endpoint_id, "modbus_10.0.0.9_502");
    assert_eq!((endpoint.port_source, endpoint.process.as_deref()), (PortSource::Default, Some("modbus_client")));
    assert_eq!(endpoint.fims_uris, ["/components/a"]);
    assert_eq!(report.problems, []);
}

#[test]
fn a_broken_file_says_where_and_how_bad() {
    let report = read_file("etc/modbus_client/n.json", b"{\n  \"connection\": {}\n  \"components\": []}");
    let [problem] = report.problems.as_slice() else { panic!("{:?}", report.problems) };
    assert_eq!((problem.code.as_str(), problem.line, problem.column), ("config.json_syntax", Some(3), Some(3)));
    assert_eq!(problem.severity, Severity::Alarm);
    assert_eq!(read_file("doc/n.json", b"").problems[0].severity, Severity::Warning);
}

#[test]
fn what_is_wrong_with_a_value_says_where_it_stands() {
    let text = "{\n \"connection\": {\n  \"name\": \"n\", \"ip_address\": \"10.0.0.9\", \"port\": \"502\", \"frequency\": 100,\n  \"device_id\": 300\n },\n \
                \"components\": [{\"id\": \"a\", \"heartbeat_enabled\": true, \"component_heartbeat_read_uri\": \"gone\"}]\n}";
    let places = |text: &str| {
        let mut places: Vec<_> = read_file("modbus_client/n.json", text.as_bytes())
            .problems
            .into_iter()
            .map(|problem| (problem.code, problem.line, problem.column))
            .collect();
        places.sort();
        places
    };
    // Where a piece of the text stands, counted in another way than the reader's.
    let at = |text: &str, code: &str, piece: &str| {
        let (number, line) = text.lines().enumerate().find(|(_, line)| line.contains(piece)).unwrap();
        (code.to_owned(), Some(number as u32 + 1), Some(line.find(piece).unwrap() as u32 + 1))
    };
    let expected = |text| {
        vec![
            ("config.default_unit".to_owned(), None, None),
            at(text, "config.heartbeat_unresolved", "\"component_heartbeat_read_uri\""),
            at(text, "config.port_invalid", "\"port\""),
            at(text, "config.unit_id_invalid", "\"device_id\""),
        ]
    };
    assert_eq!(places(text), expected(text));
    let mended = text.replace("\"gone\"}", "\"gone\",}");
    let mut with_comma = expected(&mended);
    with_comma.insert(2, at(&mended, "config.json_syntax", "}]"));
    assert_eq!(places(&mended), with_comma);
}

#[test]
fn what_can_be_saved_of_a_damaged_file_is_saved_and_told() {
    let latin1 = CLIENT.bytes().map(|byte| if byte == b'x' { 0xe9 } else { byte }).collect();
    let cases: [(Vec<u8>, &str); 5] = [
        (CLIENT.replace("]}]}]}", "],}]}]}").into_bytes(), "config.json_syntax"),
        (CLIENT.replace("\"components\"", "/* all */ \"components\"").into_bytes(), "config.json_syntax"),
        (format!("{CLIENT}\n}}").into_bytes(), "config.extra_data"),
        ([b"\xef\xbb\xbf", CLIENT.as_bytes()].concat(), "config.byte_order_mark"),
        (latin1, "config.not_utf8"),
    ];
    for (bytes, code) in &cases {
        let report = read_file("modbus_client/n.json", bytes);
        assert_eq!(codes(&report), [*code]);
        assert_eq!(report.endpoint.map(|endpoint| endpoint.endpoint_id).as_deref(), Some("modbus_10.0.0.9_502"), "{code}");
    }
}

#[test]
fn too_deep_and_too_many_values_are_told() {
    assert_eq!(codes(&read_file("a.json", "[".repeat(1_000_000).as_bytes())), ["config.too_deep"]);
    let many = format!("[{}0]", "0,".repeat(MAX_VALUES as usize));
    assert_eq!(codes(&read_file("a.json", many.as_bytes())), ["config.too_large"]);
}

/// Each of these makes one step of the reader meet as many values as a document may have; quadratic work would take minutes.
#[test]
fn work_grows_with_the_size_of_a_file_only() {
    let many = |item: &str, times: usize| vec![item; times].join(",");
    let client = |connection: String, components: String| {
        format!(r#"{{"connection": {{"ip_address": "10.0.0.1", {connection}}}, "components": [{components}]}}"#)
    };
    let point = r#"{"id": "x", "uri": "/a"}"#;
    for text in [
        client(many(r#""device id": 1"#, 200_000), String::new()),
        client(many(r#""port": "1""#, 200_000), String::new()),
        client(r#""device_id": 1"#.to_owned(), many(r#"{"id": 1, "heartbeat_enabled": true}"#, 100_000)),
        client(
            r#""device_id": 1"#.to_owned(),
            format!(r#"{{"id": "a", "registers": [{}]}}"#, many(r#"{"device_id": 300}"#, 150_000)),
        ),
        format!(
            r#"{{"system": {{"id": "a", "ip_address": "0.0.0.0"}}, "registers": [{}]}}"#,
            many(r#"{"coils": [], "x": []}"#, 100_000)
        ),
        format!(r#"{{"system": {{"id": "a"}}, "objects": {{"analog": [{}]}}}}"#, many(point, 100_000)),
    ] {
        let started = std::time::Instant::now();
        let report = read_file("config/a.json", text.as_bytes());
        assert_ne!(report.kind, FileKind::Broken);
        assert!(report.problems.len() < 100, "{}", report.problems.len());
        assert!(started.elapsed().as_secs() < 20, "{:?} for {}", started.elapsed(), &text[..80]);
    }
}

#[test]
fn a_file_in_the_wrong_directory_is_told_and_read_as_what_it_is() {
    let report = read_file("modbus_server/n.json", CLIENT.as_bytes());
    assert_eq!(codes(&report), ["config.wrong_directory"]);
    assert_eq!(report.endpoint.and_then(|endpoint| endpoint.process), None);
}

#[test]
fn a_token_or_stand_in_is_no_endpoint() {
    for (address, code) in [
        ("10.0.0.##ip##", "config.template"),
        ("{{IP}}", "config.template"),
        ("10.x.x.x", "config.placeholder_address"),
        ("10.0.0.256", "config.address_invalid"),
        ("", "config.missing_address"),
    ] {
        let report = read_file("modbus_client/n.json", CLIENT.replace("10.0.0.9", address).as_bytes());
        assert_eq!((codes(&report), &report.endpoint), (vec![code], &None), "{address}");
    }
}

#[test]
fn heartbeats_are_resolved_within_their_component_or_told() {
    let text = r#"{"connection": {"name": "n", "ip_address": "10.0.0.9", "frequency": 100, "off_by_one": true}, "components": [
        {"id": "a", "device_id": 3, "heartbeat_enabled": true, "off_by_one": false, "component_heartbeat_read_uri": "alive",
         "component_heartbeat_write_uri": "other", "watchdog_enabled": true, "watchdog_uri": "coil",
         "registers": [{"type": "Coils", "map": [{"id": "coil", "offset": 1}]},
                       {"type": "Input", "device_id": 4, "map": [{"id": "alive", "offset": 7, "size": 2}, {"id": "alive", "offset": 8}]}]},
        {"id": "b", "device_id": 3, "registers": [{"type": "Holding", "map": [{"id": "other", "offset": 0}]}]}]}"#;
    let report = read_file("n.json", text.as_bytes());
    let [read, write, watchdog] = report.heartbeats.as_slice() else { panic!("{:?}", report.heartbeats) };
    assert_eq!((read.offset, read.wire_offset, read.size, read.unit_id), (Some(7), Some(7), Some(2), Some(4)));
    assert_eq!((read.register_type, read.resolved), (Some(RegisterType::Input), true));
    assert_eq!((write.kind, write.resolved, write.wire_offset), (HeartbeatKind::Write, false, None));
    assert_eq!(watchdog.register_type, Some(RegisterType::Coil));
    assert_eq!(codes(&report), ["config.group_unit", "config.heartbeat_unresolved", "config.heartbeat_register"]);
    let legacy = read_file("modbus_client/n.json", text.as_bytes());
    assert_eq!((legacy.heartbeats[0].unit_id, legacy.endpoint.unwrap().unit_ids), (Some(3), vec![3]));
}

#[test]
fn the_role_of_dnp3_follows_the_evidence_in_its_order() {
    let role = |path: &str, system: &str| {
        let text = format!(r#"{{"system": {{"protocol": "DNP3", {system}, "port": 20001}}, "registers": [{{"type": "analog"}}]}}"#);
        let endpoint = read_file(path, text.as_bytes()).endpoint.unwrap();
        (endpoint.direction, endpoint.dnp3_addresses[0].local)
    };
    let plain = r#""id": "a", "ip_address": "10.0.0.1""#;
    assert_eq!(role("dnp3_client/x_server.json", plain), (Direction::Outbound, 1));
    assert_eq!(role("config/x_master_server.json", plain), (Direction::Inbound, 10));
    assert_eq!(role("config/x.json", r#""id": "the_master", "ip_address": "*.*.*.*""#), (Direction::Inbound, 10));
    assert_eq!(role("config/x.json", r#""id": "the_master", "ip_address": "10.0.0.1""#), (Direction::Outbound, 1));
    let contradictory = r#""id": "outstation", "ip_address": "10.0.0.1", "local_address": 1, "remote_address": 10"#;
    assert_eq!(role("config/x.json", contradictory), (Direction::Undetermined, 1));
    assert_eq!(role("config/x.json", plain), (Direction::Undetermined, 1));
}

#[test]
fn a_dnp3_serial_or_tls_channel_is_told_apart() {
    let read = |extra: &str| {
        let text = format!(r#"{{"system": {{"id": "a", "ip_address": "10.0.0.1", {extra}}}, "objects": {{"analog": []}}}}"#);
        read_file("dnp3_server/a.json", text.as_bytes())
    };
    let serial = read(r#""conn_type": "RTU", "deviceName": "/dev/ttyS0", "baud": 19200"#).endpoint.unwrap();
    assert_eq!((serial.transport, serial.port, serial.address), (Transport::Rtu, None, None));
    assert_eq!(read(r#""conn_type": "TLS""#).endpoint.unwrap().transport, Transport::Tls);
    assert_eq!(codes(&read(r#""conn_type": "RTU""#)), ["config.missing_address"]);
}

/// The problems of a file in a directory, without their places.
fn told(directory: &str, text: &str) -> Vec<(String, Severity, String)> {
    let report = read_file(&format!("{directory}/n.json"), text.as_bytes());
    report.problems.into_iter().map(|problem| (problem.code, problem.severity, problem.message)).collect()
}

/// What each process that may read a file does about one mistake in it: code, severity and how the message ends.
fn each_client_does(text: &str, code: &str, expected: [(&str, Option<(Severity, &str)>); 3]) {
    for (directory, expected) in expected {
        let told = told(directory, text);
        match expected {
            None => assert_eq!(told, [], "{directory}: {text}"),
            Some((severity, does)) => {
                let [(told_code, told_severity, message)] = told.as_slice() else { panic!("{directory}: {told:?} for {text}") };
                assert_eq!((told_code.as_str(), *told_severity), (code, severity), "{directory}: {text}");
                assert!(message.ends_with(does), "{directory}: {message}");
            }
        }
    }
}

const REFUSED: Option<(Severity, &str)> = Some((Severity::Alarm, "; modbus_client refuses this file and is restarted every 10 s"));

#[test]
fn a_wrong_type_is_refused_by_one_client_and_passed_over_by_the_other() {
    for (right, wrong) in [
        (r#""device_id": 1"#, r#""device_id": 1, "byte_swap": "yes""#),
        (r#""device_id": 1"#, r#""device_id": 1, "connection_timeout": "2""#),
        (r#""device_id": 1"#, r#""device_id": 1, "parity": 0"#),
        (r#""device_id": 1"#, r#""device_id": 1, "stop_bits": "1""#),
        (r#""device_id": 1"#, r#""device_id": 1, "off_by_one": 1"#),
        (r#""name": "n""#, r#""name": 5"#),
        (r#""id": "a""#, r#""id": 5"#),
        (r#""id": "a""#, r#""id": "a", "byte_swap": 1"#),
        (r#""frequency": 100"#, r#""frequency": "100""#),
        (r#""id": "x""#, r#""id": 5"#),
        (r#""offset": 1"#, r#""offset": "1""#),
        (r#""offset": 1"#, r#""offset": 1, "size": 1.5"#),
        (r#"[{"id": "x", "offset": 1}]"#, r#"{"id": "x", "offset": 1}"#),
    ] {
        let text = CLIENT.replace(right, wrong);
        assert_ne!(text, CLIENT);
        let by_default = "gcom_modbus_client takes the default without a word";
        let both = format!("; modbus_client refuses the file, {by_default}");
        each_client_does(
            &text,
            "config.wrong_type",
            [
                ("modbus_client", REFUSED),
                ("gcom_modbus_client", Some((Severity::Warning, by_default))),
                ("configs", Some((Severity::Warning, &both))),
            ],
        );
    }
    let unread_by_legacy = CLIENT.replace(r#""device_id": 1"#, r#""device_id": 1, "transfer_timeout": "1""#);
    let by_default = Some((Severity::Warning, "; gcom_modbus_client takes the default without a word"));
    let expected = [("modbus_client", None), ("gcom_modbus_client", by_default), ("configs", by_default)];
    each_client_does(&unread_by_legacy, "config.wrong_type", expected);
}

#[test]
fn a_part_that_is_no_object_is_refused_by_the_legacy_client() {
    let group = r#"{"type": "Coil", "map": [{"id": "x", "offset": 1}]}"#;
    for (right, wrong) in [(group, "5"), (r#"{"id": "x", "offset": 1}"#, "5")] {
        let should = Some((Severity::Warning, "; it should be an object"));
        let both = Some((Severity::Warning, "; it should be an object; modbus_client refuses the file"));
        let expected = [("modbus_client", REFUSED), ("gcom_modbus_client", should), ("configs", both)];
        each_client_does(&CLIENT.replace(right, wrong), "config.wrong_type", expected);
    }
}

#[test]
fn the_format_that_no_client_loads_is_not_given_the_address_of_one() {
    let text = r#"{"system": {"id": "a"}, "registers": [{"type": "Coils"}]}"#;
    assert_eq!(read_file("gcom_modbus_client/a.json", text.as_bytes()).endpoint, None);
}

#[test]
fn what_a_client_needs_and_does_not_find_is_told() {
    let without = |piece: &str| CLIENT.replace(piece, "");
    let cases = [
        (without(r#""name": "n", "#), "config.connection_name", "calls itself `modbus_client`", None),
        (without(r#""frequency": 100, "#), "config.frequency_missing", "polls every 100 ms", None),
        (CLIENT.replace(r#""frequency": 100"#, r#""frequency": 0"#), "config.frequency_missing", "polls every 100 ms", None),
        (
            without(r#""id": "a", "#),
            "config.component_id",
            "publishes it as `noId`",
            Some((Severity::Warning, "; gcom_modbus_client publishes it as `noId`")),
        ),
    ];
    for (text, code, gcom, of_gcom) in cases {
        assert_ne!(text, CLIENT);
        let both = format!("; modbus_client refuses the file, gcom_modbus_client {gcom}");
        each_client_does(
            &text,
            code,
            [("modbus_client", REFUSED), ("gcom_modbus_client", of_gcom), ("configs", Some((Severity::Warning, &both)))],
        );
    }
    let polled = |directory: &str, text: &str| {
        let endpoint = read_file(&format!("{directory}/n.json"), text.as_bytes()).endpoint.unwrap();
        endpoint.components[0].poll_ms
    };
    assert_eq!(polled("gcom_modbus_client", &without(r#""frequency": 100, "#)), Some(100));
    assert_eq!(polled("configs", &without(r#""frequency": 100, "#)), None);
}

#[test]
fn without_an_address_gcom_connects_to_its_own_and_the_other_client_does_not_start() {
    for text in [CLIENT.replace(r#""ip_address": "10.0.0.9", "#, ""), CLIENT.replace(r#""10.0.0.9""#, "5")] {
        let report = read_file("gcom_modbus_client/n.json", text.as_bytes());
        assert_eq!(report.endpoint.as_ref().map(|endpoint| endpoint.endpoint_id.as_str()), Some("modbus_172.3.0.2_502"));
        assert_eq!(codes(&report), ["config.missing_address"]);
        assert!(report.problems[0].message.ends_with("gcom_modbus_client connects to 172.3.0.2"));
        assert_eq!(read_file("modbus_client/n.json", text.as_bytes()).endpoint, None);
    }
    let [(code, severity, message)] = told("configs", &CLIENT.replace(r#""ip_address": "10.0.0.9", "#, "")).try_into().unwrap();
    assert_eq!((code.as_str(), severity), ("config.missing_address", Severity::Alarm));
    assert!(message.ends_with("modbus_client refuses the file, gcom_modbus_client connects to 172.3.0.2"), "{message}");
}

#[test]
fn an_address_beside_a_serial_line_is_an_alarm_only_where_it_is_refused() {
    let text = CLIENT.replace(r#""name""#, r#""serial_device": "/dev/ttyS0", "name""#);
    let gcom = "gcom_modbus_client takes the serial line";
    let both = format!("; modbus_client refuses the file, {gcom}");
    let expected = [
        ("modbus_client", REFUSED),
        ("gcom_modbus_client", Some((Severity::Warning, gcom))),
        ("configs", Some((Severity::Warning, both.as_str()))),
    ];
    each_client_does(&text, "config.both_ip_and_serial", expected);
}

#[test]
fn text_behind_the_json_is_refused_by_gcom_and_goes_unnoticed_in_a_server() {
    let text = format!("{CLIENT}\n}}");
    let expected = [
        ("modbus_client", Some((Severity::Warning, "; modbus_client may take what stands before it"))),
        ("gcom_modbus_client", Some((Severity::Alarm, "; gcom_modbus_client refuses this file and is restarted every 10 s"))),
        ("configs", Some((Severity::Warning, "may take what stands before it, gcom_modbus_client refuses the file"))),
    ];
    each_client_does(&text, "config.extra_data", expected);
    let [(_, severity, _)] = told("modbus_server", &format!("{SERVER}}}")).try_into().unwrap();
    assert_eq!(severity, Severity::Warning);
}

#[test]
fn a_timeout_that_the_process_replaces_is_told() {
    let with = |timeout: &str| CLIENT.replace(r#""name""#, &format!(r#"{timeout}, "name""#));
    let legacy = Some((Severity::Warning, "; modbus_client takes 2 s instead (0 to 10 s are allowed)"));
    let gcom = Some((Severity::Warning, "; gcom_modbus_client takes 30 s instead (2 to 30 s are allowed)"));
    let note = Some((Severity::Info, "; modbus_client takes 2 s instead (0 to 10 s are allowed)"));
    let cases = [
        (r#""connection_timeout": 2"#, [None, None, None]),
        (r#""connection_timeout": 10"#, [None, None, None]),
        (r#""connection_timeout": 20.5"#, [legacy, None, note]),
        (
            r#""connection_timeout": 0.5"#,
            [None, gcom, Some((Severity::Info, "; gcom_modbus_client takes 30 s instead (2 to 30 s are allowed)"))],
        ),
        (r#""transfer_timeout": 0.05"#, [None, None, None]),
        (
            r#""transfer_timeout": 31"#,
            [
                None,
                Some((Severity::Warning, "is 31 s; gcom_modbus_client takes 30 s instead (0.05 to 30 s are allowed)")),
                Some((Severity::Info, "(0.05 to 30 s are allowed)")),
            ],
        ),
    ];
    for (timeout, [legacy, gcom, unknown]) in cases {
        let expected = [("modbus_client", legacy), ("gcom_modbus_client", gcom), ("configs", unknown)];
        each_client_does(&with(timeout), "config.timeout_invalid", expected);
    }
}

/// A client with a heartbeat that these keys configure, on a point of this group and offset.
fn with_heartbeat(keys: &str, group: &str, offset: &str) -> String {
    format!(
        r#"{{"connection": {{"name": "n", "ip_address": "10.0.0.9", "device_id": 1}}, "components": [{{"id": "a", "frequency": 1000,
        "heartbeat_enabled": true, {keys}, "registers": [{{"type": "{group}", "map": [{{"id": "alive", "offset": {offset}}}]}}]}}]}}"#
    )
}

#[test]
fn a_heartbeat_that_its_client_cannot_keep_is_told() {
    const READ: &str = r#""component_heartbeat_read_uri": "alive""#;
    const WRITE: &str = r#""component_heartbeat_write_uri": "alive""#;
    let both = |more: &'static str| Some((Severity::Warning, more));

    let write_only = with_heartbeat(WRITE, "Holding", "1");
    assert_eq!(codes(&read_file("gcom_modbus_client/n.json", write_only.as_bytes())), ["config.heartbeat_not_written"]);
    for (directory, severity) in [("modbus_client", Severity::Alarm), ("configs", Severity::Warning)] {
        let [(code, told_severity, _)] = told(directory, &write_only).try_into().unwrap();
        assert_eq!((code.as_str(), told_severity), ("config.heartbeat_unresolved", severity));
    }

    let short = with_heartbeat(&format!(r#"{READ}, "component_heartbeat_timeout_ms": 999"#), "Input", "1");
    let expected =
        [("modbus_client", REFUSED), ("gcom_modbus_client", None), ("configs", both("; modbus_client refuses the file"))];
    each_client_does(&short, "config.heartbeat_timeout", expected);
    let long_enough = short.replace("999", "1000");
    each_client_does(&long_enough, "", [("modbus_client", None), ("gcom_modbus_client", None), ("configs", None)]);

    let coil = with_heartbeat(READ, "Coil", "1");
    let expected = [
        ("modbus_client", REFUSED),
        ("gcom_modbus_client", both("which is a coil")),
        ("configs", both("which is a coil; modbus_client refuses the file")),
    ];
    each_client_does(&coil, "config.heartbeat_register", expected);

    let minus_one = with_heartbeat(&format!(r#"{READ}, "off_by_one": true"#), "Holding", "0");
    let told = both("at offset 0, and `off_by_one` makes -1 of that");
    each_client_does(
        &minus_one,
        "config.heartbeat_offset",
        [("modbus_client", told), ("gcom_modbus_client", told), ("configs", told)],
    );
    let beyond = with_heartbeat(READ, "Holding", "65536");
    let told = both("at offset 65536, and a request reaches 65535");
    each_client_does(
        &beyond,
        "config.heartbeat_offset",
        [("modbus_client", told), ("gcom_modbus_client", told), ("configs", told)],
    );

    // The keys of a heartbeat that is switched off are not looked at.
    let off = with_heartbeat(r#""component_heartbeat_timeout_ms": "1""#, "Holding", "1").replace("true", "false");
    assert_eq!(codes(&read_file("modbus_client/n.json", off.as_bytes())), Vec::<&str>::new());
}

#[test]
fn a_heartbeat_without_a_timeout_has_the_default_of_its_client() {
    let text = with_heartbeat(r#""component_heartbeat_read_uri": "alive""#, "Input", "1");
    let timeout = |directory: &str| read_file(&format!("{directory}/n.json"), text.as_bytes()).heartbeats[0].timeout_ms;
    assert_eq!((timeout("modbus_client"), timeout("gcom_modbus_client"), timeout("configs")), (Some(2000), None, None));
}

#[test]
fn a_watchdog_counts_only_where_it_is_known() {
    let text = with_heartbeat(r#""watchdog_enabled": true, "watchdog_uri": "gone""#, "Input", "1")
        .replace(r#""heartbeat_enabled": true, "#, "");
    let severities = |directory| told(directory, &text).into_iter().map(|(code, severity, _)| (code, severity)).collect::<Vec<_>>();
    assert_eq!(severities("modbus_client"), [("config.heartbeat_disabled".to_owned(), Severity::Info)]);
    assert_eq!(severities("gcom_modbus_client"), [("config.heartbeat_unresolved".to_owned(), Severity::Alarm)]);
}

const SERVER: &str = r#"{"system": {"id": "s", "ip_address": "0.0.0.0", "device_id": 1}, "registers": {"coils": []}}"#;

#[test]
fn a_list_of_register_maps_is_nothing_to_the_legacy_server() {
    let list = SERVER.replace(r#"{"coils": []}"#, r#"[{"device_id": 1, "coils": []}]"#);
    let severity = |directory| told(directory, &list).into_iter().map(|(code, severity, _)| (code, severity)).collect::<Vec<_>>();
    let unread = |severity| vec![("config.registers_unread".to_owned(), severity)];
    assert_eq!(severity("modbus_server"), unread(Severity::Alarm));
    assert_eq!(severity("gcom_modbus_server"), vec![]);
    assert_eq!(severity("configs"), unread(Severity::Warning));
}

#[test]
fn a_server_that_cannot_have_its_port_is_no_listener() {
    let out_of_range = SERVER.replace(r#""device_id""#, r#""port": 70000, "device_id""#);
    let report = read_file("modbus_server/a.json", out_of_range.as_bytes());
    assert_eq!((codes(&report), &report.endpoint), (vec!["config.port_invalid"], &None));
    let other = read_file("modbus_server/b.json", SERVER.replace(r#""s""#, r#""t""#).as_bytes());
    let topology = assemble(vec![report, other], UtcTime::from_unix_ns(0));
    let codes: Vec<&str> = topology.problems.iter().map(|problem| problem.code.as_str()).collect();
    assert_eq!(codes, ["config.port_invalid"], "no conflict on 502");
}

#[test]
fn a_serial_server_needs_a_unit_and_a_serial_dnp3_channel_an_address() {
    let serial = SERVER.replace(r#""ip_address": "0.0.0.0""#, r#""serial_device": "/dev/ttyS0""#);
    assert_eq!(told("modbus_server", &serial), []);
    let without = serial.replace(r#", "device_id": 1"#, "");
    let report = read_file("modbus_server/a.json", without.as_bytes());
    assert_eq!(
        (codes(&report), report.endpoint.as_ref().map(|endpoint| endpoint.accepts_any_unit)),
        (vec!["config.serial_needs_unit"], Some(false))
    );

    let dnp3 = |address: &str| {
        let text =
            format!(r#"{{"system": {{"id": "a", {address} "conn_type": "RTU", "deviceName": "/dev/ttyS0"}}, "objects": {{}}}}"#);
        let report = read_file("dnp3_client/a.json", text.as_bytes());
        assert_eq!(report.endpoint.as_ref().map(|endpoint| endpoint.transport), Some(Transport::Rtu));
        report.problems.into_iter().map(|problem| problem.code).collect::<Vec<_>>()
    };
    assert_eq!(dnp3(r#""ip_address": "10.0.0.1","#), Vec::<String>::new());
    assert_eq!(dnp3(""), ["config.serial_needs_address"]);
}

#[test]
fn one_mistake_is_one_problem() {
    for (path, text) in [
        ("modbus_client/a.json", CLIENT.replace(r#""name""#, r#""port": "1502", "name""#)),
        ("modbus_server/a.json", SERVER.replace(r#""device_id""#, r#""port": "1502", "device_id""#)),
        ("modbus_server/a.json", SERVER.replace(r#""s""#, "5")),
        ("dnp3_client/a.json", r#"{"system": {"id": "a", "ip_address": "10.0.0.1", "port": "1"}, "objects": {}}"#.to_owned()),
        ("dnp3_client/a.json", r#"{"system": {"id": 5, "ip_address": "10.0.0.1"}, "objects": {}}"#.to_owned()),
    ] {
        assert_eq!(read_file(path, text.as_bytes()).problems.len(), 1, "{text}");
    }
}

/// JSON with the keys that the readers look for, in any place and of any type.
fn config_like() -> impl Strategy<Value = serde_json::Value> {
    let keys = prop::sample::select(vec![
        "connection",
        "components",
        "system",
        "registers",
        "objects",
        "files",
        "ip_address",
        "port",
        "device_id",
        "map",
        "id",
        "type",
        "offset",
        "size",
        "holding_registers",
        "heartbeat_enabled",
        "component_heartbeat_read_uri",
        "watchdog_uri",
        "off_by_one",
        "serial_device",
        "service",
        "conn_type",
        "master_address",
        "frequency",
        "connection_timeout",
        "byte_swap",
        "component_heartbeat_timeout_ms",
        "uri",
        "analog",
        "protocol",
        "Port",
        "device id",
    ]);
    let leaf = prop_oneof![
        Just(serde_json::Value::Null),
        any::<bool>().prop_map(Into::into),
        any::<i64>().prop_map(Into::into),
        (0..300_i64).prop_map(Into::into),
        any::<f64>().prop_map(Into::into),
        prop::sample::select(vec!["10.0.0.1", "0.0.0.0", "host", "Holding", "analog", "RTU", "TLS", "a", "", "##", "/dev/ttyS0"])
            .prop_map(Into::into),
        ".{0,12}".prop_map(Into::into),
    ];
    leaf.prop_recursive(6, 64, 6, move |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Into::into),
            prop::collection::vec((keys.clone(), inner), 0..8).prop_map(|entries| {
                serde_json::Value::Object(entries.into_iter().map(|(key, value)| (key.to_owned(), value)).collect())
            }),
        ]
    })
}

/// A root that is recognised more often than not.
fn root_like() -> impl Strategy<Value = serde_json::Value> {
    (config_like(), config_like(), 0..5_u8).prop_map(|(one, two, shape)| match shape {
        0 => serde_json::json!({"connection": {"ip_address": "10.0.0.1", "port": one}, "components": [two]}),
        1 => serde_json::json!({"system": {"ip_address": "0.0.0.0", "id": "a", "device_id": one}, "registers": {"coils": two}}),
        2 => serde_json::json!({"system": one, "registers": [{"coils": []}, two]}),
        3 => serde_json::json!({"system": {"ip_address": "10.0.0.1", "master_address": one}, "objects": {"analog": two}}),
        _ => one,
    })
}

fn path() -> impl Strategy<Value = String> {
    let directories: Vec<&str> = Process::ALL.iter().map(|process| process.as_str()).chain(["config"]).collect();
    prop::sample::select(directories).prop_map(|directory| format!("{directory}/file.json"))
}

proptest! {
    #[test]
    fn any_json_gives_a_consistent_report(root in root_like(), path in path()) {
        let report = read_file(&path, root.to_string().as_bytes());
        prop_assert_eq!(&report, &read_file(&path, root.to_string().as_bytes()));
        if report.kind == FileKind::NotOurs {
            prop_assert_eq!(&report.problems, &vec![]);
        }
        if let Some(endpoint) = &report.endpoint {
            prop_assert!(endpoint.unit_ids.is_sorted() && endpoint.fims_uris.len() < 1000);
            prop_assert_eq!(endpoint.serial.is_some(), endpoint.port.is_none());
            for heartbeat in &report.heartbeats {
                prop_assert_eq!(&heartbeat.endpoint_id, &endpoint.endpoint_id);
            }
        } else {
            prop_assert_eq!(&report.heartbeats, &vec![]);
        }
    }

    #[test]
    fn any_bytes_are_survived(bytes in prop::collection::vec(any::<u8>(), 0..200), path in path()) {
        read_file(&path, &bytes);
    }

    #[test]
    fn any_damage_to_a_config_is_survived(at in 0..CLIENT.len(), byte: u8, cut in 0..CLIENT.len()) {
        let mut bytes = CLIENT.as_bytes().to_vec();
        bytes[at] = byte;
        read_file("modbus_client/n.json", &bytes);
        let cut = read_file("modbus_client/n.json", &CLIENT.as_bytes()[..cut]);
        prop_assert_eq!(codes(&cut), ["config.json_syntax"]);
    }

    #[test]
    fn the_order_of_files_does_not_matter(
        roots in prop::collection::vec(root_like(), 1..6),
        order in any::<prop::sample::Index>(),
    ) {
        let reports: Vec<_> = roots
            .iter()
            .enumerate()
            .map(|(number, root)| read_file(&format!("modbus_client/{number}.json"), root.to_string().as_bytes()))
            .collect();
        let now = UtcTime::from_unix_ns(0);
        let mut turned = reports.clone();
        turned.reverse();
        let by = order.index(turned.len());
        turned.rotate_left(by);
        prop_assert_eq!(assemble(reports, now), assemble(turned, now));
    }
}
