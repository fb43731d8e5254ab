//! Any bytes as what netdiag finds in its state directory at its start: jobs, their results, snapshots, notes. Whatever lies there, it
//! starts, and takes nothing for whole that is not.
#![no_main]

#[path = "../targets/state_directory.rs"]
mod target;

libfuzzer_sys::fuzz_target!(|data: &[u8]| target::run(data));
