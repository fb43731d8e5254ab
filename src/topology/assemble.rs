//! Many files' reports to one topology.

use super::{
    controller::Controllers,
    file::FileReport,
    network::hosts,
    problem::{ProblemCode, quote},
    site,
};
use crate::api::{Activity, ConfigUse, Direction, Endpoint, Problem, Topology, Transport, UtcTime, endpoint_id};
use std::collections::{BTreeMap, HashMap, HashSet};

/// Joins what the files say. Files that name the same endpoint share one; the order of the reports does not matter.
pub fn assemble(reports: Vec<FileReport>, scanned_at: UtcTime) -> Topology {
    assemble_used(reports, Vec::new(), Vec::new(), scanned_at)
}

/// As [`assemble`], with what is known of the use of the configs, and with the problems that were found on the way to the reports.
pub(super) fn assemble_used(
    mut reports: Vec<FileReport>,
    configs: Vec<ConfigUse>,
    mut problems: Vec<Problem>,
    scanned_at: UtcTime,
) -> Topology {
    reports.sort_by(|a, b| a.path.cmp(&b.path).then_with(|| format!("{a:?}").cmp(&format!("{b:?}"))));
    join_channels(&mut reports, &mut problems);
    let controllers = Controllers::of(&reports, &configs);
    controllers.tell_apart(&mut reports, &mut problems);
    site::findings(&reports, &mut problems);

    let files_scanned = u32::try_from(reports.len()).unwrap_or(u32::MAX);
    let mut endpoints: BTreeMap<String, Vec<Endpoint>> = BTreeMap::new();
    let mut heartbeats = Vec::new();
    for report in reports {
        problems.extend(report.problems);
        heartbeats.extend(report.heartbeats);
        if let Some(endpoint) = report.endpoint {
            endpoints.entry(endpoint.endpoint_id.clone()).or_default().push(endpoint);
        }
    }
    heartbeats.sort_by(|a, b| a.endpoint_id.cmp(&b.endpoint_id));
    sort_problems(&mut problems);
    let endpoints: Vec<Endpoint> = endpoints.into_values().filter_map(merge).collect();
    let hosts = hosts(&endpoints, |endpoint, address| {
        address.is_loopback() || endpoint.direction == Direction::Inbound && endpoint.controller.is_none()
    });
    Topology {
        endpoints,
        endpoint_uris: Vec::new(),
        cut: Vec::new(),
        controllers: controllers.known,
        hosts,
        interfaces: Vec::new(),
        heartbeats,
        configs,
        pairs: Vec::new(),
        problems,
        files_scanned,
        scanned_at,
    }
}

/// By file, place and code, each once.
pub(super) fn sort_problems(problems: &mut Vec<Problem>) {
    problems.sort_by(|a, b| {
        let key = |problem: &Problem| (problem.line, problem.column);
        a.path
            .cmp(&b.path)
            .then_with(|| key(a).cmp(&key(b)))
            .then_with(|| a.code.cmp(&b.code))
            .then_with(|| a.message.cmp(&b.message))
    });
    problems.dedup();
}

/// One endpoint of the views that several files have of it. What can have one value only is that of a config in use, and of these of
/// the file whose path sorts first. A spare beside a config in use adds its path only: what it says is not what talks.
fn merge(mut views: Vec<Endpoint>) -> Option<Endpoint> {
    views.sort_by_key(|view| view.activity == Activity::NotStarted);
    let mut views = views.into_iter();
    let mut merged = views.next()?;
    if views.len() == 0 {
        return Some(merged);
    }
    for view in views {
        if view.activity == Activity::NotStarted && merged.activity != Activity::NotStarted {
            merged.config_files.extend(view.config_files);
            continue;
        }
        merged.unit_ids.extend(view.unit_ids);
        merged.dnp3_addresses.extend(view.dnp3_addresses);
        merged.config_files.extend(view.config_files);
        merged.fims_uris.extend(view.fims_uris);
        merged.components.extend(view.components);
        // A config in use goes before a spare; what nothing is known of, last.
        merged.activity = merged.activity.min(view.activity);
        merged.uses_default_unit |= view.uses_default_unit;
        merged.accepts_any_unit |= view.accepts_any_unit;
        // Each file is a process of its own with connections of its own.
        merged.max_connections = match (merged.max_connections, view.max_connections) {
            (Some(one), Some(two)) => Some(one.saturating_add(two)),
            (one, two) => one.or(two),
        };
        merged.name = merged.name.take().or(view.name);
        merged.process = merged.process.take().or(view.process);
    }
    sort_once(&mut merged.unit_ids);
    sort_once(&mut merged.dnp3_addresses);
    sort_once(&mut merged.config_files);
    sort_once(&mut merged.fims_uris);
    let mut seen = HashSet::new();
    merged.components.retain(|component| seen.insert((component.id.clone(), component.unit_ids.clone(), component.poll_ms)));
    Some(merged)
}

