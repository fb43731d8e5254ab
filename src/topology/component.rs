//! The components of a Modbus client config: what is polled under one name, in which units, how often.

use super::{
    address::has_template_token,
    heartbeat::{self, Parent},
    json::Json,
    outcome::Does,
    problem::{ProblemCode, quote},
    process::Process,
    reading::Reading,
    section::{Keys, Section, point_value},
};
use crate::api::{Component, Heartbeat};
use std::collections::BTreeSet;

/// What a component leaves to its connection.
#[derive(Debug, Clone, Copy)]
pub(super) struct Inherited {
    pub unit_id: Option<u8>,
    pub poll_ms: Option<u64>,
    /// Whether the poll period is simply not written, rather than written in a way that is told.
    pub lacks_frequency: bool,
    pub off_by_one: bool,
}

/// Whether a section says nothing of its poll period.
pub(super) fn lacks_frequency(section: &Section<'_>) -> bool {
    section.value("frequency").is_none_or(|value| *value == Json::Integer(0))
}

/// A component as it was read.
pub(super) struct ReadComponent {
    pub component: Component,
    /// Whether some of its registers have no unit id.
    pub uses_default_unit: bool,
    /// Whether neither it nor its connection says how often it is polled.
    pub lacks_frequency: bool,
    pub heartbeats: Vec<Heartbeat>,
    /// Whether it is a template: a token in its id, or a range that nothing expands.
    pub is_template: bool,
}

/// A register group, with the unit that it is asked of.
pub(super) struct Group<'t> {
    pub value: &'t Json<'t>,
    pub unit_id: Option<u8>,
}

/// Reads the component at `index` of the list.
pub(super) fn read<'t>(value: &'t Json<'t>, index: usize, inherited: Inherited, reading: &'t Reading<'t>) -> Option<ReadComponent> {
    let name = format!("components[{index}]");
    let mut section = Section::new(&name, value, Keys::Exact, reading);
    if !section.is_object_of_client() {
        return None;
    }
    if section.value("id").is_none() {
        let mistake = format!("{name} has no `id`");
        section.tell_of_client("id", ProblemCode::ComponentId, &mistake, Does::Refuses, Does::GoesOn("publishes it as `noId`"));
    }
    let id = section.name_text("id").unwrap_or_else(|| "noId".to_owned());
    section.name = format!("component {}", quote(&id));
    section.tell_lookalikes();
    section.flag("byte_swap");
    section.for_gcom().text("component_id");

    let unit_id = section.unit_id().or(inherited.unit_id);
    let groups: Vec<Group<'t>> = section.list("registers").iter().map(|value| group(value, unit_id, &section, reading)).collect();
    let mut units: BTreeSet<Option<u8>> = groups.iter().map(|group| group.unit_id).collect();
    if groups.is_empty() {
        units.insert(unit_id);
    }
    let off_by_one = section.flag("off_by_one").unwrap_or(inherited.off_by_one);
    let poll_ms = section.count("frequency").filter(|&poll_ms| poll_ms > 0).or(inherited.poll_ms);
    let is_template = has_template_token(&id)
        || ["component_offset_range", "device_id_range"].into_iter().any(|range| value.get(range).is_some())
        || groups.iter().any(|group| group.value.get("decode_offset_range").is_some());
    Some(ReadComponent {
        uses_default_unit: units.contains(&None),
        lacks_frequency: poll_ms.is_none() && inherited.lacks_frequency && lacks_frequency(&section),
        heartbeats: heartbeat::read(&Parent { section: &section, id: &id, groups: &groups, off_by_one, poll_ms }, reading),
        component: Component { id, unit_ids: units.into_iter().flatten().collect(), poll_ms },
        is_template,
    })
}

/// A group's unit: its own where the process reads it, else the component's.
fn group<'t>(value: &'t Json<'t>, unit_id: Option<u8>, component: &Section<'_>, reading: &'t Reading<'t>) -> Group<'t> {
    let section = Section::new(format!("a register group of {}", component.name), value, Keys::Exact, reading);
    if section.is_object_of_client() {
        check_type(&section, reading);
        check_points(&section);
    }
    let own = section.for_gcom().unit_id();
    if own.is_some() && own != unit_id && reading.process != Some(Process::GcomModbusClient) {
        let message = format!("{} has a `device_id` of its own, which only gcom_modbus_client reads", section.name);
        section.tell("device_id", ProblemCode::GroupUnit, message);
    }
    let own = own.filter(|_| reading.process != Some(Process::ModbusClient));
    Group { value, unit_id: own.or(unit_id) }
}

fn check_type(group: &Section<'_>, reading: &Reading<'_>) {
    let Some(name) = group.text("type") else { return };
    let known = super::modbus_client::register_type(name).is_some();
    let refused = match reading.process {
        Some(Process::GcomModbusClient) => name == "Coils",
        Some(Process::ModbusClient) => name == "Discrete_Input",
        _ => false,
    };
    if !known || refused {
        let message = format!("{} has the type {}, which the client does not know", group.name, quote(name));
        group.tell("type", ProblemCode::UnknownRegisterType, message);
    }
}

/// Tells the points whose values have a type that the clients do not take.
fn check_points(group: &Section<'_>) {
    for point in group.list("map") {
        if !matches!(point, Json::Object(_)) {
            group.of_point(point).is_object_of_client();
        }
        let is_right = |key, value: &Json<'_>| match key {
            "id" => matches!(value, Json::Text(_)),
            _ => matches!(value, Json::Integer(_)),
        };
        for (key, expected) in [("id", "a text in quotes"), ("offset", "a whole number"), ("size", "a whole number")] {
            if let Some(value) = point_value(point, key, Keys::Exact).filter(|value| !is_right(key, value)) {
                group.of_point(point).wrong::<()>(key, expected, value);
            }
        }
    }
}
