//! The topology as the service holds it: read from the configs, completed with the kernel's routes.

use super::{Settings, results::fit_topology};
use crate::{
    api::{Endpoint, Topology, UtcTime},
    probe::Network,
    service::results::BODY_MAX,
    topology::{self, RouteFacts, ScanOptions},
};
use std::{
    collections::HashMap,
    net::{IpAddr, ToSocketAddrs as _},
    path::PathBuf,
    sync::{Arc, Mutex, PoisonError},
    time::SystemTime,
};

/// One reading of the site: the topology and the body that a `get` of it is answered with.
pub(super) struct Site {
    pub(super) topology: Topology,
    pub(super) body: Arc<[u8]>,
}

/// Holds the latest reading and makes new ones, one at a time.
pub(super) struct Sites {
    base_uri: String,
    config_dirs: Vec<PathBuf>,
    latest: Mutex<Arc<Site>>,
    reading: tokio::sync::Mutex<()>,
}

impl Sites {
    /// Nothing read yet.
    pub(super) fn new(settings: &Settings) -> Self {
        let topology = topology::assemble(Vec::new(), now());
        let body = fit_topology(&settings.base_uri, &topology, BODY_MAX);
        Self {
            base_uri: settings.base_uri.clone(),
            config_dirs: settings.config_dirs.clone(),
            latest: Mutex::new(Arc::new(Site { topology, body })),
            reading: tokio::sync::Mutex::new(()),
        }
    }

    /// The latest reading.
    pub(super) fn latest(&self) -> Arc<Site> {
        Arc::clone(&self.latest.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Reads the configs anew. Dropping the future leaves the latest reading as it was.
    pub(super) async fn rescan(&self) -> Arc<Site> {
        let _one_at_a_time = self.reading.lock().await;
        let topology = read_topology(&self.config_dirs).await;
        let body = fit_topology(&self.base_uri, &topology, BODY_MAX);
        let site = Arc::new(Site { topology, body });
        *self.latest.lock().unwrap_or_else(PoisonError::into_inner) = Arc::clone(&site);
        site
    }
}

/// Reads the config directories and asks the kernel for the way to each endpoint.
pub async fn read_topology(config_dirs: &[PathBuf]) -> Topology {
    let options = ScanOptions { dirs: config_dirs.to_vec(), ..ScanOptions::default() };
    let scanned = tokio::task::spawn_blocking(move || {
        let mut topology = topology::scan(&options, now());
        topology::resolve_names(&mut topology, &resolve);
        topology
    });
    let mut topology = scanned.await.unwrap_or_else(|error| {
        tracing::error!(%error, "reading the configs failed");
        topology::assemble(Vec::new(), now())
    });
    match Network::open().await {
        Ok(network) => {
            let interfaces = network.interfaces().await.unwrap_or_else(|error| {
                tracing::warn!(%error, "the interfaces could not be read");
                Vec::new()
            });
            let routes = routes(&network, &topology.endpoints).await;
            topology::apply_network(&mut topology, &routes, interfaces);
        }
        Err(error) => tracing::warn!(%error, "the kernel's routes could not be read"),
    }
    topology
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
            let facts =
                RouteFacts { interface: route.interface, source: route.source, gateway: route.gateway, is_local: route.is_local };
            (address, facts)
        })
        .collect()
}

/// Resolves a name as the site's loaders do: the first IPv4 address.
fn resolve(name: &str) -> Result<IpAddr, String> {
    let addresses = (name, 0_u16).to_socket_addrs().map_err(|error| error.to_string())?;
    addresses.map(|address| address.ip()).find(IpAddr::is_ipv4).ok_or_else(|| "it has no IPv4 address".to_owned())
}

fn now() -> UtcTime {
    UtcTime::from(SystemTime::now()).to_millis()
}
