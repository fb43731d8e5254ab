//! From what was counted to findings in words.

use super::{
    catalogue::{self, Entry},
    dnp3::Dnp3Service,
    evidence::Counters,
    flow::{Flow, unanswered_attempts},
    modbus::ModbusService,
    queries::QueryTally,
    service::Service,
    shared::Shared,
    tally::Tally,
};
use crate::{
    api::{ArpView, Finding, IcmpUnreachable, Severity},
    protocol::{dnp3::Indications, modbus},
};
use std::net::IpAddr;

/// Retransmissions matter from this part of the segments with payload on ...
const RETRANSMISSIONS_PER_SEGMENT: f64 = 0.01;
/// ... and from this number on.
const RETRANSMISSIONS_AT_LEAST: u64 = 3;
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
fn many(count: u64, what: &str) -> String {
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

/// The findings about one server. `flows` are its connections that are remembered.
pub(super) fn of_service<'a>(service: &Service, flows: impl Iterator<Item = &'a Flow> + Clone, shared: &Shared) -> Vec<Finding> {
    let mut findings = Vec::new();
    let server = service.address.map_or_else(|| "other servers".to_owned(), |address| address.to_string());
    tcp(service, flows.clone(), shared, &server, &mut findings);
    icmp(&service.icmp.list(|_| true), &service.icmp.tally, &server, &mut findings);
    if let Some(modbus) = &service.modbus {
        let mut unanswered = modbus.unanswered.clone();
        flows
            .clone()
            .filter_map(Flow::modbus)
            .flat_map(|flow| flow.overdue(shared))
            .for_each(|(query, arrival)| unanswered.add(query, arrival.stamp));
        of_modbus(modbus, &unanswered, shared, &server, &mut findings);
    }
    if let Some(dnp3) = &service.dnp3 {
        let (mut unanswered, mut unconfirmed) = (dnp3.unanswered.clone(), dnp3.unconfirmed.clone());
        for flow in flows.filter_map(Flow::dnp3) {
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
        of_dnp3(dnp3, shared, &server, &mut findings);
    }
    findings
}

fn tcp<'a>(service: &Service, flows: impl Iterator<Item = &'a Flow>, shared: &Shared, server: &str, findings: &mut Vec<Finding>) {
    // An attempt that an ICMP message answered is told by that message.
    let mut unanswered = service.syn_unanswered;
    unanswered.merge(&unanswered_attempts(flows.filter(|flow| !service.icmp.quotes(flow.client)), shared));
    if unanswered.count > 0 {
        let severity = if service.syn_ack == 0 { Severity::Alarm } else { Severity::Warning };
        let accepted = match service.syn_ack {
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
        let severity = if service.syn_ack == 0 { Severity::Alarm } else { Severity::Warning };
        let attempts = many(service.refused.count, "connection attempt");
        let message = format!("{attempts} to {server} {} refused: nothing listens there", were(service.refused.count));
        findings.push(finding(catalogue::TCP_REFUSED, severity, &service.refused, message));
    }
    if service.resets.count > 0 {
        let message = format!("{} to {server} {} reset", many(service.resets.count, "connection"), were(service.resets.count));
        findings.push(finding(catalogue::TCP_RESET, Severity::Warning, &service.resets, message));
    }
    let retransmissions = &service.retransmissions;
    if retransmissions.count > 0 {
        let part = retransmissions.count as f64 / (service.payload_segments.max(1)) as f64;
        let matters = retransmissions.count >= RETRANSMISSIONS_AT_LEAST && part >= RETRANSMISSIONS_PER_SEGMENT;
        let severity = if matters { Severity::Warning } else { Severity::Info };
        let segments = many(service.payload_segments, "segment");
        let message =
            format!("{} sent again to or from {server}, of {segments} with payload ({:.1} %)", retransmissions.count, part * 100.0);
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
    shared: &Shared,
    server: &str,
    findings: &mut Vec<Finding>,
) {
    let timeout_s = shared.limits.response_timeout as f64 / 1e9;
    let slow_s = shared.limits.slow_response as f64 / 1e9;
    queries(catalogue::MODBUS_UNANSWERED, Severity::Warning, unanswered, findings, |count, words| {
        let requests = many(service.requests, "Modbus request");
        format!("{count} of {requests} to {server} had no answer within {timeout_s} s: {words}")
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
    if service.unexpected.count > 0 {
        let message = format!("{} of {server} to no request that was seen", many(service.unexpected.count, "Modbus answer"));
        findings.push(finding(catalogue::MODBUS_UNEXPECTED, Severity::Info, &service.unexpected, message));
    }
    if service.malformed.count > 0 {
        let places = many(service.malformed.count, "place");
        let message = format!("{places} in the streams to and from {server} where a Modbus TCP frame should begin and none does");
        findings.push(finding(catalogue::MODBUS_MALFORMED, Severity::Warning, &service.malformed, message));
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
    if service.unexpected.count > 0 {
        let message = format!("{} of {server} to no request that was seen", many(service.unexpected.count, "DNP3 response"));
        findings.push(finding(catalogue::DNP3_UNEXPECTED, Severity::Info, &service.unexpected, message));
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
pub(super) fn of_capture(counters: &Counters, undecodable: &Tally, cut: &Tally) -> Vec<Finding> {
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
    let copies = format!("{} captured twice and counted once", many(counters.copies.segments, "segment"));
    add(catalogue::CAPTURE_COPIES, Severity::Info, &counted(counters.copies.segments), copies);
    let forgotten = counters.flows_evicted + counters.hosts_evicted + counters.requests_evicted;
    let message = format!(
        "{}, {} and {} were forgotten to keep memory bounded",
        many(counters.flows_evicted, "connection"),
        many(counters.hosts_evicted, "address"),
        many(counters.requests_evicted, "request")
    );
    add(catalogue::CAPTURE_FORGOTTEN, Severity::Warning, &counted(forgotten), message);
    findings
}
