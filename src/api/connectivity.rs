//! What a connectivity test found.

use super::{Capabilities, ConnectivityRequest, Direction, Dnp3Addresses, Finding, Protocol, UtcTime, VerdictCounts};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::net::{IpAddr, SocketAddr};

/// The verdict on an endpoint.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    /// It works.
    Ok,
    /// It works, but slowly, with retries or with exceptions.
    Degraded,
    /// It does not work.
    Failed,
    /// There was nothing to see, so nothing can be said.
    Unknown,
    /// It was not looked at, and `reason` says why.
    Skipped,
}

/// How the pings went.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum PingState {
    /// At least one echo reply came from the address itself.
    Answered,
    /// None came.
    NoAnswer,
    /// It could not be sent; `detail` says why.
    Error,
    /// The request did not ask for it, or the endpoint is not one to ping.
    NotRequested,
}

/// Round trip times.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct RoundTrip {
    /// The shortest, in milliseconds.
    pub min: f64,
    /// The mean, in milliseconds.
    pub mean: f64,
    /// The longest, in milliseconds.
    pub max: f64,
}

/// What ping found.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct PingReport {
    /// How it went.
    pub state: PingState,
    /// Echo requests sent.
    pub sent: u32,
    /// Echo replies that came from the address itself.
    pub received: u32,
    /// Round trip times of the answered ones.
    pub rtt_ms: Option<RoundTrip>,
    /// What else is known: an error, an ICMP message in place of a reply, the kind of socket.
    pub detail: Option<String>,
}

impl PingReport {
    /// The report of a ping that was not made; `why` is its detail.
    pub fn not_requested(why: Option<String>) -> Self {
        Self { state: PingState::NotRequested, sent: 0, received: 0, rtt_ms: None, detail: why }
    }
}

/// How the port connect went.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum ConnectState {
    /// The port opened.
    Open,
    /// The host answered with a reset: nothing listens.
    Refused,
    /// No answer within the time-out.
    TimedOut,
    /// The kernel reported host or network unreachable (no ARP answer, or an ICMP message).
    Unreachable,
    /// The connection opened and was reset at once.
    Reset,
    /// Something else went wrong on this host; `detail` says what.
    Error,
    /// It was asked for, but this endpoint is not one to connect to, and `detail` says why.
    Skipped,
    /// The request did not ask for it.
    NotRequested,
}

/// How a service greeted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum GreetingState {
    /// With the line that such a service begins with.
    Answered,
    /// With something else.
    Unexpected,
    /// Not at all; it closed the connection.
    Closed,
    /// Not at all; the connection stayed open.
    Silent,
}

/// What a secure shell or a web server said when it was connected to.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Greeting {
    /// How it greeted.
    pub state: GreetingState,
    /// Its first line: the banner of a secure shell, the status line of a web server.
    pub text: Option<String>,
    /// From the open connection to the line, in milliseconds.
    pub time_ms: f64,
}

/// What the port connect found.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct ConnectReport {
    /// How it went.
    pub state: ConnectState,
    /// How many attempts were made.
    #[serde(default)]
    pub attempts: u32,
    /// From the start of the last attempt to its outcome, in milliseconds.
    pub time_ms: Option<f64>,
    /// The local addresses that the attempts used, so that they can be found in the capture.
    #[serde(default)]
    pub local_addresses: Vec<SocketAddr>,
    /// What the service said (ssh and http only, and only if the port opened).
    #[serde(default)]
    pub greeting: Option<Greeting>,
    /// What else is known.
    pub detail: Option<String>,
}

impl ConnectReport {
    /// The report of a connect that was not made.
    pub fn not_made(state: ConnectState, why: Option<String>) -> Self {
        Self { state, attempts: 0, time_ms: None, local_addresses: Vec::new(), greeting: None, detail: why }
    }
}

/// What this host's own sockets show, without a packet sent.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct KernelView {
    /// Whether a socket of this host listens on the endpoint's port (inbound endpoints).
    pub listening: bool,
    /// How many connections are established.
    pub established: u32,
    /// How many connection attempts of local processes are waiting for an answer (SYN sent).
    #[serde(default)]
    pub connecting: u32,
    /// The far ends of the established connections, the first 16 of them.
    pub peers: Vec<SocketAddr>,
}

/// An ICMP message that says a destination cannot be reached.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
pub struct IcmpUnreachable {
    /// Who sent it: a router, or the host itself.
    pub from: IpAddr,
    /// The ICMP type.
    pub icmp_type: u8,
    /// The ICMP code.
    pub icmp_code: u8,
    /// Type and code in words, for instance `communication administratively prohibited`.
    pub meaning: String,
    /// How many came.
    pub count: u64,
}

/// How ARP (or neighbour discovery) for an address, or for the gateway to it, went.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ArpView {
    /// The address that was asked for.
    pub address: IpAddr,
    /// How often it was asked for.
    pub asked: u64,
    /// How many answers came.
    pub answered: u64,
    /// The hardware addresses that answered.
    pub macs: Vec<String>,
}

/// Response times, in milliseconds.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct ResponseTimes {
    /// The shortest.
    pub min: f64,
    /// The mean.
    pub mean: f64,
    /// The longest.
    pub max: f64,
    /// Half of all took no longer, give or take 3 %.
    #[serde(default)]
    pub median: Option<f64>,
    /// 95 of 100 took no longer, give or take 3 %.
    #[serde(default)]
    pub p95: Option<f64>,
    /// 99 of 100 took no longer, give or take 3 %.
    #[serde(default)]
    pub p99: Option<f64>,
}

