//! What the configs say, against what is on the wire.

use super::{
    catalogue,
    clients::Client,
    findings::{finding, many},
    modbus::ModbusService,
    service::Service,
    settings::Watch,
    tally::{Stamp, Tally},
};
use crate::{
    api::{Direction, Endpoint, Finding, Protocol, Severity, UtcTime},
    protocol::dnp3::SELF_ADDRESS,
};
use std::{
    collections::{HashMap, HashSet},
    net::{IpAddr, SocketAddr},
};

/// Things that a message names.
const NAMED: usize = 8;
/// Components that a message names.
const NAMED_COMPONENTS: usize = 3;
/// An address that asks so many configured servers is the one that the configs are for.
const ASKS_AT_LEAST: usize = 2;

/// What a topology expects of an endpoint.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Expectation {
    /// The endpoint, which is also watched.
    pub endpoint_id: String,
    /// What the config calls it: its components, or else its own name.
    pub name: Option<String>,
    /// The unit ids that are asked or served; empty is any.
    pub unit_ids: Vec<u8>,
    /// Pairs of DNP3 link addresses: master, outstation; empty is any.
    pub links: Vec<(u16, u16)>,
    /// Whether the config is one of several controllers, of which this host need not be one.
    pub is_of_some_controller: bool,
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
            name: name(endpoint),
            unit_ids: if is_any { Vec::new() } else { endpoint.unit_ids.clone() },
            links: endpoint.dnp3_addresses.iter().map(link).collect(),
            is_of_some_controller: endpoint.controller.is_some(),
        }
    }
}

/// The components that are polled at an endpoint, or what its process calls it.
fn name(endpoint: &Endpoint) -> Option<String> {
    let components: Vec<&str> = endpoint.components.iter().map(|component| component.id.as_str()).collect();
    match components.get(..NAMED_COMPONENTS) {
        _ if components.is_empty() => endpoint.name.clone(),
        Some(first) if components.len() > NAMED_COMPONENTS => {
            Some(format!("{} and {} more", first.join(", "), components.len() - NAMED_COMPONENTS))
        }
        _ => Some(components.join(", ")),
    }
}

/// Which addresses the configs are for: those that listen and ask by them.
#[derive(Debug, Default)]
pub(super) struct Ours {
    addresses: HashSet<IpAddr>,
    /// Whether these are all there are; else they are what the capture tells.
    is_given: bool,
    /// Whether one of them asks at all; else the capture may be one from elsewhere, and other clients are no strangers there.
    asks: bool,
}

