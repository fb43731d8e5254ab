//! DNP3 masters and outstations, which share one format.

use super::{
    file::Found,
    json::Json,
    kind::{POINT_TYPES, is_point_type},
    place::{Place, host},
    port::dnp3_port,
    problem::{ProblemCode, clip, quote},
    process::Process,
    reading::Reading,
    section::{Keys, Section, point_number, point_text, point_value},
    serial::dnp3_line,
};
use crate::api::{Direction, Dnp3Addresses, Heartbeat, HeartbeatKind, Protocol, Transport};
use std::collections::BTreeSet;

/// The link address that a master has by default.
const MASTER: u16 = 1;
/// The link address that an outstation has by default.
const STATION: u16 = 10;
/// The highest address of a single station (IEEE 1815: those above are reserved and broadcast).
const MAX_LINK_ADDRESS: i64 = 65_519;

/// The points of one type.
struct Points<'t> {
    point_type: &'t str,
    points: &'t [Json<'t>],
}

/// Reads a file whose points stand in `registers` (by group) or in `objects` (by type).
pub(super) fn read<'t>(root: &'t Json<'t>, reading: &'t Reading<'t>) -> Option<Found> {
    let notes = reading.notes;
    let file = Section::new("the file", root, Keys::AnyCase, reading);
    let system = Section::new("system", file.value("system")?, Keys::AnyCase, reading);
    system.tell_lookalikes();
    let id = system.system_id();
    if id.is_none() {
        system.tell("id", ProblemCode::MissingId, "`system` has no usable `id`");
    }
    let direction = direction(&system, id.as_deref().unwrap_or_default(), reading);
    if direction == Direction::Undetermined {
        notes.tell(
            ProblemCode::RoleUndetermined,
            "neither the directory nor the names tell whether this is a master or an outstation",
        );
    }
    let points = points(&file, reading);
    let addresses = link_addresses(&system, direction, reading.process);
    let fims_uris = fims_uris(&system, id.as_deref(), direction, &points);
    let heartbeats = heartbeats(&system, id.as_deref().unwrap_or_default(), &points, reading);

    let conn_type = system.text("conn_type").unwrap_or_default();
    let place = if conn_type == "RTU" {
        if system.value("ip_address").and_then(Json::as_text).is_none_or(str::is_empty) {
            let message = "`conn_type` is RTU, and system has no `ip_address`, which DNP3 processes want even then";
            system.tell("conn_type", ProblemCode::SerialAddress, message);
        }
        match dnp3_line(&system) {
            Some(line) => Place::Serial(line),
            None => {
                system.tell("conn_type", ProblemCode::MissingAddress, "`conn_type` is RTU, and system names no serial device");
                return None;
            }
        }
    } else {
        let (port, port_source) = dnp3_port(&system);
        let (host, address) = host(&system, direction)?;
        Place::Network { host, address, port, port_source }
    };
    let mut endpoint = place.endpoint(Protocol::Dnp3, direction, id, reading);
    if conn_type == "TLS" {
        endpoint.transport = Transport::Tls;
    }
    endpoint.dnp3_addresses = vec![addresses];
    endpoint.fims_uris = fims_uris;
    Some(Found { endpoint, heartbeats })
}

/// Who opens the connection, by the evidence in the order of its worth: directory, file name, an address to bind to, the id.
fn direction(system: &Section<'_>, id: &str, reading: &Reading<'_>) -> Direction {
    if let Some(process) = reading.process.filter(|process| process.protocol() == Protocol::Dnp3) {
        return process.direction();
    }
    if let Some(direction) = direction_of_words(reading.stem()) {
        return direction;
    }
    if matches!(system.value("ip_address").and_then(Json::as_text), Some("0.0.0.0" | "*.*.*.*")) {
        return Direction::Inbound;
    }
    let by_old_addresses = match (system.value("local_address"), system.value("remote_address")) {
        (Some(Json::Integer(1)), Some(Json::Integer(10))) => Some(Direction::Outbound),
        (Some(Json::Integer(10)), Some(Json::Integer(1))) => Some(Direction::Inbound),
        _ => None,
    };
    match direction_of_words(id) {
        Some(direction) if by_old_addresses.is_none_or(|other| other == direction) => direction,
        _ => Direction::Undetermined,
    }
}

