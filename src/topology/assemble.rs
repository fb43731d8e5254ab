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
    Topology { endpoints, hosts, interfaces: Vec::new(), heartbeats, problems, files_scanned, scanned_at }
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
