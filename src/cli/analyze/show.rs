//! A report as text for people: a summary that fits a screen, worst first, then details on request.

use crate::{
    api::{
        AnalysisReport, AnalysisVerdict, ClientReport, Finding, HeartbeatCondition, ResponseTimes, ServerReport, Severity,
        Transaction, TransactionOutcome,
    },
    cli::text::{Paint, wrap},
};
use std::fmt::Write as _;

/// Servers and findings that are shown without `--details`.
const SHOWN: usize = 12;

pub(super) fn report(report: &AnalysisReport, paint: Paint, width: usize, details: bool) -> String {
    let mut text = String::new();
    let verdict = match report.verdict {
        AnalysisVerdict::Clean => paint.good("clean"),
        AnalysisVerdict::Suspect => paint.bad("SUSPECT"),
    };
    let _ = writeln!(text, "{}: {verdict}", paint.bold(report.file.as_deref().unwrap_or("capture")));
    let times = match (report.first_at, report.last_at, report.duration_s) {
        (Some(first), Some(last), Some(seconds)) => format!(", {seconds:.1} s from {} to {}", first.to_millis(), last.to_millis()),
        _ => String::new(),
    };
    let _ = writeln!(text, "  {}, {}{times}", many(report.packets, "packet"), many(report.servers_total, "server"));
    if let Some(damage) = &report.damage {
        let _ = writeln!(text, "  {}", paint.doubtful(&format!("read until it breaks off: {damage}")));
    }
    let is_told = |finding: &&Finding| details || finding.severity > Severity::Info;
    let told: Vec<&Finding> = report.findings.iter().filter(is_told).collect();
    if !told.is_empty() {
        text.push('\n');
    }
    let shown = if details { told.len() } else { SHOWN };
    for found in told.iter().take(shown) {
        finding(&mut text, found, paint, width);
    }
    if told.len() > shown {
        let _ = writeln!(text, "  … and {} more; --details shows them", told.len() - shown);
    }
    let notes = report.findings.len() - told.len();
    if notes > 0 {
        let _ = writeln!(
            text,
            "  {}",
            paint.faint(&format!(
                "{} that {} no concern; --details shows them",
                many(notes as u64, "note"),
                if notes == 1 { "is" } else { "are" }
            ))
        );
    }
    if !report.servers.is_empty() {
        let _ = writeln!(text, "\n  {}", paint.bold("Servers"));
    }
    let shown = if details { report.servers.len() } else { SHOWN };
    for one in report.servers.iter().take(shown) {
        server(&mut text, one, paint, details);
    }
    if report.servers_total > shown as u64 {
        let _ = writeln!(text, "    … and {} more", report.servers_total - shown as u64);
    }
    if !report.heartbeats.is_empty() {
        let _ = writeln!(text, "\n  {}", paint.bold("Heartbeats"));
        for heartbeat in &report.heartbeats {
            let condition = match heartbeat.condition {
                HeartbeatCondition::Changing => paint.good("changing  "),
                HeartbeatCondition::Frozen => paint.bad("frozen    "),
                HeartbeatCondition::Unknown => paint.doubtful("unknown   "),
                HeartbeatCondition::NotPolled => paint.doubtful("not polled"),
            };
            let since = heartbeat.since.filter(|_| heartbeat.condition == HeartbeatCondition::Frozen);
            let since = since.map_or_else(String::new, |since| format!(" since {}", since.to_millis()));
            let value = heartbeat.value.map_or_else(String::new, |value| format!(" at {value}"));
            let _ = writeln!(
                text,
                "    {condition}  {} of {}, offset {} at {}: seen {}, changed {}{value}{since}",
                heartbeat.id,
                heartbeat.component,
                heartbeat.wire_offset,
                heartbeat.server,
                many(heartbeat.seen, "time"),
                many(heartbeat.changes, "time")
            );
        }
    }
    text.push('\n');
    text
}

fn many(count: u64, what: &str) -> String {
    format!("{count} {what}{}", if count == 1 { "" } else { "s" })
}

