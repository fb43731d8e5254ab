//! One verdict per endpoint, out of what was probed, what this host's sockets show and what was on the wire.
//!
//! The rules, in the order in which they are asked:
//!
//! - A port that opens, or traffic that is answered, works, however ping fares.
//! - A port that refuses, times out or cannot be reached does not work; the wire says why.
//! - Where no connect was made, a live session works; a session whose requests stay unanswered is degraded; with nothing to see the
//!   verdict is unknown.
//! - Whether a port that this controller listens on works is told by its socket table alone.
//! - What works slowly, with retries or with many exceptions is degraded; so is what any finding speaks against, but for the warnings
//!   that [`bearable`] lists.

mod bearable;

use crate::{
    analysis::{Evidence, catalogue},
    api::{
        ConnectReport, ConnectState, DegradedFrom, Direction, Endpoint, Finding, Greeting, GreetingState, IcmpUnreachable,
        KernelView, ModbusView, PingReport, PingState, Severity, Transport, Verdict,
    },
};
use std::net::IpAddr;

/// All that is known of an endpoint when it is judged.
#[derive(Debug, Clone, Copy)]
pub struct Facts<'a> {
    /// The endpoint.
    pub endpoint: &'a Endpoint,
    /// What ping found.
    pub ping: &'a PingReport,
    /// What the port connect found.
    pub connect: &'a ConnectReport,
    /// What this host's sockets show; `None` if they could not be read.
    pub kernel: Option<&'a KernelView>,
    /// What was on the wire; `None` if nothing was captured.
    pub evidence: Option<&'a Evidence>,
    /// Without a capture: the address, the endpoint's or its gateway's, for which nobody answered by this host's neighbour table.
    pub silent_neighbour: Option<IpAddr>,
    /// How long a connect waited, in milliseconds.
    pub timeout_ms: u64,
    /// A handshake that takes longer than this is slow, in milliseconds.
    pub slow_connect_ms: u64,
    /// How much of what goes wrong the site bears.
    pub degraded_from: DegradedFrom,
}

/// A verdict, and why.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Judgement {
    /// The verdict.
    pub verdict: Verdict,
    /// One sentence that an operator understands.
    pub reason: String,
}

impl Judgement {
    fn new(verdict: Verdict, reason: impl Into<String>) -> Self {
        Self { verdict, reason: reason.into() }
    }
}

/// Judges one endpoint.
pub fn judge(facts: &Facts<'_>) -> Judgement {
    if facts.endpoint.transport == Transport::Rtu {
        return Judgement::new(Verdict::Skipped, "a serial line cannot be tested over the network");
    }
    let judgement = match (facts.endpoint.direction, facts.connect.state) {
        (Direction::Inbound, _) => inbound(facts),
        (Direction::Undetermined, _) => unprobed(facts),
        (Direction::Outbound, ConnectState::Skipped | ConnectState::NotRequested) => unprobed(facts),
        (Direction::Outbound, ConnectState::Open) => Judgement::new(Verdict::Ok, opened(facts)),
        (Direction::Outbound, ConnectState::Error) => Judgement::new(
            Verdict::Unknown,
            format!(
                "the port could not be tested from this host: {}",
                facts.connect.detail.as_deref().unwrap_or("no reason given")
            ),
        ),
        (Direction::Outbound, _) => not_opened(facts),
    };
    match worse(facts) {
        Some(why) if judgement.verdict == Verdict::Ok => {
            Judgement::new(Verdict::Degraded, format!("{}, but {why}", judgement.reason))
        }
        _ => judgement,
    }
}

fn opened(facts: &Facts<'_>) -> String {
    let port = port(facts.endpoint);
    let time = facts.evidence.and_then(|evidence| evidence.attempt.handshake_ms).or(facts.connect.time_ms);
    let mut opened = match time {
        Some(ms) => format!("port {port} opens in {}", milliseconds(ms)),
        None => format!("port {port} opens"),
    };
    if let Some(Greeting { state: GreetingState::Answered, text: Some(text), .. }) = &facts.connect.greeting {
        opened.push_str(&format!(" and answers with `{text}`"));
    }
    match facts.ping.state {
        PingState::NoAnswer => format!("{opened}; ping is not answered, which is often blocked and no fault"),
        _ => opened,
    }
}

