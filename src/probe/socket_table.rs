//! What this host's own TCP sockets show, without a packet sent.

use crate::api::{Direction, KernelView};
use std::{
    collections::HashMap,
    fs::File,
    io::{self, Read},
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
};

/// The most that is read of one of the kernel's tables; a line has 150 bytes, so this is about 400,000 sockets.
const MAX_TABLE_BYTES: u64 = 64 << 20;

/// The most far ends that a view names.
const MAX_PEERS: usize = 16;

/// The TCP sockets of this host, indexed once so that a thousand endpoints can be looked up in a table of many thousands.
///
/// ```
/// use netdiag::{api::Direction, probe::SocketTable};
///
/// let tcp = "   0: 0100007F:01F6 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 1234";
/// let view = SocketTable::parse(tcp, "").view(Direction::Inbound, None, 502, &[]);
/// assert!(view.listening);
/// ```
#[derive(Debug, Clone, Default)]
pub struct SocketTable {
    connections: Vec<Connection>,
    by_remote: HashMap<SocketAddr, Vec<usize>>,
    by_local_port: HashMap<u16, Vec<usize>>,
    listeners: HashMap<u16, Vec<IpAddr>>,
    malformed: u64,
}

#[derive(Debug, Clone, Copy)]
struct Connection {
    local: SocketAddr,
    remote: SocketAddr,
    established: bool,
}

/// The states of `include/net/tcp_states.h` that say something about an endpoint.
enum State {
    Established,
    SynSent,
    Listen,
    Other,
}

/// Reads the socket table of the network namespace that the calling thread is in.
///
/// It blocks: some milliseconds with tens of thousands of sockets.
///
/// # Errors
/// The kernel's table for IPv4 cannot be read. A missing table for IPv6 is no error: IPv6 is switched off then.
pub fn sockets() -> io::Result<SocketTable> {
    let tcp = read("/proc/thread-self/net/tcp")?;
    let tcp6 = match read("/proc/thread-self/net/tcp6") {
        Err(error) if error.kind() == io::ErrorKind::NotFound => String::new(),
        table => table?,
    };
    Ok(SocketTable::parse(&tcp, &tcp6))
}

fn read(path: &str) -> io::Result<String> {
    let mut table = Vec::new();
    File::open(path)
        .and_then(|file| file.take(MAX_TABLE_BYTES).read_to_end(&mut table))
        .map_err(|error| io::Error::new(error.kind(), format!("{path}: {error}")))?;
    Ok(String::from_utf8_lossy(&table).into_owned())
}

impl SocketTable {
    /// Reads the text of `/proc/net/tcp` and `/proc/net/tcp6` (`Documentation/networking/proc_net_tcp.rst` of Linux).
    ///
    /// Addresses stand there as hexadecimal words in the host's byte order, which is little-endian on all hosts that this is built
    /// for. Lines that make no sense are skipped and counted.
    pub fn parse(tcp: &str, tcp6: &str) -> Self {
        let mut table = Self::default();
        for line in tcp.lines().chain(tcp6.lines()) {
            let mut fields = line.split_ascii_whitespace();
            match fields.next() {
                None | Some("sl") => continue,
                Some(_) => {}
            }
            match parse_socket(fields) {
                Some((local, remote, state)) => table.insert(local, remote, &state),
                None => table.malformed += 1,
            }
        }
        table
    }

    fn insert(&mut self, local: SocketAddr, remote: SocketAddr, state: &State) {
        let established = match state {
            State::Established => true,
            State::SynSent => false,
            State::Listen => return self.listeners.entry(local.port()).or_default().push(local.ip()),
            State::Other => return,
        };
        let index = self.connections.len();
        self.connections.push(Connection { local, remote, established });
        self.by_remote.entry(remote).or_default().push(index);
        self.by_local_port.entry(local.port()).or_default().push(index);
    }

    /// How many lines made no sense.
    pub fn malformed(&self) -> u64 {
        self.malformed
    }

