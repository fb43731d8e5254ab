//! The topology as the service holds it: read from the configs, completed with the kernel's routes.

use super::{Settings, names::Names, site_bodies::fit_topology};
use crate::{
    api::{Endpoint, ExtraEndpoint, Interface, InterfaceList, Topology, TopologyChange, UtcTime},
    probe::Network,
    service::results::BODY_MAX,
    topology::{
        self, Footprint, ProblemCode, Readings, RouteFacts, ScanOptions,
        activity::{Sources, Starter},
    },
};
use std::{
    collections::HashMap,
    net::IpAddr,
    path::PathBuf,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, SystemTime},
};
use tokio::sync::watch;

/// A config that is no whole one is judged when nothing was written to it for this long; a copy over a slow line may pause.
pub(super) const SETTLE: Duration = Duration::from_secs(5);
/// The same where somebody waits for the one reading that is made.
const SETTLE_ONCE: Duration = Duration::from_secs(1);

/// One reading of the site: the topology and the body that a `get` of it is answered with.
pub(super) struct Site {
    pub(super) topology: Topology,
    pub(super) body: Arc<[u8]>,
}

impl Site {
    /// The endpoints that configs name, which a process is to use; of the others nobody can say that their traffic is missing.
    pub(super) fn configured(&self) -> impl Iterator<Item = &Endpoint> {
        self.topology.endpoints.iter().filter(|endpoint| !endpoint.config_files.is_empty())
    }
}

/// Holds the latest reading. New ones are made by one task ([`keep_fresh`](super::freshness::keep_fresh)), however many ask for one.
pub(super) struct Sites {
    base_uri: String,
    pub(super) reader: SiteReader,
    latest: Mutex<Arc<Site>>,
    /// How many readings were asked for, and up to which of them is done.
    wanted: watch::Sender<u64>,
    done: watch::Sender<u64>,
    is_read: AtomicBool,
}

impl Sites {
    /// Nothing read yet.
    pub(super) fn new(settings: &Settings) -> Self {
        let mut topology = topology::assemble(Vec::new(), now());
        topology::add_extra(&mut topology, &settings.extra_endpoints);
        let body = fit_topology(&settings.base_uri, &topology, BODY_MAX);
        Self {
            base_uri: settings.base_uri.clone(),
            reader: SiteReader::new(&settings.config_dirs, &settings.mcp_dirs).of_the_service(&settings.extra_endpoints),
            latest: Mutex::new(Arc::new(Site { topology, body })),
            wanted: watch::Sender::new(0),
            done: watch::Sender::new(0),
            is_read: AtomicBool::new(false),
        }
    }

    /// The latest reading.
    pub(super) fn latest(&self) -> Arc<Site> {
        Arc::clone(&self.latest.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Whether the configs have been read at all.
    pub(super) fn is_read(&self) -> bool {
        self.is_read.load(Ordering::Acquire)
    }

    /// A reading that begins after this call. All who ask while one is being made share the next one.
    pub(super) async fn rescan(&self) -> Arc<Site> {
        let mut ticket = 0;
        self.wanted.send_modify(|wanted| {
            *wanted += 1;
            ticket = *wanted;
        });
        // The sender is ours, so it cannot have gone.
        let _ = self.done.subscribe().wait_for(|done| *done >= ticket).await;
        self.latest()
    }

    /// What is asked for, for the task that reads.
    pub(super) fn wanted(&self) -> watch::Receiver<u64> {
        self.wanted.subscribe()
    }

    /// Makes a new reading for all who asked up to `ticket`, and says what is different. `None` if the reading itself failed.
    pub(super) async fn read(&self, ticket: u64) -> Option<TopologyChange> {
        let change = match self.reader.read().await {
            Some(topology) => self.take_up(topology).await,
            None => None,
        };
        self.is_read.store(true, Ordering::Release);
        self.done.send_replace(ticket);
        change
    }

    /// Makes a reading the latest one, and says what is different.
    async fn take_up(&self, topology: Topology) -> Option<TopologyChange> {
        let (before, base_uri) = (self.latest(), self.base_uri.clone());
        let (site, change) = off_the_runtime(move || {
            let body = fit_topology(&base_uri, &topology, BODY_MAX);
            let change = topology::compare(&before.topology, &topology);
            (Site { topology, body }, change)
        })
        .await?;
        *self.latest.lock().unwrap_or_else(PoisonError::into_inner) = Arc::new(site);
        Some(change)
    }

    /// The interfaces as they are now, or, if the kernel does not answer, as they were last.
    pub(super) async fn interfaces(&self) -> InterfaceList {
        let known = self.latest();
        let mut interfaces = match interfaces().await {
            Ok(interfaces) => interfaces,
            Err(_) => return InterfaceList { interfaces: known.topology.interfaces.clone(), at: known.topology.scanned_at },
        };
        for interface in &mut interfaces {
            let as_known = known.topology.interfaces.iter().find(|known| known.name == interface.name);
            interface.endpoints = as_known.map_or(0, |known| known.endpoints);
        }
        InterfaceList { interfaces, at: now() }
    }
}

/// What shows, without reading a config, whether a new reading would differ.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Look {
    pub(super) footprint: Footprint,
    starters: Vec<Starter>,
}

/// Whether some config was being written while it was read.
pub(super) fn is_changing(topology: &Topology) -> bool {
    topology.problems.iter().any(|problem| problem.code == ProblemCode::FileChanging.code())
}

/// Reads a site: the configs, what starts their processes, the names in them and the kernel's way to each endpoint.
pub(super) struct SiteReader {
    options: ScanOptions,
    /// The endpoints of the settings.
    extra: Vec<ExtraEndpoint>,
    /// What each config said when it was last whole.
    readings: Arc<Mutex<Readings>>,
    pub(super) names: Names,
}

impl SiteReader {
    /// For these config directories, and the process lists of these directories and of those beside the config directories.
    pub(super) fn new(config_dirs: &[PathBuf], mcp_dirs: &[PathBuf]) -> Self {
        let sources = Sources { mcp_dirs: mcp_dirs.to_vec(), ..Sources::of_this_host() }.with_lists_beside(config_dirs);
        let options = ScanOptions { dirs: config_dirs.to_vec(), sources, settle: SETTLE_ONCE, ..ScanOptions::default() };
        Self { options, extra: Vec::new(), readings: Arc::default(), names: Names::of_system() }
    }

