//! Any bytes as a capture file, compressed or not, looked through from its beginning to its report.

use super::analysis_checks as checks;
use netdiag::{
    analysis::{Analysis, AnalysisSettings, begins_as_capture},
    packet::decompressed,
};
use std::{io::Read as _, ops::ControlFlow};

/// The most that an input may unpack to.
const MOST: u64 = 1 << 18;

pub fn run(bytes: &[u8]) {
    // What unpacks to more takes its time, and shows nothing new.
    if unpacked_bytes(bytes) > MOST {
        return;
    }
    let mut analysis = Analysis::new(AnalysisSettings { max_flows: 64, ..AnalysisSettings::default() }, Vec::new(), Vec::new());
    let begins = begins_as_capture(bytes).unwrap_or(false);
    let Ok(through) = analysis.read_through(bytes, &mut |_, _| ControlFlow::Continue(())) else { return };
    assert!(!through.broken_off && (through.is_capture || analysis.counters().packets == 0));
    // One may begin like a capture and be damaged before its first packet.
    assert!(begins || !through.is_capture);
    checks::report(&analysis.report());
    let report = analysis.report_of_file("a.pcap".to_owned(), through.clone());
    assert_eq!(report.damage, through.damage);
    checks::report(&report);
}

/// How much an input unpacks to, as far as that matters.
fn unpacked_bytes(bytes: &[u8]) -> u64 {
    let Ok(plain) = decompressed(bytes) else { return 0 };
    let (mut plain, mut buffer, mut sum) = (plain.take(MOST + 1), [0; 4096], 0);
    while let Ok(read @ 1..) = plain.read(&mut buffer) {
        sum += read as u64;
    }
    sum
}
