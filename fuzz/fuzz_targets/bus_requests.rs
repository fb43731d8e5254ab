//! Any bytes as a request to the service: method, uri and body, parted by zeros.
#![no_main]

#[path = "../targets/bus_requests.rs"]
mod target;

libfuzzer_sys::fuzz_target!(|data: &[u8]| target::run(data));