/// The direction that the last telling word of a name gives.
fn direction_of_words(name: &str) -> Option<Direction> {
    let name = name.to_ascii_lowercase();
    let last = |words: [&str; 2]| words.iter().filter_map(|word| name.rfind(word)).max();
    let (outbound, inbound) = (last(["client", "master"]), last(["serv", "outstation"]));
    match outbound.cmp(&inbound) {
        std::cmp::Ordering::Greater => Some(Direction::Outbound),
        std::cmp::Ordering::Less => Some(Direction::Inbound),
        std::cmp::Ordering::Equal => None,
    }
}

/// The addresses of the two ends; where the role is not known they are a master's view.
fn link_addresses(system: &Section<'_>, direction: Direction, process: Option<Process>) -> Dnp3Addresses {
    let address = |key: &str| {
        let number = system.integer(key)?;
        let valid = u16::try_from(number).ok().filter(|_| number <= MAX_LINK_ADDRESS);
        if valid.is_none() {
            let message = format!("`{key}` is {number}; a link address is a number from 0 to {MAX_LINK_ADDRESS}");
            system.tell(key, ProblemCode::LinkAddressInvalid, message);
        }
        valid
    };
    let (master, station) = (address("master_address"), address("station_address"));
    if matches!(process, Some(Process::Dnp3Master | Process::Dnp3Outstation))
        && let (Some(local), Some(remote)) = (address("local_address"), address("remote_address"))
    {
        return Dnp3Addresses { local, remote, defaulted: false };
    }
    if system.value("local_address").or(system.value("remote_address")).is_some() {
        let key = if system.value("local_address").is_some() { "local_address" } else { "remote_address" };
        system.tell(key, ProblemCode::LinkAddressIgnored, ProblemCode::LinkAddressIgnored.meaning());
    }
    let defaulted = master.is_none() || station.is_none();
    let (master, station) = (master.unwrap_or(MASTER), station.unwrap_or(STATION));
    match direction {
        Direction::Inbound => Dnp3Addresses { local: station, remote: master, defaulted },
        Direction::Outbound | Direction::Undetermined => Dnp3Addresses { local: master, remote: station, defaulted },
    }
}

/// The points by type. Groups of another type are told, but those whose name is marked as out of use.
fn points<'t>(file: &Section<'t>, reading: &Reading<'_>) -> Vec<Points<'t>> {
    let mut groups = Vec::new();
    let mut unknown = BTreeSet::new();
    match file.value("objects") {
        Some(objects @ Json::Object(_)) => {
            for (name, points) in objects.entries() {
                if is_point_type(name) {
                    groups.push(Points { point_type: name, points: points.elements() });
                } else if !name.starts_with(['x', 'X', '_']) {
                    unknown.insert(quote(name));
                }
            }
        }
        _ => {
            for group in file.list("registers") {
                let named = |key| point_text(group, key, Keys::AnyCase);
                let point_type = named("dnp3_type").or_else(|| named("type")).unwrap_or_default();
                if !is_point_type(point_type) {
                    unknown.insert(quote(point_type));
                }
                let points = point_value(group, "map", Keys::AnyCase).map(Json::elements).unwrap_or_default();
                groups.push(Points { point_type, points });
            }
        }
    }
    if !unknown.is_empty() {
        let unknown: Vec<String> = unknown.into_iter().take(8).collect();
        let message = format!("no DNP3 point type: {}; known are {}", unknown.join(", "), POINT_TYPES.join(", "));
        reading.notes.tell(ProblemCode::UnknownPointType, message);
    }
    groups
}

