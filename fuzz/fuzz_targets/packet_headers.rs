//! The header decoder on any bytes: the first byte chooses the link type, the rest is the packet.
#![no_main]

#[path = "../targets/packet_headers.rs"]
mod target;

libfuzzer_sys::fuzz_target!(|data: &[u8]| target::run(data));
