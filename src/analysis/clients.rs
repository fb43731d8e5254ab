//! Who talks to a server: connections, connections made anew after an earlier one had ended, and what came of the requests.

use super::tally::{Stamp, Tally, Times};
use std::{collections::VecDeque, net::IpAddr};

/// Clients of one server told apart; the others are counted together.
const MAX_CLIENTS: usize = 32;
/// Reconnects of one server that are remembered one by one, the latest.
const MAX_RECONNECTS: usize = 20;
/// A client that resets its old connection this soon after it has made another has made that one in its place.
const REPLACED_WITHIN_NS: i64 = 5_000_000_000;

/// A connection made anew.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Reconnect {
    /// When it was accepted.
    pub stamp: Stamp,
    /// Since the end of the one before.
    pub gap_ns: i64,
    client: ClientPlace,
}

/// How a connection ended.
#[derive(Debug, Clone, Copy)]
pub(super) struct End {
    pub at: i64,
    /// The client closed it first.
    pub by_client: bool,
    /// Either side reset it.
    pub by_reset: bool,
    /// When its last packet before that came.
    pub quiet_since: i64,
}

/// One client of a server.
#[derive(Debug)]
pub(super) struct Client {
    pub packets: u64,
    /// Connections that were accepted, or seen in the middle.
    pub connections: u64,
    open: u64,
    ended_at: Option<i64>,
    /// Whether the latest end was the client's own close.
    ended_itself: bool,
    /// The latest connection whose beginning was seen, while it has replaced none.
    newcomer: Option<Stamp>,
    /// Of the reconnects, those after an end that was not the client's own close.
    pub forced: u64,
    /// Connections begun when none was open and an earlier one had ended.
    pub reconnects: Tally,
    /// From the end of the one to the beginning of the next.
    pub gaps: Times,
    /// Its first packet and its latest.
    pub first: Stamp,
    pub latest: Stamp,
    /// Resets of open connections, by either side.
    pub resets: u64,
    /// Segments with payload that either side sent again.
    pub retransmissions: u64,
    /// What came of the requests on connections that are over.
    pub asked: Asked,
}

impl Client {
    fn new(first: Stamp) -> Self {
        Self {
            packets: 0,
            connections: 0,
            open: 0,
            ended_at: None,
            ended_itself: false,
            newcomer: None,
            forced: 0,
            reconnects: Tally::default(),
            gaps: Times::default(),
            first,
            latest: first,
            resets: 0,
            retransmissions: 0,
            asked: Asked::default(),
        }
    }
}

/// What came of requests.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Asked {
    pub requests: u64,
    pub responses: u64,
    /// Of the responses, those that are exceptions.
    pub exceptions: u64,
    pub unanswered: u64,
    pub times: Times,
}

impl Asked {
    /// A response came after so many nanoseconds.
    pub fn answered(&mut self, ns: i64, is_exception: bool) {
        self.responses += 1;
        self.exceptions += u64::from(is_exception);
        self.times.add(ns);
    }

    pub fn merge(&mut self, other: &Self) {
        self.requests += other.requests;
        self.responses += other.responses;
        self.exceptions += other.exceptions;
        self.unanswered += other.unanswered;
        self.times.merge(&other.times);
    }
}

/// Where a client lies in the list of its server.
pub(super) type ClientPlace = u8;

/// The clients of one server.
#[derive(Debug, Default)]
pub(super) struct Clients {
    list: Vec<Client>,
    /// The addresses of those that are told apart, in the same order.
    addresses: Vec<IpAddr>,
    /// The latest connections made anew.
    reconnects: VecDeque<Reconnect>,
}

impl Clients {
    /// The place of a client; those beyond the limit share the last one.
    pub fn place(&mut self, address: IpAddr, stamp: Stamp) -> ClientPlace {
        let known = self.addresses.iter().position(|known| *known == address);
        let place = known.unwrap_or_else(|| {
            if self.list.is_empty() {
                // Most servers have one client only.
                self.list.reserve_exact(1);
                self.addresses.reserve_exact(1);
            }
            if self.list.len() <= MAX_CLIENTS {
                self.list.push(Client::new(stamp));
            }
            if self.addresses.len() < MAX_CLIENTS {
                self.addresses.push(address);
            }
            self.list.len() - 1
        });
        ClientPlace::try_from(place).unwrap_or(ClientPlace::MAX)
    }

