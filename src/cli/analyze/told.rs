//! Findings in words: each with its evidence, or those of one code together.

use super::show::{Screen, many, span};
use crate::{
    api::{Finding, Severity, UtcTime},
    cli::text::{cut, wrap},
};
use std::net::{IpAddr, SocketAddr};

/// The findings as they are shown, each in some lines: one by one with all details, else those of one code and severity together,
/// with messages of so many lines at most. Notes are a detail.
pub(super) fn entries(findings: &[Finding], message_lines: usize, screen: &Screen) -> Vec<Vec<String>> {
    if screen.details {
        return findings.iter().map(|finding| entry(&[finding], usize::MAX, screen)).collect();
    }
    let mut together: Vec<Vec<&Finding>> = Vec::new();
    for finding in findings.iter().filter(|finding| finding.severity > Severity::Info) {
        let alike =
            |group: &&mut Vec<&Finding>| group.iter().all(|one| (&one.code, one.severity) == (&finding.code, finding.severity));
        match together.iter_mut().find(alike) {
            Some(group) => group.push(finding),
            None => together.push(vec![finding]),
        }
    }
    together.iter().map(|group| entry(group, message_lines, screen)).collect()
}

/// Findings of one code in one entry, with the worst named: the one that was seen most often, and of equals the first.
fn entry(group: &[&Finding], message_lines: usize, screen: &Screen) -> Vec<String> {
    let Some(worst) = group.iter().copied().reduce(|worst, one| if one.count > worst.count { one } else { worst }) else {
        return Vec::new();
    };
    let indent = if screen.width < 60 { 4 } else { 11 };
    let room = screen.width.saturating_sub(indent);
    let (code, who, message) = match group.len() {
        1 => (&worst.code, worst.endpoint_id.clone().unwrap_or_default(), worst.message.clone()),
        several => {
            let mut places: Vec<Place> = group.iter().filter_map(|finding| place(&finding.message)).collect();
            places.sort();
            places.dedup();
            let what = if places.iter().all(|(_, port)| port.is_some()) { "server" } else { "host" };
            let of = match places.len() {
                count if count == several => many(count as u64, what),
                count if count > 1 => format!("{several} findings at {}", many(count as u64, what)),
                _ => format!("{several} findings"),
            };
            let all: u64 = group.iter().map(|finding| finding.count).sum();
            (&worst.code, format!("{of}, {} in all", many(all, "time")), format!("the worst: {}", worst.message))
        }
    };
    let who = cut(&who, screen.width.saturating_sub(code.chars().count() + 13));
    let paint = screen.paint;
    let head = match worst.severity {
        Severity::Alarm => paint.bad(&format!("alarm    {code}")),
        Severity::Warning => paint.doubtful(&format!("warning  {code}")),
        Severity::Info => paint.faint(&format!("note     {code}")),
    };
    let mut lines = vec![if who.is_empty() { format!("  {head}") } else { format!("  {head}  {}", paint.faint(&who)) }];
    let mut words = wrap(&message, room);
    if words.len() > message_lines {
        words.truncate(message_lines);
        if let Some(last) = words.last_mut() {
            *last = cut(&format!("{last}  …"), room);
        }
    }
    lines.extend(words.iter().map(|line| format!("{:indent$}{}", "", cut(line, room))));
    let first_at = group.iter().filter_map(|finding| finding.first_at).min();
    let last_at = group.iter().filter_map(|finding| finding.last_at).max();
    // Packet numbers of many places are no evidence of any one of them.
    let packets = if group.len() == 1 { &worst.packets[..] } else { &[] };
    let evidence = evidence(first_at, last_at, packets, room);
    if !evidence.is_empty() {
        lines.push(format!("{:indent$}{}", "", paint.faint(&evidence)));
    }
    lines
}

/// When, and in which packets, as far as a line holds it.
fn evidence(first_at: Option<UtcTime>, last_at: Option<UtcTime>, packets: &[u64], room: usize) -> String {
    let when = match (first_at, last_at) {
        (Some(first), Some(last)) if first == last => format!("at {}", first.to_millis()),
        (Some(first), Some(last)) => span(first, last),
        _ => String::new(),
    };
    let with = |shown: usize| {
        let numbers: Vec<String> = packets.iter().take(shown).map(u64::to_string).collect();
        let packets = format!("{} {}", if shown == 1 { "packet" } else { "packets" }, numbers.join(", "));
        if when.is_empty() { packets } else { format!("{when}; {packets}") }
    };
    let fits = (1..=packets.len()).rev().map(with).find(|line| line.chars().count() <= room);
    fits.unwrap_or_else(|| cut(&when, room))
}

/// An address, with a port or without.
type Place = (IpAddr, Option<u16>);

/// The server that a message is about: the first address in it.
fn place(message: &str) -> Option<Place> {
    message.split_whitespace().find_map(|word| {
        let word = word.trim_matches(|c| matches!(c, ',' | ';' | '(' | ')')).trim_end_matches([':', '.']);
        let with_port = word.parse::<SocketAddr>().map(|address| (address.ip(), Some(address.port())));
        with_port.ok().or_else(|| Some((word.parse().ok()?, None)))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::text::Paint;

    fn finding(code: &str, server: &str, count: u64, second: i64) -> Finding {
        let at = |second: i64| Some(UtcTime::from_unix_ns((1_700_000_000 + second) * 1_000_000_000));
        Finding {
            code: code.to_owned(),
            severity: Severity::Warning,
            count,
            first_at: at(second),
            last_at: at(second + 10),
            endpoint_id: None,
            message: format!("{count} of 80 requests to {server} had no answer within 2 s"),
            packets: vec![7, 8],
        }
    }

    fn shown(findings: &[Finding], width: usize, details: bool) -> String {
        let screen = Screen { width, height: 24, paint: Paint::none(), details };
        entries(findings, 2, &screen).concat().join("\n")
    }

    #[test]
    fn one_event_at_many_servers_is_one_entry_with_the_worst_named() {
        let found: Vec<Finding> = (1..=6_u32)
            .map(|number| {
                finding("modbus.unanswered", &format!("10.0.0.{number}:502"), u64::from(10 + number % 4), i64::from(number))
            })
            .chain([finding("modbus.slow", "10.0.0.1:502", 3, 0)])
            .collect();
        assert_eq!(
            shown(&found, 100, false),
            "  warning  modbus.unanswered  6 servers, 69 times in all\n           \
             the worst: 13 of 80 requests to 10.0.0.3:502 had no answer within 2 s\n           \
             2023-11-14T22:13:21.000Z to 22:13:36.000Z\n  \
             warning  modbus.slow\n           3 of 80 requests to 10.0.0.1:502 had no answer within 2 s\n           \
             2023-11-14T22:13:20.000Z to 22:13:30.000Z; packets 7, 8"
        );
        assert_eq!(shown(&found, 100, true).matches("warning").count(), 7, "with details each by itself");
    }

    #[test]
    fn no_line_is_wider_than_the_screen() {
        let long =
            Finding { message: "word ".repeat(100) + &"x".repeat(300), ..finding("modbus.unanswered", "10.0.0.1:502", 1, 0) };
        let named =
            Finding { endpoint_id: Some("modbus_192.168.112.111_502_outbound_with_a_long_name".to_owned()), ..long.clone() };
        for width in [20, 40, 59, 80, 120] {
            for details in [false, true] {
                for line in shown(&[long.clone(), named.clone()], width, details).lines() {
                    // The code itself is never cut.
                    assert!(line.chars().count() <= width.max(30), "{width}: {line}");
                }
            }
        }
    }
}
