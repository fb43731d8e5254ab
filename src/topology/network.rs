//! The place of the endpoints in this host's network: names, routes, interfaces, and what does not fit them.

use super::{
    assemble::sort_problems,
    ends::{self, about},
    problem::{ProblemCode, quote},
};
use crate::api::{Activity, Direction, Endpoint, Host, Interface, Problem, Severity, Topology, Transport};
use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    net::IpAddr,
};

/// How the kernel would reach an address.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RouteFacts {
    /// By which interface.
    pub interface: Option<String>,
    /// From which source address.
    pub source: Option<IpAddr>,
    /// By which next hop, if the address is not on a connected network.
    pub gateway: Option<IpAddr>,
    /// Whether it is one of this host's own addresses.
    pub is_local: bool,
    /// Why nothing can be sent there, in words.
    pub error: Option<String>,
}

/// The host names that configs call endpoints by, each once.
pub fn host_names(topology: &Topology) -> BTreeSet<String> {
    topology.endpoints.iter().filter_map(host_name).map(str::to_owned).collect()
}

fn host_name(endpoint: &Endpoint) -> Option<&str> {
    endpoint.host.as_deref().filter(|name| name.parse::<IpAddr>().is_err() && !name.contains('*'))
}

/// Fills in the addresses of endpoints that configs name by host name. A name without an address becomes a problem that says why.
/// An id made of a name stays as it is. May be called again with newer answers.
pub fn apply_names(topology: &mut Topology, answers: &HashMap<String, Result<IpAddr, String>>) {
    forget(topology, &[ProblemCode::NameUnresolved]);
    let conflicts_before = named_conflicts(topology);
    topology.problems.retain(|problem| !conflicts_before.contains(problem));
    for endpoint in &mut topology.endpoints {
        let Some(name) = host_name(endpoint) else { continue };
        let answer = answers.get(name).cloned().unwrap_or_else(|| Err("it was not asked for".to_owned()));
        if let Err(reason) = &answer {
            let message = format!("the host name {} cannot be resolved: {reason}", quote(name));
            topology.problems.push(about(endpoint, ProblemCode::NameUnresolved, message));
        }
        endpoint.address = answer.ok();
    }
    let conflicts = named_conflicts(topology);
    topology.problems.extend(conflicts);
    sort_problems(&mut topology.problems);
    let local: BTreeSet<IpAddr> = topology.hosts.iter().filter(|host| host.is_local).map(|host| host.address).collect();
    topology.hosts = hosts(&topology.endpoints, |endpoint, address| {
        let is_ours = endpoint.direction == Direction::Inbound && endpoint.controller.is_none();
        is_ours || address.is_loopback() || local.contains(&address)
    });
}

/// Gives each endpoint its interface, source address and next hop, and looks for configs that do not fit this host. `routes` holds
/// the way to each address; `interfaces` are this host's own. May be called again with newer facts.
pub fn apply_network(topology: &mut Topology, routes: &HashMap<IpAddr, RouteFacts>, interfaces: Vec<Interface>) {
    let owned: Vec<(IpAddr, &str)> = interfaces
        .iter()
        .flat_map(|interface| interface.addresses.iter().map(|address| (address, interface.name.as_str())))
        .filter_map(|(address, name)| Some((address.split('/').next()?.parse().ok()?, name)))
        .collect();
    let owner = |address: IpAddr| owned.iter().find(|(own, _)| *own == address).map(|(_, name)| (*name).to_owned());
    let is_local = |address: IpAddr| {
        address.is_loopback() || owner(address).is_some() || routes.get(&address).is_some_and(|route| route.is_local)
    };
    for endpoint in &mut topology.endpoints {
        let route = endpoint.address.and_then(|address| routes.get(&address)).cloned().unwrap_or_default();
        if endpoint.direction == Direction::Inbound {
            endpoint.interface = endpoint.address.and_then(owner);
        } else {
            (endpoint.interface, endpoint.source_address, endpoint.gateway) = (route.interface, route.source, route.gateway);
        }
    }
    topology.hosts = hosts(&topology.endpoints, |_, address| is_local(address));

    forget(topology, &OF_THE_NETWORK);
    let networks = networks(&interfaces);
    let is_known = topology.controllers.is_empty() || topology.controllers.iter().any(|controller| controller.is_local);
    let mut problems = Vec::new();
    for endpoint in &topology.endpoints {
        // What this host's network is to the configs of another host is not known. Where any may be this one, each is looked at.
        let is_here = ends::is_local(topology, endpoint.controller.as_deref());
        if is_known && !is_here {
            continue;
        }
        problems.extend(check_way(endpoint, routes, &interfaces));
        match (endpoint.direction, endpoint.address) {
            (Direction::Inbound, Some(address)) if address.is_unspecified() && networks.len() > 1 => {
                let port = endpoint.port.unwrap_or_default();
                let message =
                    format!("listens on port {port} of all addresses of this host, which is in {}", networks.join(" and "));
                problems.push(about(endpoint, ProblemCode::WildcardBind, message));
            }
            (Direction::Inbound, Some(address))
                if is_here && !owned.is_empty() && !address.is_unspecified() && !is_local(address) =>
            {
                problems.push(bind_address(endpoint, address));
            }
            _ => {}
        }
    }
    let ends = ends::compare(topology, Some(&is_local));
    topology.problems.extend(problems.into_iter().chain(ends.problems));
    topology.pairs = ends.pairs;
    sort_problems(&mut topology.problems);

    topology.interfaces = interfaces;
    for interface in &mut topology.interfaces {
        let uses = |endpoint: &&Endpoint| endpoint.interface.as_deref() == Some(interface.name.as_str());
        interface.endpoints = u32::try_from(topology.endpoints.iter().filter(uses).count()).unwrap_or(u32::MAX);
    }
}

