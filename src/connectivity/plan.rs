//! What is to be done with each endpoint: a plain function of the request and the topology.

use crate::api::{ApiError, ConnectState, ConnectivityRequest, Direction, Endpoint, ExtraEndpoint, Interface, Protocol, Transport};
use std::{
    collections::{BTreeMap, BTreeSet, HashMap, HashSet},
    net::{IpAddr, SocketAddr},
    path::Path,
};

/// What is to be done with one endpoint's port.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ConnectPlan {
    /// Connect to it.
    Connect(SocketAddr),
    /// Do not, and say so: `Skipped` or `NotRequested`, and why.
    Leave(ConnectState, String),
}

/// One endpoint of the test.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PlannedEndpoint {
    /// The endpoint.
    pub endpoint: Endpoint,
    /// What to do with its port.
    pub connect: ConnectPlan,
}

/// One address, and what to do there: its ping and then its connects, one after the other.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Device {
    /// The address.
    pub address: IpAddr,
    /// Whether to ping it.
    pub ping: bool,
    /// Its endpoints, as indices into [`Plan::endpoints`].
    pub endpoints: Vec<usize>,
}

/// The whole test.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Plan {
    /// Every endpoint of the test, in the order of the topology; extra ones last.
    pub endpoints: Vec<PlannedEndpoint>,
    /// The addresses to probe.
    pub devices: Vec<Device>,
    /// The endpoints that are not probed, as indices.
    pub watched_only: Vec<usize>,
    /// What of the request could not be met.
    pub problems: Vec<String>,
}

/// Plans a test.
///
/// # Errors
/// A `bad_request` naming `targets` or `protocols` when nothing at all is left to test although something was asked for by name.
pub fn plan(request: &ConnectivityRequest, topology: &[Endpoint]) -> Result<Plan, ApiError> {
    let mut plan = Plan::default();
    let mut endpoints: Vec<Endpoint> = topology.to_vec();
    let mut known: HashSet<String> = topology.iter().map(|endpoint| endpoint.endpoint_id.clone()).collect();
    let extra: Vec<Endpoint> = request.extra.iter().map(ExtraEndpoint::endpoint).collect();
    let asked_for: HashSet<String> = extra.iter().map(|endpoint| endpoint.endpoint_id.clone()).collect();
    endpoints.extend(extra.into_iter().filter(|endpoint| known.insert(endpoint.endpoint_id.clone())));
    // Before anything is filtered out: an outstation is one by whatever name its port is asked for.
    let outstations: HashSet<SocketAddr> = endpoints
        .iter()
        .filter(|endpoint| endpoint.protocol == Protocol::Dnp3 && endpoint.direction != Direction::Inbound)
        .filter_map(|endpoint| Some(SocketAddr::new(endpoint.address?, endpoint.port?)))
        .collect();
    if let Some(targets) = &request.targets {
        let mut choice = Targets::new(targets);
        // What `extra` names is asked for by that.
        endpoints.retain(|endpoint| choice.matches(endpoint) | asked_for.contains(&endpoint.endpoint_id));
        let unmatched = choice.unmatched();
        if unmatched.len() == targets.len() && request.extra.is_empty() {
            let message = format!(
                "no endpoint matches {}; a target is an endpoint id, an address, `address:port`, a config file name or a CIDR \
                 block; an address that is in no config goes into `extra`",
                targets.iter().take(3).map(|target| format!("`{target}`")).collect::<Vec<_>>().join(", ")
            );
            return Err(ApiError::bad_field("targets", message));
        }
        plan.problems.extend(unmatched.iter().take(20).map(|target| format!("the target `{target}` matches no endpoint")));
    }
    if let Some(protocols) = &request.protocols {
        endpoints.retain(|endpoint| protocols.contains(&endpoint.protocol));
        if endpoints.is_empty() {
            return Err(ApiError::bad_field(
                "protocols",
                "no endpoint speaks any of these protocols; leave `protocols` out to test all",
            ));
        }
    }
    let mut devices: BTreeMap<IpAddr, Device> = BTreeMap::new();
    for (index, endpoint) in endpoints.into_iter().enumerate() {
        let connect = connect_plan(request, &endpoint, &outstations);
        let pinged = request.ping && endpoint.direction == Direction::Outbound && endpoint.transport != Transport::Rtu;
        match endpoint.address.filter(|address| pinged && is_device(*address)).or(match connect {
            ConnectPlan::Connect(target) => Some(target.ip()),
            ConnectPlan::Leave(..) => None,
        }) {
            Some(address) => {
                let device = devices.entry(address).or_insert(Device { address, ping: request.ping, endpoints: Vec::new() });
                device.endpoints.push(index);
            }
            None => plan.watched_only.push(index),
        }
        plan.endpoints.push(PlannedEndpoint { endpoint, connect });
    }
    plan.devices = devices.into_values().collect();
    Ok(plan)
}

