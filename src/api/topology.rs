//! What should talk to what, and by which way.

use super::{Activity, Direction, Endpoint, Severity, UtcTime};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::net::IpAddr;

/// The four Modbus tables.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum RegisterType {
    /// Read and written, one bit (function codes 1, 5, 15).
    Coil,
    /// Read only, one bit (2).
    DiscreteInput,
    /// Read only, 16 bits (4).
    Input,
    /// Read and written, 16 bits (3, 6, 16).
    Holding,
}

/// What a changing value is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum HeartbeatKind {
    /// Read from the device: it must change.
    Read,
    /// Written to the device.
    Write,
    /// A watchdog value, read only.
    Watchdog,
}

/// A configured heartbeat or watchdog, resolved to what is seen on the wire.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Heartbeat {
    /// The endpoint it is exchanged with.
    pub endpoint_id: String,
    /// The file that configures it.
    pub config_file: String,
    /// The component it belongs to.
    pub component: String,
    /// What it is for.
    pub kind: HeartbeatKind,
    /// Whether the config switches it on.
    pub enabled: bool,
    /// The id of the point.
    pub id: String,
    /// Whether a point of that id exists.
    pub resolved: bool,
    /// The Modbus table.
    pub register_type: Option<RegisterType>,
    /// The offset as the config has it.
    pub offset: Option<u32>,
    /// The offset as it stands in a request (one less with `off_by_one`).
    pub wire_offset: Option<u32>,
    /// How many registers.
    pub size: Option<u16>,
    /// The unit id; `null` where it is left to the process.
    pub unit_id: Option<u8>,
    /// The DNP3 point type (`analog`, `counter`, ...).
    pub point_type: Option<String>,
    /// The DNP3 point index.
    pub point_index: Option<u32>,
    /// Unchanged for this long means lost.
    pub timeout_ms: Option<u64>,
    /// How often it is written or checked.
    pub period_ms: Option<u64>,
    /// The value above which it starts again.
    pub max_value: Option<u64>,
}

/// One address, and what is on it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Host {
    /// The address.
    pub address: IpAddr,
    /// The host names by which configs call it.
    #[serde(default)]
    pub names: Vec<String>,
    /// Whether it is one of this controller's own addresses.
    pub is_local: bool,
    /// The interface by which the kernel would reach it.
    pub interface: Option<String>,
    /// The next hop, if it is not on a connected network.
    pub gateway: Option<IpAddr>,
    /// The endpoints on it.
    pub endpoint_ids: Vec<String>,
}

/// What an interface has carried since it exists, and what went wrong (`ip -s link`).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct InterfaceCounters {
    /// Packets received.
    pub rx_packets: u64,
    /// Bytes received.
    pub rx_bytes: u64,
    /// Packets received that were bad: check sums, lengths, overruns.
    pub rx_errors: u64,
    /// Of these, those with a wrong check sum: a bad cable, plug or port.
    pub rx_crc_errors: u64,
    /// Packets received that the kernel dropped.
    pub rx_dropped: u64,
    /// Packets sent.
    pub tx_packets: u64,
    /// Bytes sent.
    pub tx_bytes: u64,
    /// Packets that could not be sent.
    pub tx_errors: u64,
    /// Packets to send that the kernel dropped.
    pub tx_dropped: u64,
    /// Collisions: the two ends do not agree on duplex.
    pub collisions: u64,
}

/// One of the controller's own network interfaces.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Interface {
    /// Its name, for instance `eth0`.
    pub name: String,
    /// The kernel's index.
    pub index: u32,
    /// Whether it is switched on.
    pub up: bool,
    /// Whether it has a carrier.
    pub running: bool,
    /// Whether it is the loopback.
    pub loopback: bool,
    /// The hardware address.
    pub mac: Option<String>,
    /// The largest packet.
    pub mtu: Option<u32>,
    /// The speed of the link in megabits per second; `null` where there is no link, or none of a certain speed.
    #[serde(default)]
    pub speed_mbps: Option<u32>,
    /// `full` or `half`.
    #[serde(default)]
    pub duplex: Option<String>,
    /// How often the carrier came or went since the interface exists.
    #[serde(default)]
    pub carrier_changes: Option<u32>,
    /// What it has carried, and what went wrong.
    #[serde(default)]
    pub counters: Option<InterfaceCounters>,
    /// Addresses with prefix length, for instance `192.168.112.2/24`.
    pub addresses: Vec<String>,
    /// How many endpoints are reached by it.
    pub endpoints: u32,
}

/// What kind of thing starts a process.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum StarterKind {
    /// A process that runs now.
    Running,
    /// A systemd unit that is enabled.
    Systemd,
    /// A list of the master control process.
    Mcp,
}

/// What starts a process with a config.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ConfigStarter {
    /// What kind of thing.
    pub kind: StarterKind,
    /// Its name: a systemd unit, the path of a list, or the program that runs.
    pub name: String,
    /// The process id, of one that runs.
    pub pid: Option<u32>,
    /// What its command line overrides, for instance `ip:10.0.0.7`.
    pub overrides: Vec<String>,
}

