//! Modbus clients: what this controller connects to.

use super::{
    address::has_template_token,
    component::{self, Inherited, ReadComponent, lacks_frequency},
    file::Found,
    json::Json,
    outcome::{self, Does},
    place::{Place, host},
    port::client_port,
    problem::{ProblemCode, quote},
    process::Process,
    reading::Reading,
    section::{Keys, Section},
    serial::{modbus_device, modbus_line},
};
use crate::api::{Component, Direction, Protocol, RegisterType, Severity};
use std::{
    collections::BTreeSet,
    net::{IpAddr, Ipv4Addr},
    ops::RangeInclusive,
};

/// What gcom_modbus_client connects to when its file names neither an address nor a serial device.
const GCOM_ADDRESS: IpAddr = IpAddr::V4(Ipv4Addr::new(172, 3, 0, 2));
/// How often gcom_modbus_client polls when its file does not say.
const GCOM_POLL_MS: u64 = 100;
/// How many components a problem names.
const MAX_NAMED: usize = 8;

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
    let file = Section::new("the file", root, Keys::Exact, reading);
    let connection = Section::new("connection", file.value("connection")?, Keys::Exact, reading);
    connection.tell_lookalikes();
    check_other_types(&connection);
    check_timeouts(&connection, reading.process);

    let usual_poll_ms = (reading.process == Some(Process::GcomModbusClient)).then_some(GCOM_POLL_MS);
    let inherited = Inherited {
        unit_id: connection.unit_id(),
        poll_ms: connection.count("frequency").filter(|&poll_ms| poll_ms > 0).or(usual_poll_ms),
        lacks_frequency: lacks_frequency(&connection),
        off_by_one: connection.is_true("off_by_one"),
    };
    let components = file.list("components").iter().enumerate();
    let components: Vec<_> = components.filter_map(|(index, value)| component::read(value, index, inherited, reading)).collect();
    tell_lacking_frequency(&connection, &components, reading.process);
    if connection.value("name").is_none() && reading.process != Some(Process::GcomModbusClient) {
        let does = Does::GoesOn("calls itself `modbus_client`");
        connection.tell_of_client("name", ProblemCode::ConnectionName, "connection has no `name`", Does::Refuses, does);
    }
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

    let place = place(&connection, reading, true)?;
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
    let system = Section::new("system", root.get_any_case("system")?, Keys::AnyCase, reading);
    system.tell_lookalikes();
    system.tell("id", ProblemCode::NotLoadable, ProblemCode::NotLoadable.meaning());
    let name = system.name_text("id");
    let unit_ids: Vec<u8> = system.unit_id().into_iter().collect();
    let poll_ms = system.count("frequency").filter(|&poll_ms| poll_ms > 0);
    tell_default_unit(unit_ids.is_empty(), reading);
    let mut endpoint = place(&system, reading, false)?.endpoint(Protocol::Modbus, Direction::Outbound, name.clone(), reading);
    endpoint.uses_default_unit = unit_ids.is_empty();
    endpoint.max_connections = Some(1);
    endpoint.unit_ids.clone_from(&unit_ids);
    if let Some(id) = name {
        endpoint.fims_uris.push(format!("/components/{id}"));
        endpoint.components.push(Component { id, unit_ids, poll_ms });
    }
    Some(Found { endpoint, heartbeats: Vec::new() })
}

/// The device's address or serial line. A file with both, or with neither, is taken as the process of its directory takes it, if the
/// file `is_loadable` at all.
fn place(section: &Section<'_>, reading: &Reading<'_>, is_loadable: bool) -> Option<Place> {
    let device = modbus_device(section);
    let is_gcom = reading.process == Some(Process::GcomModbusClient);
    let has_address = section.value("ip_address").and_then(Json::as_text).is_some_and(|text| !text.is_empty());
    let device = match device {
        Some(device) if has_address => {
            let mistake = format!("{} has `ip_address` and `serial_device` {}", section.name, quote(&device));
            let does = Does::GoesOn("takes the serial line");
            section.tell_of_client("serial_device", ProblemCode::BothAddressAndSerial, &mistake, Does::Refuses, does);
            Some(device).filter(|_| is_gcom)
        }
        device => device,
    };
    if let Some(device) = device {
        return Some(Place::Serial(modbus_line(section, device)));
    }
    let (port, port_source) = client_port(section, reading);
    // What stands there and is no text is told by `host`, unless gcom_modbus_client takes its own address for it.
    let is_usable = section.value("ip_address").is_some_and(|value| !is_gcom || value.as_text().is_some());
    let (host, address) = match is_loadable && !is_usable {
        true => no_address(section, reading.process)?,
        false => host(section, Direction::Outbound)?,
    };
    Some(Place::Network { host, address, port, port_source })
}