/// What makes a working endpoint a degraded one.
fn worse(facts: &Facts<'_>) -> Option<String> {
    let mut reasons = Vec::new();
    if facts.connect.state == ConnectState::Open && facts.connect.attempts > 1 {
        reasons.push(format!("only at attempt {}", facts.connect.attempts));
    }
    reasons.extend(facts.connect.greeting.as_ref().and_then(worse_greeting));
    if let Some(evidence) = facts.evidence {
        if facts.connect.state == ConnectState::Open && evidence.attempt.syn_retries > 0 {
            reasons.push(format!("only after {}", times(evidence.attempt.syn_retries, "repeated connection request")));
        }
        let wire = &evidence.wire;
        if facts.degraded_from.too_many_retransmissions(wire.retransmissions, wire.packets) {
            reasons.push(format!("{} had to be sent again", times(wire.retransmissions, "segment")));
        }
        if let Some(modbus) = &wire.modbus {
            reasons.extend(worse_modbus(modbus, &facts.degraded_from));
        }
        if let Some(dnp3) = &wire.dnp3 {
            if dnp3.unanswered > 0 {
                let requests = times(dnp3.requests, "DNP3 request");
                reasons.push(format!("{} of {requests} got no response", dnp3.unanswered));
            }
            if dnp3.crc_errors > 0 {
                reasons.push(format!("{} came with a wrong check sum", times(dnp3.crc_errors, "DNP3 frame")));
            }
        }
        // What only the analysis as a whole can tell, in its own words.
        let told = evidence.findings.iter().filter(|finding| speaks_against(finding, facts, evidence));
        reasons.extend(told.map(|finding| finding.message.clone()));
        if evidence.session.resets > 0 {
            reasons.push(format!("{} of other processes was reset", times(evidence.session.resets, "connection")));
        }
    }
    let handshake_ms = facts.evidence.and_then(|evidence| evidence.attempt.handshake_ms).or(facts.connect.time_ms);
    if facts.connect.state == ConnectState::Open && handshake_ms.is_some_and(|ms| ms > facts.slow_connect_ms as f64) {
        reasons.push("that is slow".to_owned());
    }
    if reasons.is_empty() { None } else { Some(reasons.join(", and ")) }
}

/// Whether a finding makes a working endpoint a degraded one: an alarm always, and a warning unless there is a reason why not.
fn speaks_against(finding: &Finding, facts: &Facts<'_>, evidence: &Evidence) -> bool {
    if is_of_the_test_alone(finding, facts, evidence) {
        return false;
    }
    match finding.severity {
        Severity::Alarm => true,
        Severity::Warning if finding.code == catalogue::MODBUS_SLOW.code => {
            facts.degraded_from.too_many_slow(finding.count, evidence.wire.modbus.as_ref().map_or(0, |modbus| modbus.responses))
        }
        Severity::Warning if finding.code == catalogue::DNP3_SLOW.code => {
            facts.degraded_from.too_many_slow(finding.count, evidence.wire.dnp3.as_ref().map_or(0, |dnp3| dnp3.responses))
        }
        Severity::Warning => bearable::why(&finding.code).is_none(),
        Severity::Info => false,
    }
}

