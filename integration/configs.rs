//! Every config of the shared collection becomes what its manifest says, field by field; and this project's own example site does.
//!
//! The collection lies beside the repository and is not part of it; where it is missing these tests say so and pass.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

#[path = "support/needs.rs"]
#[allow(dead_code)]
mod needs;

use netdiag::{
    api::{Activity, Direction, Endpoint, Heartbeat, HeartbeatKind, Pair, Protocol, Topology, UtcTime},
    topology::{FileKind, FileReport, ScanOptions, Services, compare_ends, read_file, read_file_with, scan},
};
use serde_json::{Map, Value, json};
use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
};

fn read_json(path: &Path) -> Value {
    serde_json::from_slice(&fs::read(path).unwrap()).unwrap()
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}

fn snake(value: impl serde::Serialize) -> Value {
    serde_json::to_value(value).unwrap()
}

/// The class that the manifest would give a report.
fn class(report: &FileReport) -> &'static str {
    let broken =
        ["config.json_syntax", "config.extra_data", "config.template", "config.placeholder_address", "config.missing_address"];
    if report.problems.iter().any(|problem| broken.contains(&problem.code.as_str())) {
        return "broken";
    }
    match (report.kind, report.endpoint.as_ref().map(|endpoint| endpoint.direction)) {
        (FileKind::ModbusClient | FileKind::ModbusClientSingle, _) => "modbus_client",
        (FileKind::ModbusServer | FileKind::ModbusServerUnits, _) => "modbus_server",
        (FileKind::Dnp3Registers | FileKind::Dnp3Objects, Some(Direction::Outbound)) => "dnp3_client",
        (FileKind::Dnp3Registers | FileKind::Dnp3Objects, Some(Direction::Inbound)) => "dnp3_server",
        (FileKind::Dnp3Registers | FileKind::Dnp3Objects, _) => "dnp3_unknown",
        (FileKind::Dnp3FileList, _) => "dnp3_filelist",
        (FileKind::NotOurs | FileKind::ProcessList, _) => "not_config",
        (FileKind::Broken, _) => "broken",
    }
}

/// An endpoint in the manifest's words, with those fields that `expected` has.
fn as_in_manifest(endpoint: &Endpoint, expected: &Value) -> Value {
    let role = match endpoint.direction {
        Direction::Outbound => json!("client"),
        Direction::Inbound => json!("server"),
        Direction::Undetermined => Value::Null,
    };
    let link = endpoint.dnp3_addresses.first();
    let is_master_view = endpoint.direction != Direction::Inbound;
    let components: Vec<Value> = endpoint
        .components
        .iter()
        .map(|component| json!({"id": component.id, "unit_ids": component.unit_ids, "frequency_ms": component.poll_ms}))
        .collect();
    let all = json!({
        "protocol": endpoint.protocol,
        "role": role,
        "transport": endpoint.transport,
        "ip": endpoint.host,
        "port": endpoint.port,
        "port_source": endpoint.port.map(|_| endpoint.port_source),
        "name": endpoint.name,
        "unit_ids": endpoint.unit_ids,
        "uses_default_unit": endpoint.uses_default_unit,
        "accepts_any_unit": endpoint.accepts_any_unit,
        "max_connections": endpoint.max_connections,
        "components": components,
        "local_address": link.map(|link| link.local),
        "remote_address": link.map(|link| link.remote),
        "master_address": link.map(|link| if is_master_view { link.local } else { link.remote }),
        "station_address": link.map(|link| if is_master_view { link.remote } else { link.local }),
        "address_source": link.map(|link| if link.defaulted { "default" } else { "explicit" }),
        "serial": endpoint.serial.as_ref().map(|line| json!({
            "device": line.device, "baud": line.baud_rate, "parity": line.parity,
            "data_bits": line.data_bits, "stop_bits": line.stop_bits,
        })),
        "fims_uris": endpoint.fims_uris.iter().collect::<BTreeSet<_>>(),
    });
    let keys = expected.as_object().unwrap().keys();
    keys.filter(|key| !UNREPRESENTED.contains(&key.as_str()))
        .map(|key| (key.clone(), all.get(key).cloned().unwrap_or_default()))
        .collect()
}

