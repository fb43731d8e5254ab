//! A topology as text for people: devices and what is asked of them, ports that are listened on, interfaces, problems.

use crate::{
    api::{
        Activity, Direction, Endpoint, Heartbeat, HeartbeatKind, Host, Interface, PortSource, Problem, RegisterType, Severity,
        Topology,
    },
    cli::text::{Paint, wrap},
    topology::ProblemCode,
};
use std::{collections::BTreeMap, fmt::Write as _};

/// So many problems of one code are shown, unless all are asked for.
const SHOWN_OF_A_CODE: usize = 5;
/// So many heartbeats of one endpoint are shown, unless all are asked for.
const SHOWN_HEARTBEATS: usize = 4;

pub(super) fn describe(topology: &Topology, paint: Paint, width: usize, all: bool) -> String {
    let mut text = String::new();
    let mut controllers: Vec<Option<&str>> = topology.controllers.iter().map(|controller| Some(controller.name.as_str())).collect();
    controllers.push(None);
    for controller in controllers {
        describe_controller(&mut text, controller, topology, paint, all);
    }
    if !topology.interfaces.is_empty() {
        let _ = writeln!(text, "{}", paint.bold("Interfaces of this host"));
        for interface in &topology.interfaces {
            let _ = writeln!(text, "  {}", interface_line(interface, paint));
        }
        text.push('\n');
    }
    describe_problems(&mut text, &topology.problems, paint, width, all);
    let count = |severity| topology.problems.iter().filter(|problem| problem.severity == severity).count();
    let names: Vec<&str> = topology.controllers.iter().map(|controller| controller.name.as_str()).collect();
    let of_controllers = match names.as_slice() {
        [] => String::new(),
        names => format!(" of {} ({})", number(names.len(), "controller"), names.join(", ")),
    };
    let _ = writeln!(
        text,
        "{}{of_controllers} on {}, {}, out of {}: {}, {}, {}",
        number(topology.endpoints.len(), "endpoint"),
        number(topology.hosts.len(), "host"),
        number(topology.heartbeats.len(), "heartbeat"),
        number(topology.files_scanned as usize, "file"),
        number(count(Severity::Alarm), "alarm"),
        number(count(Severity::Warning), "warning"),
        number(count(Severity::Info), "note"),
    );
    text
}

fn describe_controller(text: &mut String, controller: Option<&str>, topology: &Topology, paint: Paint, all: bool) {
    let who = match controller {
        Some(name) => name,
        None if topology.controllers.is_empty() => "This controller",
        None => "A controller that is not known",
    };
    let sections = [
        (Direction::Outbound, format!("{who} connects to")),
        (Direction::Inbound, format!("{who} listens on")),
        (Direction::Undetermined, "Role undetermined, so never probed".to_owned()),
    ];
    for (direction, title) in sections {
        let mut places: BTreeMap<String, Vec<&Endpoint>> = BTreeMap::new();
        let belongs = |endpoint: &&Endpoint| endpoint.direction == direction && endpoint.controller.as_deref() == controller;
        for endpoint in topology.endpoints.iter().filter(belongs) {
            places.entry(place_key(endpoint)).or_default().push(endpoint);
        }
        if places.is_empty() {
            continue;
        }
        let _ = writeln!(text, "{}", paint.bold(&title));
        for endpoints in places.values() {
            describe_place(text, endpoints, topology, paint, all);
        }
        text.push('\n');
    }
}

fn number(count: usize, what: &str) -> String {
    format!("{count} {what}{}", if count == 1 { "" } else { "s" })
}

/// Sorts addresses by their number, then names, then serial lines.
fn place_key(endpoint: &Endpoint) -> String {
    match (endpoint.address, &endpoint.serial) {
        (_, Some(line)) => format!("2{}", line.device),
        (Some(std::net::IpAddr::V4(address)), None) => format!("0{:010}", address.to_bits()),
        (Some(address), None) => format!("1{address}"),
        (None, None) => format!("1{}", endpoint.host.as_deref().unwrap_or_default()),
    }
}