/// The port that DNP3 has by its registration.
const DNP3_PORT: u16 = 20_000;

fn connect_plan(request: &ConnectivityRequest, endpoint: &Endpoint, outstations: &HashSet<SocketAddr>) -> ConnectPlan {
    let skip = |why: String| ConnectPlan::Leave(ConnectState::Skipped, why);
    if endpoint.transport == Transport::Rtu {
        return skip("a serial line has no port to connect to".to_owned());
    }
    match endpoint.direction {
        Direction::Inbound => return skip("this controller listens here; its socket table tells".to_owned()),
        Direction::Undetermined => {
            return skip("the config does not tell which end connects, so the port is left alone".to_owned());
        }
        Direction::Outbound => {}
    }
    let socket = endpoint.address.zip(endpoint.port).map(|(address, port)| SocketAddr::new(address, port));
    // DNP3's own port, with nobody saying what is spoken there, is taken for an outstation's.
    let likely = endpoint.protocol == Protocol::Tcp && endpoint.port == Some(DNP3_PORT);
    if endpoint.protocol == Protocol::Dnp3 || likely || socket.is_some_and(|socket| outstations.contains(&socket)) {
        if !request.dnp3_connect {
            let why = "a connect can throw out the master of an old DNP3 outstation; send dnp3_connect: true to do it all the same";
            return skip(why.to_owned());
        }
    } else if !request.connect {
        return ConnectPlan::Leave(ConnectState::NotRequested, "the request says connect: false".to_owned());
    }
    match (endpoint.address, endpoint.port) {
        (Some(address), Some(port)) if is_device(address) && port != 0 => ConnectPlan::Connect(SocketAddr::new(address, port)),
        (Some(address), Some(port)) => skip(format!("{address}:{port} is not the address of a device")),
        _ => skip(match &endpoint.host {
            Some(host) => format!("the host name `{host}` could not be resolved"),
            None => "the config gives no address".to_owned(),
        }),
    }
}

/// Whether an address may be probed: one host's, not a group's and not a placeholder.
fn is_device(address: IpAddr) -> bool {
    let broadcast = matches!(address, IpAddr::V4(v4) if v4.is_broadcast());
    !(broadcast || address.is_multicast() || address.is_unspecified())
}

/// The interfaces on which the traffic of these endpoints passes: by the kernel's route to a device, by the bind address of a
/// port that this controller listens on. For a wildcard bind it is every interface that is up and has an address.
pub fn capture_interfaces<'a>(endpoints: impl IntoIterator<Item = &'a Endpoint>, interfaces: &[Interface]) -> Vec<String> {
    let mut names = BTreeSet::new();
    for endpoint in endpoints.into_iter().filter(|endpoint| endpoint.transport != Transport::Rtu) {
        match (endpoint.direction, endpoint.address) {
            (Direction::Outbound, _) => names.extend(endpoint.interface.as_deref()),
            (_, Some(address)) if !address.is_unspecified() => {
                let owns = |interface: &&Interface| {
                    interface.addresses.iter().any(|own| own.split('/').next().is_some_and(|own| own.parse() == Ok(address)))
                };
                names.extend(interfaces.iter().find(owns).map(|interface| interface.name.as_str()));
            }
            _ => names.extend(interfaces.iter().filter(|i| i.up && !i.addresses.is_empty()).map(|i| i.name.as_str())),
        }
    }
    names.into_iter().map(str::to_owned).collect()
}

/// The targets of a request, laid out so that thousands of them are matched with thousands of endpoints in no time.
struct Targets<'a> {
    all: &'a [String],
    /// Ids, names, addresses and `address:port`, each in the one way it is written here, with the targets that say so.
    words: HashMap<String, Vec<usize>>,
    /// CIDR blocks.
    networks: Vec<(&'a str, &'a str, usize)>,
    matched: HashSet<usize>,
}

