//! netdiag tells the people who run battery-energy-storage sites what is wrong with their network.
//!
//! A message comes in at the door ([`fims`]), the [`service`] looks up what it asks for ([`api`]) and a job is made ([`jobs`]). A
//! connectivity test plans its probes from the [`topology`], [`probe`]s while [`capture`] records, every packet flows once through
//! [`analysis`], and what was probed and what was seen meet in one verdict per endpoint ([`connectivity`]), which goes out by the
//! same door. `ARCHITECTURE.md` walks a message through these rooms and says which may use which.

pub mod analysis;
pub mod api;
pub mod archive;
pub mod capture;
pub mod cli;
pub mod connectivity;
pub mod fims;
pub mod http;
pub mod jobs;
pub mod lab;
pub mod monitor;
pub mod packet;
pub mod probe;
pub mod protocol;
pub mod service;
pub mod topology;