impl Ours {
    /// This host's own addresses, if they are known. Else whoever asks several of the configured servers, and no far fewer than the one
    /// that asks most of them; `asks` has the clients of each configured server.
    pub fn new<'a>(local: &HashSet<IpAddr>, asks: impl Iterator<Item = (&'a Watch, Vec<IpAddr>)>) -> Self {
        let is_local = |address: &IpAddr| local.contains(address) || address.is_loopback();
        if !local.is_empty() {
            let asks = asks.flat_map(|(_, clients)| clients).any(|client| is_local(&client));
            return Self { addresses: local.clone(), is_given: true, asks };
        }
        let mut servers: HashMap<IpAddr, HashSet<SocketAddr>> = HashMap::new();
        for (watch, clients) in asks {
            let (Some(address), Some(port)) = (watch.address, watch.port) else { continue };
            clients.into_iter().for_each(|client| _ = servers.entry(client).or_default().insert(SocketAddr::new(address, port)));
        }
        let most = servers.values().map(HashSet::len).max().unwrap_or(0);
        let is_ours = |count: usize| count >= ASKS_AT_LEAST && count * 2 >= most;
        let addresses = servers.into_iter().filter(|(_, asked)| is_ours(asked.len())).map(|(address, _)| address).collect();
        Self { addresses, is_given: false, asks: true }
    }

    /// Whether the configs are for this address; `None` where that is not known.
    pub fn has(&self, address: IpAddr) -> Option<bool> {
        (!self.addresses.is_empty()).then(|| self.addresses.contains(&address) || address.is_loopback())
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

    /// What the config calls an endpoint.
    pub fn name(&self, endpoint_id: &str) -> Option<&str> {
        self.by_endpoint.get(endpoint_id)?.name.as_deref()
    }

    /// What a server does that none of its configs says. `watches` are those on the server; `listeners` is how many servers there are that
    /// one of the configs may mean by all addresses, where it is not known which of them are ours.
    pub fn of_server(&self, service: &Service, watches: &[&Watch], server: &str, ours: &Ours, listeners: usize) -> Vec<Finding> {
        let expected: Vec<&Expectation> = watches.iter().filter_map(|watch| self.by_endpoint.get(&watch.endpoint_id)).collect();
        let mut findings = Vec::new();
        if expected.is_empty() || listeners > 0 {
            let is_known = !expected.is_empty() || (service.watched && watches.iter().any(|watch| !listens_on_all(watch)));
            if self.is_known() && (listeners > 0 || !is_known) {
                findings.extend(unknown_server(service, server, listeners));
            }
            return findings;
        }
        findings.extend(unknown_clients(service, watches, &expected, server, ours));
        if let Some(modbus) = &service.modbus
            && expected.iter().all(|expected| !expected.unit_ids.is_empty())
        {
            findings.extend(units(modbus, &expected, server));
        }
        if let Some(dnp3) = &service.dnp3
            && expected.iter().all(|expected| !expected.links.is_empty())
        {
            // Addresses for all, and the one for whoever it is, are nobody's.
            let is_nobodys = |(_, outstation): &(u16, u16)| *outstation >= SELF_ADDRESS;
            let is_unknown =
                |link: &(u16, u16)| !is_nobodys(link) && !expected.iter().any(|expected| expected.links.contains(link));
            let unknown: Vec<(u16, u16)> = dnp3.links.links().filter(is_unknown).collect();
            if !unknown.is_empty() {
                let named: Vec<String> = unknown
                    .iter()
                    .take(NAMED)
                    .map(|(master, outstation)| format!("master {master} to outstation {outstation}"))
                    .collect();
                let message = format!("at {server} speak {}, which its configs do not name", named.join(", "));
                findings.push(finding(catalogue::SITE_LINK_UNKNOWN, Severity::Warning, &dnp3.links.messages(is_unknown), message));
            }
        }
        findings
    }

    /// A device that speaks at a server that no config names, while nobody answers where it is configured: an outstation by its link
    /// address; a Modbus device by its port and unit ids, if only one server fits. `is_stranger`: no config names this server.
    pub fn moved<'a>(
        &self,
        watch: &Watch,
        mut configured: impl Iterator<Item = &'a Service>,
        all: impl Iterator<Item = &'a Service>,
        is_stranger: impl Fn(&Service) -> bool,
    ) -> Option<Finding> {
        let expected = self.by_endpoint.get(&watch.endpoint_id).filter(|_| watch.direction == Direction::Outbound)?;
        if configured.any(|service| service.server_packets > 0) {
            return None;
        }
        let (address, port) = (watch.address?, watch.port?);
        let mut strangers = all.filter(|service| is_stranger(service) && service.server_packets > 0);
        let (elsewhere, what) = if expected.links.is_empty() {
            let mut fits = strangers.filter(|service| {
                let answers = service.modbus.iter().flat_map(|modbus| &modbus.units).filter(|(_, unit)| unit.responses > 0);
                let mut units = answers.map(|(unit, _)| expected.unit_ids.contains(unit)).peekable();
                service.address.is_some_and(|address| address.port() == port) && units.peek().is_some() && units.all(|fits| fits)
            });
            let only = fits.next().filter(|_| fits.next().is_none())?;
            let units: Vec<String> = expected.unit_ids.iter().take(NAMED).map(ToString::to_string).collect();
            (only, format!("a Modbus device with unit {}", units.join(", ")))
        } else {
            strangers.find_map(|service| {
                let (_, outstation) = service.dnp3.as_ref()?.links.links().find(|link| expected.links.contains(link))?;
                Some((service, format!("outstation {outstation}")))
            })?
        };
        let at = elsewhere.address?;
        let message = match elsewhere.dnp3 {
            Some(_) => format!("{what} is configured at {address}:{port}, where nobody answers; it speaks at {at}"),
            None => format!("{what} is configured at {address}:{port}, where nobody answers; one that fits answers at {at}"),
        };
        let tally = Tally::between(elsewhere.server_packets, seen(elsewhere));
        // Unit ids are no names: many devices have the same.
        let severity = if elsewhere.dnp3.is_some() { Severity::Warning } else { Severity::Info };
        let mut moved = finding(catalogue::SITE_DEVICE_ELSEWHERE, severity, &tally, message);
        moved.endpoint_id = Some(watch.endpoint_id.clone());
        Some(moved)
    }

    /// An endpoint of which nothing was seen. That is a warning when the capture is at least `after_ns` long, so that it should have shown it,
    /// and its config names somebody who is to talk: this host at a device, a master at an outstation.
    pub fn never_seen(&self, watch: &Watch, looks_at: &str, (span, after_ns): (Option<(i64, i64)>, i64)) -> Option<Finding> {
        let expected = self.by_endpoint.get(&watch.endpoint_id)?;
        let is_long = span.is_some_and(|(from, to)| to.saturating_sub(from) >= after_ns);
        let (port, is_awaited) = (watch.port?, watch.direction != Direction::Inbound || !expected.links.is_empty());
        let severity = if is_long && is_awaited { Severity::Warning } else { Severity::Info };
        let name = expected.name.as_ref().map_or_else(String::new, |name| format!(" ({name})"));
        let message = match watch.address.filter(|_| !listens_on_all(watch)) {
            Some(address) => {
                let at = SocketAddr::new(address, port);
                format!("no packet to or from {at}{name} is in {looks_at}, although a config names it")
            }
            None if watch.direction == Direction::Outbound => return None,
            None => format!(
                "nobody talks to port {port}{name} of this host in {looks_at}, although a config has a process listen there"
            ),
        };
        let time = |at: Option<i64>| at.map(UtcTime::from_unix_ns);
        Some(Finding {
            first_at: time(span.map(|(from, _)| from)),
            last_at: time(span.map(|(_, to)| to)),
            endpoint_id: Some(watch.endpoint_id.clone()),
            ..finding(catalogue::SITE_NEVER_SEEN, severity, &Tally::between(1, None), message)
        })
    }
}