/// The problems that come of this host's network and of both ends being known, and go with it.
const OF_THE_NETWORK: [ProblemCode; 9] = [
    ProblemCode::ListenerWithoutClient,
    ProblemCode::ProtocolMismatch,
    ProblemCode::NoListener,
    ProblemCode::BindAddress,
    ProblemCode::UnitMismatch,
    ProblemCode::LinkAddressMismatch,
    ProblemCode::WildcardBind,
    ProblemCode::NoRoute,
    ProblemCode::InterfaceDown,
];

/// The networks that a host with several interfaces is in, one address of each interface: `10.0.0.2/24 (eth0)`. Addresses that are
/// valid on one link only make no network of their own.
fn networks(interfaces: &[Interface]) -> Vec<String> {
    let is_routed = |address: &&String| !address.starts_with("fe80:") && !address.starts_with("169.254.");
    interfaces
        .iter()
        .filter(|interface| !interface.loopback && interface.up)
        .filter_map(|interface| Some(format!("{} ({})", interface.addresses.iter().find(is_routed)?, interface.name)))
        .collect()
}

/// Whether packets can leave for a device.
fn check_way(endpoint: &Endpoint, routes: &HashMap<IpAddr, RouteFacts>, interfaces: &[Interface]) -> Option<Problem> {
    let address = endpoint.address.filter(|_| endpoint.direction == Direction::Outbound && endpoint.transport != Transport::Rtu)?;
    if let Some(error) = routes.get(&address).and_then(|route| route.error.as_ref()) {
        return Some(about(endpoint, ProblemCode::NoRoute, format!("nothing can be sent to {address}: {error}")));
    }
    let interface = interfaces.iter().find(|interface| Some(&interface.name) == endpoint.interface.as_ref())?;
    let why = match (interface.up, interface.running) {
        (true, true) => return None,
        (false, _) => "is switched off",
        (true, false) => "has no carrier",
    };
    let message = format!("{address} is reached by {}, which {why}", interface.name);
    Some(about(endpoint, ProblemCode::InterfaceDown, message))
}

/// A server's address is none of this host's. With gcom_dnp3_server it may mean the peer.
fn bind_address(server: &Endpoint, address: IpAddr) -> Problem {
    let not_ours = format!("{address} is none of this host's addresses");
    if !ends::may_filter_peers(server) {
        return about(server, ProblemCode::BindAddress, format!("{not_ours}; the server cannot listen there"));
    }
    let message =
        format!("{not_ours}; the server cannot listen there, unless it is gcom_dnp3_server and means the only peer it accepts");
    let problem = about(server, ProblemCode::BindAddress, message);
    Problem { severity: problem.severity.min(Severity::Warning), ..problem }
}