fn describe_place(text: &mut String, endpoints: &[&Endpoint], topology: &Topology, paint: Paint, all: bool) {
    let Some(first) = endpoints.first() else { return };
    let host: Option<&Host> = first.address.and_then(|address| topology.hosts.iter().find(|host| host.address == address));
    let shown = match (&first.serial, first.address) {
        (Some(line), _) => line.device.clone(),
        (None, Some(address)) if address.is_unspecified() => format!("{address} (all addresses)"),
        (None, Some(address)) => address.to_string(),
        (None, None) => format!("{} (not resolved)", first.host.as_deref().unwrap_or("?")),
    };
    let names = host
        .map(|host| host.names.join(", "))
        .filter(|names| !names.is_empty())
        .map_or(String::new(), |names| format!(" ({names})"));
    let _ = writeln!(text, "  {}{names}{}", paint.bold(&shown), paint.faint(&way(first)));
    let columns = endpoints.iter().map(|endpoint| port(endpoint).chars().count()).max().unwrap_or_default().max(6);
    for endpoint in endpoints {
        let is_used = |heartbeat: &&Heartbeat| heartbeat.endpoint_id == endpoint.endpoint_id && heartbeat.enabled;
        let heartbeats: Vec<&Heartbeat> = topology.heartbeats.iter().filter(is_used).collect();
        let _ = writeln!(text, "    {}", endpoint_line(endpoint, columns, &heartbeats, paint));
        if let Some(line) = other_ends(endpoint, topology) {
            let _ = writeln!(text, "        {}", paint.faint(&line));
        }
        let shown = if all || heartbeats.len() <= SHOWN_HEARTBEATS + 1 { heartbeats.len() } else { SHOWN_HEARTBEATS };
        for heartbeat in heartbeats.iter().take(shown) {
            let _ = writeln!(text, "        {}", paint.faint(&heartbeat_line(heartbeat)));
        }
        if shown < heartbeats.len() {
            let _ = writeln!(text, "        … and {} more; --all shows them", heartbeats.len() - shown);
        }
    }
}

/// Who is at the other end, where that is known.
fn other_ends(endpoint: &Endpoint, topology: &Topology) -> Option<String> {
    let id = endpoint.endpoint_id.as_str();
    let other = |pair: &crate::api::Pair| match (pair.client == id, pair.server == id) {
        (true, _) => Some(pair.server.clone()),
        (_, true) => Some(pair.client.clone()),
        _ => None,
    };
    let others: Vec<String> = topology.pairs.iter().filter_map(other).collect();
    let named = |endpoint: &&Endpoint| others.contains(&endpoint.endpoint_id);
    let files: Vec<String> = topology.endpoints.iter().filter(named).map(|endpoint| in_short(endpoint, true)).collect();
    let what = if endpoint.direction == Direction::Inbound { "used by" } else { "served by" };
    (!files.is_empty()).then(|| format!("{what} {}", files.join(", ")))
}

/// The configs of an endpoint, with the controller where that is asked for.
fn in_short(endpoint: &Endpoint, with_controller: bool) -> String {
    let of = match endpoint.controller.as_deref().filter(|_| with_controller) {
        Some(controller) => format!(" of {controller}"),
        None => String::new(),
    };
    match endpoint.config_files.as_slice() {
        [] => endpoint.endpoint_id.clone(),
        [one] => format!("{}{of}", short(one)),
        [one, more @ ..] => format!("{} and {} more{of}", short(one), more.len()),
    }
}

/// The folder and the file of a path: `modbus_client/bms.json`.
pub(super) fn short(path: &str) -> &str {
    match path.rmatch_indices('/').nth(1) {
        Some((before, _)) => path.get(before + 1..).unwrap_or(path),
        None => path,
    }
}

/// What is read or written, and when it counts as lost: `reads life of bms: unit 1, input 3; lost after 2000 ms`.
fn heartbeat_line(heartbeat: &Heartbeat) -> String {
    let does = match heartbeat.kind {
        HeartbeatKind::Read => "reads",
        HeartbeatKind::Write => "writes",
        HeartbeatKind::Watchdog => "watches",
    };
    let what = format!("{does} {} of {}", heartbeat.id, heartbeat.component);
    if !heartbeat.resolved {
        return format!("{what}: not resolved");
    }
    let mut parts = Vec::new();
    if let (Some(point_type), Some(index)) = (&heartbeat.point_type, heartbeat.point_index) {
        parts.push(format!("{point_type} {index}"));
    }
    if let (Some(register_type), Some(offset)) = (heartbeat.register_type, heartbeat.wire_offset) {
        let unit = heartbeat.unit_id.map_or_else(|| "default unit".to_owned(), |unit| format!("unit {unit}"));
        let table = match register_type {
            RegisterType::Coil => "coil",
            RegisterType::DiscreteInput => "discrete input",
            RegisterType::Input => "input",
            RegisterType::Holding => "holding",
        };
        let last = heartbeat.size.filter(|&size| size > 1).map(|size| offset.saturating_add(u32::from(size) - 1));
        parts.push(match last {
            Some(last) => format!("{unit}, {table} {offset} to {last}"),
            None => format!("{unit}, {table} {offset}"),
        });
    }
    parts.extend(heartbeat.period_ms.filter(|&period| period > 0).map(|period| format!("every {period} ms")));
    parts.extend(heartbeat.timeout_ms.filter(|&timeout| timeout > 0).map(|timeout| format!("lost after {timeout} ms")));
    format!("{what}: {}", parts.join(", "))
}