fn finding(text: &mut String, finding: &Finding, paint: Paint, width: usize) {
    let code = match finding.severity {
        Severity::Alarm => paint.bad(&format!("alarm    {}", finding.code)),
        Severity::Warning => paint.doubtful(&format!("warning  {}", finding.code)),
        Severity::Info => paint.faint(&format!("note     {}", finding.code)),
    };
    let endpoint = finding.endpoint_id.as_ref().map_or_else(String::new, |id| format!("  {id}"));
    let _ = writeln!(text, "  {code}{}", paint.faint(&endpoint));
    for line in wrap(&finding.message, width.saturating_sub(11).max(40)) {
        let _ = writeln!(text, "           {line}");
    }
    let mut evidence = Vec::new();
    match (finding.first_at, finding.last_at) {
        (Some(first), Some(last)) if first == last => evidence.push(format!("at {}", first.to_millis())),
        (Some(first), Some(last)) => evidence.push(format!("{} to {}", first.to_millis(), last.to_millis())),
        _ => {}
    }
    if !finding.packets.is_empty() {
        let numbers: Vec<String> = finding.packets.iter().map(u64::to_string).collect();
        evidence.push(format!("{} {}", if numbers.len() == 1 { "packet" } else { "packets" }, numbers.join(", ")));
    }
    if !evidence.is_empty() {
        let _ = writeln!(text, "           {}", paint.faint(&evidence.join("; ")));
    }
}

/// `median 4.2, 95 % 8.0, at most 12.5 ms`.
fn spread(times: &ResponseTimes) -> String {
    match (times.median, times.p95) {
        (Some(median), Some(p95)) => format!("median {median:.3}, 95 % {p95:.3}, at most {:.3} ms", times.max),
        _ => format!("mean {:.3}, at most {:.3} ms", times.mean, times.max),
    }
}

fn server(text: &mut String, server: &ServerReport, paint: Paint, details: bool) {
    let place = match (server.address, server.port) {
        (Some(address), Some(port)) => std::net::SocketAddr::new(address, port).to_string(),
        _ => "all others".to_owned(),
    };
    let mark = match server.worst {
        Some(Severity::Alarm) => paint.bad("!"),
        Some(Severity::Warning) => paint.doubtful("!"),
        _ => " ".to_owned(),
    };
    let protocol = server.protocol.map_or("", |protocol| protocol.as_str());
    let mut parts = vec![format!("{} from {}", many(server.packets, "packet"), many(server.clients.len() as u64, "client"))];
    if let Some(modbus) = &server.modbus {
        parts.push(format!("{}, {} answered", many(modbus.requests, "request"), modbus.responses));
        let figures = [
            ("exceptions", modbus.exceptions),
            ("unanswered", modbus.unanswered),
            ("late", modbus.late),
            ("malformed", modbus.malformed),
        ];
        parts.extend(figures.into_iter().filter(|(_, count)| *count > 0).map(|(what, count)| format!("{count} {what}")));
        parts.extend(modbus.response_ms.as_ref().map(spread));
    }
    if let Some(dnp3) = &server.dnp3 {
        parts.push(format!("{}, {} answered, {} unsolicited", many(dnp3.requests, "request"), dnp3.responses, dnp3.unsolicited));
        let figures = [("unanswered", dnp3.unanswered), ("unconfirmed", dnp3.unconfirmed), ("check sum errors", dnp3.crc_errors)];
        parts.extend(figures.into_iter().filter(|(_, count)| *count > 0).map(|(what, count)| format!("{count} {what}")));
        parts.extend(dnp3.response_ms.as_ref().map(spread));
    }
    let tcp = &server.tcp;
    let figures = [
        ("refused", tcp.refused),
        ("attempts unanswered", tcp.unanswered),
        ("resets", tcp.resets_by_client + tcp.resets_by_server),
        ("sent again", tcp.retransmissions),
        ("reconnects", tcp.reconnects),
        ("half-open", tcp.half_open),
        ("gaps never filled", tcp.lost_on_the_way),
    ];
    parts.extend(figures.into_iter().filter(|(_, count)| *count > 0).map(|(what, count)| format!("{count} {what}")));
    let _ = writeln!(text, "  {mark} {place:<22} {protocol:<6} {}", parts.join(", "));
    if !server.endpoint_ids.is_empty() {
        let _ = writeln!(text, "      {}", paint.faint(&server.endpoint_ids.join(", ")));
    }
    if details {
        detail(text, server);
    }
}