    fn get(&mut self, place: ClientPlace) -> Option<&mut Client> {
        self.list.get_mut(usize::from(place))
    }

    /// A packet of one of its connections.
    pub fn packet(&mut self, place: ClientPlace, stamp: Stamp) {
        if let Some(client) = self.get(place) {
            client.packets += 1;
            if stamp.at >= client.latest.at {
                client.latest = stamp;
            }
        }
    }

    /// How many connections of a client are open.
    pub fn open(&self, address: IpAddr) -> u64 {
        let place = self.addresses.iter().position(|known| *known == address);
        place.and_then(|place| self.list.get(place)).map_or(0, |client| client.open)
    }

    /// A connection is open. `begun`: its beginning was seen.
    pub fn opened(&mut self, place: ClientPlace, begun: bool, stamp: Stamp) {
        let Some(client) = self.get(place) else { return };
        client.connections += 1;
        client.open += 1;
        client.newcomer = begun.then_some(stamp);
        if let (true, 1, Some(ended_at)) = (begun, client.open, client.ended_at) {
            self.reconnected(place, stamp, ended_at);
        }
    }

    /// A connection turns out to be one with another server.
    pub fn moved_away(&mut self, place: ClientPlace, was_open: bool) {
        if let Some(client) = self.get(place).filter(|_| was_open) {
            client.open = client.open.saturating_sub(1);
            client.connections = client.connections.saturating_sub(1);
        }
    }

    /// An open connection has ended.
    pub fn ended(&mut self, place: ClientPlace, end: End) {
        let Some(client) = self.get(place) else { return };
        client.open = client.open.saturating_sub(1);
        client.ended_at = Some(end.at);
        client.ended_itself = end.by_client;
        let replaces =
            |latest: &Stamp| end.by_reset && end.quiet_since <= latest.at && end.at.saturating_sub(latest.at) <= REPLACED_WITHIN_NS;
        if client.open == 1
            && let Some(latest) = client.newcomer.filter(replaces)
        {
            // From one to the other without a gap.
            self.reconnected(place, latest, latest.at);
        }
    }

    /// An open connection is forgotten: whether it goes on is not known.
    pub fn forgotten(&mut self, place: ClientPlace) {
        if let Some(client) = self.get(place) {
            client.open = client.open.saturating_sub(1);
            client.ended_at = None;
        }
    }

    fn reconnected(&mut self, place: ClientPlace, stamp: Stamp, ended_at: i64) {
        let Some(client) = self.get(place) else { return };
        let gap_ns = stamp.at.saturating_sub(ended_at).max(0);
        client.newcomer = None;
        client.reconnects.add(stamp);
        client.forced += u64::from(!client.ended_itself);
        client.gaps.add(gap_ns);
        if usize::from(place) < self.addresses.len() {
            if self.reconnects.len() == MAX_RECONNECTS {
                self.reconnects.pop_front();
            }
            self.reconnects.push_back(Reconnect { stamp, gap_ns, client: place });
        }
    }

    /// The latest connections made anew, the oldest first, and whose they are.
    pub fn latest_reconnects(&self) -> impl Iterator<Item = (IpAddr, &Reconnect)> {
        self.reconnects.iter().filter_map(|reconnect| Some((*self.addresses.get(usize::from(reconnect.client))?, reconnect)))
    }

    /// One of its open connections was reset.
    pub fn reset(&mut self, place: ClientPlace) {
        self.get(place).into_iter().for_each(|client| client.resets += 1);
    }

    /// Payload was sent again on one of its connections.
    pub fn sent_again(&mut self, place: ClientPlace) {
        self.get(place).into_iter().for_each(|client| client.retransmissions += 1);
    }

    /// What came of the requests on one of its connections, which is forgotten now.
    pub fn asked(&mut self, place: ClientPlace, asked: &Asked) {
        self.get(place).into_iter().for_each(|client| client.asked.merge(asked));
    }

