//! Modbus clients: what this controller connects to.

use super::{
    address::has_template_token,
    component::{self, Inherited},
    file::Found,
    json::Json,
    place::{Place, host},
    port::modbus_port,
    problem::{ProblemCode, quote},
    process::Process,
    reading::Reading,
    section::{Keys, Section},
    serial::{modbus_device, modbus_line},
};
use crate::api::{Component, Direction, Protocol, RegisterType};
use std::collections::BTreeSet;

/// The Modbus table that a register group's type names.
pub(super) fn register_type(name: &str) -> Option<RegisterType> {
    match name {
        "Holding" | "Holding Registers" => Some(RegisterType::Holding),
        "Input" | "Input Registers" => Some(RegisterType::Input),
        "Coil" | "Coils" => Some(RegisterType::Coil),
        "Discrete Input" | "Discrete Inputs" | "Discrete_Input" => Some(RegisterType::DiscreteInput),
        _ => None,
    }
}

/// Reads the format with `connection` and `components`.
pub(super) fn read<'t>(root: &'t Json<'t>, reading: &'t Reading<'t>) -> Option<Found> {
    let file = Section::new("the file", root, Keys::Exact, reading.notes);
    let connection = Section::new("connection", file.value("connection")?, Keys::Exact, reading.notes);
    connection.tell_lookalikes();

    let inherited = Inherited {
        unit_id: connection.unit_id(),
        poll_ms: connection.count("frequency").filter(|&poll_ms| poll_ms > 0),
        off_by_one: connection.is_true("off_by_one"),
    };
    let components = file.list("components").iter().enumerate();
    let components: Vec<_> = components.filter_map(|(index, value)| component::read(value, index, inherited, reading)).collect();
    let name = connection.name_text("name").or_else(|| connection.name_text("id"));
    let has_range = |key| matches!(connection.value(key), Some(Json::Object(_)));
    if components.iter().any(|component| component.is_template)
        || name.as_deref().is_some_and(has_template_token)
        || has_range("ip_range")
        || has_range("device_id_range")
    {
        reading
            .notes
            .tell(ProblemCode::Template, "the file has ranges or tokens of a template, which no installed process expands");
    }

    let uses_default_unit = components.iter().any(|component| component.uses_default_unit);
    tell_default_unit(uses_default_unit, reading);

    let place = place(&connection, reading)?;
    let mut endpoint = place.endpoint(Protocol::Modbus, Direction::Outbound, name, reading);
    endpoint.uses_default_unit = uses_default_unit;
    endpoint.max_connections = Some(max_connections(&connection, reading));
    let mut heartbeats = Vec::new();
    for read in components {
        heartbeats.extend(read.heartbeats);
        endpoint.fims_uris.push(format!("/components/{}", read.component.id));
        endpoint.components.push(read.component);
    }
    endpoint.unit_ids = units(&endpoint.components);
    Some(Found { endpoint, heartbeats })
}

/// Reads the older format with one component, which no installed client loads; the device that it documents may well exist.
pub(super) fn read_single<'t>(root: &'t Json<'t>, reading: &'t Reading<'t>) -> Option<Found> {
    let system = Section::new("system", root.get_any_case("system")?, Keys::AnyCase, reading.notes);
    system.tell_lookalikes();
    system.tell("id", ProblemCode::NotLoadable, ProblemCode::NotLoadable.meaning());
    let name = system.name_text("id");
    let unit_ids: Vec<u8> = system.unit_id().into_iter().collect();
    let poll_ms = system.count("frequency").filter(|&poll_ms| poll_ms > 0);
    tell_default_unit(unit_ids.is_empty(), reading);
    let mut endpoint = place(&system, reading)?.endpoint(Protocol::Modbus, Direction::Outbound, name.clone(), reading);
    endpoint.uses_default_unit = unit_ids.is_empty();
    endpoint.max_connections = Some(1);
    endpoint.unit_ids.clone_from(&unit_ids);
    if let Some(id) = name {
        endpoint.fims_uris.push(format!("/components/{id}"));
        endpoint.components.push(Component { id, unit_ids, poll_ms });
    }
    Some(Found { endpoint, heartbeats: Vec::new() })
}

/// The device's address or serial line. A file with both is taken as the process of its directory takes it.
fn place(section: &Section<'_>, reading: &Reading<'_>) -> Option<Place> {
    let device = modbus_device(section);
    let has_address = section.value("ip_address").and_then(Json::as_text).is_some_and(|text| !text.is_empty());
    let device = match device {
        Some(device) if has_address => {
            let message = format!("{} has `ip_address` and `serial_device` {}", section.name, quote(&device));
            section.tell("serial_device", ProblemCode::BothAddressAndSerial, message);
            Some(device).filter(|_| reading.process == Some(Process::GcomModbusClient))
        }
        device => device,
    };
    if let Some(device) = device {
        return Some(Place::Serial(modbus_line(section, device)));
    }
    let (port, port_source) = modbus_port(section, reading.services, reading.process);
    let (host, address) = host(section, Direction::Outbound)?;
    Some(Place::Network { host, address, port, port_source })
}

fn units(components: &[Component]) -> Vec<u8> {
    let units: BTreeSet<u8> = components.iter().flat_map(|component| component.unit_ids.iter().copied()).collect();
    units.into_iter().collect()
}

/// Tells that some unit id is left to the process, and what it then is.
fn tell_default_unit(uses_default_unit: bool, reading: &Reading<'_>) {
    let asks = match reading.process {
        Some(Process::ModbusClient) => "modbus_client asks unit 255",
        Some(Process::GcomModbusClient) => "gcom_modbus_client asks unit 1",
        _ => "modbus_client asks unit 255, gcom_modbus_client unit 1",
    };
    if uses_default_unit {
        reading.notes.tell(ProblemCode::DefaultUnit, format!("no unit id for some registers; {asks}"));
    }
}

fn max_connections(connection: &Section<'_>, reading: &Reading<'_>) -> u16 {
    let most = if reading.process == Some(Process::GcomModbusClient) { 25 } else { 255 };
    match connection.integer("max_num_connections") {
        None => 1,
        Some(number) => match u16::try_from(number) {
            Ok(number) if (1..=most).contains(&number) => number,
            _ => {
                let message = format!("`max_num_connections` is {number}; the range is 1 to {most}, and 1 is taken");
                connection.tell("max_num_connections", ProblemCode::ConnectionsInvalid, message);
                1
            }
        },
    }
}
