//! The edge to the network: ping, port connect, the kernel's socket tables, routes and interfaces.
//!
//! Everything that touches a device goes through the [`Prober`] trait, so that a test can be planned, run and judged against a
//! [`FakeProber`] in virtual time; the real one is [`NetworkProber`]. A device is never harmed: single hosts only, no half-open
//! connection, no reset where a close will do, and a [`RateLimit`] over all. What the kernel knows already costs the network nothing:
//! its [`SocketTable`], and by netlink its routes and interfaces ([`Network`]).

mod connect;
mod fake;
mod greeting;
mod network;
mod network_prober;
mod ping;
mod prober;
mod rate_limit;
mod socket_table;
mod words;

pub use fake::{Call, FakeProber, Probe};
pub use greeting::Service;
pub use network::{Neighbour, Network, Route};
pub use network_prober::NetworkProber;
pub use prober::{ConnectOutcome, PingOutcome, Prober};
pub use rate_limit::RateLimit;
pub use socket_table::{SocketTable, sockets};
