//! ARP, neighbour discovery, ICMP and pings.

use super::*;
use crate::api::Severity;

fn v4(text: &str) -> std::net::Ipv4Addr {
    text.parse().unwrap()
}

fn v6(text: &str) -> std::net::Ipv6Addr {
    text.parse().unwrap()
}

const OUR_MAC: [u8; 6] = [2, 0, 0, 0, 0, 1];
const ITS_MAC: [u8; 6] = [2, 0, 0, 0, 0, 5];

fn asks(target: &str) -> Vec<u8> {
    arp(1, OUR_MAC, v4("10.0.0.1"), v4(target))
}

#[test]
fn questions_that_nobody_answers() {
    let mut site = Site::modbus();
    for ms in [0.0, 1020.0, 2040.0] {
        site.at(ms, asks("10.0.0.5"));
    }
    site.wait_until(3100.0);
    let evidence = site.evidence();
    let view = evidence.arp.clone().unwrap();
    assert_eq!((view.asked, view.answered, view.macs.len(), evidence.wire.arp_unanswered), (3, 0, 0, 3));
    let finding = find(&evidence.findings, "arp.unanswered");
    assert_eq!((finding.severity, finding.count, finding.packets.clone()), (Severity::Alarm, 3, vec![1, 2, 3]));
    assert_eq!(finding.message, "3 of 3 questions by ARP for 10.0.0.5 not answered");
    assert!(site.analysis.findings().is_empty(), "it is the endpoint's own");
}

#[test]
fn what_others_ask_is_answered_to_them_alone() {
    let mut site = Site::modbus();
    site.at(0.0, arp(1, [2, 0, 0, 0, 0, 7], v4("10.0.0.7"), v4("10.0.0.5")));
    site.wait_until(3000.0);
    let evidence = site.evidence();
    assert_eq!((evidence.arp, evidence.wire.arp_unanswered), (None, 0));
    assert!(evidence.findings.is_empty());
}

#[test]
fn an_answered_question_and_an_announcement() {
    let mut site = Site::modbus();
    assert_eq!(site.evidence().arp, None, "nobody asked");
    site.at(0.0, arp(1, ITS_MAC, v4("10.0.0.5"), v4("10.0.0.5")));
    assert_eq!(site.evidence().arp, None, "an announcement is no question");
    site.at(1.0, arp(1, OUR_MAC, v4("0.0.0.0"), v4("10.0.0.5")));
    assert_eq!(site.evidence().arp, None, "a probe is none either");
    site.at(2.0, asks("10.0.0.5"));
    site.at(2.2, arp(2, ITS_MAC, v4("10.0.0.5"), v4("10.0.0.1")));
    site.wait_until(9000.0);
    let evidence = site.evidence();
    let view = evidence.arp.unwrap();
    assert_eq!((view.asked, view.answered, &view.macs[..]), (1, 1, &["02:00:00:00:00:05".to_owned()][..]));
    assert!(evidence.findings.is_empty() && evidence.wire.arp_unanswered == 0);
}

#[test]
fn behind_a_gateway_it_is_the_gateway_that_is_asked_for() {
    let watch = Watch { gateway: Some(ip_of("10.0.0.254")), ..outbound(ID, Protocol::Modbus, "192.168.7.5:502") };
    let mut site = Site::new(vec![watch]);
    site.at(0.0, asks("10.0.0.254"));
    site.wait_until(2000.0);
    let evidence = site.evidence();
    assert_eq!(evidence.arp.unwrap().address, ip_of("10.0.0.254"));
    assert_eq!(
        find(&evidence.findings, "arp.unanswered").message,
        "1 of 1 question by ARP for 10.0.0.254, the gateway to 192.168.7.5 not answered"
    );
}

#[test]
fn two_hardware_addresses_for_one_address() {
    let mut site = Site::modbus();
    site.at(0.0, arp(2, ITS_MAC, v4("10.0.0.5"), v4("10.0.0.1")));
    site.at(5.0, arp(2, [2, 0, 0, 0, 0, 0x99], v4("10.0.0.5"), v4("10.0.0.1")));
    let message = &find(&site.evidence().findings, "arp.two_macs").message.clone();
    assert_eq!(message, "10.0.0.5 is claimed by 02:00:00:00:00:05 and by 02:00:00:00:00:99");
}

#[test]
fn unanswered_questions_for_many_addresses_are_one_finding() {
    let mut site = Site::new(Vec::new());
    for host in 1..=100 {
        site.at(f64::from(host), asks(&format!("10.0.3.{host}")));
    }
    site.wait_until(5000.0);
    let findings = site.analysis.findings();
    assert_eq!(codes(&findings), ["arp.unanswered"]);
    assert_eq!(
        findings[0].message,
        "100 questions for the hardware address of 10.0.3.1, 10.0.3.2, 10.0.3.3, 10.0.3.4, 10.0.3.5 and 95 other addresses were not answered"
    );
}

