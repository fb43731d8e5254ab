//! What the wire shows, as it is handed out.

use crate::api::{ArpView, Finding, IcmpUnreachable, RoundTrip, WireView};

/// What was seen of one watched endpoint.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Evidence {
    /// All that was seen, as the bus carries it.
    pub wire: WireView,
    /// The test's own connections.
    pub attempt: AttemptView,
    /// The connections of others.
    pub session: SessionView,
    /// How ARP or neighbour discovery went for the endpoint's address, or for the gateway to it; `None` if nobody asked.
    pub arp: Option<ArpView>,
    /// Round trips of pings of the address, by packet times.
    pub ping_rtt: Option<RoundTrip>,
    /// ICMP messages in place of an echo reply.
    pub ping_icmp: Vec<IcmpUnreachable>,
    /// What is wrong.
    pub findings: Vec<Finding>,
}

/// What was seen of the test's own connections to an endpoint.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct AttemptView {
    /// Connection attempts: SYNs that are no retries.
    pub syn: u64,
    /// SYNs sent again.
    pub syn_retries: u64,
    /// Answers that accept.
    pub syn_ack: u64,
    /// Resets of the peer in answer to a SYN: nothing listens there.
    pub rst: u64,
    /// FINs of this side.
    pub fin_sent: u64,
    /// FINs of the peer.
    pub fin_received: u64,
    /// Connections that the peer reset after they were open.
    pub reset_after_open: u64,
    /// Connections that this side reset.
    pub reset_sent: u64,
    /// From the first SYN to the answer that accepts, in milliseconds.
    pub handshake_ms: Option<f64>,
    /// ICMP messages that quote one of these connections.
    pub icmp: Vec<IcmpUnreachable>,
    /// The first few packets: SYN and its answer, FIN, RST.
    pub packets: Vec<u64>,
}

/// What was seen of the connections of others to an endpoint.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct SessionView {
    /// Connections, those of which only the middle was seen included.
    pub connections: u64,
    /// Connection attempts: SYNs that are no retries.
    pub attempts: u64,
    /// Attempts that were accepted.
    pub accepted: u64,
    /// Attempts that were refused.
    pub refused: u64,
    /// Attempts that nobody answered in time.
    pub unanswered_attempts: u64,
    /// Segments with payload of the client.
    pub client_payload_segments: u64,
    /// Segments with payload of the server.
    pub server_payload_segments: u64,
    /// Connections that either side reset; refusals are none.
    pub resets: u64,
    /// Whether there is a connection on which the server sends payload and has not stopped answering requests.
    pub answered: bool,
    /// Whether there is an open connection on which packets of both sides were seen, if only acknowledgements.
    pub both_directions: bool,
    /// Modbus or DNP3 requests that waited longer than the response time-out.
    pub unanswered: u64,
}

/// Packets that were captured twice, by what they are; a segment that is several things is counted for each.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Copies {
    /// All segments but bare acknowledgements.
    pub segments: u64,
    /// SYNs without ACK.
    pub syn: u64,
    /// SYNs with ACK.
    pub syn_ack: u64,
    /// FINs.
    pub fin: u64,
    /// RSTs.
    pub rst: u64,
    /// Those with payload.
    pub payload: u64,
    /// Acknowledgements alone; not among `segments`.
    pub acks: u64,
    /// UDP datagrams; not among `segments`.
    pub datagrams: u64,
}

/// What was seen in all, and what was lost.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Counters {
    /// Packets taken.
    pub packets: u64,
    /// Packets that could not be decoded.
    pub undecodable: u64,
    /// Packets that were cut by the snap length.
    pub cut: u64,
    /// Connections forgotten because there were too many.
    pub flows_evicted: u64,
    /// Addresses forgotten because there were too many.
    pub hosts_evicted: u64,
    /// Requests forgotten because too many waited for an answer.
    pub requests_evicted: u64,
    /// Connections remembered now.
    pub flows: u64,
    /// Segments that were captured twice, as on a mirror port; they are in no other count but `packets`.
    pub copies: Copies,
    /// SYN-ACKs and FINs that were sent again.
    pub handshake_again: u64,
    /// Segments that came after later ones and brought new bytes.
    pub out_of_order: u64,
    /// Segments that only ask whether the peer is still there.
    pub keep_alives: u64,
    /// Gaps in streams that were never filled: lost by the capture, or on the way.
    pub gaps: u64,
    /// ARP requests that ask for somebody's hardware address.
    pub arp_asked: u64,
    /// ARP requests that ask whether an address is free (RFC 5227); nobody is to answer them.
    pub arp_probes: u64,
    /// Neighbour solicitations that ask for somebody's hardware address.
    pub neighbors_asked: u64,
    /// Modbus answers to no request that was seen.
    pub modbus_unexpected: u64,
    /// DNP3 responses to no request that was seen.
    pub dnp3_unexpected: u64,
    /// Fragments of DNP3 responses behind their first ones.
    pub dnp3_further_fragments: u64,
    /// DNP3 messages that asked to be confirmed and were not.
    pub dnp3_unconfirmed: u64,
    /// Connection attempts that the capture, which has the client's side only, does not show the answer to.
    pub attempts_unseen: u64,
    /// Modbus requests of which nothing can be said, because the capture has one direction of their connection only ...
    pub modbus_unseen: u64,
    /// ... and DNP3 requests.
    pub dnp3_unseen: u64,
    /// DNP3 frames with a damaged header.
    pub dnp3_header_crc_errors: u64,
    /// DNP3 frames with a damaged data block.
    pub dnp3_data_crc_errors: u64,
    /// TCP, ARP, ICMP, Modbus and DNP3 over all servers.
    pub wire: WireView,
}
