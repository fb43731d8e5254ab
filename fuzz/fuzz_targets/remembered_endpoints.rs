//! Any bytes as what netdiag remembered of the endpoints before a restart.
#![no_main]

#[path = "../targets/remembered_endpoints.rs"]
mod target;

libfuzzer_sys::fuzz_target!(|data: &[u8]| target::run(data));