/// Whether a watch is about a listener on all addresses of its host.
pub(super) fn listens_on_all(watch: &Watch) -> bool {
    watch.direction != Direction::Outbound && watch.address.is_none_or(|address| address.is_unspecified())
}

/// The first and the latest packets of a server and of its clients.
fn seen(service: &Service) -> impl Iterator<Item = Stamp> {
    let clients = service.clients.iter().flat_map(|(_, client)| [client.first, client.latest]);
    clients.chain(service.server_last)
}

/// `10.0.0.1, 10.0.0.2`.
fn named(addresses: impl Iterator<Item = IpAddr>) -> String {
    addresses.take(NAMED).map(|address| address.to_string()).collect::<Vec<_>>().join(", ")
}

/// Whether the site's protocols are spoken with this server, or tried in vain.
fn is_of_the_site(service: &Service) -> bool {
    let is_tried = service.syn > 0 && service.syn_ack == 0 && matches!(service.protocol, Some(Protocol::Modbus | Protocol::Dnp3));
    service.modbus.as_ref().is_some_and(|modbus| modbus.is_seen()) || service.dnp3.is_some() || is_tried
}

fn unknown_server(service: &Service, server: &str, listeners: usize) -> Option<Finding> {
    let address = service.address.filter(|_| is_of_the_site(service))?;
    let what = if service.dnp3.is_some() { Protocol::Dnp3 } else { service.protocol.unwrap_or(Protocol::Modbus) };
    let clients = named(service.clients.iter().filter_map(|(address, _)| address));
    let responses =
        service.modbus.as_ref().map_or(0, |modbus| modbus.responses) + service.dnp3.as_ref().map_or(0, |dnp3| dnp3.responses);
    let asked = match service.server_packets + responses {
        0 => format!("{server} is asked in vain for {what} by {clients}"),
        _ => format!("{server} is asked by {what} from {clients}"),
    };
    let listens = format!("a config that listens on port {} of all its host's addresses", address.port());
    let (severity, message) = match listeners {
        0 => (Severity::Warning, format!("{asked}, and no config names it")),
        1 => (Severity::Info, format!("{asked}; no config names it, unless it is the host with {listens}")),
        several => (
            Severity::Warning,
            format!("{asked}; no config names it, unless it is, of {several} such servers, the host with {listens}"),
        ),
    };
    let tally = Tally::between(service.packets, seen(service));
    Some(finding(catalogue::SITE_UNKNOWN_SERVER, severity, &tally, message))
}

