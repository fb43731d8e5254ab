//! The processes that read configs, and how a directory tells which.

use crate::api::{Direction, Protocol};
use std::fmt;

/// A process that reads configs; each has a directory of its name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Process {
    /// The legacy Modbus client.
    ModbusClient,
    /// The newer Modbus client.
    GcomModbusClient,
    /// The legacy Modbus server.
    ModbusServer,
    /// The newer Modbus server.
    GcomModbusServer,
    /// The legacy DNP3 master.
    Dnp3Client,
    /// The newer DNP3 master.
    GcomDnp3Client,
    /// An older DNP3 master.
    Dnp3Master,
    /// The legacy DNP3 outstation.
    Dnp3Server,
    /// The newer DNP3 outstation.
    GcomDnp3Server,
    /// An older DNP3 outstation.
    Dnp3Outstation,
}

impl Process {
    /// Every process that has a config directory.
    pub const ALL: [Self; 10] = [
        Self::ModbusClient,
        Self::GcomModbusClient,
        Self::ModbusServer,
        Self::GcomModbusServer,
        Self::Dnp3Client,
        Self::GcomDnp3Client,
        Self::Dnp3Master,
        Self::Dnp3Server,
        Self::GcomDnp3Server,
        Self::Dnp3Outstation,
    ];

    /// Its name, which is also that of its directory.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::ModbusClient => "modbus_client",
            Self::GcomModbusClient => "gcom_modbus_client",
            Self::ModbusServer => "modbus_server",
            Self::GcomModbusServer => "gcom_modbus_server",
            Self::Dnp3Client => "dnp3_client",
            Self::GcomDnp3Client => "gcom_dnp3_client",
            Self::Dnp3Master => "dnp3_master",
            Self::Dnp3Server => "dnp3_server",
            Self::GcomDnp3Server => "gcom_dnp3_server",
            Self::Dnp3Outstation => "dnp3_outstation",
        }
    }

    /// What it speaks.
    pub const fn protocol(self) -> Protocol {
        match self {
            Self::ModbusClient | Self::GcomModbusClient | Self::ModbusServer | Self::GcomModbusServer => Protocol::Modbus,
            _ => Protocol::Dnp3,
        }
    }

    /// Whether it connects or listens.
    pub const fn direction(self) -> Direction {
        match self {
            Self::ModbusClient | Self::GcomModbusClient | Self::Dnp3Client | Self::GcomDnp3Client | Self::Dnp3Master => {
                Direction::Outbound
            }
            _ => Direction::Inbound,
        }
    }

    /// The process that a program is, by the name of its file.
    pub fn of_program(path: &str) -> Option<Self> {
        let name = path.rsplit('/').next().unwrap_or_default();
        Self::ALL.into_iter().find(|process| process.as_str() == name)
    }

    /// The process whose directory a file lies in: that of the nearest folder with the name of one.
    pub fn of_path(path: &str) -> Option<Self> {
        let mut folders = path.rsplit('/').skip(1);
        folders.find_map(|folder| Self::ALL.into_iter().find(|process| process.as_str() == folder))
    }
}

impl fmt::Display for Process {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_nearest_folder_tells_the_process_and_the_file_name_does_not() {
        assert_eq!(Process::of_path("/etc/config/modbus_client/a.json"), Some(Process::ModbusClient));
        assert_eq!(Process::of_path("modbus_server/block_1/modbus_client"), Some(Process::ModbusServer));
        assert_eq!(Process::of_path("dnp3_server/gcom_dnp3_client/x.json"), Some(Process::GcomDnp3Client));
        assert_eq!(Process::of_path("dnp3_interface/x.json"), None);
        assert_eq!(Process::of_path("modbus_client"), None);
    }
}
