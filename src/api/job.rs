//! Long work: accepted at once, followed by its id.

use super::UtcTime;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// What a job does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum JobKind {
    /// Probes endpoints and judges them.
    Connectivity,
    /// Records traffic to a file.
    Capture,
    /// Looks at a capture file.
    Analysis,
}

/// Where a job stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum JobState {
    /// Waiting for its turn.
    Queued,
    /// At work.
    Running,
    /// Done; its result says what was found.
    Succeeded,
    /// Could not be done; `error` says why.
    Failed,
    /// Stopped on request; its result holds what was done until then.
    Cancelled,
    /// The service ended while it was queued or at work.
    Interrupted,
}

impl JobState {
    /// Whether nothing more will happen to the job.
    pub const fn is_final(self) -> bool {
        !matches!(self, Self::Queued | Self::Running)
    }
}

/// The reply to a `set` that starts a job.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct JobAccepted {
    /// The job's id.
    pub job_id: String,
    /// Always `queued`.
    pub state: JobState,
    /// Where the job is to be had.
    pub uri: String,
}

/// How many endpoints got each verdict.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct VerdictCounts {
    /// All.
    pub total: u32,
    /// Working.
    pub ok: u32,
    /// Working badly.
    pub degraded: u32,
    /// Not working.
    pub failed: u32,
    /// Nothing to see.
    pub unknown: u32,
    /// Not looked at.
    pub skipped: u32,
}

/// A capture in a few numbers.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct CaptureSummary {
    /// The file.
    pub file: Option<String>,
    /// Its size.
    pub file_bytes: u64,
    /// Packets in it.
    pub packets: u64,
    /// Packets that the kernel dropped.
    pub kernel_dropped: u64,
}

/// A finished job in one sentence and a few numbers.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct JobSummary {
    /// One sentence, for instance `2 of 16 endpoints failed`.
    pub text: String,
    /// The verdicts of a connectivity test.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub endpoints: Option<VerdictCounts>,
    /// What was captured.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub capture: Option<CaptureSummary>,
}

/// A job as it stands.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Job {
    /// The id: a UUID of version 7, so that ids sort by time.
    pub job_id: String,
    /// What it does.
    pub kind: JobKind,
    /// Where it stands.
    pub state: JobState,
    /// Grows by one with each change, so that a reader can put publications in order.
    pub generation: u64,
    /// From 0 to 1.
    pub progress: f64,
    /// What it is doing, in a few words.
    pub phase: String,
    /// When it was accepted.
    pub created_at: UtcTime,
    /// When it began.
    pub started_at: Option<UtcTime>,
    /// When it ended.
    pub finished_at: Option<UtcTime>,
    /// The request with its defaults filled in.
    pub request: serde_json::Value,
    /// The process (and its user, as it claims) that asked for it.
    pub requested_by: Option<String>,
    /// Why it failed or was interrupted.
    pub error: Option<String>,
    /// What it found, in short.
    pub summary: Option<JobSummary>,
}