    /// The clients; without an address those that are not told apart.
    pub fn iter(&self) -> impl Iterator<Item = (Option<IpAddr>, &Client)> {
        let addresses = self.addresses.iter().copied().map(Some).chain(std::iter::repeat(None));
        addresses.zip(&self.list)
    }

    /// All connections made anew, the times between, and how many came after an end that the client did not choose.
    pub fn reconnects(&self) -> (Tally, Times, u64) {
        let (mut tally, mut gaps, mut forced) = (Tally::default(), Times::default(), 0);
        // Of clients that are not told apart nobody knows whose connection had ended.
        for (_, client) in self.iter().filter(|(address, _)| address.is_some()) {
            tally.merge(&client.reconnects);
            gaps.merge(&client.gaps);
            forced += client.forced;
        }
        (tally, gaps, forced)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: i64) -> Stamp {
        Stamp { number: seconds as u64 + 1, at: seconds * 1_000_000_000 }
    }

    fn close(by_client: bool, at: Stamp) -> End {
        End { at: at.at, by_client, by_reset: false, quiet_since: at.at }
    }

    #[test]
    fn a_connection_after_the_end_of_the_last_is_a_reconnect_and_a_parallel_one_is_none() {
        let mut clients = Clients::default();
        let place = clients.place(IpAddr::from([10, 0, 0, 1]), at(0));
        clients.opened(place, true, at(0));
        clients.opened(place, true, at(1));
        clients.ended(place, close(true, at(2)));
        clients.opened(place, true, at(3));
        assert_eq!(clients.reconnects().0.count, 0, "one was open all the time");
        clients.ended(place, close(true, at(4)));
        clients.ended(place, close(false, at(5)));
        clients.opened(place, true, at(8));
        let (tally, gaps, forced) = clients.reconnects();
        assert_eq!((tally.packets(), gaps.max_ms(), forced), (vec![9], 3000.0, 1));
    }

    #[test]
    fn a_connection_that_replaces_one_which_is_reset_then_is_a_reconnect_without_a_gap() {
        let reconnects = |quiet_since: i64, end: i64| {
            let mut clients = Clients::default();
            let place = clients.place(IpAddr::from([10, 0, 0, 1]), at(0));
            clients.opened(place, true, at(0));
            clients.opened(place, true, at(40));
            clients.ended(place, End { at: at(end).at, by_client: false, by_reset: true, quiet_since: at(quiet_since).at });
            clients.reconnects().0.packets()
        };
        assert_eq!(reconnects(11, 41), [41]);
        assert_eq!(reconnects(11, 60), [0; 0], "a parallel one that ends some time later");
        assert_eq!(reconnects(41, 42), [0; 0], "it was in use");
    }

    #[test]
    fn a_forgotten_connection_hides_no_later_reconnect_and_the_latest_are_remembered_one_by_one() {
        let mut clients = Clients::default();
        let place = clients.place(IpAddr::from([10, 0, 0, 1]), at(0));
        clients.opened(place, true, at(0));
        clients.forgotten(place);
        for round in 1..=30 {
            clients.opened(place, true, at(10 * round));
            clients.ended(place, close(true, at(10 * round + 3)));
        }
        assert_eq!(clients.reconnects().0.count, 29, "of the first one nobody knows what it followed");
        let latest: Vec<_> = clients.latest_reconnects().map(|(_, reconnect)| (reconnect.stamp, reconnect.gap_ns)).collect();
        let expected: Vec<_> = (11..=30).map(|round| (at(10 * round), 7_000_000_000)).collect();
        assert_eq!(latest, expected);
    }

    #[test]
    fn clients_beyond_the_limit_share_a_place() {
        let mut clients = Clients::default();
        let places: Vec<_> = (0..100).map(|host| clients.place(IpAddr::from([10, 0, 0, host]), at(0))).collect();
        assert_eq!((places[31], places[32], places[99], clients.list.len()), (31, 32, 32, 33));
        assert_eq!(clients.place(IpAddr::from([10, 0, 0, 5]), at(0)), 5);
    }
}
