//! DNP3 application fragments and transport segments: any bytes as a fragment, and any fragment through frames and back.
#![no_main]

#[path = "../targets/dnp3_application.rs"]
mod target;

libfuzzer_sys::fuzz_target!(|data: &[u8]| target::run(data));
