//! What a connection, or several together, came to: enough to tell the test's own connections from those of others.

use super::{
    evidence::{AttemptView, SessionView},
    tally::{Packets, ms},
};

/// One connection in numbers; several merge into one.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct FlowStats {
    pub connections: u64,
    pub syn: u64,
    pub syn_retries: u64,
    pub syn_ack: u64,
    /// Attempts that were accepted.
    pub accepted: u64,
    /// Resets of the server in answer to a SYN.
    pub refused: u64,
    /// Attempts whose SYN nobody answered in time.
    pub unanswered_attempts: u64,
    pub fin_client: u64,
    pub fin_server: u64,
    /// Connections that this side reset first; a refusal is none, and after an orderly end there is nothing to reset.
    pub reset_client: u64,
    pub reset_server: u64,
    pub client_payload: u64,
    pub server_payload: u64,
    /// From the first SYN to the answer that accepts, of the latest connection that was accepted.
    pub handshake_ns: Option<i64>,
    /// Requests that nobody answered in time.
    pub unanswered_requests: u64,
    /// Connections on which the server sends, and no request is overdue since it sent last.
    pub answered: u64,
    /// Connections on which packets of both sides were seen after the handshake.
    pub alive: u64,
    /// SYN, its answer, FIN and RST.
    pub packets: Packets,
}

impl FlowStats {
    pub fn merge(&mut self, other: &Self) {
        self.connections += other.connections;
        self.syn += other.syn;
        self.syn_retries += other.syn_retries;
        self.syn_ack += other.syn_ack;
        self.accepted += other.accepted;
        self.refused += other.refused;
        self.unanswered_attempts += other.unanswered_attempts;
        self.fin_client += other.fin_client;
        self.fin_server += other.fin_server;
        self.reset_client += other.reset_client;
        self.reset_server += other.reset_server;
        self.client_payload += other.client_payload;
        self.server_payload += other.server_payload;
        self.handshake_ns = other.handshake_ns.or(self.handshake_ns);
        self.unanswered_requests += other.unanswered_requests;
        self.answered += other.answered;
        self.alive += other.alive;
        self.packets.merge(&other.packets);
    }

    /// As the view on the test's own connections.
    pub fn attempt(&self) -> AttemptView {
        AttemptView {
            syn: self.syn,
            syn_retries: self.syn_retries,
            syn_ack: self.syn_ack,
            rst: self.refused,
            fin_sent: self.fin_client,
            fin_received: self.fin_server,
            reset_after_open: self.reset_server,
            reset_sent: self.reset_client,
            handshake_ms: self.handshake_ns.map(ms),
            icmp: Vec::new(),
            packets: self.packets.to_vec(),
        }
    }

    /// As the view on the connections of others.
    pub fn session(&self) -> SessionView {
        SessionView {
            connections: self.connections,
            attempts: self.syn,
            accepted: self.accepted,
            refused: self.refused,
            unanswered_attempts: self.unanswered_attempts,
            client_payload_segments: self.client_payload,
            server_payload_segments: self.server_payload,
            resets: self.reset_client + self.reset_server,
            answered: self.answered > 0,
            both_directions: self.alive > 0,
            unanswered: self.unanswered_requests,
        }
    }
}
