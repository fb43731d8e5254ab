//! What starts processes: unit files, drop-ins, lists and command lines are written by people.
#![no_main]

#[path = "../targets/topology_starters.rs"]
mod target;

libfuzzer_sys::fuzz_target!(|data: &[u8]| target::run(data));
