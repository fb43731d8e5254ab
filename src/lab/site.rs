//! The simulated site: a controller, a switch, devices on it, and a router to a network beyond.

use super::{
    LabError, Namespace,
    client::{ClientStats, PollSettings, Polls, SharedStats, poll_for_ever},
    config_files,
    counters::{Counters, DeviceStats},
    device::{Behaviour, DeviceSpec, InboundSpec, Speaks},
    network::{
        CONTROLLER, CONTROLLER_LINK, FAR, HOST_LINK, NEAR, Network, PREFIX, ROUTER, ROUTER_FAR_SIDE, address_in, plug,
        quiet_namespace,
    },
    presence::{self, Presence},
    wiring::Wires,
};
use std::{
    net::{Ipv4Addr, SocketAddr},
    path::{Path, PathBuf},
    sync::Arc,
    thread,
    time::{Duration, Instant},
};
use tokio::task::JoinHandle;

/// The last byte of the first device's address.
const FIRST_DEVICE: u8 = 11;
/// The last byte of the first remote client's address.
const FIRST_REMOTE: u8 = 201;
/// How many devices, and how many inbound servers, fit the address plan.
const MOST_DEVICES: usize = 180;
const MOST_INBOUND: usize = 40;
/// What is added to the ports below 1024 where they need root.
const HIGH_PORTS: u16 = 10_000;

/// Where a site is built.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Placement {
    /// Each device in a network namespace of its own; the controller is the calling thread, which has called
    /// [`enter_private`](super::enter_private).
    Namespaces,
    /// All on the loopback of this host, on addresses from 127.0.0.2 on. Needs no rights; what needs a network is left out.
    Loopback,
}

/// A device that cannot be had in the chosen placement.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LeftOut {
    /// The device.
    pub name: String,
    /// What it would have shown, and why it cannot.
    pub reason: String,
}

/// Makes a [`Site`].
#[derive(Debug, Clone)]
pub struct SiteBuilder {
    placement: Placement,
    devices: Vec<DeviceSpec>,
    inbound: Vec<InboundSpec>,
    polling: PollSettings,
}

impl SiteBuilder {
    /// A site with nothing but the controller.
    pub fn new(placement: Placement) -> Self {
        Self { placement, devices: Vec::new(), inbound: Vec::new(), polling: PollSettings::default() }
    }

    /// Adds a device.
    pub fn device(mut self, device: DeviceSpec) -> Self {
        self.devices.push(device);
        self
    }

    /// Adds devices.
    pub fn devices(mut self, devices: impl IntoIterator<Item = DeviceSpec>) -> Self {
        self.devices.extend(devices);
        self
    }

    /// Adds a server on the controller.
    pub fn inbound(mut self, inbound: InboundSpec) -> Self {
        self.inbound.push(inbound);
        self
    }

    /// How the live sessions poll.
    pub fn polling(mut self, settings: PollSettings) -> Self {
        self.polling = settings;
        self
    }

    /// Builds the site; returns when every device is there. Blocks the calling thread for about 100 ms.
    ///
    /// # Errors
    /// When the network cannot be made, or a device cannot listen on its address.
    pub fn build(self) -> Result<Site, LabError> {
        self.check()?;
        let controller = Namespace::current("controller")?;
        let network = match self.placement {
            Placement::Namespaces => Some(Network::build(&controller)?),
            Placement::Loopback => None,
        };
        let mut site =
            Site { devices: Vec::new(), inbound: Vec::new(), left_out: Vec::new(), polling: self.polling, network, controller };
        for (number, spec) in (0..).zip(self.devices) {
            site.add_device(number, spec)?;
        }
        for (number, spec) in (0..).zip(self.inbound) {
            site.add_inbound(number, spec)?;
        }
        Ok(site)
    }