    /// What the table shows of an endpoint.
    ///
    /// Outbound: the connections of local processes to `address` and `port`; none without an address. Inbound: whether a socket listens
    /// on `port` at an address that covers `address` (no address, and the wildcard, mean any), and the connections to it. If the
    /// direction is not known, both together. A connection with one of `own`, the local addresses of the test's own connects, at
    /// either end does not count.
    pub fn view(&self, direction: Direction, address: Option<IpAddr>, port: u16, own: &[SocketAddr]) -> KernelView {
        let address = address.map(|address| address.to_canonical());
        let mut view = KernelView::default();
        let not_own = |connection: &&Connection| !own.contains(&connection.local) && !own.contains(&connection.remote);
        let mut count = |connection: &Connection| {
            if connection.established {
                view.established = view.established.saturating_add(1);
                view.peers.push(connection.remote);
            } else {
                view.connecting = view.connecting.saturating_add(1);
            }
        };
        if let (Direction::Outbound | Direction::Undetermined, Some(address)) = (direction, address) {
            let found = self.by_remote.get(&SocketAddr::new(address, port));
            self.connections(found).filter(not_own).for_each(&mut count);
        }
        if matches!(direction, Direction::Inbound | Direction::Undetermined) {
            let wanted = address.filter(|address| !address.is_unspecified());
            let found = self.by_local_port.get(&port);
            self.connections(found)
                .filter(|connection| connection.established && wanted.is_none_or(|wanted| connection.local.ip() == wanted))
                .filter(not_own)
                .for_each(&mut count);
            view.listening = self
                .listeners
                .get(&port)
                .is_some_and(|bound| bound.iter().any(|bound| wanted.is_none_or(|wanted| covers(*bound, wanted))));
        }
        view.peers.sort_unstable();
        view.peers.dedup();
        view.peers.truncate(MAX_PEERS);
        view
    }

    fn connections<'a>(&'a self, indices: Option<&'a Vec<usize>>) -> impl Iterator<Item = &'a Connection> {
        indices.into_iter().flatten().filter_map(|index| self.connections.get(*index))
    }
}

/// Whether a socket that listens at `bound` takes connections to `wanted`. The IPv6 wildcard takes IPv4 too, unless the process forbade
/// it; the table does not tell.
fn covers(bound: IpAddr, wanted: IpAddr) -> bool {
    match bound {
        IpAddr::V4(Ipv4Addr::UNSPECIFIED) => wanted.is_ipv4(),
        IpAddr::V6(Ipv6Addr::UNSPECIFIED) => true,
        bound => bound == wanted,
    }
}

fn parse_socket<'a>(mut fields: impl Iterator<Item = &'a str>) -> Option<(SocketAddr, SocketAddr, State)> {
    let local = parse_address(fields.next()?)?;
    let remote = parse_address(fields.next()?)?;
    let state = match hex(fields.next()?, 2)? {
        0x01 => State::Established,
        0x02 => State::SynSent,
        0x0A => State::Listen,
        _ => State::Other,
    };
    Some((local, remote, state))
}

/// `0100007F:01F6` is 127.0.0.1 port 502; four such words before the colon are an IPv6 address.
fn parse_address(text: &str) -> Option<SocketAddr> {
    let (address, port) = text.split_once(':')?;
    let port = u16::try_from(hex(port, 4)?).ok()?;
    let ip = match address.len() {
        8 => IpAddr::from(hex(address, 8)?.to_le_bytes()),
        32 => {
            let mut octets = [0; 16];
            for (index, word) in octets.chunks_exact_mut(4).enumerate() {
                word.copy_from_slice(&hex(address.get(index * 8..index * 8 + 8)?, 8)?.to_le_bytes());
            }
            IpAddr::from(octets).to_canonical()
        }
        _ => return None,
    };
    Some(SocketAddr::new(ip, port))
}

