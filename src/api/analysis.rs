//! What a first look at a capture found.

use super::{Finding, HeartbeatKind, Protocol, ResponseTimes, Severity, UtcTime};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::net::IpAddr;

/// Whether somebody should look further.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum AnalysisVerdict {
    /// Nothing that calls for an expert.
    Clean,
    /// Look further; `reasons` says why.
    Suspect,
}

/// A first look at a capture: one verdict, what it rests on, and the figures of each server.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct AnalysisReport {
    /// Whether somebody should look further.
    pub verdict: AnalysisVerdict,
    /// The whole in one sentence.
    pub text: String,
    /// The findings that make it suspect, in words, worst first; and that the file breaks off, if it does.
    pub reasons: Vec<String>,
    /// The capture file; `null` for a live one.
    pub file: Option<String>,
    /// Why the file could not be read to its end.
    pub damage: Option<String>,
    /// Packets.
    pub packets: u64,
    /// Packets whose headers break a rule.
    pub undecodable: u64,
    /// Packets that the snap length cut.
    pub cut: u64,
    /// Packets that the recording host lost, as far as the file says.
    pub dropped: u64,
    /// Connections, addresses and requests that were forgotten because there were too many.
    pub forgotten: u64,
    /// The time of the earliest packet.
    pub first_at: Option<UtcTime>,
    /// The time of the latest packet.
    pub last_at: Option<UtcTime>,
    /// From the earliest to the latest, in seconds.
    pub duration_s: Option<f64>,
    /// How many servers (address and port) were seen.
    pub servers_total: u64,
    /// The servers, worst first; those with nothing to tell are left out when there are very many.
    pub servers: Vec<ServerReport>,
    /// The registers that must change.
    pub heartbeats: Vec<HeartbeatReport>,
    /// How many findings there are.
    #[serde(default)]
    pub findings_total: u64,
    /// What is wrong, with evidence, worst first.
    pub findings: Vec<Finding>,
    /// What of the lists a message, or the archive, could not hold, and where to get the whole; absent if it is all here.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub left_out: Option<String>,
}

impl AnalysisReport {
    /// Keeps so many findings at most, the worst, and says how many there are.
    pub fn keep_worst(&mut self, most: usize) {
        self.findings_total = self.findings_total.max(self.findings.len() as u64);
        if self.findings.len() > most {
            self.findings.truncate(most);
            self.left_out = Some(format!(
                "these are {most} of {} findings, the worst ones; `netdiag analyze --json` of the capture prints all",
                self.findings_total
            ));
        }
    }
}

/// One server: an address and port, and all who talk to it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct ServerReport {
    /// The address; `null` for all servers that are not told apart.
    pub address: Option<IpAddr>,
    /// The port.
    pub port: Option<u16>,
    /// What is spoken there, as far as the topology, the port or the content tells.
    pub protocol: Option<Protocol>,
    /// The endpoints of the topology that this is.
    pub endpoint_ids: Vec<String>,
    /// The worst finding.
    pub worst: Option<Severity>,
    /// Packets in both directions.
    pub packets: u64,
    /// Who talks to it.
    pub clients: Vec<ClientReport>,
    /// Connections.
    pub tcp: TcpReport,
    /// Modbus, if any was seen.
    pub modbus: Option<ModbusReport>,
    /// DNP3, if any was seen.
    pub dnp3: Option<Dnp3Report>,
}

/// One client of a server, and what came of its conversation with it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct ClientReport {
    /// Its address; `null` for all clients that are not told apart.
    pub address: Option<IpAddr>,
    /// Packets in both directions.
    pub packets: u64,
    /// Connections that were open.
    pub connections: u64,
    /// Connections made anew after an earlier one had ended.
    pub reconnects: u64,
    /// Resets of its open connections, by either side.
    pub resets: u64,
    /// Segments with payload that either side sent again.
    pub retransmissions: u64,
    /// Modbus or DNP3 requests.
    pub requests: u64,
    /// Responses that match a request.
    pub responses: u64,
    /// Of these, exceptions.
    pub exceptions: u64,
    /// Requests without a response in time.
    pub unanswered: u64,
    /// Response times.
    pub response_ms: Option<ResponseTimes>,
    /// When it was seen first.
    pub first_at: Option<UtcTime>,
    /// When it was seen last.
    pub last_at: Option<UtcTime>,
}