    fn check(&self) -> Result<(), LabError> {
        self.devices.iter().try_for_each(DeviceSpec::check)?;
        self.inbound.iter().try_for_each(InboundSpec::check)?;
        let wrong = |device: &str, reason: String| Err(LabError::Spec { device: device.to_owned(), reason });
        let names: Vec<&str> =
            self.devices.iter().map(|spec| spec.name.as_str()).chain(self.inbound.iter().map(|spec| spec.name.as_str())).collect();
        if let Some(twice) = names.iter().enumerate().find(|(at, name)| names.iter().take(*at).any(|other| other == *name)) {
            return wrong(twice.1, "two of the site have this name; each needs its own".to_owned());
        }
        if let Some(one_too_many) = self.devices.get(MOST_DEVICES) {
            return wrong(&one_too_many.name, format!("a site has room for {MOST_DEVICES} devices"));
        }
        if let Some(one_too_many) = self.inbound.get(MOST_INBOUND) {
            return wrong(&one_too_many.name, format!("a site has room for {MOST_INBOUND} inbound servers"));
        }
        Ok(())
    }
}

/// A device of the site.
#[derive(Debug)]
pub struct Device {
    spec: DeviceSpec,
    place: SocketAddr,
    counters: Arc<Counters>,
    session: Option<Session>,
    _presence: Presence,
    namespace: Option<Namespace>,
    /// Its port at the switch or the router.
    cable: Option<String>,
}

impl Device {
    /// What was asked for.
    pub fn spec(&self) -> &DeviceSpec {
        &self.spec
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.spec.name
    }

    /// Its address.
    pub fn address(&self) -> std::net::IpAddr {
        self.place.ip()
    }

    /// Its address and port.
    pub fn socket_address(&self) -> SocketAddr {
        self.place
    }

    /// What it has seen so far.
    pub fn stats(&self) -> DeviceStats {
        self.counters.stats()
    }

    /// What the site's own client has seen of it, if there is one.
    pub fn session(&self) -> Option<ClientStats> {
        self.session.as_ref().map(|session| session.stats.get())
    }

    /// The namespace that it is in, if it has one.
    pub fn namespace(&self) -> Option<&Namespace> {
        self.namespace.as_ref()
    }
}

/// A server on the controller itself.
#[derive(Debug)]
pub struct Inbound {
    spec: InboundSpec,
    place: SocketAddr,
    counters: Arc<Counters>,
    remote: Option<Session>,
    _presence: Option<Presence>,
    _remote_namespace: Option<Namespace>,
}

impl Inbound {
    /// What was asked for.
    pub fn spec(&self) -> &InboundSpec {
        &self.spec
    }

    /// Where it listens, or would.
    pub fn socket_address(&self) -> SocketAddr {
        self.place
    }

    /// What it has seen so far.
    pub fn stats(&self) -> DeviceStats {
        self.counters.stats()
    }

    /// What the remote client has seen of it, if there is one.
    pub fn remote(&self) -> Option<ClientStats> {
        self.remote.as_ref().map(|session| session.stats.get())
    }
}

/// A client that polls as long as this lives.
#[derive(Debug)]
struct Session {
    task: JoinHandle<()>,
    stats: SharedStats,
}

