//! Any bytes as a recording that was cut by a power failure: what is kept of it is whole, and mending it again changes nothing.
#![no_main]

#[path = "../targets/cut_recording.rs"]
mod target;

libfuzzer_sys::fuzz_target!(|data: &[u8]| target::run(data));