/// What the manifest knows and a topology has no field for.
const UNREPRESENTED: [&str; 5] = ["points", "fims_base", "fims_local", "file_local_address", "file_remote_address"];

/// The manifest's endpoint with all its uris in one sorted list.
fn expected_endpoint(expected: &Value) -> Value {
    let mut fields: Map<String, Value> = expected.as_object().unwrap().clone();
    let named = fields["fims_uris"].as_array().unwrap().iter().map(text);
    let uris: BTreeSet<String> = named.chain(fields.get("fims_base").and_then(Value::as_str)).map(str::to_owned).collect();
    fields.insert("fims_uris".to_owned(), json!(uris));
    fields.retain(|key, _| !UNREPRESENTED.contains(&key.as_str()));
    Value::Object(fields)
}

/// The manifest's heartbeats and watchdogs, one for each direction as the topology has them.
fn expected_heartbeats(entry: &Value) -> Vec<Value> {
    let mut expected = Vec::new();
    let recovered = entry.get("heartbeats_if_recovered").filter(|_| entry["recoverable"] == json!(true));
    for heartbeat in [Some(&entry["heartbeats"]), recovered].into_iter().flatten().flat_map(|list| list.as_array().unwrap()) {
        for kind in ["read", "write"] {
            if heartbeat[kind].is_object() {
                expected.push(json!({
                    "component": heartbeat["component"], "kind": kind, "enabled": heartbeat["enabled"], "point": heartbeat[kind],
                    "timeout_ms": heartbeat["timeout_ms"], "period_ms": heartbeat["write_period_ms"], "max_value": heartbeat["max_value"],
                }));
            }
        }
    }
    for watchdog in entry["watchdogs"].as_array().unwrap() {
        expected.push(json!({
            "component": watchdog["component"], "kind": "watchdog", "enabled": true, "point": watchdog["point"],
            "timeout_ms": watchdog["alarm_ms"],
        }));
    }
    expected
}

fn heartbeat_in_manifest(heartbeat: &Heartbeat) -> Value {
    let point = match (heartbeat.resolved, &heartbeat.point_type) {
        (false, _) => json!({"id": heartbeat.id, "found": false}),
        (true, Some(point_type)) => {
            json!({"id": heartbeat.id, "found": true, "point_type": point_type, "index": heartbeat.point_index})
        }
        (true, None) => json!({
            "id": heartbeat.id, "found": true, "register_type": heartbeat.register_type, "offset": heartbeat.offset,
            "wire_offset": heartbeat.wire_offset, "size": heartbeat.size, "unit_id": heartbeat.unit_id,
        }),
    };
    let mut shown = json!({
        "component": heartbeat.component, "kind": heartbeat.kind, "enabled": heartbeat.enabled, "point": point,
        "timeout_ms": heartbeat.timeout_ms,
    });
    if heartbeat.kind != HeartbeatKind::Watchdog {
        shown["period_ms"] = json!(heartbeat.period_ms);
        shown["max_value"] = json!(heartbeat.max_value);
    }
    shown
}

