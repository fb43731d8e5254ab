//! The servers that are told apart, and which watch each belongs to.

use super::{
    hasher::QuickBuild,
    service::{Service, ServiceIndex},
    settings::{AnalysisSettings, Watch},
};
use crate::api::Protocol;
use std::{
    collections::{HashMap, HashSet},
    net::{IpAddr, SocketAddr},
};

/// All that belongs to no server that is told apart.
pub(super) const REST: ServiceIndex = 0;

/// Servers by address, and the watches on them.
#[derive(Debug)]
pub(super) struct Services {
    list: Vec<Service>,
    by_address: HashMap<SocketAddr, ServiceIndex, QuickBuild>,
    /// The services of each watch: one, but for a watch on all local addresses.
    of_watch: Vec<Vec<ServiceIndex>>,
    /// Watches on all local addresses, by port.
    any_address: HashMap<u16, Vec<usize>>,
    protocols: Vec<Protocol>,
    local: HashSet<IpAddr>,
    modbus_ports: Vec<u16>,
    dnp3_ports: Vec<u16>,
    /// Servers to be told apart at most.
    capacity: usize,
}

impl Services {
    pub fn new(settings: &AnalysisSettings, watches: &[Watch], local_addresses: &[IpAddr]) -> Self {
        let mut services = Self {
            list: vec![Service::default()],
            by_address: HashMap::default(),
            of_watch: vec![Vec::new(); watches.len()],
            any_address: HashMap::new(),
            protocols: watches.iter().map(|watch| watch.protocol).collect(),
            local: local_addresses.iter().map(IpAddr::to_canonical).collect(),
            modbus_ports: settings.modbus_ports.clone(),
            dnp3_ports: settings.dnp3_ports.clone(),
            capacity: usize::MAX,
        };
        for (index, watch) in watches.iter().enumerate() {
            match (watch.address.filter(|address| !address.is_unspecified()), watch.port) {
                (Some(address), Some(port)) => services.watch(index, SocketAddr::new(address.to_canonical(), port)),
                (None, Some(port)) if watch.direction != crate::api::Direction::Outbound => {
                    services.any_address.entry(port).or_default().push(index);
                }
                _ => {}
            }
        }
        services.capacity = services.list.len() + settings.max_services;
        services
    }

    fn watch(&mut self, watch: usize, address: SocketAddr) {
        let index = match self.by_address.get(&address) {
            Some(&index) => index,
            None => self.add(address, None),
        };
        let spoken = self.protocols.get(watch).copied();
        if let Some(service) = self.list.get_mut(index) {
            service.watched = true;
            // Of several watches on one port, the one whose protocol can be read decides.
            if !matches!(service.protocol, Some(Protocol::Modbus | Protocol::Dnp3)) {
                service.protocol = spoken;
            }
        }
        if let Some(services) = self.of_watch.get_mut(watch) {
            services.push(index);
        }
    }

    fn add(&mut self, address: SocketAddr, protocol: Option<Protocol>) -> ServiceIndex {
        self.list.push(Service::new(Some(address), protocol));
        self.by_address.insert(address, self.list.len() - 1);
        self.list.len() - 1
    }

    /// This host's own addresses.
    pub fn listen_at(&mut self, local_addresses: &[IpAddr]) {
        self.local.extend(local_addresses.iter().map(IpAddr::to_canonical));
    }

    /// This host's own addresses; none where they are not known.
    pub fn local(&self) -> &HashSet<IpAddr> {
        &self.local
    }

    /// What is read on a port without a watch that says so.
    pub fn protocol_of_port(&self, port: u16) -> Option<Protocol> {
        if self.modbus_ports.contains(&port) {
            Some(Protocol::Modbus)
        } else if self.dnp3_ports.contains(&port) {
            Some(Protocol::Dnp3)
        } else {
            None
        }
    }

    /// The watches on all local addresses that this one belongs to. Without knowing what is local (a capture file), any is.
    fn watches_on_any(&self, address: SocketAddr) -> Option<&Vec<usize>> {
        let watches = self.any_address.get(&address.port())?;
        (self.local.is_empty() || self.local.contains(&address.ip())).then_some(watches)
    }

    /// Of two ends, which is the server of a connection entered in the middle: whether it is `second`.
    pub fn second_is_server(&self, first: SocketAddr, second: SocketAddr) -> bool {
        let known = |address: &SocketAddr| self.by_address.contains_key(address) || self.watches_on_any(*address).is_some();
        let spoken = |address: &SocketAddr| self.protocol_of_port(address.port()).is_some();
        let rank = |address: &SocketAddr| (known(address), spoken(address), std::cmp::Reverse(address.port()));
        rank(&second) >= rank(&first)
    }

    /// The service of this address, if there is one already.
    pub fn find(&self, address: SocketAddr) -> Option<ServiceIndex> {
        self.by_address.get(&address).copied()
    }

    /// The service of this address; a new one when it is `certain` that this is a server, or when its protocol is read.
    pub fn of(&mut self, address: SocketAddr, certain: bool) -> ServiceIndex {
        if let Some(&index) = self.by_address.get(&address) {
            return index;
        }
        if let Some(watches) = self.watches_on_any(address).cloned() {
            watches.into_iter().for_each(|watch| self.watch(watch, address));
            return self.find(address).unwrap_or(REST);
        }
        let protocol = self.protocol_of_port(address.port());
        if self.list.len() >= self.capacity || !(certain || protocol.is_some()) { REST } else { self.add(address, protocol) }
    }

    pub fn get(&self, index: ServiceIndex) -> Option<&Service> {
        self.list.get(index)
    }

    pub fn get_mut(&mut self, index: ServiceIndex) -> Option<&mut Service> {
        self.list.get_mut(index)
    }

    pub fn iter(&self) -> impl Iterator<Item = &Service> + Clone {
        self.list.iter()
    }

    /// The services of a watch.
    pub fn of_watch(&self, watch: usize) -> impl Iterator<Item = &Service> + Clone {
        self.of_watch.get(watch).into_iter().flatten().filter_map(|&index| self.list.get(index))
    }
}
