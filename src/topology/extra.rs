//! The endpoints that no config names: an engineer has put them into the settings.

use super::network::hosts;
use crate::api::{Direction, ExtraEndpoint, Topology};
use std::collections::HashSet;

/// Adds endpoints that are in no config, each once, in the order of the ids. They have no config file.
pub fn add_extra(topology: &mut Topology, extra: &[ExtraEndpoint]) {
    if extra.is_empty() {
        return;
    }
    let mut known: HashSet<String> = topology.endpoints.iter().map(|endpoint| endpoint.endpoint_id.clone()).collect();
    let new = extra.iter().map(ExtraEndpoint::endpoint).filter(|endpoint| known.insert(endpoint.endpoint_id.clone()));
    topology.endpoints.extend(new);
    topology.endpoints.sort_by(|a, b| a.endpoint_id.cmp(&b.endpoint_id));
    topology.hosts =
        hosts(&topology.endpoints, |endpoint, address| endpoint.direction == Direction::Inbound || address.is_loopback());
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        api::{Interface, Protocol, UtcTime},
        topology::{apply_names, apply_network, assemble, host_names, read_file},
    };
    use std::collections::HashMap;

    #[test]
    fn they_are_in_the_topology_once_and_have_a_place_in_the_network() {
        let client = r#"{"connection": {"name": "n", "ip_address": "10.0.0.9", "device_id": 1}, "components": []}"#;
        let mut topology = assemble(vec![read_file("a.json", client.as_bytes())], UtcTime::from_unix_ns(0));
        let extra = |address: &str, port, protocol| ExtraEndpoint { address: address.to_owned(), port, protocol };
        let extra = [
            extra("gateway.local", 22, Protocol::Ssh),
            extra("127.0.0.1", 80, Protocol::Http),
            extra("10.0.0.9", 502, Protocol::Modbus),
        ];
        for _ in 0..2 {
            add_extra(&mut topology, &extra);
        }
        let ids: Vec<&str> = topology.endpoints.iter().map(|endpoint| endpoint.endpoint_id.as_str()).collect();
        assert_eq!(ids, ["http_127.0.0.1_80", "modbus_10.0.0.9_502", "ssh_gateway.local_22"]);
        assert_eq!(host_names(&topology).into_iter().collect::<Vec<_>>(), ["gateway.local"]);
        let nobody = Err("nobody knows it".to_owned());
        apply_names(&mut topology, &HashMap::from([("gateway.local".to_owned(), nobody)]));
        let [problem] = &topology.problems[..] else { panic!("{:?}", topology.problems) };
        assert_eq!((problem.code.as_str(), problem.path.as_deref()), ("config.name_unresolved", None));
        apply_names(&mut topology, &HashMap::from([("gateway.local".to_owned(), Ok([10, 0, 0, 1].into()))]));
        apply_network(&mut topology, &HashMap::new(), vec![Interface::default()]);
        assert_eq!(topology.problems, [], "a web page on this host is no config's to listen for");
        assert_eq!((topology.hosts.len(), topology.endpoints[2].address), (3, Some([10, 0, 0, 1].into())));
    }
}
