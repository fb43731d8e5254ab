//! Heartbeats and watchdogs of a Modbus client, resolved to registers.

use super::{
    component::Group,
    json::Json,
    modbus_client::register_type,
    outcome::{self, Does},
    problem::{ProblemCode, quote},
    process::Process,
    reading::Reading,
    section::{Keys, Section, point_number, point_text, point_value},
};
use crate::api::{Heartbeat, HeartbeatKind, RegisterType};

/// The keys that name the points, by their ids.
const READ_KEY: &str = "component_heartbeat_read_uri";
const WRITE_KEY: &str = "component_heartbeat_write_uri";
const WATCHDOG_KEY: &str = "watchdog_uri";
const TIMEOUT_KEY: &str = "component_heartbeat_timeout_ms";

/// What a configured heartbeat says of itself, before its point is looked for.
struct Configured<'t> {
    kind: HeartbeatKind,
    id: &'t str,
    enabled: bool,
    timeout_ms: Option<u64>,
    period_ms: Option<u64>,
    max_value: Option<u64>,
}

/// The component that a heartbeat belongs to.
pub(super) struct Parent<'a> {
    pub section: &'a Section<'a>,
    pub id: &'a str,
    pub groups: &'a [Group<'a>],
    pub off_by_one: bool,
    /// How often it is polled.
    pub poll_ms: Option<u64>,
}

/// The heartbeats of a component; the endpoint's id is filled in by the caller. The keys named `..._uri` hold ids of points of the
/// same component.
pub(super) fn read(parent: &Parent<'_>, reading: &Reading<'_>) -> Vec<Heartbeat> {
    let section = parent.section;
    let enabled = section.is_true("heartbeat_enabled");
    // modbus_client looks at the points and the timeout only when the heartbeat is switched on, and never at the other keys.
    let gcom = section.for_gcom();
    let keys = if enabled { section } else { &gcom };
    let timeout_ms = keys.count(TIMEOUT_KEY);
    let period_ms = gcom.count("modbus_heartbeat_timeout_ms");
    let max_value = gcom.count("component_heartbeat_max_value");
    let is_legacy = reading.process == Some(Process::ModbusClient);
    let usual_timeout_ms = parent.poll_ms.filter(|_| enabled && is_legacy).map(|poll_ms| poll_ms.saturating_mul(2));
    let heartbeat = |kind, key| {
        let id = keys.text(key).filter(|id| !id.is_empty())?;
        Some(Configured { kind, id, enabled, timeout_ms: timeout_ms.or(usual_timeout_ms), period_ms, max_value })
    };
    let read = heartbeat(HeartbeatKind::Read, READ_KEY);
    let write = heartbeat(HeartbeatKind::Write, WRITE_KEY);
    if enabled {
        if read.is_none() {
            tell_unread(section, write.is_some(), reading);
        }
        if let (Some(timeout_ms), Some(poll_ms)) = (timeout_ms, parent.poll_ms)
            && timeout_ms < poll_ms
            && reading.process != Some(Process::GcomModbusClient)
        {
            let mistake = format!("`{TIMEOUT_KEY}` of {} is {timeout_ms} ms, and it is polled every {poll_ms} ms", section.name);
            section.tell_of_client(TIMEOUT_KEY, ProblemCode::HeartbeatTimeout, &mistake, Does::Refuses, Does::Untold);
        }
    } else if read.is_some() || write.is_some() {
        let message = format!("the heartbeat of {} is configured, but `heartbeat_enabled` is not true", section.name);
        section.tell("heartbeat_enabled", ProblemCode::HeartbeatDisabled, message);
    }
    let watchdog = gcom.text(WATCHDOG_KEY).filter(|id| !id.is_empty()).map(|id| Configured {
        kind: HeartbeatKind::Watchdog,
        id,
        enabled: gcom.is_true("watchdog_enabled"),
        timeout_ms: gcom.count("watchdog_alarm_timeout_ms").or_else(|| gcom.count("watchdog_fault_timeout_ms")),
        period_ms: gcom.count("watchdog_frequency_ms"),
        max_value: None,
    });
    let configured = [read, write, watchdog].into_iter().flatten();
    configured.map(|heartbeat| resolve(&heartbeat, parent, reading)).collect()
}

/// Tells a heartbeat that is switched on and names nothing to read.
fn tell_unread(section: &Section<'_>, is_to_be_written: bool, reading: &Reading<'_>) {
    if is_to_be_written && reading.process == Some(Process::GcomModbusClient) {
        let message =
            format!("{} has `{WRITE_KEY}` without `{READ_KEY}`; gcom_modbus_client never writes this heartbeat", section.name);
        return section.tell(WRITE_KEY, ProblemCode::HeartbeatNotWritten, message);
    }
    if reading.process != Some(Process::GcomModbusClient) {
        let mistake = format!("{} has its heartbeat switched on without `{READ_KEY}`", section.name);
        let gcom = if is_to_be_written { "never writes it" } else { "starts without it" };
        section.tell_of_client("heartbeat_enabled", ProblemCode::HeartbeatUnresolved, &mistake, Does::Refuses, Does::GoesOn(gcom));
    }
}

