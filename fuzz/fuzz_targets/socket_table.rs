//! The kernel's socket tables, as text that may be anything.
#![no_main]

#[path = "../targets/socket_table.rs"]
mod target;

libfuzzer_sys::fuzz_target!(|data: &[u8]| target::run(data));
