//! The capture filter that a topology calls for.

use crate::api::{Direction, Endpoint};
use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::Write,
    net::IpAddr,
};

/// What is captured whatever the topology is: how addresses are found, and what routers say.
const ALWAYS: &str = "arp or icmp or icmp6";
/// What begins the part for packets with a VLAN tag.
const VLAN_PART: &str = " or (vlan and (";

/// The most BPF instructions that a filter may be expected to have. The kernel takes 4,096; a longer program would be run outside
/// it, on every packet of the site.
const INSTRUCTIONS: usize = 2_500;
/// Instructions that a port takes, in a filter with a VLAN part for a live Linux interface (measured, rounded up).
const PER_PORT: usize = 30;
/// Instructions that an IPv4 address takes there.
const PER_IPV4: usize = 9;
/// Instructions that an IPv6 address takes there.
const PER_IPV6: usize = 48;

/// The BPF expression that lets through what concerns these endpoints, with or without a VLAN tag: their connections, ARP, ICMP and
/// ICMPv6.
///
/// An outbound endpoint is its address and port. Where this controller listens, or may, any peer is let through, and the port alone
/// counts. Serial lines and names without an address are left out. When so many endpoints are configured that the kernel would not
/// take the program, addresses are left out and the ports remain; with too many ports, all TCP.
pub fn endpoints_filter(endpoints: &[Endpoint]) -> String {
    let Wanted { open_ports, addresses } = Wanted::of(endpoints);
    let ports = open_ports.len() + addresses.len();
    let per_address = |address: &IpAddr| if address.is_ipv4() { PER_IPV4 } else { PER_IPV6 };
    let with_addresses = ports * PER_PORT + addresses.values().flatten().map(per_address).sum::<usize>();

    let mut filter = ALWAYS.to_owned();
    if ports * PER_PORT > INSTRUCTIONS {
        filter.push_str(" or tcp");
    } else if with_addresses > INSTRUCTIONS {
        for port in open_ports.iter().chain(addresses.keys()) {
            let _ = write!(filter, " or tcp port {port}");
        }
    } else {
        for port in &open_ports {
            let _ = write!(filter, " or tcp port {port}");
        }
        for (port, addresses) in &addresses {
            let hosts: Vec<_> = addresses.iter().map(host).collect();
            let _ = write!(filter, " or (tcp port {port} and ({}))", hosts.join(" or "));
        }
    }
    // A `vlan` moves all offsets that come after it in the expression, so it comes last.
    format!("{filter}{VLAN_PART}{filter}))")
}

/// Whether [`endpoints_filter`] of `wider` lets through all that it lets through of `narrower`.
pub fn covers(wider: &[Endpoint], narrower: &[Endpoint]) -> bool {
    let (wider, narrower) = (Wanted::of(wider), Wanted::of(narrower));
    let has = |port: &u16, address: &IpAddr| {
        wider.open_ports.contains(port) || wider.addresses.get(port).is_some_and(|addresses| addresses.contains(address))
    };
    narrower.open_ports.is_subset(&wider.open_ports)
        && narrower.addresses.iter().all(|(port, addresses)| addresses.iter().all(|address| has(port, address)))
}

/// The ports and addresses of endpoints.
struct Wanted {
    /// Ports with any peer.
    open_ports: BTreeSet<u16>,
    /// The addresses at every other port.
    addresses: BTreeMap<u16, BTreeSet<IpAddr>>,
}

impl Wanted {
    fn of(endpoints: &[Endpoint]) -> Self {
        let mut open_ports = BTreeSet::new();
        let mut addresses: BTreeMap<u16, BTreeSet<IpAddr>> = BTreeMap::new();
        for endpoint in endpoints {
            let Some(port) = endpoint.port else { continue };
            match (endpoint.direction, endpoint.address) {
                (Direction::Inbound, _) => {
                    open_ports.insert(port);
                }
                (Direction::Undetermined, Some(address)) if address.is_unspecified() => {
                    open_ports.insert(port);
                }
                (_, Some(address)) => {
                    addresses.entry(port).or_default().insert(address);
                }
                (_, None) => {}
            }
        }
        addresses.retain(|port, _| !open_ports.contains(port));
        Self { open_ports, addresses }
    }
}

fn host(address: &IpAddr) -> String {
    match address {
        IpAddr::V4(address) => format!("ip host {address}"),
        IpAddr::V6(address) => format!("ip6 host {address}"),
    }
}

