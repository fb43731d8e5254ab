//! Hosts of which several ports stopped answering at the same time.

use super::{
    Analysis, catalogue,
    findings::{finding, many},
    quiet::Spell,
    service::Service,
    tally::Tally,
};
use crate::api::{Finding, Severity, UtcTime};
use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
};

/// What may be no more than a consequence of a stall.
const CONSEQUENCES: [&catalogue::Entry; 10] = [
    catalogue::MODBUS_UNANSWERED,
    catalogue::MODBUS_LATE,
    catalogue::MODBUS_SLOW,
    catalogue::DNP3_UNANSWERED,
    catalogue::DNP3_LATE,
    catalogue::DNP3_SLOW,
    catalogue::TCP_RESET,
    catalogue::TCP_RECONNECTS,
    catalogue::TCP_RETRANSMISSIONS,
    catalogue::HOST_SILENT,
];

/// One address, and when several of its ports answered nothing together.
#[derive(Debug)]
pub(super) struct Stall {
    address: IpAddr,
    /// From when to when, in nanoseconds.
    times: Vec<(i64, i64)>,
    /// How long after it what happens belongs to it.
    aftermath: i64,
    pub finding: Finding,
}

impl Stall {
    /// Makes a note of what is no more than a consequence of the stall, so that one event is one thing to look at.
    pub fn takes(&self, address: IpAddr, finding: &mut Finding) {
        let is_consequence = CONSEQUENCES.iter().any(|entry| entry.code == finding.code);
        let (Some(first), Some(last)) = (finding.first_at, finding.last_at) else { return };
        let is_within = |(from, to): &(i64, i64)| {
            first >= UtcTime::from_unix_ns(*from) && last <= UtcTime::from_unix_ns(to.saturating_add(self.aftermath))
        };
        // What began in one of several stalls and ended in another is theirs, too.
        let is_between = || {
            let (Some((from, _)), Some((_, to))) = (self.times.first(), self.times.last()) else { return false };
            finding.count <= self.finding.count && is_within(&(*from, *to))
        };
        if self.address == address && is_consequence && (self.times.iter().any(is_within) || is_between()) {
            finding.severity = Severity::Info;
            finding.message.push_str("; this belongs to the stall of the whole host");
        }
    }
}

impl Analysis {
    /// The addresses, of those that are asked for, on which several ports answered nothing at the same time.
    pub(super) fn stalls(&self, asked: impl Fn(IpAddr) -> bool) -> Vec<Stall> {
        let (now, timeout) = (self.shared.now, self.shared.limits.response_timeout);
        let mut by_host: BTreeMap<IpAddr, Vec<(u16, Spell)>> = BTreeMap::new();
        let services = self.services.iter().filter_map(|service| Some((service, service.address?)));
        for (service, address) in services.filter(|(_, address)| asked(address.ip())) {
            let quiet = service.modbus.iter().map(|modbus| &modbus.quiet).chain(service.dnp3.iter().map(|dnp3| &dnp3.quiet));
            let spells = quiet.flat_map(|quiet| quiet.spells(now, timeout)).map(|spell| (address.port(), spell));
            let spells: Vec<_> = spells.collect();
            if !spells.is_empty() {
                by_host.entry(address.ip()).or_default().extend(spells);
            }
        }
        by_host.into_iter().filter_map(|(address, spells)| self.stall(address, spells)).collect()
    }

    fn stall(&self, address: IpAddr, mut spells: Vec<(u16, Spell)>) -> Option<Stall> {
        let now = self.shared.now;
        // Two spells are one event when they have half a time-out in common at least.
        let common = self.shared.limits.response_timeout / 2;
        spells.sort_by_key(|(_, spell)| spell.from.at);
        let mut events: Vec<Vec<(u16, Spell)>> = Vec::new();
        for (port, spell) in spells {
            match events.last_mut() {
                Some(event) if end(event, now).saturating_sub(spell.from.at) >= common => event.push((port, spell)),
                _ => events.push(vec![(port, spell)]),
            }
        }
        events.retain(|event| event.iter().any(|(port, _)| Some(*port) != event.first().map(|(first, _)| *first)));
        let worst = events.iter().max_by_key(|event| event.iter().map(|(_, spell)| spell.ns(now)).max())?;
        let (mut ports, mut all) = (BTreeSet::new(), Tally::default());
        for (port, spell) in events.iter().flatten() {
            ports.insert(*port);
            all.merge(&Tally::between(spell.requests, [spell.from, spell.to]));
        }
        let from = worst.first()?.1.from.at;
        let seconds = end(worst, now).saturating_sub(from) as f64 / 1e9;
        let requests = many(worst.iter().map(|(_, spell)| spell.requests).sum(), "request");
        let how = match worst.iter().all(|(_, spell)| spell.is_over) {
            true => format!("for {seconds:.1} s; {requests} waited in vain or were answered late"),
            false => format!(
                "and not all of them have answered since, for {seconds:.1} s; {requests} waited in vain or were answered late"
            ),
        };
        let again = self
            .anew_after(address, &ports, from)
            .map_or_else(String::new, |ns| format!("; its connections were made anew {:.1} s after it began", ns as f64 / 1e9));
        let more = match events.len() {
            1 => String::new(),
            several => format!("; the same {} more", many(several as u64 - 1, "time")),
        };
        let ports: Vec<String> = ports.iter().map(u16::to_string).collect();
        let message = format!(
            "{address} stopped answering on ports {} at the same time, at {}, {how}{again}{more}: the host or the network stalled, not one \
             service",
            ports.join(" and "),
            UtcTime::from_unix_ns(from).to_millis()
        );
        let times = events.iter().filter_map(|event| Some((event.first()?.1.from.at, end(event, now)))).collect();
        let aftermath = self.shared.limits.stall_aftermath;
        Some(Stall { address, times, aftermath, finding: finding(catalogue::HOST_STALLED, Severity::Alarm, &all, message) })
    }

    /// How long after `from` the first of the connections to these ports was made anew, if that was soon.
    fn anew_after(&self, address: IpAddr, ports: &BTreeSet<u16>, from: i64) -> Option<i64> {
        let is_of = |service: &&Service| service.address.is_some_and(|at| at.ip() == address && ports.contains(&at.port()));
        let reconnects = self.services.iter().filter(is_of).map(|service| service.clients.reconnects().0);
        let after =
            reconnects.filter(|reconnects| reconnects.count > 0).map(|reconnects| reconnects.first_ns().saturating_sub(from));
        after.filter(|ns| (0..=self.shared.limits.stall_aftermath).contains(ns)).min()
    }
}

/// When the last of these ended.
fn end(spells: &[(u16, Spell)], now: i64) -> i64 {
    spells.iter().map(|(_, spell)| spell.end(now)).max().unwrap_or(i64::MIN)
}
