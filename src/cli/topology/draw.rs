//! A topology as a drawing, in the languages of Graphviz and Mermaid.

use crate::api::{Activity, Direction, Endpoint, Severity, Topology};
use std::{
    collections::{BTreeMap, HashMap},
    fmt::Write as _,
};

/// What both languages draw: this controller, places beside it, and lines between them.
struct Drawing<'t> {
    /// Places by their name: the address, host name or serial line.
    places: BTreeMap<String, Vec<Line<'t>>>,
}

struct Line<'t> {
    endpoint: &'t Endpoint,
    label: String,
    /// The worst problem that the configs of the endpoint have.
    worst: Option<Severity>,
}

impl<'t> Drawing<'t> {
    fn of(topology: &'t Topology) -> Self {
        let mut worst: HashMap<&str, Severity> = HashMap::new();
        for problem in &topology.problems {
            if let Some(endpoint_id) = &problem.endpoint_id {
                let entry = worst.entry(endpoint_id).or_insert(problem.severity);
                *entry = (*entry).max(problem.severity);
            }
        }
        let mut places: BTreeMap<String, Vec<Line<'t>>> = BTreeMap::new();
        for endpoint in &topology.endpoints {
            let place = match (endpoint.direction, &endpoint.serial, endpoint.address) {
                (_, Some(line), _) => line.device.clone(),
                (Direction::Inbound, None, _) => "clients".to_owned(),
                (_, None, Some(address)) => address.to_string(),
                (_, None, None) => endpoint.host.clone().unwrap_or_else(|| "?".to_owned()),
            };
            let worst = worst.get(endpoint.endpoint_id.as_str()).copied();
            places.entry(place).or_default().push(Line { endpoint, label: label(endpoint), worst });
        }
        Self { places }
    }
}

/// A line's words: name, protocol and port, and who is asked.
fn label(endpoint: &Endpoint) -> String {
    let mut label = endpoint.name.clone().unwrap_or_default();
    let _ = match endpoint.port {
        Some(port) => write!(label, " {} {port}", endpoint.protocol),
        None => write!(label, " {} serial", endpoint.protocol),
    };
    if !endpoint.unit_ids.is_empty() {
        let units: Vec<String> = endpoint.unit_ids.iter().take(8).map(u8::to_string).collect();
        let more = if endpoint.unit_ids.len() > 8 { ",…" } else { "" };
        let _ = write!(label, " unit {}{more}", units.join(","));
    }
    for link in endpoint.dnp3_addresses.iter().take(4) {
        let _ = write!(label, " link {}→{}", link.local, link.remote);
    }
    label.trim().to_owned()
}

fn colour(line: &Line<'_>) -> &'static str {
    match line.worst {
        Some(Severity::Alarm) => "firebrick",
        Some(Severity::Warning) => "darkorange",
        _ => "dimgray",
    }
}

/// For Graphviz: `netdiag topology --format dot DIR | dot -Tsvg`.
pub(super) fn dot(topology: &Topology) -> String {
    let quoted = |text: &str| format!("\"{}\"", text.replace('\\', "\\\\").replace('"', "\\\"").replace(['\n', '\r'], " "));
    let mut text = String::from(
        "digraph site {\n  rankdir=LR;\n  node [shape=box, style=rounded, fontname=\"sans-serif\"];\n  edge [fontname=\"sans-serif\", \
         fontsize=10];\n  controller [label=\"this controller\", style=\"rounded,bold\"];\n",
    );
    for (number, (place, lines)) in Drawing::of(topology).places.iter().enumerate() {
        let _ = writeln!(text, "  place{number} [label={}];", quoted(place));
        for line in lines {
            let (from, to) = ends(line.endpoint, &format!("place{number}"));
            let style = if line.endpoint.activity == Activity::NotStarted { ", style=dashed" } else { "" };
            let _ = writeln!(text, "  {from} -> {to} [label={}, color={}{style}];", quoted(&line.label), colour(line));
        }
    }
    text + "}\n"
}

/// For Mermaid, which many web pages draw.
pub(super) fn mermaid(topology: &Topology) -> String {
    // Everything that has a meaning in Mermaid or HTML is written as a numeric entity.
    let quoted = |text: &str| {
        let plain = |c: char| c.is_alphanumeric() || " .,:_-/→…".contains(c);
        let escaped: String = text.chars().map(|c| if plain(c) { c.to_string() } else { format!("#{};", u32::from(c)) }).collect();
        format!("\"{escaped}\"")
    };
    let mut text = String::from("flowchart LR\n  controller([\"this controller\"])\n");
    let mut styles = String::new();
    let mut drawn = 0;
    for (number, (place, lines)) in Drawing::of(topology).places.iter().enumerate() {
        let _ = writeln!(text, "  place{number}[{}]", quoted(place));
        for line in lines {
            let (from, to) = ends(line.endpoint, &format!("place{number}"));
            let arrow = if line.endpoint.activity == Activity::NotStarted { "-.->" } else { "-->" };
            let _ = writeln!(text, "  {from} {arrow}|{}| {to}", quoted(&line.label));
            let _ = writeln!(styles, "  linkStyle {drawn} stroke:{}", colour(line));
            drawn += 1;
        }
    }
    text + &styles
}

/// From who opens the connection to who is asked.
fn ends(endpoint: &Endpoint, place: &str) -> (String, String) {
    let controller = "controller".to_owned();
    match endpoint.direction {
        Direction::Inbound => (place.to_owned(), controller),
        Direction::Outbound | Direction::Undetermined => (controller, place.to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        api::UtcTime,
        topology::{assemble, read_file},
    };

    fn site() -> Topology {
        let client = r#"{"connection": {"name": "a \"b\" #1;", "ip_address": "10.0.0.1", "device_id": 1}, "components": []}"#;
        let server = r#"{"system": {"id": "s", "ip_address": "0.0.0.0"}, "registers": {}}"#;
        let reports = [("modbus_client/a.json", client), ("modbus_server/s.json", server)];
        assemble(reports.iter().map(|(path, text)| read_file(path, text.as_bytes())).collect(), UtcTime::from_unix_ns(0))
    }

    #[test]
    fn dot_draws_a_line_for_each_endpoint_and_quotes_names() {
        let text = dot(&site());
        assert_eq!(text.lines().filter(|line| line.contains(" -> ")).count(), 2);
        assert!(text.contains(r#"controller -> place0 [label="a \"b\" #1; modbus 502""#), "{text}");
        assert!(text.contains("place1 -> controller"), "who connects is where the arrow begins: {text}");
    }

    #[test]
    fn mermaid_draws_the_same_and_escapes_what_has_a_meaning_there() {
        let text = mermaid(&site());
        assert!(text.starts_with("flowchart LR\n"));
        assert!(text.contains(r#"controller -->|"a #34;b#34; #35;1#59; modbus 502"| place0"#), "{text}");
        assert!(text.contains("linkStyle 1 stroke:"));
    }
}
