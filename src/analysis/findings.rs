//! From what was counted to findings in words.

use super::{
    around::Around,
    catalogue::{self, Entry},
    dnp3::Dnp3Service,
    evidence::Counters,
    flow::{Flow, unanswered_attempts},
    modbus::{ModbusService, is_acknowledged},
    queries::QueryTally,
    service::Service,
    shared::Shared,
    tally::Tally,
};
use crate::{
    api::{ArpView, Finding, HeartbeatKind, IcmpUnreachable, Severity, UtcTime, is_one_in},
    protocol::{dnp3::Indications, modbus},
};
use std::net::IpAddr;

/// A server that sent fewer packets never talked.
const TALKED_AT_LEAST: u64 = 4;
/// Heartbeats that a message names.
const NAMED_HEARTBEATS: usize = 5;
/// Addresses that a message names.
const NAMED_ADDRESSES: usize = 5;

/// A finding about no endpoint, so far.
pub(super) fn finding(entry: &Entry, severity: Severity, tally: &Tally, message: String) -> Finding {
    Finding {
        code: entry.code.to_owned(),
        severity,
        count: tally.count,
        first_at: tally.first_at(),
        last_at: tally.last_at(),
        endpoint_id: None,
        message,
        packets: tally.packets(),
    }
}

/// `1 request`, `2 requests`, `3 retries`, `4 addresses`.
pub(super) fn many(count: u64, what: &str) -> String {
    match what {
        _ if count == 1 => format!("1 {what}"),
        what if what.ends_with("ss") => format!("{count} {what}es"),
        what => match what.strip_suffix("ry") {
            Some(stem) => format!("{count} {stem}ries"),
            None => format!("{count} {what}s"),
        },
    }
}

/// `was` or `were`.
fn were(count: u64) -> &'static str {
    if count == 1 { "was" } else { "were" }
}

/// How messages name a server: by its address, and by what its config calls it.
pub(super) fn label(service: &Service, name: Option<&str>) -> String {
    match (service.address, name) {
        (None, _) => "other servers".to_owned(),
        (Some(address), None) => address.to_string(),
        (Some(address), Some(name)) => format!("{address} ({name})"),
    }
}

/// The findings about one server, which messages name as `server`. `flows` are its connections that are remembered.
pub(super) fn of_service<'a>(
    service: &Service,
    server: &str,
    flows: impl Iterator<Item = &'a Flow> + Clone,
    shared: &Shared,
) -> Vec<Finding> {
    let mut findings = Vec::new();
    tcp(service, flows.clone(), shared, server, &mut findings);
    icmp(&service.icmp.list(|_| true), &service.icmp.tally, server, &mut findings);
    if let Some(modbus) = service.modbus.as_ref().filter(|modbus| modbus.is_seen()) {
        let (mut unanswered, mut acknowledged) = (modbus.unanswered.clone(), modbus.unanswered_acknowledged);
        for (flow, reader) in flows.clone().filter_map(|flow| Some((flow, flow.modbus()?))) {
            for (query, arrival) in reader.overdue(shared) {
                unanswered.add(query, arrival.stamp);
                acknowledged += u64::from(is_acknowledged(&arrival, flow.acknowledged()));
            }
        }
        of_modbus(modbus, &unanswered, acknowledged, shared, server, &mut findings);
        heartbeats(modbus, shared, server, &mut findings);
    }
    silence(service, flows.clone(), shared, server, &mut findings);
    if let Some(dnp3) = &service.dnp3 {
        let (mut unanswered, mut unconfirmed) = (dnp3.unanswered.clone(), dnp3.unconfirmed.clone());
        let mut link_unacknowledged = dnp3.link_unacknowledged;
        for flow in flows.filter_map(Flow::dnp3) {
            link_unacknowledged.merge(&flow.link_unacknowledged(shared));
            flow.overdue(shared).for_each(|(query, arrival)| unanswered.add(query, arrival.stamp));
            flow.unconfirmed(shared).for_each(|(query, arrival)| unconfirmed.add(query, arrival.stamp));
        }
        queries(catalogue::DNP3_UNANSWERED, Severity::Warning, &unanswered, &mut findings, |count, words| {
            let seconds = shared.limits.response_timeout as f64 / 1e9;
            let requests = many(dnp3.requests, "DNP3 request");
            format!("{count} of {requests} at {server} had no answer within {seconds} s: {words}")
        });
        queries(catalogue::DNP3_UNCONFIRMED, Severity::Warning, &unconfirmed, &mut findings, |count, words| {
            format!("{} at {server} asked to be confirmed and {} not: {words}", many(count, "DNP3 message"), were(count))
        });
        if link_unacknowledged.count > 0 {
            let frames = many(link_unacknowledged.count, "DNP3 link frame");
            let message =
                format!("{frames} to or from {server} asked to be acknowledged and {} not", were(link_unacknowledged.count));
            findings.push(finding(catalogue::DNP3_LINK_UNACKNOWLEDGED, Severity::Warning, &link_unacknowledged, message));
        }
        of_dnp3(dnp3, shared, server, &mut findings);
        // Of servers that are not told apart each may have its own pair of these addresses.
        if let Some(((master, outstation), masters, turns)) = dnp3.links.shared().filter(|_| service.address.is_some()) {
            let message =
                format!("{} ask {server} in turn as the same master {master} of outstation {outstation}", masters.join(" and "));
            findings.push(finding(catalogue::DNP3_TWO_MASTERS, Severity::Alarm, turns, message));
        }
    }
    findings
}

