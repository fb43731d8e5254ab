//! Two small bodies that other programs define: the COPS answer and the event.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// The answer to the process supervisor's `get`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct CopsAnswer {
    /// The last heartbeat that was received; 0 before the first.
    pub cops_heartbeat: u64,
    /// This process.
    pub pid: u32,
    /// The version of netdiag.
    pub version_tag: String,
    /// The commit it was built from, if known at build time.
    pub version_commit: String,
    /// How it was built: profile and target.
    pub version_build: String,
}

/// A row for the alarm log (`post /events`).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Event {
    /// Who says it: the process name.
    pub source: String,
    /// What happened, in one sentence.
    pub message: String,
    /// 0 debug, 1 info, 2 status, 3 alarm, 4 fault.
    pub severity: u8,
}

impl Event {
    /// The severity of what is only told.
    pub const INFO: u8 = 1;
    /// The severity of what has changed.
    pub const STATUS: u8 = 2;
    /// The severity of what somebody should look at.
    pub const ALARM: u8 = 3;
}
