//! Any bytes as a config file, in the directory of each process: no panic, no stall, and an endpoint whose id may stand in a uri.
#![no_main]

#[path = "../targets/topology_config.rs"]
mod target;

libfuzzer_sys::fuzz_target!(|data: &[u8]| target::run(data));
