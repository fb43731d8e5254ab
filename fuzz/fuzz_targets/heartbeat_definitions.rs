//! Any bytes as a file of heartbeat definitions: what is read can be watched, and what cannot be read is told.
#![no_main]

#[path = "../targets/heartbeat_definitions.rs"]
mod target;

libfuzzer_sys::fuzz_target!(|data: &[u8]| target::run(data));