fn tcp<'a>(
    service: &Service,
    flows: impl Iterator<Item = &'a Flow> + Clone,
    shared: &Shared,
    server: &str,
    findings: &mut Vec<Finding>,
) {
    // What other services suffer from is no concern of a plant's operator.
    let is_ours = service.watched || service.protocol.is_some();
    let severity_of_ours = if is_ours { Severity::Warning } else { Severity::Info };
    let mut half_open = service.half_open;
    flows.clone().filter_map(|flow| flow.half_open(shared)).for_each(|found| half_open.add(found));
    let (mut closed, mut still_closed) = (service.zero_window_times, 0);
    for (ns, still) in flows.clone().flat_map(|flow| flow.closed_windows(shared.now)) {
        closed.add(ns);
        still_closed += u64::from(still);
    }
    // An attempt that an ICMP message answered is told by that message.
    let mut unanswered = service.syn_in_silence;
    unanswered.merge(&unanswered_attempts(flows.filter(|flow| !service.icmp.quotes(flow.client)), shared));
    if unanswered.count > 0 {
        let severity = if service.accepted == 0 { Severity::Alarm } else { Severity::Warning };
        let accepted = match service.accepted {
            0 => String::new(),
            accepted => format!("; {accepted} {} accepted", if accepted == 1 { "other was" } else { "others were" }),
        };
        let attempts = many(unanswered.count, "connection attempt");
        let retries = match service.syn_retries.count {
            0 => String::new(),
            retries => format!(" ({})", many(retries, "retry")),
        };
        let message = format!("{attempts} to {server} {} not answered{retries}{accepted}", were(unanswered.count));
        findings.push(finding(catalogue::TCP_SYN_UNANSWERED, severity, &unanswered, message));
    } else if service.syn_retries.count > 0 {
        let retries = &service.syn_retries;
        let message = format!("connecting to {server} took {} of the SYN", many(retries.count, "retry"));
        findings.push(finding(catalogue::TCP_SYN_RETRIED, Severity::Warning, retries, message));
    }
    if service.refused.count > 0 {
        let severity = if service.accepted == 0 { Severity::Alarm } else { Severity::Warning };
        let attempts = many(service.refused.count, "connection attempt");
        let message = format!("{attempts} to {server} {} refused: nothing listens there", were(service.refused.count));
        findings.push(finding(catalogue::TCP_REFUSED, severity, &service.refused, message));
    }
    if service.resets.count > 0 {
        let message = format!("{} to {server} {} reset", many(service.resets.count, "connection"), were(service.resets.count));
        findings.push(finding(catalogue::TCP_RESET, Severity::Warning, &service.resets, message));
    }
    let all_half_open = half_open.total();
    if all_half_open.count > 0 {
        let message = format!("{} to {server}: {}", many(all_half_open.count, "half-open connection"), half_open.in_words());
        findings.push(finding(catalogue::TCP_HALF_OPEN, severity_of_ours, &all_half_open, message));
    }
    let (reconnects, gaps, forced) = service.clients.reconnects();
    if reconnects.count > 0 {
        let severity =
            if forced > 0 && forced >= shared.limits.reconnects_min && is_ours { Severity::Warning } else { Severity::Info };
        let times = if reconnects.count == 1 { "once".to_owned() } else { format!("{} times", reconnects.count) };
        let gap = gaps.max_ms() / 1e3;
        let why = match forced {
            0 => "each time the client had closed the connection itself".to_owned(),
            all if all == reconnects.count => "none of the ends was the client's own close".to_owned(),
            some => format!("{some} of the ends {} not the client's own close", were(some)),
        };
        let message = format!("{server} was connected to anew {times}, {gap:.1} s after an end at most; {why}");
        findings.push(finding(catalogue::TCP_RECONNECTS, severity, &reconnects, message));
    }
    if service.zero_windows.count > 0 {
        let still = match still_closed {
            0 => String::new(),
            1 => ", and one is still closed".to_owned(),
            several => format!(", and {several} are still closed"),
        };
        let longest = format!(", for {:.3} s at most{still}", closed.max_ms() / 1e3);
        let times = many(service.zero_windows.count, "time");
        let message =
            format!("a side of the connections to {server} closed its window {times}{longest}: it does not read fast enough");
        findings.push(finding(catalogue::TCP_ZERO_WINDOW, severity_of_ours, &service.zero_windows, message));
    }
    if service.lost_segments.count > 0 {
        let gaps = many(service.lost_segments.count, "gap");
        let message = format!("{gaps} in the streams to and from {server}: the receiver has the bytes, the capture has not");
        findings.push(finding(catalogue::CAPTURE_LOST_SEGMENTS, Severity::Info, &service.lost_segments, message));
    }
    if service.lost_on_the_way.count > 0 {
        let gaps = many(service.lost_on_the_way.count, "gap");
        let message = format!("{gaps} in the streams to and from {server}: the receiver waited for the bytes, and they never came");
        findings.push(finding(catalogue::TCP_SEGMENTS_LOST, severity_of_ours, &service.lost_on_the_way, message));
    }
    let retransmissions = &service.retransmissions;
    if retransmissions.count > 0 {
        let part = retransmissions.count as f64 / (service.payload_segments.max(1)) as f64;
        let limits = &shared.limits;
        let matters = retransmissions.count >= limits.retransmissions_min
            && is_one_in(retransmissions.count, limits.retransmissions_one_in, service.payload_segments);
        let severity = if matters { Severity::Warning } else { Severity::Info };
        let segments = many(service.payload_segments, "segment");
        let (fast, spurious) = (service.fast_retransmissions, service.spurious_retransmissions);
        let timeout = service.timeout_retransmissions();
        let kinds =
            format!("; {fast} because the receiver asked for them, {timeout} after a time-out, {spurious} that it had already");
        let message = format!(
            "{} sent again to or from {server}, of {segments} with payload ({:.1} %){kinds}",
            retransmissions.count,
            part * 100.0
        );
        findings.push(finding(catalogue::TCP_RETRANSMISSIONS, severity, retransmissions, message));
    }
}

