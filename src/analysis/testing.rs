//! Packets made by hand, for tests and benchmarks: Ethernet frames with ARP, IPv4 or IPv6, TCP, ICMP. Nothing but bytes.

#![allow(dead_code)]

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

pub const FIN: u8 = 0x01;
pub const SYN: u8 = 0x02;
pub const RST: u8 = 0x04;
pub const PSH: u8 = 0x08;
pub const ACK: u8 = 0x10;

/// The hardware address that a made frame's sender has: it ends in the last bytes of its IP address.
pub fn mac(address: IpAddr) -> [u8; 6] {
    let octets = match address {
        IpAddr::V4(v4) => v4.octets(),
        IpAddr::V6(v6) => v6.octets().last_chunk().copied().unwrap_or_default(),
    };
    [2, 0, octets[0], octets[1], octets[2], octets[3]]
}

fn ethernet(source: [u8; 6], destination: [u8; 6], ethertype: u16) -> Vec<u8> {
    [&destination[..], &source, &ethertype.to_be_bytes()].concat()
}

/// A frame with an IP packet.
pub fn ip(source: IpAddr, destination: IpAddr, protocol: u8, payload: &[u8]) -> Vec<u8> {
    let length = payload.len() as u16;
    let (ethertype, header) = match (source, destination) {
        (IpAddr::V4(source), IpAddr::V4(destination)) => {
            let [high, low] = (length + 20).to_be_bytes();
            let begin = [0x45, 0, high, low, 0, 0, 0x40, 0, 64, protocol, 0, 0];
            (0x0800, [&begin[..], &source.octets(), &destination.octets()].concat())
        }
        (IpAddr::V6(source), IpAddr::V6(destination)) => {
            let [high, low] = length.to_be_bytes();
            let begin = [0x60, 0, 0, 0, high, low, protocol, 64];
            (0x86DD, [&begin[..], &source.octets(), &destination.octets()].concat())
        }
        _ => panic!("{source} and {destination} are of two kinds"),
    };
    [ethernet(mac(source), mac(destination), ethertype), header, payload.to_vec()].concat()
}

/// A frame with a TCP segment.
pub fn tcp(source: SocketAddr, destination: SocketAddr, seq: u32, ack: u32, flags: u8, payload: &[u8]) -> Vec<u8> {
    let mut segment = Vec::with_capacity(20 + payload.len());
    segment.extend(source.port().to_be_bytes());
    segment.extend(destination.port().to_be_bytes());
    segment.extend(seq.to_be_bytes());
    segment.extend(ack.to_be_bytes());
    segment.extend([0x50, flags, 0xFF, 0xFF, 0, 0, 0, 0]);
    segment.extend(payload);
    ip(source.ip(), destination.ip(), 6, &segment)
}

/// A frame with a UDP datagram.
pub fn udp(source: SocketAddr, destination: SocketAddr, payload: &[u8]) -> Vec<u8> {
    let mut datagram = Vec::new();
    datagram.extend(source.port().to_be_bytes());
    datagram.extend(destination.port().to_be_bytes());
    datagram.extend((payload.len() as u16 + 8).to_be_bytes());
    datagram.extend([0, 0]);
    datagram.extend(payload);
    ip(source.ip(), destination.ip(), 17, &datagram)
}

/// An ARP message; `operation` 1 asks and 2 answers.
pub fn arp(operation: u16, sender_mac: [u8; 6], sender: Ipv4Addr, target: Ipv4Addr) -> Vec<u8> {
    let mut frame = ethernet(sender_mac, [0xFF; 6], 0x0806);
    frame.extend([0, 1, 8, 0, 6, 4]);
    frame.extend(operation.to_be_bytes());
    frame.extend(sender_mac);
    frame.extend(sender.octets());
    frame.extend([0; 6]);
    frame.extend(target.octets());
    frame
}