/// Whether a finding tells of nothing but the test's own connect that did not open: the judgement of that has told it already, and
/// what a live session shows outweighs it.
fn is_of_the_test_alone(finding: &Finding, facts: &Facts<'_>, evidence: &Evidence) -> bool {
    let messages = |list: &[IcmpUnreachable]| list.iter().map(|message| message.count).sum::<u64>();
    facts.connect.attempts > 0
        && facts.connect.state != ConnectState::Open
        && match finding.code.as_str() {
            code if code == catalogue::TCP_SYN_UNANSWERED.code => evidence.session.unanswered_attempts == 0,
            code if code == catalogue::TCP_REFUSED.code => evidence.session.refused == 0,
            code if code == catalogue::ICMP_UNREACHABLE.code => {
                messages(&evidence.attempt.icmp) > 0 && messages(&evidence.attempt.icmp) >= messages(&evidence.wire.icmp)
            }
            _ => false,
        }
}

/// A port that opens with the wrong program behind it, or one that is stuck.
fn worse_greeting(greeting: &Greeting) -> Option<String> {
    let text = greeting.text.as_deref().unwrap_or_default();
    match greeting.state {
        // A server error (RFC 9110, section 15.6) is an answer of a server that cannot do its work.
        GreetingState::Answered => {
            let failed = text.starts_with("HTTP/") && text.split(' ').nth(1).is_some_and(|code| code.starts_with('5'));
            failed.then(|| "that is the server's word for a fault of its own".to_owned())
        }
        GreetingState::Unexpected => Some(format!("what answers is another service: it begins with `{text}`")),
        GreetingState::Closed => Some("the service closes the connection without a word".to_owned()),
        GreetingState::Silent => Some(format!("the service says nothing within {}", milliseconds(greeting.time_ms))),
    }
}

fn worse_modbus(modbus: &ModbusView, degraded_from: &DegradedFrom) -> Vec<String> {
    let mut reasons = Vec::new();
    if modbus.unanswered > 0 {
        let requests = times(modbus.requests, "Modbus request");
        reasons.push(format!("{} of {requests} got no response", modbus.unanswered));
    }
    if degraded_from.too_many_exceptions(modbus.exceptions, modbus.responses) {
        reasons.push(format!("{} of {} are exceptions", modbus.exceptions, times(modbus.responses, "Modbus response")));
    }
    reasons
}

/// The port did not open. A live session outweighs that: some devices take one connection only.
fn not_opened(facts: &Facts<'_>) -> Judgement {
    let connect = why_not_opened(facts);
    let established = facts.kernel.map_or(0, |kernel| kernel.established);
    match facts.evidence {
        Some(evidence) if evidence.session.answered => Judgement::new(
            Verdict::Ok,
            format!(
                "the live session is answered; a further connection was not accepted ({connect}), as with devices that take only a few"
            ),
        ),
        None if established > 0 => Judgement::new(
            Verdict::Degraded,
            format!(
                "a session is established, but a further connection failed ({connect}); without a capture nobody can tell whether it is alive"
            ),
        ),
        // An idle session tells nothing; a host that is up and takes one connection only looks just so.
        Some(evidence) if established > 0 && host_is_up(facts) && evidence.session.client_payload_segments == 0 => Judgement::new(
            Verdict::Degraded,
            format!("a session is established and was idle while it was looked at, but a further connection failed ({connect})"),
        ),
        Some(_) if established > 0 => Judgement::new(
            Verdict::Failed,
            format!("{connect}; the session that this host still holds as established showed no answer either"),
        ),
        _ => Judgement::new(Verdict::Failed, connect),
    }
}

/// Whether the host itself answered something: a ping, or the connect with a reset.
fn host_is_up(facts: &Facts<'_>) -> bool {
    facts.ping.state == PingState::Answered || facts.connect.state == ConnectState::Refused
}

