//! DNP3 link frames, transport segments and application headers out of any bytes: never a panic, always a step forward.
#![no_main]

#[path = "../targets/dnp3_frames.rs"]
mod target;

libfuzzer_sys::fuzz_target!(|data: &[u8]| target::run(data));