/// A config, and whether it is in use.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ConfigUse {
    /// The file.
    pub path: String,
    /// The process that reads it, as far as what starts it or the directory tells.
    pub process: Option<String>,
    /// Whether it is in use.
    pub activity: Activity,
    /// Everything that starts a process with it.
    pub starters: Vec<ConfigStarter>,
}

/// The controller's own network interfaces, as they are now.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct InterfaceList {
    /// The interfaces, in the kernel's order.
    pub interfaces: Vec<Interface>,
    /// When.
    pub at: UtcTime,
}

/// A controller whose configs are among those read, where they are those of several.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Controller {
    /// Its name: what tells its directory from those of the others.
    pub name: String,
    /// The directories that hold its processes' config directories.
    pub config_roots: Vec<String>,
    /// Whether it is known to be this one: something of this host runs or is enabled with its configs.
    pub is_local: bool,
}

/// A client and the server it connects to, both known by their configs.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
pub struct Pair {
    /// The client's endpoint id.
    pub client: String,
    /// The server's endpoint id.
    pub server: String,
    /// Whether protocol, transport and unit ids or link addresses of the two fit; if not, a problem of the client says why.
    pub agrees: bool,
}

/// A list of a topology that a message could not hold whole.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct CutList {
    /// The field of the topology.
    pub list: String,
    /// How many it has.
    pub total: u32,
    /// How many of them, the first ones, are in this message.
    pub held: u32,
    /// Where to `get` the whole list, piece by piece.
    pub uri: String,
}

/// A list of a topology that can be had piece by piece.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum TopologyList {
    /// The endpoints.
    Endpoints,
    /// The addresses.
    Hosts,
    /// The heartbeats.
    Heartbeats,
    /// The configs.
    Configs,
    /// Who talks to whom.
    Pairs,
    /// The problems.
    Problems,
}

impl TopologyList {
    /// Every such list.
    pub const ALL: [Self; 6] = [Self::Endpoints, Self::Hosts, Self::Heartbeats, Self::Configs, Self::Pairs, Self::Problems];

    /// Its name, which is that of the field in the topology and the last part of its uri.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Endpoints => "endpoints",
            Self::Hosts => "hosts",
            Self::Heartbeats => "heartbeats",
            Self::Configs => "configs",
            Self::Pairs => "pairs",
            Self::Problems => "problems",
        }
    }

    /// The list of this name.
    pub fn of_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|list| list.as_str() == name)
    }
}

/// A piece of a list of a topology, as much as a message holds.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct TopologyPiece {
    /// Which list.
    pub list: TopologyList,
    /// The number of the first item in it, from 0.
    pub from: u32,
    /// How many items the list has.
    pub total: u32,
    /// The items, as they stand in the [topology](Topology).
    pub items: Vec<Value>,
    /// Where to `get` the next piece; `null` after the last.
    pub next_uri: Option<String>,
    /// When the topology was read; a piece of another reading may not fit the ones before.
    pub scanned_at: UtcTime,
}

/// One endpoint, with all that the topology says about it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct EndpointDetail {
    /// The endpoint.
    #[serde(flatten)]
    pub endpoint: Endpoint,
    /// Its heartbeats.
    #[serde(default)]
    pub heartbeats: Vec<Heartbeat>,
    /// Its configs, and whether each is in use.
    #[serde(default)]
    pub configs: Vec<ConfigUse>,
    /// Who of the other endpoints is at the other end.
    #[serde(default)]
    pub pairs: Vec<Pair>,
    /// What is wrong with it, or questionable.
    #[serde(default)]
    pub problems: Vec<Problem>,
}

/// Something about a file, or about what it says, that an engineer should know.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Problem {
    /// The stable code, for instance `config.json_syntax`.
    pub code: String,
    /// How much it matters.
    pub severity: Severity,
    /// The file.
    pub path: Option<String>,
    /// The line, from 1.
    pub line: Option<u32>,
    /// The column, from 1.
    pub column: Option<u32>,
    /// The endpoint it is about.
    pub endpoint_id: Option<String>,
    /// What is wrong, and what would be right.
    pub message: String,
}

/// Everything that is known of what should talk to what.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Topology {
    /// The endpoints, in the order of their ids. Left empty when they would not fit a message; then `endpoint_uris` names them.
    pub endpoints: Vec<Endpoint>,
    /// Where to `get` the endpoints one by one, when they would not fit.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub endpoint_uris: Vec<String>,
    /// The lists that do not fit a message whole, and where to get them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub cut: Vec<CutList>,
    /// The controllers, where the configs are those of several; empty for one.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub controllers: Vec<Controller>,
    /// The addresses they are on.
    pub hosts: Vec<Host>,
    /// The controller's own interfaces.
    pub interfaces: Vec<Interface>,
    /// The configured heartbeats.
    pub heartbeats: Vec<Heartbeat>,
    /// The configs, and whether each is in use.
    #[serde(default)]
    pub configs: Vec<ConfigUse>,
    /// Which client connects to which server, where both are among the endpoints.
    #[serde(default)]
    pub pairs: Vec<Pair>,
    /// Files that could not be used, and why; and what is questionable in the others.
    pub problems: Vec<Problem>,
    /// How many files were looked at.
    pub files_scanned: u32,
    /// When.
    pub scanned_at: UtcTime,
}

