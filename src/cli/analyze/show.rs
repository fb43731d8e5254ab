//! A report as text for people: a summary that fits a screen, worst first; the rest as details on request.

use super::{servers, told};
use crate::{
    api::{
        AnalysisReport, AnalysisVerdict, HeartbeatCondition, HeartbeatReport, Severity, Transaction, TransactionOutcome, UtcTime,
    },
    cli::text::{Paint, cut, height, width, wrap},
};
use std::collections::HashSet;

/// Servers and heartbeats that the summary has room for, however much there is to say of findings.
const AT_LEAST: usize = 4;

/// So many lines a message may take, as far as there is room for all of them; ...
const MESSAGE_LINES: [usize; 4] = [8, 4, 3, SHORTEST];
/// ... and so many where there is not.
const SHORTEST: usize = 2;

/// What is printed on, and how much of it.
#[derive(Debug, Clone, Copy)]
pub(super) struct Screen {
    pub width: usize,
    /// Lines of the screen; the summary fits.
    pub height: usize,
    pub paint: Paint,
    /// Whether all is printed, however long.
    pub details: bool,
}

impl Screen {
    pub fn of_stdout(details: bool) -> Self {
        Self { width: width(), height: height(), paint: Paint::stdout(), details }
    }

    fn lines(&self, indent: usize, text: &str) -> Vec<String> {
        let room = self.width.saturating_sub(indent);
        wrap(text, room).iter().map(|line| format!("{:indent$}{}", "", cut(line, room))).collect()
    }
}

pub(super) fn report(report: &AnalysisReport, screen: &Screen) -> String {
    let mut lines = head(report, screen);
    let notes = report.findings.iter().filter(|finding| finding.severity == Severity::Info).count();
    let (beats, beating) = heartbeats(report, screen);
    if screen.details {
        push_section(&mut lines, told::entries(&report.findings, usize::MAX, screen).concat());
        let all = report.servers.iter().flat_map(|server| servers::in_detail(server, screen));
        push_section(&mut lines, titled("Servers", all.collect(), screen));
        let left_out = report.servers_total.saturating_sub(report.servers.len() as u64);
        lines.extend((left_out > 0).then(|| format!("    … and {left_out} more")));
        push_section(&mut lines, [beats, beating].concat());
        return lines.join("\n") + "\n\n";
    }
    // A line is left for what the terminal asks next, and one stays empty.
    let mut room = screen.height.saturating_sub(2 + lines.len());
    let note = (notes > 0).then(|| {
        let are = if notes == 1 { "is" } else { "are" };
        format!("{} that {are} no concern; --details shows {}", many(notes as u64, "note"), if notes == 1 { "it" } else { "them" })
    });
    let table = if report.servers.is_empty() { Vec::new() } else { servers::table(&report.servers, screen) };
    let of_servers =
        if table.is_empty() { 0 } else { 2 + (table.len() - 1).min(AT_LEAST) + usize::from(table.len() - 1 > AT_LEAST) };
    let of_beats = if beats.is_empty() { 0 } else { 1 + beats.len() + beating.len().min(AT_LEAST) };

    let of_findings = room.saturating_sub(of_servers + of_beats + usize::from(note.is_some()) + 1);
    let with = |message_lines| {
        let entries = told::entries(&report.findings, message_lines, screen);
        let shown = fitting(&entries.iter().map(Vec::len).collect::<Vec<_>>(), of_findings);
        (entries, shown)
    };
    // Messages in full if all of them have room, else the shorter the more of them.
    let whole = MESSAGE_LINES.into_iter().map(with).find(|(entries, shown)| entries.len() == *shown);
    let (entries, shown) = whole.unwrap_or_else(|| with(SHORTEST));
    let mut found: Vec<String> = entries.iter().take(shown).flatten().cloned().collect();
    if entries.len() > shown {
        found.push(cut(&format!("  … and {} more; --details shows them", entries.len() - shown), screen.width));
    }
    found.extend(note.map(|note| format!("  {}", screen.paint.faint(&cut(&note, screen.width - 2)))));
    room = room.saturating_sub(found.len() + usize::from(!found.is_empty()) + of_beats);
    push_section(&mut lines, found);

    if let Some((head, rows)) = table.split_first() {
        let shown = fitting(&vec![1; rows.len()], room.saturating_sub(2));
        let mut section = vec![head.clone()];
        section.extend(rows.iter().take(shown).cloned());
        let more = report.servers_total.saturating_sub(shown as u64);
        section.extend((more > 0).then(|| cut(&format!("    … and {more} more; --details shows them"), screen.width)));
        push_section(&mut lines, section);
    }
    let more = beating.len().saturating_sub(AT_LEAST);
    let mut section = [beats, beating.into_iter().take(AT_LEAST).collect()].concat();
    section.extend((more > 0).then(|| cut(&format!("    … and {more} more; --details shows them"), screen.width)));
    push_section(&mut lines, section);
    lines.join("\n") + "\n\n"
}

