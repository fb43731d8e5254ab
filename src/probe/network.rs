//! The kernel's routes and interfaces, asked by netlink.

use crate::api::{Interface, InterfaceCounters};
use futures::{StreamExt, TryStreamExt, stream};
use nix::errno::Errno;
use rtnetlink::{
    Error, Handle, RouteMessageBuilder,
    packet_route::{
        AddressFamily,
        address::{AddressAttribute, AddressMessage},
        link::{LinkAttribute, LinkFlags, LinkMessage, Stats64},
        neighbour::{NeighbourAddress, NeighbourAttribute, NeighbourMessage, NeighbourState},
        route::{RouteAddress, RouteAttribute, RouteMessage, RouteType, RouteVia},
    },
};
use std::{collections::HashMap, fs, io, net::IpAddr, time::Duration};
use tokio::{
    task::JoinHandle,
    time::{Instant, timeout, timeout_at},
};

/// How long the kernel may take; it needs microseconds.
const TIME_LIMIT: Duration = Duration::from_secs(2);

/// How many route lookups are under way at a time.
const LOOKUPS_AT_A_TIME: usize = 64;

/// How the kernel would send a packet to an address.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Route {
    /// The interface that it leaves by.
    pub interface: Option<String>,
    /// The source address that it gets.
    pub source: Option<IpAddr>,
    /// The next hop, if the address is not on a connected network.
    pub gateway: Option<IpAddr>,
    /// Whether the address is one of this host's own.
    pub is_local: bool,
    /// Why no packet would be sent, in words.
    pub error: Option<String>,
}

impl Route {
    fn without(why: impl Into<String>) -> Self {
        Self { error: Some(why.into()), ..Self::default() }
    }
}

/// What the kernel knows of an address on a connected network.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Neighbour {
    /// The address.
    pub address: IpAddr,
    /// The interface by which it is, or would be, reached.
    pub interface: Option<String>,
    /// Whether ARP or neighbour discovery was left without an answer: the entry is `FAILED` or still `INCOMPLETE`.
    pub unanswered: bool,
}

/// A connection to the kernel's routing tables, those of the network namespace in which it was opened.
pub struct Network {
    handle: Handle,
    connection: JoinHandle<()>,
}

impl Drop for Network {
    fn drop(&mut self) {
        self.connection.abort();
    }
}

impl Network {
    /// Opens a netlink socket, in the network namespace of the calling thread. It needs no right, but a tokio runtime.
    ///
    /// # Errors
    /// The socket cannot be opened.
    pub async fn open() -> io::Result<Self> {
        let (connection, handle, _) = rtnetlink::new_connection()?;
        Ok(Self { handle, connection: tokio::spawn(connection) })
    }

    /// How the kernel would send to `address`. Asks nobody but the kernel, and takes at most some seconds even if it does not answer.
    pub async fn route(&self, address: IpAddr) -> Route {
        self.routes(&[address]).await.remove(&address).unwrap_or_else(|| Route::without("it was not looked up"))
    }

    /// How the kernel would send to each of `addresses`; a thousand of them take some tens of milliseconds.
    pub async fn routes(&self, addresses: &[IpAddr]) -> HashMap<IpAddr, Route> {
        let names: HashMap<u32, String> = match self.links().await {
            Ok(links) => links.iter().filter_map(|link| Some((link.header.index, name_of(link)?))).collect(),
            Err(_) => HashMap::new(),
        };
        let deadline = Instant::now() + TIME_LIMIT;
        stream::iter(addresses.iter().copied())
            .map(|address| {
                let names = &names;
                async move { (address, self.lookup(address, names, deadline).await) }
            })
            .buffer_unordered(LOOKUPS_AT_A_TIME)
            .collect()
            .await
    }

