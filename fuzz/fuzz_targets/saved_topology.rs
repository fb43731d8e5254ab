//! Any bytes as topologies that were saved, and compared: two of them, parted by a zero.
#![no_main]

#[path = "../targets/saved_topology.rs"]
mod target;

libfuzzer_sys::fuzz_target!(|data: &[u8]| target::run(data));
