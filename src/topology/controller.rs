//! Whose configs these are: a tree may hold those of several controllers.
//!
//! The directories of the processes of one controller lie side by side in its config root. Two roots are two controllers, unless
//! something of this host runs or is enabled with configs of both. Where there is one controller only it needs no name.

use super::{activity::StarterKind, file::FileReport, process::Process};
use crate::api::{ConfigUse, Controller, Problem};
use std::collections::{BTreeMap, BTreeSet, HashMap};

/// The directory of the older DNP3 processes, which does not have the name of a process.
const DNP3_INTERFACE: &str = "dnp3_interface";

/// The controllers whose configs are in the set; none where it is only one.
#[derive(Debug, Default)]
pub(super) struct Controllers {
    pub known: Vec<Controller>,
    by_root: HashMap<String, usize>,
    /// Configs that this host uses, wherever they lie.
    here: BTreeSet<String>,
}

/// The directory that holds the process's directory in which a file lies.
fn config_root(path: &str) -> Option<&str> {
    let mut folder = path.rsplit_once('/')?.0;
    loop {
        let (root, name) = folder.rsplit_once('/').unwrap_or(("", folder));
        if name == DNP3_INTERFACE || Process::ALL.iter().any(|process| process.as_str() == name) {
            return Some(root);
        }
        if root.is_empty() {
            return None;
        }
        folder = root;
    }
}

impl Controllers {
    /// Those of the reports; `uses` says what this host starts.
    pub fn of(reports: &[FileReport], uses: &[ConfigUse]) -> Self {
        let by_this_host = |kind| matches!(kind, StarterKind::Running | StarterKind::Systemd);
        let is_here = |config: &&ConfigUse| config.starters.iter().any(|starter| by_this_host(starter.kind));
        let here: BTreeSet<String> = uses.iter().filter(is_here).map(|config| config.path.clone()).collect();
        let roots_here: BTreeSet<&str> = here.iter().filter_map(|path| config_root(path)).collect();
        let with_endpoint = reports.iter().filter(|report| report.endpoint.is_some());
        let roots: BTreeSet<&str> = with_endpoint.filter_map(|report| config_root(&report.path)).collect();
        let mut groups: Vec<(Vec<&str>, bool)> = roots.difference(&roots_here).map(|root| (vec![*root], false)).collect();
        let ours: Vec<&str> = roots.intersection(&roots_here).copied().collect();
        if !ours.is_empty() {
            groups.push((ours, true));
        }
        if groups.len() < 2 {
            return Self::default();
        }
        groups.sort();
        let names = names(&groups.iter().filter_map(|(roots, _)| roots.first().copied()).collect::<Vec<_>>());
        let by_root =
            groups.iter().enumerate().flat_map(|(index, (roots, _))| roots.iter().map(move |root| ((*root).to_owned(), index)));
        let by_root = by_root.collect();
        let controller = |((roots, is_local), name): (&(Vec<&str>, bool), String)| Controller {
            name,
            config_roots: roots.iter().map(|root| (*root).to_owned()).collect(),
            is_local: *is_local,
        };
        Self { known: groups.iter().zip(names).map(controller).collect(), by_root, here }
    }

    /// The controller that a config is one of; `None` where that is the only one, or not known.
    fn of_path(&self, path: &str) -> Option<&Controller> {
        if self.known.is_empty() {
            return None;
        }
        if self.here.contains(path) {
            return self.known.iter().find(|controller| controller.is_local);
        }
        let mut folder = path;
        while let Some((parent, _)) = folder.rsplit_once('/') {
            if let Some(index) = self.by_root.get(parent) {
                return self.known.get(*index);
            }
            folder = parent;
        }
        None
    }