/// The finding about ICMP messages, if there are any.
pub(super) fn icmp(list: &[IcmpUnreachable], tally: &Tally, target: &str, findings: &mut Vec<Finding>) {
    let Some(first) = list.first() else { return };
    let more = match list.len() {
        1 => String::new(),
        length => format!(", and {}", many(length as u64 - 1, "other kind")),
    };
    let who = if target.starts_with(&first.from.to_string()) { "the host itself".to_owned() } else { first.from.to_string() };
    let message = format!("{target} cannot be reached: {who} says {}{more}", first.meaning);
    findings.push(finding(catalogue::ICMP_UNREACHABLE, Severity::Alarm, tally, message));
}

fn queries<Q: Copy + Eq + Ord + std::fmt::Display>(
    entry: &Entry,
    severity: Severity,
    tally: &QueryTally<Q>,
    findings: &mut Vec<Finding>,
    message: impl FnOnce(u64, String) -> String,
) {
    if tally.count() > 0 {
        findings.push(finding(entry, severity, &tally.tally, message(tally.count(), tally.in_words())));
    }
}

fn of_modbus(
    service: &ModbusService,
    unanswered: &QueryTally<modbus::Query>,
    acknowledged: u64,
    shared: &Shared,
    server: &str,
    findings: &mut Vec<Finding>,
) {
    let timeout_s = shared.limits.response_timeout as f64 / 1e9;
    let slow_s = shared.limits.slow_response as f64 / 1e9;
    queries(catalogue::MODBUS_UNANSWERED, Severity::Warning, unanswered, findings, |count, words| {
        let requests = many(service.requests, "Modbus request");
        let where_lost = match acknowledged {
            0 => String::new(),
            all if all == count => "; its TCP acknowledged them, so the device has them and does not answer".to_owned(),
            some => format!("; its TCP acknowledged {some} of them"),
        };
        format!("{count} of {requests} to {server} had no answer within {timeout_s} s: {words}{where_lost}")
    });
    queries(catalogue::MODBUS_LATE, Severity::Warning, &service.late, findings, |count, words| {
        let longest = service.times.max_ms() / 1e3;
        let answers = many(count, "Modbus answer");
        format!("{answers} of {server} came later than {timeout_s} s, the longest after {longest:.1} s: {words}")
    });
    queries(catalogue::MODBUS_SLOW, Severity::Warning, &service.slow, findings, |count, words| {
        format!("{} of {server} took {slow_s} s or more: {words}", many(count, "Modbus answer"))
    });
    for (code, tally) in &service.exceptions {
        queries(catalogue::MODBUS_EXCEPTIONS, Severity::Warning, tally, findings, |count, words| {
            let requests = many(service.requests, "request");
            format!("{server} answered {count} of {requests} with {}: {words}", modbus::exception_text(*code))
        });
    }
    queries(catalogue::MODBUS_EXCEPTIONS, Severity::Warning, &service.other_exceptions, findings, |count, words| {
        let requests = many(service.requests, "request");
        format!("{server} answered {count} of {requests} with exceptions of still other codes: {words}")
    });
    let strays = &service.strays;
    for (entry, tally, what) in [
        (catalogue::MODBUS_DUPLICATE, &strays.duplicates, "came a second time"),
        (catalogue::MODBUS_WRONG_ID, &strays.wrong_id, "fit a request that waits, but for the transaction id"),
        (catalogue::MODBUS_WRONG_UNIT, &strays.wrong_address, "fit a request that waits, but for the unit id"),
    ] {
        if tally.count > 0 {
            let message = format!("{} of {server} {what}", many(tally.count, "Modbus answer"));
            findings.push(finding(entry, Severity::Warning, tally, message));
        }
    }
    if strays.unexpected.count > 0 {
        let message = format!("{} of {server} to no request that was seen", many(strays.unexpected.count, "Modbus answer"));
        findings.push(finding(catalogue::MODBUS_UNEXPECTED, Severity::Info, &strays.unexpected, message));
    }
    if service.malformed.count > 0 {
        let places = many(service.malformed.count, "place");
        let message = format!("{places} in the streams to and from {server} where a Modbus TCP frame should begin and none does");
        findings.push(finding(catalogue::MODBUS_MALFORMED, Severity::Warning, &service.malformed, message));
    }
    if service.wrong_length.count > 0 {
        let frames = many(service.wrong_length.count, "Modbus TCP frame");
        let message = format!("{frames} to or from {server} of another length than the function and the byte count in it say");
        findings.push(finding(catalogue::MODBUS_MALFORMED, Severity::Warning, &service.wrong_length, message));
    }
    queries(catalogue::MODBUS_MISFIT, Severity::Warning, &service.misfits, findings, |count, words| {
        let are = if count == 1 { "is" } else { "are" };
        format!(
            "{} of {server} {are} of another size or for another place than was asked for: {words}",
            many(count, "Modbus answer")
        )
    });
}