/// The addresses that endpoints are on. A listener on all addresses is on none in particular.
pub(super) fn hosts(endpoints: &[Endpoint], is_local: impl Fn(&Endpoint, IpAddr) -> bool) -> Vec<Host> {
    let mut hosts: BTreeMap<IpAddr, Host> = BTreeMap::new();
    for endpoint in endpoints {
        let Some(address) = endpoint.address.filter(|address| !address.is_unspecified()) else { continue };
        let is_local = is_local(endpoint, address);
        let host = hosts.entry(address).or_insert_with(|| Host {
            address,
            names: Vec::new(),
            is_local: false,
            interface: None,
            gateway: None,
            endpoint_ids: Vec::new(),
        });
        host.is_local |= is_local;
        host.interface = host.interface.take().or_else(|| endpoint.interface.clone());
        host.gateway = host.gateway.or(endpoint.gateway);
        host.endpoint_ids.push(endpoint.endpoint_id.clone());
        if let Some(name) = endpoint.host.as_ref().filter(|name| name.parse::<IpAddr>().is_err())
            && !host.names.contains(name)
        {
            host.names.push(name.clone());
        }
    }
    hosts.into_values().collect()
}

/// Compares both ends where both are in the set, without any knowledge of this host: the configs are those of others.
pub fn compare_ends(topology: &mut Topology) {
    forget(topology, &OF_THE_NETWORK);
    let ends = ends::compare(topology, None);
    topology.problems.extend(ends.problems);
    topology.pairs = ends.pairs;
    sort_problems(&mut topology.problems);
}

/// Servers of which one is named and that are on one place all the same, now that the name is resolved. Those that are on one place as
/// they are written are found without.
fn named_conflicts(topology: &Topology) -> Vec<Problem> {
    let listens = |endpoint: &&Endpoint| {
        endpoint.direction == Direction::Inbound && endpoint.activity != Activity::NotStarted && endpoint.address.is_some()
    };
    let mut by_place: BTreeMap<_, Vec<&Endpoint>> = BTreeMap::new();
    for server in topology.endpoints.iter().filter(listens) {
        by_place.entry((&server.controller, server.address, server.port)).or_default().push(server);
    }
    let conflict = |((_, address, port), servers): ((_, Option<IpAddr>, Option<u16>), Vec<&Endpoint>)| {
        let (named, address) = (servers.iter().find(|server| host_name(server).is_some())?, address?);
        let paths: Vec<&str> = servers.iter().flat_map(|server| &server.config_files).map(String::as_str).collect();
        let name = quote(named.host.as_deref().unwrap_or_default());
        let message = format!("{name} is {address}, whose port {} is listened on by {}", port?, paths.join(", "));
        let problem = ProblemCode::ListenerConflict.at(paths.first()?, message);
        (servers.len() > 1).then(|| Problem { endpoint_id: Some(named.endpoint_id.clone()), ..problem })
    };
    by_place.into_iter().filter_map(conflict).collect()
}

