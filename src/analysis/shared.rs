//! What all connections share: limits, what is remembered in all, and what was forgotten because of a limit.

use super::{
    evidence::Copies,
    settings::{AnalysisSettings, ns},
    tally::Stamp,
    transactions::Fate,
};
use crate::api::{Protocol, Transaction, TransactionOutcome, UtcTime};

/// Times in nanoseconds, and limits.
#[derive(Debug, Clone, Copy)]
pub(super) struct Limits {
    pub response_timeout: i64,
    pub slow_response: i64,
    pub attempt_timeout: i64,
    pub copy_window: i64,
    pub numbered_copy_window: i64,
    pub gap_patience: i64,
    pub heartbeat_timeout: i64,
    pub silence: i64,
    pub retransmissions_min: u64,
    pub retransmissions_one_in: u64,
    pub reconnects_min: u64,
    pub never_seen_after: i64,
    pub stall_aftermath: i64,
    pub two_masters_within: i64,
    pub max_pending_per_flow: usize,
    pub max_pending: usize,
    pub max_gap_bytes: usize,
    pub max_gap_bytes_total: usize,
}

impl Limits {
    pub fn new(settings: &AnalysisSettings) -> Self {
        Self {
            response_timeout: ns(settings.response_timeout),
            slow_response: ns(settings.slow_response),
            attempt_timeout: ns(settings.attempt_timeout),
            copy_window: ns(settings.copy_window),
            numbered_copy_window: ns(settings.numbered_copy_window),
            gap_patience: ns(settings.gap_patience),
            heartbeat_timeout: ns(settings.heartbeat_timeout),
            silence: ns(settings.silence),
            retransmissions_min: settings.retransmissions_min,
            retransmissions_one_in: settings.retransmissions_one_in,
            reconnects_min: settings.reconnects_min,
            never_seen_after: ns(settings.never_seen_after),
            stall_aftermath: ns(settings.stall_aftermath),
            two_masters_within: ns(settings.two_masters_within),
            max_pending_per_flow: settings.max_pending_per_flow.max(1),
            max_pending: settings.max_pending.max(1),
            max_gap_bytes: settings.max_gap_bytes,
            max_gap_bytes_total: settings.max_gap_bytes_total,
        }
    }
}

/// The limits, and counts over all connections.
#[derive(Debug)]
pub(super) struct Shared {
    pub limits: Limits,
    /// The latest packet time.
    pub now: i64,
    /// Requests that wait for an answer.
    pub pending: usize,
    /// Bytes that wait for a gap to be filled.
    pub gap_bytes: usize,
    /// Connections of which the capture had one direction only, and that are no longer remembered.
    pub one_sided: u64,
    /// Stretches of response times that the clients of all servers have.
    pub client_stretches: usize,
    /// Requests forgotten because too many waited.
    pub requests_forgotten: u64,
    /// Segments that were captured twice.
    pub copies: Copies,
    /// SYN-ACKs and FINs that were sent again.
    pub handshake_again: u64,
    /// Segments that came after later ones and brought new bytes.
    pub out_of_order: u64,
    /// Segments that only ask whether the peer is still there.
    pub keep_alives: u64,
    /// Gaps in streams that were never filled.
    pub gaps: u64,
    /// Requests with what came of them, if anybody wants to know each.
    pub record: Option<Vec<Transaction>>,
}

impl Shared {
    pub fn new(settings: &AnalysisSettings) -> Self {
        Self {
            limits: Limits::new(settings),
            now: i64::MIN,
            pending: 0,
            gap_bytes: 0,
            one_sided: 0,
            client_stretches: 0,
            requests_forgotten: 0,
            copies: Copies::default(),
            handshake_again: 0,
            out_of_order: 0,
            keep_alives: 0,
            gaps: 0,
            record: None,
        }
    }

    /// Remembers a request and what came of it. Whose it was, the connection fills in.
    pub fn transaction(
        &mut self,
        protocol: Protocol,
        query: &dyn std::fmt::Display,
        request: Stamp,
        response: Option<Stamp>,
        outcome: TransactionOutcome,
        detail: Option<String>,
    ) {
        let Some(record) = &mut self.record else { return };
        record.push(made(protocol, query, request, response, outcome, detail));
    }

    /// Remembers a request that leaves without an answer.
    pub fn left(&mut self, protocol: Protocol, query: &dyn std::fmt::Display, request: Stamp, fate: Fate) {
        let Some(record) = &mut self.record else { return };
        record.push(left(protocol, query, request, fate));
    }

    /// Whether a connection on which `waiting` requests wait already must forget its oldest before it takes another.
    pub fn pending_is_full(&self, waiting: usize) -> bool {
        waiting >= self.limits.max_pending_per_flow || (self.pending >= self.limits.max_pending && waiting > 0)
    }
}

/// A request that leaves without an answer.
pub(super) fn left(protocol: Protocol, query: &dyn std::fmt::Display, request: Stamp, fate: Fate) -> Transaction {
    let (outcome, detail) = match fate {
        Fate::Unanswered => (TransactionOutcome::Unanswered, None),
        Fate::Unknown(why) => (TransactionOutcome::Unknown, Some(why.to_owned())),
    };
    made(protocol, query, request, None, outcome, detail)
}

/// A transaction between nobody, so far.
fn made(
    protocol: Protocol,
    query: &dyn std::fmt::Display,
    request: Stamp,
    response: Option<Stamp>,
    outcome: TransactionOutcome,
    detail: Option<String>,
) -> Transaction {
    Transaction {
        at: UtcTime::from_unix_ns(request.at),
        protocol,
        client: String::new(),
        server: String::new(),
        request: query.to_string(),
        outcome,
        detail,
        response_ms: response.map(|response| super::spread::ms_of(response.at.saturating_sub(request.at))),
        request_packet: request.number,
        response_packet: response.map(|response| response.number),
    }
}
