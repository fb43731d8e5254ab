//! Keeps the topology fresh: one task makes every reading, when somebody asks, when a config directory changes, when what is started
//! changes, and when an interface changes; and it publishes what is then different.

use super::{
    dir_watch::DirWatch,
    replies::Core,
    results::body_of,
    site_bodies::fit_change,
    sites::{Look, SETTLE, is_changing},
};
use crate::api::{Interface, InterfaceList};
use std::{sync::Arc, time::Duration};
use tokio::time::{Instant, MissedTickBehavior, interval_at, sleep_until, timeout, timeout_at};

/// A change is read when nothing more has changed for this long, ...
const QUIET: Duration = Duration::from_secs(1);
/// ... but at most so long after the first one.
const PATIENCE: Duration = Duration::from_secs(10);

/// Reads the site now, and again whenever there is a reason. Runs until it is dropped.
pub(super) async fn keep_fresh(core: Arc<Core>) {
    let sites = &core.sites;
    let mut wanted = sites.wanted();
    let check = Duration::from_secs(core.settings.topology_check_s);
    let mut period = interval_at(Instant::now() + check, check);
    period.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut is_first = true;
    loop {
        let ticket = *wanted.borrow_and_update();
        // The watch begins before the reading, so that nothing changes unnoticed in between.
        let look = sites.reader.look().await;
        let mut watch = look.as_ref().and_then(|look| watch(&core, look));
        let change = sites.read(ticket).await;
        if is_first {
            let topology = &sites.latest().topology;
            tracing::info!(endpoints = topology.endpoints.len(), problems = topology.problems.len(), "the configs are read");
        } else if let Some(change) = change.filter(|change| !change.is_empty()) {
            tracing::info!("the topology has changed: {}", change.text);
            core.publish("topology/change", fit_change(&change, core.body_max()));
        }
        is_first = false;
        core.changed.notify_one();
        let mut known = publish_interfaces(&core).await;
        // What was being written is quiet by then, or looked at once more.
        let (is_changing, settled) = (is_changing(&sites.latest().topology), Instant::now() + SETTLE);
        loop {
            tokio::select! {
                _ = wanted.changed() => break,
                () = changed(watch.as_mut()) => {
                    let end = Instant::now() + PATIENCE;
                    while let Ok(Ok(())) = timeout_at(end, timeout(QUIET, changed(watch.as_mut()))).await {}
                    break;
                }
                () = sites.reader.names.later() => break,
                () = sleep_until(settled), if is_changing => break,
                _ = period.tick() => {
                    let before = known;
                    known = publish_interfaces(&core).await;
                    if states(&known) != states(&before) || sites.reader.look().await != look {
                        break;
                    }
                }
            }
        }
    }
}

/// Watches the directories, unless the kernel's limits forbid it; then the period has to do.
fn watch(core: &Core, look: &Look) -> Option<DirWatch> {
    match DirWatch::new(&core.sites.reader.watched_dirs(look)) {
        Ok(watch) => Some(watch),
        Err(error) => {
            tracing::debug!(%error, "the config directories cannot be watched; they are looked at on a period");
            None
        }
    }
}

async fn changed(watch: Option<&mut DirWatch>) {
    match watch {
        Some(watch) => watch.changed().await,
        None => std::future::pending().await,
    }
}

async fn publish_interfaces(core: &Core) -> InterfaceList {
    let list = core.sites.interfaces().await;
    core.publish("interfaces", body_of(&list));
    list
}

/// Of interfaces, what does not change with every packet.
fn states(list: &InterfaceList) -> Vec<Interface> {
    list.interfaces
        .iter()
        .map(|interface| Interface { counters: None, carrier_changes: None, endpoints: 0, ..interface.clone() })
        .collect()
}