/// Drops the problems of earlier facts.
fn forget(topology: &mut Topology, codes: &[ProblemCode]) {
    topology.problems.retain(|problem| !codes.iter().any(|code| code.code() == problem.code));
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        api::UtcTime,
        topology::{assemble, read_file},
    };

    fn topology(files: &[(&str, &str)]) -> Topology {
        assemble(files.iter().map(|(path, text)| read_file(path, text.as_bytes())).collect(), UtcTime::from_unix_ns(0))
    }

    fn interface(name: &str, address: &str) -> Interface {
        Interface {
            name: name.to_owned(),
            index: 2,
            up: true,
            running: true,
            addresses: vec![address.to_owned()],
            ..Interface::default()
        }
    }

    fn codes(topology: &Topology) -> Vec<&str> {
        topology.problems.iter().map(|problem| problem.code.as_str()).collect()
    }

    const NAMED: &str = r#"{"connection": {"name": "n", "ip_address": "bms.local", "device_id": 1}, "components": []}"#;

    #[test]
    fn a_name_is_asked_for_once_and_its_failure_told_until_it_succeeds() {
        let mut topology =
            topology(&[("a.json", NAMED), ("b.json", &NAMED.replace(r#""device_id""#, r#""port": 503, "device_id""#))]);
        assert_eq!(host_names(&topology).into_iter().collect::<Vec<_>>(), ["bms.local"]);
        let answer = |answer| HashMap::from([("bms.local".to_owned(), answer)]);
        apply_names(&mut topology, &answer(Err("nobody knows it".to_owned())));
        assert_eq!(codes(&topology), vec!["config.name_unresolved"; 2]);
        apply_names(&mut topology, &answer(Ok("10.0.0.5".parse().unwrap())));
        assert_eq!(codes(&topology), Vec::<&str>::new());
        let [host] = topology.hosts.as_slice() else { panic!("{:?}", topology.hosts) };
        assert_eq!((host.names.as_slice(), host.endpoint_ids.len()), (&["bms.local".to_owned()][..], 2));
        assert_eq!(topology.endpoints[0].endpoint_id, "modbus_bms.local_502");
    }

    #[test]
    fn a_way_that_leads_nowhere_is_told() {
        let client = r#"{"connection": {"name": "n", "ip_address": "10.9.0.5", "device_id": 1}, "components": []}"#;
        let mut topology = topology(&[("modbus_client/a.json", client)]);
        let address = "10.9.0.5".parse().unwrap();
        let none = RouteFacts { error: Some("this host has no route to it".to_owned()), ..RouteFacts::default() };
        apply_network(&mut topology, &HashMap::from([(address, none)]), Vec::new());
        assert_eq!(codes(&topology), ["config.no_route"]);
        let by = HashMap::from([(address, RouteFacts { interface: Some("eth1".to_owned()), ..RouteFacts::default() })]);
        for (up, running, expected) in [(true, true, vec![]), (true, false, vec!["config.interface_down"])] {
            let eth1 = Interface { up, running, ..interface("eth1", "10.9.0.1/24") };
            apply_network(&mut topology, &by, vec![eth1]);
            assert_eq!(codes(&topology), expected);
        }
    }

    #[test]
    fn a_listener_on_all_addresses_of_a_host_in_two_networks_is_told() {
        let server = r#"{"system": {"id": "s", "ip_address": "0.0.0.0"}, "registers": {}}"#;
        let mut topology = topology(&[("modbus_server/a.json", server)]);
        let (eth0, mut eth1) = (interface("eth0", "10.0.0.2/24"), interface("eth1", "192.168.1.2/24"));
        apply_network(&mut topology, &HashMap::new(), vec![eth0.clone(), eth1.clone()]);
        assert_eq!(codes(&topology), ["config.listener_without_client", "config.wildcard_bind"]);
        assert!(topology.problems[1].message.ends_with("10.0.0.2/24 (eth0) and 192.168.1.2/24 (eth1)"));
        eth1.addresses = vec!["fe80::1/64".to_owned()];
        apply_network(&mut topology, &HashMap::new(), vec![eth0, eth1]);
        assert_eq!(codes(&topology), ["config.listener_without_client"]);
    }

    #[test]
    fn routes_and_interfaces_are_filled_in() {
        let client = r#"{"connection": {"name": "n", "ip_address": "10.9.0.5", "device_id": 1}, "components": []}"#;
        let server = r#"{"system": {"id": "s", "ip_address": "10.0.0.2"}, "registers": {}}"#;
        let mut topology = topology(&[("modbus_client/a.json", client), ("modbus_server/b.json", server)]);
        let route = RouteFacts {
            interface: Some("eth0".into()),
            source: Some("10.0.0.2".parse().unwrap()),
            gateway: Some("10.0.0.1".parse().unwrap()),
            ..RouteFacts::default()
        };
        let routes = HashMap::from([("10.9.0.5".parse().unwrap(), route.clone())]);
        apply_network(&mut topology, &routes, vec![interface("eth0", "10.0.0.2/24")]);
        let [outbound, inbound] = topology.endpoints.as_slice() else { panic!("{:?}", topology.endpoints) };
        assert_eq!(
            (&outbound.interface, outbound.source_address, outbound.gateway),
            (&route.interface, route.source, route.gateway)
        );
        assert_eq!((inbound.interface.as_deref(), inbound.source_address), (Some("eth0"), None));
        assert_eq!((topology.interfaces[0].endpoints, codes(&topology)), (2, vec!["config.listener_without_client"]));
        let local: Vec<bool> = topology.hosts.iter().map(|host| host.is_local).collect();
        assert_eq!(local, [true, false]);
        apply_network(&mut topology, &HashMap::new(), vec![interface("eth0", "10.0.0.3/24")]);
        let expected = vec!["config.bind_address", "config.listener_without_client"];
        assert_eq!((topology.endpoints[0].gateway, codes(&topology)), (None, expected));
    }

    #[test]
    fn an_address_that_gcom_dnp3_server_may_only_filter_by_is_no_alarm() {
        let outstation = r#"{"system": {"id": "o", "ip_address": "10.0.0.9"}, "objects": {}}"#;
        for (path, severity) in [
            ("dnp3_server/a.json", Severity::Alarm),
            ("gcom_dnp3_server/a.json", Severity::Warning),
            ("configs/a_server.json", Severity::Warning),
        ] {
            let mut topology = topology(&[(path, outstation)]);
            apply_network(&mut topology, &HashMap::new(), vec![interface("eth0", "10.0.0.2/24")]);
            assert_eq!(codes(&topology), ["config.bind_address", "config.listener_without_client"], "{path}");
            assert_eq!(topology.problems[0].severity, severity, "{path}");
        }
    }

    #[test]
    fn both_ends_on_another_host_are_compared_where_both_are_known() {
        let client = r#"{"connection": {"name": "n", "ip_address": "10.7.0.2", "device_id": 98}, "components": [{"id": "c", "frequency": 100}]}"#;
        let server = r#"{"system": {"id": "s", "ip_address": "10.7.0.2", "device_id": 1}, "registers": {}}"#;
        let files = [("site/modbus_client/a.json", client), ("psm/modbus_server/b.json", server)];
        let mut both = topology(&files);
        compare_ends(&mut both);
        assert_eq!(codes(&both), ["config.unit_mismatch"]);
        apply_network(&mut both, &HashMap::new(), vec![interface("eth0", "10.7.0.1/24")]);
        assert_eq!(codes(&both), ["config.unit_mismatch"], "nothing tells that one of the two controllers is this one");
        let mut alone = topology(&files[..1]);
        compare_ends(&mut alone);
        assert_eq!(codes(&alone), Vec::<&str>::new(), "a device is no missing listener");
    }

    #[test]
    fn both_ends_on_this_host_are_compared() {
        let client = r#"{"connection": {"name": "n", "ip_address": "127.0.0.1", "device_id": 98}, "components": [{"id": "c", "frequency": 100}]}"#;
        let server = r#"{"system": {"id": "s", "ip_address": "0.0.0.0", "device_id": 1}, "registers": {}}"#;
        let master = r#"{"system": {"id": "m", "ip_address": "127.0.0.1", "master_address": 3}, "objects": {}}"#;
        let outstation = r#"{"system": {"id": "o", "ip_address": "0.0.0.0"}, "objects": {}}"#;
        let mut alone = topology(&[("modbus_client/a.json", client), ("dnp3_client/b.json", master)]);
        apply_network(&mut alone, &HashMap::new(), Vec::new());
        assert_eq!(codes(&alone), ["config.no_listener"; 2]);
        let files = [
            ("modbus_client/a.json", client),
            ("modbus_server/b.json", server),
            ("dnp3_client/c.json", master),
            ("dnp3_server/d.json", outstation),
        ];
        let mut both = topology(&files);
        for _ in 0..2 {
            apply_network(&mut both, &HashMap::new(), Vec::new());
            assert_eq!(codes(&both), ["config.link_address_mismatch", "config.unit_mismatch"]);
        }
        let agreeing = [(files[0].0, &*client.replace("98", "1")), files[1], (files[2].0, &*master.replace('3', "1")), files[3]];
        let mut agreeing = topology(&agreeing);
        apply_network(&mut agreeing, &HashMap::new(), Vec::new());
        assert_eq!(codes(&agreeing), Vec::<&str>::new());
    }

    #[test]
    fn one_place_by_its_name_and_by_its_address_is_a_conflict() {
        let server = |id: &str, host: &str| format!(r#"{{"system": {{"id": "{id}", "ip_address": "{host}"}}, "registers": {{}}}}"#);
        let mut topology =
            topology(&[("modbus_server/a.json", &server("a", "localhost")), ("modbus_server/b.json", &server("b", "127.0.0.1"))]);
        assert_eq!(codes(&topology), Vec::<&str>::new());
        for (address, expected) in [("127.0.0.1", vec!["config.listener_conflict"]), ("127.0.0.2", vec![])] {
            for _ in 0..2 {
                apply_names(&mut topology, &HashMap::from([("localhost".to_owned(), Ok(address.parse().unwrap()))]));
                assert_eq!(codes(&topology), expected);
            }
        }
    }

    #[test]
    fn an_address_that_may_be_the_peers_is_no_alarm() {
        let outstation = r#"{"system": {"id": "o", "ip_address": "10.0.0.9"}, "objects": {}}"#;
        for (dir, severity) in [("gcom_dnp3_server", Severity::Warning), ("dnp3_server", Severity::Alarm)] {
            let mut topology = topology(&[(&format!("{dir}/a.json"), outstation)]);
            apply_network(&mut topology, &HashMap::new(), vec![interface("eth0", "10.0.0.2/24")]);
            assert_eq!((topology.problems[0].code.as_str(), topology.problems[0].severity), ("config.bind_address", severity));
        }
    }
}
