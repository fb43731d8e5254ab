//! The connectivity test: plan (pure), run, verdict (pure).
//!
//! [`plan()`] turns a request and the topology into what is to be done with each endpoint; [`run()`] does it while the traffic is
//! captured, device by device, never two connections to one device at a time; [`judge`] makes one verdict of what was probed, what
//! this host's sockets show and what was on the wire.

mod outcome;
mod plan;
mod probing;
mod run;
#[cfg(test)]
mod run_tests;
mod verdict;

pub use outcome::{counts, ping_report, sentence, worst_first};
pub use plan::{ConnectPlan, Device, Plan, PlannedEndpoint, capture_interfaces, plan};
pub use run::{Decided, Edges, Progress, ReadNeighbours, Record, TestInput, run};
pub use verdict::{Facts, Judgement, judge};
