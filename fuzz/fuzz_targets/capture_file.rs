//! The capture file reader on any bytes: it ends, and it gives no more than there is.
#![no_main]

#[path = "../targets/capture_file.rs"]
mod target;

libfuzzer_sys::fuzz_target!(|data: &[u8]| target::run(data));
