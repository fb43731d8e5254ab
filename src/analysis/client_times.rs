//! How long each client of a server waited, where it has several; the times of the only one are those of the server.

use super::spread::Durations;
use std::net::IpAddr;

/// Clients of one server whose times are kept apart.
const MAX_CLIENTS: usize = 32;
/// Stretches of steps, of 68 bytes each, that the clients of all servers together may have.
const MAX_STRETCHES: usize = 32_768;

/// The response times of the clients of one server.
#[derive(Debug, Default)]
pub(super) struct ClientTimes {
    /// The first that was answered.
    first: Option<IpAddr>,
    /// All that were, once there are several; without the times of one for which there was no room.
    list: Vec<(IpAddr, Option<Durations>)>,
}

impl ClientTimes {
    /// A response to this client took so long. `before` are the times of all responses of the server before it, `stretches` those that the
    /// clients of all servers have.
    pub fn add(&mut self, client: IpAddr, ns: i64, before: &Durations, stretches: &mut usize) {
        let first = *self.first.get_or_insert(client);
        if self.list.is_empty() {
            if client == first {
                return;
            }
            // All that was answered before was the first one's.
            self.list.push((first, Some(Durations::default())));
            self.change(first, |times| times.merge(before), stretches);
        }
        self.change(client, |times| times.add(ns), stretches);
    }

    /// Changes a client's times, if there is room for what that takes.
    fn change(&mut self, client: IpAddr, change: impl FnOnce(&mut Durations), stretches: &mut usize) {
        let at = self.list.iter().position(|(known, _)| *known == client);
        let at = at.unwrap_or_else(|| {
            if self.list.len() < MAX_CLIENTS {
                self.list.push((client, Some(Durations::default())));
            }
            self.list.len() - 1
        });
        let Some((_, kept)) = self.list.get_mut(at).filter(|(known, _)| *known == client) else { return };
        let Some(times) = kept else { return };
        *stretches -= times.stretches();
        change(times);
        if *stretches + times.stretches() > MAX_STRETCHES {
            *kept = None;
        } else {
            *stretches += times.stretches();
        }
    }

    /// The times of one client, if they are known; `all` are those of the server.
    pub fn of<'a>(&'a self, client: IpAddr, all: &'a Durations) -> Option<&'a Durations> {
        if self.list.is_empty() {
            return Some(all).filter(|_| self.first == Some(client));
        }
        self.list.iter().find(|(known, _)| *known == client).and_then(|(_, times)| times.as_ref())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn client(number: u16) -> IpAddr {
        let [high, low] = number.to_be_bytes();
        [10, 0, high, low].into()
    }

    /// A server, as it takes its responses.
    #[derive(Default)]
    struct Server {
        all: Durations,
        clients: ClientTimes,
    }

    impl Server {
        fn answers(&mut self, number: u16, ms: i64, stretches: &mut usize) {
            self.clients.add(client(number), ms * 1_000_000, &self.all, stretches);
            self.all.add(ms * 1_000_000);
        }

        fn median(&self, number: u16) -> Option<f64> {
            self.clients.of(client(number), &self.all)?.response_times()?.median
        }
    }

    #[test]
    fn each_client_has_its_own_times_from_the_first_response_on() {
        let (mut server, mut stretches) = (Server::default(), 0);
        (0..5).for_each(|_| server.answers(1, 2, &mut stretches));
        assert_eq!((server.median(1), server.median(2), stretches), (Some(2.0), None, 0), "the only one's are the server's");
        (0..5).for_each(|_| server.answers(2, 90, &mut stretches));
        server.answers(1, 2, &mut stretches);
        assert_eq!((server.median(1), server.median(2), server.median(3), stretches), (Some(2.0), Some(90.0), None, 2));
        let times = server.clients.of(client(1), &server.all).unwrap().response_times().unwrap();
        assert_eq!((times.min, times.max), (2.0, 2.0));
    }

    #[test]
    fn memory_is_bounded_over_all_servers_and_for_each() {
        let mut stretches = 0;
        let mut servers: Vec<Server> = (0..2_000).map(|_| Server::default()).collect();
        for server in &mut servers {
            for number in 0..40 {
                (1..20).for_each(|ms| server.answers(number, ms * ms, &mut stretches));
            }
            assert!(server.clients.list.len() <= MAX_CLIENTS);
        }
        let kept = servers.iter().flat_map(|server| &server.clients.list).filter_map(|(_, times)| times.as_ref());
        assert_eq!(kept.map(Durations::stretches).sum::<usize>(), stretches);
        assert!(stretches <= MAX_STRETCHES && stretches > MAX_STRETCHES / 2, "{stretches}");
        assert!(servers[0].median(0).is_some() && servers[1_999].median(0).is_none(), "the first ones have them");
    }
}