/// The code of this project for a warning of the manifest.
fn code_of_warning(warning: &str) -> Option<&'static str> {
    Some(match warning.split([':', '(']).next().unwrap_or_default() {
        "heartbeat_configured_but_disabled" => "config.heartbeat_disabled",
        "heartbeat_read_unresolved" | "heartbeat_write_unresolved" => "config.heartbeat_unresolved",
        "ignored_lookalike_keys" => "config.lookalike_key",
        "local_remote_address_ignored_by_loader" => "config.link_address_ignored",
        "missing_address" => "config.missing_address",
        "placeholder_address" => "config.placeholder_address",
        "range_template" | "template_token" => "config.template",
        "role_clues_contradict" => "config.role_undetermined",
        "single_component_format_not_loadable_by_current_clients" => "config.not_loadable",
        "system_device_id_differs_from_register_sections" => "config.server_unit_differs",
        "unit_id_default_depends_on_process" => "config.default_unit",
        "unknown_point_type" => "config.unknown_point_type",
        "unknown_register_section" => "config.unknown_section",
        "port_wrong_type" | "port_out_of_range" => "config.port_invalid",
        "both_ip_and_serial" => "config.both_ip_and_serial",
        "key_case" => "config.key_case",
        "duplicate_key" => "config.duplicate_key",
        "extra_data_after_root" => "config.extra_data",
        "bom" => "config.byte_order_mark",
        "ipv6_not_supported_by_loaders" => "config.ipv6_unsupported",
        "files" => return None,
        other => panic!("the manifest has a warning this test does not know: {other}"),
    })
}

/// Compares one file with its entry in the manifest; what differs is added to `mismatches`.
fn compare(entry: &Value, report: &FileReport, mismatches: &mut Vec<String>) {
    let file = text(&entry["file"]);
    let mut check = |what: &str, actual: Value, expected: Value| {
        if actual != expected {
            mismatches.push(format!("{file}: {what}\n     is {actual}\n should {expected}"));
        }
    };
    check("class", json!(class(report)), entry["class"].clone());

    let mut expected = entry["endpoints"].as_array().unwrap().clone();
    if entry["recoverable"] == json!(true) {
        expected.extend(entry["endpoints_if_recovered"].as_array().unwrap().iter().cloned());
    }
    check("number of endpoints", json!(report.endpoint.iter().count()), json!(expected.len()));
    if let (Some(endpoint), [expected]) = (&report.endpoint, expected.as_slice()) {
        check("endpoint", as_in_manifest(endpoint, expected), expected_endpoint(expected));
    }
    let heartbeats: Vec<Value> = report.heartbeats.iter().map(heartbeat_in_manifest).collect();
    check("heartbeats", json!(heartbeats), json!(expected_heartbeats(entry)));

    let codes: BTreeSet<&str> = report.problems.iter().map(|problem| problem.code.as_str()).collect();
    for warning in entry["warnings"].as_array().unwrap() {
        if let Some(code) = code_of_warning(text(warning)) {
            check(&format!("warning {warning}"), json!(codes.contains(code)), json!(true));
        }
    }
    if let Some(error) = entry["error"].as_str() {
        let code = match text(&entry["error_detail"]) {
            "extra_data_after_root" => "config.extra_data".to_owned(),
            _ => format!("config.{error}"),
        };
        match report.problems.iter().find(|problem| problem.code == code) {
            None => check("error", json!(codes), json!(code)),
            Some(problem) if entry.get("line").is_some() => {
                check("place", json!([problem.line, problem.column]), json!([entry["line"], entry["column"]]));
            }
            Some(_) => {}
        }
    }
    if entry["class"] == "not_config" {
        check("problems of a decoy", snake(&report.problems), json!([]));
    }
}

#[test]
fn every_file_of_the_collection_is_what_its_manifest_says() {
    let Some(configs) = needs::collection("configs") else { return };
    let manifest = read_json(&configs.join("manifest.json"));
    let mut mismatches = Vec::new();
    let files = manifest["files"].as_array().unwrap();
    for entry in files {
        let path = format!("{}/{}", text(&entry["parent_dir"]), text(&entry["original_name"]));
        let report = read_file(&path, &fs::read(configs.join(text(&entry["file"]))).unwrap());
        compare(entry, &report, &mut mismatches);
    }
    assert_eq!(json!(files.len()), manifest["count"]);
    assert!(mismatches.is_empty(), "{} mismatches in {} files:\n{}", mismatches.len(), files.len(), mismatches.join("\n"));
}