/// A ping, or its reply.
pub fn echo(reply: bool, source: IpAddr, destination: IpAddr, identifier: u16, sequence: u16) -> Vec<u8> {
    let (protocol, icmp_type) = match (source, reply) {
        (IpAddr::V4(_), false) => (1, 8),
        (IpAddr::V4(_), true) => (1, 0),
        (IpAddr::V6(_), false) => (58, 128),
        (IpAddr::V6(_), true) => (58, 129),
    };
    let [identifier, sequence] = [identifier, sequence].map(u16::to_be_bytes);
    ip(source, destination, protocol, &[icmp_type, 0, 0, 0, identifier[0], identifier[1], sequence[0], sequence[1]])
}

/// An ICMP message of `from` to the sender of `frame`, which it quotes.
pub fn icmp_error(from: IpAddr, icmp_type: u8, code: u8, frame: &[u8]) -> Vec<u8> {
    let quoted = &frame[14..];
    let (to, protocol) = match quoted[0] >> 4 {
        4 => (IpAddr::from(<[u8; 4]>::try_from(&quoted[12..16]).unwrap_or_default()), 1),
        _ => (IpAddr::from(<[u8; 16]>::try_from(&quoted[8..24]).unwrap_or_default()), 58),
    };
    let message = [&[icmp_type, code, 0, 0, 0, 0, 0, 0], quoted].concat();
    ip(from, to, protocol, &message)
}

/// A neighbour solicitation (asks who has `target`), or the advertisement that answers it.
pub fn neighbor(advertises: bool, source: Ipv6Addr, destination: Ipv6Addr, target: Ipv6Addr) -> Vec<u8> {
    let (icmp_type, flags, option) = if advertises { (136, 0x60, 2) } else { (135, 0, 1) };
    let mut message = vec![icmp_type, 0, 0, 0, flags, 0, 0, 0];
    message.extend(target.octets());
    message.extend([option, 1]);
    message.extend(mac(source.into()));
    ip(source.into(), destination.into(), 58, &message)
}

/// The frames of a TCP connection, sequence numbers kept.
#[derive(Debug, Clone)]
pub struct Conversation {
    pub client: SocketAddr,
    pub server: SocketAddr,
    /// The next sequence number of the client and of the server.
    pub next: [u32; 2],
}

impl Conversation {
    pub fn new(client: &str, server: &str) -> Self {
        let parse = |address: &str| address.parse().unwrap_or_else(|_| panic!("`{address}` is no socket address"));
        Self::between(parse(client), parse(server))
    }

    pub fn between(client: SocketAddr, server: SocketAddr) -> Self {
        Self { client, server, next: [1_000, 900_000] }
    }

    fn frame(&self, from_server: bool, seq: u32, flags: u8, payload: &[u8]) -> Vec<u8> {
        let (source, destination) = if from_server { (self.server, self.client) } else { (self.client, self.server) };
        let ack = if flags & ACK == 0 { 0 } else { self.next[usize::from(!from_server)] };
        tcp(source, destination, seq, ack, flags, payload)
    }

    fn advance(&mut self, from_server: bool, flags: u8, payload: &[u8]) -> Vec<u8> {
        let frame = self.frame(from_server, self.next[usize::from(from_server)], flags, payload);
        let length = payload.len() as u32 + u32::from(flags & (SYN | FIN) != 0);
        let next = &mut self.next[usize::from(from_server)];
        *next = next.wrapping_add(length);
        frame
    }

    pub fn syn(&mut self) -> Vec<u8> {
        self.advance(false, SYN, &[])
    }

    pub fn syn_ack(&mut self) -> Vec<u8> {
        self.advance(true, SYN | ACK, &[])
    }

    pub fn ack(&self, from_server: bool) -> Vec<u8> {
        self.frame(from_server, self.next[usize::from(from_server)], ACK, &[])
    }

    pub fn rst(&self, from_server: bool) -> Vec<u8> {
        self.frame(from_server, self.next[usize::from(from_server)], RST | ACK, &[])
    }

    pub fn fin(&mut self, from_server: bool) -> Vec<u8> {
        self.advance(from_server, FIN | ACK, &[])
    }

    pub fn send(&mut self, from_server: bool, payload: &[u8]) -> Vec<u8> {
        self.advance(from_server, PSH | ACK, payload)
    }

    /// SYN, SYN-ACK, ACK.
    pub fn handshake(&mut self) -> [Vec<u8>; 3] {
        [self.syn(), self.syn_ack(), self.ack(false)]
    }
}