/// Registers that should change and do not, and those that nobody asks for.
fn heartbeats(service: &ModbusService, shared: &Shared, server: &str, findings: &mut Vec<Finding>) {
    for state in &service.heartbeats {
        let watch = &state.watch;
        let what = format!("the heartbeat {} of {} (offset {} at {server})", watch.id, watch.component, watch.wire_offset);
        let what_not = if watch.kind == HeartbeatKind::Write { "written" } else { "read" };
        if let (Some(since), Some(latest)) = (state.frozen_since(shared.limits.heartbeat_timeout), state.latest) {
            let seconds = latest.at.saturating_sub(since.at) as f64 / 1e9;
            let mut tally = Tally::default();
            [since, latest].into_iter().for_each(|stamp| tally.add(stamp));
            let value = state.value().unwrap_or_default();
            let message = format!("{what} stays at {value} since {} ({seconds:.1} s)", UtcTime::from_unix_ns(since.at).to_millis());
            findings.push(finding(catalogue::HEARTBEAT_FROZEN, Severity::Alarm, &tally, message));
        } else if state.seen == 0 {
            // What nobody answers is told of the requests.
            if watch.kind == HeartbeatKind::Write || service.responses > 0 {
                let message =
                    format!("{what} is never {what_not}, although its server is asked {}", many(service.requests, "time"));
                findings.push(finding(catalogue::HEARTBEAT_NOT_SEEN, Severity::Warning, &Tally::without_evidence(1), message));
            }
        } else if let Some(latest) = state.stopped_at(shared.now, shared.limits.heartbeat_timeout) {
            let seconds = shared.now.saturating_sub(latest.at) as f64 / 1e9;
            let message =
                format!("{what} is {what_not} no more since {} ({seconds:.1} s)", UtcTime::from_unix_ns(latest.at).to_millis());
            findings.push(finding(catalogue::HEARTBEAT_NOT_SEEN, Severity::Warning, &Tally::between(1, [latest]), message));
        }
    }
}

