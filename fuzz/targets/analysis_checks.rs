//! What holds for every report, whatever the packets were.

use netdiag::api::{AnalysisReport, AnalysisVerdict, Finding, ServerReport, Severity};

/// The most reasons and servers that a report names.
const MAX_REASONS: usize = 20;
const MAX_SERVERS: usize = 1_000;

/// The figures of a report fit each other, its findings stand worst first, and it can be written and read.
pub fn report(report: &AnalysisReport) {
    let suspicious = report.findings.iter().filter(|finding| finding.severity >= Severity::Warning).count();
    let verdict = if suspicious > 0 { AnalysisVerdict::Suspect } else { AnalysisVerdict::Clean };
    assert_eq!(report.verdict, verdict, "{}", report.text);
    // One more where the file breaks off.
    assert_eq!(report.reasons.len(), suspicious.min(MAX_REASONS) + usize::from(report.damage.is_some()));
    assert_eq!(report.findings_total, report.findings.len() as u64);
    assert!(report.undecodable <= report.packets && report.cut <= report.packets);
    assert_eq!(report.first_at.is_some(), report.packets > 0);
    assert!(report.first_at <= report.last_at && report.duration_s.is_none_or(|seconds| seconds >= 0.0));
    assert!(report.servers.len() <= MAX_SERVERS && report.servers.len() as u64 <= report.servers_total);
    assert!(report.servers.iter().map(|server| server.packets).sum::<u64>() <= report.packets);
    worst_first(&report.findings);
    report.servers.iter().for_each(server);
    for heartbeat in &report.heartbeats {
        assert!(heartbeat.changes <= heartbeat.seen && heartbeat.value.is_some() == (heartbeat.seen > 0), "{heartbeat:?}");
    }
    let json = serde_json::to_vec(report).unwrap();
    let again: AnalysisReport = serde_json::from_slice(&json).unwrap();
    assert_eq!((&again.findings, &again.reasons, &again.text), (&report.findings, &report.reasons, &report.text));
    assert_eq!((again.servers.len(), &again.heartbeats), (report.servers.len(), &report.heartbeats));
}

/// The worst comes first, and each finding tells what it saw.
pub fn worst_first(findings: &[Finding]) {
    assert!(findings.is_sorted_by_key(|finding| std::cmp::Reverse(finding.severity)));
    for finding in findings {
        assert!(netdiag::analysis::catalogue::explain(&finding.code).is_some(), "{} is not in the catalogue", finding.code);
        assert!(!finding.message.is_empty() && finding.count > 0, "{finding:?}");
        assert!(finding.packets.is_sorted() && finding.first_at <= finding.last_at, "{finding:?}");
    }
}

/// What is counted one by one is no more than what is counted together.
fn server(server: &ServerReport) {
    if let Some(modbus) = &server.modbus {
        assert!(modbus.responses + modbus.unanswered <= modbus.requests, "{modbus:?}");
        // An exception counts also where no request was seen that it answers.
        assert!(modbus.late <= modbus.responses, "{modbus:?}");
        assert!(modbus.unanswered_acknowledged <= modbus.unanswered, "{modbus:?}");
        assert!(modbus.functions.iter().map(|function| function.requests).sum::<u64>() <= modbus.requests, "{modbus:?}");
        assert!(modbus.exception_codes.iter().map(|code| code.count).sum::<u64>() <= modbus.exceptions, "{modbus:?}");
        assert!(modbus.units.iter().map(|unit| unit.requests).sum::<u64>() <= modbus.requests, "{modbus:?}");
        for unit in &modbus.units {
            assert!(unit.responses + unit.unanswered <= unit.requests && unit.exceptions <= unit.responses, "{unit:?}");
        }
        for poll in &modbus.polls {
            assert!(poll.jitter_ms.is_finite() && poll.period_ms.is_finite() && poll.longest_ms.is_finite(), "{poll:?}");
        }
    }
    if let Some(dnp3) = &server.dnp3 {
        assert!(dnp3.responses + dnp3.unanswered <= dnp3.requests && dnp3.late <= dnp3.responses, "{dnp3:?}");
        assert!(dnp3.link_functions.iter().map(|function| function.frames).sum::<u64>() <= dnp3.frames, "{dnp3:?}");
    }
    let tcp = &server.tcp;
    // What was accepted may have been asked for before the capture began.
    assert!(tcp.refused + tcp.unanswered <= tcp.attempts, "{tcp:?}");
    assert!(tcp.fast_retransmissions + tcp.spurious_retransmissions <= tcp.retransmissions, "{tcp:?}");
    for client in &server.clients {
        assert!(client.responses + client.unanswered <= client.requests && client.exceptions <= client.responses, "{client:?}");
        assert!(client.first_at <= client.last_at, "{client:?}");
    }
    let times = server.clients.iter().filter_map(|client| client.response_ms.as_ref());
    let modbus = server.modbus.iter().filter_map(|modbus| modbus.response_ms.as_ref());
    let dnp3 = server.dnp3.iter().filter_map(|dnp3| dnp3.response_ms.as_ref());
    for times in times.chain(modbus).chain(dnp3) {
        assert!(times.min <= times.mean && times.mean <= times.max, "{times:?}");
    }
}