/// What TCP shows at a server.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct TcpReport {
    /// Connection attempts.
    pub attempts: u64,
    /// Attempts that were accepted.
    pub accepted: u64,
    /// Attempts answered with a reset.
    pub refused: u64,
    /// Attempts that nobody answered.
    pub unanswered: u64,
    /// Connection requests sent again.
    pub syn_retries: u64,
    /// Round trip of the handshake, in milliseconds.
    pub handshake_ms: Option<ResponseTimes>,
    /// Open connections that the client reset.
    pub resets_by_client: u64,
    /// Open connections that the server reset.
    pub resets_by_server: u64,
    /// Connections that only one side still had: accepted and never used, reset by a side that knew nothing of them any more, or left by a
    /// side that said nothing more.
    pub half_open: u64,
    /// Connections made anew after an earlier one of the same client had ended.
    pub reconnects: u64,
    /// From the end of the one to the beginning of the next, in milliseconds.
    pub reconnect_gap_ms: Option<ResponseTimes>,
    /// The latest of them, one by one.
    pub latest_reconnects: Vec<ReconnectReport>,
    /// Segments with payload that were sent again, ...
    pub retransmissions: u64,
    /// ... of these, because the receiver asked for them ...
    pub fast_retransmissions: u64,
    /// ... because no acknowledgement came in time ...
    pub timeout_retransmissions: u64,
    /// ... and of these, those that the receiver had already.
    pub spurious_retransmissions: u64,
    /// Segments that came after later ones.
    pub out_of_order: u64,
    /// Acknowledgements that came again while bytes were under way.
    pub duplicate_acks: u64,
    /// Gaps in streams that were never filled, although the receiver has the bytes: the capture lost them.
    pub lost_segments: u64,
    /// Gaps in streams that were never filled, and the receiver never got the bytes: the network lost them.
    pub lost_on_the_way: u64,
    /// How often a side closed its window.
    pub zero_windows: u64,
    /// For how long, at most, in milliseconds.
    pub zero_window_max_ms: Option<f64>,
    /// Keep-alives.
    pub keep_alives: u64,
}

/// A connection that was made anew.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct ReconnectReport {
    /// Who made it.
    pub client: IpAddr,
    /// When it was accepted.
    pub at: UtcTime,
    /// The packet that accepted it.
    pub packet: u64,
    /// Since the end of the one before, in milliseconds; 0 if that ended only then.
    pub gap_ms: f64,
}

/// What Modbus shows at a server.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct ModbusReport {
    /// Requests.
    pub requests: u64,
    /// Responses that match a request, exceptions included.
    pub responses: u64,
    /// Responses that are exceptions.
    pub exceptions: u64,
    /// Requests that waited longer than the response time-out, ...
    pub unanswered: u64,
    /// ... of these, those that the server's TCP acknowledged: the device has them and does not answer.
    pub unanswered_acknowledged: u64,
    /// Responses that came after the time-out.
    pub late: u64,
    /// Second responses to one request.
    pub duplicate: u64,
    /// Responses to no request that was seen.
    pub unexpected: u64,
    /// Responses that fit a request but for the transaction id.
    pub wrong_transaction_id: u64,
    /// Responses that fit a request but for the unit id.
    pub wrong_unit_id: u64,
    /// Places in the streams where a frame should begin and none does, and frames whose length does not fit their function.
    pub malformed: u64,
    /// Responses of another size, or for another place, than was asked for.
    pub misfits: u64,
    /// Response times.
    pub response_ms: Option<ResponseTimes>,
    /// Requests by function code.
    pub functions: Vec<FunctionCount>,
    /// Exceptions by code.
    pub exception_codes: Vec<ExceptionCount>,
    /// What came of the requests to each unit.
    pub units: Vec<UnitReport>,
    /// The queries that are repeated, most frequent first.
    pub polls: Vec<PollReport>,
    /// Queries that are repeated, too, and left out of `polls` because there are very many.
    pub polls_left_out: u64,
    /// Requests whose period was not measured, because their connection asks too many different queries.
    pub polls_not_measured: u64,
}

/// Requests of one function.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct FunctionCount {
    /// The function code.
    pub function: u8,
    /// Its name.
    pub name: String,
    /// How many.
    pub requests: u64,
}

/// Exceptions of one code.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ExceptionCount {
    /// The exception code.
    pub code: u8,
    /// The code in words.
    pub text: String,
    /// How many.
    pub count: u64,
    /// What was asked for, most frequent first, in words.
    pub queries: String,
}

