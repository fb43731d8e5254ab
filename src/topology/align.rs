//! Two topologies of one site that were read differently, made comparable: paths as they were given, and what was looked at.

use super::problem::ProblemCode;
use crate::api::{Activity, Topology};
use serde_json::Value;
use std::collections::{BTreeMap, HashMap, HashSet};

/// What is said of a site only where its own host is looked at.
const OF_THE_HOST: [ProblemCode; 11] = [
    ProblemCode::NameUnresolved,
    ProblemCode::WildcardBind,
    ProblemCode::NoRoute,
    ProblemCode::InterfaceDown,
    ProblemCode::BindAddress,
    ProblemCode::NoListener,
    ProblemCode::NotStarted,
    ProblemCode::StartedMissing,
    ProblemCode::StartedTwice,
    ProblemCode::Overridden,
    ProblemCode::ConfigFromBus,
];

/// Gives the paths of `before` the beginning that those of `after` have, and leaves out of both what only one of them looked at, so
/// that [`compare`](super::compare) tells what changed at the site and not how it was read.
pub fn align(before: &mut Topology, after: &mut Topology) {
    if let Some(aligned) = with_paths_of(before, after) {
        *before = aligned;
    }
    if before.interfaces.is_empty() != after.interfaces.is_empty() {
        forget_the_host(before);
        forget_the_host(after);
    }
}

fn paths(topology: &Topology) -> HashSet<&str> {
    let of_endpoints = topology.endpoints.iter().flat_map(|endpoint| &endpoint.config_files);
    of_endpoints.chain(topology.configs.iter().map(|config| &config.path)).map(String::as_str).collect()
}

/// `None` where nothing is to be changed, or nothing fits.
fn with_paths_of(before: &Topology, after: &Topology) -> Option<Topology> {
    let (known, wanted) = (paths(before), paths(after));
    if known.iter().any(|path| wanted.contains(path)) {
        return None;
    }
    let (from, to) = beginnings(&known, &wanted)?;
    let moved = |path: &str| {
        let is_path = known.contains(path) || path.ends_with(".json") && !path.contains(' ');
        let rest = path.strip_prefix(from.as_str()).filter(|_| is_path)?;
        Some(format!("{to}{rest}"))
    };
    let mut value = serde_json::to_value(before).ok()?;
    rewrite(&mut value, &moved);
    serde_json::from_value(value).ok()
}

/// The two beginnings that the most files differ by: `old/config/` and `/usr/local/etc/config/`.
fn beginnings(before: &HashSet<&str>, after: &HashSet<&str>) -> Option<(String, String)> {
    let mut by_name: HashMap<&str, Vec<&str>> = HashMap::new();
    for path in after {
        by_name.entry(file_name(path)).or_default().push(path);
    }
    let mut votes: BTreeMap<(&str, &str), usize> = BTreeMap::new();
    for path in before {
        let same_name = by_name.get(file_name(path)).map(Vec::as_slice).unwrap_or_default();
        let best = same_name.iter().map(|other| (common_end(path, other), *other)).max();
        if let Some((length, other)) = best.filter(|(length, _)| *length > 0) {
            let start = |path: &str| path.len().saturating_sub(length);
            *votes.entry((path.get(..start(path))?, other.get(..start(other))?)).or_default() += 1;
        }
    }
    let (from, to) = votes.into_iter().max_by_key(|(_, votes)| *votes)?.0;
    Some((from.to_owned(), to.to_owned()))
}

fn file_name(path: &str) -> &str {
    path.rsplit('/').next().unwrap_or_default()
}

/// How many bytes of whole path elements two paths end with alike: at least a folder and a file.
fn common_end(one: &str, other: &str) -> usize {
    let alike: Vec<usize> =
        one.rsplit('/').zip(other.rsplit('/')).take_while(|(one, other)| one == other).map(|(part, _)| part.len()).collect();
    if alike.len() < 2 { 0 } else { alike.iter().sum::<usize>() + alike.len() - 1 }
}

/// Moves the paths in every text, also those that stand in a sentence.
fn rewrite(value: &mut Value, moved: &impl Fn(&str) -> Option<String>) {
    match value {
        Value::String(text) => {
            if let Some(path) = moved(text) {
                *text = path;
            } else if text.contains(' ') {
                let word = |word: &str| {
                    let path = word.trim_end_matches([',', ';', ':', ')']);
                    let end = word.get(path.len()..).unwrap_or_default();
                    moved(path).map_or_else(|| word.to_owned(), |path| path + end)
                };
                *text = text.split(' ').map(word).collect::<Vec<_>>().join(" ");
            }
        }
        Value::Array(values) => values.iter_mut().for_each(|value| rewrite(value, moved)),
        Value::Object(fields) => fields.values_mut().for_each(|value| rewrite(value, moved)),
        _ => {}
    }
}

fn forget_the_host(topology: &mut Topology) {
    topology.interfaces.clear();
    for endpoint in &mut topology.endpoints {
        (endpoint.interface, endpoint.source_address, endpoint.gateway) = (None, None, None);
        endpoint.activity = Activity::Unknown;
        if endpoint.host.as_ref().is_some_and(|host| host.parse::<std::net::IpAddr>().is_err()) {
            endpoint.address = None;
        }
    }
    for config in &mut topology.configs {
        config.activity = Activity::Unknown;
        config.starters.clear();
    }
    topology.problems.retain(|problem| !OF_THE_HOST.iter().any(|code| code.code() == problem.code));
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        api::{Interface, UtcTime},
        topology::{assemble, compare, read_file},
    };

    fn site(root: &str, port: u16) -> Topology {
        let server =
            |id: &str| format!(r#"{{"system": {{"id": "{id}", "ip_address": "0.0.0.0", "port": {port}}}, "registers": {{}}}}"#);
        let files = [("modbus_server/a.json", server("a")), ("modbus_server/b.json", server("b"))];
        let reports = files.iter().map(|(path, text)| read_file(&format!("{root}{path}"), text.as_bytes()));
        assemble(reports.collect(), UtcTime::from_unix_ns(0))
    }

    #[test]
    fn a_site_read_from_elsewhere_has_not_changed() {
        for (one, other) in [("/usr/local/etc/config/", ""), ("", "/etc/config/"), ("old/config/", "/etc/config/")] {
            let (mut before, mut after) = (site(one, 502), site(other, 502));
            assert!(!before.problems.is_empty() && !compare(&before, &after).is_empty());
            align(&mut before, &mut after);
            assert_eq!(compare(&before, &after).text, "nothing changed", "{one} {other}");
            let (mut before, mut after) = (site(one, 502), site(other, 503));
            align(&mut before, &mut after);
            assert_eq!(compare(&before, &after).added, ["modbus_listen_0.0.0.0_503"]);
        }
    }

    #[test]
    fn what_only_one_of_them_looked_at_has_not_changed() {
        let (mut before, mut after) = (site("", 502), site("", 502));
        after.interfaces.push(Interface { name: "lo".to_owned(), ..Interface::default() });
        after.endpoints[0].interface = Some("lo".to_owned());
        after.endpoints[0].activity = Activity::Started;
        align(&mut before, &mut after);
        assert_eq!(compare(&before, &after).text, "nothing changed");
    }
}