#[test]
fn every_synthetic_variant_is_what_its_manifest_says() {
    let Some(configs) = needs::collection("configs") else { return };
    let manifest = read_json(&configs.join("synthetic/manifest.json"));
    let services = Services::parse("modbus-alt 1700/tcp\n");
    let mut mismatches = Vec::new();
    for entry in manifest["files"].as_array().unwrap() {
        let file = text(&entry["file"]);
        let bytes = fs::read(configs.join("synthetic").join(file)).unwrap();
        let name = file.rsplit('/').next().unwrap();
        let read_in = |dir: &str, services: &Services| read_file_with(&format!("{dir}/{name}"), &bytes, services);
        let report = read_in("configs", &Services::default());
        let expected = &entry["expected"];
        let mut check = |what: &str, actual: Value, expected: Value| {
            if actual != expected {
                mismatches.push(format!("{file}: {what}\n     is {actual}\n should {expected}"));
            }
        };
        let endpoint = report.endpoint.as_ref();
        let codes: BTreeSet<&str> = report.problems.iter().map(|problem| problem.code.as_str()).collect();
        match text(&expected["cls"]) {
            "broken" => {
                check("error", json!(codes.contains(format!("config.{}", text(&expected["error"])).as_str())), json!(true));
                let salvaged = endpoint.map(|endpoint| json!({"ip": endpoint.host, "port": endpoint.port}));
                check("salvage", json!(salvaged), expected.get("salvage").cloned().unwrap_or_default());
            }
            _ if expected["warn"] == "extra_data_after_root" => {
                check("class", snake(endpoint.map(|e| e.direction)), json!("inbound"))
            }
            class_name => check("class", json!(class(&report)), json!(class_name)),
        }
        for key in ["ip", "port", "unit_ids", "name", "local_address", "remote_address"] {
            if let (Some(wanted), Some(endpoint)) = (expected.get(key), endpoint) {
                let shown = as_in_manifest(endpoint, &json!({key: null}));
                check(key, shown[key].clone(), wanted.clone());
            }
        }
        if let Some(warning) = expected["warn"].as_str() {
            let code = code_of_warning(warning).unwrap();
            check(warning, json!(codes.contains(code)), json!(true));
        }
        for (key, dir) in [("unit_ids_gcom", "gcom_modbus_client"), ("unit_ids_legacy", "modbus_client")] {
            if let Some(wanted) = expected.get(key) {
                let report = read_in(dir, &services);
                check(key, json!(report.endpoint.map(|endpoint| endpoint.unit_ids)), wanted.clone());
            }
        }
        if expected["gcom"] == "serial wins" {
            let place = |dir| read_in(dir, &services).endpoint.map(|endpoint| endpoint.transport);
            check("gcom", snake(place("gcom_modbus_client")), json!("rtu"));
            check("legacy", snake(place("modbus_client")), json!("tcp"));
        }
        if expected.get("port_candidates").is_some() {
            let port = |services: &Services| read_in("modbus_client", services).endpoint.and_then(|endpoint| endpoint.port);
            check("known service", json!(port(&services)), json!(1700));
            check("unknown service", json!(port(&Services::default())), json!(700));
        }
        for heartbeat in expected["heartbeats"].as_array().into_iter().flatten() {
            for kind in ["read", "write"] {
                let found = report.heartbeats.iter().map(heartbeat_in_manifest).find(|found| found["kind"] == kind).unwrap();
                check("period", found["period_ms"].clone(), heartbeat["write_period_ms"].clone());
                check("timeout", found["timeout_ms"].clone(), heartbeat["timeout_ms"].clone());
                for (key, wanted) in heartbeat[kind].as_object().unwrap() {
                    check(key, found["point"][key].clone(), wanted.clone());
                }
            }
        }
    }
    assert!(mismatches.is_empty(), "{} mismatches:\n{}", mismatches.len(), mismatches.join("\n"));
}

fn scan_dir(dir: PathBuf) -> Topology {
    scan(&ScanOptions { dirs: vec![dir], ..ScanOptions::default() }, UtcTime::from_unix_ns(0))
}

