//! Any packets through the whole analysis: never a panic, and an answer at any time.
#![no_main]

#[path = "../targets/analysis_packets.rs"]
mod target;

libfuzzer_sys::fuzz_target!(|data: &[u8]| target::run(data));
