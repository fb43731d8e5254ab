//! One thing that was found wrong, on the wire or in a config.

use super::UtcTime;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// How much a finding matters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Severity {
    /// Worth knowing; nothing is wrong.
    Info,
    /// Wrong, but the endpoint works.
    Warning,
    /// The endpoint does not work, or will not for long.
    Alarm,
}

/// A finding with its evidence. Codes are stable; `docs/findings.md` explains each.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Finding {
    /// The stable code, for instance `tcp.syn_unanswered`.
    pub code: String,
    /// How much it matters.
    pub severity: Severity,
    /// How often it was seen.
    pub count: u64,
    /// When it was first seen.
    pub first_at: Option<UtcTime>,
    /// When it was last seen.
    pub last_at: Option<UtcTime>,
    /// The endpoint it is about, where it is about one.
    pub endpoint_id: Option<String>,
    /// The finding in words.
    pub message: String,
    /// The first few packets that show it, numbered from 1 as Wireshark numbers the capture file.
    #[serde(default)]
    pub packets: Vec<u64>,
}
