//! Started, not started, or overridden: each config's verdict out of what all starters say.

use super::{Located, Starter, StarterKind, place::parent};
use crate::{
    api::{Activity, ConfigStarter, ConfigUse, Endpoint, PortSource, Problem, Transport, endpoint_id},
    topology::{
        file::FileReport,
        problem::{ProblemCode, clip, quote},
    },
};
use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
};

/// The longest command line that is repeated to people.
const MAX_SHOWN: usize = 200;

/// The port of a client whose file names a serial line and whose command line an address.
const MODBUS_PORT: u16 = 502;

/// Judges each config and gives its endpoint what the running command lines override. `locate` says which file a starter means.
///
/// A config that nothing starts is `not_started` only where there is reason to know: when something starts another config of the same
/// folder, or when systemd or a running process of this host uses the same config root.
pub fn judge(
    reports: &mut Vec<FileReport>,
    starters: &[Starter],
    locate: &dyn Fn(&Starter, &str) -> Located,
) -> (Vec<ConfigUse>, Vec<Problem>) {
    let mut problems = Vec::new();
    let mut started: BTreeMap<String, Vec<&Starter>> = BTreeMap::new();
    let mut known_folders: BTreeSet<String> = BTreeSet::new();
    let mut known_roots: BTreeSet<String> = BTreeSet::new();
    for starter in starters {
        if let Some(uri) = &starter.launch.uri {
            let message = format!("{} gets its config over the bus from {}; there is no file to read", shown(starter), quote(uri));
            problems.push(ProblemCode::ConfigFromBus.at(&starter.name, message));
        }
        for given in &starter.launch.files {
            let path = match locate(starter, given) {
                Located::At(path) => {
                    started.entry(path.clone()).or_default().push(starter);
                    path
                }
                Located::Missing(path) => {
                    let message = format!("{} is started with {}, which does not exist", shown(starter), quote(given));
                    problems.push(ProblemCode::StartedMissing.at(&path, message));
                    path
                }
                Located::Elsewhere => continue,
            };
            if let Some(folder) = parent(&path) {
                known_folders.insert(folder.to_owned());
                if starter.kind != StarterKind::Mcp {
                    known_roots.extend(parent(folder).map(str::to_owned));
                }
            }
        }
    }

    // The members of a DNP3 file list are started with the list.
    for list in reports.iter().filter(|report| !report.listed_files.is_empty()) {
        let Some(by) = started.get(&list.path).cloned() else { continue };
        for listed in &list.listed_files {
            let name = listed.rsplit('/').next().unwrap_or_default();
            let member = reports.iter().find(|report| report.path.rsplit('/').next() == Some(name) && report.path != list.path);
            if let Some(member) = member {
                started.entry(member.path.clone()).or_default().extend(&by);
            }
        }
    }

    let mut uses = Vec::new();
    let mut variants = Vec::new();
    for report in reports.iter_mut() {
        let is_config =
            report.endpoint.is_some() || !report.listed_files.is_empty() || report.process.is_some_and(|_| report.is_ours());
        if !is_config {
            continue;
        }
        let by = started.get(&report.path).map(Vec::as_slice).unwrap_or_default();
        let is_known = parent(&report.path)
            .is_some_and(|folder| known_folders.contains(folder) || parent(folder).is_some_and(|root| known_roots.contains(root)));
        let activity = match by {
            [] if is_known => Activity::NotStarted,
            [] => Activity::Unknown,
            _ if by.iter().any(|starter| !starter.launch.overrides.is_empty()) => Activity::Overridden,
            _ => Activity::Started,
        };
        let endpoint_of = report.endpoint.as_ref().map(|endpoint| endpoint.endpoint_id.clone());
        let mut tell = |code: ProblemCode, message: String| {
            problems.push(Problem { endpoint_id: endpoint_of.clone(), ..code.at(&report.path, message) });
        };
        if activity == Activity::NotStarted && report.endpoint.is_some() {
            tell(ProblemCode::NotStarted, "nothing starts a process with this file".to_owned());
        }
        if let Some(message) = started_twice(by) {
            tell(ProblemCode::StartedTwice, message);
        }
        for starter in by.iter().filter(|starter| !starter.launch.overrides.is_empty()) {
            tell(ProblemCode::Overridden, format!("{} overrides the file with {}", shown(starter), words(starter)));
        }
        if let Some(endpoint) = &mut report.endpoint {
            endpoint.activity = activity;
        }
        variants.extend(apply_overrides(report, by));
        uses.push(ConfigUse {
            path: report.path.clone(),
            process: by.first().map(|starter| starter.launch.process).or(report.process).map(|process| process.to_string()),
            activity,
            starters: by.iter().map(|starter| config_starter(starter)).collect(),
        });
    }
    reports.extend(variants);
    uses.sort_by(|a, b| a.path.cmp(&b.path));
    (uses, problems)
}

