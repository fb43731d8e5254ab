//! How the service is, for programs and for a web page.

use super::{Job, JobState, UtcTime};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Whether this host lets netdiag do something.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Capability {
    /// Whether it can be done.
    pub available: bool,
    /// Why not; or how (the kind of socket, the library's version).
    pub reason: Option<String>,
}

/// What this host lets netdiag do.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Capabilities {
    /// Sending pings.
    pub ping: Capability,
    /// Capturing traffic.
    pub capture: Capability,
}

/// Whether all is well with netdiag itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Health {
    /// All is well.
    Ok,
    /// Something is not as it should be; `problems` says what.
    Degraded,
}

/// The monitor, in short.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct MonitorStatus {
    /// Whether it is switched on.
    pub enabled: bool,
    /// What it is doing (`unavailable` in this version).
    pub state: String,
}

/// How the service is.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Status {
    /// The version of netdiag.
    pub version: String,
    /// How long it has been running.
    pub uptime_s: f64,
    /// Whether all is well with netdiag itself.
    pub state: Health,
    /// What is not as it should be, in sentences.
    pub problems: Vec<String>,
    /// How many jobs are queued or running.
    pub jobs_running: u32,
    /// The latest connectivity test.
    pub last_connectivity: Option<Job>,
    /// The monitor.
    pub monitor: MonitorStatus,
    /// What this host lets netdiag do.
    pub capabilities: Capabilities,
    /// What passed over the bus, and what was lost.
    pub bus: BusCounters,
    /// When this was written.
    pub at: UtcTime,
}

/// What passed over the bus since the start, and what was lost.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct BusCounters {
    /// Messages received.
    pub received: u64,
    /// Messages sent.
    pub sent: u64,
    /// Messages that could not be sent: no connection, or a full queue.
    pub send_dropped: u64,
    /// Messages that came faster than they could be handled.
    pub receive_dropped: u64,
    /// Packets that were no message.
    pub undecodable: u64,
    /// How often the connection was made anew.
    pub reconnects: u64,
}

/// The flat, short values that a web page shows. The same uri takes the buttons.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Summary {
    /// `ok` or `degraded`.
    pub state: Health,
    /// Endpoints in the latest test; before the first one, in the topology.
    pub endpoints_total: u32,
    /// Working.
    pub endpoints_ok: u32,
    /// Working badly.
    pub endpoints_degraded: u32,
    /// Not working.
    pub endpoints_failed: u32,
    /// Nothing to see, or not looked at.
    pub endpoints_unknown: u32,
    /// The latest test in one sentence; empty before the first one.
    pub last_result: String,
    /// How the latest test ended.
    pub last_state: Option<JobState>,
    /// When the latest test ended.
    pub last_run_at: Option<UtcTime>,
    /// Whether a test is running or queued.
    pub test_running: bool,
    /// How far the running test is, in percent.
    pub test_progress_pct: f64,
    /// What the running test is doing.
    pub test_phase: String,
    /// Whether the monitor is on.
    pub monitor_enabled: bool,
    /// What the monitor is doing.
    pub monitor_state: String,
    /// Suspect snapshots in the archive.
    pub snapshots_suspect: u32,
    /// Size of the archive.
    pub archive_bytes: u64,
    /// Problems of netdiag itself.
    pub problems: u32,
}