impl Session {
    fn start(namespace: &Namespace, target: SocketAddr, speaks: &Speaks, settings: &PollSettings) -> Self {
        let polls = match speaks {
            Speaks::Modbus { unit_ids } => Polls::Modbus { unit_ids: unit_ids.clone() },
            Speaks::Dnp3 { master, station, unsolicited } => {
                Polls::Dnp3 { master: *master, station: *station, reports: unsolicited.is_some() }
            }
        };
        let stats = SharedStats::default();
        Self { task: namespace.spawn(poll_for_ever(target, polls, settings.clone(), stats.clone())), stats }
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// A simulated site. Dropping it takes everything away again; so does the end of the process, however it ends.
#[derive(Debug)]
pub struct Site {
    // Dropped in this order: those who speak, then the network, then the controller.
    devices: Vec<Device>,
    inbound: Vec<Inbound>,
    left_out: Vec<LeftOut>,
    polling: PollSettings,
    network: Option<Network>,
    controller: Namespace,
}

impl Site {
    /// A site of these devices, with no server on the controller; [`SiteBuilder`] can do more.
    ///
    /// # Errors
    /// When the network cannot be made, or a device cannot listen on its address.
    pub fn build(placement: Placement, devices: Vec<DeviceSpec>) -> Result<Self, LabError> {
        SiteBuilder::new(placement).devices(devices).build()
    }

    /// The devices, in the order in which they were asked for.
    pub fn devices(&self) -> &[Device] {
        &self.devices
    }

    /// The device of that name.
    pub fn device(&self, name: &str) -> Option<&Device> {
        self.devices.iter().find(|device| device.spec.name == name)
    }

    /// The servers on the controller.
    pub fn inbound(&self) -> &[Inbound] {
        &self.inbound
    }

    /// What could not be had in this placement.
    pub fn left_out(&self) -> &[LeftOut] {
        &self.left_out
    }

    /// The network that the controller is in: where to start what is to see the site.
    pub fn controller(&self) -> &Namespace {
        &self.controller
    }

    /// The controller's address.
    pub fn controller_address(&self) -> Ipv4Addr {
        if self.network.is_some() { CONTROLLER } else { Ipv4Addr::LOCALHOST }
    }

    /// Writes the site's config files as a real site has them (`modbus_client/<name>.json`, `dnp3_server/<name>.json`, ...) below
    /// `directory`, and returns their paths.
    ///
    /// # Errors
    /// When a file cannot be written.
    pub fn write_configs(&self, directory: &Path) -> Result<Vec<PathBuf>, LabError> {
        let clients = self.devices.iter().map(|device| config_files::client(&device.spec, device.place));
        let servers = self.inbound.iter().map(|inbound| config_files::server(&inbound.spec, inbound.place));
        clients.chain(servers).map(|file| file.write_below(directory)).collect()
    }

    /// Waits until every live session that can work has had its first answer; `false` if some has not within `limit`. Blocks the
    /// calling thread.
    pub fn wait_for_sessions(&self, limit: Duration) -> bool {
        let deadline = Instant::now() + limit;
        while !self.sessions_work() {
            if Instant::now() > deadline {
                return false;
            }
            thread::sleep(Duration::from_millis(10));
        }
        true
    }

    fn sessions_work(&self) -> bool {
        let devices = self.devices.iter().filter_map(|device| Some((&device.spec.behaviour, device.session()?)));
        let remotes = self.inbound.iter().filter(|inbound| inbound.spec.listening).filter_map(|inbound| inbound.remote());
        devices.chain(remotes.map(|remote| (&Behaviour::Healthy, remote))).all(|(behaviour, session)| match behaviour {
            Behaviour::Healthy | Behaviour::Slow(_) | Behaviour::Exceptions { .. } | Behaviour::BlocksPing => session.answers > 0,
            Behaviour::NeverAnswers => session.polls > 0,
            _ => true,
        })
    }

    /// Pulls a device's cable out of the switch, or plugs it in again. On loopback there are no cables.
    ///
    /// # Errors
    /// When there is no such device, or it has no cable.
    pub fn set_cable(&self, name: &str, plugged_in: bool) -> Result<(), LabError> {
        let no_cable = || LabError::Spec { device: name.to_owned(), reason: "it has no cable".to_owned() };
        let device = self.device(name).ok_or_else(no_cable)?;
        let (network, port) = (self.network.as_ref().ok_or_else(no_cable)?, device.cable.clone().ok_or_else(no_cable)?);
        let hub = if device.spec.routed { network.router.as_ref() } else { Some(&network.switch) }.ok_or_else(no_cable)?;
        hub.wait(async move { Wires::open()?.switch(&port, plugged_in).await })?
    }

    fn add_device(&mut self, number: u8, spec: DeviceSpec) -> Result<(), LabError> {
        if self.network.is_none() && (!spec.behaviour.exists_on_loopback() || spec.routed) {
            let what = if spec.behaviour.exists_on_loopback() { "behind a router".to_owned() } else { spec.behaviour.describe() };
            let reason = format!("{what}; on loopback there is no such thing");
            self.left_out.push(LeftOut { name: spec.name, reason });
            return Ok(());
        }
        let Home { address, namespace, cable } = self.make_home(number, &spec)?;
        let counters = Arc::<Counters>::default();
        let on_loopback = self.network.is_none();
        let port = if on_loopback && spec.port < 1024 { spec.port + HIGH_PORTS } else { spec.port };
        let starting = presence::start(spec.clone(), address, port, on_loopback, Arc::clone(&counters));
        let failed = |source| LabError::Device { device: spec.name.clone(), address: (address, port).into(), source };
        let (presence, port) = namespace.as_ref().unwrap_or(&self.controller).wait(starting)?.map_err(failed)?;
        let place = SocketAddr::from((address, port));
        let session = spec.session.then(|| Session::start(&self.controller, place, &spec.speaks, &self.polling));
        self.devices.push(Device { spec, place, counters, session, _presence: presence, namespace, cable });
        Ok(())
    }

    /// Makes the host for a device, where it needs one, and connects it.
    fn make_home(&mut self, number: u8, spec: &DeviceSpec) -> Result<Home, LabError> {
        let Some(network) = &mut self.network else {
            return Ok(Home { address: address_in(Ipv4Addr::LOCALHOST, 2, number), namespace: None, cable: None });
        };
        let address = address_in(if spec.routed { FAR } else { NEAR }, FIRST_DEVICE, number);
        if let Behaviour::Rejected(how) = spec.behaviour {
            let router = network.router(&self.controller)?;
            router.wait(async move { Wires::open()?.reject(address, how).await })??;
        } else if spec.routed {
            network.router(&self.controller)?;
        }
        if !spec.behaviour.has_host() {
            return Ok(Home { address, namespace: None, cable: None });
        }
        let host = quiet_namespace(&spec.name)?;
        let hub = if spec.routed { network.router(&self.controller)? } else { &network.switch };
        let port = format!("port{number}");
        plug(hub, &port, &host, HOST_LINK, address)?;
        // What is near answers routed clients by the router as well, if ever there are some.
        let (beyond, gateway) = if spec.routed { (NEAR, ROUTER_FAR_SIDE) } else { (FAR, ROUTER) };
        host.wait(async move { Wires::open()?.add_route(beyond, PREFIX, gateway).await })??;
        if spec.behaviour == Behaviour::BlocksPing {
            host.sysctl("net/ipv4/icmp_echo_ignore_all", "1")?;
        }
        Ok(Home { address, namespace: Some(host), cable: Some(port) })
    }

    fn add_inbound(&mut self, number: u8, spec: InboundSpec) -> Result<(), LabError> {
        let on_loopback = self.network.is_none();
        let listens_at = if on_loopback { Ipv4Addr::LOCALHOST } else { Ipv4Addr::UNSPECIFIED };
        let mut port = if on_loopback && spec.port < 1024 { spec.port + HIGH_PORTS } else { spec.port };
        let counters = Arc::<Counters>::default();
        let mut presence = None;
        if spec.listening {
            let server = server_of(&spec);
            let starting = presence::start(server, listens_at, port, on_loopback, Arc::clone(&counters));
            let failed = |source| LabError::Device { device: spec.name.clone(), address: (listens_at, port).into(), source };
            let started = self.controller.wait(starting)?.map_err(failed)?;
            port = started.1;
            presence = Some(started.0);
        }
        let target = SocketAddr::from((self.controller_address(), port));
        let remote_namespace = match &self.network {
            Some(network) if spec.polled => {
                let host = quiet_namespace(&format!("{} client", spec.name))?;
                plug(&network.switch, &format!("remote{number}"), &host, HOST_LINK, address_in(NEAR, FIRST_REMOTE, number))?;
                Some(host)
            }
            _ => None,
        };
        let client_lives_in = remote_namespace.as_ref().unwrap_or(&self.controller);
        let remote = spec.polled.then(|| Session::start(client_lives_in, target, &spec.speaks, &self.polling));
        let place = SocketAddr::from((listens_at, port));
        self.inbound.push(Inbound { spec, place, counters, remote, _presence: presence, _remote_namespace: remote_namespace });
        Ok(())
    }
}

impl Drop for Site {
    fn drop(&mut self) {
        if self.network.is_some() {
            // The kernel would take it away with the switch, but only some time later.
            let _ = self.controller.wait(async { Wires::open()?.remove(CONTROLLER_LINK).await });
        }
    }
}

/// Where a device lives.
struct Home {
    address: Ipv4Addr,
    namespace: Option<Namespace>,
    cable: Option<String>,
}

/// The device that an inbound server is, seen from its port.
fn server_of(inbound: &InboundSpec) -> DeviceSpec {
    DeviceSpec {
        name: inbound.name.clone(),
        speaks: inbound.speaks.clone(),
        behaviour: Behaviour::Healthy,
        port: inbound.port,
        session: false,
        routed: false,
        most_connections: None,
    }
}
