//! Both ends of a connection, where the configs of both are in the set: who connects to whom, and whether the two can work together.

use super::problem::{ProblemCode, quote};
use crate::api::{Activity, Direction, Endpoint, Pair, Problem, Protocol, Severity, Topology, Transport};
use std::{
    collections::{HashMap, HashSet},
    net::IpAddr,
};

/// What is found where both ends are looked at together.
#[derive(Debug, Default)]
pub(super) struct Ends {
    pub pairs: Vec<Pair>,
    pub problems: Vec<Problem>,
}

/// Finds both ends. `here` tells which addresses are this host's own; `None` where the configs are those of others.
pub(super) fn compare(topology: &Topology, here: Option<&dyn Fn(IpAddr) -> bool>) -> Ends {
    let view = View::of(topology, here);
    let mut ends = Ends::default();
    let mut connected: HashSet<&str> = HashSet::new();
    for client in topology.endpoints.iter().filter(|endpoint| endpoint.direction == Direction::Outbound) {
        let (Some(target), Some(_)) = (client.address, client.port) else { continue };
        let servers = view.servers(client, target);
        if servers.is_empty() {
            // What is in no config has its other end in none either.
            if !client.config_files.is_empty() {
                ends.problems.extend(view.no_listener(client, target));
            }
            continue;
        }
        connected.extend(servers.iter().map(|server| server.endpoint_id.as_str()));
        if is_used(client) && !servers.iter().any(|server| is_used(server)) {
            ends.problems.push(only_spares(client, target, &servers));
        }
        let understood: Vec<&Endpoint> = servers.iter().copied().filter(|server| speaks_with(client, server)).collect();
        if let Some(server) = servers.first().filter(|_| understood.is_empty()) {
            ends.problems.push(protocol_mismatch(client, server));
        }
        for server in servers {
            // Several servers on one place share the connections, so each may be the one that answers.
            let problem = match client.protocol {
                _ if !speaks_with(client, server) => None,
                Protocol::Modbus => units(client, server),
                _ => links(client, server),
            };
            let agrees = speaks_with(client, server) && problem.is_none();
            ends.problems.extend(problem);
            ends.pairs.push(Pair { client: client.endpoint_id.clone(), server: server.endpoint_id.clone(), agrees });
        }
    }
    let listens = |endpoint: &&Endpoint| endpoint.direction == Direction::Inbound && endpoint.serial.is_none() && is_used(endpoint);
    for server in topology.endpoints.iter().filter(listens) {
        if !connected.contains(server.endpoint_id.as_str()) {
            let place = place(server);
            let message = format!("listens on {place}, and no client of the scanned configs connects there");
            ends.problems.push(about(server, ProblemCode::ListenerWithoutClient, message));
        }
    }
    ends.pairs.sort();
    ends
}

/// A problem of an endpoint, found at the first of its configs; a spare's is worth a note only.
pub(super) fn about(endpoint: &Endpoint, code: ProblemCode, mut message: String) -> Problem {
    if endpoint.config_files.len() > 1 {
        message.push_str(&format!(" (configured in {})", endpoint.config_files.join(", ")));
    }
    let path = endpoint.config_files.first().cloned();
    let severity = if is_used(endpoint) { code.severity() } else { Severity::Info };
    Problem { endpoint_id: Some(endpoint.endpoint_id.clone()), path, severity, ..code.at("", message) }
}

fn is_used(endpoint: &Endpoint) -> bool {
    endpoint.activity != Activity::NotStarted
}

fn place(server: &Endpoint) -> String {
    let host = server.host.clone().or_else(|| server.address.map(|address| address.to_string())).unwrap_or_default();
    format!("{host}:{}", server.port.unwrap_or_default())
}

/// What is known of who listens where.
struct View<'t> {
    topology: &'t Topology,
    here: Option<&'t dyn Fn(IpAddr) -> bool>,
    by_port: HashMap<u16, Vec<&'t Endpoint>>,
    /// The addresses that a controller's servers are bound to, so its own.
    bound: HashSet<(Option<&'t str>, IpAddr)>,
}

impl<'t> View<'t> {
    fn of(topology: &'t Topology, here: Option<&'t dyn Fn(IpAddr) -> bool>) -> Self {
        let mut by_port: HashMap<u16, Vec<&Endpoint>> = HashMap::new();
        let mut bound = HashSet::new();
        for server in topology.endpoints.iter().filter(|endpoint| endpoint.direction == Direction::Inbound) {
            if let Some(port) = server.port {
                by_port.entry(port).or_default().push(server);
            }
            let concrete = server.address.filter(|address| !address.is_unspecified() && !address.is_loopback());
            if let Some(address) = concrete.filter(|_| !may_filter_peers(server)) {
                bound.insert((server.controller.as_deref(), address));
            }
        }
        Self { topology, here, by_port, bound }
    }

