//! What is questionable only when several configs are seen together.
//!
//! Only configs of one controller can be in each other's way, and only those that are used: a spare beside a config in use is at most
//! worth a note.

use super::{
    file::FileReport,
    kind::FileKind,
    problem::{ProblemCode, quote},
};
use crate::api::{Activity, Direction, Endpoint, Problem, Protocol, Severity, Transport};
use std::collections::{BTreeMap, BTreeSet};

/// How many files a problem names.
const MAX_NAMED: usize = 32;

/// A controller by name; `None` where there is only one.
type Whose<'r> = Option<&'r str>;

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

    let mut listeners: BTreeMap<(Whose<'_>, u16), Vec<(&str, &Endpoint)>> = BTreeMap::new();
    let mut serial_lines: BTreeMap<(Whose<'_>, &str), Vec<&str>> = BTreeMap::new();
    let mut sessions: BTreeMap<(&str, u16, u16), Vec<&str>> = BTreeMap::new();
    for (path, endpoint) in endpoints() {
        let whose = endpoint.controller.as_deref();
        if let (None, Direction::Inbound, Some(port)) = (&endpoint.serial, endpoint.direction, endpoint.port) {
            listeners.entry((whose, port)).or_default().push((path, endpoint));
        }
        if !is_used(endpoint) {
            continue;
        }
        if let Some(line) = &endpoint.serial {
            serial_lines.entry((whose, &line.device)).or_default().push(path);
        }
        for addresses in &endpoint.dnp3_addresses {
            sessions.entry((&endpoint.endpoint_id, addresses.local, addresses.remote)).or_default().push(path);
        }
    }

    for ((_, port), files) in listeners {
        problems.extend(listener_conflict(port, &files, &listed_together));
    }
    for ((_, device), paths) in several(serial_lines) {
        problems.push(about(ProblemCode::SerialConflict, &paths, format!("{} is used by", quote(device))));
    }
    for ((endpoint_id, local, remote), paths) in several(sessions) {
        let what = format!("the link addresses local {local}, remote {remote} of {endpoint_id} are in");
        let problem = about(ProblemCode::LinkAddressTwice, &paths, what);
        problems.push(Problem { endpoint_id: Some(endpoint_id.to_owned()), ..problem });
    }
    same_ids(reports, problems);
}

fn is_used(endpoint: &Endpoint) -> bool {
    endpoint.activity != Activity::NotStarted
}

fn several<K: Ord>(groups: BTreeMap<K, Vec<&str>>) -> impl Iterator<Item = (K, Vec<&str>)> {
    groups.into_iter().filter(|(_, paths)| paths.len() > 1)
}

fn same_name(listed: &str, path: &str) -> bool {
    listed.rsplit('/').next() == path.rsplit('/').next()
}

/// A problem about several files, found at the first of them.
fn about(code: ProblemCode, paths: &[&str], what: String) -> Problem {
    code.at(paths.first().copied().unwrap_or_default(), format!("{what} {}", named(paths)))
}

fn named(paths: &[&str]) -> String {
    let named: Vec<&str> = paths.iter().copied().take(MAX_NAMED).collect();
    match paths.len().saturating_sub(MAX_NAMED) {
        0 => named.join(", "),
        rest => format!("{} and {rest} more", named.join(", ")),
    }
}

/// What publishes on a uri of the bus.
struct Publisher<'r> {
    path: &'r str,
    /// What it is, for instance `Modbus component`.
    what: &'static str,
    id: &'r str,
}

/// Processes of any kind that publish on one uri write over each other.
fn same_ids(reports: &[FileReport], problems: &mut Vec<Problem>) {
    let mut publishers: BTreeMap<(Whose<'_>, String), Vec<Publisher<'_>>> = BTreeMap::new();
    for report in reports {
        let Some(endpoint) = report.endpoint.as_ref().filter(|endpoint| is_used(endpoint)) else { continue };
        let mut publishes = |uri: String, what: &'static str, id| {
            let publisher = Publisher { path: report.path.as_str(), what, id };
            publishers.entry((endpoint.controller.as_deref(), uri)).or_default().push(publisher);
        };
        // A file of the format that no installed client loads publishes nothing.
        if report.kind == FileKind::ModbusClient {
            for component in endpoint.components.iter().filter(|component| component.id != "noId") {
                publishes(format!("/components/{}", component.id), "component", component.id.as_str());
            }
            continue;
        }
        let Some(id) = endpoint.name.as_deref() else { continue };
        match (endpoint.protocol, endpoint.direction) {
            (Protocol::Modbus, Direction::Inbound) => publishes(format!("/interfaces/{id}"), "Modbus server", id),
            (Protocol::Dnp3, Direction::Inbound) => publishes(own_uri(endpoint, "/interfaces", id), "DNP3 outstation", id),
            (Protocol::Dnp3, Direction::Outbound) => publishes(own_uri(endpoint, "/components", id), "DNP3 master", id),
            _ => {}
        }
    }
    for ((_, uri), publishers) in publishers.into_iter().filter(|(_, publishers)| publishers.len() > 1) {
        problems.push(same_id(&uri, &publishers));
    }
}

