//! What the configs say, against what is on the wire.

use super::{
    catalogue,
    findings::{finding, many},
    modbus::ModbusService,
    service::Service,
    settings::Watch,
    tally::Tally,
};
use crate::api::{Direction, Endpoint, Finding, Protocol, Severity};
use std::collections::HashMap;

/// Things that a message names.
const NAMED: usize = 8;

/// What a topology expects of an endpoint.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Expectation {
    /// The endpoint, which is also watched.
    pub endpoint_id: String,
    /// The unit ids that are asked or served; empty is any.
    pub unit_ids: Vec<u8>,
    /// Pairs of DNP3 link addresses: master, outstation; empty is any.
    pub links: Vec<(u16, u16)>,
}

impl Expectation {
    /// What a configured endpoint lets expect.
    pub fn of(endpoint: &Endpoint) -> Self {
        let is_any = endpoint.accepts_any_unit || endpoint.uses_default_unit;
        let link = |link: &crate::api::Dnp3Addresses| match endpoint.direction {
            Direction::Inbound => (link.remote, link.local),
            Direction::Outbound | Direction::Undetermined => (link.local, link.remote),
        };
        Self {
            endpoint_id: endpoint.endpoint_id.clone(),
            unit_ids: if is_any { Vec::new() } else { endpoint.unit_ids.clone() },
            links: endpoint.dnp3_addresses.iter().map(link).collect(),
        }
    }
}

/// What all endpoints of a topology let expect, by endpoint.
#[derive(Debug, Default)]
pub(super) struct Expectations {
    by_endpoint: HashMap<String, Expectation>,
}

impl Expectations {
    pub fn new(expectations: Vec<Expectation>) -> Self {
        Self { by_endpoint: expectations.into_iter().map(|expected| (expected.endpoint_id.clone(), expected)).collect() }
    }

    /// Whether a topology was given at all.
    pub fn is_known(&self) -> bool {
        !self.by_endpoint.is_empty()
    }

    /// What a server does that none of its configs says. `watches` are those on the server.
    pub fn of_server(&self, service: &Service, watches: &[&Watch]) -> Vec<Finding> {
        let expected: Vec<&Expectation> = watches.iter().filter_map(|watch| self.by_endpoint.get(&watch.endpoint_id)).collect();
        let server = service.address.map_or_else(String::new, |address| address.to_string());
        let mut findings = Vec::new();
        if expected.is_empty() {
            let is_ours = service.modbus.as_ref().is_some_and(|modbus| modbus.is_seen()) || service.dnp3.is_some();
            if self.is_known() && is_ours && !service.watched {
                let what = if service.dnp3.is_some() { Protocol::Dnp3 } else { Protocol::Modbus };
                let clients: Vec<String> =
                    service.clients.iter().filter_map(|(address, _)| Some(address?.to_string())).take(NAMED).collect();
                let message = format!("{server} is asked by {what} from {}, and no config names it", clients.join(", "));
                let tally = Tally::without_evidence(service.packets);
                findings.push(finding(catalogue::SITE_UNKNOWN_SERVER, Severity::Warning, &tally, message));
            }
            return findings;
        }
        if let Some(modbus) = &service.modbus
            && expected.iter().all(|expected| !expected.unit_ids.is_empty())
        {
            findings.extend(units(modbus, &expected, &server));
        }
        if let Some(dnp3) = &service.dnp3
            && expected.iter().all(|expected| !expected.links.is_empty())
        {
            let is_unknown = |link: &(u16, u16)| !expected.iter().any(|expected| expected.links.contains(link));
            let unknown: Vec<(u16, u16)> = dnp3.links.links().filter(is_unknown).collect();
            if !unknown.is_empty() {
                let named: Vec<String> = unknown
                    .iter()
                    .take(NAMED)
                    .map(|(master, outstation)| format!("master {master} to outstation {outstation}"))
                    .collect();
                let message = format!("at {server} speak {}, which its configs do not name", named.join(", "));
                let tally = Tally::without_evidence(unknown.len() as u64);
                findings.push(finding(catalogue::SITE_LINK_UNKNOWN, Severity::Warning, &tally, message));
            }
        }
        findings
    }

    /// An outstation whose address speaks at a server that no config names, while nobody answers where it is configured.
    pub fn moved<'a>(
        &self,
        watch: &Watch,
        mut configured: impl Iterator<Item = &'a Service>,
        all: impl Iterator<Item = &'a Service>,
    ) -> Option<Finding> {
        let expected = self.by_endpoint.get(&watch.endpoint_id).filter(|_| watch.direction == Direction::Outbound)?;
        if expected.links.is_empty() || configured.any(|service| service.server_packets > 0) {
            return None;
        }
        let (address, port) = (watch.address?, watch.port?);
        let (elsewhere, outstation) = all.filter(|service| !service.watched && service.server_packets > 0).find_map(|service| {
            let (_, outstation) = service.dnp3.as_ref()?.links.links().find(|link| expected.links.contains(link))?;
            Some((service, outstation))
        })?;
        let message = format!(
            "outstation {outstation} is configured at {address}:{port}, where nobody answers; it speaks at {}",
            elsewhere.address?
        );
        let tally = Tally::without_evidence(elsewhere.server_packets);
        let mut moved = finding(catalogue::SITE_DEVICE_ELSEWHERE, Severity::Warning, &tally, message);
        moved.endpoint_id = Some(watch.endpoint_id.clone());
        Some(moved)
    }

    /// An endpoint of which nothing was seen.
    pub fn never_seen(&self, watch: &Watch) -> Option<Finding> {
        let is_expected = self.by_endpoint.contains_key(&watch.endpoint_id) && watch.direction == Direction::Outbound;
        let (address, port) = (watch.address.filter(|_| is_expected)?, watch.port?);
        let message = format!("no packet to or from {address}:{port} is in the capture, although a config names it");
        let mut never = finding(catalogue::SITE_NEVER_SEEN, Severity::Info, &Tally::without_evidence(1), message);
        never.endpoint_id = Some(watch.endpoint_id.clone());
        Some(never)
    }
}

fn units(modbus: &ModbusService, expected: &[&Expectation], server: &str) -> Option<Finding> {
    let is_unknown = |unit: u8| !expected.iter().any(|expected| expected.unit_ids.contains(&unit));
    let mut unknown: Vec<(u8, u64)> =
        modbus.units.iter().filter(|(unit, _)| is_unknown(*unit)).map(|(unit, stats)| (*unit, stats.requests)).collect();
    unknown.sort_unstable();
    let requests: u64 = unknown.iter().map(|(_, requests)| requests).sum();
    let named: Vec<String> = unknown.iter().take(NAMED).map(|(unit, _)| unit.to_string()).collect();
    let message = format!(
        "{} to {server} {} for unit {}, which its configs do not name",
        many(requests, "request"),
        if requests == 1 { "is" } else { "are" },
        named.join(", ")
    );
    (requests > 0).then(|| finding(catalogue::SITE_UNIT_UNKNOWN, Severity::Warning, &Tally::without_evidence(requests), message))
}