/// What came of what a client asked.
fn conversation(client: &ClientReport) -> String {
    let mut words = String::new();
    if client.requests > 0 {
        let _ = write!(words, ", {}, {} answered", many(client.requests, "request"), client.responses);
    }
    let figures = [
        ("exceptions", client.exceptions),
        ("unanswered", client.unanswered),
        ("sent again", client.retransmissions),
        ("resets", client.resets),
    ];
    for (what, count) in figures.into_iter().filter(|(_, count)| *count > 0) {
        let _ = write!(words, ", {count} {what}");
    }
    words
}

fn detail(text: &mut String, server: &ServerReport) {
    for client in &server.clients {
        let address = client.address.map_or_else(|| "others".to_owned(), |address| address.to_string());
        let _ = writeln!(
            text,
            "      client {address}: {}, {}, {}{}",
            many(client.packets, "packet"),
            many(client.connections, "connection"),
            many(client.reconnects, "reconnect"),
            conversation(client)
        );
    }
    for reconnect in &server.tcp.latest_reconnects {
        let (client, at) = (reconnect.client, reconnect.at.to_millis());
        let gap_s = reconnect.gap_ms / 1e3;
        let _ = writeln!(text, "      {client} connected anew at {at}, {gap_s:.3} s after an end (packet {})", reconnect.packet);
    }
    if let Some(times) = &server.tcp.handshake_ms {
        let _ = writeln!(text, "      handshake: mean {:.3}, at most {:.3} ms", times.mean, times.max);
    }
    if let Some(modbus) = &server.modbus {
        for function in &modbus.functions {
            let _ =
                writeln!(text, "      {} (function {}): {}", function.name, function.function, many(function.requests, "request"));
        }
        for exception in &modbus.exception_codes {
            let _ = writeln!(text, "      {}: {}, {}", exception.text, many(exception.count, "time"), exception.queries);
        }
        for unit in &modbus.units {
            let times = unit.response_ms.as_ref().map_or_else(String::new, |times| format!(", {}", spread(times)));
            let _ = writeln!(
                text,
                "      unit {}: {}, {} answered, {} exceptions, {} unanswered{times}",
                unit.unit_id,
                many(unit.requests, "request"),
                unit.responses,
                unit.exceptions,
                unit.unanswered
            );
        }
        for poll in &modbus.polls {
            let _ = writeln!(
                text,
                "      {} every {} ms (± {}, at most {}): {}",
                poll.client, poll.period_ms, poll.jitter_ms, poll.longest_ms, poll.query
            );
        }
        if modbus.polls_left_out > 0 {
            let _ = writeln!(text, "      and {} more polls", modbus.polls_left_out);
        }
        if modbus.polls_not_measured > 0 {
            let requests = many(modbus.polls_not_measured, "request");
            let _ = writeln!(text, "      and {requests} whose period was not measured: too many different queries");
        }
    }
    if let Some(dnp3) = &server.dnp3 {
        for [master, outstation] in &dnp3.links {
            let _ = writeln!(text, "      master {master} to outstation {outstation}");
        }
        for bit in &dnp3.indications {
            let still = if bit.still_set { ", still set at the end" } else { "" };
            let _ = writeln!(text, "      {} in {}{still}", bit.indication, many(bit.responses, "response"));
        }
    }
}

/// What came of several files, in a line each.
pub(super) fn overall(reports: &[AnalysisReport], paint: Paint) -> String {
    let mut text = format!("{}\n", paint.bold("All files"));
    for report in reports {
        let verdict = match report.verdict {
            AnalysisVerdict::Clean => paint.good("clean  "),
            AnalysisVerdict::Suspect => paint.bad("SUSPECT"),
        };
        let reason = report.reasons.first().map_or_else(String::new, |reason| format!("  {reason}"));
        let _ = writeln!(text, "  {verdict}  {}{reason}", report.file.as_deref().unwrap_or_default());
    }
    let suspect = reports.iter().filter(|report| report.verdict == AnalysisVerdict::Suspect).count();
    let _ = writeln!(text, "{suspect} of {} suspect", many(reports.len() as u64, "file"));
    text
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