fn sort_once<T: Ord>(values: &mut Vec<T>) {
    values.sort();
    values.dedup();
}

/// Files that one DNP3 process is started with, the first of which opens the channel.
struct Joint {
    /// How they came together, in words.
    how: String,
    /// The files that were found, as indices into the reports.
    members: Vec<usize>,
}

/// Gives the files that one DNP3 process is started with the channel of the first of them, as the process does: those of a file list,
/// and those of one command line.
fn join_channels(reports: &mut [FileReport], problems: &mut Vec<Problem>) {
    for Joint { how, members } in joints(reports, problems) {
        let mut channel: Option<Endpoint> = None;
        for index in members {
            let Some(report) = reports.get_mut(index) else { continue };
            match (&channel, &mut report.endpoint) {
                (None, Some(endpoint)) => channel = Some(endpoint.clone()),
                (Some(channel), Some(endpoint)) => {
                    problems.extend(share_channel(endpoint, channel, &how, &report.path));
                    for heartbeat in &mut report.heartbeats {
                        heartbeat.endpoint_id.clone_from(&endpoint.endpoint_id);
                    }
                }
                (_, None) => {}
            }
        }
    }
}

fn joints(reports: &[FileReport], problems: &mut Vec<Problem>) -> Vec<Joint> {
    let is_first = |report: &&FileReport| !report.listed_files.is_empty() || !report.started_together.is_empty();
    let mut by_name: HashMap<&str, Vec<usize>> = HashMap::new();
    if reports.iter().any(|report| is_first(&report)) {
        for (index, report) in reports.iter().enumerate() {
            by_name.entry(file_name(&report.path)).or_default().push(index);
        }
    }
    let named = |path: &str| by_name.get(file_name(path)).map(Vec::as_slice).unwrap_or_default();
    let at = |path: &str| named(path).iter().copied().find(|&index| reports.get(index).is_some_and(|report| report.path == path));
    let mut joints = Vec::new();
    for first in reports.iter().filter(is_first) {
        let mut listed = Vec::new();
        for name in &first.listed_files {
            match find_listed(reports, named(name), &first.path, name) {
                Some(index) => listed.push(index),
                None => {
                    let message = format!("the file list names {}, which was not found", quote(name));
                    problems.push(ProblemCode::ListedFileMissing.at(&first.path, message));
                }
            }
        }
        let own = if listed.is_empty() { at(&first.path) } else { None };
        let how = match own {
            None => format!("as part of the file list {}", first.path),
            Some(_) => format!("started together with {}", first.path),
        };
        let others = first.started_together.iter().filter_map(|path| at(path));
        joints.push(Joint { how, members: own.into_iter().chain(listed).chain(others).collect() });
    }
    joints
}

fn file_name(path: &str) -> &str {
    path.rsplit('/').next().unwrap_or_default()
}

/// The report of a listed file: one whose path ends with the path of the list, else one beside the list.
fn find_listed(reports: &[FileReport], candidates: &[usize], list: &str, listed: &str) -> Option<usize> {
    let listed = listed.trim_start_matches("./");
    let folder = list.strip_suffix(file_name(list)).unwrap_or_default();
    let path = |index: usize| reports.get(index).map(|report| report.path.as_str()).unwrap_or_default();
    let ends = |&index: &usize| path(index).strip_suffix(listed).is_some_and(|before| before.is_empty() || before.ends_with('/'));
    let beside = |&index: &usize| path(index).strip_prefix(folder) == Some(file_name(listed));
    let candidates = || candidates.iter().copied();
    candidates().find(ends).or_else(|| candidates().find(beside))
}