    /// This host's interfaces, by index. How many endpoints each leads to is for the caller to count.
    ///
    /// # Errors
    /// The kernel does not answer, or refuses.
    pub async fn interfaces(&self) -> io::Result<Vec<Interface>> {
        let links = self.links().await?;
        let addresses: Vec<AddressMessage> = in_time(self.handle.address().get().execute().try_collect()).await?;
        let mut interfaces: Vec<_> = links.iter().filter_map(interface).collect();
        interfaces.sort_by_key(|interface| interface.index);
        let mut interfaces = with_link_modes(interfaces).await;
        for message in &addresses {
            let found = interfaces.iter_mut().find(|interface| interface.index == message.header.index);
            if let (Some(interface), Some(address)) = (found, address_of(message)) {
                interface.addresses.push(format!("{address}/{}", message.header.prefix_len));
            }
        }
        Ok(interfaces)
    }

    /// The kernel's neighbour table, as `ip neighbour` shows it. The kernel forgets an address that failed within about a minute.
    ///
    /// # Errors
    /// The kernel does not answer, or refuses.
    pub async fn neighbours(&self) -> io::Result<Vec<Neighbour>> {
        let names: HashMap<u32, String> =
            self.links().await?.iter().filter_map(|link| Some((link.header.index, name_of(link)?))).collect();
        let messages: Vec<NeighbourMessage> = in_time(self.handle.neighbours().get().execute().try_collect()).await?;
        Ok(messages.iter().filter_map(|message| neighbour(message, &names)).collect())
    }

    async fn links(&self) -> io::Result<Vec<LinkMessage>> {
        in_time(self.handle.link().get().execute().try_collect()).await
    }

    async fn lookup(&self, address: IpAddr, names: &HashMap<u32, String>, deadline: Instant) -> Route {
        let canonical = address.to_canonical();
        let bits = if canonical.is_ipv4() { 32 } else { 128 };
        let request = match RouteMessageBuilder::<IpAddr>::new().destination_prefix(canonical, bits) {
            Ok(request) => request.build(),
            Err(error) => return Route::without(format!("it cannot be looked up: {error}")),
        };
        // A pinned stream, because the reply to a lookup is one message and the end is not waited for.
        let mut replies = Box::pin(self.handle.route().get(request).execute());
        match timeout_at(deadline, replies.next()).await {
            Ok(Some(Ok(message))) => route(&message, names),
            Ok(Some(Err(Error::NetlinkError(error)))) => {
                Route::without(refusal(error.code.map_or(0, |code| code.get().saturating_abs())))
            }
            Ok(Some(Err(error))) => Route::without(format!("the kernel's answer makes no sense: {error}")),
            Ok(None) => Route::without("the kernel gave no answer"),
            Err(_) => Route::without(format!("the kernel did not answer within {} s", TIME_LIMIT.as_secs())),
        }
    }
}

async fn in_time<T>(request: impl Future<Output = Result<T, Error>>) -> io::Result<T> {
    match timeout(TIME_LIMIT, request).await {
        Ok(answer) => answer.map_err(|error| io::Error::other(format!("netlink: {error}"))),
        Err(_) => Err(io::Error::new(io::ErrorKind::TimedOut, format!("netlink did not answer within {} s", TIME_LIMIT.as_secs()))),
    }
}

/// What the kernel's refusal of a lookup means: routes that forbid sending answer with the error that a sender would get.
fn refusal(code: i32) -> String {
    match Errno::from_raw(code) {
        Errno::ENETUNREACH => "this host has no route to it".into(),
        Errno::EHOSTUNREACH => "a route of this host declares it unreachable".into(),
        Errno::EACCES => "a route of this host prohibits it".into(),
        Errno::EINVAL => "a route of this host discards it (blackhole)".into(),
        errno => format!("the kernel refuses the lookup ({errno})"),
    }
}