/// Exactly so many hexadecimal digits (`from_str_radix` alone would take a sign).
fn hex(text: &str, digits: usize) -> Option<u32> {
    (text.len() == digits && text.bytes().all(|byte| byte.is_ascii_hexdigit())).then(|| u32::from_str_radix(text, 16).ok())?
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const HEADER: &str = "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode\n";

    fn word(octets: &[u8]) -> String {
        octets.iter().rev().map(|octet| format!("{octet:02X}")).collect()
    }

    fn end(address: SocketAddr) -> String {
        match address.ip() {
            IpAddr::V4(ip) => format!("{}:{:04X}", word(&ip.octets()), address.port()),
            IpAddr::V6(ip) => format!("{}:{:04X}", ip.octets().chunks(4).map(word).collect::<String>(), address.port()),
        }
    }

    fn line(local: &str, remote: &str, state: &str) -> String {
        let (local, remote) = (end(local.parse().unwrap()), end(remote.parse().unwrap()));
        format!("   0: {local} {remote} {state} 00000000:00000000 00:00000000 00000000     0        0 20160 1 0 100 0 0 10 0\n")
    }

    fn socket(text: &str) -> SocketAddr {
        text.parse().unwrap()
    }

    fn ip(text: &str) -> Option<IpAddr> {
        Some(text.parse().unwrap())
    }

    #[test]
    fn the_lines_of_a_real_kernel_are_read() {
        let tcp = "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode
   0: 00000000:01F6 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 6843 1 0000000000000000 100 0 0 10 0
   1: 0270A8C0:C2B4 0D70A8C0:01F6 01 00000000:00000000 00:00000000 00000000     0        0 8125 1 0000000000000000 20 4 30 10 -1
   2: 0270A8C0:C2B6 0E70A8C0:01F6 02 00000001:00000000 01:00000064 00000001     0        0 8126 2 0000000000000000 200 0 0 1 7
";
        let tcp6 = "  sl  local_address                         remote_address                        st tx_queue rx_queue tr tm->when retrnsmt
   0: 00000000000000000000000000000000:4E20 00000000000000000000000000000000:0000 0A 00000000:00000000 00:00000000 00000000
   1: 0000000000000000FFFF00000270A8C0:4E20 0000000000000000FFFF00006370A8C0:D431 01 00000000:00000000 00:00000000 00000000
";
        let table = SocketTable::parse(tcp, tcp6);
        assert_eq!(table.malformed(), 0);
        let outbound = table.view(Direction::Outbound, ip("192.168.112.13"), 502, &[]);
        assert_eq!((outbound.listening, outbound.established, outbound.connecting), (false, 1, 0));
        assert_eq!(outbound.peers, [socket("192.168.112.13:502")]);
        let waiting = table.view(Direction::Outbound, ip("192.168.112.14"), 502, &[]);
        assert_eq!((waiting.established, waiting.connecting), (0, 1));
        let dnp3 = table.view(Direction::Inbound, ip("0.0.0.0"), 20000, &[]);
        assert_eq!((dnp3.listening, dnp3.established), (true, 1));
        assert_eq!(dnp3.peers, [socket("192.168.112.99:54321")], "a mapped IPv4 address is an IPv4 address");
    }

    #[test]
    fn a_listener_covers_the_addresses_that_it_is_bound_to() {
        let listening = |bound: &str, wanted: Option<&str>| {
            let remote = if bound.starts_with('[') { "[::]:0" } else { "0.0.0.0:0" };
            let text = line(&format!("{bound}:502"), remote, "0A");
            let table = if bound.starts_with('[') { SocketTable::parse("", &text) } else { SocketTable::parse(&text, "") };
            table.view(Direction::Inbound, wanted.and_then(ip), 502, &[]).listening
        };
        for (bound, wanted, expected) in [
            ("0.0.0.0", Some("0.0.0.0"), true),
            ("0.0.0.0", Some("10.0.0.1"), true),
            ("0.0.0.0", Some("fd00::1"), false),
            ("10.0.0.1", Some("0.0.0.0"), true),
            ("10.0.0.1", Some("10.0.0.1"), true),
            ("10.0.0.1", Some("10.0.0.2"), false),
            ("10.0.0.1", None, true),
            ("[::]", Some("10.0.0.1"), true),
            ("[::]", Some("fd00::1"), true),
            ("[fd00::1]", Some("::"), true),
            ("[fd00::1]", Some("10.0.0.1"), false),
        ] {
            assert_eq!(listening(bound, wanted), expected, "bound to {bound}, wanted {wanted:?}");
        }
        let table = SocketTable::parse(&line("0.0.0.0:502", "0.0.0.0:0", "0A"), "");
        assert!(!table.view(Direction::Inbound, None, 503, &[]).listening, "another port");
        assert!(!table.view(Direction::Outbound, ip("0.0.0.0"), 502, &[]).listening, "outbound endpoints are not listened on");
    }

    #[test]
    fn the_tests_own_connections_do_not_count_at_either_end() {
        let text = line("10.0.0.1:40000", "10.0.0.9:502", "01")
            + &line("10.0.0.1:40001", "10.0.0.9:502", "01")
            + &line("10.0.0.1:40002", "10.0.0.9:502", "02")
            + &line("10.0.0.9:502", "10.0.0.1:40000", "01");
        let table = SocketTable::parse(&text, "");
        let own = [socket("10.0.0.1:40000"), socket("10.0.0.1:40002")];
        let view = table.view(Direction::Outbound, ip("10.0.0.9"), 502, &own);
        assert_eq!((view.established, view.connecting), (1, 0));
        assert_eq!(table.view(Direction::Inbound, ip("10.0.0.9"), 502, &own).established, 0);
        assert_eq!(table.view(Direction::Inbound, ip("10.0.0.9"), 502, &[]).established, 1);
        assert_eq!(table.view(Direction::Inbound, ip("10.0.0.8"), 502, &[]).established, 0, "connected to another address");
    }

    #[test]
    fn an_unknown_direction_is_looked_for_both_ways() {
        let text = line("10.0.0.1:40000", "10.0.0.9:20000", "01") + &line("0.0.0.0:20000", "0.0.0.0:0", "0A");
        let table = SocketTable::parse(&text, "");
        let view = table.view(Direction::Undetermined, ip("10.0.0.9"), 20000, &[]);
        assert_eq!((view.listening, view.established), (true, 1));
    }

    #[test]
    fn closing_connections_are_neither_established_nor_connecting() {
        for state in ["03", "04", "05", "06", "07", "08", "09", "0B", "0C"] {
            let table = SocketTable::parse(&line("10.0.0.1:40000", "10.0.0.9:502", state), "");
            assert_eq!(table.view(Direction::Outbound, ip("10.0.0.9"), 502, &[]), KernelView::default(), "state {state}");
            assert_eq!(table.malformed(), 0);
        }
    }

    #[test]
    fn all_are_counted_and_sixteen_are_named() {
        let text: String = (0..40).map(|peer| line("10.0.0.1:502", &format!("10.0.1.{peer}:5000"), "01")).collect();
        let view = SocketTable::parse(&text, "").view(Direction::Inbound, None, 502, &[]);
        assert_eq!((view.established, view.peers.len()), (40, 16));
        assert_eq!(view.peers[15], socket("10.0.1.15:5000"));
    }

    #[test]
    fn lines_that_make_no_sense_are_skipped_and_counted() {
        let good = line("10.0.0.1:40000", "10.0.0.9:502", "01");
        let bad = "   0: 0100007F 00000000:0000 0A\n   1: +100007F:01F6 00000000:0000 0A\n   2: 0100007F:01F6 00000000:0000\n   3:\n\
                   4: 0100007F:1F6 00000000:0000 0A\n   5: 0100007F:01F6 00000000:0000 XY\n   6: 01é0007F:01F6 00000000:0000 0A\n\n";
        let table = SocketTable::parse(&format!("{HEADER}{bad}{good}{}", &good[..good.len() / 8]), "");
        assert_eq!(table.malformed(), 8);
        assert_eq!(table.view(Direction::Outbound, ip("10.0.0.9"), 502, &[]).established, 1);
    }

    proptest! {
        #[test]
        fn no_text_harms_the_parser(tcp in ".*", tcp6 in "[0-9A-F: \n]*") {
            let table = SocketTable::parse(&tcp, &tcp6);
            table.view(Direction::Undetermined, Some(IpAddr::from([0, 0, 0, 0])), 0, &[]);
        }

        #[test]
        fn what_is_written_is_found(
            connections in prop::collection::vec((any::<[u8; 16]>(), any::<bool>(), 1_u16..20, 1_u16..20, any::<bool>()), 0..60),
            probe in 0_usize..60,
        ) {
            let ends = |octets: [u8; 16], v4: bool, local: u16, remote: u16| {
                let ip = if v4 { IpAddr::from([octets[0] % 4, 0, 0, 1]) } else { IpAddr::from(octets).to_canonical() };
                (SocketAddr::new(ip, local), SocketAddr::new(ip, remote))
            };
            let mut text = String::from(HEADER);
            for (octets, v4, local, remote, established) in &connections {
                let (local, remote) = ends(*octets, *v4, *local, *remote);
                text += &format!("9: {} {} {}\n", end(local), end(remote), if *established { "01" } else { "02" });
            }
            let table = SocketTable::parse("", &text);
            prop_assert_eq!(table.malformed(), 0);
            if let Some((octets, v4, _, remote, _)) = connections.get(probe) {
                let (_, target) = ends(*octets, *v4, 0, *remote);
                let of = |wanted: bool| connections.iter().filter(|(o, v, l, r, e)| *e == wanted && ends(*o, *v, *l, *r).1 == target).count();
                let view = table.view(Direction::Outbound, Some(target.ip()), target.port(), &[]);
                prop_assert_eq!((view.established as usize, view.connecting as usize), (of(true), of(false)));
            }
        }
    }
}
