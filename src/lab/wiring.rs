//! Links, addresses and routes of the namespace whose thread calls.

use super::LabError;
use futures::TryStreamExt;
use rtnetlink::{
    Handle, LinkBridge, LinkMessageBuilder, LinkUnspec, LinkVeth, RouteMessageBuilder,
    packet_route::{
        link::{InfoData, InfoVeth, LinkAttribute, LinkFlags, LinkMessage},
        route::{RouteScope, RouteType},
    },
};
use std::{fmt, net::Ipv4Addr, os::fd::RawFd};

/// What a router does with packets to an address, instead of passing them on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Rejection {
    /// It answers ICMP 3/1, host unreachable.
    HostUnreachable,
    /// It answers ICMP 3/13, communication administratively prohibited.
    Prohibited,
    /// It says nothing.
    Blackhole,
}

impl Rejection {
    const fn route_type(self) -> RouteType {
        match self {
            Self::HostUnreachable => RouteType::Unreachable,
            Self::Prohibited => RouteType::Prohibit,
            Self::Blackhole => RouteType::BlackHole,
        }
    }
}

/// A connection to the kernel about the namespace of the thread that opened it.
pub(super) struct Wires(Handle);

impl Wires {
    /// Opens it; must be called in the runtime of the namespace.
    pub(super) fn open() -> Result<Self, LabError> {
        let (connection, handle, _) = rtnetlink::new_connection().map_err(|error| wiring("netlink", error))?;
        tokio::spawn(connection);
        Ok(Self(handle))
    }

    /// The first link that is switched on and is no loopback.
    pub(super) async fn link_in_use(&self) -> Result<Option<String>, LabError> {
        let links: Vec<_> = self.0.link().get().execute().try_collect().await.map_err(|error| wiring("links", error))?;
        Ok(links
            .iter()
            .find(|link| link.header.flags.contains(LinkFlags::Up) && !link.header.flags.contains(LinkFlags::Loopback))
            .map(|link| name_of(link).unwrap_or("?").to_owned()))
    }

    /// Makes a bridge and switches it on.
    pub(super) async fn add_bridge(&self, name: &str) -> Result<(), LabError> {
        self.add(format!("bridge {name}"), LinkBridge::new(name).up().build()).await
    }

    /// Makes a cable: `here` in this namespace, plugged into `bridge` if there is one, and `there` in the namespace of `there_fd`.
    /// `there` must be switched on by its own side.
    pub(super) async fn add_cable(&self, here: &str, bridge: Option<&str>, there: &str, there_fd: RawFd) -> Result<(), LabError> {
        let peer = LinkUnspec::new_with_name(there).setns_by_fd(there_fd).build();
        let mut link: LinkMessageBuilder<LinkVeth> = LinkVeth::new(here, there).set_info_data(InfoData::Veth(InfoVeth::Peer(peer)));
        if let Some(bridge) = bridge {
            link = link.controller(self.index(bridge).await?);
        }
        self.add(format!("cable {here} to {there}"), link.up().build()).await
    }

    /// Switches a link on.
    pub(super) async fn up(&self, name: &str) -> Result<(), LabError> {
        self.switch(name, true).await
    }

    /// Switches a link on or off.
    pub(super) async fn switch(&self, name: &str, on: bool) -> Result<(), LabError> {
        let link = LinkUnspec::new_with_name(name);
        let link = if on { link.up() } else { link.down() };
        self.0.link().set(link.build()).execute().await.map_err(|error| wiring(format!("link {name}, on: {on}"), error))
    }

    /// Removes a link (and with it the other end of its cable).
    pub(super) async fn remove(&self, name: &str) -> Result<(), LabError> {
        let index = self.index(name).await?;
        self.0.link().del(index).execute().await.map_err(|error| wiring(format!("removing link {name}"), error))
    }

    /// Gives a link an address.
    pub(super) async fn add_address(&self, link: &str, address: Ipv4Addr, prefix: u8) -> Result<(), LabError> {
        let index = self.index(link).await?;
        let request = self.0.address().add(index, address.into(), prefix);
        request.execute().await.map_err(|error| wiring(format!("address {address}/{prefix} of {link}"), error))
    }

    /// Adds a route by a router.
    pub(super) async fn add_route(&self, network: Ipv4Addr, prefix: u8, gateway: Ipv4Addr) -> Result<(), LabError> {
        let route = RouteMessageBuilder::<Ipv4Addr>::new().destination_prefix(network, prefix).gateway(gateway).build();
        let request = self.0.route().add(route);
        request.execute().await.map_err(|error| wiring(format!("route to {network}/{prefix} by {gateway}"), error))
    }

    /// Adds a route that rejects what is sent to one address.
    pub(super) async fn reject(&self, address: Ipv4Addr, how: Rejection) -> Result<(), LabError> {
        let route = RouteMessageBuilder::<Ipv4Addr>::new()
            .destination_prefix(address, 32)
            .kind(how.route_type())
            .scope(RouteScope::Universe)
            .build();
        let request = self.0.route().add(route);
        request.execute().await.map_err(|error| wiring(format!("route {how:?} for {address}"), error))
    }

    async fn add(&self, what: String, link: LinkMessage) -> Result<(), LabError> {
        self.0.link().add(link).execute().await.map_err(|error| wiring(what, error))
    }

    async fn index(&self, name: &str) -> Result<u32, LabError> {
        let mut links = self.0.link().get().match_name(name).execute();
        match links.try_next().await {
            Ok(Some(link)) => Ok(link.header.index),
            Ok(None) => Err(wiring(format!("link {name}"), "there is none")),
            Err(error) => Err(wiring(format!("link {name}"), error)),
        }
    }
}

fn name_of(link: &LinkMessage) -> Option<&str> {
    link.attributes.iter().find_map(|attribute| match attribute {
        LinkAttribute::IfName(name) => Some(name.as_str()),
        _ => None,
    })
}

fn wiring(what: impl Into<String>, reason: impl fmt::Display) -> LabError {
    LabError::Wiring { what: what.into(), reason: reason.to_string() }
}