impl<'a> Targets<'a> {
    fn new(all: &'a [String]) -> Self {
        let mut words: HashMap<String, Vec<usize>> = HashMap::new();
        let mut networks = Vec::new();
        for (index, target) in all.iter().enumerate() {
            let address = target.parse::<IpAddr>().map(|address| address.to_string());
            let socket = || target.parse::<SocketAddr>().map(|socket| socket.to_string());
            words.entry(address.or_else(|_| socket()).unwrap_or_else(|_| target.clone())).or_default().push(index);
            if let Some((network, prefix)) = target.split_once('/').filter(|(network, _)| network.parse::<IpAddr>().is_ok()) {
                networks.push((network, prefix, index));
            }
        }
        Self { all, words, networks, matched: HashSet::new() }
    }

    /// Whether any target names the endpoint; notes which do.
    fn matches(&mut self, endpoint: &Endpoint) -> bool {
        let mut keys = vec![endpoint.endpoint_id.clone()];
        keys.extend(endpoint.host.clone());
        if let Some(address) = endpoint.address {
            keys.push(address.to_string());
            keys.extend(endpoint.port.map(|port| SocketAddr::new(address, port).to_string()));
        }
        for file in &endpoint.config_files {
            let path = Path::new(file);
            keys.push(file.clone());
            keys.extend(
                [path.file_name(), path.file_stem()].into_iter().flatten().filter_map(|name| name.to_str().map(str::to_owned)),
            );
        }
        let by_word = keys.iter().filter_map(|key| self.words.get(key)).flatten().copied();
        let by_network = endpoint.address.into_iter().flat_map(|address| {
            self.networks.iter().filter(move |(network, prefix, _)| in_network(address, network, prefix)).map(|(.., index)| *index)
        });
        let matched: Vec<usize> = by_word.chain(by_network).collect();
        let any = !matched.is_empty();
        self.matched.extend(matched);
        any
    }

    fn unmatched(&self) -> Vec<&'a String> {
        self.all.iter().enumerate().filter(|(index, _)| !self.matched.contains(index)).map(|(_, target)| target).collect()
    }
}