fn resolve(configured: &Configured<'_>, parent: &Parent<'_>, reading: &Reading<'_>) -> Heartbeat {
    let point = find(parent.groups, configured.id);
    let group = point.map(|(group, _)| group);
    let register_type = group.and_then(|group| point_text(group.value, "type", Keys::Exact)).and_then(register_type);
    let offset = point.and_then(|(_, point)| point_number(point, "offset", Keys::Exact));
    let wire_offset = offset.and_then(|offset| offset.checked_sub(u32::from(parent.off_by_one))).filter(|&offset| offset <= 0xffff);
    let size = point.map(|(_, point)| point_number(point, "size", Keys::Exact).unwrap_or(1));
    if configured.enabled {
        tell_unusable(configured, parent, point.is_some(), register_type, (offset, wire_offset), reading);
    }
    Heartbeat {
        endpoint_id: String::new(),
        config_file: reading.path.to_owned(),
        component: parent.id.to_owned(),
        kind: configured.kind,
        enabled: configured.enabled,
        id: super::problem::clip(configured.id, 256),
        resolved: point.is_some(),
        register_type,
        offset,
        wire_offset,
        size: size.and_then(|size| u16::try_from(size).ok()),
        unit_id: group.and_then(|group| group.unit_id),
        point_type: None,
        point_index: None,
        timeout_ms: configured.timeout_ms,
        period_ms: configured.period_ms,
        max_value: configured.max_value,
    }
}

/// Tells why the register that a heartbeat names cannot serve for it.
fn tell_unusable(
    configured: &Configured<'_>,
    parent: &Parent<'_>,
    is_found: bool,
    register_type: Option<RegisterType>,
    (offset, wire_offset): (Option<u32>, Option<u32>),
    reading: &Reading<'_>,
) {
    let section = parent.section;
    let is_watchdog = configured.kind == HeartbeatKind::Watchdog;
    let (what, key, loss) = match configured.kind {
        HeartbeatKind::Read => ("heartbeat to be read", READ_KEY, "never sees it change"),
        HeartbeatKind::Write => ("heartbeat to be written", WRITE_KEY, "never writes it"),
        HeartbeatKind::Watchdog => ("watchdog", WATCHDOG_KEY, "never sees it change"),
    };
    if is_watchdog && reading.process == Some(Process::ModbusClient) {
        let message = format!("{} has a watchdog, which only gcom_modbus_client knows", section.name);
        return section.tell(key, ProblemCode::HeartbeatDisabled, message);
    }
    let named = format!("the {what} of {} is the point {}", section.name, quote(configured.id));
    let legacy = if is_watchdog { Does::Untold } else { Does::Refuses };
    if !is_found {
        let (_, does) = outcome::of_client(reading.process, legacy, Does::GoesOn(loss));
        let message = format!("{named}, and the component has no point of that id; {}", does.unwrap_or_default());
        return section.tell(key, ProblemCode::HeartbeatUnresolved, message);
    }
    let fits = match configured.kind {
        HeartbeatKind::Write => register_type == Some(RegisterType::Holding),
        _ => matches!(register_type, Some(RegisterType::Holding | RegisterType::Input)),
    };
    if !fits {
        let table = register_type.map_or_else(|| "of no known table".to_owned(), |table| format!("a {}", table_name(table)));
        let mistake = format!("{named}, which is {table}");
        section.tell_of_client(key, ProblemCode::HeartbeatRegister, &mistake, legacy, Does::Untold);
    }
    if wire_offset.is_none() {
        let why = match offset {
            None => "which has no usable `offset`".to_owned(),
            Some(0) => "at offset 0, and `off_by_one` makes -1 of that".to_owned(),
            Some(offset) => format!("at offset {offset}, and a request reaches 65535"),
        };
        section.tell(key, ProblemCode::HeartbeatOffset, format!("{named}, {why}"));
    }
}

fn table_name(table: RegisterType) -> &'static str {
    match table {
        RegisterType::Holding => "holding register",
        RegisterType::Input => "input register",
        RegisterType::Coil => "coil",
        RegisterType::DiscreteInput => "discrete input",
    }
}

/// The first point of that id, and its group. Points inside bit strings do not count; the clients do not look there either.
fn find<'g, 't>(groups: &'g [Group<'t>], id: &str) -> Option<(&'g Group<'t>, &'t Json<'t>)> {
    groups.iter().find_map(|group| {
        let points = point_value(group.value, "map", Keys::Exact).map(Json::elements).unwrap_or_default();
        let point = points.iter().find(|point| point_text(point, "id", Keys::Exact) == Some(id))?;
        Some((group, point))
    })
}