/// Tells that there is no address, and gives the one that gcom_modbus_client takes then.
fn no_address(section: &Section<'_>, process: Option<Process>) -> Option<(String, Option<IpAddr>)> {
    let connects = format!("connects to {GCOM_ADDRESS}");
    let (_, does) = outcome::of_client(process, Does::Refuses, Does::GoesOn(&connects));
    let message = format!("{} has no usable `ip_address` and no serial device; {}", section.name, does.unwrap_or_default());
    section.tell("ip_address", ProblemCode::MissingAddress, message);
    (process == Some(Process::GcomModbusClient)).then(|| (GCOM_ADDRESS.to_string(), Some(GCOM_ADDRESS)))
}

/// Tells the components that nothing says the poll period of.
fn tell_lacking_frequency(connection: &Section<'_>, components: &[ReadComponent], process: Option<Process>) {
    let lacking: Vec<String> =
        components.iter().filter(|read| read.lacks_frequency).map(|read| quote(&read.component.id)).collect();
    let more = match lacking.len().saturating_sub(MAX_NAMED) {
        0 => String::new(),
        more => format!(" and {more} more"),
    };
    if !lacking.is_empty() && process != Some(Process::GcomModbusClient) {
        let named = lacking.get(..MAX_NAMED).unwrap_or(&lacking).join(", ");
        let mistake = format!("no `frequency` above 0 for {named}{more}");
        let does = Does::GoesOn("polls every 100 ms");
        connection.tell_of_client("frequency", ProblemCode::FrequencyMissing, &mistake, Does::Refuses, does);
    }
}

/// Looks at the keys that say nothing of the topology, and whose type decides whether modbus_client takes the file.
fn check_other_types(connection: &Section<'_>) {
    connection.flag("byte_swap");
    connection.text("parity");
    for key in ["baud_rate", "data_bits", "stop_bits"] {
        connection.count(key);
    }
    connection.for_gcom().text("stats_pub_uri");
}

/// The seconds that a client allows for a timeout, and what it takes in place of others.
struct Allowed {
    process: Process,
    seconds: RangeInclusive<f64>,
    otherwise: f64,
}

fn check_timeouts(connection: &Section<'_>, process: Option<Process>) {
    let legacy = Allowed { process: Process::ModbusClient, seconds: 0.0..=10.0, otherwise: 2.0 };
    let gcom = Allowed { process: Process::GcomModbusClient, seconds: 2.0..=30.0, otherwise: 30.0 };
    let transfer = Allowed { process: Process::GcomModbusClient, seconds: 0.05..=30.0, otherwise: 30.0 };
    check_timeout(connection, "connection_timeout", process, &[legacy, gcom]);
    check_timeout(&connection.for_gcom(), "transfer_timeout", process, &[transfer]);
}

/// Tells a timeout that the process replaces. Where it is not known which process that is, this is worth no more than a note.
fn check_timeout(connection: &Section<'_>, key: &str, process: Option<Process>, allowed: &[Allowed]) {
    let Some(seconds) = connection.number(key) else { return };
    let replaced = allowed.iter().filter(|allowed| process.is_none_or(|process| process == allowed.process));
    let replaced = replaced.filter(|allowed| !allowed.seconds.contains(&seconds)).map(|allowed| {
        let (from, to) = (allowed.seconds.start(), allowed.seconds.end());
        format!("{} takes {} s instead ({from} to {to} s are allowed)", allowed.process, allowed.otherwise)
    });
    let replaced: Vec<String> = replaced.collect();
    if !replaced.is_empty() {
        let severity = if process.is_some() { ProblemCode::TimeoutInvalid.severity() } else { Severity::Info };
        let message = format!("`{key}` in {} is {seconds} s; {}", connection.name, replaced.join(", "));
        connection.tell_as(key, severity, ProblemCode::TimeoutInvalid, message);
    }
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
