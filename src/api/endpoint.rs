//! What should talk to what: one end of a configured conversation.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::{fmt, net::IpAddr};

/// The protocol that is spoken at an endpoint.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Protocol {
    /// Modbus TCP, or Modbus RTU on a serial line.
    Modbus,
    /// DNP3 (IEEE 1815).
    Dnp3,
    /// Secure shell.
    Ssh,
    /// A web server.
    Http,
    /// Any other TCP service.
    Tcp,
}

impl Protocol {
    /// The word that stands in messages and endpoint ids.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Modbus => "modbus",
            Self::Dnp3 => "dnp3",
            Self::Ssh => "ssh",
            Self::Http => "http",
            Self::Tcp => "tcp",
        }
    }
}

impl fmt::Display for Protocol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// Who opens the connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Direction {
    /// This controller connects to a device.
    Outbound,
    /// This controller listens.
    Inbound,
    /// The config does not tell (a DNP3 file that may be a master's or an outstation's); such an endpoint is never probed.
    Undetermined,
}

/// What carries the protocol.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Transport {
    /// TCP.
    Tcp,
    /// TLS over TCP.
    Tls,
    /// A serial line; in the topology, never probed.
    Rtu,
}

/// Where a port number comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum PortSource {
    /// The config says so.
    Explicit,
    /// The config says nothing: the protocol's default.
    Default,
    /// A service name of the config, looked up.
    Service,
    /// The config says something unusable; the port is what the installed process would make of it.
    Invalid,
}

/// One DNP3 link: the data link addresses of the two ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
pub struct Dnp3Addresses {
    /// The link address of the process on this controller.
    pub local: u16,
    /// The link address of the other end.
    pub remote: u16,
    /// Whether an address was left to the process's default.
    pub defaulted: bool,
}

/// The settings of a serial line.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct SerialLine {
    /// The device, for instance `/dev/ttyUSB0`.
    pub device: String,
    /// Bits per second.
    pub baud_rate: u32,
    /// `none`, `even` or `odd`.
    pub parity: String,
    /// Data bits.
    pub data_bits: u8,
    /// Stop bits.
    pub stop_bits: u8,
}

/// A component of a client config: what is polled at a device under one name.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Component {
    /// Its id; it publishes on `/components/<id>`.
    pub id: String,
    /// The unit ids that it asks.
    pub unit_ids: Vec<u8>,
    /// How often it polls.
    pub poll_ms: Option<u64>,
}

/// Whether a config is in use.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Activity {
    /// A process runs with it, or something starts one with it.
    Started,
    /// As `started`, but the command line overrides some of it.
    Overridden,
    /// Nothing starts a process with it.
    NotStarted,
    /// Nothing is known of what starts processes here.
    #[default]
    Unknown,
}

/// One configured endpoint, seen from this controller.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Endpoint {
    /// Stable name, legal in a uri: see [`endpoint_id`].
    pub endpoint_id: String,
    /// What is spoken.
    pub protocol: Protocol,
    /// Who opens the connection.
    pub direction: Direction,
    /// What carries it.
    pub transport: Transport,
    /// The name by which the local process knows it (connection name or system id).
    pub name: Option<String>,
    /// The address or host name as the config has it.
    pub host: Option<String>,
    /// Outbound: the device's address. Inbound: the address that is listened on (`0.0.0.0` is all). `null` for a serial line and
    /// for a name that could not be resolved.
    pub address: Option<IpAddr>,
    /// The TCP port; `null` for a serial line.
    pub port: Option<u16>,
    /// Where the port comes from.
    pub port_source: PortSource,
    /// Modbus unit ids, ascending.
    #[serde(default)]
    pub unit_ids: Vec<u8>,
    /// Whether some unit id is left to the process (255 or 1, depending on which client runs).
    #[serde(default)]
    pub uses_default_unit: bool,
    /// Whether a Modbus server answers for any unit id.
    #[serde(default)]
    pub accepts_any_unit: bool,
    /// DNP3 link addresses; several sessions may share one channel.
    #[serde(default)]
    pub dnp3_addresses: Vec<Dnp3Addresses>,
    /// The serial line, if it is one.
    pub serial: Option<SerialLine>,
    /// The config files that name this endpoint.
    pub config_files: Vec<String>,
    /// Whether a process uses the config; of several configs, the one in use counts.
    #[serde(default)]
    pub activity: Activity,
    /// The local process that uses it, as far as the directory tells (`modbus_client`, `gcom_dnp3_server`, ...).
    pub process: Option<String>,
    /// The controller that the config is one of, where there are configs of several; see `controllers` of the topology.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub controller: Option<String>,
    /// What is polled there.
    #[serde(default)]
    pub components: Vec<Component>,
    /// How many parallel connections the local process opens.
    pub max_connections: Option<u16>,
    /// The uris on which the local process publishes what it reads here.
    #[serde(default)]
    pub fims_uris: Vec<String>,
    /// The interface by which the kernel would reach the address.
    pub interface: Option<String>,
    /// The source address that the kernel would use.
    pub source_address: Option<IpAddr>,
    /// The next hop, if the address is not on a connected network.
    pub gateway: Option<IpAddr>,
}

/// The stable id of an endpoint, made only of characters that a fims uri may hold (`-`, `.`, `0-9`, `A-Z`, `_`, `a-z`).
///
/// Outbound: `modbus_192.168.112.13_502`. Inbound: `modbus_listen_0.0.0.0_502`. A serial line: `modbus_rtu_dev_ttyUSB0`,
/// and `modbus_rtu_listen_dev_ttyUSB0` for a server on it. Any other
/// character (the `:` of IPv6, for instance) becomes `-`.
pub fn endpoint_id(protocol: Protocol, direction: Direction, host: &str, port: Option<u16>) -> String {
    let middle = match (direction, port) {
        (Direction::Inbound, None) => "rtu_listen_",
        (_, None) => "rtu_",
        (Direction::Inbound, Some(_)) => "listen_",
        (Direction::Outbound, Some(_)) => "",
        (Direction::Undetermined, Some(_)) => "undetermined_",
    };
    let host: String = host
        .trim_start_matches('/')
        .chars()
        .map(|c| match c {
            '/' => '_',
            c if c.is_ascii_alphanumeric() || matches!(c, '-' | '.' | '_') => c,
            _ => '-',
        })
        .take(160)
        .collect();
    match port {
        Some(port) => format!("{protocol}_{middle}{host}_{port}"),
        None => format!("{protocol}_{middle}{host}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_legal_in_a_uri() {
        assert_eq!(endpoint_id(Protocol::Modbus, Direction::Outbound, "192.168.112.13", Some(502)), "modbus_192.168.112.13_502");
        assert_eq!(endpoint_id(Protocol::Modbus, Direction::Inbound, "0.0.0.0", Some(502)), "modbus_listen_0.0.0.0_502");
        assert_eq!(endpoint_id(Protocol::Dnp3, Direction::Outbound, "fe80::1%eth0", Some(20000)), "dnp3_fe80--1-eth0_20000");
        assert_eq!(endpoint_id(Protocol::Modbus, Direction::Outbound, "/dev/ttyUSB0", None), "modbus_rtu_dev_ttyUSB0");
        assert_eq!(endpoint_id(Protocol::Modbus, Direction::Inbound, "/dev/ttyUSB0", None), "modbus_rtu_listen_dev_ttyUSB0");
    }
}