#[test]
fn a_whole_site_has_the_endpoints_of_its_ground_truth() {
    let Some(configs) = needs::collection("configs") else { return };
    let truth = read_json(&configs.join("sites/four_ess.expected.json"));
    for host in truth["hosts"].as_array().unwrap() {
        let name = text(&host["name"]);
        let topology = scan_dir(configs.join("sites/four_ess").join(name).join("config"));
        let processes = host["processes"].as_array().unwrap();
        assert_eq!(topology.endpoints.len(), processes.len(), "{name}");
        assert_eq!(topology.heartbeats, [], "{name}");
        for process in processes {
            let file = text(&process["file"]).rsplit('/').next().unwrap();
            let is_of_file = |endpoint: &&Endpoint| endpoint.config_files.iter().any(|path| path.ends_with(file));
            let endpoint = topology.endpoints.iter().find(is_of_file).unwrap_or_else(|| panic!("{name}: no endpoint of {file}"));
            assert_eq!(as_in_manifest(endpoint, &process["endpoint"]), expected_endpoint(&process["endpoint"]), "{file}");
            assert_eq!(json!(endpoint.process), process["process"], "{file}");
        }
        // The list of processes of the site controller names every Modbus client, and says nothing of the others.
        for endpoint in &topology.endpoints {
            let is_listed = name == "site-controller" && endpoint.protocol == Protocol::Modbus;
            let expected = if is_listed { Activity::Started } else { Activity::Unknown };
            assert_eq!(endpoint.activity, expected, "{name}: {}", endpoint.endpoint_id);
        }
        let severe: Vec<_> = topology.problems.iter().filter(|problem| problem.severity > netdiag::api::Severity::Info).collect();
        assert!(severe.is_empty(), "{name}: {severe:#?}");
    }
}