fn why_not_opened(facts: &Facts<'_>) -> String {
    let port = port(facts.endpoint);
    let up = match facts.ping.state {
        PingState::Answered => "the host answers ping",
        _ => "the host is up",
    };
    match facts.connect.state {
        ConnectState::Refused => format!("port {port} refused the connection (RST): {up}, but nothing listens there"),
        ConnectState::Reset => {
            format!("port {port} opened and was reset at once: the device accepts no further connection, or not from this address")
        }
        state => {
            let messages = facts.evidence.map_or(&[][..], |evidence| &evidence.attempt.icmp);
            if let Some(why) = no_neighbour(facts).or_else(|| icmp_says(facts, messages)) {
                return why;
            }
            let waited = format!("{} ms", facts.timeout_ms);
            match facts.evidence {
                None if state == ConnectState::TimedOut => {
                    format!("no answer from port {port} within {waited}{}{WITHOUT_CAPTURE}", pinged(facts))
                }
                None => format!("host unreachable{}{}{WITHOUT_CAPTURE}", detail(facts), pinged(facts)),
                Some(evidence) if evidence.attempt.syn_ack > 0 => {
                    format!("port {port} accepted, but too late for the time-out of {waited}")
                }
                Some(evidence) if evidence.attempt.syn > 0 => {
                    let requests = times(evidence.attempt.syn + evidence.attempt.syn_retries, "connection request");
                    match facts.ping.state {
                        PingState::Answered => format!(
                            "{requests} (SYN) to port {port} unanswered while the host answers ping: the port is filtered, or the device takes no more connections"
                        ),
                        _ => format!("{requests} (SYN) to port {port} unanswered: filtered on the way, or the host is down"),
                    }
                }
                Some(_) if state == ConnectState::Unreachable => format!("this host has no way to it{}", detail(facts)),
                Some(_) => format!(
                    "no answer from port {port} within {waited}, and no trace of the attempt in the capture{}",
                    detail(facts)
                ),
            }
        }
    }
}

const WITHOUT_CAPTURE: &str = "; without a capture the cause cannot be told";

/// Nobody answered for the address, or for the gateway to it.
fn no_neighbour(facts: &Facts<'_>) -> Option<String> {
    const SOURCE: &str = "by this host's neighbour table";
    if let (None, Some(address)) = (facts.evidence, facts.silent_neighbour) {
        let question = if address.is_ipv4() { "ARP" } else { "neighbour discovery" };
        return Some(if facts.endpoint.gateway == Some(address) {
            format!("no {question} answer from the gateway {address} {SOURCE}: the gateway is off, or not on this network")
        } else {
            format!("no {question} answer {SOURCE}: the host is off, or in another subnet")
        });
    }
    let arp = facts.evidence?.arp.as_ref().filter(|arp| arp.asked > 0 && arp.answered == 0)?;
    let question = match arp.address {
        IpAddr::V4(_) => "ARP",
        IpAddr::V6(_) => "neighbour discovery",
    };
    let asked = times(arp.asked, "request");
    Some(if facts.endpoint.gateway == Some(arp.address) {
        format!("no {question} answer from the gateway {} ({asked}): the gateway is off, or not on this network", arp.address)
    } else {
        format!("no {question} answer ({asked}): the host is off, or in another subnet")
    })
}

fn icmp_says(facts: &Facts<'_>, messages: &[IcmpUnreachable]) -> Option<String> {
    let message = messages.first()?;
    let who = match facts.endpoint.address {
        Some(address) if address == message.from => "the host itself".to_owned(),
        _ => format!("router {}", message.from),
    };
    Some(format!("{who} says: {} (ICMP type {} code {})", message.meaning, message.icmp_type, message.icmp_code))
}