/// One finding for all the heartbeats of a server with which nobody speaks Modbus.
pub(super) fn heartbeats_of_nobody(service: &Service, server: &str, shared: &Shared, span: (i64, i64)) -> Option<Finding> {
    let modbus = service.modbus.as_ref().filter(|modbus| !modbus.is_seen())?;
    // The address of a listener on all addresses is that of no server.
    service.address.filter(|address| !address.ip().is_unspecified())?;
    let count = modbus.heartbeats.len() as u64;
    let is_long = span.1.saturating_sub(span.0) > shared.limits.heartbeat_timeout;
    let ids: Vec<&str> = modbus.heartbeats.iter().take(NAMED_HEARTBEATS).map(|state| state.watch.id.as_str()).collect();
    let more = match count.saturating_sub(NAMED_HEARTBEATS as u64) {
        0 => String::new(),
        more => format!(" and {more} more"),
    };
    let heartbeats = if count == 1 { "the heartbeat" } else { "the heartbeats" };
    let message = format!(
        "nobody asks {server} by Modbus, so that {heartbeats} {}{more} {} not polled",
        ids.join(", "),
        if count == 1 { "is" } else { "are" }
    );
    (count > 0 && is_long)
        .then(|| finding(catalogue::HEARTBEAT_NOT_SEEN, Severity::Warning, &Tally::without_evidence(count), message))
}