/// The same filter for an interface whose packets have no place for a VLAN tag, such as a tunnel.
pub fn without_vlan_part(filter: &str) -> &str {
    filter.split_once(VLAN_PART).map_or(filter, |(untagged, _)| untagged)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::{PortSource, Protocol, Transport};

    fn endpoint(direction: Direction, address: Option<&str>, port: Option<u16>) -> Endpoint {
        Endpoint {
            endpoint_id: "an_endpoint".into(),
            protocol: Protocol::Modbus,
            direction,
            transport: if port.is_some() { Transport::Tcp } else { Transport::Rtu },
            name: None,
            host: address.map(Into::into),
            address: address.map(|address| address.parse().unwrap()),
            port,
            port_source: PortSource::Explicit,
            unit_ids: vec![],
            uses_default_unit: false,
            accepts_any_unit: false,
            dnp3_addresses: vec![],
            serial: None,
            config_files: vec![],
            activity: crate::api::Activity::Unknown,
            process: None,
            controller: None,
            components: vec![],
            max_connections: None,
            fims_uris: vec![],
            interface: None,
            source_address: None,
            gateway: None,
        }
    }

    fn outbound(address: &str, port: u16) -> Endpoint {
        endpoint(Direction::Outbound, Some(address), Some(port))
    }

    fn many(count: u32, port: impl Fn(u32) -> u16, v6: bool) -> Vec<Endpoint> {
        (0..count)
            .map(|n| match v6 {
                false => outbound(&std::net::Ipv4Addr::from(0x0a00_0001 + n * 7).to_string(), port(n)),
                true => {
                    outbound(&std::net::Ipv6Addr::from((0xfd00_u128 << 112) + u128::from(n) * 0x1_0000_0007).to_string(), port(n))
                }
            })
            .collect()
    }

    #[test]
    fn an_empty_topology_leaves_arp_and_icmp() {
        assert_eq!(without_vlan_part(&endpoints_filter(&[])), "arp or icmp or icmp6");
    }

    #[test]
    fn outbound_is_address_and_port_inbound_is_the_port_and_serial_is_nothing() {
        let endpoints = [
            outbound("10.0.0.1", 502),
            outbound("fd00::1", 502),
            outbound("10.0.0.2", 20000),
            outbound("10.0.0.3", 1502),
            endpoint(Direction::Inbound, Some("0.0.0.0"), Some(1502)),
            endpoint(Direction::Undetermined, Some("0.0.0.0"), Some(20001)),
            endpoint(Direction::Outbound, None, None),
            endpoint(Direction::Outbound, None, Some(503)),
        ];
        let filter = endpoints_filter(&endpoints);
        let expected = "arp or icmp or icmp6 or tcp port 1502 or tcp port 20001 \
                        or (tcp port 502 and (ip host 10.0.0.1 or ip6 host fd00::1)) or (tcp port 20000 and (ip host 10.0.0.2))";
        assert_eq!(without_vlan_part(&filter), expected);
        assert_eq!(filter, format!("{expected} or (vlan and ({expected}))"));
    }

    #[test]
    fn too_many_addresses_leave_the_ports_and_too_many_ports_leave_tcp() {
        let filter = endpoints_filter(&many(1000, |n| if n % 2 == 0 { 502 } else { 20000 }, false));
        assert_eq!(without_vlan_part(&filter), "arp or icmp or icmp6 or tcp port 502 or tcp port 20000");
        let filter = endpoints_filter(&many(1000, |n| n as u16 + 1, false));
        assert_eq!(without_vlan_part(&filter), "arp or icmp or icmp6 or tcp");
    }

    #[cfg(feature = "libpcap")]
    mod compiled {
        use super::*;
        use pcap::{Capture, Linktype};

        /// How many instructions the kernel takes (BPF_MAXINSNS).
        const KERNEL_LIMIT: usize = 4096;

        #[test]
        fn it_compiles_and_fits_the_kernel_for_any_number_of_endpoints() {
            let capture = Capture::dead(Linktype::ETHERNET).unwrap();
            for count in [0, 1, 10, 40, 52, 80, 83, 84, 100, 250, 275, 280, 1000, 5000] {
                for v6 in [false, true] {
                    for ports in [1, 7, 50, 5000] {
                        let filter = endpoints_filter(&many(count, |n| 502 + (n % ports) as u16, v6));
                        let program = capture.compile(&filter, true).unwrap();
                        let instructions = program.get_instructions().len();
                        assert!(instructions < KERNEL_LIMIT, "{count} endpoints, {ports} ports: {instructions} instructions");
                    }
                }
            }
        }

        #[test]
        fn it_compiles_for_every_link_type_at_least_without_the_vlan_part() {
            let filter = endpoints_filter(&[outbound("10.0.0.1", 502), outbound("fd00::1", 502)]);
            for link_type in [0, 1, 12, 108, 113, 276] {
                let capture = Capture::dead(Linktype(link_type)).unwrap();
                let compiled = capture.compile(&filter, true).or_else(|_| capture.compile(without_vlan_part(&filter), true));
                assert!(compiled.is_ok(), "link type {link_type}: {:?}", compiled.err());
            }
        }

        #[test]
        fn it_lets_through_what_concerns_the_endpoints_and_nothing_else() {
            let endpoints = [outbound("10.0.0.2", 502), endpoint(Direction::Inbound, Some("0.0.0.0"), Some(1502))];
            let program = Capture::dead(Linktype::ETHERNET).unwrap().compile(&endpoints_filter(&endpoints), true).unwrap();
            let segment = |destination: [u8; 4], port: u16| {
                let mut ip = vec![0x45, 0, 0, 40, 0, 0, 0, 0, 64, 6, 0, 0, 10, 0, 0, 1];
                ip.extend(destination);
                ip.extend([0x9c, 0x40]);
                ip.extend(port.to_be_bytes());
                ip.resize(40, 0);
                ip
            };
            let frame = |types: &[u8], payload: &[u8]| [&[0; 12], types, payload].concat();
            let untagged = |payload: &[u8]| frame(&[8, 0], payload);
            let tagged = |payload: &[u8]| frame(&[0x81, 0, 0, 7, 8, 0], payload);
            for wrapped in [&untagged as &dyn Fn(&[u8]) -> Vec<u8>, &tagged] {
                assert!(program.filter(&wrapped(&segment([10, 0, 0, 2], 502))));
                assert!(program.filter(&wrapped(&segment([10, 9, 9, 9], 1502))));
                assert!(!program.filter(&wrapped(&segment([10, 0, 0, 3], 502))));
                assert!(!program.filter(&wrapped(&segment([10, 0, 0, 2], 80))));
            }
            assert!(program.filter(&frame(&[8, 6], &[0; 28])));
            assert!(program.filter(&frame(&[0x81, 0, 0, 7, 8, 6], &[0; 28])));
        }
    }
}
