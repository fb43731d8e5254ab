//! Any rules of the flight recorder on any messages: the first line is the rules as they stand in the settings, each line behind it a
//! message: method, uri and body, parted by spaces.
#![no_main]

#[path = "../targets/trigger_rules.rs"]
mod target;

libfuzzer_sys::fuzz_target!(|data: &[u8]| target::run(data));