    /// Whether an address is a controller's own: this host's are the kernel's to tell, those of others their servers are bound to.
    fn owns(&self, controller: Option<&str>, address: IpAddr) -> bool {
        match self.here.filter(|_| is_local(self.topology, controller)) {
            Some(is_own) => is_own(address),
            None => self.bound.contains(&(controller, address)),
        }
    }

    /// The servers that a client's connection may reach: those bound to the very address, else those on all addresses of the
    /// controller that it belongs to; those that are used, else spares.
    fn servers(&self, client: &Endpoint, target: IpAddr) -> Vec<&'t Endpoint> {
        let is_own = target.is_loopback() || target.is_unspecified();
        let listens = |server: &&Endpoint| {
            let Some(bound) = server.address else { return false };
            match is_own {
                true => {
                    server.controller == client.controller && (bound == target || bound.is_unspecified() || target.is_unspecified())
                }
                false => bound == target || bound.is_unspecified() && self.owns(server.controller.as_deref(), target),
            }
        };
        let on_port = client.port.and_then(|port| self.by_port.get(&port)).map(Vec::as_slice).unwrap_or_default();
        let mut servers: Vec<&Endpoint> = on_port.iter().copied().filter(listens).collect();
        for better in [|server: &Endpoint, _: IpAddr| is_used(server), |server: &Endpoint, target| server.address == Some(target)] {
            if servers.iter().any(|server| better(server, target)) {
                servers.retain(|server| better(server, target));
            }
        }
        servers
    }

    /// Nobody listens where a controller of the set ought to.
    fn no_listener(&self, client: &Endpoint, target: IpAddr) -> Option<Problem> {
        let port = client.port?;
        let controller = client.controller.as_deref();
        let whose = if target.is_loopback() || target.is_unspecified() || self.owns(controller, target) {
            if self.here.is_some() && is_local(self.topology, controller) {
                "this host".to_owned()
            } else {
                "the client's own host".to_owned()
            }
        } else {
            let owner = self.topology.controllers.iter().find(|owner| self.owns(Some(&owner.name), target))?;
            quote(&owner.name)
        };
        let message = format!("the target {target}:{port} is on {whose}, and no config listens there");
        Some(about(client, ProblemCode::NoListener, message))
    }
}

/// Whether the address of a server may be the only peer that it accepts, instead of its own: with gcom_dnp3_server it is not known.
pub(super) fn may_filter_peers(server: &Endpoint) -> bool {
    server.protocol == Protocol::Dnp3 && matches!(server.process.as_deref(), None | Some("gcom_dnp3_server"))
}

/// Whether a controller is this one, as far as is known: the only one is.
pub(super) fn is_local(topology: &Topology, controller: Option<&str>) -> bool {
    match controller {
        None => topology.controllers.is_empty(),
        Some(name) => topology.controllers.iter().any(|controller| controller.is_local && controller.name == name),
    }
}

fn only_spares(client: &Endpoint, target: IpAddr, servers: &[&Endpoint]) -> Problem {
    let files: Vec<&str> = servers.iter().flat_map(|server| &server.config_files).map(String::as_str).collect();
    let port = client.port.unwrap_or_default();
    let message = format!("nothing listens at the target {target}:{port}: {} would, but nothing starts it", files.join(", "));
    about(client, ProblemCode::NoListener, message)
}

fn speaks_with(client: &Endpoint, server: &Endpoint) -> bool {
    (client.protocol, client.transport) == (server.protocol, server.transport)
}

fn protocol_mismatch(client: &Endpoint, server: &Endpoint) -> Problem {
    let what = |endpoint: &Endpoint| match endpoint.transport {
        _ if client.protocol != server.protocol => endpoint.protocol.to_string(),
        Transport::Tls => format!("{} over TLS", endpoint.protocol),
        _ => format!("{} without TLS", endpoint.protocol),
    };
    let message = format!(
        "speaks {}, but {} listens on {} with {}",
        what(client),
        server.config_files.join(", "),
        place(server),
        what(server)
    );
    about(client, ProblemCode::ProtocolMismatch, message)
}