fn head(report: &AnalysisReport, screen: &Screen) -> Vec<String> {
    let paint = screen.paint;
    let verdict = match report.verdict {
        AnalysisVerdict::Clean => paint.good("clean"),
        AnalysisVerdict::Suspect => paint.bad("SUSPECT"),
    };
    let mut lines = vec![format!("{}: {verdict}", paint.bold(report.file.as_deref().unwrap_or("capture")))];
    let times = match (report.first_at, report.last_at, report.duration_s) {
        (Some(first), Some(last), Some(seconds)) => format!(", {seconds:.1} s from {}", span(first, last)),
        _ => String::new(),
    };
    let what = format!("{}, {}{times}", many(report.packets, "packet"), many(report.servers_total, "server"));
    lines.extend(screen.lines(2, &what));
    if let Some(damage) = &report.damage {
        lines.extend(screen.lines(2, &format!("read until it breaks off: {damage}")).iter().map(|line| paint.doubtful(line)));
    }
    lines
}

fn titled(title: &str, lines: Vec<String>, screen: &Screen) -> Vec<String> {
    if lines.is_empty() { lines } else { [vec![format!("  {}", screen.paint.bold(title))], lines].concat() }
}

/// Adds lines after an empty one, if there are any.
fn push_section(lines: &mut Vec<String>, section: Vec<String>) {
    if !section.is_empty() {
        lines.push(String::new());
        lines.extend(section);
    }
}

/// How many entries of these lengths fit, with a line that says how many do not. At least one is shown.
fn fitting(lengths: &[usize], room: usize) -> usize {
    let mut used = 0;
    let fits = |(index, length): &(usize, &usize)| {
        used += **length;
        used + usize::from(index + 1 < lengths.len()) <= room
    };
    lengths.iter().enumerate().take_while(fits).count().max(1).min(lengths.len())
}

/// The heartbeats in one line, and those that are to be told: all of them as a detail, else the frozen ones, and those that nobody
/// reads or writes although their server is there.
fn heartbeats(report: &AnalysisReport, screen: &Screen) -> (Vec<String>, Vec<String>) {
    use HeartbeatCondition::{Changing, Frozen, NotPolled, Unknown};
    if report.heartbeats.is_empty() {
        return (Vec::new(), Vec::new());
    }
    let there: HashSet<String> = report.servers.iter().filter(|server| server.packets > 0).map(servers::name).collect();
    let is_absent = |heartbeat: &&HeartbeatReport| heartbeat.condition == NotPolled && !there.contains(&heartbeat.server);
    let is_told = |heartbeat: &&HeartbeatReport| match heartbeat.condition {
        _ if screen.details => true,
        Frozen => true,
        NotPolled => !is_absent(heartbeat),
        Changing | Unknown => false,
    };
    let of = |condition| report.heartbeats.iter().filter(|heartbeat| heartbeat.condition == condition).count();
    let absent = report.heartbeats.iter().filter(is_absent).count();
    let counts = [
        (of(Frozen), "frozen"),
        (of(NotPolled) - absent, "not polled"),
        (of(Unknown), "seen too seldom to tell"),
        (of(Changing), "changing"),
        (absent, "of servers that are not in the capture"),
    ];
    let counts: Vec<String> =
        counts.iter().filter(|(count, _)| *count > 0).map(|(count, what)| format!("{count} {what}")).collect();
    let head = format!("  {}", cut(&format!("Heartbeats: {}", counts.join(", ")), screen.width - 2));
    let mut told: Vec<&HeartbeatReport> = report.heartbeats.iter().filter(is_told).collect();
    told.sort_by_key(|heartbeat| heartbeat.condition != Frozen);
    (vec![head], told.into_iter().map(|heartbeat| beat(heartbeat, screen)).collect())
}

