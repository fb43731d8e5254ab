//! Any bytes as a capture file, compressed or not, looked through from its beginning to its report.
#![no_main]

#[path = "../targets/analysis_checks.rs"]
mod analysis_checks;
#[path = "../targets/whole_captures.rs"]
mod target;

libfuzzer_sys::fuzz_target!(|data: &[u8]| target::run(data));
