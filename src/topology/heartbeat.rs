//! Heartbeats and watchdogs of a Modbus client, resolved to registers.

use super::{
    component::Group,
    json::Json,
    modbus_client::register_type,
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

/// What a configured heartbeat says of itself, before its point is looked for.
struct Configured<'t> {
    kind: HeartbeatKind,
    id: &'t str,
    enabled: bool,
    timeout_ms: Option<u64>,
    period_ms: Option<u64>,
    max_value: Option<u64>,
}

/// The heartbeats of a component; the endpoint's id is filled in by the caller. The keys named `..._uri` hold ids of points of the
/// same component.
pub(super) fn read(
    section: &Section<'_>,
    component: &str,
    groups: &[Group<'_>],
    off_by_one: bool,
    reading: &Reading<'_>,
) -> Vec<Heartbeat> {
    let enabled = section.is_true("heartbeat_enabled");
    let timeout_ms = section.count("component_heartbeat_timeout_ms");
    let period_ms = section.count("modbus_heartbeat_timeout_ms");
    let max_value = section.count("component_heartbeat_max_value");
    let heartbeat = |kind, key| {
        let id = section.text(key).filter(|id| !id.is_empty())?;
        Some(Configured { kind, id, enabled, timeout_ms, period_ms, max_value })
    };
    let read = heartbeat(HeartbeatKind::Read, READ_KEY);
    let write = heartbeat(HeartbeatKind::Write, WRITE_KEY);
    if enabled && read.is_none() && reading.process != Some(Process::GcomModbusClient) {
        let message = format!("{} has its heartbeat switched on without `component_heartbeat_read_uri`", section.name);
        section.tell("heartbeat_enabled", ProblemCode::HeartbeatUnresolved, message);
    }
    if !enabled && (read.is_some() || write.is_some()) {
        let message = format!("the heartbeat of {} is configured, but `heartbeat_enabled` is not true", section.name);
        section.tell("heartbeat_enabled", ProblemCode::HeartbeatDisabled, message);
    }
    let watchdog = section.text(WATCHDOG_KEY).filter(|id| !id.is_empty()).map(|id| Configured {
        kind: HeartbeatKind::Watchdog,
        id,
        enabled: section.is_true("watchdog_enabled"),
        timeout_ms: section.count("watchdog_alarm_timeout_ms").or_else(|| section.count("watchdog_fault_timeout_ms")),
        period_ms: section.count("watchdog_frequency_ms"),
        max_value: None,
    });
    let configured = [read, write, watchdog].into_iter().flatten();
    configured.map(|heartbeat| resolve(heartbeat, section, component, groups, off_by_one, reading)).collect()
}

fn resolve(
    configured: Configured<'_>,
    section: &Section<'_>,
    component: &str,
    groups: &[Group<'_>],
    off_by_one: bool,
    reading: &Reading<'_>,
) -> Heartbeat {
    let point = find(groups, configured.id);
    let group = point.map(|(group, _)| group);
    let register_type = group.and_then(|group| point_text(group.value, "type", Keys::Exact)).and_then(register_type);
    let offset = point.and_then(|(_, point)| point_number(point, "offset", Keys::Exact));
    let wire_offset = offset.and_then(|offset| offset.checked_sub(u32::from(off_by_one))).filter(|&offset| offset <= 0xffff);
    let size = point.map(|(_, point)| point_number(point, "size", Keys::Exact).unwrap_or(1));

    let (what, key) = match configured.kind {
        HeartbeatKind::Read => ("heartbeat to be read", READ_KEY),
        HeartbeatKind::Write => ("heartbeat to be written", WRITE_KEY),
        HeartbeatKind::Watchdog => ("watchdog", WATCHDOG_KEY),
    };
    let named = format!("the {what} of {} is the point {}", section.name, quote(configured.id));
    if configured.enabled && point.is_none() {
        let message = format!("{named}, and the component has no point of that id");
        section.tell(key, ProblemCode::HeartbeatUnresolved, message);
    }
    let fits = match configured.kind {
        HeartbeatKind::Write => register_type == Some(RegisterType::Holding),
        _ => matches!(register_type, Some(RegisterType::Holding | RegisterType::Input)),
    };
    if configured.enabled && point.is_some() && (!fits || wire_offset.is_none()) {
        let message = format!("{named}, whose register cannot serve for it");
        section.tell(key, ProblemCode::HeartbeatRegister, message);
    }
    Heartbeat {
        endpoint_id: String::new(),
        config_file: reading.path.to_owned(),
        component: component.to_owned(),
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

/// The first point of that id, and its group. Points inside bit strings do not count; the clients do not look there either.
fn find<'g, 't>(groups: &'g [Group<'t>], id: &str) -> Option<(&'g Group<'t>, &'t Json<'t>)> {
    groups.iter().find_map(|group| {
        let points = point_value(group.value, "map", Keys::Exact).map(Json::elements).unwrap_or_default();
        let point = points.iter().find(|point| point_text(point, "id", Keys::Exact) == Some(id))?;
        Some((group, point))
    })
}