/// Whether the server has the units that the client asks, those by default included.
fn units(client: &Endpoint, server: &Endpoint) -> Option<Problem> {
    if server.accepts_any_unit {
        return None;
    }
    let is_missing = |unit: &u8| !server.unit_ids.contains(unit);
    let mut missing: Vec<u8> = client.unit_ids.iter().copied().filter(is_missing).collect();
    let mut severity = None;
    let mut by_default = String::new();
    if client.uses_default_unit {
        let defaults: &[(u8, &str)] = match client.process.as_deref() {
            Some("modbus_client") => &[(255, "modbus_client")],
            Some("gcom_modbus_client") => &[(1, "gcom_modbus_client")],
            _ => &[(255, "modbus_client"), (1, "gcom_modbus_client")],
        };
        let lost: Vec<&(u8, &str)> = defaults.iter().filter(|(unit, _)| !server.unit_ids.contains(unit)).collect();
        let asks: Vec<String> = lost.iter().map(|(unit, process)| format!("{unit} is what {process} asks")).collect();
        if !lost.is_empty() {
            by_default = format!(" without a unit id in the config ({})", asks.join(", "));
            // It depends on which client runs.
            severity = (missing.is_empty() && lost.len() < defaults.len()).then_some(Severity::Info);
            missing.extend(lost.iter().map(|(unit, _)| *unit));
        }
    }
    if missing.is_empty() {
        return None;
    }
    missing.sort_unstable();
    missing.dedup();
    let answer = match server.process.as_deref() {
        Some("modbus_server") => "; modbus_server does not look at the unit and answers all the same, another server would not",
        Some("gcom_modbus_server") => "; what gcom_modbus_server does then is undefined",
        _ => "",
    };
    let files = server.config_files.join(", ");
    let message = format!("asks units {missing:?}{by_default}, but {files} serves {:?}{answer}", server.unit_ids);
    let problem = about(client, ProblemCode::UnitMismatch, message);
    Some(Problem { severity: severity.unwrap_or(problem.severity), ..problem })
}