fn route(message: &RouteMessage, names: &HashMap<u32, String>) -> Route {
    let mut route = Route { is_local: message.header.kind == RouteType::Local, ..Route::default() };
    for attribute in &message.attributes {
        match attribute {
            RouteAttribute::Oif(index) => route.interface = names.get(index).cloned(),
            RouteAttribute::PrefSource(address) => route.source = ip(address),
            RouteAttribute::Gateway(address) => route.gateway = ip(address),
            // An IPv6 next hop of an IPv4 route.
            RouteAttribute::Via(RouteVia::Inet(address)) => route.gateway = Some((*address).into()),
            RouteAttribute::Via(RouteVia::Inet6(address)) => route.gateway = Some((*address).into()),
            _ => {}
        }
    }
    route.error = match message.header.kind {
        RouteType::Unicast | RouteType::Local | RouteType::Anycast => None,
        RouteType::Broadcast => Some("it is a broadcast address".into()),
        RouteType::Multicast => Some("it is a multicast address".into()),
        RouteType::Unreachable => Some(refusal(Errno::EHOSTUNREACH as i32)),
        RouteType::Prohibit => Some(refusal(Errno::EACCES as i32)),
        RouteType::BlackHole => Some(refusal(Errno::EINVAL as i32)),
        kind => Some(format!("its route is of the kind {kind:?}")),
    };
    route
}

fn neighbour(message: &NeighbourMessage, names: &HashMap<u32, String>) -> Option<Neighbour> {
    let address = message.attributes.iter().find_map(|attribute| match attribute {
        NeighbourAttribute::Destination(NeighbourAddress::Inet(address)) => Some(IpAddr::from(*address)),
        NeighbourAttribute::Destination(NeighbourAddress::Inet6(address)) => Some(IpAddr::from(*address)),
        _ => None,
    })?;
    let unanswered = matches!(message.header.state, NeighbourState::Failed | NeighbourState::Incomplete);
    Some(Neighbour { address, interface: names.get(&message.header.ifindex).cloned(), unanswered })
}

fn ip(address: &RouteAddress) -> Option<IpAddr> {
    match address {
        RouteAddress::Inet(address) => Some((*address).into()),
        RouteAddress::Inet6(address) => Some((*address).into()),
        _ => None,
    }
}

fn name_of(link: &LinkMessage) -> Option<String> {
    link.attributes.iter().find_map(|attribute| match attribute {
        LinkAttribute::IfName(name) => Some(name.clone()),
        _ => None,
    })
}

fn interface(link: &LinkMessage) -> Option<Interface> {
    let flags = link.header.flags;
    let mut interface = Interface {
        name: name_of(link)?,
        index: link.header.index,
        up: flags.contains(LinkFlags::Up),
        // Not `Running`, which follows the carrier up to a second later.
        running: flags.contains(LinkFlags::LowerUp),
        loopback: flags.contains(LinkFlags::Loopback),
        ..Interface::default()
    };
    for attribute in &link.attributes {
        match attribute {
            LinkAttribute::Address(mac) if !mac.is_empty() && !interface.loopback => interface.mac = Some(hardware_address(mac)),
            LinkAttribute::Mtu(mtu) => interface.mtu = Some(*mtu),
            LinkAttribute::CarrierChanges(changes) => interface.carrier_changes = Some(*changes),
            LinkAttribute::Stats64(stats) => interface.counters = Some(counters(stats)),
            _ => {}
        }
    }
    Some(interface)
}

fn counters(stats: &Stats64) -> InterfaceCounters {
    InterfaceCounters {
        rx_packets: stats.rx_packets,
        rx_bytes: stats.rx_bytes,
        rx_errors: stats.rx_errors,
        rx_crc_errors: stats.rx_crc_errors,
        rx_dropped: stats.rx_dropped,
        tx_packets: stats.tx_packets,
        tx_bytes: stats.tx_bytes,
        tx_errors: stats.tx_errors,
        tx_dropped: stats.tx_dropped,
        collisions: stats.collisions,
    }
}