#[test]
fn a_whole_site_has_the_connections_and_findings_of_its_ground_truth() {
    let Some(configs) = needs::collection("configs") else { return };
    let truth = read_json(&configs.join("sites/four_ess.expected.json"));
    let site = configs.join("sites/four_ess");
    let mut topology = scan_dir(site.clone());
    compare_ends(&mut topology);
    let hosts: BTreeSet<&str> = truth["hosts"].as_array().unwrap().iter().map(|host| text(&host["name"])).collect();
    assert_eq!(topology.controllers.iter().map(|controller| controller.name.as_str()).collect::<BTreeSet<_>>(), hosts);

    // Where a file of the truth lies in the tree, and the endpoint that it is.
    let endpoint_of = |file: &Value| {
        let installed = text(file).split("/config/site/").nth(1).unwrap();
        let path = site.join(installed).display().to_string();
        let endpoint = topology.endpoints.iter().find(|endpoint| endpoint.config_files.contains(&path));
        endpoint.unwrap_or_else(|| panic!("no endpoint of {path}"))
    };
    let edges = truth["edges"].as_array().unwrap();
    assert_eq!(topology.pairs.len(), edges.len());
    for edge in edges {
        let (client, server) = (endpoint_of(&edge["client"]["file"]), endpoint_of(&edge["server"]["file"]));
        let file = text(&edge["client"]["file"]);
        let is_of_both = |pair: &&Pair| pair.client == client.endpoint_id && pair.server == server.endpoint_id;
        let pair = topology.pairs.iter().find(is_of_both).unwrap_or_else(|| panic!("no pair of {file}"));
        assert_eq!(pair.agrees, edge["match"] == "ok", "{file}");
        let owners = (json!(client.controller), json!(server.controller));
        assert_eq!(owners, (edge["client"]["host"].clone(), edge["server"]["host"].clone()), "{file}");
        assert_eq!((snake(client.protocol), snake(client.transport)), (edge["protocol"].clone(), edge["transport"].clone()));
        assert_eq!((json!(client.address), json!(client.port)), (edge["server"]["ip"].clone(), edge["server"]["port"].clone()));
        assert_eq!(
            (json!(server.host), json!(server.unit_ids)),
            (edge["server"]["bind"].clone(), edge["server"]["unit_ids"].clone())
        );
        assert_eq!(
            (json!(client.unit_ids), json!(client.max_connections)),
            (edge["unit_ids"].clone(), edge["max_connections"].clone())
        );
    }

    let codes = [("listener_without_known_client", "config.listener_without_client")];
    let expected: BTreeSet<(&str, &str)> = truth["findings"]
        .as_array()
        .unwrap()
        .iter()
        .map(|finding| {
            let code = codes.iter().find(|(kind, _)| *kind == text(&finding["kind"])).expect("a kind this test knows").1;
            let endpoint = endpoint_of(&finding["file"]);
            assert_eq!(json!(endpoint.controller), finding["host"]);
            assert_eq!(format!("{}:{}", endpoint.host.as_deref().unwrap(), endpoint.port.unwrap()), text(&finding["bind"]));
            (code, endpoint.endpoint_id.as_str())
        })
        .collect();
    let about_ends = |problem: &&netdiag::api::Problem| !problem.code.ends_with("default_unit") && problem.endpoint_id.is_some();
    let found: BTreeSet<(&str, &str)> = topology
        .problems
        .iter()
        .filter(about_ends)
        .filter(|problem| codes.iter().any(|(_, code)| *code == problem.code) || problem.severity > netdiag::api::Severity::Info)
        .map(|problem| (problem.code.as_str(), problem.endpoint_id.as_deref().unwrap()))
        .collect();
    assert_eq!(found, expected);
    assert_eq!(json!(topology.endpoints.len()), truth["summary"]["processes"]);

    // A server that listens on all addresses is held against its client too.
    let copy = tempfile::tempdir().unwrap();
    for client in topology.endpoints.iter().flat_map(|endpoint| &endpoint.config_files) {
        let target = copy.path().join(Path::new(client).strip_prefix(&site).unwrap());
        fs::create_dir_all(target.parent().unwrap()).unwrap();
        let mut config = read_json(Path::new(client));
        if client.ends_with("bess_aux_server.json") || client.ends_with("pv_1_server.json") {
            config["system"]["device_id"] = json!(7);
        }
        fs::write(target, config.to_string()).unwrap();
    }
    let mut changed = scan_dir(copy.path().to_owned());
    compare_ends(&mut changed);
    let mismatches = changed.problems.iter().filter(|problem| problem.code == "config.unit_mismatch").count();
    assert_eq!((mismatches, changed.pairs.iter().filter(|pair| !pair.agrees).count()), (2, 2));
}

#[test]
fn the_example_site_shows_each_kind_of_endpoint() {
    let topology = scan_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/site"));
    let ids: Vec<&str> = topology.endpoints.iter().map(|endpoint| endpoint.endpoint_id.as_str()).collect();
    assert_eq!(
        ids,
        [
            "dnp3_10.20.40.5_20000",
            "dnp3_listen_0.0.0.0_20000",
            "modbus_10.20.30.11_502",
            "modbus_10.20.30.12_502",
            "modbus_10.20.30.20_10502",
            "modbus_listen_0.0.0.0_1502",
            "modbus_rtu_dev_ttyS1",
        ]
    );
    let unresolved = |heartbeat: &&Heartbeat| !heartbeat.resolved;
    assert_eq!(topology.heartbeats.len(), 5);
    assert_eq!(topology.heartbeats.iter().find(unresolved), None);
    let battery = &topology.endpoints[2];
    assert_eq!((battery.unit_ids.as_slice(), battery.max_connections), (&[1, 11, 12][..], Some(2)));
    assert_eq!(topology.endpoints.iter().filter(|endpoint| endpoint.protocol == Protocol::Dnp3).count(), 2);
    assert_eq!(topology.problems, [], "the example is a sound site");
}
