//! Who gets what (pure): subscriptions in, receivers out.
//!
//! The rule in three lines: a client gets a message if one of its subscriptions is the message's uri or a parent of it by whole
//! segments, and the subscription is not for publications only or the method begins with `pub`; once; and never its own. The table
//! below gives the same answer with one look-up per segment instead of one comparison per subscription.

use crate::fims::subscription::RequestedUri;
use crate::fims::uri;
use std::collections::{BTreeSet, HashMap};

/// Names a client of this broker; never used twice.
pub(crate) type ClientId = u64;

/// All subscriptions of all clients.
#[derive(Debug, Default)]
pub(crate) struct Routes {
    /// Who wants what is sent to this uri (in normal form) or under it.
    wanted: HashMap<Vec<u8>, Vec<Route>>,
    /// Under which uris a client stands in `wanted`.
    clients: HashMap<ClientId, BTreeSet<Vec<u8>>>,
}

#[derive(Debug, Clone, Copy)]
struct Route {
    client: ClientId,
    pub_only: bool,
}

impl Routes {
    /// Gives a client these subscriptions instead of those it had.
    pub(crate) fn replace(&mut self, client: ClientId, subscriptions: &[RequestedUri<'_>]) {
        self.remove(client);
        let uris = self.clients.entry(client).or_default();
        for subscription in subscriptions {
            let uri = uri::normalise(subscription.uri);
            self.wanted.entry(uri.clone()).or_default().push(Route { client, pub_only: subscription.pub_only });
            uris.insert(uri);
        }
    }

    /// Takes all subscriptions from a client.
    pub(crate) fn remove(&mut self, client: ClientId) {
        for uri in self.clients.remove(&client).unwrap_or_default() {
            if let Some(routes) = self.wanted.get_mut(&uri) {
                routes.retain(|route| route.client != client);
                if routes.is_empty() {
                    self.wanted.remove(&uri);
                }
            }
        }
    }

    /// Who gets a message: each client once, in order, without the sender.
    pub(crate) fn receivers(&self, sender: ClientId, method: &[u8], uri: &[u8]) -> Vec<ClientId> {
        let is_publication = method.starts_with(b"pub");
        let uri = uri::normalise(uri);
        let mut receivers: Vec<ClientId> = uri::ancestors(&uri)
            .filter_map(|uri| self.wanted.get(uri))
            .flatten()
            .filter(|route| route.client != sender && (is_publication || !route.pub_only))
            .map(|route| route.client)
            .collect();
        receivers.sort_unstable();
        receivers.dedup();
        receivers
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn all(uri: &str) -> RequestedUri<'_> {
        RequestedUri { pub_only: false, uri: uri.as_bytes() }
    }

    fn publications(uri: &str) -> RequestedUri<'_> {
        RequestedUri { pub_only: true, uri: uri.as_bytes() }
    }

    #[test]
    fn a_message_reaches_its_uri_and_every_parent() {
        let mut routes = Routes::default();
        for (client, uri) in [(1, "/"), (2, "/a"), (3, "/a/b"), (4, "/a/b/c"), (5, "/a/b/c/d"), (6, "/ab"), (7, "/b")] {
            routes.replace(client, &[all(uri)]);
        }
        assert_eq!(routes.receivers(0, b"set", b"/a/b/c"), [1, 2, 3, 4]);
        assert_eq!(routes.receivers(3, b"set", b"/a/b/c"), [1, 2, 4], "not to the sender");
        assert_eq!(routes.receivers(0, b"set", b"/ab"), [1, 6]);
    }

    #[test]
    fn a_publications_only_subscription_gets_methods_that_begin_with_pub() {
        let mut routes = Routes::default();
        routes.replace(1, &[publications("/a")]);
        for (method, gets) in [("pub", true), ("publish", true), ("set", false), ("PUB", false), ("p", false)] {
            assert_eq!(routes.receivers(0, method.as_bytes(), b"/a/b").contains(&1), gets, "{method}");
        }
    }

    #[test]
    fn several_levels_are_one_copy_and_the_wider_kind_holds() {
        let mut routes = Routes::default();
        routes.replace(1, &[all("/"), publications("/a"), all("/a/b"), publications("/a/b")]);
        assert_eq!(routes.receivers(0, b"pub", b"/a/b"), [1]);
        assert_eq!(routes.receivers(0, b"set", b"/a/b"), [1]);
    }

    #[test]
    fn a_new_list_replaces_the_old_one_and_nothing_is_left_behind() {
        let mut routes = Routes::default();
        routes.replace(1, &[all("/a"), all("/b")]);
        routes.replace(1, &[all("/b"), all("/c")]);
        assert!(routes.receivers(0, b"set", b"/a").is_empty());
        assert_eq!(routes.receivers(0, b"set", b"/b"), [1]);
        routes.remove(1);
        assert!(routes.wanted.is_empty() && routes.clients.is_empty());
    }

    fn any_uri() -> impl Strategy<Value = String> {
        // Few names, so that parents and equals are common.
        prop::collection::vec(prop::sample::select(vec!["a", "b", "ab", "", "c.d"]), 0..5)
            .prop_map(|parts| format!("/{}", parts.join("/")))
    }

    proptest! {
        #[test]
        fn the_table_agrees_with_the_rule(
            lists in prop::collection::vec(prop::collection::vec((any::<bool>(), any_uri()), 0..6), 1..8),
            replaced in prop::collection::vec(prop::collection::vec((any::<bool>(), any_uri()), 0..6), 0..4),
            messages in prop::collection::vec((0u64..8, prop::sample::select(vec!["pub", "set", "publish"]), any_uri()), 1..20),
        ) {
            let mut routes = Routes::default();
            let mut model = lists.clone();
            for (client, list) in lists.iter().enumerate().chain(replaced.iter().enumerate().take(lists.len())) {
                let list_wire: Vec<_> = list.iter().map(|(pub_only, uri)| RequestedUri { pub_only: *pub_only, uri: uri.as_bytes() }).collect();
                routes.replace(client as u64, &list_wire);
                model[client] = list.clone();
            }
            for (sender, method, uri) in messages {
                let expected: Vec<u64> = (0..model.len() as u64).filter(|&client| client != sender && model[client as usize].iter()
                    .any(|(pub_only, parent)| uri::is_under(uri.as_bytes(), parent.as_bytes()) && (!pub_only || method.starts_with("pub")))).collect();
                prop_assert_eq!(routes.receivers(sender, method.as_bytes(), uri.as_bytes()), expected);
            }
        }
    }
}