/// No connect was made: what the sockets and the traffic of others show.
fn unprobed(facts: &Facts<'_>) -> Judgement {
    let peers = facts.kernel.map_or(0, |kernel| kernel.established);
    if let Some(evidence) = facts.evidence {
        let session = &evidence.session;
        if session.answered {
            return Judgement::new(Verdict::Ok, format!("live traffic is answered ({})", answers(evidence)));
        }
        if session.client_payload_segments > 0 {
            let verdict = if peers > 0 { Verdict::Degraded } else { Verdict::Failed };
            let asked = times(session.client_payload_segments, "segment");
            return Judgement::new(verdict, format!("a session is there, but none of {asked} sent to it was answered"));
        }
        if peers == 0 && session.attempts > 0 && session.accepted == 0 {
            let why = no_neighbour(facts)
                .or_else(|| icmp_says(facts, &evidence.wire.icmp))
                .unwrap_or_else(|| if session.refused > 0 { "refused (RST)".to_owned() } else { "unanswered".to_owned() });
            return Judgement::new(Verdict::Failed, format!("the local process tries to connect and fails: {why}"));
        }
        if peers == 0
            && let Some(why) = no_neighbour(facts)
        {
            return Judgement::new(Verdict::Failed, why);
        }
    }
    if peers > 0 {
        return Judgement::new(Verdict::Ok, format!("{} established", times(u64::from(peers), "session")));
    }
    if facts.connect.state == ConnectState::Skipped
        && facts.endpoint.direction == Direction::Outbound
        && facts.endpoint.address.is_none()
    {
        return Judgement::new(Verdict::Failed, detail(facts).trim_start_matches(": ").to_owned());
    }
    match (facts.connect.state, facts.ping.state) {
        (ConnectState::NotRequested, PingState::Answered) => Judgement::new(
            Verdict::Ok,
            format!("the host answers ping; port {} was not tested, as requested", port(facts.endpoint)),
        ),
        _ => {
            let seen = if facts.kernel.is_some() { "no session to see" } else { "this host's sockets could not be read" };
            Judgement::new(Verdict::Unknown, format!("{seen}{}, and the port was not connected{}", pinged(facts), detail(facts)))
        }
    }
}

fn inbound(facts: &Facts<'_>) -> Judgement {
    let port = port(facts.endpoint);
    let Some(kernel) = facts.kernel else {
        return Judgement::new(Verdict::Unknown, "this host's sockets could not be read, so nobody can tell whether it listens");
    };
    match (kernel.listening, kernel.established) {
        (true, 0) => Judgement::new(Verdict::Ok, format!("this controller listens on port {port}; nobody is connected just now")),
        (true, peers) => Judgement::new(
            Verdict::Ok,
            format!("this controller listens on port {port}; {} connected", times(u64::from(peers), "peer")),
        ),
        (false, 0) => Judgement::new(
            Verdict::Failed,
            format!("nothing on this controller listens on port {port}: its process is not running"),
        ),
        (false, peers) => Judgement::new(
            Verdict::Degraded,
            format!(
                "{} connected, but nothing listens on port {port} any more, so nobody can connect anew",
                times(u64::from(peers), "peer")
            ),
        ),
    }
}

fn answers(evidence: &Evidence) -> String {
    if let Some(modbus) = &evidence.wire.modbus {
        format!("{} of {}", modbus.responses, times(modbus.requests, "Modbus request"))
    } else if let Some(dnp3) = &evidence.wire.dnp3 {
        format!("{} of {}", dnp3.responses, times(dnp3.requests, "DNP3 request"))
    } else {
        format!("{} in reply", times(evidence.session.server_payload_segments, "segment"))
    }
}

fn pinged(facts: &Facts<'_>) -> &'static str {
    match facts.ping.state {
        PingState::Answered => "; the host answers ping",
        PingState::NoAnswer => "; ping is not answered",
        PingState::Error | PingState::NotRequested => "",
    }
}

fn detail(facts: &Facts<'_>) -> String {
    facts.connect.detail.as_deref().map(|detail| format!(": {detail}")).unwrap_or_default()
}

fn port(endpoint: &Endpoint) -> String {
    endpoint.port.map_or_else(|| "?".to_owned(), |port| port.to_string())
}

fn times(count: u64, thing: &str) -> String {
    if count == 1 { format!("1 {thing}") } else { format!("{count} {thing}s") }
}

fn milliseconds(ms: f64) -> String {
    match ms {
        ms if ms >= 1000.0 => format!("{:.1} s", ms / 1000.0),
        ms if ms >= 10.0 => format!("{ms:.0} ms"),
        ms if ms < 0.1 => "under 0.1 ms".to_owned(),
        ms => format!("{ms:.1} ms"),
    }
}

#[cfg(test)]
mod tests;
