//! Modbus servers: what this controller listens on.

use super::{
    file::Found,
    json::Json,
    kind::SERVER_SECTIONS,
    place::{Place, host},
    port::server_port,
    problem::{ProblemCode, clip, quote},
    process::Process,
    reading::Reading,
    section::{Keys, Section, point_text},
    serial::{modbus_device, modbus_line},
};
use crate::api::{Direction, Protocol, Severity};
use std::collections::BTreeSet;

/// The unit id under which a server answers for every other.
const ANY_UNIT: u8 = 255;

/// Reads a server with one register map (`registers` an object) or one for each unit (a list).
pub(super) fn read<'t>(root: &'t Json<'t>, reading: &'t Reading<'t>) -> Option<Found> {
    let file = Section::new("the file", root, Keys::AnyCase, reading);
    let system = Section::new("system", file.value("system")?, Keys::AnyCase, reading);
    let registers = file.value("registers")?;
    system.tell_lookalikes();
    let id = system.system_id().map(|id| id.trim_start_matches('/').to_owned()).filter(|id| !id.is_empty());
    if id.is_none() {
        system.tell("id", ProblemCode::MissingId, "`system` has no usable `id`");
    }
    let system_unit = system.unit_id();

    let mut uris: BTreeSet<String> = id.iter().map(|id| format!("/interfaces/{id}")).collect();
    let mut units = BTreeSet::new();
    let mut any_unit = false;
    match registers {
        Json::List(maps) => {
            tell_unread_list(&file, reading);
            for (index, map) in maps.iter().enumerate() {
                let section = Section::new(format!("registers[{index}]"), map, Keys::AnyCase, reading);
                match section.unit_id() {
                    Some(unit) => drop(units.insert(unit)),
                    None => any_unit = true,
                }
                collect_uris(&section, map, &mut uris);
            }
            if let Some(unit) = system_unit.filter(|unit| !units.contains(unit) && !units.is_empty()) {
                let message = format!("`device_id` in system is {unit}, but the register sections serve {units:?}");
                system.tell("device_id", ProblemCode::ServerUnitDiffers, message);
            }
        }
        map => {
            units.extend(system_unit);
            any_unit = system_unit.is_none();
            collect_uris(&Section::new("registers", map, Keys::AnyCase, reading), map, &mut uris);
        }
    }

    let place = place(&system, reading)?;
    if matches!(place, Place::Serial(_)) && units.is_empty() {
        system.tell(
            "serial_device",
            ProblemCode::SerialUnit,
            "a server on a serial line, and neither system nor a map has a `device_id`",
        );
        any_unit = false;
    }
    let mut endpoint = place.endpoint(Protocol::Modbus, Direction::Inbound, id, reading);
    endpoint.accepts_any_unit = any_unit || units.contains(&ANY_UNIT);
    endpoint.unit_ids = units.into_iter().collect();
    endpoint.fims_uris = uris.into_iter().collect();
    Some(Found { endpoint, heartbeats: Vec::new() })
}

/// Tells that the legacy server has no use for a list of register maps.
fn tell_unread_list(file: &Section<'_>, reading: &Reading<'_>) {
    let severity = match reading.process {
        Some(Process::GcomModbusServer) => return,
        Some(Process::ModbusServer) => Severity::Alarm,
        _ => ProblemCode::RegistersUnread.severity(),
    };
    let message = "`registers` is a list; modbus_server reads no points from it and serves none, only gcom_modbus_server does";
    file.tell_as("registers", severity, ProblemCode::RegistersUnread, message);
}

/// The address to listen on, which wins over a serial device.
fn place(system: &Section<'_>, reading: &Reading<'_>) -> Option<Place> {
    let device = modbus_device(system);
    let has_address = system.value("ip_address").and_then(Json::as_text).is_some_and(|text| !text.is_empty());
    match device {
        Some(device) if !has_address => return Some(Place::Serial(modbus_line(system, device))),
        Some(device) => {
            let message = format!("system has `ip_address` and `serial_device` {}; the server takes the address", quote(&device));
            system.tell_as("serial_device", Severity::Warning, ProblemCode::BothAddressAndSerial, message);
        }
        None => {}
    }
    let port = server_port(system, reading);
    let (host, address) = host(system, Direction::Inbound)?;
    let (port, port_source) = port?;
    Some(Place::Network { host, address, port, port_source })
}

/// The uris of the points in the sections that are read; the other lists are told.
fn collect_uris(section: &Section<'_>, map: &Json<'_>, uris: &mut BTreeSet<String>) {
    for name in SERVER_SECTIONS {
        for point in section.list(name) {
            if let Some(uri) = point_text(point, "uri", Keys::AnyCase)
                && !uris.contains(uri)
            {
                uris.insert(clip(uri, 256));
            }
        }
    }
    let is_unread = |name: &str| !SERVER_SECTIONS.iter().any(|known| known.eq_ignore_ascii_case(name));
    let unread = map.entries().iter().filter(|(name, value)| matches!(value, Json::List(_)) && is_unread(name));
    let unread: Vec<&str> = unread.take(8).map(|(name, _)| name.as_ref()).collect();
    if let Some(first) = unread.first() {
        let named: Vec<String> = unread.iter().map(|name| quote(name)).collect();
        let message = format!("not read in {}: {}", section.name, named.join(", "));
        section.tell(first, ProblemCode::UnknownSection, message);
    }
}
