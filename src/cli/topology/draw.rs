//! A topology as a drawing, in the languages of Graphviz and Mermaid.

use crate::api::{Activity, Direction, Endpoint, Severity, Topology};
use std::{
    collections::{BTreeMap, BTreeSet, HashMap, HashSet},
    fmt::Write as _,
};

/// What both languages draw: the controllers, places beside them, and lines between them.
struct Drawing<'t> {
    /// The ids and names of the controllers.
    controllers: Vec<(String, String)>,
    /// The ids of the places and their names: the address, host name or serial line.
    places: Vec<(String, String)>,
    lines: Vec<Line<'t>>,
}

struct Line<'t> {
    endpoint: &'t Endpoint,
    label: String,
    /// Who opens the connection, and who is asked.
    from: String,
    to: String,
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
        let names: Vec<&str> = topology.controllers.iter().map(|controller| controller.name.as_str()).collect();
        let controller = |endpoint: &Endpoint| {
            let of_name = names.iter().position(|name| Some(*name) == endpoint.controller.as_deref());
            of_name.map_or_else(|| "controller".to_owned(), |number| format!("controller{number}"))
        };
        let by_id: HashMap<&str, &Endpoint> =
            topology.endpoints.iter().map(|endpoint| (endpoint.endpoint_id.as_str(), endpoint)).collect();
        let mut server_of: HashMap<&str, &Endpoint> = HashMap::new();
        for pair in &topology.pairs {
            if let Some(server) = by_id.get(pair.server.as_str()) {
                server_of.entry(&pair.client).or_insert(server);
            }
        }
        let paired: HashSet<&str> = topology.pairs.iter().map(|pair| pair.server.as_str()).collect();
        // A pair is one line, that of its client; the rest goes to places or comes from them.
        let drawn = |endpoint: &&Endpoint| !paired.contains(endpoint.endpoint_id.as_str());
        let place = |endpoint: &Endpoint| match (endpoint.direction, &endpoint.serial, endpoint.address) {
            (_, Some(line), _) => line.device.clone(),
            (Direction::Inbound, None, _) => "clients".to_owned(),
            (_, None, Some(address)) => address.to_string(),
            (_, None, None) => endpoint.host.clone().unwrap_or_else(|| "?".to_owned()),
        };
        let beside = |endpoint: &&Endpoint| !server_of.contains_key(endpoint.endpoint_id.as_str());
        let places: BTreeSet<String> = topology.endpoints.iter().filter(drawn).filter(beside).map(place).collect();
        let places: BTreeMap<String, String> =
            places.into_iter().enumerate().map(|(number, name)| (name, format!("place{number}"))).collect();
        let line = |endpoint: &'t Endpoint| {
            let own = controller(endpoint);
            let other = match server_of.get(endpoint.endpoint_id.as_str()) {
                Some(server) => controller(server),
                None => places.get(&place(endpoint)).cloned().unwrap_or_default(),
            };
            let (from, to) = match endpoint.direction {
                Direction::Inbound => (other, own),
                Direction::Outbound | Direction::Undetermined => (own, other),
            };
            Line { endpoint, label: label(endpoint), from, to, worst: worst.get(endpoint.endpoint_id.as_str()).copied() }
        };
        let lines: Vec<Line<'_>> = topology.endpoints.iter().filter(drawn).map(line).collect();
        let mut controllers: Vec<(String, String)> =
            names.iter().enumerate().map(|(number, name)| (format!("controller{number}"), (*name).to_owned())).collect();
        if lines.iter().any(|line| line.from == "controller" || line.to == "controller") || names.is_empty() {
            let name = if names.is_empty() { "this controller" } else { "a controller that is not known" };
            controllers.push(("controller".to_owned(), name.to_owned()));
        }
        Self { controllers, places: places.into_iter().map(|(name, id)| (id, name)).collect(), lines }
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
         fontsize=10];\n",
    );
    let drawing = Drawing::of(topology);
    for (id, name) in &drawing.controllers {
        let _ = writeln!(text, "  {id} [label={}, style=\"rounded,bold\"];", quoted(name));
    }
    for (id, name) in &drawing.places {
        let _ = writeln!(text, "  {id} [label={}];", quoted(name));
    }
    for line in &drawing.lines {
        let style = if line.endpoint.activity == Activity::NotStarted { ", style=dashed" } else { "" };
        let _ = writeln!(text, "  {} -> {} [label={}, color={}{style}];", line.from, line.to, quoted(&line.label), colour(line));
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
    let drawing = Drawing::of(topology);
    let mut text = String::from("flowchart LR\n");
    for (id, name) in &drawing.controllers {
        let _ = writeln!(text, "  {id}([{}])", quoted(name));
    }
    for (id, name) in &drawing.places {
        let _ = writeln!(text, "  {id}[{}]", quoted(name));
    }
    for line in &drawing.lines {
        let arrow = if line.endpoint.activity == Activity::NotStarted { "-.->" } else { "-->" };
        let _ = writeln!(text, "  {} {arrow}|{}| {}", line.from, quoted(&line.label), line.to);
    }
    for (number, line) in drawing.lines.iter().enumerate() {
        let _ = writeln!(text, "  linkStyle {number} stroke:{}", colour(line));
    }
    text
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

    #[test]
    fn a_pair_of_two_controllers_is_one_line_between_them() {
        let client = r#"{"connection": {"name": "c", "ip_address": "10.7.0.2", "device_id": 1},
            "components": [{"id": "c", "frequency": 100}]}"#;
        let server = r#"{"system": {"id": "s", "ip_address": "10.7.0.2", "device_id": 1}, "registers": {}}"#;
        let files = [("site/ess/config/modbus_client/a.json", client), ("site/psm/config/modbus_server/b.json", server)];
        let reports = files.iter().map(|(path, text)| read_file(path, text.as_bytes())).collect();
        let mut topology = assemble(reports, UtcTime::from_unix_ns(0));
        crate::topology::compare_ends(&mut topology);
        let text = dot(&topology);
        assert!(text.contains("controller0 [label=\"ess\"") && text.contains("controller1 [label=\"psm\""), "{text}");
        let lines: Vec<&str> = text.lines().filter(|line| line.contains(" -> ")).collect();
        assert_eq!(lines, [r#"  controller0 -> controller1 [label="c modbus 502 unit 1", color=dimgray];"#]);
        assert!(mermaid(&topology).contains("controller0 -->|\"c modbus 502 unit 1\"| controller1"));
    }
}