/// The interfaces with speed and duplex. The kernel asks each driver, which takes some of them tens of milliseconds: not on the
/// runtime, and not for longer than anything else is waited for. What does not come in time stays unknown.
async fn with_link_modes(interfaces: Vec<Interface>) -> Vec<Interface> {
    let mut asked = interfaces.clone();
    let asking = tokio::task::spawn_blocking(move || {
        asked.iter_mut().for_each(read_link_mode);
        asked
    });
    match timeout(TIME_LIMIT, asking).await {
        Ok(Ok(answered)) => answered,
        Ok(Err(_)) | Err(_) => interfaces,
    }
}

/// Speed and duplex, which netlink's routing tables do not have. `/sys` may show another network namespace than the one that was asked;
/// the index tells.
fn read_link_mode(interface: &mut Interface) {
    let read = |what: &str| fs::read_to_string(format!("/sys/class/net/{}/{what}", interface.name)).ok();
    if read("ifindex").and_then(|index| index.trim().parse().ok()) != Some(interface.index) || interface.loopback {
        return;
    }
    let speed = read("speed").and_then(|speed| speed.trim().parse().ok()).filter(|&speed| speed > 0 && speed < u32::MAX);
    let duplex = read("duplex").map(|duplex| duplex.trim().to_owned()).filter(|duplex| duplex == "full" || duplex == "half");
    (interface.speed_mbps, interface.duplex) = (speed, duplex);
}

fn hardware_address(octets: &[u8]) -> String {
    octets.iter().map(|octet| format!("{octet:02x}")).collect::<Vec<_>>().join(":")
}

/// The interface's own address. On a point-to-point link the attribute "address" is the far end, and "local" is ours.
fn address_of(message: &AddressMessage) -> Option<IpAddr> {
    if !matches!(message.header.family, AddressFamily::Inet | AddressFamily::Inet6) {
        return None;
    }
    let of = |local: bool| {
        message.attributes.iter().find_map(move |attribute| match attribute {
            AddressAttribute::Local(address) if local => Some(*address),
            AddressAttribute::Address(address) if !local => Some(*address),
            _ => None,
        })
    };
    of(true).or_else(|| of(false))
}

#[cfg(test)]
mod tests {
    use super::*;
    use rtnetlink::packet_route::address::AddressHeader;

    #[test]
    fn a_refused_lookup_names_the_kind_of_route() {
        assert!(refusal(101).contains("no route"));
        assert!(refusal(113).contains("unreachable"));
        assert!(refusal(13).contains("prohibits"));
        assert!(refusal(22).contains("blackhole"));
        assert!(refusal(1).contains("EPERM"));
    }

    #[test]
    fn the_own_end_of_a_point_to_point_link_is_its_address() {
        let mut message = AddressMessage::default();
        message.header = AddressHeader { family: AddressFamily::Inet, prefix_len: 32, ..AddressHeader::default() };
        let (far, own) = (IpAddr::from([10, 8, 0, 1]), IpAddr::from([10, 8, 0, 2]));
        message.attributes = vec![AddressAttribute::Address(far)];
        assert_eq!(address_of(&message), Some(far));
        message.attributes.push(AddressAttribute::Local(own));
        assert_eq!(address_of(&message), Some(own));
        message.header.family = AddressFamily::Unspec;
        assert_eq!(address_of(&message), None);
    }

    #[test]
    fn the_next_hop_of_a_route_may_be_of_the_other_family() {
        let mut message = RouteMessage::default();
        message.header.kind = RouteType::Unicast;
        let hop: std::net::Ipv6Addr = "fe80::1".parse().unwrap();
        message.attributes = vec![RouteAttribute::Oif(3), RouteAttribute::Via(RouteVia::Inet6(hop))];
        let found = route(&message, &HashMap::from([(3, "eth0".to_owned())]));
        assert_eq!(found, Route { interface: Some("eth0".into()), gateway: Some(hop.into()), ..Route::default() });
    }
}