/// How the kernel sends there.
fn way(endpoint: &Endpoint) -> String {
    match (&endpoint.interface, endpoint.source_address, endpoint.gateway) {
        (Some(interface), Some(source), Some(gateway)) => format!("  by {interface} from {source} through {gateway}"),
        (Some(interface), Some(source), None) => format!("  by {interface} from {source}"),
        (Some(interface), None, Some(gateway)) => format!("  by {interface} through {gateway}"),
        (Some(interface), None, None) => format!("  on {interface}"),
        _ => String::new(),
    }
}

fn port(endpoint: &Endpoint) -> String {
    match (&endpoint.serial, endpoint.port) {
        (Some(line), _) => format!("{} baud", line.baud_rate),
        (None, Some(port)) => port.to_string(),
        (None, None) => "?".to_owned(),
    }
}

fn endpoint_line(endpoint: &Endpoint, columns: usize, heartbeats: &[&Heartbeat], paint: Paint) -> String {
    let port = port(endpoint);
    let mut parts = vec![format!("{:<6} {port:<columns$} {:<24}", endpoint.protocol, endpoint.name.as_deref().unwrap_or("-"))];
    match endpoint.port_source {
        _ if endpoint.serial.is_some() => {}
        PortSource::Explicit => {}
        PortSource::Default => parts.push("default port".to_owned()),
        PortSource::Service => parts.push("port of the service".to_owned()),
        PortSource::Invalid => parts.push("the config's port is not valid".to_owned()),
    }
    if !endpoint.unit_ids.is_empty() {
        parts.push(format!("{} {}", if endpoint.unit_ids.len() == 1 { "unit" } else { "units" }, ranges(&endpoint.unit_ids)));
    } else if endpoint.accepts_any_unit {
        parts.push("any unit".to_owned());
    }
    if endpoint.uses_default_unit {
        parts.push("default unit".to_owned());
    }
    parts.extend(endpoint.dnp3_addresses.iter().map(|link| format!("link {} to {}", link.local, link.remote)));
    let mut polls: Vec<u64> = endpoint.components.iter().filter_map(|component| component.poll_ms).collect();
    polls.sort_unstable();
    polls.dedup();
    match (polls.first(), polls.last()) {
        (Some(first), Some(last)) if first == last => parts.push(format!("every {first} ms")),
        (Some(first), Some(last)) => parts.push(format!("every {first} to {last} ms")),
        _ => {}
    }
    if let Some(connections) = endpoint.max_connections.filter(|&connections| connections > 1) {
        parts.push(format!("{connections} connections"));
    }
    let unresolved = heartbeats.iter().filter(|heartbeat| !heartbeat.resolved).count();
    if !heartbeats.is_empty() {
        let unresolved = if unresolved > 0 { format!(" ({unresolved} unresolved)") } else { String::new() };
        parts.push(format!("{}{unresolved}", number(heartbeats.len(), "heartbeat")));
    }
    if endpoint.transport == crate::api::Transport::Tls {
        parts.push("TLS".to_owned());
    }
    let files = in_short(endpoint, false);
    let process = match endpoint.process.as_deref() {
        // The folder of the config is its process's.
        Some(process) if files.strip_prefix(process).is_some_and(|rest| rest.starts_with('/')) => files,
        Some(process) => format!("{files} ({process})"),
        None => format!("{files} (process unknown)"),
    };
    parts.push(paint.faint(&match endpoint.activity {
        Activity::Unknown => process,
        Activity::Started => format!("{process}, started"),
        Activity::Overridden => format!("{process}, started with overrides"),
        Activity::NotStarted => format!("{process}, not started"),
    }));
    parts.join("  ")
}