/// The process's own uri, and those that its points name.
fn fims_uris(system: &Section<'_>, id: Option<&str>, direction: Direction, points: &[Points<'_>]) -> Vec<String> {
    let base = system.name_text("base_uri").or_else(|| match direction {
        Direction::Outbound => Some("/components".to_owned()),
        Direction::Inbound => Some("/interfaces".to_owned()),
        Direction::Undetermined => None,
    });
    let mut uris = BTreeSet::new();
    if let (Some(base), Some(id)) = (base, id) {
        uris.insert(format!("{base}/{id}"));
    }
    for uri in points.iter().flat_map(|group| group.points).filter_map(|point| point_text(point, "uri", Keys::AnyCase)) {
        if !uris.contains(uri) {
            uris.insert(clip(uri, 256));
        }
    }
    uris.into_iter().collect()
}

/// The heartbeat that the gcom processes know; it stands in `system` and names points by id.
fn heartbeats(system: &Section<'_>, component: &str, points: &[Points<'_>], reading: &Reading<'_>) -> Vec<Heartbeat> {
    let enabled = system.is_true("heartbeat_enabled");
    let timeout_ms = system.count("component_heartbeat_timeout_ms");
    let period_ms = system.count("component_heartbeat_frequency_ms");
    let max_value = system.count("component_heartbeat_max_value");
    let find = |id: &str| {
        points.iter().find_map(|group| {
            let point = group.points.iter().find(|point| point_text(point, "id", Keys::AnyCase) == Some(id))?;
            let index = point_number(point, "idx", Keys::AnyCase).or_else(|| point_number(point, "offset", Keys::AnyCase));
            Some((group.point_type, index))
        })
    };
    let keys = [
        (HeartbeatKind::Read, "component_heartbeat_read_uri", &["analog", "counter"][..]),
        (HeartbeatKind::Write, "component_heartbeat_write_uri", &["AnOPInt16", "AnOPInt32", "AnOPF32"][..]),
    ];
    let mut heartbeats = Vec::new();
    for (kind, key, fitting) in keys {
        let Some(id) = system.text(key).filter(|id| !id.is_empty()) else { continue };
        let point = find(id);
        match point {
            None if enabled => {
                let message = format!("`{key}` names the point {}, which the file does not have", quote(id));
                system.tell(key, ProblemCode::HeartbeatUnresolved, message);
            }
            Some((point_type, _)) if enabled && !fitting.iter().any(|known| known.eq_ignore_ascii_case(point_type)) => {
                let message = format!("`{key}` names a point of type {}; it must be {}", quote(point_type), fitting.join(" or "));
                system.tell(key, ProblemCode::HeartbeatRegister, message);
            }
            _ => {}
        }
        heartbeats.push(Heartbeat {
            endpoint_id: String::new(),
            config_file: reading.path.to_owned(),
            component: component.to_owned(),
            kind,
            enabled,
            id: clip(id, 256),
            resolved: point.is_some(),
            register_type: None,
            offset: None,
            wire_offset: None,
            size: None,
            unit_id: None,
            point_type: point.map(|(point_type, _)| clip(point_type, 64)),
            point_index: point.and_then(|(_, index)| index),
            timeout_ms,
            period_ms,
            max_value,
        });
    }
    let is_gcom = matches!(reading.process, None | Some(Process::GcomDnp3Client | Process::GcomDnp3Server));
    let is_effective = enabled && is_gcom;
    if !is_effective && !heartbeats.is_empty() {
        let why = if enabled { "only the gcom processes know it" } else { "`heartbeat_enabled` is not true" };
        system.tell("heartbeat_enabled", ProblemCode::HeartbeatDisabled, format!("a heartbeat is configured, but {why}"));
    }
    heartbeats
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_telling_word_of_a_name_decides() {
        let cases = [
            ("BRP_CommServer_both_master", Some(Direction::Outbound)),
            ("master_outstation2", Some(Direction::Inbound)),
            ("dnp3_serv_1", Some(Direction::Inbound)),
            ("dnp3_client_serial", Some(Direction::Outbound)),
            ("odessa_new", None),
            ("", None),
        ];
        for (name, expected) in cases {
            assert_eq!(direction_of_words(name), expected, "{name}");
        }
    }
}
