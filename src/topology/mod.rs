//! Config text to endpoints, hosts, heartbeats and problems. Pure, but for the one function that walks directories.
//!
//! A file goes through four steps: its bytes become text and the text a tree of values (`json`, `repair`); the
//! tree says what kind of config it is (`kind`); one reader per kind makes an endpoint of it (`modbus_client`, `modbus_server`,
//! `dnp3`); and [`assemble()`] joins what all files say into one topology, whose endpoints then get their place in this host's
//! network ([`apply_network`]). [`activity`] tells which of the configs are in use. Whatever is odd on the way becomes an [`api::Problem`](crate::api::Problem) with a code of
//! [`ProblemCode`]; nothing stops a scan.
//!
//! The readers follow the installed processes rather than a schema: a value is what the process would make of it, and where two
//! processes differ, the directory that the file lies in decides ([`Process`]).

pub mod activity;
mod address;
mod align;
mod assemble;
mod compare;
mod component;
mod controller;
mod dnp3;
mod ends;
mod extra;
mod file;
mod heartbeat;
mod json;
mod kind;
mod modbus_client;
mod modbus_server;
mod network;
mod notes;
mod outcome;
mod place;
mod port;
mod problem;
mod process;
mod reading;
mod repair;
mod saved;
mod scan;
mod section;
mod serial;
mod site;
#[cfg(test)]
mod tests;

pub use align::align;
pub use assemble::assemble;
pub use compare::compare;
pub use extra::add_extra;
pub use file::{FileReport, read_file, read_file_with};
pub use kind::FileKind;
pub use network::{RouteFacts, apply_names, apply_network, compare_ends, host_names};
pub use port::Services;
pub use problem::{ProblemCode, markdown as problems_markdown};
pub use process::Process;
pub use saved::{SavedError, read_saved};
pub use scan::{Footprint, Readings, ScanOptions, footprint, scan, scan_again};