fn config_starter(starter: &Starter) -> ConfigStarter {
    let overrides = starter.launch.overrides.iter().map(|(key, value)| clip(&format!("{key}:{value}"), MAX_SHOWN)).collect();
    ConfigStarter { kind: starter.kind, name: clip(&starter.name, MAX_SHOWN), pid: starter.pid, overrides }
}

fn shown(starter: &Starter) -> String {
    let process = starter.launch.process;
    match (starter.kind, starter.pid) {
        (StarterKind::Running, Some(pid)) => format!("the running {process} (process {pid})"),
        (StarterKind::Running, None) => format!("the running {process}"),
        (StarterKind::Systemd, _) => format!("{process} of the unit {}", quote(&starter.name)),
        (StarterKind::Mcp, _) => format!("{process} of the list {}", quote(&starter.name)),
    }
}

fn words(starter: &Starter) -> String {
    let words: Vec<String> = starter.launch.overrides.iter().map(|(key, value)| format!("{key}:{value}")).collect();
    quote(&words.join(" "))
}

/// Two processes on one config poll the same device side by side. Each with its own override is what a shared file is for.
fn started_twice(by: &[&Starter]) -> Option<String> {
    let twice = |kind: StarterKind| {
        let same: Vec<&&Starter> =
            by.iter().filter(|starter| starter.kind == kind && starter.launch.overrides.is_empty()).collect();
        let names: BTreeSet<(&str, Option<u32>)> = same.iter().map(|starter| (starter.name.as_str(), starter.pid)).collect();
        (names.len() > 1).then(|| same.iter().map(|starter| shown(starter)).collect::<Vec<_>>().join(" and "))
    };
    let names = twice(StarterKind::Running).or_else(|| twice(StarterKind::Systemd)).or_else(|| twice(StarterKind::Mcp))?;
    Some(format!("{} all use this file", clip(&names, 400)))
}

/// Moves the endpoint to where the overriding command lines put it; several of them make an endpoint each. What runs goes before what
/// would be started.
fn apply_overrides(report: &mut FileReport, by: &[&Starter]) -> Vec<FileReport> {
    let Some(endpoint) = report.endpoint.clone() else { return Vec::new() };
    let runs = by.iter().any(|starter| starter.kind == StarterKind::Running);
    let effective = by.iter().filter(|starter| !runs || starter.kind == StarterKind::Running);
    let mut moved: BTreeMap<String, Endpoint> = BTreeMap::new();
    let mut keeps_own = false;
    for starter in effective {
        match overridden(&endpoint, starter) {
            Some(variant) => drop(moved.insert(variant.endpoint_id.clone(), variant)),
            None => keeps_own = true,
        }
    }
    let mut moved = moved.into_values();
    if !keeps_own && let Some(first) = moved.next() {
        move_to(report, first);
    }
    let variant = |endpoint| {
        let mut variant = FileReport { problems: Vec::new(), ..report.clone() };
        move_to(&mut variant, endpoint);
        variant
    };
    moved.map(variant).collect()
}

fn move_to(report: &mut FileReport, endpoint: Endpoint) {
    for heartbeat in &mut report.heartbeats {
        heartbeat.endpoint_id.clone_from(&endpoint.endpoint_id);
    }
    report.endpoint = Some(endpoint);
}

