//! The order of findings: which of them somebody should read first, and how several become one line.

use super::catalogue::{self, Entry};
use crate::api::Finding;
use std::cmp::Reverse;

/// Of findings of one severity, what is told first: what cannot be reached, what does not answer, what answers wrongly, what is slow, and
/// then signs of trouble to come. Codes that are not named here come last.
const ORDER: [&Entry; 46] = [
    catalogue::HOST_STALLED,
    catalogue::HOST_SILENT,
    catalogue::TCP_SYN_UNANSWERED,
    catalogue::TCP_REFUSED,
    catalogue::ICMP_UNREACHABLE,
    catalogue::TCP_ANSWER_FROM_ELSEWHERE,
    catalogue::ARP_UNANSWERED,
    catalogue::ARP_TWO_MACS,
    catalogue::DNP3_TWO_MASTERS,
    catalogue::LINK_BROADCAST_STORM,
    catalogue::KERNEL_SESSION_LOST,
    catalogue::MODBUS_UNANSWERED,
    catalogue::DNP3_UNANSWERED,
    catalogue::HEARTBEAT_FROZEN,
    catalogue::DNP3_DEVICE_TROUBLE,
    catalogue::DNP3_CONFIG_CORRUPT,
    catalogue::TCP_RESET,
    catalogue::TCP_RECONNECTS,
    catalogue::TCP_HALF_OPEN,
    catalogue::MODBUS_EXCEPTIONS,
    catalogue::DNP3_REFUSED,
    catalogue::MODBUS_WRONG_ID,
    catalogue::MODBUS_WRONG_UNIT,
    catalogue::DNP3_WRONG_ADDRESS,
    catalogue::MODBUS_MISFIT,
    catalogue::MODBUS_LATE,
    catalogue::DNP3_LATE,
    catalogue::DNP3_UNCONFIRMED,
    catalogue::DNP3_EVENTS_LOST,
    catalogue::DNP3_LINK_UNACKNOWLEDGED,
    catalogue::HEARTBEAT_NOT_SEEN,
    catalogue::MODBUS_MALFORMED,
    catalogue::DNP3_CRC_ERRORS,
    catalogue::DNP3_SEGMENTS_LOST,
    catalogue::MODBUS_DUPLICATE,
    catalogue::MODBUS_SLOW,
    catalogue::DNP3_SLOW,
    catalogue::TCP_ZERO_WINDOW,
    catalogue::TCP_RETRANSMISSIONS,
    catalogue::TCP_SYN_RETRIED,
    catalogue::SITE_DEVICE_ELSEWHERE,
    catalogue::SITE_NEVER_SEEN,
    catalogue::SITE_UNIT_UNKNOWN,
    catalogue::SITE_LINK_UNKNOWN,
    catalogue::SITE_UNKNOWN_CLIENT,
    catalogue::SITE_UNKNOWN_SERVER,
];

fn rank(code: &str) -> usize {
    ORDER.iter().position(|entry| entry.code == code).unwrap_or(ORDER.len())
}

/// By severity, then by what should be read first, then by how often it happened.
pub(super) fn worst_first(mut findings: Vec<Finding>) -> Vec<Finding> {
    findings.sort_by_cached_key(|finding| (Reverse(finding.severity), rank(&finding.code), Reverse(finding.count)));
    findings
}

/// One line for each code, in the order in which its first finding comes: that one in words, and how many are like it.
pub(super) fn lines<'a>(findings: impl Iterator<Item = &'a Finding>) -> Vec<String> {
    let mut lines: Vec<(&Finding, usize)> = Vec::new();
    for finding in findings {
        match lines.iter_mut().find(|(first, _)| first.code == finding.code) {
            Some((_, alike)) => *alike += 1,
            None => lines.push((finding, 1)),
        }
    }
    let line = |(first, alike): (&Finding, usize)| match alike {
        1 => first.message.clone(),
        alike => format!("{} (the worst of {alike} alike)", first.message),
    };
    lines.into_iter().map(line).collect()
}

#[cfg(test)]
mod tests {
    use super::{
        super::{findings::finding, tally::Tally},
        *,
    };
    use crate::api::Severity;

    #[test]
    fn no_code_has_two_ranks() {
        for (at, entry) in ORDER.iter().enumerate() {
            assert_eq!(rank(entry.code), at, "{}", entry.code);
        }
    }

    #[test]
    fn severity_then_what_is_to_be_read_first_then_the_count() {
        let of =
            |entry, severity, count| finding(entry, severity, &Tally::without_evidence(count), format!("{count} of something"));
        let sorted = worst_first(vec![
            of(catalogue::CAPTURE_COPIES, Severity::Info, 99),
            of(catalogue::TCP_SYN_RETRIED, Severity::Warning, 2),
            of(catalogue::MODBUS_EXCEPTIONS, Severity::Warning, 4),
            of(catalogue::MODBUS_EXCEPTIONS, Severity::Warning, 104),
            of(catalogue::MODBUS_UNANSWERED, Severity::Warning, 1),
            of(catalogue::TCP_REFUSED, Severity::Alarm, 1),
        ]);
        let codes: Vec<_> = sorted.iter().map(|finding| (finding.code.as_str(), finding.count)).collect();
        let expected = [
            ("tcp.refused", 1),
            ("modbus.unanswered", 1),
            ("modbus.exceptions", 104),
            ("modbus.exceptions", 4),
            ("tcp.syn_retried", 2),
            ("capture.copies", 99),
        ];
        assert_eq!(codes, expected);
        assert_eq!(
            lines(sorted.iter()),
            ["1 of something", "1 of something", "104 of something (the worst of 2 alike)", "2 of something", "99 of something"]
        );
    }
}
