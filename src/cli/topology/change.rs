//! What changed from one topology to the next, as text for people.

use super::site::{place, short};
use crate::{
    api::{Change, Endpoint, FieldChange, Problem, Topology, TopologyChange},
    cli::text::Paint,
};
use serde_json::Value;
use std::fmt::Write as _;

/// The change in words; the two topologies say what the ids mean.
pub(super) fn describe(change: &TopologyChange, before: &Topology, after: &Topology, paint: Paint) -> String {
    let mut text = String::new();
    let of = |topology: &Topology, ids: &[String]| ids.iter().map(|id| with_name(topology, id)).collect::<Vec<_>>();
    names(&mut text, paint.good("+"), "", &of(after, &change.added));
    names(&mut text, paint.bad("-"), "", &of(before, &change.removed));
    changes(&mut text, paint, &change.changed, |id| with_name(after, id));
    names(&mut text, paint.good("+"), "config ", &without_endpoint(after, &change.added, &change.configs_added));
    names(&mut text, paint.bad("-"), "config ", &without_endpoint(before, &change.removed, &change.configs_removed));
    changes(&mut text, paint, &change.configs_changed, |path| format!("config {path}"));
    names(&mut text, paint.good("+"), "heartbeat ", &change.heartbeats_added);
    names(&mut text, paint.bad("-"), "heartbeat ", &change.heartbeats_removed);
    changes(&mut text, paint, &change.heartbeats_changed, |name| format!("heartbeat {name}"));
    names(&mut text, paint.good("+"), "connection ", &change.pairs_added);
    names(&mut text, paint.bad("-"), "connection ", &change.pairs_removed);
    names(&mut text, paint.good("+"), "interface ", &change.interfaces_added);
    names(&mut text, paint.bad("-"), "interface ", &change.interfaces_removed);
    changes(&mut text, paint, &change.interfaces_changed, |name| format!("interface {name}"));
    problems(&mut text, &paint.bad("new problem "), &change.problems_added);
    problems(&mut text, &paint.good("gone        "), &change.problems_resolved);
    let _ = writeln!(text, "{} since {}", change.text, change.before);
    text
}

/// An endpoint's id, and what people call it.
fn with_name(topology: &Topology, id: &str) -> String {
    let Some(endpoint) = topology.endpoints.iter().find(|endpoint| endpoint.endpoint_id == id) else { return id.to_owned() };
    let files = endpoint.config_files.iter().map(|path| short(path));
    let known: Vec<&str> = endpoint.name.as_deref().into_iter().chain(files).collect();
    if known.is_empty() { id.to_owned() } else { format!("{id}  ({})", known.join(", ")) }
}

/// The configs that are not told with an endpoint of theirs.
fn without_endpoint(topology: &Topology, told: &[String], configs: &[String]) -> Vec<String> {
    let is_told = |endpoint: &&Endpoint| told.contains(&endpoint.endpoint_id);
    let files: Vec<&String> = topology.endpoints.iter().filter(is_told).flat_map(|endpoint| &endpoint.config_files).collect();
    configs.iter().filter(|config| !files.contains(config)).cloned().collect()
}

fn names(text: &mut String, mark: String, what: &str, names: &[String]) {
    for name in names {
        let _ = writeln!(text, "{mark} {what}{name}");
    }
}

fn changes(text: &mut String, paint: Paint, changes: &[Change], name: impl Fn(&str) -> String) {
    for change in changes {
        let _ = writeln!(text, "{} {}", paint.doubtful("~"), name(&change.id));
        for line in change.fields.iter().flat_map(field) {
            let _ = writeln!(text, "    {line}");
        }
    }
}

