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
    let text = "{\n \"connection\": {\n  \"name\": \"n\", \"ip_address\": \"10.0.0.9\", \"port\": \"502\",\n  \"device_id\": 300\n },\n \
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
            at(text, "config.wrong_type", "\"port\""),
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
    let text = r#"{"connection": {"name": "n", "ip_address": "10.0.0.9", "off_by_one": true}, "components": [
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
