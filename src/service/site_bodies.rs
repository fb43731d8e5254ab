//! The topology and its changes, fitted to what a message can hold. What does not fit is never left out in silence: the message says
//! which lists it cuts, and where to get them piece by piece.

use super::results::{body_of, cut_list};
use crate::api::{CutList, EndpointDetail, Topology, TopologyChange, TopologyList, TopologyPiece};
use serde::Serialize;
use serde_json::Value;
use std::sync::Arc;

/// A topology as it goes over the bus: whole if it fits, else without its endpoints but with where to get each, and with as much of
/// the other lists as fits.
pub(super) fn fit_topology(base_uri: &str, topology: &Topology, body_max: usize) -> Arc<[u8]> {
    let whole = body_of(topology);
    if whole.len() <= body_max {
        return whole.into();
    }
    let uri = |id: &str| format!("{base_uri}/topology/endpoints/{id}");
    let mut short = Topology {
        endpoints: Vec::new(),
        endpoint_uris: topology.endpoints.iter().map(|endpoint| uri(&endpoint.endpoint_id)).collect(),
        cut: Vec::new(),
        controllers: topology.controllers.clone(),
        hosts: Vec::new(),
        interfaces: topology.interfaces.clone(),
        heartbeats: Vec::new(),
        configs: Vec::new(),
        pairs: Vec::new(),
        problems: Vec::new(),
        files_scanned: topology.files_scanned,
        scanned_at: topology.scanned_at,
    };
    cut_list(&mut short.endpoint_uris, body_max / 4);
    // With every list cut, what is said of the cuts is the longest.
    short.cut = cut(base_uri, topology, &short);
    let mut room = body_max.saturating_sub(body_of(&short).len() + 64);
    // By worth: problems are what a reader came for, heartbeats what analysis needs.
    short.problems = first(&topology.problems, &mut room);
    short.heartbeats = first(&topology.heartbeats, &mut room);
    short.pairs = first(&topology.pairs, &mut room);
    short.hosts = first(&topology.hosts, &mut room);
    short.configs = first(&topology.configs, &mut room);
    short.cut = cut(base_uri, topology, &short);
    body_of(&short).into()
}

/// The first items of a list that fit into the room there is, which they use up.
fn first<T: Serialize + Clone>(items: &[T], room: &mut usize) -> Vec<T> {
    let fits = |item: &&T| match room.checked_sub(body_of(item).len() + 1) {
        Some(rest) => {
            *room = rest;
            true
        }
        None => false,
    };
    items.iter().take_while(fits).cloned().collect()
}

fn length(topology: &Topology, list: TopologyList) -> usize {
    match list {
        TopologyList::Endpoints => topology.endpoints.len(),
        TopologyList::Hosts => topology.hosts.len(),
        TopologyList::Heartbeats => topology.heartbeats.len(),
        TopologyList::Configs => topology.configs.len(),
        TopologyList::Pairs => topology.pairs.len(),
        TopologyList::Problems => topology.problems.len(),
    }
}

/// What a shortened topology lacks.
fn cut(base_uri: &str, whole: &Topology, short: &Topology) -> Vec<CutList> {
    let cut = |list: TopologyList| {
        let (total, held) = (count(length(whole, list)), count(length(short, list)));
        let uri = format!("{base_uri}/topology/{}", list.as_str());
        (held < total).then(|| CutList { list: list.as_str().to_owned(), total, held, uri })
    };
    TopologyList::ALL.into_iter().filter_map(cut).collect()
}

fn count(items: usize) -> u32 {
    u32::try_from(items).unwrap_or(u32::MAX)
}

/// A piece of a list from item `from` on, as much as a message holds.
pub(super) fn piece(base_uri: &str, topology: &Topology, list: TopologyList, from: u32, body_max: usize) -> Vec<u8> {
    let items = match list {
        TopologyList::Endpoints => values(&topology.endpoints, from, body_max),
        TopologyList::Hosts => values(&topology.hosts, from, body_max),
        TopologyList::Heartbeats => values(&topology.heartbeats, from, body_max),
        TopologyList::Configs => values(&topology.configs, from, body_max),
        TopologyList::Pairs => values(&topology.pairs, from, body_max),
        TopologyList::Problems => values(&topology.problems, from, body_max),
    };
    let total = count(length(topology, list));
    let next = from.saturating_add(count(items.len()));
    let next_uri = (next < total).then(|| format!("{base_uri}/topology/{}/{next}", list.as_str()));
    body_of(&TopologyPiece { list, from, total, items, next_uri, scanned_at: topology.scanned_at })
}

/// The items from a number on that fit beside the rest of the message; one that fits no message at all is `null`.
fn values<T: Serialize>(items: &[T], from: u32, body_max: usize) -> Vec<Value> {
    let room = body_max.saturating_sub(1024);
    let mut bytes = 0;
    let mut values = Vec::new();
    for item in items.iter().skip(from as usize) {
        let length = body_of(item).len().saturating_add(1);
        let is_too_large = length > room;
        bytes += if is_too_large { 5 } else { length };
        if bytes > room {
            break;
        }
        values.push(if is_too_large { Value::Null } else { serde_json::to_value(item).unwrap_or_default() });
    }
    values
}

