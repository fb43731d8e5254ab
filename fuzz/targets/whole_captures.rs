//! Any bytes as a capture file, compressed or not, looked through from its beginning to its report.

#[path = "analysis_checks.rs"]
mod checks;

use netdiag::{
    analysis::{Analysis, AnalysisSettings, begins_as_capture},
    packet::decompressed,
};
use std::{io::Read as _, ops::ControlFlow};

/// The most that an input may unpack to.
const MOST: u64 = 1 << 18;

pub fn run(bytes: &[u8]) {
    // What unpacks to more takes its time, and shows nothing new.
    let unpacked = decompressed(bytes).map(|plain| plain.take(MOST + 1).bytes().take_while(Result::is_ok).count() as u64);
    if unpacked.is_ok_and(|unpacked| unpacked > MOST) {
        return;
    }
    let mut analysis = Analysis::new(AnalysisSettings { max_flows: 64, ..AnalysisSettings::default() }, Vec::new(), Vec::new());
    let begins = begins_as_capture(bytes).unwrap_or(false);
    let Ok(through) = analysis.read_through(bytes, &mut |_, _| ControlFlow::Continue(())) else { return };
    assert!(!through.broken_off && (through.is_capture || analysis.counters().packets == 0));
    assert!(through.is_capture || !begins);
    checks::report(&analysis.report());
    let report = analysis.report_of_file("a.pcap".to_owned(), through.clone());
    assert_eq!(report.damage, through.damage);
    checks::report(&report);
}