/// Whether the link addresses of the two mirror each other.
fn links(client: &Endpoint, server: &Endpoint) -> Option<Problem> {
    let mirrored = |(local, remote)| server.dnp3_addresses.iter().any(|other| other.local == remote && other.remote == local);
    let lost = client.dnp3_addresses.iter().find(|own| !mirrored((own.local, own.remote)))?;
    let files = server.config_files.join(", ");
    let message = format!("link addresses local {}, remote {} have no counterpart in {files}", lost.local, lost.remote);
    Some(about(client, ProblemCode::LinkAddressMismatch, message))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        api::UtcTime,
        topology::{assemble, read_file},
    };

    fn topology(files: &[(&str, String)]) -> Topology {
        assemble(files.iter().map(|(path, text)| read_file(path, text.as_bytes())).collect(), UtcTime::from_unix_ns(0))
    }

    /// The problems above a note, and how many pairs agree and do not.
    fn found(files: &[(&str, String)]) -> (Vec<String>, [usize; 2]) {
        let ends = compare(&topology(files), None);
        let count = |agrees| ends.pairs.iter().filter(|pair| pair.agrees == agrees).count();
        let counts = [count(true), count(false)];
        let above = ends.problems.into_iter().filter(|problem| problem.severity > Severity::Info);
        (above.map(|problem| problem.code).collect(), counts)
    }

    fn client(target: &str, port: u16, unit: Option<u8>) -> String {
        let unit = unit.map_or(String::new(), |unit| format!(r#", "device_id": {unit}"#));
        format!(
            r#"{{"connection": {{"name": "n", "ip_address": "{target}", "port": {port}{unit}}}, "components": [{{"id": "c", "registers": [
            {{"type": "Holding", "map": [{{"id": "p", "offset": 1}}]}}]}}]}}"#
        )
    }

    fn server(bind: &str, port: u16, unit: u8) -> String {
        format!(
            r#"{{"system": {{"id": "s{port}{bind}", "ip_address": "{bind}", "port": {port}, "device_id": {unit}}}, "registers": {{}}}}"#
        )
    }

    fn dnp3(address: &str, port: u16, conn_type: &str) -> String {
        format!(
            r#"{{"system": {{"id": "d", "ip_address": "{address}", "port": {port}, "conn_type": "{conn_type}"}}, "objects": {{}}}}"#
        )
    }

    const AGREE: [usize; 2] = [1, 0];
    const DIFFER: [usize; 2] = [0, 1];

    #[test]
    fn the_unit_that_is_asked_by_default_is_looked_for_too() {
        let pair = |process: &'static str, unit| {
            let client = (process, client("127.0.0.1", 1502, None));
            found(&[client, ("modbus_server/s.json", server("0.0.0.0", 1502, unit))])
        };
        let mismatch = (vec!["config.unit_mismatch".to_owned()], DIFFER);
        assert_eq!(pair("modbus_client/c.json", 2), mismatch);
        assert_eq!(pair("modbus_client/c.json", 255), (vec![], AGREE));
        assert_eq!(pair("gcom_modbus_client/c.json", 1), (vec![], AGREE));
        assert_eq!(pair("gcom_modbus_client/c.json", 2), mismatch);
        assert_eq!(pair("c.json", 2), mismatch);
        assert_eq!(pair("c.json", 1), (vec![], DIFFER), "it depends on the process");
    }

    #[test]
    fn ends_that_speak_another_language_are_told() {
        let to = |file: (&'static str, String), other: (&'static str, String)| found(&[file, other]);
        let mismatch = (vec!["config.protocol_mismatch".to_owned()], DIFFER);
        let outstation = |conn_type| ("dnp3_server/o.json", dnp3("0.0.0.0", 20000, conn_type));
        assert_eq!(to(("modbus_client/c.json", client("127.0.0.1", 20000, Some(1))), outstation("TCP")), mismatch);
        assert_eq!(to(("dnp3_client/m.json", dnp3("127.0.0.1", 20000, "TLS")), outstation("TCP")), mismatch);
        assert_eq!(to(("dnp3_client/m.json", dnp3("127.0.0.1", 20000, "TLS")), outstation("TLS")), (vec![], AGREE));
    }

    #[test]
    fn a_server_bound_to_the_address_goes_before_one_bound_to_all() {
        let files = [
            ("modbus_client/c.json", client("10.0.0.1", 502, Some(1))),
            ("modbus_server/all.json", server("0.0.0.0", 502, 1)),
            ("modbus_server/own.json", server("10.0.0.1", 502, 2)),
        ];
        assert_eq!(found(&files), (vec!["config.unit_mismatch".to_owned()], DIFFER));
        // Without the concrete one nothing tells that the address is this controller's.
        assert_eq!(found(&files[..2]), (vec![], [0, 0]));
    }

    #[test]
    fn a_server_on_all_addresses_is_found_by_what_else_its_controller_is_bound_to() {
        let files = |unit| {
            [
                ("s/site/config/modbus_client/c.json", client("10.7.0.2", 10_000, Some(unit))),
                ("s/psm/config/modbus_server/all.json", server("0.0.0.0", 10_000, 1)),
                ("s/psm/config/modbus_server/own.json", server("10.7.0.2", 10_001, 1)),
                ("s/site/config/modbus_server/other.json", server("0.0.0.0", 10_000, 9)),
            ]
        };
        assert_eq!(found(&files(1)), (vec![], AGREE));
        assert_eq!(found(&files(98)), (vec!["config.unit_mismatch".to_owned()], DIFFER));
        let nobody = [("s/site/config/modbus_client/c.json", client("10.7.0.2", 7, Some(1))), files(1)[2].clone()];
        let ends = compare(&topology(&nobody), None);
        let told = ends.problems.iter().find(|problem| problem.code == "config.no_listener").unwrap();
        assert_eq!(told.message, "the target 10.7.0.2:7 is on `psm`, and no config listens there");
    }

    #[test]
    fn a_server_that_nobody_connects_to_is_worth_a_note() {
        let ends = compare(&topology(&[("dnp3_server/o.json", dnp3("0.0.0.0", 20000, "TCP"))]), None);
        let [problem] = ends.problems.as_slice() else { panic!("{:?}", ends.problems) };
        assert_eq!((problem.code.as_str(), problem.severity), ("config.listener_without_client", Severity::Info));
        assert!(problem.message.contains("0.0.0.0:20000"), "{}", problem.message);
    }

    #[test]
    fn a_server_that_nothing_starts_is_none() {
        let files =
            [("modbus_client/c.json", client("127.0.0.1", 502, Some(1))), ("modbus_server/s.json", server("0.0.0.0", 502, 1))];
        let mut topology = topology(&files);
        for (client, server, expected) in [
            (Activity::Started, Activity::NotStarted, vec![("config.no_listener", Severity::Warning)]),
            (Activity::NotStarted, Activity::NotStarted, vec![]),
            (Activity::Unknown, Activity::Unknown, vec![]),
        ] {
            (topology.endpoints[0].activity, topology.endpoints[1].activity) = (client, server);
            let problems = compare(&topology, None).problems;
            assert_eq!(problems.iter().map(|problem| (problem.code.as_str(), problem.severity)).collect::<Vec<_>>(), expected);
        }
    }
}