    /// Gives each endpoint its controller. Where two controllers have endpoints of one id, the id gets the controller's name. The
    /// problems that name an endpoint follow.
    pub fn tell_apart(&self, reports: &mut [FileReport], problems: &mut [Problem]) {
        if self.known.is_empty() {
            return;
        }
        let mut owners: BTreeMap<String, BTreeSet<Option<String>>> = BTreeMap::new();
        for report in reports.iter_mut() {
            let controller = self.of_path(&report.path).map(|controller| controller.name.clone());
            if let Some(endpoint) = &mut report.endpoint {
                endpoint.controller.clone_from(&controller);
                owners.entry(endpoint.endpoint_id.clone()).or_default().insert(controller);
            }
        }
        let own_id = |id: &str, controller: Option<&str>| {
            let is_shared = owners.get(id).is_some_and(|owners| owners.len() > 1);
            controller.filter(|_| is_shared).map(|name| format!("{id}_{}", in_uri(name)))
        };
        for report in reports {
            let Some(endpoint) = &mut report.endpoint else { continue };
            let Some(id) = own_id(&endpoint.endpoint_id, endpoint.controller.as_deref()) else { continue };
            for heartbeat in report.heartbeats.iter_mut().filter(|heartbeat| heartbeat.endpoint_id == endpoint.endpoint_id) {
                heartbeat.endpoint_id.clone_from(&id);
            }
            for problem in &mut report.problems {
                if problem.endpoint_id.as_ref() == Some(&endpoint.endpoint_id) {
                    problem.endpoint_id = Some(id.clone());
                }
            }
            endpoint.endpoint_id = id;
        }
        for problem in problems {
            let (Some(path), Some(id)) = (&problem.path, &problem.endpoint_id) else { continue };
            if let Some(own) = own_id(id, self.of_path(path).map(|controller| controller.name.as_str())) {
                problem.endpoint_id = Some(own);
            }
        }
    }
}

/// A name of characters that a uri may hold.
fn in_uri(name: &str) -> String {
    let legal = |c: char| match c {
        '/' => '_',
        c if c.is_ascii_alphanumeric() || matches!(c, '-' | '.' | '_') => c,
        _ => '-',
    };
    name.chars().map(legal).take(80).collect()
}

/// What tells each root from the others: what follows their common directory, without a last `config` that all sites have.
fn names(roots: &[&str]) -> Vec<String> {
    let parts: Vec<Vec<&str>> = roots.iter().map(|root| root.split('/').filter(|part| !part.is_empty()).collect()).collect();
    let first = parts.first().cloned().unwrap_or_default();
    let is_common = |(index, part): &(usize, &&str)| parts.iter().all(|other| other.get(*index) == Some(*part));
    let common = first.iter().enumerate().take_while(is_common).count();
    let own = |parts: &Vec<&str>| {
        let own = parts.get(common..).unwrap_or_default();
        let own = match own {
            [before @ .., "config"] if !before.is_empty() => before,
            own => own,
        };
        if own.is_empty() { parts.last().map_or_else(|| "config".to_owned(), |last| (*last).to_owned()) } else { own.join("/") }
    };
    let short: Vec<String> = parts.iter().map(own).collect();
    let distinct: BTreeSet<&String> = short.iter().collect();
    if distinct.len() == short.len() { short } else { roots.iter().map(|root| (*root).to_owned()).collect() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_root_holds_the_directory_of_the_process() {
        assert_eq!(config_root("site/psm/config/modbus_client/a.json"), Some("site/psm/config"));
        assert_eq!(config_root("/etc/config/dnp3_interface/block/a.json"), Some("/etc/config"));
        assert_eq!(config_root("modbus_client/a.json"), Some(""));
        assert_eq!(config_root("configs/a.json"), None);
        assert_eq!(config_root("a.json"), None);
    }

    #[test]
    fn a_controller_has_the_name_that_tells_it_from_the_others() {
        assert_eq!(names(&["s/psm/config", "s/site-controller/config"]), ["psm", "site-controller"]);
        assert_eq!(names(&["/a/psm/config", "/b/psm/config"]), ["a/psm", "b/psm"]);
        assert_eq!(names(&["/s", "/s/psm"]), ["s", "psm"]);
        assert_eq!(names(&["x/config", "x"]), ["config", "x"]);
        assert_eq!(names(&["x/a/config", "x/a"]), ["config", "a"]);
    }
}