/// `1,11-15,51`.
fn ranges(units: &[u8]) -> String {
    let mut shown: Vec<(u8, u8)> = Vec::new();
    for &unit in units {
        match shown.last_mut() {
            Some((_, last)) if last.checked_add(1) == Some(unit) => *last = unit,
            _ => shown.push((unit, unit)),
        }
    }
    let range = |(first, last): (u8, u8)| match last - first {
        0 => first.to_string(),
        1 => format!("{first},{last}"),
        _ => format!("{first}-{last}"),
    };
    shown.into_iter().map(range).collect::<Vec<_>>().join(",")
}

fn interface_line(interface: &Interface, paint: Paint) -> String {
    let state = match (interface.up, interface.running) {
        (true, true) => paint.good("up        "),
        (true, false) => paint.bad("no carrier"),
        (false, _) => paint.doubtful("off       "),
    };
    let mut parts = vec![format!("{:<12} {state}", interface.name)];
    if let Some(speed) = interface.speed_mbps {
        parts
            .push(format!("{speed} Mb/s{}", interface.duplex.as_ref().map_or(String::new(), |duplex| format!(" {duplex} duplex"))));
    }
    parts.extend(interface.mtu.map(|mtu| format!("MTU {mtu}")));
    parts.extend((!interface.addresses.is_empty()).then(|| interface.addresses.join(" ")));
    if interface.endpoints > 0 {
        parts.push(number(interface.endpoints as usize, "endpoint"));
    }
    if let Some(counters) = interface.counters {
        let wrong = [
            ("receive errors", counters.rx_errors),
            ("check sum errors", counters.rx_crc_errors),
            ("send errors", counters.tx_errors),
            ("collisions", counters.collisions),
        ];
        parts.extend(
            wrong.into_iter().filter(|(_, count)| *count > 0).map(|(what, count)| paint.doubtful(&format!("{count} {what}"))),
        );
    }
    parts.join("  ")
}

/// The worst first; of one code a few, unless all are asked for.
fn describe_problems(text: &mut String, problems: &[Problem], paint: Paint, width: usize, all: bool) {
    if problems.is_empty() {
        return;
    }
    let _ = writeln!(text, "{}", paint.bold("Problems"));
    let mut groups: BTreeMap<(std::cmp::Reverse<Severity>, &str), Vec<&Problem>> = BTreeMap::new();
    for problem in problems {
        groups.entry((std::cmp::Reverse(problem.severity), &problem.code)).or_default().push(problem);
    }
    for ((severity, code), problems) in groups {
        let title = match severity.0 {
            Severity::Alarm => paint.bad(&format!("alarm    {code}")),
            Severity::Warning => paint.doubtful(&format!("warning  {code}")),
            Severity::Info => paint.faint(&format!("note     {code}")),
        };
        let _ = writeln!(text, "  {title}");
        let shown = if all || problems.len() <= SHOWN_OF_A_CODE + 1 { problems.len() } else { SHOWN_OF_A_CODE };
        for problem in problems.iter().take(shown) {
            let whole = format!("{}{}", place(problem), problem.message);
            for line in wrap(&whole, width.saturating_sub(11).max(40)) {
                let _ = writeln!(text, "           {line}");
            }
        }
        if let Some(known) = ProblemCode::from_code(code).filter(|_| severity.0 > Severity::Info) {
            for line in wrap(&format!("→ {}", known.advice()), width.saturating_sub(11).max(40)) {
                let _ = writeln!(text, "           {}", paint.faint(&line));
            }
        }
        if shown < problems.len() {
            let _ = writeln!(text, "           … and {} more; --all shows them", problems.len() - shown);
        }
    }
    text.push('\n');
}

/// Where a problem is, as editors understand it; nothing where the message names the file itself.
pub(super) fn place(problem: &Problem) -> String {
    match (&problem.path, problem.line, problem.column) {
        (Some(path), None, _) if problem.message.contains(path.as_str()) => String::new(),
        (Some(path), Some(line), Some(column)) => format!("{path}:{line}:{column}: "),
        (Some(path), ..) => format!("{path}: "),
        _ => String::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn units_in_a_row_are_a_range() {
        assert_eq!(ranges(&[1, 11, 12, 13, 51, 52, 255]), "1,11-13,51,52,255");
        assert_eq!(ranges(&[]), "");
    }
}
