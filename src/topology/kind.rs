//! What a file is, by its content alone.

use super::{activity::is_process_list, json::Json, modbus_client::register_type, process::Process};
use crate::api::{Direction, Protocol};

/// What a file is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum FileKind {
    /// A Modbus client with `connection` and `components`.
    ModbusClient,
    /// A Modbus client of the older format, `system` with a list of register groups; no installed client loads it.
    ModbusClientSingle,
    /// A Modbus server with one register map.
    ModbusServer,
    /// A Modbus server with a register map for each of several units.
    ModbusServerUnits,
    /// A DNP3 master or outstation whose points stand in `registers`.
    Dnp3Registers,
    /// A DNP3 master or outstation whose points stand in `objects`.
    Dnp3Objects,
    /// A list of DNP3 files that make one process.
    Dnp3FileList,
    /// A list of processes that the master control process starts.
    ProcessList,
    /// JSON, but no config of a process that netdiag knows.
    NotOurs,
    /// Not readable as JSON, so nothing is known.
    Broken,
}

impl FileKind {
    /// What a process must speak, and which side it must be, to read such a file; a DNP3 file suits both sides. `None` for what is no
    /// config, and for what cannot be told.
    pub(super) fn reader(self) -> Option<(Protocol, Option<Direction>)> {
        match self {
            Self::ModbusClient | Self::ModbusClientSingle => Some((Protocol::Modbus, Some(Direction::Outbound))),
            Self::ModbusServer | Self::ModbusServerUnits => Some((Protocol::Modbus, Some(Direction::Inbound))),
            Self::Dnp3Registers | Self::Dnp3Objects | Self::Dnp3FileList => Some((Protocol::Dnp3, None)),
            Self::ProcessList | Self::NotOurs | Self::Broken => None,
        }
    }

    /// Whether a process can read such a file; of a broken one nobody knows better than who starts it.
    pub(super) fn suits(self, process: Process) -> bool {
        match self.reader() {
            Some((protocol, direction)) => {
                process.protocol() == protocol && direction.is_none_or(|direction| direction == process.direction())
            }
            None => self == Self::Broken,
        }
    }
}

/// The register sections of a Modbus server.
pub(super) const SERVER_SECTIONS: [&str; 4] = ["coils", "discrete_inputs", "input_registers", "holding_registers"];
/// The DNP3 point types.
pub(super) const POINT_TYPES: [&str; 9] =
    ["AnOPInt16", "AnOPInt32", "AnOPF32", "CROB", "analog", "binary", "counter", "analogOS", "binaryOS"];

/// Recognises a config by its content. The order matters: some files have the marks of two kinds.
pub(super) fn recognise(root: &Json<'_>) -> FileKind {
    if is_object(root.get("connection")) && matches!(root.get("components"), Some(Json::List(_))) {
        return FileKind::ModbusClient;
    }
    if let Some(system @ Json::Object(_)) = root.get_any_case("system") {
        if is_object(root.get_any_case("objects")) {
            return FileKind::Dnp3Objects;
        }
        return match root.get_any_case("registers") {
            Some(Json::Object(_)) => FileKind::ModbusServer,
            Some(Json::List(groups)) => by_groups(system, groups),
            _ => FileKind::NotOurs,
        };
    }
    match root.entries() {
        [(key, Json::List(files))] if key.eq_ignore_ascii_case("files") && files.iter().all(|file| file.as_text().is_some()) => {
            FileKind::Dnp3FileList
        }
        _ if is_process_list(root) => FileKind::ProcessList,
        _ => FileKind::NotOurs,
    }
}

fn by_groups(system: &Json<'_>, groups: &[Json<'_>]) -> FileKind {
    let has_section = |group: &Json<'_>| SERVER_SECTIONS.iter().any(|section| group.get_any_case(section).is_some());
    if groups.iter().any(has_section) {
        return FileKind::ModbusServerUnits;
    }
    let says_dnp3 = system
        .get_any_case("protocol")
        .and_then(Json::as_text)
        .and_then(|protocol| protocol.get(..3))
        .is_some_and(|start| start.eq_ignore_ascii_case("dnp"));
    let type_of = |group: &Json<'_>| group.get_any_case("type").and_then(Json::as_text).map(str::to_owned);
    let is_dnp3 =
        |group: &Json<'_>| group.get_any_case("dnp3_type").is_some() || type_of(group).is_some_and(|name| is_point_type(&name));
    if says_dnp3 || groups.iter().any(is_dnp3) {
        return FileKind::Dnp3Registers;
    }
    if groups.iter().any(|group| type_of(group).is_some_and(|name| register_type(&name).is_some())) {
        return FileKind::ModbusClientSingle;
    }
    FileKind::NotOurs
}

/// Whether a name is that of a DNP3 point type.
pub(super) fn is_point_type(name: &str) -> bool {
    POINT_TYPES.iter().any(|known| known.eq_ignore_ascii_case(name))
}

fn is_object(value: Option<&Json<'_>>) -> bool {
    matches!(value, Some(Json::Object(_)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::topology::json::first_value;

    fn kind(text: &str) -> FileKind {
        recognise(&first_value(text).unwrap().0)
    }

    #[test]
    fn each_kind_is_known_by_its_content() {
        let cases = [
            (r#"{"connection": {}, "components": [], "system": {}, "fileInfo": 1}"#, FileKind::ModbusClient),
            (r#"{"system": {}, "registers": [{"type": "Holding Registers"}]}"#, FileKind::ModbusClientSingle),
            (r#"{"system": {}, "registers": {}}"#, FileKind::ModbusServer),
            (r#"{"SYSTEM": {}, "Registers": {}}"#, FileKind::ModbusServer),
            (r#"{"system": {}, "registers": [{"note": 1}, {"coils": []}]}"#, FileKind::ModbusServerUnits),
            (r#"{"system": {}, "registers": [{"type": "CROB"}]}"#, FileKind::Dnp3Registers),
            (r#"{"system": {}, "registers": [{"dnp3_type": "x", "type": "Coils"}]}"#, FileKind::Dnp3Registers),
            (r#"{"system": {"protocol": "DNP3"}, "registers": [{"type": "Coils"}]}"#, FileKind::Dnp3Registers),
            (r#"{"system": {}, "objects": {}, "registers": {}}"#, FileKind::Dnp3Objects),
            (r#"{"files": ["a.json"]}"#, FileKind::Dnp3FileList),
            (r#"{"processes": [{"name": "/bin/x", "args": []}]}"#, FileKind::ProcessList),
        ];
        for (text, expected) in cases {
            assert_eq!(kind(text), expected, "{text}");
        }
    }

    #[test]
    fn what_only_resembles_a_config_is_none() {
        for text in [
            "[]",
            "3",
            r#"{"connection": "x", "components": []}"#,
            r#"{"components": {}, "servers": []}"#,
            r#"{"host": "h", "port": 502, "registers": [{"type": "coil"}]}"#,
            r#"{"files": ["a"], "more": 1}"#,
            r#"{"files": [1]}"#,
            r#"{"system": {}, "registers": []}"#,
            r#"{"system": [], "registers": {}}"#,
            r#"{"clients": [], "servers": []}"#,
        ] {
            assert_eq!(kind(text), FileKind::NotOurs, "{text}");
        }
    }
}
