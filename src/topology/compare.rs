//! What changed from one topology to the next.

use crate::api::{
    Change, ConfigUse, Endpoint, FieldChange, Heartbeat, HeartbeatKind, Interface, Pair, Problem, Severity, Topology,
    TopologyChange,
};
use serde::Serialize;
use serde_json::Value;
use std::collections::{BTreeMap, HashMap, HashSet};

/// Of an interface, what changes all the time.
const EVER_CHANGING: [&str; 2] = ["counters", "carrier_changes"];

/// Compares two topologies. The order of what they hold does not matter, nor does when they were read.
pub fn compare(before: &Topology, after: &Topology) -> TopologyChange {
    let endpoints = difference(by_id(&before.endpoints), by_id(&after.endpoints), &[]);
    let heartbeats = difference(by_use(&before.heartbeats), by_use(&after.heartbeats), &[]);
    let (configs_before, configs_after) = (uses(&before.configs), uses(&after.configs));
    let configs = difference(by_path(&configs_before), by_path(&configs_after), &[]);
    let pairs = difference(by_ends(&before.pairs), by_ends(&after.pairs), &["agrees"]);
    let interfaces = difference(by_name(&before.interfaces), by_name(&after.interfaces), &EVER_CHANGING);
    let mut change = TopologyChange {
        text: String::new(),
        added: endpoints.added,
        removed: endpoints.removed,
        changed: endpoints.changed,
        heartbeats_added: heartbeats.added,
        heartbeats_removed: heartbeats.removed,
        heartbeats_changed: heartbeats.changed,
        configs_added: configs.added,
        configs_removed: configs.removed,
        configs_changed: configs.changed,
        pairs_added: pairs.added,
        pairs_removed: pairs.removed,
        interfaces_added: interfaces.added,
        interfaces_removed: interfaces.removed,
        interfaces_changed: interfaces.changed,
        problems_added: without(&after.problems, &before.problems),
        problems_resolved: without(&before.problems, &after.problems),
        before: before.scanned_at,
        scanned_at: after.scanned_at,
        truncated: false,
    };
    change.text = sentence(&change);
    change
}

/// The problems that are not among others. One that moved to another line, or with its config to another endpoint, is the same.
fn without(problems: &[Problem], others: &[Problem]) -> Vec<Problem> {
    let others: HashSet<_> = others.iter().map(same_problem).collect();
    problems.iter().filter(|problem| !others.contains(&same_problem(problem))).cloned().collect()
}

fn same_problem(problem: &Problem) -> (&str, Severity, Option<&str>, &str) {
    (&problem.code, problem.severity, problem.path.as_deref(), &problem.message)
}

struct Difference {
    added: Vec<String>,
    removed: Vec<String>,
    changed: Vec<Change>,
}

fn by_id(endpoints: &[Endpoint]) -> BTreeMap<String, &Endpoint> {
    endpoints.iter().map(|endpoint| (endpoint.endpoint_id.clone(), endpoint)).collect()
}

/// By config file, component and kind; those after the first of one name are numbered.
fn by_use(heartbeats: &[Heartbeat]) -> BTreeMap<String, &Heartbeat> {
    let mut named = BTreeMap::new();
    let mut times: HashMap<String, u32> = HashMap::new();
    for heartbeat in heartbeats {
        let kind = match heartbeat.kind {
            HeartbeatKind::Read => "read",
            HeartbeatKind::Write => "write",
            HeartbeatKind::Watchdog => "watchdog",
        };
        let name = format!("{} {} {kind}", heartbeat.config_file, heartbeat.component);
        let times = times.entry(name.clone()).or_default();
        *times += 1;
        named.insert(if *times > 1 { format!("{name} {times}") } else { name }, heartbeat);
    }
    named
}

/// The uses without the ids of processes: one that was started anew is the same.
fn uses(configs: &[ConfigUse]) -> Vec<ConfigUse> {
    let mut configs = configs.to_vec();
    for starter in configs.iter_mut().flat_map(|config| &mut config.starters) {
        starter.pid = None;
    }
    configs
}

fn by_path(configs: &[ConfigUse]) -> BTreeMap<String, &ConfigUse> {
    configs.iter().map(|config| (config.path.clone(), config)).collect()
}