#[test]
fn neighbour_discovery_is_asked_and_answered_likewise() {
    let (us, device) = ("fd00::1", "fd00::5");
    let mut site = Site::new(vec![outbound(ID, Protocol::Modbus, "[fd00::5]:502")]);
    site.at(0.0, neighbor(false, v6("::"), v6("ff02::1:ff00:5"), v6(device)));
    assert_eq!(site.evidence().arp, None, "duplicate address detection expects no answer");
    site.at(1.0, neighbor(false, v6(us), v6("ff02::1:ff00:5"), v6(device)));
    site.wait_until(1500.0);
    site.at(1600.0, neighbor(true, v6(device), v6(us), v6(device)));
    let evidence = site.evidence();
    assert_eq!(evidence.arp.map(|view| (view.asked, view.answered)), Some((1, 1)));
}

#[test]
fn a_router_says_why_the_tests_own_attempt_failed() {
    let mut site = Site::modbus();
    let syn = Conversation::new(CLIENT, DEVICE).syn();
    let other = Conversation::new("10.0.0.1:50505", DEVICE).syn();
    site.all(0.0, [syn.clone(), icmp_error(ip_of("10.0.0.254"), 3, 13, &syn)]);
    site.all(2.0, [other.clone(), icmp_error(ip_of("10.0.0.254"), 3, 13, &other)]);
    site.wait_until(5000.0);
    let evidence = site.evidence_of(ID, &[CLIENT]);
    assert_eq!(evidence.wire.icmp_unreachable, 2);
    let [own] = &evidence.attempt.icmp[..] else { panic!("{:?}", evidence.attempt.icmp) };
    assert_eq!((own.from, own.icmp_type, own.icmp_code, own.count), (ip_of("10.0.0.254"), 3, 13, 1));
    assert_eq!(own.meaning, "communication administratively prohibited");
    assert_eq!(codes(&evidence.findings), ["icmp.unreachable"], "the message tells it, not the silence");
    assert_eq!(
        evidence.findings[0].message,
        "10.0.0.5:502 cannot be reached: 10.0.0.254 says communication administratively prohibited"
    );
}

#[test]
fn an_answer_to_a_ping_does_not_blame_the_port() {
    let mut site = Site::modbus();
    let ping = echo(false, ip_of("10.0.0.1"), ip_of("10.0.0.5"), 7, 1);
    site.all(0.0, [ping.clone(), icmp_error(ip_of("10.0.0.254"), 3, 1, &ping)]);
    let evidence = site.evidence();
    assert_eq!((evidence.wire.icmp_unreachable, evidence.ping_icmp.len()), (0, 1));
    assert_eq!(evidence.ping_icmp[0].meaning, "host unreachable");
    assert!(evidence.findings.is_empty());
    assert_eq!(site.analysis.counters().wire.icmp_unreachable, 1);
}

#[test]
fn fragmentation_needed_is_no_unreachable() {
    let mut site = Site::modbus();
    let syn = Conversation::new(CLIENT, DEVICE).syn();
    site.all(0.0, [syn.clone(), icmp_error(ip_of("10.0.0.254"), 3, 4, &syn)]);
    assert_eq!(site.evidence().wire.icmp_unreachable, 0);
}

#[test]
fn icmpv6_messages_count_for_ipv6_endpoints() {
    let mut site = Site::new(vec![outbound(ID, Protocol::Modbus, "[fd00::5]:502")]);
    let syn = Conversation::new("[fd00::1]:40000", "[fd00::5]:502").syn();
    site.all(0.0, [syn.clone(), icmp_error(ip_of("fd00::254"), 1, 3, &syn)]);
    let evidence = site.evidence_of(ID, &["[fd00::1]:40000"]);
    assert_eq!(evidence.attempt.icmp[0].meaning, "address unreachable");
}

#[test]
fn round_trips_of_pings_by_packet_times() {
    let (us, device) = (ip_of("10.0.0.1"), ip_of("10.0.0.5"));
    let mut site = Site::modbus();
    for (sequence, ms) in [(1, 2.0), (2, 4.0)] {
        let begin = f64::from(sequence) * 1000.0;
        site.at(begin, echo(false, us, device, 9, sequence));
        site.at(begin + 0.001, echo(false, us, device, 9, sequence));
        site.at(begin + ms, echo(true, device, us, 9, sequence));
        site.at(begin + ms + 0.001, echo(true, device, us, 9, sequence));
    }
    site.at(4000.0, echo(true, ip_of("10.0.0.77"), us, 9, 3));
    let round_trip = site.evidence().ping_rtt.unwrap();
    assert_eq!((round_trip.min, round_trip.mean, round_trip.max), (2.0, 3.0, 4.0));
}
