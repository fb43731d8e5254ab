//! Several files, in a line each.

use super::show::{Screen, many};
use crate::{
    api::{AnalysisReport, AnalysisVerdict, Severity},
    cli::text::cut,
};
use std::cmp::Reverse;

/// What is told of a file among others.
#[derive(Debug)]
pub(super) struct Line {
    file: String,
    verdict: AnalysisVerdict,
    worst: Option<Severity>,
    suspicious: usize,
    breaks_off: bool,
    reason: String,
}

impl Line {
    pub fn of(report: &AnalysisReport) -> Self {
        Self {
            file: report.file.clone().unwrap_or_default(),
            verdict: report.verdict,
            worst: report.findings.iter().map(|finding| finding.severity).max(),
            suspicious: report.findings.iter().filter(|finding| finding.severity > Severity::Info).count(),
            breaks_off: report.damage.is_some(),
            reason: report.reasons.first().cloned().unwrap_or_default(),
        }
    }
}

/// The files, worst first. Clean ones that were read to their end are only counted, unless all details are wanted or they are few.
pub(super) fn overview(mut files: Vec<Line>, few: usize, screen: &Screen) -> String {
    files.sort_by_key(|line| Reverse((line.verdict, line.worst, line.breaks_off, line.suspicious)));
    let suspect = files.iter().filter(|line| line.verdict == AnalysisVerdict::Suspect).count();
    let broken_off = files.iter().filter(|line| line.breaks_off).count();
    let total = many(files.len() as u64, "file");
    let are_listed = screen.details || files.len() <= few;
    let is_listed = |line: &&Line| are_listed || line.verdict == AnalysisVerdict::Suspect || line.breaks_off;
    let mut lines = vec![screen.paint.bold("All files")];
    for line in files.iter().filter(is_listed) {
        let verdict = match line.verdict {
            AnalysisVerdict::Clean => screen.paint.good("clean  "),
            AnalysisVerdict::Suspect => screen.paint.bad("SUSPECT"),
        };
        let mut reason = line.reason.clone();
        if line.breaks_off && line.verdict == AnalysisVerdict::Suspect {
            reason = format!("(breaks off) {reason}");
        }
        // A name is never cut; what is said of it goes where there is room.
        let begin = format!("  {verdict}  {}", line.file);
        let room = screen.width.saturating_sub(11 + line.file.chars().count() + 2);
        if reason.is_empty() {
            lines.push(begin);
        } else if room >= reason.chars().count().min(40) {
            lines.push(format!("{begin}  {}", cut(&reason, room)));
        } else {
            lines.extend([begin, format!("           {}", cut(&reason, screen.width.saturating_sub(11)))]);
        }
    }
    let off = if broken_off == 0 { String::new() } else { format!(", {broken_off} broken off") };
    let more = if are_listed { "" } else { "; --details shows each in full" };
    lines.push(format!("{suspect} of {total} suspect{off}{more}"));
    lines.join("\n") + "\n"
}