/// What the Modbus traffic of an endpoint showed.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct ModbusView {
    /// Requests.
    pub requests: u64,
    /// Responses that match a request, exceptions included.
    pub responses: u64,
    /// Responses that are exceptions.
    pub exceptions: u64,
    /// Requests that waited longer than the response time-out.
    pub unanswered: u64,
    /// Response times.
    pub response_ms: Option<ResponseTimes>,
}

/// What the DNP3 traffic of an endpoint showed.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Dnp3View {
    /// Link frames of either direction.
    pub frames: u64,
    /// Application requests of the master.
    pub requests: u64,
    /// Application responses that match a request.
    pub responses: u64,
    /// Unsolicited responses.
    pub unsolicited: u64,
    /// Requests that waited longer than the response time-out.
    pub unanswered: u64,
    /// Frames with a wrong check sum.
    pub crc_errors: u64,
    /// Response times.
    pub response_ms: Option<ResponseTimes>,
}

/// What the capture shows of an endpoint, the test's own connections and those of others together.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct WireView {
    /// Packets to and from the endpoint.
    pub packets: u64,
    /// Connection attempts: SYNs that are no retries.
    pub syn: u64,
    /// SYNs sent again.
    pub syn_retries: u64,
    /// Answers to a SYN that accept.
    pub syn_ack: u64,
    /// Resets, of either side.
    pub rst: u64,
    /// Closes (FIN), of either side.
    #[serde(default)]
    pub fin: u64,
    /// ICMP messages that say the endpoint cannot be reached.
    pub icmp_unreachable: u64,
    /// Those messages, by sender and code.
    #[serde(default)]
    pub icmp: Vec<IcmpUnreachable>,
    /// ARP or neighbour solicitations, for the address or its gateway, that nobody answered.
    pub arp_unanswered: u64,
    /// Segments with payload that were sent again.
    pub retransmissions: u64,
    /// Modbus transactions, if any were seen.
    pub modbus: Option<ModbusView>,
    /// DNP3 traffic, if any was seen.
    pub dnp3: Option<Dnp3View>,
}

/// One endpoint's part of a result.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct EndpointResult {
    /// The endpoint.
    pub endpoint_id: String,
    /// What is spoken there.
    pub protocol: Protocol,
    /// Who opens the connection.
    pub direction: Direction,
    /// The name by which the local process knows it.
    pub name: Option<String>,
    /// The address.
    pub address: Option<IpAddr>,
    /// The TCP port.
    pub port: Option<u16>,
    /// Modbus unit ids.
    pub unit_ids: Vec<u8>,
    /// DNP3 link addresses.
    pub dnp3_addresses: Vec<Dnp3Addresses>,
    /// The config files that name it.
    pub config_files: Vec<String>,
    /// The interface by which the kernel reaches it.
    pub interface: Option<String>,
    /// The source address that the kernel uses.
    pub source_address: Option<IpAddr>,
    /// The verdict.
    pub verdict: Verdict,
    /// One sentence that an operator understands.
    pub reason: String,
    /// What ping found.
    pub ping: PingReport,
    /// What the port connect found.
    pub connect: ConnectReport,
    /// What this host's sockets show; `null` if they could not be read.
    pub kernel: Option<KernelView>,
    /// What the capture shows; `null` if there was none.
    pub wire: Option<WireView>,
    /// What is wrong, with evidence.
    pub findings: Vec<Finding>,
    /// When it was decided.
    pub decided_at: UtcTime,
}

/// One interface's part of a capture.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct InterfaceCapture {
    /// Its name.
    pub name: String,
    /// Packets written to the file.
    pub packets: u64,
    /// Packets that the kernel dropped because they were not read in time.
    pub kernel_dropped: u64,
    /// Packets that the interface dropped.
    pub interface_dropped: u64,
    /// Why it was not captured, or not to the end.
    pub error: Option<String>,
}

/// What was captured, where it is, and what was lost.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct CaptureReport {
    /// The file (pcapng).
    pub file: Option<String>,
    /// Its size.
    pub file_bytes: u64,
    /// Packets in it.
    pub packets: u64,
    /// The filter (BPF).
    pub filter: Option<String>,
    /// Each interface.
    pub interfaces: Vec<InterfaceCapture>,
    /// Packets that the kernel dropped, over all interfaces.
    pub kernel_dropped: u64,
    /// Packets that were analysed but not written, because the file had reached its limit or the disk failed.
    pub not_written: u64,
    /// Packets that could not be decoded.
    pub undecodable: u64,
    /// Packets that were cut by the snap length.
    pub cut: u64,
    /// What went wrong with the capture as a whole.
    pub problem: Option<String>,
}

/// The whole result of a connectivity test.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct ConnectivityResult {
    /// The job.
    pub job_id: String,
    /// When the first probe was sent.
    pub started_at: UtcTime,
    /// When the last endpoint was decided.
    pub finished_at: UtcTime,
    /// Whether every endpoint was decided; `false` after a cancel.
    pub complete: bool,
    /// The request with its defaults filled in.
    pub request: ConnectivityRequest,
    /// What this host let the test do.
    pub capabilities: Capabilities,
    /// How many endpoints of each verdict.
    pub counts: VerdictCounts,
    /// The result in one sentence.
    pub text: String,
    /// The endpoints, worst first. Left empty when they would not fit a message; then `endpoint_uris` names them.
    pub endpoints: Vec<EndpointResult>,
    /// Where to `get` the endpoints one by one, when they would not fit.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub endpoint_uris: Vec<String>,
    /// Findings that are about no single endpoint.
    pub findings: Vec<Finding>,
    /// What was captured; `null` if there was no capture.
    pub capture: Option<CaptureReport>,
    /// What limited the test: targets that match nothing, no right to capture, ...
    pub problems: Vec<String>,
}
