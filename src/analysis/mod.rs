//! Packets to flows to transactions to findings: one pass, bounded memory, no I/O and no clock but the packets' own.
//!
//! [`Analysis`] takes packets one by one ([`crate::packet::PacketSink`]) and can be asked at any time what it has seen: of a watched endpoint
//! ([`Analysis::evidence`]), of everything else ([`Analysis::findings`]), and in numbers ([`Analysis::counters`]).
//!
//! A packet goes this way: `packet::decode` checks its headers; a TCP segment finds its `flow` (the connection), which counts
//! handshake and end, puts the bytes of each direction in order (`stream`), and hands them to the protocol (`modbus`, `dnp3`), whose
//! frames (`lane`) become requests and answers (`transactions`). What came of it is counted at the `service`: the server's address
//! and port. ARP, neighbour discovery and pings are counted at the `host`: the address. A `tally` keeps number, times and first
//! packets of each thing that was seen, so that `findings` can say it in words and name the evidence; `catalogue` explains the words.

mod account;
mod around;
pub mod catalogue;
mod client_times;
mod clients;
mod collect;
mod copies;
mod dnp3;
mod elsewhere;
mod evidence;
mod expected;
mod findings;
mod flow;
mod guess;
mod half_open;
mod hasher;
mod heartbeats;
mod host;
mod icmp;
mod lane;
mod link_use;
mod lru;
mod meter;
mod modbus;
mod polls;
mod queries;
mod queue;
mod quiet;
mod rank;
mod report;
mod seam;
mod service;
mod services;
mod settings;
mod shared;
mod silence;
mod sink;
mod spread;
mod stalls;
mod stats;
mod strays;
mod stream;
mod tally;
#[cfg(test)]
mod testing;
#[cfg(test)]
mod tests;
mod through;
mod transactions;

pub use account::Account;
pub use evidence::{AttemptView, Copies, Counters, Evidence, SessionView};
pub use expected::Expectation;
pub use heartbeats::{HeartbeatWatch, read_heartbeat_definitions};
pub use meter::Meter;
pub use seam::Told;
pub use settings::{AnalysisSettings, Watch};
pub use sink::Analysis;
pub use through::{ReadThrough, begins_as_capture};