/// The endpoint as the command line makes it; `None` when that is where the file has it.
fn overridden(endpoint: &Endpoint, starter: &Starter) -> Option<Endpoint> {
    let mut moved = endpoint.clone();
    for (key, value) in &starter.launch.overrides {
        match key.as_str() {
            "ip" => {
                moved.address = value.parse::<IpAddr>().ok();
                moved.host = Some(clip(value, 256));
                moved.port = moved.port.or(Some(MODBUS_PORT));
                (moved.serial, moved.transport) =
                    (None, if moved.transport == Transport::Rtu { Transport::Tcp } else { moved.transport });
            }
            "port" => {
                if let Ok(port) = value.parse() {
                    (moved.port, moved.port_source) = (Some(port), PortSource::Explicit);
                }
            }
            "max_num_connections" => moved.max_connections = value.parse().ok().or(moved.max_connections),
            "device_id" => moved.unit_ids = value.parse().map_or(moved.unit_ids, |unit| vec![unit]),
            _ => {}
        }
    }
    let place = match (&moved.serial, moved.address, &moved.host) {
        (Some(line), ..) => line.device.clone(),
        (None, Some(address), _) => address.to_string(),
        (None, None, host) => host.clone().unwrap_or_default(),
    };
    moved.endpoint_id = endpoint_id(moved.protocol, moved.direction, &place, moved.port);
    (moved != *endpoint).then_some(moved)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::topology::{activity::read_command_line, read_file};

    const CLIENT: &str = r#"{"connection": {"name": "n", "ip_address": "10.0.0.9", "device_id": 1}, "components": [
        {"id": "c", "heartbeat_enabled": true, "component_heartbeat_read_uri": "life", "registers": [
            {"type": "Input Registers", "map": [{"id": "life", "offset": 3}]}]}]}"#;

    fn starter(kind: StarterKind, pid: u32, words: &str) -> Starter {
        let launch = read_command_line(&words.split(' ').collect::<Vec<_>>()).unwrap();
        Starter { kind, name: format!("{kind:?}"), pid: Some(pid), listed_in: None, launch }
    }

    fn judged(starters: &[Starter]) -> (Vec<FileReport>, Vec<ConfigUse>, Vec<String>) {
        let path = "etc/gcom_modbus_client/a.json";
        let mut reports = vec![read_file(path, CLIENT.as_bytes()), read_file("etc/notes/b.json", b"{}")];
        let locate = |_: &Starter, given: &str| match given {
            "a.json" => Located::At(path.to_owned()),
            _ => Located::Elsewhere,
        };
        let (uses, problems) = judge(&mut reports, starters, &locate);
        (reports, uses, problems.into_iter().map(|problem| problem.code).collect())
    }

    #[test]
    fn without_a_starter_nothing_is_known() {
        let (_, uses, problems) = judged(&[]);
        assert_eq!((uses.len(), uses[0].activity, problems.len()), (1, Activity::Unknown, 0), "what is no config is not judged");
    }

    #[test]
    fn two_processes_on_one_file_are_told_unless_each_has_its_own_target() {
        let run = |pid, words| starter(StarterKind::Running, pid, words);
        let twice = [run(1, "gcom_modbus_client a.json"), run(2, "gcom_modbus_client a.json")];
        assert_eq!(judged(&twice).2, ["config.started_twice"]);
        let once = [run(1, "gcom_modbus_client a.json"), starter(StarterKind::Systemd, 0, "gcom_modbus_client a.json")];
        assert_eq!(judged(&once).2, Vec::<String>::new(), "the unit is what started the process");
        let apart = [run(1, "gcom_modbus_client a.json ip:10.0.0.1"), run(2, "gcom_modbus_client a.json ip:10.0.0.2")];
        assert_eq!(judged(&apart).2, ["config.overridden"; 2]);
    }

    #[test]
    fn an_override_moves_the_endpoint_and_its_heartbeats() {
        let (reports, uses, _) = judged(&[starter(StarterKind::Running, 1, "gcom_modbus_client a.json ip:10.0.0.1 port:1502")]);
        let endpoint = reports[0].endpoint.as_ref().unwrap();
        assert_eq!((endpoint.endpoint_id.as_str(), endpoint.activity), ("modbus_10.0.0.1_1502", Activity::Overridden));
        assert_eq!(reports[0].heartbeats[0].endpoint_id, endpoint.endpoint_id);
        assert_eq!(uses[0].starters[0].overrides, ["ip:10.0.0.1", "port:1502"]);
        let (running, unit) = ("gcom_modbus_client a.json", "gcom_modbus_client a.json ip:10.0.0.1");
        let (reports, ..) = judged(&[starter(StarterKind::Running, 1, running), starter(StarterKind::Systemd, 0, unit)]);
        assert_eq!(
            reports[0].endpoint.as_ref().unwrap().endpoint_id,
            "modbus_10.0.0.9_502",
            "what runs goes before what would be started"
        );
        assert_eq!(reports.len(), 2);
    }

    #[test]
    fn a_config_from_the_bus_is_told() {
        assert_eq!(judged(&[starter(StarterKind::Running, 1, "gcom_modbus_client -u /config/a")]).2, ["config.from_bus"]);
    }
}
