//! Any bytes as a packet of the bus, plain and encrypted, and as the body of a subscribe.
#![no_main]

#[path = "../targets/fims_codec.rs"]
mod target;

libfuzzer_sys::fuzz_target!(|data: &[u8]| target::run(data));
