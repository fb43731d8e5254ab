//! Pieces of IP packets in any order: memory stays bounded, and what is put together is read without a panic.
#![no_main]

#[path = "../targets/ip_fragments.rs"]
mod target;

libfuzzer_sys::fuzz_target!(|data: &[u8]| target::run(data));
