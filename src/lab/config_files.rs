//! The config files of the simulated site, as the processes of a real one read them.

use super::{
    LabError,
    device::{DeviceSpec, InboundSpec, Speaks},
    modbus_server::{LIFE_SIGNAL, STATE_OF_CHARGE, UNIT_ID},
};
use serde_json::{Value, json};
use std::{
    fs,
    net::SocketAddr,
    path::{Path, PathBuf},
};

/// How often the configured processes poll, in milliseconds.
const FREQUENCY_MS: u64 = 1000;

/// A config file: the process that reads it, its name, and what it says.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct ConfigFile {
    process: &'static str,
    name: String,
    content: Value,
}

impl ConfigFile {
    /// Writes it as `<directory>/<process>/<name>.json`.
    pub(super) fn write_below(&self, directory: &Path) -> Result<PathBuf, LabError> {
        let directory = directory.join(self.process);
        let path = directory.join(format!("{}.json", self.name));
        fs::create_dir_all(&directory).map_err(|source| LabError::Config { path: directory, source })?;
        fs::write(&path, format!("{:#}\n", self.content)).map_err(|source| LabError::Config { path: path.clone(), source })?;
        Ok(path)
    }
}

/// The config of the client that talks to a device.
pub(super) fn client(device: &DeviceSpec, place: SocketAddr) -> ConfigFile {
    let name = device.name.clone();
    match &device.speaks {
        Speaks::Modbus { unit_ids } => {
            let id_of = |unit_id: &u8| if unit_ids.len() == 1 { name.clone() } else { format!("{name}_{unit_id}") };
            let components: Vec<Value> = unit_ids.iter().map(|unit_id| modbus_component(&id_of(unit_id), *unit_id)).collect();
            let content = json!({
                "connection": { "name": name, "ip_address": place.ip(), "port": place.port(), "max_num_connections": 1 },
                "components": components,
            });
            ConfigFile { process: "modbus_client", name, content }
        }
        Speaks::Dnp3 { master, station, unsolicited } => {
            let content = dnp3(&name, place, (*master, *station), unsolicited.is_some(), "/components");
            ConfigFile { process: "dnp3_client", name, content }
        }
    }
}

/// The config of a server on the controller.
pub(super) fn server(inbound: &InboundSpec, place: SocketAddr) -> ConfigFile {
    let name = inbound.name.clone();
    match &inbound.speaks {
        Speaks::Modbus { unit_ids } => {
            let uri = format!("/site/{name}");
            let registers = |id: &str, offset| json!([{ "id": id, "name": id, "offset": offset, "uri": uri }]);
            let tables = json!({
                "holding_registers": registers("active_power_setpoint", 0),
                "input_registers": registers("state_of_charge", STATE_OF_CHARGE),
            });
            let mut system = json!({ "name": name, "id": name, "ip_address": place.ip(), "port": place.port() });
            // One unit stands in `system`; several stand in an array of tables.
            let registers = match unit_ids.as_slice() {
                [unit_id] => {
                    system["device_id"] = json!(unit_id);
                    tables
                }
                several => several.iter().map(|unit_id| with_unit(tables.clone(), *unit_id)).collect(),
            };
            ConfigFile { process: "modbus_server", name, content: json!({ "system": system, "registers": registers }) }
        }
        Speaks::Dnp3 { master, station, unsolicited } => {
            let content = dnp3(&name, place, (*master, *station), unsolicited.is_some(), "/interfaces");
            ConfigFile { process: "dnp3_server", name, content }
        }
    }
}

fn with_unit(mut tables: Value, unit_id: u8) -> Value {
    tables["device_id"] = json!(unit_id);
    tables
}

fn modbus_component(id: &str, unit_id: u8) -> Value {
    let point = |id: &str, offset: u16| json!({ "id": id, "name": id, "offset": offset });
    json!({
        "id": id,
        "device_id": unit_id,
        "frequency": FREQUENCY_MS,
        "offset_time": 20,
        "heartbeat_enabled": true,
        "component_heartbeat_read_uri": "life_signal",
        "component_heartbeat_timeout_ms": 5000,
        "registers": [{
            "type": "Holding Registers",
            "starting_offset": 0,
            "number_of_registers": 4,
            "map": [
                point("life_signal", LIFE_SIGNAL),
                point("unit_id", UNIT_ID),
                point("state_of_charge", STATE_OF_CHARGE),
            ],
        }, {
            "type": "Holding Registers",
            "starting_offset": 20,
            "number_of_registers": 2,
            "map": [point("dc_voltage", 20), point("dc_current", 21)],
        }],
    })
}

fn dnp3(id: &str, place: SocketAddr, (master, station): (u16, u16), unsolicited: bool, base_uri: &str) -> Value {
    json!({
        "system": {
            "name": id,
            "id": id,
            "protocol": "DNP3",
            "ip_address": place.ip(),
            "port": place.port(),
            "master_address": master,
            "station_address": station,
            "base_uri": base_uri,
            "frequency": FREQUENCY_MS,
            "unsol": unsolicited,
        },
        "registers": [{
            "type": "analog",
            "map": [
                { "id": "active_power", "name": "Active power", "offset": 0, "variation": "Group30Var1" },
                { "id": "reactive_power", "name": "Reactive power", "offset": 1, "variation": "Group30Var1" },
            ],
        }],
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lab::Behaviour;

    #[test]
    fn a_client_of_several_units_has_a_component_for_each() {
        let device = DeviceSpec::modbus("bms_1", Behaviour::Healthy).with_units([1, 11]);
        let file = client(&device, "10.77.0.11:502".parse().unwrap());
        assert_eq!(file.content["connection"]["ip_address"], "10.77.0.11");
        let units: Vec<_> =
            file.content["components"].as_array().unwrap().iter().map(|component| &component["device_id"]).collect();
        assert_eq!(units, [1, 11]);
        assert_eq!(file.content["components"][1]["id"], "bms_1_11");
    }

    #[test]
    fn each_file_lies_where_its_process_looks() {
        let directory = tempfile::tempdir().unwrap();
        let place = "0.0.0.0:502".parse().unwrap();
        let written = server(&InboundSpec::modbus("fleet", 502), place).write_below(directory.path()).unwrap();
        assert_eq!(written, directory.path().join("modbus_server/fleet.json"));
        let content: Value = serde_json::from_slice(&fs::read(written).unwrap()).unwrap();
        assert_eq!(content["system"]["device_id"], 1);
        let device = DeviceSpec::dnp3("relay_1", Behaviour::Healthy);
        assert_eq!(client(&device, place).process, "dnp3_client");
    }
}
