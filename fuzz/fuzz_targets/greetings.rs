//! Any bytes as what a server says to whoever connects: the judgement never depends on how the bytes came in pieces, and nothing is
//! shown that could move a cursor.
#![no_main]

#[path = "../targets/greetings.rs"]
mod target;

libfuzzer_sys::fuzz_target!(|data: &[u8]| target::run(data));
