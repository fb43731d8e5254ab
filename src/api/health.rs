//! The time series of the monitor: how the traffic of each endpoint was in a period, flat, for a historian or a web page.

use super::{Protocol, UtcTime};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// How the traffic of an endpoint was in a period.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum TrafficHealth {
    /// It talks, and all is well.
    Ok,
    /// It talks, slowly, with retries, with exceptions, or with some requests unanswered.
    Degraded,
    /// It is asked and does not answer, or no connection comes about.
    Failed,
    /// Nothing passes, though it used to or is expected to.
    Silent,
    /// Nothing is asked now, and nothing was due.
    Idle,
    /// Nothing can be said.
    #[default]
    Unknown,
}

impl TrafficHealth {
    /// As it stands in messages.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Degraded => "degraded",
            Self::Failed => "failed",
            Self::Silent => "silent",
            Self::Idle => "idle",
            Self::Unknown => "unknown",
        }
    }
}

/// What was seen of an endpoint in a period, over all who talk to it. `null` is what this protocol does not show, and times of which
/// there are none.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct TrafficFigures {
    /// Packets of both sides.
    pub packets: u64,
    /// Of these, packets of the side that serves.
    pub server_packets: u64,
    /// Bytes of payload of both sides.
    pub payload_bytes: u64,
    /// Connection attempts.
    pub connects: u64,
    /// Answers that accept a connection.
    pub connects_accepted: u64,
    /// Attempts that were refused.
    pub connects_refused: u64,
    /// Attempts that were refused or had no answer.
    pub connects_failed: u64,
    /// Connection requests that had to be repeated.
    pub connect_retries: u64,
    /// Open connections that were reset.
    pub resets: u64,
    /// Segments with payload that were sent again.
    pub retransmissions: u64,
    /// Requests.
    pub requests: Option<u64>,
    /// Responses, exceptions included.
    pub responses: Option<u64>,
    /// Requests that had no response within `response_timeout_ms`; they count when that time is over.
    pub unanswered: Option<u64>,
    /// Of the unanswered, those that were answered in the end.
    pub late: Option<u64>,
    /// Responses that took `slow_response_ms` or longer, and were not late.
    pub slow: Option<u64>,
    /// Modbus exceptions.
    pub exceptions: Option<u64>,
    /// DNP3 messages that were not asked for.
    pub unsolicited: Option<u64>,
    /// Bytes where a Modbus frame should be; DNP3 frames with a wrong check sum.
    pub damaged_frames: Option<u64>,
    /// From a request to its response, in milliseconds: the shortest, ...
    pub response_ms_min: Option<f64>,
    /// ... the one in the middle, ...
    pub response_ms_median: Option<f64>,
    /// ... the one that 95 % do not exceed, ...
    pub response_ms_p95: Option<f64>,
    /// ... and the longest. Each differs from the true one by 4 % at most.
    pub response_ms_max: Option<f64>,
}

/// How the traffic of one endpoint was in a period.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct EndpointHealth {
    /// The endpoint.
    pub endpoint_id: String,
    /// The name by which the local process knows it.
    pub name: Option<String>,
    /// What is spoken.
    pub protocol: Protocol,
    /// How it was.
    pub health: TrafficHealth,
    /// Why, in words.
    pub health_text: String,
    /// The end of the period.
    pub at: UtcTime,
    /// How long the period was.
    pub period_s: f64,
    /// How long before the end of the period the side that serves last sent a packet; `null`: not since the service started.
    pub last_seen_s: Option<f64>,
    /// What was seen.
    #[serde(flatten)]
    pub figures: TrafficFigures,
}

/// How the traffic of all endpoints was in the latest period.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct HealthList {
    /// Whether the monitor records now; if not, the values are those of `at` and no newer ones come.
    pub recording: bool,
    /// The end of the latest period; `null`: there was none yet.
    pub at: Option<UtcTime>,
    /// How long it was.
    pub period_s: Option<f64>,
    /// How many endpoints there are.
    pub total: u64,
    /// The endpoints, by id.
    pub endpoints: Vec<EndpointHealth>,
    /// In place of the endpoints, when they do not fit a message: where to get each.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub endpoint_uris: Vec<String>,
}

/// What became of the time series since the service started.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct SeriesStatus {
    /// How long a period is; 0: there are no time series.
    pub period_s: u64,
    /// Values of endpoints that were published.
    pub published: u64,
    /// Values of endpoints that could not be published: the bus was away or did not keep up.
    pub unpublished: u64,
    /// The InfluxDB, if one is set.
    pub influx: Option<InfluxStatus>,
}

/// How writing to an InfluxDB is going.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct InfluxStatus {
    /// Where it is, without user, password and token.
    pub url: String,
    /// Points that it has taken.
    pub written: u64,
    /// Points that wait to be written.
    pub waiting: u64,
    /// Points that are lost: it refused them, or it was away for longer than the queue lasts.
    pub dropped: u64,
    /// When it took the latest.
    pub last_written_at: Option<UtcTime>,
    /// What is or was wrong.
    pub last_problem: Option<String>,
    /// When that was.
    pub last_problem_at: Option<UtcTime>,
}