fn by_ends(pairs: &[Pair]) -> BTreeMap<String, &Pair> {
    pairs.iter().map(|pair| (format!("{} > {}", pair.client, pair.server), pair)).collect()
}

fn by_name(interfaces: &[Interface]) -> BTreeMap<String, &Interface> {
    interfaces.iter().map(|interface| (interface.name.clone(), interface)).collect()
}

fn difference<T: Serialize + PartialEq>(before: BTreeMap<String, &T>, after: BTreeMap<String, &T>, ignored: &[&str]) -> Difference {
    let without = |these: &BTreeMap<String, &T>, others: &BTreeMap<String, &T>| {
        these.keys().filter(|name| !others.contains_key(*name)).cloned().collect()
    };
    let changed = after
        .iter()
        .filter_map(|(name, now)| {
            let then = before.get(name).filter(|then| **then != *now)?;
            let fields = fields(then, now, ignored);
            (!fields.is_empty()).then(|| Change { id: name.clone(), fields })
        })
        .collect();
    Difference { added: without(&after, &before), removed: without(&before, &after), changed }
}

/// The fields of two values of one type that differ.
fn fields<T: Serialize>(before: &T, after: &T, ignored: &[&str]) -> Vec<FieldChange> {
    let (Ok(Value::Object(mut before)), Ok(Value::Object(after))) = (serde_json::to_value(before), serde_json::to_value(after))
    else {
        return Vec::new();
    };
    let field = |(field, after): (String, Value)| {
        let before = before.remove(&field).unwrap_or_default();
        (before != after && !ignored.contains(&field.as_str())).then_some(FieldChange { field, before, after })
    };
    after.into_iter().filter_map(field).collect()
}

