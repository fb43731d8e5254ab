//! Any text as a settings file, and as a message that changes the monitor's settings: what is taken can be written and read again.
#![no_main]

#[path = "../targets/settings_file.rs"]
mod target;

libfuzzer_sys::fuzz_target!(|data: &[u8]| target::run(data));