/// A field's change: of a list of things, one line for each that came, went or differs.
fn field(change: &FieldChange) -> Vec<String> {
    let name = change.field.replace('_', " ");
    let (Value::Array(before), Value::Array(after)) = (&change.before, &change.after) else {
        return vec![format!("{name}: {} → {}", words(&change.before), words(&change.after))];
    };
    if !before.iter().chain(after).any(Value::is_object) {
        return vec![format!("{name}: {} → {}", words(&change.before), words(&change.after))];
    }
    let one = name.trim_end_matches("es").trim_end_matches('s');
    let one = if name.ends_with("addresses") { "addresses" } else { one };
    let same_id = |one: &Value, others: &[Value]| {
        others.iter().find(|other| one.get("id").is_some() && one.get("id") == other.get("id")).cloned()
    };
    let mut lines = Vec::new();
    for was in before.iter().filter(|was| !after.contains(was)) {
        match same_id(was, after) {
            Some(is) => lines.extend(inner(was, &is).into_iter().map(|line| format!("{one} {}: {line}", words(&was["id"])))),
            None => lines.push(format!("{one} gone: {}", words(was))),
        }
    }
    for is in after.iter().filter(|is| !before.contains(is) && same_id(is, before).is_none()) {
        lines.push(format!("{one} new: {}", words(is)));
    }
    if lines.is_empty() { vec![format!("{name}: in another order")] } else { lines }
}

/// What differs between two things of one id.
fn inner(before: &Value, after: &Value) -> Vec<String> {
    let (Value::Object(before), Value::Object(after)) = (before, after) else { return Vec::new() };
    let field = |(name, after): (&String, &Value)| {
        let before = before.get(name).unwrap_or(&Value::Null);
        (before != after).then(|| format!("{} {} → {}", name.replace('_', " "), words(before), words(after)))
    };
    after.iter().filter_map(field).collect()
}

/// A value as people write it.
fn words(value: &Value) -> String {
    let fields = |(name, value): (&String, &Value)| format!("{} {}", name.replace('_', " "), words(value));
    let is_said = |(_, value): &(&String, &Value)| !value.is_null() && value.as_array().is_none_or(|list| !list.is_empty());
    match value {
        Value::Null => "none".to_owned(),
        Value::Bool(true) => "yes".to_owned(),
        Value::Bool(false) => "no".to_owned(),
        Value::Number(number) => number.to_string(),
        Value::String(text) => text.clone(),
        Value::Array(values) if values.is_empty() => "none".to_owned(),
        Value::Array(values) => values.iter().map(words).collect::<Vec<_>>().join(", "),
        Value::Object(object) => object.iter().filter(is_said).map(fields).collect::<Vec<_>>().join(" "),
    }
}

fn problems(text: &mut String, mark: &str, problems: &[Problem]) {
    for problem in problems {
        let _ = writeln!(text, "{mark} {} {}{}", problem.code, place(problem), problem.message);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn told(field_name: &str, before: Value, after: Value) -> Vec<String> {
        field(&FieldChange { field: field_name.to_owned(), before, after })
    }

    #[test]
    fn a_change_is_told_in_words() {
        assert_eq!(told("unit_ids", json!([1, 2]), json!([1])), ["unit ids: 1, 2 → 1"]);
        assert_eq!(told("gateway", Value::Null, json!("10.0.0.1")), ["gateway: none → 10.0.0.1"]);
        assert_eq!(told("uses_default_unit", json!(false), json!(true)), ["uses default unit: no → yes"]);
        let component = |id: &str, poll_ms: u64| json!({"id": id, "unit_ids": [1], "poll_ms": poll_ms});
        let (before, after) =
            (json!([component("wd", 500), component("gone", 1)]), json!([component("wd", 200), component("b", 2)]));
        let expected = [
            "component wd: poll ms 500 → 200",
            "component gone: id gone poll ms 1 unit ids 1",
            "component new: id b poll ms 2 unit ids 1",
        ];
        assert_eq!(told("components", before, after), expected);
        let link = |local: u16| json!([{"local": local, "remote": 10, "defaulted": false}]);
        let lines = told("dnp3_addresses", link(1), link(2));
        assert_eq!(lines.len(), 2);
        assert!(lines.iter().all(|line| !line.contains(['{', '"'])), "{lines:?}");
    }
}
