//! Many files' reports to one topology.

use super::{
    file::FileReport,
    kind::FileKind,
    network::hosts,
    problem::{ProblemCode, quote},
    site,
};
use crate::api::{Direction, Endpoint, Problem, Topology, UtcTime, endpoint_id};
use std::collections::{BTreeMap, HashMap, HashSet};

/// Joins what the files say. Files that name the same endpoint share one; the order of the reports does not matter.
pub fn assemble(mut reports: Vec<FileReport>, scanned_at: UtcTime) -> Topology {
    reports.sort_by(|a, b| a.path.cmp(&b.path).then_with(|| format!("{a:?}").cmp(&format!("{b:?}"))));
    let mut problems = Vec::new();
    join_listed_files(&mut reports, &mut problems);
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
    let hosts = hosts(&endpoints, |endpoint, address| endpoint.direction == Direction::Inbound || address.is_loopback());
    Topology {
        endpoints,
        endpoint_uris: Vec::new(),
        hosts,
        interfaces: Vec::new(),
        heartbeats,
        configs: Vec::new(),
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

/// One endpoint of the views that several files have of it. What can have one value only is that of the file whose path sorts first.
fn merge(views: Vec<Endpoint>) -> Option<Endpoint> {
    let mut views = views.into_iter();
    let mut merged = views.next()?;
    if views.len() == 0 {
        return Some(merged);
    }
    for view in views {
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

/// Gives the files of a DNP3 file list the channel of the list's first file, as the process does.
fn join_listed_files(reports: &mut [FileReport], problems: &mut Vec<Problem>) {
    if !reports.iter().any(|report| report.kind == FileKind::Dnp3FileList) {
        return;
    }
    let mut by_name: HashMap<String, Vec<usize>> = HashMap::new();
    for (index, report) in reports.iter().enumerate() {
        by_name.entry(file_name(&report.path).to_owned()).or_default().push(index);
    }
    let lists: Vec<(String, Vec<String>)> = reports
        .iter()
        .filter(|report| !report.listed_files.is_empty())
        .map(|list| (list.path.clone(), list.listed_files.clone()))
        .collect();
    for (list, files) in lists {
        let mut channel: Option<Endpoint> = None;
        for listed in files {
            let candidates = by_name.get(file_name(&listed)).map(Vec::as_slice).unwrap_or_default();
            let Some(index) = find_listed(reports, candidates, &list, &listed) else {
                let message = format!("the file list names {}, which was not found", quote(&listed));
                problems.push(ProblemCode::ListedFileMissing.at(&list, message));
                continue;
            };
            let Some(report) = reports.get_mut(index) else { continue };
            match (&channel, &mut report.endpoint) {
                (None, Some(endpoint)) => channel = Some(endpoint.clone()),
                (Some(channel), Some(endpoint)) => {
                    if let Some(problem) = share_channel(endpoint, channel, &list, &report.path) {
                        problems.push(problem);
                    }
                    for heartbeat in &mut report.heartbeats {
                        heartbeat.endpoint_id.clone_from(&endpoint.endpoint_id);
                    }
                }
                (_, None) => {}
            }
        }
    }
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

/// Moves an endpoint to the channel that the list's first file opens; tells when it had another one.
fn share_channel(endpoint: &mut Endpoint, channel: &Endpoint, list: &str, path: &str) -> Option<Problem> {
    if endpoint.protocol != channel.protocol || endpoint.endpoint_id == channel.endpoint_id {
        return None;
    }
    let own = endpoint.endpoint_id.clone();
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
    let message = format!("as part of the file list {list} it uses {} instead of {own}", channel.endpoint_id);
    let problem = ProblemCode::ListedFileOverridden.at(path, message);
    Some(Problem { endpoint_id: Some(endpoint.endpoint_id.clone()), ..problem })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        api::{Dnp3Addresses, Severity},
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
    fn sessions_on_one_port_without_a_list_are_questionable() {
        let files = [("dnp3_server/a.json", dnp3("0.0.0.0", 20001, 11)), ("dnp3_server/b.json", dnp3("0.0.0.0", 20001, 12))];
        assert_eq!(found(&topology(&files)), [("config.listener_conflict", Severity::Warning)]);
        let twice = [("dnp3_client/a.json", dnp3("10.0.0.1", 20001, 11)), ("dnp3_client/b.json", dnp3("10.0.0.1", 20001, 11))];
        assert_eq!(found(&topology(&twice)), [("config.link_address_twice", Severity::Warning)]);
    }
}