fn sentence(change: &TopologyChange) -> String {
    let counts = [
        (change.added.len(), "endpoint", "added"),
        (change.removed.len(), "endpoint", "removed"),
        (change.changed.len(), "endpoint", "changed"),
        (change.heartbeats_added.len(), "heartbeat", "added"),
        (change.heartbeats_removed.len(), "heartbeat", "removed"),
        (change.heartbeats_changed.len(), "heartbeat", "changed"),
        (change.configs_added.len(), "config", "added"),
        (change.configs_removed.len(), "config", "removed"),
        (change.configs_changed.len(), "config", "changed"),
        (change.pairs_added.len(), "pair", "added"),
        (change.pairs_removed.len(), "pair", "removed"),
        (change.interfaces_added.len(), "interface", "added"),
        (change.interfaces_removed.len(), "interface", "removed"),
        (change.interfaces_changed.len(), "interface", "changed"),
        (change.problems_added.len(), "problem", "new"),
        (change.problems_resolved.len(), "problem", "gone"),
    ];
    let parts: Vec<String> = counts
        .into_iter()
        .filter(|(count, ..)| *count > 0)
        .map(|(count, what, how)| format!("{count} {what}{} {how}", if count == 1 { "" } else { "s" }))
        .collect();
    if parts.is_empty() { "nothing changed".to_owned() } else { parts.join(", ") }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        api::{Activity, ConfigStarter, StarterKind, UtcTime},
        topology::{assemble, read_file},
    };

    fn topology(files: &[(&str, u8)]) -> Topology {
        let text = |unit: u8| {
            format!(
                r#"{{"connection": {{"name": "n", "ip_address": "10.0.0.1", "port": 50{unit}, "device_id": 1}}, "components": []}}"#
            )
        };
        let reports = files.iter().map(|(path, unit)| read_file(path, text(*unit).as_bytes())).collect();
        assemble(reports, UtcTime::from_unix_ns(0))
    }

    #[test]
    fn nothing_changes_against_itself_whenever_it_was_read() {
        let before = topology(&[("modbus_client/a.json", 1)]);
        let mut after = before.clone();
        after.scanned_at = UtcTime::from_unix_ns(1_000_000_000);
        let change = compare(&before, &after);
        assert!(change.is_empty());
        assert_eq!(change.text, "nothing changed");
    }

    #[test]
    fn what_came_went_and_differs_is_named() {
        let before = topology(&[("modbus_client/a.json", 1), ("modbus_client/b.json", 2)]);
        let after = topology(&[("modbus_client/b2.json", 2), ("modbus_client/c.json", 3), ("modbus_client/d.json", 3)]);
        let change = compare(&before, &after);
        assert_eq!(
            (change.added, change.removed),
            (vec!["modbus_10.0.0.1_503".to_owned()], vec!["modbus_10.0.0.1_501".to_owned()])
        );
        let [Change { id, fields }] = &change.changed[..] else { panic!("{:?}", change.changed) };
        assert_eq!((id.as_str(), fields.len(), fields[0].field.as_str()), ("modbus_10.0.0.1_502", 1, "config_files"));
        assert_eq!(fields[0].after, serde_json::json!(["modbus_client/b2.json"]));
        assert_eq!(change.text, "1 endpoint added, 1 endpoint removed, 1 endpoint changed");
    }

    #[test]
    fn an_interface_that_carries_packets_has_not_changed_and_one_that_went_down_has() {
        let mut before = topology(&[]);
        before.interfaces.push(Interface { name: "eth0".to_owned(), up: true, running: true, ..Interface::default() });
        let mut after = before.clone();
        after.interfaces[0].carrier_changes = Some(2);
        assert!(compare(&before, &after).is_empty());
        after.interfaces[0].running = false;
        assert_eq!(compare(&before, &after).text, "1 interface changed");
    }

    #[test]
    fn a_heartbeat_on_another_register_has_changed_and_so_has_what_is_started() {
        let site = |offset: u32, watchdog: u32| {
            let text = format!(
                r#"{{"connection": {{"name": "n", "ip_address": "10.0.0.1", "device_id": 1}}, "components": [{{"id": "bms",
                "heartbeat_enabled": true, "component_heartbeat_read_uri": "life", "component_heartbeat_timeout_ms": {watchdog},
                "component_heartbeat_write_uri": "beat", "registers": [
                {{"type": "Holding Registers", "map": [{{"id": "life", "offset": 3}}, {{"id": "beat", "offset": {offset}}}]}}]}}]}}"#
            );
            assemble(vec![read_file("modbus_client/a.json", text.as_bytes())], UtcTime::from_unix_ns(0))
        };
        let change = compare(&site(10, 2000), &site(99, 2000));
        let [Change { id, fields }] = &change.heartbeats_changed[..] else { panic!("{:?}", change.heartbeats_changed) };
        assert_eq!(id, "modbus_client/a.json bms write");
        let fields: Vec<&str> = fields.iter().map(|field| field.field.as_str()).collect();
        assert_eq!((fields, change.is_empty()), (vec!["offset", "wire_offset"], false));
        assert_eq!(change.text, "1 heartbeat changed");
        assert_eq!(compare(&site(10, 2000), &site(10, 3000)).text, "2 heartbeats changed");

        let (mut before, mut after) = (site(10, 2000), site(10, 2000));
        let started = |activity, pid| ConfigUse {
            path: "dnp3_server/list.json".to_owned(),
            process: None,
            activity,
            starters: vec![ConfigStarter { kind: StarterKind::Running, name: "p".to_owned(), pid: Some(pid), overrides: vec![] }],
        };
        before.configs.push(started(Activity::Started, 1));
        after.configs.push(started(Activity::Started, 2));
        assert!(compare(&before, &after).is_empty(), "it was only started anew");
        after.configs[0].activity = Activity::NotStarted;
        assert_eq!(compare(&before, &after).text, "1 config changed");
    }

    #[test]
    fn a_problem_that_moved_with_its_config_is_the_same() {
        let mut before = topology(&[("modbus_client/a.json", 1)]);
        let problem = |endpoint_id: &str, severity| Problem {
            code: "config.duplicate_key".to_owned(),
            severity,
            path: Some("modbus_client/a.json".to_owned()),
            line: Some(1),
            column: None,
            endpoint_id: Some(endpoint_id.to_owned()),
            message: "twice".to_owned(),
        };
        let mut after = before.clone();
        before.problems.push(problem("a", Severity::Info));
        after.problems.push(problem("b", Severity::Info));
        assert!(compare(&before, &after).is_empty());
        after.problems[0].severity = Severity::Alarm;
        assert!(!compare(&before, &after).is_empty(), "it matters more now");
    }
}
