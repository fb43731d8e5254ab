//! The network of a site of namespaces: the switch, the router, and the cables.

use super::{LabError, Namespace, wiring::Wires};
use std::net::Ipv4Addr;

/// The controller's address at the switch.
pub const CONTROLLER: Ipv4Addr = Ipv4Addr::new(10, 77, 0, 1);
/// The controller's interface at the switch.
pub const CONTROLLER_LINK: &str = "eth0";
/// The router's address at the switch; it leads to 10.78.0.0/24.
pub const ROUTER: Ipv4Addr = Ipv4Addr::new(10, 77, 0, 254);

/// The length of the prefix of both networks.
pub(super) const PREFIX: u8 = 24;
/// The network at the switch, and the one behind the router.
pub(super) const NEAR: Ipv4Addr = Ipv4Addr::new(10, 77, 0, 0);
pub(super) const FAR: Ipv4Addr = Ipv4Addr::new(10, 78, 0, 0);
pub(super) const ROUTER_FAR_SIDE: Ipv4Addr = Ipv4Addr::new(10, 78, 0, 254);
/// The bridge that the switch is, and the router's on its far side.
const BRIDGE: &str = "br0";
/// What every host but the controller calls its only interface.
pub(super) const HOST_LINK: &str = "eth0";

/// The switch, and the router once something is behind it.
#[derive(Debug)]
pub(super) struct Network {
    pub(super) switch: Namespace,
    pub(super) router: Option<Namespace>,
}

impl Network {
    /// Makes the switch and plugs the controller in.
    pub(super) fn build(controller: &Namespace) -> Result<Self, LabError> {
        if let Some(link) = controller.wait(async { Wires::open()?.link_in_use().await })?? {
            return Err(LabError::NotPrivate(link));
        }
        let switch = quiet_namespace("switch")?;
        switch.wait(async { Wires::open()?.add_bridge(BRIDGE).await })??;
        plug(&switch, "controller", controller, CONTROLLER_LINK, CONTROLLER)?;
        Ok(Self { switch, router: None })
    }

    /// Makes the router, if there is none yet, and tells the controller of it.
    pub(super) fn router(&mut self, controller: &Namespace) -> Result<&Namespace, LabError> {
        match &mut self.router {
            Some(router) => Ok(router),
            none => {
                let router = quiet_namespace("router")?;
                router.sysctl("net/ipv4/ip_forward", "1")?;
                // Each rejected packet is answered, not one in a second.
                router.sysctl("net/ipv4/icmp_ratelimit", "0")?;
                plug(&self.switch, "router", &router, HOST_LINK, ROUTER)?;
                router.wait(async {
                    let wires = Wires::open()?;
                    wires.add_bridge(BRIDGE).await?;
                    wires.add_address(BRIDGE, ROUTER_FAR_SIDE, PREFIX).await
                })??;
                controller.wait(async { Wires::open()?.add_route(FAR, PREFIX, ROUTER).await })??;
                Ok(none.insert(router))
            }
        }
    }
}

/// A namespace that sends nothing by itself: no IPv6, so no router solicitations in between.
pub(super) fn quiet_namespace(name: &str) -> Result<Namespace, LabError> {
    let namespace = Namespace::new(name)?;
    for links in ["all", "default"] {
        // A kernel without IPv6 has no such setting, and needs none.
        let _ = namespace.sysctl(&format!("net/ipv6/conf/{links}/disable_ipv6"), "1");
    }
    Ok(namespace)
}

/// Plugs a host into the bridge of `hub`: a cable from its port to the host's link, which gets the address and is switched on.
pub(super) fn plug(hub: &Namespace, port: &str, host: &Namespace, link: &'static str, address: Ipv4Addr) -> Result<(), LabError> {
    let (port, host_fd) = (port.to_owned(), host.raw_fd());
    hub.wait(async move { Wires::open()?.add_cable(&port, Some(BRIDGE), link, host_fd).await })??;
    host.wait(async move {
        let wires = Wires::open()?;
        wires.add_address(link, address, PREFIX).await?;
        wires.up(link).await
    })?
}

/// The address in a network of prefix 24 whose last byte is `first + number`.
pub(super) fn address_in(network: Ipv4Addr, first: u8, number: u8) -> Ipv4Addr {
    let [a, b, c, _] = network.octets();
    Ipv4Addr::new(a, b, c, first.saturating_add(number))
}
