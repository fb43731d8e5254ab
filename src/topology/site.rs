//! What is questionable only when several configs are seen together.

use super::{
    file::FileReport,
    kind::FileKind,
    problem::{ProblemCode, quote},
};
use crate::api::{Direction, Endpoint, Problem, Protocol, Severity, Transport};
use std::collections::BTreeMap;

/// How many files a problem names.
const MAX_NAMED: usize = 8;

/// Looks at all reports, sorted by path, together.
pub(super) fn findings(reports: &[FileReport], problems: &mut Vec<Problem>) {
    let endpoints =
        || reports.iter().filter_map(|report| report.endpoint.as_ref().map(|endpoint| (report.path.as_str(), endpoint)));
    let listed_together = |paths: &[&str]| {
        let is_listed = |list: &FileReport, path: &str| list.listed_files.iter().any(|listed| same_name(listed, path));
        let is_behind =
            |first: &FileReport, path: &str| first.path == path || first.started_together.iter().any(|other| other == path);
        reports.iter().any(|first| {
            !first.listed_files.is_empty() && paths.iter().all(|path| is_listed(first, path))
                || !first.started_together.is_empty() && paths.iter().all(|path| is_behind(first, path))
        })
    };

    let mut listeners: BTreeMap<u16, Vec<(&str, &Endpoint)>> = BTreeMap::new();
    let mut serial_lines: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    let mut sessions: BTreeMap<(&str, u16, u16), Vec<&str>> = BTreeMap::new();
    let mut server_ids: BTreeMap<(Protocol, &str), Vec<&str>> = BTreeMap::new();
    let mut component_ids: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    for (path, endpoint) in endpoints() {
        match (&endpoint.serial, endpoint.direction, endpoint.port) {
            (Some(line), _, _) => serial_lines.entry(&line.device).or_default().push(path),
            (None, Direction::Inbound, Some(port)) => listeners.entry(port).or_default().push((path, endpoint)),
            _ => {}
        }
        for addresses in &endpoint.dnp3_addresses {
            sessions.entry((&endpoint.endpoint_id, addresses.local, addresses.remote)).or_default().push(path);
        }
        if let (Direction::Inbound, Some(name)) = (endpoint.direction, &endpoint.name) {
            server_ids.entry((endpoint.protocol, name)).or_default().push(path);
        }
    }
    // A file of the format that no installed client loads publishes nothing.
    for report in reports.iter().filter(|report| report.kind == FileKind::ModbusClient) {
        for component in report.endpoint.iter().flat_map(|endpoint| &endpoint.components).filter(|component| component.id != "noId")
        {
            component_ids.entry(&component.id).or_default().push(&report.path);
        }
    }

    for (port, files) in listeners {
        problems.extend(listener_conflict(port, &files, &listed_together));
    }
    for (device, paths) in several(serial_lines) {
        problems.push(about(ProblemCode::SerialConflict, &paths, format!("{} is used by", quote(device))));
    }
    for ((endpoint_id, local, remote), paths) in several(sessions) {
        let what = format!("the link addresses local {local}, remote {remote} of {endpoint_id} are in");
        let problem = about(ProblemCode::LinkAddressTwice, &paths, what);
        problems.push(Problem { endpoint_id: Some(endpoint_id.to_owned()), ..problem });
    }
    for ((protocol, name), paths) in several(server_ids) {
        problems.push(about(ProblemCode::SameServerId, &paths, format!("the {protocol} server id {} is in", quote(name))));
    }
    for (id, paths) in several(component_ids) {
        problems.push(about(ProblemCode::SameComponentId, &paths, format!("the component id {} is in", quote(id))));
    }
}

fn several<K: Ord>(groups: BTreeMap<K, Vec<&str>>) -> impl Iterator<Item = (K, Vec<&str>)> {
    groups.into_iter().filter(|(_, paths)| paths.len() > 1)
}

fn same_name(listed: &str, path: &str) -> bool {
    listed.rsplit('/').next() == path.rsplit('/').next()
}

/// A problem about several files, found at the first of them.
fn about(code: ProblemCode, paths: &[&str], what: String) -> Problem {
    let named: Vec<&str> = paths.iter().copied().take(MAX_NAMED).collect();
    let rest = match paths.len().saturating_sub(MAX_NAMED) {
        0 => String::new(),
        rest => format!(" and {rest} more"),
    };
    code.at(paths.first().copied().unwrap_or_default(), format!("{what} {}{rest}", named.join(", ")))
}

/// Configs that listen on one port at addresses that overlap.
fn listener_conflict(port: u16, files: &[(&str, &Endpoint)], listed_together: &dyn Fn(&[&str]) -> bool) -> Option<Problem> {
    let is_wildcard = |endpoint: &Endpoint| endpoint.address.is_some_and(|address| address.is_unspecified());
    let place = |endpoint: &Endpoint| endpoint.address.map_or_else(|| endpoint.host.clone(), |address| Some(address.to_string()));
    let mut at: BTreeMap<Option<String>, u32> = BTreeMap::new();
    for (_, endpoint) in files {
        *at.entry(place(endpoint)).or_default() += 1;
    }
    let any_wildcard = files.iter().any(|(_, endpoint)| is_wildcard(endpoint));
    let overlaps = |endpoint: &Endpoint| any_wildcard || at.get(&place(endpoint)).is_some_and(|&count| count > 1);
    let conflicting: Vec<(&str, &Endpoint)> = files.iter().copied().filter(|(_, endpoint)| overlaps(endpoint)).collect();
    let (_, first) = conflicting.first().filter(|_| conflicting.len() > 1)?;

    let paths: Vec<&str> = conflicting.iter().map(|(path, _)| *path).collect();
    let all_dnp3 =
        conflicting.iter().all(|(_, endpoint)| endpoint.protocol == Protocol::Dnp3 && endpoint.transport != Transport::Rtu);
    if all_dnp3 && listed_together(&paths) {
        return None;
    }
    let mut problem = about(ProblemCode::ListenerConflict, &paths, format!("port {port} is listened on by"));
    problem.endpoint_id = Some(first.endpoint_id.clone());
    if all_dnp3 {
        // One process started with all of the files makes one listener of them.
        problem.severity = Severity::Warning;
        problem.message.push_str("; this works only when one process is started with all of them");
    }
    Some(problem)
}