/// One endpoint with its heartbeats, configs, pairs and problems; `None` if there is none of this id.
pub(super) fn endpoint_detail(topology: &Topology, endpoint_id: &str, body_max: usize) -> Option<Vec<u8>> {
    let endpoint = topology.endpoints.iter().find(|endpoint| endpoint.endpoint_id == endpoint_id)?;
    let mut detail = EndpointDetail {
        endpoint: endpoint.clone(),
        heartbeats: topology.heartbeats.iter().filter(|heartbeat| heartbeat.endpoint_id == endpoint_id).cloned().collect(),
        configs: topology.configs.iter().filter(|config| endpoint.config_files.contains(&config.path)).cloned().collect(),
        pairs: topology.pairs.iter().filter(|pair| pair.client == endpoint_id || pair.server == endpoint_id).cloned().collect(),
        problems: topology.problems.iter().filter(|problem| problem.endpoint_id.as_deref() == Some(endpoint_id)).cloned().collect(),
    };
    let mut most = 1024;
    let mut body = body_of(&detail);
    while body.len() > body_max && most > 0 {
        detail.problems.truncate(most);
        detail.pairs.truncate(most);
        detail.configs.truncate(most);
        detail.heartbeats.truncate(most);
        most /= 2;
        body = body_of(&detail);
    }
    Some(body)
}

/// What changed, cut to what a message holds.
pub(super) fn fit_change(change: &TopologyChange, body_max: usize) -> Vec<u8> {
    let mut short = change.clone();
    let mut body = body_of(&short);
    let mut most = 1024;
    while body.len() > body_max && most > 0 {
        short.truncated = true;
        for names in [
            &mut short.added,
            &mut short.removed,
            &mut short.heartbeats_added,
            &mut short.heartbeats_removed,
            &mut short.configs_added,
            &mut short.configs_removed,
            &mut short.pairs_added,
            &mut short.pairs_removed,
            &mut short.interfaces_added,
            &mut short.interfaces_removed,
        ] {
            names.truncate(most);
        }
        for problems in [&mut short.problems_added, &mut short.problems_resolved] {
            problems.truncate(most);
        }
        for changes in
            [&mut short.changed, &mut short.heartbeats_changed, &mut short.configs_changed, &mut short.interfaces_changed]
        {
            changes.truncate(most);
        }
        most /= 2;
        body = body_of(&short);
    }
    body
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        api::UtcTime,
        topology::{assemble, compare_ends, read_file},
    };

    /// A site of clients with a heartbeat each, and with something to be told.
    fn site(clients: u16) -> Topology {
        let client = |number: u16| {
            let text = format!(
                r#"{{"connection": {{"name": "n", "ip_address": "10.0.{}.{}"}}, "components": [{{"id": "c{number}", "frequency": 100,
                "heartbeat_enabled": true, "component_heartbeat_read_uri": "life", "registers": [
                {{"type": "Input Registers", "map": [{{"id": "life", "offset": 3}}]}}]}}]}}"#,
                number / 250,
                number % 250 + 1
            );
            read_file(&format!("config/modbus_client/client_{number}.json"), text.as_bytes())
        };
        let mut topology = assemble((0..clients).map(client).collect(), UtcTime::from_unix_ns(0));
        compare_ends(&mut topology);
        topology
    }

    #[test]
    fn what_a_message_cannot_hold_is_named_and_can_be_had_piece_by_piece() {
        let whole = site(500);
        assert_eq!((whole.heartbeats.len(), whole.problems.len()), (500, 500));
        for body_max in [20_000, 60_000, 200_000] {
            let body = fit_topology("/netdiag", &whole, body_max);
            assert!(body.len() <= body_max, "{} > {body_max}", body.len());
            let short: Topology = serde_json::from_slice(&body).unwrap();
            for list in TopologyList::ALL {
                let said = short.cut.iter().find(|cut| cut.list == list.as_str());
                let (held, total) = (length(&short, list), length(&whole, list));
                assert_eq!(said.map(|cut| (cut.held as usize, cut.total as usize)), (held < total).then_some((held, total)));
                let mut all = Vec::new();
                let mut uri = said.map(|cut| format!("{}/0", cut.uri));
                while let Some(next) = uri {
                    let from = next.rsplit('/').next().unwrap().parse().unwrap();
                    let body = piece("/netdiag", &whole, list, from, body_max);
                    assert!(body.len() <= body_max);
                    let piece: TopologyPiece = serde_json::from_slice(&body).unwrap();
                    assert!(!piece.items.is_empty());
                    all.extend(piece.items);
                    uri = piece.next_uri;
                }
                let field = serde_json::to_value(&whole).unwrap()[list.as_str()].clone();
                assert!(said.is_none() || Value::Array(all) == field, "{}", list.as_str());
            }
            assert!(!short.endpoint_uris.is_empty());
        }
        assert_eq!(serde_json::from_slice::<Topology>(&fit_topology("/netdiag", &whole, usize::MAX)).unwrap(), whole);
    }

    #[test]
    fn one_endpoint_comes_with_all_that_is_said_of_it() {
        let whole = site(2);
        let body = endpoint_detail(&whole, "modbus_10.0.0.2_502", 10_000).unwrap();
        let detail: EndpointDetail = serde_json::from_slice(&body).unwrap();
        assert_eq!(detail.endpoint, whole.endpoints[1]);
        assert_eq!((detail.heartbeats.len(), detail.heartbeats[0].component.as_str()), (1, "c1"));
        assert_eq!(detail.problems[0].code, "config.default_unit");
        assert_eq!(endpoint_detail(&whole, "modbus_10.0.0.9_502", 10_000), None);
    }

    #[test]
    fn a_piece_beyond_the_end_is_empty_and_the_last() {
        let piece: TopologyPiece =
            serde_json::from_slice(&piece("/netdiag", &site(1), TopologyList::Heartbeats, 7, 10_000)).unwrap();
        assert_eq!((piece.items.len(), piece.total, piece.next_uri), (0, 1, None));
    }
}