fn channel_of(endpoint: &Endpoint) -> String {
    let over_tls = if endpoint.transport == Transport::Tls { " over TLS" } else { "" };
    format!("{}{over_tls}", endpoint.endpoint_id)
}

/// Moves an endpoint to the channel that the first file opens; tells when it had another one.
fn share_channel(endpoint: &mut Endpoint, channel: &Endpoint, how: &str, path: &str) -> Option<Problem> {
    let is_the_same = endpoint.endpoint_id == channel.endpoint_id && endpoint.transport == channel.transport;
    if endpoint.protocol != channel.protocol || is_the_same {
        return None;
    }
    let own = channel_of(endpoint);
    endpoint.host.clone_from(&channel.host);
    endpoint.serial.clone_from(&channel.serial);
    (endpoint.address, endpoint.port, endpoint.port_source) = (channel.address, channel.port, channel.port_source);
    endpoint.transport = channel.transport;
    let place = match (&endpoint.serial, endpoint.address, &endpoint.host) {
        (Some(line), _, _) => line.device.clone(),
        (None, Some(address), _) => address.to_string(),
        (None, None, host) => host.clone().unwrap_or_default(),
    };
    endpoint.endpoint_id = endpoint_id(endpoint.protocol, endpoint.direction, &place, endpoint.port);
    let message = format!("{how} it uses {} instead of {own}", channel_of(channel));
    let problem = ProblemCode::ListedFileOverridden.at(path, message);
    Some(Problem { endpoint_id: Some(endpoint.endpoint_id.clone()), ..problem })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        api::{ConfigStarter, Dnp3Addresses, Severity, StarterKind},
        topology::read_file,
    };

    fn topology(files: &[(&str, String)]) -> Topology {
        assemble(files.iter().map(|(path, text)| read_file(path, text.as_bytes())).collect(), UtcTime::from_unix_ns(0))
    }

    fn client(address: &str, unit: u8, component: &str) -> String {
        format!(
            r#"{{"connection": {{"name": "n", "ip_address": "{address}", "device_id": {unit}}}, "components": [{{"id": "{component}", "frequency": 100}}]}}"#
        )
    }

    fn server(address: &str, id: &str) -> String {
        format!(r#"{{"system": {{"id": "{id}", "ip_address": "{address}"}}, "registers": {{}}}}"#)
    }

    fn dnp3(address: &str, port: u16, station: u16) -> String {
        format!(
            r#"{{"system": {{"id": "s{station}", "ip_address": "{address}", "port": {port}, "master_address": 1,
            "station_address": {station}}}, "objects": {{}}}}"#
        )
    }

    fn found(topology: &Topology) -> Vec<(&str, Severity)> {
        topology.problems.iter().map(|problem| (problem.code.as_str(), problem.severity)).collect()
    }

    #[test]
    fn files_of_one_endpoint_share_it() {
        let topology = topology(&[
            ("modbus_client/b.json", client("10.0.0.1", 2, "b")),
            ("modbus_client/a.json", client("10.0.0.1", 1, "a")),
            ("modbus_client/c.json", client("10.0.0.2", 1, "c")),
        ]);
        let [one, two] = topology.endpoints.as_slice() else { panic!("{:?}", topology.endpoints) };
        assert_eq!((one.endpoint_id.as_str(), two.endpoint_id.as_str()), ("modbus_10.0.0.1_502", "modbus_10.0.0.2_502"));
        assert_eq!((one.unit_ids.as_slice(), one.max_connections), (&[1, 2][..], Some(2)));
        assert_eq!(one.config_files, ["modbus_client/a.json", "modbus_client/b.json"]);
        assert_eq!((topology.files_scanned, topology.hosts.len(), topology.problems.len()), (3, 2, 0));
    }

    #[test]
    fn listeners_that_overlap_are_told_and_others_are_not() {
        let apart = topology(&[("a.json", server("10.0.0.1", "a")), ("b.json", server("10.0.0.2", "b"))]);
        assert_eq!(found(&apart), []);
        for other in ["10.0.0.1", "0.0.0.0"] {
            let files = [("a.json", server("10.0.0.1", "a")), ("b.json", server(other, "b"))];
            assert_eq!(found(&topology(&files)), [("config.listener_conflict", Severity::Alarm)], "{other}");
        }
    }

    #[test]
    fn ids_that_meet_on_the_bus_are_told() {
        let files = [
            ("a.json", client("10.0.0.1", 1, "same")),
            ("b.json", client("10.0.0.2", 1, "same")),
            ("c.json", server("10.0.0.1", "one")),
            ("d.json", server("10.0.0.2", "one")),
        ];
        let codes: Vec<_> = found(&topology(&files)).into_iter().map(|(code, _)| code.to_owned()).collect();
        assert_eq!(codes, ["config.same_component_id", "config.same_server_id"]);
    }

    #[test]
    fn listed_files_share_the_channel_of_the_first() {
        let list = r#"{"files": ["config/one.json", "two.json", "three.json"]}"#.to_owned();
        let topology = topology(&[
            ("etc/dnp3_server/list.json", list),
            ("etc/dnp3_server/config/one.json", dnp3("0.0.0.0", 20001, 11)),
            ("etc/dnp3_server/two.json", dnp3("0.0.0.0", 20002, 12)),
        ]);
        let [channel] = topology.endpoints.as_slice() else { panic!("{:?}", topology.endpoints) };
        assert_eq!(channel.endpoint_id, "dnp3_listen_0.0.0.0_20001");
        let session = |local| Dnp3Addresses { local, remote: 1, defaulted: false };
        assert_eq!(channel.dnp3_addresses, [session(11), session(12)]);
        let expected = [("config.listed_file_missing", Severity::Warning), ("config.listed_file_overridden", Severity::Info)];
        assert_eq!(found(&topology), expected);
    }

    #[test]
    fn files_of_one_command_line_share_the_channel_of_the_first() {
        let tls = dnp3("0.0.0.0", 20000, 11).replace(r#""port""#, r#""conn_type": "TLS", "port""#);
        let files = [("dnp3_server/one.json", tls), ("dnp3_server/two.json", dnp3("0.0.0.0", 20001, 12))];
        let mut reports: Vec<FileReport> = files.iter().map(|(path, text)| read_file(path, text.as_bytes())).collect();
        reports[0].started_together = vec!["dnp3_server/two.json".to_owned()];
        let topology = assemble(reports, UtcTime::from_unix_ns(0));
        let [channel] = topology.endpoints.as_slice() else { panic!("{:?}", topology.endpoints) };
        assert_eq!((channel.endpoint_id.as_str(), channel.transport), ("dnp3_listen_0.0.0.0_20000", Transport::Tls));
        assert_eq!(channel.dnp3_addresses.iter().map(|session| session.local).collect::<Vec<_>>(), [11, 12]);
        assert_eq!(found(&topology), [("config.listed_file_overridden", Severity::Info)]);
        assert_eq!(
            topology.problems[0].message,
            "started together with dnp3_server/one.json it uses dnp3_listen_0.0.0.0_20000 over TLS instead of \
             dnp3_listen_0.0.0.0_20001"
        );
    }

    #[test]
    fn sessions_on_one_port_without_a_list_are_questionable() {
        let files = [("dnp3_server/a.json", dnp3("0.0.0.0", 20001, 11)), ("dnp3_server/b.json", dnp3("0.0.0.0", 20001, 12))];
        assert_eq!(found(&topology(&files)), [("config.listener_conflict", Severity::Warning)]);
        let twice = [("dnp3_client/a.json", dnp3("10.0.0.1", 20001, 11)), ("dnp3_client/b.json", dnp3("10.0.0.1", 20001, 11))];
        let expected = ["config.link_address_twice", "config.same_component_id"].map(|code| (code, Severity::Warning));
        assert_eq!(found(&topology(&twice)), expected);
    }

    #[test]
    fn ids_meet_on_the_bus_whatever_publishes_them() {
        let master = dnp3("10.0.0.3", 20000, 11).replace("s11", "same");
        let outstation = dnp3("0.0.0.0", 20000, 12).replace("s12", "poi");
        let two = client("10.0.0.1", 1, "dup").replace(r#"{"id": "dup", "#, r#"{"id": "dup", "frequency": 100}, {"id": "dup", "#);
        let topology = topology(&[
            ("modbus_client/a.json", client("10.0.0.2", 1, "same")),
            ("dnp3_client/b.json", master),
            ("modbus_client/two.json", two),
            ("modbus_server/c.json", server("10.0.0.9", "poi")),
            ("dnp3_server/d.json", outstation),
        ]);
        let messages: Vec<&str> = topology.problems.iter().map(|problem| problem.message.as_str()).collect();
        let expected = [
            "the id `same` is in dnp3_client/b.json (DNP3 master), modbus_client/a.json (component); all publish on `/components/same`",
            "the id `poi` is in dnp3_server/d.json (DNP3 outstation), modbus_server/c.json (Modbus server); all publish on `/interfaces/poi`",
            "the component id `dup` is in modbus_client/two.json 2 times; all publish on `/components/dup`",
        ];
        assert_eq!(messages, expected);
    }

    /// As a scan of a host finds it: with what is started and what is not.
    fn used(files: &[(&str, String, Activity)]) -> Topology {
        let report = |(path, text, activity): &(&str, String, Activity)| {
            let mut report = read_file(path, text.as_bytes());
            report.endpoint.as_mut().unwrap().activity = *activity;
            report
        };
        assemble(files.iter().map(report).collect(), UtcTime::from_unix_ns(0))
    }

    #[test]
    fn a_spare_beside_a_server_in_use_is_a_note_and_does_not_name_it() {
        let topology = used(&[
            ("modbus_server/a_spare.json", server("0.0.0.0", "spare"), Activity::NotStarted),
            ("modbus_server/b.json", server("0.0.0.0", "poi"), Activity::Started),
        ]);
        assert_eq!(found(&topology), [("config.listener_conflict", Severity::Info)]);
        let [endpoint] = topology.endpoints.as_slice() else { panic!("{:?}", topology.endpoints) };
        assert_eq!((endpoint.name.as_deref(), endpoint.activity), (Some("poi"), Activity::Started));
        assert_eq!(endpoint.config_files.len(), 2);
        let topology = used(&[
            ("modbus_client/a_spare.json", client("10.0.0.1", 9, "same"), Activity::NotStarted),
            ("modbus_client/b.json", client("10.0.0.1", 1, "same"), Activity::Started),
        ]);
        assert_eq!((topology.endpoints[0].unit_ids.as_slice(), topology.endpoints[0].max_connections), (&[1][..], Some(1)));
        assert_eq!(found(&topology), []);
    }

    #[test]
    fn configs_of_two_controllers_are_in_nobodys_way() {
        let controllers = ["ess", "site"].map(|controller| {
            [
                (format!("s/{controller}/config/modbus_client/meter.json"), client("10.0.0.1", 1, "meter")),
                (format!("s/{controller}/config/modbus_server/poi.json"), server("0.0.0.0", "poi")),
            ]
        });
        let reports = controllers.iter().flatten().map(|(path, text)| read_file(path, text.as_bytes()));
        let apart = assemble(reports.clone().collect(), UtcTime::from_unix_ns(0));
        assert_eq!(found(&apart), []);
        let ids: Vec<&str> = apart.endpoints.iter().map(|endpoint| endpoint.endpoint_id.as_str()).collect();
        let expected = [
            "modbus_10.0.0.1_502_ess",
            "modbus_10.0.0.1_502_site",
            "modbus_listen_0.0.0.0_502_ess",
            "modbus_listen_0.0.0.0_502_site",
        ];
        assert_eq!(ids, expected);
        assert!(apart.endpoints.iter().all(|endpoint| endpoint.max_connections.is_none_or(|connections| connections == 1)));
        let names: Vec<&str> = apart.controllers.iter().map(|controller| controller.name.as_str()).collect();
        assert_eq!(names, ["ess", "site"]);

        // The same files, all of them run by this host.
        let starter = ConfigStarter { kind: StarterKind::Running, name: "p".to_owned(), pid: Some(1), overrides: Vec::new() };
        let used = controllers.iter().flatten().map(|(path, _)| ConfigUse {
            path: path.clone(),
            process: None,
            activity: Activity::Started,
            starters: vec![starter.clone()],
        });
        let together = assemble_used(reports.collect(), used.collect(), Vec::new(), UtcTime::from_unix_ns(0));
        let codes: Vec<&str> = found(&together).into_iter().map(|(code, _)| code).collect();
        assert_eq!(codes, ["config.same_component_id", "config.listener_conflict", "config.same_server_id"]);
        assert_eq!((together.endpoints.len(), together.controllers.len()), (2, 0));
    }
}