/// Clients of a configured device that the configs are not for.
fn unknown_clients(service: &Service, watches: &[&Watch], expected: &[&Expectation], server: &str, ours: &Ours) -> Option<Finding> {
    // Who is to ask a listener, its config does not say.
    if !is_of_the_site(service) || watches.iter().any(|watch| watch.direction == Direction::Inbound) {
        return None;
    }
    let clients = || service.clients.iter().filter_map(|(address, client)| Some((address?, client)));
    let is_judged = ours.asks && !(ours.is_given && expected.iter().any(|expected| expected.is_of_some_controller));
    let is_stranger = |address: IpAddr| is_judged && ours.has(address) == Some(false);
    let mut tally = Tally::default();
    let mut add = |client: &Client| tally.merge(&Tally::between(client.packets, [client.first, client.latest]));
    let message = if clients().any(|(address, _)| is_stranger(address)) {
        clients().filter(|(address, _)| is_stranger(*address)).for_each(|(_, client)| add(client));
        let strangers = named(clients().map(|(address, _)| address).filter(|address| is_stranger(*address)));
        format!("{server} is asked by {strangers} too, and no config names such a client")
    } else {
        let is_known = clients().all(|(address, _)| ours.has(address) == Some(true));
        if is_known || clients().count() <= expected.len() {
            return None;
        }
        clients().for_each(|(_, client)| add(client));
        let configured = if expected.len() == 1 { "one client".to_owned() } else { format!("{} clients", expected.len()) };
        let all = named(clients().map(|(address, _)| address));
        format!("{server} is asked by {all}, and the configs have no more than {configured} of it")
    };
    Some(finding(catalogue::SITE_UNKNOWN_CLIENT, Severity::Warning, &tally, message))
}

fn units(modbus: &ModbusService, expected: &[&Expectation], server: &str) -> Option<Finding> {
    let is_unknown = |unit: u8| !expected.iter().any(|expected| expected.unit_ids.contains(&unit));
    let mut unknown: Vec<(u8, Tally)> = modbus
        .units
        .iter()
        .filter(|(unit, _)| is_unknown(*unit))
        .filter_map(|(unit, stats)| {
            Some((*unit, Tally::between(stats.requests, stats.asked.map(|(first, latest)| [first, latest])?)))
        })
        .collect();
    unknown.sort_unstable_by_key(|(unit, _)| *unit);
    let mut requests = Tally::default();
    unknown.iter().for_each(|(_, of_unit)| requests.merge(of_unit));
    let named: Vec<String> = unknown.iter().take(NAMED).map(|(unit, _)| unit.to_string()).collect();
    let message = format!(
        "{} to {server} {} for unit {}, which its configs do not name",
        many(requests.count, "request"),
        if requests.count == 1 { "is" } else { "are" },
        named.join(", ")
    );
    (requests.count > 0).then(|| finding(catalogue::SITE_UNIT_UNKNOWN, Severity::Warning, &requests, message))
}