/// What came of the requests to one unit.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct UnitReport {
    /// The unit id.
    pub unit_id: u8,
    /// Requests.
    pub requests: u64,
    /// Responses, exceptions included.
    pub responses: u64,
    /// Exceptions.
    pub exceptions: u64,
    /// Requests without a response in time.
    pub unanswered: u64,
    /// Response times.
    pub response_ms: Option<ResponseTimes>,
}

/// A query that is repeated.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct PollReport {
    /// Who asks.
    pub client: IpAddr,
    /// The query in words.
    pub query: String,
    /// How often it was repeated.
    pub repeats: u64,
    /// The mean interval, in milliseconds.
    pub period_ms: f64,
    /// The standard deviation from it, in milliseconds.
    pub jitter_ms: f64,
    /// The longest interval, in milliseconds.
    pub longest_ms: f64,
}

/// What DNP3 shows at a server.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Dnp3Report {
    /// Link frames of either direction.
    pub frames: u64,
    /// Link frames by function, most frequent first.
    pub link_functions: Vec<LinkFunctionCount>,
    /// Application requests.
    pub requests: u64,
    /// Application responses that match a request.
    pub responses: u64,
    /// Unsolicited responses.
    pub unsolicited: u64,
    /// Requests without a response in time.
    pub unanswered: u64,
    /// Messages that asked to be confirmed and were not.
    pub unconfirmed: u64,
    /// Responses that came after the time-out.
    pub late: u64,
    /// Responses to no request that was seen.
    pub unexpected: u64,
    /// Responses that fit a request but for the link address that they come from.
    pub wrong_address: u64,
    /// Link frames that asked to be acknowledged and were not.
    pub link_unacknowledged: u64,
    /// Frames with a wrong check sum.
    pub crc_errors: u64,
    /// Transport messages of which a part was lost.
    pub segments_lost: u64,
    /// Resets of the link.
    pub link_resets: u64,
    /// How often the outstation began to report a restart.
    pub restarts: u64,
    /// Response times.
    pub response_ms: Option<ResponseTimes>,
    /// The pairs of link addresses that were seen: master, outstation.
    pub links: Vec<[u16; 2]>,
    /// The internal indications, in words, and in how many responses each was set.
    pub indications: Vec<IndicationCount>,
}

/// Link frames of one function.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct LinkFunctionCount {
    /// The function in words.
    pub function: String,
    /// Whether the master sent them, by the direction bit.
    pub from_master: bool,
    /// How many.
    pub frames: u64,
}

/// One internal indication of an outstation.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct IndicationCount {
    /// The bit in words.
    pub indication: String,
    /// In how many responses it was set.
    pub responses: u64,
    /// Whether it was still set in the latest one.
    pub still_set: bool,
}

/// How a heartbeat does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum HeartbeatCondition {
    /// It changes.
    Changing,
    /// It is read or written, and has not changed for too long.
    Frozen,
    /// It was seen too seldom to tell.
    Unknown,
    /// Nobody reads or writes it.
    NotPolled,
}

/// A register that must change.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct HeartbeatReport {
    /// Its name.
    pub id: String,
    /// The component or pair it belongs to.
    pub component: String,
    /// Read from the device, or written to it.
    pub kind: HeartbeatKind,
    /// The server that holds the register.
    pub server: String,
    /// The unit id.
    pub unit_id: Option<u8>,
    /// The offset as it stands in a request.
    pub wire_offset: u16,
    /// How it does.
    pub condition: HeartbeatCondition,
    /// How often its value was seen.
    pub seen: u64,
    /// How often it changed.
    pub changes: u64,
    /// The latest value.
    pub value: Option<u64>,
    /// Since when it has this value.
    pub since: Option<UtcTime>,
}

/// What came of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum TransactionOutcome {
    /// It was answered in time.
    Answered,
    /// It was answered with an exception.
    Exception,
    /// It was answered after the time-out.
    Late,
    /// It was not answered.
    Unanswered,
    /// That cannot be said; the detail says why.
    Unknown,
}

/// One request and what came of it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Transaction {
    /// When it was asked.
    pub at: UtcTime,
    /// What is spoken.
    pub protocol: Protocol,
    /// Who asks.
    pub client: String,
    /// Who is asked.
    pub server: String,
    /// The request in words.
    pub request: String,
    /// What came of it.
    pub outcome: TransactionOutcome,
    /// What else there is to say: the exception in words, or why nothing can be said.
    pub detail: Option<String>,
    /// From request to answer, in milliseconds.
    pub response_ms: Option<f64>,
    /// The packet with the request's last byte.
    pub request_packet: u64,
    /// The packet with the answer's last byte.
    pub response_packet: Option<u64>,
}
