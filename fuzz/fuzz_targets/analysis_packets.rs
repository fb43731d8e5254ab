//! Any packets through the whole analysis, set in any way: never a panic, an answer at any time, and figures that fit each other.
#![no_main]

#[path = "../targets/analysis_checks.rs"]
mod analysis_checks;
#[path = "../targets/analysis_setup.rs"]
mod analysis_setup;
#[path = "../targets/analysis_packets.rs"]
mod target;

libfuzzer_sys::fuzz_target!(|data: &[u8]| target::run(data));