    /// Reads the configs of this host's processes too that lie elsewhere, adds the endpoints of the settings, and has patience with
    /// files that are being copied: there is a next reading.
    fn of_the_service(mut self, extra: &[ExtraEndpoint]) -> Self {
        self.options.follow_started = true;
        self.options.settle = SETTLE;
        self.extra = extra.to_vec();
        self
    }

    /// Looks at the directories and at what is started, without reading a config.
    pub(super) async fn look(&self) -> Option<Look> {
        let options = self.options.clone();
        let look = move || Look { footprint: topology::footprint(&options), starters: options.sources.read().0 };
        tokio::task::spawn_blocking(look).await.ok()
    }

    /// The directories whose change may change the topology.
    pub(super) fn watched_dirs(&self, look: &Look) -> Vec<PathBuf> {
        look.footprint.dirs.iter().chain(&self.options.sources.mcp_dirs).cloned().collect()
    }

    /// Reads everything. `None` if the reading itself failed, which is logged.
    pub(super) async fn read(&self) -> Option<Topology> {
        let (options, readings) = (self.options.clone(), Arc::clone(&self.readings));
        let extra = self.extra.clone();
        let (mut topology, names) = off_the_runtime(move || {
            let mut topology = topology::scan_again(&options, now(), &mut readings.lock().unwrap_or_else(PoisonError::into_inner));
            topology::add_extra(&mut topology, &extra);
            let names = topology::host_names(&topology);
            (topology, names)
        })
        .await?;
        if !names.is_empty() {
            let answers = self.names.resolve(&names).await;
            topology = off_the_runtime(move || {
                topology::apply_names(&mut topology, &answers);
                topology
            })
            .await?;
        }
        match Network::open().await {
            Ok(network) => {
                let interfaces = network.interfaces().await.unwrap_or_else(|error| {
                    tracing::warn!(%error, "the interfaces could not be read");
                    Vec::new()
                });
                let routes = routes(&network, &topology.endpoints).await;
                topology = off_the_runtime(move || {
                    topology::apply_network(&mut topology, &routes, interfaces);
                    topology
                })
                .await?;
            }
            Err(error) => tracing::warn!(%error, "the kernel's routes could not be read"),
        }
        Some(topology)
    }
}

/// Does work that waits for a disk, or takes long for a site of thousands of endpoints. `None` if it failed, which is logged.
async fn off_the_runtime<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Option<T> {
    let done = tokio::task::spawn_blocking(work).await;
    done.inspect_err(|error| tracing::error!(%error, "reading the configs failed")).ok()
}

/// Reads the config directories and asks the kernel for the way to each endpoint, once.
pub async fn read_topology(config_dirs: &[PathBuf]) -> Topology {
    let reader = SiteReader::new(config_dirs, &Settings::default().mcp_dirs);
    let mut read = reader.read().await;
    if read.as_ref().is_some_and(is_changing) {
        tokio::time::sleep(SETTLE_ONCE).await;
        read = reader.read().await;
    }
    read.unwrap_or_else(|| topology::assemble(Vec::new(), now()))
}

/// Reads config directories of other hosts: nothing of this host is looked at, no name resolved.
pub async fn read_topology_of_others(config_dirs: &[PathBuf]) -> Topology {
    let sources = Sources::default().with_lists_beside(config_dirs);
    let options = ScanOptions { dirs: config_dirs.to_vec(), sources, settle: SETTLE_ONCE, ..ScanOptions::default() };
    let scanned = tokio::task::spawn_blocking(move || {
        let mut readings = Readings::default();
        let mut topology = topology::scan_again(&options, now(), &mut readings);
        if is_changing(&topology) {
            std::thread::sleep(SETTLE_ONCE);
            topology = topology::scan_again(&options, now(), &mut readings);
        }
        topology::compare_ends(&mut topology);
        topology
    });
    scanned.await.unwrap_or_else(|_| topology::assemble(Vec::new(), now()))
}

async fn interfaces() -> std::io::Result<Vec<Interface>> {
    Network::open().await?.interfaces().await
}

/// The kernel's way to each endpoint.
pub(super) async fn routes(network: &Network, endpoints: &[Endpoint]) -> HashMap<IpAddr, RouteFacts> {
    let mut addresses: Vec<IpAddr> = endpoints.iter().filter_map(|endpoint| endpoint.address).collect();
    addresses.sort_unstable();
    addresses.dedup();
    let routes = network.routes(&addresses).await;
    routes
        .into_iter()
        .map(|(address, route)| {
            let facts = RouteFacts {
                interface: route.interface,
                source: route.source,
                gateway: route.gateway,
                is_local: route.is_local,
                error: route.error,
            };
            (address, facts)
        })
        .collect()
}

fn now() -> UtcTime {
    UtcTime::from(SystemTime::now()).to_millis()
}
