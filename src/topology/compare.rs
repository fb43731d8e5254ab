//! What changed from one topology to the next.

use crate::api::{Change, Endpoint, FieldChange, Interface, Problem, Topology, TopologyChange};
use serde::Serialize;
use serde_json::Value;
use std::collections::BTreeMap;

/// Of an interface, what changes all the time.
const EVER_CHANGING: [&str; 2] = ["counters", "carrier_changes"];

/// Compares two topologies. The order of what they hold does not matter, nor does when they were read.
pub fn compare(before: &Topology, after: &Topology) -> TopologyChange {
    let endpoints = difference(by_id(&before.endpoints), by_id(&after.endpoints), &[]);
    let interfaces = difference(by_name(&before.interfaces), by_name(&after.interfaces), &EVER_CHANGING);
    // A problem that moved to another line is the same problem.
    let is_same = |one: &Problem, other: &Problem| {
        (&one.code, &one.path, &one.endpoint_id, &one.message) == (&other.code, &other.path, &other.endpoint_id, &other.message)
    };
    let missing_in = |others: &[Problem], problem: &&Problem| !others.iter().any(|other| is_same(problem, other));
    let problems_added: Vec<Problem> =
        after.problems.iter().filter(|problem| missing_in(&before.problems, problem)).cloned().collect();
    let problems_resolved: Vec<Problem> =
        before.problems.iter().filter(|problem| missing_in(&after.problems, problem)).cloned().collect();
    let mut change = TopologyChange {
        text: String::new(),
        added: endpoints.added,
        removed: endpoints.removed,
        changed: endpoints.changed,
        interfaces_added: interfaces.added,
        interfaces_removed: interfaces.removed,
        interfaces_changed: interfaces.changed,
        problems_added,
        problems_resolved,
        before: before.scanned_at,
        scanned_at: after.scanned_at,
        truncated: false,
    };
    change.text = sentence(&change);
    change
}

struct Difference {
    added: Vec<String>,
    removed: Vec<String>,
    changed: Vec<Change>,
}

fn by_id(endpoints: &[Endpoint]) -> BTreeMap<&str, &Endpoint> {
    endpoints.iter().map(|endpoint| (endpoint.endpoint_id.as_str(), endpoint)).collect()
}

fn by_name(interfaces: &[Interface]) -> BTreeMap<&str, &Interface> {
    interfaces.iter().map(|interface| (interface.name.as_str(), interface)).collect()
}

fn difference<T: Serialize + PartialEq>(before: BTreeMap<&str, &T>, after: BTreeMap<&str, &T>, ignored: &[&str]) -> Difference {
    let without = |these: &BTreeMap<&str, &T>, others: &BTreeMap<&str, &T>| {
        these.keys().filter(|name| !others.contains_key(*name)).map(|name| (*name).to_owned()).collect()
    };
    let changed = after
        .iter()
        .filter_map(|(name, now)| {
            let then = before.get(name).filter(|then| **then != *now)?;
            let fields = fields(then, now, ignored);
            (!fields.is_empty()).then(|| Change { id: (*name).to_owned(), fields })
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
        api::UtcTime,
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
}