/// The uri that a DNP3 process publishes on: the usual one, unless the config has a base uri of its own.
fn own_uri(endpoint: &Endpoint, usual: &str, id: &str) -> String {
    let usual = format!("{usual}/{id}");
    let is_own = |uri: &&String| uri.strip_suffix(id).is_some_and(|base| base.ends_with('/'));
    match endpoint.fims_uris.contains(&usual) {
        true => usual,
        false => endpoint.fims_uris.iter().find(is_own).cloned().unwrap_or(usual),
    }
}

fn same_id(uri: &str, publishers: &[Publisher<'_>]) -> Problem {
    let is_server = |publisher: &Publisher<'_>| matches!(publisher.what, "Modbus server" | "DNP3 outstation");
    let code = if publishers.iter().all(is_server) { ProblemCode::SameServerId } else { ProblemCode::SameComponentId };
    let kinds: BTreeSet<&str> = publishers.iter().map(|publisher| publisher.what).collect();
    let mut times: BTreeMap<(&str, &str), usize> = BTreeMap::new();
    for publisher in publishers {
        *times.entry((publisher.path, publisher.what)).or_default() += 1;
    }
    let place = |(&(path, what), &times): (&(&str, &str), &usize)| {
        let what = if kinds.len() > 1 { format!(" ({what})") } else { String::new() };
        if times > 1 { format!("{path}{what} {times} times") } else { format!("{path}{what}") }
    };
    let places: Vec<String> = times.iter().map(place).collect();
    let places = named(&places.iter().map(String::as_str).collect::<Vec<_>>());
    let (path, id) = publishers.first().map(|first| (first.path, first.id)).unwrap_or_default();
    let what = match kinds.first() {
        Some(what) if kinds.len() == 1 => format!("the {what} id {}", quote(id)),
        _ => format!("the id {}", quote(id)),
    };
    code.at(path, format!("{what} is in {places}; all publish on {}", quote(uri)))
}

/// Configs that listen on one port at addresses that overlap.
fn listener_conflict(port: u16, files: &[(&str, &Endpoint)], listed_together: &dyn Fn(&[&str]) -> bool) -> Option<Problem> {
    let is_wildcard = |endpoint: &Endpoint| endpoint.address.is_some_and(|address| address.is_unspecified());
    let place = |endpoint: &Endpoint| endpoint.address.map_or_else(|| endpoint.host.clone(), |address| Some(address.to_string()));
    let (used, spare): (Vec<_>, Vec<_>) = files.iter().copied().partition(|(_, endpoint)| is_used(endpoint));
    let mut at: BTreeMap<Option<String>, u32> = BTreeMap::new();
    for (_, endpoint) in &used {
        *at.entry(place(endpoint)).or_default() += 1;
    }
    let any_wildcard = used.iter().any(|(_, endpoint)| is_wildcard(endpoint));
    let overlaps = |endpoint: &Endpoint| any_wildcard || at.get(&place(endpoint)).is_some_and(|&count| count > 1);
    let conflicting: Vec<(&str, &Endpoint)> = used.iter().copied().filter(|(_, endpoint)| overlaps(endpoint)).collect();
    let Some((_, first)) = conflicting.first().filter(|_| conflicting.len() > 1) else {
        return spare_conflict(port, &used, &spare);
    };

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

/// A spare that could not be started beside what listens already: worth a note at the spare.
fn spare_conflict(port: u16, used: &[(&str, &Endpoint)], spare: &[(&str, &Endpoint)]) -> Option<Problem> {
    let overlap = |one: &Endpoint, other: &Endpoint| {
        let any = |endpoint: &Endpoint| endpoint.address.is_some_and(|address| address.is_unspecified());
        any(one) || any(other) || (one.address, &one.host) == (other.address, &other.host)
    };
    let in_the_way = |(_, spare): &&(&str, &Endpoint)| used.iter().any(|(_, used)| overlap(used, spare));
    let paths: Vec<&str> = spare.iter().filter(in_the_way).map(|(path, _)| *path).collect();
    let first = paths.first()?;
    let by: Vec<&str> = used.iter().map(|(path, _)| *path).collect();
    let message = format!(
        "port {port} is listened on by {}; {}, which nothing starts, could not listen beside it",
        named(&by),
        named(&paths)
    );
    Some(Problem { severity: Severity::Info, ..ProblemCode::ListenerConflict.at(first, message) })
}