fn beat(heartbeat: &HeartbeatReport, screen: &Screen) -> String {
    let (condition, paint) = match heartbeat.condition {
        HeartbeatCondition::Changing => ("changing  ", Paint::good as fn(Paint, &str) -> String),
        HeartbeatCondition::Frozen => ("frozen    ", Paint::bad as _),
        HeartbeatCondition::Unknown => ("unknown   ", Paint::doubtful as _),
        HeartbeatCondition::NotPolled => ("not polled", Paint::doubtful as _),
    };
    let since = heartbeat.since.filter(|_| heartbeat.condition == HeartbeatCondition::Frozen);
    let since = since.map_or_else(String::new, |since| format!(" since {}", since.to_millis()));
    let value = heartbeat.value.map_or_else(String::new, |value| format!(" at {value}"));
    let words = format!(
        "{} of {}, offset {} at {}: seen {}, changed {}{value}{since}",
        heartbeat.id,
        heartbeat.component,
        heartbeat.wire_offset,
        heartbeat.server,
        many(heartbeat.seen, "time"),
        many(heartbeat.changes, "time")
    );
    format!("    {}  {}", paint(screen.paint, condition), cut(&words, screen.width.saturating_sub(16)))
}

pub(super) fn many(count: u64, what: &str) -> String {
    format!("{count} {what}{}", if count == 1 { "" } else { "s" })
}

/// `2023-11-14T22:13:20.000Z to 22:13:30.000Z`: the date once if it is the same.
pub(super) fn span(first: UtcTime, last: UtcTime) -> String {
    let (first, last) = (first.to_millis().to_string(), last.to_millis().to_string());
    match (first.split_once('T'), last.split_once('T')) {
        (Some((day, _)), Some((same, time))) if day == same => format!("{first} to {time}"),
        _ => format!("{first} to {last}"),
    }
}

/// One line: when, who asks whom, what for, and what came of it.
pub(super) fn transaction(transaction: &Transaction) -> String {
    let outcome = match transaction.outcome {
        TransactionOutcome::Answered => "answered",
        TransactionOutcome::Exception => "exception",
        TransactionOutcome::Late => "late",
        TransactionOutcome::Unanswered => "unanswered",
        TransactionOutcome::Unknown => "unknown",
    };
    let time = transaction.response_ms.map_or_else(String::new, |ms| format!(" after {ms} ms"));
    let detail = transaction.detail.as_ref().map_or_else(String::new, |detail| format!(" ({detail})"));
    let answer = transaction.response_packet.map_or_else(String::new, |packet| format!(", {packet}"));
    format!(
        "{}  {} -> {}  {}  {}: {outcome}{time}{detail}  [{}{answer}]",
        transaction.at,
        transaction.client,
        transaction.server,
        transaction.protocol,
        transaction.request,
        transaction.request_packet
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn as_many_entries_are_shown_as_fit_with_the_line_that_counts_the_rest() {
        assert_eq!(fitting(&[3, 3, 3], 9), 3);
        assert_eq!(fitting(&[3, 3, 3], 8), 2);
        assert_eq!(fitting(&[3, 3, 3], 6), 1, "the line with the rest needs room, too");
        assert_eq!((fitting(&[5], 0), fitting(&[], 7)), (1, 0));
    }
}
