//! A simulated site: network namespaces, and devices in them that really speak Modbus TCP and DNP3. The demo and the tests use it.
//!
//! ```text
//!   controller ── switch ─┬─ device 10.77.0.11
//!   10.77.0.1             ├─ device 10.77.0.12 ...
//!   (the caller)          ├─ remote client 10.77.0.201 ...  (polls a server on the controller)
//!                         └─ router 10.77.0.254 | 10.78.0.254 ── device 10.78.0.13 ...
//! ```
//!
//! The controller is the thread that builds the [`Site`], after [`enter_private`] has given it a network of its own. Every other
//! host is a [`Namespace`]: a thread, so that nothing is left behind when the process ends, even by SIGKILL. What is wrong with a
//! device ([`Behaviour`]) is made by ordinary means: a socket that does not listen, a queue that is full, a filter
//! on a socket, a route that prohibits.
//! Where there is no right to make namespaces, [`Placement::Loopback`] puts what can be had there on 127.0.0.2 and following.

mod client;
mod config_files;
mod counters;
mod device;
mod dnp3_link;
mod dnp3_master;
mod dnp3_outstation;
mod error;
mod modbus_server;
mod namespace;
mod network;
mod presence;
mod room;
mod site;
mod wiring;

pub use client::{ClientStats, PollSettings};
pub use counters::DeviceStats;
pub use device::{Behaviour, DeviceSpec, InboundSpec, Speaks};
pub use error::LabError;
pub use modbus_server::{LIFE_SIGNAL, REGISTERS_PER_UNIT, STATE_OF_CHARGE, UNIT_ID};
pub use namespace::{Namespace, enter_private};
pub use network::{CONTROLLER, CONTROLLER_LINK, ROUTER};
pub use site::{Device, Inbound, LeftOut, Placement, Site, SiteBuilder};
pub use wiring::Rejection;