/// A field that has another value than before.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct FieldChange {
    /// Its name.
    pub field: String,
    /// The value before; `null` if there was none.
    pub before: Value,
    /// The value now.
    pub after: Value,
}

/// Something that is there as before, but not the same.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Change {
    /// The endpoint's id, the interface's name, the config's path, or the heartbeat's file, component and kind.
    pub id: String,
    /// What differs.
    pub fields: Vec<FieldChange>,
}

/// What changed from one topology to the next.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct TopologyChange {
    /// The change in one sentence.
    pub text: String,
    /// The endpoints that came, by id.
    pub added: Vec<String>,
    /// The endpoints that went.
    pub removed: Vec<String>,
    /// The endpoints that differ.
    pub changed: Vec<Change>,
    /// The heartbeats that came, by config file, component and kind (`modbus_client/bms.json bms write`).
    #[serde(default)]
    pub heartbeats_added: Vec<String>,
    /// The heartbeats that went.
    #[serde(default)]
    pub heartbeats_removed: Vec<String>,
    /// The heartbeats that differ: in register, unit, time or anything else.
    #[serde(default)]
    pub heartbeats_changed: Vec<Change>,
    /// The configs that came, by path.
    #[serde(default)]
    pub configs_added: Vec<String>,
    /// The configs that went.
    #[serde(default)]
    pub configs_removed: Vec<String>,
    /// The configs whose process or use differs, or what starts them.
    #[serde(default)]
    pub configs_changed: Vec<Change>,
    /// The pairs of client and server that came, for instance `modbus_10.0.0.1_502 > modbus_listen_10.0.0.1_502`.
    #[serde(default)]
    pub pairs_added: Vec<String>,
    /// The pairs that went.
    #[serde(default)]
    pub pairs_removed: Vec<String>,
    /// The interfaces that came, by name.
    pub interfaces_added: Vec<String>,
    /// The interfaces that went.
    pub interfaces_removed: Vec<String>,
    /// The interfaces that differ in anything but their counters.
    pub interfaces_changed: Vec<Change>,
    /// Problems that are new.
    pub problems_added: Vec<Problem>,
    /// Problems that are gone.
    pub problems_resolved: Vec<Problem>,
    /// When the topology before was read.
    pub before: UtcTime,
    /// When the topology now was read.
    pub scanned_at: UtcTime,
    /// Whether lists were cut to fit a message; `text` still counts everything.
    #[serde(default)]
    pub truncated: bool,
}

impl TopologyChange {
    /// Whether nothing changed.
    pub fn is_empty(&self) -> bool {
        let names = [
            &self.added,
            &self.removed,
            &self.heartbeats_added,
            &self.heartbeats_removed,
            &self.configs_added,
            &self.configs_removed,
            &self.pairs_added,
            &self.pairs_removed,
            &self.interfaces_added,
            &self.interfaces_removed,
        ];
        let changes = [&self.changed, &self.heartbeats_changed, &self.configs_changed, &self.interfaces_changed];
        let problems = [&self.problems_added, &self.problems_resolved];
        names.iter().all(|names| names.is_empty())
            && changes.iter().all(|changes| changes.is_empty())
            && problems.iter().all(|problems| problems.is_empty())
    }
}

/// A topology in a few numbers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct TopologySummary {
    /// How many endpoints in all.
    pub endpoints: u32,
    /// How many this controller connects to.
    pub outbound: u32,
    /// How many this controller listens on.
    pub inbound: u32,
    /// How many addresses.
    pub hosts: u32,
    /// How many heartbeats.
    pub heartbeats: u32,
    /// How many problems.
    pub problems: u32,
    /// How many files were looked at.
    pub files_scanned: u32,
    /// When.
    pub scanned_at: UtcTime,
    /// Whether the configs are being read just now, so that these numbers are those of the scan before.
    pub scanning: bool,
    /// Where the whole is to be had.
    pub uri: String,
}

impl Topology {
    /// The numbers of this topology; `uri` is where the whole is to be had, `scanning` whether a newer one is being made.
    pub fn summary(&self, uri: impl Into<String>, scanning: bool) -> TopologySummary {
        let count = |direction| len(self.endpoints.iter().filter(|endpoint| endpoint.direction == direction).count());
        TopologySummary {
            endpoints: len(self.endpoints.len()),
            outbound: count(Direction::Outbound),
            inbound: count(Direction::Inbound),
            hosts: len(self.hosts.len()),
            heartbeats: len(self.heartbeats.len()),
            problems: len(self.problems.len()),
            files_scanned: self.files_scanned,
            scanned_at: self.scanned_at,
            scanning,
            uri: uri.into(),
        }
    }
}

fn len(count: usize) -> u32 {
    u32::try_from(count).unwrap_or(u32::MAX)
}