/// Whether an address is in `network/prefix` (RFC 4632); false for anything that is no such block.
fn in_network(address: IpAddr, network: &str, prefix: &str) -> bool {
    let (Ok(network), Ok(prefix)) = (network.parse::<IpAddr>(), prefix.parse::<u32>()) else { return false };
    let (address, network, bits) = match (address, network) {
        (IpAddr::V4(address), IpAddr::V4(network)) => (u128::from(address.to_bits()), u128::from(network.to_bits()), 32_u32),
        (IpAddr::V6(address), IpAddr::V6(network)) => (address.to_bits(), network.to_bits(), 128),
        _ => return false,
    };
    match bits.checked_sub(prefix) {
        Some(128) => true,
        Some(host_bits) => (address ^ network) >> host_bits == 0,
        None => false,
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::api::{ErrorCode, endpoint_id};
    use proptest::prelude::*;

    pub(in crate::connectivity) fn endpoint(protocol: Protocol, direction: Direction, address: &str, port: u16) -> Endpoint {
        let extra = ExtraEndpoint { address: address.to_owned(), port, protocol };
        Endpoint {
            endpoint_id: endpoint_id(protocol, direction, address, Some(port)),
            direction,
            config_files: vec![format!("/config/{protocol}/{address}.json")],
            ..extra.endpoint()
        }
    }

    fn site() -> Vec<Endpoint> {
        vec![
            endpoint(Protocol::Modbus, Direction::Outbound, "10.0.0.1", 502),
            endpoint(Protocol::Modbus, Direction::Outbound, "10.0.0.1", 503),
            endpoint(Protocol::Dnp3, Direction::Outbound, "10.0.0.2", 20000),
            endpoint(Protocol::Modbus, Direction::Inbound, "0.0.0.0", 502),
            endpoint(Protocol::Dnp3, Direction::Undetermined, "10.0.0.3", 20000),
        ]
    }

    fn ids(plan: &Plan) -> Vec<&str> {
        plan.endpoints.iter().map(|planned| planned.endpoint.endpoint_id.as_str()).collect()
    }

    #[test]
    fn dnp3_is_connected_only_when_the_request_says_so() {
        let outbound = |plan: &Plan| plan.endpoints[2].connect.clone();
        let default = plan(&ConnectivityRequest::default(), &site()).unwrap();
        assert!(matches!(outbound(&default), ConnectPlan::Leave(ConnectState::Skipped, why) if why.contains("dnp3_connect")));
        let asked = plan(&ConnectivityRequest { dnp3_connect: true, ..Default::default() }, &site()).unwrap();
        assert_eq!(outbound(&asked), ConnectPlan::Connect("10.0.0.2:20000".parse().unwrap()));
        // A file that may be an outstation's is left alone all the same, and so is a port of our own.
        for index in [3, 4] {
            assert!(matches!(asked.endpoints[index].connect, ConnectPlan::Leave(ConnectState::Skipped, _)));
        }
        assert_eq!(asked.watched_only, [3, 4]);
    }

    #[test]
    fn an_outstation_is_left_alone_by_whatever_name_it_is_asked_for() {
        let extra = |address: &str, port| ExtraEndpoint { address: address.to_owned(), port, protocol: Protocol::Tcp };
        let mut sites = site();
        sites.push(endpoint(Protocol::Modbus, Direction::Outbound, "10.0.0.2", 20000));
        let request = ConnectivityRequest {
            extra: vec![extra("10.0.0.2", 20000), extra("10.0.0.3", 20000), extra("10.0.0.8", 20000), extra("10.0.0.8", 22)],
            protocols: Some(vec![Protocol::Tcp, Protocol::Modbus]),
            ..Default::default()
        };
        let connects = |request: &ConnectivityRequest| -> Vec<SocketAddr> {
            let plan = plan(request, &sites).unwrap();
            let target = |planned: PlannedEndpoint| match planned.connect {
                ConnectPlan::Connect(target) => Some(target),
                ConnectPlan::Leave(..) => None,
            };
            plan.endpoints.into_iter().filter_map(target).filter(|target| target.port() == 20000 || target.port() == 22).collect()
        };
        assert_eq!(connects(&request), ["10.0.0.8:22".parse().unwrap()]);
        assert_eq!(connects(&ConnectivityRequest { dnp3_connect: true, ..request }).len(), 5);
    }

    #[test]
    fn a_device_with_two_ports_is_one_device() {
        let plan = plan(&ConnectivityRequest::default(), &site()).unwrap();
        assert_eq!(plan.devices[0], Device { address: "10.0.0.1".parse().unwrap(), ping: true, endpoints: vec![0, 1] });
        assert_eq!(plan.devices[1].endpoints, [2], "a DNP3 device is pinged");
        assert_eq!(plan.devices.len(), 2);
    }

    #[test]
    fn targets_are_ids_addresses_ports_files_and_networks() {
        let chosen = |target: &str| {
            let request = ConnectivityRequest { targets: Some(vec![target.to_owned()]), ..Default::default() };
            plan(&request, &site()).map(|plan| ids(&plan).into_iter().map(str::to_owned).collect::<Vec<_>>())
        };
        assert_eq!(chosen("modbus_10.0.0.1_503").unwrap(), ["modbus_10.0.0.1_503"]);
        assert_eq!(chosen("10.0.0.1").unwrap().len(), 2);
        assert_eq!(chosen("10.0.0.1:502").unwrap(), ["modbus_10.0.0.1_502"]);
        assert_eq!(chosen("10.0.0.2.json").unwrap(), ["dnp3_10.0.0.2_20000"]);
        assert_eq!(chosen("10.0.0.2/31").unwrap().len(), 2);
        assert_eq!(chosen("0.0.0.0/0").unwrap().len(), 5);
        for nothing in ["10.0.0.9", "10.0.0.1:99", "10.0.0.1/33", "10.0.0.1/x", "", "bms"] {
            let error = chosen(nothing).unwrap_err();
            assert_eq!((error.code, error.field.as_deref()), (ErrorCode::BadRequest, Some("targets")), "{nothing}");
        }
    }

    #[test]
    fn a_target_that_matches_nothing_beside_one_that_does_is_told() {
        let request =
            ConnectivityRequest { targets: Some(vec!["10.0.0.1:502".to_owned(), "bms_7".to_owned()]), ..Default::default() };
        let plan = plan(&request, &site()).unwrap();
        assert_eq!(ids(&plan), ["modbus_10.0.0.1_502"]);
        assert!(plan.problems[0].contains("bms_7"));
    }

    #[test]
    fn extra_endpoints_are_added_once() {
        let extra = |address: &str, port, protocol| ExtraEndpoint { address: address.to_owned(), port, protocol };
        let request = ConnectivityRequest {
            extra: vec![extra("10.0.0.1", 22, Protocol::Ssh), extra("10.0.0.1", 502, Protocol::Modbus)],
            targets: Some(vec!["10.0.0.2".to_owned()]),
            ..Default::default()
        };
        let plan = plan(&request, &site()).unwrap();
        assert_eq!(ids(&plan), ["modbus_10.0.0.1_502", "dnp3_10.0.0.2_20000", "ssh_10.0.0.1_22"]);
    }

    #[test]
    fn traffic_is_captured_where_it_passes() {
        let interface = |name: &str, address: &str, up| Interface {
            name: name.to_owned(),
            index: 1,
            up,
            running: up,
            loopback: name == "lo",
            addresses: vec![address.to_owned()],
            ..Interface::default()
        };
        let interfaces =
            [interface("lo", "127.0.0.1/8", true), interface("eth0", "10.0.0.9/24", true), interface("eth1", "10.1.0.9/24", false)];
        let outbound = |name: &str| Endpoint {
            interface: Some(name.to_owned()),
            ..endpoint(Protocol::Modbus, Direction::Outbound, "10.0.0.1", 502)
        };
        let inbound = |bind: &str| endpoint(Protocol::Modbus, Direction::Inbound, bind, 502);
        assert_eq!(capture_interfaces(&[outbound("eth1"), outbound("eth1")], &interfaces), ["eth1"]);
        assert_eq!(capture_interfaces(&[inbound("10.0.0.9")], &interfaces), ["eth0"]);
        assert_eq!(capture_interfaces(&[inbound("0.0.0.0")], &interfaces), ["eth0", "lo"]);
        assert!(capture_interfaces(&[], &interfaces).is_empty());
    }

    #[test]
    fn groups_and_placeholders_are_never_probed() {
        let odd: Vec<Endpoint> = ["224.0.0.1", "255.255.255.255", "0.0.0.0", "ff02::1", "::"]
            .into_iter()
            .map(|address| endpoint(Protocol::Modbus, Direction::Outbound, address, 502))
            .collect();
        let plan = plan(&ConnectivityRequest::default(), &odd).unwrap();
        assert!(plan.devices.is_empty());
        assert_eq!(plan.watched_only.len(), 5);
    }

    #[test]
    fn thousands_of_targets_and_extras_are_matched_in_one_pass() {
        let request = ConnectivityRequest {
            targets: Some((0..2000).map(|n| format!("10.9.{}.{}", n / 250, n % 250)).collect()),
            extra: (0..2000_u16)
                .map(|n| ExtraEndpoint { address: format!("10.9.{}.{}", n / 250, n % 250), port: 502, protocol: Protocol::Modbus })
                .collect(),
            ..Default::default()
        };
        let plan = plan(&request, &site()).unwrap();
        assert_eq!((plan.endpoints.len(), plan.devices.len(), plan.problems.len()), (2000, 2000, 0));
    }

    proptest! {
        #[test]
        fn a_network_holds_what_shares_its_prefix(address: u32, network: u32, prefix in 0_u32..=32) {
            let same = prefix == 0 || address >> (32 - prefix) == network >> (32 - prefix);
            let text = IpAddr::V4(network.into()).to_string();
            prop_assert_eq!(in_network(IpAddr::V4(address.into()), &text, &prefix.to_string()), same);
        }

        #[test]
        fn no_target_crashes_the_plan(targets in prop::collection::vec(".*", 1..4)) {
            let _ = plan(&ConnectivityRequest { targets: Some(targets), ..Default::default() }, &site());
        }

        /// Every endpoint is in one device or only watched, never both, and no DNP3 port is connected unasked.
        #[test]
        fn every_endpoint_is_planned_once(ping: bool, connect: bool, dnp3_connect: bool) {
            let request = ConnectivityRequest { ping, connect, dnp3_connect, ..Default::default() };
            let plan = plan(&request, &site()).unwrap();
            let mut seen: Vec<usize> = plan.devices.iter().flat_map(|device| device.endpoints.clone()).collect();
            seen.extend(&plan.watched_only);
            seen.sort_unstable();
            prop_assert_eq!(seen, (0..plan.endpoints.len()).collect::<Vec<_>>());
            for planned in &plan.endpoints {
                let connects = matches!(planned.connect, ConnectPlan::Connect(_));
                let dnp3 = planned.endpoint.protocol == Protocol::Dnp3;
                prop_assert!(!connects || planned.endpoint.direction == Direction::Outbound);
                let asked_for = if dnp3 { dnp3_connect } else { connect };
                prop_assert!(!connects || asked_for);
            }
        }
    }
}