/// A server that talked and says nothing any more, although it is asked or used to speak by itself.
fn silence<'a>(
    service: &Service,
    mut flows: impl Iterator<Item = &'a Flow>,
    shared: &Shared,
    server: &str,
    findings: &mut Vec<Finding>,
) {
    // Of servers that are not told apart, one may be silent while another talks.
    if service.address.is_none() || service.server_packets < TALKED_AT_LEAST {
        return;
    }
    let (now, limit) = (shared.now, shared.limits.silence);
    let time = |at: i64| UtcTime::from_unix_ns(at).to_millis();
    if let Some(spell) = service.silence.lasting(service.server_last, now, limit) {
        let seconds = now.saturating_sub(spell.from.at) as f64 / 1e9;
        let asked = many(spell.asked, "time");
        let message = format!(
            "{server} talked until {} and has said nothing since, for {seconds:.1} s, although it was asked {asked}",
            time(spell.from.at)
        );
        let tally = Tally::between(1, [spell.from, spell.to]);
        findings.push(finding(catalogue::HOST_SILENT, Severity::Alarm, &tally, message));
    } else if let Some((latest, pause)) = service.silence.fell_silent(now, limit).filter(|_| flows.any(Flow::is_open)) {
        let seconds = now.saturating_sub(latest.at) as f64 / 1e9;
        let pause = pause as f64 / 1e9;
        let message = format!(
            "{server} spoke by itself every {pause:.1} s at the latest until {}, and has said nothing since, for {seconds:.1} s",
            time(latest.at)
        );
        findings.push(finding(catalogue::HOST_SILENT, Severity::Alarm, &Tally::between(1, [latest]), message));
    } else if let Some(over) = service.silence.over() {
        let spell = over.longest;
        let seconds = spell.to.at.saturating_sub(spell.from.at) as f64 / 1e9;
        let more = match over.count {
            1 => String::new(),
            spells => format!("; it was silent for so long {} more", many(spells - 1, "time")),
        };
        let message = format!(
            "{server} said nothing from {} to {}, for {seconds:.1} s, although it was asked {}{more}",
            time(spell.from.at),
            time(spell.to.at),
            many(spell.asked, "time")
        );
        let tally = Tally::between(over.count, [over.from, spell.from, spell.to, over.to]);
        findings.push(finding(catalogue::HOST_SILENT, Severity::Warning, &tally, message));
    }
}

fn of_dnp3(service: &Dnp3Service, shared: &Shared, server: &str, findings: &mut Vec<Finding>) {
    let timeout_s = shared.limits.response_timeout as f64 / 1e9;
    let slow_s = shared.limits.slow_response as f64 / 1e9;
    queries(catalogue::DNP3_LATE, Severity::Warning, &service.late, findings, |count, words| {
        let longest = service.times.max_ms() / 1e3;
        let answers = many(count, "DNP3 answer");
        format!("{answers} of {server} came later than {timeout_s} s, the longest after {longest:.1} s: {words}")
    });
    queries(catalogue::DNP3_SLOW, Severity::Warning, &service.slow, findings, |count, words| {
        format!("{} of {server} took {slow_s} s or more: {words}", many(count, "DNP3 answer"))
    });
    let mut crc_errors = service.header_crc_errors;
    crc_errors.merge(&service.data_crc_errors);
    if crc_errors.count > 0 {
        let (headers, blocks) = (service.header_crc_errors.count, service.data_crc_errors.count);
        let frames = many(crc_errors.count, "DNP3 frame");
        let message =
            format!("{frames} to or from {server} with a wrong check sum ({headers} in the header, {blocks} in the data)");
        findings.push(finding(catalogue::DNP3_CRC_ERRORS, Severity::Warning, &crc_errors, message));
    }
    let mut unexpected = service.strays.unexpected;
    unexpected.merge(&service.strays.duplicates);
    if unexpected.count > 0 {
        let message = format!("{} of {server} to no request that was seen", many(unexpected.count, "DNP3 response"));
        findings.push(finding(catalogue::DNP3_UNEXPECTED, Severity::Info, &unexpected, message));
    }
    let wrong_address = &service.strays.wrong_address;
    if wrong_address.count > 0 {
        let responses = many(wrong_address.count, "DNP3 response");
        let message = format!("{responses} of {server} fit a request that waits, but for the outstation's link address");
        findings.push(finding(catalogue::DNP3_WRONG_ADDRESS, Severity::Warning, wrong_address, message));
    }
    if service.link_resets.count > 0 {
        let message = format!("the link to the outstation at {server} was reset {}", many(service.link_resets.count, "time"));
        findings.push(finding(catalogue::DNP3_LINK_RESET, Severity::Info, &service.link_resets, message));
    }
    if service.segments_lost.count > 0 {
        let message = format!("{} to or from {server} lost a part", many(service.segments_lost.count, "DNP3 message"));
        findings.push(finding(catalogue::DNP3_SEGMENTS_LOST, Severity::Warning, &service.segments_lost, message));
    }
    let bits = [
        (catalogue::DNP3_DEVICE_RESTART, Severity::Warning, Indications::DEVICE_RESTART),
        (catalogue::DNP3_NEED_TIME, Severity::Warning, Indications::NEED_TIME),
        (catalogue::DNP3_DEVICE_TROUBLE, Severity::Alarm, Indications::DEVICE_TROUBLE),
        (catalogue::DNP3_EVENTS_LOST, Severity::Warning, Indications::EVENT_BUFFER_OVERFLOW),
        (catalogue::DNP3_CONFIG_CORRUPT, Severity::Alarm, Indications::CONFIG_CORRUPT),
        (catalogue::DNP3_REFUSED, Severity::Warning, Indications::NO_FUNCTION_CODE_SUPPORT),
        (catalogue::DNP3_REFUSED, Severity::Warning, Indications::OBJECT_UNKNOWN),
        (catalogue::DNP3_REFUSED, Severity::Warning, Indications::PARAMETER_ERROR),
    ];
    for (entry, severity, bit) in bits {
        let tally = service.indicated(bit);
        if tally.count > 0 {
            let responses = many(service.indicating, "response");
            let still = if service.latest_indications.contains(bit) { "still set at the end" } else { "no longer set at the end" };
            let message = format!("the outstation at {server} says \"{bit}\" in {} of {responses}, {still}", tally.count);
            findings.push(finding(entry, severity, &tally, message));
        }
    }
}

/// The finding about questions for an address that nobody answered, if there are any. `of` is the endpoint's address, when
/// `address` is that of the gateway to it.
pub(super) fn arp(address: IpAddr, view: Option<&ArpView>, unanswered: &Tally, of: Option<IpAddr>) -> Option<Finding> {
    let view = view.filter(|_| unanswered.count > 0)?;
    let severity = if view.answered == 0 { Severity::Alarm } else { Severity::Info };
    let what = match of {
        Some(endpoint) => format!("{address}, the gateway to {endpoint}"),
        None => address.to_string(),
    };
    let how = if address.is_ipv4() { "ARP" } else { "neighbour discovery" };
    let message = format!("{} of {} by {how} for {what} not answered", unanswered.count, many(view.asked, "question"));
    Some(finding(catalogue::ARP_UNANSWERED, severity, unanswered, message))
}

/// One finding for all addresses that nobody answered for.
pub(super) fn arp_of_many(silent: &mut [(IpAddr, Tally)]) -> Option<Finding> {
    silent.sort_by_key(|(address, _)| *address);
    let mut tally = Tally::default();
    silent.iter().for_each(|(_, unanswered)| tally.merge(unanswered));
    let named: Vec<String> = silent.iter().take(NAMED_ADDRESSES).map(|(address, _)| address.to_string()).collect();
    let more = match silent.len().saturating_sub(NAMED_ADDRESSES) {
        0 => String::new(),
        more => format!(" and {}", many(more as u64, "other address")),
    };
    let message = format!(
        "{} for the hardware address of {}{more} {} not answered",
        many(tally.count, "question"),
        named.join(", "),
        were(tally.count)
    );
    (tally.count > 0).then(|| finding(catalogue::ARP_UNANSWERED, Severity::Warning, &tally, message))
}

/// The finding about several hardware addresses for one address.
pub(super) fn two_macs(address: IpAddr, (macs, tally): (Vec<String>, Tally)) -> Finding {
    finding(catalogue::ARP_TWO_MACS, Severity::Warning, &tally, format!("{address} is claimed by {}", macs.join(" and by ")))
}

/// The findings about the capture itself.
pub(super) fn of_capture(counters: &Counters, undecodable: &Tally, cut: &Tally, around: &Around, one_sided: u64) -> Vec<Finding> {
    let mut findings = Vec::new();
    let mut add = |entry, severity, tally: &Tally, message| {
        if tally.count > 0 {
            findings.push(finding(entry, severity, tally, message));
        }
    };
    let of = many(counters.packets, "packet");
    add(
        catalogue::CAPTURE_UNDECODABLE,
        Severity::Warning,
        undecodable,
        format!("{} of {of} could not be decoded", undecodable.count),
    );
    add(
        catalogue::CAPTURE_CUT,
        Severity::Warning,
        cut,
        format!("{} of {of} {} cut by the snap length", cut.count, were(cut.count)),
    );
    let counted = Tally::without_evidence;
    let copies = counters.copies.segments + counters.copies.acks + counters.copies.datagrams;
    let message = format!("{} captured twice and counted once", many(copies, "packet"));
    add(catalogue::CAPTURE_COPIES, Severity::Info, &counted(copies), message);
    let forgotten = counters.flows_evicted + counters.hosts_evicted + counters.requests_evicted;
    let message = format!(
        "{}, {} and {} were forgotten to keep memory bounded",
        many(counters.flows_evicted, "connection"),
        many(counters.hosts_evicted, "address"),
        many(counters.requests_evicted, "request")
    );
    add(catalogue::CAPTURE_FORGOTTEN, Severity::Warning, &counted(forgotten), message);
    let dropped = format!("the recording host lost {}: what is missing may be there", many(around.dropped, "packet"));
    add(catalogue::CAPTURE_DROPPED, Severity::Warning, &counted(around.dropped), dropped);
    let back = format!("the clock was set back {}; times across it mean nothing", many(around.clock_set_back.count, "time"));
    add(catalogue::CAPTURE_CLOCK, Severity::Info, &around.clock_set_back, back);
    let sided =
        format!("of {} only one direction was captured; nothing can be said of answers there", many(one_sided, "connection"));
    add(catalogue::CAPTURE_ONE_SIDED, Severity::Warning, &counted(one_sided), sided);
    let changes = format!("bridges announced {} of the spanning tree", many(around.topology_changes.count, "change"));
    add(catalogue::LINK_TOPOLOGY_CHANGE, Severity::Warning, &around.topology_changes, changes);
    let storms = format!(
        "{} with a storm of broadcasts, {} frames to all in the worst",
        many(around.storms.count, "second"),
        around.storm_peak
    );
    add(catalogue::LINK_BROADCAST_STORM, Severity::Alarm, &around.storms, storms);
    if let Some((from, to)) = around.redirect {
        let redirects = format!("{from} says {} to {to} that another router is nearer", many(around.redirects.count, "time"));
        add(catalogue::ICMP_REDIRECT, Severity::Info, &around.redirects, redirects);
    }
    findings
}
